//! Rolls back to a revision that Helm keeps: chooses it, checks that its Secrets exist, and returns the steps.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::Value;

use super::record::Verified;
use super::{ObservedRelease, Run, drift, helm, ownership, rollout};
use crate::clock;
use crate::failure::{Class, Failure};
use crate::plan::Step;
use crate::secrets::Redactor;
use crate::snapshot::text;
use crate::toolbox::Toolbox;

/// The revision to roll back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Helm's revision.
    pub revision: u64,
    /// Its verification; `None` if it was never verified.
    pub verified: Option<Verified>,
    /// References of the images that its pods use.
    pub images: BTreeSet<String>,
    /// Names of the Secrets that its pods use.
    pub secrets: BTreeSet<String>,
    /// The reason for the choice of this revision.
    pub why: String,
}

/// Chooses the revision to roll back to, and says why: `requested`, or the last one that was verified before the present one.
/// `now` is in seconds since 1970.
pub fn choose(observed: &ObservedRelease, release: &str, requested: Option<u64>, now: u64) -> Result<(u64, String)> {
    let (revision, why) = match requested {
        Some(revision) => (revision, "you asked for it".to_owned()),
        None => choose_verified(observed, release, now)?,
    };
    if !observed.helm.revisions.iter().any(|kept| kept.number == revision) {
        return Err(unknown_revision(observed, revision).into());
    }
    Ok((revision, why))
}

/// Decides what a rollback to the chosen revision needs, from the `manifest` that Helm keeps of it.
pub fn decide_target(observed: &ObservedRelease, (revision, why): (u64, String), manifest: &str) -> Result<Target> {
    let verified = verified_revisions(observed).into_iter().find(|old| old.revision == revision);
    let objects = drift::objects(manifest);
    let secrets = secrets_in(&objects);
    let missing: Vec<&String> = secrets.iter().filter(|name| !observed.secrets.has(name)).collect();
    if let Some(name) = missing.first() {
        let what = format!("revision {revision} needs Secret {name}, which is no longer in the cluster");
        return Err(Failure::new(Class::Rollout, what)
            .help("check out the commit that the revision was built from, and: cargo xtask deploy dev")
            .into());
    }
    // Without the images of hooks, which are not in the manifest.
    let images = images_in(&objects);
    Ok(Target { revision, verified, images, secrets, why })
}

fn verified_revisions(observed: &ObservedRelease) -> Vec<Verified> {
    observed.record.clone().map(super::Record::into_revisions).unwrap_or_default()
}

/// Returns the default revision and why: the one verified before the present one or, if that was never verified, the last
/// verified one.
fn choose_verified(observed: &ObservedRelease, release: &str, now: u64) -> Result<(u64, String)> {
    let is_kept = |old: &&Verified| observed.helm.revisions.iter().any(|revision| revision.number == old.revision);
    let all = verified_revisions(observed);
    let newest = observed.helm.newest().map(|revision| revision.number);
    let current = all.first().filter(|current| Some(current.revision) == newest);
    let found = match current {
        // A revision with the same content would change nothing.
        Some(current) => all.iter().skip(1).filter(is_kept).find(|old| old.fingerprint != current.fingerprint),
        None => all.iter().find(is_kept),
    };
    let Some(old) = found else {
        return Err(Failure::new(Class::Rollout, "no other revision was verified")
            .help(format!("choose any revision that Helm keeps: cargo xtask tool helm -- history {release}"))
            .into());
    };
    let when = clock::age(now.saturating_sub(old.verified_at));
    Ok((old.revision, format!("it was verified {when} ago, before the present one")))
}

fn unknown_revision(observed: &ObservedRelease, revision: u64) -> Failure {
    let verified: Vec<u64> = verified_revisions(observed).iter().map(|old| old.revision).collect();
    let kept = observed.helm.revisions.iter().map(|kept| {
        let verified = if verified.contains(&kept.number) { ", verified" } else { "" };
        format!("{} ({}{verified})", kept.number, kept.status)
    });
    let kept: Vec<String> = kept.collect();
    let kept = if kept.is_empty() { "none".to_owned() } else { kept.join(", ") };
    Failure::new(Class::Config, format!("Helm keeps no revision {revision}; it keeps: {kept}"))
        .help("cargo xtask rollback      goes to the last one that was verified before")
}

/// Returns the images of all workloads in `objects`.
fn images_in(objects: &[Value]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    visit_workloads(objects, &mut |key, value| {
        if let (true, Some(image)) = (key == "image", value.as_str()) {
            found.insert(image.to_owned());
        }
    });
    found
}

/// Returns the Secrets of all workloads in `objects`: in volumes, projected volumes and environment variables.
fn secrets_in(objects: &[Value]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    visit_workloads(objects, &mut |key, value| {
        if ["secret", "secretRef", "secretKeyRef"].contains(&key) {
            let name = value["secretName"].as_str().or_else(|| value["name"].as_str());
            found.extend(name.map(str::to_owned));
        }
    });
    found
}

/// Calls `visit` with every key and value of every workload in `objects`.
fn visit_workloads(objects: &[Value], visit: &mut dyn FnMut(&str, &Value)) {
    fn walk(value: &Value, visit: &mut dyn FnMut(&str, &Value)) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| {
                visit(key, value);
                walk(value, visit);
            }),
            Value::Array(list) => list.iter().for_each(|value| walk(value, visit)),
            _ => {}
        }
    }
    let workloads = objects.iter().filter(|o| ["Deployment", "StatefulSet"].contains(&text(o, "/kind")));
    workloads.for_each(|workload| walk(workload, visit));
}

/// Returns the steps: `helm rollback`, then the rollout, which falls back to the last verified revision on failure.
pub fn steps<'a>(
    tools: &'a Toolbox,
    target: &Target,
    observed: &ObservedRelease,
    run: &Run,
    redactor: Redactor,
) -> Vec<Step<'a>> {
    let release = &tools.release().name;
    let mut steps = helm::repair(tools, release, &observed.helm);
    if let (Some(record), Some(snapshot)) = (&observed.record, &observed.snapshot) {
        let changed = record.drift(snapshot).into_iter().filter(|drift| !drift.is_deleted);
        steps.extend(changed.map(|drift| ownership::step(tools, &drift.object)));
    }
    let rollback = tools.helm().args(["rollback", release, &target.revision.to_string(), "--server-side=true"]);
    let rollback = rollback.args(["--force-conflicts", "--history-max=10"]);
    let rollback = rollback.log(tools.log("helm"));
    let what = format!("helm rollback {release} to revision {}", target.revision);
    let changing = run.clone();
    steps.push(Step::new(what, target.why.clone(), rollback.clone(), move |_| {
        changing.change(tools, &rollback, true, None).map(|()| String::new())
    }));
    let why = "Helm applies, xtask watches".to_owned();
    steps.push(rollout::step(tools, run.clone(), redactor, why));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::release::ObservedSecrets;
    use crate::stages::release::helm::{HelmHistory, Revision};
    use crate::stages::release::record::Record;

    fn verified(revision: u64, tag: &str) -> Verified {
        Verified {
            fingerprint: [("image todo-backend".to_owned(), tag.to_owned())].into(),
            revision,
            images: Default::default(),
            secrets: vec![],
            environment: "dev".into(),
            verified_at: 0,
        }
    }

    /// Returns a release with the verified revisions `all`, newest first; Helm keeps `helm`.
    fn observed(all: &[(u64, &str)], helm: &[u64]) -> ObservedRelease {
        let mut all = all.iter().map(|(revision, tag)| verified(*revision, tag));
        let newest = all.next().unwrap();
        let mut record = Record::new(newest, &Default::default(), &[]).unwrap();
        record.history = all.collect();
        let revision = |number: &u64| Revision { number: *number, status: "x".into(), created: String::new() };
        let helm = HelmHistory { revisions: helm.iter().map(revision).collect() };
        ObservedRelease { record: Some(record), helm, ..ObservedRelease::default() }
    }

    #[test]
    fn the_default_is_the_revision_that_was_verified_before() {
        let chosen = |all: &[(u64, &str)], helm: &[u64]| {
            choose(&observed(all, helm), "shop", None, 0).map(|(revision, _)| revision).ok()
        };
        assert_eq!(chosen(&[(5, "b"), (4, "a"), (3, "z")], &[5, 4, 3]), Some(4));
        // Revision 5 has the content of 3, so 4 is the one that differs.
        assert_eq!(chosen(&[(5, "a"), (4, "b"), (3, "a")], &[5, 4, 3]), Some(4));
        assert_eq!(chosen(&[(5, "a"), (4, "a"), (3, "z")], &[5, 4, 3]), Some(3));
        // Revision 6 was never verified.
        assert_eq!(chosen(&[(5, "b"), (4, "a")], &[6, 5, 4]), Some(5));
        assert_eq!(chosen(&[(5, "b"), (4, "a")], &[5]), None);
        assert_eq!(chosen(&[(5, "b")], &[5]), None);
        let error = choose(&observed(&[(5, "b")], &[5]), "shop", None, 0).unwrap_err();
        let hints = error.downcast_ref::<Failure>().unwrap().hints();
        assert_eq!(hints, ["choose any revision that Helm keeps: cargo xtask tool helm -- history shop"]);
    }

    #[test]
    fn an_unknown_revision_is_refused_with_those_that_helm_keeps() {
        let failure = choose(&observed(&[(5, "b"), (4, "a")], &[6, 5]), "shop", Some(9), 0).unwrap_err().to_string();
        assert_eq!(failure, "Helm keeps no revision 9; it keeps: 6 (x), 5 (x, verified)");
    }

    #[test]
    fn a_target_has_its_verification_and_needs_its_secrets() {
        let mut release = observed(&[(5, "b"), (4, "a")], &[5, 4]);
        let manifest = include_str!("recorded/manifest.yaml");
        let target = |release: &ObservedRelease| decide_target(release, (4, "asked".to_owned()), manifest);
        let missing = target(&release).unwrap_err().to_string();
        let secret = secrets_in(&drift::objects(manifest)).pop_first().unwrap();
        assert_eq!(missing, format!("revision 4 needs Secret {secret}, which is no longer in the cluster"));
        release.secrets = ObservedSecrets { ours: vec![secret], ..Default::default() };
        let found = target(&release).unwrap();
        assert_eq!((found.verified.map(|old| old.revision), found.images.len()), (Some(4), 2));
    }

    #[test]
    fn images_and_secrets_are_read_from_the_manifest() {
        let objects = drift::objects(include_str!("recorded/manifest.yaml"));
        let images = images_in(&objects);
        assert!(images.len() == 2 && images.iter().all(|image| image.starts_with("todo-")), "{images:?}");
        let secrets: Vec<String> = secrets_in(&objects).into_iter().collect();
        assert!(secrets.len() == 1 && secrets[0].starts_with("todo-backend-"), "{secrets:?}");
    }
}
