//! Engine, origin and tools of a run.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::origin::{self, Origin, Requirement, Tool};
use crate::plan::{self, Mode, Step};
use crate::process::Process;
use crate::project::Project;
use crate::stages::cluster;
use crate::stages::images::build;
use crate::stages::machine::{self, NodeMachine, NodeSize};
use crate::toolbox::Toolbox;

/// The name of the tools stage in reports.
pub const STAGE: &str = "tools";
/// The name of the machine stage in reports.
const MACHINE: &str = "machine";

/// The machine's observed state and the steps that later stages need; nothing has changed yet.
pub struct Preparation<'a> {
    project: &'a Project,
    requirements: &'a [Requirement],
    machine: machine::EnginePlan<'a>,
    origin: Box<dyn Origin>,
}

impl<'a> Preparation<'a> {
    /// Observes the machine and decides where artifacts come from; changes nothing.
    pub fn new(project: &'a Project, requirements: &'a [Requirement]) -> Result<Self> {
        let machine = machine::decide(project, &machine::observe(project)?)?;
        // A profile of the user's own keeps its size.
        if requirements.contains(&Requirement::Cluster)
            && machine.steps.is_empty()
            && !cluster::exists_anywhere(project)?
        {
            // Reported before the downloads: minikube would refuse only after them.
            let wanted = NodeSize::wanted(&project.settings.cluster);
            let size = NodeMachine::observe(&machine.engine)?.size(wanted)?;
            if size != wanted {
                project.report.note(format!(
                    "the Docker Engine's machine allows a node of {} processors and {} MiB instead of {} and {}",
                    size.cpus, size.memory_mib, wanted.cpus, wanted.memory_mib
                ));
            }
        }
        let origin = origin::select(project, &machine.engine)?;
        Ok(Self { project, requirements, machine, origin })
    }

    /// Asks for consent: for the private engine, and for the artifacts that a new engine needs.
    pub fn consent(&self) -> Result<()> {
        if self.machine.consent.is_empty() {
            return Ok(());
        }
        let later = self.origin.plan(self.requirements, &self.machine.engine)?;
        let later = later.iter().map(|step| format!("{}: {}", step.what, step.why));
        let lines: Vec<String> = self.machine.consent.iter().cloned().chain(later).collect();
        machine::consent(self.project, &lines)?;
        self.project.report.note(format!("logs: {}/logs", self.project.target()));
        Ok(())
    }

    /// Runs the stages machine and tools.
    pub fn bring(self, mode: Mode) -> Result<Toolchain> {
        let (project, requirements) = (self.project, self.requirements);
        let (toolchain, engine, machine) = self.bring_engine(mode)?;
        plan::apply(&project.report, STAGE, mode, toolchain.origin.plan_beside(requirements, &engine, machine)?)?;
        Ok(toolchain)
    }

    /// Runs the machine stage alone. If no engine was ever made, returns the steps that make it, with the engine as it is now
    /// (empty), for [`Origin::plan_beside`].
    pub fn bring_engine(mut self, mode: Mode) -> Result<(Toolchain, Engine, Vec<Step<'a>>)> {
        let project = self.project;
        if mode == Mode::Apply {
            origin::remember(&project.cache, self.origin.as_ref())?;
        }
        let engine_answers = mode == Mode::Apply || self.machine.steps.is_empty();
        let mut engine = self.machine.engine;
        let mut later = Vec::new();
        if let Some(last) = self.machine.steps.pop_if(|_| mode == Mode::Apply && engine.empty) {
            let used = engine.clone();
            let last = last.then(move || machine::remember_engine(&project.cache, &used));
            later = self.machine.steps.drain(..).chain([last]).map(|step| step.of(MACHINE)).collect();
        } else {
            plan::apply(&project.report, MACHINE, mode, self.machine.steps)?;
            if mode == Mode::Apply {
                machine::remember_engine(&project.cache, &engine)?;
            }
        }
        if !engine_answers && !engine.empty {
            let what = "the private Docker Engine is not running, so a dry run cannot list the later steps";
            return Err(Failure::new(Class::Machine, what).help("without --dry-run the same command starts it").into());
        }
        engine.empty = !engine_answers;
        let now = Engine { empty: engine.empty || !later.is_empty(), ..engine.clone() };
        let tools = Toolbox::new(project, engine, self.origin.as_ref())?;
        Ok((Toolchain { origin: self.origin, tools, engine_answers }, now, later))
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
}

impl Toolchain {
    /// Returns tools that only observe: one call has already asked the engine for the node and for all images that a
    /// deploy needs. If that call fails, each is asked for separately: docker looks among plugins last, and an engine
    /// may refuse that.
    pub fn tools_for_look(&self, project: &Project) -> Toolbox {
        let settings = &project.settings;
        let images = settings.bases().chain([&settings.database.image, &settings.cluster.ingress_image]);
        let names: BTreeSet<String> = [self.tools.profile.clone()]
            .into_iter()
            .chain(images.cloned().chain(self.origin.roots()).map(|image| self.origin.image(&image)))
            .chain(build::expected(project))
            .collect();
        let mut tools = self.tools.clone();
        if let Ok(engine) = tools.engine.asked_for(&names.into_iter().collect::<Vec<_>>()) {
            tools.engine = engine;
        }
        tools
    }

    /// Runs the stages machine and tools for `requirements`.
    pub fn bring(project: &Project, mode: Mode, requirements: &[Requirement]) -> Result<Self> {
        let preparation = Preparation::new(project, requirements)?;
        if mode == Mode::Apply {
            preparation.consent()?;
        }
        preparation.bring(mode)
    }

    /// Returns the installed tools, for commands that only observe. Fails with the command that installs them.
    pub fn present(project: &Project) -> Result<Self> {
        let observed = machine::observe(project)?;
        let engine = observed.engine(project)?.ok_or_else(|| {
            Failure::new(Class::Machine, "no Docker Engine runs, so there is no cluster to ask")
                .help("cargo xtask deploy dev")
        })?;
        Self::look(project, engine)?.ok_or_else(|| {
            Failure::new(Class::Machine, "the tools are not installed yet").help("cargo xtask deploy dev").into()
        })
    }

    /// Returns the installed tools with `engine`; `None`: they are not installed yet.
    pub fn look(project: &Project, engine: Engine) -> Result<Option<Self>> {
        let origin = origin::present(project, &engine)?;
        let tools = Toolbox::new(project, engine, origin.as_ref())?;
        Ok(tools.minikube_exists()?.then_some(Self { origin, tools, engine_answers: true }))
    }
}

/// Returns the secret scanner, and installs it if need be.
pub fn gitleaks(project: &Project) -> Result<Process> {
    let toolchain = Toolchain::bring(project, Mode::Apply, &[Requirement::Tool(Tool::Gitleaks)])?;
    Ok(Process::new(toolchain.origin.tool(Tool::Gitleaks).as_str()).class(Class::Check))
}
