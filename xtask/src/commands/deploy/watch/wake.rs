//! When `deploy --watch` and `dev` look at the sources: as soon as the system reports a change in one of their folders.
//! What has changed is always read from the files, so a report too many costs one look, and a lost one waits for the next.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use camino::Utf8PathBuf;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::deadlines;
use crate::project::Project;
use crate::report::Report;
use crate::stages::images::context::{FOLDER, Files};

/// After so many failed looks in a row it is said that the sources cannot be read.
const UNREADABLE: u32 = 5;

/// Waits for changes in the folders of the sources.
pub struct Wake {
    root: Utf8PathBuf,
    /// `None`: the system reports nothing, so the sources are looked at from time to time.
    watcher: Option<RecommendedWatcher>,
    reports: Receiver<()>,
    folders: BTreeSet<Utf8PathBuf>,
    report: Report,
}

impl Wake {
    /// Watches nothing yet.
    pub fn new(project: &Project) -> Self {
        Self::within(project.root.clone(), project.report.clone())
    }

    fn within(root: Utf8PathBuf, report: Report) -> Self {
        let (send, reports) = channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the sources is no change; an error is a reason to look.
            if event.is_ok_and(|event| event.kind.is_access()) {
                return;
            }
            let _ = send.send(());
        });
        let mut wake = Self { root, watcher: None, reports, folders: BTreeSet::new(), report };
        match watcher {
            Ok(watcher) => wake.watcher = Some(watcher),
            Err(error) => wake.fall_back(&error),
        }
        wake
    }

    /// Waits until something may have changed since `now` was read, at most [`deadlines::SOURCES_LOOK`], and then for rest:
    /// a file that does not count may change all the time. Returns whether a change was reported and has come to rest.
    pub fn wait_for_change(&mut self, now: &Files) -> bool {
        // Something may have changed in a new folder before it was watched.
        let told = self.watch(now) == 0
            && (self.watcher.is_none() || self.reports.recv_timeout(deadlines::SOURCES_LOOK.time()).is_ok());
        if told {
            self.wait_for_rest();
        }
        told
    }

    /// Whether nothing has been reported since the last wait. `now` is what was read since then; with a folder that was
    /// not watched yet the answer is no.
    pub fn is_quiet(&mut self, now: &Files) -> bool {
        self.watch(now) == 0 && self.watcher.is_some() && self.reports.try_recv().is_err()
    }

    /// Waits a moment for a change to be reported, and then for rest. Returns whether the sources are worth a look.
    pub fn is_told(&self) -> bool {
        let told = self.watcher.is_none() || self.reports.recv_timeout(deadlines::SOURCES_REST.time()).is_ok();
        if told {
            self.wait_for_rest();
        }
        told
    }

    /// Waits until no change has been reported for a moment, at most [`deadlines::SOURCES_LOOK`].
    pub fn wait_for_rest(&self) {
        if self.watcher.is_none() {
            return std::thread::sleep(deadlines::SOURCES_POLL.time());
        }
        let begun = Instant::now();
        let reported = || self.reports.recv_timeout(deadlines::SOURCES_REST.time()).is_ok();
        while reported() && begun.elapsed() < deadlines::SOURCES_LOOK.time() {}
    }

    /// Watches the folders of `files`, each by itself: what `.dockerignore` leaves out may change all the time. Returns how
    /// many are new.
    pub fn watch(&mut self, files: &Files) -> usize {
        let inside = files.iter().filter(|(_, what)| *what == FOLDER).map(|(path, _)| self.root.join(path));
        let around = files.keys().filter_map(|path| self.root.join(path).parent().map(Utf8PathBuf::from));
        let folders: BTreeSet<Utf8PathBuf> = inside.chain(around).collect();
        // A folder that is gone took its watch with it; one of that name may come back.
        self.folders.retain(|folder| folders.contains(folder));
        let new: Vec<Utf8PathBuf> = folders.difference(&self.folders).cloned().collect();
        for folder in &new {
            let Some(watcher) = &mut self.watcher else { break };
            match watcher.watch(folder.as_std_path(), RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.folders.insert(folder.clone())),
                // Gone since it was read.
                Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
                Err(error) => self.fall_back(&error),
            }
        }
        if self.watcher.is_some() { new.len() } else { 0 }
    }

    fn fall_back(&mut self, error: &notify::Error) {
        self.watcher = None;
        let often = deadlines::SOURCES_POLL.time().as_millis();
        self.report.note(format!("cannot watch the files ({error}): xtask reads them every {often} ms instead"));
    }
}

/// The looks in a row that have failed in the same way. One is mostly over at the next look: editors replace files.
#[derive(Default)]
pub struct Blindness {
    words: String,
    looks: u32,
}

impl Blindness {
    /// Takes the `error` of a look, and warns once of one that goes on.
    pub fn look(&mut self, error: Option<&anyhow::Error>, report: &Report) {
        if let Some(words) = self.told(error) {
            report.warn(format!("cannot read the sources: {words}"));
        }
    }

    fn told(&mut self, error: Option<&anyhow::Error>) -> Option<&str> {
        let words = error.map_or(String::new(), |error| format!("{error:#}"));
        self.looks = if words.is_empty() || words != self.words { 1 } else { self.looks.saturating_add(1) };
        self.words = words;
        (self.looks == UNREADABLE && !self.words.is_empty()).then_some(self.words.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_save_is_told_once_and_another_one_ends_the_quiet() {
        let temp = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(temp.path().canonicalize().unwrap()).unwrap();
        let mut wake = Wake::within(root.clone(), Report::new(false));
        let files = Files::from([("a".to_owned(), "file 1".to_owned())]);
        assert!(!wake.is_quiet(&files), "of a folder that was not watched nobody can say");
        assert!(wake.is_quiet(&files));
        std::fs::write(root.join("a"), "2").unwrap();
        assert!(wake.is_told(), "no report of a change");
        assert!(wake.is_quiet(&files) && !wake.is_told());
        std::fs::write(root.join("a"), "3").unwrap();
        let start = Instant::now();
        while wake.is_quiet(&files) {
            assert!(start.elapsed() < deadlines::SOURCES_LOOK.time(), "no report of a second change");
        }
    }

    #[test]
    fn looks_that_go_on_failing_are_told_once() {
        let error = anyhow::anyhow!("permission denied");
        let mut blindness = Blindness::default();
        let count = |blindness: &mut Blindness, looks: u32| {
            (0..looks).filter(|_| blindness.told(Some(&error)).is_some()).count()
        };
        assert_eq!(count(&mut blindness, UNREADABLE - 1), 0);
        assert!(blindness.told(None).is_none());
        assert_eq!(count(&mut blindness, UNREADABLE - 1), 0);
        assert_eq!(count(&mut blindness, 20), 1);
        assert!((0..20).all(|_| blindness.told(None).is_none()));
    }
}
