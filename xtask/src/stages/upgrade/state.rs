//! The state of a cluster upgrade: a small file beside the dumps, written before each step that cannot be undone.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::dump::Dump;
use crate::engine::paths::EnginePaths;
use crate::failure::{Class, Failure};
use crate::private;
use crate::units::quote;

const FILE: &str = "upgrade.json";
const FORMAT: u64 = 1;

/// The phase of an upgrade. Each begins when the one before is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The dump is proven; the old cluster is being deleted.
    Delete,
    /// The old cluster is gone; the new one is being created.
    Create,
    /// The new cluster runs without the application; the dump is being restored.
    Restore,
    /// The todos are in the new cluster; the application is being released.
    Release,
}

/// The state of an upgrade that has begun to delete the old cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeState {
    /// The version of this format.
    pub format: u64,
    /// The phase.
    pub phase: Phase,
    /// The environment that the old cluster's record names.
    pub environment: String,
    /// The port that the old profile published.
    pub port: Option<u16>,
    /// The old cluster's version of Kubernetes.
    pub from: String,
    /// UID of the old cluster's namespace kube-system.
    pub old_cluster: String,
    /// UID of the new cluster's namespace kube-system, once it runs.
    pub new_cluster: Option<String>,
    /// The dump; `None`: the old cluster had no embedded database.
    pub dump: Option<Dump>,
}

impl UpgradeState {
    /// Returns the state of a new upgrade, in the phase [`Phase::Delete`].
    pub fn new(environment: String, port: Option<u16>, from: String, old_cluster: String, dump: Option<Dump>) -> Self {
        Self { format: FORMAT, phase: Phase::Delete, environment, port, from, old_cluster, new_cluster: None, dump }
    }

    /// Reads the state in `folder`, the profile's; `None`: no upgrade is under way. Fails if the file cannot be read.
    pub fn load(folder: &Utf8Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("reading {path}"))?,
        };
        let unreadable = |why: String| {
            Failure::new(Class::Cluster, format!("cannot read the state of the cluster upgrade, {path}: {why}"))
                .help("use the checkout that began the upgrade")
                .help(format!("or abandon the upgrade; the dumps beside that file stay: rm {}", quote(&path)))
        };
        let state: Self = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        if state.format != FORMAT {
            return Err(unreadable(format!("it has format {}, and this xtask reads {FORMAT}", state.format)).into());
        }
        Ok(Some(state))
    }

    /// Writes the file atomically.
    pub fn store(&self, folder: &Utf8Path) -> Result<()> {
        private::create_dir(folder)?;
        let (path, new) = (folder.join(FILE), folder.join(format!("{FILE}.new")));
        let _ = fs::remove_file(&new);
        let mut file = create(&new)?;
        file.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path).with_context(|| format!("writing {path}"))?;
        fs::File::open(folder)?.sync_all().with_context(|| format!("writing {folder}"))
    }

    /// Changes the phase, and writes the file.
    pub fn advance(&mut self, folder: &Utf8Path, phase: Phase) -> Result<()> {
        self.phase = phase;
        self.store(folder)
    }

    /// Removes the file of a complete upgrade.
    pub fn remove(folder: &Utf8Path) -> Result<()> {
        let path = folder.join(FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context(format!("removing {path}"))
            }
            _ => Ok(()),
        }
    }
}

/// Fails while the todos of the profile `name` are only in a dump: a deploy would start an empty application.
pub fn refuse_unfinished(cache: &Utf8Path, name: &str) -> Result<()> {
    let folder = folder(cache, name)?;
    let Some(state) = UpgradeState::load(&folder)?.filter(|state| state.phase != Phase::Release) else { return Ok(()) };
    let what = format!("an upgrade of the cluster `{name}` from Kubernetes {} is not finished", state.from);
    let todos = match &state.dump {
        Some(dump) => format!("; the todos are in {}", folder.join(&dump.file)),
        None => String::new(),
    };
    Err(Failure::new(Class::Cluster, what + &todos)
        .help("cargo xtask cluster upgrade   # goes on where it stopped")
        .help(format!(
            "or give it up and begin with an empty application; the dump stays: rm {}",
            quote(folder.join(FILE))
        ))
        .into())
}

/// Returns the folder of the dumps of `profile`. It is outside the cache, so that no teardown removes it. Its name differs for
/// profiles of the same name in different caches.
pub fn folder(cache: &Utf8Path, profile: &str) -> Result<Utf8PathBuf> {
    let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty()).map(Utf8PathBuf::from);
    let data = named("XDG_DATA_HOME").or_else(|| Some(named("HOME")?.join(".local/share"))).ok_or_else(|| {
        Failure::new(Class::Machine, "no folder for dumps: neither HOME nor XDG_DATA_HOME is set")
            .help("export XDG_DATA_HOME=/path/to/a/folder")
    })?;
    let name = format!("{profile}-{}", EnginePaths::new(cache).id());
    Ok(data.join("todo-xtask").join(name))
}

/// Creates a file that only its owner can read. It must not exist.
pub fn create(path: &Utf8Path) -> Result<fs::File> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.with_context(|| format!("creating {path}"))
}
