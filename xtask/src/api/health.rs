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
    /// Nothing answers, or nothing that knows our certificate: in the system's words.
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
            // minikube renews a certificate that has expired.
            StatusCode::UNAUTHORIZED => Health::Silent(answer.words()),
            _ => Health::NotReady(answer.words()),
        })
    }

    /// Waits until it is ready, as long as it answers at all.
    pub fn wait_until_ready(&self) -> Result<Health> {
        let begun = std::time::Instant::now();
        loop {
            match self.health()? {
                Health::NotReady(_) if begun.elapsed() < self.deadlines().ready => {
                    std::thread::sleep(self.deadlines().poll);
                }
                health => return Ok(health),
            }
        }
    }
}
