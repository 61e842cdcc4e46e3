//! How far each workload's rollout is.

use serde_json::Value;

use crate::snapshot::{Snapshot, number, text};

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

impl Progress {
    /// One line for people.
    pub fn line(&self) -> String {
        let Self { wanted, updated, ready, .. } = self;
        if self.complete { format!("{ready}/{wanted} ready") } else { format!("{ready}/{wanted} ready, {updated} new") }
    }
}

/// The rollout of every workload.
pub fn progress(snapshot: &Snapshot) -> Vec<Progress> {
    snapshot.workloads().map(of_workload).collect()
}

/// Whether the controller has seen the newest change of the workload.
pub fn observed(workload: &Value) -> bool {
    number(workload, "/status/observedGeneration") >= number(workload, "/metadata/generation")
}

pub(super) fn of_workload(workload: &Value) -> Progress {
    let wanted = workload.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
    let status = |name: &str| number(workload, &format!("/status/{name}"));
    let (updated, ready, all) = (status("updatedReplicas"), status("readyReplicas"), status("replicas"));
    // A StatefulSet that is complete leaves `updatedReplicas` out once current and update revision agree.
    let stateful = workload["kind"] == "StatefulSet";
    let settled = stateful && workload.pointer("/status/currentRevision") == workload.pointer("/status/updateRevision");
    let updated = if settled { ready } else { updated };
    let complete = observed(workload) && updated == wanted && ready == wanted && all == wanted;
    Progress { name: text(workload, "/metadata/name").to_owned(), wanted, updated, ready, complete }
}
