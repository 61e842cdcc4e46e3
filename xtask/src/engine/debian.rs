//! Debian root file systems, built only from packages: for the private engine, and instead of official base images.
//!
//! mmdebstrap builds them. xtask unpacks its package into the cache and does not install it.

mod tools;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{mounts, reap};
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::files;
use crate::process::Process;
use crate::report::Running;
use crate::units::{hex, quote};
use tools::Tools;

/// Version of this file's output. Raise it when the same recipe gives another result, so that old artifacts are not reused.
const FORMAT: u32 = 1;
/// Latest time stamp of files (2025-01-01), so that the same packages give the same files.
const EPOCH: &str = "1735689600";
/// Environment variable that marks processes, so that a later run finds those of an interrupted one.
const MARK: &str = "TODO_XTASK_MAKES";
/// Debian's official hosts: the result may be used where this machine's mirror is unknown.
const SOURCES: &str = "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: SUITE SUITE-updates\nComponents: main\n\
    Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
    Types: deb\nURIs: http://deb.debian.org/debian-security\nSuites: SUITE-security\nComponents: main\n\
    Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n";

/// Content of a root file system besides Debian's essential packages and apt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Debian's code name, e.g. `trixie`.
    pub suite: String,
    /// Packages, with their dependencies but without their recommendations.
    pub packages: Vec<String>,
    /// Paths that dpkg does not unpack (path-exclude).
    #[serde(default)]
    pub exclude: Vec<String>,
}

impl Recipe {
    /// Parses a recipe. Errors name `file`, the source of `text`.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let wrong = |error: String| Failure::new(Class::Config, error).help(format!("git diff {}", quote(file)));
        Ok(toml::from_str(text).map_err(|error| wrong(format!("{file}: {}", error.message())))?)
    }

    /// Returns a digest of all inputs of the result: 12 hexadecimal digits.
    pub fn key(&self) -> String {
        let recipe = serde_json::to_string(self).unwrap_or_default();
        hex(&Sha256::digest(format!("{FORMAT} {} {recipe}", std::env::consts::ARCH)))[..12].to_owned()
    }
}

/// Form and path of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dest {
    /// A folder that is the root.
    Tree(Utf8PathBuf),
    /// A tar of the root, for `docker import`.
    Tar(Utf8PathBuf),
}

impl Dest {
    fn path(&self) -> &Utf8Path {
        match self {
            Self::Tree(path) | Self::Tar(path) => path,
        }
    }
}

/// Returns the path of the list of installed packages (`name<tab>version` lines) of the artifact at `path`.
pub fn versions_file(path: &Utf8Path) -> Utf8PathBuf {
    beside(path, "versions")
}

fn beside(path: &Utf8Path, suffix: &str) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{path}.{suffix}"))
}

/// Builds `dest` by `recipe` unless it exists, after it removes the remains of an interrupted run. `dest` appears when it is
/// complete. Keeps the tools for it in `cache`. Needs root and apt. Only reads the machine's own packages, lists and configuration.
pub fn debian_tree(cache: &Utf8Path, log: &Utf8Path, recipe: &Recipe, dest: &Dest, running: &Running) -> Result<()> {
    let path = dest.path();
    if files::exists(path)? {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Utf8Path::new("/"));
    std::fs::create_dir_all(folder).with_context(|| format!("making {folder}"))?;
    let (new, work, versions) = (beside(path, "new"), beside(path, "work"), beside(path, "versions.new"));
    let clear = || -> Result<()> {
        mounts::remove_tree(&work)?;
        if new.is_file() {
            std::fs::remove_file(&new).context("removing a half-made file")
        } else {
            mounts::remove_tree(&new)
        }
    };
    reap::end_marked(MARK, path.as_str())?;
    clear()?;
    let tools = tools::ready(cache, log, running)?;
    // Not in /tmp, which may be small or forbid devices: a tar needs a temporary root.
    std::fs::create_dir_all(&work).with_context(|| format!("making {work}"))?;
    let script = work.join("finish");
    std::fs::write(&script, finish(recipe, &versions)).with_context(|| format!("writing {script}"))?;
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let process = command(&tools, recipe, dest, &new, &script)
        .env("TMPDIR", work.as_str())
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .env(MARK, path.as_str())
        .log(log)
        .deadline(deadlines::DEBIAN);
    let result = process.stream(|line| {
        if let Some(text) = progress(line) {
            running.progress(text);
        }
    });
    if let Err(error) = result {
        clear()?;
        let what = format!("Debian {} cannot be made from packages", recipe.suite);
        return Err(Failure::new(Class::Machine, what).because(error).help(format!("less {}", quote(log))).into());
    }
    mounts::remove_tree(&work)?;
    std::fs::rename(&versions, versions_file(path)).context("keeping the list of versions")?;
    std::fs::rename(&new, path).with_context(|| format!("moving {new} to {path}"))
}

/// Returns the last script, whose argument is the new root. It replaces apt's settings for this machine and network by
/// Debian's own sources.
fn finish(recipe: &Recipe, versions: &Utf8Path) -> String {
    format!(
        "#!/bin/sh\nset -eu\ncd \"$1\"\n\
         rm -f etc/apt/apt.conf.d/99mmdebstrap etc/resolv.conf etc/hostname etc/apt/sources.list etc/apt/sources.list.d/*\n\
         printf %s {} >etc/apt/sources.list.d/debian.sources\n\
         chroot . dpkg-query --show --showformat '${{Package}}\\t${{Version}}\\n' >{}\n",
        quote(SOURCES.replace("SUITE", &recipe.suite)),
        quote(versions)
    )
}

/// Returns the part of an output line of mmdebstrap for users: its steps, not our own hooks.
fn progress(line: &str) -> Option<&str> {
    line.strip_prefix("I: ").filter(|text| !text.contains("--customize-hook"))
}

fn command(tools: &Tools, recipe: &Recipe, dest: &Dest, new: &Utf8Path, hook: &Utf8Path) -> Process {
    let format = if matches!(dest, Dest::Tree(_)) { "directory" } else { "tar" };
    let mut process = tools
        .mmdebstrap()
        .args(["--mode=root", "--variant=minbase"])
        .arg(format!("--format={format}"))
        .arg(format!("--keyring={}", tools.keyring()))
        .arg(format!("--aptopt={}", tools.acquire()))
        .args(recipe.exclude.iter().map(|path| format!("--dpkgopt=path-exclude={path}")))
        .arg(format!("--customize-hook={hook}"));
    if !recipe.packages.is_empty() {
        process = process.arg(format!("--include={}", recipe.packages.join(",")));
    }
    process.args([recipe.suite.as_str(), new.as_str()]).args(tools.mirrors().sources(&recipe.suite))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        Recipe {
            suite: "trixie".into(),
            packages: vec!["a".into(), "b".into()],
            exclude: vec!["/usr/share/doc/*".into()],
        }
    }

    #[test]
    fn every_part_of_a_recipe_changes_its_key() {
        let base = recipe();
        let others = [
            Recipe { suite: "forky".into(), ..base.clone() },
            Recipe { packages: vec!["a".into()], ..base.clone() },
            Recipe { exclude: vec![], ..base.clone() },
        ];
        assert!(others.iter().all(|other| other.key() != base.key()));
        assert_eq!(base.key().len(), 12);
    }

    #[test]
    fn an_unknown_key_in_a_recipe_is_refused() {
        let text = "suite = \"trixie\"\npackages = []\npackges = []\n";
        assert!(Recipe::parse("r.toml", text).unwrap_err().to_string().contains("packges"));
    }

    #[test]
    fn progress_shows_steps() {
        assert_eq!(progress("I: extracting archives..."), Some("extracting archives..."));
        assert_eq!(progress("I: running --customize-hook in shell: sh -c 'x'"), None);
        assert_eq!(progress("URIs: http://x"), None);
    }

    #[test]
    fn artifacts_that_are_there_are_not_made_again() {
        let path = Utf8Path::new("/c/base.tar");
        assert_eq!(versions_file(path), "/c/base.tar.versions");
        assert_eq!(Dest::Tar(path.into()).path(), path);
    }
}
