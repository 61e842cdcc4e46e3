//! A Job that checks the database as the backend will use it: with its image, Secret, user and network.

use std::io::BufRead;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::api::{Api, Log, LogOptions, Propagation, Scope, Write, kinds};
use crate::deadlines;
use crate::labels::Release;
use crate::report::Running;
use crate::settings::Application;
use crate::snapshot::text;
use crate::toolbox::Toolbox;

/// The name of its container.
const CONTAINER: &str = "preflight";

/// The result of the Job.
pub enum JobOutcome {
    /// The pod ran, and printed this.
    Output(String),
    /// The pod did not run, for this reason.
    NotRun(String),
}

/// The preflight Job.
pub struct Job<'a> {
    /// Its name.
    pub name: String,
    tools: &'a Toolbox,
    manifest: Value,
}

impl<'a> Job<'a> {
    /// Returns the Job with the backend's `image` and `secret`.
    pub fn new(application: &Application, tools: &'a Toolbox, image: &str, secret: &str) -> Self {
        let name = format!("{}-preflight", tools.release().name);
        let manifest = manifest(application, &name, tools.release(), image, secret);
        Self { name, tools, manifest }
    }

    /// Returns the request that creates it, for a step to show.
    pub fn shown_request(&self) -> String {
        format!("POST {}", kinds::JOB.collection(self.tools.namespace(), Scope::Namespace))
    }

    /// Runs it to its end and removes it.
    pub fn run(&self, running: &Running) -> Result<JobOutcome> {
        let api = self.tools.api()?;
        // A deploy that was killed may have left one.
        api.delete(&kinds::JOB, &self.name, Propagation::Foreground).context("removing an old preflight")?;
        let job = match api.create(&self.manifest).context("creating the preflight")? {
            Write::Done(job) => job,
            Write::Conflict(words) => bail!("somebody else creates the preflight at the same time: {words}"),
        };
        let outcome = self.follow(&api, text(&job, "/metadata/uid"), running);
        api.delete(&kinds::JOB, &self.name, Propagation::Background).context("removing the preflight")?;
        outcome
    }

    /// Follows the pod of the Job with this UID: a pod of an earlier Job of the same name may still exist.
    fn follow(&self, api: &Api, uid: &str, running: &Running) -> Result<JobOutcome> {
        let selector = format!("batch.kubernetes.io/controller-uid={uid}");
        let start = Instant::now();
        let mut last = String::new();
        while start.elapsed() < deadlines::PREFLIGHT_JOB.time() {
            let pods = api.select(&kinds::POD, Scope::Namespace, &selector)?;
            let pod = pods.first();
            match pod_state(pod) {
                PodState::Ended => return read_output(api, text(pod.unwrap_or(&Value::Null), "/metadata/name")),
                PodState::Stuck(why) => return Ok(JobOutcome::NotRun(why)),
                PodState::Waiting(what) => {
                    running.progress(&what);
                    last = what;
                }
            }
            std::thread::sleep(deadlines::POLL.time());
        }
        Ok(JobOutcome::NotRun(format!("it did not end within {} s ({last})", deadlines::PREFLIGHT_JOB.as_secs())))
    }
}

/// Reads the output of the pod.
fn read_output(api: &Api, pod: &str) -> Result<JobOutcome> {
    let options = LogOptions { tail: Some(20), ..LogOptions::default() };
    match api.log(pod, CONTAINER, &options)? {
        Log::Lines(lines) => Ok(JobOutcome::Output(lines.lines().collect::<std::io::Result<Vec<_>>>()?.join("\n"))),
        Log::Nothing(words) => Ok(JobOutcome::NotRun(format!("its log cannot be read: {words}"))),
        Log::NoPod => Ok(JobOutcome::NotRun(format!("pod {pod} was deleted before its log was read"))),
    }
}

/// The progress of the pod.
#[derive(Debug, PartialEq, Eq)]
enum PodState {
    Ended,
    Stuck(String),
    Waiting(String),
}

fn pod_state(pod: Option<&Value>) -> PodState {
    let Some(pod) = pod else { return PodState::Waiting("its pod is being created".to_owned()) };
    let status = pod.pointer("/status/containerStatuses/0").cloned().unwrap_or_default();
    if status.pointer("/state/terminated").is_some() {
        return PodState::Ended;
    }
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    if let Some(condition) = conditions.into_iter().find(|c| c["reason"] == "Unschedulable") {
        return PodState::Stuck(format!("it does not fit on the node: {}", text(condition, "/message")));
    }
    let (reason, message) = (text(&status, "/state/waiting/reason"), text(&status, "/state/waiting/message"));
    match reason {
        "ErrImageNeverPull" | "InvalidImageName" | "CreateContainerConfigError" | "CreateContainerError" => {
            PodState::Stuck(format!("{reason}: {message}"))
        }
        "" => PodState::Waiting("it checks the database".to_owned()),
        _ => PodState::Waiting(reason.to_owned()),
    }
}

/// Returns the manifest: allowed by Pod Security `restricted`, with the backend's user and mounts. Kubernetes deletes the Job
/// by itself if xtask is killed.
fn manifest(application: &Application, name: &str, release: &Release, image: &str, secret: &str) -> Value {
    let labels = release.component_labels("preflight");
    let container = json!({
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": "Never",
        "command": application.preflight,
        "volumeMounts": [
            {"name": "secrets", "mountPath": application.secrets, "readOnly": true},
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
    fn the_secret_is_only_mounted() {
        let application = Application {
            identity_header: String::new(),
            preflight: vec!["check".to_owned()],
            secrets: "/etc/shop".to_owned(),
            migrations: String::new(),
            assistant_url: String::new(),
        };
        let release = Release::of("todo", "todo");
        let manifest = manifest(&application, "todo-preflight", &release, "todo-backend:1", "todo-backend-0a1b2c3d");
        assert_eq!(manifest.to_string().matches("todo-backend-0a1b2c3d").count(), 1);
        let container = &manifest["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(
            (&container["command"], &container["volumeMounts"][0]["mountPath"]),
            (&json!(["check"]), &json!("/etc/shop"))
        );
        assert!(container.get("env").is_none() && container.get("args").is_none());
    }

    #[test]
    fn a_pod_that_cannot_run_is_not_waited_for() {
        let pod = |status: Value| json!({"status": status});
        let of = |status: Value| pod_state(Some(&pod(status)));
        assert_eq!(pod_state(None), PodState::Waiting("its pod is being created".to_owned()));
        assert_eq!(of(json!({"containerStatuses": [{"state": {"terminated": {"exitCode": 1}}}]})), PodState::Ended);
        let waiting =
            |reason: &str| json!({"containerStatuses": [{"state": {"waiting": {"reason": reason, "message": "m"}}}]});
        assert_eq!(of(waiting("ErrImageNeverPull")), PodState::Stuck("ErrImageNeverPull: m".to_owned()));
        assert_eq!(of(waiting("ContainerCreating")), PodState::Waiting("ContainerCreating".to_owned()));
        let full = json!({"conditions": [{"reason": "Unschedulable", "message": "0/1 nodes"}]});
        assert_eq!(of(full), PodState::Stuck("it does not fit on the node: 0/1 nodes".to_owned()));
    }
}
