//! Pods that the API server does not let in: quotas, Pod Security, and other policies.

use serde_json::Value;

use super::pods::array;
use super::{Gravity, Symptom};
use crate::clock;
use crate::snapshot::{Snapshot, text};

/// How old the event of a StatefulSet may be, in seconds: its name stays the same, so an old one tells of old troubles.
const RECENT: u64 = 60;

/// A workload whose pods are refused, with the API server's reason.
struct Refusal<'a> {
    workload: &'a Value,
    message: String,
}

impl Refusal<'_> {
    fn seen(&self, cause: String) -> Symptom {
        let kind = text(self.workload, "/kind").to_lowercase();
        Symptom::fatal(format!("{kind}/{}", text(self.workload, "/metadata/name")), cause)
    }

    fn component(&self) -> &str {
        text(self.workload, "/metadata/labels/app.kubernetes.io~1component")
    }
}

fn refusals(snapshot: &Snapshot) -> Vec<Refusal<'_>> {
    let observed = snapshot.workloads().filter(|workload| super::progress::observed(workload));
    let behind = observed.filter(|workload| !super::progress::of_workload(workload).complete);
    behind
        .filter_map(|workload| {
            let failure =
                array(workload, "/status/conditions").find(|c| c["type"] == "ReplicaFailure" && c["status"] == "True");
            // A StatefulSet has no such condition, only events.
            let said = match failure {
                Some(condition) => text(condition, "/message").to_owned(),
                None if workload["kind"] == "StatefulSet" => {
                    let event = snapshot.last_event(workload, &["FailedCreate"])?;
                    let recent = clock::parse(&event.time).is_some_and(|then| then + RECENT >= snapshot.taken());
                    recent.then_some(event.message)?
                }
                None => return None,
            };
            let message = said.split_once(" is forbidden: ").map_or(said.as_str(), |(_, reason)| reason).to_owned();
            Some(Refusal { workload, message })
        })
        .collect()
}

const QUOTA: &str = "exceeded quota: ";
const POD_SECURITY: &str = "violates PodSecurity ";

/// A ResourceQuota that has no room for another pod.
pub fn quota(snapshot: &Snapshot) -> Vec<Symptom> {
    let refusals = refusals(snapshot);
    let over = refusals.iter().filter_map(|refusal| Some((refusal.message.split_once(QUOTA)?.1.to_owned(), refusal)));
    over.map(|(rest, refusal)| {
        let (name, amounts) = rest.split_once(", ").unwrap_or((&rest, ""));
        let seen = refusal.seen(format!("quota {name} has no room for another pod: {amounts}"));
        // While pods end, their share is not free yet.
        let gravity = if snapshot.ending() > 0 { Gravity::Waiting } else { Gravity::Fatal };
        let seen = Symptom { gravity, ..seen };
        seen.help(format!("raise it: cargo xtask tool kubectl -- edit resourcequota {name}"))
            .help(format!(
                "or lower {0}.replicas or {0}.resources in infra/helm/values*.yaml; an update needs room for rollout.maxSurge \
                 pods more",
                refusal.component()
            ))
    })
    .collect()
}

/// The namespace enforces Pod Security `restricted`.
pub fn pod_security(snapshot: &Snapshot) -> Vec<Symptom> {
    let refusals = refusals(snapshot);
    let against = refusals.iter().filter_map(|refusal| Some((refusal.message.split_once(POD_SECURITY)?.1, refusal)));
    against
        .map(|(rest, refusal)| {
            let (level, what) = rest.split_once(": ").unwrap_or(("", rest));
            let level = level.trim_matches('"').split(':').next().unwrap_or(level);
            refusal.seen(format!("Pod Security `{level}` refuses its pods: {what}")).help(format!(
                "take that out of infra/helm/templates/{}: the namespace lets in what is restricted only",
                refusal.component()
            ))
        })
        .collect()
}

/// Whatever else is refused: a LimitRange, a missing ServiceAccount, an admission webhook.
pub fn other(snapshot: &Snapshot) -> Vec<Symptom> {
    let refusals = refusals(snapshot);
    let others = refusals.iter().filter(|r| !r.message.contains(QUOTA) && !r.message.contains(POD_SECURITY));
    others
        .map(|refusal| {
            refusal
                .seen(format!("its pods are refused: {}", refusal.message))
                .help("make the pod template in infra/helm/templates conform, or change the policy named")
        })
        .collect()
}
