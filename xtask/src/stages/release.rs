//! The release stage: applies Secrets, runs `helm upgrade --install`, and follows the rollout until all replicas are ready.

mod data;
mod desired;
mod diff;
mod drift;
pub mod evidence;
mod helm;
mod namespace;
mod ownership;
mod record;
mod restart;
mod rollback;
mod rollout;
pub mod secret_manifest;
mod secrets;
mod undo;
mod uninstall;
mod values;

pub use desired::Desired;
pub use diff::{ChangedObject, ReleaseDiff, against_live as diff};
pub use helm::HelmHistory;
#[cfg(test)]
pub use helm::Revision;
pub use helm::manifest;
pub use namespace::{absent as absent_namespace, wait_until_gone};
pub use record::{Record, Verified};
pub use restart::restart_outdated;
pub use rollback::{Target, choose, decide_target, steps as rollback};
pub use rollout::wait_step;
pub use secrets::{ObservedSecrets, SecretPlan, redactor as redactor_of_secrets};
pub use undo::Run;
pub use uninstall::uninstall;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use crate::failure::{Class, Failure};
use crate::judge;
use crate::labels::label;
use crate::plan::Step;
use crate::snapshot::{Snapshot, is_terminating, text};
use crate::toolbox::Toolbox;

/// The live state of the release, as observed before any step.
#[derive(Default)]
pub struct ObservedRelease {
    /// The namespace's objects; `None`: the namespace does not exist or is being deleted.
    pub snapshot: Option<Snapshot>,
    /// Whether the namespace is being deleted. Its objects count as gone.
    pub is_terminating: bool,
    /// The level of Pod Security that the namespace enforces; empty: none.
    pub enforced: String,
    /// The Secrets, without their content.
    pub secrets: ObservedSecrets,
    /// The revisions that Helm keeps.
    pub helm: HelmHistory,
    /// The record of the last verified state.
    pub record: Option<Record>,
}

impl ObservedRelease {
    /// Returns whether the objects of `desired` are those verified last, except for images and Secrets.
    fn knows_objects_of(&self, desired: &Desired) -> bool {
        self.record.as_ref().is_some_and(|record| record.has_objects_of(&desired.fingerprint))
    }

    /// Returns the failure for a namespace that is being deleted.
    pub fn refusal(&self, tools: &Toolbox) -> Failure {
        let what = format!("namespace {} is being deleted, and the application with it", tools.namespace());
        Failure::new(Class::Rollout, what).help("cargo xtask deploy dev    (waits until it is gone)")
    }
}

/// Reads namespace, Secrets' names, Helm's state and the record, side by side.
pub fn observe(tools: &Toolbox) -> Result<ObservedRelease> {
    let (namespace, snapshot, secrets) = std::thread::scope(|scope| {
        let namespace = scope.spawn(|| namespace::read(tools));
        let snapshot = scope.spawn(|| Snapshot::take(tools));
        let secrets = scope.spawn(|| secrets::observe(tools));
        (namespace.join(), snapshot.join(), secrets.join())
    });
    let panicked = |_| anyhow::anyhow!("reading the release panicked");
    let Some(namespace) = namespace.map_err(panicked)?? else { return Ok(ObservedRelease::default()) };
    if is_terminating(&namespace) {
        return Ok(ObservedRelease { is_terminating: true, ..ObservedRelease::default() });
    }
    let enforced = label(&namespace, namespace::ENFORCE).to_owned();
    let (snapshot, secrets) = (snapshot.map_err(panicked)??, secrets.map_err(panicked)??);
    let record = Record::read(&snapshot)?;
    let helm = helm::observe(&secrets);
    Ok(ObservedRelease { snapshot: Some(snapshot), is_terminating: false, enforced, secrets, helm, record })
}

/// Returns why the release must be applied again; empty: the live state matches the verified and the desired one.
pub fn reasons(desired: &Desired, observed: &ObservedRelease) -> Vec<String> {
    let (Some(snapshot), Some(record)) = (&observed.snapshot, &observed.record) else {
        return vec![match observed.helm.deployed() {
            None => "it is not installed".to_owned(),
            Some(revision) => format!("revision {revision} was never verified"),
        }];
    };
    let mut reasons = record.differences(&desired.fingerprint);
    match observed.helm.newest() {
        Some(newest) if newest.status != "deployed" => {
            reasons.push(format!("Helm's revision {} is {}", newest.number, newest.status));
        }
        Some(newest) if newest.number != record.revision => {
            reasons.push(format!("Helm is at revision {}, but {} was verified last", newest.number, record.revision));
        }
        None => reasons.push("Helm has no revision".to_owned()),
        Some(_) => {}
    }
    reasons.extend(record.drift(snapshot).iter().map(record::Drift::to_string));
    reasons
}

/// Returns workloads that are not ready, as text. After a start of the cluster, or while Kubernetes replaces a pod, they need no
/// change.
fn unready(observed: &ObservedRelease) -> Vec<String> {
    let progress = observed.snapshot.as_ref().map(judge::progress).unwrap_or_default();
    let incomplete = progress.iter().filter(|p| !p.complete);
    incomplete.map(|p| format!("{} has {} of {} replicas ready", p.name, p.ready, p.wanted)).collect()
}

/// Returns the steps of a release: namespace, repair, Secrets, Helm, and the rollout. `preflight` has the steps that check
/// the database: one before anything is made, one after its Secret exists.
pub fn decide<'a>(
    tools: &'a Toolbox,
    desired: &'a Desired,
    secrets: SecretPlan,
    observed: &ObservedRelease,
    run: &Run,
    preflight: Option<[Step<'a>; 2]>,
) -> Vec<Step<'a>> {
    let mut reasons: Vec<String> = reasons(desired, observed).into_iter().map(|r| secrets.name_keys(r)).collect();
    let missing = secrets.missing(&observed.secrets);
    reasons.extend(missing.iter().map(|name| format!("Secret {name} is not in the cluster")));
    let redactor = secrets.redactor.clone();
    let mut steps = Vec::from_iter(namespace::step(tools, observed));
    if reasons.is_empty() {
        let unready = unready(observed);
        if unready.is_empty() {
            let named = |snapshot| secrets::named_by_revisions(observed.record.as_ref(), snapshot);
            let keep = observed.snapshot.as_ref().map(named).unwrap_or_default();
            steps.extend(secrets::clean(tools, &secrets, &observed.secrets, keep));
            return steps;
        }
        // The desired state is applied already, so Kubernetes needs only time.
        steps.push(rollout::step(tools, run.clone(), redactor, unready.join("; ")));
        return steps;
    }
    let (from_here, from_pod) = preflight.map(|[from_here, from_pod]| (from_here, from_pod)).unzip();
    // First of all steps: if the database is unusable, the cluster stays unchanged.
    steps.splice(0..0, from_here);
    steps.extend(helm::repair(tools, &tools.release().name, &observed.helm));
    steps.extend(uninstall::finish(tools, &observed.helm));
    steps.extend(data::step(tools, desired, observed));
    steps.extend(secrets.steps(tools, &observed.secrets));
    steps.extend(from_pod);
    if let (Some(snapshot), Some(record)) = (&observed.snapshot, &observed.record) {
        let changed = record.drift(snapshot).into_iter().filter(|drift| !drift.is_deleted);
        steps.extend(changed.map(|drift| ownership::step(tools, &drift.object)));
    }
    let known = observed.knows_objects_of(desired);
    steps.push(helm::upgrade(tools, desired, run.clone(), true, known, reasons.join("; ")));
    steps.push(rollout::step(tools, run.clone(), redactor, "Helm applies, xtask watches".to_owned()));
    steps
}

/// Returns the steps that release only the database; `desired` has no pod of the applications. A dump can then be restored
/// before anything reads or writes.
pub fn decide_database<'a>(
    tools: &'a Toolbox,
    desired: &'a Desired,
    secrets: SecretPlan,
    observed: &ObservedRelease,
) -> Vec<Step<'a>> {
    let redactor = secrets.redactor.clone();
    let mut steps = Vec::from_iter(namespace::step(tools, observed));
    steps.extend(helm::repair(tools, &tools.release().name, &observed.helm));
    steps.extend(uninstall::finish(tools, &observed.helm));
    steps.extend(secrets.steps(tools, &observed.secrets));
    let (run, why) = (Run::default(), "the database first: the dump is restored before the application starts");
    // Without undo: nothing serves yet, and the same command tries again.
    steps.push(helm::upgrade(tools, desired, run.clone(), false, false, why.to_owned()));
    steps.push(rollout::step(tools, run, redactor, "Helm applies, xtask watches".to_owned()));
    steps
}

/// Returns references of the images that must stay: those of the record, and of all ReplicaSets and StatefulSets in the
/// namespace, also of others.
pub fn images_of_revisions(snapshot: &Snapshot) -> Result<BTreeSet<String>> {
    let sets = snapshot.all("ReplicaSet").chain(snapshot.all("StatefulSet"));
    let specs = sets.filter_map(|set| set.pointer("/spec/template/spec/containers")?.as_array());
    let live = specs.flatten().map(|container| text(container, "/image").to_owned());
    Ok(live.chain(Record::read(snapshot)?.iter().flat_map(Record::all_images)).collect())
}

/// Deletes our Secrets that no kept revision needs.
pub fn remove_unused(tools: &Toolbox) -> Result<()> {
    let (snapshot, existing) = (Snapshot::take(tools)?, secrets::observe(tools)?);
    let keep = secrets::named_by_revisions(Record::read(&snapshot)?.as_ref(), &snapshot);
    secrets::remove_unused(tools, &existing, &keep).map(|_| ())
}

/// Records the revision of `run`, which was proven with `snapshot`, as verified. Returns what [`record`] returns.
pub fn record_desired(
    tools: &Toolbox,
    run: &Run,
    snapshot: &Snapshot,
    desired: &Desired,
    images: BTreeMap<String, String>,
    secrets: Vec<String>,
) -> Result<Vec<String>> {
    let (fingerprint, environment) = (desired.fingerprint.clone(), desired.environment.clone());
    let verified =
        |revision, verified_at| Verified { fingerprint, revision, images, secrets, environment, verified_at };
    record(tools, run, snapshot, verified)
}

/// Records what `verified` returns for the deployed revision and the present time in seconds since 1970. Returns the Secrets
/// that no verified revision needs: candidates for [`remove_unused`].
pub fn record(
    tools: &Toolbox,
    run: &Run,
    snapshot: &Snapshot,
    verified: impl FnOnce(u64, u64) -> Verified,
) -> Result<Vec<String>> {
    let existing = run.confirm(tools).context("the proof is not about the released revision, so it is not recorded")?;
    let helm = helm::observe(&existing);
    let kept: Vec<u64> = helm.revisions.iter().map(|revision| revision.number).collect();
    let deployed = helm.newest().filter(|newest| newest.status == "deployed").map(|newest| newest.number);
    let deployed = deployed.context("Helm's newest revision is not deployed, so there is nothing to record")?;
    let verified = verified(deployed, crate::clock::now());
    let record = Record::new(verified, snapshot, &kept)?;
    record.store(tools)?;
    // `snapshot` may name more: a ReplicaSet that the rollout pushed out of the history is deleted a moment later.
    Ok(secrets::unused(&existing, &record.all_secrets()))
}

/// Returns the objects that somebody has changed by hand since they were verified, with the fields if Helm answers.
pub fn drift(tools: &Toolbox, observed: &ObservedRelease) -> Vec<String> {
    let (Some(snapshot), Some(record)) = (&observed.snapshot, &observed.record) else { return Vec::new() };
    let drift: Vec<String> = record.drift(snapshot).iter().map(record::Drift::to_string).collect();
    if drift.is_empty() {
        return drift;
    }
    match helm::manifest(tools, record.revision) {
        Ok(wanted) => drift::explain(drift, &wanted, snapshot),
        // Report the drift although Helm cannot name the fields.
        Err(error) => {
            let words = error.to_string().lines().next().unwrap_or_default().to_owned();
            drift.into_iter().map(|line| format!("{line} (cannot tell which fields: {words})")).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::tests::api_server::{ApiServer, Reply};
    use crate::api::tests::toolbox;

    #[test]
    fn no_secret_is_removed_unless_everything_that_may_need_it_was_read() {
        let server = ApiServer::start();
        let labels = json!({"app.kubernetes.io/managed-by": "xtask", "app.kubernetes.io/part-of": "todo",
            "app.kubernetes.io/component": "backend"});
        let secret = json!({"kind": "Secret", "metadata": {"name": "todo-backend-stale", "labels": labels}});
        server.put("/api/v1/namespaces/todo/secrets/todo-backend-stale", secret);
        for kind in ["replicasets", "configmaps", "secrets"] {
            let list = format!("GET /*/namespaces/todo/{kind}");
            server.on(&list, &[Reply::Text(403, "no")]);
            assert!(remove_unused(&toolbox(&server)).is_err(), "{kind}");
            server.on(&list, &[Reply::Pass]);
        }
        assert_eq!(server.writes(), [""; 0]);
        remove_unused(&toolbox(&server)).unwrap();
        assert_eq!(server.writes(), ["DELETE /api/v1/namespaces/todo/secrets/todo-backend-stale"]);
    }

    #[test]
    fn a_record_returns_the_secrets_that_no_verified_revision_names() {
        let server = ApiServer::start();
        let secret = |name: &str, labels: serde_json::Value| {
            let object = json!({"kind": "Secret", "metadata": {"name": name, "labels": labels}});
            server.put(&format!("/api/v1/namespaces/todo/secrets/{name}"), object);
        };
        let helm = json!({"owner": "helm", "name": "todo", "version": "3", "status": "deployed"});
        secret("sh.helm.release.v1.todo.v3", helm);
        let ours = json!({"app.kubernetes.io/managed-by": "xtask", "app.kubernetes.io/part-of": "todo",
            "app.kubernetes.io/component": "backend"});
        ["todo-backend-recorded", "todo-backend-running", "todo-backend-stale"]
            .into_iter()
            .for_each(|name| secret(name, ours.clone()));
        let volumes = json!([{"secret": {"secretName": "todo-backend-running"}}]);
        let set = json!({"kind": "ReplicaSet", "spec": {"template": {"spec": {"volumes": volumes}}}});
        let verified = |revision, verified_at| Verified {
            fingerprint: BTreeMap::new(),
            revision,
            images: BTreeMap::new(),
            secrets: vec!["todo-backend-recorded".to_owned()],
            environment: "dev".to_owned(),
            verified_at,
        };
        let unused = record(&toolbox(&server), &Run::default(), &Snapshot::of(vec![set]), verified).unwrap();
        assert_eq!(unused, ["todo-backend-running", "todo-backend-stale"]);
        let requests: Vec<String> = server.received().into_iter().map(|request| request.line).collect();
        let (secrets, record) = ("/api/v1/namespaces/todo/secrets", "/api/v1/namespaces/todo/configmaps/todo-xtask");
        assert_eq!(requests, [format!("GET {secrets}"), format!("PATCH {record}")]);
    }
}
