//! Files that only their owner can read: evidence, bundles, logs, events. The umask has no effect on them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};

use anyhow::{Context, Result};
use camino::Utf8Path;

/// Creates the folder `dir` (mode 0700) and those above it. One that exists, from an earlier version, loses the
/// permissions of others.
pub fn create_dir(dir: &Utf8Path) -> Result<()> {
    let create = || {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        restrict(dir, 0o700)
    };
    create().with_context(|| format!("creating {dir}"))
}

/// Creates the file `path` (mode 0600), or opens it with its old content removed.
pub fn create(path: &Utf8Path) -> Result<File> {
    open(path, OpenOptions::new().write(true).create(true).truncate(true))
}

/// Opens the file `path` (mode 0600) for more text at its end.
pub fn append(path: &Utf8Path) -> Result<File> {
    open(path, OpenOptions::new().append(true).create(true))
}

/// Writes `text` to the file `path` (mode 0600).
pub fn write(path: &Utf8Path, text: &str) -> Result<()> {
    create(path)?.write_all(text.as_bytes()).with_context(|| format!("writing {path}"))
}

fn open(path: &Utf8Path, options: &mut OpenOptions) -> Result<File> {
    let mut open = || {
        let file = options.mode(0o600).open(path)?;
        restrict(path, 0o600).map(|()| file)
    };
    open().with_context(|| format!("cannot write {path}"))
}

/// Sets the mode unless others have no permission already.
fn restrict(path: &Utf8Path, mode: u32) -> std::io::Result<()> {
    let open_to_others = std::fs::metadata(path)?.permissions().mode() & 0o077 != 0;
    if open_to_others { std::fs::set_permissions(path, PermissionsExt::from_mode(mode)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Utf8Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn closes_new_and_old_files_to_others() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(temp.path()).unwrap().join("a/b");
        create_dir(&dir).unwrap();
        let (new, old) = (dir.join("new"), dir.join("old"));
        std::fs::write(&old, "before ").unwrap();
        std::fs::set_permissions(&old, PermissionsExt::from_mode(0o644)).unwrap();
        write(&new, "text").unwrap();
        append(&old).unwrap().write_all(b"after").unwrap();
        assert_eq!((mode(&dir), mode(&new), mode(&old)), (0o700, 0o600, 0o600));
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "before after");
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
        create_dir(&dir).unwrap();
        assert_eq!(mode(&dir), 0o700);
    }
}
