//! Counts, names and times of passed and failed tests.

use std::fmt;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::failure;
use crate::report::{Report, Running};

/// Marks the name of a failed test in the output of a suite that is a separate program.
const FAILED: &str = "failed: ";
/// Marks how long a test took: seconds and a name follow.
const TOOK: &str = "took: ";

/// Passed and failed tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Number of passed tests.
    pub passed: usize,
    /// Number of failed tests.
    pub failed: usize,
    /// The names of failed tests, as far as their runner prints them, with the reason where it is known.
    pub names: Vec<String>,
    /// Names and durations of tests, as far as their runner prints them.
    pub took: Vec<(String, Duration)>,
}

impl Tally {
    /// Counts `passed` and `failed` tests without names.
    pub fn new(passed: usize, failed: usize) -> Self {
        Self { passed, failed, ..Self::default() }
    }

    /// Counts one failed test.
    pub fn failure(name: impl Into<String>) -> Self {
        Self { failed: 1, names: vec![name.into()], ..Self::default() }
    }

    /// Runs one test as a step of the report. The test returns what to print behind its name.
    pub fn of(report: &Report, name: &str, test: impl FnOnce(&Running) -> Result<String>) -> Self {
        let (running, start) = (report.step("test", name, ""), Instant::now());
        let result = test(&running);
        let took = vec![(name.to_owned(), start.elapsed())];
        match result {
            Ok(result) => {
                running.done(result);
                Self { passed: 1, took, ..Self::default() }
            }
            Err(error) => {
                drop(running);
                report.error(&error);
                let name = format!("{name}: {}", failure::message(&error).lines().next().unwrap_or_default());
                Self { took, ..Self::failure(name) }
            }
        }
    }

    /// Reads the output of a test runner: sums the counts (`12 passed, 1 failed` of our programs and images,
    /// `12 passed; 1 failed` of cargo), and collects the names of failed tests (ours, cargo's, pytest's, vitest's) and how
    /// long tests took (ours, pytest's).
    pub fn parse(output: &str) -> Self {
        let mut tally = Self::default();
        for line in output.lines() {
            tally.names.extend(failed_name(line.trim()).map(str::to_owned));
            tally.took.extend(time_of_test(line.trim()));
            let words: Vec<&str> = line.split_whitespace().collect();
            for pair in words.windows(4) {
                let (passed, failed) = (pair[0].parse(), pair[2].parse());
                let shape =
                    matches!(pair[1], "passed," | "passed;") && pair[3].trim_end_matches([';', ',']) == "failed";
                if let (true, Ok(passed), Ok(failed)) = (shape, passed, failed) {
                    tally += Self::new(passed, failed);
                }
            }
        }
        tally
    }

    /// Returns the text from which [`Tally::parse`] reads this tally again.
    pub fn to_output(&self) -> String {
        let names = self.names.iter().map(|name| format!("{FAILED}{name}\n"));
        let times = self.took.iter().map(|(name, took)| format!("{TOOK}{:.2} {name}\n", took.as_secs_f64()));
        names.chain(times).chain([self.to_string()]).collect()
    }
}

/// Returns the name of the failed test that a runner's line is about.
fn failed_name(line: &str) -> Option<&str> {
    let cargo = || line.strip_prefix("test ")?.strip_suffix(" ... FAILED");
    let rest =
        line.strip_prefix(FAILED).or_else(|| line.strip_prefix("FAILED ")).or_else(|| line.strip_prefix("FAIL "));
    rest.or_else(cargo).map(str::trim)
}

/// Returns the test that a runner's line is about, and how long it took.
fn time_of_test(line: &str) -> Option<(String, Duration)> {
    let ours = line.strip_prefix(TOOK).and_then(|rest| rest.split_once(' '));
    let (seconds, name) = ours.or_else(|| line.split_once("s call "))?;
    Some((name.trim().to_owned(), Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?))
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.names.extend(other.names);
        self.took.extend(other.took);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_counts_of_all_runners() {
        let cargo = "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.31s";
        assert_eq!(Tally::parse(cargo), Tally::new(12, 0));
        assert_eq!(Tally::parse("noise\n40 passed, 2 failed\n"), Tally::new(40, 2));
        assert_eq!(Tally::parse("nothing ran"), Tally::default());
    }

    #[test]
    fn reads_names_of_failed_tests() {
        let names = |output: &str| Tally::parse(output).names;
        assert_eq!(names("test judge::tests::crash ... FAILED\ntest judge::tests::ok ... ok"), ["judge::tests::crash"]);
        assert_eq!(
            names("FAILED tests/test_api.py::test_list - assert 1 == 2"),
            ["tests/test_api.py::test_list - assert 1 == 2"]
        );
        assert_eq!(names(" FAIL  lib/store.test.ts > keeps the queue"), ["lib/store.test.ts > keeps the queue"]);
    }

    #[test]
    fn reads_how_long_tests_took() {
        let line = "12.34s call     tests/test_limits.py::test_flood[sign in]";
        assert_eq!(
            Tally::parse(line).took,
            [("tests/test_limits.py::test_flood[sign in]".to_owned(), Duration::from_millis(12_340))]
        );
        assert_eq!(Tally::parse("it took: long\n0.5s setup    tests/test_x.py::test_y").took, []);
    }

    #[test]
    fn parse_reads_what_to_output_writes() {
        let mut tally = Tally::new(3, 0);
        tally += Tally::failure("a scenario: its reason");
        tally.took.push(("(9) logs: both replicas".to_owned(), Duration::from_millis(1250)));
        assert_eq!(Tally::parse(&tally.to_output()), tally);
    }
}
