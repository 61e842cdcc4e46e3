//! The pods of each workload's newest template, and their containers.

use serde_json::Value;

use crate::snapshot::{Snapshot, has_ended, text};

/// The annotation with the revision of a Deployment's template.
const REVISION: &str = "/metadata/annotations/deployment.kubernetes.io~1revision";

/// A container of a pod, with its spec and its status.
#[derive(Clone, Copy)]
pub struct Container<'a> {
    /// Its pod.
    pub pod: &'a Value,
    /// Its entry in the pod's spec.
    pub spec: &'a Value,
    /// Its entry in the pod's status.
    pub status: &'a Value,
    /// Whether it is an init container.
    pub init: bool,
}

impl<'a> Container<'a> {
    /// Returns the container's name.
    pub fn name(&self) -> &'a str {
        text(self.status, "/name")
    }

    /// Returns the pod's name.
    pub fn pod_name(&self) -> &'a str {
        text(self.pod, "/metadata/name")
    }

    /// Returns the pod as findings name it.
    pub fn subject(&self) -> String {
        subject(self.pod)
    }

    /// Returns `container backend` or `init container migrate`.
    pub fn title(&self) -> String {
        format!("{} {}", if self.init { "init container" } else { "container" }, self.name())
    }

    /// Returns why the container waits: `CrashLoopBackOff`, `ErrImagePull`, …; empty if it does not wait.
    pub fn waiting_reason(&self) -> &'a str {
        text(self.status, "/state/waiting/reason")
    }

    /// Returns the last `terminated` state, if the program ended itself. After a restart of the node, containerd reports
    /// the old containers with the reason `Unknown` and exit code 255.
    pub fn last_termination(&self) -> Option<&'a Value> {
        let now = self.status.pointer("/state/terminated");
        now.or_else(|| self.status.pointer("/lastState/terminated")).filter(|ended| ended["reason"] != "Unknown")
    }

    /// Returns the chart's value for this container, e.g. `backend.resources`. Containers have the name of their
    /// component, except for init containers, which share its values.
    pub fn value_path(&self, key: &str) -> String {
        let component = text(self.pod, "/metadata/labels/app.kubernetes.io~1component");
        format!("{}.{key}", if component.is_empty() { self.name() } else { component })
    }
}

/// Returns `pod` as findings name it.
pub fn subject(pod: &Value) -> String {
    format!("pod/{}", text(pod, "/metadata/name"))
}

/// Returns the pods of every workload's newest template that are not terminating.
pub fn current(snapshot: &Snapshot) -> impl Iterator<Item = &Value> {
    snapshot.workloads().flat_map(|workload| current_pods_of(snapshot, workload))
}

/// Returns all containers of these pods, init containers first. Skips pods that ended: eviction explains their containers.
pub fn containers(snapshot: &Snapshot) -> impl Iterator<Item = Container<'_>> {
    current(snapshot).filter(|pod| !has_ended(pod)).flat_map(containers_of)
}

/// Returns the containers of one pod.
pub fn containers_of(pod: &Value) -> impl Iterator<Item = Container<'_>> {
    let lists = [
        ("/status/initContainerStatuses", "/spec/initContainers", true),
        ("/status/containerStatuses", "/spec/containers", false),
    ];
    lists.into_iter().flat_map(move |(statuses, specs, init)| {
        array(pod, statuses).map(move |status| {
            let spec = array(pod, specs).find(|spec| spec["name"] == status["name"]).unwrap_or(&Value::Null);
            Container { pod, spec, status, init }
        })
    })
}

/// Returns the entries of the list at `pointer`.
pub fn array<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn current_pods_of<'a>(snapshot: &'a Snapshot, workload: &'a Value) -> impl Iterator<Item = &'a Value> {
    let wanted = newest_template(snapshot, workload);
    snapshot.pods_of(workload).filter(move |pod| match &wanted {
        NewestTemplate::All => true,
        NewestTemplate::Unobserved => false,
        NewestTemplate::Label(key, value) => pod["metadata"]["labels"][key] == *value,
    })
}

/// The pods of a workload that are of its newest template.
enum NewestTemplate {
    /// All: there is no history to compare with.
    All,
    /// None: the controller has not observed the newest change yet.
    Unobserved,
    /// Pods with this label.
    Label(&'static str, String),
}

/// Returns how to recognise pods of the workload's newest template.
fn newest_template(snapshot: &Snapshot, workload: &Value) -> NewestTemplate {
    if !super::progress::is_observed(workload) {
        return NewestTemplate::Unobserved;
    }
    if workload["kind"] == "StatefulSet" {
        let revision = text(workload, "/status/updateRevision");
        return if revision.is_empty() {
            NewestTemplate::All
        } else {
            NewestTemplate::Label("controller-revision-hash", revision.to_owned())
        };
    }
    let revision = text(workload, REVISION);
    let mut own = snapshot.kind("ReplicaSet").filter(|set| owned_by(set, workload)).peekable();
    if own.peek().is_none() || revision.is_empty() {
        return NewestTemplate::All;
    }
    match own.find(|set| text(set, REVISION) == revision) {
        Some(set) => {
            NewestTemplate::Label("pod-template-hash", text(set, "/metadata/labels/pod-template-hash").to_owned())
        }
        None => NewestTemplate::Unobserved,
    }
}

fn owned_by(object: &Value, owner: &Value) -> bool {
    array(object, "/metadata/ownerReferences").any(|reference| reference["name"] == owner["metadata"]["name"])
}

/// Returns whether the pod takes requests.
pub fn is_ready(pod: &Value) -> bool {
    array(pod, "/status/conditions").any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Returns pods of StatefulSets with an old template that are not ready. Kubernetes would wait for ever until they are
/// ready before it replaces them, so they must be deleted; their volumes stay.
pub fn stuck(snapshot: &Snapshot) -> Vec<String> {
    let sets = snapshot.kind("StatefulSet").filter(|set| super::progress::is_observed(set));
    let pods = sets.flat_map(|set| {
        let newest = text(set, "/status/updateRevision");
        snapshot.pods_of(set).filter(move |pod| {
            let revision = text(pod, "/metadata/labels/controller-revision-hash");
            !newest.is_empty() && revision != newest && !is_ready(pod)
        })
    });
    pods.map(|pod| text(pod, "/metadata/name").to_owned()).collect()
}
