//! Read-only probes of the machine, side by side.

use std::panic::resume_unwind;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};

use super::installed;
use super::memory::{self, Memory};
use crate::deadlines;
use crate::disk::Disk;
use crate::engine::paths::EnginePaths;
use crate::engine::ping::{self, Answer};
use crate::engine::{Engine, HIDDEN, start, tree};
use crate::failure::{Class, Failure};
use crate::files;
use crate::project::Project;
use crate::report::bytes;
use crate::units::quote;

/// What is there.
#[derive(Clone, Debug)]
pub struct ObservedMachine {
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
    /// What the user's own engine answers.
    pub system: Answer,
    /// Why an engine of the user's own seems to be installed, whether or not it runs; `None`: nothing tells of one.
    pub installed: Option<String>,
    /// What the private engine answers.
    pub private: Answer,
    /// Whether the private engine was started from the tree of today's recipe.
    pub current: bool,
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

impl ObservedMachine {
    /// The engine that answers; `None`: none runs. One that may run but does not answer is an error.
    pub fn engine(&self, project: &Project) -> Result<Option<Engine>> {
        match (&self.system, &self.private) {
            (Answer::Version(_), _) => Ok(Some(Engine::system())),
            (Answer::Unknown(words), _) => Err(silent(words).into()),
            (Answer::Absent(_), Answer::Version(_)) => Ok(Some(Engine::private(&EnginePaths::new(&project.cache)))),
            (Answer::Absent(_), Answer::Absent(_)) => Ok(None),
            (Answer::Absent(_), Answer::Unknown(words)) => {
                let paths = EnginePaths::new(&project.cache);
                Err(Failure::new(Class::Machine, format!("the private Docker Engine does not answer: {words}"))
                    .help(format!("see what it says: less {}", quote(paths.log())))
                    .help("a deploy waits for one that is starting: cargo xtask deploy dev")
                    .into())
            }
        }
    }
}

/// The error where the user's own engine is there but gives no answer: nobody may take it for absent.
pub fn silent(words: &str) -> Failure {
    let failure = Failure::new(Class::Machine, format!("your Docker Engine does not answer: {words}"));
    let failure = match words.contains("permission denied") {
        true => failure.help("sudo usermod -aG docker \"$USER\"   # then log in again"),
        false => failure.help("docker version   # must show a server; then run the same command again"),
    };
    failure.help(format!("or do without it, if it has no cluster of yours: export DOCKER_HOST={HIDDEN}"))
}

/// Looks at the machine; changes nothing.
pub fn observe(project: &Project) -> Result<ObservedMachine> {
    let paths = EnginePaths::new(&project.cache);
    let key = tree::recipe(&project.root)?.key();
    let disk = Disk::of(&project.cache);
    let short = disk.is_some_and(|disk| disk.free < super::decide::DISK_COLD);
    let (system, private, reclaimable) = std::thread::scope(|scope| {
        let system = scope.spawn(|| system(&project.cache));
        let private = scope.spawn(|| ping::ask(&paths.socket(), deadlines::ENGINE_ANSWER.time()));
        let reclaimable = scope.spawn(|| if short { reclaimable(&project.cache) } else { Vec::new() });
        // A panic goes on here: it is a defect, not an answer.
        (
            system.join().unwrap_or_else(|panic| resume_unwind(panic)),
            private.join().unwrap_or_else(|panic| resume_unwind(panic)),
            reclaimable.join().unwrap_or_else(|panic| resume_unwind(panic)),
        )
    });
    let made = files::exists(&paths.data())?;
    let current = start::running_key(&paths)?.as_deref() == Some(&key);
    Ok(ObservedMachine {
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        root: rustix::process::geteuid().is_root(),
        capable: std::fs::read_to_string("/proc/self/status").is_ok_and(|status| capable(&status)),
        apt: Utf8Path::new("/usr/bin/apt-get").exists(),
        system,
        installed: installed::find(&project.cache, made)?,
        private,
        current,
        tree: tree::ready(&paths, &key)?,
        made,
        key,
        disk,
        memory: memory::observe(),
        reclaimable,
    })
}

/// Asks the engine that the user's `docker` reaches: at its socket, where that is known, else through the client.
///
/// That nobody listens there counts only if the private engine served last: the `docker` on PATH may be a program that goes
/// elsewhere, and a private engine beside the one that it reaches would be a surprise.
fn system(cache: &Utf8Path) -> Answer {
    match installed::socket().map(|socket| ping::ask(&socket, deadlines::ENGINE_ANSWER.time())) {
        Some(Answer::Absent(words)) if installed::private_served(cache) => return Answer::Absent(words),
        Some(Answer::Version(version)) if installed::has_client() => return Answer::Version(version),
        // The client has better words for why there is no answer.
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
                false => Answer::Unknown(error.to_string()),
            };
        }
    };
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !version.is_empty() {
        return Answer::Version(version);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let words = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it prints no version").trim().to_owned();
    // The client says "cannot connect" of an engine that refuses as well: only the socket itself proves that there is none.
    match socket_in(&said).map(|socket| ping::ask(&socket, deadlines::ENGINE_ANSWER.time())) {
        Some(Answer::Absent(_)) => Answer::Absent(words),
        _ => Answer::Unknown(words),
    }
}

/// The socket that the client's words name, e.g. `Cannot connect to the Docker daemon at unix:///run/docker.sock. Is …`.
fn socket_in(words: &str) -> Option<Utf8PathBuf> {
    let (_, rest) = words.split_once("unix://")?;
    let path = rest.split(char::is_whitespace).next()?.trim_end_matches(['.', ',', ':', ';']);
    (!path.is_empty()).then(|| path.into())
}

/// CAP_NET_ADMIN (12) and CAP_SYS_ADMIN (21) in the effective set of a `/proc/<pid>/status`.
fn capable(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default();
    set >> 12 & 1 == 1 && set >> 21 & 1 == 1
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
    fn the_socket_is_found_in_what_clients_say() {
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
