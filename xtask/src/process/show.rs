//! Commands and their output as messages show them.

use std::fmt;

use super::Process;
use crate::units::quote;

/// Lines of a failed command's output that its error shows; the rest is in the log.
const TAIL: usize = 12;

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name())?;
        for arg in &self.args {
            write!(f, " {}", quote(arg))?;
        }
        Ok(())
    }
}

/// Returns the last lines of `bytes` for an error; of debug lines, only those with an error.
pub(super) fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let tells = |line: &&str| !line.trim().is_empty() && (!line.contains("level=DEBUG") || line.contains(" error="));
    let lines: Vec<&str> = text.lines().filter(tells).collect();
    lines[lines.len().saturating_sub(TAIL)..].iter().map(|line| format!("\n  | {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_only_debugging_lines_with_an_error() {
        let said = "level=DEBUG msg=\"beginning wait\"\n\
                    level=DEBUG msg=\"uninstall: Failed to delete release\" error=\"[request timed out]\"\n\
                    Error: failed to delete release: todo\n";
        let shown = tail(said.as_bytes());
        assert!(shown.contains("request timed out") && shown.contains("Error: failed") && !shown.contains("beginning"));
    }
}
