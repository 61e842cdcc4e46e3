//! Containers that run but do not become ready: what their probes got.

use serde_json::Value;

use super::Symptom;
use super::hosts::last_line;
use super::pods::{Container, containers};
use crate::clock;
use crate::snapshot::{Snapshot, number, text};

/// How often a probe must get the same answer before it counts: a start, or a database that wakes up, takes a moment.
const SAME: u64 = 3;

/// Within how many seconds kubelet reports that a failing probe made a pod unready.
const REPORTED: u64 = 10;

/// Probes that fail.
pub fn failing(snapshot: &Snapshot) -> Vec<Symptom> {
    let running = containers(snapshot)
        .filter(|c| !c.init && c.status["ready"] == false && c.status.pointer("/state/running").is_some());
    running
        .map(|c| {
            let what = format!("{} runs but is not ready", c.called());
            let event = snapshot.last_event(c.pod, &["Unhealthy"]).filter(|event| !is_over(&c, &event.time));
            let Some(event) = event else {
                return Symptom::waiting(c.subject(), what);
            };
            let got = got(&event.message);
            let cause = format!("{what}: {}, {}", asked(&c, &event.message), times(&got, event.count));
            if got == "status 503" {
                // One that says what it waits for is on its way, however long that takes.
                let last = snapshot.log_of(c.pod_name(), c.name()).and_then(last_line);
                match last.map(awaited) {
                    Some(None) => {}
                    Some(Some(what)) => return Symptom::waiting(c.subject(), format!("{cause}: {what}")),
                    None => return Symptom::waiting(c.subject(), cause),
                }
            }
            if event.count < SAME || starts(&c, &event.message) {
                return Symptom::waiting(c.subject(), cause);
            }
            Symptom::fatal(c.subject(), cause).help(help(&c, &got)).log(c.pod_name(), c.name())
        })
        .collect()
}

/// Whether what happened at `time` was over before the pod became unready, as after a restart of the node: it was ready
/// in between.
fn is_over(c: &Container<'_>, time: &str) -> bool {
    let conditions = c.pod["status"]["conditions"].as_array().into_iter().flatten();
    let mut since = conditions.filter(|condition| condition["type"] == "Ready" && condition["status"] == "False");
    let since = since.next().and_then(|condition| clock::parse(text(condition, "/lastTransitionTime")));
    clock::parse(time).zip(since).is_some_and(|(time, since)| time + REPORTED < since)
}

/// What this line of the backend's log says that it waits for.
fn awaited(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    line["message"].as_str().filter(|message| message.starts_with("waiting for ")).map(str::to_owned)
}

fn times(got: &str, count: u64) -> String {
    if count == 1 { format!("got {got}") } else { format!("got {got} {count} times") }
}

/// `statuscode: 503` -> `status 503`; of a failed connection, the reason alone.
fn got(message: &str) -> String {
    if let Some((_, code)) = message.split_once("statuscode: ") {
        return format!("status {code}");
    }
    let reason = message.split_once("probe failed: ").map_or(message, |(_, reason)| reason);
    reason.rsplit_once("connect: ").map_or(reason, |(_, reason)| reason).trim().to_owned()
}

/// While the startup probe finds nobody, the program is still on its way; the probe's own limit ends that. An answer,
/// though, comes from a program that has started.
fn starts(c: &Container<'_>, message: &str) -> bool {
    let answered = message.contains("statuscode:");
    message.starts_with("Startup") && !answered && c.status["started"] != true
}

/// `readiness probe GET /healthz on port http`.
fn asked(c: &Container<'_>, message: &str) -> String {
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

fn help(c: &Container<'_>, got: &str) -> String {
    let probe = "the probe in infra/helm/templates";
    match got.strip_prefix("status ").and_then(|code| code.parse::<u32>().ok()) {
        Some(404) => format!("nothing is at that path: correct {probe}, or add the route to the application"),
        Some(401 | 403) => format!("a health route must need no session: correct the route, or {probe}"),
        Some(503) => "ready means that the database was reached: see DATABASE_URL in .env, and its log".to_owned(),
        Some(_) => "the application answers with an error: its log says why".to_owned(),
        None if got.contains("refused") => {
            let ports = c.spec["ports"].as_array().into_iter().flatten();
            let ports: Vec<String> = ports.map(|port| number(port, "/containerPort").to_string()).collect();
            format!("nobody listens: does it listen on 0.0.0.0 and on port {}? (or correct {probe})", ports.join(", "))
        }
        None => format!("its log says why; or correct {probe}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_probe_got_is_said_in_a_few_words() {
        for (message, said) in [
            ("Readiness probe failed: HTTP probe failed with statuscode: 503", "status 503"),
            (
                "Startup probe failed: Get \"http://10.244.0.4:3000/healthz\": dial tcp 10.244.0.4:3000: connect: \
                 connection refused",
                "connection refused",
            ),
            ("Startup probe failed: 127.0.0.1:5432 - no response\n", "127.0.0.1:5432 - no response"),
        ] {
            assert_eq!(got(message), said);
        }
    }
}
