//! `cargo xtask images`: both images side by side, each built or unchanged, and why.

use anyhow::Result;
use clap::Args;

use super::output::{self, Output};
use crate::lock;
use crate::origin::Need;
use crate::plan::Mode;
use crate::project::Project;
use crate::stages::images;
use crate::world::World;

/// Arguments of `images`.
#[derive(Args, Debug)]
pub struct Images {
    /// Show what would be built, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub output: Output,
}

/// Builds what is not built; prints `<name>:<tag> <image ID>` for each on standard output, or the document of `--json`.
pub fn run(project: &Project, args: &Images) -> Result<()> {
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Apply };
    let _lock = match mode {
        Mode::Apply => Some(lock::take(&project.cache.join("locks"), &project.settings.cluster.profile)?),
        Mode::DryRun => None,
    };
    let mut bases: Vec<String> = project.settings.images.values().flat_map(|i| i.bases.values().cloned()).collect();
    bases.sort();
    bases.dedup();
    let needs: Vec<Need> = bases.into_iter().map(Need::Image).collect();
    let world = World::bring(project, mode, &needs)?;
    let engine = &world.tools.engine;
    let seen = project
        .report
        .look("images", "sources and engine", || images::build::observe(project, engine, world.origin.as_ref()))?;
    let built = images::build(project, engine, world.origin.as_ref(), &seen, mode)?;
    project.report.fact("images", output::images(&built));
    for image in built.iter().filter(|_| !args.output.json) {
        if let (Some(reference), Some(id)) = (image.reference(), &image.id) {
            anstream::println!("{reference} {id}");
        }
    }
    Ok(())
}
