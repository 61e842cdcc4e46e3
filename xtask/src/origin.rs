//! Where artifacts come from. Nothing outside this module asks which origin it is.

pub mod download;
pub mod release;

use anyhow::Result;
use camino::Utf8PathBuf;
use clap::ValueEnum;

use crate::engine::Engine;
use crate::plan::Step;

/// The two origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Official downloads by checksum and official images.
    Release,
    /// Made from package registries (Go modules, Debian, npm, PyPI).
    Packages,
}

/// The pinned tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub enum Tool {
    /// Kubernetes' command line.
    Kubectl,
    /// Helm 4.
    Helm,
    /// minikube.
    Minikube,
    /// The secret scanner of `scan`.
    Gitleaks,
    /// helm-unittest's standalone runner.
    HelmUnittest,
}

/// What a stage needs an origin to bring.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A tool in the cache.
    Tool(Tool),
    /// The node image and Kubernetes' own images and binaries, where minikube will look for them.
    Cluster,
    /// An image that the engine can build on or load, by its official name.
    Image(String),
}

/// Where tools and images come from.
pub trait Origin: Send + Sync {
    /// A name for messages.
    fn name(&self) -> &'static str;

    /// The steps that bring what is missing of `needs`, in order; none if all is there. Read-only itself.
    fn plan(&self, needs: &[Need], engine: &Engine) -> Result<Vec<Step<'_>>>;

    /// Where the pinned tool lies once it has been brought.
    fn tool(&self, tool: Tool) -> Utf8PathBuf;

    /// The engine's reference for an official image name, e.g. `python:3.13-slim-trixie`.
    fn image(&self, official: &str) -> String;

    /// Additional `minikube start` flags, e.g. `--base-image`.
    fn minikube_flags(&self) -> Vec<String>;
}
