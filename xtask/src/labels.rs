//! The labels and annotations that mark an object as one of ours.

use serde_json::Value;

/// Label with the program that made an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label with the name of the release.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Label with the application that an object is a part of.
pub const PART_OF: &str = "app.kubernetes.io/part-of";

/// Label selector of every Secret that xtask made.
pub const SELECTOR: &str = "app.kubernetes.io/managed-by=xtask,app.kubernetes.io/part-of=todo";

/// The Helm release whose objects are ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

impl Release {
    /// Returns whether Helm made `object` for this release. Helm writes all three marks into each object that it applies;
    /// a Deployment hands them on to its ReplicaSets, which have an owner.
    pub fn has_applied(&self, object: &Value) -> bool {
        let annotation = |name: &str| object["metadata"]["annotations"][name].as_str().unwrap_or_default();
        controller(object).is_none()
            && label(object, MANAGED_BY) == "Helm"
            && annotation("meta.helm.sh/release-name") == self.name
            && annotation("meta.helm.sh/release-namespace") == self.namespace
    }

    /// Returns whether `secret` holds a revision of this release. Another release in the namespace has Secrets of the same kind.
    pub fn has_revision(&self, secret: &Value) -> bool {
        label(secret, "owner") == "helm" && label(secret, "name") == self.name
    }

    /// Returns the label selector of what the chart or xtask made for this release.
    pub fn selector(&self) -> String {
        format!("{PART_OF}=todo,{INSTANCE}={}", self.name)
    }

    /// Returns whether `object` was made for this release: by Helm, by a StatefulSet of it, or by xtask itself.
    pub fn owns(&self, object: &Value) -> bool {
        self.has_applied(object) || self.has_claimed(object) || is_xtasks(object)
    }

    /// Returns whether `object` is a claim of the release's StatefulSet. A claim that outlives its StatefulSet has no
    /// owner, so the labels of the claim's template decide.
    fn has_claimed(&self, object: &Value) -> bool {
        object["kind"] == "PersistentVolumeClaim"
            && label(object, PART_OF) == "todo"
            && label(object, INSTANCE) == self.name
    }
}

/// Returns whether xtask itself made `object`: Secrets, the record, the preflight. See [`SELECTOR`].
pub fn is_xtasks(object: &Value) -> bool {
    label(object, MANAGED_BY) == "xtask" && label(object, PART_OF) == "todo"
}

/// Returns the value of a label, or the empty string.
pub fn label<'a>(object: &'a Value, name: &str) -> &'a str {
    object["metadata"]["labels"][name].as_str().unwrap_or_default()
}

/// Returns the UID of the controller that owns `object`.
pub fn controller(object: &Value) -> Option<&str> {
    let mut owners = object["metadata"]["ownerReferences"].as_array()?.iter();
    owners.find(|owner| owner["controller"] == true)?["uid"].as_str()
}
