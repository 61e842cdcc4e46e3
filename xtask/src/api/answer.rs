//! What the API server answered, and what it means.

use anyhow::Result;
use serde_json::Value;
use ureq::http::StatusCode;

use super::kinds::Resource;
use super::request::Request;
use super::server::Server;

/// Characters of an answer that is no `Status` which an error shows.
const SHOWN: usize = 200;

/// A whole answer.
pub struct Answer {
    pub status: StatusCode,
    pub body: Vec<u8>,
}

impl Answer {
    /// The object in a success. A success that is no JSON object is an error, like every refusal.
    pub fn object(&self, request: &Request, server: &Server) -> Result<Value> {
        if !self.status.is_success() {
            return Err(server.refusal(request, self).into());
        }
        match serde_json::from_slice(&self.body) {
            Ok(object @ Value::Object(_)) => Ok(object),
            Ok(_) => Err(server.nonsense(request, "that is JSON but no object").into()),
            Err(error) => Err(server.nonsense(request, &format!("that is not JSON: {error}")).into()),
        }
    }

    /// Whether it says that the object called `name` does not exist. A starting API server and a proxy answer 404 too,
    /// but not with a `Status` about this object.
    pub fn is_absence_of(&self, resource: &Resource, name: &str) -> bool {
        let Some(status) = self.refusal() else { return false };
        let details = &status["details"];
        self.status == StatusCode::NOT_FOUND
            && status["reason"] == "NotFound"
            && details["name"] == name
            && details["kind"] == resource.plural
    }

    /// Whether it is a refusal with this reason.
    pub fn is_refusal(&self, reason: &str) -> bool {
        self.refusal().is_some_and(|status| status["reason"] == reason)
    }

    /// The `Status` object of a refusal.
    fn refusal(&self) -> Option<Value> {
        if self.status.is_success() {
            return None;
        }
        let status: Value = serde_json::from_slice(&self.body).ok()?;
        (status["kind"] == "Status" && status["apiVersion"] == "v1" && status["status"] == "Failure").then_some(status)
    }

    /// The server's own words.
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
