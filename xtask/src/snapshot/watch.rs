//! Keeps a snapshot up to date: a watch for each kind that a rollout changes.
//!
//! Events of a watch are applied at once. A whole snapshot from time to time corrects missed events. A watch breaks when the
//! API server restarts or no longer has the resource version; then a whole snapshot is taken and all watches start again.

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

/// Lines that are read from the end of a log.
const LOG_LINES: u32 = 3;

/// A message from the thread of a watch.
enum WatchMessage {
    Event(Value),
    Broken,
}

/// A snapshot that follows the cluster. Closes its connections when dropped.
pub struct Watch<'a> {
    tools: &'a Toolbox,
    snapshot: Snapshot,
    /// Time of the last whole snapshot.
    refreshed: Instant,
    messages: Receiver<WatchMessage>,
    streams: Arc<Streams>,
}

impl<'a> Watch<'a> {
    /// Takes a whole snapshot and starts to watch from its resource versions.
    pub fn start(tools: &'a Toolbox) -> Result<Self> {
        let snapshot = take_whole(tools)?;
        let refreshed = Instant::now();
        let (messages, streams) = watch_all(tools, &snapshot)?;
        Ok(Self { tools, snapshot, refreshed, messages, streams })
    }

    /// Returns the snapshot as of the events until now.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Ends the watch and returns its snapshot.
    pub fn into_snapshot(mut self) -> Snapshot {
        std::mem::take(&mut self.snapshot)
    }

    /// Takes a whole snapshot.
    pub fn refresh(&mut self) -> Result<&Snapshot> {
        let snapshot = take_whole(self.tools)?;
        // The new snapshot includes all events until now; only the parts that no watch keeps are carried over.
        let (cluster, logs) = (std::mem::take(&mut self.snapshot.cluster), std::mem::take(&mut self.snapshot.logs));
        self.snapshot = Snapshot { cluster, logs, ..snapshot };
        self.refreshed = Instant::now();
        Ok(&self.snapshot)
    }

    /// Adds the objects of the whole cluster that explain causes.
    pub fn add_cluster(&mut self) -> Result<()> {
        self.snapshot.add_cluster(self.tools)
    }

    /// Adds the ends of the logs of `containers` (pod and container). Skips a log that cannot be read now; the next call
    /// tries again.
    pub fn add_logs(&mut self, containers: &[(String, String)]) -> Result<()> {
        let api = self.tools.api()?;
        let options = LogOptions { tail: Some(LOG_LINES), ..LogOptions::default() };
        for (pod, container) in containers {
            if let Ok(Some(text)) = inventory::log(&api, pod, container, &options) {
                self.snapshot.add_log(pod, container, text);
            }
        }
        Ok(())
    }

    /// Waits for an event, at most `limit`, and returns the snapshot then.
    pub fn next(&mut self, limit: Duration) -> Result<&Snapshot> {
        let mut wait = limit;
        loop {
            match self.messages.recv_timeout(wait) {
                Ok(WatchMessage::Event(event)) => self.snapshot.apply(event),
                Ok(WatchMessage::Broken) | Err(RecvTimeoutError::Disconnected) => {
                    self.streams.close();
                    std::thread::sleep(limit.min(deadlines::LIST_POLL.time()));
                    self.refresh()?;
                    (self.messages, self.streams) = watch_all(self.tools, &self.snapshot)?;
                    return Ok(&self.snapshot);
                }
                Err(RecvTimeoutError::Timeout) => break,
            }
            wait = deadlines::GATHER.time();
        }
        self.snapshot.taken = clock::now();
        if self.refreshed.elapsed() > deadlines::LIST_AGAIN.time() { self.refresh() } else { Ok(&self.snapshot) }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        // The threads hold the streams too, so dropping them closes nothing.
        self.streams.close();
    }
}

/// Takes a whole snapshot. Retries while the API server does not answer, up to [`deadlines::API_AWAY`].
fn take_whole(tools: &Toolbox) -> Result<Snapshot> {
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
fn watch_all(tools: &Toolbox, snapshot: &Snapshot) -> Result<(Receiver<WatchMessage>, Arc<Streams>)> {
    let (sender, messages) = mpsc::channel();
    let streams = Arc::new(tools.api()?.streams());
    for resource in KINDS {
        let version = snapshot.versions.get(resource.kind).cloned().unwrap_or_default();
        let (streams, sender) = (streams.clone(), sender.clone());
        std::thread::spawn(move || {
            let ended = streams.watch(&resource, &version, |event| sender.send(WatchMessage::Event(event)).is_ok());
            if ended.is_err() {
                let _ = sender.send(WatchMessage::Broken);
            }
        });
    }
    Ok((messages, streams))
}

impl Snapshot {
    /// Applies one event of a watch: `{"type": "MODIFIED", "object": {…}}`.
    fn apply(&mut self, mut event: Value) {
        let is_deleted = event["type"] == "DELETED";
        if !is_deleted && event["type"] != "ADDED" && event["type"] != "MODIFIED" {
            return;
        }
        let object = event["object"].take();
        let is_same = |other: &Value| {
            other["kind"] == object["kind"] && text(other, "/metadata/name") == text(&object, "/metadata/name")
        };
        let known = self.objects.iter().position(is_same);
        match known {
            Some(at) if is_deleted => {
                // A new pod of a StatefulSet may have the same name already.
                if text(&self.objects[at], "/metadata/uid") == text(&object, "/metadata/uid") {
                    self.objects.remove(at);
                }
            }
            Some(at) if version(&object) >= version(&self.objects[at]) => self.objects[at] = object,
            None if !is_deleted => self.objects.push(object),
            Some(_) | None => {}
        }
    }
}

/// Returns the version of `object`. A watch starts with existing objects, which may be older than the whole snapshot.
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
    fn events_are_applied_unless_the_snapshot_is_newer() {
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
