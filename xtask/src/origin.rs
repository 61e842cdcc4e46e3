//! Where artifacts come from. Nothing outside this module asks which origin it is.

pub mod bases;
pub mod download;
pub mod packages;
pub mod release;
mod system;

use anyhow::{Context, Result};
use camino::Utf8PathBuf;
use clap::ValueEnum;

use crate::cache;
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::files;
use crate::plan::Step;
use crate::project::Project;
use crate::units::quote;
use bases::BaseRecords;

/// File in the cache that names the origin that it was begun with.
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
    /// As it is named on the command line and in the cache.
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
}

/// What a stage needs an origin to bring.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requirement {
    /// A tool in the cache.
    Tool(Tool),
    /// The node image and Kubernetes' own images and binaries, where minikube will look for them.
    Cluster,
    /// An image that the engine can build on or load, by its official name.
    Image(String),
}

/// What a node is to hold before minikube makes it, so that minikube need not copy it.
#[derive(Clone, Debug)]
pub struct NodeContent {
    /// The image that the node is made of.
    pub node: String,
    /// Official names of the images of Kubernetes' own pods.
    pub images: Vec<String>,
    /// Where one of them has the program that is all of Kubernetes.
    pub program: &'static str,
    /// The names by which minikube and the node call it.
    pub names: [&'static str; 3],
}

/// What renews base images.
pub struct Refresh<'a> {
    /// Names of the images that get new content.
    pub images: Vec<String>,
    /// The steps, in order.
    pub steps: Vec<Step<'a>>,
}

/// Where tools and images come from.
pub trait Origin: Send + Sync {
    /// A name for messages.
    fn name(&self) -> &'static str;

    /// The steps that bring what is missing of `requirements`, in order; none if all is there. Read-only itself.
    fn plan(&self, requirements: &[Requirement], engine: &Engine) -> Result<Vec<Step<'_>>>;

    /// The same for an engine that the steps `machine` are yet to make. What needs no engine may be brought beside them.
    fn plan_beside<'a>(
        &'a self,
        requirements: &[Requirement],
        engine: &Engine,
        machine: Vec<Step<'a>>,
    ) -> Result<Vec<Step<'a>>> {
        Ok(machine.into_iter().chain(self.plan(requirements, engine)?).collect())
    }

    /// Whether nothing is missing of `requirements`. Cheap enough to be asked every second.
    fn is_there(&self, requirements: &[Requirement], engine: &Engine) -> Result<bool>;

    /// Where the pinned tool lies once it has been brought.
    fn tool(&self, tool: Tool) -> Utf8PathBuf;

    /// The engine's reference for an official image name, e.g. `python:3.13-slim-trixie`.
    fn image(&self, official: &str) -> String;

    /// Official names of what base images are made from here, and nothing else needs: none where they are pulled.
    fn roots(&self) -> Vec<String> {
        Vec::new()
    }

    /// What is known of the base images that it has brought.
    fn base_records(&self) -> &BaseRecords;

    /// How to renew `images` although they are there. Read-only itself.
    fn refresh(&self, images: &[String], engine: &Engine) -> Result<Refresh<'_>>;

    /// What fills the volume of a new node; `None` where minikube does.
    fn node_content(&self) -> Option<NodeContent> {
        None
    }

    /// Additional `minikube start` flags for a new profile, e.g. `--base-image`.
    fn minikube_flags(&self) -> Vec<String>;

    /// Those for an existing profile: what minikube does not have on record.
    fn minikube_restart_flags(&self) -> Vec<String>;
}

/// The origin of this run: the one asked for, else the one that the cache was begun with, else what a probe finds. With an
/// engine of the user's own it is `release`.
pub fn select(project: &Project, engine: &Engine) -> Result<Box<dyn Origin>> {
    let kind = known(project)?.unwrap_or_else(|| {
        if !engine.private {
            // Stand-ins are made in the private engine only, so there is no choice that a slow network could take.
            return OriginKind::Release;
        }
        let kind =
            if release::reachable(project.ca_bundle().as_deref()) { OriginKind::Release } else { OriginKind::Packages };
        let why = match kind {
            OriginKind::Release => "release: the official downloads answer",
            OriginKind::Packages => {
                "packages: the official downloads do not answer: everything is made from package registries"
            }
        };
        project.report.note(format!("origin {why}"));
        kind
    });
    open(project, engine, kind)
}

/// The origin of what is there already: as [`select`], but without a probe. If the cache remembers none it holds
/// nothing, so either would do; with an engine of the user's own it can only be `release`.
pub fn present(project: &Project, engine: &Engine) -> Result<Box<dyn Origin>> {
    let kind = if engine.private { known(project)?.unwrap_or(OriginKind::Packages) } else { OriginKind::Release };
    open(project, engine, kind)
}

/// Remembers `origin` as the one that the cache was begun with.
pub fn remember(project: &Project, origin: &dyn Origin) -> Result<()> {
    let place = project.cache.join(REMEMBERED);
    if files::exists(&place)? {
        return Ok(());
    }
    cache::claim(&project.cache)?;
    std::fs::write(&place, origin.name()).with_context(|| format!("writing {place}"))
}

/// The origin asked for, else the one that the cache was begun with.
fn known(project: &Project) -> Result<Option<OriginKind>> {
    if project.options.origin.is_some() {
        return Ok(project.options.origin);
    }
    let place = project.cache.join(REMEMBERED);
    let Some(text) = files::read(&place)? else { return Ok(None) };
    OriginKind::from_str(text.trim(), false).map(Some).map_err(|_| {
        let what = format!("{place} does not name an origin: `{}`", text.trim());
        Failure::new(Class::Config, what)
            .help(format!("name it: echo release > {}   # or packages", quote(&place)))
            .into()
    })
}

fn open(project: &Project, engine: &Engine, kind: OriginKind) -> Result<Box<dyn Origin>> {
    let origin = of_kind(project, engine, kind)?;
    if project.options.system_tools {
        return Ok(Box::new(system::SystemTools::over(origin, project)));
    }
    Ok(origin)
}

fn of_kind(project: &Project, engine: &Engine, kind: OriginKind) -> Result<Box<dyn Origin>> {
    match kind {
        OriginKind::Release => Ok(Box::new(release::Release::new(project, engine.private)?)),
        OriginKind::Packages if engine.private => Ok(Box::new(packages::Packages::new(project)?)),
        OriginKind::Packages => Err(Failure::new(
            Class::Machine,
            "the packages origin tags stand-ins with official names, which it does only in an engine of its own",
        )
        .help("with your own engine, take the official images: --origin release")
        .help("or let xtask run its own: export DOCKER_HOST=unix:///nonexistent")
        .into()),
    }
}
