//! Files with three answers: present, absent, or unknown. Only the system's "not found" is absent; any other error (no
//! permission, a broken disk) is unknown, and never becomes a default.

use std::io::{Error, ErrorKind};

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};

use crate::failure::{Class, Failure};
use crate::pure;
use crate::units::quote;

/// Reads the text file `path`; `None`: it does not exist.
pub fn read(path: &Utf8Path) -> Result<Option<String>> {
    pure::effect("reads a file");
    absent_or(std::fs::read_to_string(path), path, "read")
}

/// Reads the file `path` as bytes; `None`: it does not exist.
pub fn read_bytes(path: &Utf8Path) -> Result<Option<Vec<u8>>> {
    pure::effect("reads a file");
    absent_or(std::fs::read(path), path, "read")
}

/// Returns whether `path` exists.
pub fn exists(path: &Utf8Path) -> Result<bool> {
    pure::effect("looks for a file");
    path.try_exists().map_err(|error| unknown(path, "look for", &error))
}

/// Lists the folder `path`; a folder that does not exist is empty.
pub fn entries(path: &Utf8Path) -> Result<Vec<Utf8PathBuf>> {
    let list = || path.read_dir_utf8()?.map(|entry| Ok(entry?.into_path())).collect::<std::io::Result<Vec<_>>>();
    Ok(absent_or(list(), path, "list")?.unwrap_or_default())
}

/// Removes the file `path`, if it exists.
pub fn remove(path: &Utf8Path) -> Result<()> {
    absent_or(std::fs::remove_file(path), path, "remove").map(drop)
}

/// Removes the folder `path` and its content, if it exists.
pub fn remove_folder(path: &Utf8Path) -> Result<()> {
    absent_or(std::fs::remove_dir_all(path), path, "remove").map(drop)
}

/// Writes the file `path` and creates its folder if need be. A rename replaces the file, so an interruption leaves the
/// old one or the new one.
pub fn write(path: &Utf8Path, bytes: &[u8]) -> Result<()> {
    pure::effect("writes a file");
    let dir = path.parent().context("a file has a folder")?;
    let put = || -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let mut temp = tempfile::NamedTempFile::new_in(dir)?;
        std::io::Write::write_all(&mut temp, bytes)?;
        temp.persist(path)?;
        Ok(())
    };
    put().with_context(|| format!("cannot write {path}"))
}

fn absent_or<T>(result: std::io::Result<T>, path: &Utf8Path, verb: &str) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unknown(path, verb, &error)),
    }
}

fn unknown(path: &Utf8Path, verb: &str, error: &Error) -> anyhow::Error {
    let folder = path.parent().unwrap_or(path);
    Failure::new(Class::Machine, format!("cannot {verb} {path}: {error}"))
        .help(format!("see who has access: ls -ld {} {}", quote(folder), quote(path)))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_present_absent_or_unknown() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(temp.path()).unwrap();
        let file = folder.join("file");
        assert!(read(&file).unwrap().is_none() && read_bytes(&file).unwrap().is_none() && !exists(&file).unwrap());
        remove(&file).unwrap();
        remove_folder(&file).unwrap();
        assert_eq!(entries(&file).unwrap(), [""; 0]);
        std::fs::write(&file, "text").unwrap();
        assert_eq!(read(&file).unwrap().as_deref(), Some("text"));
        assert!(exists(&file).unwrap());
        // A folder has no content and a file has no entries. Unlike permissions, this also holds for root.
        for error in [read(folder).unwrap_err(), entries(&file).unwrap_err(), exists(&file.join("below")).unwrap_err()]
        {
            let failure = error.downcast_ref::<Failure>().unwrap();
            assert!(failure.to_string().starts_with("cannot ") && failure.hints()[0].contains("ls -ld"), "{failure}");
        }
    }
}
