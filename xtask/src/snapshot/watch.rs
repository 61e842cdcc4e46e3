//! Keeps a snapshot up to date: a watch for each kind that a rollout changes.
//!
//! What a watch says is applied at once. A fresh snapshot every now and then corrects what was missed, and takes over
//! where a watch breaks, because the API server restarts or has forgotten the version; then all watches begin anew.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use super::{Snapshot, number, text};
use crate::api::{LogOptions, Resource, Streams, kinds};
use crate::clock;
use crate::deadlines;
use crate::inventory;
use crate::toolbox::Toolbox;

/// The kinds that a rollout changes.
pub(crate) const KINDS: [Resource; 6] = [
    kinds::POD,
    kinds::EVENT,
    kinds::DEPLOYMENT,
    kinds::REPLICA_SET,
    kinds::STATEFUL_SET,
    kinds::PERSISTENT_VOLUME_CLAIM,
];

/// Lines of a log that are looked at.
const LINES: u32 = 3;

enum Change {
    Event(Value),
    Broken,
}

/// A snapshot that follows the cluster. Closes its connections when dropped.
pub struct Watch<'a> {
    tools: &'a Toolbox,
    snapshot: Snapshot,
    whole: Instant,
    changes: Receiver<Change>,
    streams: Arc<Streams>,
}

impl<'a> Watch<'a> {
    /// Takes a whole snapshot and watches from there on.
    pub fn start(tools: &'a Toolbox) -> Result<Self> {
        let snapshot = whole(tools)?;
        let whole = Instant::now();
        let (changes, streams) = begin(tools, &snapshot)?;
        Ok(Self { tools, snapshot, whole, changes, streams })
    }

    /// What is known now.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Asks for everything anew.
    pub fn refresh(&mut self) -> Result<&Snapshot> {
        let snapshot = whole(self.tools)?;
        // What the watches have said until now is older than this.
        let (cluster, logs) = (std::mem::take(&mut self.snapshot.cluster), std::mem::take(&mut self.snapshot.logs));
        self.snapshot = Snapshot { cluster, logs, ..snapshot };
        self.whole = Instant::now();
        Ok(&self.snapshot)
    }

    /// Adds what is needed of the whole cluster to what is known.
    pub fn add_cluster(&mut self) -> Result<()> {
        self.snapshot.add_cluster(self.tools)
    }

    /// Adds the ends of the logs of `containers` (pod and container) to what is known. A log that cannot be read now
    /// explains nothing; it is asked for again.
    pub fn add_logs(&mut self, containers: &[(String, String)]) -> Result<()> {
        let api = self.tools.api()?;
        let options = LogOptions { tail: Some(LINES), ..LogOptions::default() };
        for (pod, container) in containers {
            if let Ok(Some(text)) = inventory::log(&api, pod, container, &options) {
                self.snapshot.add_log(pod, container, text);
            }
        }
        Ok(())
    }

    /// Waits for a change, at most `limit`, and gives what is known then.
    pub fn next(&mut self, limit: Duration) -> Result<&Snapshot> {
        let mut wait = limit;
        loop {
            match self.changes.recv_timeout(wait) {
                Ok(Change::Event(event)) => self.snapshot.apply(event),
                Ok(Change::Broken) | Err(RecvTimeoutError::Disconnected) => {
                    self.streams.close();
                    std::thread::sleep(limit.min(deadlines::LIST_POLL.time()));
                    self.refresh()?;
                    (self.changes, self.streams) = begin(self.tools, &self.snapshot)?;
                    return Ok(&self.snapshot);
                }
                Err(RecvTimeoutError::Timeout) => break,
            }
            wait = deadlines::GATHER.time();
        }
        self.snapshot.taken = clock::now();
        if self.whole.elapsed() > deadlines::LIST_AGAIN.time() { self.refresh() } else { Ok(&self.snapshot) }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        // The threads have a hold on the streams too.
        self.streams.close();
    }
}

/// A whole snapshot, from an API server that may be away for a while.
fn whole(tools: &Toolbox) -> Result<Snapshot> {
    let start = Instant::now();
    loop {
        match Snapshot::take(tools) {
            Ok(snapshot) => return Ok(snapshot),
            Err(error) if start.elapsed() > deadlines::API_AWAY.time() || crate::process::ending() => {
                return Err(error);
            }
            Err(_) => std::thread::sleep(deadlines::LIST_POLL.time()),
        }
    }
}

/// Watches every kind from the versions of `snapshot` on, each in a thread that ends with its stream.
fn begin(tools: &Toolbox, snapshot: &Snapshot) -> Result<(Receiver<Change>, Arc<Streams>)> {
    let (sender, changes) = mpsc::channel();
    let streams = Arc::new(tools.api()?.streams());
    for resource in KINDS {
        let version = snapshot.versions.get(resource.kind).cloned().unwrap_or_default();
        let (streams, sender) = (streams.clone(), sender.clone());
        std::thread::spawn(move || {
            let ended = streams.watch(&resource, &version, |event| sender.send(Change::Event(event)).is_ok());
            if ended.is_err() {
                let _ = sender.send(Change::Broken);
            }
        });
    }
    Ok((changes, streams))
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
