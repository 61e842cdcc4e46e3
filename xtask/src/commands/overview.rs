//! `cargo xtask` without a command: shows the state in five lines and the next command.

use anyhow::Result;

use crate::failure;
use crate::judge;
use crate::project::Project;
use crate::report::{BAD, BOLD, GOOD, WARN};
use crate::stages::cluster::ApiServer;
use crate::stages::proof::{self, Access, RouteAnswer};
use crate::stages::release::{self, ObservedRelease};
use crate::stages::upgrade::{self, Phase, UpgradeState};
use crate::stages::{cluster, machine};
use crate::toolchain::Toolchain;

/// Returns the state of the profile in coloured words.
fn describe_state(state: &cluster::ProfileState) -> String {
    match state {
        cluster::ProfileState::Running => format!("{GOOD}running{GOOD:#}"),
        cluster::ProfileState::Absent => "absent".to_owned(),
        cluster::ProfileState::Stopped => format!("{WARN}stopped{WARN:#}"),
        cluster::ProfileState::Paused => format!("{WARN}paused{WARN:#}"),
        cluster::ProfileState::HalfDeleted(how) => format!("{BAD}half deleted: {how}{BAD:#}"),
        cluster::ProfileState::OtherDriver(driver) => {
            format!("{BAD}created with the driver {driver}, not docker{BAD:#}")
        }
        cluster::ProfileState::Foreign => format!("{BAD}a container that minikube did not make{BAD:#}"),
    }
}

fn release_line(observed: &ObservedRelease) -> String {
    if observed.is_terminating {
        return "its namespace is being deleted".to_owned();
    }
    let helm =
        observed.helm.newest().map_or("not installed".to_owned(), |r| format!("revision {} {}", r.number, r.status));
    let verified =
        observed.record.as_ref().map_or("never verified".to_owned(), |r| format!("verified: revision {}", r.revision));
    format!("{helm}, {verified}")
}

/// Prints the state of engine, cluster, release and `.env`, and the next command.
pub fn run(project: &Project) -> Result<()> {
    let row = |name: &str, text: &str| anstream::println!("{BOLD}{name:<8}{BOLD:#} {}", project.report.shown(text));
    let dotenv = if project.dotenv.is_there()? { "present" } else { "absent; the first deploy creates it" };
    let observed = machine::observe(&project.cache, &project.root)?;
    let engine = match observed.engine() {
        Ok(engine) => engine,
        Err(error) => {
            row("engine", &format!("{BAD}unknown{BAD:#}: {}", failure::message(&error)));
            return Err(error);
        }
    };
    let Some(engine) = engine else {
        row("engine", "not running");
        row("cluster", "unknown without an engine");
        row("release", "unknown without a cluster");
        row(".env", dotenv);
        row("next", "cargo xtask deploy dev");
        return Ok(());
    };
    row("engine", if engine.private { "private engine runs" } else { "Docker Engine answers" });
    let Some(toolchain) = Toolchain::look(&project.settings, project.origins(), engine)? else {
        row("cluster", "unknown: the tools are not installed yet");
        row("release", "unknown without a cluster");
        row(".env", dotenv);
        row("next", "cargo xtask deploy dev");
        return Ok(());
    };
    let profile = cluster::observe(&toolchain.tools)?;
    row("cluster", &format!("`{}` {}", toolchain.tools.profile, describe_state(&profile.state)));
    if let Some(difference) = cluster::difference(&project.settings, &project.root, &toolchain.tools, &profile)? {
        row("", &difference);
    }
    let stopped = profile.state == cluster::ProfileState::Stopped;
    let mut next = if stopped { "cargo xtask start" } else { "cargo xtask deploy dev" };
    if UpgradeState::load(&upgrade::folder(&project.cache, &project.settings.cluster.profile)?)?
        .is_some_and(|state| state.phase != Phase::Release)
    {
        row("upgrade", "not finished: the todos are in a dump");
        next = "cargo xtask cluster upgrade";
    }
    let mut line = "unknown without a cluster".to_owned();
    let api_server = match profile.state {
        cluster::ProfileState::Running => Some(cluster::api_server(&toolchain.tools, &profile)?),
        _ => None,
    };
    if let Some(ApiServer::Starting(words) | ApiServer::Away(words)) = &api_server {
        line = format!("unknown: {words}");
    }
    if api_server == Some(ApiServer::Ready) {
        let observed = release::observe(&toolchain.tools)?;
        let ready = observed.snapshot.as_ref().is_some_and(|s| {
            let progress = judge::progress(s);
            !progress.is_empty() && progress.iter().all(|p| p.complete)
        });
        line = format!("{}, {}", release_line(&observed), if ready { "ready" } else { "not ready" });
        if ready && observed.record.is_some() {
            if let Some(snapshot) = observed.snapshot {
                let access = Access::open(&toolchain.tools, &profile).ok().filter(|access| {
                    let answers = proof::measure(&proof::routes(&project.settings, &snapshot), &access.address, 1);
                    !answers.is_empty() && answers.iter().all(RouteAnswer::is_good)
                });
                line += &access.map_or(", but its routes do not answer".to_owned(), |access| {
                    let at = access.front(&snapshot).map(|front| format!(" at {}", front.address));
                    let through = access.open_with().map(|command| format!(", through: {command}"));
                    at.unwrap_or_default() + &through.unwrap_or_default()
                });
            }
            next = "cargo xtask status";
        }
    }
    row("release", &line);
    row(".env", dotenv);
    row("next", next);
    Ok(())
}
