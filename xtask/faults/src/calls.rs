//! Every external call of a run: its name, its number, and whether it fails.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::gate::Gate;

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// It fails at once, in the tool's usual words, and does nothing.
    Fail,
    /// It does nothing and does not answer, until the caller's limit ends it.
    Hang,
    /// It does nothing and answers well, but with something else. A deletion is accepted and not done.
    Garbage,
    /// It does what it should; its answer ends in the middle.
    Cut,
    /// It fails twice in a way that passes, then it works.
    Twice,
}

/// All of them.
pub const FAULTS: [Fault; 5] = [Fault::Fail, Fault::Hang, Fault::Garbage, Fault::Cut, Fault::Twice];

impl Fault {
    /// As it is named on the command line.
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

/// A call of a scenario: its name, and how many of that name came before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    /// Kind and target, without what differs from run to run.
    pub name: String,
    /// Counted from 1.
    pub number: usize,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{}", self.name, self.number)
    }
}

/// What the run that is under way has asked for, and which of its calls goes wrong.
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
    /// How often the planned fault struck.
    struck: usize,
    /// Those that xtask makes again when they are refused for a moment.
    repeatable: HashSet<Call>,
    /// What the sandbox does not know how to answer.
    unknown: Vec<String>,
}

/// What a run has called.
pub struct Called {
    /// All calls in the order in which they came.
    pub calls: Vec<Call>,
    /// Those that one function of xtask makes again when they are refused for a moment, so that their callers never know.
    pub repeatable: HashSet<Call>,
    /// How often the fault struck.
    pub struck: usize,
    /// What nobody could answer.
    pub unknown: Vec<String>,
}

impl Ledger {
    /// An empty one, for runs that have places of `gate`.
    pub fn new(gate: Arc<Gate>) -> Self {
        Self { state: Arc::default(), gate }
    }

    /// Waits without a place, as a call does that hangs.
    pub fn hang(&self, wait: impl FnOnce()) {
        self.gate.wait_outside(wait);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a run in which `planned` goes wrong.
    pub fn begin(&self, planned: Option<(Call, Fault)>) {
        *self.lock() = State { planned, ..State::default() };
    }

    /// Counts a call, and says what becomes of it.
    pub fn enter(&self, name: &str) -> Option<Fault> {
        self.enter_if(name, false)
    }

    /// The same for one that xtask may make again when it is refused for a moment.
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

    /// How many calls have come.
    pub fn count(&self) -> usize {
        self.lock().order.len()
    }

    /// Notes what this sandbox cannot answer: the suite must learn it.
    pub fn note_unknown(&self, what: String) {
        self.lock().unknown.push(what);
    }

    /// Ends the run.
    pub fn end(&self) -> Called {
        let State { order: calls, repeatable, struck, unknown, .. } = std::mem::take(&mut *self.lock());
        Called { calls, repeatable, struck, unknown }
    }
}
