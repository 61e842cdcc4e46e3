//! Deletes an object and waits until it is gone.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use ureq::http::Method;

use super::request::Request;
use super::{Api, Resource, Scope, kinds};
use crate::failure::{Class, Failure};
use crate::process;

/// The deletion of objects that the deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
}

impl Api {
    /// Requests the deletion of an object. Returns its UID; `None`: it does not exist.
    pub fn begin_delete(&self, resource: &Resource, name: &str, propagation: Propagation) -> Result<Option<String>> {
        self.begin(resource, name, None, propagation)
    }

    /// Requests the deletion of the object with this UID; a successor of the same name stays.
    pub fn begin_delete_of(&self, resource: &Resource, name: &str, uid: &str) -> Result<Option<String>> {
        self.begin(resource, name, Some(uid), Propagation::Background)
    }

    /// Deletes an object and waits until it is gone. Returns whether it existed.
    pub fn delete(&self, resource: &Resource, name: &str, propagation: Propagation) -> Result<bool> {
        let Some(uid) = self.begin_delete(resource, name, propagation)? else { return Ok(false) };
        self.wait_until_gone(resource, name, &uid)?;
        Ok(true)
    }

    /// Deletes the objects whose labels match the selector, and waits until they are gone. Returns their names.
    pub fn delete_selected(&self, resource: &Resource, selector: &str) -> Result<Vec<String>> {
        let field = |object: &Value, name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        let found = self.pages(resource, Scope::Namespace, selector, Request::METADATA)?.items;
        let found: Vec<(String, String)> = found.iter().map(|o| (field(o, "name"), field(o, "uid"))).collect();
        for (name, uid) in &found {
            self.begin_delete_of(resource, name, uid)?;
        }
        for (name, uid) in &found {
            self.wait_until_gone(resource, name, uid)?;
        }
        Ok(found.into_iter().map(|(name, _)| name).collect())
    }

    fn begin(
        &self,
        resource: &Resource,
        name: &str,
        uid: Option<&str>,
        propagation: Propagation,
    ) -> Result<Option<String>> {
        let mut request = Request::new(Method::DELETE, resource.object(&self.namespace, name));
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions",
        "propagationPolicy": match propagation {
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
        }});
        if let Some(uid) = uid {
            options["preconditions"] = json!({"uid": uid});
        }
        request.body("application/json", &options);
        let answer = self.server.ask(&request)?;
        // A conflict comes from the precondition: the object with that UID is gone.
        if answer.is_absence_of(resource, name) || uid.is_some() && answer.is_refusal("Conflict") {
            return Ok(None);
        }
        let object = answer.object(&request, &self.server)?;
        // The answer is the object that is being deleted, or a Status about the deleted one.
        let Some(named) = [&object["metadata"], &object["details"]].into_iter().find(|part| part["name"] == name)
        else {
            return Err(self.server.unexpected(&request, &format!("it is not about {name}")).into());
        };
        match named["uid"].as_str().or(uid) {
            Some(uid) => Ok(Some(uid.to_owned())),
            None => Err(self.server.unexpected(&request, "it names no UID").into()),
        }
    }

    /// Waits until no object of this name has this UID.
    fn wait_until_gone(&self, resource: &Resource, name: &str, uid: &str) -> Result<()> {
        let deadlines = self.deadlines();
        let limit: Duration =
            if *resource == kinds::NAMESPACE { deadlines.namespace_deletion } else { deadlines.deletion };
        let begun = Instant::now();
        loop {
            let Some(object) = self.get(resource, name)? else { return Ok(()) };
            if object["metadata"]["uid"] != uid {
                return Ok(());
            }
            if process::ending() {
                anyhow::bail!("interrupted");
            }
            if begun.elapsed() > limit {
                let kind = resource.kind;
                let finalizers = object["metadata"]["finalizers"].as_array().map_or(0, Vec::len);
                let held = if finalizers > 0 { format!(", held by {finalizers} finalizers") } else { String::new() };
                let what = format!(
                    "the API server accepted the deletion of {kind} {name}, but after {} s it is still there{held}",
                    limit.as_secs()
                );
                let plural = resource.plural;
                return Err(Failure::new(Class::Cluster, what)
                    .help(format!("see what holds it: cargo xtask tool kubectl -- get {plural} {name} -o yaml"))
                    .into());
            }
            std::thread::sleep(deadlines.poll);
        }
    }
}
