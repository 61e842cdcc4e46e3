//! The evidence of a failed rollout, saved before anything is undone, and the error that explains the failure.

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::rollout::FailedRollout;
use super::{helm, secrets};
use crate::api::{LogOptions, Scope, kinds};
use crate::checkout::TARGET;
use crate::clock;
use crate::failure::{self, Class, Failure, Hint};
use crate::inventory;
use crate::judge::{Finding, Gravity};
use crate::private;
use crate::secrets::Redactor;
use crate::snapshot::{Snapshot, number, text};
use crate::toolbox::Toolbox;

/// Folder of the evidence in the checkout's output.
const FOLDER: &str = "evidence";
/// Lines of a log that the error shows; the evidence has more.
const SHOWN_LINES: usize = 20;
/// Lines of one log entry that the error shows: its first two, and its end, which names the exception.
const ENTRY_LINES: usize = 16;
/// Lines of each log in the evidence.
pub const SAVED_LINES: u32 = 500;
/// Findings that the error shows, fatal ones first.
const SHOWN_FINDINGS: usize = 3;
/// Bundles of evidence that are kept.
const KEPT_BUNDLES: usize = 10;

/// Saves the evidence. Returns the error that explains why the rollout failed, with the path of the evidence.
pub fn explain(tools: &Toolbox, redactor: &Redactor, failed: &FailedRollout) -> Failure {
    let full_redactor = with_secrets_of_cluster(tools, redactor);
    tools.report.hide(full_redactor.as_ref().unwrap_or(redactor));
    let mut message = failed.summary.clone();
    let mut help: Vec<Hint> = Vec::new();
    let has_fatal = failed.findings.iter().any(|finding| finding.gravity == Gravity::Fatal);
    let shown = failed.findings.iter().filter(|finding| !has_fatal || finding.gravity == Gravity::Fatal);
    for finding in shown.take(SHOWN_FINDINGS) {
        message.push_str(&format!("\n  {}: {}", finding.subject, finding.cause.replace('\n', "\n  ")));
        // Without the cluster's Secrets no log is shown: it may contain a value of an older one.
        let log = full_redactor.iter().flat_map(|_| last_log(tools, finding)).collect::<Vec<_>>();
        for line in readable_lines(&log) {
            message.push_str(&format!("\n    | {line}"));
        }
        help.extend(finding.help.iter().filter(|hint| !help.contains(hint)).cloned().collect::<Vec<_>>());
    }
    let message = full_redactor.as_ref().unwrap_or(redactor).redact(&message);
    let running = tools.report.step("release", "save the evidence", "before anything is undone");
    let saved = full_redactor.and_then(|redactor| save(tools, &redactor, failed, &message));
    let failure = help.into_iter().fold(Failure::new(Class::Rollout, message), Failure::help);
    match saved {
        Ok(dir) => {
            let shown = format!("{TARGET}/{FOLDER}/{}", dir.file_name().unwrap_or_default());
            running.done(&shown);
            failure.help(format!("evidence (events, descriptions, logs): {shown}"))
        }
        Err(error) => {
            drop(running);
            failure.help(format!("the evidence could not be saved: {}", failure::message(&error)))
        }
    }
}

/// Returns `redactor` with the values of all our Secrets in the cluster, because pods of older revisions use old values of
/// `.env`. If this fails, nothing that a pod wrote may be shown or saved.
fn with_secrets_of_cluster(tools: &Toolbox, redactor: &Redactor) -> Result<Redactor> {
    let of_cluster = secrets::redactor(tools);
    let mut redactor = redactor.clone();
    redactor.extend(of_cluster.context("cannot read the cluster's Secrets, whose values must be removed from it")?);
    Ok(redactor)
}

/// Reads the end of the log that explains a finding: that of the previous container, if it was restarted.
fn last_log(tools: &Toolbox, finding: &Finding) -> Vec<String> {
    let Some((pod, container)) = &finding.log_of else { return Vec::new() };
    let read = || match log(tools, pod, container, true, SHOWN_LINES as u32)? {
        Some(text) => anyhow::Ok(Some(text)),
        None => log(tools, pod, container, false, SHOWN_LINES as u32),
    };
    match read() {
        Ok(text) => text.unwrap_or_default().lines().map(str::to_owned).collect(),
        Err(error) => vec![format!("(its log cannot be read: {})", failure::message(&error))],
    }
}

/// Returns the last lines of a log for people. A JSON object becomes time, level, message, fields and lines of an exception.
fn readable_lines(log: &[String]) -> Vec<String> {
    let mut shown = Vec::new();
    for entry in log {
        let text = anstream::adapter::strip_str(&inventory::readable("", entry)).to_string();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.len() > ENTRY_LINES {
            lines.splice(2..lines.len() - ENTRY_LINES + 3, ["      …".to_owned()]);
        }
        shown.extend(lines);
    }
    shown.split_off(shown.len().saturating_sub(SHOWN_LINES))
}

fn log(tools: &Toolbox, pod: &str, container: &str, previous: bool, lines: u32) -> Result<Option<String>> {
    let options = LogOptions { previous, tail: Some(lines), ..LogOptions::default() };
    inventory::log(&tools.api()?, pod, container, &options)
}

/// Saves the bundle `target/xtask/evidence/<time>-<cause>` with `message`, all through `redactor`. Returns its folder.
fn save(
    tools: &Toolbox,
    redactor: &Redactor,
    FailedRollout { cause, snapshot, .. }: &FailedRollout,
    message: &str,
) -> Result<Utf8PathBuf> {
    let all = tools.target.join(FOLDER);
    let time = clock::rfc3339(clock::now()).replace(['-', ':'], "");
    let dir = all.join(format!("{time}-{cause}"));
    private::create_dir(&dir)?;
    let write = |name: &str, text: &str| private::write(&dir.join(name), &redactor.redact(text));
    write("cause.txt", message)?;
    let api = tools.api()?;
    // A request that fails must not cost the other files: its error is saved in place of its answer.
    let or_error = |text: Result<String>| text.unwrap_or_else(|error| failure::message(&error) + "\n");
    let history = secrets::observe(tools).map(|secrets| helm::observe(&secrets).table());
    write("helm-history.txt", &or_error(history))?;
    let all_of = |resource| Ok(inventory::yaml(&api.list(resource, Scope::Cluster)?.items));
    write("nodes.txt", &or_error(all_of(&kinds::NODE)))?;
    let quotas = or_error(api.list(&kinds::RESOURCE_QUOTA, Scope::Namespace).map(|list| inventory::yaml(&list.items)));
    let objects = snapshot.objects();
    write("pods.txt", &inventory::pods(objects))?;
    write("events.txt", &inventory::events(objects))?;
    write("describe.txt", &inventory::describe(objects))?;
    // Only our objects in full: of others, states and events explain enough.
    let ours = inventory::yaml(objects.iter().filter(|o| o["kind"] != "Event" && snapshot.is_ours(o)));
    write("objects.yaml", &format!("{ours}{quotas}"))?;
    for (name, text) in logs(tools, snapshot)? {
        write(&name, &text)?;
    }
    // The next failure tries again; this bundle is saved.
    let _ = remove_old(&all);
    Ok(dir)
}

/// Reads the logs of our pods, and those of the previous containers. Returns the names and texts of the files. A log that
/// cannot be read does not prevent the others: its error is saved in its place.
fn logs(tools: &Toolbox, snapshot: &Snapshot) -> Result<Vec<(String, String)>> {
    let (api, options) = (tools.api()?, LogOptions { tail: Some(SAVED_LINES), ..LogOptions::default() });
    let present = snapshot.kind("Pod").map(|pod| inventory::logs(&api, pod, &options)).collect();
    let previous = restarted_containers(snapshot).into_iter().filter_map(|(pod, container)| {
        let text = log(tools, &pod, &container, true, SAVED_LINES).transpose()?;
        let text = text.unwrap_or_else(|error| failure::message(&error) + "\n");
        Some((format!("{pod}.{container}.previous.txt"), text))
    });
    Ok(std::iter::once(("logs.txt".to_owned(), present)).chain(previous).collect())
}

/// Returns pod and name of each container that was restarted: its previous log is saved too.
fn restarted_containers(snapshot: &Snapshot) -> Vec<(String, String)> {
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
fn remove_old(all: &Utf8Path) -> Result<()> {
    let mut bundles: Vec<_> = std::fs::read_dir(all)?.filter_map(Result::ok).filter(|e| e.path().is_dir()).collect();
    bundles.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
    for old in bundles.into_iter().skip(KEPT_BUNDLES) {
        std::fs::remove_dir_all(old.path())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::tests;
    use crate::api::tests::api_server::{ApiServer, Reply};

    #[test]
    fn an_exception_in_a_log_is_split_into_lines() {
        let line = r#"{"time": "2026-11-28T09:27:42Z", "level": "critical", "message": "uncaught error",
            "exception": "  File \"/srv/app/main.py\", line 87\nModuleNotFoundError: No module named 'x'"}"#;
        let shown = readable_lines(&[line.replace('\n', "")]);
        assert_eq!(shown[..2], ["09:27:42 CRITICAL uncaught error", "    exception:"]);
        assert_eq!(shown.last().unwrap().trim(), "ModuleNotFoundError: No module named 'x'");
        assert_eq!(readable_lines(&["LOG:  checkpoint".to_owned()]), ["LOG:  checkpoint"]);
    }

    #[test]
    fn a_long_exception_is_cut_in_its_middle() {
        let frames: String = (0..100).map(|number| format!("  line {number}\\n")).collect();
        let entry = |name: &str| {
            format!(
                r#"{{"time": "2026-11-28T09:27:42Z", "level": "error", "message": "{name}", "exception": "{frames}X: {name}"}}"#
            )
        };
        let shown = readable_lines(&["LOG:  a".to_owned(), entry("b")]);
        assert_eq!(shown[..4], ["LOG:  a", "09:27:42 ERROR   b", "    exception:", "      …"]);
        assert_eq!((shown.len(), shown.last().unwrap().trim()), (1 + ENTRY_LINES, "X: b"));
        let shown = readable_lines(&["a", "b", "c"].map(entry));
        assert_eq!((shown.len(), shown.last().unwrap().trim()), (SHOWN_LINES, "X: c"));
    }

    /// `test faults` relies on it: these requests share the five faults.
    #[test]
    fn whichever_log_cannot_be_read_the_others_are_saved() {
        let pod = |name: &str, restarts: u32| {
            json!({"kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [{"name": "c"}]},
                   "status": {"containerStatuses": [{"name": "c", "restartCount": restarts}]}})
        };
        let snapshot = Snapshot::of(vec![pod("a", 0), pod("b", 1)]);
        let line = |number: usize| format!("line {number}");
        // Which files have which of the three lines, if the request `failing` gets `reply`.
        let saved = |failing: usize, reply: &Reply| {
            let replies = (0..3).map(|number| match number == failing {
                true => tests::each_time(reply),
                false => vec![Reply::Chunks(vec![line(number)])],
            });
            let server = ApiServer::start();
            server.on("*", &replies.flatten().collect::<Vec<_>>());
            let files = logs(&tests::toolbox_for(&server, reply), &snapshot).unwrap();
            files.into_iter().map(|(name, text)| (name, [0, 1, 2].map(|number| text.contains(&line(number)))))
        };
        for reply in tests::wrong() {
            for failing in 0..3 {
                let expected = [("logs.txt", [failing != 0, failing != 1, false])];
                let expected = expected.into_iter().chain([("b.c.previous.txt", [false, false, failing != 2])]);
                let found: Vec<_> = saved(failing, &reply).collect();
                assert_eq!(
                    found,
                    expected.map(|(name, lines)| (name.to_owned(), lines)).collect::<Vec<_>>(),
                    "{reply:?}"
                );
            }
        }
    }

    #[test]
    fn only_the_newest_bundles_are_kept() {
        let temp = tempfile::tempdir().unwrap();
        let all = Utf8Path::from_path(temp.path()).unwrap();
        for number in 10..25 {
            std::fs::create_dir(all.join(format!("20261121T0824{number}Z-crash-loop"))).unwrap();
        }
        remove_old(all).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(all).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!((left.len(), left[0].to_str().unwrap()), (KEPT_BUNDLES, "20261121T082415Z-crash-loop"));
    }
}
