//! Containers that wait for a host name that does not resolve. Only their logs show it, because Kubernetes reports them
//! as running.

use std::sync::LazyLock;

use regex_lite::Regex;

use super::Symptom;
use super::pods::{Container, containers};
use crate::clock;
use crate::snapshot::{Snapshot, text};

/// Seconds that a container runs before its log counts: the cluster's DNS may fail for a moment.
const SETTLED: u64 = 4;

/// Messages about a name that does not resolve, of psycopg, libpq, Node, curl, Go, BusyBox, wget and Java.
static UNRESOLVED: LazyLock<Regex> = LazyLock::new(|| {
    let patterns = [
        r"failed to resolve host '([^']+)'",
        r#"could not translate host name \\?"([^"\\]+)"#,
        r"getaddrinfo (?:ENOTFOUND|EAI_AGAIN) ([A-Za-z0-9_.-]+)",
        r"[Cc]ould not resolve host:? ([A-Za-z0-9_.-]+)",
        r"lookup ([A-Za-z0-9_.-]+)(?: on [A-Za-z0-9_.:]+)?: no such host",
        r"bad address '([^']+)'",
        r"can't resolve '([^']+)'",
        r"unable to resolve host address ['\u{2018}`]([A-Za-z0-9_.-]+)",
        r"UnknownHostException: ([A-Za-z0-9_.-]+)",
    ];
    Regex::new(&patterns.join("|")).expect("valid")
});

/// Returns pod and name of each unready container that has run long enough for its log to explain that.
pub fn unready_containers(snapshot: &Snapshot) -> Vec<(String, String)> {
    let waiting = containers(snapshot).filter(|container| has_settled_unready(snapshot, container));
    waiting.map(|container| (container.pod_name().to_owned(), container.name().to_owned())).collect()
}

fn has_settled_unready(snapshot: &Snapshot, container: &Container<'_>) -> bool {
    let began = clock::parse(text(container.status, "/state/running/startedAt"));
    let ready = container.status["ready"] == true;
    !ready && began.is_some_and(|began| began + SETTLED <= snapshot.taken())
}

/// Finds containers whose last line of the log says that a host name does not resolve.
pub fn unresolved(snapshot: &Snapshot) -> Vec<Symptom> {
    let waiting = containers(snapshot).filter(|container| has_settled_unready(snapshot, container));
    let found = waiting.filter_map(|c| Some((host(snapshot.log_of(c.pod_name(), c.name())?)?, c)));
    found
        .map(|(host, c)| {
            let cause = format!("{} waits for host {host}, whose name does not resolve", c.title());
            // The name is right. It resolves once the cluster's DNS has started (after a restart of the node) or, for a
            // headless Service, once a pod behind it is ready.
            if is_service(snapshot, &host) {
                return Symptom::waiting(c.subject(), cause)
                    .help("see whether the cluster's DNS runs: cargo xtask tool kubectl -- get pods -n kube-system")
                    .log(c.pod_name(), c.name());
            }
            Symptom::fatal(c.subject(), cause)
                .help(format!(
                    "correct the name where it is given: .env, or a value in {}/values*.yaml ({host})",
                    snapshot.chart()
                ))
                .help("a Service of the cluster is found by its name: cargo xtask tool kubectl -- get services")
                .log(c.pod_name(), c.name())
        })
        .collect()
}

/// Returns whether `host` names a Service of the namespace, with or without namespace and cluster domain.
fn is_service(snapshot: &Snapshot, host: &str) -> bool {
    let (name, domain) = host.split_once('.').unwrap_or((host, ""));
    let Some(service) = snapshot.get("Service", name) else { return false };
    let namespace = text(service, "/metadata/namespace");
    ["", ".svc", ".svc.cluster.local"].iter().any(|end| domain == format!("{namespace}{end}")) || domain.is_empty()
}

/// Returns the last line of a log that is not empty.
pub(super) fn last_line(log: &str) -> Option<&str> {
    log.lines().rfind(|line| !line.trim().is_empty())
}

/// Returns the host that does not resolve, as the last line of a log names it.
fn host(log: &str) -> Option<String> {
    let found = UNRESOLVED.captures(last_line(log)?)?;
    let host = found.iter().skip(1).flatten().next()?.as_str().trim_end_matches('.');
    Some(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{Gravity, findings};
    use serde_json::{Value, json};

    #[test]
    fn the_host_is_read_from_the_messages_of_programs() {
        for (line, name) in [
            (
                r#"{"message": "waiting for the database: unreachable: failed to resolve host 'todo-postgres': [Errno -2]"}"#,
                "todo-postgres",
            ),
            (r#"psql: error: could not translate host name "db.lan" to address: Name or service not known"#, "db.lan"),
            (r#"{"message": "could not translate host name \"db.lan\" to address"}"#, "db.lan"),
            ("Error: getaddrinfo ENOTFOUND api.todo.svc", "api.todo.svc"),
            ("curl: (6) Could not resolve host: redis", "redis"),
            (
                "dial tcp: lookup cache.todo.svc.cluster.local on 10.96.0.10:53: no such host",
                "cache.todo.svc.cluster.local",
            ),
            ("dial tcp: lookup cache: no such host", "cache"),
            ("wget: bad address 'todo-postgres'", "todo-postgres"),
            ("nslookup: can't resolve 'todo-postgres'", "todo-postgres"),
            ("wget: unable to resolve host address ‘todo-postgres’", "todo-postgres"),
        ] {
            assert_eq!(host(&format!("before\n{line}\n\n")).as_deref(), Some(name), "{line}");
        }
        assert_eq!(host("failed to resolve host 'db'\nconnection refused\n"), None, "it resolves by now");
    }

    #[test]
    fn a_container_that_waits_for_an_unknown_host_is_fatal_unless_the_host_is_a_service() {
        let gravity = |services: Value, log: &str, started: &str| {
            let labels = json!({"app": "x"});
            let mut objects = vec![
                json!({"kind": "Deployment", "metadata": {"name": "d", "labels": {}},
                       "spec": {"replicas": 1, "selector": {"matchLabels": labels}}}),
                json!({"kind": "Pod", "metadata": {"name": "d-1", "labels": labels}, "status": {"phase": "Pending",
                       "initContainerStatuses": [{"name": "migrate", "ready": false, "state": {"running": {"startedAt": started}}}]}}),
            ];
            objects.extend(services.as_array().cloned().unwrap_or_default());
            let mut snapshot = Snapshot::of(objects);
            snapshot.add_log("d-1", "migrate", log.to_owned());
            let found = findings(&snapshot).into_iter().find(|finding| finding.name == "unknown-host");
            found.map(|finding| {
                assert!(finding.cause.contains("init container migrate waits for host db, whose name"), "{finding:?}");
                finding.gravity
            })
        };
        let (log, old) = ("failed to resolve host 'db': no", "2026-11-21T08:00:00Z");
        assert_eq!(gravity(json!([]), log, old), Some(Gravity::Fatal));
        assert_eq!(gravity(json!([]), log, &clock::rfc3339(clock::now())), None, "it has just begun");
        assert_eq!(gravity(json!([]), "connection refused", old), None);
        for address in ["None", "10.96.0.9"] {
            let service = json!([{"kind": "Service", "metadata": {"name": "db"}, "spec": {"clusterIP": address}}]);
            assert_eq!(gravity(service, log, old), Some(Gravity::Waiting), "{address}");
        }
    }

    #[test]
    fn a_service_is_recognised_by_its_short_and_full_names_in_its_own_namespace() {
        let service = json!({"kind": "Service", "metadata": {"name": "db", "namespace": "todo"}});
        let snapshot = Snapshot::of(vec![service]);
        for (host, is_ours) in [
            ("db", true),
            ("db.todo", true),
            ("db.todo.svc.cluster.local", true),
            ("db.other.svc", false),
            ("db.example.com", false),
            ("cache", false),
        ] {
            assert_eq!(is_service(&snapshot, host), is_ours, "{host}");
        }
    }
}
