//! The real state of a sandbox, and the facts that the checker reads from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::etcd::Objects;
use crate::machine::canonical;
use crate::player::{is_ready, selects, text};
use crate::sandbox::State;

/// The namespace of the release.
const NAMESPACE: &str = "todo";

/// The state of a sandbox, as the checker reads it.
pub struct Truth {
    objects: Arc<Objects>,
    machine: crate::machine::Machine,
    /// Whether minikube's configuration of the profile exists.
    pub recorded: bool,
}

/// A Deployment or StatefulSet of the release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The name of the workload.
    pub name: String,
    /// The number of desired pods.
    pub wanted: usize,
    /// The number of ready pods that the selector matches.
    pub ready: usize,
    /// The images in the pod template, init containers included.
    pub images: BTreeSet<String>,
    /// The images in the pods, init containers included.
    pub running: BTreeSet<String>,
}

impl Truth {
    /// Creates the checker's view of `state`.
    pub fn of(state: &State) -> Self {
        let recorded = state.has_file("cache/minikube/.minikube/profiles/todo/config.json");
        Self { objects: state.objects.clone(), machine: state.machine.clone(), recorded }
    }

    fn kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.values().map(|stored| &stored.value).filter(move |object| object["kind"] == kind)
    }

    fn ours<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.kind(kind).filter(|object| text(object, "/metadata/namespace") == NAMESPACE)
    }

    /// Returns whether the node runs.
    pub fn node_runs(&self) -> bool {
        self.machine.node.as_deref() == Some("running")
    }

    /// Returns whether the node's container exists.
    pub fn has_node(&self) -> bool {
        self.machine.node.is_some()
    }

    /// Returns whether the namespace exists.
    pub fn has_namespace(&self) -> bool {
        self.objects.contains_key("/registry/namespaces/todo")
    }

    /// Returns the status of each Helm revision of the release, by revision number.
    pub fn revisions(&self) -> BTreeMap<u64, String> {
        let labels =
            |secret: &'_ Value, name: &str| secret["metadata"]["labels"][name].as_str().unwrap_or_default().to_owned();
        let secrets =
            self.ours("Secret").filter(|secret| labels(secret, "owner") == "helm" && labels(secret, "name") == "todo");
        secrets.filter_map(|secret| Some((labels(secret, "version").parse().ok()?, labels(secret, "status")))).collect()
    }

    /// Returns the workloads of the release.
    pub fn workloads(&self) -> Vec<Workload> {
        let images = |spec: &Value| -> BTreeSet<String> {
            let lists = ["containers", "initContainers"].into_iter().filter_map(|list| spec[list].as_array());
            lists.flatten().map(|container| text(container, "/image").to_owned()).collect()
        };
        let of = |object: &Value| {
            let pods: Vec<&Value> = self.ours("Pod").filter(|pod| selects(object, pod)).collect();
            Workload {
                name: text(object, "/metadata/name").to_owned(),
                wanted: object["spec"]["replicas"].as_u64().unwrap_or(1) as usize,
                ready: pods.iter().filter(|pod| is_ready(pod)).count(),
                images: images(&object["spec"]["template"]["spec"]),
                running: pods.iter().flat_map(|pod| images(&pod["spec"])).collect(),
            }
        };
        self.ours("Deployment").chain(self.ours("StatefulSet")).map(of).collect()
    }

    /// Returns whether the newest revision is deployed, an Ingress exists, and all pods of each workload are ready with
    /// the images of its template.
    pub fn is_up(&self) -> bool {
        let workloads = self.workloads();
        let newest = self.revisions().into_iter().next_back();
        let complete = |workload: &Workload| workload.ready == workload.wanted && workload.running == workload.images;
        newest.is_some_and(|(_, status)| status == "deployed")
            && !workloads.is_empty()
            && workloads.iter().all(complete)
            && self.ours("Ingress").next().is_some()
    }

    /// Returns the record of the last verified state. `None` if it does not exist or cannot be parsed.
    pub fn record(&self) -> Option<Value> {
        let map = self.objects.get("/registry/configmaps/todo/todo-xtask")?;
        serde_json::from_str(map.value["data"]["record.json"].as_str()?).ok()
    }

    /// Returns whether the recorded revision is the newest and is up, the node has each recorded image with its
    /// verified ID, and the pods run only images with these IDs.
    pub fn is_verified(&self) -> bool {
        let Some(record) = self.record() else { return false };
        let newest = self.revisions().into_keys().next_back();
        let images = record["images"].as_object().cloned().unwrap_or_default();
        let on_node = |reference: &str| self.machine.node_images.get(&canonical(reference)).cloned();
        let pods = self.ours("Pod").filter_map(|pod| pod.pointer("/status/containerStatuses")?.as_array()).flatten();
        let pods_fit = pods.into_iter().all(|status| images.values().any(|id| *id == status["imageID"]));
        record["revision"].as_u64() == newest
            && self.is_up()
            && pods_fit
            && images.iter().all(|(reference, id)| on_node(reference).is_some_and(|has| json!(has) == *id))
    }

    /// Returns the names of the Secrets, without those that hold Helm's revisions.
    pub fn secrets(&self) -> BTreeSet<String> {
        let secrets = self.ours("Secret").filter(|secret| secret["metadata"]["labels"]["owner"] != "helm");
        secrets.map(|secret| text(secret, "/metadata/name").to_owned()).collect()
    }

    /// Returns the names of the Secrets that pods mount.
    pub fn mounted_secrets(&self) -> BTreeSet<String> {
        let volumes = self.ours("Pod").filter_map(|pod| pod["spec"]["volumes"].as_array()).flatten();
        let mut names = BTreeSet::new();
        for volume in volumes {
            names.extend(volume.pointer("/secret/secretName").and_then(Value::as_str).map(str::to_owned));
            let sources = volume.pointer("/projected/sources").and_then(Value::as_array).into_iter().flatten();
            names.extend(sources.filter_map(|source| source.pointer("/secret/name")?.as_str()).map(str::to_owned));
        }
        names
    }

    /// Returns the names of the PersistentVolumeClaims.
    pub fn claims(&self) -> BTreeSet<String> {
        self.ours("PersistentVolumeClaim").map(|claim| text(claim, "/metadata/name").to_owned()).collect()
    }

    /// Returns whether the cluster has an IngressClass.
    pub fn has_ingress_class(&self) -> bool {
        self.kind("IngressClass").next().is_some()
    }

    /// Returns whether the ingress controller that xtask installs exists.
    pub fn has_controller(&self) -> bool {
        self.objects.contains_key("/registry/deployments/ingress-traefik/traefik")
    }

    /// Returns the references of the engine's images.
    pub fn engine_images(&self) -> BTreeSet<String> {
        self.machine.images.iter().map(|image| image.reference.clone()).collect()
    }

    /// Returns whether the node has the image `reference`.
    pub fn node_has(&self, reference: &str) -> bool {
        self.machine.node_images.contains_key(&canonical(reference))
    }

    /// Returns the images of the workloads' pods that the node lacks.
    pub fn lost_images(&self) -> Vec<String> {
        let running = self.workloads().into_iter().flat_map(|workload| workload.running);
        running.filter(|reference| !self.machine.node_images.contains_key(&canonical(reference))).collect()
    }

    /// Returns the facts in which equally good states agree: desired objects, ready pods and their images, and the
    /// record. Leaves out revision numbers, pod names and times.
    pub fn essence(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut add = |name: String, value: Value| found.insert(name, self.plain(&value));
        add("node".to_owned(), json!(self.machine.node));
        add("minikube's record".to_owned(), json!(self.recorded));
        for kind in [
            "Deployment",
            "StatefulSet",
            "Service",
            "Ingress",
            "NetworkPolicy",
            "ConfigMap",
            "PodDisruptionBudget",
            "ServiceAccount",
            "Namespace",
            "PersistentVolumeClaim",
            "IngressClass",
        ] {
            for object in self.kind(kind) {
                let (namespace, name) = (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
                let foreign = !["", NAMESPACE, "ingress-traefik"].contains(&namespace)
                    || kind == "Namespace" && !["todo", "ingress-traefik"].contains(&name);
                if foreign || name == "todo-xtask" || name == "kube-root-ca.crt" {
                    continue;
                }
                let mut spec = object["spec"].clone();
                if let Some(spec) = spec.as_object_mut() {
                    for given in ["clusterIP", "clusterIPs", "finalizers", "volumeName"] {
                        spec.remove(given);
                    }
                }
                add(format!("{kind} {namespace}/{name}"), json!([spec, object["data"]]));
            }
        }
        for workload in self.workloads() {
            add(format!("pods of {}", workload.name), json!([workload.ready, workload.running]));
        }
        add("Secrets".to_owned(), json!(self.secrets()));
        add(
            "Helm's newest revision".to_owned(),
            json!(self.revisions().into_iter().next_back().map(|(_, status)| status)),
        );
        let record = self
            .record()
            .map(|record| json!([record["fingerprint"], record["images"], record["environment"], self.is_verified()]));
        add("record".to_owned(), json!(record));
        found
    }

    /// Returns `value` as text, without the digest in the name of the backend's Secret. The digest depends on a random
    /// password.
    fn plain(&self, value: &Value) -> String {
        let secrets = self.secrets();
        let secrets = secrets.iter().filter(|name| name.starts_with("todo-backend-"));
        secrets.fold(value.to_string(), |text, secret| text.replace(secret.as_str(), "todo-backend-<digest>"))
    }

    /// Returns the essence and all other facts on which a later run may depend: revisions, images and the record.
    pub fn everything(&self) -> String {
        let mut essence = self.essence();
        essence.insert("revisions".to_owned(), json!(self.revisions()).to_string());
        essence.insert("node images".to_owned(), json!(self.machine.node_images).to_string());
        essence.insert("engine images".to_owned(), json!(self.engine_images()).to_string());
        let record = self.record().map(|mut record| {
            record["verified_at"] = json!(0);
            record["history"].as_array_mut().into_iter().flatten().for_each(|old| old["verified_at"] = json!(0));
            // These digests depend on the name of that Secret. The essence contains the objects themselves.
            record["objects"].as_object_mut().into_iter().flatten().for_each(|(_, digest)| *digest = json!(0));
            record
        });
        essence.insert("record itself".to_owned(), self.plain(&json!(record)));
        json!(essence).to_string()
    }
}

/// Returns descriptions of the parts in which the essence `has` differs from `wanted`.
pub fn differences(wanted: &BTreeMap<String, String>, has: &BTreeMap<String, String>) -> Vec<String> {
    let names: BTreeSet<&String> = wanted.keys().chain(has.keys()).collect();
    let differing = names.into_iter().filter(|name| wanted.get(*name) != has.get(*name));
    let same = |name: &String| match (wanted.get(name), has.get(name)) {
        (Some(wanted), Some(has)) => wanted.chars().zip(has.chars()).take_while(|(one, other)| one == other).count(),
        _ => 0,
    };
    // Starts up to 80 characters before the first difference.
    let show = |side: &BTreeMap<String, String>, name: &String| {
        let from = same(name).saturating_sub(80);
        side.get(name).map_or("nothing".to_owned(), |text| text.chars().skip(from).take(160).collect())
    };
    differing.map(|name| format!("{name}: {} instead of {}", show(has, name), show(wanted, name))).collect()
}
