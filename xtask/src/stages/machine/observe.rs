//! Observes the machine: read-only, in parallel.

use std::panic::resume_unwind;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};

use super::installed;
use super::memory::{self, Memory};
use crate::deadlines;
use crate::disk::Disk;
use crate::engine::debian::Recipe;
use crate::engine::paths::EnginePaths;
use crate::engine::ping::{self, Answer};
use crate::engine::{Engine, HIDDEN, start, tree};
use crate::failure::{self, Class, Failure};
use crate::files;
use crate::report::bytes;
use crate::units::quote;

/// The machine and its engines, as observed before any step.
#[derive(Clone, Debug)]
pub struct ObservedMachine {
    /// The private engine's files.
    pub paths: EnginePaths,
    /// `linux`, `macos`, ...
    pub os: String,
    /// `x86_64`, `aarch64`, ...
    pub arch: String,
    /// Whether xtask runs as root.
    pub is_root: bool,
    /// Whether xtask may mount and set up networks. Root in an unprivileged container may not.
    pub can_mount: bool,
    /// Whether the machine has apt, from whose sources Debian packages come.
    pub has_apt: bool,
    /// The answer of the user's own engine.
    pub system: Answer,
    /// The sign that the user's own engine is installed, whether or not it runs; see [`installed::find`].
    pub installed: Option<String>,
    /// The answer of the private engine.
    pub private: Answer,
    /// Whether the private engine was started from the tree of the current recipe.
    pub is_current: bool,
    /// The current recipe of the private engine's tree.
    pub recipe: Recipe,
    /// Whether the tree of the current recipe exists.
    pub has_tree: bool,
    /// Whether xtask has created a private engine here before, with the user's consent.
    pub was_made: bool,
    /// Space of the cache's file system.
    pub disk: Option<Disk>,
    /// The machine's memory.
    pub memory: Option<Memory>,
    /// Folders that could be deleted, with their sizes. Only looked for if the disk is short.
    pub reclaimable: Vec<String>,
}

impl ObservedMachine {
    /// Returns the engine that answers; `None` if none runs. Fails if an engine may run but does not answer.
    pub fn engine(&self) -> Result<Option<Engine>> {
        match (&self.system, &self.private) {
            (Answer::Version(_), _) => Ok(Some(Engine::system())),
            (Answer::Unknown(words), _) => Err(unresponsive_engine(words).into()),
            (Answer::Absent(_), Answer::Version(_)) => Ok(Some(Engine::private(&self.paths))),
            (Answer::Absent(_), Answer::Absent(_)) => Ok(None),
            (Answer::Absent(_), Answer::Unknown(words)) => {
                Err(Failure::new(Class::Machine, format!("the private Docker Engine does not answer: {words}"))
                    .help(format!("see its log: less {}", quote(self.paths.log())))
                    .help("or wait for it, if it is starting: cargo xtask deploy dev")
                    .into())
            }
        }
    }
}

/// Returns the error for a user's own engine that gives no answer. It must not count as absent.
pub fn unresponsive_engine(words: &str) -> Failure {
    let failure = Failure::new(Class::Machine, format!("your Docker Engine does not answer: {words}"));
    let failure = match words.contains("permission denied") {
        true => failure.help("sudo usermod -aG docker \"$USER\"   # then log in again"),
        false => failure.help("docker version   # must show a server; then run the same command again"),
    };
    failure.help(format!("or ignore it, if it has no cluster of yours: export DOCKER_HOST={HIDDEN}"))
}

/// Probes the machine, with the private engine of `cache`, whose recipe is in the checkout `root`. Changes nothing.
pub fn observe(cache: &Utf8Path, root: &Utf8Path) -> Result<ObservedMachine> {
    let paths = EnginePaths::new(cache);
    let recipe = tree::recipe(root)?;
    let disk = Disk::of(cache);
    let short = disk.is_some_and(|disk| disk.free < super::decide::DISK_COLD);
    let (system, private, reclaimable) = std::thread::scope(|scope| {
        let system = scope.spawn(|| ask_system_engine(cache));
        let private = scope.spawn(|| ping::ask(&paths.socket(), deadlines::ENGINE_ANSWER.time()));
        let reclaimable = scope.spawn(|| if short { find_reclaimable(cache) } else { Vec::new() });
        // A panic is a defect, not an answer.
        (
            system.join().unwrap_or_else(|panic| resume_unwind(panic)),
            private.join().unwrap_or_else(|panic| resume_unwind(panic)),
            reclaimable.join().unwrap_or_else(|panic| resume_unwind(panic)),
        )
    });
    let was_made = files::exists(&paths.data())?;
    let is_current = start::running_key(&paths)?.as_ref() == Some(&recipe.key());
    Ok(ObservedMachine {
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        is_root: rustix::process::geteuid().is_root(),
        can_mount: std::fs::read_to_string("/proc/self/status").is_ok_and(|status| has_capabilities(&status)),
        has_apt: Utf8Path::new("/usr/bin/apt-get").exists(),
        system,
        installed: installed::find(cache, was_made)?,
        private,
        is_current,
        has_tree: tree::ready(&paths, &recipe.key())?,
        was_made,
        recipe,
        disk,
        memory: memory::observe(),
        reclaimable,
        paths,
    })
}

/// Asks the engine that the user's `docker` reaches: at its socket if that is known, else through the client.
///
/// A socket without a listener counts only if the private engine served last. The `docker` on PATH may be a wrapper that
/// uses another engine, and xtask must not make a private one beside that.
fn ask_system_engine(cache: &Utf8Path) -> Answer {
    match installed::socket().map(|socket| ping::ask(&socket, deadlines::ENGINE_ANSWER.time())) {
        Some(Answer::Absent(words)) if installed::private_engine_was_last(cache) => return Answer::Absent(words),
        Some(Answer::Version(version)) if installed::has_client() => return Answer::Version(version),
        // The client explains better why there is no answer.
        _ => {}
    }
    let process = Engine::system()
        .docker()
        .args(["version", "--format", "{{.Server.Version}}"])
        .question()
        .deadline(deadlines::ENGINE_ANSWER);
    let output = match process.output() {
        Ok(output) => output,
        Err(error) => {
            let kind = error.root_cause().downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            return match kind == Some(std::io::ErrorKind::NotFound) {
                true => Answer::Absent("there is no `docker` on PATH".to_owned()),
                false => Answer::Unknown(failure::message(&error)),
            };
        }
    };
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !version.is_empty() {
        return Answer::Version(version);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let words = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it prints no version").trim().to_owned();
    // The client prints "cannot connect" also for an engine that refuses. Only the socket proves that there is none.
    match socket_in(&said).map(|socket| ping::ask(&socket, deadlines::ENGINE_ANSWER.time())) {
        Some(Answer::Absent(_)) => Answer::Absent(words),
        _ => Answer::Unknown(words),
    }
}

/// Returns the socket in the client's message, e.g. `Cannot connect to the Docker daemon at unix:///run/docker.sock. Is …`.
fn socket_in(words: &str) -> Option<Utf8PathBuf> {
    let (_, rest) = words.split_once("unix://")?;
    let path = rest.split(char::is_whitespace).next()?.trim_end_matches(['.', ',', ':', ';']);
    (!path.is_empty()).then(|| path.into())
}

/// Returns whether the effective set of a `/proc/<pid>/status` has CAP_NET_ADMIN (12) and CAP_SYS_ADMIN (21).
fn has_capabilities(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default();
    set >> 12 & 1 == 1 && set >> 21 & 1 == 1
}

fn find_reclaimable(cache: &Utf8Path) -> Vec<String> {
    let entries = cache.read_dir_utf8().into_iter().flatten().flatten();
    let mut sized: Vec<(u64, String)> =
        entries.filter(|e| e.path().is_dir()).map(|e| (disk_usage(e.path()), e.path().to_string())).collect();
    sized.sort();
    sized
        .into_iter()
        .rev()
        .filter(|(size, _)| *size > 50_000_000)
        .map(|(size, path)| format!("{path} ({})", bytes(size)))
        .collect()
}

fn disk_usage(path: &Utf8Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = walkdir::WalkDir::new(path).same_file_system(true).into_iter().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|m| m.blocks() * 512).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_a_container_without_privileges() {
        assert!(has_capabilities("Name:\tx\nCapEff:\t000001fffeffffff\n"));
        assert!(!has_capabilities("Name:\tx\nCapEff:\t00000000a80425fb\n"));
        assert!(!has_capabilities(""));
    }

    #[test]
    fn finds_the_socket_in_messages_of_the_client() {
        let table = [
            (
                "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
                Some("/var/run/docker.sock"),
            ),
            (
                "failed to connect to the docker API at unix:///var/run/docker.sock; check if the path is correct",
                Some("/var/run/docker.sock"),
            ),
            ("Cannot connect to the Docker daemon at tcp://10.0.0.1:2375. Is the docker daemon running?", None),
            ("request returned Bad Gateway", None),
        ];
        table.iter().for_each(|(words, socket)| assert_eq!(socket_in(words).as_deref().map(Utf8Path::as_str), *socket));
    }
}
