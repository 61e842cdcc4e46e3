//! `cargo xtask start`: starts a stopped cluster and proves the application in it; builds and releases nothing.

use std::time::Instant;

use anyhow::Result;

use crate::failure::{Class, Failure};
use crate::origin::{Requirement, Tool};
use crate::plan::{self, Mode};
use crate::project::Project;
use crate::report::seconds;
use crate::stages::cluster::{self, ApiServer, Profile, ProfileState, StartFacts};
use crate::stages::machine;
use crate::stages::proof::{self, Access, LiveState};
use crate::stages::{release, upgrade};
use crate::toolbox::Toolbox;

/// Requests to each route in the final proof.
const REQUESTS: usize = 5;

/// Starts the cluster and proves the application. A running cluster is only proven.
pub fn run(project: &Project) -> Result<()> {
    let begun = Instant::now();
    cluster::guard(&project.cache, &project.settings.cluster.profile)?;
    let _lock = project.lock()?;
    upgrade::refuse_unfinished(&project.cache, &project.settings.cluster.profile)?;
    // Without a cluster, the command must not install tools or create an engine.
    if !cluster::exists_anywhere(&project.cache, &project.settings.cluster.profile)?
        && machine::observe(&project.cache, &project.root)?.engine()?.is_none()
    {
        return Err(no_cluster(&project.settings.cluster.profile).into());
    }
    let toolchain = project.bring_tools(Mode::Apply, &[Requirement::Tool(Tool::Minikube)])?;
    let (tools, report) = (&toolchain.tools, &project.report);
    let profile = cluster::observe(tools)?;
    let silent = match profile.state {
        ProfileState::Absent => return Err(no_cluster(&project.settings.cluster.profile).into()),
        ProfileState::Running => wait_for_answer(tools, &profile)?,
        _ => None,
    };
    let origin = toolchain.origin.as_ref();
    let facts = StartFacts::observe(&project.settings.cluster, tools, origin, &profile, silent.as_deref())?;
    let steps = cluster::decide(&project.settings.cluster, tools, origin, &profile, facts, &[])?;
    let started = plan::apply(&project.report, "cluster", Mode::Apply, steps)?.any();
    // Port and certificates change when the node starts.
    let profile = cluster::observe(tools)?;
    if let Some(words) = wait_for_answer(tools, &profile)? {
        let what = format!("cannot query the cluster: {words}");
        return Err(Failure::new(Class::Cluster, what).help("see why: cargo xtask status").into());
    }
    let word = if started { "runs again" } else { "runs already" };
    let name = &tools.profile;
    let release = release::observe(tools)?;
    if release.is_terminating {
        return Err(release.refusal(tools).into());
    }
    let Some(record) = release.record else {
        report.ok(format!("the cluster `{name}` {word}; no application in it was ever verified"));
        report.note("deploy it: cargo xtask deploy dev");
        return Ok(());
    };
    let redactor = release::redactor_of_secrets(tools)?;
    report.hide(&redactor);
    plan::apply(&project.report, "release", Mode::Apply, vec![release::wait_step(tools, redactor)])?;
    let access = Access::open(tools, &profile)?;
    let prove = || {
        let evidence = LiveState::take(&project.settings, tools, None, &access.address, REQUESTS)?;
        proof::prove(&project.settings, tools, &record.images, &access.address, evidence)
    };
    let proof = report.look("proof", "images and routes", prove)?;
    let (place, notes) = access.describe(access.front(&proof.snapshot), "");
    let place = if place.is_empty() { place } else { format!(" at {place}") };
    report.ok(format!("the cluster `{name}` {word}; the application answers{place}, {}", seconds(begun.elapsed())));
    notes.into_iter().for_each(|note| report.warn(note));
    Ok(())
}

/// Waits for the API server. Returns why it does not respond, or `None` if it is ready.
fn wait_for_answer(tools: &Toolbox, profile: &Profile) -> Result<Option<String>> {
    Ok(match cluster::wait_for_api_server(tools, profile)? {
        ApiServer::Ready => None,
        ApiServer::Starting(words) | ApiServer::Away(words) => Some(words),
    })
}

fn no_cluster(profile: &str) -> Failure {
    let what = format!("there is no minikube profile `{profile}` to start");
    Failure::new(Class::Cluster, what).help("make it: cargo xtask deploy dev")
}
