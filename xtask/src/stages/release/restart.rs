//! Restarts workloads whose pods run an older image than the node has under the same tag. The tag stays the same when a lost
//! image is built again or a base image is renewed, so neither Helm nor Kubernetes replaces the pods.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::json;

use super::{evidence, rollout};
use crate::api::{Api, Resource};
use crate::clock;
use crate::deadlines;
use crate::node::Images;
use crate::origin::bases::short;
use crate::plan::{self, Changes, Mode, Step};
use crate::secrets::Redactor;
use crate::snapshot::{RESTARTED, Snapshot, text};
use crate::stages::proof::{Outdated, outdated};
use crate::toolbox::Toolbox;

/// The field manager of `kubectl rollout restart`: its fields survive an upgrade and do not count as drift.
const MANAGER: &str = "kubectl-rollout";

/// Restarts our workloads whose pods run another image than `built` (ID by reference).
pub fn restart_outdated(
    tools: &Toolbox,
    built: &BTreeMap<String, String>,
    nodes: &BTreeMap<String, Images>,
    snapshot: &Snapshot,
    redactor: &Redactor,
    mode: Mode,
) -> Result<Changes> {
    let outdated = outdated(built, nodes, snapshot);
    let steps = if outdated.is_empty() { Vec::new() } else { vec![restart_step(tools, &outdated, redactor)?] };
    plan::apply(&tools.report, "release", mode, steps)
}

/// Returns the step that restarts all `outdated` workloads and follows their rollout.
fn restart_step<'a>(tools: &'a Toolbox, outdated: &[Outdated<'_>], redactor: &Redactor) -> Result<Step<'a>> {
    let now = clock::rfc3339(clock::now());
    let mut patches = Vec::new();
    let (mut names, mut why, mut shown) = (Vec::new(), Vec::new(), Vec::new());
    for Outdated { workload, reference, runs, wanted } in outdated {
        let resource = Resource::of(workload)?;
        let name = text(workload, "/metadata/name");
        let patch = json!({"apiVersion": resource.api_version(), "kind": resource.kind,
            "metadata": {"name": name, "namespace": tools.namespace()},
            "spec": {"template": {"metadata": {"annotations": {RESTARTED: now}}}}});
        names.push(name);
        why.push(format!("{name} runs {} as {reference}, which is {} now", short(runs), short(wanted)));
        shown.push(Api::shown_apply(&patch, tools.namespace(), MANAGER));
        patches.push(patch);
    }
    let redactor = redactor.clone();
    let what = format!("restart {}", names.join(" and "));
    Ok(Step::new(what, why.join("; "), shown.join("\n"), move |running| {
        let api = tools.api()?;
        for patch in &patches {
            api.apply(patch, MANAGER)?;
        }
        let Err(failed) = rollout::follow(tools, running, deadlines::ROLLOUT)? else {
            return Ok("all replicas ready".to_owned());
        };
        let failure = evidence::explain(tools, &redactor, &failed);
        Err(failure.append("\n  nothing is undone: the image that the old pods run exists nowhere else").into())
    }))
}
