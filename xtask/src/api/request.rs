//! A request to the API server. Messages show the same value that the client sends.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use ureq::http::Method;

/// Characters that a query need not escape, so that a request stays readable.
const IN_QUERY: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/').remove(b',').remove(b':');

/// A request.
#[derive(Clone)]
pub struct Request {
    pub method: Method,
    path: String,
    query: Vec<String>,
    pub accept: &'static str,
    /// Content type and content. The content may be a Secret, so it is never shown.
    pub body: Option<(&'static str, Vec<u8>)>,
}

impl Request {
    pub const JSON: &str = "application/json";
    pub const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: Vec::new(), accept: Self::JSON, body: None }
    }

    pub fn query(&mut self, name: &str, value: &str) {
        self.query.push(format!("{name}={}", utf8_percent_encode(value, IN_QUERY)));
    }

    pub fn body(&mut self, content_type: &'static str, content: &Value) {
        self.body = Some((content_type, content.to_string().into_bytes()));
    }

    /// Returns path and query.
    pub fn target(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query.join("&")) }
    }

    /// Returns whether sending it twice has the same effect as sending it once.
    pub fn is_idempotent(&self) -> bool {
        self.method != Method::POST
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}
