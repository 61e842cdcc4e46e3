//! Ingress classes, controllers and endpoints of the cluster, which explain a route that fails.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::api::{Scope, kinds};
use crate::snapshot::{Snapshot, text};
use crate::toolbox::Toolbox;
use crate::{clock, deadlines};

/// Seconds after its start within which a controller may not have reached the API server yet.
const STARTUP: u64 = 90;

/// An IngressClass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressClass {
    /// The class' name.
    pub name: String,
    /// The controller that serves the class.
    pub controller: String,
    /// Whether it is the default class, for Ingresses that name none.
    pub is_default: bool,
}

/// A pod that takes the node's port 80.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// `namespace/name`.
    pub pod: String,
    /// Its image.
    pub image: String,
    /// Whether the pod is ready.
    pub is_ready: bool,
    /// Its phase, or the reason for which its container waits.
    pub state: String,
    /// Start time of its container, in seconds since 1970; `None`: it does not run.
    pub started: Option<u64>,
}

impl Listener {
    /// Returns whether it may be `controller` (`traefik.io/ingress-controller`): that contains a part of its image's name.
    pub fn may_be(&self, controller: &str) -> bool {
        let name = self.image.rsplit_once(':').map_or(self.image.as_str(), |(name, _)| name);
        name.split('/').any(|part| part.len() > 3 && part != "controller" && controller.contains(part))
    }
}

/// The state of the cluster that explains a route that fails.
#[derive(Clone, Debug, Default)]
pub struct IngressFacts {
    /// The class that the Ingress names, if any.
    pub wanted: Option<String>,
    /// The classes of the cluster.
    pub classes: Vec<IngressClass>,
    /// Pods that take the node's port 80.
    pub listeners: Vec<Listener>,
    /// The number of ready endpoints by Service.
    pub endpoints: BTreeMap<String, usize>,
}

impl IngressFacts {
    /// Reads them from the cluster.
    pub fn take(tools: &Toolbox) -> Result<Self> {
        let lists = tools.api()?.list_all(&[kinds::INGRESS_CLASS, kinds::POD], Scope::Cluster);
        let lists = lists.context("reading IngressClasses and ingress controllers")?;
        let cluster = Snapshot::of(lists.into_iter().flat_map(|list| list.items).collect());
        let namespace = Snapshot::take(tools)?;
        Ok(Self {
            wanted: namespace
                .kind("Ingress")
                .next()
                .map(|ingress| text(ingress, "/spec/ingressClassName").to_owned())
                .filter(|class| !class.is_empty()),
            classes: cluster.kind("IngressClass").map(class).collect(),
            listeners: cluster.kind("Pod").filter_map(listener).collect(),
            endpoints: endpoints(&namespace),
        })
    }

    /// Returns how long the controller may take until it serves each route, at `now` in seconds since 1970. A controller that
    /// started before the API server answered waits long before it tries again.
    pub fn patience(&self, now: u64) -> Duration {
        let is_starting = |started: u64| now.saturating_sub(started) < STARTUP;
        if self.listeners.iter().filter_map(|listener| listener.started).any(is_starting) {
            deadlines::INGRESS_STARTED.time()
        } else {
            deadlines::INGRESS.time()
        }
    }

    /// Returns the number of ready endpoints of `service`; `None`: there is no such Service.
    pub fn ready_endpoints(&self, service: &str) -> Option<usize> {
        self.endpoints.get(service).copied()
    }
}

fn class(object: &Value) -> IngressClass {
    let default = &object["metadata"]["annotations"]["ingressclass.kubernetes.io/is-default-class"];
    IngressClass {
        name: text(object, "/metadata/name").to_owned(),
        controller: text(object, "/spec/controller").to_owned(),
        is_default: default == "true",
    }
}

fn listener(pod: &Value) -> Option<Listener> {
    let containers = pod.pointer("/spec/containers")?.as_array()?;
    let takes = |container: &&Value| {
        let ports = container["ports"].as_array().into_iter().flatten();
        ports.into_iter().any(|port| port["hostPort"] == 80)
    };
    let container = containers.iter().find(takes)?;
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let is_ready = conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
    let waiting = text(pod, "/status/containerStatuses/0/state/waiting/reason");
    let state = if waiting.is_empty() { text(pod, "/status/phase") } else { waiting };
    Some(Listener {
        pod: format!("{}/{}", text(pod, "/metadata/namespace"), text(pod, "/metadata/name")),
        image: text(container, "/image").to_owned(),
        is_ready,
        state: state.to_owned(),
        started: clock::parse(text(pod, "/status/containerStatuses/0/state/running/startedAt")),
    })
}

fn endpoints(snapshot: &Snapshot) -> BTreeMap<String, usize> {
    let mut found: BTreeMap<String, usize> =
        snapshot.all("Service").map(|service| (text(service, "/metadata/name").to_owned(), 0)).collect();
    for slice in snapshot.all("EndpointSlice") {
        let service = slice["metadata"]["labels"]["kubernetes.io/service-name"].as_str().unwrap_or_default();
        let ready = |endpoint: &&Value| endpoint.pointer("/conditions/ready") != Some(&Value::Bool(false));
        let count = slice["endpoints"].as_array().map_or(0, |list| list.iter().filter(ready).count());
        if let Some(sum) = found.get_mut(service) {
            *sum += count;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_controller_that_has_just_started_gets_more_time() {
        let pod = |state: Value| {
            json!({"metadata": {"namespace": "a", "name": "b"},
                "spec": {"containers": [{"image": "traefik:v3.7.13", "ports": [{"hostPort": 80}]}]},
                "status": {"containerStatuses": [{"state": state}]}})
        };
        let patience = |state: Value, now: u64| {
            IngressFacts { listeners: listener(&pod(state)).into_iter().collect(), ..IngressFacts::default() }
                .patience(now)
        };
        let running = json!({"running": {"startedAt": "1970-01-01T00:16:40Z"}});
        assert_eq!(patience(running.clone(), 1000 + STARTUP - 1), deadlines::INGRESS_STARTED.time());
        assert_eq!(patience(running, 1000 + STARTUP), deadlines::INGRESS.time());
        assert_eq!(patience(json!({"waiting": {"reason": "CrashLoopBackOff"}}), 1000), deadlines::INGRESS.time());
    }

    #[test]
    fn a_listener_is_matched_with_the_controller_of_its_image() {
        let listener = |image: &str| Listener {
            pod: String::new(),
            image: image.into(),
            is_ready: true,
            state: String::new(),
            started: None,
        };
        assert!(listener("traefik:v3.7.13").may_be("traefik.io/ingress-controller"));
        assert!(listener("registry.k8s.io/ingress-nginx/controller:v1").may_be("k8s.io/ingress-nginx"));
        assert!(!listener("traefik:v3.7.13").may_be("k8s.io/ingress-nginx"));
        assert!(!listener("registry.k8s.io/ingress-nginx/controller:v1").may_be("example.com/ingress-controller"));
    }

    #[test]
    fn only_pods_on_the_nodes_port_80_listen() {
        let pod = |port: Value| {
            json!({"metadata": {"namespace": "ingress-traefik", "name": "traefik-1"},
            "spec": {"containers": [{"image": "traefik:v3.7.13", "ports": [port]}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
        };
        let found = listener(&pod(json!({"containerPort": 8000, "hostPort": 80}))).unwrap();
        assert_eq!(
            (found.pod.as_str(), found.is_ready, found.state.as_str()),
            ("ingress-traefik/traefik-1", true, "Running")
        );
        assert_eq!(listener(&pod(json!({"containerPort": 8000}))), None);
    }

    #[test]
    fn endpoints_are_counted_by_service() {
        let slice = |ready: bool| {
            json!({"kind": "EndpointSlice", "metadata": {"labels": {"kubernetes.io/service-name": "a"}},
                   "endpoints": [{"conditions": {"ready": ready}}, {"conditions": {"ready": false}}]})
        };
        let services = ["a", "b"].map(|name| json!({"kind": "Service", "metadata": {"name": name}}));
        let items = json!({"items": [services[0], services[1], slice(true), slice(false)]});
        let found = endpoints(&Snapshot::parse(&items.to_string()).unwrap());
        assert_eq!(found, BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 0)]));
    }
}
