//! The desired state of the release: the values that xtask adds, and a fingerprint of all input.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::failure::{Class, Failure};
use crate::labels::label;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::stages::images::context::is_editors;
use crate::units;

/// The desired state of the release.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The environment.
    pub environment: String,
    /// The checkout.
    pub root: Utf8PathBuf,
    /// The chart's folder in the checkout.
    pub chart: Utf8PathBuf,
    /// The environment's values file in the checkout.
    pub values_file: Utf8PathBuf,
    /// The values that xtask adds: images and names of Secrets. They contain no secret.
    pub values: Value,
    /// A digest or a name of each part of the input.
    pub fingerprint: BTreeMap<String, String>,
}

impl Desired {
    /// Returns the desired state of the checkout `root` for `environment`, with image `tags` by image name and names of `secrets` by component.
    pub fn new(
        settings: &Settings,
        root: &Utf8Path,
        environment: &str,
        tags: &BTreeMap<String, String>,
        secrets: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let (chart, values_file) = (settings.chart.path.clone(), settings.environment(environment)?.values.clone());
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
        let database = &settings.components.database;
        let embedded = secrets.contains_key(database);
        values[database]["enabled"] = json!(embedded);
        fingerprint.insert("database".into(), if embedded { "embedded" } else { "remote" }.to_owned());
        if embedded {
            let (repository, tag) = split_reference(&settings.database.image);
            values[database]["image"] = json!({"repository": repository, "tag": tag});
        }
        fingerprint.insert("chart".into(), folder_digest(&root.join(&chart))?);
        fingerprint.insert(values_file.file_name().unwrap_or("values").into(), file_digest(&root.join(&values_file))?);
        fingerprint.insert("environment".into(), environment.to_owned());
        let (root, environment) = (root.to_owned(), environment.to_owned());
        Ok(Self { environment, root, chart, values_file, values, fingerprint })
    }

    /// Returns whether `.env` names the database; otherwise the chart's own is used.
    pub fn is_remote(&self) -> bool {
        self.fingerprint.get("database").map(String::as_str) != Some("embedded")
    }

    /// Returns the same release with the present replicas of workloads that an autoscaler scales, which Helm would overwrite.
    pub fn with_autoscaled(&self, snapshot: &Snapshot) -> Self {
        let mut desired = self.clone();
        for workload in snapshot.workloads().filter(|workload| snapshot.is_autoscaled(workload)) {
            let component = label(workload, "app.kubernetes.io/component");
            // An autoscaler ignores a workload with 0 replicas, so the chart's number applies.
            if let Some(replicas) = workload["spec"]["replicas"].as_u64().filter(|replicas| *replicas > 0) {
                desired.values[component]["replicas"] = json!(replicas);
            }
        }
        desired
    }

    /// Returns the same release with 0 replicas of `components`.
    pub fn without<'a>(&self, components: impl Iterator<Item = &'a str>) -> Self {
        let mut desired = self.clone();
        components.for_each(|component| desired.values[component]["replicas"] = json!(0));
        desired
    }
}

/// Splits `postgres:17-trixie` into `postgres` and `17-trixie`.
fn split_reference(reference: &str) -> (&str, &str) {
    reference.rsplit_once(':').unwrap_or((reference, ""))
}

fn file_digest(path: &Utf8Path) -> Result<String> {
    let bytes =
        std::fs::read(path).map_err(|error| Failure::new(Class::Config, format!("cannot read {path}: {error}")))?;
    Ok(short(&Sha256::digest(bytes)))
}

/// Returns a digest of every file in `folder` that can change what the chart renders.
fn folder_digest(folder: &Utf8Path) -> Result<String> {
    let mut hash = Sha256::new();
    let skipped = ["tests", "ci", "README.md"].map(|name| folder.join(name));
    let walk = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter();
    for entry in walk.filter_entry(|entry| !skipped.iter().any(|skip| entry.path() == skip.as_std_path())) {
        let entry = entry.with_context(|| format!("reading {folder}"))?;
        let name = entry.file_name().to_string_lossy();
        // The values file of the environment is a part of its own; those of other environments have no effect.
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
    fn files_that_do_not_render_do_not_change_the_charts_digest() {
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
