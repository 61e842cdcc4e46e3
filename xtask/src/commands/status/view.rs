//! The data of `status`, from which the screen and the JSON document are made.

use serde::Serialize;
use serde_json::Value;

use crate::clock;
use crate::failure::Hint;
use crate::judge::{self, Gravity};
use crate::snapshot::{Snapshot, number, text};
use crate::stages::release::{ObservedRelease, Record};

/// The observed state of cluster and application.
#[derive(Clone, Debug, Default, Serialize)]
pub struct View {
    /// The minikube profile.
    pub cluster: ClusterView,
    /// The release; `None` if nothing is deployed.
    pub release: Option<ReleaseView>,
    /// Deployments and StatefulSets.
    pub workloads: Vec<WorkloadView>,
    /// Pods, including terminating ones.
    pub pods: Vec<PodView>,
    /// The verified images.
    pub images: Vec<ImageView>,
    /// The current answers of the Ingress routes; see [`crate::commands::output::routes`].
    pub routes: Vec<Value>,
    /// Secrets that xtask created.
    pub secrets: Vec<SecretView>,
    /// Causes why workloads are not ready.
    pub findings: Vec<FindingView>,
    /// Objects of others in the namespace, e.g. `Deployment adminer`; they are not diagnosed.
    pub foreign: Vec<String>,
    /// Drift: changes made by hand since the last verified deploy.
    pub drift: Vec<String>,
    /// Changes of the next deploy; `None` if they are unknown.
    pub pending: Option<Vec<String>>,
}

/// The minikube profile.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClusterView {
    /// Its name.
    pub profile: String,
    /// `running`, `starting`, `not answering`, `stopped`, `paused`, `absent`, `half deleted`, `foreign`.
    pub state: String,
    /// The reason for which its API server does not respond although its node runs.
    pub silence: Option<String>,
    /// The application's address for a user.
    pub address: Option<String>,
    /// The next step if the address's host does not resolve to this machine.
    pub hint: Option<String>,
    /// The command that gives access to the application, if the profile publishes no port.
    pub open_with: Option<String>,
    /// The Kubernetes version in minikube's record.
    pub kubernetes: Option<String>,
    /// The difference between that version and the pinned one, with the command that upgrades it.
    pub difference: Option<String>,
}

/// The Helm release.
#[derive(Clone, Debug, Serialize)]
pub struct ReleaseView {
    /// Helm's newest revision; `None` if Helm knows none.
    pub revision: Option<u64>,
    /// `deployed`, `failed`, `pending-upgrade`, …
    pub status: Option<String>,
    /// The revision that was verified last.
    pub verified_revision: Option<u64>,
    /// Time of that verification, in RFC 3339.
    pub verified_at: Option<String>,
    /// The environment that was verified.
    pub environment: Option<String>,
    /// Revisions available for a rollback, newest first.
    pub kept: Vec<u64>,
}

/// A Deployment or StatefulSet.
#[derive(Clone, Debug, Serialize)]
pub struct WorkloadView {
    /// Its name.
    pub name: String,
    /// Desired pods.
    pub wanted: u64,
    /// Pods of the current template.
    pub updated: u64,
    /// Ready pods.
    pub ready: u64,
    /// Whether the rollout is complete.
    pub complete: bool,
}

/// A pod.
#[derive(Clone, Debug, Serialize)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// `Running`, `Pending`, `CrashLoopBackOff`, `Terminating` …
    pub state: String,
    /// Whether all its containers are ready.
    pub ready: bool,
    /// Restarts of its containers.
    pub restarts: u64,
    /// Its creation time, in RFC 3339.
    pub created_at: String,
    /// The image of its first container.
    pub image: String,
}

/// An image.
#[derive(Clone, Debug, Serialize)]
pub struct ImageView {
    /// `todo-backend:<tag>`.
    pub reference: String,
    /// Its config digest.
    pub id: String,
    /// Pods that run it.
    pub pods: usize,
}

/// A Secret, without its content.
#[derive(Clone, Debug, Serialize)]
pub struct SecretView {
    /// Its name.
    pub name: String,
    /// Workloads that use it; if none, it is kept for a rollback.
    pub used_by: Vec<String>,
}

/// A diagnosed cause why something is not ready.
#[derive(Clone, Debug, Serialize)]
pub struct FindingView {
    /// The affected object.
    pub subject: String,
    /// The cause.
    pub cause: String,
    /// The next steps as text.
    pub help: String,
    /// The next steps as data.
    pub hints: Vec<Value>,
    /// Whether it needs a change; otherwise it may resolve with time.
    pub fatal: bool,
}

impl View {
    /// Returns the view of `cluster` and the `observed` release; routes, drift and pending changes are filled in later.
    pub fn new(cluster: ClusterView, observed: &ObservedRelease) -> Self {
        let Some(snapshot) = &observed.snapshot else { return Self { cluster, ..Self::default() } };
        let record = observed.record.as_ref();
        let workload = |p: judge::Progress| WorkloadView {
            name: p.name,
            wanted: p.wanted,
            updated: p.updated,
            ready: p.ready,
            complete: p.complete,
        };
        let pods: Vec<PodView> = snapshot.kind("Pod").map(pod).collect();
        let image = |(reference, id): (&String, &String)| ImageView {
            reference: reference.clone(),
            id: id.clone(),
            pods: pods.iter().filter(|pod| pod.image == *reference && pod.state == "Running").count(),
        };
        Self {
            cluster,
            release: Some(release(observed)),
            workloads: judge::progress(snapshot).into_iter().map(workload).collect(),
            images: record.iter().flat_map(|record| &record.images).map(image).collect(),
            routes: Vec::new(),
            secrets: observed.secrets.ours.iter().map(|name| secret(snapshot, name)).collect(),
            findings: judge::findings(snapshot).into_iter().map(finding).collect(),
            foreign: snapshot.foreign(),
            drift: Vec::new(),
            pending: None,
            pods,
        }
    }
}

fn finding(found: judge::Finding) -> FindingView {
    FindingView {
        subject: found.subject,
        cause: found.cause,
        help: found.help.iter().map(Hint::text).collect::<Vec<_>>().join("; "),
        hints: found.help.iter().map(Hint::data).collect(),
        fatal: found.gravity == Gravity::Fatal,
    }
}

fn release(observed: &ObservedRelease) -> ReleaseView {
    let (record, newest) = (observed.record.as_ref(), observed.helm.newest());
    let helm: Vec<u64> = observed.helm.revisions.iter().map(|revision| revision.number).collect();
    ReleaseView {
        revision: newest.map(|revision| revision.number),
        status: newest.map(|revision| revision.status.clone()),
        verified_revision: record.map(|record| record.revision),
        verified_at: record.map(|record| clock::rfc3339(record.verified_at)),
        environment: record.map(|record| record.environment.clone()),
        kept: record
            .map(Record::revision_numbers)
            .unwrap_or_default()
            .into_iter()
            .filter(|n| helm.contains(n))
            .collect(),
    }
}

fn pod(pod: &Value) -> PodView {
    let statuses = |list: &str| pod.pointer(list).and_then(Value::as_array).cloned().unwrap_or_default();
    let (init, containers) = (statuses("/status/initContainerStatuses"), statuses("/status/containerStatuses"));
    let all = || init.iter().chain(&containers);
    let waiting = all().map(|status| text(status, "/state/waiting/reason")).find(|reason| !reason.is_empty());
    let state = match waiting {
        _ if pod.pointer("/metadata/deletionTimestamp").is_some() => "Terminating",
        Some(reason) => reason,
        None => text(pod, "/status/phase"),
    };
    PodView {
        name: text(pod, "/metadata/name").to_owned(),
        state: state.to_owned(),
        ready: !containers.is_empty() && containers.iter().all(|status| status["ready"] == true),
        restarts: all().map(|status| number(status, "/restartCount")).sum(),
        created_at: text(pod, "/metadata/creationTimestamp").to_owned(),
        image: text(pod, "/spec/containers/0/image").to_owned(),
    }
}

fn secret(snapshot: &Snapshot, name: &str) -> SecretView {
    let uses = |workload: &&Value| {
        let template = workload.pointer("/spec/template/spec").map(Value::to_string).unwrap_or_default();
        template.contains(&format!("\"{name}\""))
    };
    let used_by = snapshot.workloads().filter(uses).map(|w| text(w, "/metadata/name").to_owned()).collect();
    SecretView { name: name.to_owned(), used_by }
}

#[cfg(test)]
mod tests;
