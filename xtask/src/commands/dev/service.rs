//! A container that runs attached: it ends with its docker client, and the client ends with xtask.

use std::io::{BufRead, BufReader, PipeWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use anyhow::Result;
use serde_json::Value;

use super::Event;
use crate::process::Process;

/// A running container.
pub struct Service {
    input: Option<PipeWriter>,
    thread: JoinHandle<()>,
    number: Number,
}

/// The number of a container. It matters because the end of one may be reported when its successor already runs.
pub type Number = usize;

/// The number of the next container.
static NEXT: AtomicUsize = AtomicUsize::new(0);

impl Service {
    /// Starts `process`. Sends each of its lines and its end as an event of `part`. `running` counts it until the removal of
    /// its container is confirmed.
    pub fn start(
        part: &'static str,
        process: &Process,
        events: &Sender<Event>,
        running: &Arc<AtomicUsize>,
    ) -> Result<Self> {
        let (read, input) = std::io::pipe()?;
        let piped = process.pipe_from(Some(read))?;
        running.fetch_add(1, Ordering::SeqCst);
        let running = running.clone();
        let (events, number) = (events.clone(), NEXT.fetch_add(1, Ordering::SeqCst));
        let thread = std::thread::spawn(move || {
            let mut reader = BufReader::new(piped.reader());
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                let _ = events.send(Event::Line(part, text));
                line.clear();
            }
            let error = piped.finish().err();
            if !error.as_ref().is_some_and(may_leave_container) {
                running.fetch_sub(1, Ordering::SeqCst);
            }
            let _ = events.send(Event::Ended(part, number, error));
        });
        Ok(Self { input: Some(input), thread, number })
    }

    /// Returns whether this container has the `number` of an event.
    pub fn has_number(&self, number: Number) -> bool {
        self.number == number
    }

    /// Sends a message to the supervisor. Ignores errors: an ended container sends its own event.
    pub fn send(&mut self, message: &Value) {
        if let Some(input) = &mut self.input {
            let _ = input.write_all(format!("{message}\n").as_bytes());
        }
    }

    /// Sends `bytes` and closes standard input.
    pub fn send_all(&mut self, bytes: &[u8]) {
        if let Some(mut input) = self.input.take() {
            let _ = input.write_all(bytes);
        }
    }

    /// Stops the container and waits until it is removed.
    pub fn end(self) {
        drop(self.input);
        let _ = self.thread.join();
    }
}

/// Returns whether the container may still exist after its client ended: a signal killed the client, or docker itself
/// failed (125), for example without an engine. Otherwise a client ends after the removal of its container.
fn may_leave_container(error: &anyhow::Error) -> bool {
    let words = error.to_string();
    words.contains("(signal: ") || words.contains("exit status: 125")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn counts_a_container_until_its_removal_is_confirmed() {
        let left = |script: &str| {
            let (send, count) = (channel().0, Arc::default());
            Service::start("x", &Process::new("sh").args(["-c", script]), &send, &count).unwrap().end();
            count.load(Ordering::SeqCst)
        };
        let scripts = ["true", "exit 137", "exit 125", "kill -TERM $$", "kill -KILL $$"];
        assert_eq!(scripts.map(left), [0, 0, 1, 1, 1]);
    }

    #[test]
    fn reports_the_end_of_a_container_under_its_own_number() {
        let (send, events) = channel();
        let count = Arc::default();
        let start =
            |script: &str| Service::start("x", &Process::new("sh").args(["-c", script]), &send, &count).unwrap();
        let killed = start("exit 137");
        let number = killed.number;
        killed.end();
        let next = start("cat");
        let Event::Ended("x", ended, Some(_)) = events.recv().unwrap() else { panic!("another event") };
        assert!(ended == number && !next.has_number(ended));
        next.end();
        let Event::Ended("x", ended, None) = events.recv().unwrap() else { panic!("another event") };
        assert!(ended != number);
    }
}
