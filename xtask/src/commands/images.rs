//! `cargo xtask images`: both images side by side, each built or unchanged, and why.

use anyhow::Result;
use clap::Args;

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
}

/// Builds what is not built; prints `<name>:<tag> <image ID>` for each on standard output.
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
    let seen = images::build::observe(project, engine, world.origin.as_ref())?;
    for image in images::build(project, engine, world.origin.as_ref(), &seen, mode)? {
        if let (Some(reference), Some(id)) = (image.reference(), &image.id) {
            anstream::println!("{reference} {id}");
        }
    }
    Ok(())
}
