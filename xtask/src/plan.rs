//! Steps as data. A stage observes, decides on steps, and applies them. Dry run, progress and log show the same steps.

use anyhow::Result;

use crate::report::{Report, Running};

/// One thing to do: what, why, the command as a user would type it (without secrets), and the effect.
pub struct Step<'a> {
    /// Its stage, where it is applied among the steps of another one.
    pub stage: Option<&'static str>,
    /// The action as an imperative, e.g. `load todo-backend`.
    pub what: String,
    /// The reason for which it is needed.
    pub why: String,
    /// The command or commands, shown by a dry run and with `--verbose`.
    pub command: String,
    /// Does it and returns the result in a few words. Reports progress with [`Running::progress`].
    pub action: Action<'a>,
}

/// The effect of a step.
pub type Action<'a> = Box<dyn FnOnce(&Running) -> Result<String> + Send + 'a>;

impl<'a> Step<'a> {
    /// Makes a step from its parts.
    pub fn new(
        what: impl Into<String>,
        why: impl Into<String>,
        command: impl ToString,
        action: impl FnOnce(&Running) -> Result<String> + Send + 'a,
    ) -> Self {
        let (what, why, command) = (what.into(), why.into(), command.to_string());
        Self { stage: None, what, why, command, action: Box::new(action) }
    }

    /// Makes it a step of `stage`, wherever it is applied.
    pub fn of(self, stage: &'static str) -> Self {
        Self { stage: Some(stage), ..self }
    }

    /// Adds the action `more`, which runs after the step has succeeded.
    pub fn then(self, more: impl FnOnce() -> Result<()> + Send + 'a) -> Self {
        let first = self.action;
        let action: Action<'a> = Box::new(move |running| {
            let result = first(running)?;
            more().map(|()| result)
        });
        Self { action, ..self }
    }
}

/// The handling of steps: run them, or only show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Run them.
    Apply,
    /// Only show them.
    DryRun,
}

/// The number of steps that ran, or that a dry run showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes(usize);

impl Changes {
    /// Makes it from a number of steps.
    pub fn of(steps: usize) -> Self {
        Self(steps)
    }

    /// Returns whether anything has changed.
    pub fn any(self) -> bool {
        self.0 > 0
    }
}

impl std::ops::Add for Changes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl std::ops::AddAssign for Changes {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// Applies `steps` one after the other, or shows them.
pub fn apply(report: &Report, stage: &'static str, mode: Mode, steps: Vec<Step<'_>>) -> Result<Changes> {
    let changes = Changes(steps.len());
    for step in steps {
        apply_step(report, stage, mode, step)?;
    }
    Ok(changes)
}

/// Applies independent `steps` side by side, or shows them. Returns the first error after all have ended.
pub fn apply_side_by_side(report: &Report, stage: &'static str, mode: Mode, steps: Vec<Step<'_>>) -> Result<Changes> {
    let changes = Changes(steps.len());
    if mode == Mode::DryRun || steps.len() < 2 {
        return apply(report, stage, mode, steps);
    }
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            steps.into_iter().map(|step| scope.spawn(move || apply_step(report, stage, mode, step))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a step panicked")))).collect()
    });
    results.into_iter().collect::<Result<Vec<()>>>()?;
    Ok(changes)
}

fn apply_step(report: &Report, stage: &'static str, mode: Mode, step: Step<'_>) -> Result<()> {
    let stage = step.stage.unwrap_or(stage);
    if mode == Mode::DryRun {
        report.planned(stage, &step.what, &step.why, &step.command);
        return Ok(());
    }
    step.command.lines().for_each(|line| report.command(&line));
    let running = report.step_of(stage, step.what, &step.why, &step.command);
    let result = (step.action)(&running)?;
    running.done(result);
    Ok(())
}
