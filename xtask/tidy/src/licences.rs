//! Checks the licences of compiled or installed packages, as the packages state them.

use anyhow::{Context, Result};
use serde_json::Value;
use spdx::{Expression, ParseMode};
use xtask::members;

use crate::checkout::{Checkout, Mistake};
use crate::rules::{FILE, Licences};

/// The platforms that xtask runs on. Other platforms' crates are nobody's dependency.
const PLATFORMS: [&str; 4] =
    ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "x86_64-apple-darwin", "aarch64-apple-darwin"];

/// Returns the output of `cargo metadata` about all crates.
pub fn metadata(checkout: &Checkout) -> Result<Value> {
    let platforms = PLATFORMS.map(|platform| format!("--filter-platform={platform}"));
    let cargo = members::cargo().args(["metadata", "--locked", "--format-version=1"]).args(platforms);
    serde_json::from_str(&cargo.cwd(&checkout.root).read()?).context("reading what `cargo metadata` says")
}

/// Returns crates with a licence that is not allowed.
pub fn crates(metadata: &Value, licences: &Licences) -> Vec<Mistake> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let judged = packages.filter_map(|package| {
        let what = judge(package["license"].as_str(), &licences.allowed).err()?;
        let name = format!("{} {}", package["name"].as_str()?, package["version"].as_str()?);
        Some(Mistake::new("Cargo.lock", 0, format!("{name}: {what}")))
    });
    judged.collect()
}

/// Returns npm packages with a licence that is not allowed.
pub fn npm(checkout: &Checkout, licences: &Licences) -> Result<Vec<Mistake>> {
    let allowed: Vec<String> = licences.allowed.iter().chain(&licences.npm).cloned().collect();
    let mut mistakes = Vec::new();
    for (path, text) in checkout.texts().filter(|(path, _)| path.ends_with("package-lock.json")) {
        let lock: Value = serde_json::from_str(text).with_context(|| format!("reading {path}"))?;
        for (place, package) in lock["packages"].as_object().into_iter().flatten() {
            let Some((_, name)) = place.rsplit_once("node_modules/") else { continue };
            let licence = package["license"].as_str();
            let is_known = licence.is_none() && licences.npm_unstated.iter().any(|known| name.starts_with(known));
            if !is_known && let Err(what) = judge(licence, &allowed) {
                mistakes.push(Mistake::new(path, 0, format!("{name}: {what}")));
            }
        }
    }
    Ok(mistakes)
}

fn judge(licence: Option<&str>, allowed: &[String]) -> Result<(), String> {
    let Some(licence) = licence else { return Err("it states no licence".to_owned()) };
    let expression = Expression::parse_mode(licence, ParseMode::LAX)
        .map_err(|error| format!("its licence is no SPDX name: {error}"))?;
    let is_allowed = expression.evaluate(|wanted| {
        let name = wanted.license.to_string();
        allowed.iter().any(|allowed| *allowed == name || format!("{allowed}-or-later") == name)
    });
    if is_allowed { Ok(()) } else { Err(format!("its licence {licence} is not in {FILE}")) }
}
