//! The Kubernetes Secrets that a deploy needs, as a pure function of `.env` and the embedded database's password.
//!
//! A Secret is immutable, and its name contains a keyed digest of its content. So changed content is a new Secret, only
//! its consumer restarts, and a rollback finds the matching Secret.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::dotenv::{Database, Dotenv};
use crate::secrets::{Redactor, Secret};
use crate::settings::{Chart, Settings};
use crate::units;

/// Key of the embedded database's password in its Secret.
pub const POSTGRES_PASSWORD: &str = "POSTGRES_PASSWORD";

/// A Kubernetes Secret to apply.
pub struct Manifest {
    /// Its name.
    pub name: String,
    /// The object as JSON. Apply it server-side: a client-side apply keeps a copy of the content in an annotation.
    pub json: Vec<u8>,
}

impl std::fmt::Debug for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Manifest({})", self.name)
    }
}

/// Returns the name of the embedded database's Secret. It never changes, because the volume keeps its first password.
pub fn database_name(settings: &Settings) -> String {
    settings.chart.as_release().object_name(&settings.components.database)
}

/// Returns the embedded database's Secret. Apply it only if the cluster has none.
pub fn database(settings: &Settings, password: &Secret) -> Manifest {
    let pairs = [(POSTGRES_PASSWORD, password.expose())];
    manifest(&settings.chart, &settings.components.database, database_name(settings), &pairs)
}

/// Returns the backend's Secret. `embedded` is the embedded database's password, required if `.env` names no database.
pub fn backend(settings: &Settings, dotenv: &Dotenv, embedded: Option<&Secret>) -> Result<Manifest> {
    let Settings { chart, components, keys, .. } = settings;
    let mut pairs: Vec<(&str, String)> =
        dotenv.values().map(|(key, value)| (key, value.expose().to_owned())).filter(|(_, v)| !v.is_empty()).collect();
    if dotenv.database == Database::Embedded {
        let password = embedded.context("the embedded database's password is not known yet")?;
        pairs.push((&keys.postgres_url, embedded_url(settings, password).expose().to_owned()));
    }
    if !pairs.iter().any(|(key, _)| *key == keys.openai_key) {
        // Present but empty: the assistant is off, and the specification's three keys are there (FR-011 to FR-013).
        pairs.push((&keys.openai_key, String::new()));
    }
    pairs.sort();
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let name = format!("{}-{}", chart.as_release().object_name(&components.backend), digest(settings, &pairs)?);
    Ok(manifest(chart, &components.backend, name, &pairs))
}

/// Returns the URL of the embedded database for the backend. It has no TLS: the traffic does not leave the node.
pub fn embedded_url(settings: &Settings, password: &Secret) -> Secret {
    let (name, host) = (&settings.database.name, database_name(settings));
    let password = utf8_percent_encode(password.expose(), NON_ALPHANUMERIC);
    Secret::new(format!("postgresql://{name}:{password}@{host}:5432/{name}?sslmode=disable"))
}

/// Returns a new random password for the embedded database.
pub fn new_password() -> Result<Secret> {
    Secret::random(24)
}

/// Returns the value of `key` in a Secret; `None` if there is no such key.
pub fn decode(object: &Value, key: &str) -> Result<Option<Secret>> {
    // The error does not contain the invalid value, which is a secret.
    let Some(value) = object["data"][key].as_str() else { return Ok(None) };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let bytes = STANDARD.decode(value).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(Some(Secret::new(text.with_context(|| format!("key {key} of Secret {name} is not base64 of UTF-8"))?)))
}

/// Returns the difference of each key of the Secret `wanted` to `live`, which may not exist: `added`, `removed` or `changed`.
/// Returns no values.
pub fn compare(live: Option<&Value>, wanted: &Value) -> BTreeMap<String, &'static str> {
    // A Secret without keys has no data.
    let data = |object: &Value| object["data"].as_object().cloned().unwrap_or_default();
    let (live, wanted) = (live.map(data).unwrap_or_default(), data(wanted));
    let now = wanted.iter().filter_map(|(key, value)| match live.get(key) {
        None => Some((key.clone(), "added")),
        Some(old) if old != value => Some((key.clone(), "changed")),
        Some(_) => None,
    });
    let gone = live.keys().filter(|key| !wanted.contains_key(*key)).map(|key| (key.clone(), "removed"));
    now.chain(gone).collect()
}

/// Returns a redactor of all values in these Secrets.
pub fn redactor_of(secrets: &[Value]) -> Redactor {
    let values = secrets.iter().filter_map(|object| object["data"].as_object()).flat_map(|data| data.values());
    let decoded = values.filter_map(|value| String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok());
    Redactor::new(&decoded.map(Secret::new).collect::<Vec<_>>())
}

/// Returns eight hex digits that change with the content and reveal nothing of it: HMAC-SHA256 over the pairs, each part
/// preceded by its length. The key is the content's own random value, so nobody without it can test a guess of another value
/// against the public name.
pub fn digest(settings: &Settings, pairs: &[(&str, &str)]) -> Result<String> {
    let name = &settings.keys.random;
    let random = pairs.iter().find(|(key, _)| key == name);
    let key = random.with_context(|| format!("{name} is missing"))?.1;
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())?;
    mac.update(format!("{} secret 1\n", settings.chart.name).as_bytes());
    for part in pairs.iter().flat_map(|(key, value)| [key, value]) {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    Ok(units::hex(&mac.finalize().into_bytes()[..4]))
}

fn manifest(chart: &Chart, component: &str, name: String, pairs: &[(&str, &str)]) -> Manifest {
    let data: serde_json::Map<String, Value> =
        pairs.iter().map(|(key, value)| ((*key).to_owned(), STANDARD.encode(value).into())).collect();
    let object = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": chart.namespace,
            "labels": chart.as_release().component_labels(component),
        },
        "type": "Opaque",
        "immutable": true,
        "data": data,
    });
    Manifest { name, json: object.to_string().into_bytes() }
}

#[cfg(test)]
mod tests;
