//! The output of a run of xtask, for suites that run the real program.

use std::process::Output;
use std::time::Duration;

use anyhow::{Result, ensure};

/// A run that has ended.
pub struct Ran {
    /// Exit code.
    pub code: i32,
    /// Standard output and error.
    pub text: String,
    /// Standard output alone.
    pub stdout: String,
    /// How long it took.
    pub took: Duration,
}

impl Ran {
    /// What `output`, which took `took`, comes to. The exit code of a killed process is -1.
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
