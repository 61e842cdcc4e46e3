//! A container that runs attached: it ends with the client that started it, and the client with xtask.

use std::io::{BufRead, BufReader, PipeWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    is_ending: Arc<AtomicBool>,
}

impl Service {
    /// Runs `process`; each line that it prints, and its end, is an event of `part`. `running` counts it until its container is
    /// removed, so for ever if the client is killed.
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
        let (events, is_ending) = (events.clone(), Arc::new(AtomicBool::new(false)));
        let wanted = is_ending.clone();
        let thread = std::thread::spawn(move || {
            let mut reader = BufReader::new(piped.reader());
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                let _ = events.send(Event::Line(part, text));
                line.clear();
            }
            let error = piped.finish().err();
            if !error.as_ref().is_some_and(|error| error.to_string().contains("(signal: 9")) {
                running.fetch_sub(1, Ordering::SeqCst);
            }
            if !wanted.load(Ordering::SeqCst) {
                let _ = events.send(Event::Ended(part, error));
            }
        });
        Ok(Self { input: Some(input), thread, is_ending })
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
        self.is_ending.store(true, Ordering::SeqCst);
        drop(self.input);
        let _ = self.thread.join();
    }
}
