//! The cluster's objects as text, for the evidence of a failed rollout and for `doctor --bundle`. Of Secrets it shows
//! names and keys, and never reads the content.

use std::io::Read;

use anstyle::Style;
use anyhow::Result;
use serde_json::{Value, json};

use crate::api::{Api, Log, LogOptions};
use crate::failure;
use crate::json::{number, text};
use crate::report::{BAD, DIM, WARN};

/// The line that kubelet returns as a successful log while it removes a container.
const NO_LOG: &str = "unable to retrieve container logs";

/// Returns the objects as YAML, one document each.
pub fn yaml<'a>(objects: impl IntoIterator<Item = &'a Value>) -> String {
    let document = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            // The managers of all fields: longer than the rest.
            metadata.remove("managedFields");
        }
        if object["kind"] == "Secret" {
            for part in ["data", "stringData"] {
                if let Some(data) = object[part].as_object() {
                    object[part] = json!(data.keys().collect::<Vec<_>>());
                }
            }
        }
        // Kind and version first, as everybody writes them.
        let mut ordered = json!({"apiVersion": object["apiVersion"].take(), "kind": object["kind"].take()});
        if let (Some(ordered), Some(rest)) = (ordered.as_object_mut(), object.as_object_mut()) {
            rest.retain(|_, value| !value.is_null());
            ordered.extend(std::mem::take(rest));
        }
        let object = ordered;
        format!("---\n{}", serde_norway::to_string(&object).unwrap_or_else(|error| format!("# {error}\n")))
    };
    objects.into_iter().map(document).collect()
}

/// Returns the Events among the objects, the newest last.
pub fn events<'a>(objects: impl IntoIterator<Item = &'a Value>) -> String {
    let mut events: Vec<&Value> = objects.into_iter().filter(|object| object["kind"] == "Event").collect();
    events.sort_by_key(|event| time_of(event));
    let row = |event: &&Value| {
        let about = format!("{}/{}", text(event, "/involvedObject/kind"), text(event, "/involvedObject/name"));
        let count = number(event, "/count").max(number(event, "/series/count")).max(1).to_string();
        [time_of(event), text(event, "/type"), text(event, "/reason"), &count, &about, text(event, "/message").trim()]
            .map(str::to_owned)
            .to_vec()
    };
    table(&["LAST SEEN", "TYPE", "REASON", "COUNT", "OBJECT", "MESSAGE"], events.iter().map(row).collect())
}

/// Returns the Pods among the objects.
pub fn pods<'a>(objects: impl IntoIterator<Item = &'a Value>) -> String {
    let row = |pod: &Value| {
        let containers = list(pod, "/status/containerStatuses");
        let ready = containers.iter().filter(|status| status["ready"] == true).count();
        let waiting = containers.iter().map(|status| text(status, "/state/waiting/reason")).find(|r| !r.is_empty());
        let restarts: u64 = containers.iter().map(|status| number(status, "/restartCount")).sum();
        vec![
            text(pod, "/metadata/namespace").to_owned(),
            text(pod, "/metadata/name").to_owned(),
            format!("{ready}/{}", list(pod, "/spec/containers").len()),
            waiting.unwrap_or(text(pod, "/status/phase")).to_owned(),
            restarts.to_string(),
            text(pod, "/metadata/creationTimestamp").to_owned(),
            text(pod, "/spec/nodeName").to_owned(),
        ]
    };
    let rows = objects.into_iter().filter(|object| object["kind"] == "Pod").map(row).collect();
    table(&["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "CREATED", "NODE"], rows)
}

/// Returns each object except Events, with its conditions, its containers' states, and the Events about it.
pub fn describe(objects: &[Value]) -> String {
    let mut told = String::new();
    for object in objects.iter().filter(|object| object["kind"] != "Event") {
        told.push_str(&format!("{}/{}\n", text(object, "/kind"), text(object, "/metadata/name")));
        for condition in list(object, "/status/conditions") {
            let (name, status) = (text(condition, "/type"), text(condition, "/status"));
            let why = [text(condition, "/reason"), text(condition, "/message")].join(" ");
            told.push_str(&format!("  condition {name}={status} {}\n", why.trim()));
        }
        for statuses in ["/status/initContainerStatuses", "/status/containerStatuses"] {
            for status in list(object, statuses) {
                let (name, restarts) = (text(status, "/name"), number(status, "/restartCount"));
                told.push_str(&format!("  container {name}: {} restarts={restarts}", status["state"]));
                if status["lastState"].as_object().is_some_and(|last| !last.is_empty()) {
                    told.push_str(&format!(" before: {}", status["lastState"]));
                }
                told.push('\n');
            }
        }
        let about =
            |event: &&Value| event["kind"] == "Event" && event["involvedObject"]["uid"] == object["metadata"]["uid"];
        let mut about: Vec<&Value> = objects.iter().filter(about).collect();
        about.sort_by_key(|event| time_of(event));
        for event in about {
            let (time, reason) = (time_of(event), text(event, "/reason"));
            told.push_str(&format!("  event {time} {reason}: {}\n", text(event, "/message").trim()));
        }
    }
    told
}

/// Returns the names of a pod's containers, init containers first.
pub fn containers(pod: &Value) -> Vec<String> {
    let of = |path: &str| list(pod, path).iter().map(|container| text(container, "/name").to_owned());
    of("/spec/initContainers").chain(of("/spec/containers")).collect()
}

/// Reads a container's log; `None`: it has none.
pub fn log(api: &Api, pod: &str, container: &str, options: &LogOptions) -> Result<Option<String>> {
    let Log::Lines(mut lines) = api.log(pod, container, options)? else { return Ok(None) };
    let mut bytes = Vec::new();
    lines.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok((!text.is_empty() && !text.starts_with(NO_LOG)).then_some(text))
}

/// Returns time of day, level, message and fields of a JSON line. The time is `time`, the runtime's, or the line's if
/// that is empty.
pub fn readable(time: &str, line: &str) -> String {
    let shown = |time: &str| if time.is_empty() { String::new() } else { format!("{DIM}{time}{DIM:#} ") };
    let plain = || format!("{}{line}", shown(time));
    let Ok(Value::Object(mut entry)) = serde_json::from_str(line) else { return plain() };
    let Some(Value::String(message)) = entry.shift_remove("message") else { return plain() };
    let level = entry.shift_remove("level").and_then(|level| level.as_str().map(str::to_uppercase)).unwrap_or_default();
    let style = match level.as_str() {
        "ERROR" | "CRITICAL" | "FATAL" => BAD,
        "WARNING" | "WARN" => WARN,
        _ => Style::new(),
    };
    let own = entry.shift_remove("time").unwrap_or_default();
    let own = own.as_str().and_then(|own| own.get(11..19)).unwrap_or_default();
    let time = shown(if time.is_empty() { own } else { time });
    let mut blocks = String::new();
    let mut text = format!("{time}{style}{level:<7}{style:#} {message}");
    for (name, value) in entry {
        match value {
            Value::String(lines) if lines.contains('\n') => {
                blocks.push_str(&format!("\n    {name}:\n      {}", lines.trim_end().replace('\n', "\n      ")));
            }
            Value::String(word) if !word.is_empty() && !word.contains(char::is_whitespace) => {
                text.push_str(&format!(" {DIM}{name}={DIM:#}{word}"));
            }
            value => text.push_str(&format!(" {DIM}{name}={DIM:#}{value}")),
        }
    }
    text + &blocks
}

/// Returns the logs of all containers of a pod, each line under the container's name. A log that cannot be read does
/// not prevent the others.
pub fn logs(api: &Api, pod: &Value, options: &LogOptions) -> String {
    let name = text(pod, "/metadata/name");
    let mut told = String::new();
    for container in containers(pod) {
        let prefix = format!("[pod/{name}/{container}]");
        match log(api, name, &container, options) {
            Ok(Some(text)) => text.lines().for_each(|line| told.push_str(&format!("{prefix} {line}\n"))),
            Ok(None) => {}
            Err(error) => told.push_str(&format!("{prefix} xtask: {}\n", failure::message(&error))),
        }
    }
    told
}

/// Returns when an Event happened last.
fn time_of(event: &Value) -> &str {
    let times = ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"];
    times.iter().map(|pointer| text(event, pointer)).find(|time| !time.is_empty()).unwrap_or_default()
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Formats rows in columns as wide as their longest cell; the last column is not padded.
pub fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let all: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let last = all[0].len() - 1;
    let widths: Vec<usize> =
        (0..last).map(|at| all.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: String = (0..last).map(|at| format!("{:<width$}  ", row[at], width = widths[at])).collect();
        format!("{cells}{}\n", row[last])
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_its_keys_and_never_its_values() {
        let secret = json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s", "managedFields": [{"manager": "xtask"}]},
                            "data": {"AUTH_SECRET": "Q0FOQVJZ"}, "stringData": {"OTHER": "CANARY"}});
        let text = yaml([&secret]);
        assert!(text.contains("AUTH_SECRET") && text.contains("OTHER") && !text.contains("managedFields"), "{text}");
        assert!(text.starts_with("---\napiVersion: v1\nkind: Secret\n"), "{text}");
        assert!(!text.contains("Q0FOQVJZ") && !text.contains("CANARY"), "{text}");
    }

    #[test]
    fn a_pod_is_described_with_its_containers_and_events() {
        let event = |time: &str, reason: &str, uid: &str| {
            json!({"kind": "Event", "lastTimestamp": time, "reason": reason, "message": "m", "type": "Warning",
                   "involvedObject": {"kind": "Pod", "name": "p", "uid": uid}})
        };
        let pod = json!({"kind": "Pod", "metadata": {"name": "p", "namespace": "todo", "uid": "1"},
            "spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False", "reason": "R"}],
                       "containerStatuses": [{"name": "c", "restartCount": 2, "ready": false, "lastState": {},
                                              "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}});
        let objects = [
            event("2026-01-01T00:00:02Z", "Later", "1"),
            event("2026-01-01T00:00:01Z", "Pulled", "1"),
            pod,
            event("2026-01-01T00:00:00Z", "Other", "2"),
        ];
        insta::assert_snapshot!(describe(&objects), @r#"
        Pod/p
          condition Ready=False R
          container c: {"waiting":{"reason":"CrashLoopBackOff"}} restarts=2
          event 2026-01-01T00:00:01Z Pulled: m
          event 2026-01-01T00:00:02Z Later: m
        "#);
        insta::assert_snapshot!(events(&objects), @"
        LAST SEEN             TYPE     REASON  COUNT  OBJECT  MESSAGE
        2026-01-01T00:00:00Z  Warning  Other   1      Pod/p   m
        2026-01-01T00:00:01Z  Warning  Pulled  1      Pod/p   m
        2026-01-01T00:00:02Z  Warning  Later   1      Pod/p   m
        ");
        assert_eq!(
            pods(&objects).lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>()[..5],
            ["todo", "p", "0/1", "CrashLoopBackOff", "2"]
        );
        assert_eq!(containers(&objects[2]), ["i", "c"]);
    }
}
