//! End-to-end suites on a separate Minikube profile. The xtask under test deploys, changes, breaks, repairs and removes
//! a copy of the checkout. The suites share engine, tools and images with `deploy`.
//!
//! `cargo xtask test e2e` and the other suites build and run this program. It takes the same arguments as xtask.

mod application;
mod backup;
mod bench;
mod canaries;
mod causes;
mod cluster;
mod database;
mod dev;
mod drift;
mod edited;
mod guard;
mod interrupts;
mod lifecycle;
mod load;
mod marker;
mod neighbours;
mod pairs;
mod planted;
mod policies;
mod preflight;
mod premises;
mod refusals;
mod routes;
mod sampler;
mod scenarios;
mod soak;
mod test_cluster;
mod upgrade;
mod views;

use anyhow::{Result, bail};
use xtask::commands::bench::Subject;
use xtask::commands::output;
use xtask::commands::test::Suite;
use xtask::failure::{Class, Failure};
use xtask::lock;
use xtask::members::UNDER_TEST;
use xtask::process;
use xtask::project::Project;
use xtask::tally::Tally;

use scenarios::{STAGES, Scenario, select};
use test_cluster::TestCluster;

fn main() {
    xtask::program::main(|cli, report| {
        let xtask = std::env::var(UNDER_TEST).map_err(|_| usage_error())?;
        let project = cli.open(report)?;
        if let Some(Subject::Deploy(args)) = cli.bench().and_then(|bench| bench.subject.as_ref()) {
            return bench::run(&project, &xtask, args).map(|()| 0);
        }
        let args = cli.test().ok_or_else(usage_error)?;
        let tally = match args.suites[..] {
            [Suite::E2e] => run(&project, &xtask, args.only.as_deref())?,
            [Suite::Dev] => dev::run(&project, &xtask, args.only.as_deref())?,
            [Suite::Upgrade] => upgrade::run(&project, &xtask)?,
            [Suite::Policies] => {
                let _lock = lock_tests(&project)?;
                policies::run(&TestCluster::make(&project, &xtask, false)?)?
            }
            [Suite::Soak] => soak(&project, &xtask, args.rounds, args.only.as_deref())?,
            _ => return Err(usage_error()),
        };
        if process::ending() {
            // The tally is incomplete. The Ctrl-C handler ends the process.
            bail!("interrupted");
        }
        output::print(&tally.to_output())?;
        Ok(if tally.failed > 0 { Class::Check as i32 } else { 0 })
    })
}

fn usage_error() -> anyhow::Error {
    let what = format!(
        "xtask-e2e runs a suite (dev, e2e, upgrade, policies, soak) or `bench deploy` with the xtask that {UNDER_TEST} names"
    );
    Failure::new(Class::Internal, what).help("cargo xtask test e2e").into()
}

/// Runs `test soak` and keeps its cluster for the next run.
fn soak(project: &Project, xtask: &str, rounds: usize, only: Option<&str>) -> Result<Tally> {
    let _lock = lock_tests(project)?;
    soak::run(&TestCluster::make(project, xtask, false)?, rounds, only)
}

/// Locks the test profile, which all checkouts of this user share.
fn lock_tests(project: &Project) -> Result<lock::Lock> {
    lock::take(&project.cache.join("locks"), &format!("{}-tests", project.settings.cluster.profile))
}

/// Runs all scenarios, or those whose names contain `only`. The latter use the cluster of an earlier run; if none answers,
/// [`FIRST`] creates or starts it.
fn run(project: &Project, xtask: &str, only: Option<&str>) -> Result<Tally> {
    let mut lanes = STAGES.iter().flat_map(|stage| stage.lanes);
    if let Some(text) = only.filter(|_| lanes.all(|lane| select(lane, only, false).next().is_none())) {
        return Err(Failure::new(Class::Config, format!("no scenario's name contains `{text}`"))
            .help("xtask/e2e/src/scenarios.rs lists the names")
            .into());
    }
    let _lock = lock_tests(project)?;
    let test_cluster = TestCluster::make(project, xtask, only.is_none())?;
    let mut tally = Tally::default();
    let answers = || matches!(test_cluster.http("GET", "/api/v1/health", None, None), Ok((200, _)));
    let first = only.is_some() && !answers();
    for stage in &STAGES {
        let run_lane = |lane: &[Scenario]| {
            let mut tally = Tally::default();
            let mut scenarios = select(lane, only, first).peekable();
            while let Some((name, scenario)) = scenarios.next() {
                let keeps_load = stage.keeps_load && scenarios.peek().is_some();
                tally += Tally::of(&project.report, name, |_| {
                    let result = scenario(&test_cluster);
                    let load = if keeps_load { Ok(()) } else { test_cluster.load.end() };
                    result.and(load).map(|()| String::new())
                });
            }
            tally
        };
        std::thread::scope(|scope| {
            let lanes: Vec<_> = stage.lanes.iter().map(|lane| scope.spawn(|| run_lane(lane))).collect();
            for lane in lanes {
                tally += lane.join().unwrap_or_else(|_| Tally::failure("a scenario panicked"));
            }
        });
    }
    Ok(tally)
}
