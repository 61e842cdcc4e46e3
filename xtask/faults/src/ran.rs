//! The output of a run of xtask, for suites that run the real program.

use std::process::Output;
use std::time::Duration;

use anyhow::{Result, ensure};

/// The result of a run that has ended.
pub struct Ran {
    /// The exit code; -1 if a signal killed the process.
    pub code: i32,
    /// Standard output, followed by standard error.
    pub text: String,
    /// Standard output alone.
    pub stdout: String,
    /// The duration of the run.
    pub took: Duration,
}

impl Ran {
    /// Creates the result of a run from its `output` and duration `took`.
    pub fn of(output: Output, took: Duration) -> Self {
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Self { code: output.status.code().unwrap_or(-1), text, stdout, took }
    }

    /// Fails unless the run ended with `code` and printed every one of `texts`.
    pub fn expect(self, code: i32, texts: &[&str]) -> Result<Self> {
        ensure!(self.code == code, "exit code {} instead of {code}:\n{}", self.code, self.text);
        for text in texts {
            ensure!(self.text.contains(text), "`{text}` is not in:\n{}", self.text);
        }
        Ok(self)
    }
}
