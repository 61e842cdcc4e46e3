//! Runs every scenario without a fault, then with each planned pair of a call and a fault, in parallel sandboxes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use xtask::stages::release::evidence::SAVED_LINES;

use crate::calls::{Call, FAULTS, Fault};
use crate::checker::{Case, Followed, Violation, check, check_again};
use crate::gate::Gate;
use crate::machine::digest;
use crate::mutants;
use crate::sandbox::{RunOutcome, Sandbox, State};
use crate::scenario::{DEPLOY, SCENARIOS, Scenario, Start};
use crate::servers::Programs;
use crate::truth::Truth;

/// The number of extra sandboxes, and of pairs with [`Fault::Hang`] that run at the same time while other pairs wait.
const HANGING: usize = 4;
/// The number of concurrent runs per processor. It exceeds 1 because a run also waits for its servers.
const PER_PROCESSOR: usize = 2;
/// The maximum number of runs that are repeated at the same time.
const REPEATING: usize = 2;
/// The factor for all time limits of a run.
const FACTOR: f64 = 0.05;
/// The factor for runs that must stay within the limits on a busy machine.
const PATIENT: f64 = 0.25;
/// The maximum number of runs without a fault per scenario. Runs stop once two in a row print the same number of lines.
const TRIES: usize = 4;

/// The programs, folders and limits of a suite.
pub struct SuiteSettings<'a> {
    /// The folder that contains all sandboxes.
    pub folder: Utf8PathBuf,
    /// The xtask under test.
    pub program: Arc<BuiltProgram>,
    /// The program that stands in for the tools that xtask calls.
    pub tool: Utf8PathBuf,
    /// The etcd, API server and Helm programs.
    pub programs: &'a Programs,
    /// The checkout. Sandboxes copy `infra` and `.env.example` from it; the program under test is built from it.
    pub checkout: Utf8PathBuf,
    /// The limit on runs that use a processor at the same time.
    pub gate: Arc<Gate>,
}

/// The path of the program under test, set when its build ends. `None` if the build failed.
pub type BuiltProgram = OnceLock<Option<Utf8PathBuf>>;

/// Returns the number of runs that this machine computes at the same time.
pub fn parallel_runs() -> usize {
    PER_PROCESSOR * std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// A call of a scenario and the fault that strikes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    /// The index into [`SCENARIOS`].
    pub scenario: usize,
    /// The call that the fault strikes.
    pub call: Call,
    /// The fault.
    pub fault: Fault,
}

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", SCENARIOS[self.scenario].name, self.call, self.fault)
    }
}

/// The results of all runs.
#[derive(Default)]
pub struct Findings {
    /// The number of scenarios.
    pub scenarios: usize,
    /// The number of calls in the scenarios.
    pub calls: usize,
    /// The number of pairs of a call and a fault.
    pub pairs: usize,
    /// The number of pairs that were run.
    pub runs: usize,
    /// The number of pairs that were left out, by reason.
    pub left_out: BTreeMap<LeftOutReason, usize>,
    /// The number of second runs in the first pass, each after a fault that changed the state.
    pub again: usize,
    /// The number of pairs that the second pass ran: doubtful ones, and pairs for which a doubtful run does not stand.
    pub repeated: usize,
    /// The pairs whose call did not come, so that the fault did not strike.
    pub missed: Vec<Pair>,
    /// The violations, each with its pair.
    pub violations: Vec<(Pair, Violation)>,
}

/// A sandbox with the states from which scenarios start.
pub struct PreparedSandbox {
    /// The sandbox.
    pub sandbox: Sandbox,
    starts: HashMap<&'static str, StartState>,
}

/// A start state of scenarios, with the facts that the checker reads from it.
struct StartState {
    state: State,
    truth: Truth,
    everything: String,
}

impl StartState {
    fn new(state: State) -> Self {
        let truth = Truth::of(&state);
        Self { everything: truth.everything(), truth, state }
    }
}

/// A scenario's run without a fault.
pub struct Reference {
    outcome: RunOutcome,
    wanted: Truth,
    calls: Vec<Step>,
}

impl PreparedSandbox {
    /// Creates the sandbox with this number, and its start states.
    pub fn make(setting: &SuiteSettings<'_>, number: usize) -> Result<Self> {
        let _place = setting.gate.enter();
        let folder = setting.folder.join(number.to_string());
        let sandbox = Sandbox::new(&folder, setting)?;
        let mut starts = HashMap::from([(name(Start::Nothing), StartState::new(sandbox.state()?))]);
        let mut deploy = |start: Start, edit: Option<&str>| -> Result<()> {
            if let Some(edit) = edit {
                sandbox.edit(edit)?;
            }
            sandbox.run(DEPLOY, None, None, PATIENT)?;
            // The second deploy has nothing left to do. The start state is the state after it.
            let outcome = sandbox.run(DEPLOY, None, None, PATIENT)?;
            ensure!(outcome.code == Some(0), "a deploy without a fault fails:\n{}", outcome.text);
            starts.insert(name(start), StartState::new(sandbox.state()?));
            Ok(())
        };
        deploy(Start::Deployed, None)?;
        deploy(Start::DeployedTwice, Some("another"))?;
        Ok(Self { sandbox, starts })
    }

    /// Runs a scenario from its start state while the fault of `planned` strikes. Returns the start state and the
    /// outcome.
    fn run(
        &self,
        scenario: &Scenario,
        planned: Option<(Call, Fault)>,
        factor: f64,
    ) -> Result<(&StartState, RunOutcome)> {
        let start = &self.starts[name(scenario.start)];
        self.sandbox.restore(&start.state)?;
        if let Some(edit) = scenario.edit {
            self.sandbox.edit(edit)?;
        }
        Ok((start, self.sandbox.run(scenario.args, planned, scenario.saved, factor)?))
    }

    /// Runs a scenario without a fault, two to [`TRIES`] times. Keeps the calls that came in both of the last two runs.
    pub fn reference(&self, scenario: &Scenario) -> Result<Reference> {
        let run = || Ok::<_, anyhow::Error>(self.run(scenario, None, FACTOR)?.1);
        let mut runs = vec![run()?, run()?];
        for _ in 2..TRIES {
            if runs[runs.len() - 2].text.lines().count() == runs[runs.len() - 1].text.lines().count() {
                break;
            }
            runs.push(run()?);
        }
        let (second, first) = (runs.pop().context("two runs")?, runs.pop().context("two runs")?);
        for outcome in [&first, &second] {
            if !outcome.unknown.is_empty() {
                bail!("the suite must learn: {}", outcome.unknown.join("; "));
            }
        }
        ensure!(first.code == second.code, "two runs differ:\n{}\n{}", first.text, second.text);
        let counts = |outcome: &RunOutcome| {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            outcome.calls.iter().for_each(|call| *counts.entry(call.name.clone()).or_default() += 1);
            counts
        };
        let (one, other) = (counts(&first), counts(&second));
        let stable = |call: &&Call| {
            let both = one.get(&call.name).copied().unwrap_or(0).min(other.get(&call.name).copied().unwrap_or(0));
            // All requests to a route are one measurement, so only the first one is kept.
            call.number <= if call.name.starts_with("HTTP ") { 1 } else { both }
        };
        let calls = steps(scenario, &first).into_iter().filter(|step| stable(&&step.call)).collect();
        let wanted = Truth::of(&first.after);
        Ok(Reference { outcome: first, wanted, calls })
    }

    /// Runs a pair. If the run changed the state without a violation, also runs the scenario's command `again`, unless
    /// `follow_ups` has its result.
    fn check(&self, pair: &Pair, reference: &Reference, follow_ups: &FollowUps, factor: f64) -> Result<CheckedPair> {
        let scenario = &SCENARIOS[pair.scenario];
        let planned = (pair.call.clone(), pair.fault);
        let (before, outcome) = self.run(scenario, Some(planned.clone()), factor)?;
        if outcome.struck == 0 {
            let is_polled_less =
                outcome.code == reference.outcome.code && outcome.calls.iter().any(|call| call.name == pair.call.name);
            return Ok(CheckedPair { is_polled_less, ..CheckedPair::default() });
        }
        let after = Truth::of(&outcome.after);
        let case = Case {
            scenario,
            planned: &planned,
            before: &before.truth,
            after: &after,
            outcome: &outcome,
            reference: &reference.outcome,
            wanted: &reference.wanted,
        };
        let mut violations = check(&case);
        violations.extend(outcome.unknown.iter().map(|what| Violation {
            claim: format!("`{what}`"),
            truth: "the suite does not know this command and must learn it".to_owned(),
        }));
        let now = after.everything();
        let mut again = false;
        // One violation is enough: a second run would only report its consequences.
        if violations.is_empty() && now != before.everything {
            let state = (scenario.again, outcome.after.source().to_owned(), digest(now.as_bytes()));
            let found = lock(follow_ups).get(&state).cloned();
            let followed = match found {
                Some(followed) => followed,
                None => {
                    again = true;
                    let followed = Followed::new(&self.sandbox.run(scenario.again, None, None, factor)?);
                    lock(follow_ups).insert(state, followed.clone());
                    followed
                }
            };
            violations.extend(check_again(&case, &followed));
        }
        Ok(CheckedPair { seen: Some(Signature::of(&pair.call, &outcome)), is_polled_less: false, again, violations })
    }

    /// Runs a pair, and repeats it with longer limits unless the first run is clean. Returns the second result unless
    /// only the first run reached the call.
    pub fn check_again(&self, pair: &Pair, reference: &Reference) -> Result<CheckedPair> {
        let checked = self.check(pair, reference, &FollowUps::default(), FACTOR)?;
        if checked.is_clean() {
            return Ok(checked);
        }
        let patient = self.check_patiently(pair, reference)?;
        Ok(if patient.seen.is_some() || checked.seen.is_none() { patient } else { checked })
    }

    /// Runs a pair with longer limits.
    pub fn check_patiently(&self, pair: &Pair, reference: &Reference) -> Result<CheckedPair> {
        self.check(pair, reference, &FollowUps::default(), PATIENT)
    }
}

/// The result of one run of a pair.
#[derive(Default)]
pub struct CheckedPair {
    /// The facts that decide for which other pairs this run stands. `None` if the call did not come.
    seen: Option<Signature>,
    /// Whether the planned call did not come, other calls of its name did, and the exit code equals the reference's.
    is_polled_less: bool,
    /// Whether the scenario's command `again` was run afterwards.
    again: bool,
    /// The violations that the checker found.
    pub violations: Vec<Violation>,
}

impl CheckedPair {
    /// Returns whether the call came and the run has no violation.
    pub fn is_clean(&self) -> bool {
        self.seen.is_some() && self.violations.is_empty()
    }
}

/// The results of second runs, by command, backend source and digest of the state. A known result is reused.
type FollowUps = Mutex<HashMap<(&'static [&'static str], String, String), Followed>>;

fn name(start: Start) -> &'static str {
    match start {
        Start::Nothing => "nothing",
        Start::Deployed => "deployed",
        Start::DeployedTwice => "deployed twice",
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call of a scenario, and the progress of the run at that call.
#[derive(Clone, Debug)]
struct Step {
    call: Call,
    done: Progress,
    /// Whether xtask's client retries the request after a 503.
    is_repeatable: bool,
}

/// The progress of a run: its start state, its command, the change that the command finds, and the call. Two scenarios
/// with equal progress have run the same code from the same state to the same call.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Progress {
    start: Start,
    command: &'static [&'static str],
    change: Option<&'static str>,
    call: Call,
}

/// Returns the calls of a run without a fault, each with its progress. A watch counts as two deploys: one before and
/// one after the file is saved.
fn steps(scenario: &Scenario, outcome: &RunOutcome) -> Vec<Step> {
    let command = scenario.args.strip_suffix(&["--watch"]).unwrap_or(scenario.args);
    let (first, second) = outcome.calls.split_at(outcome.before_wait);
    let mut found = Vec::new();
    for (calls, edit) in [(first, scenario.edit), (second, scenario.saved)] {
        // Until Helm applies it, any change has the same effect.
        let mut change = edit.map(|_| ANY);
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for call in calls {
            if call.name.starts_with("helm ") {
                change = edit;
            }
            let number = counts.entry(&call.name).or_default();
            *number += 1;
            let own = Call { name: call.name.clone(), number: *number };
            let done = Progress { start: scenario.start, command, change, call: own };
            found.push(Step { call: call.clone(), done, is_repeatable: outcome.repeatable.contains(call) });
        }
    }
    found
}

/// The placeholder for any change of the sources, used until Helm applies it.
const ANY: &str = "any";

/// The calls of each scenario, by index into [`SCENARIOS`].
type Calls<'a> = BTreeMap<usize, &'a [Step]>;

/// The reason why a pair is left out: another run stands for it, or its call was not needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LeftOutReason {
    /// One function makes the request and the others of its [`Group`], and its caller gets the same result whichever
    /// request fails.
    SideBySide,
    /// xtask's client retries the request after a 503, and its caller gets the second answer. So the fault is run once
    /// per request name: `a_server_that_is_away_for_a_moment_is_asked_again`.
    AskedAgain,
    /// The fault ended a run of another scenario with equal progress, before the scenarios diverge. A run that goes on
    /// stands only for itself: [`Plan::follow`].
    Alike,
    /// xtask's client reads an object or a list, and its caller gets an error of the same class for each fault:
    /// `however_a_read_fails_its_caller_gets_an_error_of_the_same_class`. One fault is run. If it does not end the
    /// command, the others are run too: [`Plan::follow`].
    SameError,
    /// A tool that fails twice prints the same error both times, and the run with [`Fault::Fail`] did not call it
    /// again. If that run did, this pair is run too: [`Plan::follow`].
    NotAgain,
    /// xtask repeats a request until the answer fits, and this run made fewer requests than the reference. The earlier
    /// requests have pairs of their own.
    PolledLess,
}

impl std::fmt::Display for LeftOutReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SideBySide => "asked together with one that is",
            Self::AskedAgain => "asked again by the client",
            Self::Alike => "ended by the fault before the scenarios part",
            Self::SameError => "a read whose error ends the command",
            Self::NotAgain => "not called a second time",
            Self::PolledLess => "polled less often than in the run without a fault",
        })
    }
}

/// The pairs to run, and the pairs for which another run stands.
#[derive(Default)]
struct Plan {
    /// The pairs that are always run.
    pairs: Vec<Pair>,
    /// The pairs that are left out, each with the reason and the pair whose run stands for it unless [`Plan::follow`]
    /// finds otherwise.
    left_out: BTreeMap<Pair, (LeftOutReason, Pair)>,
}

/// A call of a scenario, with the group of requests that it belongs to.
struct PlannedCall<'a> {
    scenario: usize,
    step: &'a Step,
    group: Option<Group>,
}

impl PlannedCall<'_> {
    fn pair(&self, fault: Fault) -> Pair {
        Pair { scenario: self.scenario, call: self.step.call.clone(), fault }
    }

    fn is_asked_again(&self, fault: Fault) -> bool {
        fault == Fault::Twice && self.group.is_none() && self.step.is_repeatable
    }

    /// Returns whether the call reads an object or a list outside of a group, and the fault is one of [`READ_ERRORS`].
    fn is_read_error(&self, fault: Fault) -> bool {
        self.group.is_none() && READ_ERRORS.contains(&fault) && is_read(&self.step.call)
    }

    /// Returns the group member that gets fault `number` in place of this call. `None` if this call gets the fault
    /// itself.
    fn beside<'a>(&self, every: &'a [PlannedCall<'a>], number: usize) -> Option<&'a PlannedCall<'a>> {
        let group = self.group?;
        let place = (group.round + number) % group.members;
        let so_far = |done: &Progress| Progress { call: self.step.call.clone(), ..done.clone() };
        let fits = |other: &&PlannedCall<'_>| {
            other.scenario == self.scenario
                && other.group == Some(Group { place, ..group })
                && so_far(&other.step.done) == so_far(&self.step.done)
        };
        every.iter().find(fits).filter(|_| place != group.place)
    }
}

/// The facts of a run that decide for which other pairs it stands.
#[derive(Clone, Copy)]
struct Signature {
    /// Whether the fault did not end the deploy, or Helm was called after it. Scenarios differ from Helm's first call
    /// on.
    went_on: bool,
    /// Whether a call of the same name came after the failed one.
    came_again: bool,
}

impl Signature {
    /// Reads the signature from the run of a pair.
    fn of(call: &Call, outcome: &RunOutcome) -> Self {
        let rest = outcome.calls.iter().skip_while(|other| *other != call).skip(1);
        let failed = match outcome.code {
            // A watch reports a failed deploy, then waits until it is interrupted.
            Some(130) => outcome.text.lines().any(|line| line.starts_with("error: ")),
            code => code != Some(0),
        };
        Self {
            went_on: !failed || rest.clone().any(|other| other.name.starts_with("helm ")),
            came_again: rest.clone().any(|other| other.name == call.name),
        }
    }
}

impl Plan {
    /// Plans the runs. `all` plans every fault of every call.
    fn new(scenarios: &Calls<'_>, all: bool) -> Self {
        let mut every: Vec<PlannedCall<'_>> = Vec::new();
        for (&scenario, steps) in scenarios {
            let group = |step: &Step| Group::of(step, steps);
            every.extend(steps.iter().map(|step| PlannedCall { scenario, step, group: group(step) }));
        }
        let names: BTreeSet<&str> = every.iter().map(|own| own.step.call.name.as_str()).collect();
        let mut plan = Self::default();
        for own in &every {
            let index = names.iter().take_while(|name| **name != own.step.call.name).count();
            for (number, fault) in FAULTS.into_iter().enumerate() {
                let pair = own.pair(fault);
                match if all { None } else { Self::instead(own, &every, index, number) } {
                    Some((why, other)) => drop(plan.left_out.insert(pair, (why, other))),
                    None => plan.pairs.push(pair),
                }
            }
        }
        plan
    }

    /// Returns the reason to leave out fault `number` of a call, and the pair that stands for it. `None` if the pair
    /// must be run. `index`, the index of the call's name, distributes the pairs among the scenarios.
    fn instead(
        own: &PlannedCall<'_>,
        every: &[PlannedCall<'_>],
        index: usize,
        number: usize,
    ) -> Option<(LeftOutReason, Pair)> {
        let fault = FAULTS[number];
        if let Some(other) = own.beside(every, number) {
            return Some((LeftOutReason::SideBySide, other.pair(fault)));
        }
        if fault == Fault::Twice && is_tool(&own.step.call) {
            return Some((LeftOutReason::NotAgain, own.pair(Fault::Fail)));
        }
        let is_asked_again = own.is_asked_again(fault);
        let is_read = own.is_read_error(fault);
        // Each member finds the same set, so that all agree on the member to run.
        let shares = |other: &&PlannedCall<'_>| {
            is_asked_again == other.is_asked_again(fault)
                && match is_asked_again {
                    true => other.step.call.name == own.step.call.name,
                    false => {
                        other.step.done == own.step.done
                            && other.is_read_error(fault) == is_read
                            && other.beside(every, number).is_none()
                    }
                }
        };
        let same: Vec<&PlannedCall<'_>> = every.iter().filter(shares).collect();
        let turn = index + own.step.done.call.number;
        let (why, call, chosen) = match (is_asked_again, is_read) {
            (true, _) => (LeftOutReason::AskedAgain, index, fault),
            (false, false) => (LeftOutReason::Alike, turn + number, fault),
            (false, true) => {
                let chosen = READ_ERRORS[turn % READ_ERRORS.len()];
                let why = if chosen == fault { LeftOutReason::Alike } else { LeftOutReason::SameError };
                (why, turn, chosen)
            }
        };
        let chosen = same[call % same.len()].pair(chosen);
        (chosen != own.pair(fault)).then_some((why, chosen))
    }

    /// Returns the pairs for which the run of `pair` does not stand, and removes them from the left-out pairs, so that
    /// they are run. `seen` is `None` if the call of `pair` did not come.
    fn follow(&mut self, pair: &Pair, seen: Option<Signature>) -> Vec<Pair> {
        let stands_for = |why| match (why, seen) {
            (_, None) => false,
            (LeftOutReason::Alike | LeftOutReason::SameError, Some(seen)) => !seen.went_on,
            (LeftOutReason::NotAgain, Some(seen)) => !seen.came_again,
            (_, Some(_)) => true,
        };
        let twice = |pair: &Pair| Pair { fault: Fault::Twice, ..pair.clone() };
        let mut more = Vec::new();
        let of_it = self.left_out.iter().filter(|(_, (_, by))| by == pair);
        for (other, why) in of_it.map(|(other, (why, _))| (other.clone(), *why)).collect::<Vec<_>>() {
            if !stands_for(why) {
                self.left_out.remove(&other);
                more.push(other);
            } else if why == LeftOutReason::Alike && seen.is_some_and(|seen| seen.came_again) {
                // The other scenario would call the tool again too. The pair's `Fault::Twice` stands for that
                // scenario's.
                if let Some(entry @ (LeftOutReason::NotAgain, _)) = self.left_out.get_mut(&twice(&other)) {
                    *entry = (LeftOutReason::Alike, twice(pair));
                }
            }
        }
        more
    }

    /// Counts the pairs that are left out, by reason.
    fn count_left_out(&self) -> BTreeMap<LeftOutReason, usize> {
        let mut counts = BTreeMap::new();
        self.left_out.values().for_each(|(why, _)| *counts.entry(*why).or_default() += 1);
        counts
    }
}

/// Returns whether the call starts a program. A failing program prints the same error each time.
fn is_tool(call: &Call) -> bool {
    !call.name.starts_with(|c: char| c.is_ascii_uppercase())
}

/// The faults that make a read fail. After the other one, [`Fault::Twice`], the client retries.
const READ_ERRORS: [Fault; 4] = [Fault::Fail, Fault::Hang, Fault::Garbage, Fault::Cut];

/// Returns whether the call reads an object or a list. Health checks, logs and watches have functions of their own.
fn is_read(call: &Call) -> bool {
    let path = call.name.strip_prefix("GET /api").filter(|rest| rest.starts_with(['/', 's']));
    path.is_some_and(|path| !["/log", "watch=true"].iter().any(|part| path.contains(part)))
}

/// The place of a request in a group that one function makes. The members share the five faults, because the caller
/// gets the same result whichever request fails.
/// - Lists of a snapshot: `Api::list_all` returns all of them, or the error of the one that failed.
/// - Watches of a snapshot: `snapshot::Watch` takes a whole snapshot as soon as one of them breaks.
/// - Logs of the evidence: `evidence::logs` saves the error in place of the log, and reads the others.
///
/// Unit tests of `xtask` show this: `a_list_that_fails_fails_all_of_them`,
/// `whichever_watch_fails_a_whole_snapshot_is_taken`, `whichever_log_cannot_be_read_the_others_are_saved`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group {
    /// `list`, `watch` or `log`.
    kind: &'static str,
    /// The number of members.
    members: usize,
    /// The index of this request among the members: sorted by name, or logs in the order in which they were read.
    place: usize,
    /// The number of this request among those of its name. 0 for logs: a run reads them once.
    round: usize,
}

impl Group {
    /// Returns the group of a step in a run with `steps`. `None` if the members come unequally often, because another
    /// function then makes the request too, or if there are fewer members than faults.
    fn of(step: &Step, steps: &[Step]) -> Option<Self> {
        let kind = Self::kind(&step.call.name)?;
        let calls = steps.iter().map(|other| &other.call).filter(|other| Self::kind(&other.name) == Some(kind));
        let (members, place, round) = if kind == "log" {
            let calls: Vec<&Call> = calls.collect();
            (calls.len(), calls.iter().position(|other| **other == step.call)?, 0)
        } else {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            calls.for_each(|other| *counts.entry(&other.name).or_default() += 1);
            if counts.values().any(|count| Some(count) != counts.values().next()) {
                return None;
            }
            (counts.len(), counts.keys().position(|other| *other == step.call.name)?, step.done.call.number)
        };
        (members >= FAULTS.len()).then_some(Self { kind, members, place, round })
    }

    /// Returns `list` or `watch` for the requests of a snapshot, `log` for those of the evidence, and `None` for other
    /// calls.
    fn kind(name: &str) -> Option<&'static str> {
        let path = name.strip_prefix("GET ")?;
        if path.ends_with(&format!("/log?tailLines={SAVED_LINES}")) {
            return Some("log");
        }
        let (path, kind) = path.strip_suffix("?watch=true").map_or((path, "list"), |path| (path, "watch"));
        let (_, rest) = path.split_once("/namespaces/todo/")?;
        // Functions other than the snapshot read these lists too, so nothing is shared.
        (!rest.contains(['/', '?']) && !["ingresses", "secrets", "resourcequotas"].contains(&rest)).then_some(kind)
    }
}

/// Creates `count` sandboxes concurrently.
pub fn sandboxes(setting: &SuiteSettings<'_>, count: usize) -> Result<Vec<PreparedSandbox>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..count).map(|number| scope.spawn(move || PreparedSandbox::make(setting, number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("making a sandbox panicked"))).collect()
    })
}

/// The references, by index of their scenario in [`SCENARIOS`].
pub type References = BTreeMap<usize, Reference>;

/// Runs the references concurrently in `sandboxes`. `only` restricts them to the scenarios whose name ends with its
/// text before `/`. If no name does, all scenarios are run.
pub fn references(
    setting: &SuiteSettings<'_>,
    sandboxes: &[PreparedSandbox],
    only: Option<&str>,
) -> Result<References> {
    let name = only.map(|text| text.split_once('/').map_or(text, |(name, _)| name));
    let fits: Vec<usize> =
        (0..SCENARIOS.len()).filter(|number| name.is_none_or(|name| SCENARIOS[*number].name.ends_with(name))).collect();
    // The text is then part of a call's name.
    let named = if fits.is_empty() { (0..SCENARIOS.len()).collect() } else { fits }.into_iter();
    let queue = Mutex::new(named.collect::<VecDeque<_>>());
    let found = Mutex::new(BTreeMap::new());
    side_by_side(sandboxes, |sandbox| {
        loop {
            let Some(number) = lock(&queue).pop_front() else { return Ok(()) };
            let _place = setting.gate.enter();
            let reference = sandbox.reference(&SCENARIOS[number]).with_context(|| SCENARIOS[number].name)?;
            lock(&found).insert(number, reference);
        }
    })?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Calls `work` for every sandbox at the same time.
pub fn side_by_side(sandboxes: &[PreparedSandbox], work: impl Fn(&PreparedSandbox) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = sandboxes.iter().map(|sandbox| scope.spawn(|| work(sandbox))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a sandbox panicked")))
    })
}

/// Returns the pairs whose text contains `only`. Returns all pairs if `only` is `None`.
pub fn select(references: &References, only: Option<&str>) -> Vec<Pair> {
    let found = plan(references, true).pairs.into_iter();
    found.filter(|pair| only.is_none_or(|text| pair.to_string().contains(text))).collect()
}

fn plan(references: &References, all: bool) -> Plan {
    let scenarios = references.iter().map(|(number, reference)| (*number, reference.calls.as_slice())).collect();
    Plan::new(&scenarios, all)
}

/// The pairs that wait to be run. While other pairs wait, at most [`HANGING`] pairs with [`Fault::Hang`] run.
struct Queue {
    hanging: VecDeque<Pair>,
    others: VecDeque<Pair>,
    /// The number of running pairs with [`Fault::Hang`].
    running: usize,
}

impl Queue {
    fn new(pairs: &[Pair]) -> Self {
        let (hanging, others) = pairs.iter().cloned().partition(|pair| pair.fault == Fault::Hang);
        Self { hanging, others, running: 0 }
    }

    /// Adds pairs that need a run of their own.
    fn add(&mut self, pairs: Vec<Pair>) {
        for pair in pairs {
            let queue = if pair.fault == Fault::Hang { &mut self.hanging } else { &mut self.others };
            queue.push_back(pair);
        }
    }

    fn next(&mut self) -> Option<Pair> {
        let hanging = self.running < HANGING || self.others.is_empty();
        let pair = if hanging { self.hanging.pop_front() } else { None };
        self.running += usize::from(pair.is_some());
        pair.or_else(|| self.others.pop_front())
    }
}

/// Runs the plan. Passes each violation to `tell`, and the progress at most every 30 s.
///
/// A busy machine can exceed a scaled limit. So a pair that is not clean is run again when the others are through, and
/// if it is not clean then either, once more with longer limits.
fn run(
    setting: &SuiteSettings<'_>,
    sandboxes: &[PreparedSandbox],
    references: &References,
    plan: Plan,
    begun: Findings,
    tell: impl Fn(&str) + Sync,
) -> Result<Findings> {
    let queue = Mutex::new(Queue::new(&plan.pairs));
    let plan = Mutex::new(plan);
    let follow_ups = FollowUps::default();
    let total = Mutex::new(begun);
    let doubtful = Mutex::new(Vec::new());
    let told = Mutex::new(Instant::now());
    let now_and_then = |line: &dyn Fn() -> String| {
        let mut told = lock(&told);
        if told.elapsed() > Duration::from_secs(30) {
            *told = Instant::now();
            tell(&line());
        }
    };
    side_by_side(sandboxes, |sandbox| {
        loop {
            if xtask::process::ending() {
                return Ok(());
            }
            let Some(pair) = lock(&queue).next() else { return Ok(()) };
            let place = setting.gate.enter();
            let checked = sandbox.check(&pair, &references[&pair.scenario], &follow_ups, FACTOR)?;
            drop(place);
            let mut total = lock(&total);
            // A run that is not clean may only have been too slow, so its repetition decides.
            let more = if checked.is_clean() { lock(&plan).follow(&pair, checked.seen) } else { Vec::new() };
            {
                let mut queue = lock(&queue);
                queue.running -= usize::from(pair.fault == Fault::Hang);
                queue.add(more);
            }
            total.again += usize::from(checked.again);
            if checked.is_clean() {
                total.runs += 1;
            } else {
                lock(&doubtful).push(pair);
            }
            let doubtful = lock(&doubtful).len();
            let all = total.pairs - lock(&plan).left_out.len();
            now_and_then(&|| format!("{} of {all} runs, {doubtful} to be repeated", total.runs));
        }
    })?;
    side_by_side(&sandboxes[..sandboxes.len().min(REPEATING)], |sandbox| {
        loop {
            let Some(pair) = lock(&doubtful).pop().filter(|_| !xtask::process::ending()) else { return Ok(()) };
            let checked = sandbox.check_again(&pair, &references[&pair.scenario])?;
            let mut total = lock(&total);
            total.repeated += 1;
            lock(&doubtful).extend(lock(&plan).follow(&pair, checked.seen));
            now_and_then(&|| format!("{} runs repeated, {} to go", total.repeated, lock(&doubtful).len()));
            if checked.is_polled_less {
                lock(&plan).left_out.insert(pair.clone(), (LeftOutReason::PolledLess, pair));
                continue;
            }
            if checked.seen.is_none() {
                total.missed.push(pair);
                continue;
            }
            total.runs += 1;
            for violation in checked.violations {
                tell(&format!("{pair}\n  claim: {}\n  truth: {}", violation.claim, violation.truth));
                total.violations.push((pair.clone(), violation));
            }
        }
    })?;
    let mut total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    total.left_out = lock(&plan).count_left_out();
    let (left_out, missed) = (total.left_out.values().sum::<usize>(), total.missed.len());
    ensure!(
        total.runs + left_out + missed == total.pairs || xtask::process::ending(),
        "{} pairs, but {} runs, {left_out} left out, {missed} missed",
        total.pairs,
        total.runs
    );
    Ok(total)
}

/// Runs the pairs, then the mutants, and returns the results of both. `only` selects some of them; `all` runs every
/// pair.
pub fn whole(
    setting: &SuiteSettings<'_>,
    only: Option<&str>,
    all: bool,
    tell: impl Fn(&str) + Sync,
) -> Result<(Findings, Vec<mutants::TriedMutant>)> {
    let mutants = only.is_none_or(|text| text.starts_with(MUTANTS));
    let pairs_too = !only.is_some_and(|text| text.starts_with(MUTANTS));
    // A single call has few pairs, and each sandbox takes seconds to start.
    let count = if only.is_some_and(names_call) { 2 } else { parallel_runs() + HANGING };
    tell(&format!("{count} sandboxes start"));
    std::thread::scope(|scope| {
        let building = scope.spawn(|| {
            // The sandboxes wait for this value, so it is set even if the build fails or panics.
            let built =
                std::panic::catch_unwind(|| mutants::build_all(&setting.checkout, &setting.folder.join("mutants")))
                    .unwrap_or_else(|_| bail!("the build of the program under test panicked"));
            setting.program.get_or_init(|| built.as_ref().ok().cloned());
            built
        });
        let sandboxes = sandboxes(setting, count);
        building.join().unwrap_or_else(|_| bail!("the build of the program under test panicked"))?;
        let sandboxes = sandboxes?;
        let references = references(setting, &sandboxes, only.filter(|_| pairs_too))?;
        let mut found = Findings::default();
        if pairs_too {
            // With `--only`, no other run stands for a pair.
            let every = select(&references, only);
            ensure!(!every.is_empty(), "no pair of a call and a fault fits {}", only.unwrap_or_default());
            let mut plan = match only {
                Some(_) => Plan { pairs: every.clone(), ..Plan::default() },
                None => plan(&references, all),
            };
            // Shuffled, so that some sandboxes compute while others wait for a limit.
            plan.pairs.sort_by_key(|pair| digest(pair.to_string().as_bytes()));
            tell(&format!(
                "{} of {} pairs are run; what they show decides on the others",
                plan.pairs.len(),
                every.len()
            ));
            found = Findings {
                scenarios: every.iter().map(|pair| pair.scenario).collect::<BTreeSet<_>>().len(),
                calls: every.iter().map(|pair| (pair.scenario, &pair.call)).collect::<BTreeSet<_>>().len(),
                pairs: every.len(),
                ..Findings::default()
            };
            found = run(setting, &sandboxes, &references, plan, found, &tell)?;
        }
        if !mutants {
            return Ok((found, Vec::new()));
        }
        let caught = mutants::try_all(setting, &sandboxes, &references, &tell)?;
        Ok((found, caught))
    })
}

/// Returns whether `only` names a call or a part of one, not a whole scenario.
fn names_call(only: &str) -> bool {
    only.split_once('/').is_some_and(|(_, call)| !call.is_empty())
}

/// The prefix of `--only` that selects only the mutants.
const MUTANTS: &str = "mutants";

/// Creates a folder for sandboxes, removed when the returned `TempDir` is dropped. First removes the folders of suites
/// whose process no longer exists.
pub fn folder(place: &Utf8Path) -> Result<(tempfile::TempDir, Utf8PathBuf)> {
    for entry in place.read_dir_utf8()?.filter_map(std::result::Result::ok) {
        let pid = entry.file_name().strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Utf8Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let prefix = format!("{PREFIX}{}-", std::process::id());
    let temp = tempfile::Builder::new().prefix(&prefix).tempdir_in(place)?;
    let path = Utf8PathBuf::try_from(temp.path().to_owned())?;
    Ok((temp, path))
}

/// The prefix of the names of these folders. A process ID follows.
const PREFIX: &str = "xtask-faults-";

/// Hard-links `program` into `folder`, or copies it if that fails. Returns the new path.
pub fn keep(program: &Utf8Path, folder: &Utf8Path) -> Result<Utf8PathBuf> {
    std::fs::create_dir_all(folder)?;
    let dest = folder.join(program.file_name().context("a program's name")?);
    if std::fs::hard_link(program, &dest).is_err() {
        std::fs::copy(program, &dest).with_context(|| format!("copying {program}"))?;
    }
    Ok(dest)
}

#[cfg(test)]
mod tests;
