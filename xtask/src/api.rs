//! One blocking client for the cluster's API server.
//!
//! Every request has one of three results: `Ok(Some(object))` is present, `Ok(None)` is absent, and `Err` is unknown.
//! Absent requires a `Status` of the API server whose reason is `NotFound` and that names the object. Everything else
//! (a refused connection, a bare 404, an unreadable answer, a `Forbidden`) is unknown, and no caller may turn it into a
//! default.
//!
//! The node is a container of the local engine, which publishes the API server on the loopback address. So the client
//! reads no kubeconfig and uses no proxy. It trusts only minikube's certificate authority.

mod answer;
mod deadlines;
mod delete;
mod health;
pub mod kinds;
mod log;
mod request;
mod server;
mod stream;

#[cfg(test)]
pub(crate) mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use ureq::http::Method;

use crate::failure::{Class, Failure};

pub use deadlines::Deadlines;
pub use delete::Propagation;
pub use health::Health;
pub use kinds::Resource;
pub use log::{Log, LogOptions};
pub use stream::Streams;

use answer::ServerAnswer;
use request::Request;
use server::Server;

/// The field manager of what xtask applies.
pub const MANAGER: &str = "xtask";

/// Lists that are asked for side by side. More of them cost more TLS handshakes than they save.
const AT_ONCE: usize = 4;

/// Objects of one page of a list.
const PAGE: &str = "500";

/// Certificate authority, client certificate and its key, as PEM. They are read at every observation of the profile,
/// because `minikube start` renews them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    authority: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Credentials {
    /// Reads the credentials of `profile` from minikube's folder.
    pub fn read(minikube: &Utf8Path, profile: &str) -> Result<Self> {
        let read = |path: Utf8PathBuf| {
            std::fs::read(&path).map_err(|error| {
                Failure::new(Class::Cluster, format!("cannot read {path}, which minikube made: {error}"))
                    .help("minikube makes it again: cargo xtask deploy dev")
            })
        };
        let folder = minikube.join("profiles").join(profile);
        Ok(Self {
            authority: read(minikube.join("ca.crt"))?,
            certificate: read(folder.join("client.crt"))?,
            key: read(folder.join("client.key"))?,
        })
    }
}

/// The client, aimed at one namespace. Cheap to clone; connections are kept alive and shared by all clones.
#[derive(Clone)]
pub struct Api {
    server: Arc<Server>,
    namespace: String,
}

/// The namespaces of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The client's namespace.
    Namespace,
    /// All namespaces.
    Cluster,
}

/// The content of a list.
#[derive(Debug)]
pub struct List {
    /// The objects, each with `kind` and `apiVersion`.
    pub items: Vec<Value>,
    /// The resource version from which a watch continues.
    pub version: String,
}

/// The result of a write that may conflict with another one.
#[derive(Debug)]
pub enum Write {
    /// The server accepted it; the object as it is now.
    Done(Value),
    /// The object exists already, or another client wrote it in between: the server's message.
    Conflict(String),
}

impl Api {
    /// Makes a client for the API server at `address` with the default deadlines.
    pub fn new(address: SocketAddr, credentials: &Credentials, namespace: &str) -> Result<Self> {
        Self::with_deadlines(address, credentials, namespace, Deadlines::default())
    }

    /// Makes a client with the given deadlines.
    pub fn with_deadlines(
        address: SocketAddr,
        credentials: &Credentials,
        namespace: &str,
        deadlines: Deadlines,
    ) -> Result<Self> {
        let server = Arc::new(Server::new(address, credentials, deadlines)?);
        Ok(Self { server, namespace: namespace.to_owned() })
    }

    /// Returns the same client for objects of `namespace`.
    pub fn in_namespace(&self, namespace: &str) -> Self {
        Self { server: Arc::clone(&self.server), namespace: namespace.to_owned() }
    }

    /// Returns the client's deadlines.
    pub fn deadlines(&self) -> &Deadlines {
        &self.server.deadlines
    }

    /// Returns the object `name`; `None`: the API server reports that it does not exist.
    pub fn get(&self, resource: &Resource, name: &str) -> Result<Option<Value>> {
        let request = Request::new(Method::GET, resource.object(&self.namespace, name));
        let answer = self.server.ask(&request)?;
        if answer.is_absence_of(resource, name) {
            return Ok(None);
        }
        let object = answer.object(&request, &self.server)?;
        if object["kind"] != resource.kind || object["metadata"]["name"] != name {
            return Err(self.server.unexpected(&request, &format!("that is not {} {name}", resource.kind)).into());
        }
        Ok(Some(object))
    }

    /// Lists the objects of a kind.
    pub fn list(&self, resource: &Resource, scope: Scope) -> Result<List> {
        self.pages(resource, scope, "", Request::JSON)
    }

    /// Lists the objects of a kind whose labels match the selector.
    pub fn select(&self, resource: &Resource, scope: Scope, selector: &str) -> Result<Vec<Value>> {
        Ok(self.pages(resource, scope, selector, Request::JSON)?.items)
    }

    /// Lists several kinds side by side, in the order of `resources`.
    pub fn list_all(&self, resources: &[Resource], scope: Scope) -> Result<Vec<List>> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut found = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(resource) = resources.get(at) else { return found };
                found.push((at, self.list(resource, scope)));
            }
        };
        let mut lists: Vec<(usize, Result<List>)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE.min(resources.len())).map(|_| scope.spawn(work)).collect();
            let joined = workers.into_iter().map(|worker| worker.join());
            // A panic is a defect, not an answer, so it goes on.
            joined.flat_map(|found| found.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        lists.sort_by_key(|(at, _)| *at);
        lists.into_iter().map(|(_, list)| list).collect()
    }

    /// Lists names, labels and times of objects without their content: for Secrets.
    pub fn list_metadata(&self, resource: &Resource, selector: &str) -> Result<Vec<Value>> {
        Ok(self.pages(resource, Scope::Namespace, selector, Request::METADATA)?.items)
    }

    fn pages(&self, resource: &Resource, scope: Scope, selector: &str, accept: &'static str) -> Result<List> {
        let mut list = List { items: Vec::new(), version: String::new() };
        let mut from = String::new();
        loop {
            let mut request = Request::new(Method::GET, resource.collection(&self.namespace, scope));
            request.accept = accept;
            request.query("limit", PAGE);
            if !selector.is_empty() {
                request.query("labelSelector", selector);
            }
            if !from.is_empty() {
                request.query("continue", &from);
            }
            let mut page = self.server.ask(&request)?.object(&request, &self.server)?;
            let kind =
                if accept == Request::JSON { format!("{}List", resource.kind) } else { METADATA_LIST.to_owned() };
            let items = match page["items"].take() {
                _ if page["kind"] != kind.as_str() => None,
                Value::Array(items) => Some(items),
                // Go encodes an empty list as null.
                Value::Null => Some(Vec::new()),
                _ => None,
            };
            let Some(items) = items else {
                return Err(self.server.unexpected(&request, &format!("that is no {kind}")).into());
            };
            list.items.extend(items.into_iter().map(|mut item| {
                // The items of a list have neither.
                item["kind"] = resource.kind.into();
                item["apiVersion"] = resource.api_version().into();
                item
            }));
            list.version = page["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
            from = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
            if from.is_empty() {
                return Ok(list);
            }
        }
    }

    /// Applies `object` server-side as `manager` and takes over fields of other managers.
    pub fn apply(&self, object: &Value, manager: &str) -> Result<Value> {
        let request = self.apply_request(object, manager)?;
        let answer = self.server.ask(&request)?;
        self.read_written(&request, &answer, &object["kind"], name_of(object))
    }

    /// Returns the written object. An answer about another object does not prove the write.
    fn read_written(&self, request: &Request, answer: &ServerAnswer, kind: &Value, name: &str) -> Result<Value> {
        let object = answer.object(request, &self.server)?;
        if object["kind"] != *kind || object["metadata"]["name"] != name {
            let kind = kind.as_str().unwrap_or_default();
            return Err(self.server.unexpected(request, &format!("that is not {kind} {name}")).into());
        }
        Ok(object)
    }

    /// Returns the request of [`Api::apply`], for a step to show.
    pub fn shown_apply(object: &Value, namespace: &str, manager: &str) -> String {
        let path = Resource::of(object).map(|resource| resource.object(in_it(object, namespace), name_of(object)));
        format!("PATCH {}?fieldManager={manager}&force=true", path.unwrap_or_default())
    }

    fn apply_request(&self, object: &Value, manager: &str) -> Result<Request> {
        let resource = Resource::of(object)?;
        let path = resource.object(in_it(object, &self.namespace), name_of(object));
        let mut request = Request::new(Method::PATCH, path);
        request.query("fieldManager", manager);
        request.query("force", "true");
        // JSON is YAML.
        request.body("application/apply-patch+yaml", object);
        Ok(request)
    }

    /// Creates `object`. It is sent again only if the request cannot have arrived.
    pub fn create(&self, object: &Value) -> Result<Write> {
        let resource = Resource::of(object)?;
        let path = resource.collection(in_it(object, &self.namespace), Scope::Namespace);
        let mut request = Request::new(Method::POST, path);
        request.query("fieldManager", MANAGER);
        request.body("application/json", object);
        let answer = self.server.ask(&request)?;
        if answer.is_refusal("AlreadyExists") {
            return Ok(Write::Conflict(answer.words()));
        }
        self.read_written(&request, &answer, &object["kind"], name_of(object)).map(Write::Done)
    }

    /// Applies a JSON patch. A failed `test` in it is a conflict.
    pub fn json_patch(&self, resource: &Resource, name: &str, patch: &Value) -> Result<Write> {
        let mut request = Request::new(Method::PATCH, resource.object(&self.namespace, name));
        request.query("fieldManager", MANAGER);
        request.body("application/json-patch+json", patch);
        let answer = self.server.ask(&request)?;
        if answer.is_refusal("Conflict") || answer.is_refusal("Invalid") {
            return Ok(Write::Conflict(answer.words()));
        }
        self.read_written(&request, &answer, &json!(resource.kind), name).map(Write::Done)
    }
}

const METADATA_LIST: &str = "PartialObjectMetadataList";

/// Returns the namespace that `object` names, else `namespace`.
fn in_it<'a>(object: &'a Value, namespace: &'a str) -> &'a str {
    object["metadata"]["namespace"].as_str().unwrap_or(namespace)
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}
