//! `cargo xtask test [suite…]`: every suite, on real parts; what a suite needs is made first.

mod e2e;
mod suites;
mod tally;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::failure::{Class, Failure};
use crate::project::Project;
use crate::report::{BAD, DIM, GOOD, seconds};
use tally::Tally;

/// Run every test suite, or those named
#[derive(Args, Debug)]
pub struct Test {
    /// Suites; all of them if left out
    pub suites: Vec<Suite>,
    /// Of e2e, only the scenarios whose names contain TEXT; each starts from the state that it finds
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// Rounds of soak
    #[arg(long, default_value_t = 12)]
    pub rounds: usize,
}

/// A suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// Format, clippy, unit tests and command line tests of xtask
    Rust,
    /// Lint, schema, unit tests and rendered manifests of the chart
    Chart,
    /// Secrets in tree and history
    Scan,
    /// Format, types, tests and coverage of the backend, in the image's Python on real Postgres
    Backend,
    /// Types, lint and unit tests of the frontend, in the image's Node
    Frontend,
    /// Deploy, drift, failures told and undone, kills and teardown on a Minikube profile of its own, with a browser's visit
    E2e,
    /// Kills at random moments and failing deploys in turn, on e2e's profile; not part of the default
    Soak,
}

/// Runs the suites one after the other; the last line is `N passed, N failed`.
pub fn run(project: &Project, args: &Test) -> Result<()> {
    let all = [Suite::Rust, Suite::Scan, Suite::Chart, Suite::Backend, Suite::Frontend, Suite::E2e];
    let wanted = if args.suites.is_empty() { &all[..] } else { &args.suites[..] };
    let report = &project.report;
    let mut total = Tally::default();
    let mut rows = Vec::new();
    for suite in wanted {
        let name = suite.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        report.heading(&format!("suite {name}"));
        let start = std::time::Instant::now();
        let tally = one(project, *suite, args).unwrap_or_else(|error| {
            report.error(&error);
            Tally::failed(1)
        });
        rows.push((name, tally, start.elapsed()));
        total += tally;
    }
    report.line("");
    for (name, tally, took) in rows {
        let colour = if tally.failed == 0 { GOOD } else { BAD };
        report.line(format!("  {name:<10} {colour}{tally}{colour:#} {DIM}{}{DIM:#}", seconds(took)));
    }
    anstream::println!("{total}");
    if total.failed > 0 || total.passed == 0 {
        return Err(Failure::new(Class::Check, format!("{} tests failed", total.failed))
            .help("the lines above name them; run one suite alone: cargo xtask test <suite>")
            .into());
    }
    Ok(())
}

fn one(project: &Project, suite: Suite, args: &Test) -> Result<Tally> {
    match suite {
        Suite::Rust => suites::rust(project),
        Suite::Chart => suites::chart(project),
        Suite::Scan => suites::scan(project),
        Suite::Backend => suites::image(project, "todo-backend"),
        Suite::Frontend => suites::image(project, "todo-frontend"),
        Suite::E2e => e2e::run(project, args.only.as_deref()),
        Suite::Soak => e2e::soak(project, args.rounds),
    }
}
