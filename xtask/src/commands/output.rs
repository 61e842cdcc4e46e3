//! `--json` and `--timings`: the output of a command in addition to its messages.

use std::io::{ErrorKind, Write};

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use crate::judge;
use crate::snapshot::Snapshot;
use crate::stages::images::Built;
use crate::stages::proof::RouteAnswer;

/// The output options of commands that run steps.
#[derive(Args, Clone, Debug, Default)]
pub struct Output {
    /// Print one JSON document on standard output; its schema is in docs/schema
    #[arg(long)]
    pub json: bool,
    /// Draw the steps as a waterfall: target/xtask/timings.html
    #[arg(long)]
    pub timings: bool,
}

/// Prints a line of data on standard output. Returns `false` if the reader has closed it.
pub fn print(text: &str) -> Result<bool> {
    let mut out = anstream::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(true),
    }
}

/// Returns whether the reader of standard output has closed it. A writer that waits for new data would otherwise notice
/// only when it writes the next line.
pub fn is_reader_gone() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let out = std::io::stdout();
    let mut watched = [PollFd::new(&out, PollFlags::empty())];
    poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok()
        && watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Returns the built images for the JSON document.
pub fn images(built: &[Built]) -> Value {
    let image = |image: &Built| json!({"name": image.name, "reference": image.reference(), "tag": image.tag, "id": image.id, "why": image.why});
    built.iter().map(image).collect()
}

/// Returns the rollout of each workload for the JSON document.
pub fn workloads(snapshot: &Snapshot) -> Value {
    let workload = |p: &judge::Progress| json!({"name": p.name, "wanted": p.wanted, "updated": p.updated, "ready": p.ready, "complete": p.complete});
    judge::progress(snapshot).iter().map(workload).collect()
}

/// Returns the answers of the routes for the JSON document; times are in milliseconds.
pub fn routes(answers: &[RouteAnswer]) -> Value {
    let route = |answer: &RouteAnswer| {
        json!({
            "host": answer.route.host, "path": answer.route.path, "service": answer.route.service,
            "status": answer.status, "served_by": answer.served_by, "requests": answer.times.len(),
            "p50_ms": answer.percentile(50), "p95_ms": answer.percentile(95), "max_ms": answer.times.last(),
            "problem": answer.problem(), "reason": answer.explain_404(),
        })
    };
    answers.iter().map(route).collect()
}
