//! `cargo xtask status`: one screen. And the five lines that `cargo xtask` alone prints.

use anyhow::Result;
use clap::Args;

use super::summary;
use crate::failure::{Class, Failure};
use crate::judge;
use crate::project::Project;
use crate::report::{BAD, BOLD, DIM, GOOD, WARN};
use crate::stages::release::{self, Observed};
use crate::stages::{cluster, machine, proof};
use crate::world::World;

/// Show cluster, release, pods, images, routes, Secrets and drift
#[derive(Args, Debug, Default)]
pub struct Status {
    /// Prove that what runs is what was built; the exit code says whether it is
    #[arg(long)]
    pub verify: bool,
}

/// Prints the status.
pub fn run(project: &Project, args: &Status) -> Result<()> {
    let world = World::present(project)?;
    let tools = &world.tools;
    let profile = cluster::observe(tools)?.profile;
    let row = |name: &str, text: String| anstream::println!("{BOLD}{name:<10}{BOLD:#} {text}");
    row("cluster", format!("minikube profile `{}`: {}", tools.profile, state(&profile.state)));
    if profile.state != cluster::State::Running {
        return Err(Failure::new(Class::Cluster, "the cluster does not run").help("cargo xtask deploy dev").into());
    }
    let observed = release::observe(project, tools)?;
    let Some(snapshot) = &observed.snapshot else {
        return Err(Failure::new(Class::Rollout, "the application is not deployed")
            .help("cargo xtask deploy dev")
            .into());
    };
    row("release", release_line(&observed));
    for p in judge::progress(snapshot) {
        let colour = if p.complete { GOOD } else { WARN };
        row("pods", format!("{:<16} {colour}{}/{} ready{colour:#}", p.name, p.ready, p.wanted));
    }
    for finding in judge::findings(snapshot) {
        row("", format!("{BAD}{}{BAD:#}: {}", finding.subject, finding.cause));
    }
    let record = observed.record.as_ref();
    for (reference, id) in record.iter().flat_map(|record| &record.images) {
        row("image", format!("{reference}  {DIM}{}{DIM:#}", id.get(..19).unwrap_or(id)));
    }
    for name in &observed.secrets.ours {
        row("secret", name.clone());
    }
    let address = summary::address(&profile);
    let answers = proof::measure(&proof::routes(snapshot, &project.settings.chart.release), &address, 3);
    for answer in &answers {
        let verdict = answer.problem().map_or_else(
            || format!("{GOOD}{}{GOOD:#} {}", answer.status.unwrap_or_default(), answer.served_by),
            |problem| format!("{BAD}{problem}{BAD:#}"),
        );
        row("route", format!("{address}{:<16} {verdict}  {DIM}{} ms{DIM:#}", answer.route.path, answer.percentile(50)));
    }
    let drift = record.map(|record| record.drift(snapshot)).unwrap_or_default();
    for line in &drift {
        row("drift", format!("{WARN}{line}{WARN:#}"));
    }
    if args.verify {
        let images = record.map(|record| record.images.clone()).unwrap_or_default();
        proof::prove(project, tools, &images, &address, 5)?;
        if !drift.is_empty() {
            return Err(Failure::new(Class::Proof, "the cluster differs from what was verified")
                .help("cargo xtask deploy dev")
                .into());
        }
        project.report.ok("verified: what runs is what was built, and every route answers");
    }
    Ok(())
}

fn state(state: &cluster::State) -> String {
    match state {
        cluster::State::Running => format!("{GOOD}running{GOOD:#}"),
        cluster::State::Absent => "not there".to_owned(),
        cluster::State::Stopped => format!("{WARN}stopped{WARN:#}"),
        cluster::State::Paused => format!("{WARN}paused{WARN:#}"),
        cluster::State::HalfDeleted(how) => format!("{BAD}half deleted: {how}{BAD:#}"),
        cluster::State::OtherDriver(driver) => format!("{BAD}made with the driver {driver}, not docker{BAD:#}"),
        cluster::State::Foreign => format!("{BAD}a container that minikube did not make{BAD:#}"),
    }
}

fn release_line(observed: &Observed) -> String {
    let helm =
        observed.helm.newest().map_or("not installed".to_owned(), |r| format!("revision {} {}", r.number, r.status));
    let verified =
        observed.record.as_ref().map_or("never verified".to_owned(), |r| format!("verified: revision {}", r.revision));
    format!("{helm}, {verified}")
}

/// `cargo xtask` alone: the state in five lines and the next command.
pub fn overview(project: &Project) -> Result<()> {
    let row = |name: &str, text: &str| anstream::println!("{BOLD}{name:<8}{BOLD:#} {text}");
    let dotenv = if project.dotenv.is_file() { "present" } else { "absent; the first deploy makes it" };
    let observed = machine::observe(project)?;
    let Some(engine) = observed.engine(project) else {
        row("engine", "none answers");
        row("cluster", "unknown without an engine");
        row("release", "unknown without a cluster");
        row(".env", dotenv);
        row("next", "cargo xtask deploy dev");
        return Ok(());
    };
    row("engine", if engine.private { "private engine runs" } else { "Docker Engine answers" });
    let Ok(world) = World::present(project) else {
        row("cluster", "tools are not there yet");
        row("release", "unknown without a cluster");
        row(".env", dotenv);
        row("next", "cargo xtask deploy dev");
        return Ok(());
    };
    let profile = cluster::observe(&world.tools)?.profile;
    row("cluster", &format!("`{}` {}", world.tools.profile, state(&profile.state)));
    let mut next = "cargo xtask deploy dev";
    let mut line = "unknown without a cluster".to_owned();
    if profile.state == cluster::State::Running {
        let observed = release::observe(project, &world.tools)?;
        let ready = observed.snapshot.as_ref().is_some_and(|s| {
            let progress = judge::progress(s);
            !progress.is_empty() && progress.iter().all(|p| p.complete)
        });
        line = format!("{}, {}", release_line(&observed), if ready { "ready" } else { "not ready" });
        if ready && observed.record.is_some() {
            line.push_str(&format!(" at {}", summary::address(&profile)));
            next = "cargo xtask status";
        }
    }
    row("release", &line);
    row(".env", dotenv);
    row("next", next);
    Ok(())
}
