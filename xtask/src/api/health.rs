//! Whether the API server can be asked at all.

use anyhow::Result;
use ureq::http::{Method, StatusCode};

use super::Api;
use super::request::Request;

/// How the API server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers, and is ready.
    Ready,
    /// It answers, but does not serve yet: in its words.
    NotReady(String),
    /// It does not know our certificate: in its words. minikube renews one that has expired.
    Refused(String),
    /// Nothing answers: in the system's words.
    Silent(String),
}

impl Api {
    /// Asks whether it is ready.
    pub fn health(&self) -> Result<Health> {
        let request = Request::new(Method::GET, "/readyz");
        let answer = match self.server.ask(&request) {
            Ok(answer) => answer,
            Err(error) if crate::process::ending() => return Err(error),
            Err(error) => return Ok(Health::Silent(error.to_string())),
        };
        Ok(match answer.status {
            StatusCode::OK => Health::Ready,
            StatusCode::UNAUTHORIZED => Health::Refused(answer.words()),
            _ => Health::NotReady(answer.words()),
        })
    }
}
