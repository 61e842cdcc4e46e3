//! `cargo xtask record`: starts `xtask-record`.

use anyhow::Result;

use crate::members;
use crate::project::Project;

/// Replaces this process with the program that records, which gets the same command line.
pub fn run(project: &Project) -> Result<()> {
    members::become_program(&members::build(&project.report, "xtask-record")?)
}
