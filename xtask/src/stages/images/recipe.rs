//! What goes into an image: its content tag, and what differs from what was built last.

use std::collections::BTreeMap;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::context::{FOLDER, Files};
use crate::files;
use crate::project::Project;
use crate::units::hex;

/// Raised when the same inputs would be built differently: new build options, other rules for what counts.
const FORMAT: u32 = 2;

/// Recipes of each image that are kept by tag; Helm keeps ten revisions.
const RECIPES: usize = 24;

/// Everything that decides what an image becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    format: u32,
    /// The context.
    pub files: Files,
    /// Build argument -> value.
    args: BTreeMap<String, String>,
    /// Official name of a base image -> its config digest.
    bases: BTreeMap<String, String>,
}

impl Recipe {
    /// A recipe of today's format.
    pub fn new(files: Files, args: BTreeMap<String, String>, bases: BTreeMap<String, String>) -> Self {
        Self { format: FORMAT, files, args, bases }
    }

    /// The content tag: 16 hexadecimal digits. It can look like a number, so Helm must be given it as a string.
    pub fn tag(&self) -> String {
        // JSON of sorted maps: the same recipe has one spelling, and two recipes never share one.
        let text = serde_json::to_vec(self).unwrap_or_default();
        hex(&Sha256::digest(text))[..16].to_owned()
    }

    /// What is different from `last`, in a few words: `app/main.py changed (+2 more)`.
    pub fn difference(&self, last: &Self) -> Option<String> {
        in_brief(self.differences(last))
    }

    /// Everything that is different from `last`, each in a few words, changed files first.
    pub fn differences(&self, last: &Self) -> Vec<String> {
        let mut found = changed_files(&self.files, &last.files);
        found.extend(changes(&self.bases, &last.bases).map(|(name, how)| format!("base image {name} {how}")));
        found.extend(changes(&self.args, &last.args).map(|(name, how)| format!("build argument {name} {how}")));
        if self.format != last.format {
            found.push("xtask builds differently now".into());
        }
        found
    }
}

/// The first of `found` and how many more there are; `None` if there is none.
pub fn in_brief(found: Vec<String>) -> Option<String> {
    let more = found.len().saturating_sub(1);
    let first = found.into_iter().next()?;
    Some(if more == 0 { first } else { format!("{first} (+{more} more)") })
}

/// Each file that differs, in a few words.
pub fn changed_files(new: &Files, old: &Files) -> Vec<String> {
    let is_folder = |path: &str| [new, old].iter().any(|files| files.get(path).is_some_and(|what| what == FOLDER));
    let (folders, files): (Vec<_>, Vec<_>) = changes(new, old).partition(|(path, _)| is_folder(path));
    // A folder comes and goes with its files; it is worth a word only when it is empty.
    let files = if files.is_empty() { folders } else { files };
    files.iter().map(|(path, how)| format!("{path} {how}")).collect()
}

/// The names whose values differ, changed ones first: they say more than what comes or goes with them.
fn changes<'a>(
    new: &'a BTreeMap<String, String>,
    old: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (&'a String, &'static str)> {
    let changed = new.iter().filter(|(name, value)| old.get(*name).is_some_and(|before| before != *value));
    let added = new.iter().filter(|(name, _)| !old.contains_key(*name));
    let removed = old.keys().filter(|name| !new.contains_key(*name));
    changed
        .map(|(name, _)| (name, "changed"))
        .chain(added.map(|(name, _)| (name, "added")))
        .chain(removed.map(|name| (name, "removed")))
}

/// What the engine last had built for `image` in this checkout, if that is known.
pub fn last(project: &Project, image: &str) -> Option<Recipe> {
    serde_json::from_str(&std::fs::read_to_string(place(project, image)).ok()?).ok()
}

/// Remembers `recipe` as the one last built, and by its tag: what is deployed may have been built long ago.
pub fn remember(project: &Project, image: &str, recipe: &Recipe) -> Result<()> {
    let text = serde_json::to_vec_pretty(recipe)?;
    let folder = by_tag(project, image);
    files::write(&folder.join(format!("{}.json", recipe.tag())), &text)?;
    forget_oldest(&folder);
    files::write(&place(project, image), &text)
}

/// What `image` was made from when it got this `tag` in this checkout, if that is known.
pub fn of_tag(project: &Project, image: &str, tag: &str) -> Option<Recipe> {
    let path = by_tag(project, image).join(format!("{tag}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

fn by_tag(project: &Project, image: &str) -> Utf8PathBuf {
    project.target().join("images").join(image)
}

fn forget_oldest(folder: &Utf8Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut files: Vec<_> = entries.filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path()))).collect();
    files.sort();
    for (_, old) in files.iter().rev().skip(RECIPES) {
        let _ = std::fs::remove_file(old);
    }
}

fn place(project: &Project, image: &str) -> Utf8PathBuf {
    project.target().join("images").join(format!("{image}.json"))
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
    fn the_tag_is_stable_and_every_input_changes_it() {
        let one = recipe(&[("a", "file 1"), ("b", "file 2")]);
        // Written down: a change of this value rebuilds and restarts everything that users have deployed.
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
    fn the_difference_names_what_changed() {
        let last = recipe(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let said = |new: &Recipe| new.difference(&last);
        assert_eq!(said(&last), None);
        assert_eq!(said(&recipe(&[("a", "1"), ("b", "9"), ("c", "3")])).unwrap(), "b changed");
        assert_eq!(said(&recipe(&[("a", "0"), ("b", "9"), ("x", "3")])).unwrap(), "a changed (+3 more)");
        assert_eq!(said(&recipe(&[("a", "1"), ("b", "2")])).unwrap(), "c removed");
        let nested = recipe(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", FOLDER), ("d/e", "4")]);
        assert_eq!(said(&nested).unwrap(), "d/e added");
        let base = Recipe { bases: map(&[("python:3.13", "sha256:bb")]), ..last.clone() };
        assert_eq!(said(&base).unwrap(), "base image python:3.13 changed");
    }
}
