//! What explains a failed rollout, saved before anything is undone, and the error that tells it.

use std::time::Duration;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};

use super::rollout::Stopped;
use crate::clock;
use crate::failure::{Class, Failure};
use crate::judge::{Finding, Gravity};
use crate::project::Project;
use crate::secrets::Redactor;
use crate::snapshot::Snapshot;
use crate::toolbox::Toolbox;

/// Lines of a log that are shown; the evidence has more of them.
const SHOWN: usize = 20;
/// Lines of each log in the evidence.
const SAVED: usize = 500;
/// Findings that are shown; they stand in the order of their gravity.
const FINDINGS: usize = 3;
/// Bundles that are kept.
const KEPT: usize = 10;
/// No question about a failure may hold back its end for longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The error that tells why the rollout was given up, with the path of the evidence.
pub fn explain(project: &Project, tools: &Toolbox, redactor: &Redactor, stopped: &Stopped) -> Failure {
    let mut text = stopped.what.clone();
    let mut help: Vec<&String> = Vec::new();
    let fatal = stopped.findings.iter().any(|finding| finding.gravity == Gravity::Fatal);
    let telling = stopped.findings.iter().filter(|finding| !fatal || finding.gravity == Gravity::Fatal);
    for finding in telling.take(FINDINGS) {
        text.push_str(&format!("\n  {}: {}", finding.subject, finding.cause.replace('\n', "\n  ")));
        for line in last_log(tools, finding) {
            text.push_str(&format!("\n    | {line}"));
        }
        help.extend(finding.help.iter().filter(|line| !help.contains(line)).collect::<Vec<_>>());
    }
    let text = redactor.redact(&text);
    let running = project.report.step("release", "save the evidence", "before anything is undone");
    let saved = save(project, tools, redactor, stopped.name, &text);
    let failure = help.into_iter().fold(Failure::new(Class::Rollout, text), |failure, line| failure.help(line));
    match saved {
        Ok(dir) => {
            let shown = dir.strip_prefix(&project.root).unwrap_or(&dir).to_string();
            running.done(&shown);
            failure.help(format!("evidence (events, descriptions, logs): {shown}"))
        }
        Err(error) => {
            drop(running);
            failure.help(format!("the evidence could not be saved: {error:#}"))
        }
    }
}

/// The end of the log that belongs to a finding: of the container that ended, where there is one.
fn last_log(tools: &Toolbox, finding: &Finding) -> Vec<String> {
    let Some((pod, container)) = &finding.log_of else { return Vec::new() };
    let text = log(tools, pod, container, true, SHOWN).or_else(|| log(tools, pod, container, false, SHOWN));
    text.unwrap_or_default().lines().map(str::to_owned).collect()
}

fn log(tools: &Toolbox, pod: &str, container: &str, previous: bool, lines: usize) -> Option<String> {
    let tail = format!("--tail={lines}");
    let logs = tools.kubectl_here().args(["logs", pod, "-c", container, &tail, &format!("--previous={previous}")]);
    logs.deadline(PATIENCE).read().ok().filter(|text| !text.is_empty())
}

/// Saves the bundle `target/xtask/evidence/<time>-<cause>`. Specs of pods hold no secret values (they are mounted
/// files); whatever else is saved goes through `redactor`.
fn save(project: &Project, tools: &Toolbox, redactor: &Redactor, name: &str, cause: &str) -> Result<Utf8PathBuf> {
    let all = project.target().join("evidence");
    let time = clock::rfc3339(clock::now()).replace(['-', ':'], "");
    let dir = all.join(format!("{time}-{name}"));
    std::fs::create_dir_all(&dir).with_context(|| format!("creating {dir}"))?;
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), redactor.redact(text));
    write("cause.txt", cause)?;
    let kubectl: [(&str, &[&str]); 5] = [
        ("pods.txt", &["get", "pods,replicasets,deployments,statefulsets,persistentvolumeclaims", "-o", "wide"]),
        ("events.txt", &["get", "events", "--sort-by=.lastTimestamp"]),
        ("describe.txt", &["describe", "pods,deployments,statefulsets,persistentvolumeclaims,resourcequotas"]),
        ("objects.yaml", &["get", "pods,deployments,statefulsets,configmaps,services,ingresses", "-o", "yaml"]),
        ("nodes.txt", &["describe", "nodes"]),
    ];
    let helm = tools.helm().args(["history", &project.settings.chart.release]).deadline(PATIENCE);
    let commands = kubectl.map(|(name, args)| (name, tools.kubectl_here().args(args.iter().copied()).deadline(PATIENCE)));
    std::thread::scope(|scope| {
        let commands = commands.into_iter().chain([("helm-history.txt", helm)]);
        let running: Vec<_> = commands.map(|(name, command)| (name, scope.spawn(move || command.output()))).collect();
        for (name, output) in running {
            // One answer that does not come must not cost the others.
            if let Ok(Ok(output)) = output.join() {
                write(name, &String::from_utf8_lossy(&[output.stdout, output.stderr].concat()))?;
            }
        }
        anyhow::Ok(())
    })?;
    logs(tools, redactor, &dir.join("logs"))?;
    forget(&all)?;
    Ok(dir)
}

/// Saves the log of every container, and of the container before it where it was restarted.
fn logs(tools: &Toolbox, redactor: &Redactor, dir: &Utf8Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let snapshot = Snapshot::take(tools)?;
    for pod in snapshot.kind("Pod") {
        let name = crate::snapshot::text(pod, "/metadata/name");
        for status in ["/status/initContainerStatuses", "/status/containerStatuses"] {
            for container in pod.pointer(status).and_then(serde_json::Value::as_array).into_iter().flatten() {
                let called = crate::snapshot::text(container, "/name");
                let restarted = crate::snapshot::number(container, "/restartCount") > 0;
                // One that has never run has no log to ask for.
                if container.pointer("/state/waiting").is_some() && !restarted {
                    continue;
                }
                for (previous, suffix) in [(false, "log"), (true, "previous.log")] {
                    let text = (!previous || restarted).then(|| log(tools, name, called, previous, SAVED)).flatten();
                    if let Some(text) = text {
                        std::fs::write(dir.join(format!("{name}.{called}.{suffix}")), redactor.redact(&text))?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Removes all but the newest bundles; their names sort by time.
fn forget(all: &Utf8Path) -> Result<()> {
    let mut bundles: Vec<_> = std::fs::read_dir(all)?.filter_map(Result::ok).filter(|e| e.path().is_dir()).collect();
    bundles.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
    for old in bundles.into_iter().skip(KEPT) {
        std::fs::remove_dir_all(old.path())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_bundles_go() {
        let temp = tempfile::tempdir().unwrap();
        let all = Utf8Path::from_path(temp.path()).unwrap();
        for number in 10..25 {
            std::fs::create_dir(all.join(format!("20261121T0824{number}Z-crash-loop"))).unwrap();
        }
        forget(all).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(all).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!((left.len(), left[0].to_str().unwrap()), (KEPT, "20261121T082415Z-crash-loop"));
    }
}
