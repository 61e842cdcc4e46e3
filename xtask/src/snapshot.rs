//! What is in the namespace right now: one list of each kind, read by everything that judges, and kept up to date by a
//! watch where a rollout is followed.

mod ours;
mod watch;

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::api::{Resource, Scope, kinds};
use crate::clock;
use crate::labels::Release;
use crate::toolbox::Toolbox;
use crate::units;

pub use crate::json::{number, text};
pub use ours::title;
#[cfg(test)]
pub(crate) use watch::KINDS as WATCHED;
pub use watch::Watch;

/// The kinds that a snapshot holds. Secrets are left out: their content has no business here.
const KINDS: [Resource; 14] = [
    kinds::DEPLOYMENT,
    kinds::STATEFUL_SET,
    kinds::REPLICA_SET,
    kinds::POD,
    kinds::SERVICE,
    kinds::INGRESS,
    kinds::NETWORK_POLICY,
    kinds::CONFIG_MAP,
    kinds::PERSISTENT_VOLUME_CLAIM,
    kinds::POD_DISRUPTION_BUDGET,
    kinds::SERVICE_ACCOUNT,
    kinds::HORIZONTAL_POD_AUTOSCALER,
    kinds::ENDPOINT_SLICE,
    kinds::EVENT,
];

/// What is asked of the whole cluster when a cause lies there: room on the nodes, classes of storage.
const CLUSTER_KINDS: [Resource; 3] = [kinds::NODE, kinds::POD, kinds::STORAGE_CLASS];

/// The annotation of a pod template that `kubectl rollout restart` writes.
pub const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";
/// The field of a node that says what the profile has: the limits of the node's container, which kubelet does not see.
pub const PROFILE: &str = "xtaskProfile";

/// The objects of one namespace.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    objects: Vec<Value>,
    /// The release that tells which of them are ours; `None`: all are.
    release: Option<Release>,
    cluster: Vec<Value>,
    /// The ends of logs that were asked for, by pod and container.
    logs: BTreeMap<(String, String), String>,
    taken: u64,
    /// The resource version of each kind's list, from which a watch goes on.
    versions: BTreeMap<&'static str, String>,
}

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The message.
    pub message: String,
    /// How often it happened.
    pub count: u64,
    /// When it happened last, as Kubernetes writes it.
    pub time: String,
}

impl Snapshot {
    /// Takes one.
    pub fn take(tools: &Toolbox) -> Result<Self> {
        let lists = tools.api()?.list_all(&KINDS, Scope::Namespace)?;
        let release = Some(tools.release().clone());
        let mut snapshot = Self { release, taken: clock::now(), ..Self::default() };
        for (resource, list) in KINDS.iter().zip(lists) {
            snapshot.versions.insert(resource.kind, list.version);
            snapshot.objects.extend(list.items);
        }
        Ok(snapshot)
    }

    /// One of these objects.
    pub fn of(objects: Vec<Value>) -> Self {
        Self { objects, taken: clock::now(), ..Self::default() }
    }

    /// These objects as a namespace with the release `name` has them.
    #[cfg(test)]
    pub fn of_release(name: &str, namespace: &str, objects: Vec<Value>) -> Self {
        let release = Some(Release { name: name.to_owned(), namespace: namespace.to_owned() });
        Self { release, ..Self::of(objects) }
    }

    /// From the JSON of a list, as `kubectl get -o json` prints it.
    #[cfg(test)]
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self::of(items(text)?))
    }

    /// Adds what is needed of the whole cluster, for the causes that lie there.
    pub fn add_cluster(&mut self, tools: &Toolbox) -> Result<()> {
        let lists = tools.api()?.list_all(&CLUSTER_KINDS, Scope::Cluster)?;
        self.cluster = lists.into_iter().flat_map(|list| list.items).collect();
        let record = tools.record()?.unwrap_or_default();
        if let (Some(memory), Some(cpus)) = (record["Memory"].as_u64(), record["CPUs"].as_u64()) {
            let size = serde_json::json!({"memory": format!("{memory}Mi"), "cpu": cpus.to_string()});
            self.cluster
                .iter_mut()
                .filter(|object| object["kind"] == "Node")
                .for_each(|node| node[PROFILE] = size.clone());
        }
        Ok(())
    }

    /// With what was recorded of the whole cluster.
    #[cfg(test)]
    pub fn with_cluster(self, text: &str) -> Result<Self> {
        Ok(Self { cluster: items(text)?, ..self })
    }

    /// All objects of `kind` in the whole cluster; none unless [`Snapshot::add_cluster`] has asked for them.
    pub fn cluster(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.cluster.iter().filter(move |object| object["kind"] == kind)
    }

    /// Adds the end of a container's log.
    pub fn add_log(&mut self, pod: &str, container: &str, text: String) {
        self.logs.insert((pod.to_owned(), container.to_owned()), text);
    }

    /// The end of a container's log, if it was asked for.
    pub fn log_of(&self, pod: &str, container: &str) -> Option<&str> {
        self.logs.get(&(pod.to_owned(), container.to_owned())).map(String::as_str)
    }

    /// When it was taken, in seconds since 1970.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// How many pods of the namespace are ending: they hold their resources until they are gone.
    pub fn ending(&self) -> usize {
        self.all("Pod").filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_some()).count()
    }

    /// The newest event about `object` with one of `reasons`. By its UID: names of pods of StatefulSets and of claims
    /// come back.
    pub fn last_event(&self, object: &Value, reasons: &[&str]) -> Option<Said> {
        let uid = text(object, "/metadata/uid");
        let about = self
            .all("Event")
            .filter(|event| text(event, "/involvedObject/uid") == uid && reasons.contains(&text(event, "/reason")));
        let time = |event: &Value| {
            let times = ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"];
            times
                .iter()
                .map(|pointer| text(event, pointer))
                .find(|time| !time.is_empty())
                .unwrap_or_default()
                .to_owned()
        };
        let newest = about.max_by_key(|event| time(event))?;
        let count = number(newest, "/count").max(number(newest, "/series/count")).max(1);
        Some(Said { message: text(newest, "/message").trim().to_owned(), count, time: time(newest) })
    }

    /// All objects of the namespace, whoever's they are.
    pub fn objects(&self) -> &[Value] {
        &self.objects
    }

    /// The objects of `kind` in the namespace, whoever's they are: what explains, or what must not be taken from others.
    pub fn all(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// Our objects of `kind`.
    pub fn kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.all(kind).filter(|object| self.is_ours(object))
    }

    /// The object of `kind` called `name`, whoever's it is: a namespace has a name once.
    pub fn get(&self, kind: &str, name: &str) -> Option<&Value> {
        self.all(kind).find(|object| object.pointer("/metadata/name").is_some_and(|n| n == name))
    }

    /// The workloads of the release: Deployments and StatefulSets.
    pub fn workloads(&self) -> impl Iterator<Item = &Value> {
        self.kind("Deployment").chain(self.kind("StatefulSet"))
    }

    /// The pods of a workload's current generation of labels, those that are ending left out.
    pub fn pods_of<'a>(&'a self, workload: &'a Value) -> impl Iterator<Item = &'a Value> {
        let selector = workload.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
        self.kind("Pod").filter(move |pod| {
            let labels = &pod["metadata"]["labels"];
            selector.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
                && pod.pointer("/metadata/deletionTimestamp").is_none()
        })
    }

    /// A digest of the desired part of every object that Helm applied for our release, by `Kind/name`: what somebody
    /// wants of it, without what the cluster adds. ConfigMaps and Services have no generation, hence a digest.
    pub fn digests(&self) -> BTreeMap<String, String> {
        self.applied().map(|object| (key(object), self.digest(object, None))).collect()
    }

    /// The digest of `object`. The replicas of a workload that an autoscaler scales are the autoscaler's: they are left
    /// out, or `replicas` stands in their place.
    pub fn digest(&self, object: &Value, replicas: Option<u64>) -> String {
        let mut object = object.clone();
        if self.is_autoscaled(&object)
            && let Some(spec) = object["spec"].as_object_mut()
        {
            spec.remove("replicas");
            spec.extend(replicas.map(|replicas| ("replicas".to_owned(), replicas.into())));
        }
        digest(&object)
    }

    /// The replicas of every workload of ours that no autoscaler scales, by `Kind/name`.
    pub fn replicas(&self) -> BTreeMap<String, u64> {
        let fixed = self.workloads().filter(|workload| !self.is_autoscaled(workload));
        fixed.map(|workload| (key(workload), number(workload, "/spec/replicas"))).collect()
    }

    /// Whether a HorizontalPodAutoscaler, whoever's it is, scales the workload.
    pub fn is_autoscaled(&self, workload: &Value) -> bool {
        self.all("HorizontalPodAutoscaler").any(|autoscaler| {
            let target = &autoscaler["spec"]["scaleTargetRef"];
            target["kind"] == workload["kind"] && target["name"] == workload["metadata"]["name"]
        })
    }
}

/// `Deployment/todo-backend`.
pub fn key(object: &Value) -> String {
    format!("{}/{}", text(object, "/kind"), text(object, "/metadata/name"))
}

#[cfg(test)]
fn items(text: &str) -> Result<Vec<Value>> {
    let mut list: Value = serde_json::from_str(text)?;
    Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
}

/// Whether `pod` has ended for good: it runs nothing, and Kubernetes keeps it only to be looked at (an evicted one).
pub fn has_ended(pod: &Value) -> bool {
    ["Failed", "Succeeded"].contains(&text(pod, "/status/phase"))
}

fn digest(object: &Value) -> String {
    let mut spec = object["spec"].clone();
    // `kubectl rollout restart` writes this; it is an operation, not a change of what is wanted.
    if let Some(annotations) = spec.pointer_mut("/template/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(RESTARTED);
    }
    let wanted = serde_json::json!([object["metadata"]["labels"], sorted(&spec), sorted(&object["data"])]);
    let hash = Sha256::digest(wanted.to_string());
    units::hex(&hash[..8])
}

/// The value with all keys in order, so that equal content has equal text.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let ordered: BTreeMap<&String, Value> = map.iter().map(|(key, value)| (key, sorted(value))).collect();
            serde_json::json!(ordered)
        }
        Value::Array(list) => list.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(replicas: u32, restarted: &str) -> Value {
        json!({"kind": "Deployment", "metadata": {"name": "todo-backend", "resourceVersion": restarted, "labels": {}},
               "spec": {"replicas": replicas, "template": {"metadata": {"annotations":
                   {"kubectl.kubernetes.io/restartedAt": restarted}}}}, "status": {"replicas": replicas}})
    }

    #[test]
    fn a_restart_is_no_change_of_what_is_wanted_but_scaling_is() {
        assert_eq!(digest(&deployment(2, "a")), digest(&deployment(2, "b")));
        assert_ne!(digest(&deployment(2, "a")), digest(&deployment(1, "a")));
    }

    #[test]
    fn replicas_of_an_autoscaled_workload_are_the_autoscalers() {
        let autoscaler = json!({"kind": "HorizontalPodAutoscaler", "metadata": {"name": "mine"},
            "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "todo-backend"}}});
        let digest = |replicas, autoscaler: Option<&Value>, recorded| {
            let object = deployment(replicas, "a");
            let objects = std::iter::once(object.clone()).chain(autoscaler.cloned()).collect();
            Snapshot::of(objects).digest(&object, recorded)
        };
        assert_eq!(digest(2, Some(&autoscaler), None), digest(3, Some(&autoscaler), None));
        // The record is older than the autoscaler.
        assert_eq!(digest(3, Some(&autoscaler), Some(2)), digest(2, None, None));
        assert_ne!(digest(3, None, Some(2)), digest(2, None, None), "scaled by hand");
        assert_ne!(
            digest(2, Some(&autoscaler), None),
            digest(2, None, None),
            "the autoscaler went: the chart's number"
        );
    }

    #[test]
    fn order_of_keys_does_not_matter() {
        let one = json!({"kind": "ConfigMap", "data": {"a": "1", "b": "2"}});
        let two = json!({"kind": "ConfigMap", "data": {"b": "2", "a": "1"}});
        assert_eq!(digest(&one), digest(&two));
    }
}
