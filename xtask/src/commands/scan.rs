//! `cargo xtask scan`: searches the working tree, the index and the history for secrets (SC-007), with gitleaks and the
//! project's rules in `.gitleaks.toml`.

mod finding;
mod scanner;
mod tree;

use std::io::Write;

use anyhow::{Context, Result};
use camino::Utf8Path;

use crate::failure::{Class, Failure};
use crate::git;
use crate::origin::{Requirement, Tool};
use crate::plan::Mode;
use crate::process::Process;
use crate::project::Project;
use crate::report::Report;
use crate::settings::Keys;
use crate::toolchain::Toolchain;

use finding::{Leak, Location, merge};
use scanner::Scanner;

/// The file with rules and allowlist.
const RULES: &str = ".gitleaks.toml";

/// Scans for secrets. Prints each leak as a line on standard output, and fails if there is one.
pub fn run(project: &Project) -> Result<()> {
    let toolchain = project.bring_tools(Mode::Apply, &[Requirement::Tool(Tool::Gitleaks)])?;
    search(&project.report, &project.root, &project.settings.keys, &toolchain)
}

/// Does the same for the checkout `root`, whose `.env` has `keys`, with the gitleaks of `toolchain`.
pub fn search(report: &Report, root: &Utf8Path, keys: &Keys, toolchain: &Toolchain) -> Result<()> {
    let gitleaks = Process::new(toolchain.origin.tool(Tool::Gitleaks).as_str()).class(Class::Check);
    let running = report.step("scan", "look for secrets", "working tree, staged changes and history");
    let result = scan(root, &keys.random, &toolchain.tools.target, &gitleaks)?;
    result.remarks.iter().for_each(|remark| report.warn(remark));
    if result.leaks.is_empty() {
        running.done(format!("none in {} files{}", result.files, result.commits()));
        return Ok(());
    }
    drop(running);
    let lines: String = result.leaks.iter().map(|leak| format!("{leak}\n")).collect();
    match std::io::stdout().lock().write_all(lines.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Err(failure(&result.leaks).into()),
    }
}

/// The result of a scan.
#[derive(Debug, Default)]
struct ScanResult {
    leaks: Vec<Leak>,
    /// Number of scanned files of the working tree.
    files: usize,
    /// Number of scanned commits; `None` if there is no readable history.
    history: Option<usize>,
    /// Warnings about parts that were not scanned.
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

/// Scans the checkout `root`. `random_key` is the key of `.env` with a random value. `scratch` is a folder for temporary hard
/// links, so it should be on the same file system.
fn scan(root: &Utf8Path, random_key: &str, scratch: &Utf8Path, gitleaks: &Process) -> Result<ScanResult> {
    let rules = root.join(RULES);
    if !rules.is_file() {
        return Err(Failure::new(Class::Config, format!("{RULES} is missing"))
            .help(format!("git checkout {RULES}"))
            .into());
    }
    let scanner =
        Scanner { gitleaks: gitleaks.clone(), rules, root: root.to_owned(), random_key: random_key.to_owned() };
    let mut result = ScanResult::default();
    let repository = git::in_work_tree(root)?;
    let messages = scanner.scan_messages(repository)?;
    let files = if repository { tree::listed_by_git(root)? } else { tree::walked(root)? };
    result.files = files.len();
    let mirror = tree::mirror(root, &files, scratch)?;
    let mirrored = Utf8Path::from_path(mirror.path()).context("the scratch folder's name is not UTF-8")?;
    let mut leaks = scanner.scan_tree(mirrored)?;
    drop(mirror);
    if repository {
        leaks.extend(scanner.scan_index()?);
        leaks.extend(scanner.scan_history()?);
        leaks.extend(messages);
        let commits = git::git(root).args(["rev-list", "--all", "--count"]).read()?;
        result.history = Some(commits.trim().parse().unwrap_or_default());
        if git::git(root).args(["rev-parse", "--is-shallow-repository"]).read()?.trim() == "true" {
            result.remarks.push("this clone is shallow: older commits were not scanned (git fetch --unshallow)".into());
        }
    } else if root.join(".git").exists() {
        result.remarks.push("git cannot read this checkout: its history was not scanned".into());
    } else {
        result.remarks.push("this is not a git checkout: there is no history to scan".into());
    }
    result.leaks = merge(leaks);
    Ok(result)
}

fn failure(leaks: &[Leak]) -> Failure {
    let past = leaks.iter().filter(|leak| matches!(leak.location, Location::Commit(_) | Location::Message(_))).count();
    let now = leaks.len() - past;
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
                 OpenAI, revoke the key; a random value, openssl rand -hex 32",
            )
            .help("then, before others pull it: git rebase -i COMMIT^, or git filter-repo --replace-text FILE")
            .help("if a replaced secret must stay, add its line to .gitleaksignore: COMMIT:FILE:RULE:LINE");
    }
    failure
}

#[cfg(test)]
mod tests;
