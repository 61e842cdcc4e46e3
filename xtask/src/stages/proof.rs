//! The proof: what was built is what the nodes have is what the pods run, and every route answers where a user asks.

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
pub use routes::{Answer, agent, measure, routes};
pub use slow::warnings;
pub use tls::trust;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::clock;
use crate::failure::{Class, Failure};
use crate::node::Images;
use crate::project::Project;
use crate::snapshot::Snapshot;
use crate::toolbox::Toolbox;
use diagnose::Cause;
use facts::Facts;

/// The specification's bound for a response (SC-003), in milliseconds.
pub const BOUND_MS: u128 = 100;

/// Between two requests to routes that the ingress controller does not serve yet.
const PAUSE: Duration = Duration::from_millis(500);

/// What the cluster says of itself, for the proof to be held against.
pub struct Evidence {
    /// The namespace.
    pub snapshot: Snapshot,
    /// The images of each node by every name that a pod's status may call them.
    pub nodes: BTreeMap<String, Images>,
    /// Answers of the routes; `None`: they have not been requested.
    pub answers: Option<Vec<Answer>>,
}

impl Evidence {
    /// Takes it now. Each route is requested `requests` times at `address`, while the nodes are asked.
    pub fn take(tools: &Toolbox, address: &str, requests: usize) -> Result<Self> {
        std::thread::scope(|scope| {
            let nodes = scope.spawn(|| -> Result<_> {
                let names = tools.nodes()?.into_iter().map(|node| Ok((node.name.clone(), node.names()?)));
                names.collect()
            });
            let snapshot = Snapshot::take(tools)?;
            let answers = routes::measure(&routes::routes(&snapshot), address, requests);
            let nodes = nodes.join().unwrap_or_else(|_| bail!("the look at the nodes panicked"))?;
            Ok(Self { snapshot, nodes, answers: Some(answers) })
        })
    }
}

/// What was proven.
pub struct Proof {
    /// Answers of the routes.
    pub answers: Vec<Answer>,
    /// The snapshot that was judged.
    pub snapshot: Snapshot,
    /// The images of each node; see [`Evidence::nodes`].
    pub nodes: BTreeMap<String, Images>,
}

/// A warning for each host whose certificate is not trusted.
fn untrusted(answers: &[Answer]) -> impl Iterator<Item = String> {
    let host = |answer: &Answer| answer.route.host.clone();
    let untrusted = answers.iter().filter_map(|answer| Some((host(answer), answer.untrusted.clone()?)));
    let untrusted: BTreeMap<_, _> = untrusted.collect();
    untrusted.into_iter().map(|(host, why)| {
        format!("this machine does not trust the certificate of {host}: {why} (SSL_CERT_FILE=FILE adds authorities)")
    })
}

/// Proves the release: `built` are image IDs by reference, `address` is where a user would go, `evidence` is at most as old
/// as the decision that there is nothing left to do. Routes that were not requested yet are requested once.
pub fn prove(
    project: &Project,
    tools: &Toolbox,
    built: &BTreeMap<String, String>,
    address: &str,
    evidence: Evidence,
) -> Result<Proof> {
    images(built, &evidence)?;
    let Evidence { snapshot, nodes, answers } = evidence;
    let release = &project.settings.chart.release;
    let wanted = routes::routes(&snapshot);
    if wanted.is_empty() {
        return Err(Failure::new(Class::Proof, format!("release {release} has no Ingress, so no address leads to it"))
            .help("take back what was changed by hand: cargo xtask deploy dev")
            .help("or set ingress.enabled: true in infra/helm/values-dev.yaml")
            .into());
    }
    let mut answers = answers.unwrap_or_else(|| routes::measure(&wanted, address, 1));
    let start = Instant::now();
    while !answers.iter().all(Answer::good) {
        let facts = Facts::take(tools);
        // A controller that has just started, or just heard of the Ingress, serves it a moment later.
        let is_controllers = answers.iter().any(|answer| !answer.good() && answer.served_by.is_empty());
        match facts {
            Ok(facts) if is_controllers && start.elapsed() < facts.patience(clock::now()) => {
                std::thread::sleep(PAUSE);
                answers = routes::measure(&wanted, address, 1);
            }
            Ok(facts) => return Err(unanswered(&answers, Some(&facts), address).into()),
            // A cluster that does not tell is no reason to keep quiet about the routes.
            Err(error) => {
                let failure = unanswered(&answers, None, address);
                return Err(failure.append(format!("\n  the cluster does not say why: {error:#}")).into());
            }
        }
    }
    untrusted(&answers).for_each(|warning| project.report.warn(warning));
    Ok(Proof { answers, snapshot, nodes })
}

/// Fails with every broken link from build to pod.
fn images(built: &BTreeMap<String, String>, evidence: &Evidence) -> Result<()> {
    let links = identity::check(built, evidence);
    let mut broken: Vec<identity::Broken> = links.iter().flat_map(identity::Link::broken).collect();
    broken.extend(identity::strangers(built, &evidence.snapshot));
    if broken.is_empty() {
        return Ok(());
    }
    let lines: Vec<&str> = broken.iter().map(|link| link.what.as_str()).collect();
    let what = format!("what runs is not what was built:\n  {}", lines.join("\n  "));
    Err(with_help(Failure::new(Class::Proof, what), broken.iter().map(|link| link.help.clone())).into())
}

/// One line for each cause, with the routes that it takes away.
fn unanswered(answers: &[Answer], facts: Option<&Facts>, address: &str) -> Failure {
    let mut causes: Vec<(Cause, Vec<String>)> = Vec::new();
    for answer in answers.iter().filter(|answer| !answer.good()) {
        let cause = Cause::of(answer, facts);
        let path = format!("{}{}", answer.route.host, answer.route.path);
        match causes.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, paths)) => paths.push(path),
            None => causes.push((cause, vec![path])),
        }
    }
    let lines: Vec<String> = causes.iter().map(|(cause, paths)| format!("{}: {cause}", paths.join(", "))).collect();
    let what = format!("routes do not answer as they should at {address}:\n  {}", lines.join("\n  "));
    with_help(Failure::new(Class::Proof, what), causes.iter().flat_map(|(cause, _)| cause.help()))
}

/// Adds each line once.
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
    fn a_certificate_that_is_not_trusted_is_told_once_for_a_host() {
        let mut all = [answer("/", 200, "todo-frontend/x"), answer("/api", 200, "todo-backend/x")];
        assert_eq!(untrusted(&all).count(), 0);
        for answer in &mut all {
            answer.route.host = "todo.test".to_owned();
            answer.untrusted = Some("invalid peer certificate: UnknownIssuer".to_owned());
        }
        let told: Vec<String> = untrusted(&all).collect();
        assert!(told.len() == 1 && told[0].contains("todo.test") && told[0].contains("UnknownIssuer"), "{told:?}");
    }

    #[test]
    fn routes_with_one_cause_are_one_line() {
        let answers = [answer("/", 502, ""), answer("/apix", 502, ""), answer("/api", 500, "todo-backend/x")];
        let failure = unanswered(&answers, None, "http://localhost:8080");
        let lines: Vec<String> = failure.to_string().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 3, "{failure}");
        assert!(lines[1].starts_with("  /, /apix: 502 from the ingress controller"), "{failure}");
        assert_eq!(failure.hints(), ["cargo xtask logs frontend", "cargo xtask logs backend"]);
    }
}
