//! Read-only probes of the machine, side by side.

use anyhow::Result;
use camino::Utf8Path;

use super::memory::{self, Memory};
use crate::deadlines;
use crate::engine::place::Place;
use crate::engine::{Engine, ping, start, tree};
use crate::project::Project;
use crate::report::bytes;

/// Free space of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// What we may still write.
    pub free: u64,
    /// Its size.
    pub total: u64,
}

/// The private engine, if it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Private {
    /// Its version.
    pub version: String,
    /// Whether it runs from the tree of today's recipe.
    pub current: bool,
}

/// What is there.
#[derive(Clone, Debug)]
pub struct Observed {
    /// `linux`, `macos`, ...
    pub os: String,
    /// `x86_64`, `aarch64`, ...
    pub arch: String,
    /// Whether we are root.
    pub root: bool,
    /// Whether we may mount and set up networks (an unprivileged container's root may not).
    pub capable: bool,
    /// Whether Debian's packages can be had the way that the machine has its own.
    pub apt: bool,
    /// Version of the user's own engine, or why none answers.
    pub system: Result<String, String>,
    /// The private engine.
    pub private: Option<Private>,
    /// Key of the private engine's tree by today's recipe.
    pub key: String,
    /// Whether that tree is there.
    pub tree: bool,
    /// Whether a private engine was made here before, so that consent was given.
    pub made: bool,
    /// The cache's file system.
    pub disk: Option<Disk>,
    /// The machine's memory.
    pub memory: Option<Memory>,
    /// What could be given back: folder and size in words. Only looked for where room is short.
    pub reclaimable: Vec<String>,
}

impl Observed {
    /// The engine that answers, if one does.
    pub fn engine(&self, project: &Project) -> Option<Engine> {
        if self.system.is_ok() {
            return Some(Engine::system());
        }
        self.private.as_ref().map(|_| Engine::private(&Place::new(&project.cache)))
    }
}

/// Looks at the machine; changes nothing.
pub fn observe(project: &Project) -> Result<Observed> {
    let place = Place::new(&project.cache);
    let key = tree::recipe(&project.root)?.key();
    let disk = disk(&project.cache);
    let short = disk.is_some_and(|disk| disk.free < super::decide::DISK_COLD);
    let (system, private, reclaimable) = std::thread::scope(|scope| {
        let system = scope.spawn(system);
        let private = scope.spawn(|| ping::version(&place.socket(), deadlines::ENGINE_PROBE.time()));
        let reclaimable = scope.spawn(|| if short { reclaimable(&project.cache) } else { Vec::new() });
        let panicked = || Err("the probe failed".to_owned());
        (
            system.join().unwrap_or_else(|_| panicked()),
            private.join().unwrap_or_default(),
            reclaimable.join().unwrap_or_default(),
        )
    });
    let current = start::running_key(&place).as_deref() == Some(&key);
    Ok(Observed {
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        root: rustix::process::geteuid().is_root(),
        capable: std::fs::read_to_string("/proc/self/status").is_ok_and(|status| capable(&status)),
        apt: Utf8Path::new("/usr/bin/apt-get").exists(),
        system,
        private: private.map(|version| Private { version, current }),
        tree: tree::ready(&place, &key),
        made: place.data().exists(),
        key,
        disk,
        memory: memory::observe(),
        reclaimable,
    })
}

/// Asks the engine that the user's `docker` reaches.
fn system() -> Result<String, String> {
    let process = Engine::system()
        .docker()
        .args(["version", "--format", "{{.Server.Version}}"])
        .deadline(deadlines::ENGINE_PROBE);
    let output = process.output().map_err(|error| {
        let missing = error
            .root_cause()
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound);
        if missing { "there is no `docker` on PATH".to_owned() } else { error.to_string() }
    })?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !version.is_empty() {
        return Ok(version);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it does not answer").trim().to_owned())
}

/// CAP_NET_ADMIN (12) and CAP_SYS_ADMIN (21) in the effective set of a `/proc/<pid>/status`.
fn capable(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default();
    set >> 12 & 1 == 1 && set >> 21 & 1 == 1
}

/// Room on the file system that holds `path` or will hold it.
pub fn disk(path: &Utf8Path) -> Option<Disk> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists())?;
    let stat = rustix::fs::statvfs(existing.as_std_path()).ok()?;
    Some(Disk { free: stat.f_bavail * stat.f_frsize, total: stat.f_blocks * stat.f_frsize })
}

fn reclaimable(cache: &Utf8Path) -> Vec<String> {
    let entries = cache.read_dir_utf8().into_iter().flatten().flatten();
    let mut sized: Vec<(u64, String)> =
        entries.filter(|e| e.path().is_dir()).map(|e| (size(e.path()), e.path().to_string())).collect();
    sized.sort();
    sized
        .into_iter()
        .rev()
        .filter(|(size, _)| *size > 50_000_000)
        .map(|(size, path)| format!("{path} ({})", bytes(size)))
        .collect()
}

fn size(path: &Utf8Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = walkdir::WalkDir::new(path).same_file_system(true).into_iter().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|m| m.blocks() * 512).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_without_privileges_is_seen() {
        assert!(capable("Name:\tx\nCapEff:\t000001fffeffffff\n"));
        assert!(!capable("Name:\tx\nCapEff:\t00000000a80425fb\n"));
        assert!(!capable(""));
    }

    #[test]
    fn room_is_known_for_a_folder_that_is_not_there_yet() {
        let disk = disk(Utf8Path::new("/no/such/folder")).unwrap();
        assert!(disk.free > 0 && disk.free <= disk.total);
    }
}
