//! Stops the node, which frees its memory and keeps its disk.

use anyhow::Result;

use super::profile::{self, Profile, ProfileState};
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::plan::Step;
use crate::report::bytes;
use crate::toolbox::Toolbox;

/// Decides on the steps that stop the node of `profile`. Empty if it does not run.
pub fn steps<'a>(tools: &'a Toolbox, profile: &Profile) -> Result<Vec<Step<'a>>> {
    let name = &tools.profile;
    match &profile.state {
        ProfileState::Absent | ProfileState::Stopped => return Ok(Vec::new()),
        ProfileState::HalfDeleted(how) => {
            let what = format!("minikube profile `{name}` is half deleted: {how}; it cannot be stopped");
            return Err(Failure::new(Class::Cluster, what).help("cargo xtask status").into());
        }
        ProfileState::Foreign | ProfileState::OtherDriver(_) => {
            return profile::refusal(tools, profile).map_or(Ok(Vec::new()), |refusal| Err(refusal.into()));
        }
        ProfileState::Running | ProfileState::Paused => {}
    }
    profile::refuse_users(tools, profile, "stop")?;
    let paused = profile.state == ProfileState::Paused;
    let stop = tools.minikube().args(["stop", "--keep-context-active"]).deadline(deadlines::MINIKUBE_STOP);
    let unpause = tools.engine.docker().args(["unpause", name]);
    let shown = if paused { format!("{unpause}\n{stop}") } else { stop.to_string() };
    Ok(vec![Step::new(format!("stop cluster {name}"), "asked for", shown, move |running| {
        if paused {
            // Paused processes cannot exit.
            unpause.run()?;
        }
        let memory = read_node_memory(tools);
        stop.stream(|line| running.progress(line.trim_start_matches(['*', '-', '!', ' '])))?;
        // The exit code of minikube alone proves nothing.
        match profile::observe(tools)?.state {
            ProfileState::Stopped => Ok(memory.map_or_else(
                || "its memory is free again".to_owned(),
                |memory| format!("{} of memory are free again", bytes(memory)),
            )),
            state => {
                let what =
                    format!("`minikube stop` succeeded, but the node of profile `{name}` is not stopped: {state:?}");
                Err(Failure::new(Class::Cluster, what)
                    .help(format!("see the node's log: cargo xtask tool docker -- logs --tail 50 {name}"))
                    .into())
            }
        }
    })])
}

/// Returns the memory of the node's processes in bytes; shared memory counts once. `None` if the node does not report it,
/// which must not prevent the stop.
fn read_node_memory(tools: &Toolbox) -> Option<u64> {
    let ask = tools.first_node().exec(["sh", "-c", "cat /proc/[0-9]*/smaps_rollup"]).deadline(deadlines::NODE);
    // `cat` fails if a process ends meanwhile, so the exit code does not count.
    let kib = sum_pss(&String::from_utf8_lossy(&ask.output().ok()?.stdout));
    (kib > 0).then_some(kib * 1024)
}

/// Returns the sum of the lines `Pss: <number> kB`, in KiB.
fn sum_pss(text: &str) -> u64 {
    let number = |line: &str| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse::<u64>().ok();
    text.lines().filter_map(number).sum()
}

#[cfg(test)]
mod tests {
    #[test]
    fn sums_the_memory_of_all_processes() {
        let process = "55f0-7ffd ---p 00000000 00:00 0  [rollup]\nRss:  9000 kB\nPss:  8000 kB\nPss_Anon:  7000 kB\n";
        assert_eq!(super::sum_pss(&process.repeat(2)), 16000);
        assert_eq!(super::sum_pss("cat: /proc/1/smaps_rollup: Permission denied"), 0);
    }
}
