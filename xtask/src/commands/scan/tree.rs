//! The scanned files of the working tree: those that git tracks or would add.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use camino::Utf8Path;
use tempfile::TempDir;
use walkdir::WalkDir;

use crate::git::git;

/// Folders that tools create. Excluded without git, which would know the ignored files.
const TOOL_FOLDERS: [&str; 14] = [
    ".git",
    "target",
    "node_modules",
    ".next",
    ".venv",
    "venv",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    "coverage",
    "test-results",
    "playwright-report",
    ".cache",
];

/// Returns the tracked files, and untracked ones that are not ignored, relative to `root`.
pub fn listed_by_git(root: &Utf8Path) -> Result<Vec<PathBuf>> {
    let process = git(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = process.output()?;
    if !output.status.success() {
        process.run()?;
    }
    let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut files: Vec<PathBuf> = names.map(|name| std::ffi::OsString::from_vec(name.to_vec()).into()).collect();
    files.sort();
    files.dedup();
    // Excludes deleted files, which are still in the index, submodules, which are folders, and symbolic links.
    files.retain(|file| is_regular_file(&root.as_std_path().join(file)));
    Ok(files)
}

/// Returns all files except `.env` and those in folders of tools, relative to `root`.
pub fn walked(root: &Utf8Path) -> Result<Vec<PathBuf>> {
    let wanted = |entry: &walkdir::DirEntry| {
        let name = entry.file_name().to_string_lossy();
        let private = name == ".env" || (name.starts_with(".env.") && name != ".env.example");
        entry.depth() == 0 || !(TOOL_FOLDERS.contains(&name.as_ref()) || private && entry.file_type().is_file())
    };
    let mut files = Vec::new();
    for entry in WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(wanted) {
        let entry = entry?;
        if entry.file_type().is_file() {
            files.push(entry.path().strip_prefix(root)?.to_owned());
        }
    }
    Ok(files)
}

fn is_regular_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_file())
}

/// Creates a folder with exactly `files`, because gitleaks scans whole folders. Uses hard links, so that a killed scan
/// leaves no copies.
pub fn mirror(root: &Utf8Path, files: &[PathBuf], scratch: &Utf8Path) -> Result<TempDir> {
    std::fs::create_dir_all(scratch)?;
    let dir = tempfile::Builder::new().prefix("scan-").tempdir_in(scratch)?;
    for file in files {
        let (from, to) = (root.as_std_path().join(file), dir.path().join(file));
        std::fs::create_dir_all(to.parent().context("a file without a folder")?)?;
        let linked = std::fs::hard_link(&from, &to).or_else(|_| std::fs::copy(&from, &to).map(|_| ()));
        linked.with_context(|| format!("cannot read {}", from.display()))?;
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkout() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in ["a", "sub dir/b\n", "node_modules/c", ".env", ".env.example", ".env.local", "ignored", "gone"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        std::fs::write(dir.path().join(".gitignore"), ".env\n.env.*\n!.env.example\nignored\nnode_modules/\n").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        dir
    }

    fn names(files: &[PathBuf]) -> Vec<&str> {
        files.iter().map(|file| file.to_str().unwrap()).collect()
    }

    #[test]
    fn lists_tracked_and_unignored_files() {
        let dir = checkout();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        git(root).args(["init", "--quiet"]).run().unwrap();
        git(root).args(["add", "a", "gone", "link"]).run().unwrap();
        git(root).args(["add", "--force", "ignored"]).run().unwrap();
        std::fs::remove_file(root.join("gone")).unwrap();
        let files = listed_by_git(root).unwrap();
        assert_eq!(names(&files), [".env.example", ".gitignore", "a", "ignored", "sub dir/b\n"]);
        let mirror = mirror(root, &files, &root.join("node_modules")).unwrap();
        assert_eq!(std::fs::read_to_string(mirror.path().join("sub dir/b\n")).unwrap(), "sub dir/b\n");
    }

    #[test]
    fn without_git_excludes_dotenv_and_folders_of_tools() {
        let dir = checkout();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        assert_eq!(
            names(&walked(root).unwrap()),
            [".env.example", ".gitignore", "a", "gone", "ignored", "sub dir/b\n"]
        );
    }
}
