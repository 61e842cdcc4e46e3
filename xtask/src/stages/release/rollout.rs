//! Follows a rollout with a watch until it is complete. Ends early on a cause that cannot resolve by waiting.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::undo::{self, Run};
use super::{evidence, namespace};
use crate::api::{Scope, kinds};
use crate::deadlines::{self, Limit};
use crate::judge::{self, CAUSES, Finding, Gravity};
use crate::plan::Step;
use crate::process;
use crate::report::{DetailRow, Running};
use crate::secrets::Redactor;
use crate::snapshot::{Snapshot, Watch, text};
use crate::toolbox::Toolbox;

/// A rollout that did not complete.
pub struct FailedRollout {
    /// The reason, in one line.
    pub summary: String,
    /// The name of the cause in [`CAUSES`], `timeout` or `gone`.
    pub cause: &'static str,
    /// The findings that keep workloads from being ready, fatal ones first.
    pub findings: Vec<Finding>,
    /// The objects in which they were found.
    pub snapshot: Snapshot,
}

/// Returns the step that follows the rollout. The proof of `run` judges the objects that it ends with. On failure it saves
/// the evidence and undoes the changes of `run`.
pub fn step<'a>(tools: &'a Toolbox, run: Run, redactor: Redactor, why: String) -> Step<'a> {
    Step::new("roll out", why, shown_watch(tools), move |running| {
        let rollout = follow(tools, running, deadlines::ROLLOUT)
            .context("the rollout continues, but xtask cannot follow it; nothing was undone")?;
        match rollout {
            Ok(ready) => {
                run.set_ready(ready);
                Ok("all replicas ready".to_owned())
            }
            Err(failed) => {
                let failure = evidence::explain(tools, &redactor, &failed);
                Err(undo::fall_back(tools, &run, failure))
            }
        }
    })
}

/// Returns the step that waits until all replicas are ready, after a start of the cluster. On failure it saves the evidence.
pub fn wait_step<'a>(tools: &'a Toolbox, redactor: Redactor) -> Step<'a> {
    Step::new(
        "wait for the application",
        "the proof needs ready pods",
        shown_watch(tools),
        move |running| match follow(tools, running, deadlines::ROLLOUT)? {
            Ok(_) => Ok("all replicas ready".to_owned()),
            Err(failed) => Err(evidence::explain(tools, &redactor, &failed).into()),
        },
    )
}

/// Returns the request behind [`follow`], for a step to show.
fn shown_watch(tools: &Toolbox) -> String {
    format!("GET {}?watch=true  # and other kinds", kinds::POD.collection(tools.namespace(), Scope::Namespace))
}

/// Follows the rollout until every workload is complete. Returns the objects then, or why the rollout failed.
pub fn follow(tools: &Toolbox, running: &Running, limit: Limit) -> Result<Result<Snapshot, FailedRollout>> {
    let start = Instant::now();
    let mut watch = Watch::start(tools)?;
    let mut timers = CauseTimers::default();
    let mut stuck = HashMap::new();
    let mut logs_read = start;
    loop {
        if logs_read.elapsed() > deadlines::LOG_LOOK.time() {
            watch.add_logs(&judge::unready_containers(watch.snapshot()))?;
            logs_read = Instant::now();
        }
        let snapshot = watch.snapshot();
        let progress = judge::progress(snapshot);
        let findings = judge::findings(snapshot);
        running.rows(workload_rows(snapshot, &findings));
        let line: Vec<String> = progress.iter().map(|p| format!("{} {}", p.name, p.line())).collect();
        running.progress(line.join(", "));
        replace_stuck(tools, snapshot, &mut stuck)?;
        // A watch may have missed an event, so success is confirmed with a whole snapshot.
        if is_complete(&progress) && is_complete(&judge::progress(watch.refresh()?)) {
            return Ok(Ok(watch.into_snapshot()));
        }
        if progress.is_empty()
            && start.elapsed() > deadlines::ROLLOUT_EMPTY.time()
            && watch.refresh()?.workloads().next().is_none()
        {
            let why = namespace::why_unusable(tools)?.map(|why| format!(": {why}")).unwrap_or_default();
            let summary = format!("release {} has no workload in the cluster{why}", tools.release().name);
            return Ok(Err(FailedRollout {
                summary,
                cause: "gone",
                findings: Vec::new(),
                snapshot: watch.into_snapshot(),
            }));
        }
        if let Some(Overdue { cause, .. }) = timers.overdue(&findings, Instant::now(), deadlines::machine_speed()) {
            // A watch may have missed an event, so failure is confirmed with a whole snapshot.
            watch.refresh()?;
            if judge::needs_cluster(cause) {
                watch.add_cluster()?;
            }
            let findings = judge::findings(watch.snapshot());
            if let Some(overdue) = timers.overdue(&findings, Instant::now(), deadlines::machine_speed()) {
                let cause = overdue.cause;
                let title = CAUSES.iter().find(|row| row.name == cause).map_or("", |row| row.title);
                let summary = format!("the rollout cannot complete: {title} ({})", overdue.age());
                return Ok(Err(FailedRollout { summary, cause, findings, snapshot: watch.into_snapshot() }));
            }
        }
        if start.elapsed() > limit.time() {
            let summary = format!("the rollout did not complete within {} s", limit.as_secs());
            watch.refresh()?;
            let findings = judge::findings(watch.snapshot());
            return Ok(Err(FailedRollout { summary, cause: "timeout", findings, snapshot: watch.into_snapshot() }));
        }
        if process::ending() {
            anyhow::bail!("interrupted");
        }
        watch.next(deadlines::ROLLOUT_TICK.time())?;
    }
}

/// Returns whether there is a workload, and all are complete.
fn is_complete(progress: &[judge::Progress]) -> bool {
    !progress.is_empty() && progress.iter().all(|p| p.complete)
}

/// Returns a live line for each workload: its progress, and what it waits for.
fn workload_rows(snapshot: &Snapshot, findings: &[Finding]) -> Vec<DetailRow> {
    let progress = judge::progress(snapshot);
    let row = |p: judge::Progress| {
        let about =
            findings.iter().find(|f| f.subject.split_once('/').is_some_and(|(_, name)| name.starts_with(&p.name)));
        let waits = about.filter(|_| !p.complete).map(|f| (f.name, f.cause.lines().next().unwrap_or_default()));
        let text = waits.map_or_else(|| p.line(), |(_, cause)| format!("{} · {cause}", p.line()));
        DetailRow { key: format!("{}{}", p.line(), waits.map_or("", |(name, _)| name)), name: p.name, text }
    };
    progress.into_iter().map(row).collect()
}

/// Deletes pods of StatefulSets that block the rollout: Kubernetes replaces them only once they are ready, which they never
/// are. Its documentation of rolling updates asks for this deletion by hand. The volume stays.
fn replace_stuck(tools: &Toolbox, snapshot: &Snapshot, since: &mut HashMap<String, Instant>) -> Result<()> {
    let stuck = judge::stuck(snapshot);
    since.retain(|name, _| stuck.contains(name));
    for name in stuck {
        let first = *since.entry(name.clone()).or_insert_with(Instant::now);
        if first.elapsed() > deadlines::POD_STUCK.time() {
            // By UID, because its successor has the same name.
            if let Some(pod) = snapshot.get("Pod", &name) {
                tools.api()?.begin_delete_of(&kinds::POD, &name, text(pod, "/metadata/uid"))?;
            }
            since.insert(name, Instant::now());
        }
    }
    Ok(())
}

/// First and last observation of each fatal cause, by cause and workload, and the time that a machine of usual speed would
/// have had to resolve it.
#[derive(Default)]
struct CauseTimers {
    seen: HashMap<(&'static str, String), (Instant, Instant, Duration)>,
}

/// A cause that has lasted longer than its patience.
#[derive(Debug, PartialEq)]
struct Overdue {
    cause: &'static str,
    /// Time since the first observation.
    seen: Duration,
    /// The part of that time that counts; see [`CauseTimers`].
    counted: Duration,
}

impl Overdue {
    fn age(&self) -> String {
        let seen = format!("seen {:.1} s ago", self.seen.as_secs_f64());
        match self.seen.saturating_sub(self.counted) > Duration::from_secs(1) {
            true => format!("{seen}; {:.1} s of it count, because the machine is busy", self.counted.as_secs_f64()),
            false => seen,
        }
    }
}

impl CauseTimers {
    /// Returns a cause that has lasted longer than its patience. `findings` are those of `now`; since the last call the machine
    /// has worked at `speed`.
    fn overdue(&mut self, findings: &[Finding], now: Instant, speed: f64) -> Option<Overdue> {
        self.seen.retain(|_, (_, last, _)| now.duration_since(*last) < deadlines::CAUSE_GAP.time());
        let mut overdue = None;
        for finding in findings.iter().filter(|finding| finding.gravity == Gravity::Fatal) {
            let owner = finding.subject.rsplit_once('-').map_or(finding.subject.as_str(), |(owner, _)| owner);
            let entry = self.seen.entry((finding.name, owner.to_owned())).or_insert((now, now, Duration::ZERO));
            let (first, last, lasted) = entry;
            *lasted += now.duration_since(*last).mul_f64(speed);
            *last = now;
            if *lasted >= finding.patience {
                let seen = now.duration_since(*first);
                overdue = overdue.or(Some(Overdue { cause: finding.name, seen, counted: *lasted }));
            }
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(gravity: Gravity) -> Finding {
        Finding {
            name: "crash-loop",
            patience: Duration::from_secs(7),
            gravity,
            subject: "pod/todo-backend-1-a".into(),
            cause: String::new(),
            help: Vec::new(),
            log_of: None,
        }
    }

    #[test]
    fn a_cause_that_resolves_within_its_patience_does_not_end_a_rollout() {
        let (start, at) = (Instant::now(), |s| Duration::from_secs(s));
        let (fatal, mut timers) = ([finding(Gravity::Fatal)], CauseTimers::default());
        assert_eq!(timers.overdue(&fatal, start, 1.0), None);
        assert_eq!(timers.overdue(&[finding(Gravity::Waiting)], start + at(2), 1.0), None);
        assert_eq!(timers.overdue(&fatal, start + at(3), 1.0), None, "gone for a moment only");
        assert_eq!(timers.overdue(&fatal, start + at(6), 1.0), None);
        assert_eq!(
            timers.overdue(&fatal, start + at(7), 1.0),
            Some(Overdue { cause: "crash-loop", seen: at(7), counted: at(7) })
        );
        assert_eq!(timers.overdue(&[], start + at(8), 1.0), None);
        assert_eq!(timers.overdue(&fatal, start + at(20), 1.0), None, "its timer starts again");
    }

    #[test]
    fn a_busy_machine_gets_more_time() {
        let (start, at) = (Instant::now(), |s| Duration::from_secs(s));
        let (fatal, mut timers) = ([finding(Gravity::Fatal)], CauseTimers::default());
        assert_eq!((0..=34).find_map(|s| timers.overdue(&fatal, start + at(s), 0.2)), None);
        let overdue = timers.overdue(&fatal, start + at(35), 0.2).unwrap();
        assert_eq!(overdue.age(), "seen 35.0 s ago; 7.0 s of it count, because the machine is busy");
    }

    #[test]
    fn every_cause_is_reported_within_ten_seconds() {
        // The watch, a whole snapshot and reading the nodes add seconds on a busy machine.
        assert!(CAUSES.iter().all(|cause| cause.patience <= Limit::seconds(5)));
    }
}
