//! `cargo xtask rollback [revision]`: rolls back to a revision that Helm keeps, watches the rollout and proves it.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use clap::Args;

use crate::clock;
use crate::failure::{Class, Failure};
use crate::plan::{self, Mode};
use crate::project::Project;
use crate::report::seconds;
use crate::snapshot::Snapshot;
use crate::stages::cluster;
use crate::stages::images::load::Wanted;
use crate::stages::images::{self, ids};
use crate::stages::proof::{self, Access, LiveState};
use crate::stages::release::{self, Run, Target, Verified};
use crate::toolbox::Toolbox;

/// Requests to each route in the final proof.
const REQUESTS: usize = 20;

/// Roll back to a revision that Helm keeps, and prove it
#[derive(Args, Debug)]
pub struct Rollback {
    /// Helm revision (default: the last verified one before the current one)
    pub revision: Option<u64>,
    /// Show the steps that would run, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the rollback.
pub fn run(project: &Project, args: &Rollback) -> Result<()> {
    let start = Instant::now();
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Apply };
    let _lock = match mode {
        Mode::Apply => Some(project.lock()?),
        Mode::DryRun => None,
    };
    let toolchain = project.present_tools()?;
    let tools = &toolchain.tools;
    let profile = cluster::observe(tools)?;
    if profile.state != cluster::ProfileState::Running {
        return Err(Failure::new(Class::Cluster, "the cluster does not run").help("cargo xtask deploy dev").into());
    }
    cluster::refuse_stale(tools, &profile)?;
    let observed = release::observe(tools)?;
    if observed.is_terminating {
        return Err(observed.refusal(tools).into());
    }
    let choice = release::choose(&observed, &project.settings.chart.release, args.revision, clock::now())?;
    let manifest = release::manifest(tools, choice.0)?;
    let target = release::decide_target(&observed, choice, &manifest)?;
    let redactor = release::redactor_of_secrets(tools)?;
    project.report.hide(&redactor);

    let wanted = wanted(tools, &target)?;
    let references: Vec<String> = wanted.iter().map(|image| image.reference.clone()).collect();
    let on_nodes = images::load::observe(&tools.nodes()?, &references)?;
    images::load(tools, &wanted, &on_nodes, mode)?;
    let run = release::Run::default();
    let steps = release::rollback(tools, &target, &observed, &run, redactor.clone());
    plan::apply(&project.report, "release", mode, steps)?;
    if mode == Mode::DryRun {
        project.report.answer("then: request every route, and record the revision as verified");
        return Ok(());
    }

    let ids = ids::of_loaded(tools, &wanted)?;
    let access = Access::open(tools, &profile)?;
    let take = || LiveState::take(&project.settings, tools, run.take_ready(), &access.address, REQUESTS);
    let evidence = take()?;
    let (nodes, snapshot) = (&evidence.nodes, &evidence.snapshot);
    let restarted = release::restart_outdated(tools, &ids, nodes, snapshot, &redactor, mode)?;
    let evidence = if restarted.any() { take()? } else { evidence };

    let prove = || proof::prove(&project.settings, tools, &ids, &access.address, evidence);
    let proof = project.report.look("proof", "images and routes", prove)?;
    let environment = observed.record.map(|record| record.environment).unwrap_or_default();
    record(tools, &run, &proof.snapshot, &target, ids, environment)?;
    let (place, notes) = access.describe(access.front(&proof.snapshot), "");
    let place = if place.is_empty() { place } else { format!(" at {place}") };
    project.report.ok(format!("revision {} serves{place} again, {}", target.revision, seconds(start.elapsed())));
    notes.into_iter().for_each(|note| project.report.warn(note));
    project
        .report
        .note("the next `cargo xtask deploy` applies the checkout again; `cargo xtask status` shows the difference");
    Ok(())
}

/// Returns the images of the target revision. IDs come from the engine, or else from the record of that revision: so a
/// rollback runs an image that was rebuilt under its content tag, and a renewed base image.
fn wanted(tools: &Toolbox, target: &Target) -> Result<Vec<Wanted>> {
    let in_engine = ids::of_all(tools, &target.images.iter().cloned().collect::<Vec<_>>())?;
    let verified = target.verified.as_ref();
    let of = |reference: &String| {
        let recorded = || verified.and_then(|verified| verified.images.get(reference));
        let id = in_engine.get(reference).or_else(recorded).cloned();
        if id.is_none() {
            let what = format!(
                "revision {} needs the image {reference}, which is not in the engine any more",
                target.revision
            );
            return Err(Failure::new(Class::Image, what)
                .help("check out the commit that the revision was built from, and: cargo xtask deploy dev")
                .into());
        }
        Ok(Wanted { reference: reference.clone(), id })
    };
    target.images.iter().map(of).collect()
}

/// Records the proven revision. The sources of a revision that was never verified are unknown: it gets an empty
/// fingerprint, so that the next deploy applies everything.
fn record(
    tools: &Toolbox,
    run: &Run,
    snapshot: &Snapshot,
    target: &Target,
    images: BTreeMap<String, String>,
    environment: String,
) -> Result<()> {
    let old = target.verified.clone();
    let verified = |revision, verified_at| match old {
        Some(old) => Verified { revision, verified_at, images, ..old },
        None => Verified {
            fingerprint: BTreeMap::new(),
            revision,
            images,
            secrets: target.secrets.iter().cloned().collect(),
            environment,
            verified_at,
        },
    };
    // The next deploy removes unused Secrets.
    release::record(tools, run, snapshot, verified).map(drop)
}
