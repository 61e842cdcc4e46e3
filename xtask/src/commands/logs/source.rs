//! Lists containers, and reads and follows their logs.

use std::io::BufRead;
use std::sync::mpsc::Sender;

use anyhow::Result;
use serde_json::Value;

use super::Logs;
use super::line::Line;
use crate::api::{Log, LogOptions, Scope, kinds};
use crate::deadlines;
use crate::labels::COMPONENT;
use crate::snapshot::text;
use crate::toolbox::Toolbox;

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The pod's name.
    pub pod: String,
    /// The container's name.
    pub container: String,
    /// Whether it is the pod's first container, whose name the output omits.
    pub is_main: bool,
}

/// Lists every container of the wanted component, or of all components, that has run.
pub fn list(tools: &Toolbox, args: &Logs) -> Result<Vec<Source>> {
    let mut selector = tools.release().selector();
    if let Some(component) = &args.component {
        selector.push_str(&format!(",{COMPONENT}={component}"));
    }
    Ok(of_pods(&tools.api()?.select(&kinds::POD, Scope::Namespace, &selector)?))
}

fn of_pods(pods: &[Value]) -> Vec<Source> {
    let mut sources = Vec::new();
    for pod in pods {
        for statuses in ["/status/initContainerStatuses", "/status/containerStatuses"] {
            for status in pod.pointer(statuses).and_then(Value::as_array).into_iter().flatten() {
                // A container before its first start has no log; requesting it is an error.
                let started = status.pointer("/state/waiting").is_none() || status["restartCount"] != 0;
                let container = text(status, "/name").to_owned();
                let is_main = text(pod, "/spec/containers/0/name") == container;
                if started {
                    sources.push(Source { pod: text(pod, "/metadata/name").to_owned(), container, is_main });
                }
            }
        }
    }
    sources.sort();
    sources
}

/// Reads the container's existing lines. Returns none if the container is gone.
pub fn read(tools: &Toolbox, args: &Logs, source: &Source) -> Result<Vec<Line>> {
    let options =
        LogOptions { timestamps: true, tail: Some(args.tail), since_seconds: args.since, ..LogOptions::default() };
    let Log::Lines(mut lines) = tools.api()?.log(&source.pod, &source.container, &options)? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    while let Some(line) = read_line(&mut lines, source)? {
        found.push(line);
    }
    Ok(found)
}

/// Reads the next line, which may contain any bytes; `None` at the end of the log.
fn read_line(lines: &mut dyn BufRead, source: &Source) -> std::io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    if lines.read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    Ok(Some(Line::parse(source, String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']))))
}

/// Sends new lines of the container after `since`, the time of the last known line. Continues through restarts and
/// reconnects, until the container is gone or nobody receives the lines.
pub fn follow(tools: &Toolbox, source: &Source, since: Option<&str>, sender: &Sender<Line>) {
    let mut last = since.map(str::to_owned);
    loop {
        let options = LogOptions { timestamps: true, since: last.clone(), ..LogOptions::default() };
        let Ok(api) = tools.api() else { return };
        let streams = api.streams();
        let mut lines = match streams.follow_log(&source.pod, &source.container, &options) {
            Ok(Log::Lines(lines)) => lines,
            Ok(Log::NoPod) => return,
            // The container is restarting, or the API server does not respond.
            Ok(Log::Nothing(_)) | Err(_) => {
                std::thread::sleep(deadlines::LOG_POLL.time());
                continue;
            }
        };
        // The server compares whole seconds, so skip the known lines of that second.
        while let Ok(Some(line)) = read_line(&mut lines, source) {
            if last.as_ref().is_some_and(|last| line.time <= *last) {
                continue;
            }
            last = Some(line.time.clone());
            if sender.send(line).is_err() {
                return;
            }
        }
        std::thread::sleep(deadlines::LOG_POLL.time());
        // An init container writes nothing more.
        if !source.is_main {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_containers_that_have_run() {
        let list: Value = serde_json::from_str(include_str!("recorded.json")).unwrap();
        let sources = of_pods(list["items"].as_array().unwrap());
        let names: Vec<String> = sources.iter().map(|s| format!("{} {} {}", s.pod, s.container, s.is_main)).collect();
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
