//! `helm uninstall`, read back: Helm also succeeds where it finds no record of the release.

use std::time::Instant;

use anyhow::Result;
use serde_json::Value;

use super::helm::{self, Status};
use super::record;
use super::secrets::{self, Existing};
use crate::api::{Propagation, kinds};
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::plan::Step;
use crate::process::{self, Process};
use crate::project::Project;
use crate::snapshot::{Snapshot, title};
use crate::toolbox::Toolbox;

/// Uninstalls the release. Returns what is left in the namespace: others' objects, volumes and Secrets.
///
/// # Errors
/// Fails if an object that Helm made for the release, or a revision of it, is still there.
pub fn uninstall(project: &Project, tools: &Toolbox) -> Result<(Snapshot, Existing)> {
    let release = &project.settings.chart.release;
    command(project, tools).run().map_err(|error| {
        Failure::new(Class::Cluster, format!("Helm has not removed the release {release}: {error:#}"))
            .help("the same command goes on from there")
            .help("see whether the cluster answers: cargo xtask status")
    })?;
    let begun = Instant::now();
    let left = loop {
        let (snapshot, existing) = (Snapshot::take(tools)?, secrets::observe(tools)?);
        let revisions = existing.helm.iter().map(|revision| format!("Helm's revision {}", revision.number));
        let left: Vec<String> = revisions.chain(snapshot.applied().map(title)).collect();
        if left.is_empty() {
            return Ok((snapshot, existing));
        }
        let is_going = |object: &Value| object["metadata"]["deletionTimestamp"].is_string();
        let all_go = existing.helm.is_empty() && snapshot.applied().all(is_going);
        if !all_go || begun.elapsed() > deadlines::UNINSTALL_WAIT.time() || process::ending() {
            break left;
        }
        std::thread::sleep(tools.api()?.deadlines().poll);
    };
    let what = format!("release {release} is not removed; still there: {}", left.join(", "));
    Err(Failure::new(Class::Cluster, what)
        .help(format!("see what Helm knows: cargo xtask tool helm -- list --all --filter {release}"))
        .help("have Helm take it over, then remove it: cargo xtask deploy dev && cargo xtask teardown")
        .into())
}

/// Why it fails, Helm says in a line for debugging alone. Its own wait takes an object that it has not seen yet for one
/// that is gone.
fn command(project: &Project, tools: &Toolbox) -> Process {
    let release = &project.settings.chart.release;
    let uninstall = tools.helm().args(["uninstall", release, "--ignore-not-found", "--cascade=foreground", "--debug"]);
    uninstall.log(project.log("helm")).deadline(deadlines::HELM_UNINSTALL)
}

/// The step that ends an uninstall which failed or was killed. The record goes with the revisions that it is about.
pub fn finish<'a>(project: &'a Project, tools: &'a Toolbox, status: &Status) -> Option<Step<'a>> {
    let newest = status.newest().filter(|revision| revision.uninstalling())?;
    let release = &project.settings.chart.release;
    let why = format!("revision {} is uninstalling: the teardown of it did not end", newest.number);
    Some(Step::new(format!("end the uninstall of {release}"), why, command(project, tools), move |_| {
        helm::nobody_at_work(release, &tools.profile)?;
        let now = helm::observe(&secrets::observe(tools)?);
        if !now.newest().is_some_and(helm::Revision::uninstalling) {
            return Ok("it is not uninstalling any more".to_owned());
        }
        uninstall(project, tools)?;
        tools.api()?.delete(&kinds::CONFIG_MAP, record::NAME, Propagation::Background)?;
        Ok(String::new())
    }))
}
