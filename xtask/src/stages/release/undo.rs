//! Undoing: back to the revision that was verified last, or away with a first install that failed. What an undo rests on
//! is read right before it acts, and what it claims is read afterwards.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::helm::{self, Revision, Status};
use super::record::Record;
use super::rollout::{self, Stopped};
use super::uninstall::uninstall;
use super::{drift, secret_manifest, secrets};
use crate::api::{Propagation, kinds};
use crate::clock;
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::judge;
use crate::process::{self, Process};
use crate::project::Project;
use crate::report::Running;
use crate::snapshot::{Snapshot, key, text};
use crate::toolbox::Toolbox;

/// What one run has done to the release, shared by its steps: an undo concerns that and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Run(Arc<Mutex<Doing>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Doing {
    /// Helm was not started.
    #[default]
    Nothing,
    /// Helm was started on what `Before` says.
    Release(Before),
}

/// The release right before this run started Helm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// Helm's newest revision.
    newest: Option<u64>,
    /// What a failure goes back to.
    fallback: Fallback,
}

/// What runs after a deploy has failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Fallback {
    /// The revision that was verified last, with the time of that.
    Verified(u64, u64),
    /// The revision that Helm had deployed; xtask has never verified it.
    Deployed(u64),
    /// There was no release: the failed install is removed.
    #[default]
    FirstInstall,
    /// What stands there: the same command goes on from it.
    AsItIs,
}

impl Before {
    /// The release as `helm` and `record` show it. `undoes`: whether a failure is undone at all.
    fn of(helm: &Status, record: Option<&Record>, undoes: bool) -> Self {
        let kept = |number: u64| helm.revisions.iter().any(|revision| revision.number == number);
        let fallback = match (record, helm.deployed()) {
            _ if !undoes => Fallback::AsItIs,
            (Some(record), _) if kept(record.revision) => Fallback::Verified(record.revision, record.verified_at),
            (_, Some(deployed)) => Fallback::Deployed(deployed),
            (_, None) => Fallback::FirstInstall,
        };
        Self { newest: helm.newest().map(|revision| revision.number), fallback }
    }

    /// The number that Helm gives to the revision which this run makes.
    fn own(&self) -> u64 {
        self.newest.unwrap_or_default() + 1
    }

    /// The revision that this run has made; `None`: it has made none. Another newest revision is somebody else's.
    fn made<'a>(&self, helm: &'a Status) -> Result<Option<&'a Revision>> {
        let newest = helm.newest();
        let number = newest.map(|revision| revision.number);
        if number == self.newest {
            return Ok(None);
        }
        let told = |number: Option<u64>| number.map_or("none".to_owned(), |number| number.to_string());
        ensure!(
            number == Some(self.own()),
            "Helm's newest revision is {}; this run began at {} and makes {}: somebody else has changed the release",
            told(number),
            told(self.newest),
            self.own()
        );
        Ok(newest)
    }
}

impl Run {
    fn doing(&self) -> Doing {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs the helm that changes the release. A failure is undone, where `undoes` says so. That Helm ends well is its
    /// word alone until [`Run::confirm`] has read it.
    pub fn change(&self, project: &Project, tools: &Toolbox, helm: &Process, undoes: bool) -> Result<()> {
        let record = Record::fetch(tools)?;
        let before = Before::of(&helm::observe(&secrets::observe(tools)?), record.as_ref(), undoes);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Doing::Release(before);
        match helm.run() {
            Ok(()) => Ok(()),
            Err(error) => Err(fall_back(project, tools, self, helm::refused(project, &error))),
        }
    }

    /// Helm's state. Fails unless the revision that this run has made is the release's newest, and deployed.
    pub fn confirm(&self, tools: &Toolbox) -> Result<Status> {
        let helm = helm::observe(&secrets::observe(tools)?);
        let Doing::Release(before) = self.doing() else { return Ok(helm) };
        let failure = |what: String| Failure::new(Class::Rollout, what).help("cargo xtask deploy dev");
        let made = before.made(&helm).map_err(|error| failure(error.to_string()))?;
        match made {
            Some(revision) if revision.status == "deployed" => Ok(helm),
            Some(Revision { number, status, .. }) => {
                Err(failure(format!("Helm has ended, but its revision {number} is {status}")).into())
            }
            None => Err(failure("Helm has ended, but it has made no revision".to_owned()).into()),
        }
    }
}

/// Undoes what this run did to the release. Gives `failure` with what was done and what runs now.
pub fn fall_back(project: &Project, tools: &Toolbox, run: &Run, failure: Failure) -> anyhow::Error {
    if process::ending() {
        return failure.into();
    }
    let done = match run.doing() {
        Doing::Nothing => Ok("nothing was applied by this run, so nothing is undone".to_owned()),
        Doing::Release(before) => undo(project, tools, &before),
    };
    match done {
        Ok(done) => failure.append(format!("\n  {done}{}", runs(tools))).into(),
        Err(error) => failure
            .append(format!("\n  it could not be undone: {error:#}{}", runs(tools)))
            .help("cargo xtask deploy dev")
            .into(),
    }
}

fn undo(project: &Project, tools: &Toolbox, before: &Before) -> Result<String> {
    if let Some(why) = super::namespace::unusable(tools)? {
        return Ok(format!("{why}, so nothing is undone"));
    }
    // What was known when this run began is minutes old.
    let helm = helm::observe(&secrets::observe(tools)?);
    let Some(made) = before.made(&helm)? else {
        return Ok("nothing was applied: Helm has made no revision, so nothing is undone".to_owned());
    };
    let report = &project.report;
    let back = |revision: u64, why: &str| {
        let kept = helm.revisions.iter().any(|kept| kept.number == revision);
        ensure!(kept, "Helm does not keep revision {revision} any more");
        let running = report.step("release", format!("roll back to revision {revision}"), why);
        let now = rollback_to(project, tools, made, revision, &running)?;
        running.done("");
        anyhow::Ok(now)
    };
    match before.fallback {
        Fallback::AsItIs => Ok("what was applied stays: the same command goes on from there".to_owned()),
        Fallback::Verified(revision, at) => {
            let now = back(revision, "verified last")?;
            let ago = clock::age(clock::now().saturating_sub(at));
            Ok(format!("rolled back to revision {revision}, verified {ago} ago; it is revision {now} now"))
        }
        Fallback::Deployed(revision) => {
            let now = back(revision, "deployed before")?;
            Ok(format!("rolled back to revision {revision}, which xtask has never verified; it is revision {now} now"))
        }
        Fallback::FirstInstall => {
            let snapshot = Snapshot::take(tools)?;
            prove_first_install(&snapshot, &helm, made).context("nothing was removed")?;
            let running =
                report.step("release", "remove the failed first install", "there is no revision to go back to");
            remove(project, tools).inspect(|_| running.done(""))
        }
    }
}

/// Fails unless all that there is of the release was made by this run.
fn prove_first_install(snapshot: &Snapshot, helm: &Status, made: &Revision) -> Result<()> {
    if let Some(record) = Record::read(snapshot)? {
        bail!("revision {} was verified, so this was no first install", record.revision);
    }
    if let Some(other) = helm.revisions.iter().find(|revision| revision.number != made.number) {
        bail!("Helm has revision {} ({}), so this was no first install", other.number, other.status);
    }
    let began = clock::parse(&made.created);
    let began = began.with_context(|| format!("when revision {} was made is not known", made.number))?;
    let older = |pod: &&Value| clock::parse(text(pod, "/metadata/creationTimestamp")).is_none_or(|then| then < began);
    if let Some(pod) = snapshot.kind("Pod").filter(|pod| judge::is_ready(pod)).find(older) {
        let name = text(pod, "/metadata/name");
        bail!("pod {name} is ready and older than revision {}, so this was no first install", made.number);
    }
    Ok(())
}

/// Rolls the release back from the revision `made` to `revision`, and follows that until all replicas are ready. Gives
/// the number under which Helm has it now. What was verified of `revision` holds for that number too.
fn rollback_to(project: &Project, tools: &Toolbox, made: &Revision, revision: u64, running: &Running) -> Result<u64> {
    let release = &project.settings.chart.release;
    let rollback = tools.helm().args(["rollback", release, &revision.to_string(), "--server-side=true"]);
    rollback.args(["--force-conflicts", "--history-max=10"]).log(project.log("helm")).run()?;
    if let Some(Stopped { what, findings, .. }) = rollout::follow(tools, running, deadlines::ROLLOUT_UNDO)? {
        let causes: Vec<String> = findings.iter().take(2).map(|f| format!("{}: {}", f.subject, f.cause)).collect();
        bail!("of revision {revision}, {what} ({})", causes.join("; "));
    }
    let helm = helm::observe(&secrets::observe(tools)?);
    let now = helm.newest().filter(|now| now.number == made.number + 1 && now.status == "deployed");
    let now = now.with_context(|| {
        let newest = helm.newest().map_or("none".to_owned(), |now| format!("{} ({})", now.number, now.status));
        format!("after the rollback Helm's newest revision is {newest}, not {} (deployed)", made.number + 1)
    })?;
    keep_record(project, tools, revision, now.number)?;
    Ok(now.number)
}

/// Has the record say that `revision`, if that is what it is about, is revision `now`. An object that the rollback had to
/// make again differs in what the cluster gives it (the address of a Service): it is held against Helm's manifest.
fn keep_record(project: &Project, tools: &Toolbox, revision: u64, now: u64) -> Result<()> {
    let snapshot = Snapshot::take(tools)?;
    let Some(record) = Record::read(&snapshot)?.filter(|record| record.revision == revision) else { return Ok(()) };
    let drifted: Vec<String> = record.drift(&snapshot).into_iter().map(|drift| drift.object).collect();
    if !drifted.is_empty() {
        let wanted = drift::objects(&helm::manifest(project, tools, now)?);
        let as_verified = |object: &String| {
            let made_again = |live: &&Value| {
                let made = clock::parse(text(live, "/metadata/creationTimestamp"));
                key(live) == *object && made.is_some_and(|made| made >= record.verified_at)
            };
            let live = snapshot.applied().find(made_again);
            let wanted = wanted.iter().find(|wanted| key(wanted) == *object);
            matches!((wanted, live), (Some(wanted), Some(live)) if drift::fields(wanted, live, &snapshot).is_empty())
        };
        if !drifted.iter().all(as_verified) {
            return Ok(());
        }
    }
    let (objects, replicas) = (snapshot.digests(), snapshot.replicas());
    Record { revision: now, objects, replicas, ..record }.store(tools)
}

/// Removes a first install that failed. Volumes with data in them stay, and with them the password that opens them: the
/// data may be older than this install.
fn remove(project: &Project, tools: &Toolbox) -> Result<String> {
    let (snapshot, existing) = uninstall(project, tools)?;
    let is_bound = |claim: &&Value| text(claim, "/status/phase") == "Bound";
    let (bound, pending): (Vec<_>, Vec<_>) = snapshot.kind("PersistentVolumeClaim").partition(is_bound);
    // A claim that no volume was provided for holds nothing, but would keep its wrong class.
    let api = tools.api()?;
    for claim in pending {
        api.delete(&kinds::PERSISTENT_VOLUME_CLAIM, text(claim, "/metadata/name"), Propagation::Background)?;
    }
    let password = secret_manifest::postgres_name(&project.settings.chart);
    let keep: Vec<&String> = existing.ours.iter().filter(|name| !bound.is_empty() && **name == password).collect();
    let stale: Vec<String> = existing.ours.iter().filter(|name| !keep.contains(name)).cloned().collect();
    secrets::delete(tools, &stale)?;
    let stays = match bound.first() {
        None => String::new(),
        Some(claim) => format!(
            "; the database's volume {} stays, with its Secret (cargo xtask teardown --data removes both)",
            text(claim, "/metadata/name")
        ),
    };
    Ok(format!("the first install failed, so it was removed{stays}"))
}

/// What runs now, for people: a line for each workload.
fn runs(tools: &Toolbox) -> String {
    let snapshot = match Snapshot::take(tools) {
        Ok(snapshot) => snapshot,
        Err(error) => return format!("\n  what runs now is not known: {error:#}"),
    };
    let image = |name: &str| {
        let workload = snapshot.workloads().find(|w| text(w, "/metadata/name") == name)?;
        Some(text(workload, "/spec/template/spec/containers/0/image").to_owned())
    };
    let progress = judge::progress(&snapshot);
    if progress.is_empty() {
        return "\n  runs now: nothing".to_owned();
    }
    let lines = progress.iter().map(|p| {
        let image = image(&p.name).unwrap_or_default();
        format!("\n  runs now: {:<16} {}, {image}", p.name, p.line())
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(revisions: &[(u64, &str)]) -> Status {
        let revision = |(number, status): &(u64, &str)| Revision {
            number: *number,
            status: (*status).to_owned(),
            created: "2026-11-27T08:00:00Z".to_owned(),
        };
        Status { revisions: revisions.iter().map(revision).collect() }
    }

    fn record(revision: u64) -> Value {
        json!({"fingerprint": {}, "revision": revision, "images": {}, "secrets": [], "objects": {}, "environment": "dev",
               "verified_at": 7})
    }

    fn fallback(verified: Option<u64>, revisions: &[(u64, &str)]) -> Fallback {
        let record: Option<Record> = verified.map(|revision| serde_json::from_value(record(revision)).unwrap());
        Before::of(&status(revisions), record.as_ref(), true).fallback
    }

    #[test]
    fn there_is_something_to_go_back_to_or_not() {
        assert_eq!(fallback(None, &[]), Fallback::FirstInstall);
        assert_eq!(fallback(None, &[(1, "failed")]), Fallback::FirstInstall);
        assert_eq!(fallback(None, &[(1, "deployed")]), Fallback::Deployed(1));
        let two = [(4, "deployed"), (3, "superseded")];
        assert_eq!(fallback(Some(3), &two), Fallback::Verified(3, 7));
        assert_eq!(fallback(Some(1), &two), Fallback::Deployed(4), "Helm has forgotten revision 1");
    }

    #[test]
    fn a_revision_that_this_run_did_not_make_is_somebody_elses() {
        let before = Before { newest: Some(4), ..Before::default() };
        let made = |revisions: &[(u64, &str)]| {
            before.made(&status(revisions)).map(|made| made.map(|made| made.number)).map_err(|error| error.to_string())
        };
        assert_eq!(made(&[(4, "deployed")]), Ok(None));
        assert_eq!(made(&[(5, "failed"), (4, "deployed")]), Ok(Some(5)));
        let newer = made(&[(6, "deployed"), (5, "superseded")]).unwrap_err();
        assert!(newer.contains("newest revision is 6; this run began at 4 and makes 5: somebody else"), "{newer}");
        assert!(made(&[]).is_err() && made(&[(3, "deployed")]).is_err(), "the history was deleted");
    }

    #[test]
    fn a_first_install_is_what_this_run_alone_has_made() {
        let pod = |ready: &str, created: &str| {
            json!({"kind": "Pod", "metadata": {"name": "todo-backend-1", "creationTimestamp": created},
                   "status": {"conditions": [{"type": "Ready", "status": ready}]}})
        };
        let made = status(&[(1, "deployed")]);
        let proof = |objects: Vec<Value>, helm: &Status| {
            let error = prove_first_install(&Snapshot::of(objects), helm, &made.revisions[0]).err();
            error.map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(proof(vec![], &made), "");
        assert_eq!(proof(vec![pod("True", "2026-11-27T08:00:00Z"), pod("False", "2026-11-27T07:59:59Z")], &made), "");
        assert!(
            proof(vec![pod("True", "2026-11-27T07:59:59Z")], &made).contains("pod todo-backend-1 is ready and older")
        );
        let others = status(&[(1, "deployed"), (0, "failed")]);
        assert!(proof(vec![], &others).contains("Helm has revision 0 (failed)"));
        let record = json!({"kind": "ConfigMap", "metadata": {"name": "todo-xtask"},
                            "data": {"record.json": record(3).to_string()}});
        assert!(proof(vec![record], &made).contains("revision 3 was verified"));
    }
}
