//! Measures how long the application's address does not answer while the ingress controller's pod is replaced.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ureq::Agent;

use crate::deadlines;

/// A thread that requests the address until [`OutageProbe::end`].
pub struct OutageProbe {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<Outage>>>,
}

/// The measured outage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outage {
    longest: Duration,
    /// Whether the address answered at the end.
    pub answers: bool,
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = self.longest.as_secs_f64();
        match (self.longest, self.answers) {
            (Duration::ZERO, true) => f.write_str("every request was answered meanwhile"),
            (_, true) => write!(f, "no answer for {longest:.1} s"),
            (_, false) => write!(f, "no answer for {longest:.1} s, and still none"),
        }
    }
}

impl OutageProbe {
    /// Begins to request `address`. Measures nothing without one (a profile that publishes no port).
    pub fn begin(address: Option<String>) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&ended);
        let thread = address.map(|address| std::thread::spawn(move || measure(&address, &stop)));
        Self { ended, thread }
    }

    /// Waits for one more answer, or for the longest wait, and returns the outage.
    pub fn end(mut self) -> Option<Outage> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.take()?.join().ok()?
    }
}

/// Requests `address` until `ended`. Returns `None` if nothing answers at the start, e.g. because the Ingress has a host.
fn measure(address: &str, ended: &AtomicBool) -> Option<Outage> {
    let config = Agent::config_builder()
        .timeout_global(Some(deadlines::OUTAGE_REQUEST.time()))
        .http_status_as_error(false)
        .proxy(None);
    let agent: Agent = config.max_idle_connections(0).build().into();
    // A controller that has not read its routes yet answers 404.
    let answers =
        || agent.get(address).call().is_ok_and(|answer| answer.status() != 404 && !answer.status().is_server_error());
    if !answers() {
        return None;
    }
    let mut measured = Outage::default();
    let mut last = Instant::now();
    let mut limit = None;
    loop {
        let asked = Instant::now();
        if answers() {
            // The time until the answer is no outage.
            let gap = asked.duration_since(last);
            if gap > deadlines::OUTAGE_PAUSE.time() * 3 {
                measured.longest = measured.longest.max(gap);
            }
            last = Instant::now();
            if ended.load(Ordering::Relaxed) {
                return Some(Outage { answers: true, ..measured });
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
    fn measures_how_long_an_address_does_not_answer() {
        use std::io::{Read, Write};
        use std::sync::atomic::AtomicUsize;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (is_silent, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (silent, count) = (is_silent.clone(), answered.clone());
        std::thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                let mut buffer = [0; 1024];
                let _ = client.read(&mut buffer);
                if !silent.load(Ordering::Relaxed) {
                    let _ = client.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let answer_twice = || {
            let end = answered.load(Ordering::Relaxed) + 2;
            let start = Instant::now();
            while answered.load(Ordering::Relaxed) < end {
                assert!(start.elapsed() < deadlines::HANG, "no request comes");
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        let start = Instant::now();
        let outage = OutageProbe::begin(Some(address));
        answer_twice();
        is_silent.store(true, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(1000));
        is_silent.store(false, Ordering::Relaxed);
        answer_twice();
        let Outage { longest, answers } = outage.end().unwrap();
        assert!(answers);
        assert!((Duration::from_millis(800)..start.elapsed()).contains(&longest), "{longest:?}");
        let always = Outage { answers: true, ..Outage::default() };
        assert_eq!(always.to_string(), "every request was answered meanwhile");
        assert_eq!(OutageProbe::begin(None).end(), None);
    }
}
