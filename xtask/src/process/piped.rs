//! A running command whose output is read as it comes.

use anyhow::{Context, Result};

use super::{Process, watchdog};

/// A running command whose output is being read; see [`Process::pipe_from`].
pub struct Piped {
    pub(super) process: Process,
    pub(super) reader: duct::ReaderHandle,
    pub(super) guard: watchdog::Guard,
}

impl Piped {
    /// The stream of standard output.
    pub fn reader(&self) -> &duct::ReaderHandle {
        &self.reader
    }

    /// Ends the command with all that it has started; whoever reads its output finds the end of it.
    pub fn kill(&self) {
        if let Ok(None) = self.reader.try_wait() {
            watchdog::end(&self.reader.pids());
        }
        let _ = self.reader.kill();
    }

    /// Drains what is left, waits, and fails if the command failed.
    pub fn finish(self) -> Result<String> {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut &self.reader, &mut rest)?;
        let output = self.reader.try_wait()?.cloned().context("the command closed its output but runs on")?;
        if self.guard.expired() {
            return Err(self.process.expired(&output.stderr));
        }
        self.process.check(&output)?;
        Ok(rest)
    }
}

impl Drop for Piped {
    /// Nobody reads it any more, so a command that still runs would block for ever.
    fn drop(&mut self) {
        self.kill();
    }
}
