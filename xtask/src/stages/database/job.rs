//! A Job that looks at the database as the backend will: its image, its Secret, its user, its network.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::COMMAND;
use crate::process::Process;
use crate::report::Running;
use crate::snapshot::{Snapshot, text};
use crate::toolbox::Toolbox;

/// How long the pod may take, from its creation on.
const PATIENCE: Duration = Duration::from_secs(75);

/// How it ended.
pub enum Outcome {
    /// The pod ran and said this.
    Said(String),
    /// The pod did not run, and why.
    NotRun(String),
}

/// The Job.
pub struct Job<'a> {
    /// Its name.
    pub name: String,
    tools: &'a Toolbox,
    manifest: Value,
}

impl<'a> Job<'a> {
    /// The Job of `release` with the backend's `image` and `secret`.
    pub fn new(tools: &'a Toolbox, release: &str, image: &str, secret: &str) -> Self {
        let name = format!("{release}-preflight");
        let manifest = manifest(&name, release, image, secret);
        Self { name, tools, manifest }
    }

    /// The command that creates it.
    pub fn create(&self) -> Process {
        self.tools.kubectl_here().args(["create", "--filename", "-"])
    }

    /// Runs it to its end and removes it.
    pub fn run(&self, running: &Running) -> Result<Outcome> {
        // Left by a deploy that was killed meanwhile.
        self.remove("foreground").run().context("removing an old preflight")?;
        self.create().stdin(self.manifest.to_string()).run().context("creating the preflight")?;
        let outcome = self.follow(running);
        self.remove("background").run().context("removing the preflight")?;
        outcome
    }

    fn remove(&self, cascade: &str) -> Process {
        let delete = self.tools.kubectl_here().args(["delete", "job", &self.name, "--ignore-not-found"]);
        delete.arg(format!("--cascade={cascade}"))
    }

    fn follow(&self, running: &Running) -> Result<Outcome> {
        let selector = format!("batch.kubernetes.io/job-name={}", self.name);
        let pods = self.tools.kubectl_here().args(["get", "pods,events", "-o", "json"]);
        let start = Instant::now();
        let mut last = String::new();
        while start.elapsed() < PATIENCE {
            let snapshot = Snapshot::parse(&pods.read()?)?;
            let pod = snapshot
                .kind("Pod")
                .find(|pod| pod["metadata"]["labels"]["batch.kubernetes.io/job-name"] == self.name.as_str());
            match state(pod) {
                State::Ended => {
                    let logs = self.tools.kubectl_here().args(["logs", "-l", &selector, "--tail=20"]);
                    return Ok(Outcome::Said(logs.read()?));
                }
                State::Stuck(why) => return Ok(Outcome::NotRun(why)),
                State::Waiting(what) => {
                    running.progress(&what);
                    last = what;
                }
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        Ok(Outcome::NotRun(format!("not within {} s ({last})", PATIENCE.as_secs())))
    }
}

/// How far the pod is.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Ended,
    Stuck(String),
    Waiting(String),
}

fn state(pod: Option<&Value>) -> State {
    let Some(pod) = pod else { return State::Waiting("its pod is being made".to_owned()) };
    let status = pod.pointer("/status/containerStatuses/0").cloned().unwrap_or_default();
    if status.pointer("/state/terminated").is_some() {
        return State::Ended;
    }
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    if let Some(condition) = conditions.into_iter().find(|c| c["reason"] == "Unschedulable") {
        return State::Stuck(format!("it does not fit on the node: {}", text(condition, "/message")));
    }
    let (reason, message) = (text(&status, "/state/waiting/reason"), text(&status, "/state/waiting/message"));
    match reason {
        "ErrImageNeverPull" | "InvalidImageName" | "CreateContainerConfigError" | "CreateContainerError" => {
            State::Stuck(format!("{reason}: {message}"))
        }
        "" => State::Waiting("it looks".to_owned()),
        _ => State::Waiting(reason.to_owned()),
    }
}

/// What Pod Security `restricted` asks for, the backend's user and mounts; gone by itself should xtask be killed.
fn manifest(name: &str, release: &str, image: &str, secret: &str) -> Value {
    let labels = json!({
        "app.kubernetes.io/name": "todo",
        "app.kubernetes.io/instance": release,
        "app.kubernetes.io/component": "preflight",
        "app.kubernetes.io/part-of": "todo",
        "app.kubernetes.io/managed-by": "xtask",
    });
    let container = json!({
        "name": "preflight",
        "image": image,
        "imagePullPolicy": "Never",
        "command": COMMAND,
        "volumeMounts": [
            {"name": "secrets", "mountPath": "/etc/todo/secrets", "readOnly": true},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        },
    });
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": PATIENCE.as_secs(),
            "ttlSecondsAfterFinished": 120,
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [container],
                    "volumes": [
                        {"name": "secrets", "secret": {"secretName": secret, "defaultMode": 0o440}},
                        {"name": "tmp", "emptyDir": {"sizeLimit": "16Mi"}},
                    ],
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_mounted_and_nowhere_else() {
        let manifest = manifest("todo-preflight", "todo", "todo-backend:1", "todo-backend-0a1b2c3d");
        assert_eq!(manifest.to_string().matches("todo-backend-0a1b2c3d").count(), 1);
        let container = &manifest["spec"]["template"]["spec"]["containers"][0];
        assert!(container.get("env").is_none() && container.get("args").is_none());
    }

    #[test]
    fn a_pod_that_cannot_run_is_not_waited_for() {
        let pod = |status: Value| json!({"status": status});
        let of = |status: Value| state(Some(&pod(status)));
        assert_eq!(state(None), State::Waiting("its pod is being made".to_owned()));
        assert_eq!(of(json!({"containerStatuses": [{"state": {"terminated": {"exitCode": 1}}}]})), State::Ended);
        let waiting =
            |reason: &str| json!({"containerStatuses": [{"state": {"waiting": {"reason": reason, "message": "m"}}}]});
        assert_eq!(of(waiting("ErrImageNeverPull")), State::Stuck("ErrImageNeverPull: m".to_owned()));
        assert_eq!(of(waiting("ContainerCreating")), State::Waiting("ContainerCreating".to_owned()));
        let full = json!({"conditions": [{"reason": "Unschedulable", "message": "0/1 nodes"}]});
        assert_eq!(of(full), State::Stuck("it does not fit on the node: 0/1 nodes".to_owned()));
    }
}
