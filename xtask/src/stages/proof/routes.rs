//! Every route of the live Ingress, requested through the address that a user would use.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::BOUND_MS;
use crate::snapshot::{Snapshot, text};

/// One path of the Ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Host header; empty: any.
    pub host: String,
    /// The path that is requested.
    pub path: String,
    /// The Service it must reach.
    pub service: String,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The route.
    pub route: Route,
    /// The last status, if any answer came.
    pub status: Option<u16>,
    /// Who served it (`X-Served-By`).
    pub served_by: String,
    /// Why no answer came.
    pub error: Option<String>,
    /// Response times in milliseconds, sorted.
    pub times: Vec<u128>,
}

impl Answer {
    /// What is wrong with it, if anything.
    pub fn problem(&self) -> Option<String> {
        let path = &self.route.path;
        if let Some(error) = &self.error {
            return Some(format!("{path}: {error}"));
        }
        match self.status {
            Some(404) if self.served_by.is_empty() => {
                Some(format!("{path}: 404 from the ingress controller: it does not serve this Ingress (class?)"))
            }
            Some(503) if self.served_by.is_empty() => {
                Some(format!("{path}: 503 from the ingress controller: {} has no endpoints", self.route.service))
            }
            Some(status) if status >= 400 => Some(format!("{path}: {status} from {}", self.served_by)),
            Some(_) if !self.served_by.starts_with(&self.route.service) => {
                Some(format!("{path}: answered by `{}`, not by {}", self.served_by, self.route.service))
            }
            _ => None,
        }
    }

    /// The `p`-th percentile in milliseconds.
    pub fn percentile(&self, p: usize) -> u128 {
        self.times
            .get((self.times.len() * p / 100).min(self.times.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    /// Whether it is slower than the specification's bound.
    pub fn slow(&self) -> bool {
        self.percentile(95) > BOUND_MS
    }
}

/// The routes of the release's Ingress. A prefix is requested at a path that its application serves.
pub fn routes(snapshot: &Snapshot, release: &str) -> Vec<Route> {
    let Some(ingress) = snapshot.get("Ingress", release) else { return Vec::new() };
    let mut routes = Vec::new();
    for rule in ingress.pointer("/spec/rules").and_then(Value::as_array).into_iter().flatten() {
        for path in rule.pointer("/http/paths").and_then(Value::as_array).into_iter().flatten() {
            let prefix = text(path, "/path");
            routes.push(Route {
                host: text(rule, "/host").to_owned(),
                path: if prefix == "/api" { "/api/v1/health".to_owned() } else { prefix.to_owned() },
                service: text(path, "/backend/service/name").to_owned(),
            });
        }
    }
    // Prefix means path elements: `/apix` is the frontend's.
    if let Some(root) = routes.iter().find(|route| route.path == "/").cloned() {
        routes.push(Route { path: "/apix".to_owned(), ..root });
    }
    routes
}

/// An HTTP client for the application's own address: no proxy, ten seconds at most, every status is an answer.
pub fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10)));
    config.http_status_as_error(false).proxy(None).build().into()
}

/// Requests each route `count` times.
pub fn measure(routes: &[Route], address: &str, count: usize) -> Vec<Answer> {
    let agent = agent();
    routes.iter().map(|route| one(&agent, route, address, count)).collect()
}

fn one(agent: &ureq::Agent, route: &Route, address: &str, count: usize) -> Answer {
    let mut answer =
        Answer { route: route.clone(), status: None, served_by: String::new(), error: None, times: Vec::new() };
    for _ in 0..count {
        let start = Instant::now();
        let mut request = agent.get(format!("{address}{}", route.path));
        if !route.host.is_empty() {
            request = request.header("Host", &route.host);
        }
        match request.call() {
            Ok(mut response) => {
                answer.status = Some(response.status().as_u16());
                let served = response.headers().get("x-served-by").and_then(|v| v.to_str().ok());
                answer.served_by = served.unwrap_or_default().to_owned();
                let _ = response.body_mut().read_to_vec();
                answer.times.push(start.elapsed().as_millis());
            }
            Err(error) => {
                answer.error = Some(format!("nothing answers at {address}: {error}"));
                break;
            }
        }
        // A page that does not exist answers for the prefix as well as one that does.
        if answer.status == Some(404) && route.path == "/apix" && !answer.served_by.is_empty() {
            answer.status = Some(200);
        }
    }
    answer.times.sort_unstable();
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, served_by: &str) -> Answer {
        let route = Route { host: String::new(), path: "/api/v1/health".into(), service: "todo-backend".into() };
        Answer { route, status: Some(status), served_by: served_by.into(), error: None, times: vec![1, 2, 3] }
    }

    #[test]
    fn failures_are_told_apart() {
        assert_eq!(answer(200, "todo-backend/x").problem(), None);
        assert!(answer(404, "").problem().unwrap().contains("does not serve this Ingress"));
        assert!(answer(503, "").problem().unwrap().contains("no endpoints"));
        assert!(answer(500, "todo-backend/x").problem().unwrap().contains("500 from todo-backend/x"));
        assert!(answer(200, "todo-frontend/x").problem().unwrap().contains("not by todo-backend"));
    }

    #[test]
    fn percentiles_of_few_values() {
        assert_eq!((answer(200, "").percentile(50), answer(200, "").percentile(95)), (2, 3));
    }
}
