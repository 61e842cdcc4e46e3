//! Finds the throughput at which the application saturates: raises the rate of a request until answers are late.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Request, RequestKind};
use super::load::{self, LoadResult, round};
use xtask::report::Running;

/// First rate, in requests per second.
const FIRST: f64 = 50.0;
/// Factor between two rates until one saturates.
const FACTOR: f64 = 1.5;
/// Factor at which the search ends, because the throughput is precise enough.
const CLOSE: f64 = 1.1;
/// Duration of each rate.
const STEP: Duration = Duration::from_secs(3);
/// Time limit of the search for one kind; three kinds take less than two minutes.
const LIMIT: Duration = Duration::from_secs(36);
/// p99 in microseconds above which the application counts as saturated.
const USELESS_US: u64 = 1_000_000;

/// The result of a search.
pub struct Saturation {
    /// The kind of request.
    pub kind: RequestKind,
    /// The highest throughput, in answers per second.
    pub per_s: f64,
    /// Whether a rate saturated the application before the search ended.
    pub saturated: bool,
    /// The result of each rate.
    pub steps: Vec<LoadResult>,
}

impl Saturation {
    /// Returns its JSON form.
    pub fn json(&self) -> Value {
        let steps = self.steps.iter().map(|step| step.json(self.kind));
        json!({
            "request": self.kind.name(), "per_s": round(self.per_s), "saturated": self.saturated,
            "steps": steps.collect::<Vec<_>>(),
        })
    }
}

/// Raises the rate until it saturates the application, then narrows it down in smaller and smaller steps.
pub fn find(kind: RequestKind, requests: &mut [Request], running: &Running) -> Saturation {
    let start = Instant::now();
    let mut steps: Vec<LoadResult> = Vec::new();
    let (mut rate, mut factor) = (FIRST, FACTOR);
    let mut saturated = false;
    while factor > CLOSE && start.elapsed() + STEP < LIMIT {
        let outcome = load::run(&kind.load(rate, STEP), requests);
        running.progress(format!("{rate:.0}/s offered, {:.0}/s answered", outcome.achieved()));
        let step_saturated = is_saturated(&outcome);
        saturated |= step_saturated;
        steps.push(outcome);
        if saturated {
            factor = factor.sqrt();
        }
        rate *= if step_saturated { factor.recip() } else { factor };
    }
    let per_s = steps.iter().map(LoadResult::achieved).fold(0.0, f64::max);
    Saturation { kind, per_s, saturated, steps }
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
    fn slow_failing_or_late_answers_mean_saturation() {
        assert!(!is_saturated(&outcome(300, 0, 5_000)));
        assert!(!is_saturated(&outcome(297, 3, 5_000)));
        assert!(is_saturated(&outcome(250, 0, 5_000)));
        assert!(is_saturated(&outcome(290, 10, 5_000)));
        assert!(is_saturated(&outcome(300, 0, 1_500_000)));
    }
}
