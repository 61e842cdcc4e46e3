//! Simulates the controllers and the kubelet, which the sandbox lacks: Deployments and StatefulSets get pods, pods get
//! a node and run or crash, Services get endpoints, and objects without an owner are deleted.

mod garbage;
mod kubelet;
mod workloads;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use serde_json::{Value, json};

use crate::etcd::{Etcd, Objects, Write};
use crate::machine::{DNS_IMAGE, Machine, digest};

/// What is gathered after a change before it is played.
const TICK: Duration = Duration::from_millis(10);
/// The longest wait for a change.
const IDLE: Duration = Duration::from_millis(500);

/// The player. It ends when this is dropped.
pub struct Player {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    store: Etcd,
    machine: Arc<Mutex<Machine>>,
    ended: AtomicBool,
    /// Held while a tick is under way, so that a reset comes between two.
    turn: Mutex<Served>,
}

/// The fewest ready pods that each Deployment of the release had.
pub type Served = BTreeMap<String, usize>;

impl Player {
    /// Begins to play.
    pub fn start(store: Etcd, machine: Arc<Mutex<Machine>>) -> Self {
        let shared = Arc::new(Shared { store, machine, ended: AtomicBool::new(false), turn: Mutex::default() });
        let own = shared.clone();
        let thread = std::thread::spawn(move || {
            let mut last = 0;
            while !own.ended.load(Ordering::SeqCst) {
                if own.store.wait_for_change(last, IDLE).0 <= last {
                    continue;
                }
                std::thread::sleep(TICK);
                let mut served = lock(&own.turn);
                let (revision, live) = own.store.latest();
                // What cannot be written now is written in a moment.
                if tick(&own, &live, &mut served).is_ok() {
                    last = revision;
                }
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// Does `reset` while nothing is played, and begins to count who serves.
    pub fn reset(&self, reset: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut served = lock(&self.shared.turn);
        reset()?;
        served.clear();
        let live = self.shared.store.objects()?;
        count(&live, &mut served);
        Ok(())
    }

    /// Waits until there is nothing left to play. Gives what there is then, and the fewest ready pods since the reset.
    pub fn settle(&self) -> Result<(Arc<Objects>, Served)> {
        let mut served = lock(&self.shared.turn);
        let mut live = self.shared.store.objects()?;
        for _ in 0..200 {
            match tick(&self.shared, &live, &mut served)? {
                Some(next) => live = next,
                None => return Ok((live, served.clone())),
            }
        }
        anyhow::bail!("the sandbox does not come to rest")
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One look and what follows from it; gives what there is after changes, if there were any.
fn tick(shared: &Shared, live: &Objects, served: &mut Served) -> Result<Option<Arc<Objects>>> {
    count(live, served);
    let mut writes = garbage::collect(live);
    if writes.is_empty() {
        writes = workloads::reconcile(live);
        let machine = lock(&shared.machine).clone();
        writes.extend(kubelet::run(live, &machine));
    }
    if writes.is_empty() { Ok(None) } else { shared.store.apply(writes).map(Some) }
}

fn count(live: &Objects, served: &mut Served) {
    for deployment in of_kind(live, "Deployment").filter(|object| text(object, "/metadata/namespace") == "todo") {
        let ready = of_kind(live, "Pod").filter(|pod| selects(deployment, pod) && is_ready(pod)).count();
        let fewest = served.entry(text(deployment, "/metadata/name").to_owned()).or_insert(ready);
        *fewest = ready.min(*fewest);
    }
    // A Deployment that is gone serves nothing.
    let names: Vec<&str> = of_kind(live, "Deployment").map(|object| text(object, "/metadata/name")).collect();
    served.iter_mut().filter(|(name, _)| !names.contains(&name.as_str())).for_each(|(_, fewest)| *fewest = 0);
}

/// All objects of a kind.
pub fn of_kind<'a>(live: &'a Objects, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    live.values().map(|stored| &stored.value).filter(move |object| object["kind"] == kind)
}

/// The string at `pointer`, or the empty one.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Whether the workload's or Service's selector fits the pod.
pub fn selects(workload: &Value, pod: &Value) -> bool {
    let selector = workload.pointer("/spec/selector/matchLabels").or_else(|| workload.pointer("/spec/selector"));
    let same = workload["metadata"]["namespace"] == pod["metadata"]["namespace"];
    let selector = selector.and_then(Value::as_object).filter(|selector| !selector.is_empty());
    same && selector.is_some_and(|wanted| wanted.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value))
}

/// Whether the pod is ready.
pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        && pod.pointer("/metadata/deletionTimestamp").is_none()
}

/// Whether `owner` owns `object`.
fn owns(owner: &Value, object: &Value) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten();
    owners.into_iter().any(|reference| reference["uid"] == owner["metadata"]["uid"])
}

/// The metadata of a new object that `owner` controls.
fn metadata(name: &str, owner: &Value, labels: &Value) -> Value {
    let reference = json!({"apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": true,
        "blockOwnerDeletion": true, "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]});
    let seed = format!("{name} {:?}", SystemTime::now());
    let hex = digest(seed.as_bytes()).split_off(7);
    let uid = format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32]);
    json!({"name": name, "namespace": owner["metadata"]["namespace"], "uid": uid, "generation": 1,
        "creationTimestamp": now(), "labels": labels, "ownerReferences": [reference]})
}

/// The first hex digits of a value's digest.
fn short(value: &Value, length: usize) -> String {
    digest(value.to_string().as_bytes())[7..7 + length].to_owned()
}

/// The Deployment of CoreDNS that kubeadm makes.
pub fn dns() -> Write {
    let labels = json!({"k8s-app": "kube-dns"});
    let container = json!({"name": "coredns", "image": DNS_IMAGE});
    let object = json!({"kind": "Deployment", "apiVersion": "apps/v1",
        "metadata": {"name": "coredns", "namespace": "kube-system", "uid": "7d1e6d3a-2f5c-4c1b-9a40-5c1f6b0d5e01",
            "generation": 1, "creationTimestamp": now(), "labels": labels},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}}});
    create("deployments", object)
}

/// A new object.
fn create(resource: &str, object: Value) -> Write {
    let (namespace, name) = (text(&object, "/metadata/namespace"), text(&object, "/metadata/name"));
    Write::Put(format!("/registry/{resource}/{namespace}/{name}"), object, "0".to_owned())
}

/// The present as Kubernetes writes it.
pub fn now() -> String {
    xtask::clock::rfc3339(xtask::clock::now())
}
