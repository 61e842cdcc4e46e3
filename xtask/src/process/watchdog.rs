//! One thread that ends process groups whose deadline has passed or whose run was cancelled, and the list of groups
//! that Ctrl-C ends. The guardian has the same list, for SIGKILL.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Process, guardian};
use crate::deadlines;

/// Time that a read-only command may run before the guardian learns of it.
const UNGUARDED: Duration = Duration::from_millis(500);

struct Watched {
    pids: Vec<u32>,
    /// Time at which the guardian must learn of it; `None`: it knows it.
    guard_at: Option<Instant>,
    deadline: Instant,
    expired: Arc<AtomicBool>,
    until: Vec<Arc<AtomicBool>>,
}

static WATCHED: Mutex<Option<HashMap<u64, Watched>>> = Mutex::new(None);
static NEXT: AtomicU64 = AtomicU64::new(0);
static ENDING: AtomicBool = AtomicBool::new(false);

/// An entry of the list; dropping it removes the process.
pub struct Guard {
    id: u64,
    expired: Arc<AtomicBool>,
}

impl Guard {
    /// Returns whether the deadline ended the process.
    pub fn expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let watched = lock().as_mut().and_then(|map| map.remove(&self.id));
        if let Some(watched) = watched.filter(|watched| watched.guard_at.is_none()) {
            guardian::ended(&watched.pids);
        }
    }
}

fn lock() -> std::sync::MutexGuard<'static, Option<HashMap<u64, Watched>>> {
    WATCHED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Puts the groups led by `pids`, which run `process`, under the watchdog. It ends them after the deadline of `process`, or
/// once its flag is set.
pub fn watch(pids: &[u32], process: &Process) -> Guard {
    static START: Once = Once::new();
    START.call_once(|| {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_millis(50));
                sweep();
            }
        });
    });
    let now = Instant::now();
    let guard_at = process.is_question.then_some(now + UNGUARDED);
    if guard_at.is_none() {
        guardian::began(pids);
    }
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let expired = Arc::new(AtomicBool::new(false));
    let (deadline, until) = (now + process.deadline.time(), process.until.clone());
    let watched = Watched { pids: pids.to_vec(), guard_at, deadline, expired: expired.clone(), until };
    lock().get_or_insert_default().insert(id, watched);
    Guard { id, expired }
}

fn sweep() {
    let now = Instant::now();
    for watched in lock().iter_mut().flat_map(|map| map.values_mut()) {
        if watched.guard_at.take_if(|at| *at <= now).is_some() {
            guardian::began(&watched.pids);
        }
        let is_over = watched.until.iter().any(|until| until.load(Ordering::Relaxed));
        if watched.deadline <= now {
            watched.expired.store(true, Ordering::Relaxed);
        }
        if watched.deadline <= now || is_over {
            signal(&watched.pids, Signal::KILL);
        }
    }
}

/// Ends the groups led by `pids` at once.
pub fn end(pids: &[u32]) {
    signal(pids, Signal::KILL);
}

fn signal(pids: &[u32], signal: Signal) {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
        // A group that has already ended is no error.
        let _ = kill_process_group(pid, signal);
    }
}

/// Returns whether [`end_all`] has begun: nothing more may start, and later failures follow from it.
pub fn ending() -> bool {
    ENDING.load(Ordering::SeqCst)
}

/// Ends every running child: SIGTERM first, SIGKILL for what is left after two seconds. On a busy machine time counts less,
/// down to a fifth: a killed `docker run` leaves its container.
pub fn end_all() {
    ENDING.store(true, Ordering::SeqCst);
    let all = || -> Vec<u32> { lock().iter().flat_map(|map| map.values()).flat_map(|w| w.pids.clone()).collect() };
    signal(&all(), Signal::TERM);
    let (mut waited, pause) = (Duration::ZERO, Duration::from_millis(50));
    while waited < Duration::from_secs(2) && !all().is_empty() {
        std::thread::sleep(pause);
        waited += pause.mul_f64(deadlines::machine_speed().max(0.2));
    }
    signal(&all(), Signal::KILL);
}
