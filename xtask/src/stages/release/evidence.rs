//! What explains a failed rollout, saved before anything is undone, and the error that tells it.

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::rollout::Stopped;
use super::secrets;
use crate::api::{LogOptions, Scope, kinds};
use crate::clock;
use crate::deadlines;
use crate::failure::{Class, Failure, Hint};
use crate::inventory;
use crate::judge::{Finding, Gravity};
use crate::private;
use crate::project::Project;
use crate::secrets::Redactor;
use crate::snapshot::{Snapshot, number, text};
use crate::toolbox::Toolbox;

/// Lines of a log that are shown; the evidence has more of them.
const SHOWN: usize = 20;
/// Lines of one entry of a log that are shown: its first two, and its end, which names the exception.
const ENTRY: usize = 16;
/// Lines of each log in the evidence.
const SAVED: u32 = 500;
/// Findings that are shown; they stand in the order of their gravity.
const FINDINGS: usize = 3;
/// Bundles that are kept.
const KEPT: usize = 10;

/// The error that tells why the rollout was given up, with the path of the evidence.
pub fn explain(project: &Project, tools: &Toolbox, redactor: &Redactor, stopped: &Stopped) -> Failure {
    let known = with_secrets_of_cluster(tools, redactor);
    project.report.hide(known.as_ref().unwrap_or(redactor));
    let mut told = stopped.what.clone();
    let mut help: Vec<Hint> = Vec::new();
    let fatal = stopped.findings.iter().any(|finding| finding.gravity == Gravity::Fatal);
    let telling = stopped.findings.iter().filter(|finding| !fatal || finding.gravity == Gravity::Fatal);
    for finding in telling.take(FINDINGS) {
        told.push_str(&format!("\n  {}: {}", finding.subject, finding.cause.replace('\n', "\n  ")));
        // A log may hold what a Secret of an older release holds.
        let log = known.iter().flat_map(|_| last_log(tools, finding)).collect::<Vec<_>>();
        for line in for_people(&log) {
            told.push_str(&format!("\n    | {line}"));
        }
        help.extend(finding.help.iter().filter(|hint| !help.contains(hint)).cloned().collect::<Vec<_>>());
    }
    let told = known.as_ref().unwrap_or(redactor).redact(&told);
    let running = project.report.step("release", "save the evidence", "before anything is undone");
    let saved = known.and_then(|redactor| save(project, tools, &redactor, stopped.name, &told));
    let failure = help.into_iter().fold(Failure::new(Class::Rollout, told), Failure::help);
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

/// Returns `redactor` with the values of all Secrets of ours: pods of older releases use values that `.env` has no more.
/// Where they cannot be read, nothing that a pod wrote may be shown or saved.
fn with_secrets_of_cluster(tools: &Toolbox, redactor: &Redactor) -> Result<Redactor> {
    let of_cluster = secrets::redactor(tools);
    let mut redactor = redactor.clone();
    redactor.extend(
        of_cluster.context("the values of the cluster's Secrets, which must be removed from it, are not known")?,
    );
    Ok(redactor)
}

/// The end of the log that belongs to a finding: of the container that ended, where there is one.
fn last_log(tools: &Toolbox, finding: &Finding) -> Vec<String> {
    let Some((pod, container)) = &finding.log_of else { return Vec::new() };
    let read = || match log(tools, pod, container, true, SHOWN as u32)? {
        Some(text) => anyhow::Ok(Some(text)),
        None => log(tools, pod, container, false, SHOWN as u32),
    };
    match read() {
        Ok(text) => text.unwrap_or_default().lines().map(str::to_owned).collect(),
        Err(error) => vec![format!("(its log cannot be read: {error:#})")],
    }
}

/// The last lines of a log as they are shown: of a JSON object time, level, message and fields, and the lines of an exception.
fn for_people(log: &[String]) -> Vec<String> {
    let mut shown = Vec::new();
    for entry in log {
        let text = anstream::adapter::strip_str(&inventory::readable("", entry)).to_string();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.len() > ENTRY {
            lines.splice(2..lines.len() - ENTRY + 3, ["      …".to_owned()]);
        }
        shown.extend(lines);
    }
    shown.split_off(shown.len().saturating_sub(SHOWN))
}

fn log(tools: &Toolbox, pod: &str, container: &str, previous: bool, lines: u32) -> Result<Option<String>> {
    let options = LogOptions { previous, tail: Some(lines), ..LogOptions::default() };
    inventory::log(&tools.api()?, pod, container, &options)
}

/// Saves the bundle `target/xtask/evidence/<time>-<cause>`. Specs of pods hold no secret values (they are mounted
/// files); whatever else is saved goes through `redactor`.
fn save(project: &Project, tools: &Toolbox, redactor: &Redactor, name: &str, cause: &str) -> Result<Utf8PathBuf> {
    let all = project.target().join("evidence");
    let time = clock::rfc3339(clock::now()).replace(['-', ':'], "");
    let dir = all.join(format!("{time}-{name}"));
    private::create_dir(&dir)?;
    let write = |name: &str, text: &str| private::write(&dir.join(name), &redactor.redact(text));
    write("cause.txt", cause)?;
    let helm = tools.helm().args(["history", &project.settings.chart.release]).deadline(deadlines::EVIDENCE);
    let history = match helm.output() {
        Ok(output) => String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        Err(error) => format!("{error:#}\n"),
    };
    write("helm-history.txt", &history)?;
    let api = tools.api()?;
    // One answer that does not come must not cost the others: it stands in the file in their place.
    let or_error = |text: Result<String>| text.unwrap_or_else(|error| format!("{error:#}\n"));
    let of = |resource| Ok(inventory::yaml(&api.list(resource, Scope::Cluster)?.items));
    write("nodes.txt", &or_error(of(&kinds::NODE)))?;
    let quotas = or_error(api.list(&kinds::RESOURCE_QUOTA, Scope::Namespace).map(|list| inventory::yaml(&list.items)));
    let snapshot = Snapshot::take(tools)?;
    let objects = snapshot.objects();
    write("pods.txt", &inventory::pods(objects))?;
    write("events.txt", &inventory::events(objects))?;
    write("describe.txt", &inventory::describe(objects))?;
    // What others have in the namespace explains by its states and Events; its content has no business here.
    let things = inventory::yaml(objects.iter().filter(|o| o["kind"] != "Event" && snapshot.is_ours(o)));
    write("objects.yaml", &format!("{things}{quotas}"))?;
    let options = LogOptions { tail: Some(SAVED), ..LogOptions::default() };
    write("logs.txt", &snapshot.kind("Pod").map(|pod| inventory::logs(&api, pod, &options)).collect::<String>())?;
    for (pod, container) in restarted(&snapshot) {
        let name = format!("{pod}.{container}.previous.txt");
        match log(tools, &pod, &container, true, SAVED) {
            Ok(Some(text)) => write(&name, &text)?,
            Ok(None) => {}
            Err(error) => write(&name, &format!("{error:#}\n"))?,
        }
    }
    // The next evidence tries again; this one is saved.
    let _ = forget(&all);
    Ok(dir)
}

/// Pod and name of each container that was restarted: the log of the one before is no longer the current one.
fn restarted(snapshot: &Snapshot) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for pod in snapshot.kind("Pod") {
        for list in ["/status/initContainerStatuses", "/status/containerStatuses"] {
            let containers = pod.pointer(list).and_then(Value::as_array).into_iter().flatten();
            let restarted = containers.filter(|container| number(container, "/restartCount") > 0);
            found.extend(restarted.map(|c| (text(pod, "/metadata/name").to_owned(), text(c, "/name").to_owned())));
        }
    }
    found
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
    fn an_exception_in_a_log_is_shown_in_lines() {
        let line = r#"{"time": "2026-11-28T09:27:42Z", "level": "critical", "message": "uncaught error",
            "exception": "  File \"/srv/app/main.py\", line 87\nModuleNotFoundError: No module named 'x'"}"#;
        let shown = for_people(&[line.replace('\n', "")]);
        assert_eq!(shown[..2], ["09:27:42 CRITICAL uncaught error", "    exception:"]);
        assert_eq!(shown.last().unwrap().trim(), "ModuleNotFoundError: No module named 'x'");
        assert_eq!(for_people(&["LOG:  checkpoint".to_owned()]), ["LOG:  checkpoint"]);
    }

    #[test]
    fn a_log_has_an_end_also_where_its_exceptions_are_long() {
        let frames: String = (0..100).map(|number| format!("  line {number}\\n")).collect();
        let entry = |name: &str| {
            format!(
                r#"{{"time": "2026-11-28T09:27:42Z", "level": "error", "message": "{name}", "exception": "{frames}X: {name}"}}"#
            )
        };
        let shown = for_people(&["LOG:  a".to_owned(), entry("b")]);
        assert_eq!(shown[..4], ["LOG:  a", "09:27:42 ERROR   b", "    exception:", "      …"]);
        assert_eq!((shown.len(), shown.last().unwrap().trim()), (1 + ENTRY, "X: b"));
        let shown = for_people(&["a", "b", "c"].map(entry));
        assert_eq!((shown.len(), shown.last().unwrap().trim()), (SHOWN, "X: c"));
    }

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
