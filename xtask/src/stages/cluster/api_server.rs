//! Whether the API server of a running node serves, and if not, whether it will by itself.

use std::time::Instant;

use anyhow::Result;

use super::profile::{self, Profile, State};
use crate::api::Health;
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::process;
use crate::toolbox::Toolbox;

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
    if profile.state != State::Running {
        return Ok(ApiServer::Away(format!("the node of `{}` does not run", tools.profile)));
    }
    // minikube renews certificates that are missing, so that is no reason to end.
    let words = match tools.api().and_then(|api| api.health()) {
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

/// Asks until it is ready, is away, or has been starting for too long.
pub fn wait(tools: &Toolbox) -> Result<ApiServer> {
    let begun = Instant::now();
    loop {
        match look(tools, &profile::observe(tools)?)? {
            ApiServer::Starting(_) if begun.elapsed() < deadlines::API_START.time() => {
                std::thread::sleep(deadlines::API_START_POLL.time())
            }
            answer => return Ok(answer),
        }
    }
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
