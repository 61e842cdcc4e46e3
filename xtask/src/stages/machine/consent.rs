//! Asks the user before xtask changes the machine or deletes data.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::Result;

use crate::failure::{Class, Failure};
use crate::report::Report;

/// Lists the changes that a private Docker Engine makes to the machine, and asks for consent as [`consent_to`] does.
pub fn consent(report: &Report, yes: bool, lines: &[String]) -> Result<()> {
    let without = "to go without a private Docker Engine, start your own: `docker version` must show a server";
    consent_to(report, yes, lines, without)
}

/// Lists `lines` and asks for consent, unless `yes` (`--yes`) is set or there is no line. `without` is the hint after a "no".
pub fn consent_to(report: &Report, yes: bool, lines: &[String], without: &str) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    report.heading("xtask will make these changes on this machine:");
    lines.iter().for_each(|line| report.line(format!("  - {line}")));
    if yes {
        return Ok(());
    }
    let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !terminal {
        return Err(Failure::new(Class::Machine, "cannot ask for your consent: there is no terminal")
            .help("run the same command with --yes")
            .into());
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "Proceed? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if agrees(&answer) {
        return Ok(());
    }
    Err(Failure::new(Class::Interrupted, "nothing was changed").help(without).into())
}

fn agrees(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_only_y_or_yes_as_consent() {
        assert!(agrees("y\n") && agrees("Yes\n"));
        assert!(!agrees("\n") && !agrees("n\n") && !agrees("yikes\n") && !agrees(""));
    }
}
