//! Continuous requests to the application during other actions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::test_cluster::TestCluster;
use super::{causes, interrupts};
use xtask::stages::proof::http;

/// Requests per second over all paths, for the first [`MANY`] requests.
const RATE: f64 = 50.0;
/// Requests per second after those: enough to find a failing rollout, without wasting the machine's time.
const LATER_RATE: f64 = 10.0;
/// Most requests in flight.
const USERS: usize = 16;
/// A path of each application, and the prefix of the pods that serve it.
const PATHS: [(&str, &str); 2] = [("/api/v1/health", "todo-backend/"), ("/", "todo-frontend/")];
/// Least number of requests of the scenarios that share their load.
const MANY: u64 = 10_000;
/// Request number at which a load ends.
const END: u64 = u64::MAX / 2;

/// Load that requests the paths in turn, at the times of [`due`], each over a new connection, until it is stopped.
pub struct Load {
    requests: Arc<Requests>,
    users: Vec<JoinHandle<()>>,
}

/// The requests of all users.
#[derive(Default)]
struct Requests {
    /// The number of the next request.
    next: AtomicU64,
    /// The number of good answers.
    good: AtomicU64,
    /// The failed requests.
    bad: Mutex<Vec<String>>,
}

impl Load {
    /// Starts a load on an address.
    pub fn at(address: &str) -> Self {
        let (start, requests) = (Instant::now(), Arc::new(Requests::default()));
        let user = || {
            let (address, requests) = (address.to_owned(), requests.clone());
            std::thread::spawn(move || user(&address, start, &requests))
        };
        Self { users: (0..USERS).map(|_| user()).collect(), requests }
    }

    /// Returns the number of answers so far. Fails if any request failed.
    pub fn answers(&self) -> Result<u64> {
        let good = self.requests.good.load(Ordering::Relaxed);
        let bad = self.requests.bad();
        ensure!(
            bad.is_empty(),
            "{} of {} requests failed: {:?}",
            bad.len(),
            good + bad.len() as u64,
            &bad[..bad.len().min(5)]
        );
        Ok(good)
    }

    /// Ends the load. Returns the number of answers. Fails if any request failed.
    pub fn end(mut self) -> Result<u64> {
        self.requests.next.store(END, Ordering::Relaxed);
        for user in self.users.drain(..) {
            user.join().map_err(|_| anyhow::anyhow!("a user panicked"))?;
        }
        self.answers()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.requests.next.store(END, Ordering::Relaxed);
    }
}

impl Requests {
    fn bad(&self) -> MutexGuard<'_, Vec<String>> {
        self.bad.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the time of request `number` after the start.
fn due(number: u64) -> Duration {
    let later = number.saturating_sub(MANY);
    Duration::from_secs_f64((number - later) as f64 / RATE + later as f64 / LATER_RATE)
}

fn user(address: &str, start: Instant, requests: &Requests) {
    loop {
        let number = requests.next.fetch_add(1, Ordering::Relaxed);
        if number >= END {
            return;
        }
        std::thread::sleep((start + due(number)).saturating_duration_since(Instant::now()));
        let (path, server) = PATHS[number as usize % PATHS.len()];
        match http::get(address, "", path) {
            Ok(answer) if answer.status < 400 && answer.header("X-Served-By").starts_with(server) => {
                requests.good.fetch_add(1, Ordering::Relaxed);
            }
            other => requests.bad().push(format!("{path}: {other:?}")),
        }
    }
}

/// The load that scenarios share. It goes on from one to the next until [`SharedLoad::end`].
#[derive(Default)]
pub struct SharedLoad(Mutex<Option<Load>>);

impl SharedLoad {
    /// Runs `action` under load. Returns its result and the number of answers meanwhile. Fails if any request failed, or if
    /// there were hardly any.
    pub fn during<T>(&self, test_cluster: &TestCluster, action: impl FnOnce() -> T) -> Result<(T, u64)> {
        let before = self.answers(test_cluster)?;
        let result = action();
        let answers = self.answers(test_cluster)? - before;
        ensure!(answers > 20, "only {answers} requests were answered");
        Ok((result, answers))
    }

    /// Returns the number of answers since the start. Starts the load if it does not run, and ends it if a request failed.
    pub fn answers(&self, test_cluster: &TestCluster) -> Result<u64> {
        let mut load = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = match load.take() {
            Some(running) => running,
            None => Load::at(&test_cluster.address()?),
        };
        let answers = running.answers()?;
        *load = Some(running);
        Ok(answers)
    }

    /// Ends the load if it runs. Fails if any request failed.
    pub fn end(&self) -> Result<()> {
        let load = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        load.map_or(Ok(()), |load| load.end().map(drop))
    }
}

/// No request fails during changes of backend and Secret, and during a deploy that crashes and is rolled back.
pub fn through_changes(test_cluster: &TestCluster) -> Result<()> {
    causes::sound(test_cluster)?;
    test_cluster.load.during(test_cluster, || deploy_changes(test_cluster))?.0
}

/// Waits until [`MANY`] requests of the shared load are answered. None may fail.
pub fn many(test_cluster: &TestCluster) -> Result<()> {
    let limit = due(MANY).mul_f64(1.5);
    test_cluster.until("the requests are answered", limit, || Ok(test_cluster.load.answers(test_cluster)? >= MANY))?;
    let answers = test_cluster.load.answers(test_cluster)?;
    test_cluster.project.report.note(format!("{answers} requests, none failed"));
    Ok(())
}

fn deploy_changes(test_cluster: &TestCluster) -> Result<()> {
    for _ in 0..3 {
        interrupts::change(test_cluster)?;
        test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["Secret of backend changed (AUTH_SECRET)", "is up"])?;
    }
    causes::crash_loop(test_cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_lower_after_many_requests() {
        assert_eq!([0, 50, MANY, MANY + 10].map(|number| due(number).as_secs()), [0, 1, 200, 201]);
    }
}
