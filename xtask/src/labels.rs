//! The labels and annotations that mark an object as one of ours.

use camino::Utf8PathBuf;
use serde_json::{Value, json};

/// Label with the program that made an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label with the name of the release.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Label with the application that an object is a part of.
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// Label with the part of the application that an object belongs to.
pub const COMPONENT: &str = "app.kubernetes.io/component";

/// The Helm release whose objects are ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The name of its chart, which the label [`PART_OF`] has.
    pub chart: String,
    /// The folder of its chart in the checkout, for messages.
    pub chart_path: Utf8PathBuf,
}

impl Release {
    /// Returns the release `name` in `namespace` of the chart `todo`.
    #[cfg(test)]
    pub fn of(name: &str, namespace: &str) -> Self {
        Self { name: name.into(), namespace: namespace.into(), chart: "todo".into(), chart_path: "charts/todo".into() }
    }

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

    /// Returns the label of everything that belongs to the application.
    pub fn part_of(&self) -> String {
        format!("{PART_OF}={}", self.chart)
    }

    /// Returns the label selector of what the chart or xtask made for this release.
    pub fn selector(&self) -> String {
        format!("{},{INSTANCE}={}", self.part_of(), self.name)
    }

    /// Returns the label selector of a component of the application.
    pub fn component_selector(&self, component: &str) -> String {
        format!("{},{COMPONENT}={component}", self.part_of())
    }

    /// Returns the name that the chart gives the objects of `component`.
    pub fn object_name(&self, component: &str) -> String {
        format!("{}-{component}", self.name)
    }

    /// Returns the label selector of what xtask itself made: see [`Release::has_made`].
    pub fn made_selector(&self) -> String {
        format!("{MANAGED_BY}=xtask,{}", self.part_of())
    }

    /// Returns the labels of an object that xtask itself makes.
    pub fn made_labels(&self) -> Value {
        json!({MANAGED_BY: "xtask", PART_OF: self.chart})
    }

    /// Returns the labels of an object that xtask itself makes for `component`.
    pub fn component_labels(&self, component: &str) -> Value {
        json!({"app.kubernetes.io/name": self.chart, INSTANCE: self.name, COMPONENT: component,
            PART_OF: self.chart, MANAGED_BY: "xtask"})
    }

    /// Returns whether `object` has the application's label, as the ingress controller's objects do.
    pub fn is_part(&self, object: &Value) -> bool {
        label(object, PART_OF) == self.chart
    }

    /// Returns whether xtask itself made `object`: Secrets, the record, the preflight.
    pub fn has_made(&self, object: &Value) -> bool {
        label(object, MANAGED_BY) == "xtask" && self.is_part(object)
    }

    /// Returns whether `object` was made for this release: by Helm, by a StatefulSet of it, or by xtask itself.
    pub fn owns(&self, object: &Value) -> bool {
        self.has_applied(object) || self.has_claimed(object) || self.has_made(object)
    }

    /// Returns whether `object` is a claim of the release's StatefulSet. A claim that outlives its StatefulSet has no
    /// owner, so the labels of the claim's template decide.
    fn has_claimed(&self, object: &Value) -> bool {
        object["kind"] == "PersistentVolumeClaim" && self.is_part(object) && label(object, INSTANCE) == self.name
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_objects_of_the_release_and_its_chart_are_ours() {
        let release = Release { chart: "store".into(), ..Release::of("shop", "shops") };
        assert_eq!(release.selector(), "app.kubernetes.io/part-of=store,app.kubernetes.io/instance=shop");
        assert_eq!(release.made_selector(), "app.kubernetes.io/managed-by=xtask,app.kubernetes.io/part-of=store");
        for labels in [release.made_labels(), release.component_labels("web")] {
            let object = json!({"kind": "Secret", "metadata": {"labels": labels}});
            assert!(release.owns(&object) && !labels.to_string().contains("todo"), "{labels}");
            let other = Release { chart: "todo".into(), ..release.clone() };
            assert!(!other.owns(&object), "{labels}");
        }
    }
}
