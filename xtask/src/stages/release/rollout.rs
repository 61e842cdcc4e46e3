//! Follows a rollout until it is complete, and ends early on what cannot recover, with the cause.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::failure::{Class, Failure};
use crate::judge::{self, Finding, Gravity};
use crate::plan::Step;
use crate::project::Project;
use crate::report::Running;
use crate::secrets::Redactor;
use crate::snapshot::Snapshot;
use crate::toolbox::Toolbox;

/// How long a rollout may take as long as nothing fatal shows.
const LIMIT: Duration = Duration::from_secs(300);
/// How long a fatal finding must stand: a first crash before the database is up, or a Secret that is milliseconds
/// younger than its pod, mend themselves.
const PATIENCE: Duration = Duration::from_secs(8);
const LOG_LINES: usize = 20;

/// The step that waits for the rollout, and undoes it when it fails.
pub fn step<'a>(
    project: &'a Project,
    tools: &'a Toolbox,
    verified: Option<u64>,
    redactor: Redactor,
    why: String,
) -> Step<'a> {
    Step::new("roll out", why, "kubectl get pods,deployments,statefulsets --watch", move |running| {
        let Err(error) = wait(project, tools, &redactor, running) else { return Ok("all replicas ready".to_owned()) };
        Err(undo(project, tools, verified, error))
    })
}

/// Waits until every workload is complete.
fn wait(project: &Project, tools: &Toolbox, redactor: &Redactor, running: &Running) -> Result<()> {
    let start = Instant::now();
    let mut fatal_since: Option<Instant> = None;
    loop {
        let snapshot = Snapshot::take(tools)?;
        let progress = judge::progress(&snapshot);
        if !progress.is_empty() && progress.iter().all(|p| p.complete) {
            return Ok(());
        }
        let line: Vec<String> = progress.iter().map(|p| format!("{} {}/{}", p.name, p.ready, p.wanted)).collect();
        running.progress(line.join(", "));
        let findings = judge::findings(&snapshot);
        let fatal = findings.first().is_some_and(|finding| finding.gravity == Gravity::Fatal);
        fatal_since = if fatal { fatal_since.or_else(|| Some(Instant::now())) } else { None };
        if fatal_since.is_some_and(|since| since.elapsed() >= PATIENCE) {
            return Err(explain(project, tools, redactor, &findings, "the rollout cannot complete"));
        }
        if start.elapsed() > LIMIT {
            let what = format!("the rollout did not complete within {} s", LIMIT.as_secs());
            return Err(explain(project, tools, redactor, &findings, &what));
        }
        std::thread::sleep(Duration::from_millis(700));
    }
}

fn explain(project: &Project, tools: &Toolbox, redactor: &Redactor, findings: &[Finding], what: &str) -> anyhow::Error {
    let mut text = what.to_owned();
    let mut failure_help = Vec::new();
    for finding in findings.iter().take(3) {
        text.push_str(&format!("\n  {}: {}", finding.subject, finding.cause));
        if let Some((pod, container)) = &finding.log_of {
            for line in last_log(tools, pod, container) {
                text.push_str(&format!("\n    | {line}"));
            }
        }
        failure_help.push(finding.help.clone());
    }
    let text = redactor.redact(&text);
    let evidence = save_evidence(project, tools, redactor, &text);
    let mut failure = Failure::new(Class::Rollout, text);
    for help in failure_help.into_iter().filter(|help| !help.is_empty()) {
        failure = failure.help(help);
    }
    if let Ok(path) = evidence {
        failure = failure.help(format!("events, descriptions and logs are in {path}"));
    }
    failure.into()
}

fn last_log(tools: &Toolbox, pod: &str, container: &str) -> Vec<String> {
    let logs = |previous: bool| {
        let flag = format!("--previous={previous}");
        tools.kubectl_here().args(["logs", pod, "-c", container, "--tail", &LOG_LINES.to_string(), &flag]).read()
    };
    let text = logs(true).or_else(|_| logs(false)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Saves what explains the failure before anything is undone. Pod specs hold no secret values (they are mounted files).
fn save_evidence(project: &Project, tools: &Toolbox, redactor: &Redactor, text: &str) -> Result<camino::Utf8PathBuf> {
    let dir = project.target().join("evidence");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("cause.txt"), text)?;
    let commands: [(&str, &[&str]); 3] = [
        ("events.txt", &["get", "events", "--sort-by=.lastTimestamp"]),
        ("describe.txt", &["describe", "pods,deployments,statefulsets"]),
        ("logs.txt", &["logs", "-l", "app.kubernetes.io/part-of=todo", "--all-containers", "--prefix", "--tail=200"]),
    ];
    for (name, args) in commands {
        let output = tools.kubectl_here().args(args.iter().copied()).output()?;
        let output = [output.stdout, output.stderr].concat();
        std::fs::write(dir.join(name), redactor.redact(&String::from_utf8_lossy(&output)))?;
    }
    Ok(dir)
}

/// Rolls back to the revision that was verified last. The old pods have served all along.
fn undo(project: &Project, tools: &Toolbox, verified: Option<u64>, error: anyhow::Error) -> anyhow::Error {
    let release = &project.settings.chart.release;
    let Some(revision) = verified else {
        project.report.note("nothing to roll back to: what is there stays for you to look at");
        return error;
    };
    let rollback = tools.helm().args(["rollback", release, &revision.to_string(), "--server-side=true"]);
    let rollback = rollback.arg("--force-conflicts").deadline(Duration::from_secs(120));
    match rollback.run() {
        Ok(()) => project.report.warn(format!("rolled back to revision {revision}, which was verified")),
        Err(second) => project.report.warn(format!("the rollback to revision {revision} failed too: {second:#}")),
    }
    error
}
