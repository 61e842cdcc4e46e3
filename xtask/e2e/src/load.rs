//! Continuous requests to the application during other actions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::test_cluster::TestCluster;
use super::{causes, interrupts};
use xtask::stages::proof::http;

/// Requests per second over all paths.
const RATE: f64 = 50.0;
/// Most requests in flight.
const USERS: usize = 16;
/// A path of each application, and the prefix of the pods that serve it.
const PATHS: [(&str, &str); 2] = [("/api/v1/health", "todo-backend/"), ("/", "todo-frontend/")];
/// Least number of requests of [`through_changes`].
const MANY: u64 = 10_000;
/// Request number at which a load ends.
const END: u64 = u64::MAX / 2;

/// Load that requests the paths in turn at a fixed rate, each over a new connection, until it is stopped.
pub struct Load {
    /// The number of the next request.
    next: Arc<AtomicU64>,
    users: Vec<JoinHandle<Answers>>,
}

#[derive(Default)]
struct Answers {
    good: u64,
    bad: Vec<String>,
}

impl Load {
    /// Starts a load on the test cluster.
    pub fn start(test_cluster: &TestCluster) -> Result<Self> {
        Ok(Self::at(&test_cluster.address()?))
    }

    /// Starts a load on an address.
    pub fn at(address: &str) -> Self {
        let (start, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let user = || {
            let (address, next) = (address.to_owned(), next.clone());
            std::thread::spawn(move || user(&address, start, &next))
        };
        Self { users: (0..USERS).map(|_| user()).collect(), next }
    }

    /// Returns the number of requests so far.
    fn count(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Stops the load. Returns the number of answers. Fails if any request failed, or if there were hardly any.
    pub fn stop(self) -> Result<u64> {
        let good = self.end()?;
        ensure!(good > 20, "only {good} requests were made");
        Ok(good)
    }

    /// Stops like [`Load::stop`], but accepts few requests.
    pub fn end(self) -> Result<u64> {
        self.next.store(END, Ordering::Relaxed);
        let mut all = Answers::default();
        for user in self.users {
            let answers = user.join().map_err(|_| anyhow::anyhow!("a user panicked"))?;
            all.good += answers.good;
            all.bad.extend(answers.bad);
        }
        let (bad, sum) = (all.bad.len(), all.good + all.bad.len() as u64);
        ensure!(bad == 0, "{bad} of {sum} requests failed: {:?}", &all.bad[..bad.min(5)]);
        Ok(all.good)
    }
}

fn user(address: &str, start: Instant, next: &AtomicU64) -> Answers {
    let mut answers = Answers::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= END {
            return answers;
        }
        let due = start + Duration::from_secs_f64(number as f64 / RATE);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let (path, server) = PATHS[number as usize % PATHS.len()];
        match http::get(address, "", path) {
            Ok(answer) if answer.status < 400 && answer.header("X-Served-By").starts_with(server) => answers.good += 1,
            other => answers.bad.push(format!("{path}: {other:?}")),
        }
    }
}

/// No request fails during changes of backend and Secret, and during a failing deploy with its rollback.
pub fn through_changes(test_cluster: &TestCluster) -> Result<()> {
    causes::sound(test_cluster)?;
    let load = Load::start(test_cluster)?;
    let mut rounds = 0;
    let result = loop {
        rounds += 1;
        let result = deploy_changes(test_cluster);
        if result.is_err() || load.count() >= MANY + USERS as u64 {
            break result;
        }
    };
    let answers = load.stop();
    result?;
    test_cluster.project.report.note(format!("{} requests through {rounds} rounds of changes, none failed", answers?));
    Ok(())
}

fn deploy_changes(test_cluster: &TestCluster) -> Result<()> {
    for _ in 0..3 {
        interrupts::change(test_cluster)?;
        test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["Secret of backend changed (AUTH_SECRET)", "is up"])?;
    }
    causes::crash_loop(test_cluster)
}
