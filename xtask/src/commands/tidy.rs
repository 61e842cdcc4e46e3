//! `cargo xtask tidy`: its arguments, and the start of `xtask-tidy`.

use anyhow::Result;
use clap::Args;

use crate::members;
use crate::project::Project;

/// Check documents, keys, generated files, pins, layers, sizes, phrases and licences
#[derive(Args, Clone, Debug)]
pub struct Tidy {
    /// Fix whitespace, formats and generated files
    #[arg(long)]
    pub fix: bool,
}

/// Replaces this process with the program that checks, which gets the same command line.
pub fn run(project: &Project) -> Result<()> {
    members::become_program(&members::build(&project.report, "xtask-tidy")?)
}
