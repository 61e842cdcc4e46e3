//! The rows of `config`: values with their sources.

use std::fmt;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;
use toml::de::{DeTable, DeValue};

use crate::cache::CACHE_VARIABLE;
use crate::dotenv::{DotenvSource, SecretsSource};
use crate::pins;
use crate::project::Options;
use crate::settings::{FILE, Settings};

/// The visible part of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// The whole value.
    Plain(String),
    /// The length of a secret, in characters.
    Secret(usize),
    /// No value is set.
    Unset,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => f.write_str(text),
            Self::Secret(1) => f.write_str("*** (1 character)"),
            Self::Secret(length) => write!(f, "*** ({length} characters)"),
            Self::Unset => f.write_str("-"),
        }
    }
}

/// A row of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingRow {
    /// The value's name.
    pub name: String,
    /// The visible part of the value.
    pub value: Value,
    /// Its source: a file with line, an option or a variable.
    pub from: String,
}

impl SettingRow {
    /// Creates a row from its parts.
    pub fn new(name: impl Into<String>, value: Value, from: impl Into<String>) -> Self {
        Self { name: name.into(), value, from: from.into() }
    }
}

/// Returns every value of `infra/xtask.toml` in the checkout `root` with its line, or with the option that overrides it in this run.
pub fn settings(settings: &Settings, root: &Utf8Path) -> Result<Vec<SettingRow>> {
    let text = pins::read_rendered(root, FILE)?;
    let mut rows = flatten(&text)?;
    let (chart, cluster) = (&settings.chart, &settings.cluster);
    let effective = [
        ("chart.path", chart.path.to_string()),
        ("chart.release", chart.release.clone()),
        ("chart.namespace", chart.namespace.clone()),
        ("cluster.profile", cluster.profile.clone()),
        ("cluster.port", cluster.port.to_string()),
        ("cluster.kubernetes", cluster.kubernetes.clone()),
        ("cluster.cpus", cluster.cpus.to_string()),
        ("cluster.memory_mib", cluster.memory_mib.to_string()),
        ("dev.port", settings.dev.port.to_string()),
    ];
    for (name, value) in effective {
        if let Some(row) = rows.iter_mut().find(|row| row.name == name)
            && row.value != Value::Plain(value.clone())
        {
            *row = SettingRow::new(name, Value::Plain(value), "command line");
        }
    }
    Ok(rows)
}

/// Returns the leaves of a TOML document in document order. Works for any keys, so it also shows new ones.
fn flatten(text: &str) -> Result<Vec<SettingRow>> {
    let table = DeTable::parse(text).map_err(|error| anyhow::anyhow!("{}: {}", FILE, error.message()))?;
    let mut leaves = Vec::new();
    walk(text, "", table.get_ref(), &mut leaves);
    leaves.sort_by_key(|(offset, _)| *offset);
    Ok(leaves.into_iter().map(|(_, row)| row).collect())
}

fn walk(text: &str, prefix: &str, table: &DeTable<'_>, leaves: &mut Vec<(usize, SettingRow)>) {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        if let DeValue::Table(inner) = value.get_ref() {
            walk(text, &name, inner, leaves);
            continue;
        }
        let span = value.span();
        let shown = match value.get_ref() {
            DeValue::String(string) => string.to_string(),
            _ => text.get(span.clone()).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "),
        };
        let line = 1 + text.get(..span.start).unwrap_or_default().matches('\n').count();
        leaves.push((span.start, SettingRow::new(name, Value::Plain(shown), format!("{}:{line}", FILE))));
    }
}

/// Returns the values that come from the command line, the environment and defaults.
pub fn options(
    options: &Options,
    certificates: Option<Utf8PathBuf>,
    cache: &Utf8Path,
    dotenv: &DotenvSource,
) -> Vec<SettingRow> {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let flag = |given: bool| if given { "command line" } else { "default" };
    let cache_from = [CACHE_VARIABLE, "XDG_CACHE_HOME"].into_iter().find(|name| set(name)).unwrap_or("HOME");
    let origin = options.origin.and_then(|kind| kind.to_possible_value()).map(|value| value.get_name().to_owned());
    let certificates_from = match (&certificates, &options.ca_bundle) {
        (Some(_), Some(_)) => "command line",
        (Some(_), None) => "environment: SSL_CERT_FILE",
        (None, None) if !set("SSL_CERT_FILE") => "default",
        (None, Some(_)) => "command line; no such file",
        (None, None) => "environment: SSL_CERT_FILE; no such file",
    };
    let plain = |value: &str| Value::Plain(value.to_owned());
    vec![
        SettingRow::new("cache", plain(cache.as_str()), format!("environment: {cache_from}")),
        match dotenv.from {
            SecretsSource::File => SettingRow::new("dotenv", plain(dotenv.path.as_str()), "default"),
            _ => SettingRow::new("dotenv", plain(&dotenv.shown()), "command line"),
        },
        SettingRow::new(
            "origin",
            Value::Plain(origin.unwrap_or_else(|| "probed".into())),
            flag(options.origin.is_some()),
        ),
        SettingRow::new(
            "system tools",
            plain(if options.system_tools { "yes" } else { "no" }),
            flag(options.system_tools),
        ),
        SettingRow::new(
            "CA bundle",
            certificates.map_or(Value::Unset, |path| Value::Plain(path.into())),
            certificates_from,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_leaves_with_their_lines_in_file_order() {
        let rows = flatten("# x\n[b]\nn = 1\n[a.c]\ns = \"t\"\nl = [1,\n  2]\ni = { k = true }\n").unwrap();
        let seen: Vec<_> = rows.iter().map(|r| (r.name.as_str(), r.value.to_string(), r.from.as_str())).collect();
        let expected = [
            ("b.n", "1", "infra/xtask.toml:3"),
            ("a.c.s", "t", "infra/xtask.toml:5"),
            ("a.c.l", "[1, 2]", "infra/xtask.toml:6"),
            ("a.c.i.k", "true", "infra/xtask.toml:8"),
        ];
        assert_eq!(seen, expected.map(|(name, value, from)| (name, value.to_owned(), from)));
    }

    #[test]
    fn lists_all_settings_of_this_checkout() {
        let rows = flatten(include_str!("../../../../infra/xtask.toml")).unwrap();
        for name in ["chart.path", "cluster.port", "images.todo-backend.bases.PYTHON_IMAGE", "environments.dev.values"]
        {
            assert!(rows.iter().any(|row| row.name == name), "{name}");
        }
    }
}
