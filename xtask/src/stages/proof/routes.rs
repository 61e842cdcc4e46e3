//! Requests every route of the live Ingress at the address that a user would use.

use std::collections::BTreeSet;

use serde_json::Value;

use super::http::{self, Phases, RequestError};
use crate::deadlines;
use crate::settings::Settings;
use crate::snapshot::{Snapshot, text};

/// The relation of a requested path to the Ingress' paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// It is a path of the Ingress.
    Rule,
    /// It is below one, and its application serves it.
    Below,
    /// It begins like one but is another path element (`/apix` beside `/api`), so another rule serves it.
    Beside,
}

/// One path to request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The host of the Ingress' rule; empty: any.
    pub host: String,
    /// The path.
    pub path: String,
    /// The Service it must reach.
    pub service: String,
    /// The relation of the path to the Ingress' paths.
    pub kind: PathKind,
    /// The header with the Service and the pod that answered.
    pub identity_header: String,
}

/// The answers of one route.
#[derive(Clone, Debug)]
pub struct RouteAnswer {
    /// The route.
    pub route: Route,
    /// The status of the last answer, if any came.
    pub status: Option<u16>,
    /// The Service and the pod that served it, as `todo-backend/<pod>`; empty: neither of ours.
    pub served_by: String,
    /// All pods that answered.
    pub pods: BTreeSet<String>,
    /// The reason for a missing answer.
    pub error: Option<RequestError>,
    /// The reason for which this machine does not trust the certificate; `None`: it trusts it, or there is none.
    pub untrusted: Option<String>,
    /// Response times in milliseconds, sorted.
    pub times: Vec<u128>,
    /// The phases of each request.
    pub phases: Vec<Phases>,
}

impl RouteAnswer {
    /// Returns whether the Service that the Ingress names answered, without a server error. A redirect, a 401 or a 404 of
    /// the application proves the route as well.
    pub fn is_good(&self) -> bool {
        self.error.is_none() && self.status.is_some_and(|status| status < 500) && self.is_from_service()
    }

    /// Returns whether the Service that the Ingress names answered.
    pub fn is_from_service(&self) -> bool {
        self.served_by.split('/').next() == Some(self.route.service.as_str())
    }

    /// Returns what is wrong in one line, from the answer alone; [`super::diagnose`] also uses the cluster's state.
    pub fn problem(&self) -> Option<String> {
        (!self.is_good()).then(|| super::diagnose::RouteProblem::of(self, None).to_string())
    }

    /// Returns why a 404 is the right answer; `None`: it is not one.
    pub fn explain_404(&self) -> Option<String> {
        let path = &self.route.path;
        (self.is_good() && self.status == Some(404)).then(|| match self.route.kind {
            PathKind::Beside => format!("as it should: {path} is not below {}", path.strip_suffix('x').unwrap_or(path)),
            PathKind::Rule | PathKind::Below => format!("as it should: nothing is at {path} itself"),
        })
    }

    /// Returns the `p`-th percentile in milliseconds.
    pub fn percentile(&self, p: usize) -> u128 {
        let rank = (self.times.len() * p).div_ceil(100).saturating_sub(1);
        self.times.get(rank).copied().unwrap_or_default()
    }

    /// Returns whether the 95th percentile is over the specification's bound. Paths beside a rule never are: no user waits
    /// for an error page.
    pub fn is_slow(&self) -> bool {
        self.route.kind != PathKind::Beside && self.percentile(95) > super::BOUND_MS
    }
}

/// Returns the routes of our Ingresses: each host and path, a path below it that its application serves, and one beside it.
pub fn routes(settings: &Settings, snapshot: &Snapshot) -> Vec<Route> {
    rules(snapshot).flat_map(|rule| routes_of_rule(settings, rule)).collect()
}

/// Returns the rules of our Ingresses.
pub fn rules(snapshot: &Snapshot) -> impl Iterator<Item = &Value> {
    snapshot.kind("Ingress").filter_map(|ingress| ingress.pointer("/spec/rules")?.as_array()).flatten()
}

fn routes_of_rule(settings: &Settings, rule: &Value) -> Vec<Route> {
    let paths: Vec<(&str, &str)> = rule
        .pointer("/http/paths")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|path| (text(path, "/path"), text(path, "/backend/service/name")))
        .collect();
    let route = |path: String, service: &str, kind| Route {
        host: text(rule, "/host").to_owned(),
        path,
        service: service.to_owned(),
        kind,
        identity_header: settings.application.identity_header.clone(),
    };
    let mut routes = Vec::new();
    for (path, service) in &paths {
        routes.push(route((*path).to_owned(), service, PathKind::Rule));
        if let Some(below) = below(settings, service) {
            routes.push(route(below, service, PathKind::Below));
        }
        let beside = format!("{}x", path.trim_end_matches('/'));
        // `Prefix` matches whole path elements: the longest other prefix serves `/apix`.
        let mut others: Vec<&(&str, &str)> =
            paths.iter().filter(|(other, _)| other != path && beside.starts_with(other)).collect();
        others.sort_by_key(|(other, _)| std::cmp::Reverse(other.len()));
        if let Some((_, other)) = others.first() {
            routes.push(route(beside, other, PathKind::Beside));
        }
    }
    routes
}

/// Returns whether one of `ingresses` uses TLS.
pub fn is_encrypted<'a>(ingresses: impl IntoIterator<Item = &'a Value>) -> bool {
    let has_tls = |ingress: &Value| ingress.pointer("/spec/tls/0").is_some();
    ingresses.into_iter().any(has_tls)
}

/// Returns a path of `service` that it serves without its database.
fn below(settings: &Settings, service: &str) -> Option<String> {
    let serves = |component: &str| service.strip_suffix(component).is_some_and(|name| name.ends_with('-'));
    settings.images.values().find(|image| serves(&image.component))?.path.clone()
}

/// Returns an HTTP client for the application: no proxy, ten seconds at most, and no status is an error.
pub fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(deadlines::ROUTE.time()));
    config.http_status_as_error(false).proxy(None).build().into()
}

impl Route {
    /// Returns how often it is requested if others are requested `count` times. The error page of a route beside a path needs
    /// no measurement.
    pub fn requests(&self, count: usize) -> usize {
        if self.kind == PathKind::Beside { 1 } else { count }
    }
}

/// Requests each route up to `count` times, one request after another; the routes side by side.
pub fn measure(routes: &[Route], address: &str, count: usize) -> Vec<RouteAnswer> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = routes.iter().map(|route| scope.spawn(|| measure_route(route, address, count))).collect();
        threads
            .into_iter()
            .map(|answer| answer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

fn measure_route(route: &Route, address: &str, count: usize) -> RouteAnswer {
    let mut answer = RouteAnswer {
        route: route.clone(),
        status: None,
        served_by: String::new(),
        pods: BTreeSet::new(),
        error: None,
        untrusted: None,
        times: Vec::new(),
        phases: Vec::new(),
    };
    // A wildcard host is requested by one of its names.
    let host = route.host.replacen('*', "any", 1);
    for _ in 0..route.requests(count) {
        match http::get(address, &host, &route.path) {
            Ok(response) => {
                let served_by = response.header(&route.identity_header);
                answer.times.push(response.phases.total().as_millis());
                answer.phases.push(response.phases);
                answer.pods.insert(served_by.to_owned());
                answer.status = Some(response.status);
                answer.served_by = served_by.to_owned();
                answer.untrusted = response.untrusted;
            }
            Err(error) => answer.error = Some(error),
        }
        // A bad answer is the result of the route: a later good one must not hide it.
        if !answer.is_good() {
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

    /// Returns an answer for tests.
    pub fn answer(path: &str, status: u16, served_by: &str) -> RouteAnswer {
        let service = if path.starts_with("/api/") || path == "/api" { "todo-backend" } else { "todo-frontend" };
        let kind = if path.ends_with('x') { PathKind::Beside } else { PathKind::Rule };
        RouteAnswer {
            route: Route {
                host: String::new(),
                path: path.into(),
                service: service.into(),
                kind,
                identity_header: String::new(),
            },
            status: Some(status),
            served_by: served_by.into(),
            pods: BTreeSet::from([served_by.to_owned()]),
            error: None,
            untrusted: None,
            times: vec![1, 2, 3],
            phases: vec![Phases::default(); 3],
        }
    }

    #[test]
    fn a_404_of_the_right_application_is_explained() {
        let reason = |path: &str, status, by: &str| answer(path, status, by).explain_404();
        assert_eq!(reason("/api", 404, "todo-backend/x").unwrap(), "as it should: nothing is at /api itself");
        assert_eq!(reason("/apix", 404, "todo-frontend/x").unwrap(), "as it should: /apix is not below /api");
        assert_eq!(reason("/apix", 200, "todo-frontend/x"), None);
        assert_eq!(reason("/api", 404, "todo-frontend/x"), None, "the wrong application");
    }

    #[test]
    fn an_answer_of_the_right_application_is_good_unless_it_is_a_server_error() {
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
            assert_eq!(answer.is_good(), good, "{answer:?}");
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
        let mut settings = Settings::read(&crate::checkout::find(None)).unwrap();
        let snapshot = Snapshot::of_release("todo", "todo", vec![ours, other]);
        let found = routes(&settings, &snapshot);
        let shown: Vec<String> = found.iter().map(|r| format!("{}{} {}", r.host, r.path, r.service)).collect();
        let one = ["/api todo-backend", "/api/v1/health todo-backend", "/apix todo-frontend", "/ todo-frontend"];
        let two = one.map(|line| format!("*.todo.test{line}"));
        assert_eq!(shown, [one.map(str::to_owned), two].concat());
        settings.application.identity_header = "X-Pod".to_owned();
        settings.images.get_mut("todo-backend").unwrap().path = Some("/up".to_owned());
        let found = routes(&settings, &snapshot);
        assert_eq!((found[1].path.as_str(), found[1].identity_header.as_str()), ("/up", "X-Pod"));
    }
}
