//! `cargo xtask status`: shows cluster, release, pods, images, routes, Secrets and drift on one screen.

mod pending;
mod text;
mod view;
mod watch;

use std::panic::resume_unwind;

use anyhow::Result;
use clap::Args;

use super::output;
use crate::clock;
use crate::dotenv::DotenvSource;
use crate::failure::{Class, Failure};
use crate::project::Project;
use crate::report::Report;
use crate::settings::Settings;
use crate::stages::cluster::{self, ApiServer, Profile, ProfileState};
use crate::stages::proof::{self, Access, Front};
use crate::stages::release::{self, ObservedRelease};
use crate::stages::upgrade;
use crate::toolbox::Toolbox;
use crate::toolchain::Toolchain;
use view::{ClusterView, View};

/// Requests to each route for the screen. More than one, because the first answer may be slow.
const REQUESTS: usize = 3;
/// Requests to each route for `--verify`.
const PROOF_REQUESTS: usize = 5;

/// Show cluster, release, pods, images, routes, Secrets and drift
#[derive(Args, Debug, Default)]
pub struct Status {
    /// Compare images, routes and objects with the last verified deploy; fail if they differ
    #[arg(long)]
    pub verify: bool,
    /// Show the status again after each change, until Ctrl-C
    #[arg(long, conflicts_with = "verify")]
    pub watch: bool,
    /// Print one JSON document (with --watch: one line per change); its schema is in docs/schema
    #[arg(long)]
    pub json: bool,
}

/// Prints the status.
pub fn run(project: &Project, args: &Status) -> Result<()> {
    let toolchain = project.present_tools()?;
    if args.watch {
        return watch::run(&project.settings, &project.dotenv, &toolchain, args.json);
    }
    let (profile, observed, view) = collect(&project.settings, &project.dotenv, &toolchain, true)?;
    if args.json {
        add_to_document(&project.report, &view);
    } else {
        output::print(project.report.shown(&text::screen(&view, Some(clock::now()))).trim_end())?;
    }
    upgrade::refuse_unfinished(&project.cache, &project.settings.cluster.profile)?;
    check_application(&toolchain.tools, &observed, &view)?;
    if args.verify {
        verify(&project.settings, &toolchain.tools, &profile, &observed, &view)?;
    }
    Ok(())
}

/// Returns the screen without colours, and the same data as JSON.
pub fn plain(settings: &Settings, dotenv: &DotenvSource, toolchain: &Toolchain) -> Result<(String, String)> {
    let (.., view) = collect(settings, dotenv, toolchain, true)?;
    let text = anstream::adapter::strip_str(&text::screen(&view, Some(clock::now()))).to_string();
    Ok((text, serde_json::to_string_pretty(&view)?))
}

/// Observes everything that `status` shows. The changes of the next deploy are optional (`with_pending`): they require
/// reading the sources.
fn collect(
    settings: &Settings,
    dotenv: &DotenvSource,
    toolchain: &Toolchain,
    with_pending: bool,
) -> Result<(Profile, ObservedRelease, View)> {
    let tools = &toolchain.tools;
    let profile = cluster::observe(tools)?;
    let running = profile.state == ProfileState::Running;
    let cluster = ClusterView {
        profile: tools.profile.clone(),
        state: state_name(&profile.state).to_owned(),
        // Set below, once the address has answered.
        address: None,
        hint: None,
        open_with: None,
        silence: None,
        kubernetes: profile.kubernetes(tools)?.map(|version| version.to_string()),
        difference: cluster::difference(settings, &dotenv.root, tools, &profile)?,
    };
    if !running {
        return Ok((profile, ObservedRelease::default(), View { cluster, ..View::default() }));
    }
    let no_response = match cluster::api_server(tools, &profile)? {
        ApiServer::Ready => None,
        ApiServer::Starting(words) => Some(("starting", format!("its API server is starting: {words}"))),
        ApiServer::Away(words) => Some(("not answering", format!("its API server does not respond: {words}"))),
    };
    if let Some((state, words)) = no_response {
        let cluster = ClusterView { state: state.to_owned(), silence: Some(words), ..cluster };
        return Ok((profile, ObservedRelease::default(), View { cluster, ..View::default() }));
    }
    let mut observed = release::observe(tools)?;
    if let Some(snapshot) = &mut observed.snapshot {
        snapshot.add_cluster(tools)?;
    }
    let mut view = View::new(cluster, &observed);
    if let Some(snapshot) = &observed.snapshot {
        let routes = proof::routes(settings, snapshot);
        // Without access no route is shown. A watch does not warn: it would repeat the warning every second.
        let access = match Access::open(tools, &profile) {
            Ok(access) => Some(access),
            Err(error) => {
                if with_pending {
                    tools.report.warn_because("cannot request the routes", &error);
                }
                None
            }
        };
        view.cluster.open_with = access.as_ref().and_then(Access::open_with).map(str::to_owned);
        let answers;
        (answers, view.drift, view.pending) = std::thread::scope(|scope| {
            let answers = scope.spawn(|| {
                let measure = |access: &Access| proof::measure(&routes, &access.address, REQUESTS);
                access.as_ref().map(measure).unwrap_or_default()
            });
            let drift = scope.spawn(|| release::drift(tools, &observed));
            let pending = with_pending.then(|| pending::list(settings, dotenv, toolchain, &observed)).flatten();
            // Propagate a panic, which must not look like the absence of drift.
            let answers = answers.join().unwrap_or_else(|panic| resume_unwind(panic));
            let drift = drift.join().unwrap_or_else(|panic| resume_unwind(panic));
            (answers, drift, pending)
        });
        view.routes = output::routes(&answers).as_array().cloned().unwrap_or_default();
        if let Some(Front { address, hint }) = access
            .as_ref()
            .and_then(Access::user_address)
            .and_then(|address| Front::if_proven(address, snapshot, &answers))
        {
            (view.cluster.address, view.cluster.hint) = (Some(address), hint);
        }
    }
    Ok((profile, observed, view))
}

/// Adds the view to the JSON document.
fn add_to_document(report: &Report, view: &View) {
    let Ok(serde_json::Value::Object(parts)) = serde_json::to_value(view) else { return };
    parts.into_iter().for_each(|(name, part)| report.fact(&name, part));
}

/// Fails if the application is not deployed in a running cluster, and says what to do.
fn check_application(tools: &Toolbox, observed: &ObservedRelease, view: &View) -> Result<()> {
    if let Some(words) = &view.cluster.silence {
        let failure = Failure::new(Class::Cluster, format!("cannot query the cluster: {words}"));
        let failure = match view.cluster.state.as_str() {
            "starting" => failure.help("try again in a few seconds: cargo xtask status"),
            _ => failure.help("start it; the data stays: cargo xtask deploy dev"),
        };
        return Err(failure.into());
    }
    if view.cluster.state == state_name(&ProfileState::Stopped) {
        let what = format!("the cluster `{}` is stopped; its data is kept", tools.profile);
        return Err(Failure::new(Class::Cluster, what).help("cargo xtask start").into());
    }
    if view.cluster.state != "running" {
        return Err(Failure::new(Class::Cluster, "the cluster does not run").help("cargo xtask deploy dev").into());
    }
    if observed.is_terminating {
        return Err(observed.refusal(tools).into());
    }
    if view.workloads.is_empty() {
        return Err(Failure::new(Class::Rollout, "the application is not deployed")
            .help("cargo xtask deploy dev")
            .into());
    }
    Ok(())
}

fn verify(
    settings: &Settings,
    tools: &Toolbox,
    profile: &Profile,
    observed: &ObservedRelease,
    view: &View,
) -> Result<()> {
    let Some(record) = &observed.record else {
        return Err(Failure::new(Class::Proof, "nothing was verified yet, so there is nothing to compare with")
            .help("cargo xtask deploy dev")
            .into());
    };
    let newest = observed.helm.newest().map(|revision| revision.number);
    if newest != Some(record.revision) {
        let newest = newest.map_or("none".to_owned(), |number| number.to_string());
        let what = format!("Helm's newest revision is {newest}, but the verified one is {}", record.revision);
        return Err(Failure::new(Class::Proof, what).help("cargo xtask deploy dev").into());
    }
    let proof = || {
        let access = Access::open(tools, profile)?;
        let evidence = proof::LiveState::take(settings, tools, None, &access.address, PROOF_REQUESTS)?;
        proof::prove(settings, tools, &record.images, &access.address, evidence)
    };
    let proof = tools.report.look("proof", "images and routes", proof);
    if !view.drift.is_empty() {
        let what = format!("the live state differs from the verified one:\n  {}", view.drift.join("\n  "));
        let failure = Failure::new(Class::Proof, what).help("cargo xtask deploy dev");
        // Drift is often the cause of a failed proof, so report both.
        return Err(proof.err().into_iter().fold(failure, Failure::and).into());
    }
    proof?;
    tools.report.ok("verified: the pods run the built images, and every route answers");
    Ok(())
}

fn state_name(state: &ProfileState) -> &'static str {
    match state {
        ProfileState::Running => "running",
        ProfileState::Absent => "absent",
        ProfileState::Stopped => "stopped",
        ProfileState::Paused => "paused",
        ProfileState::HalfDeleted(_) => "half deleted",
        ProfileState::OtherDriver(_) => "of another driver",
        ProfileState::Foreign => "foreign",
    }
}
