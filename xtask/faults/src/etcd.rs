//! The API server's objects, watched and written in etcd through its JSON gateway.
//!
//! The API server runs with JSON as its storage format, so each value is an object as `kubectl get -o json` shows it,
//! without its resource version.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::http::{read_chunk, read_head, read_whole};
use crate::player::text;

/// The prefixes, below `/registry/`, of the keys that belong to a sandbox's state. The API server creates the other
/// keys itself, or no run changes them.
const STATE: [&str; 25] = [
    "namespaces",
    "pods",
    "deployments",
    "statefulsets",
    "replicasets",
    "controllerrevisions",
    "services",
    "endpointslices",
    "secrets",
    "configmaps",
    "serviceaccounts",
    "persistentvolumeclaims",
    "persistentvolumes",
    "poddisruptionbudgets",
    "ingress",
    "ingressclasses",
    "jobs",
    "ipaddresses",
    "minions",
    "horizontalpodautoscalers",
    "roles",
    "rolebindings",
    "networkpolicies",
    "clusterroles/todo",
    "clusterrolebindings/todo",
];

/// The objects of a state, by etcd key.
pub type Objects = BTreeMap<String, Arc<Stored>>;

/// An object and the revision of its last change. A write with this revision cannot undo another change.
#[derive(Debug)]
pub struct Stored {
    /// The object as etcd stores it, in JSON.
    pub text: String,
    /// The parsed object.
    pub value: Value,
    /// The etcd revision of the last change.
    pub revision: String,
}

/// A client of one etcd, with a copy of the state that a watch keeps up to date.
#[derive(Clone)]
pub struct Etcd(Arc<Shared>);

struct Shared {
    port: u16,
    /// Idle connections.
    idle: Mutex<Vec<Connection>>,
    copy: Mutex<Copy>,
    changed: Condvar,
}

type Connection = BufReader<TcpStream>;

#[derive(Default)]
struct Copy {
    /// The revision of the newest change in the copy.
    revision: u64,
    objects: Arc<Objects>,
    /// The reason why the watch ended. `None` while it keeps the copy up to date.
    ended: Option<String>,
}

/// The time limit for an answer of etcd, and for the watch to deliver a change that etcd has made.
const PATIENCE: Duration = Duration::from_secs(60);

/// A change of one key.
pub enum Write {
    /// Puts an object if its key still has this revision. `0` means that the key does not exist.
    Put(String, Value, String),
    /// Deletes a key.
    Delete(String),
}

impl Etcd {
    /// Connects to etcd at `127.0.0.1:port` and starts the watch. Fails if etcd does not accept connections yet.
    pub fn connect(port: u16) -> Result<Self> {
        let this =
            Self(Arc::new(Shared { port, idle: Mutex::default(), copy: Mutex::default(), changed: Condvar::new() }));
        let body = json!({"create_request": {"key": BASE64.encode([0]), "range_end": BASE64.encode([0]), "start_revision": 1}});
        let mut stream = this.open()?;
        post(&mut stream, "watch", &body)?;
        let watching = this.clone();
        std::thread::spawn(move || {
            let ended =
                watching.follow(stream).err().map_or_else(|| "it ended".to_owned(), |error| format!("{error:#}"));
            lock(&watching.0.copy).ended = Some(ended);
            watching.0.changed.notify_all();
        });
        Ok(this)
    }

    fn open(&self) -> Result<Connection> {
        let tcp = TcpStream::connect(("127.0.0.1", self.0.port)).context("connecting to etcd")?;
        tcp.set_nodelay(true)?;
        Ok(BufReader::new(tcp))
    }

    /// Keeps the copy up to date until the watch ends. Every revision changes a key, so none is missed.
    fn follow(&self, mut stream: Connection) -> Result<()> {
        read_head(&mut stream)?.context("no answer")?;
        let mut rest = Vec::new();
        while let Some((_, chunk)) = read_chunk(&mut stream)? {
            rest.extend_from_slice(&chunk[..chunk.len() - 2]);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Value = serde_json::from_slice(&rest[..end]).context("a watch's line")?;
                rest.drain(..=end);
                ensure!(line["error"].is_null() && line["result"]["canceled"].is_null(), "{line}");
                let events = line["result"]["events"].as_array().into_iter().flatten();
                let changes = events.map(change).collect::<Result<Vec<_>>>()?;
                let mut copy = lock(&self.0.copy);
                for (revision, key, stored) in changes {
                    copy.revision = revision;
                    if !STATE.iter().any(|resource| key["/registry/".len().min(key.len())..].starts_with(resource)) {
                        continue;
                    }
                    let objects = Arc::make_mut(&mut copy.objects);
                    match stored {
                        Some(stored) => objects.insert(key, Arc::new(stored)),
                        None => objects.remove(&key),
                    };
                }
                self.0.changed.notify_all();
            }
        }
        Ok(())
    }

    fn ask(&self, what: &str, body: &Value) -> Result<Value> {
        let idle = lock(&self.0.idle).pop();
        let mut stream = idle.map_or_else(|| self.open(), Ok)?;
        stream.get_ref().set_read_timeout(Some(PATIENCE))?;
        post(&mut stream, &format!("kv/{what}"), body)?;
        let answer = read_whole(&mut stream).context("asking etcd")?.context("etcd closed the connection")?;
        let value = serde_json::from_slice(&answer.body).context("etcd's answer")?;
        ensure!(answer.first.contains(" 200 "), "etcd: {value}");
        lock(&self.0.idle).push(stream);
        Ok(value)
    }

    /// Returns the revision and the objects of the copy, which may be some milliseconds old.
    pub fn latest(&self) -> (u64, Arc<Objects>) {
        let copy = lock(&self.0.copy);
        (copy.revision, copy.objects.clone())
    }

    /// Waits until the copy is newer than `revision` or the watch ends, for at most `patience`. Returns the copy's
    /// revision and objects.
    pub fn wait_for_change(&self, revision: u64, patience: Duration) -> (u64, Arc<Objects>) {
        let same = |copy: &mut Copy| copy.revision <= revision && copy.ended.is_none();
        let waited = self.0.changed.wait_timeout_while(lock(&self.0.copy), patience, same);
        let (copy, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (copy.revision, copy.objects.clone())
    }

    /// Returns the current state.
    pub fn objects(&self) -> Result<Arc<Objects>> {
        let answer = self.ask("range", &json!({"key": BASE64.encode("none"), "count_only": true}))?;
        self.objects_of(&answer)
    }

    /// Returns a state that includes every change that etcd had made when it gave `answer`.
    fn objects_of(&self, answer: &Value) -> Result<Arc<Objects>> {
        let revision = number(&answer["header"]["revision"]).context("etcd names no revision")?;
        self.wait_for_change(revision - 1, PATIENCE);
        let copy = lock(&self.0.copy);
        let why = || copy.ended.clone().unwrap_or_else(|| format!("it is at {}", copy.revision));
        ensure!(copy.revision >= revision, "the watch did not bring revision {revision}: {}", why());
        Ok(copy.objects.clone())
    }

    /// Restores the state `wanted`. Returns the state afterwards.
    pub fn restore(&self, wanted: &Objects) -> Result<Arc<Objects>> {
        let now = self.objects()?;
        let gone = now.keys().filter(|key| !wanted.contains_key(*key));
        let delete = gone.map(|key| json!({"requestDeleteRange": {"key": BASE64.encode(key)}}));
        let changed = wanted.iter().filter(|(key, stored)| now.get(*key).is_none_or(|has| has.text != stored.text));
        let put = changed.map(
            |(key, stored)| json!({"requestPut": {"key": BASE64.encode(key), "value": BASE64.encode(&stored.text)}}),
        );
        self.transact(&delete.chain(put).collect::<Vec<_>>())
    }

    /// Applies `writes`, and skips each put whose key has changed meanwhile. Returns the state afterwards.
    pub fn apply(&self, writes: Vec<Write>) -> Result<Arc<Objects>> {
        self.transact(&operations(writes))
    }

    /// Sends `operations` to etcd in transactions of 100, as etcd takes at most 128. Returns the state afterwards.
    fn transact(&self, operations: &[Value]) -> Result<Arc<Objects>> {
        let mut now = self.latest().1;
        for some in operations.chunks(100) {
            now = self.objects_of(&self.ask("txn", &json!({"success": some}))?)?;
        }
        Ok(now)
    }
}

/// Returns the operations that apply `writes`, each put only if its key still has the expected revision. etcd refuses
/// two writes of a key in a transaction, so only the first one is kept. The player makes the later one again if it is
/// still needed.
fn operations(writes: Vec<Write>) -> Vec<Value> {
    let mut keys = BTreeSet::new();
    let first = writes.into_iter().filter(|write| {
        let (Write::Put(key, ..) | Write::Delete(key)) = write;
        keys.insert(key.clone())
    });
    let operation = |write| match write {
        Write::Put(key, value, revision) => {
            let key = BASE64.encode(key);
            json!({"requestTxn": {
                "compare": [{"key": key, "target": "MOD", "mod_revision": revision}],
                "success": [{"requestPut": {"key": key, "value": BASE64.encode(value.to_string())}}]}})
        }
        Write::Delete(key) => json!({"requestDeleteRange": {"key": BASE64.encode(key)}}),
    };
    first.map(operation).collect()
}

fn post(stream: &mut Connection, path: &str, body: &Value) -> Result<()> {
    let body = body.to_string();
    let head = format!("POST /v3/{path} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {}\r\n\r\n", body.len());
    let whole = head + &body;
    stream.get_mut().write_all(whole.as_bytes()).context("asking etcd")
}

/// Returns the revision, the key and the object of a watch event. The object is `None` after a deletion.
fn change(event: &Value) -> Result<(u64, String, Option<Stored>)> {
    let pair = &event["kv"];
    let decode =
        |name: &str| Ok::<_, anyhow::Error>(String::from_utf8(BASE64.decode(text(pair, &format!("/{name}")))?)?);
    let revision = number(&pair["mod_revision"]).context("an event without a revision")?;
    let stored = |text: String| Stored {
        value: serde_json::from_str(&text).unwrap_or_default(),
        text,
        revision: revision.to_string(),
    };
    let deleted = event["type"] == "DELETE";
    // Some values of the API server are not text, but all values of the state are.
    let stored = (!deleted).then(|| decode("value").map(stored).unwrap_or_else(|_| stored(String::new())));
    Ok((revision, decode("key")?, stored))
}

fn number(value: &Value) -> Option<u64> {
    value.as_str()?.parse().ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_has_the_first_write_of_each_key_with_its_own_condition() {
        let put = |key: &str, revision: &str| Write::Put(key.to_owned(), json!({"of": key}), revision.to_owned());
        let delete = |key: &str| Write::Delete(key.to_owned());
        let found = operations(vec![put("new", "0"), delete("pod"), put("pod", "7"), put("old", "8"), delete("old")]);
        let keys = found.iter().map(|operation| match &operation["requestTxn"] {
            Value::Null => (operation["requestDeleteRange"]["key"].clone(), Value::Null),
            inner => (inner["success"][0]["requestPut"]["key"].clone(), inner["compare"][0]["mod_revision"].clone()),
        });
        let key = |name: &str| json!(BASE64.encode(name));
        assert_eq!(
            keys.collect::<Vec<_>>(),
            [(key("new"), json!("0")), (key("pod"), Value::Null), (key("old"), json!("8"))]
        );
    }
}
