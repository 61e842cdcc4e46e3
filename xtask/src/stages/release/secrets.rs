//! Secrets in the cluster: which exist (without their content), which are missing, and which are no longer needed.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::helm::Revision;
use super::record::Record;
use super::secret_manifest::redactor_of;
use crate::api::{MANAGER, Propagation, Scope, kinds};
use crate::labels::{COMPONENT, Release, label};
use crate::plan::Step;

use crate::secrets::{Redactor, Secret};
use crate::snapshot::{Snapshot, text};
use crate::toolbox::Toolbox;

/// The Secrets of the namespace by name and label; their content is not read.
#[derive(Clone, Debug, Default)]
pub struct ObservedSecrets {
    /// Secrets that xtask created.
    pub ours: Vec<String>,
    /// Secrets of `ours` with a digest of their content in the name, so that only some revisions use them.
    pub per_revision: Vec<String>,
    /// Secrets that Helm or somebody else created.
    pub others: Vec<String>,
    /// The revisions of our release, which Helm stores in Secrets.
    pub helm: Vec<Revision>,
}

impl ObservedSecrets {
    /// Returns whether the namespace has a Secret of this name, ours or not.
    pub fn has(&self, name: &String) -> bool {
        self.ours.contains(name) || self.others.contains(name)
    }
}

/// Reads names, labels and times of the Secrets, and no content.
pub fn observe(tools: &Toolbox) -> Result<ObservedSecrets> {
    parse(&tools.api()?.list_metadata(&kinds::SECRET, "")?, tools.release())
}

/// Returns a redactor of the values of all Secrets that xtask created, old ones included.
pub fn redactor(tools: &Toolbox) -> Result<Redactor> {
    Ok(redactor_of(&tools.api()?.select(&kinds::SECRET, Scope::Namespace, &tools.release().made_selector())?))
}

fn parse(secrets: &[Value], release: &Release) -> Result<ObservedSecrets> {
    let mut existing = ObservedSecrets::default();
    for secret in secrets {
        let name = text(secret, "/metadata/name");
        if release.has_revision(secret) {
            let number = label(secret, "version").parse();
            existing.helm.push(Revision {
                number: number.with_context(|| format!("Helm's Secret {name} names no revision"))?,
                status: label(secret, "status").to_owned(),
                created: text(secret, "/metadata/creationTimestamp").to_owned(),
            });
        } else if release.has_made(secret) {
            existing.ours.push(name.to_owned());
            // The embedded database's Secret has no digest.
            if name.starts_with(&format!("{}-", release.object_name(label(secret, COMPONENT)))) {
                existing.per_revision.push(name.to_owned());
            }
        } else {
            existing.others.push(name.to_owned());
        }
    }
    Ok(existing)
}

/// The Secrets that the release needs: name, manifest (applied on standard input) and component.
#[derive(Clone, Default)]
pub struct SecretPlan {
    wanted: Vec<(String, Vec<u8>)>,
    /// Removes every value from text that is shown or saved.
    pub redactor: Redactor,
    /// Names of the Secrets by component, for the chart's values.
    pub names: BTreeMap<String, String>,
    /// The database's URL, if `.env` has one.
    pub database: Option<Secret>,
    /// Keys by component whose values differ from the Secret that was verified last.
    pub changed: BTreeMap<String, Vec<String>>,
}

impl SecretPlan {
    /// Adds the Secret `name` of `component`. Without a `manifest`, it is in the cluster and stays.
    pub fn add(&mut self, component: &str, name: &str, manifest: Option<Vec<u8>>) {
        self.names.insert(component.to_owned(), name.to_owned());
        self.wanted.extend(manifest.map(|manifest| (name.to_owned(), manifest)));
    }

    /// Returns `reason` with the names of the changed keys, if it is about a Secret.
    pub fn name_keys(&self, reason: String) -> String {
        let part = reason.strip_prefix("Secret of ").and_then(|rest| rest.strip_suffix(" changed"));
        match part.and_then(|component| self.changed.get(component)) {
            Some(keys) if !keys.is_empty() => format!("{reason} ({})", keys.join(", ")),
            _ => reason,
        }
    }

    /// Returns names and manifests of the Secrets whose content is known.
    pub fn wanted(&self) -> impl Iterator<Item = (&String, &[u8])> {
        self.wanted.iter().map(|(name, json)| (name, json.as_slice())).filter(|(_, json)| !json.is_empty())
    }

    /// Returns the names of those that are not in the cluster.
    pub fn missing(&self, existing: &ObservedSecrets) -> Vec<String> {
        self.wanted.iter().map(|(name, _)| name).filter(|name| !existing.ours.contains(name)).cloned().collect()
    }

    /// Returns the steps that apply the missing ones.
    pub fn steps<'a>(self, tools: &'a Toolbox, existing: &ObservedSecrets) -> Vec<Step<'a>> {
        let missing = self.missing(existing);
        let wanted = self.wanted.into_iter().filter(|(name, _)| missing.contains(name));
        wanted
            .map(|(name, manifest)| {
                let path = kinds::SECRET.object(tools.namespace(), &name);
                let shown = format!("PATCH {path}?fieldManager={MANAGER}&force=true < (Secret {name})");
                Step::new(format!("apply Secret {name}"), "it is not in the cluster", shown, move |_| {
                    // An error of the parser would show a part of the Secret.
                    let manifest: Value =
                        serde_json::from_slice(&manifest).ok().context("the Secret's manifest is not JSON")?;
                    tools.api()?.apply(&manifest, MANAGER).map(|_| String::new())
                })
            })
            .collect()
    }
}

/// Deletes our Secrets for one content that are not in `keep`. Returns their names.
pub fn remove_unused(tools: &Toolbox, existing: &ObservedSecrets, keep: &[String]) -> Result<Vec<String>> {
    let stale = unused(existing, keep);
    delete(tools, &stale)?;
    Ok(stale)
}

/// Deletes the Secrets of these names.
pub fn delete(tools: &Toolbox, names: &[String]) -> Result<()> {
    let api = tools.api()?;
    names.iter().try_for_each(|name| api.delete(&kinds::SECRET, name, Propagation::Background).map(drop))
}

/// Returns those of `existing` that are for one content and not in `keep`. A rollback needs the Secret of its revision, so
/// `keep` has the Secrets of all kept revisions.
pub fn unused(existing: &ObservedSecrets, keep: &[String]) -> Vec<String> {
    existing.per_revision.iter().filter(|name| !keep.contains(name)).cloned().collect()
}

/// Returns the step that deletes Secrets which an interrupted deploy left: neither a kept revision nor `plan` needs them.
pub fn clean<'a>(
    tools: &'a Toolbox,
    plan: &SecretPlan,
    existing: &ObservedSecrets,
    mut keep: Vec<String>,
) -> Option<Step<'a>> {
    let names: Vec<String> = plan.names.values().cloned().collect();
    keep.extend(names.iter().cloned());
    let stale = unused(existing, &keep);
    if stale.is_empty() {
        return None;
    }
    let what = format!("delete unused Secret {}", stale.join(", "));
    let requests: Vec<String> =
        stale.iter().map(|name| format!("DELETE {}", kinds::SECRET.object(tools.namespace(), name))).collect();
    Some(Step::new(what, "no kept revision names it", requests.join("\n"), move |_| {
        // Somebody may have rolled back to a revision that names one of them.
        let snapshot = Snapshot::take(tools)?;
        let mut keep = named_by_revisions(Record::read(&snapshot)?.as_ref(), &snapshot);
        keep.extend(names);
        let stale: Vec<String> = stale.into_iter().filter(|name| !keep.contains(name)).collect();
        delete(tools, &stale).map(|()| String::new())
    }))
}

/// Returns the Secrets that must stay: those of the record, and of all ReplicaSets in the namespace, also of others.
pub fn named_by_revisions(record: Option<&Record>, snapshot: &Snapshot) -> Vec<String> {
    let mut names: Vec<String> = record.map(Record::all_secrets).unwrap_or_default();
    for set in snapshot.all("ReplicaSet") {
        let volumes = set.pointer("/spec/template/spec/volumes").and_then(Value::as_array).into_iter().flatten();
        for volume in volumes {
            let projected = volume.pointer("/projected/sources").and_then(Value::as_array).into_iter().flatten();
            let sources = projected.filter_map(|source| source.pointer("/secret/name")?.as_str());
            let plain = volume.pointer("/secret/secretName").and_then(Value::as_str);
            names.extend(sources.chain(plain).map(str::to_owned));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_kept_as_long_as_a_revision_names_it() {
        let volumes = serde_json::json!([{"projected": {"sources": [{"secret": {"name": "todo-backend-2"}}]}},
                                         {"secret": {"secretName": "todo-backend-3"}}]);
        let set = serde_json::json!({"kind": "ReplicaSet", "spec": {"template": {"spec": {"volumes": volumes}}}});
        let snapshot = Snapshot::parse(&serde_json::json!({"items": [set]}).to_string()).unwrap();
        let keep = named_by_revisions(None, &snapshot);
        let per_revision = ["todo-backend-1", "todo-backend-2", "todo-backend-3"].map(str::to_owned).into();
        assert_eq!(unused(&ObservedSecrets { per_revision, ..ObservedSecrets::default() }, &keep), ["todo-backend-1"]);
    }

    #[test]
    fn the_secrets_of_a_recorded_cluster_are_classified() {
        let text = include_str!("../../../tests/recorded/cluster/secrets.json");
        let list: Value = serde_json::from_str(text).unwrap();
        let existing = parse(list["items"].as_array().unwrap(), &ours()).unwrap();
        assert_eq!(existing.ours, ["todo-backend-30ac1284", "todo-postgres"]);
        assert!(existing.has(&"todo-postgres".to_owned()) && !existing.has(&"todo-backend-0".to_owned()));
        assert_eq!(existing.per_revision, ["todo-backend-30ac1284"]);
        let created = "2026-11-26T23:41:55Z".to_owned();
        assert_eq!(existing.helm, [Revision { number: 1, status: "deployed".to_owned(), created }]);
    }

    fn ours() -> Release {
        Release::of("todo", "todo")
    }

    #[test]
    fn helm_revisions_and_our_secrets_are_told_apart() {
        let secret = |name: &str, labels: Value| serde_json::json!({"metadata": {"name": name, "labels": labels}});
        let helms = |name: &str, version: &str| serde_json::json!({"owner": "helm", "name": name, "version": version, "status": "deployed"});
        let xtasks = |part_of: &str| {
            serde_json::json!({"app.kubernetes.io/managed-by": "xtask", "app.kubernetes.io/part-of": part_of,
                               "app.kubernetes.io/component": "backend"})
        };
        let secrets = [
            secret("sh.helm.release.v1.todo.v2", helms("todo", "2")),
            secret("sh.helm.release.v1.other.v9", helms("other", "9")),
            secret("todo-backend-0a1b2c3d", xtasks("todo")),
            secret("todo-backend-shop", xtasks("shop")),
            secret("foreign", Value::Null),
        ];
        let existing = parse(&secrets, &ours()).unwrap();
        assert_eq!(existing.helm.len(), 1, "another release's number is not ours");
        assert_eq!(existing.ours, ["todo-backend-0a1b2c3d"]);
        assert!(
            existing.others.iter().all(|other| existing.has(other)),
            "a rollback needs it, also if others created it"
        );
        assert_eq!((existing.helm[0].number, existing.helm[0].status.as_str()), (2, "deployed"));
        assert!(parse(&[secret("sh.helm.release.v1.todo.vx", helms("todo", "x"))], &ours()).is_err());
    }
}
