//! Somebody who uses the application while something else goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::bed::Bed;

/// Time between two requests of each path.
const PAUSE: Duration = Duration::from_millis(20);

/// Requests one path of each application after the other, until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    users: Vec<JoinHandle<Answers>>,
}

#[derive(Default)]
struct Answers {
    good: u64,
    bad: Vec<String>,
}

impl Load {
    /// Begins.
    pub fn start(bed: &Bed) -> Result<Self> {
        Ok(Self::at(&bed.address()?))
    }

    /// Begins at an address.
    pub fn at(address: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let paths = [("/api/v1/health", "todo-backend/"), ("/", "todo-frontend/")];
        let users = paths.map(|(path, server)| {
            let (stop, url) = (stop.clone(), format!("{address}{path}"));
            std::thread::spawn(move || user(&url, server, &stop))
        });
        Self { stop, users: users.into() }
    }

    /// Ends; gives the number of answers. An error if a single request failed.
    pub fn stop(self) -> Result<u64> {
        let good = self.end()?;
        ensure!(good > 20, "only {good} requests were made");
        Ok(good)
    }

    /// The same after a time that may have been short.
    pub fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Answers::default();
        for user in self.users {
            let answers = user.join().map_err(|_| anyhow::anyhow!("a user panicked"))?;
            all.good += answers.good;
            all.bad.extend(answers.bad);
        }
        ensure!(
            all.bad.is_empty(),
            "{} of {} requests failed: {:?}",
            all.bad.len(),
            all.good,
            &all.bad[..all.bad.len().min(5)]
        );
        Ok(all.good)
    }
}

fn user(url: &str, server: &str, stop: &AtomicBool) -> Answers {
    let agent = xtask::stages::proof::agent();
    let mut answers = Answers::default();
    while !stop.load(Ordering::Relaxed) {
        match agent.get(url).call() {
            Ok(mut response) => {
                let served = response.headers().get("x-served-by").and_then(|v| v.to_str().ok()).unwrap_or_default();
                if response.status().is_success() && served.starts_with(server) {
                    answers.good += 1;
                } else {
                    answers.bad.push(format!("{url}: {} from `{served}`", response.status()));
                }
                let _ = response.body_mut().read_to_vec();
            }
            Err(error) => answers.bad.push(format!("{url}: {error}")),
        }
        std::thread::sleep(PAUSE);
    }
    answers
}
