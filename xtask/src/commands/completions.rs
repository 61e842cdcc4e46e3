//! `completions <shell>`: a completion script for the shell, on standard output.

use std::io::Write;

use anyhow::Result;
use clap_complete::{Shell, generate};

use crate::report::Report;

/// The name that is completed. Cargo completes its own subcommands and lets nobody in, so the script is for a function
/// of this name, which the shell's own start-up file defines.
const NAME: &str = "xtask";

/// Prints the script for `shell`; how to use it goes to standard error, so that the output can be redirected.
pub fn run(report: &Report, shell: Shell, command: clap::Command) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    // Written in one go: a reader that stops early (`| head`) is not an error.
    match stdout.write_all(&script(shell, command)).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    usage(shell).iter().for_each(|line| report.note(line));
    Ok(())
}

fn script(shell: Shell, mut command: clap::Command) -> Vec<u8> {
    let mut script = Vec::new();
    generate(shell, &mut command, NAME, &mut script);
    script
}

/// How to make use of the script: the function and the line that reads it.
fn usage(shell: Shell) -> [String; 2] {
    let (file, define, read) = match shell {
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
    [format!("put into {file}:  {define}"), format!("and after it:  {read}")]
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
    fn there_is_a_script_and_a_way_to_use_it_for_every_shell() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(script(*shell, command())).unwrap();
            assert!(script.contains("deploy") && script.contains(NAME), "{shell}");
            assert!(usage(*shell)[1].contains(&format!("completions {shell}")), "{shell}");
        }
    }

    #[test]
    fn bash_completes_with_it() {
        let script = String::from_utf8(script(Shell::Bash, command())).unwrap();
        let ask = "COMP_WORDS=(xtask de); COMP_CWORD=1; COMP_LINE='xtask de'; COMP_POINT=8; _xtask xtask de xtask; \
                   echo \"${COMPREPLY[*]}\"";
        let answer = crate::process::Process::new("bash").args(["--norc", "-c", &format!("{script}\n{ask}")]).read();
        assert_eq!(answer.unwrap().trim(), "deploy");
    }
}
