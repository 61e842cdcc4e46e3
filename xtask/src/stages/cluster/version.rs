//! Compares the Kubernetes version of a profile with the pinned one and with those that the chart supports.

use std::fmt;

use anyhow::{Context, Result};
use camino::Utf8Path;
use serde_json::Value;

use super::profile::Profile;
use crate::failure::{Class, Failure};
use crate::settings::{Cluster, Settings};
use crate::toolbox::Toolbox;

/// A version of Kubernetes. A pre-release orders before its release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    numbers: [u64; 3],
    release: bool,
    text: String,
}

impl Version {
    /// Parses `v1.34.4`, also without the `v` or with a suffix such as `-rc.0`.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.strip_prefix('v').unwrap_or(text);
        let core = plain.split(['-', '+']).next()?;
        let mut parts = core.split('.').map(|part| part.parse().ok());
        let numbers = [parts.next()??, parts.next()??, parts.next()??];
        let release = !plain[core.len()..].starts_with('-');
        parts.next().is_none().then(|| Self { numbers, release, text: format!("v{plain}") })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Returns the version that the checkout pins for new profiles.
pub fn pinned(settings: &Cluster) -> Result<Version> {
    let text = &settings.kubernetes;
    Version::parse(text).ok_or_else(|| {
        Failure::new(Class::Config, format!("`{text}` is not a version of Kubernetes"))
            .help("edit cluster.kubernetes in infra/xtask.toml; see what is pinned: cargo xtask pins")
            .into()
    })
}

/// Returns the version in minikube's `config.json`, read from `path`. Fails if there is none: with a default, a start could
/// change the cluster's version.
pub fn recorded(config: &Value, path: &Utf8Path) -> Result<Version> {
    let text = config.pointer("/KubernetesConfig/KubernetesVersion").and_then(Value::as_str).unwrap_or_default();
    Version::parse(text).ok_or_else(|| {
        let what = format!("minikube's record {path} has no valid version of Kubernetes (`{text}`)");
        Failure::new(Class::Cluster, what)
            .help("restore that file from a backup; the cluster itself was not touched")
            .help("or delete the cluster with all its data: cargo xtask teardown --cluster")
            .into()
    })
}

/// Describes in one line how the Kubernetes of an existing profile differs from that of the checkout `root`; `None` if it does
/// not.
pub fn difference(settings: &Settings, root: &Utf8Path, tools: &Toolbox, profile: &Profile) -> Result<Option<String>> {
    let Some(running) = profile.kubernetes(tools)? else { return Ok(None) };
    let pinned = pinned(&settings.cluster)?;
    let supported = VersionRange::of_chart(&root.join(&settings.chart.path))?;
    let outside = if supported.contains(&running) {
        String::new()
    } else {
        format!(", and the chart supports {}", supported.text)
    };
    Ok(match running.cmp(&pinned) {
        std::cmp::Ordering::Less => Some(format!(
            "the cluster runs Kubernetes {running}, this checkout pins {pinned}{outside}: \
             cargo xtask cluster upgrade keeps the todos"
        )),
        std::cmp::Ordering::Greater => Some(format!(
            "the cluster runs Kubernetes {running}, newer than the {pinned} that this checkout is tested with{outside}: \
             use the checkout that made it"
        )),
        std::cmp::Ordering::Equal => None,
    })
}

/// The versions that the chart supports (its `kubeVersion`).
struct VersionRange {
    text: String,
    bounds: Vec<(String, Version)>,
}

impl VersionRange {
    fn of_chart(folder: &Utf8Path) -> Result<Self> {
        let path = folder.join("Chart.yaml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let chart: Value = serde_norway::from_str(&text).with_context(|| format!("reading {path}"))?;
        Self::parse(chart["kubeVersion"].as_str().unwrap_or(">=0.0.0-0")).with_context(|| format!("reading {path}"))
    }

    /// Parses bounds that must all hold, such as `>=1.30.0-0 <1.40.0-0`. `-0` includes pre-releases.
    fn parse(text: &str) -> Result<Self> {
        let bound = |word: &str| {
            let digits = word.find(|c: char| c.is_ascii_digit() || c == 'v').unwrap_or(word.len());
            let version = Version::parse(&word[digits..])?;
            [">=", "<=", ">", "<", "="].contains(&&word[..digits]).then(|| (word[..digits].to_owned(), version))
        };
        let words = text.split([' ', ',']).filter(|word| !word.is_empty());
        let bounds = words.map(|word| bound(word).with_context(|| format!("kubeVersion: `{word}` is not a bound")));
        Ok(Self { text: text.to_owned(), bounds: bounds.collect::<Result<_>>()? })
    }

    fn contains(&self, version: &Version) -> bool {
        self.bounds.iter().all(|(sign, bound)| match sign.as_str() {
            ">=" => version >= bound,
            "<=" => version <= bound,
            ">" => version > bound,
            "<" => version < bound,
            _ => version == bound,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn orders_versions_by_number_and_pre_releases_first() {
        assert!(version("v1.34.4") < version("v1.36.0") && version("v1.9.0") < version("v1.10.0"));
        assert!(version("v1.36.0-rc.0") < version("v1.36.0") && version("v1.35.9") < version("v1.36.0-rc.0"));
        assert_eq!(version("1.34.4"), version("v1.34.4"));
        assert_eq!(version("1.34.4").to_string(), "v1.34.4");
        assert!(["", "v1.34", "stable", "v1.34.4.5", "v1.x.4"].iter().all(|text| Version::parse(text).is_none()));
    }

    #[test]
    fn refuses_a_record_without_a_version() {
        let path = Utf8Path::new("/m/profiles/todo/config.json");
        let config = json!({"KubernetesConfig": {"KubernetesVersion": "v1.34.4"}});
        assert_eq!(recorded(&config, path).unwrap(), version("v1.34.4"));
        for config in [json!({}), json!({"KubernetesConfig": {"KubernetesVersion": "latest"}})] {
            let error = recorded(&config, path).unwrap_err();
            assert!(error.to_string().starts_with("minikube's record /m/profiles/todo/config.json has no"), "{error}");
        }
    }

    #[test]
    fn reads_the_bounds_of_the_chart() {
        let range = VersionRange::parse(">=1.30.0-0, <1.40.0").unwrap();
        assert!(range.contains(&version("v1.30.0")) && range.contains(&version("v1.34.4")));
        assert!(!range.contains(&version("v1.29.9")) && !range.contains(&version("v1.40.0")));
        assert!(VersionRange::parse("^1.30").is_err());
    }
}
