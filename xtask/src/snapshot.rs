//! The live objects of the namespace: one list of each kind, for all code that judges. A watch keeps it up to date while a
//! rollout is followed.

mod ours;
mod watch;

use std::collections::BTreeMap;

use anyhow::Result;
use camino::Utf8Path;
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

/// The kinds that a snapshot holds. Without Secrets, so that nothing made from a snapshot can show their content.
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

/// The kinds that explain causes outside the namespace: room on the nodes, storage classes.
const CLUSTER_KINDS: [Resource; 3] = [kinds::NODE, kinds::POD, kinds::STORAGE_CLASS];

/// The annotation of a pod template that `kubectl rollout restart` writes.
pub const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";
/// A field that xtask adds to nodes: the size of the profile. It limits the node's container, and kubelet does not see it.
pub const PROFILE: &str = "xtaskProfile";

/// The objects of one namespace.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    objects: Vec<Value>,
    /// The release whose objects are ours; `None`: all objects are.
    release: Option<Release>,
    cluster: Vec<Value>,
    /// The ends of the logs that were read, by pod and container.
    logs: BTreeMap<(String, String), String>,
    taken: u64,
    /// The resource version of each kind's list, from which a watch continues.
    versions: BTreeMap<&'static str, String>,
}

/// An event of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectEvent {
    /// The message.
    pub message: String,
    /// The number of times it happened.
    pub count: u64,
    /// The time of the last one, as Kubernetes writes it.
    pub time: String,
}

impl Snapshot {
    /// Lists all kinds in the release's namespace.
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

    /// Returns a snapshot of `objects`, all of which count as ours.
    pub fn of(objects: Vec<Value>) -> Self {
        Self { objects, taken: clock::now(), ..Self::default() }
    }

    /// Returns a snapshot of `objects` in a namespace with the release `name` of the chart `todo`.
    #[cfg(test)]
    pub fn of_release(name: &str, namespace: &str, objects: Vec<Value>) -> Self {
        Self { release: Some(Release::of(name, namespace)), ..Self::of(objects) }
    }

    /// Parses a list as `kubectl get -o json` prints it.
    #[cfg(test)]
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self::of(items(text)?))
    }

    /// Adds the objects of the whole cluster that explain causes, and the profile's size to each node.
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

    /// Adds a recorded list of objects of the whole cluster.
    #[cfg(test)]
    pub fn with_cluster(self, text: &str) -> Result<Self> {
        Ok(Self { cluster: items(text)?, ..self })
    }

    /// Returns all objects of `kind` in the whole cluster; none before [`Snapshot::add_cluster`].
    pub fn cluster(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.cluster.iter().filter(move |object| object["kind"] == kind)
    }

    /// Adds the end of a container's log.
    pub fn add_log(&mut self, pod: &str, container: &str, text: String) {
        self.logs.insert((pod.to_owned(), container.to_owned()), text);
    }

    /// Returns the end of a container's log, if it was read.
    pub fn log_of(&self, pod: &str, container: &str) -> Option<&str> {
        self.logs.get(&(pod.to_owned(), container.to_owned())).map(String::as_str)
    }

    /// Returns the folder of our chart in the checkout, for messages; `chart` in a snapshot without a release.
    pub fn chart(&self) -> &Utf8Path {
        self.release.as_ref().map_or(Utf8Path::new("chart"), |release| &release.chart_path)
    }

    /// Returns when the snapshot was taken, in seconds since 1970.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Returns the number of terminating pods; they hold their resources until they are gone.
    pub fn terminating(&self) -> usize {
        self.all("Pod").filter(|pod| is_terminating(pod)).count()
    }

    /// Returns the newest event about `object` with one of `reasons`. Compares UIDs, because new pods of StatefulSets and
    /// new claims have the old names.
    pub fn last_event(&self, object: &Value, reasons: &[&str]) -> Option<ObjectEvent> {
        let uid = text(object, "/metadata/uid");
        let events = self
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
        let newest = events.max_by_key(|event| time(event))?;
        let count = number(newest, "/count").max(number(newest, "/series/count")).max(1);
        Some(ObjectEvent { message: text(newest, "/message").trim().to_owned(), count, time: time(newest) })
    }

    /// Returns all objects of the namespace, also those of others.
    pub fn objects(&self) -> &[Value] {
        &self.objects
    }

    /// Returns all objects of `kind` in the namespace, also those of others.
    pub fn all(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// Returns our objects of `kind`.
    pub fn kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.all(kind).filter(|object| self.is_ours(object))
    }

    /// Returns the object of `kind` called `name`, also one of others: a name is unique in a namespace.
    pub fn get(&self, kind: &str, name: &str) -> Option<&Value> {
        self.all(kind).find(|object| object.pointer("/metadata/name").is_some_and(|n| n == name))
    }

    /// Returns the workloads of the release: Deployments and StatefulSets.
    pub fn workloads(&self) -> impl Iterator<Item = &Value> {
        self.kind("Deployment").chain(self.kind("StatefulSet"))
    }

    /// Returns the pods that a workload's selector matches and that are not terminating.
    pub fn pods_of<'a>(&'a self, workload: &'a Value) -> impl Iterator<Item = &'a Value> {
        let selector = workload.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
        self.kind("Pod").filter(move |pod| {
            let labels = &pod["metadata"]["labels"];
            selector.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
                && !is_terminating(pod)
        })
    }

    /// Returns a digest of the desired part of every object that Helm applied for our release, by `Kind/name`. A digest and
    /// not the generation, because ConfigMaps and Services have none.
    pub fn digests(&self) -> BTreeMap<String, String> {
        self.applied().map(|object| (key(object), self.digest(object, None))).collect()
    }

    /// Returns the digest of the desired part of `object`. If an autoscaler scales it, its number of replicas is left out,
    /// or replaced by `replicas`.
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

    /// Returns the replicas of our workloads that no autoscaler scales, by `Kind/name`.
    pub fn replicas(&self) -> BTreeMap<String, u64> {
        let fixed = self.workloads().filter(|workload| !self.is_autoscaled(workload));
        fixed.map(|workload| (key(workload), number(workload, "/spec/replicas"))).collect()
    }

    /// Returns whether a HorizontalPodAutoscaler, also one of others, scales the workload.
    pub fn is_autoscaled(&self, workload: &Value) -> bool {
        self.all("HorizontalPodAutoscaler").any(|autoscaler| {
            let target = &autoscaler["spec"]["scaleTargetRef"];
            target["kind"] == workload["kind"] && target["name"] == workload["metadata"]["name"]
        })
    }
}

/// Returns `Deployment/todo-backend`.
pub fn key(object: &Value) -> String {
    format!("{}/{}", text(object, "/kind"), text(object, "/metadata/name"))
}

#[cfg(test)]
fn items(text: &str) -> Result<Vec<Value>> {
    let mut list: Value = serde_json::from_str(text)?;
    Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
}

/// Returns whether somebody has deleted `object`, and it still exists.
pub fn is_terminating(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

/// Returns whether `pod` has ended for good. Kubernetes keeps such a pod, e.g. an evicted one, but it runs nothing.
pub fn has_ended(pod: &Value) -> bool {
    ["Failed", "Succeeded"].contains(&text(pod, "/status/phase"))
}

fn digest(object: &Value) -> String {
    let mut spec = object["spec"].clone();
    // A restart with `kubectl rollout restart` changes nothing that the chart wants.
    if let Some(annotations) = spec.pointer_mut("/template/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(RESTARTED);
    }
    let mut data = object["data"].clone();
    // So that equal content has equal text.
    [&mut spec, &mut data].into_iter().for_each(Value::sort_all_objects);
    let wanted = Value::Array(vec![object["metadata"]["labels"].clone(), spec, data]);
    let hash = Sha256::digest(wanted.to_string());
    units::hex(&hash[..8])
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
    fn scaling_changes_the_digest_and_a_restart_does_not() {
        assert_eq!(digest(&deployment(2, "a")), digest(&deployment(2, "b")));
        assert_ne!(digest(&deployment(2, "a")), digest(&deployment(1, "a")));
    }

    #[test]
    fn replicas_that_an_autoscaler_sets_do_not_change_the_digest() {
        let autoscaler = json!({"kind": "HorizontalPodAutoscaler", "metadata": {"name": "mine"},
            "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "todo-backend"}}});
        let digest = |replicas, autoscaler: Option<&Value>, recorded| {
            let object = deployment(replicas, "a");
            let objects = std::iter::once(object.clone()).chain(autoscaler.cloned()).collect();
            Snapshot::of(objects).digest(&object, recorded)
        };
        assert_eq!(digest(2, Some(&autoscaler), None), digest(3, Some(&autoscaler), None));
        // A record from before the autoscaler.
        assert_eq!(digest(3, Some(&autoscaler), Some(2)), digest(2, None, None));
        assert_ne!(digest(3, None, Some(2)), digest(2, None, None), "scaled by hand");
        assert_ne!(
            digest(2, Some(&autoscaler), None),
            digest(2, None, None),
            "the autoscaler went: the chart's number"
        );
    }

    #[test]
    fn the_order_of_keys_does_not_change_the_digest() {
        let one = json!({"kind": "ConfigMap", "data": {"a": "1", "b": "2"}});
        let two = json!({"kind": "ConfigMap", "data": {"b": "2", "a": "1"}});
        assert_eq!(digest(&one), digest(&two));
    }
}
