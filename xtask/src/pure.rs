//! Checks that decisions are pure. In unit tests, code inside [`decide`] panics if it starts a process, sends a
//! request, opens a socket, or reads or writes a file through `files.rs`.

#[cfg(test)]
thread_local!(static IS_DECIDING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });

/// Runs a decision, which must have no effect.
#[cfg(test)]
pub fn decide<T>(decision: impl FnOnce() -> T) -> T {
    IS_DECIDING.set(true);
    let decided = decision();
    IS_DECIDING.set(false);
    decided
}

/// Panics in a decision of a unit test: `what` is an effect, e.g. `starts a process`.
pub fn effect(what: impl std::fmt::Display) {
    #[cfg(test)]
    assert!(!IS_DECIDING.get(), "a decision {what}");
    #[cfg(not(test))]
    let _ = what;
}

#[cfg(test)]
mod tests {
    use crate::process::Process;

    #[test]
    #[should_panic(expected = "a decision starts `true`")]
    fn a_decision_that_starts_a_process_is_noticed() {
        super::decide(|| Process::new("true").succeeds());
    }
}
