//! git in a folder: what it tracks and what it ignores.

use camino::Utf8Path;

use crate::deadlines;
use crate::process::Process;

/// A `git` command in `dir`, on the repository that `dir` belongs to and no other.
///
/// A checkout that another user owns (a bind mount, a CI runner) is read all the same: this tool was compiled from it,
/// so it is trusted already.
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

/// Whether `dir` lies in the work tree of a repository that this machine's git can read.
pub fn in_work_tree(dir: &Utf8Path) -> bool {
    git(dir).args(["rev-parse", "--is-inside-work-tree"]).read().is_ok_and(|answer| answer.trim() == "true")
}

/// How a file stands with git.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is no repository, or no git.
    NoRepository,
    /// git has it in the index: it is or will be committed.
    Tracked,
    /// git would add it with the next `git add .`.
    Exposed,
    /// git leaves it alone.
    Ignored,
}

/// How `file` stands with git.
pub fn standing(file: &Utf8Path) -> Standing {
    let dir = file.parent().filter(|dir| !dir.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
    let name = file.file_name().unwrap_or_default();
    if !in_work_tree(dir) {
        Standing::NoRepository
    } else if git(dir).args(["ls-files", "--error-unmatch", "--", name]).succeeds() {
        Standing::Tracked
    } else if git(dir).args(["check-ignore", "--quiet", "--", name]).succeeds() {
        Standing::Ignored
    } else {
        Standing::Exposed
    }
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
        assert_eq!(standing(&file), Standing::NoRepository);
        git(root).args(["init", "--quiet"]).run().unwrap();
        assert_eq!(standing(&file), Standing::Exposed);
        std::fs::write(root.join(".gitignore"), ".env\n").unwrap();
        assert_eq!(standing(&file), Standing::Ignored);
        git(root).args(["add", "--force", ".env"]).run().unwrap();
        assert_eq!(standing(&file), Standing::Tracked);
    }
}
