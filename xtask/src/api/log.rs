//! Logs of containers.

use std::io::{BufRead, BufReader};

use anyhow::Result;
use ureq::Body;
use ureq::http::{Method, Response, StatusCode};

use super::answer::Answer;
use super::request::Request;
use super::{Api, Streams, kinds};

/// What of a log is asked for.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// The log of the container before this one.
    pub previous: bool,
    /// Each line begins with the time at which the node took it.
    pub timestamps: bool,
    /// The last lines only.
    pub tail: Option<u32>,
    /// What is newer than so many seconds.
    pub since_seconds: Option<u64>,
    /// What is not older than this time, in RFC 3339.
    pub since: Option<String>,
}

/// A log.
pub enum Log {
    /// What there is.
    Lines(Box<dyn BufRead + Send>),
    /// The pod is there, but the container has no such log: in the node's words.
    Nothing(String),
    /// There is no such pod.
    NoPod,
}

impl Api {
    /// The log of a container as it is now; see [`Log`] for why it may be none.
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
    /// The log of a container, which goes on as lines come.
    pub fn follow_log(&self, pod: &str, container: &str, options: &LogOptions) -> Result<Log> {
        let request = request(&self.api, pod, container, options, true);
        let response: Response<Body> = self.api.server.send(&self.agent, &request)?;
        let status = response.status();
        let mut body = response.into_body();
        if status == StatusCode::OK {
            return Ok(Log::Lines(Box::new(BufReader::new(body.into_reader()))));
        }
        let answer = Answer { status, body: body.read_to_vec().unwrap_or_default() };
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

fn without(request: &Request, api: &Api, answer: &Answer, pod: &str) -> Result<Log> {
    if answer.is_absence_of(&kinds::POD, pod) {
        return Ok(Log::NoPod);
    }
    // A container that has not started, or had none before it.
    if answer.is_refusal("BadRequest") {
        return Ok(Log::Nothing(answer.words()));
    }
    Err(api.server.refusal(request, answer).into())
}
