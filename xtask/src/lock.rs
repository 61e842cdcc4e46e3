//! Lets only one xtask at a time use a profile. The operating system releases the lock when the process ends. After a
//! kill, the guardian holds it until the children have ended.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};

use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::process;

/// The lock files that this process has opened and does not hold now. The guardian shares the open file, and a lock
/// belongs to the open file: taken again by the same one, it is also the guardian's again.
static OPENED: Mutex<BTreeMap<Utf8PathBuf, File>> = Mutex::new(BTreeMap::new());

/// A lock that is held until it is dropped.
pub struct Lock {
    path: Utf8PathBuf,
    file: Option<File>,
}

impl Drop for Lock {
    /// Unlocks without closing: the guardian has the file open too.
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        if file.unlock().is_ok() {
            OPENED.lock().unwrap_or_else(PoisonError::into_inner).insert(self.path.clone(), file);
        }
    }
}

/// Takes the lock `name` below `folder`. The error names the process that holds it.
pub fn take(folder: &Utf8Path, name: &str) -> Result<Lock> {
    std::fs::create_dir_all(folder).with_context(|| format!("creating {folder}"))?;
    let mut lock = Lock::open(folder.join(format!("{name}.lock")))?;
    let Lock { path, file: Some(file) } = &mut lock else { bail!("a lock without a file") };
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {
                let holder = read(file)?;
                if start.elapsed() > deadlines::LOCK.time() || process_of(&holder).is_none_or(alive) {
                    let what = format!("another xtask is at work on `{name}`: {holder}");
                    return Err(Failure::new(Class::Busy, what)
                        .help("wait for it to end, or end it; this run changed nothing")
                        .into());
                }
                // Its process is gone; the guardian ends the children of that process, then releases the lock.
                std::thread::sleep(deadlines::LOCK_POLL.time());
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("locking {path}")),
        }
    }
    let command: Vec<String> = std::env::args().skip(1).collect();
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "cargo xtask {} (pid {})", command.join(" "), std::process::id())?;
    Ok(lock)
}

impl Lock {
    /// Opens the file, or reuses the one that was opened before unless another file has its path now.
    fn open(path: Utf8PathBuf) -> Result<Self> {
        let opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner).remove(&path);
        if let Some(file) = opened
            && let (Ok(now), Ok(then)) = (std::fs::metadata(&path), file.metadata())
            && (now.dev(), now.ino()) == (then.dev(), then.ino())
        {
            return Ok(Self { path, file: Some(file) });
        }
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let file = file.with_context(|| format!("opening {path}"))?;
        process::hold(file.try_clone()?);
        Ok(Self { path, file: Some(file) })
    }
}

fn read(file: &mut File) -> Result<String> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Returns the ID of the process that wrote `holder` into the lock.
fn process_of(holder: &str) -> Option<i32> {
    holder.rsplit_once("(pid ")?.1.strip_suffix(')')?.parse().ok()
}

/// Returns whether the process runs. A zombie does not count.
fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let ended = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']));
    let there = rustix::process::Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok());
    there && !ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_holder_of_a_lock() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(dir.path()).unwrap();
        let first = take(folder, "todo").unwrap();
        let error = take(folder, "todo").err().unwrap().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        drop(first);
        take(folder, "todo").unwrap();
    }

    #[test]
    fn a_lock_that_is_taken_again_is_the_guardians_too() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(dir.path()).unwrap();
        let first = take(folder, "watched").unwrap();
        let guardians = first.file.as_ref().unwrap().try_clone().unwrap();
        drop(first);
        let mut second = take(folder, "watched").unwrap();
        // What the operating system does with a killed process: it closes without unlocking.
        drop(second.file.take());
        let other = File::open(folder.join("watched.lock")).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)), "held while the guardian lives");
        drop(guardians);
    }

    #[test]
    fn a_lock_file_that_was_replaced_is_opened_anew() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(dir.path()).unwrap();
        drop(take(folder, "removed").unwrap());
        std::fs::remove_file(folder.join("removed.lock")).unwrap();
        let _lock = take(folder, "removed").unwrap();
        let other = File::open(folder.join("removed.lock")).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
    }

    #[test]
    fn reads_the_process_from_the_lock_file() {
        assert_eq!(process_of("cargo xtask deploy dev (pid 42)"), Some(42));
        assert_eq!(process_of(""), None);
        assert!(alive(std::process::id() as i32));
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        let start = Instant::now();
        while alive(ended.id() as i32) {
            assert!(start.elapsed() < deadlines::HANG, "a zombie is not at work");
        }
        ended.wait().unwrap();
    }
}
