//! Workspace members that only some commands need: cargo builds them when such a command runs.
//!
//! The suites, the bench, `tidy` and `record` are a quarter of the code. As separate crates they cost the first deploy
//! nothing, and it does not compile them again after a change.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::checkout;
use crate::deadlines;
use crate::process::{CARGO, PROXY, Process};
use crate::report::Report;

/// Environment variable that tells a member which xtask to test.
pub const UNDER_TEST: &str = "XTASK_UNDER_TEST";

/// Builds the workspace member `package` and returns the path of its program. Cargo's own messages go to standard error.
///
/// The member comes from the checkout that this xtask was compiled from: the two share the library.
pub fn build(report: &Report, package: &str) -> Result<Utf8PathBuf> {
    report.note(format!("building {package}, which only this command needs"));
    let cargo = cargo()
        .args(["build", "--locked", "--message-format=json-render-diagnostics"])
        .args(report.is_quiet().then_some("--quiet"))
        .args(["--package", package])
        .cwd(checkout::compiled_from())
        .deadline(deadlines::CARGO)
        .show_stderr();
    report.command(&cargo);
    let output = cargo.output()?;
    if !output.status.success() {
        bail!("`{cargo}` failed ({}): its messages are above", output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    program_in(&messages, package).with_context(|| format!("`{cargo}` does not say where the program of {package} is"))
}

/// Replaces this process with `program`, which gets the same command line.
///
/// It is no child: Ctrl-C, standard output and the exit code are its own without any relay.
pub fn become_program(program: &Utf8Path) -> Result<()> {
    let mut command = std::process::Command::new(program);
    command.args(std::env::args_os().skip(1)).env(UNDER_TEST, std::env::current_exe()?);
    Err(command.exec()).with_context(|| format!("cannot start `{program}`"))
}

/// Returns the cargo that started this xtask, otherwise the one on PATH.
pub fn cargo() -> Process {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    Process::new(program).inherit(CARGO).inherit(PROXY)
}

/// Returns the path of the program `name` from cargo's JSON messages.
fn program_in(messages: &str, name: &str) -> Option<Utf8PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs = messages.filter_map(|message| Some(Utf8PathBuf::from(message["executable"].as_str()?)));
    programs.rfind(|program| program.file_name() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_program_among_the_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"xtask"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"xtask-bench"},"executable":"/checkout/target/debug/xtask-bench"}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(program_in(messages, "xtask-bench").unwrap(), "/checkout/target/debug/xtask-bench");
        assert_eq!(program_in("warning: not JSON", "xtask-bench"), None);
    }
}
