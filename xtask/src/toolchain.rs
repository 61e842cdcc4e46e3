//! Engine, origin and tools of a run.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::checkout;
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::origin::{self, Origin, OriginSettings, Requirement};
use crate::plan::{self, Mode, Step};
use crate::settings::{ImageSettings, Settings};
use crate::stages::cluster;
use crate::stages::images::{ImageBuilder, build};
use crate::stages::machine::{self, NodeMachine, NodeSize};
use crate::toolbox::Toolbox;

/// The name of the tools stage in reports.
pub const STAGE: &str = "tools";
/// The name of the machine stage in reports.
const MACHINE: &str = "machine";

/// The machine's observed state and the steps that later stages need; nothing has changed yet.
pub struct Preparation<'a> {
    settings: &'a Settings,
    origins: OriginSettings,
    requirements: &'a [Requirement],
    machine: machine::EnginePlan,
    origin: Box<dyn Origin>,
}

impl<'a> Preparation<'a> {
    /// Observes the machine and decides where artifacts come from; changes nothing.
    pub fn new(settings: &'a Settings, origins: OriginSettings, requirements: &'a [Requirement]) -> Result<Self> {
        let wanted = NodeSize::wanted(&settings.cluster);
        let log = checkout::log(&checkout::target(&origins.root), "debian");
        let observed = machine::observe(&origins.cache, &origins.root)?;
        let machine = machine::decide(&observed, wanted, log, origins.ca_bundle.clone())?;
        // A profile of the user's own keeps its size.
        if requirements.contains(&Requirement::Cluster)
            && machine.steps.is_empty()
            && !cluster::exists_anywhere(&origins.cache, &settings.cluster.profile)?
        {
            // Reported before the downloads: minikube would refuse only after them.
            let size = NodeMachine::observe(&machine.engine)?.size(wanted)?;
            if size != wanted {
                origins.report.note(format!(
                    "the Docker Engine's machine allows a node of {} processors and {} MiB instead of {} and {}",
                    size.cpus, size.memory_mib, wanted.cpus, wanted.memory_mib
                ));
            }
        }
        let origin = origin::select(&origins, &machine.engine)?;
        Ok(Self { settings, origins, requirements, machine, origin })
    }

    /// Asks for consent, unless `yes`: for the private engine, and for the artifacts that a new engine needs.
    pub fn consent(&self, yes: bool) -> Result<()> {
        if self.machine.consent.is_empty() {
            return Ok(());
        }
        let later = self.origin.plan(self.requirements, &self.machine.engine)?;
        let later = later.iter().map(|step| format!("{}: {}", step.what, step.why));
        let lines: Vec<String> = self.machine.consent.iter().cloned().chain(later).collect();
        machine::consent(&self.origins.report, yes, &lines)?;
        self.origins.report.note(format!("logs: {}/logs", checkout::target(&self.origins.root)));
        Ok(())
    }

    /// Runs the stages machine and tools.
    pub fn bring(self, mode: Mode) -> Result<Toolchain> {
        let requirements = self.requirements;
        let (toolchain, engine, machine) = self.bring_engine(mode)?;
        let steps = toolchain.origin.observe(requirements, &engine)?.decide(machine)?;
        plan::apply(&toolchain.tools.report, STAGE, mode, steps)?;
        Ok(toolchain)
    }

    /// Runs the machine stage alone. If no engine was ever made, returns the steps that make it, with the engine as it is now
    /// (empty), for [`Origin::observe`].
    pub fn bring_engine(mut self, mode: Mode) -> Result<(Toolchain, Engine, Vec<Step<'static>>)> {
        let (cache, report) = (self.origins.cache.clone(), &self.origins.report);
        if mode == Mode::Apply {
            origin::remember(&cache, self.origin.as_ref())?;
        }
        let engine_answers = mode == Mode::Apply || self.machine.steps.is_empty();
        let mut engine = self.machine.engine;
        let mut later = Vec::new();
        if let Some(last) = self.machine.steps.pop_if(|_| mode == Mode::Apply && engine.empty) {
            let used = engine.clone();
            let last = last.then(move || machine::remember_engine(&cache, &used));
            later = self.machine.steps.drain(..).chain([last]).map(|step| step.of(MACHINE)).collect();
        } else {
            plan::apply(report, MACHINE, mode, self.machine.steps)?;
            if mode == Mode::Apply {
                machine::remember_engine(&cache, &engine)?;
            }
        }
        if !engine_answers && !engine.empty {
            let what = "the private Docker Engine is not running, so a dry run cannot list the later steps";
            return Err(Failure::new(Class::Machine, what).help("without --dry-run the same command starts it").into());
        }
        engine.empty = !engine_answers;
        let now = Engine { empty: engine.empty || !later.is_empty(), ..engine.clone() };
        let tools = Toolbox::new(self.settings, &self.origins, engine, self.origin.as_ref())?;
        Ok((Toolchain { origin: self.origin, tools, engine_answers, origins: self.origins }, now, later))
    }
}

/// Origin and tools, as later stages use them.
pub struct Toolchain {
    /// The origin of all artifacts.
    pub origin: Box<dyn Origin>,
    /// The tools for the profile.
    pub tools: Toolbox,
    /// Whether the engine answers. In a dry run it may not exist yet.
    pub engine_answers: bool,
    origins: OriginSettings,
}

impl Toolchain {
    /// Returns the builder of `images`.
    pub fn image_builder<'a>(&'a self, images: &'a BTreeMap<String, ImageSettings>) -> ImageBuilder<'a> {
        let OriginSettings { root, ca_bundle, stale, .. } = &self.origins;
        let (tools, origin) = (&self.tools, self.origin.as_ref());
        ImageBuilder { tools, origin, root, images, ca_bundle: ca_bundle.clone(), stale }
    }

    /// Returns tools that only observe: one call has already asked the engine for the node and for all images that a
    /// deploy needs. If that call fails, each is asked for separately: docker looks among plugins last, and an engine
    /// may refuse that.
    pub fn tools_for_look(&self, settings: &Settings) -> Toolbox {
        let images = settings.bases().chain([&settings.database.image, &settings.cluster.ingress_image]);
        let names: BTreeSet<String> = [self.tools.profile.clone()]
            .into_iter()
            .chain(images.cloned().chain(self.origin.roots()).map(|image| self.origin.image(&image)))
            .chain(build::expected(&settings.images, &self.tools.target))
            .collect();
        let mut tools = self.tools.clone();
        if let Ok(engine) = tools.engine.asked_for(&names.into_iter().collect::<Vec<_>>()) {
            tools.engine = engine;
        }
        tools
    }

    /// Returns the installed tools, for commands that only observe. Fails with the command that installs them.
    pub fn present(settings: &Settings, origins: OriginSettings) -> Result<Self> {
        let engine = machine::observe(&origins.cache, &origins.root)?.engine()?.ok_or_else(|| {
            Failure::new(Class::Machine, "no Docker Engine runs, so there is no cluster to ask")
                .help("cargo xtask deploy dev")
        })?;
        Self::look(settings, origins, engine)?.ok_or_else(|| {
            Failure::new(Class::Machine, "the tools are not installed yet").help("cargo xtask deploy dev").into()
        })
    }

    /// Returns the installed tools with `engine`; `None`: they are not installed yet.
    pub fn look(settings: &Settings, origins: OriginSettings, engine: Engine) -> Result<Option<Self>> {
        let origin = origin::present(&origins, &engine)?;
        let tools = Toolbox::new(settings, &origins, engine, origin.as_ref())?;
        Ok(tools.minikube_exists()?.then_some(Self { origin, tools, engine_answers: true, origins }))
    }
}
