//! The one cluster record: what was verified last. A deploy with the same fingerprint and nothing drifted does nothing.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::api::MANAGER;
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
    /// Revisions that were verified before and that Helm keeps, the newest first: a rollback goes to one of them.
    #[serde(default)]
    pub history: Vec<Verified>,
}

/// A revision that was verified, with all that a rollback to it needs and leaves.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Verified {
    /// What went into the release, part by part.
    pub fingerprint: BTreeMap<String, String>,
    /// Helm's revision.
    pub revision: u64,
    /// Image IDs by reference.
    pub images: BTreeMap<String, String>,
    /// Names of the Secrets in use.
    pub secrets: Vec<String>,
    /// Environment.
    pub environment: String,
    /// Seconds since 1970.
    pub verified_at: u64,
}

impl Record {
    /// The record of `verified` as `snapshot` shows it, after the one before; `kept` are the revisions that Helm keeps.
    pub fn new(verified: Verified, snapshot: &Snapshot, kept: &[u64]) -> Self {
        let Verified { fingerprint, revision, images, secrets, environment, verified_at } = verified;
        let objects = snapshot.digests(super::recorded);
        let before = Self::from(snapshot).map(Self::all).unwrap_or_default();
        let history = before.into_iter().filter(|old| old.revision != revision && kept.contains(&old.revision));
        let history = history.collect();
        Self { fingerprint, revision, images, secrets, objects, environment, verified_at, history }
    }

    /// Every revision that was verified, the newest first.
    pub fn all(self) -> Vec<Verified> {
        let Self { fingerprint, revision, images, secrets, environment, verified_at, history, .. } = self;
        let newest = Verified { fingerprint, revision, images, secrets, environment, verified_at };
        std::iter::once(newest).chain(history).collect()
    }

    /// The numbers of the revisions that were verified, the newest first.
    pub fn revisions(&self) -> Vec<u64> {
        std::iter::once(self.revision).chain(self.history.iter().map(|old| old.revision)).collect()
    }

    /// The Secrets of all of them.
    pub fn all_secrets(&self) -> Vec<String> {
        let old = self.history.iter().flat_map(|old| old.secrets.clone());
        self.secrets.iter().cloned().chain(old).collect()
    }

    /// The references of the images of all of them.
    pub fn all_images(&self) -> Vec<String> {
        let old = self.history.iter().flat_map(|old| old.images.keys().cloned());
        self.images.keys().cloned().chain(old).collect()
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
        tools.api()?.apply(&manifest, MANAGER).context("writing the record of what was verified")?;
        Ok(())
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
            history: vec![],
        }
    }

    #[test]
    fn what_was_verified_before_is_kept_as_long_as_helm_keeps_it() {
        let stored = |record: &Record| {
            let object = serde_json::json!({"items": [{"kind": "ConfigMap", "metadata": {"name": NAME},
                "data": {KEY: serde_json::to_string(record).unwrap()}}]});
            Snapshot::parse(&object.to_string()).unwrap()
        };
        let mut record = record();
        for revision in 4..9 {
            let verified = Verified { revision, ..record.clone().all().remove(0) };
            let kept: Vec<u64> = (revision - 2..=revision).collect();
            record = Record::new(verified, &stored(&record), &kept);
        }
        assert_eq!(record.revisions(), [8, 7, 6]);
        // Written by an xtask that kept no history: nothing is lost but that.
        let mut old = serde_json::to_value(&record).unwrap();
        old.as_object_mut().unwrap().remove("history");
        assert_eq!(serde_json::from_value::<Record>(old).unwrap().revisions(), [8]);
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
