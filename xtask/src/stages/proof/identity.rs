//! The chain of image IDs: what was built is what the nodes have and what the pods run.
//!
//! All IDs are config digests. An engine or a node may name an image by its manifest instead; the node's image list maps
//! such a name to the config digest.

use std::collections::BTreeMap;

use serde_json::Value;

use super::LiveState;
use crate::node::{Images, canonical};
use crate::snapshot::{Snapshot, has_ended, text};

/// One image's chain from build to pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// `todo-backend:<tag>`.
    pub reference: String,
    /// The ID that was built.
    pub built: String,
    /// IDs by node; empty string: absent.
    pub nodes: BTreeMap<String, String>,
    /// IDs by `pod/container`; empty string: the container does not run.
    pub pods: BTreeMap<String, String>,
}

/// A link of the chain that does not hold, and how to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenLink {
    /// The difference, with its place.
    pub what: String,
    /// The command that fixes it.
    pub help: String,
}

impl Link {
    /// Returns the broken links, from the node to the pods.
    pub fn broken(&self) -> Vec<BrokenLink> {
        let (reference, built) = (&self.reference, short(&self.built));
        let mut found = Vec::new();
        let mut add = |what: String, help: String| found.push(BrokenLink { what, help });
        for (node, id) in self.nodes.iter().filter(|(_, id)| **id != self.built) {
            let load = "cargo xtask deploy dev loads it again".to_owned();
            if id.is_empty() {
                add(format!("built -> node: {reference} ({built}) is not on node {node}"), load);
            } else {
                add(format!("built -> node: {reference} on node {node} is {}, but {built} was built", short(id)), load);
            }
        }
        if self.pods.is_empty() {
            add(format!("node -> pod: no pod runs {reference}"), "cargo xtask status".to_owned());
        }
        for (container, id) in self.pods.iter().filter(|(_, id)| **id != self.built) {
            let pod = container.split('/').next().unwrap_or_default();
            let restart = format!("cargo xtask deploy dev restarts the workload of {pod}");
            let has = format!("node -> pod: container {container} has {reference} in its specification");
            if id.is_empty() {
                add(format!("{has}, but runs no image yet"), "cargo xtask status".to_owned());
            } else {
                add(format!("{has}, but runs {}; {built} was built", short(id)), restart);
            }
        }
        found
    }
}

fn short(id: &str) -> &str {
    id.get(..19).unwrap_or(id)
}

/// Follows each image of `built` (ID by reference) to the nodes and pods in `live`.
pub fn check(built: &BTreeMap<String, String>, live: &LiveState) -> Vec<Link> {
    built.iter().map(|(reference, id)| link(reference, id, &live.nodes, &live.snapshot)).collect()
}

/// A workload with a pod that runs an older image than the one built under the same reference.
#[derive(Debug)]
pub struct Outdated<'a> {
    /// The Deployment or StatefulSet.
    pub workload: &'a Value,
    /// `todo-backend:<tag>`.
    pub reference: &'a str,
    /// The ID that a pod runs.
    pub runs: String,
    /// The ID that was built.
    pub wanted: String,
}

/// Returns our workloads that need a restart to run the images `built` (ID by reference).
pub fn outdated<'a>(
    built: &BTreeMap<String, String>,
    on_nodes: &BTreeMap<String, Images>,
    snapshot: &'a Snapshot,
) -> Vec<Outdated<'a>> {
    let of = |workload: &'a Value| {
        let pods = snapshot.pods_of(workload).filter(|pod| !has_ended(pod));
        pods.flat_map(containers).find_map(|container| {
            let wanted = built.get(container.reference)?.clone();
            let runs = container.config_digest(on_nodes);
            let other = !runs.is_empty() && runs != wanted;
            other.then_some(Outdated { workload, reference: container.reference, runs, wanted })
        })
    };
    snapshot.workloads().filter_map(of).collect()
}

/// Finds pods of the release whose image is none of `built`: left from another release, or changed by hand.
pub fn unbuilt_images(built: &BTreeMap<String, String>, snapshot: &Snapshot) -> Vec<BrokenLink> {
    let pods = snapshot.workloads().flat_map(|workload| snapshot.pods_of(workload));
    pods.filter(|pod| !has_ended(pod))
        .flat_map(containers)
        .filter(|container| !built.contains_key(container.reference))
        .map(|container| BrokenLink {
            what: format!(
                "node -> pod: container {} runs {}, which was not built",
                container.name, container.reference
            ),
            help: "revert changes made by hand: cargo xtask deploy dev".to_owned(),
        })
        .collect()
}

fn link(reference: &str, built: &str, on_nodes: &BTreeMap<String, Images>, snapshot: &Snapshot) -> Link {
    let name = canonical(reference);
    let of = |names: &Images| names.get(&name).cloned().unwrap_or_default();
    let nodes = on_nodes.iter().map(|(node, names)| (node.clone(), of(names))).collect();
    let alive = |pod: &&Value| pod.pointer("/metadata/deletionTimestamp").is_none() && !has_ended(pod);
    let pods = snapshot
        .kind("Pod")
        .filter(alive)
        .flat_map(containers)
        .filter(|container| container.reference == reference)
        .map(|container| (container.name.clone(), container.config_digest(on_nodes)))
        .collect();
    Link { reference: reference.to_owned(), built: built.to_owned(), nodes, pods }
}

/// The image that a container should run, and its status.
struct ContainerImage<'a> {
    /// `pod/container`.
    name: String,
    node: &'a str,
    reference: &'a str,
    status: Option<&'a Value>,
}

/// Returns the containers of a pod, init containers included: they use the same images.
fn containers(pod: &Value) -> Vec<ContainerImage<'_>> {
    let list = |pointer: &str| pod.pointer(pointer).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let of = |specs: &'static str, statuses: &'static str| {
        list(specs).iter().map(move |spec| ContainerImage {
            name: format!("{}/{}", text(pod, "/metadata/name"), text(spec, "/name")),
            node: text(pod, "/spec/nodeName"),
            reference: text(spec, "/image"),
            status: list(statuses).iter().find(|status| status["name"] == spec["name"]),
        })
    };
    of("/spec/initContainers", "/status/initContainerStatuses")
        .chain(of("/spec/containers", "/status/containerStatuses"))
        .collect()
}

impl ContainerImage<'_> {
    /// Returns the config digest that the container runs. For an image from no registry, `imageID` is that digest, with or
    /// without a runtime's prefix. `name@sha256:<manifest>` is looked up on the pod's node.
    fn config_digest(&self, on_nodes: &BTreeMap<String, Images>) -> String {
        let Some(status) = self.status else { return String::new() };
        let reported = text(status, "/imageID");
        let plain = reported.rsplit_once("://").map_or(reported, |(_, id)| id);
        let names = on_nodes.get(self.node).or_else(|| on_nodes.values().next());
        match names.and_then(|names| names.get(plain)) {
            Some(id) => id.clone(),
            // The node no longer has the image. The name by manifest then equals no config digest, as it should.
            None => plain.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Returns the broken links if the node has the image ID `node` and the pod reports `pod`. On the node, the digest
    /// `manifest` names sha256:a.
    fn broken_links(node: &str, pod: &str) -> Vec<String> {
        let status = |name: &str| json!([{"name": name, "imageID": pod, "image": "docker.io/library/todo-backend:1"}]);
        let items = json!({"items": [{"kind": "Pod", "metadata": {"name": "p"},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "todo-backend:1"}],
                     "initContainers": [{"name": "i", "image": "todo-backend:1"}]},
            "status": {"containerStatuses": status("c"), "initContainerStatuses": status("i")}}]});
        let mut names = Images::from([
            ("sha256:a".to_owned(), "sha256:a".to_owned()),
            ("docker.io/library/todo-backend@sha256:manifest".to_owned(), "sha256:a".to_owned()),
        ]);
        if !node.is_empty() {
            names.insert("docker.io/library/todo-backend:1".to_owned(), node.to_owned());
        }
        let nodes = BTreeMap::from([("n".to_owned(), names)]);
        let snapshot = Snapshot::parse(&items.to_string()).unwrap();
        link("todo-backend:1", "sha256:a", &nodes, &snapshot).broken().into_iter().map(|b| b.what).collect()
    }

    #[test]
    fn each_broken_link_is_named() {
        assert!(broken_links("sha256:a", "sha256:a").is_empty());
        assert_eq!(broken_links("", "sha256:a"), ["built -> node: todo-backend:1 (sha256:a) is not on node n"]);
        assert_eq!(
            broken_links("sha256:b", "sha256:a"),
            ["built -> node: todo-backend:1 on node n is sha256:b, but sha256:a was built"]
        );
        let pods = broken_links("sha256:a", "sha256:b");
        assert_eq!(pods.len(), 2, "the container and the one before it: {pods:?}");
        assert!(pods[0].contains("container p/c has todo-backend:1") && pods[0].contains("but runs sha256:b"));
        assert!(broken_links("sha256:a", "")[0].contains("runs no image yet"));
    }

    #[test]
    fn a_name_by_manifest_is_looked_up_on_the_node() {
        assert!(broken_links("sha256:a", "docker.io/library/todo-backend@sha256:manifest").is_empty());
        assert!(broken_links("sha256:a", "containerd://sha256:a").is_empty());
        let unknown = broken_links("sha256:a", "docker.io/library/todo-backend@sha256:other");
        assert!(unknown[0].contains("but runs docker.io/library/t"), "{unknown:?}");
    }

    #[test]
    fn a_workload_of_ours_that_runs_another_image_of_the_same_name_is_outdated() {
        let outdated = |reference: &str, runs: &str, release: &str| {
            let items = vec![
                json!({"kind": "StatefulSet", "spec": {"selector": {"matchLabels": {"a": "b"}}},
                 "metadata": {"name": "d", "uid": "set", "labels": {"app.kubernetes.io/managed-by": "Helm"},
                    "annotations": {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": "todo"}}}),
                json!({"kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"},
                    "ownerReferences": [{"uid": "set", "controller": true}]},
                 "spec": {"containers": [{"name": "c", "image": reference}]},
                 "status": {"containerStatuses": [{"name": "c", "imageID": runs}]}}),
            ];
            let snapshot = Snapshot::of_release("todo", "todo", items);
            let built = BTreeMap::from([("db:1".to_owned(), "sha256:new".to_owned())]);
            let manifest = ("db@sha256:manifest".to_owned(), "sha256:new".to_owned());
            let nodes = BTreeMap::from([("n".to_owned(), Images::from([manifest]))]);
            let found = super::outdated(&built, &nodes, &snapshot);
            found.first().map(|found| found.runs.clone())
        };
        assert_eq!(outdated("db:1", "sha256:old", "todo").as_deref(), Some("sha256:old"));
        assert_eq!(outdated("db:1", "docker://sha256:new", "todo"), None);
        assert_eq!(outdated("db:1", "db@sha256:manifest", "todo"), None);
        assert_eq!(outdated("db:1", "", "todo"), None, "its container has not started");
        // Helm handles another tag, and another release is not ours.
        assert_eq!(outdated("db:0", "sha256:old", "todo"), None);
        assert_eq!(outdated("db:1", "sha256:old", "shop"), None);
    }

    #[test]
    fn a_pod_with_an_image_that_was_not_built_is_reported() {
        let items = json!({"items": [
            {"kind": "Deployment", "metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}}},
            {"kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
             "spec": {"containers": [{"name": "c", "image": "todo-backend:0"}]}}]});
        let snapshot = Snapshot::parse(&items.to_string()).unwrap();
        let built = |reference: &str| BTreeMap::from([(reference.to_owned(), String::new())]);
        assert!(unbuilt_images(&built("todo-backend:0"), &snapshot).is_empty());
        assert!(unbuilt_images(&built("todo-backend:1"), &snapshot)[0].what.contains("p/c runs todo-backend:0"));
        // An evicted pod still exists, but runs nothing.
        let evicted = items.to_string().replace(r#""kind":"Pod","#, r#""kind":"Pod","status":{"phase":"Failed"},"#);
        let evicted = Snapshot::parse(&evicted).unwrap();
        assert!(unbuilt_images(&built("todo-backend:1"), &evicted).is_empty());
    }
}
