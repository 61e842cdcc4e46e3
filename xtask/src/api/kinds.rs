//! The kinds of objects that xtask reads and writes.

#![expect(missing_docs, reason = "each constant is named after its kind")]

use anyhow::Result;
use serde_json::Value;

use super::Scope;
use crate::failure::{Class, Failure};

/// A kind, and where the API server keeps its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The API group; empty: the core group.
    pub group: &'static str,
    /// The version of the group.
    pub version: &'static str,
    /// The name in paths.
    pub plural: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// Whether its objects belong to namespaces.
    pub namespaced: bool,
}

const fn core(plural: &'static str, kind: &'static str) -> Resource {
    Resource { group: "", version: "v1", plural, kind, namespaced: true }
}

const fn of_group(group: &'static str, plural: &'static str, kind: &'static str) -> Resource {
    Resource { group, version: "v1", plural, kind, namespaced: true }
}

const fn of_cluster(group: &'static str, plural: &'static str, kind: &'static str) -> Resource {
    Resource { group, version: "v1", plural, kind, namespaced: false }
}

pub const CONFIG_MAP: Resource = core("configmaps", "ConfigMap");
pub const EVENT: Resource = core("events", "Event");
pub const NAMESPACE: Resource = of_cluster("", "namespaces", "Namespace");
pub const NODE: Resource = of_cluster("", "nodes", "Node");
pub const PERSISTENT_VOLUME: Resource = of_cluster("", "persistentvolumes", "PersistentVolume");
pub const PERSISTENT_VOLUME_CLAIM: Resource = core("persistentvolumeclaims", "PersistentVolumeClaim");
pub const POD: Resource = core("pods", "Pod");
pub const RESOURCE_QUOTA: Resource = core("resourcequotas", "ResourceQuota");
pub const SECRET: Resource = core("secrets", "Secret");
pub const SERVICE: Resource = core("services", "Service");
pub const SERVICE_ACCOUNT: Resource = core("serviceaccounts", "ServiceAccount");
pub const DAEMON_SET: Resource = of_group("apps", "daemonsets", "DaemonSet");
pub const DEPLOYMENT: Resource = of_group("apps", "deployments", "Deployment");
pub const REPLICA_SET: Resource = of_group("apps", "replicasets", "ReplicaSet");
pub const STATEFUL_SET: Resource = of_group("apps", "statefulsets", "StatefulSet");
/// Of version 2, which every supported Kubernetes has.
pub const HORIZONTAL_POD_AUTOSCALER: Resource =
    Resource { version: "v2", ..of_group("autoscaling", "horizontalpodautoscalers", "HorizontalPodAutoscaler") };
pub const JOB: Resource = of_group("batch", "jobs", "Job");
pub const ENDPOINT_SLICE: Resource = of_group("discovery.k8s.io", "endpointslices", "EndpointSlice");
pub const INGRESS: Resource = of_group("networking.k8s.io", "ingresses", "Ingress");
pub const INGRESS_CLASS: Resource = of_cluster("networking.k8s.io", "ingressclasses", "IngressClass");
pub const NETWORK_POLICY: Resource = of_group("networking.k8s.io", "networkpolicies", "NetworkPolicy");
pub const POD_DISRUPTION_BUDGET: Resource = of_group("policy", "poddisruptionbudgets", "PodDisruptionBudget");
pub const CLUSTER_ROLE: Resource = of_cluster("rbac.authorization.k8s.io", "clusterroles", "ClusterRole");
pub const CLUSTER_ROLE_BINDING: Resource =
    of_cluster("rbac.authorization.k8s.io", "clusterrolebindings", "ClusterRoleBinding");
pub const ROLE: Resource = of_group("rbac.authorization.k8s.io", "roles", "Role");
pub const ROLE_BINDING: Resource = of_group("rbac.authorization.k8s.io", "rolebindings", "RoleBinding");
pub const STORAGE_CLASS: Resource = of_cluster("storage.k8s.io", "storageclasses", "StorageClass");

/// All of them.
const ALL: [Resource; 27] = [
    CONFIG_MAP,
    EVENT,
    NAMESPACE,
    NODE,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    RESOURCE_QUOTA,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    DAEMON_SET,
    DEPLOYMENT,
    REPLICA_SET,
    STATEFUL_SET,
    HORIZONTAL_POD_AUTOSCALER,
    JOB,
    ENDPOINT_SLICE,
    INGRESS,
    INGRESS_CLASS,
    NETWORK_POLICY,
    POD_DISRUPTION_BUDGET,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    ROLE,
    ROLE_BINDING,
    STORAGE_CLASS,
];

impl Resource {
    /// Returns the resource of `object`'s kind. Fails if the kind is not in the table.
    pub fn of(object: &Value) -> Result<&'static Self> {
        let known =
            |resource: &&Self| object["kind"] == resource.kind && object["apiVersion"] == *resource.api_version();
        ALL.iter().find(known).ok_or_else(|| {
            let what = format!("xtask does not know the kind {} of {}", object["kind"], object["apiVersion"]);
            Failure::new(Class::Config, what).help("add it to the table in xtask/src/api/kinds.rs").into()
        })
    }

    /// Returns the resource of a kind, e.g. `ConfigMap`, in any case of letters.
    pub fn of_kind(kind: &str) -> Option<&'static Self> {
        ALL.iter().find(|resource| resource.kind.eq_ignore_ascii_case(kind))
    }

    /// Returns `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Returns the path of the objects in `scope`.
    pub fn collection(&self, namespace: &str, scope: Scope) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let (version, plural) = (self.api_version(), self.plural);
        match scope {
            Scope::Namespace if self.namespaced => format!("{root}/{version}/namespaces/{namespace}/{plural}"),
            _ => format!("{root}/{version}/{plural}"),
        }
    }

    /// Returns the path of one object.
    pub fn object(&self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.collection(namespace, Scope::Namespace))
    }
}
