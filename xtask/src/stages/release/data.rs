//! Refuses a release that would lose the embedded database's data. Helm deletes objects that the new manifest does not name,
//! so a value that renames the objects would delete the database of a running application.

use anyhow::Result;
use serde_json::Value;

use super::{Desired, ObservedRelease, drift, helm};
use crate::failure::{Class, Failure};
use crate::plan::Step;
use crate::snapshot::{Snapshot, text};
use crate::toolbox::Toolbox;

/// Returns the step that renders what Helm would apply, and refuses it if the database's volume would be left unused. `None`
/// if there is no data, or if at most images and Secrets have changed: only chart and values name objects.
pub fn step<'a>(tools: &'a Toolbox, desired: &'a Desired, observed: &ObservedRelease) -> Option<Step<'a>> {
    let snapshot = observed.snapshot.clone().filter(|snapshot| claims(snapshot).next().is_some())?;
    if desired.is_remote() || observed.knows_objects_of(desired) {
        return None;
    }
    let shown = helm::shown_render(tools, desired);
    let why = "chart or values may name other objects";
    Some(Step::new("check that the data stays in use", why, shown, move |_| {
        let manifest = helm::render(tools, desired)?;
        check(&manifest, desired, &snapshot).map(|()| "it does".to_owned())
    }))
}

/// Fails if a live StatefulSet with data would lose its volume. If none is live, fails unless a StatefulSet in `manifest` uses
/// one of the volumes. A volume that is left from an earlier name is allowed.
pub fn check(manifest: &str, desired: &Desired, snapshot: &Snapshot) -> Result<()> {
    if desired.is_remote() {
        // The volume stays while `.env` names another database.
        return Ok(());
    }
    let wanted = drift::objects(manifest);
    let sets = || wanted.iter().filter(|object| object["kind"] == "StatefulSet");
    let is_wanted = |claim: &&Value| sets().any(|set| mounts(set, claim));
    let is_live = |claim: &&Value| snapshot.kind("StatefulSet").any(|set| mounts(set, claim));
    let unused = if claims(snapshot).any(|claim| is_live(&claim)) {
        claims(snapshot).filter(is_live).find(|claim| !is_wanted(claim))
    } else {
        claims(snapshot).next().filter(|_| !claims(snapshot).any(|claim| is_wanted(&claim)))
    };
    let Some(unused) = unused else { return Ok(()) };
    let claim = text(unused, "/metadata/name");
    let user = snapshot.kind("StatefulSet").find(|set| mounts(set, unused)).map(|set| text(set, "/metadata/name"));
    let user = user.map(|name| format!("StatefulSet {name} would be deleted; ")).unwrap_or_default();
    let names: Vec<&str> = sets().map(|set| text(set, "/metadata/name")).collect();
    let instead =
        if names.is_empty() { "no StatefulSet".to_owned() } else { format!("StatefulSet {}", names.join(", ")) };
    let what = format!(
        "the release would leave the todos behind: {user}the chart now has {instead}, which does not use their volume {claim}"
    );
    Err(Failure::new(Class::Config, what)
        .help(format!(
            "revert the change that renames the objects (fullnameOverride?) in {} or {}",
            desired.values_file, desired.chart
        ))
        .help("if the todos may go: cargo xtask teardown --data   # then deploy again")
        .into())
}

/// Returns our bound claims, whose volumes may hold data.
fn claims(snapshot: &Snapshot) -> impl Iterator<Item = &Value> {
    snapshot.kind("PersistentVolumeClaim").filter(|claim| text(claim, "/status/phase") == "Bound")
}

/// Returns whether the StatefulSet uses the claim. Kubernetes names claims `<template>-<set>-<number>`.
fn mounts(set: &Value, claim: &Value) -> bool {
    let templates = set.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array).into_iter().flatten();
    let mut prefixes = templates.map(|t| format!("{}-{}-", text(t, "/metadata/name"), text(set, "/metadata/name")));
    let number = |prefix: String| text(claim, "/metadata/name").strip_prefix(&prefix)?.parse::<u32>().ok();
    prefixes.any(|prefix| number(prefix).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn desired(embedded: bool) -> Desired {
        Desired {
            environment: "dev".into(),
            root: Default::default(),
            chart: "chart".into(),
            values_file: "values-dev.yaml".into(),
            values: json!({}),
            fingerprint: [("database".into(), if embedded { "embedded" } else { "remote" }.into())].into(),
        }
    }

    fn snapshot(phase: &str) -> Snapshot {
        let claim = json!({"kind": "PersistentVolumeClaim", "metadata": {"name": "data-todo-postgres-0"},
                           "status": {"phase": phase}});
        Snapshot::of(vec![claim, set("todo-postgres")])
    }

    fn set(name: &str) -> Value {
        json!({"kind": "StatefulSet", "metadata": {"name": name},
               "spec": {"volumeClaimTemplates": [{"metadata": {"name": "data"}}]}})
    }

    #[test]
    fn a_release_that_renames_the_database_is_refused() {
        let refused = |name: &str, embedded: bool, phase: &str| {
            check(&set(name).to_string(), &desired(embedded), &snapshot(phase)).map_err(|error| error.to_string()).err()
        };
        assert_eq!(refused("todo-postgres", true, "Bound"), None);
        let message = refused("shop-postgres", true, "Bound").unwrap();
        for words in
            ["StatefulSet todo-postgres would be deleted", "has StatefulSet shop-postgres", "data-todo-postgres-0"]
        {
            assert!(message.contains(words), "{message}");
        }
        assert_eq!(refused("shop-postgres", true, "Pending"), None, "nothing was written yet");
        assert_eq!(refused("shop-postgres", false, "Bound"), None, "another database is wanted");
        assert!(refused("postgres", true, "Bound").is_some() && refused("todo", true, "Bound").is_some());
        // After a teardown only the claims are left, here also one of an earlier name.
        let is_refused = |sets: &[&str], name: &str| {
            let claim = snapshot("Bound").objects()[0].clone();
            let old = serde_json::from_str(&claim.to_string().replace("todo-postgres", "old-postgres")).unwrap();
            let objects = [claim, old].into_iter().chain(sets.iter().map(|name| set(name))).collect();
            check(&set(name).to_string(), &desired(true), &Snapshot::of(objects)).is_err()
        };
        assert!(!is_refused(&["todo-postgres"], "todo-postgres") && !is_refused(&[], "todo-postgres"));
        assert!(is_refused(&["todo-postgres"], "old-postgres") && is_refused(&[], "shop-postgres"));
    }
}
