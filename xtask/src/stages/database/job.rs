//! A Job that looks at the database as the backend will: its image, its Secret, its user, its network.

use std::io::BufRead;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::COMMAND;
use crate::api::{Api, Log, LogOptions, Propagation, Scope, Write, kinds};
use crate::deadlines;
use crate::report::Running;
use crate::snapshot::text;
use crate::toolbox::Toolbox;

/// The name of its container.
const CONTAINER: &str = "preflight";

/// How it ended.
pub enum JobOutcome {
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

    /// The request that creates it.
    pub fn shown(&self) -> String {
        format!("POST {}", kinds::JOB.collection(self.tools.namespace(), Scope::Namespace))
    }

    /// Runs it to its end and removes it.
    pub fn run(&self, running: &Running) -> Result<JobOutcome> {
        let api = self.tools.api()?;
        // Left by a deploy that was killed meanwhile.
        api.delete(&kinds::JOB, &self.name, Propagation::Foreground).context("removing an old preflight")?;
        let job = match api.create(&self.manifest).context("creating the preflight")? {
            Write::Done(job) => job,
            Write::Conflict(words) => bail!("somebody else creates the preflight at the same time: {words}"),
        };
        let outcome = self.follow(&api, text(&job, "/metadata/uid"), running);
        api.delete(&kinds::JOB, &self.name, Propagation::Background).context("removing the preflight")?;
        outcome
    }

    /// Follows the pod of the Job with this UID. A pod of an earlier Job of the same name may not be gone yet.
    fn follow(&self, api: &Api, uid: &str, running: &Running) -> Result<JobOutcome> {
        let selector = format!("batch.kubernetes.io/controller-uid={uid}");
        let start = Instant::now();
        let mut last = String::new();
        while start.elapsed() < deadlines::PREFLIGHT_JOB.time() {
            let pods = api.select(&kinds::POD, Scope::Namespace, &selector)?;
            let pod = pods.first();
            match state(pod) {
                State::Ended => return log(api, text(pod.unwrap_or(&Value::Null), "/metadata/name")),
                State::Stuck(why) => return Ok(JobOutcome::NotRun(why)),
                State::Waiting(what) => {
                    running.progress(&what);
                    last = what;
                }
            }
            std::thread::sleep(deadlines::POLL.time());
        }
        Ok(JobOutcome::NotRun(format!("not within {} s ({last})", deadlines::PREFLIGHT_JOB.as_secs())))
    }
}

/// What the pod said.
fn log(api: &Api, pod: &str) -> Result<JobOutcome> {
    let options = LogOptions { tail: Some(20), ..LogOptions::default() };
    match api.log(pod, CONTAINER, &options)? {
        Log::Lines(lines) => Ok(JobOutcome::Said(lines.lines().collect::<std::io::Result<Vec<_>>>()?.join("\n"))),
        Log::Nothing(words) => Ok(JobOutcome::NotRun(format!("its log cannot be read: {words}"))),
        Log::NoPod => Ok(JobOutcome::NotRun(format!("pod {pod} was deleted before its log was read"))),
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
        "name": CONTAINER,
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
            "activeDeadlineSeconds": deadlines::PREFLIGHT_JOB.as_secs(),
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
