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
use super::{NodeContent, Origin, Refresh, Requirement, Tool};
use crate::disk::Disk;
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::files;
use crate::plan::Step;
use crate::project::Project;
use crate::report::bytes;
use make::{JobSteps, Maker};
use manifest::{Artifact, Manifest};

pub use manifest::{FILE, FOLDER};

/// Label with the key of an image.
const KEY_LABEL: &str = "todo-xtask.key";
/// The name of the node image's recipe.
const NODE: &str = "minikube-node";
/// Temporary disk space for compiling, in bytes, with a reserve. Measured: 3 GB of modules, 5 GB of compiled packages.
const GO_ROOM: u64 = 12_000_000_000;

/// The origin `packages`.
pub struct Packages {
    project: Project,
    manifest: Manifest,
    dir: Utf8PathBuf,
    bases: BaseRecords,
}

impl Packages {
    /// Returns the origin with the checkout's recipes.
    pub fn new(project: &Project) -> Result<Self> {
        let manifest = Manifest::read(&project.root)?;
        let bases = BaseRecords::new(&project.cache, "packages");
        Ok(Self { dir: project.cache.join("packages"), manifest, project: project.clone(), bases })
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

    /// Returns the missing `artifacts`. Checks programs by file, images by label.
    fn missing(&self, artifacts: &[Artifact], engine: &Engine) -> Result<BTreeSet<Artifact>> {
        let names: Vec<String> = artifacts.iter().flat_map(|artifact| self.manifest.names(artifact)).collect();
        let present = make::keys_of_images(engine, &names)?;
        let mut missing = BTreeSet::new();
        for artifact in artifacts {
            let there = match artifact {
                Artifact::Go(name) => files::exists(&self.program_dir(name)?.join(name))?,
                Artifact::Npm(_) => true,
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

    fn plan_beside<'a>(
        &'a self,
        requirements: &[Requirement],
        engine: &Engine,
        machine: Vec<Step<'a>>,
    ) -> Result<Vec<Step<'a>>> {
        let wanted = self.wanted(requirements)?;
        let missing = self.missing(&wanted, engine)?;
        let mut steps = JobSteps { machine, place: self.place(requirements)? };
        let make = self.make(&wanted, missing, &BTreeSet::new(), &mut steps, engine)?;
        // Compiled programs are placed first, so that minikube need not wait for the rest.
        Ok(steps.machine.into_iter().chain(steps.place).chain(make).collect())
    }

    fn is_there(&self, requirements: &[Requirement], engine: &Engine) -> Result<bool> {
        let (programs, images): (Vec<_>, Vec<_>) = self
            .manifest
            .closure(&self.wanted(requirements)?)
            .into_iter()
            .partition(|part| matches!(part, Artifact::Go(_)));
        // Checks programs first: while some are missing, it need not ask the engine.
        Ok(self.missing(&programs, engine)?.is_empty()
            && self.place(requirements)?.is_none()
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
        let steps =
            self.make(&wanted, outdated.clone(), &outdated, &mut JobSteps::default(), engine)?.into_iter().collect();
        Ok(Refresh { images: outdated.iter().flat_map(|artifact| self.manifest.names(artifact)).collect(), steps })
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

    /// Returns the step that places Kubernetes for minikube, if `requirements` include the cluster and it is missing.
    fn place(&self, requirements: &[Requirement]) -> Result<Option<Step<'_>>> {
        match requirements.contains(&Requirement::Cluster) {
            true => make::place_for_minikube(&self.project, &self.manifest, &self.dir),
            false => Ok(None),
        }
    }

    /// Returns the step that builds `missing` in the order of `wanted`, after their missing parts. Artifacts in `no_cache` reuse
    /// nothing. Takes the steps from `steps` that it runs itself.
    fn make<'a>(
        &'a self,
        wanted: &[Artifact],
        mut missing: BTreeSet<Artifact>,
        no_cache: &BTreeSet<Artifact>,
        steps: &mut JobSteps<'a>,
        engine: &Engine,
    ) -> Result<Option<Step<'a>>> {
        let parts: Vec<Artifact> = missing.iter().flat_map(|artifact| self.manifest.made_from(artifact)).collect();
        missing.extend(self.missing(&parts, engine)?);
        let npm = missing.iter().flat_map(|artifact| self.manifest.made_from(artifact));
        missing.extend(npm.filter(|part| matches!(part, Artifact::Npm(_))).collect::<Vec<_>>());
        let order: Vec<Artifact> = self.manifest.closure(wanted).into_iter().filter(|a| missing.contains(a)).collect();
        if order.is_empty() {
            return Ok(None);
        }
        let mut images = order.iter().flat_map(|artifact| self.manifest.names(artifact));
        // An unreadable record is reported before minutes of work.
        images.try_for_each(|name| self.bases.read(&name).map(drop))?;
        let seconds: u64 = order
            .iter()
            .filter_map(|a| if let Artifact::Go(name) = a { Some(self.manifest.go[name].seconds) } else { None })
            .sum();
        if seconds > 0 {
            self.check_room(&order)?;
        }
        let maker = Maker::new(&self.project, &self.manifest, &self.dir, &self.bases, engine).no_cache(no_cache);
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
        let is_kubernetes_made = order.contains(&Artifact::Go(make::KUBE.to_owned()));
        let place = if is_kubernetes_made { steps.place.take() } else { None };
        let mut commands = maker.commands(&order)?;
        commands.extend(place.iter().map(|place| place.command.clone()));
        let steps = JobSteps { machine: std::mem::take(&mut steps.machine), place };
        Ok(Some(Step::new(what, why, commands.join("\n"), move |running| maker.make(&order, steps, running))))
    }

    fn check_room(&self, artifacts: &[Artifact]) -> Result<()> {
        let programs = artifacts.iter().filter(|artifact| matches!(artifact, Artifact::Go(_)));
        let modules: Vec<Utf8PathBuf> = programs.filter_map(|artifact| self.manifest.folder(artifact)).collect();
        golang::present(modules.iter().map(Utf8PathBuf::as_path))?;
        let free = Disk::of(&self.project.cache).map_or(u64::MAX, |disk| disk.free);
        let used = make::folder_size(&self.dir.join("go-caches"));
        if free + used < GO_ROOM {
            return Err(Failure::new(
                Class::Machine,
                format!(
                    "compiling takes {} of disk for a while; {} are free at {}",
                    bytes(GO_ROOM),
                    bytes(free),
                    self.project.cache
                ),
            )
            .help("free some space, or move the cache: export TODO_XTASK_CACHE=/path/on/a/larger/disk")
            .into());
        }
        Ok(())
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
        let mut project =
            Project::open(None, crate::project::Options::default(), crate::report::Report::new(false)).unwrap();
        project.cache = folder.to_owned();
        let origin = Packages::new(&project).unwrap();
        for name in origin.manifest.go.keys() {
            let dir = origin.program_dir(name).unwrap();
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join(name), "program").unwrap();
        }
        let engine = Engine { empty: true, private: true, ..Engine::system() };
        let image = [Requirement::Image(project.settings.cluster.ingress_image.clone())];
        let requirements = [[Requirement::Cluster].as_slice(), &image].concat();
        let mut steps = origin.plan(&requirements, &engine).unwrap();
        assert_eq!(steps.len(), 2);
        assert!(steps[1].what.starts_with("make "), "{}", steps[1].what);
        let place = steps.swap_remove(0);
        assert!(!origin.is_there(&requirements, &engine).unwrap());
        crate::plan::apply(&project.report, "tools", crate::plan::Mode::Apply, vec![place]).unwrap();
        assert!(origin.place(&requirements).unwrap().is_none(), "it is placed before anything else is made");
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
