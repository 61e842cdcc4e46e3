//! `deploy --watch`: deploys, and deploys again whenever the user saves a file that affects the deployment.

pub(crate) mod watcher;

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

use super::Deploy;
use crate::dotenv::{self, DotenvSource};
use crate::process;
use crate::project::Project;
use crate::report::Report;
use crate::settings::Settings;
use crate::stages::images::context::{self, Files};
use crate::stages::images::recipe::{changed_files, in_brief};
use crate::supply::Stale;
use watcher::{ReadFailures, SourceWatcher};

/// Sources of a deploy besides the images' build contexts and the chart.
const DOTENV: &str = ".env";
const INFRA: &str = "infra";

/// The end of a deploy that did not fail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DeployEnd {
    /// All stages ran.
    Completed,
    /// A newer save stopped it before it changed the application.
    Superseded,
}

/// Deploys after each change, until the user interrupts. Fails if the first deploy fails. Reports the error of a later
/// deploy and waits for the next change: meanwhile, the last verified revision serves.
pub fn run(project: &Project, args: &Deploy) -> Result<()> {
    let report = &project.report;
    // Read before the deploy, so that a save during the deploy counts as a change.
    let mut before = read_sources(&project.settings, &project.dotenv)?;
    let mut watcher = SourceWatcher::new(&project.root, report);
    watcher.watch(&before);
    let mut end = deploy(project, args, &before, &mut watcher)?;
    while end == DeployEnd::Superseded {
        before = read_sources(&project.settings, &project.dotenv)?;
        end = deploy(&project.reopen()?, args, &before, &mut watcher)?;
    }
    // The first deploy may have created `.env`.
    if let Some(made) = read_sources(&project.settings, &project.dotenv)?.remove(DOTENV) {
        before.entry(DOTENV.to_owned()).or_insert(made);
    }
    let args = Deploy { in_brief: true, ..args.clone() };
    loop {
        report.note("watching for changes; press Ctrl-C to stop");
        let (now, changed) = wait_for_change(&project.settings, &project.dotenv, report, &before, &mut watcher);
        report.begin_anew();
        report.heading(&format!("\n{changed}"));
        let result = project.reopen().and_then(|project| deploy(&project, &args, &now, &mut watcher));
        if process::ending() {
            return Ok(());
        }
        match result {
            // `before` stays: the new sources differ from the last deployed ones.
            Ok(DeployEnd::Superseded) => continue,
            Ok(DeployEnd::Completed) => {}
            Err(error) => report.error(&error),
        }
        before = now;
    }
}

/// Deploys the sources `now`. A newer save stops it while images are built.
fn deploy(project: &Project, args: &Deploy, now: &Files, watcher: &mut SourceWatcher) -> Result<DeployEnd> {
    let is_over = &AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        scope.spawn(move || {
            let watcher = watcher;
            while !is_over.load(Ordering::Relaxed) && !project.stale.load(Ordering::Relaxed) {
                if watcher.wait_briefly_for_change()
                    && read_sources(&project.settings, &project.dotenv).is_ok_and(|newer| is_newer(newer, now))
                {
                    project.stale.store(true, Ordering::Relaxed);
                }
            }
        });
        let result = super::deploy_once(project, args);
        is_over.store(true, Ordering::Relaxed);
        result
    });
    match result {
        Err(error) if error.is::<Stale>() => {
            project.report.note("stopped this deploy: a newer save replaces it; the application was not changed");
            Ok(DeployEnd::Superseded)
        }
        result => result.map(|()| DeployEnd::Completed),
    }
}

/// Returns whether the user changed anything since `before`. A new `.env` does not count: the deploy itself creates it.
fn is_newer(mut now: Files, before: &Files) -> bool {
    now.retain(|path, _| path != DOTENV || before.contains_key(DOTENV));
    in_brief(changed_files(&now, before)).is_some()
}

/// Waits for a change, until no more changes come: editors and checkouts write in several steps. Retries failed reads.
/// Returns the new sources, and the changes in brief.
fn wait_for_change(
    settings: &Settings,
    dotenv: &DotenvSource,
    report: &Report,
    before: &Files,
    watcher: &mut SourceWatcher,
) -> (Files, String) {
    let (mut last, mut is_settled) = (None, false);
    let mut failures = ReadFailures::default();
    loop {
        let found = read_sources(settings, dotenv);
        failures.record(found.as_ref().err(), report);
        match found {
            Ok(now) => match in_brief(changed_files(&now, before)) {
                // Return once two readings agree, or if no change came before and while the sources were read.
                Some(changed) if last.as_ref() == Some(&now) || (is_settled && watcher.is_quiet(&now)) => {
                    return (now, changed);
                }
                Some(_) => {
                    watcher.wait_until_quiet();
                    (last, is_settled) = (Some(now), true);
                }
                None => {
                    is_settled = watcher.wait_for_change(&now);
                    last = None;
                }
            },
            Err(_) => watcher.wait_until_quiet(),
        }
    }
}

/// Returns a digest of every source file of a deploy, by its path in the checkout.
fn read_sources(settings: &Settings, dotenv: &DotenvSource) -> Result<Files> {
    let root = &dotenv.root;
    let mut files = Files::new();
    let mut add = |folder: &str, found: Files| {
        files.extend(found.into_iter().map(|(path, what)| (format!("{folder}/{path}"), what)));
    };
    for image in settings.images.values() {
        add(image.context.as_str(), context::read(&root.join(&image.context))?);
    }
    for folder in [INFRA, settings.chart.path.as_str()] {
        add(folder, context::tree(&root.join(folder))?);
    }
    // A pipe can be read only once, so it is not watched.
    let made = if dotenv::is_pipe(&dotenv.path) { None } else { context::entry(&dotenv.path)? };
    files.extend(made.map(|what| (DOTENV.to_owned(), what)));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter().map(|(path, what)| ((*path).to_owned(), (*what).to_owned())).collect()
    }

    fn describe(now: &Files, before: &Files) -> Option<String> {
        in_brief(changed_files(now, before))
    }

    #[test]
    fn a_dotenv_created_by_the_deploy_is_no_newer_save() {
        let before = files(&[("apps/a.py", "file 1")]);
        assert!(!is_newer(files(&[("apps/a.py", "file 1"), (DOTENV, "file 1")]), &before));
        assert!(is_newer(files(&[("apps/a.py", "file 2"), (DOTENV, "file 1")]), &before));
        let before = files(&[("apps/a.py", "file 1"), (DOTENV, "file 1")]);
        assert!(is_newer(files(&[("apps/a.py", "file 1"), (DOTENV, "file 2")]), &before));
        assert!(is_newer(files(&[("apps/a.py", "file 1")]), &before));
    }

    #[test]
    fn describes_a_change_by_its_first_file() {
        let before = files(&[("apps/a.py", "file 1"), ("infra/x", "file 1"), (".env", "file 1")]);
        assert_eq!(describe(&before, &before), None);
        let now = files(&[("apps/a.py", "file 2"), ("infra/x", "file 1"), (".env", "file 1")]);
        assert_eq!(describe(&now, &before).as_deref(), Some("apps/a.py changed"));
        let now =
            files(&[("apps/a.py", "file 2"), ("apps/new", "folder"), ("apps/new/b", "file 1"), ("infra/x", "file 1")]);
        assert_eq!(describe(&now, &before).as_deref(), Some("apps/a.py changed (+2 more)"));
    }
}
