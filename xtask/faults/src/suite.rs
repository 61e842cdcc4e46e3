//! Runs every scenario once, then once for each call and fault, in several sandboxes in parallel.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};

use crate::calls::{Call, FAULTS, Fault};
use crate::checker::{Case, Followed, Violation, check, check_again};
use crate::gate::Gate;
use crate::machine::digest;
use crate::mutants;
use crate::sandbox::{RunOutcome, Sandbox, State};
use crate::scenario::{DEPLOY, SCENARIOS, Scenario, Start};
use crate::servers::Programs;
use crate::truth::Truth;

/// Sandboxes whose run waits in a hanging call, while others compute.
const HANGING: usize = 4;
/// Runs that compute at the same time, for each processor. More than one, because a run also waits for its servers.
const PER_PROCESSOR: usize = 2;
/// Runs that are repeated at the same time.
const REPEATING: usize = 2;
/// The factor for all time limits.
const FACTOR: f64 = 0.05;
/// The factor where a busy machine must not exceed a limit.
const PATIENT: f64 = 0.25;
/// The most runs of a scenario without a fault, to find the calls that come each time.
const TRIES: usize = 4;

/// The programs, folders and limits of a suite.
pub struct SuiteSettings<'a> {
    /// The folder of all sandboxes.
    pub folder: Utf8PathBuf,
    /// The xtask under test.
    pub program: Arc<BuiltProgram>,
    /// What plays the tools that xtask calls.
    pub tool: Utf8PathBuf,
    /// etcd, API server and helm.
    pub programs: &'a Programs,
    /// What the sandboxes deploy.
    pub checkout: Utf8PathBuf,
    /// How many runs compute at the same time.
    pub gate: Arc<Gate>,
}

/// A program that is built beside the start of the sandboxes; `None`: its build failed.
pub type BuiltProgram = OnceLock<Option<Utf8PathBuf>>;

/// Returns how many runs this machine computes at the same time.
pub fn parallel_runs() -> usize {
    PER_PROCESSOR * std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// A call of a scenario that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    /// Index into [`SCENARIOS`].
    pub scenario: usize,
    /// The call.
    pub call: Call,
    /// How it goes wrong.
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
    /// Number of scenarios.
    pub scenarios: usize,
    /// Number of their calls.
    pub calls: usize,
    /// Number of pairs of a call and a fault.
    pub pairs: usize,
    /// Number of pairs that were run.
    pub runs: usize,
    /// Number of pairs that were not run, by reason.
    pub left_out: BTreeMap<LeftOutReason, usize>,
    /// Number of second runs, each after a fault that had changed something.
    pub again: usize,
    /// Number of pairs that were run once more.
    pub repeated: usize,
    /// Pairs whose call did not come, although nothing had failed before it.
    pub missed: Vec<Pair>,
    /// The violations.
    pub violations: Vec<(Pair, Violation)>,
}

/// A sandbox with the states from which scenarios start.
pub struct PreparedSandbox {
    /// The sandbox.
    pub sandbox: Sandbox,
    starts: HashMap<&'static str, StartState>,
}

/// A state from which scenarios start, read for the checker.
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

/// The run of a scenario in which nothing goes wrong.
pub struct Reference {
    outcome: RunOutcome,
    wanted: Truth,
    calls: Vec<Step>,
}

impl PreparedSandbox {
    /// Makes a sandbox and the states.
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
            // Nothing is left to do, and its parts are where the next one expects them.
            let outcome = sandbox.run(DEPLOY, None, None, PATIENT)?;
            ensure!(outcome.code == Some(0), "a deploy without a fault fails:\n{}", outcome.text);
            starts.insert(name(start), StartState::new(sandbox.state()?));
            Ok(())
        };
        deploy(Start::Deployed, None)?;
        deploy(Start::DeployedTwice, Some("another"))?;
        Ok(Self { sandbox, starts })
    }

    /// Runs a scenario while the call in `planned` fails. Returns the state before it, too.
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

    /// Runs a scenario twice without a fault. A call that comes equally often both times can be numbered.
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
            // The requests to a route are one measurement.
            call.number <= if call.name.starts_with("HTTP ") { 1 } else { both }
        };
        let calls = steps(scenario, &first).into_iter().filter(|step| stable(&&step.call)).collect();
        let wanted = Truth::of(&first.after);
        Ok(Reference { outcome: first, wanted, calls })
    }

    /// Runs a pair, and the command again if the fault has changed something. Returns what is wrong.
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
        // One violation is enough: a second run would only add to it.
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

    /// Runs a pair, and if it looks wrong, once more with longer limits.
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
    /// What decides for which other pairs this run stands; `None`: the call did not come.
    seen: Option<Signature>,
    /// The call did not come, an earlier one of its name did, and the run ended like the reference.
    is_polled_less: bool,
    /// Whether a second run followed.
    again: bool,
    /// What is wrong.
    pub violations: Vec<Violation>,
}

impl CheckedPair {
    /// Whether the call came and nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.seen.is_some() && self.violations.is_empty()
    }
}

/// Results of second runs by command, source of the backend and digest of the state, so that none is run twice.
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
    /// Whether xtask's client makes it again when it is refused for a moment.
    is_repeatable: bool,
}

/// How far a run has come: its start and command, the change that the command finds, and the number of calls of this name.
/// Two scenarios with equal progress have run the same code from the same state to the same call.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Progress {
    start: Start,
    command: &'static [&'static str],
    change: Option<&'static str>,
    call: Call,
}

/// Returns the calls of a run without a fault. A watch is one deploy and, after a file was saved, another one.
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

/// Any change of the sources, before Helm applies it.
const ANY: &str = "any";

/// The calls of scenarios by their number.
type Calls<'a> = BTreeMap<usize, &'a [Step]>;

/// The reason why a pair is not run: another run stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LeftOutReason {
    /// One function makes the request side by side with others, and its caller gets the same whichever fails: [`Group`].
    SideBySide,
    /// xtask's client makes the request again when it is refused for a moment, and its caller gets the second answer, so
    /// that it is played once for each request: `a_server_that_is_away_for_a_moment_is_asked_again`.
    AskedAgain,
    /// A run of another scenario that had done the same by then was ended by the fault, before the scenarios part. One
    /// that goes on stands for itself alone: [`Plan::follow`].
    Alike,
    /// xtask's client reads an object or a list, and its caller gets an error of the same class however that fails:
    /// `however_a_read_fails_its_caller_gets_an_error_of_the_same_class`. One way is run, and it ended the command. After one
    /// that did not, the others are run: [`Plan::follow`].
    SameError,
    /// A tool that fails twice fails in the same words both times, and the run in which it failed once did not call it
    /// again. After one that did, this pair is run: [`Plan::follow`].
    NotAgain,
    /// xtask asks the same question until it likes the answer, and came through with fewer questions than the reference.
    /// The earlier ones have the fault.
    PolledLess,
}

impl std::fmt::Display for LeftOutReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SideBySide => "asked side by side with one that is",
            Self::AskedAgain => "asked again by the client",
            Self::Alike => "ended by the fault before the scenarios part",
            Self::SameError => "a read whose error ends the command",
            Self::NotAgain => "not called a second time",
            Self::PolledLess => "polled less often than in the run without a fault",
        })
    }
}

/// The pairs to run, and those for which another run stands.
#[derive(Default)]
struct Plan {
    /// Pairs that are run in any case.
    pairs: Vec<Pair>,
    /// Pairs that are not run, the reason, and the pair whose run stands for them unless it shows otherwise.
    left_out: BTreeMap<Pair, (LeftOutReason, Pair)>,
}

/// A call of a scenario, and the group of requests that xtask makes side by side with it.
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

    /// Returns whether the fault is an error to the caller of a function that reads an object or a list.
    fn is_read_error(&self, fault: Fault) -> bool {
        self.group.is_none() && READ_ERRORS.contains(&fault) && is_read(&self.step.call)
    }

    /// Returns the other member of the group that has the fault with this number in place of this one, if any.
    fn beside<'a>(&self, every: &'a [PlannedCall<'a>], number: usize) -> Option<&'a PlannedCall<'a>> {
        let group = self.group?;
        let place = (self.step.done.call.number + number) % group.members;
        let round =
            |done: &Progress| Progress { call: Call { name: String::new(), ..done.call.clone() }, ..done.clone() };
        let fits = |other: &&PlannedCall<'_>| {
            other.scenario == self.scenario
                && other.group == Some(Group { place, ..group })
                && round(&other.step.done) == round(&self.step.done)
        };
        every.iter().find(fits).filter(|_| place != group.place)
    }
}

/// The facts of a run that decide for which other pairs it stands.
#[derive(Clone, Copy)]
struct Signature {
    /// The fault did not end the deploy, or Helm was called after it, from where on scenarios differ.
    went_on: bool,
    /// The call came again after it had failed.
    came_again: bool,
}

impl Signature {
    /// Reads the signature from the run of a pair.
    fn of(call: &Call, outcome: &RunOutcome) -> Self {
        let rest = outcome.calls.iter().skip_while(|other| *other != call).skip(1);
        let failed = match outcome.code {
            // A watch tells that a deploy failed, and waits until it is interrupted.
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
    /// Plans the runs; with `all`, every fault of every call.
    fn new(scenarios: &Calls<'_>, all: bool) -> Self {
        let mut every: Vec<PlannedCall<'_>> = Vec::new();
        for (&scenario, steps) in scenarios {
            let group = |step: &Step| Group::of(&step.call.name, steps);
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

    /// Returns why the fault with this number is left out for a call, and the pair that stands for it. `index` is that of the
    /// call's name: it distributes the pairs among the scenarios.
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
        // Each of them shares with the same ones, so that the one in turn is run.
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

    /// Removes the pairs for which the run of `pair` does not stand, and returns them: they must be run as well. Without a
    /// signature, its call did not come.
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
                // The other one's tool would have been called again, too. The run in which it fails twice stands for that.
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

/// Whether the call starts a program. A failing program prints the same error each time.
fn is_tool(call: &Call) -> bool {
    !call.name.starts_with(|c: char| c.is_ascii_uppercase())
}

/// The faults that make a read fail. With the other one the client asks again.
const READ_ERRORS: [Fault; 4] = [Fault::Fail, Fault::Hang, Fault::Garbage, Fault::Cut];

/// Whether the call reads an object or a list; health checks, logs and watches have functions of their own.
fn is_read(call: &Call) -> bool {
    let path = call.name.strip_prefix("GET /api").filter(|rest| rest.starts_with(['/', 's']));
    path.is_some_and(|path| !path.ends_with("/log") && !path.contains("watch=true"))
}

/// Requests that one function makes side by side. They share the five faults, because its caller gets the same result
/// whichever request fails.
/// - The lists of a snapshot: `Api::list_all` gives all of them, or the error of the one that failed.
/// - Its watches: `snapshot::Watch` takes a whole snapshot as soon as one breaks.
///
/// Unit tests of `xtask::api` show that: `a_list_that_fails_fails_all_of_them`,
/// `whichever_watch_fails_a_whole_snapshot_is_taken`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group {
    /// Lists or watches.
    kind: &'static str,
    /// How many they are.
    members: usize,
    /// The place of this one among them.
    place: usize,
}

impl Group {
    /// Returns the group of a call of this name in a run with `steps`. A request that comes more or less often than the others
    /// of its kind is also made elsewhere; then nothing is shared.
    fn of(name: &str, steps: &[Step]) -> Option<Self> {
        let kind = Self::kind(name)?;
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let names = steps.iter().map(|step| step.call.name.as_str()).filter(|other| Self::kind(other) == Some(kind));
        names.for_each(|other| *counts.entry(other).or_default() += 1);
        let is_whole = counts.values().all(|count| Some(count) == counts.values().next());
        let group = Self { kind, members: counts.len(), place: counts.keys().position(|other| *other == name)? };
        (is_whole && group.members >= FAULTS.len()).then_some(group)
    }

    /// Returns whether the call lists or watches the application's objects.
    fn kind(name: &str) -> Option<&'static str> {
        let path = name.strip_prefix("GET ")?;
        let (path, kind) = path.strip_suffix("?watch=true").map_or((path, "list"), |path| (path, "watch"));
        let (_, rest) = path.split_once("/namespaces/todo/")?;
        // Nothing is shared of lists that others than a snapshot ask for.
        (!rest.contains(['/', '?']) && !["ingresses", "secrets", "resourcequotas"].contains(&rest)).then_some(kind)
    }
}

/// Makes the sandboxes side by side.
pub fn sandboxes(setting: &SuiteSettings<'_>, count: usize) -> Result<Vec<PreparedSandbox>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..count).map(|number| scope.spawn(move || PreparedSandbox::make(setting, number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("making a sandbox panicked"))).collect()
    })
}

/// References by the number of their scenario.
pub type References = BTreeMap<usize, Reference>;

/// The references of all scenarios, or of the one that `only` begins with, made by the sandboxes side by side.
pub fn references(
    setting: &SuiteSettings<'_>,
    sandboxes: &[PreparedSandbox],
    only: Option<&str>,
) -> Result<References> {
    let name = only.map(|text| text.split_once('/').map_or(text, |(name, _)| name));
    let fits: Vec<usize> =
        (0..SCENARIOS.len()).filter(|number| name.is_none_or(|name| SCENARIOS[*number].name.ends_with(name))).collect();
    // A text that is no scenario's name is a part of a call's.
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

/// Does `work` in every sandbox at the same time.
pub fn side_by_side(sandboxes: &[PreparedSandbox], work: impl Fn(&PreparedSandbox) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = sandboxes.iter().map(|sandbox| scope.spawn(|| work(sandbox))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a sandbox panicked")))
    })
}

/// Every pair that `only` is a part of, all pairs without it.
pub fn select(references: &References, only: Option<&str>) -> Vec<Pair> {
    let found = plan(references, true).pairs.into_iter();
    found.filter(|pair| only.is_none_or(|text| pair.to_string().contains(text))).collect()
}

fn plan(references: &References, all: bool) -> Plan {
    let scenarios = references.iter().map(|(number, reference)| (*number, reference.calls.as_slice())).collect();
    Plan::new(&scenarios, all)
}

/// The pairs that wait to be run. At most [`HANGING`] pairs whose call hangs run at the same time.
struct Queue {
    hanging: VecDeque<Pair>,
    others: VecDeque<Pair>,
    /// Number of running pairs whose call hangs.
    running: usize,
}

impl Queue {
    fn new(pairs: &[Pair]) -> Self {
        let (hanging, others) = pairs.iter().cloned().partition(|pair| pair.fault == Fault::Hang);
        Self { hanging, others, running: 0 }
    }

    /// Adds pairs that turned out to need a run of their own.
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

/// Runs the plan. Reports each violation, and every 30 s the progress, with `tell`.
///
/// A busy machine can exceed a scaled limit. So a pair that looks wrong, or whose call does not come, is run again when
/// the others are through, and if it still looks wrong, with longer limits.
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
            // A run that looks wrong may only have been too slow: its repetition decides.
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

/// Runs the whole suite: the pairs, then the mutants. Returns the results of both.
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
            // The sandboxes wait for it, whatever becomes of it.
            let built = std::panic::catch_unwind(|| mutants::build_all(setting))
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

/// Whether `--only` names a call or a part of one, not a whole scenario.
fn names_call(only: &str) -> bool {
    only.split_once('/').is_some_and(|(_, call)| !call.is_empty())
}

/// What `--only` begins with for the mutants alone.
const MUTANTS: &str = "mutants";

/// Makes a folder for sandboxes, which is removed with the returned value. Removes those of killed suites first.
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

/// The prefix of these folders' names; a process ID follows.
const PREFIX: &str = "xtask-faults-";

/// Links `program` into `folder`, or copies it to another file system.
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
