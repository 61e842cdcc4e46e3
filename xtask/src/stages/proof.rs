//! The proof: nodes have and pods run the images that were built, and every route answers at the user's address.

mod access;
pub mod diagnose;
pub mod facts;
mod front;
pub mod http;
mod identity;
mod routes;
mod slow;
mod tls;

pub use access::Access;
pub use front::Front;
pub use identity::{Outdated, outdated};
pub use routes::{RouteAnswer, agent, measure, routes};
pub use slow::warnings;
pub use tls::trust;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::clock;
use crate::failure::{self, Class, Failure};
use crate::labels::Release;
use crate::node::Images;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::toolbox::Toolbox;
use diagnose::RouteProblem;
use facts::IngressFacts;

/// The specification's bound for a response (SC-003), in milliseconds.
pub const BOUND_MS: u128 = 100;

/// Pause before routes are requested again that the ingress controller does not serve yet.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// The live state that a proof judges.
pub struct LiveState {
    /// The objects of the namespace.
    pub snapshot: Snapshot,
    /// Each node's image IDs, by every name that a pod's status may use.
    pub nodes: BTreeMap<String, Images>,
    /// Answers of the routes; `None`: they have not been requested.
    pub answers: Option<Vec<RouteAnswer>>,
}

impl LiveState {
    /// Reads it now, except for `ready`: the objects with which a rollout has just ended. Requests each route `requests` times
    /// at `address`, while the nodes list their images.
    pub fn take(
        settings: &Settings,
        tools: &Toolbox,
        ready: Option<Snapshot>,
        address: &str,
        requests: usize,
    ) -> Result<Self> {
        std::thread::scope(|scope| {
            let nodes = scope.spawn(|| -> Result<_> {
                let names = tools.nodes()?.into_iter().map(|node| Ok((node.name.clone(), node.names()?)));
                names.collect()
            });
            let snapshot = ready.map_or_else(|| Snapshot::take(tools), Ok)?;
            let answers = routes::measure(&routes::routes(settings, &snapshot), address, requests);
            let nodes = nodes.join().unwrap_or_else(|_| bail!("reading the nodes' images panicked"))?;
            Ok(Self { snapshot, nodes, answers: Some(answers) })
        })
    }
}

/// The observations of a successful proof.
pub struct Proof {
    /// Answers of the routes.
    pub answers: Vec<RouteAnswer>,
    /// The objects of the namespace.
    pub snapshot: Snapshot,
    /// Each node's image IDs; see [`LiveState::nodes`].
    pub nodes: BTreeMap<String, Images>,
}

/// Returns a warning for each host whose certificate is not trusted.
fn untrusted_warnings(answers: &[RouteAnswer]) -> impl Iterator<Item = String> {
    let host = |answer: &RouteAnswer| answer.route.host.clone();
    let untrusted = answers.iter().filter_map(|answer| Some((host(answer), answer.untrusted.clone()?)));
    let untrusted: BTreeMap<_, _> = untrusted.collect();
    untrusted.into_iter().map(|(host, why)| {
        format!("this machine does not trust the certificate of {host}: {why} (SSL_CERT_FILE=FILE adds authorities)")
    })
}

/// Proves the release: `built` are image IDs by reference, `address` is the user's. `live` must not be older than the decision
/// that no step is left. Routes that were not requested yet are requested once.
pub fn prove(
    settings: &Settings,
    tools: &Toolbox,
    built: &BTreeMap<String, String>,
    address: &str,
    live: LiveState,
) -> Result<Proof> {
    prove_images(built, &live)?;
    let LiveState { snapshot, nodes, answers } = live;
    let Release { name, chart_path, .. } = tools.release();
    let wanted = routes::routes(settings, &snapshot);
    if wanted.is_empty() {
        return Err(Failure::new(Class::Proof, format!("release {name} has no Ingress, so no address leads to it"))
            .help("revert changes made by hand: cargo xtask deploy dev")
            .help(format!("or set ingress.enabled: true in {chart_path}/values*.yaml"))
            .into());
    }
    let mut answers = answers.unwrap_or_else(|| routes::measure(&wanted, address, 1));
    let start = Instant::now();
    while !answers.iter().all(RouteAnswer::is_good) {
        let facts = IngressFacts::take(tools);
        // A controller that has just started, or just received the Ingress, serves it a moment later.
        let did_controller_answer = answers.iter().any(|answer| !answer.is_good() && answer.served_by.is_empty());
        match facts {
            Ok(facts) if did_controller_answer && start.elapsed() < facts.patience(clock::now()) => {
                std::thread::sleep(RETRY_PAUSE);
                answers = routes::measure(&wanted, address, 1);
            }
            Ok(facts) => return Err(failed_routes(&answers, Some(&facts), address, tools.release()).into()),
            // Report the routes although the cluster cannot explain them.
            Err(error) => {
                let failure = failed_routes(&answers, None, address, tools.release());
                return Err(failure
                    .append(format!("\n  xtask could not ask the cluster why: {}", failure::message(&error)))
                    .into());
            }
        }
    }
    untrusted_warnings(&answers).for_each(|warning| tools.report.warn(warning));
    Ok(Proof { answers, snapshot, nodes })
}

/// Fails with every broken link from build to pod.
fn prove_images(built: &BTreeMap<String, String>, live: &LiveState) -> Result<()> {
    let links = identity::check(built, live);
    let mut broken: Vec<identity::BrokenLink> = links.iter().flat_map(identity::Link::broken).collect();
    broken.extend(identity::unbuilt_images(built, &live.snapshot));
    if broken.is_empty() {
        return Ok(());
    }
    let lines: Vec<&str> = broken.iter().map(|link| link.what.as_str()).collect();
    let what = format!("the pods do not run what was built:\n  {}", lines.join("\n  "));
    Err(with_help(Failure::new(Class::Proof, what), broken.iter().map(|link| link.help.clone())).into())
}

/// Returns a failure with one line for each problem and the routes that have it.
fn failed_routes(answers: &[RouteAnswer], facts: Option<&IngressFacts>, address: &str, release: &Release) -> Failure {
    let mut problems: Vec<(RouteProblem, Vec<String>)> = Vec::new();
    for answer in answers.iter().filter(|answer| !answer.is_good()) {
        let problem = RouteProblem::of(answer, facts);
        let path = format!("{}{}", answer.route.host, answer.route.path);
        match problems.iter_mut().find(|(known, _)| *known == problem) {
            Some((_, paths)) => paths.push(path),
            None => problems.push((problem, vec![path])),
        }
    }
    let lines: Vec<String> =
        problems.iter().map(|(problem, paths)| format!("{}: {problem}", paths.join(", "))).collect();
    let what = format!("routes do not answer as they should at {address}:\n  {}", lines.join("\n  "));
    with_help(Failure::new(Class::Proof, what), problems.iter().flat_map(|(problem, _)| problem.help(release)))
}

/// Adds each line to the help of `failure`, once.
fn with_help(failure: Failure, lines: impl IntoIterator<Item = String>) -> Failure {
    lines.into_iter().fold(
        failure,
        |failure, line| {
            if failure.hints().contains(&line) { failure } else { failure.help(line) }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use routes::tests::answer;

    #[test]
    fn an_untrusted_certificate_is_one_warning_for_each_host() {
        let mut all = [answer("/", 200, "todo-frontend/x"), answer("/api", 200, "todo-backend/x")];
        assert_eq!(untrusted_warnings(&all).count(), 0);
        for answer in &mut all {
            answer.route.host = "todo.test".to_owned();
            answer.untrusted = Some("invalid peer certificate: UnknownIssuer".to_owned());
        }
        let found: Vec<String> = untrusted_warnings(&all).collect();
        assert!(found.len() == 1 && found[0].contains("todo.test") && found[0].contains("UnknownIssuer"), "{found:?}");
    }

    #[test]
    fn routes_with_the_same_problem_are_one_line() {
        let release = Release::of("todo", "todo");
        let answers = [answer("/", 502, ""), answer("/apix", 502, ""), answer("/api", 500, "todo-backend/x")];
        let failure = failed_routes(&answers, None, "http://localhost:8080", &release);
        let lines: Vec<String> = failure.to_string().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 3, "{failure}");
        assert!(lines[1].starts_with("  /, /apix: 502 from the ingress controller"), "{failure}");
        assert_eq!(failure.hints(), ["cargo xtask logs frontend", "cargo xtask logs backend"]);
    }
}
