//! `cargo xtask images`: both images side by side, each built or unchanged, and why; and the base images with their age.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Args;

use super::output::{self, Output};
use crate::clock;
use crate::origin::Requirement;
use crate::origin::bases::{self, BaseImage, short};
use crate::plan::{self, Mode};
use crate::project::Project;
use crate::stages::images;
use crate::toolchain::Toolchain;

/// Arguments of `images`.
#[derive(Args, Debug)]
pub struct Images {
    /// Show what would be built, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Renew the base images first: pull their tags again, or rebuild them from today's packages
    #[arg(long)]
    pub refresh: bool,
    #[command(flatten)]
    pub output: Output,
}

/// Builds what is not built; prints `<name>:<tag> <image ID>` for each on standard output, or the document of `--json`.
pub fn run(project: &Project, args: &Images) -> Result<()> {
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Apply };
    let _lock = match mode {
        Mode::Apply => Some(project.lock()?),
        Mode::DryRun => None,
    };
    let mut needed: Vec<String> = project.settings.bases().cloned().collect();
    needed.sort();
    needed.dedup();
    // A refresh brings them in any case: what is missing is not made twice.
    let requirements = if args.refresh { Vec::new() } else { needed.into_iter().map(Requirement::Image).collect() };
    let toolchain = Toolchain::bring(project, mode, &requirements)?;
    let engine = &toolchain.tools.engine;
    if args.refresh {
        refresh(project, &toolchain, mode)?;
    }
    // An unreadable record is told before anything is built.
    let bases = base_images(project, &toolchain)?;
    let seen = project
        .report
        .look("images", "sources and engine", || images::build::observe(project, engine, toolchain.origin.as_ref()))?;
    let built = images::build(project, engine, toolchain.origin.as_ref(), &seen, &mut [], mode)?;
    project.report.fact("images", output::images(&built));
    show_bases(project, &bases);
    for image in built.iter().filter(|_| !args.output.json) {
        if let (Some(reference), Some(id)) = (image.reference(), &image.id) {
            anstream::println!("{reference} {id}");
        }
    }
    Ok(())
}

/// Renews the base images that the engine has or the applications need, and says what became of each.
fn refresh(project: &Project, toolchain: &Toolchain, mode: Mode) -> Result<()> {
    let (engine, origin) = (&toolchain.tools.engine, toolchain.origin.as_ref());
    let names = bases::names(project, origin);
    let database = &project.settings.database.image;
    // Nobody needs an embedded database where `.env` names another one.
    let has_database = engine.image_id(&origin.image(database))?.is_some();
    let wanted = names.into_iter().filter(|name| name != database || has_database);
    let refresh = origin.refresh(&wanted.collect::<Vec<_>>(), engine)?;
    let references: Vec<String> = refresh.images.iter().map(|name| origin.image(name)).collect();
    let before = engine.image_ids(&references)?;
    plan::apply(project, "tools", mode, refresh.steps)?;
    if mode == Mode::DryRun {
        return Ok(());
    }
    let after = engine.image_ids(&references)?;
    let mut told = BTreeSet::new();
    for reference in &references {
        let (old, Some(new)) = (before.get(reference), after.get(reference)) else { continue };
        if !told.insert(new) {
            continue;
        }
        project.report.ok(match old {
            Some(old) if old == new => format!("{reference} is unchanged: {}", short(new)),
            Some(old) => format!("{reference} renewed: {} -> {}", short(old), short(new)),
            None => format!("{reference} is new: {}", short(new)),
        });
        if let Some(old) = old.filter(|old| *old != new && engine.private) {
            // Docker keeps it if a container still runs it. In an engine of the user's own, it is theirs to remove.
            let _ = engine.docker().args(["image", "rm", old]).output();
        }
    }
    Ok(())
}

/// The base images that the engine has.
fn base_images(project: &Project, toolchain: &Toolchain) -> Result<Vec<BaseImage>> {
    // In a dry run there may be no engine yet.
    if !toolchain.engine_answers {
        return Ok(Vec::new());
    }
    let found = bases::observe(project, &toolchain.tools.engine, toolchain.origin.as_ref())?;
    Ok(found.into_iter().filter(|base| base.id.is_some()).collect())
}

/// Says which base images were used and how old they are.
fn show_bases(project: &Project, found: &[BaseImage]) {
    let now = clock::now();
    found.iter().for_each(|base| project.report.note(format!("base image {}", base.describe(now))));
    if found.iter().any(|base| base.is_stale(now)) {
        project
            .report
            .warn(format!("a base image is older than {} days; try: cargo xtask images --refresh", bases::STALE_DAYS));
    }
    project.report.fact("bases", found.iter().map(|base| base.to_json(now)).collect::<serde_json::Value>());
}
