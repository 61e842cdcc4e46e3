//! Engine, origin and tools, put together once a run.

use anyhow::Result;

use crate::failure::{Class, Failure};
use crate::origin::{self, Need, Origin, Tool};
use crate::plan::{self, Mode};
use crate::process::Process;
use crate::project::Project;
use crate::stages::machine;
use crate::toolbox::Toolbox;

/// What later stages work with.
pub struct World {
    /// Where artifacts come from.
    pub origin: Box<dyn Origin>,
    /// The tools, aimed at the profile.
    pub tools: Toolbox,
}

impl World {
    /// Brings engine and tools for `needs`: the stages machine and tools.
    pub fn bring(project: &Project, mode: Mode, needs: &[Need]) -> Result<Self> {
        let observed = machine::observe(project)?;
        let plan = machine::decide(project, &observed)?;
        let origin = origin::select(project, &plan.engine)?;
        if mode == Mode::Apply && !plan.consent.is_empty() {
            // Said before anything begins: not only the engine, but also what follows from there being none yet.
            let later = origin.plan(needs, &plan.engine)?;
            let later = later.iter().map(|step| format!("{}: {}", step.what, step.why));
            let lines: Vec<String> = plan.consent.iter().cloned().chain(later).collect();
            machine::consent(project, &lines)?;
            project.report.note(format!("logs: {}/logs", project.target()));
        }
        if mode == Mode::Apply {
            origin::remember(project, origin.as_ref())?;
        }
        plan::apply(project, "machine", mode, plan.steps)?;
        let steps = origin.plan(needs, &plan.engine)?;
        plan::apply(project, "tools", mode, steps)?;
        let tools = Toolbox::new(project, plan.engine, origin.as_ref());
        Ok(Self { origin, tools })
    }

    /// What is there already, for commands that only look: an error that says how to get the rest.
    pub fn present(project: &Project) -> Result<Self> {
        let observed = machine::observe(project)?;
        let engine = observed.engine(project).ok_or_else(|| {
            Failure::new(Class::Machine, "no Docker Engine answers, so there is no cluster to ask")
                .help("cargo xtask deploy dev")
        })?;
        let origin = origin::present(project, &engine)?;
        let tools = Toolbox::new(project, engine, origin.as_ref());
        if !tools.minikube_exists() {
            return Err(Failure::new(Class::Machine, "the tools have not been brought yet")
                .help("cargo xtask deploy dev")
                .into());
        }
        Ok(Self { origin, tools })
    }
}

/// The secret scanner, brought if need be.
pub fn gitleaks(project: &Project) -> Result<Process> {
    let world = World::bring(project, Mode::Apply, &[Need::Tool(Tool::Gitleaks)])?;
    Ok(Process::new(world.origin.tool(Tool::Gitleaks).as_str()))
}
