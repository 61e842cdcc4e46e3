//! Whether the API server of a running node serves, and if not, whether it will by itself.

use std::time::Instant;

use anyhow::Result;
use serde_json::Value;

use super::profile::{self, Profile, ProfileState};
use crate::api::{Health, Scope, kinds};
use crate::clock;
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::process;
use crate::snapshot::text;
use crate::toolbox::Toolbox;

/// How long after the node's start what the API server says may be from before, in seconds.
const RECENT: u64 = 600;

/// How the API server of a running node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiServer {
    /// It answers, and is ready.
    Ready,
    /// kubelet runs, which starts it, or it answers but is not ready: in its or the system's words.
    Starting(String),
    /// It does not answer and nothing on the node starts it, e.g. after a restart of the node by docker.
    Away(String),
}

/// Asks once. `profile` must be a fresh look, because port and certificates change when the node starts.
pub fn look(tools: &Toolbox, profile: &Profile) -> Result<ApiServer> {
    if profile.state != ProfileState::Running {
        return Ok(ApiServer::Away(format!("the node of `{}` does not run", tools.profile)));
    }
    // minikube renews certificates that are missing, so that is no reason to end.
    let words = match tools.api().and_then(|api| api.health()) {
        Ok(Health::Ready) if is_stale(tools, profile)? => {
            return Ok(ApiServer::Starting("what it says of the pods is from before the node started".to_owned()));
        }
        Ok(Health::Ready) => return Ok(ApiServer::Ready),
        Ok(Health::NotReady(words)) => return Ok(ApiServer::Starting(words)),
        Ok(Health::Refused(words)) => return Ok(ApiServer::Away(words)),
        Ok(Health::Silent(words)) => words,
        Err(error) if process::ending() => return Err(error),
        Err(error) => return Ok(ApiServer::Away(error.to_string())),
    };
    Ok(match kubelet(tools)?.as_str() {
        "active" | "activating" | "reloading" => ApiServer::Starting(words),
        state => ApiServer::Away(format!("{words}; kubelet, which starts it, is {state}")),
    })
}

/// Whether the states of pods are older than the node's start: kubelet has not reported them since, and none of them runs.
fn is_stale(tools: &Toolbox, profile: &Profile) -> Result<bool> {
    let recent = |at: &u64| clock::now().saturating_sub(*at) < RECENT;
    let Some(started) = profile.started_at.filter(recent) else { return Ok(false) };
    let pods = tools.api()?.list(&kinds::POD, Scope::Cluster)?.items;
    let here = pods.iter().filter(|pod| text(pod, "/spec/nodeName") == tools.profile);
    let mut containers = here.filter_map(|pod| pod.pointer("/status/containerStatuses")?.as_array()).flatten();
    let before = |status: &Value| clock::parse(text(status, "/state/running/startedAt")).is_some_and(|at| at < started);
    Ok(containers.any(before))
}

/// Asks until it is ready, is away, or has been starting for too long. `profile` must be a fresh look, as for [`look`].
pub fn wait(tools: &Toolbox, profile: &Profile) -> Result<ApiServer> {
    let begun = Instant::now();
    let mut answer = look(tools, profile)?;
    while matches!(answer, ApiServer::Starting(_)) && begun.elapsed() < deadlines::API_START.time() {
        std::thread::sleep(deadlines::API_START_POLL.time());
        answer = look(tools, &profile::observe(tools)?)?;
    }
    Ok(answer)
}

/// What the node's systemd says of kubelet: `active`, `inactive`, `failed`, …
fn kubelet(tools: &Toolbox) -> Result<String> {
    let ask = tools.first_node().exec(["systemctl", "is-active", "kubelet"]).deadline(deadlines::NODE);
    // It fails where the answer is another one than `active`.
    let output = ask.output()?;
    let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if state.is_empty() || state == "unknown" {
        let words = String::from_utf8_lossy(&output.stderr);
        let what = format!("node {} does not say whether kubelet runs: {}", tools.profile, words.trim());
        return Err(Failure::new(Class::Cluster, what)
            .help(format!("cargo xtask tool docker -- exec {} systemctl status kubelet", tools.profile))
            .into());
    }
    Ok(state)
}
