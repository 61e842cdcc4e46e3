//! The toolchain of a command, from its project.

use anyhow::Result;

use crate::origin::{OriginSettings, Requirement};
use crate::plan::Mode;
use crate::project::Project;
use crate::toolchain::{Preparation, Toolchain};

/// Returns the settings of the project's origin.
pub fn origins(project: &Project) -> OriginSettings {
    OriginSettings {
        kind: project.options.origin,
        system_tools: project.options.system_tools,
        root: project.root.clone(),
        cache: project.cache.clone(),
        ca_bundle: project.ca_bundle(),
        kubernetes: project.settings.cluster.kubernetes.clone(),
        report: project.report.clone(),
        stale: project.stale.clone(),
    }
}

/// Runs the stages machine and tools for `requirements`.
pub fn bring(project: &Project, mode: Mode, requirements: &[Requirement]) -> Result<Toolchain> {
    let preparation = Preparation::new(&project.settings, origins(project), requirements)?;
    if mode == Mode::Apply {
        preparation.consent(project.options.yes)?;
    }
    preparation.bring(mode)
}

/// Returns the installed tools, as [`Toolchain::present`] does.
pub fn present(project: &Project) -> Result<Toolchain> {
    Toolchain::present(&project.settings, origins(project))
}
