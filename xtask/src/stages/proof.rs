//! The proof: what was built is what the nodes have is what the pods run, and every route answers where a user asks.

mod identity;
mod routes;

pub use routes::{Answer, agent, measure, routes};

use std::collections::BTreeMap;

use anyhow::Result;

use crate::failure::{Class, Failure};
use crate::project::Project;
use crate::snapshot::Snapshot;
use crate::toolbox::Toolbox;

/// The specification's bound for a response (SC-003), in milliseconds.
pub const BOUND_MS: u128 = 100;

/// What was proven.
pub struct Proof {
    /// Answers of the routes.
    pub answers: Vec<Answer>,
    /// The snapshot that was judged.
    pub snapshot: Snapshot,
}

/// Proves the release: `built` are image IDs by reference, `address` is where a user would go.
pub fn prove(
    project: &Project,
    tools: &Toolbox,
    built: &BTreeMap<String, String>,
    address: &str,
    requests: usize,
) -> Result<Proof> {
    let snapshot = Snapshot::take(tools)?;
    let broken: Vec<String> =
        identity::check(tools, built, &snapshot)?.iter().filter_map(identity::Link::broken).collect();
    if !broken.is_empty() {
        return Err(Failure::new(Class::Proof, format!("what runs is not what was built:\n  {}", broken.join("\n  ")))
            .help("cargo xtask deploy dev loads it again; if it persists: cargo xtask doctor")
            .into());
    }
    let answers = routes::measure(&routes::routes(&snapshot, &project.settings.chart.release), address, requests);
    let failed: Vec<String> = answers.iter().filter_map(Answer::problem).collect();
    if !failed.is_empty() {
        return Err(Failure::new(
            Class::Proof,
            format!("routes do not answer as they should:\n  {}", failed.join("\n  ")),
        )
        .help("cargo xtask status")
        .help("cargo xtask logs")
        .into());
    }
    Ok(Proof { answers, snapshot })
}
