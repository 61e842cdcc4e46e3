//! Jobs with dependencies, in two queues: downloads and compilations, so that network and processors are busy at the
//! same time. A worker takes the first job of its queue whose predecessors are done.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};

use anyhow::{Result, anyhow};

/// The resource that a job mostly uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The creation of the engine: half a minute beside two downloads.
    Engine,
    /// The network: two jobs at a time.
    Download,
    /// The processors: one job at a time, because Go uses all of them.
    Compile,
}

/// A unit of work.
pub struct Job<'a> {
    /// Its unique name.
    pub name: String,
    /// Its lane.
    pub lane: Lane,
    /// Names of jobs that must be done before. Unknown names count as done.
    pub after: Vec<String>,
    /// The work.
    pub run: Box<dyn FnOnce() -> Result<()> + Send + 'a>,
}

struct State<'a> {
    waiting: Vec<Job<'a>>,
    unfinished: BTreeSet<String>,
    error: Option<anyhow::Error>,
}

/// Runs all jobs. The first failure sets `has_failed`, prevents new jobs and is returned.
pub fn run(jobs: Vec<Job<'_>>, has_failed: &AtomicBool) -> Result<()> {
    let unfinished = jobs.iter().map(|job| job.name.clone()).collect();
    let state = Mutex::new(State { waiting: jobs, unfinished, error: None });
    let changed = Condvar::new();
    std::thread::scope(|scope| {
        for lane in [Lane::Engine, Lane::Download, Lane::Download, Lane::Compile] {
            let (state, changed) = (&state, &changed);
            scope.spawn(move || work(lane, state, changed, has_failed));
        }
    });
    let state = state.into_inner().map_err(|_| anyhow!("a job panicked"))?;
    match (state.error, state.waiting.first()) {
        (Some(error), _) => Err(error),
        (None, Some(job)) => Err(anyhow!("`{}` waits for itself: {:?}", job.name, job.after)),
        (None, None) => Ok(()),
    }
}

fn work<'a>(lane: Lane, state: &Mutex<State<'a>>, changed: &Condvar, has_failed: &AtomicBool) {
    let Ok(mut guard) = state.lock() else { return };
    loop {
        let runnable = |job: &Job<'_>| !job.after.iter().any(|name| guard.unfinished.contains(name));
        let next = guard.waiting.iter().position(|job| job.lane == lane && runnable(job));
        let anybody = guard.waiting.iter().any(runnable) || guard.unfinished.len() > guard.waiting.len();
        match next {
            _ if guard.error.is_some() => break,
            Some(index) => {
                let job = guard.waiting.remove(index);
                drop(guard);
                // Catches panics, because dependent jobs would wait for ever.
                let result = catch_unwind(AssertUnwindSafe(job.run))
                    .unwrap_or_else(|_| Err(anyhow!("the job `{}` panicked", job.name)));
                let Ok(relocked) = state.lock() else { return };
                guard = relocked;
                guard.unfinished.remove(&job.name);
                if let Err(error) = result {
                    guard.error.get_or_insert(error);
                    has_failed.store(true, Ordering::Relaxed);
                }
                changed.notify_all();
            }
            None if !guard.waiting.iter().any(|job| job.lane == lane) || !anybody => break,
            None => match changed.wait(guard) {
                Ok(woken) => guard = woken,
                Err(_) => return,
            },
        }
    }
    changed.notify_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job<'a>(name: &str, lane: Lane, after: &[&str], log: &'a Mutex<Vec<String>>, good: bool) -> Job<'a> {
        let (name, after) = (name.to_owned(), after.iter().map(|n| (*n).to_owned()).collect());
        let said = name.clone();
        let run = Box::new(move || {
            log.lock().unwrap().push(said);
            if good { Ok(()) } else { Err(anyhow!("broken")) }
        });
        Job { name, lane, after, run }
    }

    #[test]
    fn a_job_that_panics_ends_those_that_wait_for_it() {
        let log = Mutex::new(Vec::new());
        let panics = Job {
            name: "modules".to_owned(),
            lane: Lane::Download,
            after: Vec::new(),
            run: Box::new(|| panic!("on purpose")),
        };
        let jobs = vec![panics, job("binary", Lane::Compile, &["modules"], &log, true)];
        let error = run(jobs, &AtomicBool::default()).unwrap_err();
        assert_eq!(error.to_string(), "the job `modules` panicked");
        assert!(log.into_inner().unwrap().is_empty());
    }

    #[test]
    fn predecessors_come_first_across_lanes() {
        let log = Mutex::new(Vec::new());
        let jobs = vec![
            job("image", Lane::Compile, &["binary", "base"], &log, true),
            job("binary", Lane::Compile, &["modules"], &log, true),
            job("modules", Lane::Download, &[], &log, true),
            job("base", Lane::Download, &["already-there"], &log, true),
        ];
        run(jobs, &AtomicBool::default()).unwrap();
        let log = log.into_inner().unwrap();
        let at = |name: &str| log.iter().position(|n| n == name).unwrap();
        assert!(at("modules") < at("binary") && at("binary") < at("image") && at("base") < at("image"));
    }

    #[test]
    fn nothing_new_starts_after_a_failure() {
        let log = Mutex::new(Vec::new());
        let jobs = vec![job("a", Lane::Compile, &[], &log, false), job("b", Lane::Compile, &["a"], &log, true)];
        let has_failed = AtomicBool::default();
        assert_eq!(run(jobs, &has_failed).unwrap_err().to_string(), "broken");
        assert!(has_failed.into_inner(), "what the other jobs run is ended");
        assert_eq!(log.into_inner().unwrap(), ["a"]);
    }

    #[test]
    fn a_cycle_of_jobs_is_an_error() {
        let log = Mutex::new(Vec::new());
        let jobs = vec![job("a", Lane::Compile, &["b"], &log, true), job("b", Lane::Download, &["a"], &log, true)];
        assert!(run(jobs, &AtomicBool::default()).unwrap_err().to_string().contains("waits for itself"));
    }
}
