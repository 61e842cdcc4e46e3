//! The scenarios: a user's command, the state before it, and the edit before it.

/// The state that a scenario starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// No cluster.
    Nothing,
    /// A deploy has been verified.
    Deployed,
    /// Two deploys have, the second with another backend.
    DeployedTwice,
}

/// A scenario.
#[derive(Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it starts from.
    pub start: Start,
    /// The backend's source as it is saved before.
    pub edit: Option<&'static str>,
    /// The command.
    pub args: &'static [&'static str],
    /// The backend's source as it is saved while the command waits for that.
    pub saved: Option<&'static str>,
    /// The command that puts right what a fault has left.
    pub again: &'static [&'static str],
    /// Whether the command was asked to remove the release.
    pub removes: bool,
}

/// A deploy.
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
