//! The way from here to the Ingress controller: the port that the profile publishes or, where an existing profile has
//! none, a port-forward for as long as it is needed. No profile publishes a port for TLS, which has a port-forward too.

use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use anyhow::Result;
use serde_json::Value;

use super::front::Front;
use super::routes::is_encrypted;
use crate::api::{Scope, kinds};
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::process::Piped;
use crate::snapshot::{Snapshot, text};
use crate::stages::cluster::Profile;
use crate::toolbox::Toolbox;

/// A way to the application. What it opened it closes when it is dropped.
pub struct Access {
    /// Where requests go, as `http://host:port`.
    pub address: String,
    forward: Option<Forward>,
    /// Where a user goes, as far as that is known.
    front: Option<String>,
}

struct Forward {
    child: Arc<Piped>,
    reader: Option<JoinHandle<()>>,
    open_with: String,
}

/// What listens at port 80 or 443 of the nodes, or has a port for TLS beside port 80.
#[derive(Debug, PartialEq, Eq)]
struct Controller {
    namespace: String,
    /// As kubectl takes it: `deployment/traefik`.
    workload: String,
    port: u16,
}

impl Access {
    /// Finds it, and opens it if need be. Fails where the profile publishes no port and nothing in the cluster listens
    /// at its nodes' port.
    pub fn open(tools: &Toolbox, profile: &Profile) -> Result<Self> {
        let ingresses = tools.api()?.list(&kinds::INGRESS, Scope::Namespace)?.items;
        let is_encrypted = is_encrypted(ingresses.iter().filter(|ingress| tools.release().owns(ingress)));
        match profile.address().filter(|_| !is_encrypted) {
            Some(address) => Ok(Self { front: Some(address.clone()), address, forward: None }),
            None => Self::forward(tools, is_encrypted),
        }
    }

    /// Where a user finds the application that `snapshot` has, if that is known. Nothing listens there without
    /// [`Access::open_with`].
    pub fn front(&self, snapshot: &Snapshot) -> Option<Front> {
        self.front.as_ref().map(|address| Front::of(address, snapshot))
    }

    /// Tells how a deployment is called that answers at `front`: by its address if something listens there, else by `name`.
    /// Then what a user has to do before the address answers.
    pub fn describe(&self, front: Option<Front>, name: &str) -> (String, Vec<String>) {
        let Front { address, hint } = front.unwrap_or_default();
        let open = self.open_with().map(|command| match address.as_str() {
            "" => format!("the profile publishes no port for it; this opens one: {command}"),
            _ => format!("{address} answers while this runs: {command}"),
        });
        let place = if address.is_empty() || open.is_some() { name.to_owned() } else { address };
        (place, open.into_iter().chain(hint).collect())
    }

    /// Where a user goes, if that is known.
    pub fn lasting(&self) -> Option<&str> {
        self.front.as_deref()
    }

    /// The command that opens a way for a user, where the profile publishes none.
    pub fn open_with(&self) -> Option<&str> {
        self.forward.as_ref().map(|forward| forward.open_with.as_str())
    }

    fn forward(tools: &Toolbox, is_encrypted: bool) -> Result<Self> {
        let profile = &tools.profile;
        let (scheme, node, user) = if is_encrypted { ("https", 443, 8443) } else { ("http", 80, 8080) };
        let Some(Controller { namespace, workload, port }) = controller(tools, node)? else {
            let what = format!(
                "profile `{profile}` publishes no port for {scheme}, and nothing in the cluster listens at its nodes' port {node}"
            );
            return Err(Failure::new(Class::Proof, what)
                .help(format!("give it an ingress controller: minikube --profile {profile} addons enable ingress"))
                .help(format!("or use a profile of xtask's own, which publishes one: cargo xtask deploy dev --profile {profile}-xtask"))
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
            "cargo xtask --profile {profile} tool kubectl -- --namespace {namespace} port-forward {workload} {user}:{port}"
        );
        if let Some(here) = listening(&lines.recv_timeout(deadlines::PORT_FORWARD_BEGIN.time()).unwrap_or_default()) {
            let forward = Forward { child, reader: Some(reader), open_with };
            let front = is_encrypted.then(|| format!("https://localhost:{user}"));
            return Ok(Self { address: format!("{scheme}://127.0.0.1:{here}"), forward: Some(forward), front });
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

/// The workload that has the port `node` of the nodes.
fn controller(tools: &Toolbox, node: u16) -> Result<Option<Controller>> {
    let lists = tools.api()?.list_all(&[kinds::DEPLOYMENT, kinds::DAEMON_SET], Scope::Cluster)?;
    Ok(lists.iter().flat_map(|list| &list.items).find_map(|workload| of_workload(workload, node)))
}

fn of_workload(workload: &Value, node: u16) -> Option<Controller> {
    let containers = workload.pointer("/spec/template/spec/containers")?.as_array()?;
    let ports: Vec<_> = containers.iter().filter_map(|container| container["ports"].as_array()).flatten().collect();
    let takes = |node: u16| ports.iter().find(|port| port["hostPort"] == node);
    // Ours has no port of the node for TLS.
    let beside =
        || takes(80).filter(|_| node == 443).and_then(|_| ports.iter().find(|port| port["name"] == "websecure"));
    let port = takes(node).or_else(beside)?["containerPort"].as_u64()?;
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
        let ports = json!([{"containerPort": 8080}, {"containerPort": 8000, "hostPort": 80},
            {"containerPort": 8443, "hostPort": 443}]);
        let ours = json!([{"containerPort": 8080}, {"containerPort": 8000, "hostPort": 80},
            {"containerPort": 8443, "name": "websecure"}]);
        for (ports, node, port) in [(&ports, 80, 8000), (&ports, 443, 8443), (&ours, 80, 8000), (&ours, 443, 8443)] {
            let (namespace, name) = ("ingress-traefik".to_owned(), "deployment/traefik".to_owned());
            let found = of_workload(&workload("Deployment", ports.clone()), node);
            assert_eq!(found, Some(Controller { namespace, workload: name, port }));
        }
        let behind = json!([{"containerPort": 8443, "name": "websecure"}]);
        assert_eq!(of_workload(&workload("Deployment", behind), 443), None);
        assert_eq!(of_workload(&workload("DaemonSet", json!([{"containerPort": 80}])), 80), None);
        assert_eq!(of_workload(&workload("DaemonSet", Value::Null), 80), None);
    }

    #[test]
    fn an_address_at_which_nothing_listens_comes_with_what_opens_it() {
        let front = || Front { address: "https://todo.test:8443".to_owned(), hint: Some("add a line".to_owned()) };
        let lasting = Access { address: String::new(), forward: None, front: None };
        assert_eq!(lasting.describe(Some(front()), "todo"), (front().address, vec!["add a line".to_owned()]));
        assert_eq!(lasting.describe(None, "todo"), ("todo".to_owned(), Vec::new()));
        let child = Arc::new(crate::process::Process::new("sleep").arg("60").pipe_from(None).unwrap());
        let forward = Some(Forward { child, reader: None, open_with: "kubectl port-forward".to_owned() });
        let forwarded = Access { forward, ..lasting };
        let (place, notes) = forwarded.describe(Some(front()), "todo");
        assert_eq!(place, "todo");
        assert_eq!(notes, ["https://todo.test:8443 answers while this runs: kubectl port-forward", "add a line"]);
        assert!(forwarded.describe(None, "todo").1[0].ends_with("this opens one: kubectl port-forward"));
    }

    #[test]
    fn kubectl_tells_the_port_that_it_has_chosen() {
        assert_eq!(listening("Forwarding from 127.0.0.1:43210 -> 8000"), Some(43210));
        assert_eq!(listening("error: unable to forward port"), None);
    }
}
