//! `helm uninstall`, verified afterwards: Helm also succeeds if it finds no revision of the release.

use std::time::Instant;

use anyhow::Result;

use super::helm::{self, HelmHistory};
use super::record;
use super::secrets::{self, ObservedSecrets};
use crate::api::{Propagation, kinds};
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::plan::Step;
use crate::process::{self, Process};
use crate::snapshot::{Snapshot, is_terminating, title};
use crate::toolbox::Toolbox;

/// Uninstalls the release. Returns what remains in the namespace: volumes, Secrets, and objects of others.
///
/// # Errors
/// Fails if an object that Helm applied for the release, or a revision of it, remains.
pub fn uninstall(tools: &Toolbox) -> Result<(Snapshot, ObservedSecrets)> {
    let release = &tools.release().name;
    helm_uninstall(tools).run().map_err(|error| {
        Failure::new(Class::Cluster, format!("Helm has not removed the release {release}"))
            .because(error)
            .help("run the same command again, it continues from there")
            .help("see whether the cluster answers: cargo xtask status")
    })?;
    let start = Instant::now();
    let remaining = loop {
        let (snapshot, existing) = (Snapshot::take(tools)?, secrets::observe(tools)?);
        let revisions = existing.helm.iter().map(|revision| format!("Helm's revision {}", revision.number));
        let remaining: Vec<String> = revisions.chain(snapshot.applied().map(title)).collect();
        if remaining.is_empty() {
            return Ok((snapshot, existing));
        }
        let all_terminate = existing.helm.is_empty() && snapshot.applied().all(is_terminating);
        if !all_terminate || start.elapsed() > deadlines::UNINSTALL_WAIT.time() || process::ending() {
            break remaining;
        }
        std::thread::sleep(deadlines::LIST_POLL.time());
    };
    let what = format!("release {release} is not removed; still there: {}", remaining.join(", "));
    Err(Failure::new(Class::Cluster, what)
        .help(format!("see Helm's revisions: cargo xtask tool helm -- list --all --filter {release}"))
        .help("let Helm adopt the objects, then remove them: cargo xtask deploy dev && cargo xtask teardown")
        .into())
}

/// Returns the command. Without `--wait`, which takes an object that Helm has not seen yet for a deleted one. With `--debug`,
/// because only debug lines say why it fails.
fn helm_uninstall(tools: &Toolbox) -> Process {
    let release = &tools.release().name;
    let uninstall = tools.helm().args(["uninstall", release, "--ignore-not-found", "--cascade=foreground", "--debug"]);
    uninstall.log(tools.log("helm")).deadline(deadlines::HELM_UNINSTALL)
}

/// Returns the step that finishes an uninstall which failed or was killed, and removes the record.
pub fn finish<'a>(tools: &'a Toolbox, status: &HelmHistory) -> Option<Step<'a>> {
    let newest = status.newest().filter(|revision| revision.is_uninstalling())?;
    let release = &tools.release().name;
    let why = format!("revision {} is uninstalling: a teardown did not finish", newest.number);
    Some(Step::new(format!("finish the uninstall of {release}"), why, helm_uninstall(tools), move |_| {
        helm::ensure_idle(release, &tools.profile)?;
        let now = helm::observe(&secrets::observe(tools)?);
        if !now.newest().is_some_and(helm::Revision::is_uninstalling) {
            return Ok("it is not uninstalling any more".to_owned());
        }
        uninstall(tools)?;
        tools.api()?.delete(&kinds::CONFIG_MAP, record::NAME, Propagation::Background)?;
        Ok(String::new())
    }))
}
