//! `infra/pins.toml`: every version that this project pins, once. Other files name a pin in braces: `v{kubernetes}`.
//!
//! xtask renders a file as text before it parses it. So line numbers in errors stay correct, and an artifact's key, a
//! digest of the parsed recipe, changes only if a pin changes that the artifact names.

pub mod gomod;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;

use crate::failure::{Class, Failure, nearest, restore};

/// Path of the pins in the repository.
pub const FILE: &str = "infra/pins.toml";

/// One pinned version and its sources.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The version as its publisher writes it, less a leading `v`.
    pub version: String,
    /// Its description, in a few words.
    #[serde(rename = "for")]
    pub purpose: String,
    /// Go module.
    pub module: Option<String>,
    /// The module's checksum as in go.sum, where files of it are replaced.
    pub sum: Option<String>,
    /// Official image, with its tag.
    pub image: Option<String>,
    /// Debian package; the suite decides the exact version.
    pub debian: Option<String>,
    /// npm package.
    pub npm: Option<String>,
    /// Files that must repeat the pin because other programs read them, with the texts that they must contain.
    #[serde(default)]
    pub copies: BTreeMap<Utf8PathBuf, Vec<String>>,
}

/// All pins by name.
#[derive(Clone, Debug)]
pub struct Pins(BTreeMap<String, Pin>);

impl Pins {
    /// Reads the pins of the checkout `root`.
    pub fn read(root: &Utf8Path) -> Result<Self> {
        let text = std::fs::read_to_string(root.join(FILE)).map_err(|error| {
            Failure::new(Class::Config, format!("cannot read {FILE}: {error}")).help(restore(FILE, &error))
        })?;
        Self::parse(&text)
    }

    /// Parses pins; images and copies may name versions of other pins.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: String| Failure::new(Class::Config, what).help(format!("edit {FILE}; see docs/pins.md"));
        let pins: BTreeMap<String, Pin> = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            wrong(format!("{FILE}:{line}: {}", error.message()))
        })?;
        if let Some((name, pin)) = pins.iter().find(|(_, pin)| pin.version.starts_with('v') || pin.version.is_empty()) {
            return Err(wrong(format!("{FILE}: [{name}] has the version `{}`", pin.version))
                .help("write it without the `v`: files that need one write v{name}")
                .into());
        }
        let mut pins = Self(pins);
        // Images first: copies may name them.
        let bare = pins.without_images();
        for pin in pins.0.values_mut() {
            if let Some(image) = &mut pin.image {
                *image = bare.render(FILE, image)?;
            }
        }
        let with_images = pins.clone();
        for pin in pins.0.values_mut() {
            for copy in pin.copies.values_mut().flatten() {
                *copy = with_images.render(FILE, copy)?;
            }
        }
        Ok(pins)
    }

    fn without_images(&self) -> Self {
        let pins = self.0.iter().map(|(name, pin)| (name.clone(), Pin { image: None, ..pin.clone() }));
        Self(pins.collect())
    }

    /// Returns the pins in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Pin)> {
        self.0.iter().map(|(name, pin)| (name.as_str(), pin))
    }

    /// Returns the text of `file` with each pin's value in place of its name. Comments stay unchanged.
    pub fn render(&self, file: &str, text: &str) -> Result<String> {
        let mut rendered = String::with_capacity(text.len());
        for (number, line) in (1..).zip(text.split_inclusive('\n')) {
            if line.trim_start().starts_with('#') {
                rendered.push_str(line);
                continue;
            }
            let mut from = 0;
            for (at, name) in templates(line) {
                rendered.push_str(&line[from..at]);
                rendered.push_str(self.value(name).map_err(|(what, help)| {
                    Failure::new(Class::Config, format!("{file}:{number}: {what}")).help(help)
                })?);
                from = at + name.len() + 2;
            }
            rendered.push_str(&line[from..]);
        }
        Ok(rendered)
    }

    /// Returns the value of `name` or `name.field`, else what is wrong and what to write instead.
    fn value(&self, template: &str) -> Result<&str, (String, String)> {
        let (name, field) = template.split_once('.').map_or((template, None), |(name, field)| (name, Some(field)));
        let Some(pin) = self.0.get(name) else {
            let help = match nearest(name, self.0.keys().map(String::as_str)) {
                Some(near) => format!("write {{{near}}}"),
                None => format!("add [{name}] to {FILE}, or write one of: cargo xtask pins"),
            };
            return Err((format!("{FILE} has no pin `{name}`"), help));
        };
        let part = |index| pin.version.split('.').nth(index);
        let value = match field {
            None => Some(pin.version.as_str()),
            Some("major") => part(0),
            Some("minor") => part(1),
            Some("module") => pin.module.as_deref(),
            Some("sum") => pin.sum.as_deref(),
            Some("image") => pin.image.as_deref(),
            Some(other) => {
                let fields = ["major", "minor", "module", "sum", "image"];
                let help = match nearest(other, fields) {
                    Some(near) => format!("write {{{name}.{near}}}"),
                    None => format!("write {{{name}}} or one of its fields: {}", fields.join(", ")),
                };
                return Err((format!("a pin has no field `{other}`"), help));
            }
        };
        let lacks = || (format!("the pin `{name}` has no {}", field.unwrap_or("version")), format!("edit {FILE}"));
        value.ok_or_else(lacks)
    }

    /// Returns the names of the pins that `text` mentions in braces.
    pub fn named_in(&self, text: &str) -> Vec<&str> {
        let names = templates(text).filter_map(|(_, template)| {
            let name = template.split('.').next()?;
            Some(self.0.get_key_value(name)?.0.as_str())
        });
        names.collect()
    }
}

/// Returns each name in braces, alone or with a field, and the byte offset of its opening brace. TOML's own braces contain
/// spaces or `=`.
fn templates(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices('{').filter_map(|(at, _)| {
        let (name, _) = text[at + 1..].split_once('}')?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        (!name.is_empty() && name.bytes().all(is_name)).then_some((at, name))
    })
}

/// Reads `file` of the checkout `root` and renders its pins.
pub fn read_rendered(root: &Utf8Path, file: &str) -> Result<String> {
    let text = std::fs::read_to_string(root.join(file)).map_err(|error| {
        Failure::new(Class::Config, format!("cannot read {file}: {error}")).help(restore(file, &error))
    })?;
    Pins::read(root)?.render(file, &text)
}

/// Returns the number of the line of `text` with the byte `offset`.
pub fn line_of(text: &str, offset: usize) -> usize {
    1 + text[..offset.min(text.len())].matches('\n').count()
}
