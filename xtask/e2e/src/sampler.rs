//! Looks at arguments and environment of every process while something runs.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use super::marker::Needles;

/// Between two looks at all processes; the shortest of ours live several times as long.
const PAUSE: Duration = Duration::from_millis(20);

/// What was seen.
#[derive(Debug, Default)]
pub struct Samples {
    /// Different command lines.
    pub commands: HashSet<Vec<u8>>,
    /// Environments that could be read.
    pub environments: usize,
    /// Where the word was.
    pub hits: BTreeSet<String>,
}

/// A thread that looks until it is stopped.
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Samples>,
}

impl Sampler {
    /// Starts looking for `needles`.
    pub fn start(needles: Needles) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut seen = Samples::default();
            while !stopped.load(Ordering::Relaxed) {
                look(&needles, &mut seen);
                std::thread::sleep(PAUSE);
            }
            seen
        });
        Self { stop, thread }
    }

    /// Ends it; fails if a process had the word.
    pub fn finish(self) -> Result<Samples> {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.join().map_err(|_| anyhow!("the sampler panicked"))?;
        ensure!(seen.hits.is_empty(), "a canary was in {:?}", seen.hits);
        Ok(seen)
    }
}

fn look(needles: &Needles, seen: &mut Samples) {
    let Ok(entries) = std::fs::read_dir("/proc") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        // A process that ends meanwhile has nothing to show.
        let Ok(command) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let shown = || String::from_utf8_lossy(&command).replace('\0', " ");
        if needles.are_in(&command) {
            seen.hits.insert(format!("the arguments of: {}", shown()));
        }
        if let Ok(environment) = std::fs::read(entry.path().join("environ")) {
            seen.environments += 1;
            if needles.are_in(&environment) {
                seen.hits.insert(format!("the environment of: {}", shown()));
            }
        }
        if !seen.commands.contains(&command) {
            seen.commands.insert(command);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Another word than the canaries': an end-to-end test that runs meanwhile would find that one.
    const WORD: &str = "sampled4d81b07ac2";

    #[test]
    fn arguments_and_environment_are_seen() {
        for (name, in_environment) in [("arguments", false), ("environment", true)] {
            let sampler = Sampler::start(Needles::of(WORD));
            let mut child = Command::new("sh");
            let script = "sleep 0.4; true";
            if in_environment {
                child.args(["-c", script]).env("X", WORD);
            } else {
                child.args(["-c", script, WORD]);
            }
            child.status().unwrap();
            let error = sampler.finish().unwrap_err().to_string();
            assert!(error.contains(&format!("the {name} of: sh -c")), "{error}");
        }
    }
}
