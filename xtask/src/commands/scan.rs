//! `scan`: looks for secrets in the working tree, in what is staged and in the history (SC-007), with gitleaks and the
//! project's own rules in `.gitleaks.toml`.

mod finding;
mod scanner;
mod tree;

use std::io::Write;

use anyhow::{Context, Result};
use camino::Utf8Path;

use crate::failure::{Class, Failure};
use crate::git;
use crate::process::Process;
use crate::project::Project;

use finding::{Leak, Location, merge};
use scanner::Scanner;

/// Rules and allowlist.
const RULES: &str = ".gitleaks.toml";

/// Scans; each finding is a line on standard output, and any finding is a failure.
pub fn run(project: &Project, gitleaks: &Process) -> Result<()> {
    let report = &project.report;
    let running = report.step("scan", "look for secrets", "working tree, staged changes and history");
    let outcome = scan(&project.root, &project.target(), gitleaks)?;
    outcome.remarks.iter().for_each(|remark| report.warn(remark));
    if outcome.findings.is_empty() {
        running.done(format!("none in {} files{}", outcome.files, outcome.commits()));
        return Ok(());
    }
    drop(running);
    let lines: String = outcome.findings.iter().map(|finding| format!("{finding}\n")).collect();
    match std::io::stdout().lock().write_all(lines.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Err(failure(&outcome.findings).into()),
    }
}

/// What a scan saw.
#[derive(Debug, Default)]
struct ScanResult {
    findings: Vec<Leak>,
    /// Files of the working tree.
    files: usize,
    /// Commits of the history; `None`: there was no history to read.
    history: Option<usize>,
    /// What the scan could not see.
    remarks: Vec<String>,
}

impl ScanResult {
    fn commits(&self) -> String {
        match self.history {
            None => String::new(),
            Some(1) => " and 1 commit".to_owned(),
            Some(count) => format!(" and {count} commits"),
        }
    }
}

/// Scans the checkout `root`; `scratch` is a folder for short-lived files, best on the same file system.
fn scan(root: &Utf8Path, scratch: &Utf8Path, gitleaks: &Process) -> Result<ScanResult> {
    let rules = root.join(RULES);
    if !rules.is_file() {
        return Err(Failure::new(Class::Config, format!("{RULES} is missing"))
            .help(format!("git checkout {RULES}"))
            .into());
    }
    let scanner = Scanner { gitleaks: gitleaks.clone(), rules, root: root.to_owned() };
    scanner.prove()?;
    let mut outcome = ScanResult::default();
    let repository = git::in_work_tree(root)?;
    let files = if repository { tree::listed_by_git(root)? } else { tree::walked(root)? };
    outcome.files = files.len();
    let mirror = tree::mirror(root, &files, scratch)?;
    let mirrored = Utf8Path::from_path(mirror.path()).context("the scratch folder's name is not UTF-8")?;
    let mut findings = scanner.tree(mirrored)?;
    drop(mirror);
    if repository {
        findings.extend(scanner.staged()?);
        findings.extend(scanner.history()?);
        findings.extend(scanner.messages()?);
        let commits = git::git(root).args(["rev-list", "--all", "--count"]).read()?;
        outcome.history = Some(commits.trim().parse().unwrap_or_default());
        if git::git(root).args(["rev-parse", "--is-shallow-repository"]).read()?.trim() == "true" {
            outcome
                .remarks
                .push("this clone is shallow: older commits were not scanned (git fetch --unshallow)".into());
        }
    } else if root.join(".git").exists() {
        outcome.remarks.push("git cannot read this checkout: its history was not scanned".into());
    } else {
        outcome.remarks.push("this is not a git checkout: there is no history to scan".into());
    }
    outcome.findings = merge(findings);
    Ok(outcome)
}

fn failure(findings: &[Leak]) -> Failure {
    let past = findings
        .iter()
        .filter(|finding| matches!(finding.location, Location::Commit(_) | Location::Message(_)))
        .count();
    let now = findings.len() - past;
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let location = match (now, past) {
        (_, 0) => format!("{} in the working tree", count(now, "possible secret")),
        (0, _) => format!("{} in the history", count(past, "possible secret")),
        _ => format!("{} in the working tree, {past} in the history", count(now, "possible secret")),
    };
    let mut failure = Failure::new(Class::Check, location);
    if now > 0 {
        failure = failure
            .help("move the value to .env, which git ignores, and read it from there")
            .help("if the value is fake, write it as not-a-secret, which .gitleaks.toml allows");
    }
    if past > 0 {
        failure = failure
            .help(
                "replace the committed secrets, because every clone keeps them: Neon, reset the role's password; \
                 OpenAI, revoke the key; AUTH_SECRET, openssl rand -hex 32",
            )
            .help("then, before others pull it: git rebase -i COMMIT^, or git filter-repo --replace-text FILE")
            .help("if a replaced secret must stay, add its line to .gitleaksignore: COMMIT:FILE:RULE:LINE");
    }
    failure
}

#[cfg(test)]
mod tests;
