//! Wakes `deploy --watch` and `dev` as soon as the system reports a change in their folders. They find the changes by
//! reading the files. So an extra report costs one reading, and a lost report only delays.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::deadlines;
use crate::failure;
use crate::report::Report;
use crate::stages::images::context::{FOLDER, Files};

/// The warning comes after this many failures in a row.
const WARN_AFTER: u32 = 5;

/// Waits for changes in the folders of the sources.
pub struct SourceWatcher {
    root: Utf8PathBuf,
    /// `None`: the system cannot report changes, so callers read the sources at intervals.
    handle: Option<RecommendedWatcher>,
    reports: Receiver<()>,
    folders: BTreeSet<Utf8PathBuf>,
    report: Report,
}

impl SourceWatcher {
    /// Creates a watcher that does not watch any folder yet.
    pub fn new(root: &Utf8Path, report: &Report) -> Self {
        let (send, reports) = channel();
        let handle = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the sources is no change. After an error they may have changed.
            if event.is_ok_and(|event| event.kind.is_access()) {
                return;
            }
            let _ = send.send(());
        });
        let mut watcher =
            Self { root: root.to_owned(), handle: None, reports, folders: BTreeSet::new(), report: report.clone() };
        match handle {
            Ok(handle) => watcher.handle = Some(handle),
            Err(error) => watcher.fall_back(&error),
        }
        watcher
    }

    /// Waits until the system reports a change since `now` was read, at most [`deadlines::SOURCES_LOOK`], and then until no
    /// more changes come. Returns whether it reported a change, which may be one of a file that does not count.
    pub fn wait_for_change(&mut self, now: &Files) -> bool {
        // A new folder may have changed before it was watched, so do not wait.
        let is_reported = self.watch(now) == 0
            && (self.handle.is_none() || self.reports.recv_timeout(deadlines::SOURCES_LOOK.time()).is_ok());
        if is_reported {
            self.wait_until_quiet();
        }
        is_reported
    }

    /// Returns whether the system has reported nothing since the last wait. `now` was read since then; returns `false` if
    /// it has a folder that was not watched yet.
    pub fn is_quiet(&mut self, now: &Files) -> bool {
        self.watch(now) == 0 && self.handle.is_some() && self.reports.try_recv().is_err()
    }

    /// Waits a moment for a change, and then until no more changes come. Returns whether the caller should read the sources.
    pub fn wait_briefly_for_change(&self) -> bool {
        let is_reported = self.handle.is_none() || self.reports.recv_timeout(deadlines::SOURCES_REST.time()).is_ok();
        if is_reported {
            self.wait_until_quiet();
        }
        is_reported
    }

    /// Waits until the system has reported no change for a moment, at most [`deadlines::SOURCES_LOOK`].
    pub fn wait_until_quiet(&self) {
        if self.handle.is_none() {
            return std::thread::sleep(deadlines::SOURCES_POLL.time());
        }
        let begun = Instant::now();
        let reported = || self.reports.recv_timeout(deadlines::SOURCES_REST.time()).is_ok();
        while reported() && begun.elapsed() < deadlines::SOURCES_LOOK.time() {}
    }

    /// Watches the folders of `files`. Each is watched without its subfolders, because those that `.dockerignore` excludes
    /// may change all the time. Returns the number of newly watched folders.
    pub fn watch(&mut self, files: &Files) -> usize {
        let inside = files.iter().filter(|(_, what)| *what == FOLDER).map(|(path, _)| self.root.join(path));
        let around = files.keys().filter_map(|path| self.root.join(path).parent().map(Utf8PathBuf::from));
        let folders: BTreeSet<Utf8PathBuf> = inside.chain(around).collect();
        // The system drops the watch of a deleted folder; a folder of the same name may come back.
        self.folders.retain(|folder| folders.contains(folder));
        let new: Vec<Utf8PathBuf> = folders.difference(&self.folders).cloned().collect();
        for folder in &new {
            let Some(handle) = &mut self.handle else { break };
            match handle.watch(folder.as_std_path(), RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.folders.insert(folder.clone())),
                // Deleted since the sources were read.
                Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
                Err(error) => self.fall_back(&error),
            }
        }
        if self.handle.is_some() { new.len() } else { 0 }
    }

    fn fall_back(&mut self, error: &notify::Error) {
        self.handle = None;
        let often = deadlines::SOURCES_POLL.time().as_millis();
        self.report.note(format!("cannot watch the files ({error}): xtask reads them every {often} ms instead"));
    }
}

/// Consecutive failures to read the sources, with the same error. A single one is usually an editor that replaces a file.
#[derive(Default)]
pub struct ReadFailures {
    words: String,
    count: u32,
}

impl ReadFailures {
    /// Records the result of one reading. Warns once if the same error persists.
    pub fn record(&mut self, error: Option<&anyhow::Error>, report: &Report) {
        if let Some(words) = self.count_failure(error) {
            report.warn(format!("cannot read the sources: {words}"));
        }
    }

    fn count_failure(&mut self, error: Option<&anyhow::Error>) -> Option<&str> {
        let words = error.map(failure::message).unwrap_or_default();
        self.count = if words.is_empty() || words != self.words { 1 } else { self.count.saturating_add(1) };
        self.words = words;
        (self.count == WARN_AFTER && !self.words.is_empty()).then_some(self.words.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_each_save_once() {
        let temp = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(temp.path().canonicalize().unwrap()).unwrap();
        let mut watcher = SourceWatcher::new(&root, &Report::new(false));
        let files = Files::from([("a".to_owned(), "file 1".to_owned())]);
        assert!(!watcher.is_quiet(&files), "a folder that was not watched may have changed");
        assert!(watcher.is_quiet(&files));
        std::fs::write(root.join("a"), "2").unwrap();
        let start = Instant::now();
        while !watcher.wait_briefly_for_change() {
            assert!(start.elapsed() < deadlines::HANG, "no report of a change");
        }
        // A busy machine may report the end of the same save later.
        while !watcher.is_quiet(&files) || watcher.wait_briefly_for_change() {
            assert!(start.elapsed() < deadlines::HANG, "the report of a change does not end");
        }
        std::fs::write(root.join("a"), "3").unwrap();
        let start = Instant::now();
        while watcher.is_quiet(&files) {
            assert!(start.elapsed() < deadlines::HANG, "no report of a second change");
        }
    }

    #[test]
    fn warns_once_of_a_persistent_error() {
        let error = anyhow::anyhow!("permission denied");
        let mut failures = ReadFailures::default();
        let count = |failures: &mut ReadFailures, looks: u32| {
            (0..looks).filter(|_| failures.count_failure(Some(&error)).is_some()).count()
        };
        assert_eq!(count(&mut failures, WARN_AFTER - 1), 0);
        assert!(failures.count_failure(None).is_none());
        assert_eq!(count(&mut failures, WARN_AFTER - 1), 0);
        assert_eq!(count(&mut failures, 20), 1);
        assert!((0..20).all(|_| failures.count_failure(None).is_none()));
    }
}
