//! Access to the Ingress controller: the port that the profile publishes or, if it publishes none, a port-forward that lasts
//! as long as the value. TLS always needs a port-forward, because no profile publishes a port for it.

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

/// Access to the application. Dropping it closes its port-forward.
pub struct Access {
    /// The address for requests, `http://host:port`.
    pub address: String,
    forward: Option<Forward>,
    /// The address for users, if it is known; without the Ingress' host.
    user_address: Option<String>,
}

struct Forward {
    child: Arc<Piped>,
    reader: Option<JoinHandle<()>>,
    open_with: String,
}

/// The workload that listens at port 80 or 443 of the nodes, or at port 80 and has a port for TLS.
#[derive(Debug, PartialEq, Eq)]
struct Controller {
    namespace: String,
    /// Its name for kubectl, e.g. `deployment/traefik`.
    workload: String,
    port: u16,
}

impl Access {
    /// Finds the published port, or opens a port-forward. Fails if the profile publishes no port and nothing in the cluster
    /// listens at its nodes' port.
    pub fn open(tools: &Toolbox, profile: &Profile) -> Result<Self> {
        let ingresses = tools.api()?.list(&kinds::INGRESS, Scope::Namespace)?.items;
        let is_encrypted = is_encrypted(ingresses.iter().filter(|ingress| tools.release().owns(ingress)));
        match profile.address().filter(|_| !is_encrypted) {
            Some(address) => Ok(Self { user_address: Some(address.clone()), address, forward: None }),
            None => Self::forward(tools, is_encrypted),
        }
    }

    /// Returns the address at which a user finds the application in `snapshot`, if it is known. If
    /// [`Access::open_with`] is a command, nothing listens there before the user runs it.
    pub fn front(&self, snapshot: &Snapshot) -> Option<Front> {
        self.user_address.as_ref().map(|address| Front::of(address, snapshot))
    }

    /// Returns how to name the deployment: the address of `front` if something listens there, else `name`. Returns also what
    /// a user has to do before the address answers.
    pub fn describe(&self, front: Option<Front>, name: &str) -> (String, Vec<String>) {
        let Front { address, hint } = front.unwrap_or_default();
        let open = self.open_with().map(|command| match address.as_str() {
            "" => format!("the profile publishes no port for it; this opens one: {command}"),
            _ => format!("{address} answers while this runs: {command}"),
        });
        let title = if address.is_empty() || open.is_some() { name.to_owned() } else { address };
        (title, open.into_iter().chain(hint).collect())
    }

    /// Returns the address for users, if it is known; without the Ingress' host.
    pub fn user_address(&self) -> Option<&str> {
        self.user_address.as_deref()
    }

    /// Returns the command with which a user opens a port-forward, if the profile publishes no port.
    pub fn open_with(&self) -> Option<&str> {
        self.forward.as_ref().map(|forward| forward.open_with.as_str())
    }

    fn forward(tools: &Toolbox, is_encrypted: bool) -> Result<Self> {
        let profile = &tools.profile;
        let (scheme, node_port, user_port) = if is_encrypted { ("https", 443, 8443) } else { ("http", 80, 8080) };
        let Some(Controller { namespace, workload, port }) = controller(tools, node_port)? else {
            let what = format!(
                "profile `{profile}` publishes no port for {scheme}, and nothing in the cluster listens at its nodes' port {node_port}"
            );
            return Err(Failure::new(Class::Proof, what)
                .help(format!("give it an ingress controller: minikube --profile {profile} addons enable ingress"))
                .help(format!("or use a profile of xtask's own, which publishes one: cargo xtask deploy dev --profile {profile}-xtask"))
                .into());
        };
        let listen = tools
            .kubectl()
            .args(["--namespace", &namespace, "port-forward", "--address=127.0.0.1"])
            // Shorter than our own limit, so that kubectl reports what it waited for.
            .args(["--pod-running-timeout=10s".to_owned(), workload.clone(), format!(":{port}")])
            .deadline(deadlines::PORT_FORWARD);
        let child = Arc::new(listen.pipe_from(None)?);
        let (sender, lines) = mpsc::channel();
        let reading = child.clone();
        // Read to the end: kubectl logs every connection, and a full pipe would block it.
        let reader = std::thread::spawn(move || {
            BufReader::new(reading.reader()).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        let open_with = format!(
            "cargo xtask --profile {profile} tool kubectl -- --namespace {namespace} port-forward {workload} {user_port}:{port}"
        );
        if let Some(local_port) =
            forwarded_port(&lines.recv_timeout(deadlines::PORT_FORWARD_BEGIN.time()).unwrap_or_default())
        {
            let forward = Forward { child, reader: Some(reader), open_with };
            let user_address = is_encrypted.then(|| format!("https://localhost:{user_port}"));
            return Ok(Self {
                address: format!("{scheme}://127.0.0.1:{local_port}"),
                forward: Some(forward),
                user_address,
            });
        }
        child.kill();
        let _ = reader.join();
        let what = format!("cannot open a port-forward to {workload} in namespace {namespace}");
        let mut failure = Failure::new(Class::Proof, what);
        if let Some(reason) = Arc::into_inner(child).and_then(|child| child.finish().err()) {
            failure = failure.because(reason);
        }
        Err(failure
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

/// Finds the workload that listens at the nodes' port `node_port`.
fn controller(tools: &Toolbox, node_port: u16) -> Result<Option<Controller>> {
    let lists = tools.api()?.list_all(&[kinds::DEPLOYMENT, kinds::DAEMON_SET], Scope::Cluster)?;
    Ok(lists.iter().flat_map(|list| &list.items).find_map(|workload| as_controller(workload, node_port)))
}

fn as_controller(workload: &Value, node_port: u16) -> Option<Controller> {
    let containers = workload.pointer("/spec/template/spec/containers")?.as_array()?;
    let ports: Vec<_> = containers.iter().filter_map(|container| container["ports"].as_array()).flatten().collect();
    let with_host_port = |number: u16| ports.iter().find(|port| port["hostPort"] == number);
    // Our controller takes no port of the node for TLS.
    let tls_port = || {
        with_host_port(80)
            .filter(|_| node_port == 443)
            .and_then(|_| ports.iter().find(|port| port["name"] == "websecure"))
    };
    let port = with_host_port(node_port).or_else(tls_port)?["containerPort"].as_u64()?;
    Some(Controller {
        namespace: text(workload, "/metadata/namespace").to_owned(),
        workload: format!("{}/{}", text(workload, "/kind").to_lowercase(), text(workload, "/metadata/name")),
        port: port.try_into().ok()?,
    })
}

/// Returns the local port in `Forwarding from 127.0.0.1:43210 -> 8000`.
fn forwarded_port(line: &str) -> Option<u16> {
    line.strip_prefix("Forwarding from 127.0.0.1:")?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_controller_is_the_workload_with_the_nodes_port() {
        let workload = |kind: &str, ports: Value| {
            json!({"kind": kind, "metadata": {"namespace": "ingress-traefik", "name": "traefik"},
                   "spec": {"template": {"spec": {"containers": [{"name": "sidecar"}, {"ports": ports}]}}}})
        };
        let ports = json!([{"containerPort": 8080}, {"containerPort": 8000, "hostPort": 80},
            {"containerPort": 8443, "hostPort": 443}]);
        let ours = json!([{"containerPort": 8080}, {"containerPort": 8000, "hostPort": 80},
            {"containerPort": 8443, "name": "websecure"}]);
        for (ports, node_port, port) in [(&ports, 80, 8000), (&ports, 443, 8443), (&ours, 80, 8000), (&ours, 443, 8443)]
        {
            let (namespace, name) = ("ingress-traefik".to_owned(), "deployment/traefik".to_owned());
            let found = as_controller(&workload("Deployment", ports.clone()), node_port);
            assert_eq!(found, Some(Controller { namespace, workload: name, port }));
        }
        let behind = json!([{"containerPort": 8443, "name": "websecure"}]);
        assert_eq!(as_controller(&workload("Deployment", behind), 443), None);
        assert_eq!(as_controller(&workload("DaemonSet", json!([{"containerPort": 80}])), 80), None);
        assert_eq!(as_controller(&workload("DaemonSet", Value::Null), 80), None);
    }

    #[test]
    fn an_address_at_which_nothing_listens_comes_with_the_command_that_opens_it() {
        let front = || Front { address: "https://todo.test:8443".to_owned(), hint: Some("add a line".to_owned()) };
        let published = Access { address: String::new(), forward: None, user_address: None };
        assert_eq!(published.describe(Some(front()), "todo"), (front().address, vec!["add a line".to_owned()]));
        assert_eq!(published.describe(None, "todo"), ("todo".to_owned(), Vec::new()));
        let child = Arc::new(crate::process::Process::new("sleep").arg("60").pipe_from(None).unwrap());
        let forward = Some(Forward { child, reader: None, open_with: "kubectl port-forward".to_owned() });
        let forwarded = Access { forward, ..published };
        let (title, notes) = forwarded.describe(Some(front()), "todo");
        assert_eq!(title, "todo");
        assert_eq!(notes, ["https://todo.test:8443 answers while this runs: kubectl port-forward", "add a line"]);
        assert!(forwarded.describe(None, "todo").1[0].ends_with("this opens one: kubectl port-forward"));
    }

    #[test]
    fn the_local_port_is_read_from_kubectls_output() {
        assert_eq!(forwarded_port("Forwarding from 127.0.0.1:43210 -> 8000"), Some(43210));
        assert_eq!(forwarded_port("error: unable to forward port"), None);
    }
}
