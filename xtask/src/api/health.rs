//! Health of the API server.

use anyhow::Result;
use ureq::http::{Method, StatusCode};

use super::Api;
use super::request::Request;

/// The health of the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers, and is ready.
    Ready,
    /// It answers, but is not ready: its message.
    NotReady(String),
    /// It rejects our certificate: its message. minikube renews an expired one.
    Refused(String),
    /// No answer: the system's message.
    Silent(String),
}

impl Api {
    /// Asks the API server whether it is ready.
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
