//! Pods that the API server refuses: quotas, Pod Security, and other policies.

use serde_json::Value;

use super::pods::array;
use super::{Gravity, Symptom};
use crate::clock;
use crate::snapshot::{Snapshot, text};

/// Seconds after which an event of a StatefulSet is too old: it may be about an earlier template.
const RECENT: u64 = 60;

/// A workload whose pods are refused, with the API server's reason.
struct Refusal<'a> {
    workload: &'a Value,
    message: String,
}

impl Refusal<'_> {
    fn symptom(&self, cause: String) -> Symptom {
        let kind = text(self.workload, "/kind").to_lowercase();
        Symptom::fatal(format!("{kind}/{}", text(self.workload, "/metadata/name")), cause)
    }

    fn component(&self) -> &str {
        text(self.workload, "/metadata/labels/app.kubernetes.io~1component")
    }
}

fn refusals(snapshot: &Snapshot) -> Vec<Refusal<'_>> {
    let observed = snapshot.workloads().filter(|workload| super::progress::is_observed(workload));
    let incomplete = observed.filter(|workload| !super::progress::of_workload(workload).complete);
    incomplete
        .filter_map(|workload| {
            let failure =
                array(workload, "/status/conditions").find(|c| c["type"] == "ReplicaFailure" && c["status"] == "True");
            // A StatefulSet has no such condition, only events.
            let refusal = match failure {
                Some(condition) => text(condition, "/message").to_owned(),
                None if workload["kind"] == "StatefulSet" => {
                    let event = snapshot.last_event(workload, &["FailedCreate"])?;
                    let recent = clock::parse(&event.time).is_some_and(|then| then + RECENT >= snapshot.taken());
                    recent.then_some(event.message)?
                }
                None => return None,
            };
            let message =
                refusal.split_once(" is forbidden: ").map_or(refusal.as_str(), |(_, reason)| reason).to_owned();
            Some(Refusal { workload, message })
        })
        .collect()
}

const QUOTA: &str = "exceeded quota: ";
const POD_SECURITY: &str = "violates PodSecurity ";

/// Finds workloads whose pods exceed a ResourceQuota.
pub fn quota(snapshot: &Snapshot) -> Vec<Symptom> {
    let refusals = refusals(snapshot);
    let over = refusals.iter().filter_map(|refusal| Some((refusal.message.split_once(QUOTA)?.1.to_owned(), refusal)));
    over.map(|(rest, refusal)| {
        let (name, amounts) = rest.split_once(", ").unwrap_or((&rest, ""));
        let symptom = refusal.symptom(format!("quota {name} has no room for another pod: {amounts}"));
        // Terminating pods still use their share of the quota.
        let gravity = if snapshot.terminating() > 0 { Gravity::Waiting } else { Gravity::Fatal };
        let symptom = Symptom { gravity, ..symptom };
        symptom.help(format!("raise it: cargo xtask tool kubectl -- edit resourcequota {name}")).help(format!(
            "or lower {0}.replicas or {0}.resources in {1}/values*.yaml; an update needs room for rollout.maxSurge \
                 more pods",
            refusal.component(),
            snapshot.chart()
        ))
    })
    .collect()
}

/// Finds workloads whose pods violate the namespace's level of Pod Security.
pub fn pod_security(snapshot: &Snapshot) -> Vec<Symptom> {
    let refusals = refusals(snapshot);
    let against = refusals.iter().filter_map(|refusal| Some((refusal.message.split_once(POD_SECURITY)?.1, refusal)));
    against
        .map(|(rest, refusal)| {
            let (level, what) = rest.split_once(": ").unwrap_or(("", rest));
            let level = level.trim_matches('"').split(':').next().unwrap_or(level);
            refusal.symptom(format!("Pod Security `{level}` refuses its pods: {what}")).help(format!(
                "remove that from {}/templates/{}: the namespace admits only pods of that level",
                snapshot.chart(),
                refusal.component()
            ))
        })
        .collect()
}

/// Finds workloads whose pods another policy refuses: a LimitRange, a missing ServiceAccount, an admission webhook.
pub fn other(snapshot: &Snapshot) -> Vec<Symptom> {
    let refusals = refusals(snapshot);
    let others = refusals.iter().filter(|r| !r.message.contains(QUOTA) && !r.message.contains(POD_SECURITY));
    let chart = snapshot.chart();
    others
        .map(|refusal| {
            refusal.symptom(format!("its pods are refused: {}", refusal.message)).help(format!(
                "adapt the pod template in {chart}/templates, or change the policy that the message names"
            ))
        })
        .collect()
}
