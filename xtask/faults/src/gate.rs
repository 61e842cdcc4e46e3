//! Limits the number of runs that use a processor at the same time. A run whose call hangs does not count.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A limit on the number of runs that use a processor at the same time.
pub struct Gate {
    places: usize,
    /// The number of taken places. It is negative for a moment if a run ends before its hanging call does.
    taken: Mutex<isize>,
    freed: Condvar,
}

/// A taken place. Dropping the permit frees the place.
pub struct Permit<'a>(&'a Gate);

impl Gate {
    /// Creates a gate with `places` places.
    pub fn new(places: usize) -> Self {
        Self { places, taken: Mutex::new(0), freed: Condvar::new() }
    }

    /// Waits for a free place and takes it.
    pub fn enter(&self) -> Permit<'_> {
        let full = |taken: &mut isize| usize::try_from(*taken).is_ok_and(|taken| taken >= self.places);
        let taken = self.freed.wait_while(self.taken(), full);
        *taken.unwrap_or_else(PoisonError::into_inner) += 1;
        Permit(self)
    }

    /// Frees the caller's place while `wait` runs. Afterwards the caller takes a place without waiting, even if all are
    /// taken.
    pub fn wait_outside(&self, wait: impl FnOnce()) {
        self.leave();
        wait();
        *self.taken() += 1;
    }

    fn leave(&self) {
        *self.taken() -= 1;
        self.freed.notify_one();
    }

    fn taken(&self) -> MutexGuard<'_, isize> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}
