//! The files of a checkout, as git lists them, and the mistakes in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use xtask::git;

/// A file of the checkout.
pub struct File {
    /// Size in bytes.
    pub size: usize,
    /// Content, if it is text.
    pub text: Option<String>,
}

/// Tracked files, and new ones that git does not ignore.
#[derive(Default)]
pub struct Checkout {
    /// Folder of the checkout.
    pub root: Utf8PathBuf,
    /// Files by path, relative to the root.
    pub files: BTreeMap<String, File>,
    /// Files that `.gitattributes` calls generated.
    pub generated: BTreeSet<String>,
}

impl Checkout {
    /// Reads the checkout at `root`.
    pub fn read(root: &Utf8Path) -> Result<Self> {
        let mut checkout = Self { root: root.to_owned(), ..Self::default() };
        for path in git::files(root, &[])? {
            let file = root.join(&path);
            // The index still lists deleted files; a link's content belongs to another file.
            if std::fs::symlink_metadata(&file).is_ok_and(|meta| meta.is_file()) {
                checkout.insert(&path, std::fs::read(&file).with_context(|| format!("reading {path}"))?);
            }
        }
        checkout.generated = git::files(root, &[":(attr:linguist-generated)"])?.into_iter().collect();
        Ok(checkout)
    }

    /// Adds a file.
    pub fn insert(&mut self, path: &str, content: Vec<u8>) {
        let size = content.len();
        let text = String::from_utf8(content).ok().filter(|text| !text.contains('\0'));
        self.files.insert(path.to_owned(), File { size, text });
    }

    /// Returns the content of the text file `path`.
    pub fn text(&self, path: &str) -> Result<&str> {
        self.files.get(path).and_then(|file| file.text.as_deref()).with_context(|| format!("{path} is no text file"))
    }

    /// Returns all text files.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, file)| Some((path.as_str(), file.text.as_deref()?)))
    }

    /// Returns the documents that describe the checkout as it is. The changelog describes earlier ones too.
    pub fn documents(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(|(path, _)| path.ends_with(".md") && *path != "CHANGELOG.md")
    }

    /// Returns whether `path` is a file or a folder.
    pub fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        self.files.contains_key(path)
            || self.files.range(folder.clone()..).next().is_some_and(|(file, _)| file.starts_with(&folder))
    }
}

/// A mistake in a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Path of the file.
    pub file: String,
    /// Line, from 1 on; 0: the file as a whole.
    pub line: usize,
    /// The description, and the edit that fixes it.
    pub what: String,
    /// Content that the file should have, if this check can tell.
    pub mended: Option<String>,
}

impl Mistake {
    /// Returns a mistake in one line.
    pub fn new(file: &str, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, what: what.into(), mended: None }
    }

    /// Returns a mistake that `--fix` corrects: it replaces the content of the file.
    pub fn mended(file: &str, line: usize, what: impl Into<String>, mended: String) -> Self {
        Self { mended: Some(mended), ..Self::new(file, line, what) }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, what, .. } = self;
        if *line == 0 { write!(f, "{file}: {what}") } else { write!(f, "{file}:{line}: {what}") }
    }
}
