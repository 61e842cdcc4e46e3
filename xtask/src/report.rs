//! The only writer of stages, steps, progress, notes and errors, all on standard error.
//!
//! Each step prints a line with its reason when it starts and another when it ends. On a terminal that is not dumb,
//! running steps are also live lines with their elapsed time. `anstream` honours `NO_COLOR`.

mod rows;

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Map, Value};

use crate::events::{self, Event, Recorder, StepOutcome};
use crate::failure::{self, Failure};
use crate::secrets::Redactor;
pub use crate::units::{bytes, seconds};
pub use rows::DetailRow;
use rows::Rows;

/// Success.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Attention.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// Failure.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Secondary text.
pub const DIM: Style = Style::new().dimmed();
/// Headings.
pub const BOLD: Style = Style::new().bold();

/// Interval between progress lines of a step without a terminal.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// An action for the user's interrupt.
type OnInterrupt = Box<dyn FnOnce() + Send>;

/// The writer; cheap to clone, safe to share between threads.
#[derive(Clone)]
pub struct Report {
    prefix: &'static str,
    bars: MultiProgress,
    live: bool,
    verbose: bool,
    quiet: bool,
    progress: bool,
    recorder: Arc<Mutex<Recorder>>,
    facts: Arc<Mutex<Map<String, Value>>>,
    interrupt: Arc<Mutex<Vec<OnInterrupt>>>,
}

impl Report {
    /// Makes a report on standard error; `verbose` adds every command.
    pub fn new(verbose: bool) -> Self {
        let is_dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        let live = std::io::stderr().is_terminal() && std::env::var_os("CI").is_none() && !is_dumb;
        let (recorder, facts, interrupt) = Default::default();
        let (quiet, progress) = (false, true);
        Self { prefix: "", bars: MultiProgress::new(), live, verbose, quiet, progress, recorder, facts, interrupt }
    }

    /// Returns the same report: `quiet` prints only errors, warnings and the requested result; without `progress` a
    /// step prints nothing between its start and its end.
    pub fn limited(self, quiet: bool, progress: bool) -> Self {
        Self { live: self.live && progress && !quiet, quiet, progress: progress && !quiet, ..self }
    }

    /// Returns whether `--verbose` was given.
    pub fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Returns whether `--quiet` was given.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Returns whether steps show progress: neither `--no-progress` nor `--quiet` was given.
    pub fn has_progress(&self) -> bool {
        self.progress
    }

    /// Returns the same writer for one of several parallel jobs: each line begins with the name of its job.
    pub fn within(&self, prefix: &'static str) -> Self {
        Self { prefix, ..self.clone() }
    }

    /// Returns the same writer beside other programs that print to the same terminal: as [`Report::within`], and without live
    /// lines.
    pub fn beside(&self, prefix: String) -> Self {
        Self { live: false, ..self.within(prefix.leak()) }
    }

    /// Returns the name of its job, if other jobs run in parallel.
    pub fn prefix(&self) -> Option<&'static str> {
        Some(self.prefix).filter(|prefix| !prefix.is_empty())
    }

    /// Prints one line of plain text, without the secrets known so far.
    pub fn line(&self, text: impl AsRef<str>) {
        let text = self.shown(text.as_ref());
        let text = match self.prefix {
            "" => format!("{text}\n"),
            prefix => text.split('\n').map(|line| format!("{DIM}{prefix:<8} |{DIM:#} {line}\n")).collect(),
        };
        // In one piece, so that another program's lines do not come between.
        self.bars.suspend(|| {
            let mut out = AutoStream::new(Vec::new(), AutoStream::choice(&std::io::stderr()));
            let _ = out.write_all(text.as_bytes()).and_then(|()| std::io::stderr().write_all(&out.into_inner()));
        });
    }

    /// Prints a line that `--quiet` leaves out.
    pub fn info(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// Prints a heading.
    pub fn heading(&self, text: &str) {
        self.line(format!("{BOLD}{text}{BOLD:#}"));
    }

    /// Prints a condition that holds already.
    pub fn ok(&self, text: impl AsRef<str>) {
        self.info(format!("  {GOOD}✓{GOOD:#} {}", text.as_ref()));
    }

    /// Prints a note.
    pub fn note(&self, text: impl AsRef<str>) {
        self.info(format!("  {DIM}· {}{DIM:#}", text.as_ref()));
    }

    /// Prints the result of the command, in a sentence.
    pub fn answer(&self, text: impl AsRef<str>) {
        self.line(format!("  {DIM}· {}{DIM:#}", text.as_ref()));
    }

    /// Prints a warning; the run continues.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.line(format!("  {WARN}! {}{WARN:#}", text.as_ref()));
    }

    /// Prints a warning: `what` failed, its causes, and the hints of the error.
    pub fn warn_because(&self, what: impl AsRef<str>, error: &anyhow::Error) {
        self.warn(format!("{}: {}", what.as_ref(), failure::message(error)));
        self.hints(error);
    }

    /// Prints a command before it runs, with `--verbose`.
    pub fn command(&self, command: &dyn std::fmt::Display) {
        if self.verbose {
            self.line(format!("    {DIM}$ {command}{DIM:#}"));
        }
    }

    /// Prints an error with its chain and its hints.
    pub fn error(&self, error: &anyhow::Error) {
        let mut lines = failure::messages(error).into_iter();
        self.line(format!("{BAD}error:{BAD:#} {}", lines.next().unwrap_or_default()));
        lines.for_each(|cause| self.line(format!("  because: {cause}")));
        self.hints(error);
    }

    fn hints(&self, error: &anyhow::Error) {
        for hint in error.downcast_ref::<Failure>().into_iter().flat_map(Failure::hints) {
            self.line(format!("  {GOOD}try:{GOOD:#} {hint}"));
        }
    }

    /// Starts a step: `what` and `why`. End it with [`Running::done`]; dropping it marks it as failed.
    pub fn step(&self, stage: &'static str, what: impl Into<String>, why: &str) -> Running {
        self.step_of(stage, what, why, "")
    }

    /// Starts a step with the command that it stands for.
    pub fn step_of(&self, stage: &'static str, what: impl Into<String>, why: &str, command: &str) -> Running {
        let what = what.into();
        let event = self.recorder().begin(stage, &what, why, command);
        let reason = if why.is_empty() { String::new() } else { format!(" ({why})") };
        // A step without a reason is part of another one; on a terminal its live line is enough.
        if !self.live || !why.is_empty() {
            self.info(format!("  > {what}{reason}"));
        }
        let bar = if self.live {
            let bar = self.bars.add(ProgressBar::new_spinner());
            bar.set_style(
                ProgressStyle::with_template("  {spinner} {prefix} {msg:.dim} {elapsed:.dim}").expect("valid"),
            );
            let prefix = format!("{}{}{what}", self.prefix, if self.prefix.is_empty() { "" } else { ": " });
            bar.set_prefix(self.shown(&prefix));
            bar.enable_steady_tick(Duration::from_millis(120));
            Some(bar)
        } else {
            None
        };
        let now = Instant::now();
        let latest = Arc::new(Mutex::new(String::new()));
        if bar.is_none() && self.progress {
            self.heartbeat(what.clone(), now, Arc::downgrade(&latest));
        }
        let rows = Rows::default();
        Running { report: self.clone(), event, what, bar, start: now, latest, rows, finished: false }
    }

    /// Prints at intervals that the step still runs, if there is no terminal. Ends when the step drops `latest`.
    fn heartbeat(&self, what: String, start: Instant, latest: Weak<Mutex<String>>) {
        let report = self.clone();
        std::thread::spawn(move || {
            let mut next = HEARTBEAT;
            loop {
                std::thread::sleep(Duration::from_millis(500));
                let Some(latest) = latest.upgrade() else { break };
                if start.elapsed() >= next {
                    next = start.elapsed() + HEARTBEAT;
                    let text = latest.lock().map(|text| text.clone()).unwrap_or_default();
                    report.line(format!("    {what} … {text} ({})", seconds(start.elapsed())));
                }
            }
        });
    }

    /// Records a step that is not needed, and why; prints it with `--verbose`.
    pub fn skipped(&self, stage: &'static str, what: &str, why: &str) {
        self.recorder().note(stage, what, why, "", StepOutcome::Skipped);
        if self.verbose {
            self.line(format!("  {DIM}· {what}: not needed, {why}{DIM:#}"));
        }
    }

    /// Prints a step as a dry run shows it.
    pub fn planned(&self, stage: &'static str, what: &str, why: &str, command: &str) {
        self.recorder().note(stage, what, why, command, StepOutcome::Planned);
        self.line(format!("  {what} {}", DIM.render()));
        self.line(format!("      why: {why}{}", DIM.render_reset()));
        command.lines().for_each(|line| self.line(format!("      $ {line}")));
    }

    /// Runs a look without printing anything; the events have its duration.
    pub fn look<T>(&self, stage: &'static str, what: &str, look: impl FnOnce() -> T) -> T {
        let event = self.recorder().begin(stage, what, "", "");
        let seen = look();
        self.recorder().end(event, StepOutcome::Looked, "");
        seen
    }

    /// Returns stage and text of the steps that run now.
    pub fn under_way(&self) -> Vec<(&'static str, String)> {
        let running = self.events().into_iter().filter(|event| event.outcome == StepOutcome::Running);
        running.filter(|event| !event.why.is_empty()).map(|event| (event.stage, event.what)).collect()
    }

    /// Returns all events so far.
    pub fn events(&self) -> Vec<Event> {
        self.recorder().events()
    }

    /// Returns the recorder of the events. Do not hold it while printing.
    pub fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes these secrets from all later output and records.
    pub fn hide(&self, redactor: &Redactor) {
        self.recorder().hide(redactor.clone());
    }

    /// Returns `text` without secrets, and with the profile in its commands.
    pub fn shown(&self, text: &str) -> String {
        self.recorder().shown(text)
    }

    /// Adds a fact to the document of `--json`.
    pub fn fact(&self, name: &str, value: impl Into<Value>) {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), value.into());
    }

    /// Starts another run: forgets the events, but not the secrets.
    pub fn begin_anew(&self) {
        self.recorder().begin_anew();
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.interrupt.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Returns the document of `--json`.
    pub fn document(&self, command: &str, code: i32, error: Option<&anyhow::Error>) -> Value {
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        events::document(&self.recorder(), command, code, error, &facts)
    }

    /// Registers `action` for an interrupt: it runs after every child has ended, instead of the usual message.
    pub fn on_interrupt(&self, action: impl FnOnce() + Send + 'static) {
        self.interrupt.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(action));
    }

    /// Runs the actions of [`Report::on_interrupt`], the last one first. Returns whether there was one.
    pub fn interrupted(&self) -> bool {
        let actions = std::mem::take(&mut *self.interrupt.lock().unwrap_or_else(PoisonError::into_inner));
        let any = !actions.is_empty();
        actions.into_iter().rev().for_each(|action| action());
        any
    }
}

/// A running step.
pub struct Running {
    report: Report,
    event: usize,
    what: String,
    bar: Option<ProgressBar>,
    start: Instant,
    latest: Arc<Mutex<String>>,
    rows: Rows,
    finished: bool,
}

impl Running {
    /// Returns the writer.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Shows a live line for each of `rows`; without a terminal, prints a row when its key changes.
    pub fn rows(&self, rows: Vec<DetailRow>) {
        self.rows.show(&self.report, self.bar.as_ref(), rows);
    }

    fn clear(&self) {
        self.rows.clear();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Sets the progress of the step; without a terminal, the latest text is printed every 30 s.
    pub fn progress(&self, text: impl AsRef<str>) {
        let text = self.report.shown(text.as_ref());
        if let Some(bar) = &self.bar {
            bar.set_message(text.chars().take(90).collect::<String>());
        } else if let Ok(mut latest) = self.latest.lock() {
            *latest = text;
        }
    }

    /// Ends the step with its result.
    pub fn done(mut self, result: impl AsRef<str>) {
        self.finished = true;
        let took = self.start.elapsed();
        self.clear();
        let result = result.as_ref();
        self.report.recorder().end(self.event, StepOutcome::Ran, result);
        let result = if result.is_empty() { String::new() } else { format!(": {result}") };
        self.report.ok(format!("{}{result} {DIM}{}{DIM:#}", self.what, seconds(took)));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        self.report.recorder().end(self.event, StepOutcome::Failed, "");
        self.clear();
        self.report.line(format!("  {BAD}✗{BAD:#} {} {DIM}{}{DIM:#}", self.what, seconds(self.start.elapsed())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Secret;

    #[test]
    fn no_secret_is_on_a_live_line() {
        const VALUE: &str = "not-a-secret-not-a-secret";
        let report = Report { live: true, ..Report::new(false) };
        report.hide(&Redactor::new([&Secret::new(VALUE)]));
        let running = report.step("images", format!("build with {VALUE}"), "");
        running.progress(format!("RUN echo {VALUE}"));
        running.rows(vec![DetailRow { name: "pod".to_owned(), text: format!("says {VALUE}"), key: String::new() }]);
        let bar = running.bar.as_ref().unwrap();
        let shown = [vec![bar.prefix(), bar.message()], running.rows.messages()].concat();
        assert_eq!(shown, ["build with ***", "RUN echo ***", "pod              says ***"]);
    }
}
