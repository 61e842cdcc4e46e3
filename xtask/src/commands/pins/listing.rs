//! Finds what uses each pin, and where each origin gets it, from the files that name the pins.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use camino::Utf8Path;
use serde::Serialize;
use toml::{Table, Value};

use crate::pins::gomod::GoMod;
use crate::pins::{self, Pin, Pins};
use crate::{engine, origin, settings};

/// A pin as `cargo xtask pins` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PinEntry {
    /// Its name, which other files write in braces.
    pub name: String,
    /// The version, without `v`.
    pub version: String,
    /// Its purpose.
    pub purpose: String,
    /// Programs, images, tools, settings and files that use it.
    pub taken_by: Vec<String>,
    /// Its sources in the origin `release`.
    pub release: Vec<ReleaseSource>,
    /// Its sources in the origin `packages`.
    pub packages: Vec<String>,
}

/// An official download or image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReleaseSource {
    /// The URL, or the image with its tag.
    pub from: String,
    /// The platform of a download; `None` for an image.
    pub platform: Option<String>,
    /// The public file that states the download's checksum.
    pub cite: Option<String>,
}

/// A file that names pins, with the values that name them.
struct Mentions {
    file: &'static str,
    /// Pairs of a key's path and the pins that its value names.
    values: Vec<(Vec<String>, Vec<String>)>,
}

/// The files in which pin names are replaced with versions.
pub const RENDERED: [&str; 4] = [settings::FILE, origin::release::FILE, origin::packages::FILE, engine::tree::RECIPE];

/// Lists all pins of the checkout `root`.
pub fn list(root: &Utf8Path) -> Result<Vec<PinEntry>> {
    let pins = Pins::read(root)?;
    let mentions = RENDERED.iter().map(|file| mentions(root, &pins, file)).collect::<Result<Vec<_>>>()?;
    let modules = go_modules(root)?;
    let downloads: Table = pins::read_rendered(root, origin::release::FILE)?.parse()?;
    let entry = |(name, pin): (&str, &Pin)| {
        let paths: Vec<(&str, &[String])> = mentions
            .iter()
            .flat_map(|mentions| mentions.values.iter().map(|value| (mentions.file, value)))
            .filter(|(_, (_, names))| names.iter().any(|named| named == name))
            .map(|(file, (path, _))| (file, path.as_slice()))
            .collect();
        PinEntry {
            name: name.to_owned(),
            version: pin.version.clone(),
            purpose: pin.purpose.clone(),
            taken_by: taken_by(pin, &paths, &modules),
            release: release(pin, &paths, &downloads),
            packages: packages(pin, &paths),
        }
    };
    Ok(pins.iter().map(entry).collect())
}

/// Reads the go.mod of each program's recipe, by the program's name.
pub fn go_modules(root: &Utf8Path) -> Result<BTreeMap<String, GoMod>> {
    let folder = root.join(origin::packages::FOLDER).join("go");
    let mut modules = BTreeMap::new();
    for entry in folder.read_dir_utf8().with_context(|| format!("reading {folder}"))? {
        let entry = entry?;
        let file = entry.path().join("go.mod");
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
        modules.insert(entry.file_name().to_owned(), GoMod::parse(&text));
    }
    Ok(modules)
}

fn mentions(root: &Utf8Path, pins: &Pins, file: &'static str) -> Result<Mentions> {
    let text = std::fs::read_to_string(root.join(file)).with_context(|| format!("reading {file}"))?;
    let table: Table = text.parse().with_context(|| format!("{file} is not valid TOML"))?;
    let mut values = Vec::new();
    walk(pins, &Value::Table(table), &mut Vec::new(), &mut values);
    Ok(Mentions { file, values })
}

fn walk(pins: &Pins, value: &Value, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, Vec<String>)>) {
    match value {
        Value::String(text) => {
            let names: Vec<String> = pins.named_in(text).into_iter().map(str::to_owned).collect();
            if !names.is_empty() {
                found.push((path.clone(), names));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| walk(pins, item, path, found)),
        Value::Table(table) => {
            for (key, value) in table {
                path.push(key.clone());
                walk(pins, value, path, found);
                path.pop();
            }
        }
        _ => {}
    }
}

fn taken_by(pin: &Pin, paths: &[(&str, &[String])], modules: &BTreeMap<String, GoMod>) -> Vec<String> {
    let named = paths.iter().map(|(file, path)| match (*file, path) {
        (origin::packages::FILE, [kind, name, ..]) if kind == "go" => format!("program {name}"),
        (origin::packages::FILE, [kind, name, ..]) if kind == "image" => format!("image {name}"),
        (origin::packages::FILE, _) => "image debian".to_owned(),
        (origin::release::FILE, [tool, ..]) => format!("tool {tool}"),
        (engine::tree::RECIPE, _) => "private engine".to_owned(),
        (_, path) => path.join("."),
    });
    let required = modules.iter().filter(|(_, go_mod)| {
        pin.module.as_ref().is_some_and(|module| go_mod.modules().any(|(required, _)| required == module))
    });
    let required = required.map(|(program, _)| format!("program {program}"));
    let npm = pin.npm.iter().map(|_| "npm node".to_owned());
    let mut all: Vec<String> = required.chain(npm).chain(named).collect();
    all.extend(pin.copies.keys().map(ToString::to_string));
    let mut listed = std::collections::HashSet::new();
    all.retain(|user| listed.insert(user.clone()));
    all
}

fn release(pin: &Pin, paths: &[(&str, &[String])], downloads: &Table) -> Vec<ReleaseSource> {
    let text = |value: &Value, key: &str| Some(value.get(key)?.as_str()?.to_owned());
    let urls = paths.iter().filter_map(|(file, path)| match (*file, path) {
        (origin::release::FILE, [tool, platform, url]) if url == "url" => {
            let download = downloads.get(tool)?.get(platform)?;
            Some(ReleaseSource {
                from: text(download, "url")?,
                platform: Some(platform.clone()),
                cite: text(download, "cite"),
            })
        }
        _ => None,
    });
    let image = pin.image.iter().map(|image| ReleaseSource { from: image.clone(), platform: None, cite: None });
    urls.chain(image).collect()
}

fn packages(pin: &Pin, paths: &[(&str, &[String])]) -> Vec<String> {
    let version = &pin.version;
    let mut sources = Vec::new();
    sources.extend(pin.module.iter().map(|module| format!("Go module {module} v{version}")));
    sources.extend(pin.npm.iter().map(|package| format!("npm package {package} {version}")));
    sources.extend(pin.debian.iter().map(|package| format!("Debian package {package}")));
    if paths.iter().any(|(_, path)| path.last().is_some_and(|key| key == "suite")) {
        sources.push(format!("Debian suite {version}"));
    }
    if sources.is_empty() {
        // A program of this project, which replaces an image of this version.
        let recipes = paths.iter().filter_map(|(file, path)| match (*file, path) {
            (origin::packages::FILE, [kind, name, ..]) if kind == "image" => {
                Some(format!("{}/go/{name}", origin::packages::FOLDER))
            }
            _ => None,
        });
        sources.extend(recipes);
    }
    sources
}
