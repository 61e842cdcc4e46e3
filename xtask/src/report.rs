//! What the user sees: one writer for stages, steps, progress, notes and errors. All of it on standard error.
//!
//! On a terminal running steps are live lines with the time they have taken; in a pipe or CI log each step is a line
//! when it starts to matter and one when it ends. `NO_COLOR` is honoured by `anstream`.

mod rows;

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::failure::Failure;
pub use rows::Row;
use rows::Rows;

/// A colour for each meaning.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Attention.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// Failure.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Secondary text.
pub const DIM: Style = Style::new().dimmed();
/// Headings.
pub const BOLD: Style = Style::new().bold();

/// How often a step that runs without a terminal says that it still does.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// One finished step, kept for the closing table.
#[derive(Clone, Debug)]
pub struct Timing {
    /// The stage it belonged to.
    pub stage: &'static str,
    /// How long it took.
    pub took: Duration,
}

/// The writer; cheap to clone, safe to share between threads.
#[derive(Clone)]
pub struct Report {
    bars: MultiProgress,
    live: bool,
    verbose: bool,
    timings: Arc<Mutex<Vec<Timing>>>,
    under_way: Arc<Mutex<Vec<(&'static str, String)>>>,
}

impl Report {
    /// A report on standard error; `verbose` adds every command.
    pub fn new(verbose: bool) -> Self {
        let live = std::io::stderr().is_terminal() && std::env::var_os("CI").is_none();
        Self { bars: MultiProgress::new(), live, verbose, timings: Arc::default(), under_way: Arc::default() }
    }

    /// Prints one line of plain text.
    pub fn line(&self, text: impl AsRef<str>) {
        self.bars.suspend(|| {
            let _ = writeln!(anstream::stderr(), "{}", text.as_ref());
        });
    }

    /// A heading.
    pub fn heading(&self, text: &str) {
        self.line(format!("{BOLD}{text}{BOLD:#}"));
    }

    /// Something that holds already.
    pub fn ok(&self, text: impl AsRef<str>) {
        self.line(format!("  {GOOD}✓{GOOD:#} {}", text.as_ref()));
    }

    /// Something the user should know.
    pub fn note(&self, text: impl AsRef<str>) {
        self.line(format!("  {DIM}· {}{DIM:#}", text.as_ref()));
    }

    /// A warning: the job goes on.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.line(format!("  {WARN}! {}{WARN:#}", text.as_ref()));
    }

    /// A command about to run, shown with `--verbose`.
    pub fn command(&self, command: &dyn std::fmt::Display) {
        if self.verbose {
            self.line(format!("    {DIM}$ {command}{DIM:#}"));
        }
    }

    /// An error with its chain and the way out.
    pub fn error(&self, error: &anyhow::Error) {
        self.line(format!("{BAD}error:{BAD:#} {error}"));
        for cause in error.chain().skip(1) {
            self.line(format!("  because: {cause}"));
        }
        if let Some(failure) = error.downcast_ref::<Failure>() {
            for hint in failure.hints() {
                self.line(format!("  {GOOD}try:{GOOD:#} {hint}"));
            }
        }
    }

    /// Starts a step: `what` and `why`. End it with [`Running::done`]; dropping it marks it as failed.
    pub fn step(&self, stage: &'static str, what: impl Into<String>, why: &str) -> Running {
        let what = what.into();
        let bar = if self.live {
            let bar = self.bars.add(ProgressBar::new_spinner());
            bar.set_style(
                ProgressStyle::with_template("  {spinner} {prefix} {msg:.dim} {elapsed:.dim}").expect("valid"),
            );
            bar.set_prefix(what.clone());
            bar.set_message(why.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            Some(bar)
        } else {
            let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
            self.line(format!("  > {what}{why}"));
            None
        };
        let now = Instant::now();
        let latest = Arc::new(Mutex::new(String::new()));
        if bar.is_none() {
            self.heartbeat(what.clone(), now, Arc::downgrade(&latest));
        }
        if let Ok(mut steps) = self.under_way.lock() {
            steps.push((stage, what.clone()));
        }
        let rows = Rows::default();
        Running { report: self.clone(), stage, what, bar, start: now, latest, rows, finished: false }
    }

    /// Without a terminal a step shows every now and then that it is still at work, until its end drops `latest`.
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

    /// The steps under way: stage and what is done.
    pub fn under_way(&self) -> Vec<(&'static str, String)> {
        self.under_way.lock().map(|steps| steps.clone()).unwrap_or_default()
    }

    /// All finished steps in order.
    pub fn timings(&self) -> Vec<Timing> {
        self.timings.lock().map(|t| t.clone()).unwrap_or_default()
    }

    fn keep(&self, timing: Timing) {
        if let Ok(mut timings) = self.timings.lock() {
            timings.push(timing);
        }
    }
}

/// A step under way.
pub struct Running {
    report: Report,
    stage: &'static str,
    what: String,
    bar: Option<ProgressBar>,
    start: Instant,
    latest: Arc<Mutex<String>>,
    rows: Rows,
    finished: bool,
}

impl Running {
    /// Shows a live line for each of `rows`; without a terminal a line whenever one changes in its key.
    pub fn rows(&self, rows: Vec<Row>) {
        self.rows.show(&self.report, self.bar.as_ref(), rows);
    }

    fn clear(&self) {
        if let Ok(mut steps) = self.report.under_way.lock()
            && let Some(at) = steps.iter().position(|(stage, what)| *stage == self.stage && *what == self.what)
        {
            steps.remove(at);
        }
        self.rows.clear();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Says how far the step is; without a terminal the latest word is shown every 30 s.
    pub fn progress(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        if let Some(bar) = &self.bar {
            bar.set_message(text.chars().take(90).collect::<String>());
        } else if let Ok(mut latest) = self.latest.lock() {
            text.clone_into(&mut latest);
        }
    }

    /// Ends the step with its result.
    pub fn done(mut self, result: impl AsRef<str>) {
        self.finished = true;
        let took = self.start.elapsed();
        self.clear();
        let result = result.as_ref();
        let result = if result.is_empty() { String::new() } else { format!(": {result}") };
        self.report.ok(format!("{}{result} {DIM}{}{DIM:#}", self.what, seconds(took)));
        self.report.keep(Timing { stage: self.stage, took });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        self.clear();
        self.report.line(format!("  {BAD}✗{BAD:#} {} {DIM}{}{DIM:#}", self.what, seconds(self.start.elapsed())));
    }
}

/// `12.3 s`, `4 min 05 s`.
pub fn seconds(time: Duration) -> String {
    let s = time.as_secs_f64();
    if s < 10.0 {
        format!("{s:.2} s")
    } else if s < 90.0 {
        format!("{s:.1} s")
    } else {
        format!("{} min {:02} s", s as u64 / 60, s as u64 % 60)
    }
}

/// Bytes in the units people use: `20.1 kB`, `3.4 GB` (decimal, as disks are sold).
pub fn bytes(count: u64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let value = count as f64;
    units
        .iter()
        .find(|(unit, _)| value >= *unit)
        .map_or_else(|| format!("{count} B"), |(unit, name)| format!("{:.1} {name}", value / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_read_well() {
        assert_eq!(seconds(Duration::from_millis(420)), "0.42 s");
        assert_eq!(seconds(Duration::from_secs(245)), "4 min 05 s");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(20_100), "20.1 kB");
        assert_eq!(bytes(3_400_000_000), "3.4 GB");
    }
}
