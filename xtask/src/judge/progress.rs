//! The progress of each workload's rollout.

use serde_json::Value;

use crate::snapshot::{Snapshot, number, text};

/// The progress of a workload's rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The workload's name.
    pub name: String,
    /// Pods wanted.
    pub wanted: u64,
    /// Pods of the current template.
    pub updated: u64,
    /// Pods that are ready, of old and new templates.
    pub ready: u64,
    /// Whether all wanted pods are new and ready, and no other pod is left.
    pub complete: bool,
}

impl Progress {
    /// Returns one line for people.
    pub fn line(&self) -> String {
        let Self { wanted, updated, ready, .. } = self;
        if self.complete { format!("{ready}/{wanted} ready") } else { format!("{ready}/{wanted} ready, {updated} new") }
    }
}

/// Returns the progress of every workload.
pub fn progress(snapshot: &Snapshot) -> Vec<Progress> {
    snapshot.workloads().map(of_workload).collect()
}

/// Returns whether the controller has observed the newest change of the workload.
pub fn is_observed(workload: &Value) -> bool {
    number(workload, "/status/observedGeneration") >= number(workload, "/metadata/generation")
}

pub(super) fn of_workload(workload: &Value) -> Progress {
    let wanted = workload.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
    let status = |name: &str| number(workload, &format!("/status/{name}"));
    let (updated, ready, all) = (status("updatedReplicas"), status("readyReplicas"), status("replicas"));
    // A complete StatefulSet has no `updatedReplicas` once its current and update revisions agree.
    let stateful = workload["kind"] == "StatefulSet";
    let settled = stateful && workload.pointer("/status/currentRevision") == workload.pointer("/status/updateRevision");
    let updated = if settled { ready } else { updated };
    let complete = is_observed(workload) && updated == wanted && ready == wanted && all == wanted;
    Progress { name: text(workload, "/metadata/name").to_owned(), wanted, updated, ready, complete }
}
