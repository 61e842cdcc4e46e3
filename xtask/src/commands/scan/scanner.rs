//! Runs gitleaks v8: `dir` for files, `git` for diffs, `stdin` for text; always with the project's rules and redaction.

use anyhow::{Result, bail};
use camino::{Utf8Path, Utf8PathBuf};

use super::finding::{Leak, Location, parse};
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::git::{aim, git};
use crate::process::Process;

/// The exit code that gitleaks returns for leaks; its default 1 also means errors.
const LEAKS_FOUND: i32 = 9;

/// gitleaks with the rules of a checkout.
pub struct Scanner {
    /// The gitleaks program.
    pub gitleaks: Process,
    /// `.gitleaks.toml`.
    pub rules: Utf8PathBuf,
    /// The checkout.
    pub root: Utf8PathBuf,
    /// The key of `.env` with a random value.
    pub random_key: String,
}

impl Scanner {
    /// Scans `mirror`, whose files have the same paths as in the checkout.
    pub fn scan_tree(&self, mirror: &Utf8Path) -> Result<Vec<Leak>> {
        self.run(self.command("dir").arg(".").cwd(mirror), &Location::Tree)
    }

    /// Scans the staged changes.
    pub fn scan_index(&self) -> Result<Vec<Leak>> {
        self.run(self.command("git").args(["--staged", "."]), &Location::Staged)
    }

    /// Scans the added lines of all commits on any branch, tag or stash; of a merge, only its own changes.
    pub fn scan_history(&self) -> Result<Vec<Leak>> {
        let remerge = git(&self.root).args(["log", "--max-count=0", "--remerge-diff"]).succeeds();
        // git before 2.35 shows each merge against each of its parents, which includes the merge's own changes.
        let merges = if remerge { "--remerge-diff" } else { "-m" };
        let options =
            format!("--log-opts=--all --full-history --no-ext-diff --no-textconv --diff-filter=tuxdb {merges}");
        self.run(self.command("git").args([options.as_str(), "."]), &Location::Tree)
    }

    /// Scans commit messages, which gitleaks ignores; `with_log` is whether there is a repository.
    ///
    /// Fails unless gitleaks finds a specimen for each rule of the project and for some of its own rules. Otherwise a broken
    /// rule or program would make the repository look clean.
    pub fn scan_messages(&self, with_log: bool) -> Result<Vec<Leak>> {
        let log = if with_log {
            git(&self.root).args(["log", "--all", "--format=commit %H%n%B"]).read()?
        } else {
            String::new()
        };
        let specimens = specimens(&self.random_key);
        let lines: Vec<&str> = specimens.iter().map(|(_, line)| line.as_str()).chain(log.lines()).collect();
        let found = self.run(self.command("stdin").stdin(lines.join("\n")), &Location::Tree)?;
        let (in_specimens, in_log): (Vec<_>, Vec<_>) = found.into_iter().partition(|leak| leak.line <= specimens.len());
        let missed: Vec<&str> = specimens
            .iter()
            .enumerate()
            .filter(|(n, (rule, _))| !in_specimens.iter().any(|f| f.line == n + 1 && f.rules.iter().any(|r| r == rule)))
            .map(|(_, (rule, _))| *rule)
            .collect();
        if missed.is_empty() {
            return Ok(in_log.into_iter().map(|leak| in_message(leak, &lines)).collect());
        }
        let what = format!("gitleaks does not find the specimens of these rules: {}", missed.join(", "));
        Err(Failure::new(Class::Config, what)
            .help("fix these rules in .gitleaks.toml, or revert your changes to them")
            .into())
    }

    fn command(&self, command: &str) -> Process {
        let process = aim(self.gitleaks.clone(), &self.root)
            .deadline(deadlines::SCAN)
            // The user's own git settings (colours, prefixes, external diffs) would make the diffs unreadable.
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .arg(command)
            .args(["--config", self.rules.as_str(), "--gitleaks-ignore-path", self.root.as_str()])
            .args(["--no-banner", "--no-color", "--redact", "--ignore-gitleaks-allow"])
            .args(["--report-format", "json", "--report-path", "-"]);
        process.arg(format!("--exit-code={LEAKS_FOUND}"))
    }

    fn run(&self, process: Process, location: &Location) -> Result<Vec<Leak>> {
        let output = process.output()?;
        let log = String::from_utf8_lossy(&output.stderr);
        // gitleaks exits with 0 if its git fails; only its log shows the error.
        let errors: Vec<&str> =
            log.lines().filter(|l| [" ERR ", " FTL "].iter().any(|mark| l.contains(mark))).collect();
        let finished = matches!(output.status.code(), Some(0 | LEAKS_FOUND));
        if !finished || !errors.is_empty() {
            let shown = if errors.is_empty() { log.lines().collect() } else { errors };
            bail!("gitleaks could not scan ({}):\n  | {}", output.status, shown.join("\n  | "));
        }
        parse(&output.stdout, location)
    }
}

/// Converts a leak in the output of `git log` to one in a commit's message.
fn in_message(finding: Leak, log: &[&str]) -> Leak {
    let at = finding.line.min(log.len());
    let start = log[..at].iter().rposition(|line| line.strip_prefix("commit ").is_some_and(is_hash));
    let commit = start.and_then(|start| log[start].strip_prefix("commit ")).unwrap_or("?").to_owned();
    let line = at - start.map_or(0, |start| start + 1);
    Leak { location: Location::Message(commit), file: String::new(), line, ..finding }
}

fn is_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns a line with a fake secret for each required rule; the rule of random values searches their key. Joined at run time,
/// because the scan reads this file.
pub fn specimens(random_key: &str) -> Vec<(&'static str, String)> {
    let password = ["q7", "Zk2mVx", "9sT4wB"].concat();
    vec![
        ("todo-postgres-url", format!("url = 'postgresql://todo:{password}@db.lan:5432/todo'")),
        (
            "todo-postgres-url",
            format!("url=postgres://o:{password}@ep-a-b-1-pooler.eu-central-1.aws.neon.tech/db?sslmode=require"),
        ),
        ("todo-neon-password", format!("PGPASSWORD=npg_{password}")),
        ("todo-neon-host-password", format!("host=ep-a-b-1.eu-central-1.aws.neon.tech dbname=db password={password}")),
        ("todo-auth-secret", format!("{random_key}={password}{password}")),
        ("todo-auth-secret", format!("  \"{random_key}\": \"{password}{password}\",")),
        ("todo-openai-key", format!("key=sk-proj-{password}{password}")),
        ("todo-openai-key", format!("key = 'sk-{password}{password}'")),
        ("aws-access-token", ["aws = 'AKIA", "Q3EGRIWJ5SLOWQ7T'"].concat()),
        (
            "private-key",
            ["-----BEGIN RSA ", "PRIVATE KEY-----", &password.repeat(8), "-----END RSA ", "PRIVATE KEY-----"].concat(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_a_line_of_the_log_to_its_commit() {
        let (one, two) = ("commit ".to_owned() + &"a".repeat(40), "commit ".to_owned() + &"b".repeat(40));
        let log = [one.as_str(), "subject", "", two.as_str(), "commit to it", "", "body"];
        let finding = |line| Leak { location: Location::Tree, file: String::new(), line, rules: vec!["r".into()] };
        assert_eq!(in_message(finding(2), &log).location, Location::Message("a".repeat(40)));
        let body = in_message(finding(7), &log);
        assert_eq!((body.location, body.line), (Location::Message("b".repeat(40)), 3));
    }
}
