//! A running command whose output xtask reads line by line.

use anyhow::{Context, Result};

use super::{Process, watchdog};

/// A running command whose output is being read; see [`Process::pipe_from`].
pub struct Piped {
    pub(super) process: Process,
    pub(super) reader: duct::ReaderHandle,
    pub(super) guard: watchdog::Guard,
}

impl Piped {
    /// Returns the stream of standard output.
    pub fn reader(&self) -> &duct::ReaderHandle {
        &self.reader
    }

    /// Ends the command's process group; its output then ends for the reader.
    pub fn kill(&self) {
        if let Ok(None) = self.reader.try_wait() {
            watchdog::end(&self.reader.pids());
        }
        let _ = self.reader.kill();
    }

    /// Drains the remaining output, waits, and fails if the command failed.
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
    /// Without a reader, a command that still runs would block forever.
    fn drop(&mut self) {
        self.kill();
    }
}
