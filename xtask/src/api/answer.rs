//! An answer of the API server: present, absent or unknown.

use anyhow::Result;
use serde_json::Value;
use ureq::http::StatusCode;

use super::kinds::Resource;
use super::request::Request;
use super::server::Server;
use crate::json;

/// Number of characters that an error shows of an answer that is no `Status`.
const SHOWN: usize = 200;

/// A complete answer.
pub struct ServerAnswer {
    pub status: StatusCode,
    pub body: Vec<u8>,
}

impl ServerAnswer {
    /// Returns the object in a success. A refusal is an error, and so is a success that is no JSON object.
    pub fn object(&self, request: &Request, server: &Server) -> Result<Value> {
        if !self.status.is_success() {
            return Err(server.refusal(request, self).into());
        }
        match json::parse(&self.body) {
            Ok(object @ Value::Object(_)) => Ok(object),
            Ok(_) => Err(server.unexpected(request, "that is JSON but no object").into()),
            Err(error) => Err(server.unexpected(request, &format!("that is not JSON: {error}")).into()),
        }
    }

    /// Returns whether the object `name` does not exist. A starting API server and a proxy answer 404 too, but without
    /// a `Status` about this object.
    pub fn is_absence_of(&self, resource: &Resource, name: &str) -> bool {
        let Some(status) = self.refusal() else { return false };
        let details = &status["details"];
        self.status == StatusCode::NOT_FOUND
            && status["reason"] == "NotFound"
            && details["name"] == name
            && details["kind"] == resource.plural
    }

    /// Returns whether it is a refusal with this reason.
    pub fn is_refusal(&self, reason: &str) -> bool {
        self.refusal().is_some_and(|status| status["reason"] == reason)
    }

    /// Returns the `Status` object of a refusal.
    fn refusal(&self) -> Option<Value> {
        if self.status.is_success() {
            return None;
        }
        let status = json::parse(&self.body).ok()?;
        (status["kind"] == "Status" && status["apiVersion"] == "v1" && status["status"] == "Failure").then_some(status)
    }

    /// Returns the server's message.
    pub fn words(&self) -> String {
        if let Some(message) = self.refusal().as_ref().and_then(|status| status["message"].as_str()) {
            return message.to_owned();
        }
        let text = String::from_utf8_lossy(&self.body);
        let text = text.trim();
        let cut: String = text.chars().take(SHOWN).collect();
        let more = if cut.len() < text.len() { "…" } else { "" };
        if cut.is_empty() { self.status.to_string() } else { format!("{}: {cut}{more}", self.status) }
    }
}
