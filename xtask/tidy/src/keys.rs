//! Checks names that two files must both have: keys of the application, commands and causes.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use clap::CommandFactory;
use regex::Regex;
use serde_norway::Value;
use xtask::cli::Cli;

use crate::checkout::{Checkout, Mistake};

const EXAMPLE: &str = ".env.example";
const VALUES: &str = "infra/helm/values.yaml";
const CONFIG: &str = "infra/helm/templates/_config.tpl";
const SETTINGS: &str = "apps/backend/app/core/settings.py";
const README: &str = "README.md";
const COMMANDS: &str = "docs/commands.md";
const CAUSES: &str = "xtask/src/judge.rs";
const ARCHITECTURE: &str = "ARCHITECTURE.md";

/// Compares the secret keys, which `.env` has, and the open ones, which the chart's ConfigMap has.
pub fn check(checkout: &Checkout) -> Result<Vec<Mistake>> {
    let values: Value = serde_norway::from_str(checkout.text(VALUES)?).context(VALUES)?;
    let list = |name: &str| values["backend"]["secret"]["keys"][name].as_sequence().cloned().unwrap_or_default();
    let secret: BTreeSet<String> =
        ["required", "optional"].into_iter().flat_map(list).filter_map(|key| Some(key.as_str()?.to_owned())).collect();
    let in_example = found(checkout.text(EXAMPLE)?, "(?m)^(?:# )?([A-Z][A-Z0-9_]+)=");
    let in_readme = found(checkout.text(README)?, r"(?m)^\| `([A-Z][A-Z0-9_]+)` \|");
    let fields = found(checkout.text(SETTINGS)?, "(?m)^    ([a-z][a-z0-9_]*): ");
    let secret_fields = found(checkout.text(SETTINGS)?, "(?m)^    ([a-z][a-z0-9_]*): SecretStr");
    let upper = |names: &BTreeSet<String>| names.iter().map(|name| name.to_uppercase()).collect::<BTreeSet<_>>();

    let mut mistakes = Vec::new();
    let mut compare = |file: &str, has: &BTreeSet<String>, wanted: &BTreeSet<String>, of: &str| {
        let missing = wanted.difference(has).map(|key| format!("{key} is missing, which {of} has"));
        let extra = has.difference(wanted).map(|key| format!("{key} is not in {of}"));
        mistakes.extend(missing.chain(extra).map(|what| Mistake::new(file, 0, what)));
    };
    let keys = format!("`backend.secret.keys` in {VALUES}");
    compare(EXAMPLE, &in_example, &secret, &keys);
    compare(README, &in_readme, &secret, &keys);
    compare(SETTINGS, &upper(&secret_fields), &secret, &keys);

    let config = found(checkout.text(CONFIG)?, "(?m)^([A-Z][A-Z0-9_]+): ");
    let of_backend = checkout.text(CONFIG)?.lines().find(|line| line.starts_with("[\"")).context("no backendKeys")?;
    let of_backend: BTreeSet<String> = serde_json::from_str(of_backend).context(CONFIG)?;
    let fields = upper(&fields);
    for key in of_backend.difference(&fields) {
        mistakes.push(Mistake::new(SETTINGS, 0, format!("{key} is missing, which the backend gets from {CONFIG}")));
    }
    let read_by_frontend = |key: &str| {
        checkout.texts().any(|(path, text)| {
            path.starts_with("apps/frontend/") && !path.starts_with("apps/frontend/tests/") && text.contains(key)
        })
    };
    for key in config.difference(&of_backend).filter(|key| !read_by_frontend(key)) {
        mistakes.push(Mistake::new(CONFIG, 0, format!("{key} is in the ConfigMap, but nobody reads it")));
    }
    for key in of_backend.difference(&config) {
        mistakes.push(Mistake::new(
            CONFIG,
            0,
            format!("{key} is in todo.config.backendKeys, but not in the ConfigMap"),
        ));
    }
    Ok(mistakes)
}

/// Checks that documents name each command and each cause of a failing rollout.
pub fn documented(checkout: &Checkout) -> Result<Vec<Mistake>> {
    let in_table = found(checkout.text(COMMANDS)?, "(?m)^\\| `([a-z]+)");
    let commands: BTreeSet<String> =
        Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let lacks =
        commands.difference(&in_table).map(|name| Mistake::new(COMMANDS, 0, format!("it has no row of `{name}`")));
    let causes = found(checkout.text(CAUSES)?, r#"(?m)^    cause\("([a-z-]+)","#);
    let architecture = checkout.text(ARCHITECTURE)?;
    let unnamed = causes.iter().filter(|cause| !architecture.contains(&format!("`{cause}`")));
    let unnamed = unnamed.map(|cause| Mistake::new(ARCHITECTURE, 0, format!("it does not name the cause `{cause}`")));
    Ok(lacks.chain(unnamed).collect())
}

fn found(text: &str, pattern: &str) -> BTreeSet<String> {
    Regex::new(pattern).unwrap().captures_iter(text).map(|found| found[1].to_owned()).collect()
}
