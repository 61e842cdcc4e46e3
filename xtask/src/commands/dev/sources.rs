//! The saved sources, and the messages that send them to the containers.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::mpsc::Sender;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use camino::Utf8Path;
use serde_json::{Map, Value, json};

use super::testing::BROWSER;
use super::{APPS, App, Event, image};
use crate::commands::deploy::watch::watcher::{ReadFailures, SourceWatcher};
use crate::deadlines;
use crate::dotenv::{DotenvSource, SecretsSource};
use crate::report::Report;
use crate::settings::Settings;
use crate::stages::images::context::{self, FOLDER, Files};
use crate::stages::images::recipe::{changed_files, in_brief};

/// The folder of an application's tests.
const TESTS: &str = "tests";

/// The files that `dev` sends besides the applications.
#[derive(Clone, Copy, PartialEq)]
pub enum ExtraSources {
    /// Nothing.
    Nothing,
    /// The scripted assistant.
    Assistant,
    /// The applications' tests.
    Tests,
    /// The browser's tests.
    BrowserTests,
}

/// A part of the sources that is delivered separately.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// The files of an application.
    App(App),
    /// The secrets in `.env`.
    Secrets,
}

/// A snapshot of everything that `dev` serves.
#[derive(Clone, Default, PartialEq)]
pub struct Sources {
    /// Each application's files, by their paths in it.
    pub apps: BTreeMap<App, Files>,
    /// The digest of `.env`; `None` if the file does not exist, or if the secrets come from a pipe or another source.
    dotenv: Option<String>,
}

impl Sources {
    /// Reads all sources of the checkout that `dotenv` names.
    pub fn read(settings: &Settings, dotenv: &DotenvSource, extra: ExtraSources) -> Result<Self> {
        let mut apps = BTreeMap::new();
        for app in APPS {
            let folder = app.folder(settings, &dotenv.root);
            let mut files = image::files(&folder)?;
            let tests = match extra {
                ExtraSources::Tests => Some((TESTS, context::tree(&folder.join(TESTS))?)),
                // They have a Dockerfile and a .dockerignore of their own.
                ExtraSources::BrowserTests if app == App::Frontend => {
                    Some((BROWSER, context::read(&folder.join(BROWSER))?))
                }
                _ => None,
            };
            if let Some((folder, tests)) = tests {
                files.extend(tests.into_iter().map(|(path, what)| (format!("{folder}/{path}"), what)));
            } else if extra == ExtraSources::Assistant && app == App::Backend {
                let file = &settings.dev.assistant.file;
                let what = context::entry(&folder.join(file))?;
                files.extend(what.map(|what| (file.clone(), what)));
            }
            apps.insert(app, files);
        }
        let is_watched = dotenv.from == SecretsSource::File && !dotenv.is_pipe();
        Ok(Self { apps, dotenv: if is_watched { context::entry(&dotenv.path)? } else { None } })
    }

    /// Returns all files by their paths in the checkout.
    fn paths(&self, settings: &Settings) -> Files {
        let apps = self.apps.iter().flat_map(|(app, files)| {
            let context = &app.image(settings).1.context;
            files.iter().map(move |(path, what)| (context.join(path).into_string(), what.clone()))
        });
        apps.chain(self.dotenv.iter().map(|what| (".env".to_owned(), what.clone()))).collect()
    }

    /// Returns the files of `app`, whose folder is `folder`, as a tar.
    pub fn pack(&self, folder: &Utf8Path, app: App) -> Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, _) in self.apps[&app].iter().filter(|(_, what)| *what != FOLDER) {
            let file = folder.join(path);
            match tar.append_path_with_name(&file, path) {
                // Deleted meanwhile; the next reading notices it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                result => result.with_context(|| format!("reading {file}"))?,
            }
        }
        Ok(tar.into_inner()?)
    }

    /// Calls `deliver` for each part that differs in `now`, and updates the delivered parts. Returns the errors of the other
    /// parts; the next save delivers them again.
    pub fn advance(&mut self, now: &Self, mut deliver: impl FnMut(&Self, Part) -> Result<()>) -> Vec<anyhow::Error> {
        let mut errors = Vec::new();
        let mut apps: Vec<_> = now.apps.iter().collect();
        // Builds come last: a build may fail at each save, and other parts must not wait for it.
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

    /// Describes the changes in `app` in a few words.
    pub fn difference(&self, before: &Self, app: App) -> Option<String> {
        in_brief(changed_files(&self.apps[&app], before.apps.get(&app).unwrap_or(&Files::new())))
    }

    /// Returns whether the image of `app` must be rebuilt.
    pub fn has_other_image(&self, before: &Self, app: App) -> bool {
        image::parts(&self.apps[&app]) != image::parts(&before.apps[&app])
    }

    /// Returns the message that updates the container of `app`, whose folder is `folder`, from `before`; `None` if its files are
    /// the same.
    pub fn message(&self, folder: &Utf8Path, before: Option<&Self>, app: App) -> Result<Option<Value>> {
        let none = Files::new();
        let (now, old) = (&self.apps[&app], before.map_or(&none, |before| &before.apps[&app]));
        let is_sent = |path: &str, what: &str| !image::is_part(path) && what != FOLDER;
        let mut put = Map::new();
        for (path, _) in now.iter().filter(|(path, what)| old.get(*path) != Some(*what) && is_sent(path, what)) {
            let file = folder.join(path);
            match std::fs::read(&file) {
                Ok(content) => drop(put.insert(path.clone(), STANDARD.encode(content).into())),
                // Deleted meanwhile; the next reading notices it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("reading {file}")),
            }
        }
        // Also contains files that a folder replaced.
        let stays = |path: &String| now.get(path).is_some_and(|what| is_sent(path, what));
        let gone = old.iter().filter(|(path, what)| is_sent(path, what) && !stays(path));
        let gone: Vec<&String> = gone.map(|(path, _)| path).collect();
        Ok((!put.is_empty() || !gone.is_empty()).then(|| json!({"put": put, "gone": gone})))
    }
}

/// Sends an event for each change of the sources since `before`, until nobody receives them.
pub fn watch(
    settings: &Settings,
    dotenv: &DotenvSource,
    report: &Report,
    mut before: Sources,
    extra: ExtraSources,
    events: &Sender<Event>,
) {
    let mut watcher = SourceWatcher::new(&dotenv.root, report);
    let mut failures = ReadFailures::default();
    loop {
        let now = Sources::read(settings, dotenv, extra);
        failures.record(now.as_ref().err(), report);
        match now {
            Ok(now) if now != before => {
                if events.send(Event::Saved(now.clone())).is_err() {
                    return;
                }
                before = now;
            }
            Ok(now) => drop(watcher.wait_for_change(&now.paths(settings))),
            // Usually an editor that replaces a file.
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
    fn delivers_a_failed_part_with_the_next_save() {
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
    fn delivers_parts_without_a_build_first() {
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
