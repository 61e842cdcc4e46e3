//! Built ID = the node's = the running pods'.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

use crate::snapshot::{Snapshot, text};
use crate::stages::images::node::canonical;
use crate::toolbox::Toolbox;

/// One image's chain from build to pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// `todo-backend:<tag>`.
    pub reference: String,
    /// The ID that was built.
    pub built: String,
    /// IDs by node; empty string: absent.
    pub nodes: BTreeMap<String, String>,
    /// IDs by pod, all being the node's names for them.
    pub pods: BTreeMap<String, String>,
}

impl Link {
    /// Which link of the chain is broken, if one is.
    pub fn broken(&self) -> Option<String> {
        let reference = &self.reference;
        for (node, id) in &self.nodes {
            if id.is_empty() {
                return Some(format!("{reference} is not on node {node}"));
            }
            if *id != self.built {
                return Some(format!("{reference} on node {node} is {}, built was {}", short(id), short(&self.built)));
            }
        }
        if self.pods.is_empty() {
            return Some(format!("no pod runs {reference}"));
        }
        let wrong = self.pods.iter().find(|(_, id)| **id != self.built)?;
        Some(format!("pod {} runs {}, built was {}", wrong.0, short(wrong.1), short(&self.built)))
    }
}

fn short(id: &str) -> &str {
    id.get(..19).unwrap_or(id)
}

/// Follows each image of `built` (ID by reference) to nodes and pods.
pub fn check(tools: &Toolbox, built: &BTreeMap<String, String>, snapshot: &Snapshot) -> Result<Vec<Link>> {
    let mut on_nodes = BTreeMap::new();
    for node in tools.nodes() {
        on_nodes.insert(node.name.clone(), node.images()?);
    }
    Ok(built.iter().map(|(reference, id)| link(reference, id, &on_nodes, snapshot)).collect())
}

fn link(
    reference: &str,
    built: &str,
    on_nodes: &BTreeMap<String, BTreeMap<String, String>>,
    snapshot: &Snapshot,
) -> Link {
    let nodes: BTreeMap<String, String> = on_nodes
        .iter()
        .map(|(node, images)| (node.clone(), images.get(&canonical(reference)).cloned().unwrap_or_default()))
        .collect();
    let mut pods = BTreeMap::new();
    for pod in snapshot.kind("Pod").filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_none()) {
        let specs = pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
        for spec in specs.filter(|spec| text(spec, "/image") == reference) {
            let statuses = pod.pointer("/status/containerStatuses").and_then(Value::as_array).into_iter().flatten();
            let status = statuses.into_iter().find(|status| status["name"] == spec["name"]);
            pods.insert(text(pod, "/metadata/name").to_owned(), status.map(config_digest).unwrap_or_default());
        }
    }
    Link { reference: reference.to_owned(), built: built.to_owned(), nodes, pods }
}

/// The config digest of a running container. containerd reports it as `imageID` for an image that came from no
/// registry; with a repository digest it reports `name@sha256:<manifest>`, and the plain ID stands in `image`.
fn config_digest(status: &Value) -> String {
    let (id, image) = (text(status, "/imageID"), text(status, "/image"));
    if image.starts_with("sha256:") { image.to_owned() } else { id.trim_start_matches("docker://").to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn chain(node: &str, pod: &str) -> Option<String> {
        let items = json!({"items": [{"kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "todo-backend:1"}]},
            "status": {"containerStatuses": [{"name": "c", "imageID": pod, "image": "docker.io/library/todo-backend:1"}]}}]});
        let nodes = BTreeMap::from([(
            "n".to_owned(),
            BTreeMap::from([("docker.io/library/todo-backend:1".to_owned(), node.to_owned())]),
        )]);
        link("todo-backend:1", "sha256:a", &nodes, &Snapshot::parse(&items.to_string()).unwrap()).broken()
    }

    #[test]
    fn each_broken_link_is_named() {
        assert_eq!(chain("sha256:a", "sha256:a"), None);
        assert!(chain("", "sha256:a").unwrap().contains("not on node n"));
        assert!(chain("sha256:b", "sha256:a").unwrap().contains("on node n is sha256:b"));
        assert!(chain("sha256:a", "sha256:b").unwrap().contains("pod p runs sha256:b"));
    }
}
