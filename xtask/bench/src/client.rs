//! A user of the application: signs up, sends requests over persistent connections, and is deleted.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::load::Load;
use xtask::failure::{Class, Failure};
use xtask::secrets::Secret;

/// Time limit for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest idle time of a connection. The ingress controller closes idle connections after 180 s.
const IDLE: Duration = Duration::from_secs(170);
/// Time limit for the deletion of many todos.
const DELETION: Duration = Duration::from_secs(60);

/// Most sign-ins per second.
const SIGN_INS: f64 = 5.0;

/// The kinds of measured requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// The first fifty todos.
    List,
    /// A new todo.
    Post,
    /// The page with the first list, for a signed-in user.
    Page,
    /// A sign-in with the right password.
    SignIn,
}

impl RequestKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::List, Self::Post, Self::Page, Self::SignIn];

    /// Returns its name in the table and in the document.
    pub fn name(self) -> &'static str {
        match self {
            Self::List => "GET /api/v1/todos?limit=50",
            Self::Post => "POST /api/v1/todos",
            Self::Page => "GET /",
            Self::SignIn => "POST /api/v1/session",
        }
    }

    /// Returns its load at `rate`. Limits sign-ins to [`SIGN_INS`] per second, because each hashes for some 30 ms.
    pub fn load(self, rate: f64, time: Duration) -> Load {
        let rate = if self == Self::SignIn { rate.min(SIGN_INS) } else { rate };
        Load { rate, time }
    }

    /// Returns the largest number of requests in flight. Only four sign-ins: the backend refuses a sixth attempt of one
    /// account from one address while five are unanswered.
    fn clients(self) -> usize {
        if self == Self::SignIn { 4 } else { 64 }
    }
}

/// A user that exists for a measurement only.
#[derive(Clone)]
pub struct Account {
    address: String,
    email: String,
    password: String,
    token: String,
}

/// Sends one request. Returns the pod that served it.
pub type Request = Box<dyn FnMut() -> Result<String> + Send>;

impl Account {
    /// Signs up a new user at `address`.
    pub fn sign_up(address: &str) -> Result<Self> {
        let (name, password) = (Secret::random(8)?, Secret::random(16)?);
        let email = format!("bench-{}@example.com", name.expose());
        let password = password.expose().to_owned();
        let body = json!({"email": email, "password": password});
        let mut response = agent(TIMEOUT)
            .post(format!("{address}/api/v1/users"))
            .send_json(&body)
            .map_err(|error| no_answer(address, &error))?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().unwrap_or_default();
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        match (status, answer["token"].as_str()) {
            (201, Some(token)) => Ok(Self { address: address.to_owned(), email, password, token: token.to_owned() }),
            _ => {
                let what = format!("{address}/api/v1/users answers {status} to a sign-up, not 201 with a token");
                Err(Failure::new(Class::Proof, what).help("cargo xtask logs backend").into())
            }
        }
    }

    /// Deletes the user and all its todos.
    pub fn delete(&self) -> Result<()> {
        let request = agent(DELETION).delete(format!("{}/api/v1/me", self.address));
        let request = request.header("Authorization", self.bearer()).force_send_body();
        let response = request.send_json(json!({"password": self.password}));
        let status = response.with_context(|| format!("deleting {}", self.email))?.status().as_u16();
        // 401: the user is already deleted.
        if status != 204 && status != 401 {
            bail!("deleting {}: the API answers {status}", self.email);
        }
        Ok(())
    }

    /// Returns requests of `kind`, each with its own persistent connection.
    pub fn requests(&self, kind: RequestKind) -> Vec<Request> {
        (0..kind.clients()).map(|_| self.request(kind)).collect()
    }

    /// Returns a request of `kind` with its own persistent connection.
    pub fn request(&self, kind: RequestKind) -> Request {
        let agent = agent(TIMEOUT);
        let path = match kind {
            RequestKind::Page => "/",
            RequestKind::SignIn => "/api/v1/session",
            RequestKind::List | RequestKind::Post => "/api/v1/todos",
        };
        let query = if kind == RequestKind::List { "?limit=50" } else { "" };
        let url = format!("{}{path}{query}", self.address);
        let (bearer, cookie) = (self.bearer(), format!("todo_session={}", self.token));
        let credentials = json!({"email": self.email, "password": self.password});
        let mut number = 0_u64;
        Box::new(move || {
            let (response, expected) = match kind {
                RequestKind::List => (agent.get(&url).header("Authorization", &bearer).call(), 200),
                RequestKind::Page => (agent.get(&url).header("Cookie", &cookie).call(), 200),
                RequestKind::SignIn => (agent.post(&url).send_json(&credentials), 200),
                RequestKind::Post => {
                    number += 1;
                    let body = json!({"title": format!("measure the application, todo {number}")});
                    (agent.post(&url).header("Authorization", &bearer).send_json(&body), 201)
                }
            };
            let mut response = response?;
            let status = response.status().as_u16();
            let pod = response.headers().get("x-served-by").and_then(|v| v.to_str().ok()).unwrap_or_default();
            let pod = pod.to_owned();
            // Latency includes the whole body, as in a browser.
            let body = response.body_mut().read_to_vec()?;
            if status != expected {
                bail!("{status} instead of {expected} from {}", if pod.is_empty() { "the ingress" } else { &pod });
            }
            if body.is_empty() {
                bail!("an empty answer from {pod}");
            }
            Ok(pod)
        })
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }
}

/// Sends a request up to three times until it succeeds, because the API may be busy.
pub fn send_with_retries(request: &mut Request) -> Result<()> {
    let mut error = None;
    for pause in [0, 500, 1500] {
        std::thread::sleep(Duration::from_millis(pause));
        match request() {
            Ok(_) => return Ok(()),
            Err(failed) => error = Some(failed),
        }
    }
    let error = error.map(|error| error.to_string()).unwrap_or_default();
    Err(Failure::new(Class::Proof, format!("creating a todo failed: {error}")).help("cargo xtask logs backend").into())
}

fn no_answer(address: &str, error: &ureq::Error) -> Failure {
    Failure::new(Class::Proof, format!("nothing answers at {address}: {error}")).help("cargo xtask status")
}

/// Returns an agent with a persistent connection and without proxy. It returns every status and follows no redirect, such
/// as the one to the sign-in page.
fn agent(timeout: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(timeout)).max_redirects(0).max_idle_age(IDLE);
    config.max_redirects_will_error(false).http_status_as_error(false).proxy(None).build().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sign_ins_stay_below_the_backends_limit() {
        let load = |kind: RequestKind, rate| kind.load(rate, TIMEOUT);
        // The backend's MAX_PER_ACCOUNT_AND_CLIENT counts each attempt until its password is verified.
        assert!(RequestKind::SignIn.clients() < 5);
        assert_eq!([load(RequestKind::SignIn, 50.0).rate, load(RequestKind::SignIn, 2.0).rate], [5.0, 2.0]);
        assert_eq!((load(RequestKind::List, 50.0).rate, RequestKind::List.clients()), (50.0, 64));
    }
}
