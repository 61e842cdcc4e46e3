//! Makes every external call of xtask fail once, and compares xtask's messages and actions with the real state.
//!
//! `cargo xtask test faults` builds and runs this program.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, bail};
use camino::Utf8PathBuf;
use xtask::commands::output;
use xtask::commands::test::{Suite, Test};
use xtask::failure::{Class, Failure};
use xtask::project::Project;
use xtask::tally::Tally;

use xtask_faults::gate::Gate;
use xtask_faults::{mutants, programs, suite};

fn main() {
    xtask::program::main(|cli, report| match cli.test() {
        Some(args) if args.suites == [Suite::Faults] => {
            let tally = run(&cli.open(report)?, args)?;
            output::print(&tally.to_output())?;
            Ok(if tally.failed > 0 { Class::Check as i32 } else { 0 })
        }
        _ => Err(Failure::new(Class::Internal, "xtask-faults runs the suite faults only")
            .help("cargo xtask test faults")
            .into()),
    });
}

fn run(project: &Project, args: &Test) -> Result<Tally> {
    // Below the system's temporary folder: a Unix socket's path must be short.
    let (_temp, folder) = suite::folder(&Utf8PathBuf::try_from(std::env::temp_dir())?)?;
    let left = folder.clone();
    project.report.on_interrupt(move || drop(std::fs::remove_dir_all(left)));
    let programs = programs::bring(project, &folder)?;
    let own = Utf8PathBuf::try_from(std::env::current_exe()?)?;
    // Cargo may replace the original while the suite uses it.
    let tool = suite::keep(&own.with_file_name("xtask-tool"), &folder)?;
    let gate = Arc::new(Gate::new(suite::parallel_runs()));
    let setting = suite::SuiteSettings {
        folder,
        program: Arc::default(),
        tool,
        programs: &programs,
        checkout: project.root.clone(),
        gate,
    };
    let report = &project.report;
    let (found, caught) = suite::whole(&setting, args.only.as_deref(), args.all, |line| report.line(line))?;
    if xtask::process::ending() {
        bail!("interrupted");
    }
    let mut kinds: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for (pair, violation) in &found.violations {
        kinds.entry((&violation.claim, &violation.truth)).or_default().push(pair.to_string());
    }
    for ((claim, truth), pairs) in &kinds {
        report.line(format!("\nclaim: {claim}\n  truth: {truth}"));
        pairs.iter().for_each(|pair| report.line(format!("  cargo xtask test faults --only '{pair}'")));
    }
    let missed = found.missed.iter().map(|pair| format!("{pair}: the call did not come again"));
    let failed: std::collections::BTreeSet<String> =
        found.violations.iter().map(|(pair, _)| pair.to_string()).chain(missed).collect();
    report.line(format!(
        "{} calls of {} scenarios, {} pairs of a call and a fault: {} were run, {} violations; {} runs followed",
        found.calls,
        found.scenarios,
        found.pairs,
        found.runs,
        found.violations.len(),
        found.again,
    ));
    for (why, count) in &found.left_out {
        report.line(format!("  {count} not run: {why}"));
    }
    let escaped: Vec<&mutants::TriedMutant> = caught.iter().filter(|mutant| mutant.by.is_none()).collect();
    escaped.iter().for_each(|mutant| report.line(format!("a mutant that was not caught: {}", mutant.why)));
    if !caught.is_empty() {
        report.line(format!("{} of {} mutants caught", caught.len() - escaped.len(), caught.len()));
    }
    let names: Vec<String> =
        failed.into_iter().chain(escaped.iter().map(|mutant| format!("mutant: {}", mutant.why))).collect();
    let tests = found.runs + found.missed.len() + caught.len();
    Ok(Tally { passed: tests - names.len(), failed: names.len(), names, ..Tally::default() })
}
