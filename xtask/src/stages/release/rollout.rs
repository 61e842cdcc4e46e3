//! Follows a rollout by watching, until it is complete, and ends early on what cannot recover.

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
use crate::project::Project;
use crate::report::{DetailRow, Running};
use crate::secrets::Redactor;
use crate::snapshot::{Snapshot, Watch, text};
use crate::toolbox::Toolbox;

/// Why a rollout was given up.
pub struct Stopped {
    /// In a few words.
    pub what: String,
    /// The name of the cause in [`CAUSES`], or `timeout`.
    pub name: &'static str,
    /// What keeps it from being complete, the gravest first.
    pub findings: Vec<Finding>,
}

/// The step that follows the rollout. When it fails, the evidence is saved and what `run` did is undone.
pub fn step<'a>(project: &'a Project, tools: &'a Toolbox, run: Run, redactor: Redactor, why: String) -> Step<'a> {
    Step::new("roll out", why, watching(tools), move |running| {
        let stopped = follow(tools, running, deadlines::ROLLOUT)
            .context("the rollout goes on, but it cannot be followed; nothing was undone")?;
        let Some(stopped) = stopped else { return Ok("all replicas ready".to_owned()) };
        let explained = evidence::explain(project, tools, &redactor, &stopped);
        Err(undo::fall_back(project, tools, &run, explained))
    })
}

/// The step that waits until all replicas are ready, after a start of the cluster. When it fails, the evidence is saved.
pub fn wait_step<'a>(project: &'a Project, tools: &'a Toolbox, redactor: Redactor) -> Step<'a> {
    Step::new("wait for the application", "it is proven next", watching(tools), move |running| {
        match follow(tools, running, deadlines::ROLLOUT)? {
            None => Ok("all replicas ready".to_owned()),
            Some(stopped) => Err(evidence::explain(project, tools, &redactor, &stopped).into()),
        }
    })
}

/// The request behind [`follow`], for a step to show.
fn watching(tools: &Toolbox) -> String {
    format!("GET {}?watch=true  # and other kinds", kinds::POD.collection(tools.namespace(), Scope::Namespace))
}

/// Follows the rollout until every workload is complete (`None`) or cannot become so.
pub fn follow(tools: &Toolbox, running: &Running, limit: Limit) -> Result<Option<Stopped>> {
    let start = Instant::now();
    let mut watch = Watch::start(tools)?;
    let mut standing = Standing::default();
    let mut stuck = HashMap::new();
    let mut asked = start;
    loop {
        if asked.elapsed() > deadlines::LOG_LOOK.time() {
            watch.add_logs(&judge::in_need_of_logs(watch.snapshot()))?;
            asked = Instant::now();
        }
        let snapshot = watch.snapshot();
        let progress = judge::progress(snapshot);
        let findings = judge::findings(snapshot);
        running.rows(rows(snapshot, &findings));
        let line: Vec<String> = progress.iter().map(|p| format!("{} {}", p.name, p.line())).collect();
        running.progress(line.join(", "));
        replace_stuck(tools, snapshot, &mut stuck)?;
        // What is claimed is read: a watch may have missed something.
        if is_complete(&progress) && is_complete(&judge::progress(watch.refresh()?)) {
            return Ok(None);
        }
        if progress.is_empty()
            && start.elapsed() > deadlines::ROLLOUT_EMPTY.time()
            && watch.refresh()?.workloads().next().is_none()
        {
            let why = namespace::unusable(tools)?.map(|why| format!(": {why}")).unwrap_or_default();
            let what = format!("nothing of release {} is in the cluster{why}", tools.release().name);
            return Ok(Some(Stopped { what, name: "gone", findings: Vec::new() }));
        }
        if let Some((name, _)) = standing.ripe(&findings, Instant::now(), deadlines::machine_speed()) {
            // The verdict is about what is there now, whatever a watch may have missed.
            watch.refresh()?;
            if judge::asks_cluster(name) {
                watch.add_cluster()?;
            }
            let findings = judge::findings(watch.snapshot());
            if let Some((name, seen)) = standing.ripe(&findings, Instant::now(), deadlines::machine_speed()) {
                let title = CAUSES.iter().find(|cause| cause.name == name).map_or("", |cause| cause.title);
                let what = format!("the rollout cannot complete: {title} (seen {:.1} s ago)", seen.as_secs_f64());
                return Ok(Some(Stopped { what, name, findings }));
            }
        }
        if start.elapsed() > limit.time() {
            let what = format!("the rollout did not complete within {} s", limit.as_secs());
            watch.refresh()?;
            return Ok(Some(Stopped { what, name: "timeout", findings: judge::findings(watch.snapshot()) }));
        }
        if process::ending() {
            anyhow::bail!("interrupted");
        }
        watch.next(deadlines::ROLLOUT_TICK.time())?;
    }
}

/// Whether there is something, and all of it is complete.
fn is_complete(progress: &[judge::Progress]) -> bool {
    !progress.is_empty() && progress.iter().all(|p| p.complete)
}

/// A live line for each workload: how far it is, and what it waits for.
fn rows(snapshot: &Snapshot, findings: &[Finding]) -> Vec<DetailRow> {
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

/// Deletes pods of StatefulSets whose successors Kubernetes holds back until they are ready, which they never are: a
/// limitation of rolling updates that its documentation tells to mend by hand. The volume stays.
fn replace_stuck(tools: &Toolbox, snapshot: &Snapshot, since: &mut HashMap<String, Instant>) -> Result<()> {
    let stuck = judge::stuck(snapshot);
    since.retain(|name, _| stuck.contains(name));
    for name in stuck {
        let first = *since.entry(name.clone()).or_insert_with(Instant::now);
        if first.elapsed() > deadlines::POD_STUCK.time() {
            // By its UID: its successor has the same name.
            if let Some(pod) = snapshot.get("Pod", &name) {
                tools.api()?.begin_delete_of(&kinds::POD, &name, text(pod, "/metadata/uid"))?;
            }
            since.insert(name, Instant::now());
        }
    }
    Ok(())
}

/// Each fatal cause: when it was seen first and last, and how long a machine of usual speed would have had to mend it.
#[derive(Default)]
struct Standing {
    seen: HashMap<(&'static str, String), (Instant, Instant, Duration)>,
}

impl Standing {
    /// Returns the name of a cause that has outlasted its patience, and how long ago it was seen first. `findings` are those of
    /// `now`; since the last look the machine has worked at `speed`.
    fn ripe(&mut self, findings: &[Finding], now: Instant, speed: f64) -> Option<(&'static str, Duration)> {
        self.seen.retain(|_, (_, last, _)| now.duration_since(*last) < deadlines::CAUSE_GAP.time());
        let mut ripe = None;
        for finding in findings.iter().filter(|finding| finding.gravity == Gravity::Fatal) {
            let owner = finding.subject.rsplit_once('-').map_or(finding.subject.as_str(), |(owner, _)| owner);
            let entry = self.seen.entry((finding.name, owner.to_owned())).or_insert((now, now, Duration::ZERO));
            let (first, last, stood) = entry;
            *stood += now.duration_since(*last).mul_f64(speed);
            *last = now;
            if *stood >= finding.patience {
                ripe = ripe.or(Some((finding.name, now.duration_since(*first))));
            }
        }
        ripe
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
    fn what_mends_itself_within_its_patience_does_not_end_a_rollout() {
        let (start, at) = (Instant::now(), |s| Duration::from_secs(s));
        let (fatal, mut standing) = ([finding(Gravity::Fatal)], Standing::default());
        assert_eq!(standing.ripe(&fatal, start, 1.0), None);
        assert_eq!(standing.ripe(&[finding(Gravity::Waiting)], start + at(2), 1.0), None);
        assert_eq!(standing.ripe(&fatal, start + at(3), 1.0), None, "gone for a moment only");
        assert_eq!(standing.ripe(&fatal, start + at(6), 1.0), None);
        assert_eq!(standing.ripe(&fatal, start + at(7), 1.0), Some(("crash-loop", at(7))));
        assert_eq!(standing.ripe(&[], start + at(8), 1.0), None);
        assert_eq!(standing.ripe(&fatal, start + at(20), 1.0), None, "it begins anew");
    }

    #[test]
    fn a_machine_that_is_busy_with_something_else_gets_more_time() {
        let (start, at) = (Instant::now(), |s| Duration::from_secs(s));
        let (fatal, mut standing) = ([finding(Gravity::Fatal)], Standing::default());
        assert_eq!((0..=34).find_map(|s| standing.ripe(&fatal, start + at(s), 0.2)), None);
        assert_eq!(standing.ripe(&fatal, start + at(35), 0.2), Some(("crash-loop", at(35))));
    }

    #[test]
    fn every_cause_is_told_within_ten_seconds() {
        // A tick, a fresh snapshot and the question about the nodes come on top: seconds, on a machine that is busy.
        assert!(CAUSES.iter().all(|cause| cause.patience <= Limit::seconds(5)));
    }
}
