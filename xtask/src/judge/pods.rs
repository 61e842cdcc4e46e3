//! Walking over the pods that count: those of each workload's newest template.

use serde_json::Value;

use crate::snapshot::{Snapshot, has_ended, text};

/// Where Kubernetes notes the number of a Deployment's template.
const REVISION: &str = "/metadata/annotations/deployment.kubernetes.io~1revision";

/// A container of a pod: what is wanted of it and what has become of it.
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
    /// Its name.
    pub fn name(&self) -> &'a str {
        text(self.status, "/name")
    }

    /// Its pod's name.
    pub fn pod_name(&self) -> &'a str {
        text(self.pod, "/metadata/name")
    }

    /// How findings call its pod.
    pub fn subject(&self) -> String {
        subject(self.pod)
    }

    /// `container backend` or `init container migrate`.
    pub fn called(&self) -> String {
        format!("{} {}", if self.init { "init container" } else { "container" }, self.name())
    }

    /// Why it waits: `CrashLoopBackOff`, `ErrImagePull`, …; empty if it does not.
    pub fn waits(&self) -> &'a str {
        text(self.status, "/state/waiting/reason")
    }

    /// How it ended last, if it ever ended by itself. After a restart of the node, containerd finds the old containers dead
    /// and reports them with the reason `Unknown` and exit code 255.
    pub fn ended(&self) -> Option<&'a Value> {
        let now = self.status.pointer("/state/terminated");
        now.or_else(|| self.status.pointer("/lastState/terminated")).filter(|ended| ended["reason"] != "Unknown")
    }

    /// Where the chart's values have what concerns this container, e.g. `backend.resources`. Containers are called as
    /// their component, except for init containers, which share its values.
    pub fn values(&self, key: &str) -> String {
        let component = text(self.pod, "/metadata/labels/app.kubernetes.io~1component");
        format!("{}.{key}", if component.is_empty() { self.name() } else { component })
    }
}

/// How findings call `pod`.
pub fn subject(pod: &Value) -> String {
    format!("pod/{}", text(pod, "/metadata/name"))
}

/// The pods of every workload's newest template, those that are ending left out.
pub fn current(snapshot: &Snapshot) -> impl Iterator<Item = &Value> {
    snapshot.workloads().flat_map(|workload| of(snapshot, workload))
}

/// All containers of these pods, init containers first. Not of those that the node has evicted: that is why they ended.
pub fn containers(snapshot: &Snapshot) -> impl Iterator<Item = Container<'_>> {
    current(snapshot).filter(|pod| !has_ended(pod)).flat_map(of_pod)
}

/// The containers of one pod.
pub fn of_pod(pod: &Value) -> impl Iterator<Item = Container<'_>> {
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

/// The entries of the list at `pointer`.
pub fn array<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn of<'a>(snapshot: &'a Snapshot, workload: &'a Value) -> impl Iterator<Item = &'a Value> {
    let wanted = template(snapshot, workload);
    snapshot.pods_of(workload).filter(move |pod| match &wanted {
        Template::All => true,
        Template::Unknown => false,
        Template::Label(key, value) => pod["metadata"]["labels"][key] == *value,
    })
}

enum Template {
    /// No history to compare with.
    All,
    /// The controller has not seen the newest change yet, so no pod can be of it.
    Unknown,
    Label(&'static str, String),
}

/// What pods of the workload's newest template carry.
fn template(snapshot: &Snapshot, workload: &Value) -> Template {
    if !super::progress::observed(workload) {
        return Template::Unknown;
    }
    if workload["kind"] == "StatefulSet" {
        let revision = text(workload, "/status/updateRevision");
        return if revision.is_empty() {
            Template::All
        } else {
            Template::Label("controller-revision-hash", revision.to_owned())
        };
    }
    let revision = text(workload, REVISION);
    let mut own = snapshot.kind("ReplicaSet").filter(|set| owned_by(set, workload)).peekable();
    if own.peek().is_none() || revision.is_empty() {
        return Template::All;
    }
    match own.find(|set| text(set, REVISION) == revision) {
        Some(set) => Template::Label("pod-template-hash", text(set, "/metadata/labels/pod-template-hash").to_owned()),
        None => Template::Unknown,
    }
}

fn owned_by(object: &Value, owner: &Value) -> bool {
    array(object, "/metadata/ownerReferences").any(|reference| reference["name"] == owner["metadata"]["name"])
}

/// Whether the pod takes requests.
pub fn is_ready(pod: &Value) -> bool {
    array(pod, "/status/conditions").any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Pods of StatefulSets that Kubernetes would wait for ever to become ready before it replaces them, although their
/// template is not the newest any more. Somebody must delete them; their volumes stay.
pub fn stuck(snapshot: &Snapshot) -> Vec<String> {
    let sets = snapshot.kind("StatefulSet").filter(|set| super::progress::observed(set));
    let pods = sets.flat_map(|set| {
        let newest = text(set, "/status/updateRevision");
        snapshot.pods_of(set).filter(move |pod| {
            let revision = text(pod, "/metadata/labels/controller-revision-hash");
            !newest.is_empty() && revision != newest && !is_ready(pod)
        })
    });
    pods.map(|pod| text(pod, "/metadata/name").to_owned()).collect()
}
