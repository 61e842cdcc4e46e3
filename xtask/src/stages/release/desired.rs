//! What is wanted of the release: the values that xtask adds and a fingerprint of all that goes into it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::failure::{Class, Failure};
use crate::labels::label;
use crate::project::Project;
use crate::snapshot::Snapshot;
use crate::stages::images::context::is_editors;
use crate::units;

/// The release as it should be.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Environment.
    pub environment: String,
    /// The environment's values file.
    pub values_file: Utf8PathBuf,
    /// The values that xtask adds: images and names of Secrets. Nothing secret.
    pub values: Value,
    /// A digest of each part.
    pub fingerprint: BTreeMap<String, String>,
}

impl Desired {
    /// The release of `environment` with image tags by component and the Secrets' names by component.
    pub fn new(
        project: &Project,
        environment: &str,
        tags: &BTreeMap<String, String>,
        secrets: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let settings = &project.settings;
        let values_file = project.root.join(&settings.environment(environment)?.values);
        let mut values = json!({});
        let mut fingerprint = BTreeMap::new();
        for (name, image) in &settings.images {
            let tag = tags.get(name).map_or("<tag>", String::as_str);
            values[&image.component]["image"] = json!({"repository": name, "tag": tag});
            fingerprint.insert(format!("image {name}"), tag.to_owned());
        }
        for (component, name) in secrets {
            values[component]["secret"] = json!({"name": name});
            fingerprint.insert(format!("Secret of {component}"), name.clone());
        }
        let embedded = secrets.contains_key("postgres");
        values["postgres"]["enabled"] = json!(embedded);
        fingerprint.insert("database".into(), if embedded { "embedded" } else { "remote" }.to_owned());
        if embedded {
            let (repository, tag) = split_reference(&settings.database.image);
            values["postgres"]["image"] = json!({"repository": repository, "tag": tag});
        }
        fingerprint.insert("chart".into(), folder_digest(&project.root.join(&settings.chart.path))?);
        fingerprint.insert(values_file.file_name().unwrap_or("values").into(), file_digest(&values_file)?);
        fingerprint.insert("environment".into(), environment.to_owned());
        Ok(Self { environment: environment.to_owned(), values_file, values, fingerprint })
    }
}

impl Desired {
    /// Whether `.env` names the database; otherwise the chart's own serves.
    pub fn remote(&self) -> bool {
        self.values["postgres"]["enabled"] != true
    }

    /// The same release, with the present replicas of the workloads that an autoscaler scales: Helm would take back a
    /// number that is not its own.
    pub fn with_autoscaled(&self, snapshot: &Snapshot) -> Self {
        let mut desired = self.clone();
        for workload in snapshot.workloads().filter(|workload| snapshot.is_autoscaled(workload)) {
            let component = label(workload, "app.kubernetes.io/component");
            // Kubernetes leaves a workload without replicas alone: somebody has switched it off, and the chart's number counts.
            if let Some(replicas) = workload["spec"]["replicas"].as_u64().filter(|replicas| *replicas > 0) {
                desired.values[component]["replicas"] = json!(replicas);
            }
        }
        desired
    }

    /// The same release without a pod of the applications named by `components`.
    pub fn without<'a>(&self, components: impl Iterator<Item = &'a str>) -> Self {
        let mut desired = self.clone();
        components.for_each(|component| desired.values[component]["replicas"] = json!(0));
        desired
    }
}

/// `postgres:17-trixie` -> `postgres`, `17-trixie`.
fn split_reference(reference: &str) -> (&str, &str) {
    reference.rsplit_once(':').unwrap_or((reference, ""))
}

fn file_digest(path: &Utf8Path) -> Result<String> {
    let bytes =
        std::fs::read(path).map_err(|error| Failure::new(Class::Config, format!("cannot read {path}: {error}")))?;
    Ok(short(&Sha256::digest(bytes)))
}

/// A digest of every file in `folder` that can change what the chart renders.
fn folder_digest(folder: &Utf8Path) -> Result<String> {
    let mut hash = Sha256::new();
    let own = ["tests", "ci", "README.md"].map(|name| folder.join(name));
    let walk = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter();
    for entry in walk.filter_entry(|entry| !own.iter().any(|skip| entry.path() == skip.as_std_path())) {
        let entry = entry.with_context(|| format!("reading {folder}"))?;
        let name = entry.file_name().to_string_lossy();
        // Environments are fingerprinted one by one: another environment's values change nothing here.
        if entry.file_type().is_file() && !is_editors(&name) && !(name.starts_with("values-") && entry.depth() == 1) {
            hash.update(entry.path().strip_prefix(folder)?.to_string_lossy().as_bytes());
            hash.update([0]);
            hash.update(Sha256::digest(std::fs::read(entry.path())?));
        }
    }
    Ok(short(&hash.finalize()))
}

fn short(bytes: &[u8]) -> String {
    units::hex(&bytes[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_renders_is_part_of_the_charts_digest() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(dir.path()).unwrap();
        let digest_with = |file: &str| {
            let path = folder.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
            folder_digest(folder).unwrap()
        };
        let before = digest_with("templates/service.yaml");
        for file in ["README.md", "tests/service_test.yaml", "ci/minimal-values.yaml", "values-prod.yaml"] {
            assert_eq!(digest_with(file), before, "{file}");
        }
        assert_ne!(digest_with("values.yaml"), before);
    }
}
