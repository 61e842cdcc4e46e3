//! The events of a run, step by step. Progress lines, `--json`, `--timings` and `target/xtask/events.jsonl` all come
//! from these events, so they cannot contradict each other.

mod document;
mod timings;

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Result;
use camino::Utf8Path;
use serde::Serialize;
use serde_json::Value;

use crate::clock;
use crate::failure::name_profile;
use crate::private;
use crate::secrets::Redactor;

pub use document::document;
pub use timings::write as write_timings;

/// The result of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepOutcome {
    /// It has not ended.
    Running,
    /// It did what it says.
    Ran,
    /// It was not needed; `why` has the reason.
    Skipped,
    /// It failed; the run's error has the reason.
    Failed,
    /// It would run without `--dry-run`.
    Planned,
    /// A look that changes nothing.
    Looked,
}

/// One step or one observation of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// 1, 2, … in the order of beginnings.
    pub id: usize,
    /// `machine`, `tools`, `cluster`, `images`, `release`, `proof` …
    pub stage: &'static str,
    /// The action, e.g. `load todo-backend:0123`.
    pub what: String,
    /// The reason for which it is needed, or is not.
    pub why: String,
    /// The command as a user would type it; empty where there is no single one.
    pub command: String,
    /// Its result.
    pub outcome: StepOutcome,
    /// Milliseconds from the beginning of the run.
    pub start_ms: u64,
    /// Milliseconds from the beginning of the run; of a skipped or planned step the same as its start.
    pub end_ms: u64,
    /// The result in a few words, e.g. `sent 86 kB of 107 MB`.
    pub result: String,
}

impl Event {
    /// Returns how long it took.
    pub fn took(&self) -> Duration {
        Duration::from_millis(self.end_ms.saturating_sub(self.start_ms))
    }
}

/// The recorder of one run's events. Every text passes the redactor first, so no secret gets in.
pub struct Recorder {
    origin: Instant,
    /// Seconds since 1970 when the run began.
    pub started: u64,
    events: Vec<Event>,
    redactor: Redactor,
    /// The value of `--profile`.
    profile: Option<String>,
    file: Option<File>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            started: clock::now(),
            events: Vec::new(),
            redactor: Redactor::default(),
            profile: None,
            file: None,
        }
    }
}

impl Recorder {
    /// Starts another run of the same command line; the secrets stay known.
    pub fn begin_anew(&mut self) {
        let (redactor, profile) = (std::mem::take(&mut self.redactor), self.profile.take());
        *self = Self { redactor, profile, ..Self::default() };
    }

    /// Sets the profile that shown commands name from now on.
    pub fn name_profile(&mut self, profile: Option<String>) {
        self.profile = profile;
    }

    /// Removes these secrets from all past and future records, besides those known before.
    pub fn hide(&mut self, redactor: Redactor) {
        self.redactor.extend(redactor);
        let redactor = &self.redactor;
        for event in &mut self.events {
            for text in [&mut event.what, &mut event.why, &mut event.command, &mut event.result] {
                *text = redactor.redact(text);
            }
        }
    }

    /// Returns `text` without secrets, and with the profile in commands.
    pub fn shown(&self, text: &str) -> String {
        let text = self.redactor.redact(text);
        self.profile.as_ref().map_or(text.clone(), |profile| name_profile(&text, profile))
    }

    /// Does the same for each text in a JSON value.
    pub fn shown_json(&self, value: Value) -> Value {
        let Some(profile) = &self.profile else { return self.redactor.redact_json(value) };
        with_profile(self.redactor.redact_json(value), profile)
    }

    /// Replaces the file `path`, and from now on appends each ended event as a line of JSON. So a killed run leaves its
    /// events as well.
    pub fn keep_in(&mut self, path: &Utf8Path) -> Result<()> {
        private::create_dir(path.parent().unwrap_or(Utf8Path::new(".")))?;
        self.file = Some(private::create(path)?);
        let ended = self.events.iter().filter(|event| event.outcome != StepOutcome::Running);
        let ended: Vec<usize> = ended.map(|event| event.id).collect();
        ended.into_iter().for_each(|id| self.write(id));
        Ok(())
    }

    /// Returns the milliseconds since the run began.
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Records a start and returns the number for [`Recorder::end`].
    pub fn begin(&mut self, stage: &'static str, what: &str, why: &str, command: &str) -> usize {
        self.add(stage, what, why, command, StepOutcome::Running)
    }

    /// Records an event that takes no time: skipped or planned.
    pub fn note(&mut self, stage: &'static str, what: &str, why: &str, command: &str, outcome: StepOutcome) {
        let id = self.add(stage, what, why, command, outcome);
        self.write(id);
    }

    /// Records the end of an event.
    pub fn end(&mut self, id: usize, outcome: StepOutcome, result: &str) {
        let (now, result) = (self.elapsed_ms(), self.redactor.redact(result));
        if let Some(event) = self.events.get_mut(id.wrapping_sub(1)) {
            event.outcome = outcome;
            event.end_ms = now;
            event.result = result;
            self.write(id);
        }
    }

    /// Returns all events; those that still run end at the present time.
    pub fn events(&self) -> Vec<Event> {
        let now = self.elapsed_ms();
        let mut events = self.events.clone();
        for event in events.iter_mut().filter(|event| event.outcome == StepOutcome::Running) {
            event.end_ms = now;
        }
        events
    }

    fn add(&mut self, stage: &'static str, what: &str, why: &str, command: &str, outcome: StepOutcome) -> usize {
        let (id, now) = (self.events.len() + 1, self.elapsed_ms());
        let [what, why, command] = [what, why, command].map(|text| self.redactor.redact(text));
        let event = Event { id, stage, what, why, command, outcome, start_ms: now, end_ms: now, result: String::new() };
        self.events.push(event);
        id
    }

    fn write(&mut self, id: usize) {
        if let (Some(file), Some(event)) = (&mut self.file, self.events.get(id.wrapping_sub(1))) {
            // A full disk must not end a deploy, because the events only describe it.
            let _ = serde_json::to_string(event).map(|line| writeln!(file, "{line}"));
        }
    }
}

fn with_profile(value: Value, profile: &str) -> Value {
    match value {
        Value::String(text) => name_profile(&text, profile).into(),
        Value::Array(items) => items.into_iter().map(|item| with_profile(item, profile)).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, field)| (name, with_profile(field, profile))).collect(),
        other => other,
    }
}

/// Returns the stages in the order of their beginnings, each with the time in which at least one of its steps ran: steps that
/// ran side by side count once. A step around others (`make` around its artifacts) adds nothing either.
pub fn stages(events: &[Event]) -> Vec<(&'static str, Duration)> {
    let mut stages: Vec<(&'static str, Vec<(u64, u64)>)> = Vec::new();
    for event in events.iter().filter(|event| event.end_ms > event.start_ms && event.outcome != StepOutcome::Looked) {
        match stages.iter_mut().find(|(stage, _)| *stage == event.stage) {
            Some((_, spans)) => spans.push((event.start_ms, event.end_ms)),
            None => stages.push((event.stage, vec![(event.start_ms, event.end_ms)])),
        }
    }
    stages.into_iter().map(|(stage, spans)| (stage, Duration::from_millis(union(spans)))).collect()
}

fn union(mut spans: Vec<(u64, u64)>) -> u64 {
    spans.sort_unstable();
    let mut covered = 0;
    let mut end = 0;
    for (from, to) in spans {
        covered += to.saturating_sub(from.max(end));
        end = end.max(to);
    }
    covered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Secret;

    fn event(stage: &'static str, start_ms: u64, end_ms: u64) -> Event {
        let text = String::new;
        let (what, why, command, result) = (text(), text(), text(), text());
        Event { id: 1, stage, what, why, command, outcome: StepOutcome::Ran, start_ms, end_ms, result }
    }

    #[test]
    fn steps_that_ran_side_by_side_count_once() {
        let events =
            [event("tools", 0, 100), event("images", 100, 300), event("images", 150, 400), event("images", 900, 901)];
        let sums = stages(&events).into_iter().map(|(stage, took)| (stage, took.as_millis())).collect::<Vec<_>>();
        assert_eq!(sums, [("tools", 100), ("images", 301)]);
    }

    #[test]
    fn no_secret_stays_in_an_event_whenever_it_became_known() {
        let canary = Secret::new("not-a-secret-canary");
        let mut recorder = Recorder::default();
        let early = recorder.begin("release", "apply not-a-secret-canary", "why", "echo not-a-secret-canary");
        recorder.hide(Redactor::new([&canary]));
        recorder.end(early, StepOutcome::Ran, "said not-a-secret-canary");
        recorder.note("release", "x", "not-a-secret-canary", "", StepOutcome::Skipped);
        let text = serde_json::to_string(&recorder.events()).unwrap();
        assert!(!text.contains("canary") && text.contains("apply ***"), "{text}");
    }

    #[test]
    fn the_file_has_ended_events_and_the_list_has_running_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = camino::Utf8PathBuf::from_path_buf(dir.path().join("x/events.jsonl")).unwrap();
        let mut recorder = Recorder::default();
        recorder.note("machine", "make .env", "there is none", "", StepOutcome::Skipped);
        recorder.keep_in(&path).unwrap();
        let first = recorder.begin("images", "build a", "a changed", "docker build");
        recorder.begin("images", "build b", "b changed", "docker build");
        recorder.end(first, StepOutcome::Failed, "");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains(r#""outcome":"failed""#), "{text}");
        assert_eq!(recorder.events()[2].outcome, StepOutcome::Running);
    }
}
