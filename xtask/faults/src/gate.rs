//! Limits the number of runs that use a processor at the same time. A run whose call hangs does not count.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The places of runs that compute.
pub struct Gate {
    places: usize,
    /// How many are taken; less than none for a moment, where a run ends before the call that hung in it.
    taken: Mutex<isize>,
    freed: Condvar,
}

/// A place; it is free again when this is dropped.
pub struct Permit<'a>(&'a Gate);

impl Gate {
    /// One with `places`.
    pub fn new(places: usize) -> Self {
        Self { places, taken: Mutex::new(0), freed: Condvar::new() }
    }

    /// Waits for a place.
    pub fn enter(&self) -> Permit<'_> {
        let full = |taken: &mut isize| usize::try_from(*taken).is_ok_and(|taken| taken >= self.places);
        let taken = self.freed.wait_while(self.taken(), full);
        *taken.unwrap_or_else(PoisonError::into_inner) += 1;
        Permit(self)
    }

    /// Gives the caller's place to another run during `wait`. Afterwards the caller goes on at once, also without a place.
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
