//! `cargo xtask completions <shell>`: prints a completion script for the shell.

use std::io::Write;

use anyhow::Result;
use clap_complete::{Shell, generate};

use crate::report::Report;

/// The shell function that the script completes. Cargo does not let others complete its subcommands, so the user defines
/// this function in the shell's start-up file.
const NAME: &str = "xtask";

/// Prints the script for `shell`. The instructions go to standard error, so that the output can be redirected.
pub fn run(report: &Report, shell: Shell, command: clap::Command) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    // A reader that stops early (`| head`) is not an error.
    match stdout.write_all(&script(shell, command)).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    instructions(shell).iter().for_each(|line| report.note(line));
    Ok(())
}

fn script(shell: Shell, mut command: clap::Command) -> Vec<u8> {
    let mut script = Vec::new();
    generate(shell, &mut command, NAME, &mut script);
    script
}

/// Returns the two lines for the shell's start-up file: one defines the function, one loads the script.
fn instructions(shell: Shell) -> [String; 2] {
    let (file, define, load) = match shell {
        Shell::Fish => (
            "~/.config/fish/config.fish",
            "function xtask; cargo xtask $argv; end".to_owned(),
            "cargo xtask completions fish | source".to_owned(),
        ),
        Shell::PowerShell => (
            "$PROFILE",
            "function xtask { cargo xtask @args }".to_owned(),
            "cargo xtask completions powershell | Out-String | Invoke-Expression".to_owned(),
        ),
        Shell::Elvish => (
            "~/.config/elvish/rc.elv",
            "fn xtask {|@a| cargo xtask $@a }".to_owned(),
            "eval (cargo xtask completions elvish | slurp)".to_owned(),
        ),
        Shell::Zsh => (
            "~/.zshrc",
            r#"xtask() { cargo xtask "$@"; }"#.to_owned(),
            "source <(cargo xtask completions zsh)".to_owned(),
        ),
        _ => (
            "~/.bashrc",
            r#"xtask() { cargo xtask "$@"; }"#.to_owned(),
            "source <(cargo xtask completions bash)".to_owned(),
        ),
    };
    [format!("add to {file}:  {define}"), format!("and below it:  {load}")]
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    fn command() -> clap::Command {
        clap::Command::new("cargo xtask")
            .subcommand(clap::Command::new("deploy").about("Deploy an environment").arg(clap::arg!(--"dry-run")))
            .subcommand(clap::Command::new("teardown"))
    }

    #[test]
    fn every_shell_has_a_script_and_instructions() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(script(*shell, command())).unwrap();
            assert!(script.contains("deploy") && script.contains(NAME), "{shell}");
            assert!(instructions(*shell)[1].contains(&format!("completions {shell}")), "{shell}");
        }
    }

    #[test]
    fn bash_completes_commands_with_the_script() {
        let script = String::from_utf8(script(Shell::Bash, command())).unwrap();
        let ask = "COMP_WORDS=(xtask de); COMP_CWORD=1; COMP_LINE='xtask de'; COMP_POINT=8; _xtask xtask de xtask; \
                   echo \"${COMPREPLY[*]}\"";
        let answer = crate::process::Process::new("bash").args(["--norc", "-c", &format!("{script}\n{ask}")]).read();
        assert_eq!(answer.unwrap().trim(), "deploy");
    }
}
