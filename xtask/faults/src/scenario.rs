//! The scenarios: a user's command, the state before it, and the edit before it.

/// The state from which a scenario starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// No cluster.
    Nothing,
    /// A cluster with one verified deploy.
    Deployed,
    /// A cluster with two verified deploys, the second with another backend.
    DeployedTwice,
}

/// A command with the state and the edits around it.
#[derive(Debug)]
pub struct Scenario {
    /// The name of the scenario.
    pub name: &'static str,
    /// The state before the run.
    pub start: Start,
    /// The backend source that is saved before the run. `None` keeps the source.
    pub edit: Option<&'static str>,
    /// The arguments of `cargo xtask`.
    pub args: &'static [&'static str],
    /// The backend source that is saved when the watch waits for the first time. `None` if the scenario saves nothing.
    pub saved: Option<&'static str>,
    /// The arguments of the second run, which repairs the state after a fault.
    pub again: &'static [&'static str],
    /// Whether the command removes the release.
    pub removes: bool,
}

/// The arguments of a deploy.
pub const DEPLOY: &[&str] = &["deploy", "dev"];

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    scenario("first deploy", Start::Nothing, None, DEPLOY),
    scenario("changed deploy", Start::Deployed, Some("a change"), DEPLOY),
    scenario("failing deploy", Start::Deployed, Some("this image crashes"), DEPLOY),
    scenario("no-op", Start::Deployed, None, DEPLOY),
    Scenario { again: &["status"], ..scenario("status", Start::Deployed, None, &["status"]) },
    Scenario { again: &["teardown"], removes: true, ..scenario("teardown", Start::Deployed, None, &["teardown"]) },
    Scenario { again: &["rollback", "1"], ..scenario("rollback", Start::DeployedTwice, None, &["rollback", "1"]) },
    Scenario { saved: Some("a change"), ..scenario("watch", Start::Deployed, None, &["deploy", "dev", "--watch"]) },
];

const fn scenario(
    name: &'static str,
    start: Start,
    edit: Option<&'static str>,
    args: &'static [&'static str],
) -> Scenario {
    Scenario { name, start, edit, args, saved: None, again: DEPLOY, removes: false }
}
