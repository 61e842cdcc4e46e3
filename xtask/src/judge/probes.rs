//! Containers that run but do not become ready, and the answers that their probes got.

use camino::Utf8Path;
use serde_json::Value;

use super::Symptom;
use super::hosts::last_line;
use super::pods::{Container, containers};
use crate::clock;
use crate::snapshot::{Snapshot, number, text};

/// Failures of a probe before they count: a start, or a database that wakes up, takes a moment.
const MIN_FAILURES: u64 = 3;

/// Seconds within which kubelet reports that a failing probe made a pod unready.
const REPORT_DELAY: u64 = 10;

/// Finds containers whose probes fail.
pub fn failing(snapshot: &Snapshot) -> Vec<Symptom> {
    let running = containers(snapshot)
        .filter(|c| !c.init && c.status["ready"] == false && c.status.pointer("/state/running").is_some());
    running
        .map(|c| {
            let what = format!("{} runs but is not ready", c.title());
            let event = snapshot.last_event(c.pod, &["Unhealthy"]).filter(|event| !is_outdated(&c, &event.time));
            let Some(event) = event else {
                return Symptom::waiting(c.subject(), what);
            };
            let answer = answer(&event.message);
            let cause = format!("{what}: {}, {}", describe_probe(&c, &event.message), times(&answer, event.count));
            if answer == "status 503" {
                // A container that logs what it waits for makes progress, however long that takes.
                let last = snapshot.log_of(c.pod_name(), c.name()).and_then(last_line);
                match last.map(logged_wait) {
                    Some(None) => {}
                    Some(Some(what)) => return Symptom::waiting(c.subject(), format!("{cause}: {what}")),
                    None => return Symptom::waiting(c.subject(), cause),
                }
            }
            if event.count < MIN_FAILURES || is_starting(&c, &event.message) {
                return Symptom::waiting(c.subject(), cause);
            }
            Symptom::fatal(c.subject(), cause).help(help(&c, &answer, snapshot.chart())).log(c.pod_name(), c.name())
        })
        .collect()
}

/// Returns whether the event at `time` is older than the pod's present unreadiness. After a restart of the node, events
/// of the pod's first start are still there, although it was ready in between.
fn is_outdated(c: &Container<'_>, time: &str) -> bool {
    let conditions = c.pod["status"]["conditions"].as_array().into_iter().flatten();
    let mut since = conditions.filter(|condition| condition["type"] == "Ready" && condition["status"] == "False");
    let since = since.next().and_then(|condition| clock::parse(text(condition, "/lastTransitionTime")));
    clock::parse(time).zip(since).is_some_and(|(time, since)| time + REPORT_DELAY < since)
}

/// Returns the message of a line of the backend's log that says what the backend waits for.
fn logged_wait(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    line["message"].as_str().filter(|message| message.starts_with("waiting for ")).map(str::to_owned)
}

fn times(answer: &str, count: u64) -> String {
    if count == 1 { format!("got {answer}") } else { format!("got {answer} {count} times") }
}

/// Returns the answer in the message of an `Unhealthy` event: `status 503`, or the reason of a failed connection.
fn answer(message: &str) -> String {
    if let Some((_, code)) = message.split_once("statuscode: ") {
        return format!("status {code}");
    }
    let reason = message.split_once("probe failed: ").map_or(message, |(_, reason)| reason);
    reason.rsplit_once("connect: ").map_or(reason, |(_, reason)| reason).trim().to_owned()
}

/// Returns whether the container is still starting: its startup probe got no answer yet. The probe's own limit ends that.
/// An answer, even an error, comes from a program that has started.
fn is_starting(c: &Container<'_>, message: &str) -> bool {
    let answered = message.contains("statuscode:");
    message.starts_with("Startup") && !answered && c.status["started"] != true
}

/// Returns the failing probe as `readiness probe GET /healthz on port http`.
fn describe_probe(c: &Container<'_>, message: &str) -> String {
    let kind = message.split_once(' ').map_or("readiness", |(kind, _)| kind).to_lowercase();
    let probe = &c.spec[format!("{kind}Probe")];
    let how = match (probe.get("httpGet"), probe.get("exec")) {
        (Some(http), _) => format!(" GET {} on port {}", text(http, "/path"), plain(&http["port"])),
        (_, Some(exec)) => {
            let words = exec["command"].as_array().into_iter().flatten().filter_map(Value::as_str);
            format!(" {}", words.collect::<Vec<_>>().join(" "))
        }
        _ => String::new(),
    };
    format!("{kind} probe{how}")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn help(c: &Container<'_>, answer: &str, chart: &Utf8Path) -> String {
    let probe = format!("the probe in {chart}/templates");
    match answer.strip_prefix("status ").and_then(|code| code.parse::<u32>().ok()) {
        Some(404) => format!("nothing is at that path: correct {probe}, or add the route to the application"),
        Some(401 | 403) => format!("a health route must not require a session: correct the route, or {probe}"),
        Some(503) => {
            "the route reports whether the database answers: see the database's URL in .env, and the container's log"
                .to_owned()
        }
        Some(_) => "the application answers with an error: its log says why".to_owned(),
        None if answer.contains("refused") => {
            let ports = c.spec["ports"].as_array().into_iter().flatten();
            let ports: Vec<String> = ports.map(|port| number(port, "/containerPort").to_string()).collect();
            format!("nothing listens there: listen on 0.0.0.0 and on port {}, or correct {probe}", ports.join(", "))
        }
        None => format!("its log says why; or correct {probe}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_read_from_the_event_of_a_failed_probe() {
        for (message, expected) in [
            ("Readiness probe failed: HTTP probe failed with statuscode: 503", "status 503"),
            (
                "Startup probe failed: Get \"http://10.244.0.4:3000/healthz\": dial tcp 10.244.0.4:3000: connect: \
                 connection refused",
                "connection refused",
            ),
            ("Startup probe failed: 127.0.0.1:5432 - no response\n", "127.0.0.1:5432 - no response"),
        ] {
            assert_eq!(answer(message), expected);
        }
    }
}
