//! The throughput at which a request saturates: more and more are offered until they are not answered in time.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Request, RequestKind};
use super::load::{self, LoadResult, round};
use xtask::report::Running;

/// The first offer, in requests a second.
const FIRST: f64 = 50.0;
/// From one offer to the next, until one is too much.
const FACTOR: f64 = 1.5;
/// The factor at which the search ends: the throughput is known well enough.
const CLOSE: f64 = 1.1;
/// How long each is made.
const STEP: Duration = Duration::from_secs(3);
/// Longest search for one kind; three of them stay below two minutes.
const LIMIT: Duration = Duration::from_secs(36);
/// p99 beyond which an answer is of no use to a user, in microseconds.
const USELESS_US: u64 = 1_000_000;

/// What was found.
pub struct Found {
    /// Which request.
    pub kind: RequestKind,
    /// The most that were answered a second.
    pub per_s: f64,
    /// Whether more than that were offered, or the search ended before.
    pub saturated: bool,
    /// Each offer, with what was answered and p99.
    pub steps: Vec<LoadResult>,
}

impl Found {
    /// For the document.
    pub fn json(&self) -> Value {
        let steps = self.steps.iter().map(|step| step.json(self.kind));
        json!({
            "request": self.kind.name(), "per_s": round(self.per_s), "saturated": self.saturated,
            "steps": steps.collect::<Vec<_>>(),
        })
    }
}

/// Offers more and more until it is too much, then less again by ever smaller steps.
pub fn find(kind: RequestKind, requests: &mut [Request], running: &Running) -> Found {
    let start = Instant::now();
    let mut steps: Vec<LoadResult> = Vec::new();
    let (mut rate, mut factor) = (FIRST, FACTOR);
    let mut saturated = false;
    while factor > CLOSE && start.elapsed() + STEP < LIMIT {
        let outcome = load::run(&kind.load(rate, STEP), requests);
        running.progress(format!("{rate:.0}/s offered, {:.0}/s answered", outcome.achieved()));
        let is_too_much = is_saturated(&outcome);
        saturated |= is_too_much;
        steps.push(outcome);
        if saturated {
            factor = factor.sqrt();
        }
        rate *= if is_too_much { factor.recip() } else { factor };
    }
    let per_s = steps.iter().map(LoadResult::achieved).fold(0.0, f64::max);
    Found { kind, per_s, saturated, steps }
}

fn is_saturated(outcome: &LoadResult) -> bool {
    let all = outcome.done + outcome.failed + outcome.given_up;
    let lost = outcome.failed + outcome.given_up;
    outcome.achieved() < 0.9 * outcome.offered || lost * 100 > all || outcome.percentile_us(99) > USELESS_US
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(done: usize, failed: usize, p99: u64) -> LoadResult {
        let latencies_us = vec![p99; done];
        LoadResult { offered: 100.0, done, failed, latencies_us, took: Duration::from_secs(3), ..LoadResult::default() }
    }

    #[test]
    fn slower_than_offered_failing_or_useless_is_saturated() {
        assert!(!is_saturated(&outcome(300, 0, 5_000)));
        assert!(!is_saturated(&outcome(297, 3, 5_000)));
        assert!(is_saturated(&outcome(250, 0, 5_000)));
        assert!(is_saturated(&outcome(290, 10, 5_000)));
        assert!(is_saturated(&outcome(300, 0, 1_500_000)));
    }
}
