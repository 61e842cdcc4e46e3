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

use std::time::Duration;

use camino::Utf8PathBuf;

use crate::process::Process;
use place::Place;

/// How to reach an engine.
#[derive(Clone, Debug)]
pub struct Engine {
    /// The client.
    pub client: Utf8PathBuf,
    /// DOCKER_HOST, DOCKER_CONFIG and PATH for the private engine; empty for the user's own.
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
        // What a user set for their own engine must not lead the client elsewhere; empty counts as unset.
        let cleared =
            ["DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_API_VERSION", "BUILDX_BUILDER"];
        let envs = set.into_iter().chain(cleared.map(|name| (name, String::new())));
        Self { client: place.client(), envs: envs.map(|(n, v)| (n.to_owned(), v)).collect(), private: true }
    }

    /// A `docker` command aimed at this engine.
    pub fn docker(&self) -> Process {
        self.aim(Process::new(self.client.as_str()))
    }

    /// Aims a program that itself talks to the engine (minikube).
    pub fn aim(&self, process: Process) -> Process {
        self.envs.iter().fold(process, |process, (name, value)| process.env(name, value))
    }

    /// Whether it answers.
    pub fn answers(&self) -> bool {
        self.docker().args(["version", "--format", "{{.Server.Version}}"]).deadline(Duration::from_secs(10)).succeeds()
    }

    /// The image ID (config digest) under `reference`, if the engine has it.
    pub fn image_id(&self, reference: &str) -> Option<String> {
        let id = self.docker().args(["image", "inspect", "--format", "{{.Id}}", reference]).read().ok()?;
        Some(id.trim().to_owned())
    }
}
