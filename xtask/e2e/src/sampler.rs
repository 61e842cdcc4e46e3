//! Samples the arguments and the environment of every process while a scenario runs.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use super::marker::Needles;

/// Pause between two samples. Our shortest processes live several times as long.
const PAUSE: Duration = Duration::from_millis(20);

/// The samples of a run.
#[derive(Debug, Default)]
pub struct Samples {
    /// Distinct command lines.
    pub commands: HashSet<Vec<u8>>,
    /// Number of environments that could be read.
    pub environments: usize,
    /// Processes whose arguments or environment contained the word.
    pub hits: BTreeSet<String>,
}

/// A thread that takes samples until it is stopped.
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Samples>,
}

impl Sampler {
    /// Starts a thread that searches for `needles`.
    pub fn start(needles: Needles) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut samples, mut last) = (Samples::default(), HashMap::new());
            while !stopped.load(Ordering::Relaxed) {
                last = sample_processes(&needles, &last, &mut samples);
                std::thread::sleep(PAUSE);
            }
            samples
        });
        Self { stop, thread }
    }

    /// Stops the thread. Fails if a process had the word.
    pub fn finish(self) -> Result<Samples> {
        self.stop.store(true, Ordering::Relaxed);
        let samples = self.thread.join().map_err(|_| anyhow!("the sampler panicked"))?;
        ensure!(samples.hits.is_empty(), "a canary was in {:?}", samples.hits);
        Ok(samples)
    }
}

/// The command line of each process, by its ID.
type Commands = HashMap<OsString, Vec<u8>>;

/// Takes a sample, and returns the command lines. A process with the same command line as in the sample before, `last`, has
/// the same environment: it has not called `exec`.
fn sample_processes(needles: &Needles, last: &Commands, samples: &mut Samples) -> Commands {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Commands::new() };
    let is_id = |name: &OsString| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let mut commands = Commands::new();
    for (id, folder) in entries.flatten().map(|entry| (entry.file_name(), entry.path())).filter(|(id, _)| is_id(id)) {
        let Ok(command) = std::fs::read(folder.join("cmdline")) else { continue };
        if last.get(&id) != Some(&command) {
            let mut check = |place: &str, text: &[u8]| {
                if needles.are_in(text) {
                    samples
                        .hits
                        .insert(format!("the {place} of: {}", String::from_utf8_lossy(&command).replace('\0', " ")));
                }
            };
            check("arguments", &command);
            let environment = std::fs::read(folder.join("environ"));
            if let Ok(environment) = &environment {
                check("environment", environment);
                samples.environments += 1;
            }
            samples.commands.insert(command.clone());
            // The next sample tries again.
            if environment.is_err() {
                continue;
            }
        }
        commands.insert(id, command);
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Differs from the canaries, which an end-to-end test that runs at the same time searches for.
    const WORD: &str = "sampled4d81b07ac2";

    #[test]
    fn finds_the_word_in_arguments_and_environments() {
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
