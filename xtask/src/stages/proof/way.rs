//! The way from here to the Ingress controller: the port that the profile publishes or, where an existing profile has
//! none, a port-forward for as long as it is needed.

use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use anyhow::Result;
use serde_json::Value;

use crate::api::{Scope, kinds};
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::process::Piped;
use crate::snapshot::text;
use crate::stages::cluster::Profile;
use crate::toolbox::Toolbox;

/// A way to the application. What it opened it closes when it is dropped.
pub struct Way {
    /// Where requests go, as `http://host:port`.
    pub address: String,
    forward: Option<Forward>,
}

struct Forward {
    child: Arc<Piped>,
    reader: Option<JoinHandle<()>>,
    open_with: String,
}

/// What listens at port 80 of the nodes.
#[derive(Debug, PartialEq, Eq)]
struct Controller {
    namespace: String,
    /// As kubectl takes it: `deployment/traefik`.
    workload: String,
    port: u16,
}

impl Way {
    /// Finds it, and opens it if need be. Fails where the profile publishes no port and nothing in the cluster listens
    /// at its nodes' port 80.
    pub fn open(tools: &Toolbox, profile: &Profile) -> Result<Self> {
        match profile.address() {
            Some(address) => Ok(Self { address, forward: None }),
            None => Self::forward(tools),
        }
    }

    /// The address that lasts, if there is one.
    pub fn lasting(&self) -> Option<&str> {
        self.forward.is_none().then_some(self.address.as_str())
    }

    /// The command that opens a way for a user, where the profile publishes none.
    pub fn open_with(&self) -> Option<&str> {
        self.forward.as_ref().map(|forward| forward.open_with.as_str())
    }

    fn forward(tools: &Toolbox) -> Result<Self> {
        let profile = &tools.profile;
        let Some(Controller { namespace, workload, port }) = controller(tools)? else {
            let what = format!(
                "profile `{profile}` publishes no port, and nothing in the cluster listens at its nodes' port 80"
            );
            return Err(Failure::new(Class::Proof, what)
                .help(format!("give it an ingress controller: minikube --profile {profile} addons enable ingress"))
                .help("or use a profile of xtask's own, which publishes one: cargo xtask deploy dev")
                .into());
        };
        let listen = tools
            .kubectl()
            .args(["--namespace", &namespace, "port-forward", "--address=127.0.0.1"])
            // Shorter than our patience, so that kubectl itself says what it waits for in vain.
            .args(["--pod-running-timeout=10s".to_owned(), workload.clone(), format!(":{port}")])
            .deadline(deadlines::PORT_FORWARD);
        let child = Arc::new(listen.pipe_from(None)?);
        let (sender, lines) = mpsc::channel();
        let reading = child.clone();
        // Read to the end: kubectl tells every connection, and a full pipe would stop it.
        let reader = std::thread::spawn(move || {
            BufReader::new(reading.reader()).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        let open_with = format!(
            "cargo xtask --profile {profile} tool kubectl -- --namespace {namespace} port-forward {workload} 8080:{port}"
        );
        if let Some(here) = listening(&lines.recv_timeout(deadlines::PORT_FORWARD_BEGIN.time()).unwrap_or_default()) {
            let forward = Forward { child, reader: Some(reader), open_with };
            return Ok(Self { address: format!("http://127.0.0.1:{here}"), forward: Some(forward) });
        }
        child.kill();
        let _ = reader.join();
        let said = Arc::into_inner(child).and_then(|child| child.finish().err()).map(|error| format!(": {error:#}"));
        let what = format!("no port-forward to {workload} in {namespace}{}", said.unwrap_or_default());
        Err(Failure::new(Class::Proof, what)
            .help(format!(
                "see whether it runs: cargo xtask --profile {profile} tool kubectl -- get pods -n {namespace}"
            ))
            .into())
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.child.kill();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// The workload that has port 80 of the nodes.
fn controller(tools: &Toolbox) -> Result<Option<Controller>> {
    let lists = tools.api()?.list_all(&[kinds::DEPLOYMENT, kinds::DAEMON_SET], Scope::Cluster)?;
    Ok(lists.iter().flat_map(|list| &list.items).find_map(of_workload))
}

fn of_workload(workload: &Value) -> Option<Controller> {
    let containers = workload.pointer("/spec/template/spec/containers")?.as_array()?;
    let ports = containers.iter().filter_map(|container| container["ports"].as_array()).flatten();
    let port = ports.into_iter().find(|port| port["hostPort"] == 80)?["containerPort"].as_u64()?;
    Some(Controller {
        namespace: text(workload, "/metadata/namespace").to_owned(),
        workload: format!("{}/{}", text(workload, "/kind").to_lowercase(), text(workload, "/metadata/name")),
        port: port.try_into().ok()?,
    })
}

/// The port of `Forwarding from 127.0.0.1:43210 -> 8000`.
fn listening(line: &str) -> Option<u16> {
    line.strip_prefix("Forwarding from 127.0.0.1:")?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_has_the_nodes_port_80_is_found_among_others() {
        let workload = |kind: &str, ports: Value| {
            json!({"kind": kind, "metadata": {"namespace": "ingress-traefik", "name": "traefik"},
                   "spec": {"template": {"spec": {"containers": [{"name": "sidecar"}, {"ports": ports}]}}}})
        };
        let ports = json!([{"containerPort": 8080}, {"containerPort": 8000, "hostPort": 80}]);
        let found = of_workload(&workload("Deployment", ports));
        let (namespace, name) = ("ingress-traefik".to_owned(), "deployment/traefik".to_owned());
        assert_eq!(found, Some(Controller { namespace, workload: name, port: 8000 }));
        assert_eq!(of_workload(&workload("DaemonSet", json!([{"containerPort": 80}]))), None);
        assert_eq!(of_workload(&workload("DaemonSet", Value::Null)), None);
    }

    #[test]
    fn kubectl_tells_the_port_that_it_has_chosen() {
        assert_eq!(listening("Forwarding from 127.0.0.1:43210 -> 8000"), Some(43210));
        assert_eq!(listening("error: unable to forward port"), None);
    }
}
