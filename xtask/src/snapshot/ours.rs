//! Decides which objects belong to our release: the only rule for code that judges, proves, records, undoes or removes.

use serde_json::Value;

use super::{KINDS, Snapshot, is_terminating, text};
use crate::labels::controller;

/// Longest chain of owners, e.g. pod, ReplicaSet, Deployment; a longer one is a loop.
const MAX_OWNERS: usize = 4;

impl Snapshot {
    /// Returns whether `object` is ours: our release owns it, or one of its owners. In a snapshot without a release, every
    /// object is.
    pub fn is_ours(&self, object: &Value) -> bool {
        let Some(release) = &self.release else { return true };
        let mut object = object;
        for _ in 0..MAX_OWNERS {
            if release.owns(object) {
                return true;
            }
            let Some(uid) = controller(object) else { return false };
            let owner = self.objects.iter().find(|owner| text(owner, "/metadata/uid") == uid);
            let Some(owner) = owner else { return false };
            object = owner;
        }
        false
    }

    /// Returns the objects that Helm applied for our release.
    pub fn applied(&self) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(|object| self.release.as_ref().is_none_or(|release| release.has_applied(object)))
    }

    /// Returns workloads and bare pods of others in the namespace, as `Deployment adminer`.
    pub fn foreign(&self) -> Vec<String> {
        let kinds = ["Deployment", "StatefulSet", "Pod"];
        self.others().filter(|object| kinds.contains(&text(object, "/kind"))).map(title).collect()
    }

    /// Returns objects of others that a deletion of the namespace would remove, as `ConfigMap notes`.
    pub fn would_be_lost(&self) -> Vec<String> {
        self.others().filter(|object| !is_kubernetes(object)).map(title).collect()
    }

    /// Returns the objects that are not ours. Skips terminating objects, and those whose controller is of a kind in the
    /// snapshot: pods outlive a deleted Deployment for a moment.
    fn others(&self) -> impl Iterator<Item = &Value> {
        let is_controlled = |object: &Value| {
            let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
            let kinds = owners.filter(|owner| owner["controller"] == true).map(|owner| text(owner, "/kind"));
            kinds.into_iter().any(|kind| KINDS.iter().any(|known| known.kind == kind))
        };
        self.objects
            .iter()
            .filter(move |object| !self.is_ours(object) && !is_controlled(object) && !is_terminating(object))
    }
}

/// Returns `Deployment todo-backend`, for messages.
pub fn title(object: &Value) -> String {
    format!("{} {}", text(object, "/kind"), text(object, "/metadata/name"))
}

/// Returns whether Kubernetes itself creates `object`, in each namespace or about other objects.
fn is_kubernetes(object: &Value) -> bool {
    let always = [("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")];
    let kind = text(object, "/kind");
    ["Event", "EndpointSlice"].contains(&kind) || always.contains(&(kind, text(object, "/metadata/name")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::{INSTANCE, MANAGED_BY, PART_OF};
    use serde_json::json;

    /// Returns a namespace with three Deployments and their pods: of our release, of another one, and created by hand.
    fn shared_namespace() -> Snapshot {
        let helms = |release: &str| {
            json!({"labels": {MANAGED_BY: "Helm"}, "annotations": {
                "meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": "todo"}})
        };
        let mut objects = Vec::new();
        for (name, mut metadata) in
            [("todo-backend", helms("todo")), ("todo-other", helms("other")), ("todo-adminer", json!({}))]
        {
            let owned = |by: &str, kind: &str| {
                json!({"name": name, "uid": format!("{name}-{kind}"),
                       "ownerReferences": [{"kind": if by == "set" { "ReplicaSet" } else { "Deployment" }, "name": name,
                           "uid": format!("{name}-{by}"), "controller": true}]})
            };
            metadata["name"] = json!(name);
            metadata["uid"] = json!(format!("{name}-deployment"));
            let mut set = owned("deployment", "set");
            for part in ["labels", "annotations"] {
                set[part] = metadata[part].clone();
            }
            objects.push(json!({"kind": "Deployment", "metadata": metadata}));
            objects.push(json!({"kind": "ReplicaSet", "metadata": set}));
            objects.push(json!({"kind": "Pod", "metadata": owned("set", "pod")}));
        }
        objects.push(json!({"kind": "Pod", "metadata": {"name": "shell", "uid": "shell"}}));
        objects.push(json!({"kind": "Event", "metadata": {"name": "event"}}));
        Snapshot::of_release("todo", "todo", objects)
    }

    #[test]
    fn workloads_of_others_in_the_namespace_are_not_ours() {
        let snapshot = shared_namespace();
        for kind in ["Deployment", "ReplicaSet", "Pod"] {
            let names: Vec<&str> = snapshot.kind(kind).map(|object| text(object, "/metadata/uid")).collect();
            assert_eq!(names.len(), 1, "{kind}: {names:?}");
            assert!(names[0].starts_with("todo-backend-"), "{kind}: {names:?}");
        }
        assert_eq!(snapshot.foreign(), ["Deployment todo-other", "Deployment todo-adminer", "Pod shell"]);
        let applied: Vec<&str> = snapshot.applied().map(|object| text(object, "/metadata/uid")).collect();
        assert_eq!(applied, ["todo-backend-deployment"], "Helm knows nothing of the ReplicaSet");
        assert_eq!(snapshot.all("Event").count(), 1, "events of others are there too");
    }

    #[test]
    fn terminating_objects_and_orphans_do_not_count_as_lost() {
        let owned = |name: &str, kind: &str| {
            let owner = json!([{"kind": kind, "uid": "gone", "controller": true}]);
            json!({"kind": "Pod", "metadata": {"name": name, "uid": name, "ownerReferences": owner}})
        };
        let ending =
            json!({"kind": "Pod", "metadata": {"name": "ending", "deletionTimestamp": "2026-11-27T04:00:00Z"}});
        let root = json!({"kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"}});
        let notes = json!({"kind": "ConfigMap", "metadata": {"name": "notes"}});
        let objects = vec![owned("left", "ReplicaSet"), owned("job", "Job"), ending, root, notes];
        let snapshot = Snapshot::of_release("todo", "todo", objects);
        assert_eq!(snapshot.would_be_lost(), ["Pod job", "ConfigMap notes"]);
        assert_eq!(snapshot.foreign(), ["Pod job"]);
    }

    #[test]
    fn objects_in_a_loop_of_owners_are_not_ours() {
        let owned = |uid: &str, by: &str| json!({"kind": "Pod", "metadata": {"name": uid, "uid": uid, "ownerReferences": [{"uid": by, "controller": true}]}});
        let snapshot = Snapshot::of_release("todo", "todo", vec![owned("a", "b"), owned("b", "a")]);
        assert_eq!(snapshot.kind("Pod").count(), 0);
    }

    #[test]
    fn a_claim_that_outlives_its_statefulset_is_ours() {
        let claim = |instance: &str| {
            json!({"kind": "PersistentVolumeClaim", "metadata": {"name": instance,
                "labels": {PART_OF: "todo", INSTANCE: instance}}})
        };
        let snapshot = Snapshot::of_release("todo", "todo", vec![claim("todo"), claim("other")]);
        let names: Vec<&str> =
            snapshot.kind("PersistentVolumeClaim").map(|claim| text(claim, "/metadata/name")).collect();
        assert_eq!(names, ["todo"]);
    }
}
