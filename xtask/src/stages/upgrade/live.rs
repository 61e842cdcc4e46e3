//! The live state that an upgrade needs: the database, the backend, and objects that would be lost with the cluster.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::api::{Api, Scope, Write, kinds};
use crate::deadlines;
use crate::failure::{self, Class, Failure};
use crate::labels::{COMPONENT, Release};
use crate::settings::Settings;
use crate::snapshot::{has_ended, number, text};
use crate::toolbox::Toolbox;

/// Namespaces that every cluster has.
const STANDARD: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// The contents of the cluster, which an upgrade deletes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Whether the namespace has the embedded database's claim.
    pub claim: bool,
    /// Whether the embedded database's StatefulSet exists.
    pub database: bool,
    /// Objects of others, e.g. `namespace shop`.
    pub foreign: Vec<String>,
}

impl Contents {
    /// Reads the contents from the cluster.
    pub fn observe(settings: &Settings, tools: &Toolbox) -> Result<Self> {
        let kinds = [kinds::NAMESPACE, kinds::PERSISTENT_VOLUME_CLAIM, kinds::STATEFUL_SET, kinds::DEPLOYMENT];
        let lists = tools.api()?.list_all(&kinds, Scope::Cluster)?;
        let items: Vec<Value> = lists.into_iter().flat_map(|list| list.items).collect();
        Ok(Self::of(&items, tools.release(), &tools.release().object_name(&settings.components.database)))
    }

    fn of(items: &[Value], release: &Release, database: &str) -> Self {
        let mut contents = Self::default();
        for item in items {
            let (kind, name) = (text(item, "/kind"), text(item, "/metadata/name"));
            let within = text(item, "/metadata/namespace");
            let (namespace, is_ours) = (release.namespace.as_str(), release.owns(item));
            match kind {
                // The namespace of the ingress controller has no other mark.
                "Namespace" if !release.is_part(item) && name != namespace && !STANDARD.contains(&name) => {
                    contents.foreign.push(format!("namespace {name}"));
                }
                "PersistentVolumeClaim" if within == namespace && name == format!("data-{database}-0") => {
                    contents.claim = true;
                }
                "StatefulSet" if within == namespace && name == database => contents.database = true,
                // Other namespaces are listed as a whole.
                "PersistentVolumeClaim" | "StatefulSet" | "Deployment"
                    if !is_ours && (within == namespace || within == "default") =>
                {
                    contents.foreign.push(format!("{kind} {name} in namespace {within}"));
                }
                _ => {}
            }
        }
        contents.foreign.sort();
        contents
    }
}

/// Returns the UID of namespace kube-system, which identifies the cluster.
pub fn cluster_uid(tools: &Toolbox) -> Result<String> {
    let namespace = tools.api()?.get(&kinds::NAMESPACE, "kube-system")?;
    let namespace = namespace.context("the cluster has no namespace kube-system")?;
    let uid = text(&namespace, "/metadata/uid").to_owned();
    ensure!(!uid.is_empty(), "the namespace kube-system has no UID");
    Ok(uid)
}

/// The spec of the backend's Deployment.
pub struct Backend {
    /// The number of pods.
    pub replicas: u64,
    /// The Secret that the pods mount.
    pub secret: Option<String>,
}

/// Reads the backend's Deployment; `None`: it does not exist.
pub fn backend(settings: &Settings, tools: &Toolbox) -> Result<Option<Backend>> {
    let deployment = tools.api()?.get(&kinds::DEPLOYMENT, &backend_name(settings))?;
    Ok(deployment.map(|deployment| {
        let list = |value: &Value, at: &str| value.pointer(at).and_then(Value::as_array).cloned().unwrap_or_default();
        let volumes = list(&deployment, "/spec/template/spec/volumes");
        let mut sources = volumes.iter().flat_map(|volume| list(volume, "/projected/sources"));
        let secret = sources.find_map(|source| source.pointer("/secret/name")?.as_str().map(str::to_owned));
        Backend { replicas: number(&deployment, "/spec/replicas"), secret }
    }))
}

/// Returns the name of the backend's Deployment.
pub fn backend_name(settings: &Settings) -> String {
    settings.chart.as_release().object_name(&settings.components.backend)
}

/// Scales the backend. At 0, waits until all its pods are gone, so that nothing writes to the database.
pub fn scale_backend(settings: &Settings, tools: &Toolbox, replicas: u64) -> Result<()> {
    let (api, name) = (tools.api()?, backend_name(settings));
    let patch = json!([{"op": "replace", "path": "/spec/replicas", "value": replicas}]);
    if let Write::Conflict(why) = api.json_patch(&kinds::DEPLOYMENT, &name, &patch)? {
        bail!("Deployment {name} cannot be scaled to {replicas}: {why}");
    }
    if replicas == 0 { wait_until_no_pod_is_left(&api, tools.release(), &settings.components.backend) } else { Ok(()) }
}

/// Scales the backend back to `replicas`. Returns `result`, or an error that names both failures.
pub fn start_backend<T>(
    settings: &Settings,
    tools: &Toolbox,
    replicas: u64,
    deploy: &str,
    result: Result<T>,
) -> Result<T> {
    let Err(scaling) = scale_backend(settings, tools, replicas) else { return result };
    let start = format!("cargo xtask {deploy}");
    Err(match result {
        Ok(_) => scaling.context(format!("the backend is still stopped; start it: {start}")),
        Err(error) => {
            error.context(format!("the backend is still stopped ({}); start it: {start}", failure::message(&scaling)))
        }
    })
}

fn wait_until_no_pod_is_left(api: &Api, release: &Release, component: &str) -> Result<()> {
    let selector = format!("{},{COMPONENT}={component}", release.selector());
    let start = Instant::now();
    loop {
        let pods = api.select(&kinds::POD, Scope::Namespace, &selector)?;
        // An evicted pod still exists, but runs nothing.
        let left: Vec<&str> =
            pods.iter().filter(|pod| !has_ended(pod)).map(|pod| text(pod, "/metadata/name")).collect();
        if left.is_empty() {
            return Ok(());
        }
        if start.elapsed() > deadlines::BACKEND_END.time() {
            let what = format!(
                "the backend's pods did not end within {} s: {}",
                deadlines::BACKEND_END.as_secs(),
                left.join(", ")
            );
            return Err(Failure::new(Class::Cluster, what).help("cargo xtask status").into());
        }
        std::thread::sleep(api.deadlines().poll);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item(kind: &str, namespace: &str, name: &str, part_of: &str) -> Value {
        json!({"kind": kind, "metadata": {"name": name, "namespace": namespace, "labels": {
            "app.kubernetes.io/part-of": part_of, "app.kubernetes.io/instance": "todo"}}})
    }

    /// Returns an object that Helm applied for a release of our chart.
    fn applied(kind: &str, name: &str, release: &str) -> Value {
        let mut item = item(kind, "todo", name, "todo");
        item["metadata"]["labels"]["app.kubernetes.io/managed-by"] = json!("Helm");
        item["metadata"]["annotations"] =
            json!({"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": "todo"});
        item
    }

    #[test]
    fn objects_of_others_are_listed_as_foreign() {
        let release = Release::of("todo", "todo");
        let ours = [
            item("Namespace", "", "kube-system", ""),
            item("Namespace", "", "todo", ""),
            item("Namespace", "", "ingress-traefik", "todo"),
            item("PersistentVolumeClaim", "todo", "data-todo-postgres-0", "todo"),
            applied("StatefulSet", "todo-postgres", "todo"),
            applied("Deployment", "todo-backend", "todo"),
            item("Deployment", "kube-system", "coredns", ""),
        ];
        let contents = Contents::of(&ours, &release, "todo-postgres");
        assert_eq!(contents, Contents { claim: true, database: true, foreign: vec![] });
        let theirs = [
            item("Namespace", "", "shop", ""),
            item("PersistentVolumeClaim", "shop", "data", ""),
            item("Deployment", "default", "web", ""),
            item("PersistentVolumeClaim", "todo", "notes", ""),
            applied("StatefulSet", "second-postgres", "second"),
        ];
        let contents = Contents::of(&theirs, &release, "todo-postgres");
        let foreign = [
            "Deployment web in namespace default",
            "PersistentVolumeClaim notes in namespace todo",
            "StatefulSet second-postgres in namespace todo",
            "namespace shop",
        ];
        assert_eq!((contents.claim, &contents.foreign[..]), (false, &foreign.map(str::to_owned)[..]));
    }
}
