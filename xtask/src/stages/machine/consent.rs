//! Asks before the machine is changed.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::Result;

use crate::failure::{Class, Failure};
use crate::project::Project;

/// Lists what is done to the machine and asks; `--yes` is the answer given in advance. Nothing listed: nothing asked.
pub fn consent(project: &Project, lines: &[String]) -> Result<()> {
    let without = "start a Docker Engine of your own (`docker version` must show a server) to do without a private one";
    consent_to(project, lines, without)
}

/// The same for anything else; `without` tells a user who says no what happens instead.
pub fn consent_to(project: &Project, lines: &[String], without: &str) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    project.report.heading("This will, on this machine:");
    lines.iter().for_each(|line| project.report.line(format!("  - {line}")));
    if project.options.yes {
        return Ok(());
    }
    let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !terminal {
        return Err(Failure::new(Class::Machine, "this needs your consent, and there is no terminal to ask at")
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
    fn only_a_clear_yes_is_one() {
        assert!(agrees("y\n") && agrees("Yes\n"));
        assert!(!agrees("\n") && !agrees("n\n") && !agrees("yikes\n") && !agrees(""));
    }
}
