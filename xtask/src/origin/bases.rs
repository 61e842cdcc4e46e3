//! Records of the base images: when each one was pulled or built.
//!
//! A base image has a mutable tag, or Debian packages of the day on which it was built. Nothing renews it
//! automatically, because that would change the content tags of the applications' images without a change of the
//! checkout. So xtask shows its age, and `cargo xtask images --refresh` renews it. Each base image has its own record
//! file, so parallel runs lose none.

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Origin;
use crate::clock;
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::files;
use crate::settings::Settings;
use crate::units::quote;

/// Folder of the records in the cache.
const FOLDER: &str = "bases";
/// Days after which `doctor` asks for a refresh.
pub const STALE_DAYS: u64 = 30;
const DAY: u64 = 86_400;

/// The action that brought an image into the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Brought {
    /// Pulled from a registry.
    Pulled,
    /// Made from packages.
    Made,
}

/// The record of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseRecord {
    /// The official name.
    pub image: String,
    /// Its ID in the engine: the config digest, or the manifest's where the engine keeps images in containerd.
    pub id: String,
    /// `name@sha256:…` in the registry; absent for an image that was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// Its time, in RFC 3339.
    pub at: String,
    /// The action that brought it.
    pub how: Brought,
}

/// The records of one origin's images; each origin uses its own engine.
#[derive(Clone, Debug)]
pub struct BaseRecords {
    dir: Utf8PathBuf,
}

impl BaseRecords {
    /// Returns the records of the origin `origin`.
    pub fn new(cache: &Utf8Path, origin: &str) -> Self {
        Self { dir: cache.join(FOLDER).join(origin) }
    }

    fn file(&self, image: &str) -> Utf8PathBuf {
        let name: String = image.chars().map(|c| if matches!(c, '/' | ':') { '+' } else { c }).collect();
        self.dir.join(format!("{name}.json"))
    }

    /// Reads the record of `image`; `None`: never recorded. An unreadable record is an error.
    pub fn read(&self, image: &str) -> Result<Option<BaseRecord>> {
        let file = self.file(image);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(image, &file, &error)),
        };
        let record: BaseRecord = serde_json::from_str(&text).map_err(|error| unreadable(image, &file, &error))?;
        if clock::parse(&record.at).is_none() {
            return Err(unreadable(image, &file, &format!("`{}` is no time", record.at)));
        }
        Ok(Some(record))
    }

    /// Records that `engine` now has a new `image`.
    pub fn record(&self, engine: &Engine, image: &str, how: Brought) -> Result<()> {
        let id = engine
            .image_id(image)?
            .with_context(|| format!("the engine has no image {image} although it was just made"))?;
        let registry = if how == Brought::Pulled { engine.registry_digest(image)? } else { None };
        let record = BaseRecord { image: image.to_owned(), id, registry, at: clock::rfc3339(clock::now()), how };
        self.put_back(&record)
    }

    /// Writes an earlier record back.
    pub fn put_back(&self, record: &BaseRecord) -> Result<()> {
        files::write(&self.file(&record.image), &serde_json::to_vec_pretty(record)?)
    }
}

/// Reads all records of the cache, of both origins.
pub fn all(cache: &Utf8Path) -> Result<Vec<BaseRecord>> {
    let mut records = Vec::new();
    for folder in files::entries(&cache.join(FOLDER))? {
        for file in files::entries(&folder)? {
            let Some(text) = files::read(&file)? else { continue };
            records.push(serde_json::from_str(&text).map_err(|error| unreadable("of this file", &file, &error))?);
        }
    }
    Ok(records)
}

fn unreadable(image: &str, file: &Utf8Path, error: &dyn std::fmt::Display) -> anyhow::Error {
    Failure::new(Class::Machine, format!("the record of the base image {image} cannot be read: {file}: {error}"))
        .help(format!("rm {} && cargo xtask images --refresh", quote(file)))
        .into()
}

/// A base image as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseImage {
    /// The official name.
    pub name: String,
    /// Its ID, if the engine has it.
    pub id: Option<String>,
    /// The record of exactly this image.
    pub record: Option<BaseRecord>,
    /// The time of its tag in seconds since 1970, if there is no record.
    tagged: Option<u64>,
}

impl BaseImage {
    /// Returns its creation time in seconds since 1970, if known.
    fn since(&self) -> Option<u64> {
        self.record.as_ref().and_then(|record| clock::parse(&record.at)).or(self.tagged)
    }

    /// Returns its age in whole days.
    pub fn days(&self, now: u64) -> Option<u64> {
        Some(now.saturating_sub(self.since()?) / DAY)
    }

    /// Returns whether it is old enough for a refresh.
    pub fn is_stale(&self, now: u64) -> bool {
        self.days(now).is_some_and(|days| days > STALE_DAYS)
    }

    /// Returns a line such as `python:3.13 sha256:0123456789ab, pulled 12 days ago`.
    pub fn describe(&self, now: u64) -> String {
        let Some(id) = &self.id else { return format!("{} is not in the engine yet", self.name) };
        let how = match self.record.as_ref().map(|record| record.how) {
            Some(Brought::Pulled) => "pulled",
            Some(Brought::Made) => "made",
            None => "tagged",
        };
        let when = self.days(now).map_or("at an unknown time".to_owned(), clock::days_ago);
        format!("{} {}, {how} {when}", self.name, short(id))
    }

    /// Returns its part of the document of `--json`.
    pub fn to_json(&self, now: u64) -> Value {
        json!({
            "name": self.name,
            "id": self.id,
            "registry": self.record.as_ref().and_then(|record| record.registry.as_deref()),
            "how": self.record.as_ref().map(|record| record.how),
            "since": self.since().map(clock::rfc3339),
            "age_days": self.days(now),
        })
    }
}

/// Returns the first 12 hexadecimal digits of a digest, with its algorithm.
pub fn short(id: &str) -> &str {
    id.get(..19).unwrap_or(id)
}

/// Returns the names of all base images: those of the applications, those from which the origin makes them, and the
/// database. Programs in images (the ingress controller, Kubernetes) have exact versions, so their age does not matter.
pub fn names(settings: &Settings, origin: &dyn Origin) -> Vec<String> {
    let built_on = settings.bases().cloned();
    let mut names: Vec<String> =
        origin.roots().into_iter().chain(built_on).chain([settings.database.image.clone()]).collect();
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// Observes every base image.
pub fn observe(settings: &Settings, engine: &Engine, origin: &dyn Origin) -> Result<Vec<BaseImage>> {
    let names = names(settings, origin);
    let references: Vec<String> = names.iter().map(|name| origin.image(name)).collect();
    let ids = engine.image_ids(&references)?;
    let bases = names.into_iter().zip(references).map(|(name, reference)| {
        let id = ids.get(&reference).cloned();
        // A record of another image with this name does not apply.
        let record = origin.base_records().read(&name)?.filter(|record| Some(&record.id) == id.as_ref());
        let tagged = match (&id, &record) {
            (Some(_), None) => engine.tagged_at(&reference)?,
            _ => None,
        };
        Ok(BaseImage { name, id, record, tagged })
    });
    bases.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "sha256:0123456789abcdef";

    fn records() -> (tempfile::TempDir, BaseRecords) {
        let dir = tempfile::tempdir().unwrap();
        let records = BaseRecords::new(Utf8Path::from_path(dir.path()).unwrap(), "release");
        (dir, records)
    }

    /// Returns an engine with one pulled image.
    fn engine(dir: &tempfile::TempDir) -> Engine {
        let image = json!({"Id": ID, "RepoTags": ["a/b:1"], "RepoDigests": [format!("a/b@{ID}")]});
        Engine::scripted(dir.path(), &format!("echo '{image}'"))
    }

    #[test]
    fn a_record_is_absent_there_or_unreadable() {
        let (dir, records) = records();
        assert_eq!(records.read("a/b:1").unwrap(), None);
        records.record(&engine(&dir), "a/b:1", Brought::Pulled).unwrap();
        let record = records.read("a/b:1").unwrap().unwrap();
        assert_eq!((record.id.as_str(), record.registry.as_deref()), (ID, Some(&*format!("a/b@{ID}"))));
        let file = records.file("a/b:1");
        assert!(file.ends_with("bases/release/a+b+1.json"), "{file}");
        let whole = std::fs::read_to_string(&file).unwrap();
        for broken in ["", "{}", &whole.replace(&record.at, "yesterday")] {
            std::fs::write(&file, broken).unwrap();
            let error = records.read("a/b:1").unwrap_err();
            let failure = error.downcast_ref::<Failure>().unwrap();
            assert!(failure.to_string().contains(file.as_str()), "{failure}");
            assert_eq!(failure.hints()[0], format!("rm {} && cargo xtask images --refresh", quote(&file)));
        }
    }

    #[test]
    fn the_age_is_that_of_the_record_or_of_the_engine() {
        let now = clock::parse("2026-11-21T08:00:00Z").unwrap();
        let record = |at: &str| BaseRecord {
            image: "a:1".into(),
            id: ID.into(),
            registry: None,
            at: at.into(),
            how: Brought::Pulled,
        };
        let base =
            |record: Option<BaseRecord>, tagged| BaseImage { name: "a:1".into(), id: Some(ID.into()), record, tagged };
        let old = base(Some(record("2026-10-20T08:00:00Z")), None);
        assert_eq!(old.describe(now), "a:1 sha256:0123456789ab, pulled 32 days ago");
        assert!(old.is_stale(now) && !base(Some(record("2026-10-22T08:00:00Z")), None).is_stale(now));
        assert!(base(None, Some(now - 3 * DAY)).describe(now).ends_with("tagged 3 days ago"));
        let unknown = base(None, None);
        assert!(unknown.describe(now).ends_with("tagged at an unknown time") && !unknown.is_stale(now));
        let absent = BaseImage { id: None, ..unknown };
        assert_eq!(absent.describe(now), "a:1 is not in the engine yet");
    }
}
