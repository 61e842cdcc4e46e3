//! Waits for Deployments of the cluster itself: DNS and ingress controller.

use std::time::Instant;

use anyhow::Result;
use serde_json::Value;

use crate::api::{Api, Scope, kinds};
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::judge::uncordon;
use crate::process;
use crate::snapshot::{number, text};

/// Waits until all Deployments with `labels` have only available pods of their newest template. Errors call them `what`.
/// Returns whether there is such a Deployment.
pub fn wait(api: &Api, what: &str, labels: &str) -> Result<bool> {
    let begun = Instant::now();
    loop {
        let deployments = api.select(&kinds::DEPLOYMENT, Scope::Cluster, labels)?;
        let waiting: Vec<&Value> = deployments.iter().filter(|deployment| !is_available(deployment)).collect();
        let Some(first) = waiting.first().filter(|_| !deployments.is_empty()) else {
            return Ok(!deployments.is_empty());
        };
        if process::ending() {
            anyhow::bail!("interrupted");
        }
        if begun.elapsed() > deadlines::SCHEDULED.time()
            && let Some(failure) = unschedulable(api, what, labels)?
        {
            return Err(failure.into());
        }
        if begun.elapsed() > deadlines::AVAILABLE.time() {
            let (name, available) = (text(first, "/metadata/name"), number(first, "/status/availableReplicas"));
            let what = format!(
                "{what} is not available after {} s: Deployment {name} has {available} of {} replicas",
                deadlines::AVAILABLE.as_secs(),
                number(first, "/spec/replicas")
            );
            let help = "cargo xtask tool kubectl -- get pods,events -A";
            return Err(Failure::new(Class::Cluster, what).help(help).into());
        }
        std::thread::sleep(api.deadlines().poll);
    }
}

/// Returns the error if the scheduler cannot place a pod with `labels`.
fn unschedulable(api: &Api, what: &str, labels: &str) -> Result<Option<Failure>> {
    let pods = api.select(&kinds::POD, Scope::Cluster, labels)?;
    let conditions = pods.iter().filter_map(|pod| pod.pointer("/status/conditions")?.as_array()).flatten();
    let Some(words) = conditions.filter(|c| c["reason"] == "Unschedulable").map(|c| text(c, "/message")).next() else {
        return Ok(None);
    };
    let nodes = api.list(&kinds::NODE, Scope::Cluster)?.items;
    let cordoned: Vec<&str> = nodes
        .iter()
        .filter(|node| node["spec"]["unschedulable"] == true)
        .map(|node| text(node, "/metadata/name"))
        .collect();
    if cordoned.is_empty() {
        let what = format!("no pod of {what} fits on a node: {words}");
        return Ok(Some(Failure::new(Class::Cluster, what).help("cargo xtask tool kubectl -- describe nodes")));
    }
    let what = format!(
        "no pod of {what} can be placed: node {} is cordoned (`kubectl cordon` or `drain`)",
        cordoned.join(", ")
    );
    Ok(Some(cordoned.iter().fold(Failure::new(Class::Cluster, what), |failure, node| failure.help(uncordon(node)))))
}

/// Returns whether all pods are of the newest template and available. The condition `Available` also counts old pods.
fn is_available(deployment: &Value) -> bool {
    let current = number(deployment, "/status/observedGeneration") >= number(deployment, "/metadata/generation");
    let wanted = deployment.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
    let counts = ["replicas", "updatedReplicas", "availableReplicas"];
    current && counts.iter().all(|count| number(deployment, &format!("/status/{count}")) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn is_available_only_with_the_newest_pods() {
        let deployment = |generation: u64, [replicas, updated, available]: [u64; 3]| {
            json!({"metadata": {"generation": generation}, "spec": {"replicas": 1},
                   "status": {"observedGeneration": 2, "replicas": replicas, "updatedReplicas": updated,
                              "availableReplicas": available}})
        };
        assert!(is_available(&deployment(2, [1, 1, 1])));
        assert!(!is_available(&deployment(3, [1, 1, 1])), "not seen yet");
        assert!(!is_available(&deployment(2, [1, 0, 1])), "the old pod still serves");
        assert!(!is_available(&deployment(2, [1, 1, 0])) && !is_available(&json!({"metadata": {"generation": 1}})));
    }
}
