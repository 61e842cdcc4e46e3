//! Pods that fit on no node: which resource is short, how much each pod requests, and how much is free.

use serde_json::Value;

use super::Symptom;
use super::pods::{array, current, subject};
use super::quantity;
use crate::snapshot::{PROFILE, Snapshot, text};

/// Pods that a message names at most as holders of a resource.
const NAMED_HOLDERS: usize = 5;

/// Finds pods that the scheduler cannot place on a node.
pub fn unschedulable(snapshot: &Snapshot) -> Vec<Symptom> {
    let mut found = Vec::new();
    for pod in current(snapshot) {
        let scheduled = array(pod, "/status/conditions").find(|c| c["type"] == "PodScheduled");
        let Some(condition) = scheduled.filter(|c| c["reason"] == "Unschedulable") else { continue };
        let message = text(condition, "/message");
        // Claims without a volume and cordoned nodes have their own rows.
        if !message.contains("PersistentVolumeClaim") && !message.contains(CORDONED) {
            found.push(explain_shortage(snapshot, pod, message));
        }
    }
    found
}

/// Finds pods that wait for a cordoned node. If none waits, names the nodes: a pod that ends there is not replaced.
pub fn cordoned(snapshot: &Snapshot) -> Vec<Symptom> {
    let nodes: Vec<&str> = snapshot.cluster("Node").filter(|node| is_cordoned(node)).map(name).collect();
    let mut found = Vec::new();
    for pod in current(snapshot) {
        let scheduled = array(pod, "/status/conditions").find(|c| c["type"] == "PodScheduled");
        let message = scheduled.filter(|c| c["reason"] == "Unschedulable").map_or("", |c| text(c, "/message"));
        if !message.contains(CORDONED) {
            continue;
        }
        let named = if nodes.is_empty() { "the node".to_owned() } else { format!("node {}", nodes.join(", ")) };
        let cause = format!("{named} is cordoned (`kubectl cordon` or `drain`), so the pod cannot be scheduled");
        found.push(with_uncordon(Symptom::fatal(subject(pod), cause), &nodes));
    }
    if found.is_empty() {
        let node = |node: &&str| {
            let cause = "it is cordoned (`kubectl cordon` or `drain`), so no new pod is scheduled on it";
            with_uncordon(Symptom::waiting(format!("node/{node}"), cause), &[node])
        };
        found.extend(nodes.iter().map(node));
    }
    found
}

fn with_uncordon(symptom: Symptom, nodes: &[&str]) -> Symptom {
    nodes.iter().fold(symptom, |symptom, node| symptom.help(uncordon(node)))
}

/// Returns the command that makes a node schedulable again.
pub fn uncordon(node: &str) -> String {
    format!("cargo xtask tool kubectl -- uncordon {node}")
}

/// The scheduler's words for cordoned nodes.
const CORDONED: &str = "node(s) were unschedulable";

fn is_cordoned(node: &Value) -> bool {
    node["spec"]["unschedulable"] == true
}

fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

fn explain_shortage(snapshot: &Snapshot, pod: &Value, message: &str) -> Symptom {
    let short = message.split(" preemption: ").next().unwrap_or(message);
    let short = short.split(" no new claims").next().unwrap_or(short);
    let mut cause = format!("fits on no node: {short}");
    let mut help: Vec<String> = Vec::new();
    for resource in RESOURCES.iter().filter(|resource| message.contains(resource.insufficient)) {
        let wanted = requested(pod, resource);
        cause.push_str(&format!("\n  {} requested: {}", resource.name, (resource.show)(wanted)));
        let nodes = snapshot.cluster("Node");
        for node in nodes {
            cause.push_str(&format!("\n  {}", describe_node(snapshot, node, resource)));
        }
        let most = snapshot.cluster("Node").map(|node| free(snapshot, node, resource)).max().unwrap_or_default();
        let component = text(pod, "/metadata/labels/app.kubernetes.io~1component");
        help.push(format!(
            "lower {component}.resources.requests.{} in {}/values*.yaml to at most {} (or remove pods that hold it)",
            resource.name,
            snapshot.chart(),
            (resource.show)(most)
        ));
        help.push(enlarge(snapshot, wanted, resource));
    }
    if help.is_empty() {
        help.push("cargo xtask tool kubectl -- describe nodes   # taints, conditions, labels".to_owned());
    }
    // A terminating pod holds its resources until it is gone; then this pod may fit.
    let terminating = snapshot.terminating();
    let symptom = if terminating > 0 {
        Symptom::waiting(subject(pod), format!("{cause}\n  {terminating} terminating pods still hold resources"))
    } else {
        Symptom::fatal(subject(pod), cause)
    };
    help.into_iter().fold(symptom, Symptom::help)
}

/// Returns how to give the cluster `wanted` more of `resource`, or why its machine is too small for that.
fn enlarge(snapshot: &Snapshot, wanted: u64, resource: &NodeResource) -> String {
    let held = |node: &Value| holders(snapshot, node, resource).iter().map(|(_, amount)| amount).sum::<u64>();
    let least = snapshot.cluster("Node").map(held).min().unwrap_or_default() + wanted;
    let machine = snapshot.cluster("Node").map(|node| amount(node, "capacity", resource)).max().unwrap_or_default();
    if least > machine {
        let (machine, least) = ((resource.show)(machine), (resource.show)(least));
        return format!("no setting makes room: all pods together need {least}, and the machine has {machine}");
    }
    format!(
        "or give the cluster more: set cluster.{} = {} or more in infra/xtask.toml; only a new cluster gets it: cargo xtask \
         teardown --cluster (deletes the data in it), then deploy again",
        resource.setting,
        least.div_ceil(resource.unit)
    )
}

/// A resource that pods request and nodes have.
struct NodeResource {
    name: &'static str,
    /// The scheduler's words where it is short.
    insufficient: &'static str,
    read: fn(&str) -> u64,
    show: fn(u64) -> String,
    /// The key in `infra/xtask.toml`.
    setting: &'static str,
    /// One unit of that key, in the unit that `read` returns.
    unit: u64,
}

const RESOURCES: &[NodeResource] = &[
    NodeResource {
        name: "memory",
        insufficient: "Insufficient memory",
        read: quantity::bytes,
        show: quantity::memory,
        setting: "memory_mib",
        unit: 1 << 20,
    },
    NodeResource {
        name: "cpu",
        insufficient: "Insufficient cpu",
        read: quantity::millicores,
        show: quantity::cpu,
        setting: "cpus",
        unit: 1000,
    },
];

/// Returns the request that the scheduler counts: the sum of the containers, or the largest init container if more.
fn requested(pod: &Value, resource: &NodeResource) -> u64 {
    let pointer = format!("/resources/requests/{}", resource.name);
    let of = |list: &str| -> Vec<u64> {
        array(pod, list).map(|container| (resource.read)(text(container, &pointer))).collect()
    };
    let sum: u64 = of("/spec/containers").into_iter().sum();
    of("/spec/initContainers").into_iter().max().unwrap_or_default().max(sum)
}

/// Returns the pods on `node` that hold some of `resource`, largest first.
fn holders<'a>(snapshot: &'a Snapshot, node: &Value, resource: &NodeResource) -> Vec<(&'a Value, u64)> {
    let name = text(node, "/metadata/name");
    let on_node = snapshot.cluster("Pod").filter(|pod| text(pod, "/spec/nodeName") == name);
    let holding = on_node.filter(|pod| !["Succeeded", "Failed"].contains(&text(pod, "/status/phase")));
    let mut holders: Vec<(&Value, u64)> = holding.map(|pod| (pod, requested(pod, resource))).collect();
    holders.retain(|(_, amount)| *amount > 0);
    holders.sort_by_key(|(_, amount)| std::cmp::Reverse(*amount));
    holders
}

/// Returns how much of `resource` pods on `node` can use. A node that an older xtask created offers the whole machine,
/// but its container is limited to the profile's size.
fn allocatable(node: &Value, resource: &NodeResource) -> u64 {
    let offered = amount(node, "allocatable", resource);
    match text(node, &format!("/{PROFILE}/{}", resource.name)) {
        "" => offered,
        size => offered.min((resource.read)(size)),
    }
}

fn amount(node: &Value, of: &str, resource: &NodeResource) -> u64 {
    (resource.read)(text(node, &format!("/status/{of}/{}", resource.name)))
}

fn free(snapshot: &Snapshot, node: &Value, resource: &NodeResource) -> u64 {
    let held: u64 = holders(snapshot, node, resource).iter().map(|(_, amount)| amount).sum();
    allocatable(node, resource).saturating_sub(held)
}

/// Returns a line such as `node todo: 5.1Gi free of 6Gi; held by todo/todo-frontend-… 192Mi, …`.
fn describe_node(snapshot: &Snapshot, node: &Value, resource: &NodeResource) -> String {
    let holders = holders(snapshot, node, resource);
    let named = holders.iter().take(NAMED_HOLDERS).map(|(pod, amount)| {
        let name = format!("{}/{}", text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
        format!("{name} {}", (resource.show)(*amount))
    });
    let mut named: Vec<String> = named.collect();
    let rest = holders.len().saturating_sub(NAMED_HOLDERS);
    if rest > 0 {
        let amount = holders.iter().skip(NAMED_HOLDERS).map(|(_, amount)| amount).sum();
        named.push(format!("{rest} more {}", (resource.show)(amount)));
    }
    format!(
        "node {}: {} free of {}; held by {}",
        text(node, "/metadata/name"),
        (resource.show)(free(snapshot, node, resource)),
        (resource.show)(allocatable(node, resource)),
        named.join(", ")
    )
}
