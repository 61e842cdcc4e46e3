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
use xtask::members::UNDER_TEST;
use xtask::process;
use xtask::project::Project;
use xtask::tally::Tally;

use scenarios::{E2E, RECOVERY, Scenario, Stage, select};
use test_cluster::{Names, TestCluster};

fn main() {
    xtask::program::main(|cli, report| {
        let xtask = std::env::var(UNDER_TEST).map_err(|_| usage_error())?;
        let project = cli.open(report)?;
        if let Some(Subject::Deploy(args)) = cli.bench().and_then(|bench| bench.subject.as_ref()) {
            return bench::run(&project, &xtask, args).map(|()| 0);
        }
        let args = cli.test().ok_or_else(usage_error)?;
        let tally = match args.suites[..] {
            [Suite::E2e] => run(&project, &xtask, &Names::of_e2e(&project), &E2E, args.only.as_deref())?,
            [Suite::Recovery] => run(&project, &xtask, &Names::of_recovery(&project), &RECOVERY, args.only.as_deref())?,
            [Suite::Dev] => dev::run(&project, &xtask, args.only.as_deref())?,
            [Suite::Upgrade] => upgrade::run(&project, &xtask)?,
            [Suite::Policies] => policies::run(&kept(&project, &xtask)?)?,
            [Suite::Soak] => soak::run(&kept(&project, &xtask)?, args.rounds, args.only.as_deref())?,
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
        "xtask-e2e runs a suite (dev, e2e, recovery, upgrade, policies, soak) or `bench deploy` with the xtask of {UNDER_TEST}"
    );
    Failure::new(Class::Internal, what).help("cargo xtask test e2e").into()
}

/// Returns the test cluster of `e2e`, for suites that keep it for their next run.
fn kept(project: &Project, xtask: &str) -> Result<TestCluster> {
    TestCluster::make(project, xtask, &Names::of_e2e(project), false)
}

/// Runs all scenarios of the stages, or those whose names contain `only`. The latter use the cluster of an earlier run; if none
/// answers, [`FIRST`](scenarios::FIRST) creates or starts it.
fn run(project: &Project, xtask: &str, names: &Names, stages: &[Stage], only: Option<&str>) -> Result<Tally> {
    let mut lanes = stages.iter().flat_map(|stage| stage.lanes);
    if let Some(text) = only.filter(|_| lanes.all(|lane| select(lane, only, false).next().is_none())) {
        return Err(Failure::new(Class::Config, format!("no scenario's name contains `{text}`"))
            .help("xtask/e2e/src/scenarios.rs lists the names, by suite")
            .into());
    }
    let test_cluster = TestCluster::make(project, xtask, names, only.is_none())?;
    let mut tally = Tally::default();
    let answers = || matches!(test_cluster.http("GET", "/api/v1/health", None, None), Ok((200, _)));
    let first = only.is_some() && !answers();
    for stage in stages {
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
