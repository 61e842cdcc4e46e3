//! The inputs of an image, its content tag, and the difference to an earlier build.

use std::collections::BTreeMap;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::context::{FOLDER, Files};
use crate::files;
use crate::units::hex;

/// The version of build options and of the rules for inputs. Raising it rebuilds every image.
const FORMAT: u32 = 2;

/// Number of recipes of an image that are kept by tag; Helm keeps ten revisions.
const KEPT_RECIPES: usize = 24;

/// The inputs of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    format: u32,
    /// The build context.
    pub files: Files,
    /// Build argument -> value.
    args: BTreeMap<String, String>,
    /// Official name of a base image -> its config digest.
    bases: BTreeMap<String, String>,
}

impl Recipe {
    /// Returns a recipe of the current format.
    pub fn new(files: Files, args: BTreeMap<String, String>, bases: BTreeMap<String, String>) -> Self {
        Self { format: FORMAT, files, args, bases }
    }

    /// Returns the content tag: 16 hexadecimal digits. It can look like a number, so pass it to Helm as a string.
    pub fn tag(&self) -> String {
        // The maps are sorted, so equal recipes have equal JSON and different recipes different JSON.
        let text = serde_json::to_vec(self).unwrap_or_default();
        hex(&Sha256::digest(text))[..16].to_owned()
    }

    /// Describes the difference to `last` in short: `app/main.py changed (+2 more)`. `None` if there is none.
    pub fn difference(&self, last: &Self) -> Option<String> {
        in_brief(self.differences(last))
    }

    /// Describes each difference to `last`, changed files first.
    pub fn differences(&self, last: &Self) -> Vec<String> {
        let mut found = changed_files(&self.files, &last.files);
        found.extend(changes(&self.bases, &last.bases).map(|(name, how)| format!("base image {name} {how}")));
        found.extend(changes(&self.args, &last.args).map(|(name, how)| format!("build argument {name} {how}")));
        if self.format != last.format {
            found.push("the build options of xtask changed".into());
        }
        found
    }
}

/// Returns the first of `found` with the number of the others; `None` if `found` is empty.
pub fn in_brief(found: Vec<String>) -> Option<String> {
    let more = found.len().saturating_sub(1);
    let first = found.into_iter().next()?;
    Some(if more == 0 { first } else { format!("{first} (+{more} more)") })
}

/// Describes each file that differs.
pub fn changed_files(new: &Files, old: &Files) -> Vec<String> {
    let is_folder = |path: &str| [new, old].iter().any(|files| files.get(path).is_some_and(|entry| entry == FOLDER));
    let (folders, files): (Vec<_>, Vec<_>) = changes(new, old).partition(|(path, _)| is_folder(path));
    // A folder appears and disappears with its files, so only empty ones are worth a mention.
    let files = if files.is_empty() { folders } else { files };
    files.iter().map(|(path, how)| format!("{path} {how}")).collect()
}

/// Returns the names whose values differ, changed ones first, because they explain more than added and removed ones.
fn changes<'a>(
    new: &'a BTreeMap<String, String>,
    old: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (&'a String, &'static str)> {
    let changed = new.iter().filter(|(name, value)| old.get(*name).is_some_and(|old| old != *value));
    let added = new.iter().filter(|(name, _)| !old.contains_key(*name));
    let removed = old.keys().filter(|name| !new.contains_key(*name));
    changed
        .map(|(name, _)| (name, "changed"))
        .chain(added.map(|(name, _)| (name, "added")))
        .chain(removed.map(|name| (name, "removed")))
}

/// Returns the recipe of the last build of `image` in this checkout, if it is known.
pub fn last(target: &Utf8Path, image: &str) -> Option<Recipe> {
    serde_json::from_str(&std::fs::read_to_string(last_recipe_file(target, image)).ok()?).ok()
}

/// Records `recipe` as that of the last build, and by tag: the deployed image may be an older build.
pub fn remember(target: &Utf8Path, image: &str, recipe: &Recipe) -> Result<()> {
    let text = serde_json::to_vec_pretty(recipe)?;
    let folder = recipes_folder(target, image);
    files::write(&folder.join(format!("{}.json", recipe.tag())), &text)?;
    forget_oldest(&folder);
    files::write(&last_recipe_file(target, image), &text)
}

/// Returns the recipe of `image` with this `tag`, if this checkout has it on record.
pub fn of_tag(target: &Utf8Path, image: &str, tag: &str) -> Option<Recipe> {
    let path = recipes_folder(target, image).join(format!("{tag}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

fn recipes_folder(target: &Utf8Path, image: &str) -> Utf8PathBuf {
    target.join("images").join(image)
}

fn forget_oldest(folder: &Utf8Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut files: Vec<_> = entries.filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path()))).collect();
    files.sort();
    for (_, old) in files.iter().rev().skip(KEPT_RECIPES) {
        let _ = std::fs::remove_file(old);
    }
}

fn last_recipe_file(target: &Utf8Path, image: &str) -> Utf8PathBuf {
    target.join("images").join(format!("{image}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn recipe(files: &[(&str, &str)]) -> Recipe {
        Recipe::new(map(files), map(&[("PYTHON_IMAGE", "python:3.13")]), map(&[("python:3.13", "sha256:aa")]))
    }

    #[test]
    fn changes_the_tag_with_every_input_and_nothing_else() {
        let one = recipe(&[("a", "file 1"), ("b", "file 2")]);
        // Fixed: a change of this value rebuilds and restarts everything that users have deployed.
        assert_eq!(one.tag(), "919a4c2a92cc5e0a");
        assert_eq!(recipe(&[("b", "file 2"), ("a", "file 1")]).tag(), one.tag());
        let others = [
            recipe(&[("a", "exec 1"), ("b", "file 2")]),
            recipe(&[("a", "file 1")]),
            Recipe { args: map(&[("PYTHON_IMAGE", "other")]), ..one.clone() },
            Recipe { bases: map(&[("python:3.13", "sha256:bb")]), ..one.clone() },
            Recipe { format: FORMAT + 1, ..one.clone() },
        ];
        others.iter().for_each(|other| assert_ne!(other.tag(), one.tag(), "{other:?}"));
    }

    #[test]
    fn names_what_changed() {
        let last = recipe(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let difference = |new: &Recipe| new.difference(&last);
        assert_eq!(difference(&last), None);
        assert_eq!(difference(&recipe(&[("a", "1"), ("b", "9"), ("c", "3")])).unwrap(), "b changed");
        assert_eq!(difference(&recipe(&[("a", "0"), ("b", "9"), ("x", "3")])).unwrap(), "a changed (+3 more)");
        assert_eq!(difference(&recipe(&[("a", "1"), ("b", "2")])).unwrap(), "c removed");
        let nested = recipe(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", FOLDER), ("d/e", "4")]);
        assert_eq!(difference(&nested).unwrap(), "d/e added");
        let base = Recipe { bases: map(&[("python:3.13", "sha256:bb")]), ..last.clone() };
        assert_eq!(difference(&base).unwrap(), "base image python:3.13 changed");
    }
}
