//! One table of causes: what a snapshot says about each workload, and which of it cannot get better by waiting.

use serde_json::Value;

use crate::snapshot::{Snapshot, number, text};

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    /// Time will mend it.
    Waiting,
    /// It will not mend itself.
    Fatal,
}

/// Something about a workload that keeps it from being ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How grave.
    pub gravity: Gravity,
    /// `pod/todo-backend-…` or `deployment/todo-backend`.
    pub subject: String,
    /// The cause in one line.
    pub cause: String,
    /// The next step.
    pub help: String,
    /// The container whose log tells more.
    pub log_of: Option<(String, String)>,
}

/// How far a workload's rollout is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Its name.
    pub name: String,
    /// Pods wanted.
    pub wanted: u64,
    /// Pods of the current template.
    pub updated: u64,
    /// Ready ones of all.
    pub ready: u64,
    /// Whether nothing is left to do.
    pub complete: bool,
}

/// The rollout of every workload.
pub fn progress(snapshot: &Snapshot) -> Vec<Progress> {
    snapshot.workloads().map(of_workload).collect()
}

fn of_workload(workload: &Value) -> Progress {
    let wanted = workload.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
    let status = |name: &str| number(workload, &format!("/status/{name}"));
    let observed = status("observedGeneration") >= number(workload, "/metadata/generation");
    let (updated, ready, all) = (status("updatedReplicas"), status("readyReplicas"), status("replicas"));
    // A StatefulSet that is complete leaves `updatedReplicas` out once current and update revision agree.
    let stateful = workload["kind"] == "StatefulSet";
    let settled = stateful && workload.pointer("/status/currentRevision") == workload.pointer("/status/updateRevision");
    let updated = if settled { ready } else { updated };
    let complete = observed && updated == wanted && ready == wanted && all == wanted;
    Progress { name: text(workload, "/metadata/name").to_owned(), wanted, updated, ready, complete }
}

/// What keeps the workloads from being ready, the gravest first.
pub fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found: Vec<Finding> = snapshot.workloads().flat_map(|workload| of_pods(snapshot, workload)).collect();
    found.extend(snapshot.kind("ReplicaSet").filter_map(refused));
    found.extend(snapshot.kind("PersistentVolumeClaim").filter_map(|claim| pending_claim(snapshot, claim)));
    found.sort_by_key(|finding| std::cmp::Reverse(finding.gravity));
    found.dedup_by(|a, b| a.cause == b.cause);
    found
}

fn of_pods(snapshot: &Snapshot, workload: &Value) -> Vec<Finding> {
    snapshot.pods_of(workload).flat_map(|pod| of_pod(snapshot, pod)).collect()
}

fn of_pod(snapshot: &Snapshot, pod: &Value) -> Vec<Finding> {
    let subject = format!("pod/{}", text(pod, "/metadata/name"));
    let mut found = Vec::new();
    for condition in pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten() {
        if condition["type"] == "PodScheduled" && condition["reason"] == "Unschedulable" {
            found.push(Finding {
                gravity: Gravity::Fatal,
                subject: subject.clone(),
                cause: format!("does not fit on the node: {}", text(condition, "/message")),
                help: "lower requests in infra/helm/values*.yaml, or raise cluster.cpus / cluster.memory_mib in \
                       infra/xtask.toml and recreate: cargo xtask teardown --cluster"
                    .to_owned(),
                log_of: None,
            });
        }
    }
    for list in ["/status/initContainerStatuses", "/status/containerStatuses"] {
        for container in pod.pointer(list).and_then(Value::as_array).into_iter().flatten() {
            found.extend(of_container(snapshot, pod, &subject, container));
        }
    }
    found
}

fn of_container(snapshot: &Snapshot, pod: &Value, subject: &str, container: &Value) -> Option<Finding> {
    let name = text(container, "/name");
    let image = text(container, "/image");
    let finding = |gravity, cause: String, help: &str, logs: bool| {
        Some(Finding {
            gravity,
            subject: subject.to_owned(),
            cause,
            help: help.to_owned(),
            log_of: logs.then(|| (text(pod, "/metadata/name").to_owned(), name.to_owned())),
        })
    };
    let last = container.pointer("/state/terminated").or_else(|| container.pointer("/lastState/terminated"));
    let reason = text(container, "/state/waiting/reason");
    let message = text(container, "/state/waiting/message");
    if last.is_some_and(|last| last["reason"] == "OOMKilled") && container["ready"] != true {
        let path = format!("/spec/containers/{}/resources/limits/memory", index_of(pod, name));
        let limit = pod.pointer(&path).and_then(Value::as_str).unwrap_or("none");
        let cause = format!("container {name} was killed for using more memory than its limit ({limit})");
        return finding(Gravity::Fatal, cause, "raise its memory limit in infra/helm/values*.yaml", true);
    }
    match reason {
        "ErrImageNeverPull" | "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" => {
            let cause = format!("container {name}: image {image} is not on the node ({reason})");
            finding(Gravity::Fatal, cause, "cargo xtask deploy dev loads what is missing", false)
        }
        "CreateContainerConfigError" | "CreateContainerError" => {
            let cause = format!("container {name} cannot be created: {message}");
            finding(Gravity::Fatal, cause, "the message names the Secret or ConfigMap and its key", false)
        }
        "CrashLoopBackOff" => {
            let code = last.map_or(0, |last| number(last, "/exitCode"));
            let restarts = number(container, "/restartCount");
            let cause = format!("container {name} ends again and again (exit code {code}, {restarts} restarts)");
            finding(Gravity::Fatal, cause, "its last log lines follow", true)
        }
        _ if container.pointer("/state/running").is_some() && container["ready"] == false => {
            let probe = last_event(snapshot, subject, "Unhealthy").unwrap_or_else(|| "not ready yet".to_owned());
            finding(Gravity::Waiting, format!("container {name} runs but is not ready: {probe}"), "", true)
        }
        _ => None,
    }
}

fn index_of(pod: &Value, container: &str) -> usize {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    containers.and_then(|list| list.iter().position(|c| c["name"] == container)).unwrap_or(0)
}

fn last_event(snapshot: &Snapshot, subject: &str, reason: &str) -> Option<String> {
    let name = subject.trim_start_matches("pod/");
    let events = snapshot.kind("Event");
    let mut matching: Vec<&Value> =
        events.filter(|event| text(event, "/involvedObject/name") == name && event["reason"] == reason).collect();
    matching.sort_by_key(|event| text(event, "/lastTimestamp").to_owned());
    matching.last().map(|event| text(event, "/message").to_owned())
}

/// A ReplicaSet whose pods the API server refuses: quota, Pod Security, a missing service account.
fn refused(set: &Value) -> Option<Finding> {
    let conditions = set.pointer("/status/conditions").and_then(Value::as_array)?;
    let failure = conditions.iter().find(|c| c["type"] == "ReplicaFailure" && c["status"] == "True")?;
    Some(Finding {
        gravity: Gravity::Fatal,
        subject: format!("replicaset/{}", text(set, "/metadata/name")),
        cause: format!("its pods are refused: {}", text(failure, "/message")),
        help: "make the pod template in infra/helm/templates conform, or change the policy named".to_owned(),
        log_of: None,
    })
}

fn pending_claim(snapshot: &Snapshot, claim: &Value) -> Option<Finding> {
    if text(claim, "/status/phase") != "Pending" {
        return None;
    }
    let name = text(claim, "/metadata/name");
    let said = last_event(snapshot, name, "ProvisioningFailed").or_else(|| last_event(snapshot, name, "FailedBinding"));
    Some(Finding {
        gravity: if said.is_some() { Gravity::Fatal } else { Gravity::Waiting },
        subject: format!("persistentvolumeclaim/{name}"),
        cause: said.unwrap_or_else(|| "waits for its volume".to_owned()),
        help: "cargo xtask tool minikube -- addons enable storage-provisioner".to_owned(),
        log_of: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with_container(status: Value) -> Snapshot {
        let items = json!({"items": [
            {"kind": "Deployment", "metadata": {"name": "todo-backend", "generation": 1},
             "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "b"}}}},
            {"kind": "Pod", "metadata": {"name": "todo-backend-x", "labels": {"app": "b"}},
             "spec": {"containers": [{"name": "backend", "resources": {"limits": {"memory": "64Mi"}}}]},
             "status": {"containerStatuses": [status]}}]});
        Snapshot::parse(&items.to_string()).unwrap()
    }

    #[test]
    fn each_cause_is_told_apart() {
        let table = [
            (json!({"name": "backend", "image": "x:1", "state": {"waiting": {"reason": "ErrImageNeverPull"}}}), "x:1"),
            (
                json!({"name": "backend", "state": {"waiting": {"reason": "CreateContainerConfigError",
                "message": "secret \"todo-backend-1\" not found"}}}),
                "not found",
            ),
            (
                json!({"name": "backend", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 7}}}),
                "exit code 7",
            ),
            (json!({"name": "backend", "ready": false, "state": {"terminated": {"reason": "OOMKilled"}}}), "64Mi"),
        ];
        for (status, expected) in table {
            let found = findings(&with_container(status));
            assert_eq!(found[0].gravity, Gravity::Fatal);
            assert!(found[0].cause.contains(expected), "{:?}", found[0]);
        }
    }

    #[test]
    fn a_running_container_that_is_not_ready_is_waited_for() {
        let found = findings(&with_container(json!({"name": "backend", "ready": false, "state": {"running": {}}})));
        assert_eq!(found[0].gravity, Gravity::Waiting);
    }

    #[test]
    fn a_rollout_is_complete_when_all_pods_are_new_and_ready() {
        let status = |updated: u64, ready: u64, all: u64| {
            json!({"kind": "Deployment", "metadata": {"name": "d", "generation": 2}, "spec": {"replicas": 2},
                   "status": {"observedGeneration": 2, "updatedReplicas": updated, "readyReplicas": ready, "replicas": all}})
        };
        assert!(of_workload(&status(2, 2, 2)).complete);
        assert!(!of_workload(&status(2, 2, 3)).complete);
        assert!(!of_workload(&status(1, 2, 2)).complete);
    }
}
