//! What gitleaks found: where and by which rule, never what.

use std::fmt;

use anyhow::{Context, Result};
use serde::Deserialize;

/// Where a finding is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// In a file as it lies there.
    Tree,
    /// In the index only.
    Staged,
    /// In what a commit added.
    Commit(String),
    /// In a commit's message.
    Message(String),
}

/// A possible secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leak {
    /// Where in git.
    pub location: Location,
    /// The file, relative to the checkout; empty for a commit's message.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The rules that it meets.
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

/// Reads gitleaks' JSON report. `location` is where it looked; a report of commits names each commit itself.
pub fn parse(report: &[u8], location: &Location) -> Result<Vec<Leak>> {
    let raw: Vec<Raw> = serde_json::from_slice(report).context("gitleaks did not print a report")?;
    let finding = |raw: Raw| Leak {
        location: if raw.commit.is_empty() { location.clone() } else { Location::Commit(raw.commit) },
        file: raw.file.trim_start_matches("./").to_owned(),
        // gitleaks counts lines from 1, but the one that a diff's first line is on from 0.
        line: raw.start_line.max(1),
        rules: vec![raw.rule],
    };
    Ok(raw.into_iter().map(finding).collect())
}

/// Sorts, and makes one finding of those at the same place: the rules of a URL and of its password both see it. What is
/// in the tree is not told again as staged.
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
    fn a_report_is_read_and_shown_without_what_was_found() {
        let report =
            br#"[{"RuleID":"r","StartLine":3,"File":"./a.py","Commit":"0123456789abcdef","Secret":"REDACTED"}]"#;
        let findings = parse(report, &Location::Tree).unwrap();
        assert_eq!(findings[0].to_string(), "a.py:3: r (commit 0123456789)");
        assert!(parse(b"", &Location::Tree).is_err());
        assert_eq!(parse(b"[]", &Location::Tree).unwrap(), []);
    }

    #[test]
    fn one_place_is_one_finding() {
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
