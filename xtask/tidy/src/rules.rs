//! `tidy.toml`: the limits, phrases, hosts and licences that the checks use.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::checkout::Checkout;

/// Path of the file in the checkout.
pub const FILE: &str = "xtask/tidy/tidy.toml";

/// The whole of `tidy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rules {
    /// Sizes of files.
    pub sizes: Sizes,
    /// Phrases that nobody writes, each with what to write instead.
    pub phrases: BTreeMap<String, String>,
    /// For each phrase, the files that still have it, with their counts.
    #[serde(default)]
    pub old_phrases: BTreeMap<String, BTreeMap<String, usize>>,
    /// Hosts of package registries.
    pub registries: Registries,
    /// Licences of dependencies.
    pub licences: Licences,
}

/// Limits in bytes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// Of a text that people write.
    pub written: usize,
    /// Of any file.
    pub any: usize,
}

/// Hosts of package registries.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registries {
    /// Hosts that everybody reaches.
    pub public: Vec<String>,
    /// Parts of names that only mirrors have.
    pub mirrors: Vec<String>,
}

/// Licences, as SPDX names them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Licences {
    /// Allowed for each dependency.
    pub allowed: Vec<String>,
    /// Allowed for npm packages that we use and do not change.
    pub npm: Vec<String>,
    /// Beginnings of names of npm packages whose lock entry states no licence.
    pub npm_unstated: Vec<String>,
}

impl Rules {
    /// Reads the rules of a checkout.
    pub fn read(checkout: &Checkout) -> Result<Self> {
        toml::from_str(checkout.text(FILE)?).with_context(|| format!("reading {FILE}"))
    }
}
