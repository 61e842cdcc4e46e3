//! Keeps a snapshot up to date: a `kubectl get --watch` for each kind that a rollout changes.
//!
//! What a watch says is applied at once; a fresh snapshot every now and then corrects what was missed, and takes over
//! where a watch breaks (the API server restarts, or a proxy cuts long connections).

use std::io::BufReader;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use super::{Snapshot, number, text};
use crate::clock;
use crate::process::Piped;
use crate::toolbox::Toolbox;

/// kubectl watches one kind at a time.
const KINDS: [&str; 6] = ["pods", "events", "deployments", "replicasets", "statefulsets", "persistentvolumeclaims"];

/// How long changes are gathered: one change of a Deployment comes as several events.
const GATHER: Duration = Duration::from_millis(40);
/// How old the last whole snapshot may be.
const FRESH: Duration = Duration::from_secs(20);
/// How often a whole snapshot is taken where a watch has broken.
const POLL: Duration = Duration::from_millis(800);
/// How long the API server may be away before that is an error.
const AWAY: Duration = Duration::from_secs(30);
/// No watch lives longer: rollouts do not either.
const LIFETIME: Duration = Duration::from_secs(900);

enum Change {
    Event(Value),
    Broken,
}

/// A snapshot that follows the cluster. Ends its children when dropped.
pub struct Watch<'a> {
    tools: &'a Toolbox,
    snapshot: Snapshot,
    changes: Receiver<Change>,
    children: Vec<(Arc<Piped>, JoinHandle<()>)>,
    broken: bool,
    whole: Instant,
}

impl<'a> Watch<'a> {
    /// Starts to watch, then takes a whole snapshot.
    pub fn start(tools: &'a Toolbox) -> Result<Self> {
        let (sender, changes) = mpsc::channel();
        let mut children = Vec::new();
        for kind in KINDS {
            children.push(child(tools, kind, sender.clone())?);
        }
        let snapshot = Snapshot::default();
        let mut watch = Self { tools, snapshot, changes, children, broken: false, whole: Instant::now() };
        watch.refresh()?;
        Ok(watch)
    }

    /// What is known now.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Asks for everything anew.
    pub fn refresh(&mut self) -> Result<&Snapshot> {
        let start = Instant::now();
        loop {
            match Snapshot::take(self.tools) {
                Ok(snapshot) => {
                    // What the watches have said until now is older than this.
                    self.snapshot = Snapshot { cluster: std::mem::take(&mut self.snapshot.cluster), ..snapshot };
                    self.whole = Instant::now();
                    return Ok(&self.snapshot);
                }
                Err(error) if start.elapsed() > AWAY || crate::process::ending() => return Err(error),
                Err(_) => std::thread::sleep(POLL),
            }
        }
    }

    /// Adds what is needed of the whole cluster to what is known.
    pub fn add_cluster(&mut self) -> Result<()> {
        self.snapshot.add_cluster(self.tools)
    }

    /// Waits for a change, at most `limit`, and gives what is known then.
    pub fn next(&mut self, limit: Duration) -> Result<&Snapshot> {
        if self.broken {
            std::thread::sleep(limit.min(POLL));
            return self.refresh();
        }
        let mut wait = limit;
        loop {
            match self.changes.recv_timeout(wait) {
                Ok(Change::Event(event)) => self.snapshot.apply(event),
                Ok(Change::Broken) | Err(RecvTimeoutError::Disconnected) => {
                    self.broken = true;
                    return self.refresh();
                }
                Err(RecvTimeoutError::Timeout) => break,
            }
            wait = GATHER;
        }
        self.snapshot.taken = clock::now();
        if self.whole.elapsed() > FRESH { self.refresh() } else { Ok(&self.snapshot) }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.children.iter().for_each(|(child, _)| child.kill());
        for (_, reader) in self.children.drain(..) {
            let _ = reader.join();
        }
    }
}

fn child(tools: &Toolbox, kind: &str, changes: Sender<Change>) -> Result<(Arc<Piped>, JoinHandle<()>)> {
    let watch = tools.kubectl_here().args(["get", kind, "--watch", "--output-watch-events", "-o", "json"]);
    let child = Arc::new(watch.arg("--request-timeout=0").deadline(LIFETIME).pipe_from(None)?);
    let reading = child.clone();
    let reader = std::thread::spawn(move || {
        let stream = serde_json::Deserializer::from_reader(BufReader::new(reading.reader()));
        for event in stream.into_iter::<Value>().map_while(Result::ok) {
            if changes.send(Change::Event(event)).is_err() {
                return;
            }
        }
        let _ = changes.send(Change::Broken);
    });
    Ok((child, reader))
}

impl Snapshot {
    /// Takes in one event of a watch: `{"type": "MODIFIED", "object": {…}}`.
    fn apply(&mut self, mut event: Value) {
        let gone = event["type"] == "DELETED";
        if !gone && event["type"] != "ADDED" && event["type"] != "MODIFIED" {
            return;
        }
        let object = event["object"].take();
        let same = |other: &Value| {
            other["kind"] == object["kind"] && text(other, "/metadata/name") == text(&object, "/metadata/name")
        };
        let known = self.objects.iter().position(same);
        match known {
            Some(at) if gone => {
                // A pod of a StatefulSet may be back already under the same name.
                if text(&self.objects[at], "/metadata/uid") == text(&object, "/metadata/uid") {
                    self.objects.remove(at);
                }
            }
            Some(at) if version(&object) >= version(&self.objects[at]) => self.objects[at] = object,
            None if !gone => self.objects.push(object),
            Some(_) | None => {}
        }
    }
}

/// When the API server changed it last. A watch begins with what there was, which a whole snapshot may have overtaken.
fn version(object: &Value) -> u64 {
    text(object, "/metadata/resourceVersion").parse().unwrap_or_else(|_| number(object, "/metadata/generation"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, version: &str) -> Value {
        json!({"kind": "Pod", "metadata": {"name": "todo-postgres-0", "uid": uid, "resourceVersion": version}})
    }

    fn versions(snapshot: &Snapshot) -> Vec<&str> {
        snapshot.kind("Pod").map(|pod| text(pod, "/metadata/resourceVersion")).collect()
    }

    #[test]
    fn events_are_taken_in_and_old_ones_are_not() {
        let mut snapshot = Snapshot::default();
        snapshot.apply(json!({"type": "ADDED", "object": pod("a", "5")}));
        snapshot.apply(json!({"type": "MODIFIED", "object": pod("a", "10")}));
        snapshot.apply(json!({"type": "ADDED", "object": pod("a", "9")}));
        snapshot.apply(json!({"type": "ERROR", "object": {"kind": "Status"}}));
        assert_eq!(versions(&snapshot), ["10"]);
    }

    #[test]
    fn the_end_of_a_pod_is_not_the_end_of_its_successor() {
        let mut snapshot = Snapshot::default();
        snapshot.apply(json!({"type": "ADDED", "object": pod("b", "12")}));
        snapshot.apply(json!({"type": "DELETED", "object": pod("a", "11")}));
        assert_eq!(versions(&snapshot), ["12"]);
        snapshot.apply(json!({"type": "DELETED", "object": pod("b", "13")}));
        assert!(versions(&snapshot).is_empty());
    }
}
