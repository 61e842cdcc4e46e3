//! The table of causes that keep a workload from being ready, and which of them need a change.
//!
//! A cause is a row of [`CAUSES`]: its name, how long it must last before it ends a rollout, and the function that
//! finds it. Everything here is pure: it judges a snapshot, and sends no requests.

mod admission;
mod config;
mod crash;
mod hosts;
mod images;
mod pods;
mod probes;
mod progress;
mod quantity;
mod scheduling;
mod storage;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::deadlines::Limit;
use crate::failure::Hint;
use crate::snapshot::Snapshot;

pub use hosts::unready_containers;
pub use pods::{is_ready, stuck};
pub use progress::{Progress, progress};
pub use scheduling::uncordon;

/// The ability of a finding to resolve without a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    /// It may resolve with time.
    Waiting,
    /// It needs a change by somebody.
    Fatal,
}

/// A row of the table of causes.
pub struct Cause {
    /// The name in evidence folders and machine-readable output.
    pub name: &'static str,
    /// A short description for people.
    pub title: &'static str,
    /// Time that the cause must last before it ends a rollout. A shorter one may resolve without a change.
    pub patience: Limit,
    find: fn(&Snapshot) -> Vec<Symptom>,
}

/// The table of causes, the only place in xtask that knows what keeps a workload from being ready.
pub const CAUSES: &[Cause] = &[
    cause("image-missing", "an image is not on the node", 3, images::missing),
    cause("image-pull", "an image cannot be pulled", 3, images::pull),
    cause("config", "a container lacks configuration", 3, config::container),
    cause("mount", "a volume cannot be mounted", 3, config::mount),
    cause("cannot-start", "a container cannot be started", 3, crash::cannot_start),
    cause("out-of-memory", "a container needs more memory than its limit", 3, crash::out_of_memory),
    cause("init", "an init container fails", 2, crash::init),
    cause("migration", "the migration of the database fails", 2, crash::migration),
    cause("unknown-host", "a container waits for a host name that does not resolve", 4, hosts::unresolved),
    cause("crash-loop", "a container ends again and again", 4, crash::looping),
    cause("not-ready", "a container runs but does not become ready", 4, probes::failing),
    cause("unschedulable", "a pod does not fit on any node", 3, scheduling::unschedulable),
    cause("cordoned", "a pod waits for a node that is cordoned", 3, scheduling::cordoned),
    cause("claim-pending", "a volume is not provided", 3, storage::pending),
    cause("quota", "a quota is used up", 3, admission::quota),
    cause("pod-security", "Pod Security refuses a pod", 2, admission::pod_security),
    cause("refused", "the API server refuses a pod", 4, admission::other),
    cause("evicted", "the node evicts a pod", 3, crash::evicted),
];

const fn cause(name: &'static str, title: &'static str, seconds: u64, find: fn(&Snapshot) -> Vec<Symptom>) -> Cause {
    Cause { name, title, patience: Limit::seconds(seconds), find }
}

/// Returns whether the cause `name` is explained with nodes, pods and storage classes of the whole cluster.
pub fn needs_cluster(name: &str) -> bool {
    ["unschedulable", "cordoned", "claim-pending"].contains(&name)
}

/// A finding of a row's function, without the row's name.
struct Symptom {
    gravity: Gravity,
    subject: String,
    cause: String,
    help: Vec<Hint>,
    log_of: Option<(String, String)>,
}

impl Symptom {
    fn fatal(subject: impl Into<String>, cause: impl Into<String>) -> Self {
        let (subject, cause) = (subject.into(), cause.into());
        Self { gravity: Gravity::Fatal, subject, cause, help: Vec::new(), log_of: None }
    }

    fn waiting(subject: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { gravity: Gravity::Waiting, ..Self::fatal(subject, cause) }
    }

    fn help(mut self, hint: impl Into<Hint>) -> Self {
        self.help.push(hint.into());
        self
    }

    fn log(mut self, pod: &str, container: &str) -> Self {
        self.log_of = Some((pod.to_owned(), container.to_owned()));
        self
    }
}

/// A cause that was found at one object of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the row in [`CAUSES`].
    pub name: &'static str,
    /// Time that the finding must last before it ends a rollout.
    pub patience: Duration,
    /// Its ability to resolve without a change.
    pub gravity: Gravity,
    /// `pod/todo-backend-…` or `deployment/todo-backend`.
    pub subject: String,
    /// The cause; further lines give details.
    pub cause: String,
    /// The next steps.
    pub help: Vec<Hint>,
    /// Pod and container whose log explains the cause.
    pub log_of: Option<(String, String)>,
}

/// Returns what keeps the workloads from being ready, fatal findings first. Skips pods that the rollout is replacing:
/// they end anyway, and often the update is the fix for them.
pub fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found: Vec<Finding> = CAUSES
        .iter()
        .flat_map(|row| {
            (row.find)(snapshot).into_iter().map(|symptom| Finding {
                name: row.name,
                patience: row.patience.time(),
                gravity: symptom.gravity,
                subject: symptom.subject,
                cause: symptom.cause,
                help: symptom.help,
                log_of: symptom.log_of,
            })
        })
        .collect();
    found.sort_by_key(|finding| std::cmp::Reverse(finding.gravity));
    let mut seen: Vec<(String, String)> = Vec::new();
    // Replicas with the same cause are one finding.
    found.retain(|finding| {
        let key = (owner(&finding.subject).to_owned(), finding.cause.clone());
        let is_new = !seen.contains(&key);
        seen.push(key);
        is_new
    });
    found
}

/// Returns `pod/todo-backend-85475f89f8-hs4km` without the suffix that differs between replicas.
fn owner(subject: &str) -> &str {
    subject.rsplit_once('-').map_or(subject, |(owner, _)| owner)
}
