//! Undoes a failed deploy: rolls back to the revision that was verified last, or removes a failed first install. Each undo
//! reads the live state right before it acts, and again before it reports success.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::desired::Desired;
use super::helm::{self, HelmHistory, Revision};
use super::record::Record;
use super::rollout::{self, FailedRollout};
use super::secrets::ObservedSecrets;
use super::uninstall::uninstall;
use super::{drift, secrets};
use crate::api::{Propagation, kinds};
use crate::clock;
use crate::deadlines;
use crate::failure::{self, Class, Failure};
use crate::judge;
use crate::process::{self, Process};
use crate::report::Running;
use crate::snapshot::{Snapshot, key, text};
use crate::toolbox::Toolbox;

/// Maximum age of objects that a proof is about, in seconds.
const RECENT: u64 = 2;

/// State that the steps of one run share.
#[derive(Clone, Debug, Default)]
pub struct Run(Arc<Mutex<SharedState>>);

#[derive(Debug, Default)]
struct SharedState {
    /// The release before the run changed it; `None`: Helm was not started. An undo concerns the changes of its run alone.
    before: Option<ReleaseBefore>,
    /// The objects with which the rollout ended.
    ready: Option<Snapshot>,
}

/// The release right before this run started Helm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReleaseBefore {
    /// Helm's newest revision.
    newest: Option<u64>,
    /// The state that a failed run restores.
    fallback: Fallback,
}

/// The state that a failed run restores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Fallback {
    /// The revision that was verified last, and when, in seconds since 1970.
    Verified(u64, u64),
    /// The revision that Helm had deployed, which xtask has never verified.
    Deployed(u64),
    /// Nothing: the failed first install is removed.
    #[default]
    FirstInstall,
    /// Nothing: the objects stay, and the same command continues from them.
    KeepFailed,
}

impl ReleaseBefore {
    /// Returns the release as `helm` and `record` show it. `undoes`: whether a failure is undone.
    fn of(helm: &HelmHistory, record: Option<&Record>, undoes: bool) -> Self {
        let kept = |number: u64| helm.revisions.iter().any(|revision| revision.number == number);
        let fallback = match (record, helm.deployed()) {
            _ if !undoes => Fallback::KeepFailed,
            (Some(record), _) if kept(record.revision) => Fallback::Verified(record.revision, record.verified_at),
            (_, Some(deployed)) => Fallback::Deployed(deployed),
            (_, None) => Fallback::FirstInstall,
        };
        Self { newest: helm.newest().map(|revision| revision.number), fallback }
    }

    /// Returns the number that Helm gives to the revision of this run.
    fn own_number(&self) -> u64 {
        self.newest.unwrap_or_default() + 1
    }

    /// Returns the revision that this run has created; `None`: it has created none. Fails if somebody else has changed the
    /// release meanwhile.
    fn own_revision<'a>(&self, helm: &'a HelmHistory) -> Result<Option<&'a Revision>> {
        let newest = helm.newest();
        let number = newest.map(|revision| revision.number);
        if number == self.newest {
            return Ok(None);
        }
        let show = |number: Option<u64>| number.map_or("none".to_owned(), |number| number.to_string());
        ensure!(
            number == Some(self.own_number()),
            "Helm's newest revision is {}; this run began at {} and creates {}: somebody else has changed the release",
            show(number),
            show(self.newest),
            self.own_number()
        );
        Ok(newest)
    }
}

impl Run {
    fn state(&self) -> MutexGuard<'_, SharedState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn before(&self) -> Option<ReleaseBefore> {
        self.state().before.clone()
    }

    /// Keeps the objects with which the rollout has ended.
    pub fn set_ready(&self, snapshot: Snapshot) {
        self.state().ready = Some(snapshot);
    }

    /// Takes the objects with which the rollout has just ended; `None` if that is more than [`RECENT`] ago. They are there
    /// once: the caller's next steps may change them.
    pub fn take_ready(&self) -> Option<Snapshot> {
        self.state().ready.take().filter(|ready| clock::now().saturating_sub(ready.taken()) <= RECENT)
    }

    /// Runs `helm`, which changes the release to `desired`, or to an earlier revision. Undoes a failure if `undoes`. That Helm succeeded is not proven before
    /// [`Run::confirm`].
    pub fn change(&self, tools: &Toolbox, helm: &Process, undoes: bool, desired: Option<&Desired>) -> Result<()> {
        let record = Record::fetch(tools)?;
        let before = ReleaseBefore::of(&helm::observe(&secrets::observe(tools)?), record.as_ref(), undoes);
        self.state().before = Some(before);
        match helm.run() {
            Ok(()) => Ok(()),
            Err(error) => Err(fall_back(tools, self, helm::explain(tools.release(), desired, error))),
        }
    }

    /// Returns the Secrets, those of Helm's revisions included. Fails unless the revision of this run is the newest one, and
    /// deployed.
    pub fn confirm(&self, tools: &Toolbox) -> Result<ObservedSecrets> {
        let existing = secrets::observe(tools)?;
        let helm = helm::observe(&existing);
        let Some(before) = self.before() else { return Ok(existing) };
        let failure = |what: String| Failure::new(Class::Rollout, what).help("cargo xtask deploy dev");
        let own = before.own_revision(&helm).map_err(|error| failure(error.to_string()))?;
        match own {
            Some(revision) if revision.status == "deployed" => Ok(existing),
            Some(Revision { number, status, .. }) => {
                Err(failure(format!("Helm succeeded, but its revision {number} is {status}")).into())
            }
            None => Err(failure("Helm succeeded, but it has created no revision".to_owned()).into()),
        }
    }
}

/// Undoes what `run` did to the release. Returns `failure` with the result of the undo and what runs now.
pub fn fall_back(tools: &Toolbox, run: &Run, failure: Failure) -> anyhow::Error {
    if process::ending() {
        return failure.into();
    }
    let undone = match run.before() {
        None => Ok("nothing was applied by this run, so nothing is undone".to_owned()),
        Some(before) => undo(tools, &before),
    };
    match undone {
        Ok(result) => failure.append(format!("\n  {result}{}", describe_running(tools))).into(),
        Err(error) => failure
            .append(format!("\n  it could not be undone: {}{}", failure::message(&error), describe_running(tools)))
            .help("cargo xtask deploy dev")
            .into(),
    }
}

/// Undoes the changes since `before`. Returns what was done.
fn undo(tools: &Toolbox, before: &ReleaseBefore) -> Result<String> {
    if let Some(why) = super::namespace::why_unusable(tools)? {
        return Ok(format!("{why}, so nothing is undone"));
    }
    // The state from the start of this run is minutes old.
    let helm = helm::observe(&secrets::observe(tools)?);
    let Some(own) = before.own_revision(&helm)? else {
        return Ok("nothing was applied: Helm has created no revision, so nothing is undone".to_owned());
    };
    let report = &tools.report;
    let roll_back = |revision: u64, why: &str| {
        let is_kept = helm.revisions.iter().any(|kept| kept.number == revision);
        ensure!(is_kept, "Helm no longer keeps revision {revision}");
        let running = report.step("release", format!("roll back to revision {revision}"), why);
        let now = rollback_to(tools, own, revision, &running)?;
        running.done("");
        anyhow::Ok(now)
    };
    match before.fallback {
        Fallback::KeepFailed => Ok("the applied objects stay: the same command continues from there".to_owned()),
        Fallback::Verified(revision, at) => {
            let now = roll_back(revision, "verified last")?;
            let ago = clock::age(clock::now().saturating_sub(at));
            Ok(format!("rolled back to revision {revision}, verified {ago} ago; it is revision {now} now"))
        }
        Fallback::Deployed(revision) => {
            let now = roll_back(revision, "deployed before")?;
            Ok(format!("rolled back to revision {revision}, which xtask has never verified; it is revision {now} now"))
        }
        Fallback::FirstInstall => {
            let snapshot = Snapshot::take(tools)?;
            prove_first_install(&snapshot, &helm, own).context("nothing was removed")?;
            let running =
                report.step("release", "remove the failed first install", "there is no revision to go back to");
            remove_first_install(tools).inspect(|_| running.done(""))
        }
    }
}

/// Fails unless this run, with its revision `own`, has created everything that exists of the release.
fn prove_first_install(snapshot: &Snapshot, helm: &HelmHistory, own: &Revision) -> Result<()> {
    if let Some(record) = Record::read(snapshot)? {
        bail!("revision {} was verified, so this was no first install", record.revision);
    }
    if let Some(other) = helm.revisions.iter().find(|revision| revision.number != own.number) {
        bail!("Helm has revision {} ({}), so this was no first install", other.number, other.status);
    }
    let began = clock::parse(&own.created);
    let began = began.with_context(|| format!("revision {} has no valid time of creation", own.number))?;
    let is_older =
        |pod: &&Value| clock::parse(text(pod, "/metadata/creationTimestamp")).is_none_or(|then| then < began);
    if let Some(pod) = snapshot.kind("Pod").filter(|pod| judge::is_ready(pod)).find(is_older) {
        let name = text(pod, "/metadata/name");
        bail!("pod {name} is ready and older than revision {}, so this was no first install", own.number);
    }
    Ok(())
}

/// Rolls the release back from `own` to `revision`, and waits until all replicas are ready. Returns the new number of that
/// revision; the record names it from then on.
fn rollback_to(tools: &Toolbox, own: &Revision, revision: u64, running: &Running) -> Result<u64> {
    let release = &tools.release().name;
    let rollback = tools.helm().args(["rollback", release, &revision.to_string(), "--server-side=true"]);
    rollback.args(["--force-conflicts", "--history-max=10"]).log(tools.log("helm")).run()?;
    let snapshot = match rollout::follow(tools, running, deadlines::ROLLOUT_UNDO)? {
        Ok(ready) => ready,
        Err(FailedRollout { summary, findings, .. }) => {
            let causes: Vec<String> = findings.iter().take(2).map(|f| format!("{}: {}", f.subject, f.cause)).collect();
            bail!("revision {revision}: {summary} ({})", causes.join("; "));
        }
    };
    let helm = helm::observe(&secrets::observe(tools)?);
    let now = helm.newest().filter(|now| now.number == own.number + 1 && now.status == "deployed");
    let now = now.with_context(|| {
        let newest = helm.newest().map_or("none".to_owned(), |now| format!("{} ({})", now.number, now.status));
        format!("after the rollback Helm's newest revision is {newest}, not {} (deployed)", own.number + 1)
    })?;
    renumber_record(tools, &snapshot, revision, now.number)?;
    Ok(now.number)
}

/// Changes the record of `revision`, if it is that one's, to the revision number `now`. The cluster gives objects that the
/// rollback created again other values, e.g. the address of a Service, so these are compared with Helm's manifest.
/// `snapshot` has the objects after the rollback.
fn renumber_record(tools: &Toolbox, snapshot: &Snapshot, revision: u64, now: u64) -> Result<()> {
    let Some(record) = Record::read(snapshot)?.filter(|record| record.revision == revision) else { return Ok(()) };
    let drifted: Vec<String> = record.drift(snapshot).into_iter().map(|drift| drift.object).collect();
    if !drifted.is_empty() {
        let wanted = drift::objects(&helm::manifest(tools, now)?);
        let is_as_verified = |object: &String| {
            let is_recreated = |live: &&Value| {
                let created = clock::parse(text(live, "/metadata/creationTimestamp"));
                key(live) == *object && created.is_some_and(|created| created >= record.verified_at)
            };
            let live = snapshot.applied().find(is_recreated);
            let wanted = wanted.iter().find(|wanted| key(wanted) == *object);
            matches!((wanted, live), (Some(wanted), Some(live)) if drift::fields(wanted, live, snapshot).is_empty())
        };
        if !drifted.iter().all(is_as_verified) {
            return Ok(());
        }
    }
    let (objects, replicas) = (snapshot.digests(), snapshot.replicas());
    Record { revision: now, objects, replicas, ..record }.store(tools)
}

/// Removes a first install that failed. Bound volumes and the database's password stay, because their data may be older than
/// this install. Returns what was done.
fn remove_first_install(tools: &Toolbox) -> Result<String> {
    let (snapshot, existing) = uninstall(tools)?;
    let is_bound = |claim: &&Value| text(claim, "/status/phase") == "Bound";
    let (bound, pending): (Vec<_>, Vec<_>) = snapshot.kind("PersistentVolumeClaim").partition(is_bound);
    // A pending claim holds no data, but would keep a wrong storage class.
    let api = tools.api()?;
    for claim in pending {
        api.delete(&kinds::PERSISTENT_VOLUME_CLAIM, text(claim, "/metadata/name"), Propagation::Background)?;
    }
    let stale = if bound.is_empty() { &existing.ours } else { &existing.per_revision };
    secrets::delete(tools, stale)?;
    let stays = match bound.first() {
        None => String::new(),
        Some(claim) => format!(
            "; the database's volume {} stays, with its Secret (cargo xtask teardown --data removes both)",
            text(claim, "/metadata/name")
        ),
    };
    Ok(format!("the first install failed, so it was removed{stays}"))
}

/// Returns a line for each workload with what runs now.
fn describe_running(tools: &Toolbox) -> String {
    let snapshot = match Snapshot::take(tools) {
        Ok(snapshot) => snapshot,
        Err(error) => return format!("\n  xtask cannot read what runs now: {}", failure::message(&error)),
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

    fn status(revisions: &[(u64, &str)]) -> HelmHistory {
        let revision = |(number, status): &(u64, &str)| Revision {
            number: *number,
            status: (*status).to_owned(),
            created: "2026-11-27T08:00:00Z".to_owned(),
        };
        HelmHistory { revisions: revisions.iter().map(revision).collect() }
    }

    fn record(revision: u64) -> Value {
        json!({"fingerprint": {}, "revision": revision, "images": {}, "secrets": [], "objects": {}, "environment": "dev",
               "verified_at": 7})
    }

    fn fallback(verified: Option<u64>, revisions: &[(u64, &str)]) -> Fallback {
        let record: Option<Record> = verified.map(|revision| serde_json::from_value(record(revision)).unwrap());
        ReleaseBefore::of(&status(revisions), record.as_ref(), true).fallback
    }

    #[test]
    fn the_fallback_is_the_verified_revision_else_the_deployed_one_else_none() {
        assert_eq!(fallback(None, &[]), Fallback::FirstInstall);
        assert_eq!(fallback(None, &[(1, "failed")]), Fallback::FirstInstall);
        assert_eq!(fallback(None, &[(1, "deployed")]), Fallback::Deployed(1));
        let two = [(4, "deployed"), (3, "superseded")];
        assert_eq!(fallback(Some(3), &two), Fallback::Verified(3, 7));
        assert_eq!(fallback(Some(1), &two), Fallback::Deployed(4), "Helm has forgotten revision 1");
    }

    #[test]
    fn the_objects_that_a_rollout_ended_with_are_judged_once() {
        let run = Run::default();
        assert!(run.take_ready().is_none());
        run.clone().set_ready(Snapshot::of(Vec::new()));
        assert!(run.take_ready().is_some() && run.take_ready().is_none());
        run.set_ready(Snapshot::default());
        assert!(run.take_ready().is_none(), "taken in 1970");
    }

    #[test]
    fn a_newest_revision_of_somebody_else_is_an_error() {
        let before = ReleaseBefore { newest: Some(4), ..ReleaseBefore::default() };
        let own = |revisions: &[(u64, &str)]| {
            before
                .own_revision(&status(revisions))
                .map(|own| own.map(|own| own.number))
                .map_err(|error| error.to_string())
        };
        assert_eq!(own(&[(4, "deployed")]), Ok(None));
        assert_eq!(own(&[(5, "failed"), (4, "deployed")]), Ok(Some(5)));
        let newer = own(&[(6, "deployed"), (5, "superseded")]).unwrap_err();
        assert!(newer.contains("newest revision is 6; this run began at 4 and creates 5: somebody else"), "{newer}");
        assert!(own(&[]).is_err() && own(&[(3, "deployed")]).is_err(), "the history was deleted");
    }

    #[test]
    fn only_an_install_that_this_run_alone_created_is_a_first_install() {
        let pod = |ready: &str, created: &str| {
            json!({"kind": "Pod", "metadata": {"name": "todo-backend-1", "creationTimestamp": created},
                   "status": {"conditions": [{"type": "Ready", "status": ready}]}})
        };
        let helm = status(&[(1, "deployed")]);
        let proof = |objects: Vec<Value>, revisions: &HelmHistory| {
            let error = prove_first_install(&Snapshot::of(objects), revisions, &helm.revisions[0]).err();
            error.map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(proof(vec![], &helm), "");
        assert_eq!(proof(vec![pod("True", "2026-11-27T08:00:00Z"), pod("False", "2026-11-27T07:59:59Z")], &helm), "");
        assert!(
            proof(vec![pod("True", "2026-11-27T07:59:59Z")], &helm).contains("pod todo-backend-1 is ready and older")
        );
        let others = status(&[(1, "deployed"), (0, "failed")]);
        assert!(proof(vec![], &others).contains("Helm has revision 0 (failed)"));
        let record = json!({"kind": "ConfigMap", "metadata": {"name": "todo-xtask"},
                            "data": {"record.json": record(3).to_string()}});
        assert!(proof(vec![record], &helm).contains("revision 3 was verified"));
    }
}
