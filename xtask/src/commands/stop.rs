//! `cargo xtask stop`: stops the cluster's node to free its memory; all data stays.

use anyhow::Result;

use crate::origin::{self, Requirement, Tool};
use crate::plan::{self, Mode};
use crate::project::Project;
use crate::stages::cluster::{self, ProfileState};
use crate::stages::machine;
use crate::toolbox::Toolbox;

/// Stops the cluster. A stopped or absent cluster is no error.
pub fn run(project: &Project) -> Result<()> {
    cluster::guard(&project.cache, &project.settings.cluster.profile)?;
    let _lock = project.lock()?;
    let report = &project.report;
    let name = &project.settings.cluster.profile;
    let Some(engine) = machine::observe(&project.cache, &project.root)?.engine()? else {
        // The node is a container of the engine.
        report.ok(format!("no Docker Engine runs, so the cluster `{name}` does not run either"));
        return Ok(());
    };
    let origins = project.origins();
    let origin = origin::present(&origins, &engine)?;
    let tools = Toolbox::new(&project.settings, &origins, engine, origin.as_ref())?;
    let profile = cluster::observe(&tools)?;
    let steps = cluster::stop_steps(&tools, &profile)?;
    match profile.state {
        ProfileState::Absent => {
            report.ok(format!("no minikube profile `{name}`: nothing to stop"));
            return Ok(());
        }
        ProfileState::Stopped => report.ok(format!("the cluster `{name}` is stopped already")),
        _ => {
            if !tools.minikube_exists()? {
                plan::apply(
                    &project.report,
                    "tools",
                    Mode::Apply,
                    origin.plan(&[Requirement::Tool(Tool::Minikube)], &tools.engine)?,
                )?;
            }
            plan::apply(&project.report, "cluster", Mode::Apply, steps)?;
        }
    }
    report.note("todos, images and settings are kept; start the cluster again: cargo xtask start");
    if tools.engine.private {
        report.note("the private Docker Engine keeps running  (cargo xtask teardown --engine removes it)");
    }
    Ok(())
}
