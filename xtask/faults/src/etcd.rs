//! What the API server stores, read and written in etcd itself through its JSON gateway.
//!
//! The API server is started with JSON as its storage format, so each value is an object as `kubectl get -o json` shows
//! it, without its resource version.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

/// What a world's state is made of: the rest the API server makes for itself, or nobody here touches.
const STATE: [&str; 23] = [
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
    "clusterroles/todo",
    "clusterrolebindings/todo",
];

/// Objects by key, as text.
pub type Objects = BTreeMap<String, String>;

/// An object with the revision of its last change, for writes that must not undo another's.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The object.
    pub value: Value,
    /// The revision.
    pub revision: String,
}

/// A client of one etcd.
#[derive(Clone)]
pub struct Etcd {
    agent: ureq::Agent,
    address: String,
}

/// A change of one key.
pub enum Write {
    /// Puts an object, if its key still has this revision (`0`: no such key).
    Put(String, Value, String),
    /// Deletes a key.
    Delete(String),
}

impl Etcd {
    /// A client of the etcd at `127.0.0.1:port`.
    pub fn new(port: u16) -> Self {
        let agent = ureq::Agent::config_builder().proxy(None).timeout_global(Some(std::time::Duration::from_secs(20)));
        Self { agent: agent.build().into(), address: format!("http://127.0.0.1:{port}/v3/kv") }
    }

    fn ask(&self, what: &str, body: &Value) -> Result<Value> {
        let mut answer = self.agent.post(format!("{}/{what}", self.address)).send_json(body).context("asking etcd")?;
        answer.body_mut().with_config().limit(256 << 20).read_json().context("etcd's answer")
    }

    /// The revision of the newest change.
    pub fn revision(&self) -> Result<u64> {
        let answer = self.ask("range", &json!({"key": BASE64.encode("none"), "count_only": true}))?;
        answer["header"]["revision"].as_str().and_then(|text| text.parse().ok()).context("etcd names no revision")
    }

    /// What is stored of `resources`: keys with values and revisions.
    fn all(&self, resources: &[&str]) -> Result<BTreeMap<String, (String, String)>> {
        let range = |resource: &&str| {
            let key = format!("/registry/{resource}");
            let mut end = key.clone().into_bytes();
            // One after the last key that begins like this.
            *end.last_mut().expect("not empty") += 1;
            json!({"requestRange": {"key": BASE64.encode(key), "range_end": BASE64.encode(end)}})
        };
        let answer = self.ask("txn", &json!({"success": resources.iter().map(range).collect::<Vec<_>>()}))?;
        let decode = |text: &Value| -> Result<String> {
            Ok(String::from_utf8(BASE64.decode(text.as_str().unwrap_or_default())?)?)
        };
        let responses = answer["responses"].as_array().context("etcd's answer has no responses")?;
        let pairs = responses.iter().filter_map(|response| response["response_range"]["kvs"].as_array()).flatten();
        pairs
            .map(|pair| {
                let revision = pair["mod_revision"].as_str().unwrap_or_default().to_owned();
                Ok((decode(&pair["key"])?, (decode(&pair["value"])?, revision)))
            })
            .collect()
    }

    /// All objects but Secrets, which are large and which nobody here plays, by key.
    pub fn objects(&self) -> Result<BTreeMap<String, Stored>> {
        let resources: Vec<&str> = STATE.into_iter().filter(|resource| *resource != "secrets").collect();
        let parsed = self.all(&resources)?.into_iter().filter_map(|(key, (text, revision))| {
            Some((key, Stored { value: serde_json::from_str(&text).ok()?, revision }))
        });
        Ok(parsed.collect())
    }

    /// The state as it is stored.
    pub fn snapshot(&self) -> Result<Objects> {
        Ok(self.all(&STATE)?.into_iter().map(|(key, (text, _))| (key, text)).collect())
    }

    /// Makes everything, which is as in `now`, as it was in `wanted`.
    pub fn restore(&self, now: &Objects, wanted: &Objects) -> Result<()> {
        let gone = now.keys().filter(|key| !wanted.contains_key(*key));
        let delete = gone.map(|key| json!({"requestDeleteRange": {"key": BASE64.encode(key)}}));
        let changed = wanted.iter().filter(|(key, text)| now.get(*key) != Some(text));
        let put =
            changed.map(|(key, text)| json!({"requestPut": {"key": BASE64.encode(key), "value": BASE64.encode(text)}}));
        let operations: Vec<Value> = delete.chain(put).collect();
        for some in operations.chunks(100) {
            self.ask("txn", &json!({"success": some}))?;
        }
        Ok(())
    }

    /// Applies each of `writes` by itself; one that came too late is left out.
    pub fn apply(&self, writes: Vec<Write>) -> Result<()> {
        for write in writes {
            let body = match write {
                Write::Put(key, value, revision) => {
                    let key = BASE64.encode(key);
                    json!({"compare": [{"key": key, "target": "MOD", "mod_revision": revision}],
                           "success": [{"requestPut": {"key": key, "value": BASE64.encode(value.to_string())}}]})
                }
                Write::Delete(key) => json!({"success": [{"requestDeleteRange": {"key": BASE64.encode(key)}}]}),
            };
            self.ask("txn", &body)?;
        }
        Ok(())
    }
}
