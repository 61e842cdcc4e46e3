//! The database preflight: before a release, the built backend image checks DATABASE_URL with the libraries that will use it,
//! in the engine on this machine and in a pod. It runs only if `.env` names a database, and its Secret or the image's
//! migrations have changed.

mod job;
mod result;

use std::sync::{Arc, Mutex};

use anyhow::Result;
use camino::Utf8Path;
use serde_json::Value;

use crate::deadlines;
use crate::failure::Failure;
use crate::plan::Step;
use crate::process::Process;
use crate::secrets::{Redactor, Secret};
use crate::settings::{Application, Settings};
use crate::snapshot::text;
use crate::stages::images::recipe;
use crate::stages::release::{self, Desired, ObservedRelease, SecretPlan};
use crate::toolbox::Toolbox;

pub use result::{PreflightResult, Vantage};

/// A preflight that is due.
pub struct Preflight<'a> {
    settings: &'a Settings,
    tools: &'a Toolbox,
    reason: String,
    image: String,
    secret: String,
    url: Secret,
    redactor: Redactor,
    /// The result from this machine, for the message about the pod.
    here: Arc<Mutex<Option<PreflightResult>>>,
}

/// Returns the preflight if `.env` names a database, and its Secret or the migrations differ from those verified last; see
/// [`has_new_migrations`].
pub fn decide<'a>(
    settings: &'a Settings,
    tools: &'a Toolbox,
    desired: &Desired,
    secrets: &SecretPlan,
    observed: &ObservedRelease,
    has_new_migrations: bool,
) -> Option<Preflight<'a>> {
    let url = secrets.database.clone()?;
    let component = &settings.components.backend;
    let part = format!("Secret of {component}");
    let verified = observed.record.as_ref().and_then(|record| record.fingerprint.get(&part));
    let (name, tag) = backend_image(settings, desired);
    let reason = if verified != desired.fingerprint.get(&part) || !secrets.missing(&observed.secrets).is_empty() {
        format!("{} is new or changed", settings.keys.postgres_url)
    } else if has_new_migrations {
        "the migrations have changed".to_owned()
    } else {
        return None;
    };
    Some(Preflight {
        settings,
        tools,
        reason,
        image: format!("{name}:{tag}"),
        secret: secrets.names.get(component).cloned()?,
        url,
        redactor: secrets.redactor.clone(),
        here: Arc::default(),
    })
}

/// Returns whether the desired backend has other migrations than the one verified last, from what this checkout knows of
/// both; its output is in `target`.
pub fn has_new_migrations(
    settings: &Settings,
    target: &Utf8Path,
    desired: &Desired,
    observed: &ObservedRelease,
) -> bool {
    let (name, tag) = backend_image(settings, desired);
    let verified = observed.record.as_ref().and_then(|record| record.fingerprint.get(&format!("image {name}")));
    verified.is_some_and(|before| has_other_migrations(&settings.application.migrations, target, name, before, tag))
}

/// Returns repository and tag of the desired backend.
fn backend_image<'a>(settings: &Settings, desired: &'a Desired) -> (&'a str, &'a str) {
    let backend: &Value = &desired.values[&settings.components.backend];
    (text(backend, "/image/repository"), text(backend, "/image/tag"))
}

/// Returns whether the image `name` has other migrations, files of `folder`, at the tag `now` than at `before`; `true` if their
/// recipes are unknown.
fn has_other_migrations(folder: &str, target: &Utf8Path, name: &str, before: &str, now: &str) -> bool {
    let recipe = |tag| recipe::of_tag(target, name, tag);
    before != now
        && match (recipe(before), recipe(now)) {
            (Some(before), Some(now)) => now.differences(&before).iter().any(|file| file.contains(folder)),
            _ => true,
        }
}

impl<'a> Preflight<'a> {
    /// Returns the steps that check from this machine and from a pod.
    pub fn steps(&self) -> [Step<'a>; 2] {
        [self.look_from_here(), self.look_from_pod()]
    }

    /// Returns the step that checks from this machine, before the cluster changes. A failure that is the same everywhere ends
    /// the deploy. An unreachable database does not: the cluster may resolve its name.
    fn look_from_here(&self) -> Step<'a> {
        let preflight = on_this_machine(&self.settings.application, self.tools, &self.image, &self.url);
        let shown = format!("{preflight} < ({})", self.settings.keys.postgres_url);
        let (url_key, report) = (&self.settings.keys.postgres_url, &self.tools.report);
        let (redactor, here) = (self.redactor.clone(), self.here.clone());
        Step::new("look at the database from here", self.reason.clone(), shown, move |running| {
            running.progress("a suspended database gets 20 s to wake up");
            let result = match read(&preflight, &redactor) {
                Ok(result) => result,
                Err(error) => {
                    // The engine failed to run it, which is no failure of the database.
                    report.warn_because("the database was not checked from this machine", &error);
                    return Ok("not known".to_owned());
                }
            };
            let shown = result.to_string();
            if !result.ok && !result.is_transient() {
                return Err(result.failure(url_key, Vantage::Here, None).into());
            }
            if !result.ok {
                report.warn(format!("from here: {shown}"));
            }
            if let Ok(mut here) = here.lock() {
                *here = Some(result);
            }
            Ok(shown)
        })
    }

    /// Returns the step that checks from a pod, with the Secret mounted as for the backend. A failure ends the deploy.
    fn look_from_pod(&self) -> Step<'a> {
        let namespace = self.tools.namespace();
        let job = job::Job::new(&self.settings.application, self.tools, &self.image, &self.secret);
        let shown =
            format!("{} < (Job {}: {})", job.shown_request(), job.name, self.settings.application.preflight.join(" "));
        let (url_key, tools) = (&self.settings.keys.postgres_url, self.tools);
        let (redactor, here) = (self.redactor.clone(), self.here.clone());
        Step::new("look at the database from a pod", format!("as the backend in {namespace}"), shown, move |running| {
            let output = match job.run(running)? {
                job::JobOutcome::Output(output) => output,
                job::JobOutcome::NotRun(why) => {
                    // This is no failure of the database; the rollout finds its cause.
                    tools.report.warn(format!("the database was not checked from a pod: {why}"));
                    return Ok("not known".to_owned());
                }
            };
            let result = PreflightResult::parse(&output, &redactor)?;
            if result.ok {
                return Ok(result.to_string());
            }
            // No release will use the Secret.
            if let Err(error) = release::remove_unused(tools) {
                tools.report.warn_because("unused Secrets could not be removed", &error);
            }
            let here = here.lock().ok().and_then(|here| here.clone());
            let failure: Failure = result.failure(url_key, Vantage::Pod, here.as_ref());
            Err(failure.into())
        })
    }
}

/// Returns the preflight in a container of the engine, on the machine's network. It reads the URL from standard input, because
/// arguments and environment of a container are not private.
pub fn on_this_machine(application: &Application, tools: &Toolbox, image: &str, url: &Secret) -> Process {
    tools
        .engine
        .docker()
        .args(["run", "--rm", "--interactive", "--network=host", "--pull=never", "--read-only", "--cap-drop=ALL"])
        .args(["--security-opt=no-new-privileges", &format!("--label={}", tools.release().part_of()), image])
        .args(application.preflight.clone())
        .arg("--stdin")
        .stdin(url.expose())
        .deadline(deadlines::PREFLIGHT)
}

/// Runs `preflight` and returns its result, also if the database cannot be used.
pub fn read(preflight: &Process, redactor: &Redactor) -> Result<PreflightResult> {
    let output = preflight.output()?;
    PreflightResult::parse(&String::from_utf8_lossy(&output.stdout), redactor).map_err(|error| {
        let stderr = redactor.redact(&String::from_utf8_lossy(&output.stderr));
        error.context(format!("`{preflight}` printed no result ({}): {}", output.status, stderr.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::images::recipe::Recipe;

    #[test]
    fn the_preflight_is_due_when_migrations_have_changed() {
        let dir = tempfile::tempdir().unwrap();
        let target = Utf8Path::from_path(dir.path()).unwrap();
        let remember = |files: &[(&str, &str)]| {
            let files = files.iter().map(|(name, what)| (name.to_string(), what.to_string())).collect();
            let recipe = Recipe::new(files, Default::default(), Default::default());
            recipe::remember(target, "todo-backend", &recipe).unwrap();
            recipe.tag()
        };
        let migration = "app/migrations/versions/0004_mine.py";
        let (before, code) = (remember(&[("app/main.py", "1")]), remember(&[("app/main.py", "2")]));
        let migrated = remember(&[("app/main.py", "1"), (migration, "1")]);
        let changed = |now: &str| has_other_migrations("app/migrations/versions", target, "todo-backend", &before, now);
        assert!(!changed(&before) && !changed(&code) && changed(&migrated) && changed("built-elsewhere"));
    }
}
