//! Runs the suites that are commands, containers or programs.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use camino::Utf8Path;

use super::Suite;
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::members::{self, UNDER_TEST};
use crate::origin::Tool;
use crate::process::{ALL, Process};
use crate::report::Report;
use crate::settings::Settings;
use crate::stages::images::context;
use crate::tally::Tally;
use crate::toolchain::Toolchain;
use crate::units::quote;

/// Runs a command as one test.
fn run_check(report: &Report, name: &str, process: &Process) -> Tally {
    Tally::of(report, name, |running| {
        process.stream(|line| running.progress(line))?;
        Ok(String::new())
    })
}

/// Runs a test runner and reads the number of passed tests from its output.
fn run_counted(report: &Report, name: &str, process: &Process) -> Tally {
    let running = report.step("test", name, "");
    let mut output = String::new();
    let result = process.stream(|line| {
        running.progress(line);
        output.push_str(line);
        output.push('\n');
    });
    let mut tally = Tally::parse(&output);
    if result.is_ok() && tally.failed == 0 && tally.passed > 0 {
        running.done(tally.to_string());
        return tally;
    }
    drop(running);
    let log = output.lines().rev().take(60).collect::<Vec<_>>();
    log.iter().rev().for_each(|line| report.line(format!("    | {line}")));
    tally.failed = tally.failed.max(1);
    tally
}

/// Runs rustfmt, clippy, and the unit and command line tests of every workspace member in the checkout `root`.
pub fn rust(report: &Report, root: &Utf8Path, toolchain: &Toolchain) -> Result<Tally> {
    let cargo = |args: &[&str]| members::cargo().args(args.iter().copied()).cwd(root).deadline(deadlines::CARGO);
    let mut tally = run_check(report, "cargo fmt", &cargo(&["fmt", "--all", "--check"]));
    let clippy = ["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
    tally += run_check(report, "cargo clippy", &cargo(&clippy));
    // Some tests need gitleaks or actionlint, so they are marked as ignored.
    let tool = |tool| toolchain.origin.tool(tool).into_string();
    let test =
        cargo(&["test", "--locked", "--workspace", "--all-targets", "--no-fail-fast", "--", "--include-ignored"]);
    let test = test.env("TODO_TEST_GITLEAKS", tool(Tool::Gitleaks)).env("TODO_TEST_ACTIONLINT", tool(Tool::Actionlint));
    tally += run_counted(report, "cargo test", &test);
    Ok(tally)
}

/// Runs lint with every set of values, and the unit tests of the chart in the folder `chart`.
pub fn chart(report: &Report, chart: &Utf8Path, toolchain: &Toolchain) -> Result<Tally> {
    let helm = |args: &[&str]| Process::new(toolchain.origin.tool(Tool::Helm).as_str()).args(args.iter().copied());
    let mut tally = Tally::default();
    let mut sets: Vec<_> = std::fs::read_dir(chart.join("ci"))
        .with_context(|| format!("reading {chart}/ci"))?
        .map(|entry| Ok(entry?.path().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    sets.sort();
    for values in &sets {
        let name = values.rsplit('/').next().unwrap_or(values);
        let lint = helm(&["lint", "--strict", chart.as_str(), "--values", values]);
        tally += run_check(report, &format!("helm lint with {name}"), &lint);
    }
    let unittest = Process::new(toolchain.origin.tool(Tool::HelmUnittest).as_str()).args([
        "--strict",
        "--file",
        "tests/*_test.yaml",
        chart.as_str(),
    ]);
    let running = report.step("test", "helm-unittest", "");
    let output = unittest.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (passed, failed) = unittest_counts(&text);
    if output.status.success() && failed == 0 && passed > 0 {
        running.done(format!("{passed} passed, 0 failed"));
    } else {
        drop(running);
        text.lines().for_each(|line| report.line(format!("    | {line}")));
    }
    tally += Tally::new(passed, if output.status.success() { failed } else { failed.max(1) });
    Ok(tally)
}

/// Returns the passed and failed tests from a line such as `Tests: 1 failed, 51 passed, 52 total`.
fn unittest_counts(text: &str) -> (usize, usize) {
    let line = text.lines().find(|line| line.trim_start().starts_with("Tests:")).unwrap_or_default();
    let count = |what: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.windows(2).find(|w| w[1].trim_end_matches(',') == what).and_then(|w| w[0].parse().ok()).unwrap_or(0)
    };
    (count("passed"), count("failed") + count("errored"))
}

/// Runs the suite of an application in the `test` target of its image, with that image's Python or Node.
pub fn image(report: &Report, settings: &Settings, toolchain: &Toolchain, component: &str) -> Result<Tally> {
    let (name, image) = settings.image_of(component);
    let (builder, tools) = (toolchain.image_builder(&settings.images), &toolchain.tools);
    let (tag, log) = (format!("{name}:test"), tools.log(&format!("test-{name}")));
    let folder = builder.root.join(&image.context);
    let (_, context) = context::pack(&folder, &tools.target)?;
    let build = builder
        .command(&builder.buildx_builder()?, image, &tag)
        .args(["--target", "test", "--build-context", &format!("tests={}", folder.join("tests"))])
        .stdin_file(Arc::new(context))
        .deadline(deadlines::APPLICATION_TEST)
        .log(&log);
    if run_check(report, &format!("build the test image of {name}"), &build).failed > 0 {
        return Err(Failure::new(Class::Image, format!("the test image of {name} does not build"))
            .help(format!("less {}", quote(&log)))
            .into());
    }
    let run = tools.engine.docker().args(["run", "--rm", "--init", &tag]).deadline(deadlines::APPLICATION_TEST);
    Ok(run_counted(report, &format!("tests of {name}"), &run))
}

/// Runs a suite of `xtask-e2e`, which tests the running xtask program.
pub fn end_to_end(report: &Report, suite: Suite, args: &[String]) -> Result<Tally> {
    member(report, &members::build(report, "xtask-e2e")?, suite, args)
}

/// Runs a suite that is a separate program. It prints like `report`.
pub fn member(report: &Report, program: &Utf8Path, suite: Suite, args: &[String]) -> Result<Tally> {
    // On Ctrl-C, the suite itself reports what it leaves.
    report.on_interrupt(|| ());
    let run = Process::new(program.as_str())
        .args(["test", suite.name()])
        .args(args.iter().cloned())
        .args(report.prefix().map(|prefix| format!("--prefix={prefix}")))
        .inherit(ALL)
        .env(UNDER_TEST, running_program()?)
        .deadline(deadlines::SUITE)
        .show_stderr();
    report.command(&run);
    let output = run.output()?;
    let mut tally = Tally::parse(&String::from_utf8_lossy(&output.stdout));
    if !output.status.success() {
        tally.failed = tally.failed.max(1);
    }
    Ok(tally)
}

/// Returns the path of the running program. The suite `rust` may have replaced the file; on Linux, the old one is then
/// only reachable through its process.
fn running_program() -> Result<String> {
    let own = format!("/proc/{}/exe", std::process::id());
    if std::path::Path::new(&own).exists() {
        return Ok(own);
    }
    let path = std::env::current_exe().context("finding this program")?;
    path.into_os_string().into_string().map_err(|path| anyhow!("{path:?} is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_counts_of_helm_unittest() {
        assert_eq!(unittest_counts("Charts: 1\nTests:       52 passed, 52 total\n"), (52, 0));
        assert_eq!(unittest_counts("Tests:       2 failed, 1 errored, 50 passed, 53 total"), (50, 3));
    }
}
