//! Simulates the controllers and the kubelet, which the sandbox lacks: Deployments and StatefulSets get pods, pods get
//! a node and run or crash, Services get endpoints, and objects whose owners are gone are deleted.

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

/// The wait after a change, so that one tick handles the changes that follow at once.
const TICK: Duration = Duration::from_millis(10);
/// The maximum wait for a change.
const IDLE: Duration = Duration::from_millis(500);

/// The thread that simulates the controllers and the kubelet. Dropping the player ends the thread.
pub struct Player {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    store: Etcd,
    machine: Arc<Mutex<Machine>>,
    ended: AtomicBool,
    /// The counts of ready pods. Each tick holds this lock, so that a reset comes between two ticks.
    turn: Mutex<Served>,
}

/// The minimum number of ready pods of each Deployment of the release, by name.
pub type Served = BTreeMap<String, usize>;

impl Player {
    /// Starts the thread.
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
                // A tick that fails is repeated at the next iteration.
                if tick(&own, &live, &mut served).is_ok() {
                    last = revision;
                }
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// Calls `reset` between two ticks, and starts to count ready pods anew.
    pub fn reset(&self, reset: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut served = lock(&self.shared.turn);
        reset()?;
        served.clear();
        let live = self.shared.store.objects()?;
        count(&live, &mut served);
        Ok(())
    }

    /// Repeats ticks until one changes nothing; fails if 200 do not suffice. Returns the objects, and the minimum numbers of
    /// ready pods since the reset.
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

/// Runs the controllers and the kubelet once. Returns the objects after their writes, or `None` if there were no
/// writes.
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
    // A deleted Deployment has no ready pods.
    let names: Vec<&str> = of_kind(live, "Deployment").map(|object| text(object, "/metadata/name")).collect();
    served.iter_mut().filter(|(name, _)| !names.contains(&name.as_str())).for_each(|(_, fewest)| *fewest = 0);
}

/// Returns all objects of a kind.
pub fn of_kind<'a>(live: &'a Objects, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    live.values().map(|stored| &stored.value).filter(move |object| object["kind"] == kind)
}

/// Returns the string at `pointer`, or an empty string.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Returns whether the selector of the workload or Service matches the pod in the same namespace.
pub fn selects(workload: &Value, pod: &Value) -> bool {
    let selector = workload.pointer("/spec/selector/matchLabels").or_else(|| workload.pointer("/spec/selector"));
    let same = workload["metadata"]["namespace"] == pod["metadata"]["namespace"];
    let selector = selector.and_then(Value::as_object).filter(|selector| !selector.is_empty());
    same && selector.is_some_and(|wanted| wanted.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value))
}

/// Returns whether the pod is ready and not being deleted.
pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        && pod.pointer("/metadata/deletionTimestamp").is_none()
}

/// Returns whether `owner` is among the owner references of `object`.
fn owns(owner: &Value, object: &Value) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten();
    owners.into_iter().any(|reference| reference["uid"] == owner["metadata"]["uid"])
}

/// Returns the metadata of a new object that `owner` controls.
fn metadata(name: &str, owner: &Value, labels: &Value) -> Value {
    let reference = json!({"apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": true,
        "blockOwnerDeletion": true, "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]});
    let seed = format!("{name} {:?}", SystemTime::now());
    let hex = digest(seed.as_bytes()).split_off(7);
    let uid = format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32]);
    json!({"name": name, "namespace": owner["metadata"]["namespace"], "uid": uid, "generation": 1,
        "creationTimestamp": now(), "labels": labels, "ownerReferences": [reference]})
}

/// Returns the first `length` hex digits of the value's digest.
fn short(value: &Value, length: usize) -> String {
    digest(value.to_string().as_bytes())[7..7 + length].to_owned()
}

/// Returns the write that creates the CoreDNS Deployment, as kubeadm does.
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

/// Returns the write that creates `object`, unless an object with its key exists.
fn create(resource: &str, object: Value) -> Write {
    let (namespace, name) = (text(&object, "/metadata/namespace"), text(&object, "/metadata/name"));
    Write::Put(format!("/registry/{resource}/{namespace}/{name}"), object, "0".to_owned())
}

/// Returns the current time in the format of Kubernetes.
pub fn now() -> String {
    xtask::clock::rfc3339(xtask::clock::now())
}
