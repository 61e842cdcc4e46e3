//! Stops the private engine, and removes it.

use std::fs::File;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::paths::EnginePaths;
use super::{Engine, debian, mounts, network, ping, reap};
use crate::deadlines;
use crate::files;
use crate::report::Running;

/// Returns whether anything of a private engine exists.
pub fn exists(paths: &EnginePaths) -> Result<bool> {
    Ok(files::exists(&paths.dir())? || files::exists(&paths.run())?)
}

/// Stops the engine, and ends the processes that are left. Images, containers and volumes stay.
pub fn end(paths: &EnginePaths, running: &Running) -> Result<()> {
    let pid = files::read(&paths.pid_file())?.and_then(|text| Pid::from_raw(text.trim().parse().ok()?));
    // The process ID may belong to another process by now; the engine is a process in the tree.
    let ours = |pid: &Pid| Ok::<_, anyhow::Error>(reap::alive(paths)?.contains(&pid.as_raw_nonzero().get()));
    if let Some(pid) = pid
        && ours(&pid)?
    {
        let _ = kill_process(pid, Signal::TERM);
        let start = Instant::now();
        while start.elapsed() < deadlines::ENGINE_STOP.time() && ours(&pid)? {
            running.progress("waiting for the engine to end its containers");
            std::thread::sleep(deadlines::POLL_LOCAL.time());
        }
    }
    reap::reap(paths)?;
    for file in [paths.pid_file(), paths.key_file(), paths.socket()] {
        files::remove(&file)?;
    }
    Ok(())
}

/// Ends the engine and removes it with its data, its bridges and its firewall rules.
pub fn remove(paths: &EnginePaths, running: &Running) -> Result<String> {
    if !exists(paths)? {
        return Ok("there is none".to_owned());
    }
    std::fs::create_dir_all(paths.dir())?;
    let lock = File::create(paths.lock()).with_context(|| format!("opening {}", paths.lock()))?;
    lock.lock().context("locking the engine")?;
    if matches!(ping::ask(&paths.socket(), deadlines::ENGINE_PROBE.time()), ping::Answer::Version(_)) {
        // Their state goes anyway: no need to wait until each has ended by itself.
        let engine = Engine::private(paths);
        let ids = engine.docker().args(["ps", "--quiet", "--no-trunc"]).read().unwrap_or_default();
        if !ids.trim().is_empty() {
            let _ = engine.docker().arg("kill").args(ids.split_whitespace()).run();
        }
    }
    end(paths, running)?;
    let tree = paths.trees()?.into_iter().find(|tree| tree.join("usr/sbin/dockerd").is_file());
    let (bridges, left) = match tree {
        Some(tree) => network::clean(paths, &tree)?,
        None => (0, network::leftover(paths)?),
    };
    running.progress("removing the engine's images, containers and volumes");
    for tree in paths.trees()? {
        mounts::remove_tree(&tree)?;
        files::remove(&debian::versions_file(&tree))?;
    }
    mounts::remove_tree(&paths.run())?;
    mounts::remove_tree(&paths.dir())?;
    if exists(paths)? {
        bail!("{} or {} is still there", paths.dir(), paths.run());
    }
    let left: String = left.iter().map(|what| format!("\n    stays: {what}")).collect();
    Ok(format!("removed with its data and {bridges} networks{left}"))
}
