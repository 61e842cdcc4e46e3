//! Shows the changes that a deploy would make in the cluster: compares rendered manifests with those of the deployed
//! revision, and keys of Secrets by name.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Serialize;
use similar::TextDiff;

use super::{Desired, ObservedRelease, SecretPlan, data, helm, secret_manifest};
use crate::api::kinds;
use crate::toolbox::Toolbox;

/// The changes that a deploy would make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReleaseDiff {
    /// The deployed revision.
    pub revision: u64,
    /// Objects of the chart that would change.
    pub objects: Vec<ChangedObject>,
    /// Secrets that would be replaced.
    pub secrets: Vec<ChangedSecret>,
}

/// An object that would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangedObject {
    /// `Deployment/todo-backend`.
    pub object: String,
    /// `added`, `removed` or `changed`.
    pub how: &'static str,
    /// A unified diff.
    pub diff: String,
}

/// A Secret that would replace another. Its values are never shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangedSecret {
    /// The name of the new Secret.
    pub name: String,
    /// The name of the Secret in use, if any.
    pub replaces: Option<String>,
    /// `added`, `removed` or `changed` by key.
    pub keys: BTreeMap<String, &'static str>,
}

/// Compares `desired` with the deployed revision; `None` if there is none.
pub fn against_live(
    tools: &Toolbox,
    desired: &Desired,
    plan: &SecretPlan,
    observed: &ObservedRelease,
) -> Result<Option<ReleaseDiff>> {
    let Some(revision) = observed.helm.deployed() else { return Ok(None) };
    let (live, wanted) = std::thread::scope(|scope| {
        let live = scope.spawn(|| helm::manifest(tools, revision));
        let wanted = helm::render(tools, desired);
        (live.join(), wanted)
    });
    let live = live.map_err(|_| anyhow::anyhow!("reading Helm's manifest panicked"))??;
    let wanted = wanted?;
    if let Some(snapshot) = &observed.snapshot {
        data::check(&wanted, desired, snapshot)?;
    }
    let mut secrets = Vec::new();
    // A Secret that is only kept for a rollback is not in use: a return to its values changes keys as well.
    let in_use = |name: &String| observed.record.as_ref().is_some_and(|record| record.secrets.contains(name));
    for (name, manifest) in plan.wanted().filter(|(name, _)| !in_use(name)) {
        let component = plan.names.iter().find(|(_, n)| n == &name).map(|(c, _)| c.as_str()).unwrap_or_default();
        secrets.push(compare_secret(tools, name, manifest, observed, component)?);
    }
    Ok(Some(ReleaseDiff { revision, objects: compare_objects(&live, &wanted), secrets }))
}

fn compare_secret(
    tools: &Toolbox,
    name: &str,
    manifest: &[u8],
    observed: &ObservedRelease,
    component: &str,
) -> Result<ChangedSecret> {
    let wanted: serde_json::Value =
        serde_json::from_slice(manifest).ok().context("the Secret's manifest is not JSON")?;
    let prefix = format!("-{component}-");
    let used = observed.record.iter().flat_map(|record| &record.secrets);
    let replaces = used.into_iter().find(|n| n.contains(&prefix) && observed.secrets.ours.contains(n)).cloned();
    let live = match &replaces {
        Some(old) => tools.api()?.get(&kinds::SECRET, old)?,
        None => None,
    };
    let keys = secret_manifest::compare(live.as_ref(), &wanted);
    Ok(ChangedSecret { name: name.to_owned(), replaces, keys })
}

/// Returns the objects in which the manifest `wanted` differs from `live`, sorted by name.
fn compare_objects(live: &str, wanted: &str) -> Vec<ChangedObject> {
    let (live, wanted) = (documents(live), documents(wanted));
    let mut names: Vec<&String> = live.keys().chain(wanted.keys()).collect();
    names.sort();
    names.dedup();
    let object = |name: &String| {
        let (old, new) = (live.get(name), wanted.get(name));
        let how = match (old, new) {
            (None, _) => "added",
            (_, None) => "removed",
            (old, new) if old == new => return None,
            _ => "changed",
        };
        let (old, new) = (old.map_or("", String::as_str), new.map_or("", String::as_str));
        let diff = TextDiff::from_lines(old, new);
        let header = (format!("live {name}"), format!("wanted {name}"));
        let diff = diff.unified_diff().context_radius(3).header(&header.0, &header.1).to_string();
        Some(ChangedObject { object: name.clone(), how, diff })
    };
    names.into_iter().filter_map(object).collect()
}

/// Returns the documents of a manifest by `Kind/name`, without Helm's comments.
fn documents(manifest: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for document in format!("\n{manifest}").split("\n---").map(|document| document.trim_start_matches(['-', ' '])) {
        let lines: Vec<&str> = document.lines().filter(|line| !line.starts_with("# Source:")).collect();
        let text = format!("{}\n", lines.join("\n").trim());
        let object = super::drift::objects(&text);
        let Some(object) = object.first() else { continue };
        let (kind, name) = (crate::snapshot::text(object, "/kind"), crate::snapshot::text(object, "/metadata/name"));
        found.insert(format!("{kind}/{name}"), text);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = include_str!("recorded/manifest.yaml");

    #[test]
    fn equal_manifests_have_no_differences() {
        assert_eq!(compare_objects(MANIFEST, MANIFEST), []);
        let names: Vec<String> = documents(MANIFEST).into_keys().collect();
        assert_eq!(
            names,
            [
                "ConfigMap/todo-config",
                "Deployment/todo-backend",
                "Deployment/todo-frontend",
                "Ingress/todo",
                "Service/todo-backend"
            ]
        );
    }

    #[test]
    fn a_changed_line_is_shown_with_three_lines_of_context() {
        let wanted = MANIFEST.replace("ENVIRONMENT: \"dev\"", "ENVIRONMENT: \"staging\"");
        let changed = compare_objects(MANIFEST, &wanted);
        assert_eq!(changed.len(), 1);
        insta::assert_snapshot!(changed[0].diff, @r#"
        --- live ConfigMap/todo-config
        +++ wanted ConfigMap/todo-config
        @@ -10,4 +10,4 @@
             app.kubernetes.io/version: "0.1.0"
         data:
           API_BASE_URL: "http://todo-backend:8000"
        -  ENVIRONMENT: "dev"
        +  ENVIRONMENT: "staging"
        "#);
    }

    #[test]
    fn added_and_removed_objects_are_listed() {
        let (one, rest) = MANIFEST.split_at(MANIFEST.rfind("---").unwrap());
        assert_eq!(compare_objects(MANIFEST, one).iter().map(|o| o.how).collect::<Vec<_>>(), ["removed"]);
        assert_eq!(compare_objects(one, MANIFEST).iter().map(|o| o.how).collect::<Vec<_>>(), ["added"]);
        assert!(!rest.is_empty());
    }
}
