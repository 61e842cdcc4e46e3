//! A Docker Engine that answers: the user's own, or the private one in the cache.

use std::time::Duration;

use camino::Utf8PathBuf;

use crate::process::Process;

/// How to reach an engine.
#[derive(Clone, Debug)]
pub struct Engine {
    /// The client.
    pub client: Utf8PathBuf,
    /// DOCKER_HOST and DOCKER_CONFIG of the private engine; empty for the user's own.
    pub envs: Vec<(String, String)>,
    /// Whether it is the one that xtask made: only there may stand-ins carry official names.
    pub private: bool,
}

impl Engine {
    /// The user's own engine, as their `docker` reaches it.
    pub fn system() -> Self {
        Self { client: "docker".into(), envs: Vec::new(), private: false }
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
