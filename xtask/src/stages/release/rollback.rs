//! Back to a revision that Helm keeps: which one, whether all that it needs is there, and the steps.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::Value;

use super::record::Verified;
use super::{ObservedRelease, Run, drift, helm, ownership, rollout};
use crate::clock;
use crate::failure::{Class, Failure};
use crate::plan::Step;
use crate::project::Project;
use crate::secrets::Redactor;
use crate::snapshot::text;
use crate::toolbox::Toolbox;

/// Where to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Helm's revision.
    pub revision: u64,
    /// What was verified of it; `None` if it never was.
    pub verified: Option<Verified>,
    /// References of the images that its pods run.
    pub images: BTreeSet<String>,
    /// Names of the Secrets that its pods use.
    pub secrets: BTreeSet<String>,
    /// Why this one.
    pub why: String,
}

/// The revision to go back to: `asked`, or the last one that was verified before what is there now.
pub fn target(project: &Project, tools: &Toolbox, observed: &ObservedRelease, asked: Option<u64>) -> Result<Target> {
    if observed.ending {
        return Err(observed.refusal(tools).into());
    }
    let (revision, why) = match asked {
        Some(revision) => (revision, "asked for".to_owned()),
        None => choose(observed)?,
    };
    if !observed.helm.revisions.iter().any(|kept| kept.number == revision) {
        return Err(unknown(observed, revision).into());
    }
    let verified = all(observed).into_iter().find(|old| old.revision == revision);
    let objects = drift::objects(&helm::manifest(project, tools, revision)?);
    let secrets = secrets_in(&objects);
    let missing: Vec<&String> = secrets.iter().filter(|name| !observed.secrets.has(name)).collect();
    if let Some(name) = missing.first() {
        let what = format!("revision {revision} needs Secret {name}, which is not in the cluster any more");
        return Err(Failure::new(Class::Rollout, what)
            .help("check out the commit that the revision was built from, and: cargo xtask deploy dev")
            .into());
    }
    // Only what workloads run: Helm does not keep hooks in the manifest.
    let images = images_in(&objects);
    Ok(Target { revision, verified, images, secrets, why })
}

fn all(observed: &ObservedRelease) -> Vec<Verified> {
    observed.record.clone().map(super::Record::all).unwrap_or_default()
}

/// The default: what was verified before the present state, or last, if the present state never was.
fn choose(observed: &ObservedRelease) -> Result<(u64, String)> {
    let kept = |old: &&Verified| observed.helm.revisions.iter().any(|revision| revision.number == old.revision);
    let all = all(observed);
    let newest = observed.helm.newest().map(|revision| revision.number);
    let current = all.first().filter(|current| Some(current.revision) == newest);
    let found = match current {
        // A revision with the same content would be a rollback to what is there.
        Some(current) => all.iter().skip(1).filter(kept).find(|old| old.fingerprint != current.fingerprint),
        None => all.iter().find(kept),
    };
    let Some(old) = found else {
        return Err(Failure::new(Class::Rollout, "there is no other revision that was verified")
            .help("choose any revision that Helm keeps: cargo xtask tool helm -- history todo")
            .into());
    };
    let when = clock::age(clock::now().saturating_sub(old.verified_at));
    Ok((old.revision, format!("it was verified {when} ago, before what is there now")))
}

fn unknown(observed: &ObservedRelease, revision: u64) -> Failure {
    let verified: Vec<u64> = all(observed).iter().map(|old| old.revision).collect();
    let kept = observed.helm.revisions.iter().map(|kept| {
        let verified = if verified.contains(&kept.number) { ", verified" } else { "" };
        format!("{} ({}{verified})", kept.number, kept.status)
    });
    let kept: Vec<String> = kept.collect();
    let kept = if kept.is_empty() { "none".to_owned() } else { kept.join(", ") };
    Failure::new(Class::Config, format!("Helm keeps no revision {revision}; there is: {kept}"))
        .help("cargo xtask rollback      goes to the last one that was verified before")
}

/// The images that workloads run.
fn images_in(objects: &[Value]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    each(objects, &mut |key, value| {
        if let (true, Some(image)) = (key == "image", value.as_str()) {
            found.insert(image.to_owned());
        }
    });
    found
}

/// The Secrets that workloads use: as a volume, in a projected one, or as environment.
fn secrets_in(objects: &[Value]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    each(objects, &mut |key, value| {
        if ["secret", "secretRef", "secretKeyRef"].contains(&key) {
            let name = value["secretName"].as_str().or_else(|| value["name"].as_str());
            found.extend(name.map(str::to_owned));
        }
    });
    found
}

/// Hands every key and value of every workload to `take`.
fn each(objects: &[Value], take: &mut dyn FnMut(&str, &Value)) {
    fn walk(value: &Value, take: &mut dyn FnMut(&str, &Value)) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| {
                take(key, value);
                walk(value, take);
            }),
            Value::Array(list) => list.iter().for_each(|value| walk(value, take)),
            _ => {}
        }
    }
    let workloads = objects.iter().filter(|o| ["Deployment", "StatefulSet"].contains(&text(o, "/kind")));
    workloads.for_each(|workload| walk(workload, take));
}

/// The steps: Helm, then the watch, which goes back to what was verified last if the old revision does not stand up.
pub fn steps<'a>(
    project: &'a Project,
    tools: &'a Toolbox,
    target: &Target,
    observed: &ObservedRelease,
    run: &Run,
    redactor: Redactor,
) -> Vec<Step<'a>> {
    let release = &project.settings.chart.release;
    let mut steps = helm::repair(tools, release, &observed.helm);
    if let (Some(record), Some(snapshot)) = (&observed.record, &observed.snapshot) {
        let changed = record.drift(snapshot).into_iter().filter(|drift| !drift.deleted);
        steps.extend(changed.map(|drift| ownership::step(tools, &drift.object)));
    }
    let rollback = tools.helm().args(["rollback", release, &target.revision.to_string(), "--server-side=true"]);
    let rollback = rollback.args(["--force-conflicts", "--history-max=10"]);
    let rollback = rollback.log(project.log("helm"));
    let what = format!("helm rollback {release} to revision {}", target.revision);
    let changing = run.clone();
    steps.push(Step::new(what, target.why.clone(), rollback.clone(), move |_| {
        changing.change(project, tools, &rollback, true).map(|()| String::new())
    }));
    let why = "Helm applies, xtask watches".to_owned();
    steps.push(rollout::step(project, tools, run.clone(), redactor, why));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::release::helm::{Revision, Status};
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

    /// The newest verified first; Helm keeps `helm`.
    fn observed(all: &[(u64, &str)], helm: &[u64]) -> ObservedRelease {
        let mut all = all.iter().map(|(revision, tag)| verified(*revision, tag));
        let newest = all.next().unwrap();
        let mut record = Record::new(newest, &Default::default(), &[]).unwrap();
        record.history = all.collect();
        let revision = |number: &u64| Revision { number: *number, status: "x".into(), created: String::new() };
        let helm = Status { revisions: helm.iter().map(revision).collect() };
        ObservedRelease { record: Some(record), helm, ..ObservedRelease::default() }
    }

    #[test]
    fn the_default_is_what_was_verified_before() {
        let chosen =
            |all: &[(u64, &str)], helm: &[u64]| choose(&observed(all, helm)).map(|(revision, _)| revision).ok();
        assert_eq!(chosen(&[(5, "b"), (4, "a"), (3, "z")], &[5, 4, 3]), Some(4));
        // 5 is 3 again: 4 is what is different.
        assert_eq!(chosen(&[(5, "a"), (4, "b"), (3, "a")], &[5, 4, 3]), Some(4));
        assert_eq!(chosen(&[(5, "a"), (4, "a"), (3, "z")], &[5, 4, 3]), Some(3));
        // What is there was never verified: the last that was.
        assert_eq!(chosen(&[(5, "b"), (4, "a")], &[6, 5, 4]), Some(5));
        assert_eq!(chosen(&[(5, "b"), (4, "a")], &[5]), None);
        assert_eq!(chosen(&[(5, "b")], &[5]), None);
    }

    #[test]
    fn a_revision_that_helm_does_not_keep_names_those_it_does() {
        let failure = unknown(&observed(&[(5, "b"), (4, "a")], &[6, 5]), 9).to_string();
        assert_eq!(failure, "Helm keeps no revision 9; there is: 6 (x), 5 (x, verified)");
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
