//! Counts and names of passed and failed tests.

use std::fmt;
use std::ops::AddAssign;

use anyhow::Result;

use crate::report::{Report, Running};

/// Marks the name of a failed test in the output of a suite that is a program of its own.
const FAILED: &str = "failed: ";

/// Passed and failed tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Number of passed tests.
    pub passed: usize,
    /// Number of failed tests.
    pub failed: usize,
    /// The names of failed tests, as far as their runner prints them, with the reason where it is known.
    pub names: Vec<String>,
}

impl Tally {
    /// Counts `passed` and `failed` tests without names.
    pub fn new(passed: usize, failed: usize) -> Self {
        Self { passed, failed, names: Vec::new() }
    }

    /// Counts one failed test.
    pub fn failure(name: impl Into<String>) -> Self {
        Self { passed: 0, failed: 1, names: vec![name.into()] }
    }

    /// Runs one test as a step of the report. The test returns what to print behind its name.
    pub fn of(report: &Report, name: &str, test: impl FnOnce(&Running) -> Result<String>) -> Self {
        let running = report.step("test", name, "");
        match test(&running) {
            Ok(result) => {
                running.done(result);
                Self::new(1, 0)
            }
            Err(error) => {
                drop(running);
                report.error(&error);
                Self::failure(format!("{name}: {}", error.to_string().lines().next().unwrap_or_default()))
            }
        }
    }

    /// Reads the output of a test runner: sums the counts (`12 passed, 1 failed` of our programs and images,
    /// `12 passed; 1 failed` of cargo) and collects the names of failed tests (ours, cargo's, pytest's, vitest's).
    pub fn parse(output: &str) -> Self {
        let mut tally = Self::default();
        for line in output.lines() {
            tally.names.extend(failed_name(line.trim()).map(str::to_owned));
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
        names.chain([self.to_string()]).collect()
    }
}

/// Returns the name of the failed test that a runner's line is about.
fn failed_name(line: &str) -> Option<&str> {
    let cargo = || line.strip_prefix("test ")?.strip_suffix(" ... FAILED");
    let rest =
        line.strip_prefix(FAILED).or_else(|| line.strip_prefix("FAILED ")).or_else(|| line.strip_prefix("FAIL "));
    rest.or_else(cargo).map(str::trim)
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.names.extend(other.names);
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
    fn parse_reads_what_to_output_writes() {
        let mut tally = Tally::new(3, 0);
        tally += Tally::failure("a scenario: its reason");
        assert_eq!(Tally::parse(&tally.to_output()), tally);
    }
}
