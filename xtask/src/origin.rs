//! The origins: where artifacts come from. Code outside this module does not depend on the kind of origin.

pub mod bases;
pub mod download;
pub mod packages;
pub mod release;
mod system;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;

use crate::cache;
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::files;
use crate::plan::Step;
use crate::report::Report;
use crate::units::quote;
use bases::BaseRecords;

/// File in the cache with the name of its origin.
pub const REMEMBERED: &str = "origin";

/// The two origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OriginKind {
    /// Official downloads by checksum and official images.
    Release,
    /// Made from package registries (Go modules, Debian, npm, PyPI).
    Packages,
}

impl OriginKind {
    /// Returns its name on the command line and in the cache.
    pub fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Packages => "packages",
        }
    }
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
    /// The checker of GitHub Actions workflows.
    Actionlint,
}

/// An artifact that a stage needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requirement {
    /// A tool in the cache.
    Tool(Tool),
    /// The node image and Kubernetes' own images and binaries, where minikube will look for them.
    Cluster,
    /// An image that the engine can build on or load, by its official name.
    Image(String),
}

/// The content that a node's volume gets before minikube makes the node, so that minikube need not copy it.
#[derive(Clone, Debug)]
pub struct NodeContent {
    /// The image that the node is made of.
    pub node: String,
    /// Official names of the images of Kubernetes' own pods.
    pub images: Vec<String>,
    /// The path of the program that is all of Kubernetes, in one of the images.
    pub program: &'static str,
    /// The names by which minikube and the node call it.
    pub names: [&'static str; 3],
}

/// The steps that renew base images.
pub struct Refresh<'a> {
    /// Names of the images that get new content.
    pub images: Vec<String>,
    /// The steps, in order.
    pub steps: Vec<Step<'a>>,
}

/// The settings of an origin.
#[derive(Clone)]
pub struct OriginSettings {
    /// The origin of `--origin`; `None`: that of the cache, else the result of a probe.
    pub kind: Option<OriginKind>,
    /// Whether supported tools on PATH come first.
    pub system_tools: bool,
    /// The checkout, which has manifests and recipes.
    pub root: Utf8PathBuf,
    /// The cache, which gets the artifacts.
    pub cache: Utf8PathBuf,
    /// A CA bundle that downloads and builds trust besides the system's.
    pub ca_bundle: Option<Utf8PathBuf>,
    /// The Kubernetes of a new cluster, with the `v`.
    pub kubernetes: String,
    /// The writer.
    pub report: Report,
    /// Ends downloads and builds when it is set.
    pub stale: Arc<AtomicBool>,
}

#[cfg(test)]
impl OriginSettings {
    /// Returns the settings of this checkout with the cache of a test.
    pub fn of_cache(cache: &Utf8Path) -> Self {
        Self {
            kind: None,
            system_tools: false,
            root: crate::checkout::find(None),
            cache: cache.to_owned(),
            ca_bundle: None,
            kubernetes: "v1.36.4".to_owned(),
            report: Report::new(false),
            stale: Arc::default(),
        }
    }
}

/// What an origin has found about some requirements.
pub trait ObservedArtifacts<'a> {
    /// Returns the steps that bring what is missing, in order. The steps `machine` make the engine, if it does not exist yet;
    /// what needs no engine may be brought beside them. Has no effects.
    fn decide(self: Box<Self>, machine: Vec<Step<'a>>) -> Result<Vec<Step<'a>>>;
}

/// The result of [`Origin::observe`].
pub type Observed<'a> = Box<dyn ObservedArtifacts<'a> + 'a>;

/// A source of tools and images.
pub trait Origin: Send + Sync {
    /// Returns the name for messages.
    fn name(&self) -> &'static str;

    /// Observes which `requirements` are missing in the cache and in `engine`.
    fn observe(&self, requirements: &[Requirement], engine: &Engine) -> Result<Observed<'_>>;

    /// Observes, and returns the steps that bring the missing `requirements` with an existing engine.
    fn plan(&self, requirements: &[Requirement], engine: &Engine) -> Result<Vec<Step<'_>>> {
        self.observe(requirements, engine)?.decide(Vec::new())
    }

    /// Returns whether all `requirements` are present. Cheap enough for a call each second.
    fn is_there(&self, requirements: &[Requirement], engine: &Engine) -> Result<bool>;

    /// Returns the path of the pinned tool, whether or not it is installed yet.
    fn tool(&self, tool: Tool) -> Utf8PathBuf;

    /// Returns the engine's reference for an official image name, e.g. `python:3.13-slim-trixie`.
    fn image(&self, official: &str) -> String;

    /// Returns official names of images that only serve to make base images; none if base images are pulled.
    fn roots(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns the records of the base images that it has brought.
    fn base_records(&self) -> &BaseRecords;

    /// Returns the steps that renew `images` although they are present. Read-only itself.
    fn refresh(&self, images: &[String], engine: &Engine) -> Result<Refresh<'_>>;

    /// Returns the content for the volume of a new node; `None` if minikube fills it.
    fn node_content(&self) -> Option<NodeContent> {
        None
    }

    /// Returns additional `minikube start` flags for a new profile, e.g. `--base-image`.
    fn minikube_flags(&self) -> Vec<String>;

    /// Returns the flags for an existing profile: those that minikube does not record.
    fn minikube_restart_flags(&self) -> Vec<String>;
}

/// Returns the origin of this run: that of `--origin`, else that of the cache, else the result of a probe. With the
/// user's own engine it is `release`.
pub fn select(settings: &OriginSettings, engine: &Engine) -> Result<Box<dyn Origin>> {
    let kind = known(settings)?.unwrap_or_else(|| {
        if !engine.private {
            // Our own images exist in the private engine only, so a slow network must not decide here.
            return OriginKind::Release;
        }
        let kind =
            if release::reachable(settings.ca_bundle.as_deref()) { OriginKind::Release } else { OriginKind::Packages };
        let why = match kind {
            OriginKind::Release => "release: the official downloads answer",
            OriginKind::Packages => {
                "packages: the official downloads do not answer: everything is made from package registries"
            }
        };
        settings.report.note(format!("origin {why}"));
        kind
    });
    open(settings, engine, kind)
}

/// Returns the origin of the present artifacts: as [`select`], but without a probe. A cache without a remembered origin
/// is empty, so either origin fits; with the user's own engine it is `release`.
pub fn present(settings: &OriginSettings, engine: &Engine) -> Result<Box<dyn Origin>> {
    let kind = if engine.private { known(settings)?.unwrap_or(OriginKind::Packages) } else { OriginKind::Release };
    open(settings, engine, kind)
}

/// Records `origin` as that of the cache.
pub fn remember(cache: &Utf8Path, origin: &dyn Origin) -> Result<()> {
    let place = cache.join(REMEMBERED);
    if files::exists(&place)? {
        return Ok(());
    }
    cache::claim(cache)?;
    std::fs::write(&place, origin.name()).with_context(|| format!("writing {place}"))
}

/// Returns the origin of `--origin`, else that of the cache.
fn known(settings: &OriginSettings) -> Result<Option<OriginKind>> {
    if settings.kind.is_some() {
        return Ok(settings.kind);
    }
    let place = settings.cache.join(REMEMBERED);
    let Some(text) = files::read(&place)? else { return Ok(None) };
    OriginKind::from_str(text.trim(), false).map(Some).map_err(|_| {
        let what = format!("{place} does not name an origin: `{}`", text.trim());
        Failure::new(Class::Config, what)
            .help(format!("name it: echo release > {}   # or packages", quote(&place)))
            .into()
    })
}

fn open(settings: &OriginSettings, engine: &Engine, kind: OriginKind) -> Result<Box<dyn Origin>> {
    let origin = of_kind(settings, engine, kind)?;
    if settings.system_tools {
        return Ok(Box::new(system::SystemTools::over(origin, &settings.kubernetes, &settings.report)));
    }
    Ok(origin)
}

fn of_kind(settings: &OriginSettings, engine: &Engine, kind: OriginKind) -> Result<Box<dyn Origin>> {
    match kind {
        OriginKind::Release => Ok(Box::new(release::ReleaseOrigin::new(settings, engine.private)?)),
        OriginKind::Packages if engine.private => Ok(Box::new(packages::Packages::new(settings)?)),
        OriginKind::Packages => Err(Failure::new(
            Class::Machine,
            "the packages origin gives its own images official names, so it works only with the private engine",
        )
        .help("with your own engine, take the official images: --origin release")
        .help("or let xtask run its own: export DOCKER_HOST=unix:///nonexistent")
        .into()),
    }
}
