//! Logs of containers.

use std::io::{BufRead, BufReader};

use anyhow::Result;
use ureq::Body;
use ureq::http::{Method, Response, StatusCode};

use super::answer::ServerAnswer;
use super::request::Request;
use super::{Api, Streams, kinds};

/// The part of a log to read.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// The log of the previous container.
    pub previous: bool,
    /// Each line begins with the time when the node received it.
    pub timestamps: bool,
    /// Only this many of the last lines.
    pub tail: Option<u32>,
    /// Only lines of this many last seconds.
    pub since_seconds: Option<u64>,
    /// Only lines since this time, in RFC 3339.
    pub since: Option<String>,
}

/// The answer to a request for a log.
pub enum Log {
    /// The log.
    Lines(Box<dyn BufRead + Send>),
    /// The pod exists, but its container has no such log: the node's message.
    Nothing(String),
    /// The pod does not exist.
    NoPod,
}

impl Api {
    /// Reads the present log of a container.
    pub fn log(&self, pod: &str, container: &str, options: &LogOptions) -> Result<Log> {
        let request = request(self, pod, container, options, false);
        let answer = self.server.ask(&request)?;
        if answer.status == StatusCode::OK {
            return Ok(Log::Lines(Box::new(std::io::Cursor::new(answer.body))));
        }
        without(&request, self, &answer, pod)
    }
}

impl Streams {
    /// Streams the log of a container.
    pub fn follow_log(&self, pod: &str, container: &str, options: &LogOptions) -> Result<Log> {
        let request = request(&self.api, pod, container, options, true);
        let response: Response<Body> = self.api.server.send(&self.agent, &request)?;
        let status = response.status();
        let mut body = response.into_body();
        if status == StatusCode::OK {
            return Ok(Log::Lines(Box::new(BufReader::new(body.into_reader()))));
        }
        let answer = ServerAnswer { status, body: body.read_to_vec().unwrap_or_default() };
        without(&request, &self.api, &answer, pod)
    }
}

fn request(api: &Api, pod: &str, container: &str, options: &LogOptions, follow: bool) -> Request {
    let mut request = Request::new(Method::GET, format!("{}/log", kinds::POD.object(&api.namespace, pod)));
    request.query("container", container);
    let flags = [("follow", follow), ("previous", options.previous), ("timestamps", options.timestamps)];
    flags.iter().filter(|(_, on)| *on).for_each(|(name, _)| request.query(name, "true"));
    let numbers = [("tailLines", options.tail.map(u64::from)), ("sinceSeconds", options.since_seconds)];
    numbers.iter().for_each(|(name, value)| {
        if let Some(value) = value {
            request.query(name, &value.to_string());
        }
    });
    if let Some(since) = &options.since {
        request.query("sinceTime", since);
    }
    request
}

fn without(request: &Request, api: &Api, answer: &ServerAnswer, pod: &str) -> Result<Log> {
    if answer.is_absence_of(&kinds::POD, pod) {
        return Ok(Log::NoPod);
    }
    // The container has not started, or has no predecessor.
    if answer.is_refusal("BadRequest") {
        return Ok(Log::Nothing(answer.words()));
    }
    Err(api.server.refusal(request, answer).into())
}
