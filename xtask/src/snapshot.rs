//! What is in the namespace right now: one `kubectl get`, read by everything that judges.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::toolbox::Toolbox;

/// The kinds that a snapshot holds. Secrets are left out: their content has no business here.
const KINDS: &str = "deployments,statefulsets,replicasets,pods,services,ingresses,configmaps,persistentvolumeclaims,\
                     poddisruptionbudgets,serviceaccounts,endpointslices,events";

/// The objects of one namespace.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    objects: Vec<Value>,
}

impl Snapshot {
    /// Takes one.
    pub fn take(tools: &Toolbox) -> Result<Self> {
        let text = tools.kubectl_here().args(["get", KINDS, "-o", "json"]).read()?;
        Self::parse(&text)
    }

    /// From the JSON of `kubectl get -o json`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut list: Value = serde_json::from_str(text).context("kubectl did not print JSON")?;
        let objects = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        Ok(Self { objects })
    }

    /// All objects of `kind`.
    pub fn kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// The object of `kind` called `name`.
    pub fn get(&self, kind: &str, name: &str) -> Option<&Value> {
        self.kind(kind).find(|object| object.pointer("/metadata/name").is_some_and(|n| n == name))
    }

    /// The workloads of the release: Deployments and StatefulSets.
    pub fn workloads(&self) -> impl Iterator<Item = &Value> {
        self.kind("Deployment").chain(self.kind("StatefulSet"))
    }

    /// The pods of a workload's current generation of labels, those that are ending left out.
    pub fn pods_of<'a>(&'a self, workload: &'a Value) -> impl Iterator<Item = &'a Value> {
        let selector = workload.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
        self.kind("Pod").filter(move |pod| {
            let labels = &pod["metadata"]["labels"];
            selector.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
                && pod.pointer("/metadata/deletionTimestamp").is_none()
        })
    }

    /// A digest of the desired part of every object that `keep` selects: what somebody wants of it, without what the
    /// cluster adds. ConfigMaps and Services have no generation, hence a digest rather than that.
    pub fn digests(&self, keep: impl Fn(&str, &str) -> bool) -> BTreeMap<String, String> {
        let mut digests = BTreeMap::new();
        for object in &self.objects {
            let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
            if keep(kind, name) {
                digests.insert(format!("{kind}/{name}"), digest(object));
            }
        }
        digests
    }
}

/// The string at `pointer`, or the empty one.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The number at `pointer`, or 0.
pub fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

fn digest(object: &Value) -> String {
    let mut spec = object["spec"].clone();
    // `kubectl rollout restart` writes this; it is an operation, not a change of what is wanted.
    if let Some(annotations) = spec.pointer_mut("/template/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove("kubectl.kubernetes.io/restartedAt");
    }
    let wanted = serde_json::json!([object["metadata"]["labels"], sorted(&spec), sorted(&object["data"])]);
    let hash = Sha256::digest(wanted.to_string());
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The value with all keys in order, so that equal content has equal text.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let ordered: BTreeMap<&String, Value> = map.iter().map(|(key, value)| (key, sorted(value))).collect();
            serde_json::json!(ordered)
        }
        Value::Array(list) => list.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(replicas: u32, restarted: &str) -> Value {
        json!({"kind": "Deployment", "metadata": {"name": "todo-backend", "resourceVersion": restarted, "labels": {}},
               "spec": {"replicas": replicas, "template": {"metadata": {"annotations":
                   {"kubectl.kubernetes.io/restartedAt": restarted}}}}, "status": {"replicas": replicas}})
    }

    #[test]
    fn a_restart_is_no_change_of_what_is_wanted_but_scaling_is() {
        assert_eq!(digest(&deployment(2, "a")), digest(&deployment(2, "b")));
        assert_ne!(digest(&deployment(2, "a")), digest(&deployment(1, "a")));
    }

    #[test]
    fn order_of_keys_does_not_matter() {
        let one = json!({"kind": "ConfigMap", "data": {"a": "1", "b": "2"}});
        let two = json!({"kind": "ConfigMap", "data": {"b": "2", "a": "1"}});
        assert_eq!(digest(&one), digest(&two));
    }
}
