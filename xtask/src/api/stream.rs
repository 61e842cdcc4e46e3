//! Watches: a stream of changes for each kind, each on its own connection.

use std::io::BufReader;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use serde_json::Value;
use ureq::Agent;
use ureq::http::{Method, StatusCode};

use super::answer::ServerAnswer;
use super::request::Request;
use super::{Api, Resource, Scope};

/// A group of streams that end together, at the latest when it is dropped.
pub struct Streams {
    pub(super) api: Api,
    pub(super) agent: Agent,
    closed: AtomicBool,
}

impl Api {
    /// Starts a group of streams.
    pub fn streams(&self) -> Streams {
        Streams { api: self.clone(), agent: self.server.stream_agent(), closed: AtomicBool::new(false) }
    }
}

impl Streams {
    /// Passes `take` each event (`{"type": "MODIFIED", "object": {…}}`) of a kind from a list's version on, until
    /// `take` returns `false` or the streams are closed. After an error the caller must list again.
    pub fn watch(&self, resource: &Resource, version: &str, mut take: impl FnMut(Value) -> bool) -> Result<()> {
        let (api, mut version) = (&self.api, version.to_owned());
        loop {
            let mut request = Request::new(Method::GET, resource.collection(&api.namespace, Scope::Namespace));
            request.query("watch", "true");
            request.query("allowWatchBookmarks", "true");
            request.query("resourceVersion", &version);
            // The server ends each watch; the next request continues from the last version, so no event is missed.
            request.query("timeoutSeconds", &api.server.deadlines.watch.as_secs().max(1).to_string());
            let response = match api.server.send(&self.agent, &request) {
                Err(_) if self.is_closed() => return Ok(()),
                other => other?,
            };
            let status = response.status();
            let mut body = response.into_body();
            if status != StatusCode::OK {
                let answer = ServerAnswer { status, body: body.read_to_vec().unwrap_or_default() };
                return Err(api.server.refusal(&request, &answer).into());
            }
            let events = serde_json::Deserializer::from_reader(BufReader::new(body.into_reader()));
            for event in events.into_iter::<Value>() {
                let event = match event {
                    Ok(event) => event,
                    Err(_) if self.is_closed() => return Ok(()),
                    Err(error) => {
                        let words = format!("the watch broke: {error}");
                        return Err(api.server.no_answer(&request, &words).into());
                    }
                };
                if let Some(seen) = event["object"]["metadata"]["resourceVersion"].as_str() {
                    version = seen.to_owned();
                }
                match event["type"].as_str() {
                    Some("BOOKMARK") => {}
                    Some("ADDED" | "MODIFIED" | "DELETED") => {
                        if !take(event) {
                            return Ok(());
                        }
                    }
                    // 410 Gone: the version is too old.
                    _ => {
                        let words = event["object"]["message"].as_str().unwrap_or("an event of no known type");
                        return Err(api.server.unexpected(&request, words).into());
                    }
                }
            }
            if self.is_closed() {
                return Ok(());
            }
        }
    }

    /// Ends all streams, also those that wait for a byte in another thread.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.agent.clone().shutdown();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.close();
    }
}
