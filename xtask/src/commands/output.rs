//! `--json` and `--timings`: what a command leaves besides its messages, however it ends.

use std::io::{ErrorKind, Write};

use anyhow::Result;
use camino::Utf8PathBuf;
use clap::Args;
use serde_json::{Value, json};

use crate::cli::{Cli, Command};
use crate::events;
use crate::judge;
use crate::project;
use crate::report::Report;
use crate::snapshot::Snapshot;
use crate::stages::images::Built;
use crate::stages::proof::Answer;

/// Options of commands that have steps.
#[derive(Args, Clone, Debug, Default)]
pub struct Output {
    /// Print one JSON document on standard output; its schema is in docs/schema
    #[arg(long)]
    pub json: bool,
    /// Draw the steps as a waterfall: target/xtask/timings.html
    #[arg(long)]
    pub timings: bool,
}

/// What is left to do when a command has ended.
#[derive(Clone)]
pub struct Closing {
    command: &'static str,
    title: String,
    output: Output,
    target: Utf8PathBuf,
}

impl Closing {
    /// As the command line wants it.
    pub fn new(cli: &Cli) -> Self {
        let (command, title, output) = match &cli.command {
            Some(Command::Deploy(args)) => ("deploy", format!("deploy {}", args.environment), args.output.clone()),
            Some(Command::Images(args)) => ("images", "images".to_owned(), args.output.clone()),
            Some(Command::Status(args)) => {
                ("status", String::new(), Output { json: args.json && !args.watch, timings: false })
            }
            Some(Command::Pins(args)) => ("pins", String::new(), Output { json: args.json, timings: false }),
            Some(Command::Bench(args)) => ("bench", String::new(), Output { json: args.is_json(), timings: false }),
            _ => ("", String::new(), Output::default()),
        };
        Self { command, title, output, target: project::target(&project::checkout(cli.global.root.clone())) }
    }

    /// Writes what was asked for.
    pub fn close(&self, report: &Report, code: i32, error: Option<&anyhow::Error>) {
        if self.output.timings {
            let written = events::write_timings(&report.recorder(), &self.title, &self.target);
            match written {
                Ok(path) => report.note(format!("timings: {path}")),
                Err(error) => report.warn(format!("no timings: {error:#}")),
            }
        }
        if self.output.json {
            // Whoever stopped reading does not miss it.
            let _ = print(&report.document(self.command, code, error).to_string());
        }
    }
}

/// Prints a line of data on standard output. Gives `false` once nobody reads any more.
pub fn print(text: &str) -> Result<bool> {
    let mut out = anstream::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(true),
    }
}

/// Whether whoever read standard output has gone. A writer that waits for news would learn it only from its next line.
pub fn nobody_reads() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let out = std::io::stdout();
    let mut watched = [PollFd::new(&out, PollFlags::empty())];
    poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok()
        && watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Images for the document.
pub fn images(built: &[Built]) -> Value {
    let image = |image: &Built| json!({"name": image.name, "reference": image.reference(), "tag": image.tag, "id": image.id, "why": image.why});
    built.iter().map(image).collect()
}

/// The rollout of each workload for the document.
pub fn workloads(snapshot: &Snapshot) -> Value {
    let workload = |p: &judge::Progress| json!({"name": p.name, "wanted": p.wanted, "updated": p.updated, "ready": p.ready, "complete": p.complete});
    judge::progress(snapshot).iter().map(workload).collect()
}

/// The routes' answers for the document; times in milliseconds.
pub fn routes(answers: &[Answer]) -> Value {
    let route = |answer: &Answer| {
        json!({
            "host": answer.route.host, "path": answer.route.path, "service": answer.route.service,
            "status": answer.status, "served_by": answer.served_by, "requests": answer.times.len(),
            "p50_ms": answer.percentile(50), "p95_ms": answer.percentile(95), "max_ms": answer.times.last(),
            "problem": answer.problem(),
        })
    };
    answers.iter().map(route).collect()
}
