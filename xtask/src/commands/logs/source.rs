//! Containers and what kubectl says of them.

use std::io::{BufRead, BufReader};
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::line::Line;
use super::{App, Logs};
use crate::process::Process;
use crate::snapshot::text;
use crate::toolbox::Toolbox;

/// Longer than anybody follows.
const FOR_EVER: Duration = Duration::from_secs(30 * 86_400);
/// How long to wait before a log that has ended is asked for again: its container may be starting anew.
const AGAIN: Duration = Duration::from_secs(2);

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
    /// Whether the pod's first container is this one: then its name goes without saying.
    pub main: bool,
}

/// Every container that has run, of `app` or of all.
pub fn list(tools: &Toolbox, app: Option<App>) -> Result<Vec<Source>> {
    let mut selector = "app.kubernetes.io/part-of=todo".to_owned();
    if let Some(app) = app {
        selector.push_str(&format!(",app.kubernetes.io/component={}", app.component()));
    }
    parse(&tools.kubectl_here().args(["get", "pods", "-l", &selector, "--output", "json"]).read()?)
}

fn parse(list: &str) -> Result<Vec<Source>> {
    let list: Value = serde_json::from_str(list).context("kubectl did not print JSON")?;
    let mut sources = Vec::new();
    for pod in list["items"].as_array().into_iter().flatten() {
        for statuses in ["/status/initContainerStatuses", "/status/containerStatuses"] {
            for status in pod.pointer(statuses).and_then(Value::as_array).into_iter().flatten() {
                // One that waits for its first start has no log yet, and asking for it is an error.
                let started = status.pointer("/state/waiting").is_none() || status["restartCount"] != 0;
                let container = text(status, "/name").to_owned();
                let main = text(pod, "/spec/containers/0/name") == container;
                if started {
                    sources.push(Source { pod: text(pod, "/metadata/name").to_owned(), container, main });
                }
            }
        }
    }
    sources.sort();
    Ok(sources)
}

fn logs(tools: &Toolbox, source: &Source) -> Process {
    tools.kubectl_here().args(["logs", &source.pod, "--container", &source.container, "--timestamps"])
}

/// The container's lines so far. One that has gone meanwhile has none.
pub fn read(tools: &Toolbox, args: &Logs, source: &Source) -> Vec<Line> {
    let mut process = logs(tools, source).arg(format!("--tail={}", args.tail));
    if let Some(since) = &args.since {
        process = process.arg(format!("--since={since}"));
    }
    let text = process.read().unwrap_or_default();
    text.lines().map(|line| Line::parse(source, line)).collect()
}

/// Sends the container's lines after `since` (the time of the last one that is known) as they come, through restarts,
/// until the container is gone or nobody takes them any more.
pub fn follow(tools: &Toolbox, source: &Source, since: Option<&str>, sender: &Sender<Line>) {
    let mut last = since.map(str::to_owned);
    loop {
        let mut process = logs(tools, source).args(["--follow", "--request-timeout=0"]).deadline(FOR_EVER);
        if let Some(last) = &last {
            process = process.arg(format!("--since-time={last}"));
        }
        let Ok(piped) = process.pipe_from(None) else { return };
        let mut reader = BufReader::new(piped.reader());
        let mut bytes = Vec::new();
        // kubectl's since-time is to the second: what came within that second is known already.
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            let line = Line::parse(source, String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']));
            bytes.clear();
            if last.as_ref().is_some_and(|last| line.time <= *last) {
                continue;
            }
            last = Some(line.time.clone());
            if sender.send(line).is_err() {
                return;
            }
        }
        drop(reader);
        if piped.finish().is_err() {
            // Its pod is gone.
            return;
        }
        std::thread::sleep(AGAIN);
        let gone = tools.kubectl_here().args(["get", "pod", &source.pod, "--output", "name"]).read().is_err();
        if gone || !source.main {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_that_have_run_are_listed() {
        let sources = parse(include_str!("recorded.json")).unwrap();
        let names: Vec<String> = sources.iter().map(|s| format!("{} {} {}", s.pod, s.container, s.main)).collect();
        insta::assert_snapshot!(names.join("\n"), @"
        todo-backend-7747d78d4d-67nj6 backend true
        todo-backend-7747d78d4d-67nj6 migrate false
        todo-backend-7747d78d4d-xdml5 backend true
        todo-backend-7747d78d4d-xdml5 migrate false
        todo-frontend-688c5ccbbd-9zlgh frontend true
        todo-postgres-0 postgres true
        ");
    }
}
