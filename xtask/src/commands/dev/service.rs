//! A container that runs attached: it ends with the client that started it, and the client with xtask.

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

/// Tells a container from others of the same part: its end may be reported when the next one runs already.
pub type Number = usize;

/// The number of the next container.
static NEXT: AtomicUsize = AtomicUsize::new(0);

impl Service {
    /// Runs `process`; each line that it prints, and its end, is an event of `part`. `running` counts it until its container
    /// is known to be removed.
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
            if !error.as_ref().is_some_and(leaves_open) {
                running.fetch_sub(1, Ordering::SeqCst);
            }
            let _ = events.send(Event::Ended(part, number, error));
        });
        Ok(Self { input: Some(input), thread, number })
    }

    /// Returns whether this is the container with the `number` of an event.
    pub fn is(&self, number: Number) -> bool {
        self.number == number
    }

    /// Sends a message to the supervisor. If it has ended, its event says so.
    pub fn send(&mut self, message: &Value) {
        if let Some(input) = &mut self.input {
            let _ = input.write_all(format!("{message}\n").as_bytes());
        }
    }

    /// Sends all that there is to read.
    pub fn send_all(&mut self, bytes: &[u8]) {
        if let Some(mut input) = self.input.take() {
            let _ = input.write_all(bytes);
        }
    }

    /// Ends the container and waits until it is removed.
    pub fn end(self) {
        drop(self.input);
        let _ = self.thread.join();
    }
}

/// Whether a client's end leaves open what has become of its container: a signal ended the client, or docker itself failed
/// (125), as where the engine has gone. Otherwise a client ends once its container is removed.
fn leaves_open(error: &anyhow::Error) -> bool {
    let words = error.to_string();
    words.contains("(signal: ") || words.contains("exit status: 125")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_container_whose_client_did_not_see_it_go_still_counts() {
        let left = |script: &str| {
            let (send, count) = (channel().0, Arc::default());
            Service::start("x", &Process::new("sh").args(["-c", script]), &send, &count).unwrap().end();
            count.load(Ordering::SeqCst)
        };
        let scripts = ["true", "exit 137", "exit 125", "kill -TERM $$", "kill -KILL $$"];
        assert_eq!(scripts.map(left), [0, 0, 1, 1, 1]);
    }

    #[test]
    fn an_end_is_that_of_one_container_and_not_of_its_successor() {
        let (send, events) = channel();
        let count = Arc::default();
        let start =
            |script: &str| Service::start("x", &Process::new("sh").args(["-c", script]), &send, &count).unwrap();
        let killed = start("exit 137");
        let number = killed.number;
        killed.end();
        let next = start("cat");
        let Event::Ended("x", ended, Some(_)) = events.recv().unwrap() else { panic!("another event") };
        assert!(ended == number && !next.is(ended));
        next.end();
        let Event::Ended("x", ended, None) = events.recv().unwrap() else { panic!("another event") };
        assert!(ended != number);
    }
}
