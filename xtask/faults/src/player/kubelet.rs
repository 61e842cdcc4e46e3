//! Simulates the kubelet: pods run with the node's images, crash if their image does, and end when they are deleted.

use serde_json::{Value, json};

use super::{now, text};
use crate::etcd::{Objects, Stored, Write};
use crate::machine::{Machine, PROFILE, canonical};

pub(super) fn run(live: &Objects, machine: &Machine) -> Vec<Write> {
    let running = machine.node.as_deref() == Some("running");
    let pods = live.iter().filter(|(key, _)| running && key.starts_with("/registry/pods/"));
    pods.filter_map(|(key, stored)| sync(key, stored, machine)).collect()
}

fn sync(key: &str, stored: &Stored, machine: &Machine) -> Option<Write> {
    let pod = &stored.value;
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        return Some(Write::Delete(key.to_owned()));
    }
    let mut next = pod.clone();
    next["spec"]["nodeName"] = json!(PROFILE);
    let status = status(pod, machine);
    // Different times alone are no change.
    let same = text(pod, "/spec/nodeName") == PROFILE
        && pod["status"]["containerStatuses"] == status["containerStatuses"]
        && pod["status"]["phase"] == status["phase"];
    if same {
        return None;
    }
    next["status"] = status;
    Some(Write::Put(key.to_owned(), next, stored.revision.clone()))
}

fn status(pod: &Value, machine: &Machine) -> Value {
    let started = pod.pointer("/status/startTime").cloned().unwrap_or_else(|| json!(now()));
    let list = |name: &str| pod["spec"][name].as_array().cloned().unwrap_or_default();
    let id = |spec: &Value| machine.node_images.get(&canonical(text(spec, "/image"))).cloned();
    let missing = list("initContainers").iter().chain(&list("containers")).any(|spec| id(spec).is_none());
    let crashes = |spec: &Value| id(spec).is_some_and(|id| machine.crashing.contains(&id));
    let one = |spec: &Value, state: Value, ready: bool, more: Value| {
        let id = if missing { String::new() } else { id(spec).unwrap_or_default() };
        let mut status = json!({"name": spec["name"], "image": canonical(text(spec, "/image")), "imageID": id,
            "containerID": "containerd://c", "ready": ready, "started": ready, "restartCount": 0, "state": state});
        if let (Some(status), Value::Object(more)) = (status.as_object_mut(), more) {
            status.extend(more);
        }
        status
    };
    let ended =
        json!({"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": started, "finishedAt": started}});
    let inits: Vec<Value> = list("initContainers").iter().map(|spec| match missing {
        true => one(spec, json!({"waiting": {"reason": "ErrImageNeverPull", "message": "Container image is not present with pull policy of Never"}}), false, json!({})),
        false => one(spec, ended.clone(), true, json!({})),
    }).collect();
    let mut ready = !missing;
    let containers: Vec<Value> = list("containers").iter().map(|spec| {
        if missing {
            let reason = if inits.is_empty() { "ErrImageNeverPull" } else { "PodInitializing" };
            return one(spec, json!({"waiting": {"reason": reason}}), false, json!({}));
        }
        if crashes(spec) {
            ready = false;
            let last = json!({"terminated": {"exitCode": 1, "reason": "Error", "startedAt": started, "finishedAt": started}});
            let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}});
            return one(spec, waiting, false, json!({"lastState": last, "restartCount": 3}));
        }
        one(spec, json!({"running": {"startedAt": started}}), true, json!({}))
    }).collect();
    let condition = |name: &str, is: bool| json!({"type": name, "status": if is { "True" } else { "False" }, "lastTransitionTime": now()});
    let address = format!(
        "10.244.0.{}",
        2 + u32::from_str_radix(&super::short(&pod["metadata"]["uid"], 2), 16).unwrap_or(0) % 250
    );
    json!({"phase": if missing { "Pending" } else { "Running" }, "startTime": started, "hostIP": "127.0.0.1",
        "podIP": address, "podIPs": [{"ip": address}], "qosClass": "Burstable",
        "conditions": [condition("PodScheduled", true), condition("Initialized", !missing),
            condition("ContainersReady", ready), condition("Ready", ready)],
        "initContainerStatuses": inits, "containerStatuses": containers})
}
