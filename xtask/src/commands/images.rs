//! `cargo xtask images`: builds changed images in parallel, and shows why, and the age of the base images.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Args;

use super::output::{self, Output};
use crate::clock;
use crate::origin::Requirement;
use crate::origin::bases::{self, BaseImage, short};
use crate::plan::{self, Mode};
use crate::project::Project;
use crate::report::Report;
use crate::settings::Settings;
use crate::toolchain::Toolchain;

/// The arguments of `images`.
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

/// Builds the images that are not built yet. Prints `<name>:<tag> <image ID>` for each, unless `--json` is given.
pub fn run(project: &Project, args: &Images) -> Result<()> {
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Apply };
    let _lock = match mode {
        Mode::Apply => Some(project.lock()?),
        Mode::DryRun => None,
    };
    let mut needed: Vec<String> = project.settings.bases().cloned().collect();
    needed.sort();
    needed.dedup();
    // A refresh brings them anyway; bringing missing ones before it would be wasted work.
    let requirements = if args.refresh { Vec::new() } else { needed.into_iter().map(Requirement::Image).collect() };
    let toolchain = project.bring_tools(mode, &requirements)?;
    if args.refresh {
        refresh(&project.settings, &toolchain, mode)?;
    }
    // Read the records before the builds, so that an unreadable one fails early.
    let bases = base_images(&project.settings, &toolchain)?;
    let builder = toolchain.image_builder(&project.settings.images);
    let states = project.report.look("images", "sources and engine", || builder.observe())?;
    let built = builder.build(&states, &mut [], mode)?;
    project.report.fact("images", output::images(&built));
    show_bases(&project.report, &bases);
    for image in built.iter().filter(|_| !args.output.json) {
        if let (Some(reference), Some(id)) = (image.reference(), &image.id) {
            anstream::println!("{reference} {id}");
        }
    }
    Ok(())
}

/// Renews the base images that the engine has or the applications need. Reports the result for each.
fn refresh(settings: &Settings, toolchain: &Toolchain, mode: Mode) -> Result<()> {
    let (engine, origin) = (&toolchain.tools.engine, toolchain.origin.as_ref());
    let names = bases::names(settings, origin);
    let database = &settings.database.image;
    // The embedded database's image is not needed if `.env` names another database.
    let has_database = engine.image_id(&origin.image(database))?.is_some();
    let wanted = names.into_iter().filter(|name| name != database || has_database);
    let refresh = origin.refresh(&wanted.collect::<Vec<_>>(), engine)?;
    let references: Vec<String> = refresh.images.iter().map(|name| origin.image(name)).collect();
    let before = engine.image_ids(&references)?;
    plan::apply(&toolchain.tools.report, "tools", mode, refresh.steps)?;
    if mode == Mode::DryRun {
        return Ok(());
    }
    let after = engine.image_ids(&references)?;
    let mut reported = BTreeSet::new();
    for reference in &references {
        let (old, Some(new)) = (before.get(reference), after.get(reference)) else { continue };
        if !reported.insert(new) {
            continue;
        }
        toolchain.tools.report.ok(match old {
            Some(old) if old == new => format!("{reference} is unchanged: {}", short(new)),
            Some(old) => format!("{reference} renewed: {} -> {}", short(old), short(new)),
            None => format!("{reference} is new: {}", short(new)),
        });
        if let Some(old) = old.filter(|old| *old != new && engine.private) {
            // Docker keeps an image that a container uses. In the user's own engine, removing it is up to the user.
            let _ = engine.docker().args(["image", "rm", old]).output();
        }
    }
    Ok(())
}

/// Returns the base images in the engine.
fn base_images(settings: &Settings, toolchain: &Toolchain) -> Result<Vec<BaseImage>> {
    // A dry run does not start an engine.
    if !toolchain.engine_answers {
        return Ok(Vec::new());
    }
    let found = bases::observe(settings, &toolchain.tools.engine, toolchain.origin.as_ref())?;
    Ok(found.into_iter().filter(|base| base.id.is_some()).collect())
}

/// Reports the base images and their age.
fn show_bases(report: &Report, found: &[BaseImage]) {
    let now = clock::now();
    found.iter().for_each(|base| report.note(format!("base image {}", base.describe(now))));
    if found.iter().any(|base| base.is_stale(now)) {
        report
            .warn(format!("a base image is older than {} days; try: cargo xtask images --refresh", bases::STALE_DAYS));
    }
    report.fact("bases", found.iter().map(|base| base.to_json(now)).collect::<serde_json::Value>());
}
