//! `cargo xtask logs`: shows the logs of every container, each line with its pod's name in the pod's colour.

mod line;
mod source;

use std::collections::{BTreeSet, VecDeque};
use std::io::IsTerminal;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use super::output;
use crate::clock;
use crate::deadlines;
use crate::failure::{Class, Failure, nearest};
use crate::process;
use crate::project::Project;
use crate::settings::Components;
use crate::stages::cluster::{self, ProfileState};
use crate::stages::release;
use crate::toolbox::Toolbox;
use line::{Line, Painter};
use source::Source;

/// Number of logs that are read side by side.
const AT_ONCE: usize = 8;

/// Show the logs of all components, or of one
#[derive(Args, Debug)]
pub struct Logs {
    /// Component of the chart, e.g. backend (default: all)
    pub component: Option<String>,
    /// Stream new lines, also from new pods, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// Maximum number of lines per container
    #[arg(long, default_value_t = 100)]
    pub tail: u32,
    /// Show only lines newer than this, e.g. 90s, 10m, 2h
    #[arg(long, value_parser = parse_duration)]
    pub since: Option<u64>,
    /// Print each line as its container wrote it, with secrets masked (default if standard output is no terminal)
    #[arg(long)]
    pub json: bool,
}

impl Logs {
    fn painter(&self, tools: &Toolbox) -> Result<Painter> {
        let raw = self.json || !std::io::stdout().is_terminal();
        Ok(Painter::new(raw, release::redactor_of_secrets(tools)?))
    }
}

/// Fails if the chart has no component `name`. The error names the known ones.
fn check_component(components: &Components, name: &str) -> Result<()> {
    let known = components.names();
    if known.contains(&name) {
        return Ok(());
    }
    let meant = nearest(name, known).unwrap_or(known[0]);
    Err(Failure::new(Class::Config, format!("there is no component `{name}`; known are: {}", known.join(", ")))
        .help(format!("cargo xtask logs {meant}"))
        .into())
}

/// Parses a duration such as `1h30m` into seconds.
fn parse_duration(text: &str) -> Result<u64, String> {
    let parts: Vec<&str> = text.split_inclusive(['h', 'm', 's']).collect();
    let good = |part: &&str| {
        let digits = part.strip_suffix(['h', 'm', 's']).unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let bad = || "not a duration: write 90s, 10m, 2h or 1h30m".to_owned();
    if parts.is_empty() || !parts.iter().all(good) {
        return Err(bad());
    }
    let seconds = |part: &&str| {
        let (number, unit) = part.split_at(part.len() - 1);
        let unit = match unit {
            "h" => 3600,
            "m" => 60,
            _ => 1,
        };
        number.parse::<u64>().ok()?.checked_mul(unit)
    };
    let sum = parts.iter().map(seconds).try_fold(0u64, |sum, part| sum.checked_add(part?));
    sum.filter(|seconds| *seconds > 0).ok_or_else(bad)
}

/// Prints the logs.
pub fn run(project: &Project, args: &Logs) -> Result<()> {
    args.component.as_ref().map_or(Ok(()), |name| check_component(&project.settings.components, name))?;
    let toolchain = project.present_tools()?;
    let tools = &toolchain.tools;
    if cluster::observe(tools)?.state != ProfileState::Running {
        return Err(Failure::new(Class::Cluster, "the cluster does not run").help("cargo xtask deploy dev").into());
    }
    let sources = source::list(tools, args)?;
    if sources.is_empty() {
        let what = match &args.component {
            Some(component) => format!("{component} has no pods"),
            None => "the application has no pods".to_owned(),
        };
        return Err(Failure::new(Class::Rollout, what).help("cargo xtask status").into());
    }
    if args.follow {
        // Ctrl-C is the normal end, so print no message.
        project.report.on_interrupt(|| {});
        return follow(tools, args, sources);
    }
    let mut painter = args.painter(tools)?;
    for line in read_all(tools, args, &sources)? {
        if !output::print(&painter.paint(&line))? {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads the existing lines of all containers, ordered by time.
fn read_all(tools: &Toolbox, args: &Logs, sources: &[Source]) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for some in sources.chunks(AT_ONCE) {
        let read: Vec<Result<Vec<Line>>> = std::thread::scope(|scope| {
            let ask = |source| scope.spawn(move || source::read(tools, args, source));
            let threads: Vec<_> = some.iter().map(ask).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a reader panicked"))).collect()
        });
        for read in read {
            lines.extend(read?);
        }
    }
    // The sort is stable: lines of a container with equal times keep their order.
    lines.sort_by(|a, b| a.time.cmp(&b.time));
    Ok(lines)
}

/// Follows every container, also new ones, until the reader closes standard output or Ctrl-C ends the process.
fn follow(tools: &Toolbox, args: &Logs, first: Vec<Source>) -> Result<()> {
    let (sender, receiver) = mpsc::channel();
    let mut painter = args.painter(tools)?;
    let mut followed = BTreeSet::new();
    // First print the existing lines in the order of time. Then follow each container from its last printed line, or
    // from now if it has none.
    let now = line::format_time(clock::now());
    let mut backlog: VecDeque<Line> = read_all(tools, args, &first)?.into();
    for source in first {
        let last = backlog.iter().rev().find(|line| line.source == source).map(|line| line.time.clone());
        start_following(tools, &source, Some(last.unwrap_or_else(|| now.clone())), &sender);
        followed.insert(source);
    }
    while let Some(line) = backlog.pop_front() {
        if !output::print(&painter.paint(&line))? {
            return exit_quietly();
        }
    }
    let mut failing_since = None;
    loop {
        if !drain(&receiver, &mut painter)? || output::is_reader_gone() {
            return exit_quietly();
        }
        // Tolerate an API server that does not respond for a moment; the followers reconnect by themselves.
        let new_sources = source::list(tools, args).and_then(|mut sources| {
            sources.retain(|source| !followed.contains(source));
            if !sources.is_empty() {
                painter.hide(release::redactor_of_secrets(tools)?);
            }
            Ok(sources)
        });
        match new_sources {
            Ok(sources) => {
                for source in sources {
                    start_following(tools, &source, None, &sender);
                    followed.insert(source);
                }
                failing_since = None;
            }
            Err(error) => {
                if failing_since.get_or_insert_with(Instant::now).elapsed() > deadlines::LOG_AWAY.time() {
                    return Err(error);
                }
            }
        }
    }
}

/// Prints new lines until it is time to look for new pods. Returns `false` if the reader has closed standard output.
fn drain(receiver: &Receiver<Line>, painter: &mut Painter) -> Result<bool> {
    let end = Instant::now() + deadlines::LOG_POLL.time();
    loop {
        match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) if output::print(&painter.paint(&line))? => {}
            Ok(_) => return Ok(false),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(true),
        }
    }
}

fn start_following(tools: &Toolbox, source: &Source, since: Option<String>, sender: &Sender<Line>) {
    let (tools, source, sender) = (tools.clone(), source.clone(), sender.clone());
    std::thread::spawn(move || source::follow(&tools, &source, since.as_deref(), &sender));
}

/// Ends the process with success after the reader, for example `head`, has closed standard output.
fn exit_quietly() -> Result<()> {
    process::end_all();
    std::process::exit(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_durations_and_refuses_others_with_an_example() {
        for (good, seconds) in [("90s", 90), ("10m", 600), ("2h", 7200), ("1h30m", 5400)] {
            assert_eq!(parse_duration(good).unwrap(), seconds);
        }
        for bad in ["", "10", "m", "10 m", "-5m", "10m5", "0s", "99999999999999999999h"] {
            assert!(parse_duration(bad).unwrap_err().contains("90s"), "{bad}");
        }
    }
}
