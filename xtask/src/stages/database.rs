//! The database preflight: before anything is released, the built backend image itself looks at DATABASE_URL, in the
//! engine on this machine and in a pod, with the very libraries that will use it. Only where `.env` names a database,
//! and only when its Secret or the image's migrations have changed: the embedded one is migrated by its own pods.

mod finding;
mod job;

use std::sync::{Arc, Mutex};

use anyhow::Result;
use serde_json::Value;

use crate::deadlines;
use crate::failure::Failure;
use crate::plan::Step;
use crate::process::Process;
use crate::project::Project;
use crate::secrets::{Redactor, Secret};
use crate::snapshot::text;
use crate::stages::images::recipe;
use crate::stages::release::{self, Desired, ObservedRelease, SecretPlan};
use crate::toolbox::Toolbox;

pub use finding::{PreflightResult, Vantage};

/// What looks at the database, in the backend's image.
const COMMAND: [&str; 3] = ["python3", "-m", "app.preflight"];
/// A preflight that is due.
pub struct Preflight<'a> {
    project: &'a Project,
    tools: &'a Toolbox,
    reason: &'static str,
    image: String,
    secret: String,
    url: Secret,
    redactor: Redactor,
    /// What was found from here, for the message about the pod.
    here: Arc<Mutex<Option<PreflightResult>>>,
}

/// The preflight, if one is due: a remote database whose Secret, or whose migrations, are not those verified last.
pub fn due<'a>(
    project: &'a Project,
    tools: &'a Toolbox,
    desired: &Desired,
    secrets: &SecretPlan,
    observed: &ObservedRelease,
) -> Option<Preflight<'a>> {
    let url = secrets.database.clone()?;
    let part = "Secret of backend";
    let verified = |part: &str| observed.record.as_ref()?.fingerprint.get(part);
    let backend: &Value = &desired.values["backend"];
    let (name, tag) = (text(backend, "/image/repository"), text(backend, "/image/tag"));
    let reason = if verified(part) != desired.fingerprint.get(part) || !secrets.missing(&observed.secrets).is_empty() {
        "DATABASE_URL is new or changed"
    } else if has_other_migrations(project, name, verified(&format!("image {name}"))?, tag) {
        "the migrations have changed"
    } else {
        return None;
    };
    Some(Preflight {
        project,
        tools,
        reason,
        image: format!("{name}:{tag}"),
        secret: secrets.names.get("backend").cloned()?,
        url,
        redactor: secrets.redactor.clone(),
        here: Arc::default(),
    })
}

/// Whether the image `name` has other migrations at the tag `now` than at `before`, as far as this checkout knows.
fn has_other_migrations(project: &Project, name: &str, before: &str, now: &str) -> bool {
    let recipe = |tag| recipe::of_tag(project, name, tag);
    before != now
        && match (recipe(before), recipe(now)) {
            (Some(before), Some(now)) => now.differences(&before).iter().any(|file| file.contains("/migrations/")),
            _ => true,
        }
}

impl<'a> Preflight<'a> {
    /// Returns the looks from this machine and from a pod.
    pub fn steps(&self) -> [Step<'a>; 2] {
        [self.look_from_here(), self.look_from_pod()]
    }

    /// The look from this machine, before the cluster is touched. A refusal that would be the same anywhere ends the
    /// deploy; that nothing is reached from here does not, for the name may be one of the cluster's own.
    fn look_from_here(&self) -> Step<'a> {
        let look = on_this_machine(self.tools, &self.image, &self.url);
        let shown = format!("{look} < (DATABASE_URL)");
        let (project, redactor, here) = (self.project, self.redactor.clone(), self.here.clone());
        Step::new("look at the database from here", self.reason, shown, move |running| {
            running.progress("a database that sleeps is given 20 s");
            let finding = match read(&look, &redactor) {
                Ok(finding) => finding,
                Err(error) => {
                    // An engine that cannot run it says nothing about the database.
                    project.report.warn(format!("no look from here: {error:#}"));
                    return Ok("not known".to_owned());
                }
            };
            let said = finding.to_string();
            if !finding.ok && !finding.passing() {
                return Err(finding.failure(Vantage::Here, None).into());
            }
            if !finding.ok {
                project.report.warn(format!("from here: {said}"));
            }
            if let Ok(mut here) = here.lock() {
                *here = Some(finding);
            }
            Ok(said)
        })
    }

    /// The look from a pod, with the Secret mounted as the backend will have it. It decides.
    fn look_from_pod(&self) -> Step<'a> {
        let namespace = self.project.settings.chart.namespace.clone();
        let release = self.project.settings.chart.release.clone();
        let job = job::Job::new(self.tools, &release, &self.image, &self.secret);
        let shown = format!("{} < (Job {}: {})", job.shown(), job.name, COMMAND.join(" "));
        let (project, tools) = (self.project, self.tools);
        let (redactor, here) = (self.redactor.clone(), self.here.clone());
        Step::new("look at the database from a pod", format!("as the backend in {namespace}"), shown, move |running| {
            let output = match job.run(running)? {
                job::JobOutcome::Said(output) => output,
                job::JobOutcome::NotRun(why) => {
                    // Not the database's fault; what keeps this pod from running is judged by the rollout.
                    project.report.warn(format!("no pod could look at the database: {why}"));
                    return Ok("not known".to_owned());
                }
            };
            let finding = PreflightResult::parse(&output, &redactor)?;
            if finding.ok {
                return Ok(finding.to_string());
            }
            // The Secret was made for a release that will not be; nothing else names it.
            if let Err(error) = release::remove_unused(tools) {
                project.report.warn(format!("old Secrets could not be removed: {error:#}"));
            }
            let here = here.lock().ok().and_then(|here| here.clone());
            let failure: Failure = finding.failure(Vantage::Pod, here.as_ref());
            Err(failure.into())
        })
    }
}

/// The look in a container of the engine, on the machine's own network. The URL goes through standard input: neither
/// arguments nor environment of a container are private.
pub fn on_this_machine(tools: &Toolbox, image: &str, url: &Secret) -> Process {
    tools
        .engine
        .docker()
        .args(["run", "--rm", "--interactive", "--network=host", "--pull=never", "--read-only", "--cap-drop=ALL"])
        .args(["--security-opt=no-new-privileges", "--label=app.kubernetes.io/part-of=todo", image])
        .args(COMMAND)
        .arg("--stdin")
        .stdin(url.expose())
        .deadline(deadlines::PREFLIGHT)
}

/// Runs `look` and reads what it found, which is the same whether or not the database can be used.
pub fn read(look: &Process, redactor: &Redactor) -> Result<PreflightResult> {
    let output = look.output()?;
    PreflightResult::parse(&String::from_utf8_lossy(&output.stdout), redactor).map_err(|error| {
        let said = redactor.redact(&String::from_utf8_lossy(&output.stderr));
        error.context(format!("`{look}` did not say what it found ({}): {}", output.status, said.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::images::recipe::Recipe;

    #[test]
    fn migrations_are_looked_at_again_when_they_have_changed() {
        let dir = tempfile::tempdir().unwrap();
        let root = camino::Utf8Path::from_path(dir.path()).unwrap().to_owned();
        let opened = Project::open(None, Default::default(), crate::report::Report::new(false)).unwrap();
        let project = Project { root, ..opened };
        let remember = |files: &[(&str, &str)]| {
            let files = files.iter().map(|(name, what)| (name.to_string(), what.to_string())).collect();
            let recipe = Recipe::new(files, Default::default(), Default::default());
            recipe::remember(&project, "todo-backend", &recipe).unwrap();
            recipe.tag()
        };
        let migration = "app/migrations/versions/0004_mine.py";
        let (before, code) = (remember(&[("app/main.py", "1")]), remember(&[("app/main.py", "2")]));
        let migrated = remember(&[("app/main.py", "1"), (migration, "1")]);
        let changed = |now: &str| has_other_migrations(&project, "todo-backend", &before, now);
        assert!(!changed(&before) && !changed(&code) && changed(&migrated) && changed("built-elsewhere"));
    }
}
