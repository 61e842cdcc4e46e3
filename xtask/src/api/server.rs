//! The connection to the API server: TLS with the profile's certificate, keep-alive, deadlines and bounded retries.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use ureq::http::{self, StatusCode, header};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::answer::ServerAnswer;
use super::request::Request;
use super::{Credentials, Deadlines};
use crate::failure::{Class, Failure};
use crate::process;
use crate::pure;

/// Idle connections that stay open: as many as requests run side by side.
const IDLE: usize = 8;
/// Largest answer in bytes. A list of hundreds of objects has a few million.
const LARGEST: u64 = 256 << 20;
/// Bytes of a connection's buffers: a TLS record, and more than the head of any answer.
const BUFFER: usize = 16 << 10;

/// The API server's address, and the agents that send requests.
pub struct Server {
    agent: Agent,
    address: SocketAddr,
    tls: TlsConfig,
    pub deadlines: Deadlines,
}

/// A request without an answer.
#[derive(Debug)]
struct NoAnswer {
    /// The system's message.
    words: String,
    /// Whether the connection ended before an answer: the server has stopped, or is stopping.
    away: bool,
    /// Whether the request cannot have arrived.
    unsent: bool,
}

impl Server {
    pub fn new(address: SocketAddr, credentials: &Credentials, deadlines: Deadlines) -> Result<Self> {
        let wrong = |what: &str| {
            Failure::new(Class::Cluster, format!("minikube's {what} is not PEM"))
                .help("minikube makes it again: cargo xtask deploy dev")
        };
        let authority = Certificate::from_pem(&credentials.authority).map_err(|_| wrong("ca.crt"))?;
        let certificate = Certificate::from_pem(&credentials.certificate).map_err(|_| wrong("client.crt"))?;
        let key = PrivateKey::from_pem(&credentials.key).map_err(|_| wrong("client.key"))?;
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&[authority]))
            .client_cert(Some(ClientCert::new_with_certs(&[certificate], key)))
            .build();
        let config = config(&tls, &deadlines).timeout_global(Some(deadlines.answer)).build();
        Ok(Self { agent: config.new_agent(), address, tls, deadlines })
    }

    /// Makes an agent for streams: without a deadline for the whole, and with its own connections, so that it can be
    /// closed.
    pub fn stream_agent(&self) -> Agent {
        config(&self.tls, &self.deadlines).timeout_recv_response(Some(self.deadlines.head)).build().new_agent()
    }

    /// Sends `request`, with retries where they may help, and reads the complete answer.
    pub fn ask(&self, request: &Request) -> Result<ServerAnswer> {
        let mut response = self.send(&self.agent, request)?;
        let status = response.status();
        match response.body_mut().with_config().limit(LARGEST).read_to_vec() {
            Ok(body) => Ok(ServerAnswer { status, body }),
            Err(error) => Err(self.no_answer(request, &format!("the answer was cut off: {error}")).into()),
        }
    }

    /// Sends `request` and returns the response, whatever its status.
    pub fn send(&self, agent: &Agent, request: &Request) -> Result<http::Response<Body>> {
        let begun = Instant::now();
        let mut pause = self.deadlines.pause;
        let mut attempt = 1;
        loop {
            // After Ctrl-C, a retry or a rollback must not begin anything new.
            if process::ending() {
                bail!("interrupted");
            }
            let result = self.send_once(agent, request);
            let wait = match &result {
                Ok(response) if may_repeat(response.status(), request) => retry_after(response).unwrap_or(pause),
                Err(no_answer) if no_answer.unsent || no_answer.away && request.is_idempotent() => pause,
                _ => Duration::MAX,
            };
            let wait = if wait == Duration::MAX { wait } else { wait.min(self.deadlines.longest_pause) };
            let last =
                attempt >= self.deadlines.attempts || begun.elapsed().saturating_add(wait) > self.deadlines.retry;
            if wait == Duration::MAX || last {
                return result.map_err(|no_answer| self.no_answer(request, &no_answer.words).into());
            }
            std::thread::sleep(wait);
            attempt += 1;
            pause *= 2;
        }
    }

    /// Sends `request` a single time.
    fn send_once(&self, agent: &Agent, request: &Request) -> Result<http::Response<Body>, NoAnswer> {
        pure::effect("sends a request");
        let uri = format!("https://{}{}", self.address, request.target());
        let built =
            http::Request::builder().method(request.method.clone()).uri(uri).header(header::ACCEPT, request.accept);
        let sent = match &request.body {
            None => built.body(()).map_err(ureq::Error::from).and_then(|built| agent.run(built)),
            Some((content_type, content)) => built
                .header(header::CONTENT_TYPE, *content_type)
                .body(content.as_slice())
                .map_err(ureq::Error::from)
                .and_then(|built| agent.run(built)),
        };
        sent.map_err(NoAnswer::from)
    }

    /// Returns the error for a missing or incomplete answer.
    pub fn no_answer(&self, request: &Request, words: &str) -> Failure {
        let what = format!("the API server at {} did not answer `{request}`: {words}", self.address);
        Failure::new(Class::Cluster, what)
            .help("see whether the node runs: cargo xtask status")
            .help("start an API server that stays away: cargo xtask deploy dev")
    }

    /// Returns the error for a refusal.
    pub fn refusal(&self, request: &Request, answer: &ServerAnswer) -> Failure {
        let what = format!("the API server refused `{request}`: {}", answer.words());
        Failure::new(Class::Cluster, what)
            .help("see its health checks: cargo xtask tool kubectl -- get --raw '/readyz?verbose'")
    }

    /// Returns the error for an answer that does not fit the request.
    pub fn unexpected(&self, request: &Request, why: &str) -> Failure {
        let what = format!("the API server at {} sent an unexpected answer to `{request}`: {why}", self.address);
        Failure::new(Class::Cluster, what)
            .help("see its health checks: cargo xtask tool kubectl -- get --raw '/readyz?verbose'")
    }
}

/// Returns the configuration that all agents share.
fn config(tls: &TlsConfig, deadlines: &Deadlines) -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    Agent::config_builder()
        .tls_config(tls.clone())
        // The node is local, so the environment's proxy is not used.
        .proxy(None)
        .https_only(true)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .no_delay(true)
        // A connection fills both when it is made, and a look makes a dozen connections.
        .input_buffer_size(BUFFER)
        .output_buffer_size(BUFFER)
        .max_idle_connections_per_host(IDLE)
        .max_idle_connections(IDLE)
        .user_agent("todo-xtask")
        .timeout_connect(Some(deadlines.connect))
}

/// Returns whether the request may be repeated after `status`. The server never began a request that it answers with 429. With
/// 503 it may have, so only idempotent requests are repeated.
fn may_repeat(status: StatusCode, request: &Request) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE && request.is_idempotent()
}

/// Returns the pause that the server requests.
fn retry_after(response: &http::Response<Body>) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

impl From<ureq::Error> for NoAnswer {
    fn from(error: ureq::Error) -> Self {
        let kind = if let ureq::Error::Io(error) = &error { Some(error.kind()) } else { None };
        let gone = [
            ErrorKind::ConnectionRefused,
            ErrorKind::ConnectionReset,
            ErrorKind::ConnectionAborted,
            ErrorKind::BrokenPipe,
            ErrorKind::UnexpectedEof,
        ];
        Self {
            away: kind.is_some_and(|kind| gone.contains(&kind)),
            unsent: kind == Some(ErrorKind::ConnectionRefused),
            words: match error {
                ureq::Error::Io(error) => error.to_string(),
                ureq::Error::Timeout(_) => "no answer in time".to_owned(),
                other => other.to_string(),
            },
        }
    }
}
