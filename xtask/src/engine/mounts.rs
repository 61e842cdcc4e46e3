//! Lists the mounts below a folder, and removes a folder without removing the contents of mounts in it.

use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};

use crate::files;
use crate::process::Process;

/// Removes the folder `path` and what is mounted below it; nothing there is fine.
///
/// A half-made tree may still have the machine's /dev or /proc bound into it: the mounts go first, and if one stays
/// nothing is removed.
pub fn remove_tree(path: &Utf8Path) -> Result<()> {
    if !files::exists(path)? {
        return files::remove(path);
    }
    for mount in below(path)?.iter().rev() {
        Process::new("umount").args(["--lazy", mount.as_str()]).run()?;
    }
    if let Some(mount) = below(path)?.first() {
        bail!("{mount} is still mounted; not removing {path}");
    }
    std::fs::remove_dir_all(path).with_context(|| format!("removing {path}"))
}

fn below(path: &Utf8Path) -> Result<Vec<Utf8PathBuf>> {
    // Only Linux has it, and only there anything is mounted.
    let Some(text) = files::read(Utf8Path::new("/proc/self/mountinfo"))? else { return Ok(Vec::new()) };
    let path = path.canonicalize_utf8().with_context(|| format!("resolving {path}"))?;
    Ok(parse(&text, &path))
}

/// Returns the mount points at or below `path`, in the order in which they were mounted.
fn parse(mountinfo: &str, path: &Utf8Path) -> Vec<Utf8PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).map(Utf8PathBuf::from);
    points.filter(|point| point.starts_with(path)).collect()
}

/// Decodes space, tab, newline and backslash, which the kernel writes as three octal digits.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (code, char)| text.replace(code, char))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
31 22 0:5 / /c/engine/tree-1.new/dev rw shared:2 - devtmpfs devtmpfs rw
32 22 0:21 / /c/engine/tree-1.new/my\\040dir rw shared:3 - proc proc rw
33 22 0:22 / /c/engine/tree-12/proc rw shared:3 - proc proc rw
";

    #[test]
    fn finds_what_is_mounted_below_and_nothing_beside() {
        let found = parse(REAL, Utf8Path::new("/c/engine/tree-1.new"));
        assert_eq!(found, ["/c/engine/tree-1.new/dev", "/c/engine/tree-1.new/my dir"]);
        assert!(parse(REAL, Utf8Path::new("/c/engine/tree-1")).is_empty());
    }

    #[test]
    fn removes_a_folder_and_is_content_with_none() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(temp.path()).unwrap().join("a");
        std::fs::create_dir_all(dir.join("b/c")).unwrap();
        remove_tree(&dir).unwrap();
        remove_tree(&dir).unwrap();
        assert!(!dir.exists());
    }
}
