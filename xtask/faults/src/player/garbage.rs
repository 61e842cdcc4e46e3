//! Deletes objects whose owners are gone, objects deleted in the foreground, and the contents of deleted namespaces.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{owns, text};
use crate::etcd::{Objects, Write};

/// The finalizer of an object whose deletion waits for its dependents.
const FOREGROUND: &str = "foregroundDeletion";

pub(super) fn collect(live: &Objects) -> Vec<Write> {
    let uids: BTreeSet<&str> = live.values().map(|stored| text(&stored.value, "/metadata/uid")).collect();
    let ending: Vec<&str> = live
        .values()
        .map(|stored| &stored.value)
        .filter(|object| object["kind"] == "Namespace" && is_deleted(object))
        .map(|namespace| text(namespace, "/metadata/name"))
        .collect();
    let mut writes = Vec::new();
    for (key, stored) in live {
        let object = &stored.value;
        let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        let orphan = owners.is_some_and(|owners| {
            !owners.is_empty() && owners.iter().all(|owner| !uids.contains(owner["uid"].as_str().unwrap_or_default()))
        });
        let namespace = text(object, "/metadata/namespace");
        if orphan || !namespace.is_empty() && ending.contains(&namespace) {
            writes.push(Write::Delete(key.clone()));
        } else if is_deleted(object) && object["kind"] != "Pod" {
            let waits = object.pointer("/metadata/finalizers").is_some_and(|list| has(list, FOREGROUND));
            let dependents: Vec<&String> =
                live.iter().filter(|(_, other)| owns(object, &other.value)).map(|(key, _)| key).collect();
            let inside = object["kind"] == "Namespace"
                && live.values().any(|other| other.value["metadata"]["namespace"] == object["metadata"]["name"]);
            if !inside && (!waits || dependents.is_empty()) {
                writes.push(Write::Delete(key.clone()));
            }
            writes.extend(dependents.into_iter().cloned().map(Write::Delete));
        }
    }
    writes
}

fn has(list: &Value, what: &str) -> bool {
    list.as_array().is_some_and(|list| list.contains(&json!(what)))
}

fn is_deleted(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}
