//! Ends the processes that a killed engine leaves.
//!
//! A SIGKILLed engine leaves containerd, proxies and the processes of its containers. They hold its data and its
//! cgroups, so the next engine hangs or cannot start the same containers ("devices.allow: invalid argument"). This
//! module finds them by their root, which is the engine's tree, or by the engine's parent cgroup.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, Signal, kill_process};
use walkdir::WalkDir;

use super::paths::EnginePaths;
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::files;

/// The kernel's error for a control group that is being removed.
const ENODEV: i32 = 19;
const CGROUPS: &str = "/sys/fs/cgroup";

/// Ends every process of the engine and removes its control groups. Returns the number of processes.
pub fn reap(paths: &EnginePaths) -> Result<usize> {
    let end = Instant::now() + deadlines::REAP.time();
    let mut ended = BTreeSet::new();
    loop {
        let groups = groups(&paths.cgroup())?;
        let pids: BTreeSet<i32> = rooted(&trees(paths)?)?.into_iter().chain(members(&groups)?).collect();
        for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            // A process that has already ended is no error.
            let _ = kill_process(pid, Signal::KILL);
        }
        ended.extend(pids.iter().copied());
        for group in groups.iter().rev() {
            let _ = std::fs::remove_dir(group);
        }
        if pids.is_empty() && groups.is_empty() {
            return Ok(ended.len());
        }
        if Instant::now() >= end {
            return Err(stuck(&pids, &groups).into());
        }
        std::thread::sleep(deadlines::POLL_LOCAL.time());
    }
}

/// Returns the processes whose root is one of the engine's trees: the engine itself, containerd, shims, proxies.
pub fn alive(paths: &EnginePaths) -> Result<Vec<i32>> {
    rooted(&trees(paths)?)
}

/// Returns the processes whose root is `tree`.
pub fn alive_in(tree: &Utf8Path) -> Result<Vec<i32>> {
    rooted(&roots(&[tree.to_owned()])?)
}

/// Ends every process that was started with the environment variable `name` set to `value`, and waits until it is gone:
/// what a SIGKILLed xtask had started runs on, and would write where its successor writes.
pub fn end_marked(name: &str, value: &str) -> Result<()> {
    let end = Instant::now() + deadlines::REAP.time();
    loop {
        let pids = marked(name, value)?;
        for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        if pids.is_empty() {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(stuck(&pids.into_iter().collect(), &[]).into());
        }
        std::thread::sleep(deadlines::POLL_LOCAL.time());
    }
}

/// Returns the other processes with the environment variable `name` set to `value`.
pub fn marked(name: &str, value: &str) -> Result<Vec<i32>> {
    let variable = format!("{name}={value}");
    let has = |pid: &i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|other| other == variable.as_bytes())
    };
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    Ok(processes()?.into_iter().filter(|pid| *pid != me).filter(has).collect())
}

fn processes() -> Result<Vec<i32>> {
    let entries = files::entries(Utf8Path::new("/proc"))?;
    Ok(entries.iter().filter_map(|entry| entry.file_name()?.parse().ok()).collect())
}

fn stuck(pids: &BTreeSet<i32>, groups: &[Utf8PathBuf]) -> Failure {
    let named: Vec<String> = pids.iter().map(|pid| format!("{pid} ({})", name(*pid))).collect();
    let what = if named.is_empty() {
        format!("control groups of an earlier engine cannot be removed: {}", groups.first().map_or("", |g| g.as_str()))
    } else {
        format!("processes of an earlier engine do not end: {}", named.join(", "))
    };
    Failure::new(Class::Machine, what).help("restart the machine, then run the same command again")
}

fn name(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

fn trees(paths: &EnginePaths) -> Result<Vec<(u64, u64)>> {
    roots(&paths.trees()?)
}

fn roots(trees: &[Utf8PathBuf]) -> Result<Vec<(u64, u64)>> {
    let root = |tree: &Utf8PathBuf| {
        let metadata = tree.metadata().with_context(|| format!("looking at {tree}"))?;
        Ok((metadata.dev(), metadata.ino()))
    };
    trees.iter().map(root).collect()
}

fn rooted(trees: &[(u64, u64)]) -> Result<Vec<i32>> {
    if trees.is_empty() {
        return Ok(Vec::new());
    }
    // The root of a process that has just ended, or of another user's, is none of the engine's.
    let inside = |pid: &i32| {
        let root = std::fs::metadata(format!("/proc/{pid}/root"));
        root.is_ok_and(|m| trees.contains(&(m.dev(), m.ino())))
    };
    Ok(processes()?.into_iter().filter(inside).collect())
}

/// Returns the engine's control group and all below it, parents first, in cgroup v2's hierarchy and in each of v1's.
fn groups(name: &str) -> Result<Vec<Utf8PathBuf>> {
    let tops = std::iter::once(Utf8PathBuf::from(CGROUPS)).chain(files::entries(Utf8Path::new(CGROUPS))?);
    let found = tops.map(|top| top.join(name)).filter(|group| group.is_dir());
    // A group that has gone meanwhile is no error.
    Ok(found
        .flat_map(|group| WalkDir::new(group).into_iter().flatten())
        .filter(|entry| entry.file_type().is_dir())
        .filter_map(|entry| Utf8PathBuf::from_path_buf(entry.into_path()).ok())
        .collect())
}

fn members(groups: &[Utf8PathBuf]) -> Result<BTreeSet<i32>> {
    let mut members = BTreeSet::new();
    for group in groups {
        match std::fs::read_to_string(group.join("cgroup.procs")) {
            Ok(text) => members.extend(parse_members(&text)),
            // The group went meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(ENODEV) => {}
            Err(error) => return Err(error).with_context(|| format!("reading the processes of {group}")),
        }
    }
    Ok(members)
}

/// Parses the process IDs of a `cgroup.procs`. Skips 0, a process in another PID namespace (a signal to 0 would reach
/// this process), and 1.
fn parse_members(text: &str) -> Vec<i32> {
    text.lines().filter_map(|line| line.trim().parse().ok()).filter(|pid| *pid > 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_processes_that_may_be_signalled() {
        assert_eq!(parse_members("0\n1\n4711\n812\n\n"), [4711, 812]);
    }

    #[test]
    fn reaps_nothing_without_an_engine() {
        let temp = tempfile::tempdir().unwrap();
        let paths = EnginePaths::new(Utf8Path::from_path(temp.path()).unwrap());
        assert_eq!(reap(&paths).unwrap(), 0);
    }

    #[test]
    fn ends_processes_of_a_killed_predecessor() {
        let mut child = std::process::Command::new("sleep").arg("60").env("XTASK_TEST_MARK", "a/b").spawn().unwrap();
        assert_eq!(marked("XTASK_TEST_MARK", "a").unwrap(), Vec::<i32>::new());
        // The kernel lets us go on a moment before the child's environment is in place.
        let end = Instant::now() + deadlines::REAP.time();
        while marked("XTASK_TEST_MARK", "a/b").unwrap().is_empty() && Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(marked("XTASK_TEST_MARK", "a/b").unwrap(), [i32::try_from(child.id()).unwrap()]);
        // A zombie has no environment: it does not count as running.
        end_marked("XTASK_TEST_MARK", "a/b").unwrap();
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_process_in_another_root_is_not_ours() {
        let here = std::fs::metadata("/proc/self/root").unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(rooted(&[(here.dev(), here.ino())]).unwrap().contains(&me));
        assert!(!rooted(&[(here.dev(), here.ino() + 1)]).unwrap().contains(&me));
    }
}
