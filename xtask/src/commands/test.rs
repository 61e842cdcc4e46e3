//! `cargo xtask test [suite…]`: provides what the test suites need, then runs them.

pub mod faults;
mod suites;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use camino::Utf8Path;
use clap::{Args, ValueEnum};

use super::{deploy, dev, scan};
use crate::engine::HIDDEN;
use crate::failure::{self, Class, Failure};
use crate::members;
use crate::origin::{Requirement, Tool};
use crate::plan::Mode;
use crate::process;
use crate::project::Project;
use crate::report::{BAD, DIM, GOOD, Report, seconds};
use crate::settings::Settings;
use crate::tally::Tally;
use crate::toolchain::Toolchain;

/// Number of slowest tests in the list.
const SLOWEST: usize = 20;
/// The order of the suites: one stage after the other. In a stage, suites start in this order, [`AT_ONCE`] at a time: long ones
/// first, and not all those that need most of a processor together.
const STAGES: [&[Suite]; 3] = [
    &[
        Suite::E2e,
        Suite::Rust,
        Suite::Upgrade,
        Suite::Scan,
        Suite::Chart,
        Suite::Backend,
        Suite::Frontend,
        Suite::Recovery,
        Suite::Ordinary,
        Suite::Faults,
        Suite::Dev,
    ],
    &[Suite::Policies],
    &[Suite::Soak],
];
/// Number of suites that run at the same time: those with a cluster wait for it for half of their time. With the cluster of the
/// user, four nodes exist, which is as many as Linux' default of 128 inotify instances allows.
const AT_ONCE: usize = 3;

/// Run all test suites, or the named ones
#[derive(Args, Debug)]
pub struct Test {
    /// Suites to run (default: all but `policies` and `soak`)
    pub suites: Vec<Suite>,
    /// Run only the scenarios of dev, e2e and recovery whose names contain TEXT, each from the current state; or only such runs
    /// of faults and soak (`rounds`: the rounds of soak without its single faults)
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// Run every fault of every call in faults, also where calls share them
    #[arg(long)]
    pub all: bool,
    /// Number of rounds of soak
    #[arg(long, default_value_t = 12)]
    pub rounds: usize,
}

/// A test suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// Formatting, clippy, unit tests and command line tests of xtask
    Rust,
    /// Lint, schema, unit tests and rendered manifests of the chart
    Chart,
    /// Secrets in the working tree and the history
    Scan,
    /// Formatting, types, tests and coverage of the backend, with the image's Python and a real Postgres
    Backend,
    /// Types, lint and unit tests of the frontend, with the image's Node
    Frontend,
    /// A working day with `dev`: saved lines, crashes and kills, with a browser; no cluster
    Dev,
    /// Each external call fails once, against a real API server; the messages of xtask must match the real state
    Faults,
    /// Deploys, drift, diagnosed and rolled back failures, and teardown on a separate profile, with a browser
    E2e,
    /// Kills, failing calls, broken premises and foreign objects on a profile of its own; the next deploy must converge
    Recovery,
    /// Upgrades from an earlier version's state, running and stopped, to this version and to the pinned Kubernetes
    Upgrade,
    /// The first hour of a user who is not root: an engine with default settings, and origin `release` from a simulated
    /// internet; skipped on machines that cannot run it
    Ordinary,
    /// The chart's NetworkPolicies under kube-router's firewall, on the profile of e2e; compiles kube-router, so it needs Go
    /// and apt-get; runs only when named
    Policies,
    /// Random kills and failing deploys in turn, then each call of seven commands fails once in five ways, on the profile of
    /// e2e; runs only when named
    Soak,
}

impl Suite {
    /// Returns its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Chart => "chart",
            Self::Scan => "scan",
            Self::Backend => "backend",
            Self::Frontend => "frontend",
            Self::Dev => "dev",
            Self::Faults => "faults",
            Self::E2e => "e2e",
            Self::Recovery => "recovery",
            Self::Upgrade => "upgrade",
            Self::Ordinary => "ordinary",
            Self::Policies => "policies",
            Self::Soak => "soak",
        }
    }

    /// Returns the artifacts that the origin must bring for it; `root` is the checkout.
    pub fn requirements(self, settings: &Settings, root: &Utf8Path) -> Result<Vec<Requirement>> {
        let components = &settings.components;
        let bases = |component: &str| {
            let (_, image) = settings.image_of(component);
            image.bases.values().cloned().map(Requirement::Image).collect()
        };
        Ok(match self {
            Self::Rust => vec![Requirement::Tool(Tool::Gitleaks), Requirement::Tool(Tool::Actionlint)],
            Self::Scan => vec![Requirement::Tool(Tool::Gitleaks)],
            Self::Chart => vec![Requirement::Tool(Tool::Helm), Requirement::Tool(Tool::HelmUnittest)],
            Self::Backend => bases(&components.backend),
            Self::Frontend => bases(&components.frontend),
            // `upgrade` uses its own cache, which borrows the artifacts of the other suites. `ordinary` brings its artifacts
            // after it has checked this machine.
            Self::Upgrade | Self::Ordinary => Vec::new(),
            Self::Dev => dev::requirements(settings, true),
            Self::Faults => faults::requirements(root)?,
            Self::E2e | Self::Recovery | Self::Policies | Self::Soak => deploy::requirements(settings, true, true),
        })
    }
}

/// The result of a suite.
struct SuiteResult {
    suite: Suite,
    tally: Tally,
    took: Duration,
}

/// Runs the suites; the last line is `N passed, N failed`.
pub fn run(project: &Project, args: &Test) -> Result<()> {
    let default =
        || Suite::value_variants().iter().copied().filter(|suite| !matches!(suite, Suite::Policies | Suite::Soak));
    let mut wanted: Vec<Suite> = if args.suites.is_empty() { default().collect() } else { args.suites.clone() };
    let (settings, root, report) = (&project.settings, &project.root, &project.report);
    // All together, so that the questions come first and the steps run side by side.
    let mut requirements: Vec<Requirement> = Vec::new();
    for suite in &wanted {
        for requirement in suite.requirements(settings, root)? {
            if !requirements.contains(&requirement) {
                requirements.push(requirement);
            }
        }
    }
    let toolchain = project.bring_tools(Mode::Apply, &requirements)?;
    let refusal = refuse_ordinary(toolchain.origin.name()).filter(|_| args.suites.is_empty());
    if refusal.is_some() {
        wanted.retain(|suite| *suite != Suite::Ordinary);
    }
    let runner = SuiteRunner { settings, root, toolchain: &toolchain, arguments: project.arguments(), args };
    let rows: Vec<SuiteResult> = STAGES.iter().flat_map(|stage| runner.run_stage(report, stage, &wanted)).collect();
    if process::ending() {
        // Do not print the counts of interrupted suites. The Ctrl-C handler ends the process.
        bail!("interrupted");
    }
    let mut total = Tally::default();
    for SuiteResult { suite, tally, .. } in &rows {
        let within = |(name, took): &(String, Duration)| (format!("{}: {name}", suite.name()), *took);
        total += Tally { took: tally.took.iter().map(within).collect(), ..tally.clone() };
    }
    report.line("");
    for (name, took) in slowest(&total) {
        report.line(format!("  {DIM}{:>10}{DIM:#}  {name}", seconds(*took)));
    }
    // Failures come last: readers look there first, and a truncated log keeps its end.
    report.line("");
    if let Some(refusal) = refusal {
        report.line(format!("  {:<10} {DIM}skipped: {refusal}{DIM:#}", Suite::Ordinary.name()));
    }
    for SuiteResult { suite, tally, took } in &rows {
        let colour = if tally.failed == 0 { GOOD } else { BAD };
        report.line(format!("  {:<10} {colour}{tally}{colour:#} {DIM}{}{DIM:#}", suite.name(), seconds(*took)));
        tally.names.iter().for_each(|name| report.line(format!("    {BAD}✗{BAD:#} {name}")));
    }
    anstream::println!("{total}");
    if total.failed > 0 || total.passed == 0 {
        return Err(Failure::new(Class::Check, format!("{} tests failed", total.failed))
            .help("the lines above name them; run one suite alone: cargo xtask test <suite>")
            .into());
    }
    Ok(())
}

/// Returns the slowest tests, slowest first.
fn slowest(total: &Tally) -> impl Iterator<Item = &(String, Duration)> {
    let mut all: Vec<_> = total.took.iter().collect();
    all.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
    all.into_iter().take(SLOWEST)
}

/// Returns why this machine cannot run the suite `ordinary`, if it cannot. `origin` is the name of this run's origin.
pub fn refuse_ordinary(origin: &str) -> Option<Failure> {
    let is_linux_amd64 = cfg!(all(target_os = "linux", target_arch = "x86_64"));
    refusal_of_ordinary(is_linux_amd64, rustix::process::geteuid().is_root(), origin)
}

fn refusal_of_ordinary(is_linux_amd64: bool, is_root: bool, origin: &str) -> Option<Failure> {
    let refuse = |what: &str| Failure::new(Class::Machine, format!("the suite `ordinary` {what}"));
    let others = "run the others: cargo xtask test";
    if !is_linux_amd64 {
        return Some(refuse("needs Linux amd64: its stand-ins are built for it").help(others));
    }
    if !is_root {
        return Some(refuse("needs root: it creates namespaces with a Docker Engine and a user").help(others));
    }
    (origin != "packages").then(|| {
        let hidden = format!("DOCKER_HOST={HIDDEN} cargo xtask test ordinary --origin packages");
        refuse("needs the origin `packages`, whose artifacts it offers; this run has another origin")
            .help(format!("with a private engine: {hidden}"))
    })
}

/// The inputs of all suites.
struct SuiteRunner<'a> {
    settings: &'a Settings,
    /// The checkout.
    root: &'a Utf8Path,
    toolchain: &'a Toolchain,
    /// The options that give another program of this workspace the same checkout, cache and cluster.
    arguments: Vec<String>,
    args: &'a Test,
}

impl SuiteRunner<'_> {
    /// Runs the wanted suites of a stage.
    fn run_stage(&self, report: &Report, stage: &[Suite], wanted: &[Suite]) -> Vec<SuiteResult> {
        let suites: Vec<Suite> = stage.iter().copied().filter(|suite| wanted.contains(suite)).collect();
        // With a private engine, `upgrade` has one of its own. In the user's, it and the other suites would remove each other's
        // images.
        if suites.len() < 2 || !self.toolchain.tools.engine.private {
            let suites = suites.into_iter().take_while(|_| !process::ending());
            return suites.map(|suite| self.run(report, suite)).collect();
        }
        let waiting = Mutex::new(suites.into_iter());
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next().filter(|_| !process::ending());
        let run = |suite: Suite| {
            let tried = AssertUnwindSafe(|| self.run(&report.within(suite.name()), suite));
            catch_unwind(tried).unwrap_or_else(|_| SuiteResult {
                suite,
                tally: Tally::failure("the suite panicked"),
                took: Duration::ZERO,
            })
        };
        std::thread::scope(|scope| {
            let started = [(); AT_ONCE].map(|()| scope.spawn(|| std::iter::from_fn(next).map(run).collect::<Vec<_>>()));
            started.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
        })
    }

    fn run(&self, report: &Report, suite: Suite) -> SuiteResult {
        report.heading(&format!("suite {}", suite.name()));
        let start = Instant::now();
        let Self { settings, root, toolchain, arguments, args } = self;
        let only = args.only.iter().map(|text| format!("--only={text}"));
        let with = |more: Vec<String>| more.into_iter().chain(arguments.iter().cloned()).collect::<Vec<_>>();
        let tally = match suite {
            Suite::Rust => suites::rust(report, root, toolchain),
            Suite::Chart => suites::chart(report, &root.join(&settings.chart.path), toolchain),
            Suite::Scan => scan::search(report, root, &settings.keys, toolchain).map(|()| Tally::new(1, 0)),
            Suite::Backend => suites::image(report, settings, toolchain, &settings.components.backend),
            Suite::Frontend => suites::image(report, settings, toolchain, &settings.components.frontend),
            Suite::Faults => faults::run(report, &with(only.chain(args.all.then(|| "--all".to_owned())).collect())),
            Suite::Dev | Suite::E2e | Suite::Recovery => suites::end_to_end(report, suite, &with(only.collect())),
            Suite::Upgrade | Suite::Policies => suites::end_to_end(report, suite, arguments),
            Suite::Ordinary => members::build(report, "xtask-ordinary")
                .and_then(|program| suites::member(report, &program, suite, &with(only.collect()))),
            Suite::Soak => {
                let rounds = format!("--rounds={}", args.rounds);
                suites::end_to_end(report, suite, &with(only.chain([rounds]).collect()))
            }
        };
        let tally = tally.unwrap_or_else(|error| {
            report.error(&error);
            Tally::failure(failure::message(&error))
        });
        SuiteResult { suite, tally, took: start.elapsed() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_is_in_one_stage() {
        let in_stages = STAGES.concat();
        for suite in Suite::value_variants() {
            assert_eq!(in_stages.iter().filter(|other| *other == suite).count(), 1, "{suite:?}");
        }
    }

    #[test]
    fn the_slowest_tests_come_first() {
        let took = (1..=30).map(|number| (format!("test {number}"), Duration::from_secs(number))).collect();
        let total = Tally { took, ..Tally::default() };
        let names: Vec<&str> = slowest(&total).map(|(name, _)| name.as_str()).collect();
        assert_eq!((names.len(), names[0], names[SLOWEST - 1]), (SLOWEST, "test 30", "test 11"));
    }

    #[test]
    fn explains_why_a_machine_cannot_run_the_suite_ordinary() {
        let refusal = |is_linux_amd64, is_root, origin| {
            refusal_of_ordinary(is_linux_amd64, is_root, origin).map(|failure| failure.to_string())
        };
        assert_eq!(refusal(true, true, "packages"), None);
        assert!(refusal(false, true, "packages").unwrap().contains("needs Linux amd64"));
        assert!(refusal(true, false, "packages").unwrap().contains("needs root"));
        assert!(refusal(true, true, "release").unwrap().contains("another origin"));
    }
}
