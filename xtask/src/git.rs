//! Asks git which files it tracks and ignores.

use std::io::ErrorKind;

use anyhow::Result;
use camino::Utf8Path;

use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::process::Process;
use crate::units::quote;

/// Returns a `git` command in `dir` that works only on the repository of `dir`.
///
/// It also reads a checkout that another user owns (a bind mount, a CI runner): xtask was compiled from it, so it is trusted.
pub fn git(dir: &Utf8Path) -> Process {
    aim(Process::new("git"), dir).env("LC_ALL", "C").deadline(deadlines::GIT)
}

/// Sets the working directory and environment of [`git`] on a program that itself calls git.
pub fn aim(process: Process, dir: &Utf8Path) -> Process {
    process
        .cwd(dir)
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("GIT_OPTIONAL_LOCKS", "0")
}

/// Returns whether `dir` is in the work tree of a repository; `false` without git.
pub fn in_work_tree(dir: &Utf8Path) -> Result<bool> {
    Ok(ask(dir, &["rev-parse", "--is-inside-work-tree"])?.is_some_and(|answer| answer == "true"))
}

/// Returns the paths, relative to `root`, of tracked files and of new files that git does not ignore. A `pathspec` restricts
/// them. Includes deleted files that the index still has.
pub fn files(root: &Utf8Path, pathspec: &[&str]) -> Result<Vec<String>> {
    let list = git(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"]);
    let listed = list.args(pathspec.iter().copied()).read()?;
    Ok(listed.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

/// Returns git's trimmed output in `dir`. Returns `None` if `dir` is in no work tree or git is not installed. If git exits
/// with 1 and prints nothing, its "no", returns the empty text.
fn ask(dir: &Utf8Path, args: &[&str]) -> Result<Option<String>> {
    let output = match git(dir).args(args.iter().copied()).question().output() {
        Err(error) if error.root_cause().downcast_ref().map(std::io::Error::kind) == Some(ErrorKind::NotFound) => {
            return Ok(None);
        }
        output => output?,
    };
    let [text, said] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).trim().to_owned());
    match output.status.code() {
        Some(0) => Ok(Some(text)),
        Some(1) if text.is_empty() => Ok(Some(text)),
        _ if ["not a git repository", "must be run in a work tree"].iter().any(|no| said.contains(no)) => Ok(None),
        _ => Err(unknown(dir, &said)),
    }
}

fn unknown(dir: &Utf8Path, words: &str) -> anyhow::Error {
    Failure::new(Class::Machine, format!("git failed in {dir}: {words}"))
        .help(format!("see what is wrong with the repository: git -C {} status", quote(dir)))
        .into()
}

/// The status of a file in git.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GitStatus {
    /// There is no repository, or no git.
    NoRepository,
    /// git has it in the index: it is or will be committed.
    Tracked,
    /// git would add it with the next `git add .`.
    Exposed,
    /// git ignores it.
    Ignored,
}

/// Returns the status of `file` in git.
pub fn git_status(file: &Utf8Path) -> Result<GitStatus> {
    let dir = file.parent().filter(|dir| !dir.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
    let name = file.file_name().unwrap_or_default();
    // Both commands print the name if the answer is yes, besides git's warnings. A file in the index is never ignored.
    let is_named = |args: &[&str]| match ask(dir, &[args, &["--", name]].concat())? {
        Some(text) if text == name => Ok(Some(true)),
        Some(text) if text.is_empty() => Ok(Some(false)),
        Some(text) => Err(unknown(dir, &format!("`git {}` printed `{text}` about {name}", args.join(" ")))),
        None => Ok(None),
    };
    Ok(match is_named(&["check-ignore"])? {
        None => GitStatus::NoRepository,
        Some(true) => GitStatus::Ignored,
        Some(false) if is_named(&["ls-files"])? == Some(true) => GitStatus::Tracked,
        Some(false) => GitStatus::Exposed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_tracked_exposed_or_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        let file = root.join(".env");
        std::fs::write(&file, "A=b\n").unwrap();
        assert_eq!(git_status(&file).unwrap(), GitStatus::NoRepository);
        git(root).args(["init", "--quiet"]).run().unwrap();
        assert_eq!(git_status(&file).unwrap(), GitStatus::Exposed);
        std::fs::write(root.join(".gitignore"), ".env\n").unwrap();
        assert_eq!(git_status(&file).unwrap(), GitStatus::Ignored);
        git(root).args(["add", "--force", ".env"]).run().unwrap();
        assert_eq!(git_status(&file).unwrap(), GitStatus::Tracked);
        // A repository that git cannot read says nothing about the file.
        std::fs::write(root.join(".git/config"), "[core\n").unwrap();
        let error = git_status(&file).unwrap_err().to_string();
        assert!(error.starts_with("git failed in ") && error.contains("bad config"), "{error}");
    }
}
