//! Pods that fit on no node: which resource, how much of it is asked for, free and held, and by whom.

use serde_json::Value;

use super::Symptom;
use super::pods::{array, current, subject};
use super::quantity;
use crate::snapshot::{PROFILE, Snapshot, text};

/// How many of the pods that hold a resource are named.
const HOLDERS: usize = 5;

/// Pods that the scheduler finds no place for.
pub fn unschedulable(snapshot: &Snapshot) -> Vec<Symptom> {
    let mut found = Vec::new();
    for pod in current(snapshot) {
        let scheduled = array(pod, "/status/conditions").find(|c| c["type"] == "PodScheduled");
        let Some(condition) = scheduled.filter(|c| c["reason"] == "Unschedulable") else { continue };
        let message = text(condition, "/message");
        // A claim without a volume and a cordoned node are rows of their own.
        if !message.contains("PersistentVolumeClaim") && !message.contains(CORDONED) {
            found.push(judge(snapshot, pod, message));
        }
    }
    found
}

/// Pods that wait for a cordoned node; where none does, the nodes themselves: a pod that ends is not replaced.
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
        let cause = format!("{named} is cordoned (`kubectl cordon` or `drain`), so the pod is placed nowhere");
        found.push(uncordons(Symptom::fatal(subject(pod), cause), &nodes));
    }
    if found.is_empty() {
        let node = |node: &&str| {
            let cause = "it is cordoned (`kubectl cordon` or `drain`): no new pod is placed on it";
            uncordons(Symptom::waiting(format!("node/{node}"), cause), &[node])
        };
        found.extend(nodes.iter().map(node));
    }
    found
}

fn uncordons(seen: Symptom, nodes: &[&str]) -> Symptom {
    nodes.iter().fold(seen, |seen, node| seen.help(uncordon(node)))
}

/// The command that has a node take pods again.
pub fn uncordon(node: &str) -> String {
    format!("cargo xtask tool kubectl -- uncordon {node}")
}

/// What the scheduler says of nodes that are cordoned.
const CORDONED: &str = "node(s) were unschedulable";

fn is_cordoned(node: &Value) -> bool {
    node["spec"]["unschedulable"] == true
}

fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

fn judge(snapshot: &Snapshot, pod: &Value, message: &str) -> Symptom {
    let short = message.split(" preemption: ").next().unwrap_or(message);
    let short = short.split(" no new claims").next().unwrap_or(short);
    let mut cause = format!("fits on no node: {short}");
    let mut help: Vec<String> = Vec::new();
    for resource in RESOURCES.iter().filter(|resource| message.contains(resource.insufficient)) {
        let wanted = requested(pod, resource);
        cause.push_str(&format!("\n  {} requested: {}", resource.name, (resource.show)(wanted)));
        let nodes = snapshot.cluster("Node");
        for node in nodes {
            cause.push_str(&format!("\n  {}", room(snapshot, node, resource)));
        }
        let most = snapshot.cluster("Node").map(|node| free(snapshot, node, resource)).max().unwrap_or_default();
        let component = text(pod, "/metadata/labels/app.kubernetes.io~1component");
        help.push(format!(
            "lower {component}.resources.requests.{} in infra/helm/values*.yaml to at most {} (or end what holds it)",
            resource.name,
            (resource.show)(most)
        ));
        help.push(more(snapshot, wanted, resource));
    }
    if help.is_empty() {
        help.push("cargo xtask tool kubectl -- describe nodes   # taints, conditions, labels".to_owned());
    }
    // What ends holds its room until it is gone, and then this pod may fit.
    let ending = snapshot.ending();
    let seen = if ending > 0 {
        Symptom::waiting(subject(pod), format!("{cause}\n  {ending} pods that are ending still hold theirs"))
    } else {
        Symptom::fatal(subject(pod), cause)
    };
    help.into_iter().fold(seen, Symptom::help)
}

/// How the cluster gets room for `wanted`, if its machine has that.
fn more(snapshot: &Snapshot, wanted: u64, resource: &Resource) -> String {
    let held = |node: &Value| holders(snapshot, node, resource).iter().map(|(_, amount)| amount).sum::<u64>();
    let least = snapshot.cluster("Node").map(held).min().unwrap_or_default() + wanted;
    let machine = snapshot.cluster("Node").map(|node| amount(node, "capacity", resource)).max().unwrap_or_default();
    if least > machine {
        let (machine, least) = ((resource.show)(machine), (resource.show)(least));
        return format!("no setting makes room: {least} are needed with what is held, and the machine has {machine}");
    }
    format!(
        "or give the cluster more: set cluster.{} = {} or more in infra/xtask.toml; only a new cluster has it: cargo xtask \
         teardown --cluster (deletes the data in it), then deploy again",
        resource.setting,
        least.div_ceil(resource.unit)
    )
}

struct Resource {
    name: &'static str,
    /// What the scheduler says.
    insufficient: &'static str,
    read: fn(&str) -> u64,
    show: fn(u64) -> String,
    /// In `infra/xtask.toml`, and its unit.
    setting: &'static str,
    unit: u64,
}

const RESOURCES: &[Resource] = &[
    Resource {
        name: "memory",
        insufficient: "Insufficient memory",
        read: quantity::bytes,
        show: quantity::memory,
        setting: "memory_mib",
        unit: 1 << 20,
    },
    Resource {
        name: "cpu",
        insufficient: "Insufficient cpu",
        read: quantity::millicores,
        show: quantity::cpu,
        setting: "cpus",
        unit: 1000,
    },
];

/// What the scheduler counts: the sum of the containers, or the largest init container if that is more.
fn requested(pod: &Value, resource: &Resource) -> u64 {
    let pointer = format!("/resources/requests/{}", resource.name);
    let of = |list: &str| -> Vec<u64> {
        array(pod, list).map(|container| (resource.read)(text(container, &pointer))).collect()
    };
    let sum: u64 = of("/spec/containers").into_iter().sum();
    of("/spec/initContainers").into_iter().max().unwrap_or_default().max(sum)
}

/// The pods on `node` that hold something of `resource`, the largest first.
fn holders<'a>(snapshot: &'a Snapshot, node: &Value, resource: &Resource) -> Vec<(&'a Value, u64)> {
    let name = text(node, "/metadata/name");
    let there = snapshot.cluster("Pod").filter(|pod| text(pod, "/spec/nodeName") == name);
    let holding = there.filter(|pod| !["Succeeded", "Failed"].contains(&text(pod, "/status/phase")));
    let mut holders: Vec<(&Value, u64)> = holding.map(|pod| (pod, requested(pod, resource))).collect();
    holders.retain(|(_, amount)| *amount > 0);
    holders.sort_by_key(|(_, amount)| std::cmp::Reverse(*amount));
    holders
}

/// What a node can give to pods. One that an older xtask made offers the whole machine, but may use no more than the
/// profile has.
fn allocatable(node: &Value, resource: &Resource) -> u64 {
    let offered = amount(node, "allocatable", resource);
    match text(node, &format!("/{PROFILE}/{}", resource.name)) {
        "" => offered,
        size => offered.min((resource.read)(size)),
    }
}

fn amount(node: &Value, of: &str, resource: &Resource) -> u64 {
    (resource.read)(text(node, &format!("/status/{of}/{}", resource.name)))
}

fn free(snapshot: &Snapshot, node: &Value, resource: &Resource) -> u64 {
    let held: u64 = holders(snapshot, node, resource).iter().map(|(_, amount)| amount).sum();
    allocatable(node, resource).saturating_sub(held)
}

/// `node todo: 5.1Gi free of 6Gi; held by todo/todo-frontend-… 192Mi, …`.
fn room(snapshot: &Snapshot, node: &Value, resource: &Resource) -> String {
    let holders = holders(snapshot, node, resource);
    let named = holders.iter().take(HOLDERS).map(|(pod, amount)| {
        let name = format!("{}/{}", text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
        format!("{name} {}", (resource.show)(*amount))
    });
    let mut named: Vec<String> = named.collect();
    let rest = holders.len().saturating_sub(HOLDERS);
    if rest > 0 {
        let amount = holders.iter().skip(HOLDERS).map(|(_, amount)| amount).sum();
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
