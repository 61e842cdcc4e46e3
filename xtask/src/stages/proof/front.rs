//! The address that a user opens: the port of the ingress controller, with the host of the Ingress.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::mpsc;

use super::routes::{RouteAnswer, rules};
use crate::deadlines;
use crate::snapshot::{Snapshot, text};

/// The address at which a user finds the application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Front {
    /// `http://todo.test:8080`, or with https.
    pub address: String,
    /// The next step if the host name does not resolve to this machine.
    pub hint: Option<String>,
}

impl Front {
    /// Returns `address` (`http://localhost:8080`) with the host of the Ingresses in `snapshot`.
    pub fn of(address: &str, snapshot: &Snapshot) -> Self {
        Self::resolved_by(address, snapshot, resolve)
    }

    /// Returns the same if every route gave a good answer.
    pub fn if_proven(address: &str, snapshot: &Snapshot, answers: &[RouteAnswer]) -> Option<Self> {
        (!answers.is_empty() && answers.iter().all(RouteAnswer::is_good)).then(|| Self::of(address, snapshot))
    }

    fn resolved_by(address: &str, snapshot: &Snapshot, resolve: impl Fn(&str) -> Option<Vec<IpAddr>>) -> Self {
        let hosts: Vec<&str> = rules(snapshot).map(|rule| text(rule, "/host")).collect();
        // An Ingress for any host serves the address as it is.
        let host = match hosts.first() {
            Some(first) if hosts.iter().all(|host| !host.is_empty()) => first.replacen('*', "any", 1),
            _ => return Self { address: address.to_owned(), hint: None },
        };
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let authority = port.map_or(host.clone(), |port| format!("{host}:{port}"));
        let scheme = address.split_once("://").map_or("http", |(scheme, _)| scheme);
        let front = format!("{scheme}://{authority}");
        let found = resolve(&host);
        let problem = match &found {
            Some(all) if !all.is_empty() && all.iter().all(IpAddr::is_loopback) => {
                return Self { address: front, hint: None };
            }
            Some(all) if !all.is_empty() => format!("is {}, not this machine", all[0]),
            Some(_) => "does not resolve on this machine".to_owned(),
            None => format!("does not resolve within {} s on this machine", deadlines::RESOLVE.as_secs()),
        };
        let resolve = format!("{host}:{}:127.0.0.1", port.unwrap_or(if scheme == "https" { 443 } else { 80 }));
        let hint = format!(
            "{host} {problem}: add the line `127.0.0.1 {host}` to /etc/hosts, or: curl --resolve {resolve} {front}/"
        );
        Self { address: front, hint: Some(hint) }
    }
}

/// Returns the addresses of a host, none if its name does not resolve; `None`: the resolver did not answer in time.
fn resolve(host: &str) -> Option<Vec<IpAddr>> {
    let (sender, found) = mpsc::channel();
    let host = host.to_owned();
    // Without a network the resolver blocks for long and cannot be interrupted, so a thread of its own waits for it.
    std::thread::spawn(move || {
        let found = (host.as_str(), 80).to_socket_addrs().map(|all| all.map(|address| address.ip()).collect());
        let _ = sender.send(found.unwrap_or_default());
    });
    found.recv_timeout(deadlines::RESOLVE.time()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn front(host: Option<&str>, resolved: Option<&[&str]>) -> Front {
        let mut rule = json!({"http": {"paths": [{"path": "/", "backend": {"service": {"name": "todo-frontend"}}}]}});
        rule["host"] = host.map_or(Value::Null, Value::from);
        let ingress = json!({"kind": "Ingress", "metadata": {"name": "todo"}, "spec": {"rules": [rule]}});
        let resolve = |_: &str| resolved.map(|all| all.iter().map(|address| address.parse().unwrap()).collect());
        Front::resolved_by("http://localhost:8080", &Snapshot::of(vec![ingress]), resolve)
    }

    #[test]
    fn the_address_has_the_host_that_the_ingress_serves() {
        assert_eq!(front(None, None), Front { address: "http://localhost:8080".into(), hint: None });
        let here = front(Some("todo.test"), Some(&["127.0.0.1"]));
        assert_eq!(here, Front { address: "http://todo.test:8080".into(), hint: None });
        for (resolved, is) in [
            (Some(&[][..]), "todo.test does not resolve on this machine: "),
            (Some(&["10.0.0.7"][..]), "todo.test is 10.0.0.7, not this machine: "),
            (None, "todo.test does not resolve within 2 s on this machine: "),
        ] {
            let hint = front(Some("todo.test"), resolved).hint.unwrap();
            assert!(hint.starts_with(is), "{hint}");
            assert!(hint.contains("`127.0.0.1 todo.test` to /etc/hosts"), "{hint}");
            assert!(hint.ends_with("curl --resolve todo.test:8080:127.0.0.1 http://todo.test:8080/"), "{hint}");
        }
        assert_eq!(front(Some("*.todo.test"), None).address, "http://any.todo.test:8080");
    }
}
