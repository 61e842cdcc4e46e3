//! One xtask at a time for each profile. The operating system releases the lock with the process, however it ends.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};

use anyhow::{Context, Result};
use camino::Utf8Path;

use crate::failure::{Class, Failure};

/// Held as long as it lives.
pub struct Lock {
    _file: File,
}

/// Takes the lock `name` below `folder`, or says who holds it.
pub fn take(folder: &Utf8Path, name: &str) -> Result<Lock> {
    std::fs::create_dir_all(folder).with_context(|| format!("creating {folder}"))?;
    let path = folder.join(format!("{name}.lock"));
    let mut file = File::options().create(true).truncate(false).read(true).write(true).open(&path)?;
    match file.try_lock() {
        Ok(()) => {
            let command: Vec<String> = std::env::args().skip(1).collect();
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "cargo xtask {} (pid {})", command.join(" "), std::process::id())?;
            Ok(Lock { _file: file })
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            Err(Failure::new(Class::Busy, format!("another xtask is at work on `{name}`: {holder}"))
                .help("wait for it to end, or end it; nothing was changed by this run")
                .into())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {path}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(dir.path()).unwrap();
        let first = take(folder, "todo").unwrap();
        let error = take(folder, "todo").err().unwrap().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        drop(first);
        take(folder, "todo").unwrap();
    }
}
