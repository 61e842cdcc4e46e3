//! Every external call of a run: its name, its number, and whether it fails.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::gate::Gate;

/// The way in which a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// Fails at once with the tool's usual error, and does nothing.
    Fail,
    /// Does nothing and sends no answer until the caller's time limit ends the call.
    Hang,
    /// Does nothing, and reports success with unrelated content. A deletion is accepted but not done.
    Garbage,
    /// Does its work, but the answer breaks off in the middle.
    Cut,
    /// Fails two times in a row with a transient error, then works.
    Twice,
}

/// All faults.
pub const FAULTS: [Fault; 5] = [Fault::Fail, Fault::Hang, Fault::Garbage, Fault::Cut, Fault::Twice];

impl Fault {
    /// Returns the name that the command line uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Hang => "hang",
            Self::Garbage => "garbage",
            Self::Cut => "cut",
            Self::Twice => "twice",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A call of a scenario: its name, and its number among the calls of that name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    /// The kind and the target, without the parts that differ between runs.
    pub name: String,
    /// The number, counted from 1.
    pub number: usize,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{}", self.name, self.number)
    }
}

/// The calls of the current run so far, and the fault that is planned for one of them.
#[derive(Clone)]
pub struct Ledger {
    state: Arc<Mutex<State>>,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct State {
    counts: HashMap<String, usize>,
    order: Vec<Call>,
    planned: Option<(Call, Fault)>,
    /// The number of calls that the planned fault struck.
    struck: usize,
    /// The calls that xtask's client retries after a 503.
    repeatable: HashSet<Call>,
    /// The commands that the sandbox could not answer, and actions that failed in it.
    unknown: Vec<String>,
}

/// The calls of a run that has ended.
pub struct Called {
    /// All calls in the order in which they came.
    pub calls: Vec<Call>,
    /// The calls that xtask's client retries after a 503. The client's callers do not notice the 503.
    pub repeatable: HashSet<Call>,
    /// The number of calls that the fault struck.
    pub struck: usize,
    /// The commands that the sandbox could not answer, and actions that failed in it.
    pub unknown: Vec<String>,
}

impl Ledger {
    /// Creates an empty ledger for runs that hold permits of `gate`.
    pub fn new(gate: Arc<Gate>) -> Self {
        Self { state: Arc::default(), gate }
    }

    /// Calls `wait` for a hanging call, and frees the run's place in the gate meanwhile.
    pub fn hang(&self, wait: impl FnOnce()) {
        self.gate.wait_outside(wait);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a run in which the fault of `planned` strikes its call. Discards earlier calls.
    pub fn begin(&self, planned: Option<(Call, Fault)>) {
        *self.lock() = State { planned, ..State::default() };
    }

    /// Records a call. Returns the fault that strikes it, if any.
    pub fn enter(&self, name: &str) -> Option<Fault> {
        self.enter_if(name, false)
    }

    /// Records a call as [`Ledger::enter`] does. `repeatable` says whether xtask's client retries it after a 503.
    pub fn enter_if(&self, name: &str, repeatable: bool) -> Option<Fault> {
        let mut state = self.lock();
        let number = state.counts.entry(name.to_owned()).or_default();
        *number += 1;
        let call = Call { name: name.to_owned(), number: *number };
        state.order.push(call.clone());
        if repeatable {
            state.repeatable.insert(call.clone());
        }
        let (planned, fault) = state.planned.clone()?;
        let last = planned.number + usize::from(fault == Fault::Twice);
        let strikes = planned.name == call.name && (planned.number..=last).contains(&call.number);
        state.struck += usize::from(strikes);
        strikes.then_some(fault)
    }

    /// Returns the number of calls so far.
    pub fn count(&self) -> usize {
        self.lock().order.len()
    }

    /// Records a command that the sandbox cannot answer. The suite reports it as a violation.
    pub fn note_unknown(&self, what: String) {
        self.lock().unknown.push(what);
    }

    /// Ends the run and returns its calls. The ledger is empty afterwards.
    pub fn end(&self) -> Called {
        let State { order: calls, repeatable, struck, unknown, .. } = std::mem::take(&mut *self.lock());
        Called { calls, repeatable, struck, unknown }
    }
}
