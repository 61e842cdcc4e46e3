//! The tools stage of a first run: it continues in the background, and later stages wait only for the artifacts that
//! they need.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Error, Result, bail};

use crate::deadlines;
use crate::origin::Requirement;
use crate::plan::{self, Mode, Step};
use crate::report::Report;
use crate::toolchain::{STAGE, Toolchain};

/// The error of a part of a run that was cancelled (see [`crate::project::Project::stale`]).
#[derive(Debug)]
pub struct Stale;

impl std::fmt::Display for Stale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cancelled: the run no longer needs the result")
    }
}

impl std::error::Error for Stale {}

/// Returns whether all of some requirements are present.
type IsThere<'a> = Box<dyn Fn(&[Requirement]) -> Result<bool> + Sync + 'a>;

/// The progress of the tools stage, shared with the stages that wait for it.
pub struct Supply<'a> {
    stale: &'a AtomicBool,
    is_there: IsThere<'a>,
    /// The error of the first part that failed.
    cause: Mutex<Option<Error>>,
    /// Whether the tools stage brought all artifacts; unset until it ends.
    outcome: OnceLock<bool>,
}

impl<'a> Supply<'a> {
    /// Brings `requirements` by `steps`, the first ones first, and runs `stages` meanwhile. If nothing is missing, or there is no
    /// cluster to be made, everything is brought before.
    pub fn run<T>(
        stale: &'a AtomicBool,
        toolchain: &'a Toolchain,
        mode: Mode,
        requirements: &[Requirement],
        steps: Vec<Step<'_>>,
        stages: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        let (engine, report) = (&toolchain.tools.engine, &toolchain.tools.report);
        let supply = Self::new(stale, |requirements| toolchain.origin.is_there(requirements, engine));
        if mode == Mode::DryRun || steps.is_empty() || !requirements.contains(&Requirement::Cluster) {
            bring(report, stale, mode, steps)?;
            let _ = supply.outcome.set(true);
            let result = stages(&supply);
            return supply.end(result);
        }
        supply.beside(|| bring(report, stale, mode, steps), stages)
    }

    fn new(stale: &'a AtomicBool, is_there: impl Fn(&[Requirement]) -> Result<bool> + Sync + 'a) -> Self {
        Self { stale, is_there: Box::new(is_there), cause: Mutex::default(), outcome: OnceLock::new() }
    }

    fn beside<T>(
        self,
        bring: impl FnOnce() -> Result<()> + Send,
        stages: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                let bring =
                    || catch_unwind(AssertUnwindSafe(bring)).unwrap_or_else(|_| bail!("the tools stage panicked"));
                let brought = self.part(bring);
                let _ = self.outcome.set(brought.is_ok());
            });
            self.settle(stages(&self))
        });
        self.end(result)
    }

    /// Returns the error of the first part that failed, else `result`.
    fn end<T>(self, result: Result<T>) -> Result<T> {
        self.cause.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(result, Err)
    }

    /// Returns whether something may still be missing.
    pub fn is_under_way(&self) -> bool {
        self.outcome.get().is_none()
    }

    /// Runs a part of the run beside the others. If it is the first that fails, it cancels the run, which ends with its
    /// error.
    pub fn part<T>(&self, part: impl FnOnce() -> Result<T>) -> Result<T> {
        part().map_err(|error| {
            if !self.stale.swap(true, Ordering::Relaxed) {
                *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
            Stale.into()
        })
    }

    /// Cancels what is under way if `result` is an error.
    pub fn settle<T>(&self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.stale.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Returns whether the run is cancelled.
    pub fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    /// Waits until `requirements` are present.
    pub fn wait_for(&self, requirements: &[Requirement]) -> Result<()> {
        let is_good = loop {
            match self.outcome.get() {
                Some(outcome) => break *outcome,
                // An error here is not final: the end of the tools stage decides.
                None if (self.is_there)(requirements).unwrap_or(false) => break true,
                None if self.is_stale() => break false,
                None => std::thread::sleep(deadlines::SUPPLY_POLL.time()),
            }
        };
        if is_good { Ok(()) } else { Err(Stale.into()) }
    }
}

/// Applies steps of the tools stage. A step that a newer save has cancelled has not failed.
pub fn bring(report: &Report, stale: &AtomicBool, mode: Mode, steps: Vec<Step<'_>>) -> Result<()> {
    let result = plan::apply(report, STAGE, mode, steps);
    result.map(drop).map_err(|error| if stale.load(Ordering::Relaxed) { Stale.into() } else { error })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::origin::Tool;

    #[test]
    fn a_stage_begins_when_what_it_needs_is_there() {
        let stale = AtomicBool::default();
        let there = &Mutex::new(Vec::new());
        let supply = Supply::new(&stale, |requirements| {
            Ok(requirements.iter().all(|requirement| there.lock().unwrap().contains(requirement)))
        });
        let (goes_on, may_go_on) = mpsc::channel();
        let bring = move || {
            there.lock().unwrap().push(Requirement::Cluster);
            may_go_on.recv()?;
            there.lock().unwrap().push(Requirement::Tool(Tool::Helm));
            Ok(())
        };
        supply
            .beside(bring, |supply| {
                supply.wait_for(&[Requirement::Cluster])?;
                assert!(supply.is_under_way() && !there.lock().unwrap().contains(&Requirement::Tool(Tool::Helm)));
                goes_on.send(())?;
                supply.wait_for(&[Requirement::Cluster, Requirement::Tool(Tool::Helm)])?;
                assert_eq!(there.lock().unwrap().len(), 2);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn a_run_ends_with_the_error_of_the_part_that_failed() {
        let stale = AtomicBool::default();
        let supply = Supply::new(&stale, |_| Ok(false));
        let waits = |supply: &Supply<'_>| supply.wait_for(&[Requirement::Cluster]);
        assert_eq!(supply.beside(|| bail!("no network"), waits).unwrap_err().to_string(), "no network");
    }

    #[test]
    fn a_failing_stage_gives_up_what_is_still_being_made() {
        let stale = AtomicBool::default();
        let supply = Supply::new(&stale, |_| Ok(false));
        let bring = || {
            while !stale.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            bail!("`go build` was ended")
        };
        let error = supply.beside(bring, |_| bail!("minikube did not start") as Result<()>).unwrap_err();
        assert_eq!(error.to_string(), "minikube did not start");
    }
}
