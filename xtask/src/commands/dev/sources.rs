//! What is saved, and what each container is sent of it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::mpsc::Sender;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::testing::BROWSER;
use super::{APPS, App, Event, image};
use crate::commands::deploy::watch::watcher::{ReadFailures, SourceWatcher};
use crate::deadlines;
use crate::dotenv::{self, Source};
use crate::project::Project;
use crate::stages::images::context::{self, FOLDER, Files};
use crate::stages::images::recipe::{changed_files, in_brief};

/// The file of the scripted assistant, which is one of the backend's tests.
const ASSISTANT: &str = "tests/openai_server.py";
/// The folder of an application's tests.
const TESTS: &str = "tests";

/// What `dev` serves besides the applications.
#[derive(Clone, Copy, PartialEq)]
pub enum More {
    /// Nothing.
    Nothing,
    /// The scripted assistant.
    Assistant,
    /// The applications' tests.
    Tests,
    /// The browser's tests.
    BrowserTests,
}

/// What is delivered by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// The files of an application.
    App(App),
    /// The secrets in `.env`.
    Secrets,
}

/// Everything that `dev` serves, as it was at one moment.
#[derive(Clone, Default, PartialEq)]
pub struct Sources {
    /// Each application's files, by their paths in it.
    pub apps: BTreeMap<App, Files>,
    /// The state of `.env`; `None`: there is none, or the secrets are read once, from a pipe or elsewhere.
    dotenv: Option<String>,
}

impl Sources {
    /// Reads everything.
    pub fn read(project: &Project, more: More) -> Result<Self> {
        let mut apps = BTreeMap::new();
        for app in APPS {
            let mut files = image::files(project, app)?;
            let folder = app.folder(project);
            let tests = match more {
                More::Tests => Some((TESTS, context::tree(&folder.join(TESTS))?)),
                // They have a Dockerfile and a .dockerignore of their own.
                More::BrowserTests if app == App::Frontend => Some((BROWSER, context::read(&folder.join(BROWSER))?)),
                _ => None,
            };
            if let Some((folder, tests)) = tests {
                files.extend(tests.into_iter().map(|(path, what)| (format!("{folder}/{path}"), what)));
            } else if more == More::Assistant && app == App::Backend {
                let what = context::entry(&app.folder(project).join(ASSISTANT))?;
                files.extend(what.map(|what| (ASSISTANT.to_owned(), what)));
            }
            apps.insert(app, files);
        }
        let is_watched = project.options.secrets_from == Source::File && !dotenv::is_pipe(&project.dotenv);
        Ok(Self { apps, dotenv: if is_watched { context::entry(&project.dotenv)? } else { None } })
    }

    /// All paths, in the checkout.
    fn paths(&self, project: &Project) -> Files {
        let apps = self.apps.iter().flat_map(|(app, files)| {
            let context = &project.settings.images[app.image()].context;
            files.iter().map(move |(path, what)| (context.join(path).into_string(), what.clone()))
        });
        apps.chain(self.dotenv.iter().map(|what| (".env".to_owned(), what.clone()))).collect()
    }

    /// The files of `app` as a tar.
    pub fn pack(&self, project: &Project, app: App) -> Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, _) in self.apps[&app].iter().filter(|(_, what)| *what != FOLDER) {
            let file = app.folder(project).join(path);
            match tar.append_path_with_name(&file, path) {
                // The next look finds it gone.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                result => result.with_context(|| format!("reading {file}"))?,
            }
        }
        Ok(tar.into_inner()?)
    }

    /// Calls `deliver` with each part that differs in `now`, and takes over what was delivered. Returns the errors of the
    /// others, which the next save delivers.
    pub fn advance(&mut self, now: &Self, mut deliver: impl FnMut(&Self, Part) -> Result<()>) -> Vec<anyhow::Error> {
        let mut errors = Vec::new();
        let mut apps: Vec<_> = now.apps.iter().collect();
        // Nothing waits for a build, which may fail again at each save.
        apps.sort_by_key(|(app, _)| self.apps.contains_key(app) && now.has_other_image(self, **app));
        for (app, files) in apps {
            if self.apps.get(app) != Some(files) {
                match deliver(self, Part::App(*app)) {
                    Ok(()) => drop(self.apps.insert(*app, files.clone())),
                    Err(error) => errors.push(error),
                }
            }
        }
        if self.dotenv != now.dotenv {
            match deliver(self, Part::Secrets) {
                Ok(()) => self.dotenv.clone_from(&now.dotenv),
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    /// What changed in `app`, in a few words.
    pub fn difference(&self, before: &Self, app: App) -> Option<String> {
        in_brief(changed_files(&self.apps[&app], before.apps.get(&app).unwrap_or(&Files::new())))
    }

    /// Whether the image of `app` has to be built again.
    pub fn has_other_image(&self, before: &Self, app: App) -> bool {
        image::parts(&self.apps[&app]) != image::parts(&before.apps[&app])
    }

    /// The message that brings the container of `app` from `before` to this; `None`: all that it has is as before.
    pub fn message(&self, project: &Project, before: Option<&Self>, app: App) -> Result<Option<Value>> {
        let none = Files::new();
        let (now, old) = (&self.apps[&app], before.map_or(&none, |before| &before.apps[&app]));
        let is_sent = |path: &str, what: &str| !image::is_part(path) && what != FOLDER;
        let mut put = Map::new();
        for (path, _) in now.iter().filter(|(path, what)| old.get(*path) != Some(*what) && is_sent(path, what)) {
            let file = app.folder(project).join(path);
            match std::fs::read(&file) {
                Ok(content) => drop(put.insert(path.clone(), STANDARD.encode(content).into())),
                // The next look finds it gone.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("reading {file}")),
            }
        }
        // Also what a folder has taken the place of.
        let stays = |path: &String| now.get(path).is_some_and(|what| is_sent(path, what));
        let gone = old.iter().filter(|(path, what)| is_sent(path, what) && !stays(path));
        let gone: Vec<&String> = gone.map(|(path, _)| path).collect();
        Ok((!put.is_empty() || !gone.is_empty()).then(|| json!({"put": put, "gone": gone})))
    }
}

/// Sends an event for each change of the sources since `before`, for ever.
pub fn watch(project: &Project, mut before: Sources, more: More, events: &Sender<Event>) {
    let mut watcher = SourceWatcher::new(project);
    let mut failures = ReadFailures::default();
    loop {
        let now = Sources::read(project, more);
        failures.record(now.as_ref().err(), &project.report);
        match now {
            Ok(now) if now != before => {
                if events.send(Event::Saved(now.clone())).is_err() {
                    return;
                }
                before = now;
            }
            Ok(now) => drop(watcher.wait_for_change(&now.paths(project))),
            // Editors replace files: mostly over at the next look.
            Err(_) => std::thread::sleep(deadlines::SOURCES_POLL.time()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    fn sources(backend: &str, frontend: &str, dotenv: &str) -> Sources {
        let files = |what: &str| Files::from([("a".to_owned(), format!("file {what}"))]);
        let apps = [(App::Backend, files(backend)), (App::Frontend, files(frontend))].into();
        Sources { apps, dotenv: Some(dotenv.to_owned()) }
    }

    #[test]
    fn what_was_not_delivered_comes_with_the_next_save_and_keeps_nothing_else_back() {
        let mut delivered = sources("1", "1", "1");
        let mut parts = Vec::new();
        let errors = delivered.advance(&sources("2", "2", "2"), |before, part| {
            assert!(before.apps[&App::Backend] == sources("1", "1", "1").apps[&App::Backend]);
            parts.push(part);
            if part == Part::App(App::Backend) { Err(anyhow!("no image")) } else { Ok(()) }
        });
        assert_eq!(errors.len(), 1);
        assert_eq!(parts, [Part::App(App::Backend), Part::App(App::Frontend), Part::Secrets]);
        assert!(delivered == sources("1", "2", "2"));
        parts.clear();
        let errors = delivered.advance(&sources("2", "3", "2"), |_, part| {
            parts.push(part);
            Ok(())
        });
        assert!(errors.is_empty() && delivered == sources("2", "3", "2"));
        assert_eq!(parts, [Part::App(App::Backend), Part::App(App::Frontend)]);
    }

    #[test]
    fn what_needs_no_build_is_delivered_first() {
        let mut now = sources("2", "2", "1");
        now.apps.get_mut(&App::Backend).unwrap().insert("requirements.txt".to_owned(), "file 1".to_owned());
        let mut parts = Vec::new();
        sources("1", "1", "1").advance(&now, |_, part| {
            parts.push(part);
            Ok(())
        });
        assert_eq!(parts, [Part::App(App::Frontend), Part::App(App::Backend)]);
    }
}
