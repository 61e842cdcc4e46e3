//! Removes fields that somebody added by hand. Server-side apply removes only fields that its manager owns: an extra key in a
//! ConfigMap belongs to `kubectl-patch`, so Helm would keep it. Its ownership is transferred to Helm first. The upgrade that
//! follows does not name the field, so the API server removes it.
//!
//! The rule: <https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership>

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use crate::api::{Resource, Write};
use crate::deadlines;
use crate::plan::Step;
use crate::toolbox::Toolbox;

/// Helm's field manager.
const HELM: &str = "helm";
/// Managers whose fields stay: the controllers, and `kubectl rollout restart`.
const KEPT_MANAGERS: [&str; 2] = ["kube-controller-manager", "kubectl-rollout"];

/// Attempts to patch an object that somebody else writes at the same time.
const ATTEMPTS: u32 = 20;

/// Returns the step that transfers foreign fields of `object` (`ConfigMap/todo-config`) to Helm.
pub fn step<'a>(tools: &'a Toolbox, object: &str) -> Step<'a> {
    let (kind, name) = object.split_once('/').unwrap_or((object, ""));
    let (resource, name) = (Resource::of_kind(kind), name.to_owned());
    let path = resource.map(|resource| resource.object(tools.namespace(), &name)).unwrap_or_default();
    let what = format!("hand fields of {} to Helm", object.to_lowercase());
    let (why, shown) = ("fields added by hand have another owner, and Helm would keep them", path);
    let shown = format!("GET {shown}\nPATCH {shown}  # JSON patch of metadata.managedFields");
    let object = object.to_owned();
    Step::new(what, why, shown, move |_| {
        let resource = resource.with_context(|| format!("{object} is of a kind that xtask does not know"))?;
        let api = tools.api()?;
        let mut attempts = 1..=ATTEMPTS;
        loop {
            let Some(live) = api.get(resource, &name)? else { return Ok("it was deleted meanwhile".to_owned()) };
            let Some(transfer) = transfer(&live) else { return Ok("it has no foreign fields".to_owned()) };
            match (api.json_patch(resource, &name, &transfer)?, attempts.next()) {
                (Write::Done(_), _) => return Ok(String::new()),
                // A controller wrote the object in between, e.g. because a pod was added.
                (Write::Conflict(_), Some(_)) => std::thread::sleep(deadlines::CONFLICT_PAUSE.time()),
                (Write::Conflict(words), None) => bail!("{object} was changed {ATTEMPTS} times meanwhile: {words}"),
            }
        }
    })
}

/// Returns the JSON patch that merges the entries of foreign managers into Helm's; `None` if there are none.
fn transfer(object: &Value) -> Option<Value> {
    let entries = object.pointer("/metadata/managedFields")?.as_array()?;
    let is_helms = |entry: &&Value| entry["manager"] == HELM && entry["operation"] == "Apply";
    let mut helm = entries.iter().find(is_helms)?.clone();
    let (foreign, others): (Vec<&Value>, Vec<&Value>) =
        entries.iter().filter(|entry| !is_helms(entry)).partition(|entry| is_foreign(entry));
    if foreign.is_empty() {
        return None;
    }
    for entry in foreign {
        merge(&mut helm["fieldsV1"], &entry["fieldsV1"]);
    }
    let all: Vec<&Value> = std::iter::once(&helm).chain(others).collect();
    Some(json!([
        // The API server refuses the patch if the object has changed meanwhile.
        {"op": "test", "path": "/metadata/resourceVersion", "value": object["metadata"]["resourceVersion"]},
        {"op": "replace", "path": "/metadata/managedFields", "value": all},
    ]))
}

fn is_foreign(entry: &Value) -> bool {
    let manager = entry["manager"].as_str().unwrap_or_default();
    entry["subresource"].is_null() && !KEPT_MANAGERS.contains(&manager)
}

/// Adds the fields of `more` to `fields`: both are trees of maps.
fn merge(fields: &mut Value, more: &Value) {
    let Some(more) = more.as_object() else { return };
    if !fields.is_object() {
        *fields = Value::Object(Map::new());
    }
    if let Some(fields) = fields.as_object_mut() {
        for (name, below) in more {
            merge(fields.entry(name.clone()).or_insert_with(|| json!({})), below);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the object that an API server (1.34) returned after `kubectl patch`, shortened.
    fn patched() -> Value {
        json!({"kind": "ConfigMap", "metadata": {"resourceVersion": "841", "managedFields": [
            {"manager": "helm", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
             "fieldsV1": {"f:data": {"f:API_BASE_URL": {}}, "f:metadata": {"f:labels": {"f:app": {}}}}},
            {"manager": "kubectl-patch", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
             "fieldsV1": {"f:data": {"f:EXTRA": {}}}}]}})
    }

    #[test]
    fn foreign_fields_are_transferred_to_helm() {
        let patch = transfer(&patched()).unwrap();
        assert_eq!(patch[0]["value"], "841");
        let fields = &patch[1]["value"][0]["fieldsV1"];
        assert_eq!(fields["f:data"], json!({"f:API_BASE_URL": {}, "f:EXTRA": {}}));
        assert_eq!(fields["f:metadata"], json!({"f:labels": {"f:app": {}}}));
        assert_eq!(patch[1]["value"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn controllers_and_restarts_keep_their_fields() {
        let mut object = patched();
        for (manager, subresource) in [("kube-controller-manager", "status"), ("kubectl-rollout", "")] {
            let mut entry = json!({"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": {}}});
            if !subresource.is_empty() {
                entry["subresource"] = json!(subresource);
            }
            object["metadata"]["managedFields"].as_array_mut().unwrap().push(entry);
        }
        let patch = transfer(&object).unwrap();
        assert_eq!(patch[1]["value"].as_array().map(Vec::len), Some(3));
        assert!(patch[1]["value"][0]["fieldsV1"]["f:spec"].is_null());
    }

    #[test]
    fn an_object_without_foreign_fields_gets_no_patch() {
        let mut object = patched();
        object["metadata"]["managedFields"].as_array_mut().unwrap().pop();
        assert_eq!(transfer(&object), None);
    }
}
