//! The record: a ConfigMap with the last verified state. A deploy with the same fingerprint and without drift does nothing.

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
/// The format that this xtask writes, and the newest that it reads.
const FORMAT: u64 = 2;

/// The last verified state of the release.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Record {
    /// The version of this format.
    #[serde(default = "first_format")]
    pub format: u64,
    /// A digest or a name of each part of the release's input.
    pub fingerprint: BTreeMap<String, String>,
    /// Helm's revision.
    pub revision: u64,
    /// Image IDs by reference.
    pub images: BTreeMap<String, String>,
    /// Names of the Secrets that the revision uses.
    pub secrets: Vec<String>,
    /// Digest of the desired part of each object, by `Kind/name`.
    pub objects: BTreeMap<String, String>,
    /// Replicas of each workload that no autoscaler scales, by `Kind/name`.
    #[serde(default)]
    pub replicas: BTreeMap<String, u64>,
    /// The environment.
    pub environment: String,
    /// Time of its verification, in seconds since 1970.
    pub verified_at: u64,
    /// Revisions that were verified before and that Helm keeps, newest first.
    #[serde(default)]
    pub history: Vec<Verified>,
}

/// A verified revision, with what a rollback to it needs.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Verified {
    /// A digest or a name of each part of the release's input.
    pub fingerprint: BTreeMap<String, String>,
    /// Helm's revision.
    pub revision: u64,
    /// Image IDs by reference.
    pub images: BTreeMap<String, String>,
    /// Names of the Secrets that the revision uses.
    pub secrets: Vec<String>,
    /// The environment.
    pub environment: String,
    /// Time of its verification, in seconds since 1970.
    pub verified_at: u64,
}

/// Returns the format of records that name none.
fn first_format() -> u64 {
    1
}

impl Record {
    /// Returns the record of `verified` with the objects in `snapshot`. Its history is that of the record in `snapshot`, without
    /// revisions that are not in `kept`.
    pub fn new(verified: Verified, snapshot: &Snapshot, kept: &[u64]) -> Result<Self> {
        let Verified { fingerprint, revision, images, secrets, environment, verified_at } = verified;
        let (objects, replicas) = (snapshot.digests(), snapshot.replicas());
        let before = Self::read(snapshot)?.map(Self::into_revisions).unwrap_or_default();
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

    /// Returns every verified revision, newest first.
    pub fn into_revisions(self) -> Vec<Verified> {
        let Self { fingerprint, revision, images, secrets, environment, verified_at, history, .. } = self;
        let newest = Verified { fingerprint, revision, images, secrets, environment, verified_at };
        std::iter::once(newest).chain(history).collect()
    }

    /// Returns the numbers of the verified revisions, newest first.
    pub fn revision_numbers(&self) -> Vec<u64> {
        std::iter::once(self.revision).chain(self.history.iter().map(|old| old.revision)).collect()
    }

    /// Returns the Secrets of all verified revisions.
    pub fn all_secrets(&self) -> Vec<String> {
        let old = self.history.iter().flat_map(|old| old.secrets.clone());
        self.secrets.iter().cloned().chain(old).collect()
    }

    /// Returns the references of the images of all verified revisions.
    pub fn all_images(&self) -> Vec<String> {
        let old = self.history.iter().flat_map(|old| old.images.keys().cloned());
        self.images.keys().cloned().chain(old).collect()
    }

    /// Returns the record in `snapshot`, or `None` if the namespace has none.
    ///
    /// # Errors
    /// Fails with [`Class::Cluster`] if the record has a newer format or cannot be read. A deploy that took it for absent would
    /// roll a failure back to the wrong revision.
    pub fn read(snapshot: &Snapshot) -> Result<Option<Self>> {
        let Some(object) = snapshot.get("ConfigMap", NAME) else { return Ok(None) };
        let unreadable = |why: String| {
            let namespace = text(object, "/metadata/namespace");
            let what =
                format!("cannot read the record of the last verified state, ConfigMap {NAME} in namespace {namespace}");
            Failure::new(Class::Cluster, format!("{what}: {why}")).help("use the newer checkout that wrote it").help(
                format!(
                    "or remove it; the next deploy then verifies everything anew: \
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
            _ => return Err(unreadable(format!("its format `{}` is unknown", value["format"])).into()),
        }
        Ok(Some(serde_json::from_value(value).map_err(|error| unreadable(error.to_string()))?))
    }

    /// Reads only the record from the cluster.
    pub fn fetch(tools: &Toolbox) -> Result<Option<Self>> {
        let object =
            tools.api()?.get(&kinds::CONFIG_MAP, NAME).context("reading the record of the last verified state")?;
        Self::read(&Snapshot::of(object.into_iter().collect()))
    }

    /// Writes the record to the cluster.
    pub fn store(&self, tools: &Toolbox) -> Result<()> {
        let manifest = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": NAME, "labels": tools.release().made_labels()},
            "data": {KEY: serde_json::to_string_pretty(self)?},
        });
        tools.api()?.apply(&manifest, MANAGER).context("writing the record of the last verified state")?;
        Ok(())
    }

    /// Returns the parts of the fingerprint in which `wanted` differs, as `<part> changed`.
    pub fn differences(&self, wanted: &BTreeMap<String, String>) -> Vec<String> {
        let parts = wanted.keys().chain(self.fingerprint.keys().filter(|part| !wanted.contains_key(*part)));
        parts
            .filter(|part| self.fingerprint.get(*part) != wanted.get(*part))
            .map(|part| format!("{part} changed"))
            .collect()
    }

    /// Returns whether `wanted` differs at most in images and Secrets, so that chart and values render the same objects.
    pub fn has_objects_of(&self, wanted: &BTreeMap<String, String>) -> bool {
        self.differences(wanted).iter().all(|part| part.starts_with("image ") || part.starts_with("Secret of "))
    }

    /// Returns the objects in `snapshot` that somebody has changed or deleted since they were verified.
    pub fn drift(&self, snapshot: &Snapshot) -> Vec<Drift> {
        let live: BTreeMap<String, &Value> = snapshot.applied().map(|object| (key(object), object)).collect();
        let is_same = |object: &String, digest: &String| {
            let Some(live) = live.get(object) else { return false };
            // A record from before an autoscaler has a digest with replicas.
            [None, self.replicas.get(object).copied()].map(|replicas| snapshot.digest(live, replicas)).contains(digest)
        };
        let changed = self.objects.iter().filter(|(object, digest)| !is_same(object, digest));
        changed.map(|(object, _)| Drift { object: object.clone(), is_deleted: !live.contains_key(object) }).collect()
    }
}

/// An object whose live state differs from the verified one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// `Deployment/todo-backend`.
    pub object: String,
    /// Whether the object no longer exists; otherwise it differs.
    pub is_deleted: bool,
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} was {} by hand", self.object, if self.is_deleted { "deleted" } else { "changed" })
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
    fn verified_revisions_stay_in_the_record_while_helm_keeps_them() {
        let stored = |record: &Record| stored(&serde_json::to_string(record).unwrap());
        let mut record = record();
        for revision in 4..9 {
            let verified = Verified { revision, ..record.clone().into_revisions().remove(0) };
            let kept: Vec<u64> = (revision - 2..=revision).collect();
            record = Record::new(verified, &stored(&record), &kept).unwrap();
        }
        assert_eq!(record.revision_numbers(), [8, 7, 6]);
        // An old xtask wrote no history.
        let mut old = serde_json::to_value(&record).unwrap();
        old.as_object_mut().unwrap().remove("history");
        assert_eq!(serde_json::from_value::<Record>(old).unwrap().revision_numbers(), [8]);
    }

    #[test]
    fn a_record_without_a_format_has_the_first_one() {
        // As 0.2.0 wrote it.
        let mut old = serde_json::to_value(record()).unwrap();
        old.as_object_mut().unwrap().remove("format");
        let read = Record::read(&stored(&old.to_string())).unwrap().unwrap();
        assert_eq!((read.format, read.revision), (1, 3));
        // The next record has the present format.
        let verified = read.clone().into_revisions().remove(0);
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
            (r#"{"format": "two"}"#.to_owned(), r#"its format `"two"` is unknown"#),
            (r#"{"format": 0}"#.to_owned(), "its format `0` is unknown"),
            ("{".to_owned(), "EOF while parsing"),
        ] {
            let error = Record::read(&stored(&content)).unwrap_err();
            let failure = error.downcast_ref::<Failure>().unwrap();
            assert_eq!(failure.class, Class::Cluster);
            let message = failure.to_string();
            assert!(message.contains("ConfigMap todo-xtask in namespace todo: ") && message.contains(why), "{message}");
            let command = "cargo xtask tool kubectl -- --namespace todo delete configmap todo-xtask";
            assert!(failure.hints()[1].ends_with(command), "{:?}", failure.hints());
            assert!(Record::new(record().into_revisions().remove(0), &stored(&content), &[]).is_err());
        }
    }

    #[test]
    fn differences_name_the_changed_part() {
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
        let drift = |snapshot: &Snapshot| record().drift(snapshot).iter().map(Drift::to_string).collect::<Vec<_>>();
        assert_eq!(drift(&Snapshot::default()), ["Service/todo-backend was deleted by hand"]);
        let changed = r#"{"items":[{"kind":"Service","metadata":{"name":"todo-backend"},"spec":{"a":1}}]}"#;
        assert_eq!(drift(&Snapshot::parse(changed).unwrap()), ["Service/todo-backend was changed by hand"]);
    }
}
