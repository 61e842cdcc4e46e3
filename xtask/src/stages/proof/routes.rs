//! Every route of the live Ingress, requested through the address that a user would use.

use std::collections::BTreeSet;

use serde_json::Value;

use super::http::{self, Phases, Silence};
use crate::deadlines;
use crate::snapshot::{Snapshot, text};

/// Why a path is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is a path of the Ingress.
    Rule,
    /// It is below one, and known to be served by its application.
    Below,
    /// It begins like one but is another path element, so it belongs to another rule.
    Beside,
}

/// One path to request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Host of the Ingress' rule; empty: any.
    pub host: String,
    /// The path that is requested.
    pub path: String,
    /// The Service it must reach.
    pub service: String,
    /// Why it is requested.
    pub why: Why,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The route.
    pub route: Route,
    /// The worst status, if any answer came.
    pub status: Option<u16>,
    /// Who served it (`X-Served-By`).
    pub served_by: String,
    /// All pods that answered.
    pub pods: BTreeSet<String>,
    /// Why no answer came.
    pub silence: Option<Silence>,
    /// Why this machine does not trust the certificate.
    pub untrusted: Option<String>,
    /// Response times in milliseconds, sorted.
    pub times: Vec<u128>,
    /// Where the time went, request by request.
    pub phases: Vec<Phases>,
}

impl Answer {
    /// Whether the application that the Ingress names answered, and not with an error of its own. A redirect, a 401 or a
    /// 404 from it is an answer: the route leads where it should.
    pub fn good(&self) -> bool {
        self.silence.is_none() && self.status.is_some_and(|status| status < 500) && self.reached()
    }

    /// Whether the Service that the Ingress names answered.
    pub fn reached(&self) -> bool {
        self.served_by.split('/').next() == Some(self.route.service.as_str())
    }

    /// What is wrong in one line, as far as the answer alone tells (see [`super::diagnose`] for the cluster's part).
    pub fn problem(&self) -> Option<String> {
        (!self.good()).then(|| super::diagnose::Cause::of(self, None).to_string())
    }

    /// Why a 404 of the right application is right; `None`: there is nothing to explain.
    pub fn reason(&self) -> Option<String> {
        let path = &self.route.path;
        (self.good() && self.status == Some(404)).then(|| match self.route.why {
            Why::Beside => format!("as it should: {path} is not below {}", path.strip_suffix('x').unwrap_or(path)),
            Why::Rule | Why::Below => format!("as it should: nothing is at {path} itself"),
        })
    }

    /// The `p`-th percentile in milliseconds.
    pub fn percentile(&self, p: usize) -> u128 {
        let rank = (self.times.len() * p).div_ceil(100).saturating_sub(1);
        self.times.get(rank).copied().unwrap_or_default()
    }

    /// Whether the 95th percentile is over the specification's bound. No user waits for a route beside a path.
    pub fn slow(&self) -> bool {
        self.route.why != Why::Beside && self.percentile(95) > super::BOUND_MS
    }
}

/// The routes of our Ingresses: each host and path, a path known to be served below it, and one beside it.
pub fn routes(snapshot: &Snapshot) -> Vec<Route> {
    let rules = snapshot.kind("Ingress").filter_map(|ingress| ingress.pointer("/spec/rules")?.as_array()).flatten();
    rules.flat_map(of_rule).collect()
}

fn of_rule(rule: &Value) -> Vec<Route> {
    let paths: Vec<(&str, &str)> = rule
        .pointer("/http/paths")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|path| (text(path, "/path"), text(path, "/backend/service/name")))
        .collect();
    let route = |path: String, service: &str, why| Route {
        host: text(rule, "/host").to_owned(),
        path,
        service: service.to_owned(),
        why,
    };
    let mut routes = Vec::new();
    for (path, service) in &paths {
        routes.push(route((*path).to_owned(), service, Why::Rule));
        if let Some(below) = below(service) {
            routes.push(route(below.to_owned(), service, Why::Below));
        }
        let beside = format!("{}x", path.trim_end_matches('/'));
        // Prefix means path elements: `/apix` belongs to whichever rule is left, the longest first.
        let mut others: Vec<&(&str, &str)> =
            paths.iter().filter(|(other, _)| other != path && beside.starts_with(other)).collect();
        others.sort_by_key(|(other, _)| std::cmp::Reverse(other.len()));
        if let Some((_, other)) = others.first() {
            routes.push(route(beside, other, Why::Beside));
        }
    }
    routes
}

/// Whether our Ingresses are served by TLS.
pub fn is_encrypted<'a>(ingresses: impl IntoIterator<Item = &'a Value>) -> bool {
    let has_tls = |ingress: &Value| ingress.pointer("/spec/tls/0").is_some();
    ingresses.into_iter().any(has_tls)
}

/// A path that an application of ours serves without its database, below its own.
fn below(service: &str) -> Option<&'static str> {
    service.ends_with("-backend").then_some("/api/v1/health")
}

/// An HTTP client for the application's own address: no proxy, ten seconds at most, every status is an answer.
pub fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(deadlines::ROUTE.time()));
    config.http_status_as_error(false).proxy(None).build().into()
}

impl Route {
    /// How often it is requested where others are requested `count` times. A route beside a path only shows where the Ingress
    /// leads: its answer is an error page.
    pub fn requests(&self, count: usize) -> usize {
        if self.why == Why::Beside { 1 } else { count }
    }
}

/// Requests each route up to `count` times, one request after another; the routes side by side.
pub fn measure(routes: &[Route], address: &str, count: usize) -> Vec<Answer> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = routes.iter().map(|route| scope.spawn(|| one(route, address, count))).collect();
        asked.into_iter().map(|answer| answer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

fn one(route: &Route, address: &str, count: usize) -> Answer {
    let mut answer = Answer {
        route: route.clone(),
        status: None,
        served_by: String::new(),
        pods: BTreeSet::new(),
        silence: None,
        untrusted: None,
        times: Vec::new(),
        phases: Vec::new(),
    };
    // A wildcard host is asked for by one of its names.
    let host = route.host.replacen('*', "any", 1);
    for _ in 0..route.requests(count) {
        match http::get(address, &host, &route.path) {
            Ok(response) => {
                answer.times.push(response.phases.total().as_millis());
                answer.phases.push(response.phases);
                answer.pods.insert(response.served_by.clone());
                answer.status = Some(response.status);
                answer.served_by = response.served_by;
                answer.untrusted = response.untrusted;
            }
            Err(silence) => answer.silence = Some(silence),
        }
        // One answer that is not good is the route's: the others would only hide it.
        if !answer.good() {
            break;
        }
    }
    answer.times.sort_unstable();
    answer
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    /// An answer for tests.
    pub fn answer(path: &str, status: u16, served_by: &str) -> Answer {
        let service = if path.starts_with("/api/") || path == "/api" { "todo-backend" } else { "todo-frontend" };
        let why = if path.ends_with('x') { Why::Beside } else { Why::Rule };
        Answer {
            route: Route { host: String::new(), path: path.into(), service: service.into(), why },
            status: Some(status),
            served_by: served_by.into(),
            pods: BTreeSet::from([served_by.to_owned()]),
            silence: None,
            untrusted: None,
            times: vec![1, 2, 3],
            phases: vec![Phases::default(); 3],
        }
    }

    #[test]
    fn a_404_of_the_right_application_is_explained() {
        let reason = |path: &str, status, by: &str| answer(path, status, by).reason();
        assert_eq!(reason("/api", 404, "todo-backend/x").unwrap(), "as it should: nothing is at /api itself");
        assert_eq!(reason("/apix", 404, "todo-frontend/x").unwrap(), "as it should: /apix is not below /api");
        assert_eq!(reason("/apix", 200, "todo-frontend/x"), None);
        assert_eq!(reason("/api", 404, "todo-frontend/x"), None, "the wrong application");
    }

    #[test]
    fn an_answer_of_the_right_application_is_good_unless_it_is_an_error_of_its_own() {
        let table = [
            (answer("/api/v1/health", 200, "todo-backend/x"), true),
            (answer("/", 307, "todo-frontend/x"), true),
            (answer("/api/v1/todos", 401, "todo-backend/x"), true),
            (answer("/api", 404, "todo-backend/x"), true),
            (answer("/apix", 404, "todo-frontend/x"), true),
            (answer("/apix", 404, "todo-backend/x"), false),
            (answer("/", 404, ""), false),
            (answer("/", 503, ""), false),
            (answer("/api", 500, "todo-backend/x"), false),
            (answer("/api", 200, "todo-backend-other/x"), false),
        ];
        for (answer, good) in table {
            assert_eq!(answer.good(), good, "{answer:?}");
            assert_eq!(answer.problem().is_none(), good);
        }
    }

    #[test]
    fn percentiles_of_few_values() {
        let mut few = answer("/", 200, "");
        assert_eq!((few.percentile(50), few.percentile(95)), (2, 3));
        few.times = (1..=20).collect();
        assert_eq!((few.percentile(50), few.percentile(95), few.percentile(100)), (10, 19, 20));
        few.times.clear();
        assert_eq!(few.percentile(95), 0);
    }

    #[test]
    fn every_host_and_path_of_the_ingress_is_a_route() {
        let path = |path: &str, name: &str| json!({"path": path, "backend": {"service": {"name": name}}});
        let paths = json!({"paths": [path("/api", "todo-backend"), path("/", "todo-frontend")]});
        let helms = json!({"name": "todo", "labels": {"app.kubernetes.io/managed-by": "Helm"}, "annotations": {
            "meta.helm.sh/release-name": "todo", "meta.helm.sh/release-namespace": "todo"}});
        let ours = json!({"kind": "Ingress", "metadata": helms,
            "spec": {"rules": [{"http": paths}, {"host": "*.todo.test", "http": paths}]}});
        let other = json!({"kind": "Ingress", "metadata": {"name": "other"}, "spec": {"rules": [{"http": paths}]}});
        let routes = routes(&Snapshot::of_release("todo", "todo", vec![ours, other]));
        let shown: Vec<String> = routes.iter().map(|r| format!("{}{} {}", r.host, r.path, r.service)).collect();
        let one = ["/api todo-backend", "/api/v1/health todo-backend", "/apix todo-frontend", "/ todo-frontend"];
        let two = one.map(|line| format!("*.todo.test{line}"));
        assert_eq!(shown, [one.map(str::to_owned), two].concat());
    }
}
