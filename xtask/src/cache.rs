//! The cache folder: its path, and the marker file by which xtask recognizes its own folder.
//!
//! The folder that `TODO_XTASK_CACHE` names may have other contents, so the cache is a subfolder. Versions before the
//! marker used the named folder itself. Such a cache still works, and xtask removes it only if it holds nothing else.

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};

use crate::failure::{Class, Failure};
use crate::files;
use crate::units::quote;

/// Environment variable that moves the cache.
pub const CACHE_VARIABLE: &str = "TODO_XTASK_CACHE";

/// The cache's own folder, wherever it is.
const FOLDER: &str = "todo-xtask";

/// The mark: a cache directory tag (bford.info/cachedir) with our name in it.
const MARK: &str = "CACHEDIR.TAG";
const MARK_TEXT: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
                         # The cache of todo-xtask. `cargo xtask teardown --cache` removes this folder.\n";

/// Names that xtask creates in a cache; they identify a cache that has no mark.
const UNMARKED: [&str; 13] = [
    "apt",
    "bases",
    "dev",
    "engine",
    "engine-used",
    "kube",
    "locks",
    "minikube",
    "needed",
    "ordinary",
    "origin",
    "packages",
    "release",
];

/// Returns the cache's folder; it need not exist yet.
pub fn locate() -> Result<Utf8PathBuf> {
    let from = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty()).map(Utf8PathBuf::from);
    if let Some(named) = from(CACHE_VARIABLE) {
        if named.is_relative() {
            let what = format!("{CACHE_VARIABLE} must be an absolute path, not `{named}`");
            return Err(Failure::new(Class::Config, what)
                .help(format!("export {CACHE_VARIABLE}=\"$PWD\"/{}", quote(&named)))
                .into());
        }
        let is_cache = is_marked(&named)? || holds_origin(&named)?;
        return Ok(if is_cache { named } else { named.join(FOLDER) });
    }
    // The XDG specification ignores a relative path.
    let caches = from("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let caches = caches.or_else(|| Some(from("HOME")?.join(".cache"))).filter(|path| path.is_absolute());
    caches.map(|caches| caches.join(FOLDER)).ok_or_else(|| {
        Failure::new(Class::Machine, "no cache folder: neither HOME nor XDG_CACHE_HOME is set to an absolute path")
            .help(format!("export {CACHE_VARIABLE}=/path/to/a/folder"))
            .into()
    })
}

/// Creates the cache's folder with its mark. Fails if the folder holds something that xtask did not make.
pub fn claim(folder: &Utf8Path) -> Result<()> {
    if is_marked(folder)? || holds_origin(folder)? {
        return Ok(());
    }
    let others = others(folder)?;
    if !others.is_empty() {
        let what = format!("{folder} is not a cache of xtask: it holds {}", others.join(", "));
        return Err(Failure::new(Class::Config, what)
            .help(format!("mv {} {}", quote(folder), quote(format!("{folder}.old"))))
            .help(format!("or use another folder: export {CACHE_VARIABLE}=/path"))
            .into());
    }
    std::fs::create_dir_all(folder).with_context(|| format!("creating {folder}"))?;
    if files::entries(folder)?.is_empty() {
        let mark = folder.join(MARK);
        std::fs::write(&mark, MARK_TEXT).with_context(|| format!("writing {mark}"))?;
    }
    Ok(())
}

/// Fails if `folder` holds something that xtask did not make.
pub fn check_removable(folder: &Utf8Path) -> Result<()> {
    if is_marked(folder)? {
        return Ok(());
    }
    let others = others(folder)?;
    if others.is_empty() {
        return Ok(());
    }
    let ours: Vec<_> = UNMARKED.iter().filter(|name| folder.join(name).exists()).copied().collect();
    let what = format!("{folder} is not removed: besides the cache it holds {}", others.join(", "));
    let failure =
        Failure::new(Class::Machine, what).help("end the private engine first: cargo xtask teardown --engine");
    Err(match ours.as_slice() {
        [] => failure,
        ours => {
            let paths: Vec<String> = ours.iter().map(|name| quote(folder.join(name))).collect();
            failure.help(format!("if these belong to the cache alone: rm -r {}", paths.join(" ")))
        }
    }
    .into())
}

/// Removes the cache's folder.
pub fn remove(folder: &Utf8Path) -> Result<()> {
    check_removable(folder)?;
    files::remove_folder(folder)
}

fn is_marked(folder: &Utf8Path) -> Result<bool> {
    Ok(files::read_bytes(&folder.join(MARK))?.is_some_and(|bytes| bytes == MARK_TEXT.as_bytes()))
}

/// Returns whether `folder` is a cache without a mark: older versions wrote the origin's name first.
fn holds_origin(folder: &Utf8Path) -> Result<bool> {
    let text = files::read_bytes(&folder.join("origin"))?.unwrap_or_default();
    Ok(["release", "packages"].iter().any(|name| text.trim_ascii() == name.as_bytes()))
}

/// Returns names in `folder` that xtask does not create.
fn others(folder: &Utf8Path) -> Result<Vec<String>> {
    let names = files::entries(folder)?.into_iter().filter_map(|path| path.file_name().map(str::to_owned));
    let mut names: Vec<String> = names.filter(|name| !UNMARKED.contains(&name.as_str())).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(temp.path()).unwrap().join("todo-xtask");
        (temp, folder)
    }

    #[test]
    fn a_folder_that_xtask_made_is_marked_and_removed() {
        let (_temp, folder) = folder();
        claim(&folder).unwrap();
        claim(&folder).unwrap();
        std::fs::create_dir(folder.join("of-a-later-version")).unwrap();
        remove(&folder).unwrap();
        assert!(!folder.exists());
        remove(&folder).unwrap();
    }

    #[test]
    fn a_folder_of_somebody_else_is_neither_used_nor_removed() {
        let (_temp, folder) = folder();
        std::fs::create_dir_all(folder.join("packages")).unwrap();
        std::fs::write(folder.join("README.md"), "a checkout").unwrap();
        for error in [claim(&folder).unwrap_err(), remove(&folder).unwrap_err()] {
            assert!(error.to_string().contains("README.md"), "{error}");
        }
        assert!(folder.join("packages").exists() && !folder.join(MARK).exists());
    }

    #[test]
    fn a_cache_from_before_the_mark_is_used_and_removed_if_nothing_else_is_in_it() {
        let (_temp, folder) = folder();
        for name in ["engine", "dev"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        std::fs::write(folder.join("origin"), "packages").unwrap();
        claim(&folder).unwrap();
        assert!(!folder.join(MARK).exists(), "others may have put something there too");
        std::fs::write(folder.join("photos"), "").unwrap();
        claim(&folder).unwrap();
        let error = remove(&folder).unwrap_err();
        let failure = error.downcast_ref::<Failure>().unwrap();
        assert!(failure.to_string().contains("besides the cache it holds photos"), "{failure}");
        let command = failure.hints()[1].strip_prefix("if these belong to the cache alone: ").unwrap().to_owned();
        assert!(folder.join("engine").exists());
        assert!(std::process::Command::new("sh").args(["-c", &command]).status().unwrap().success(), "{command}");
        assert_eq!(files::entries(&folder).unwrap(), [folder.join("photos")]);
        std::fs::write(folder.join("origin"), "packages").unwrap();
        std::fs::remove_file(folder.join("photos")).unwrap();
        remove(&folder).unwrap();
        assert!(!folder.exists());
    }
}
