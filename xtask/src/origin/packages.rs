//! The origin `packages` builds everything from Go modules, Debian and npm packages, by recipes in `infra/packages`.
//!
//! The cache stores programs under their key. Images have official names, in the private engine only, and their key as a
//! label. An artifact with the current key is not built again.

mod golang;
mod make;
mod manifest;
mod progress;
mod schedule;

use std::collections::BTreeSet;

use anyhow::Result;
use camino::Utf8PathBuf;

use super::bases::BaseRecords;
use super::{NodeContent, Observed, ObservedArtifacts, Origin, OriginSettings, Refresh, Requirement, Tool};
use crate::disk::Disk;
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::files;
use crate::plan::Step;
use crate::report::bytes;
use make::{JobSteps, Maker};
use manifest::{Artifact, Manifest};

pub use manifest::{FILE, FOLDER};

/// Label with the key of an image.
const KEY_LABEL: &str = "todo-xtask.key";
/// The file with the key of the program that was placed for minikube.
const PLACED: &str = ".key";
/// The name of the node image's recipe.
const NODE: &str = "minikube-node";
/// Disk space for a first run, in bytes, with a reserve. Measured: 7.7 GB at the peak, of which 4 GB are temporary.
const GO_ROOM: u64 = 9_000_000_000;

/// The origin `packages`.
pub struct Packages {
    settings: OriginSettings,
    manifest: Manifest,
    dir: Utf8PathBuf,
    bases: BaseRecords,
}

impl Packages {
    /// Returns the origin with the checkout's recipes.
    pub fn new(settings: &OriginSettings) -> Result<Self> {
        let manifest = Manifest::read(&settings.root)?;
        let bases = BaseRecords::new(&settings.cache, "packages");
        Ok(Self { dir: settings.cache.join("packages"), manifest, settings: settings.clone(), bases })
    }

    /// Returns the artifacts for `requirements`, in that order.
    fn wanted(&self, requirements: &[Requirement]) -> Result<Vec<Artifact>> {
        let mut wanted = Vec::new();
        for requirement in requirements {
            match requirement {
                Requirement::Tool(tool) => {
                    wanted.push(Artifact::Go(program(*tool).0.to_owned()));
                }
                Requirement::Cluster => {
                    let images = self.manifest.image.iter().filter(|(_, image)| image.cluster);
                    wanted.extend(images.map(|(name, _)| Artifact::Image(name.clone())));
                }
                Requirement::Image(official) => {
                    wanted.push(self.manifest.image_named(official).ok_or_else(|| {
                        let what = format!("no recipe in {} makes the image {official}", manifest::FOLDER);
                        Failure::new(Class::Config, what).help(format!("add one to {}/packages.toml", manifest::FOLDER))
                    })?);
                }
            }
        }
        Ok(wanted)
    }

    /// Returns the folder of a program, built or not.
    fn program_dir(&self, name: &str) -> Result<Utf8PathBuf> {
        Ok(self.dir.join("go").join(self.manifest.key(&Artifact::Go(name.to_owned()))?))
    }

    /// Returns an npm folder, filled or not.
    fn npm_dir(&self, name: &str) -> Result<Utf8PathBuf> {
        Ok(self.dir.join("npm").join(self.manifest.key(&Artifact::Npm(name.to_owned()))?))
    }

    /// Returns the missing `artifacts`. Checks programs and npm folders by file, images by label.
    fn missing(&self, artifacts: &[Artifact], engine: &Engine) -> Result<BTreeSet<Artifact>> {
        let names: Vec<String> = artifacts.iter().flat_map(|artifact| self.manifest.names(artifact)).collect();
        let present = make::keys_of_images(engine, &names)?;
        let mut missing = BTreeSet::new();
        for artifact in artifacts {
            let there = match artifact {
                Artifact::Go(name) => files::exists(&self.program_dir(name)?.join(name))?,
                Artifact::Npm(name) => files::exists(&self.npm_dir(name)?)?,
                Artifact::Debian | Artifact::Image(_) => {
                    let key = self.manifest.key(artifact)?;
                    self.manifest.names(artifact).iter().all(|name| present.get(name) == Some(&key))
                }
            };
            if !there {
                missing.insert(artifact.clone());
            }
        }
        Ok(missing)
    }
}

/// Returns the program of a tool, and the name of its executable.
fn program(tool: Tool) -> (&'static str, &'static str) {
    match tool {
        Tool::Kubectl => ("kube", "kubectl"),
        Tool::Helm => ("helm", "helm"),
        Tool::Minikube => ("minikube", "minikube"),
        Tool::Gitleaks => ("gitleaks", "gitleaks"),
        Tool::HelmUnittest => ("untt", "untt"),
        Tool::Actionlint => ("actionlint", "actionlint"),
    }
}

impl Origin for Packages {
    fn name(&self) -> &'static str {
        "packages"
    }

    fn observe(&self, requirements: &[Requirement], engine: &Engine) -> Result<Observed<'_>> {
        let wanted = self.wanted(requirements)?;
        let missing = self.missing(&wanted, engine)?;
        let observed = self.observe_parts(&wanted, missing, engine)?;
        Ok(Box::new(MissingArtifacts { place: self.unplaced(requirements)?, ..observed }))
    }

    fn is_there(&self, requirements: &[Requirement], engine: &Engine) -> Result<bool> {
        let (programs, images): (Vec<_>, Vec<_>) = self
            .manifest
            .closure(&self.wanted(requirements)?)
            .into_iter()
            // Only making an image needs its npm folder.
            .filter(|part| !matches!(part, Artifact::Npm(_)))
            .partition(|part| matches!(part, Artifact::Go(_)));
        // Checks programs first: while some are missing, it need not ask the engine.
        Ok(self.missing(&programs, engine)?.is_empty()
            && self.unplaced(requirements)?.is_none()
            && self.missing(&images, engine)?.is_empty())
    }

    fn tool(&self, tool: Tool) -> Utf8PathBuf {
        let (program, name) = program(tool);
        // Reading the manifest already reports an unreadable recipe.
        self.program_dir(program).unwrap_or_else(|_| self.dir.clone()).join(name)
    }

    fn image(&self, official: &str) -> String {
        official.to_owned()
    }

    fn roots(&self) -> Vec<String> {
        vec![self.manifest.debian.name.clone()]
    }

    fn base_records(&self) -> &BaseRecords {
        &self.bases
    }

    fn refresh(&self, images: &[String], engine: &Engine) -> Result<Refresh<'_>> {
        let named = self.wanted(&images.iter().cloned().map(Requirement::Image).collect::<Vec<_>>())?;
        let on_debian = self.manifest.image.iter().filter(|(_, image)| image.debian);
        let on_debian: Vec<Artifact> = on_debian.map(|(name, _)| Artifact::Image(name.clone())).collect();
        // Existing images of the cluster age too. Missing ones are built later, from current packages.
        let absent = self.missing(&on_debian, engine)?;
        let mut outdated: BTreeSet<Artifact> = on_debian.into_iter().filter(|image| !absent.contains(image)).collect();
        outdated.extend(named);
        outdated.insert(Artifact::Debian);
        let wanted: Vec<Artifact> = outdated.iter().cloned().collect();
        let images = outdated.iter().flat_map(|artifact| self.manifest.names(artifact)).collect();
        let observed = self.observe_parts(&wanted, outdated.clone(), engine)?;
        let steps = Box::new(MissingArtifacts { no_cache: outdated, ..observed }).decide(Vec::new())?;
        Ok(Refresh { images, steps })
    }

    fn node_content(&self) -> Option<NodeContent> {
        let cluster = self.manifest.image.iter().filter(|(name, image)| image.cluster && *name != NODE);
        Some(NodeContent {
            node: self.node_image(),
            images: cluster.flat_map(|(_, image)| image.names.clone()).collect(),
            program: make::KUBE_IN_IMAGE,
            names: make::KUBE_ON_NODE,
        })
    }

    fn minikube_flags(&self) -> Vec<String> {
        let node = format!("--base-image={}", self.node_image());
        let flags = ["--cni=bridge", "--extra-config=kubelet.resolv-conf=/etc/kubernetes/resolv.conf", &node];
        self.minikube_restart_flags().into_iter().chain(flags.map(str::to_owned)).collect()
    }

    fn minikube_restart_flags(&self) -> Vec<String> {
        // xtask fills the node's volume before minikube creates the node.
        ["--preload=false", "--cache-images=false"].map(str::to_owned).to_vec()
    }
}

impl Packages {
    /// Returns the name of the node image.
    fn node_image(&self) -> String {
        self.manifest.names(&Artifact::Image(NODE.to_owned())).into_iter().next().unwrap_or_default()
    }

    /// Returns the key of Kubernetes' program, if `requirements` include the cluster and minikube does not have that program.
    fn unplaced(&self, requirements: &[Requirement]) -> Result<Option<String>> {
        if !requirements.contains(&Requirement::Cluster) {
            return Ok(None);
        }
        let key = self.manifest.key(&Artifact::Go(make::KUBE.to_owned()))?;
        let is_placed = files::read(&self.place_folder().join(PLACED))?.is_some_and(|found| found == key);
        Ok((!is_placed).then_some(key))
    }

    /// Observes what making `missing` takes, in the order of `wanted`: also the parts that are missing.
    fn observe_parts(
        &self,
        wanted: &[Artifact],
        mut missing: BTreeSet<Artifact>,
        engine: &Engine,
    ) -> Result<MissingArtifacts<'_>> {
        let parts: Vec<Artifact> = missing.iter().flat_map(|artifact| self.manifest.made_from(artifact)).collect();
        missing.extend(self.missing(&parts, engine)?);
        let order: Vec<Artifact> = self.manifest.closure(wanted).into_iter().filter(|a| missing.contains(a)).collect();
        // An unreadable record is reported before minutes of work.
        let mut images = order.iter().flat_map(|artifact| self.manifest.names(artifact));
        images.try_for_each(|name| self.bases.read(&name).map(drop))?;
        let programs = order.iter().filter(|artifact| matches!(artifact, Artifact::Go(_)));
        let modules: Vec<Utf8PathBuf> = programs.filter_map(|artifact| self.manifest.folder(artifact)).collect();
        if !modules.is_empty() {
            golang::present(modules.iter().map(Utf8PathBuf::as_path))?;
        }
        let free = Disk::of(&self.settings.cache).map_or(u64::MAX, |disk| disk.free);
        let caches = if modules.is_empty() { 0 } else { make::folder_size(&self.dir.join("go-caches")) };
        let (engine, no_cache) = (engine.clone(), BTreeSet::new());
        Ok(MissingArtifacts { origin: self, engine, order, place: None, no_cache, free, caches })
    }
}

/// Artifacts that are missing or outdated, and what making them takes.
struct MissingArtifacts<'a> {
    origin: &'a Packages,
    engine: Engine,
    /// Each after its parts.
    order: Vec<Artifact>,
    /// The key of Kubernetes' program, if minikube does not have that program.
    place: Option<String>,
    /// Those that reuse nothing.
    no_cache: BTreeSet<Artifact>,
    /// Free disk space in bytes.
    free: u64,
    /// The size of Go's caches in bytes.
    caches: u64,
}

impl<'a> ObservedArtifacts<'a> for MissingArtifacts<'a> {
    fn decide(self: Box<Self>, machine: Vec<Step<'a>>) -> Result<Vec<Step<'a>>> {
        let Self { origin, engine, order, place, no_cache, free, caches } = *self;
        let manifest = &origin.manifest;
        let place = place.map(|key| origin.place(key));
        if order.is_empty() {
            return Ok(machine.into_iter().chain(place).collect());
        }
        let seconds: u64 = order
            .iter()
            .filter_map(|a| if let Artifact::Go(name) = a { Some(manifest.go[name].seconds) } else { None })
            .sum();
        if seconds > 0 && free.saturating_add(caches) < GO_ROOM {
            let (room, free) = (bytes(GO_ROOM), bytes(free));
            let what =
                format!("compiling takes {room} of disk for a while; {free} are free at {}", origin.settings.cache);
            return Err(Failure::new(Class::Machine, what)
                .help("free some space, or move the cache: export TODO_XTASK_CACHE=/path/on/a/larger/disk")
                .into());
        }
        let names: Vec<String> = order.iter().map(ToString::to_string).collect();
        let what = format!("make {} artifacts from packages", order.len());
        let reason = if no_cache.is_empty() { "not in the cache" } else { "with today's Debian packages" };
        let effort = match seconds {
            0 if !no_cache.is_empty() => String::new(),
            _ => format!(
                "; about {} min of compiling on 2 cores and {} of disk meanwhile",
                (seconds / 60).max(1),
                bytes(GO_ROOM)
            ),
        };
        let why = format!("{reason}: {}{effort}", names.join(", "));
        let maker = Maker::new(origin, &engine).no_cache(no_cache);
        let mut commands = maker.commands(&order)?;
        // Kubernetes is placed once it is compiled, or first if it is, so that minikube need not wait for the rest.
        let is_kubernetes_made = order.contains(&Artifact::Go(make::KUBE.to_owned()));
        let (place, first) = if is_kubernetes_made { (place, None) } else { (None, place) };
        commands.extend(place.iter().map(|place| place.command.clone()));
        let steps = JobSteps { machine, place };
        let make = Step::new(what, why, commands.join("\n"), move |running| maker.make(&order, steps, running));
        Ok(first.into_iter().chain([make]).collect())
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn the_cluster_does_not_wait_for_images_that_are_made_after_kubernetes() {
        let temp = tempfile::tempdir().unwrap();
        let folder = camino::Utf8Path::from_path(temp.path()).unwrap();
        let origin = Packages::new(&OriginSettings::of_cache(folder)).unwrap();
        for name in origin.manifest.go.keys() {
            let dir = origin.program_dir(name).unwrap();
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join(name), "program").unwrap();
        }
        let engine = Engine { empty: true, private: true, ..Engine::system() };
        let settings = crate::settings::Settings::read(&origin.settings.root).unwrap();
        let image = [Requirement::Image(settings.cluster.ingress_image)];
        let requirements = [[Requirement::Cluster].as_slice(), &image].concat();
        let observed = origin.observe(&requirements, &engine).unwrap();
        let mut steps = crate::pure::decide(|| observed.decide(Vec::new())).unwrap();
        assert_eq!(steps.len(), 2);
        assert!(steps[1].what.starts_with("make "), "{}", steps[1].what);
        let place = steps.swap_remove(0);
        assert!(!origin.is_there(&requirements, &engine).unwrap());
        crate::plan::apply(&origin.settings.report, "tools", crate::plan::Mode::Apply, vec![place]).unwrap();
        assert!(origin.unplaced(&requirements).unwrap().is_none(), "it is placed before anything else is made");
    }

    #[test]
    fn refuses_to_compile_with_too_little_disk() {
        let origin = Packages::new(&OriginSettings::of_cache("/cache".into())).unwrap();
        let decide = |free: u64, caches: u64| {
            let (engine, order) = (Engine::system(), vec![Artifact::Go("helm".to_owned())]);
            let observed = MissingArtifacts {
                origin: &origin,
                engine,
                order,
                place: None,
                no_cache: BTreeSet::new(),
                free,
                caches,
            };
            crate::pure::decide(|| Box::new(observed).decide(Vec::new())).map(|steps| steps.len())
        };
        let error = decide(5_000_000_000, 1_000_000_000).unwrap_err().to_string();
        assert!(error.contains("5.0 GB are free at /cache"), "{error}");
        // The caches of an earlier run are part of what compiling takes.
        assert_eq!(decide(5_000_000_000, 7_000_000_000).unwrap(), 1);
    }

    #[test]
    fn every_tool_has_a_recipe() {
        let root = camino::Utf8Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let manifest = Manifest::read(root).unwrap();
        for &tool in Tool::value_variants() {
            assert!(manifest.go.contains_key(program(tool).0));
        }
    }
}
