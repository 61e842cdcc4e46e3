//! The one cluster record: what was verified last. A deploy with the same fingerprint and nothing drifted does nothing.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::desired::Desired;
use crate::snapshot::Snapshot;
use crate::toolbox::Toolbox;

/// The ConfigMap that holds the record.
pub const NAME: &str = "todo-xtask";
const KEY: &str = "record.json";

/// What was verified.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Record {
    /// What went into the release, part by part.
    pub fingerprint: BTreeMap<String, String>,
    /// Helm's revision.
    pub revision: u64,
    /// Image IDs by reference.
    pub images: BTreeMap<String, String>,
    /// Names of the Secrets in use.
    pub secrets: Vec<String>,
    /// Digest of the desired part of each object.
    pub objects: BTreeMap<String, String>,
    /// Environment.
    pub environment: String,
    /// Seconds since 1970.
    pub verified_at: u64,
}

impl Record {
    /// The record of `desired` as `snapshot` shows it verified.
    pub fn new(
        desired: &Desired,
        revision: u64,
        images: BTreeMap<String, String>,
        secrets: Vec<String>,
        snapshot: &Snapshot,
    ) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            fingerprint: desired.fingerprint.clone(),
            revision,
            images,
            secrets,
            objects: snapshot.digests(super::recorded),
            environment: desired.environment.clone(),
            verified_at: now.as_secs(),
        }
    }

    /// The record in `snapshot`. One that cannot be read counts as none: the next deploy verifies and writes it anew.
    pub fn from(snapshot: &Snapshot) -> Option<Self> {
        let text = snapshot.get("ConfigMap", NAME)?["data"][KEY].as_str()?;
        serde_json::from_str(text).ok()
    }

    /// Writes the record to the cluster.
    pub fn store(&self, tools: &Toolbox) -> Result<()> {
        let manifest = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": NAME, "labels": {
                "app.kubernetes.io/managed-by": "xtask", "app.kubernetes.io/part-of": "todo"}},
            "data": {KEY: serde_json::to_string_pretty(self)?},
        });
        let apply = tools.kubectl_here().args(["apply", "--server-side", "--force-conflicts", "-f", "-"]);
        apply.stdin(manifest.to_string()).run().context("writing the record of what was verified")
    }

    /// The parts of the fingerprint in which `wanted` differs.
    pub fn differences(&self, wanted: &BTreeMap<String, String>) -> Vec<String> {
        let parts = wanted.keys().chain(self.fingerprint.keys().filter(|part| !wanted.contains_key(*part)));
        parts
            .filter(|part| self.fingerprint.get(*part) != wanted.get(*part))
            .map(|part| format!("{part} changed"))
            .collect()
    }

    /// What somebody changed by hand since.
    pub fn drift(&self, snapshot: &Snapshot) -> Vec<Drift> {
        let live = snapshot.digests(super::recorded);
        let changed = self.objects.iter().filter(|(object, digest)| live.get(*object) != Some(digest));
        changed.map(|(object, _)| Drift { object: object.clone(), deleted: !live.contains_key(object) }).collect()
    }
}

/// An object that is not as it was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// `Deployment/todo-backend`.
    pub object: String,
    /// It is gone; otherwise it is there and different.
    pub deleted: bool,
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} was {} by hand", self.object, if self.deleted { "deleted" } else { "changed" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn record() -> Record {
        Record {
            fingerprint: map(&[("chart", "1"), ("values", "2")]),
            revision: 3,
            images: BTreeMap::new(),
            secrets: vec![],
            objects: map(&[("Service/todo-backend", "digest")]),
            environment: "dev".into(),
            verified_at: 0,
        }
    }

    #[test]
    fn differences_name_the_part() {
        assert!(record().differences(&map(&[("chart", "1"), ("values", "2")])).is_empty());
        assert_eq!(record().differences(&map(&[("chart", "9"), ("values", "2")])), ["chart changed"]);
        assert_eq!(record().differences(&map(&[("chart", "1")])), ["values changed"]);
    }

    #[test]
    fn drift_tells_deleted_from_changed() {
        let told = |snapshot: &Snapshot| record().drift(snapshot).iter().map(Drift::to_string).collect::<Vec<_>>();
        assert_eq!(told(&Snapshot::default()), ["Service/todo-backend was deleted by hand"]);
        let changed = r#"{"items":[{"kind":"Service","metadata":{"name":"todo-backend"},"spec":{"a":1}}]}"#;
        assert_eq!(told(&Snapshot::parse(changed).unwrap()), ["Service/todo-backend was changed by hand"]);
    }
}
