//! Open-loop load at a fixed rate: each request has a due time, independent of earlier answers. Its latency counts from
//! that time, so a stalled server cannot hide the requests that it delays.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Request, RequestKind};
use xtask::process;

/// Delay behind the schedule after which a load skips requests.
const BEHIND: Duration = Duration::from_secs(5);

/// A load of requests.
pub struct Load {
    /// Requests per second.
    pub rate: f64,
    /// The duration of the load.
    pub time: Duration,
}

/// The result of a load.
#[derive(Clone, Debug, Default)]
pub struct LoadResult {
    /// The requested rate, in requests per second.
    pub offered: f64,
    /// Number of requests with the expected answer.
    pub done: usize,
    /// Number of failed requests.
    pub failed: usize,
    /// Number of requests that were skipped, because the load was too far behind.
    pub given_up: usize,
    /// The error of the first failed request.
    pub first_failure: Option<String>,
    /// Sorted latencies of successful requests in microseconds, from their due times.
    pub latencies_us: Vec<u64>,
    /// Time from the first due time to the last answer.
    pub took: Duration,
    /// The pods that served requests.
    pub served_by: BTreeSet<String>,
}

impl LoadResult {
    /// Returns the `p`th percentile of the latencies in microseconds.
    pub fn percentile_us(&self, p: usize) -> u64 {
        let rank = (self.latencies_us.len() * p).div_ceil(100);
        self.latencies_us.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// Returns the answers per second.
    pub fn achieved(&self) -> f64 {
        self.done as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// Returns its JSON form.
    pub fn json(&self, kind: RequestKind) -> Value {
        let ms = |p| self.percentile_us(p) as f64 / 1000.0;
        json!({
            "request": kind.name(), "offered_per_s": round(self.offered), "achieved_per_s": round(self.achieved()),
            "done": self.done, "failed": self.failed, "given_up": self.given_up,
            "p50_ms": ms(50), "p95_ms": ms(95), "p99_ms": ms(99), "max_ms": ms(100),
            "served_by": self.served_by,
        })
    }
}

/// Rounds to one decimal.
pub fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Runs the load, with at most as many requests in flight as there are `requests`.
pub fn run(load: &Load, requests: &mut [Request]) -> LoadResult {
    let total = (load.rate * load.time.as_secs_f64()).round().max(1.0) as usize;
    let next = AtomicUsize::new(0);
    let start = Instant::now() + Duration::from_millis(50);
    let parts: Vec<LoadResult> = std::thread::scope(|scope| {
        let next = &next;
        let worker = |request| scope.spawn(move || send_due(load.rate, total, start, next, request));
        let threads: Vec<_> = requests.iter_mut().map(worker).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
    });
    let mut all = LoadResult { offered: load.rate, ..LoadResult::default() };
    for part in parts {
        all.done += part.done;
        all.failed += part.failed;
        all.given_up += part.given_up;
        all.first_failure = all.first_failure.or(part.first_failure);
        all.latencies_us.extend(part.latencies_us);
        all.took = all.took.max(part.took);
        all.served_by.extend(part.served_by);
    }
    all.latencies_us.sort_unstable();
    all
}

fn send_due(rate: f64, total: usize, start: Instant, next: &AtomicUsize, request: &mut Request) -> LoadResult {
    let mut outcome = LoadResult::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= total || process::ending() {
            return outcome;
        }
        let due = start + Duration::from_secs_f64(number as f64 / rate);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if due.elapsed() > BEHIND {
            outcome.given_up += 1;
            continue;
        }
        let result = request();
        outcome.took = outcome.took.max(start.elapsed());
        match result {
            Ok(pod) => {
                outcome.done += 1;
                outcome.latencies_us.push(u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX));
                if !outcome.served_by.contains(&pod) {
                    outcome.served_by.insert(pod);
                }
            }
            Err(error) => {
                outcome.failed += 1;
                outcome.first_failure.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let outcome = LoadResult { latencies_us: (1..=200).collect(), ..LoadResult::default() };
        assert_eq!([50, 95, 99, 100].map(|p| outcome.percentile_us(p)), [100, 190, 198, 200]);
        assert_eq!(LoadResult::default().percentile_us(99), 0);
    }

    #[test]
    fn a_stall_delays_every_request_due_during_it() {
        // One connection stalls once for 300 ms: a closed loop would see a single slow request.
        let mut stalled = false;
        let load = Load { rate: 100.0, time: Duration::from_millis(600) };
        let request: Request = Box::new(move || {
            if !std::mem::replace(&mut stalled, true) {
                std::thread::sleep(Duration::from_millis(300));
            }
            Ok("todo-backend/a".to_owned())
        });
        let outcome = run(&load, &mut [request]);
        assert_eq!((outcome.done, outcome.failed, outcome.given_up), (60, 0, 0));
        let slow = outcome.latencies_us.iter().filter(|us| **us > 50_000).count();
        assert!(slow >= 20, "{slow} slow ones: {:?}", outcome.latencies_us);
        assert_eq!(outcome.served_by.len(), 1);
    }

    #[test]
    fn failures_are_counted_and_the_first_is_kept() {
        let load = Load { rate: 500.0, time: Duration::from_millis(40) };
        let failing = || -> Request { Box::new(|| anyhow::bail!("503 instead of 200")) };
        let outcome = run(&load, &mut [failing(), failing()]);
        assert_eq!((outcome.done, outcome.failed), (0, 20));
        assert_eq!(outcome.first_failure.as_deref(), Some("503 instead of 200"));
    }
}
