//! Checks whether the API server of a running node serves, and otherwise whether kubelet will start it.

use std::time::Instant;

use anyhow::Result;
use serde_json::Value;

use super::profile::{self, Profile, ProfileState};
use crate::api::{Health, Scope, kinds};
use crate::clock;
use crate::deadlines;
use crate::failure::{self, Class, Failure};
use crate::process;
use crate::snapshot::text;
use crate::toolbox::Toolbox;

/// Time after the node's start, in seconds, in which pod states may be older than the start.
const RECENT: u64 = 600;

/// The state of a node's API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiServer {
    /// It answers and is ready.
    Ready,
    /// It answers but is not ready, or it does not answer while kubelet runs. The text is the server's or the system's.
    Starting(String),
    /// It does not answer and nothing starts it, e.g. after `docker restart` of the node. The text is the reason.
    Away(String),
}

/// Asks the API server once. Pass a `profile` just observed: port and certificates change when the node starts.
pub fn observe(tools: &Toolbox, profile: &Profile) -> Result<ApiServer> {
    if profile.state != ProfileState::Running {
        return Ok(ApiServer::Away(format!("the node of `{}` is not running", tools.profile)));
    }
    // Missing certificates are no error here: `minikube start` writes them again.
    let words = match tools.api().and_then(|api| api.health()) {
        Ok(Health::Ready) if has_old_pod_states(tools, profile)? => {
            return Ok(ApiServer::Starting("its pod states are older than the node's start".to_owned()));
        }
        Ok(Health::Ready) => return Ok(ApiServer::Ready),
        Ok(Health::NotReady(words)) => return Ok(ApiServer::Starting(words)),
        Ok(Health::Refused(words)) => return Ok(ApiServer::Away(words)),
        Ok(Health::Silent(words)) => words,
        Err(error) if process::ending() => return Err(error),
        Err(error) => return Ok(ApiServer::Away(failure::message(&error))),
    };
    Ok(match kubelet(tools)?.as_str() {
        "active" | "activating" | "reloading" => ApiServer::Starting(words),
        state => ApiServer::Away(format!("{words}; kubelet, which starts it, is {state}")),
    })
}

/// Returns whether pod states are older than the node's start. Then kubelet has not reported since, and no pod runs.
fn has_old_pod_states(tools: &Toolbox, profile: &Profile) -> Result<bool> {
    let recent = |at: &u64| clock::now().saturating_sub(*at) < RECENT;
    let Some(started) = profile.started_at.filter(recent) else { return Ok(false) };
    let pods = tools.api()?.list(&kinds::POD, Scope::Cluster)?.items;
    let on_node = pods.iter().filter(|pod| text(pod, "/spec/nodeName") == tools.profile);
    let mut containers = on_node.filter_map(|pod| pod.pointer("/status/containerStatuses")?.as_array()).flatten();
    let is_old = |status: &Value| clock::parse(text(status, "/state/running/startedAt")).is_some_and(|at| at < started);
    Ok(containers.any(is_old))
}

/// Polls the API server while it is starting, for at most [`deadlines::API_START`]. Pass a `profile` as for [`observe`].
pub fn wait(tools: &Toolbox, profile: &Profile) -> Result<ApiServer> {
    let begun = Instant::now();
    let mut answer = observe(tools, profile)?;
    while matches!(answer, ApiServer::Starting(_)) && begun.elapsed() < deadlines::API_START.time() {
        std::thread::sleep(deadlines::API_START_POLL.time());
        answer = observe(tools, &profile::observe(tools)?)?;
    }
    Ok(answer)
}

/// Returns the state of kubelet from the node's systemd: `active`, `inactive`, `failed`, …
fn kubelet(tools: &Toolbox) -> Result<String> {
    let ask = tools.first_node().exec(["systemctl", "is-active", "kubelet"]).deadline(deadlines::NODE);
    // The exit code is not 0 for any state but `active`.
    let output = ask.output()?;
    let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if state.is_empty() || state == "unknown" {
        let words = String::from_utf8_lossy(&output.stderr);
        let what = format!("node {} does not report whether kubelet runs: {}", tools.profile, words.trim());
        return Err(Failure::new(Class::Cluster, what)
            .help(format!("cargo xtask tool docker -- exec {} systemctl status kubelet", tools.profile))
            .into());
    }
    Ok(state)
}
