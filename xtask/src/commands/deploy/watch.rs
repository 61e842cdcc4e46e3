//! `deploy --watch`: deploys, and again whenever a file changes that a deploy is made from.

pub(crate) mod wake;

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

use super::Deploy;
use crate::dotenv;
use crate::process;
use crate::project::Project;
use crate::stages::images::context::{self, Files};
use crate::stages::images::recipe::{changed_files, in_brief};
use crate::supply::Stale;
use wake::{Blindness, Wake};

/// What a deploy reads besides images' contexts and the chart.
const DOTENV: &str = ".env";
const INFRA: &str = "infra";

/// How a deploy of the watch ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is through.
    Through,
    /// A newer save has stopped it before it changed the application.
    Stopped,
}

/// Deploys until the user interrupts. A first deploy that fails ends it with its error; a later one is told, and the next
/// change tried: the release serves what was verified last meanwhile.
pub fn run(project: &Project, args: &Deploy) -> Result<()> {
    let report = &project.report;
    // Read before the deploy: what changes while it runs is a change.
    let mut before = sources(project)?;
    let mut wake = Wake::new(project);
    wake.watch(&before);
    let mut end = deploy(project, args, &before, &mut wake)?;
    while end == End::Stopped {
        before = sources(project)?;
        end = deploy(&project.reopen()?, args, &before, &mut wake)?;
    }
    // The first deploy may have made it.
    if let Some(made) = sources(project)?.remove(DOTENV) {
        before.entry(DOTENV.to_owned()).or_insert(made);
    }
    let args = Deploy { in_brief: true, ..args.clone() };
    loop {
        report.note("watching for changes; press Ctrl-C to stop");
        let (now, changed) = next(project, &before, &mut wake);
        report.begin_anew();
        report.heading(&format!("\n{changed}"));
        let result = project.reopen().and_then(|project| deploy(&project, &args, &now, &mut wake));
        if process::ending() {
            return Ok(());
        }
        match result {
            // What is there now differs from what was deployed before, whether or not it is what was just stopped.
            Ok(End::Stopped) => continue,
            Ok(End::Through) => {}
            Err(error) => report.error(&error),
        }
        before = now;
    }
}

/// Deploys what was saved as `now`. While images are built, a newer save stops it.
fn deploy(project: &Project, args: &Deploy, now: &Files, wake: &mut Wake) -> Result<End> {
    let is_over = &AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        scope.spawn(move || {
            let wake = wake;
            while !is_over.load(Ordering::Relaxed) && !project.stale.load(Ordering::Relaxed) {
                if wake.is_told() && sources(project).is_ok_and(|newer| is_newer(newer, now)) {
                    project.stale.store(true, Ordering::Relaxed);
                }
            }
        });
        let result = super::once(project, args);
        is_over.store(true, Ordering::Relaxed);
        result
    });
    match result {
        Err(error) if error.is::<Stale>() => {
            project.report.note("stopped this deploy: a newer save replaces it; the application was not changed");
            Ok(End::Stopped)
        }
        result => result.map(|()| End::Through),
    }
}

/// Whether `now` has changes of the user's. `.env` may have been made by the deploy itself.
fn is_newer(mut now: Files, before: &Files) -> bool {
    now.retain(|path, _| path != DOTENV || before.contains_key(DOTENV));
    in_brief(changed_files(&now, before)).is_some()
}

/// Waits for a change that has come to rest: editors and checkouts write in several steps. What cannot be read for a
/// moment is looked at again.
fn next(project: &Project, before: &Files, wake: &mut Wake) -> (Files, String) {
    let (mut last, mut rested) = (None, false);
    let mut blindness = Blindness::default();
    loop {
        let found = sources(project);
        blindness.look(found.as_ref().err(), &project.report);
        match found {
            Ok(now) => match in_brief(changed_files(&now, before)) {
                // After a rest in which nothing was reported, and nothing while they were read, they need no second look.
                Some(changed) if last.as_ref() == Some(&now) || (rested && wake.is_quiet(&now)) => {
                    return (now, changed);
                }
                Some(_) => {
                    wake.wait_for_rest();
                    (last, rested) = (Some(now), true);
                }
                None => {
                    rested = wake.wait_for_change(&now);
                    last = None;
                }
            },
            Err(_) => wake.wait_for_rest(),
        }
    }
}

/// A digest of every file that a deploy is made from, by its path in the checkout.
fn sources(project: &Project) -> Result<Files> {
    let mut files = Files::new();
    let mut add = |folder: &str, found: Files| {
        files.extend(found.into_iter().map(|(path, what)| (format!("{folder}/{path}"), what)));
    };
    for image in project.settings.images.values() {
        add(image.context.as_str(), context::read(&project.root.join(&image.context))?);
    }
    for folder in [INFRA, project.settings.chart.path.as_str()] {
        add(folder, context::tree(&project.root.join(folder))?);
    }
    // A pipe is read once, so nothing changes in it.
    let dotenv = if dotenv::is_pipe(&project.dotenv) { None } else { context::entry(&project.dotenv)? };
    files.extend(dotenv.map(|what| (DOTENV.to_owned(), what)));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter().map(|(path, what)| ((*path).to_owned(), (*what).to_owned())).collect()
    }

    fn told(now: &Files, before: &Files) -> Option<String> {
        in_brief(changed_files(now, before))
    }

    #[test]
    fn what_a_deploy_makes_itself_is_no_newer_save() {
        let before = files(&[("apps/a.py", "file 1")]);
        assert!(!is_newer(files(&[("apps/a.py", "file 1"), (DOTENV, "file 1")]), &before));
        assert!(is_newer(files(&[("apps/a.py", "file 2"), (DOTENV, "file 1")]), &before));
        let before = files(&[("apps/a.py", "file 1"), (DOTENV, "file 1")]);
        assert!(is_newer(files(&[("apps/a.py", "file 1"), (DOTENV, "file 2")]), &before));
        assert!(is_newer(files(&[("apps/a.py", "file 1")]), &before));
    }

    #[test]
    fn a_change_is_told_by_its_first_file() {
        let before = files(&[("apps/a.py", "file 1"), ("infra/x", "file 1"), (".env", "file 1")]);
        assert_eq!(told(&before, &before), None);
        let now = files(&[("apps/a.py", "file 2"), ("infra/x", "file 1"), (".env", "file 1")]);
        assert_eq!(told(&now, &before).as_deref(), Some("apps/a.py changed"));
        let now =
            files(&[("apps/a.py", "file 2"), ("apps/new", "folder"), ("apps/new/b", "file 1"), ("infra/x", "file 1")]);
        assert_eq!(told(&now, &before).as_deref(), Some("apps/a.py changed (+2 more)"));
    }
}
