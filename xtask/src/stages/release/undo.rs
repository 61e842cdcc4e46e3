//! Undoing: back to the revision that was verified last, or away with a first install that failed.

use anyhow::{Context, Result};

use super::record::Record;
use super::rollout::{self, Stopped};
use super::{Observed, helm, secrets};
use crate::api::{Propagation, kinds};
use crate::clock;
use crate::deadlines;
use crate::failure::Failure;
use crate::judge;
use crate::process;
use crate::project::Project;
use crate::report::Running;
use crate::secrets as manifests;
use crate::snapshot::{Snapshot, text};
use crate::toolbox::Toolbox;

/// What runs after a deploy has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// The revision that was verified last, with the time of that.
    Verified(u64, u64),
    /// The revision that Helm had deployed; xtask has never verified it.
    Deployed(u64),
    /// There was no release: the failed install is removed.
    Nothing,
    /// Nothing was applied, so nothing is undone.
    Stay,
    /// The cluster does not say whether anything was applied, in these words: nothing is undone on a guess.
    Unknown(String),
}

impl Fallback {
    /// What there is to go back to before anything is applied.
    pub fn of(observed: &Observed) -> Self {
        let kept = |number: &u64| observed.helm.revisions.iter().any(|revision| revision.number == *number);
        match (&observed.record, observed.helm.deployed()) {
            (Some(record), _) if kept(&record.revision) => Self::Verified(record.revision, record.verified_at),
            (_, Some(deployed)) => Self::Deployed(deployed),
            (_, None) => Self::Nothing,
        }
    }
}

/// Undoes a failed deploy. Gives `failure` with what was done and what runs now.
pub fn fall_back(project: &Project, tools: &Toolbox, fallback: &Fallback, failure: Failure) -> anyhow::Error {
    if process::ending() {
        return failure.into();
    }
    let report = &project.report;
    let done = match fallback {
        Fallback::Stay => Ok("nothing was applied by this run, so nothing is undone".to_owned()),
        Fallback::Unknown(words) => {
            Err(anyhow::anyhow!("the cluster does not say whether anything was applied: {words}"))
        }
        Fallback::Nothing => {
            let running =
                report.step("release", "remove the failed first install", "there is no revision to go back to");
            remove(project, tools).inspect(|_| running.done(""))
        }
        Fallback::Verified(revision, _) | Fallback::Deployed(revision) => {
            let why = if matches!(fallback, Fallback::Deployed(_)) { "deployed before" } else { "verified last" };
            let running = report.step("release", format!("roll back to revision {revision}"), why);
            back(project, tools, fallback, *revision, &running).inspect(|_| running.done(""))
        }
    };
    match done {
        Ok(done) => failure.append(format!("\n  {done}{}", runs(tools))).into(),
        Err(error) => failure
            .append(format!("\n  it could not be undone: {error:#}{}", runs(tools)))
            .help("cargo xtask deploy dev")
            .into(),
    }
}

fn back(project: &Project, tools: &Toolbox, fallback: &Fallback, revision: u64, running: &Running) -> Result<String> {
    let now = rollback_to(project, tools, revision, running)?;
    if let Fallback::Verified(_, at) = fallback {
        let ago = clock::age(clock::now().saturating_sub(*at));
        return Ok(format!("rolled back to revision {revision}, verified {ago} ago; it is revision {now} now"));
    }
    Ok(format!("rolled back to revision {revision}, which xtask has never verified; it is revision {now} now"))
}

/// Rolls the release back to `revision` and follows that until all replicas are ready. Gives the number under which Helm
/// has it now. What was verified of `revision` holds for that number too.
pub fn rollback_to(project: &Project, tools: &Toolbox, revision: u64, running: &Running) -> Result<u64> {
    let release = &project.settings.chart.release;
    let rollback = tools.helm().args(["rollback", release, &revision.to_string(), "--server-side=true"]);
    rollback.args(["--force-conflicts", "--history-max=10"]).log(project.log("helm")).run()?;
    if let Some(Stopped { what, findings, .. }) = rollout::follow(tools, running, deadlines::ROLLOUT_UNDO)? {
        let causes: Vec<String> = findings.iter().take(2).map(|f| format!("{}: {}", f.subject, f.cause)).collect();
        anyhow::bail!("of revision {revision}, {what} ({})", causes.join("; "));
    }
    let now = helm::observe(&secrets::observe(tools)?).deployed().context("Helm knows no deployed revision")?;
    let snapshot = Snapshot::take(tools)?;
    if let Some(record) = Record::read(&snapshot)?
        && record.revision == revision
        && record.drift(&snapshot).is_empty()
    {
        Record { revision: now, ..record }.store(tools)?;
    }
    Ok(now)
}

/// Removes a first install that failed. Volumes with data in them stay, and with them the password that opens them: the
/// data may be older than this install.
fn remove(project: &Project, tools: &Toolbox) -> Result<String> {
    let chart = &project.settings.chart;
    // The decision that nothing was installed is minutes old, and what follows cannot be taken back.
    let revisions = helm::observe(&secrets::observe(tools)?).revisions;
    if let Some(older) = revisions.iter().skip(1).find(|r| ["deployed", "superseded"].contains(&r.status.as_str())) {
        anyhow::bail!("Helm has revision {} ({}), so this was no first install", older.number, older.status);
    }
    let uninstall = tools.helm().args(["uninstall", &chart.release, "--ignore-not-found", "--cascade=foreground"]);
    uninstall.args(["--wait", "--timeout=120s"]).log(project.log("helm")).deadline(deadlines::HELM_UNINSTALL).run()?;
    let snapshot = Snapshot::take(tools)?;
    let (bound, pending): (Vec<_>, Vec<_>) =
        snapshot.kind("PersistentVolumeClaim").partition(|claim| text(claim, "/status/phase") == "Bound");
    // A claim that no volume was provided for holds nothing, but would keep its wrong class.
    let ours = pending.iter().filter(|claim| text(claim, "/metadata/labels/app.kubernetes.io~1part-of") == "todo");
    let names: Vec<&str> = ours.map(|claim| text(claim, "/metadata/name")).collect();
    if !names.is_empty() {
        let api = tools.api()?;
        for name in names {
            api.delete(&kinds::PERSISTENT_VOLUME_CLAIM, name, Propagation::Background)?;
        }
    }
    let existing = secrets::observe(tools)?;
    let password = manifests::postgres_name(chart);
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
    use crate::stages::release::helm::{Revision, Status};

    fn observed(record: Option<u64>, revisions: &[(u64, &str)]) -> Observed {
        let revision = |(number, status): &(u64, &str)| Revision {
            number: *number,
            status: (*status).to_owned(),
            created: String::new(),
        };
        let record = record.map(|revision| {
            let text = serde_json::json!({"fingerprint": {}, "revision": revision, "images": {}, "secrets": [],
                                          "objects": {}, "environment": "dev", "verified_at": 7});
            serde_json::from_value(text).unwrap()
        });
        let helm = Status { revisions: revisions.iter().map(revision).collect() };
        Observed { record, helm, ..Observed::default() }
    }

    #[test]
    fn there_is_something_to_go_back_to_or_not() {
        assert_eq!(Fallback::of(&observed(None, &[])), Fallback::Nothing);
        assert_eq!(Fallback::of(&observed(None, &[(1, "failed")])), Fallback::Nothing);
        assert_eq!(Fallback::of(&observed(None, &[(1, "deployed")])), Fallback::Deployed(1));
        let two = [(4, "deployed"), (3, "superseded")];
        assert_eq!(Fallback::of(&observed(Some(3), &two)), Fallback::Verified(3, 7));
        assert_eq!(Fallback::of(&observed(Some(1), &two)), Fallback::Deployed(4), "Helm has forgotten revision 1");
    }
}
