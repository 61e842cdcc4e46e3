//! The one cluster record: what was verified last. A deploy with the same fingerprint and nothing drifted does nothing.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::{MANAGER, kinds};
use crate::failure::{Class, Failure};
use crate::snapshot::{Snapshot, key, text};
use crate::toolbox::Toolbox;

/// The ConfigMap that holds the record.
pub const NAME: &str = "todo-xtask";
const KEY: &str = "record.json";
/// The newest format that this xtask reads, and the one that it writes. A record without a format has format 1.
const FORMAT: u64 = 2;

/// What was verified.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Record {
    /// The version of this layout.
    #[serde(default = "first_format")]
    pub format: u64,
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
    /// Replicas of each workload that no autoscaler scaled.
    #[serde(default)]
    pub replicas: BTreeMap<String, u64>,
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

/// The format of records that name none.
fn first_format() -> u64 {
    1
}

impl Record {
    /// The record of `verified` as `snapshot` shows it, after the one before; `kept` are the revisions that Helm keeps.
    pub fn new(verified: Verified, snapshot: &Snapshot, kept: &[u64]) -> Result<Self> {
        let Verified { fingerprint, revision, images, secrets, environment, verified_at } = verified;
        let (objects, replicas) = (snapshot.digests(), snapshot.replicas());
        let before = Self::read(snapshot)?.map(Self::all).unwrap_or_default();
        let history = before.into_iter().filter(|old| old.revision != revision && kept.contains(&old.revision));
        let history = history.collect();
        Ok(Self {
            format: FORMAT,
            fingerprint,
            revision,
            images,
            secrets,
            objects,
            replicas,
            environment,
            verified_at,
            history,
        })
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

    /// Returns the record in `snapshot`, or `None` if the namespace has none.
    ///
    /// A record of a newer format, or one that cannot be read, is an error of the class Cluster: what was verified is then
    /// unknown, and a deploy that took it for nothing would undo a failed rollout to the wrong revision.
    pub fn read(snapshot: &Snapshot) -> Result<Option<Self>> {
        let Some(object) = snapshot.get("ConfigMap", NAME) else { return Ok(None) };
        let unreadable = |why: String| {
            let namespace = text(object, "/metadata/namespace");
            let what =
                format!("cannot read the record of what was verified, ConfigMap {NAME} in namespace {namespace}");
            Failure::new(Class::Cluster, format!("{what}: {why}")).help("use the newer checkout that wrote it").help(
                format!(
                    "or remove it, which loses only what was verified: \
                     cargo xtask tool kubectl -- --namespace {namespace} delete configmap {NAME}"
                ),
            )
        };
        let content = object["data"][KEY].as_str().ok_or_else(|| unreadable(format!("it has no key {KEY}")))?;
        let value: Value = serde_json::from_str(content).map_err(|error| unreadable(error.to_string()))?;
        let format = value.get("format").map_or(Some(first_format()), Value::as_u64);
        match format {
            Some(1..=FORMAT) => {}
            Some(newer) if newer > FORMAT => {
                return Err(
                    unreadable(format!("it has format {newer}, and this xtask reads formats 1 to {FORMAT}")).into()
                );
            }
            _ => return Err(unreadable(format!("its format is `{}`, which is none", value["format"])).into()),
        }
        Ok(Some(serde_json::from_value(value).map_err(|error| unreadable(error.to_string()))?))
    }

    /// Asks the cluster for the record alone.
    pub fn fetch(tools: &Toolbox) -> Result<Option<Self>> {
        let object = tools.api()?.get(&kinds::CONFIG_MAP, NAME).context("reading the record of what was verified")?;
        Self::read(&Snapshot::of(object.into_iter().collect()))
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

    /// Whether `wanted` is the same but for images and Secrets: chart and values render the same objects.
    pub fn has_objects_of(&self, wanted: &BTreeMap<String, String>) -> bool {
        self.differences(wanted).iter().all(|part| part.starts_with("image ") || part.starts_with("Secret of "))
    }

    /// What somebody changed by hand since.
    pub fn drift(&self, snapshot: &Snapshot) -> Vec<Drift> {
        let live: BTreeMap<String, &Value> = snapshot.applied().map(|object| (key(object), object)).collect();
        let same = |object: &String, digest: &String| {
            let Some(live) = live.get(object) else { return false };
            // The record may be older than an autoscaler.
            [None, self.replicas.get(object).copied()].map(|replicas| snapshot.digest(live, replicas)).contains(digest)
        };
        let changed = self.objects.iter().filter(|(object, digest)| !same(object, digest));
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
            format: FORMAT,
            fingerprint: map(&[("chart", "1"), ("values", "2")]),
            revision: 3,
            images: BTreeMap::new(),
            secrets: vec![],
            objects: map(&[("Service/todo-backend", "digest")]),
            replicas: BTreeMap::new(),
            environment: "dev".into(),
            verified_at: 0,
            history: vec![],
        }
    }

    fn stored(content: &str) -> Snapshot {
        let metadata = serde_json::json!({"name": NAME, "namespace": "todo"});
        let object = serde_json::json!({"kind": "ConfigMap", "metadata": metadata, "data": {KEY: content}});
        Snapshot::parse(&serde_json::json!({"items": [object]}).to_string()).unwrap()
    }

    #[test]
    fn what_was_verified_before_is_kept_as_long_as_helm_keeps_it() {
        let stored = |record: &Record| stored(&serde_json::to_string(record).unwrap());
        let mut record = record();
        for revision in 4..9 {
            let verified = Verified { revision, ..record.clone().all().remove(0) };
            let kept: Vec<u64> = (revision - 2..=revision).collect();
            record = Record::new(verified, &stored(&record), &kept).unwrap();
        }
        assert_eq!(record.revisions(), [8, 7, 6]);
        // Written by an xtask that kept no history: nothing is lost but that.
        let mut old = serde_json::to_value(&record).unwrap();
        old.as_object_mut().unwrap().remove("history");
        assert_eq!(serde_json::from_value::<Record>(old).unwrap().revisions(), [8]);
    }

    #[test]
    fn a_record_without_a_format_has_the_first_one() {
        // As 0.2.0 wrote it.
        let mut old = serde_json::to_value(record()).unwrap();
        old.as_object_mut().unwrap().remove("format");
        let read = Record::read(&stored(&old.to_string())).unwrap().unwrap();
        assert_eq!((read.format, read.revision), (1, 3));
        // The next one that is written has ours.
        let verified = read.clone().all().remove(0);
        assert_eq!(Record::new(verified, &stored(&old.to_string()), &[3]).unwrap().format, FORMAT);
        assert_eq!(Record::read(&Snapshot::default()).unwrap(), None);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_an_error_with_the_way_out() {
        let mut newer = serde_json::to_value(record()).unwrap();
        newer["format"] = (FORMAT + 1).into();
        let mut incomplete = serde_json::to_value(record()).unwrap();
        incomplete.as_object_mut().unwrap().remove("objects");
        for (content, why) in [
            (newer.to_string(), "it has format 3, and this xtask reads formats 1 to 2"),
            (incomplete.to_string(), "missing field `objects`"),
            (r#"{"format": "two"}"#.to_owned(), r#"its format is `"two"`, which is none"#),
            (r#"{"format": 0}"#.to_owned(), "its format is `0`, which is none"),
            ("{".to_owned(), "EOF while parsing"),
        ] {
            let error = Record::read(&stored(&content)).unwrap_err();
            let failure = error.downcast_ref::<Failure>().unwrap();
            assert_eq!(failure.class, Class::Cluster);
            let told = failure.to_string();
            assert!(told.contains("ConfigMap todo-xtask in namespace todo: ") && told.contains(why), "{told}");
            let command = "cargo xtask tool kubectl -- --namespace todo delete configmap todo-xtask";
            assert!(failure.hints()[1].ends_with(command), "{:?}", failure.hints());
            assert!(Record::new(record().all().remove(0), &stored(&content), &[]).is_err());
        }
    }

    #[test]
    fn differences_name_the_part() {
        assert!(record().differences(&map(&[("chart", "1"), ("values", "2")])).is_empty());
        assert_eq!(record().differences(&map(&[("chart", "9"), ("values", "2")])), ["chart changed"]);
        assert_eq!(record().differences(&map(&[("chart", "1")])), ["values changed"]);
    }

    #[test]
    fn images_and_secrets_change_no_objects() {
        let with = |more: &[(&str, &str)]| map(&[&[("chart", "1"), ("values", "2")], more].concat());
        assert!(record().has_objects_of(&with(&[("image todo-backend", "3"), ("Secret of backend", "4")])));
        assert!(!record().has_objects_of(&with(&[("database", "remote")])));
        assert!(!record().has_objects_of(&map(&[("chart", "9"), ("values", "2")])));
    }

    #[test]
    fn drift_tells_deleted_from_changed() {
        let told = |snapshot: &Snapshot| record().drift(snapshot).iter().map(Drift::to_string).collect::<Vec<_>>();
        assert_eq!(told(&Snapshot::default()), ["Service/todo-backend was deleted by hand"]);
        let changed = r#"{"items":[{"kind":"Service","metadata":{"name":"todo-backend"},"spec":{"a":1}}]}"#;
        assert_eq!(told(&Snapshot::parse(changed).unwrap()), ["Service/todo-backend was changed by hand"]);
    }
}
