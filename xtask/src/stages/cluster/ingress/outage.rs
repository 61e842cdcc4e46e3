//! How long nothing answers at the application's address while the ingress controller's pod is replaced.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ureq::Agent;

use crate::deadlines;

/// Requests the address until it is ended.
pub struct Outage {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<Measured>>>,
}

/// What was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    longest: Duration,
    /// Whether it answered in the end.
    pub answers: bool,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = self.longest.as_secs_f64();
        match (self.longest, self.answers) {
            (Duration::ZERO, true) => f.write_str("every request was answered meanwhile"),
            (_, true) => write!(f, "no answer for {longest:.1} s"),
            (_, false) => write!(f, "no answer for {longest:.1} s, and still none"),
        }
    }
}

impl Outage {
    /// Begins; without an address (a profile that publishes no port) nothing is measured.
    pub fn begin(address: Option<String>) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let thread = address.map(|address| std::thread::spawn(move || measure(&address, &seen)));
        Self { ended, thread }
    }

    /// Ends, after an answer has come once more or the longest wait has passed.
    pub fn end(mut self) -> Option<Measured> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.take()?.join().ok()?
    }
}

/// `None`: nothing is served at the address itself, so that nobody can miss it (an Ingress for one host alone).
fn measure(address: &str, ended: &AtomicBool) -> Option<Measured> {
    let config = Agent::config_builder()
        .timeout_global(Some(deadlines::OUTAGE_REQUEST.time()))
        .http_status_as_error(false)
        .proxy(None);
    let agent: Agent = config.max_idle_connections(0).build().into();
    // A 404 comes from a controller that has not read its routes yet.
    let answers =
        || agent.get(address).call().is_ok_and(|answer| answer.status() != 404 && !answer.status().is_server_error());
    if !answers() {
        return None;
    }
    let mut measured = Measured::default();
    let mut last = Instant::now();
    let mut limit = None;
    loop {
        let asked = Instant::now();
        if answers() {
            // The time of the answer itself is not an outage.
            let gap = asked.duration_since(last);
            if gap > deadlines::OUTAGE_PAUSE.time() * 3 {
                measured.longest = measured.longest.max(gap);
            }
            last = Instant::now();
            if ended.load(Ordering::Relaxed) {
                return Some(Measured { answers: true, ..measured });
            }
        } else if ended.load(Ordering::Relaxed) {
            let limit = *limit.get_or_insert_with(|| Instant::now() + deadlines::OUTAGE_REQUEST.time() * 10);
            if Instant::now() >= limit {
                measured.longest = measured.longest.max(last.elapsed());
                return Some(measured);
            }
        }
        std::thread::sleep(deadlines::OUTAGE_PAUSE.time());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_does_not_answer_for_a_while_is_measured() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let start = Instant::now();
        let silent = move || (Duration::from_millis(500)..Duration::from_millis(1500)).contains(&start.elapsed());
        std::thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                let mut buffer = [0; 1024];
                let _ = client.read(&mut buffer);
                if !silent() {
                    let _ = client.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
                }
            }
        });
        let outage = Outage::begin(Some(address));
        std::thread::sleep(Duration::from_millis(2000));
        let Measured { longest, answers } = outage.end().unwrap();
        assert!(answers);
        assert!((Duration::from_millis(800)..Duration::from_millis(1900)).contains(&longest), "{longest:?}");
        let always = Measured { answers: true, ..Measured::default() };
        assert_eq!(always.to_string(), "every request was answered meanwhile");
        assert_eq!(Outage::begin(None).end(), None);
    }
}
