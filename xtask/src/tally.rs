//! Counting what test runners report.

use std::fmt;
use std::ops::AddAssign;

/// Passed and failed tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
}

impl Tally {
    /// `count` failures.
    pub fn failed(count: usize) -> Self {
        Self { passed: 0, failed: count }
    }

    /// One test by its verdict.
    pub fn one(passed: bool) -> Self {
        if passed { Self { passed: 1, failed: 0 } } else { Self::failed(1) }
    }

    /// The sum of all counts in a runner's output: `12 passed, 1 failed` (our images), `12 passed; 1 failed` (cargo).
    pub fn parse(output: &str) -> Self {
        let mut tally = Self::default();
        for line in output.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            for pair in words.windows(4) {
                let (passed, failed) = (pair[0].parse(), pair[2].parse());
                let shape =
                    matches!(pair[1], "passed," | "passed;") && pair[3].trim_end_matches([';', ',']) == "failed";
                if let (true, Ok(passed), Ok(failed)) = (shape, passed, failed) {
                    tally += Self { passed, failed };
                }
            }
        }
        tally
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
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
    fn the_runners_lines_are_understood() {
        let cargo = "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.31s";
        assert_eq!(Tally::parse(cargo), Tally { passed: 12, failed: 0 });
        assert_eq!(Tally::parse("noise\n40 passed, 2 failed\n"), Tally { passed: 40, failed: 2 });
        assert_eq!(Tally::parse("nothing ran"), Tally::default());
    }
}
