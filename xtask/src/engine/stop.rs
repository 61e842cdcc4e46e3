//! Ends the private engine, and removes it.

use std::fs::File;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::place::Place;
use super::{Engine, debian, mounts, network, ping, reap};
use crate::deadlines;
use crate::files;
use crate::report::Running;

/// Whether there is anything of a private engine here.
pub fn exists(place: &Place) -> Result<bool> {
    Ok(files::exists(&place.dir())? || files::exists(&place.run())?)
}

/// Asks the engine to end, and ends what is left. Images, containers and volumes stay.
pub fn end(place: &Place, running: &Running) -> Result<()> {
    let pid = files::read(&place.pid_file())?.and_then(|text| Pid::from_raw(text.trim().parse().ok()?));
    // The number may be somebody else's by now: only one of the processes in the tree is the engine.
    let ours = |pid: &Pid| Ok::<_, anyhow::Error>(reap::alive(place)?.contains(&pid.as_raw_nonzero().get()));
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
    reap::reap(place)?;
    for file in [place.pid_file(), place.key_file(), place.socket()] {
        files::remove(&file)?;
    }
    Ok(())
}

/// Ends the engine and removes it with its data, its bridges and its firewall rules.
pub fn remove(place: &Place, running: &Running) -> Result<String> {
    if !exists(place)? {
        return Ok("there is none".to_owned());
    }
    std::fs::create_dir_all(place.dir())?;
    let lock = File::create(place.lock()).with_context(|| format!("opening {}", place.lock()))?;
    lock.lock().context("locking the engine")?;
    if matches!(ping::ask(&place.socket(), deadlines::ENGINE_PROBE.time()), ping::Answer::Version(_)) {
        // Their state goes anyway: no need to wait until each has ended by itself.
        let engine = Engine::private(place);
        let ids = engine.docker().args(["ps", "--quiet", "--no-trunc"]).read().unwrap_or_default();
        if !ids.trim().is_empty() {
            let _ = engine.docker().arg("kill").args(ids.split_whitespace()).run();
        }
    }
    end(place, running)?;
    let tree = place.trees()?.into_iter().find(|tree| tree.join("usr/sbin/dockerd").is_file());
    let (bridges, left) = match tree {
        Some(tree) => network::clean(place, &tree)?,
        None => (0, network::leftover(place)?),
    };
    running.progress("removing the engine's images, containers and volumes");
    for tree in place.trees()? {
        mounts::remove_tree(&tree)?;
        files::remove(&debian::versions_file(&tree))?;
    }
    mounts::remove_tree(&place.run())?;
    mounts::remove_tree(&place.dir())?;
    if exists(place)? {
        bail!("{} or {} is still there", place.dir(), place.run());
    }
    let left: String = left.iter().map(|what| format!("\n    stays: {what}")).collect();
    Ok(format!("removed with its data and {bridges} networks{left}"))
}
