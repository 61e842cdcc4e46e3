//! The leaks that gitleaks found: their location and rule, never the secret.

use std::fmt;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The location of a leak in git.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// In a file of the working tree.
    Tree,
    /// Only in the index.
    Staged,
    /// In a line that a commit added.
    Commit(String),
    /// In a commit's message.
    Message(String),
}

/// A possible secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leak {
    /// Its location in git.
    pub location: Location,
    /// The file, relative to the checkout; empty for a commit's message.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The matching rules.
    pub rules: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    #[serde(rename = "RuleID")]
    rule: String,
    start_line: usize,
    file: String,
    commit: String,
}

/// Parses gitleaks' JSON report. `location` is the scanned location; in a report of commits, each leak names its commit.
pub fn parse(report: &[u8], location: &Location) -> Result<Vec<Leak>> {
    let raw: Vec<Raw> = serde_json::from_slice(report).context("gitleaks did not print a report")?;
    let finding = |raw: Raw| Leak {
        location: if raw.commit.is_empty() { location.clone() } else { Location::Commit(raw.commit) },
        file: raw.file.trim_start_matches("./").to_owned(),
        // gitleaks counts lines from 1, but reports 0 for the first line of a diff.
        line: raw.start_line.max(1),
        rules: vec![raw.rule],
    };
    Ok(raw.into_iter().map(finding).collect())
}

/// Sorts the leaks, and merges those at the same place: several rules may match one secret. Drops a staged leak that is
/// also in the working tree.
pub fn merge(mut findings: Vec<Leak>) -> Vec<Leak> {
    findings.sort();
    let mut merged: Vec<Leak> = Vec::new();
    for finding in findings {
        let same = |old: &&mut Leak| {
            let location = old.location == finding.location
                || (old.location == Location::Tree && finding.location == Location::Staged);
            location && old.file == finding.file && old.line == finding.line
        };
        match merged.iter_mut().find(same) {
            Some(old) => old.rules.extend(finding.rules),
            None => merged.push(finding),
        }
    }
    for finding in &mut merged {
        finding.rules.sort();
        finding.rules.dedup();
    }
    merged
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, .. } = self;
        let rules = self.rules.join(", ");
        let short = |commit: &str| commit.chars().take(10).collect::<String>();
        match &self.location {
            Location::Tree => write!(f, "{file}:{line}: {rules}"),
            Location::Staged => write!(f, "{file}:{line}: {rules} (staged)"),
            Location::Commit(commit) => write!(f, "{file}:{line}: {rules} (commit {})", short(commit)),
            Location::Message(commit) => write!(f, "message of commit {}, line {line}: {rules}", short(commit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(location: Location, line: usize, rule: &str) -> Leak {
        Leak { location, file: "a.py".into(), line, rules: vec![rule.into()] }
    }

    #[test]
    fn parses_a_report_and_shows_no_secret() {
        let report =
            br#"[{"RuleID":"r","StartLine":3,"File":"./a.py","Commit":"0123456789abcdef","Secret":"REDACTED"}]"#;
        let findings = parse(report, &Location::Tree).unwrap();
        assert_eq!(findings[0].to_string(), "a.py:3: r (commit 0123456789)");
        assert!(parse(b"", &Location::Tree).is_err());
        assert_eq!(parse(b"[]", &Location::Tree).unwrap(), []);
    }

    #[test]
    fn merges_leaks_at_the_same_place() {
        let merged = merge(vec![
            finding(Location::Commit("c".into()), 1, "x"),
            finding(Location::Staged, 1, "x"),
            finding(Location::Tree, 1, "y"),
            finding(Location::Tree, 1, "x"),
            finding(Location::Staged, 2, "x"),
        ]);
        let shown: Vec<String> = merged.iter().map(Leak::to_string).collect();
        assert_eq!(shown, ["a.py:1: x, y", "a.py:2: x (staged)", "a.py:1: x (commit c)"]);
    }
}
