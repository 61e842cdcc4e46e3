//! A Docker Engine that answers: the user's own, or the private one in the cache.

pub mod debian;
pub mod mounts;
pub mod network;
pub mod ping;
pub mod place;
pub mod reap;
pub mod start;
pub mod stop;
pub mod tree;

use std::collections::BTreeMap;

use camino::Utf8PathBuf;

use crate::clock;
use crate::process::{DOCKER, PROXY, Process};
use place::Place;

/// How to reach an engine.
#[derive(Clone, Debug)]
pub struct Engine {
    /// The client.
    pub client: Utf8PathBuf,
    /// DOCKER_HOST, DOCKER_CONFIG and PATH for the private engine; empty for the user's own, which their variables name.
    pub envs: Vec<(String, String)>,
    /// Whether it is the one that xtask made: only there may stand-ins carry official names.
    pub private: bool,
}

impl Engine {
    /// The user's own engine, as their `docker` reaches it.
    pub fn system() -> Self {
        Self { client: "docker".into(), envs: Vec::new(), private: false }
    }

    /// The private engine of the cache that `place` describes.
    pub fn private(place: &Place) -> Self {
        let path = std::env::var("PATH").unwrap_or_default();
        let set = [
            ("DOCKER_HOST", format!("unix://{}", place.socket())),
            ("DOCKER_CONFIG", place.config().to_string()),
            // minikube looks for `docker` there.
            ("PATH", format!("{}:{path}", place.bin())),
        ];
        Self { client: place.client(), envs: set.map(|(name, value)| (name.to_owned(), value)).into(), private: true }
    }

    /// A `docker` command aimed at this engine.
    pub fn docker(&self) -> Process {
        self.aim(Process::new(self.client.as_str()))
    }

    /// Aims a program that itself talks to the engine (minikube).
    pub fn aim(&self, process: Process) -> Process {
        let process = process.inherit(PROXY).inherit(if self.private { &[] } else { DOCKER });
        self.envs.iter().fold(process, |process, (name, value)| process.env(name, value))
    }

    /// The image ID (config digest) under `reference`, if the engine has it.
    pub fn image_id(&self, reference: &str) -> Option<String> {
        self.image_ids(&[reference.to_owned()]).remove(reference)
    }

    /// `name@sha256:…` under which a registry has the image that the engine calls `reference`, if it is from one.
    pub fn registry_digest(&self, reference: &str) -> Option<String> {
        let digests = self.docker().args(["image", "inspect", "--format", "{{join .RepoDigests \" \"}}", reference]);
        digests.read().ok()?.split_whitespace().find(|digest| digest.contains("@sha256:")).map(str::to_owned)
    }

    /// When `reference` was last given to an image in this engine, in seconds since 1970, if the engine knows.
    pub fn tagged_at(&self, reference: &str) -> Option<u64> {
        let format = "{{json .Metadata.LastTagTime}}";
        let time = self.docker().args(["image", "inspect", "--format", format, reference]).read().ok()?;
        clock::parse(time.trim().trim_matches('"'))
    }

    /// The image IDs of those of `references` (names with tags) that the engine has, by one call.
    pub fn image_ids(&self, references: &[String]) -> BTreeMap<String, String> {
        if references.is_empty() {
            return BTreeMap::new();
        }
        let format = "{{.Id}}{{range .RepoTags}} {{.}}{{end}}";
        let inspect = self.docker().args(["image", "inspect", "--format", format]).args(references.iter().cloned());
        // It fails if one of them is not there, after it has printed the others.
        let Ok(output) = inspect.output() else { return BTreeMap::new() };
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let pairs = lines.flat_map(|(id, tags)| tags.split(' ').map(move |tag| (tag.to_owned(), id.to_owned())));
        pairs.filter(|(tag, _)| references.contains(tag)).collect()
    }
}
