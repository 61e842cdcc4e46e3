//! Runs every scenario once, then once for each call and fault, in several worlds side by side.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};

use crate::calls::{Call, FAULTS, Fault};
use crate::checker::{Case, Followed, Violation, check, check_again};
use crate::gate::Gate;
use crate::machine::digest;
use crate::mutants;
use crate::scenario::{DEPLOY, SCENARIOS, Scenario, Start};
use crate::servers::Programs;
use crate::truth::Truth;
use crate::world::{Outcome, State, World};

/// Worlds whose runs wait because a call hangs, while others compute.
const HANGING: usize = 4;
/// Runs that compute at the same time, for each processor: they wait for each other's answers, too.
const PER_PROCESSOR: usize = 2;
/// Runs that are repeated at the same time.
const REPEATING: usize = 2;
/// What time limits are multiplied with.
const FACTOR: f64 = 0.05;
/// The same where a busy machine must not exceed a limit.
const PATIENT: f64 = 0.25;
/// How often a scenario is run to see which of its calls come each time.
const TRIES: usize = 4;

/// What a suite is made with.
pub struct Setting<'a> {
    /// The folder of all worlds.
    pub folder: Utf8PathBuf,
    /// The xtask under test.
    pub program: Utf8PathBuf,
    /// What plays the tools that xtask calls.
    pub tool: Utf8PathBuf,
    /// etcd, API server and helm.
    pub programs: &'a Programs,
    /// What the worlds deploy.
    pub checkout: Utf8PathBuf,
    /// How many runs compute at the same time.
    pub gate: Arc<Gate>,
}

/// As many runs as this machine computes at the same time.
pub fn places() -> usize {
    PER_PROCESSOR * std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// A call of a scenario that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

/// What the runs came to.
#[derive(Default)]
pub struct Findings {
    /// The calls of all scenarios.
    pub calls: usize,
    /// Pairs that were run.
    pub runs: usize,
    /// Pairs that were not, because each does what one that was run does.
    pub alike: usize,
    /// Runs that followed a fault which had changed something.
    pub again: usize,
    /// How many pairs were run once more.
    pub repeated: usize,
    /// Pairs whose call did not come this time.
    pub missed: Vec<String>,
    /// The violations.
    pub violations: Vec<(Pair, Violation)>,
}

/// A world with the states that scenarios start from.
pub struct Prepared {
    /// The world.
    pub world: World,
    starts: HashMap<&'static str, Beginning>,
}

/// A state that scenarios start from, as the checker asks it.
struct Beginning {
    state: State,
    truth: Truth,
    everything: String,
}

impl Beginning {
    fn new(state: State) -> Self {
        let truth = Truth::of(&state);
        Self { everything: truth.everything(), truth, state }
    }
}

/// The run of a scenario in which nothing goes wrong.
pub struct Reference {
    outcome: Outcome,
    wanted: Truth,
    calls: Vec<Step>,
}

impl Prepared {
    /// Makes a world and the states; `program` may be another than that of the references.
    pub fn make(setting: &Setting<'_>, number: usize) -> Result<Self> {
        let _place = setting.gate.enter();
        let folder = setting.folder.join(number.to_string());
        let world = World::new(&folder, setting)?;
        let mut starts = HashMap::from([(name(Start::Nothing), Beginning::new(world.state()?))]);
        let mut deploy = |start: Start, edit: Option<&str>| -> Result<()> {
            if let Some(edit) = edit {
                world.edit(edit)?;
            }
            world.run(DEPLOY, None, None, PATIENT)?;
            // Nothing is left to do, and its parts are where the next one expects them.
            let outcome = world.run(DEPLOY, None, None, PATIENT)?;
            ensure!(outcome.code == Some(0), "a deploy without a fault fails:\n{}", outcome.text);
            starts.insert(name(start), Beginning::new(world.state()?));
            Ok(())
        };
        deploy(Start::Deployed, None)?;
        deploy(Start::DeployedTwice, Some("another"))?;
        Ok(Self { world, starts })
    }

    /// Runs a scenario while `planned` goes wrong; gives what there was before, too.
    fn run(&self, scenario: &Scenario, planned: Option<(Call, Fault)>, factor: f64) -> Result<(&Beginning, Outcome)> {
        let start = &self.starts[name(scenario.start)];
        self.world.restore(&start.state)?;
        if let Some(edit) = scenario.edit {
            self.world.edit(edit)?;
        }
        Ok((start, self.world.run(scenario.args, planned, scenario.saved, factor)?))
    }

    /// Runs it twice without a fault: what comes as often both times is a call that can be numbered.
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
        let counts = |outcome: &Outcome| {
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

    /// Lets one call go wrong; gives whether it came, whether a run had to follow, and what is wrong.
    fn check(&self, pair: &Pair, reference: &Reference, known: &Known, factor: f64) -> Result<Checked> {
        let scenario = &SCENARIOS[pair.scenario];
        let planned = (pair.call.clone(), pair.fault);
        let (before, outcome) = self.run(scenario, Some(planned.clone()), factor)?;
        if outcome.struck == 0 {
            return Ok(Checked { came: false, again: false, violations: Vec::new() });
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
        if now != before.everything {
            let state = (scenario.again, outcome.after.source().to_owned(), digest(now.as_bytes()));
            let found = lock(known).get(&state).cloned();
            let followed = match found {
                Some(followed) => followed,
                None => {
                    again = true;
                    let followed = Followed::new(&self.world.run(scenario.again, None, None, factor)?);
                    lock(known).insert(state, followed.clone());
                    followed
                }
            };
            violations.extend(check_again(&case, &followed));
        }
        Ok(Checked { came: true, again, violations })
    }

    /// The same without haste: if it looks wrong, once more with longer limits.
    pub fn check_again(&self, pair: &Pair, reference: &Reference) -> Result<Checked> {
        let again = |factor| self.check(pair, reference, &Known::default(), factor);
        let checked = again(FACTOR)?;
        if checked.came && checked.violations.is_empty() {
            return Ok(checked);
        }
        let patient = again(PATIENT)?;
        Ok(if patient.came { patient } else { checked })
    }
}

/// What came of a pair.
pub struct Checked {
    /// Whether its call came.
    came: bool,
    /// Whether a run had to follow.
    again: bool,
    /// What is wrong.
    pub violations: Vec<Violation>,
}

/// What follows from a command, a source of the backend and a state (its digest): the same is not tried twice.
type Known = Mutex<HashMap<(&'static [&'static str], String, String), Followed>>;

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

/// A call of a scenario, and what has been done by then. Where that is the same in another scenario, the same code goes on
/// from the same state, so that the two share the faults of the call.
#[derive(Clone, Debug)]
struct Step {
    call: Call,
    done: Done,
    /// Whether xtask makes it again when it is refused for a moment.
    is_repeatable: bool,
}

/// Start and command, the change that the command finds, and the command's calls of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Done {
    start: Start,
    command: &'static [&'static str],
    change: Option<&'static str>,
    call: Call,
}

/// The calls of a run in which nothing goes wrong. A watch is a deploy and, once something was saved, another one.
fn steps(scenario: &Scenario, outcome: &Outcome) -> Vec<Step> {
    let command = scenario.args.strip_suffix(&["--watch"]).unwrap_or(scenario.args);
    let (first, second) = outcome.calls.split_at(outcome.before_wait);
    let mut found = Vec::new();
    for (calls, edit) in [(first, scenario.edit), (second, scenario.saved)] {
        // What the change is shows once Helm has brought it.
        let mut change = edit.map(|_| ANY);
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for call in calls {
            if call.name.starts_with("helm ") {
                change = edit;
            }
            let number = counts.entry(&call.name).or_default();
            *number += 1;
            let own = Call { name: call.name.clone(), number: *number };
            let done = Done { start: scenario.start, command, change, call: own };
            found.push(Step { call: call.clone(), done, is_repeatable: outcome.repeatable.contains(call) });
        }
    }
    found
}

/// A change that is built.
const ANY: &str = "any";

/// The calls of scenarios by their number.
type Calls<'a> = BTreeMap<usize, &'a [Step]>;

/// The pairs of a scenario. `all`: every fault of every call. Otherwise
/// - the lists of a snapshot, and its watches, which one function asks side by side, share the five faults among them: other
///   ones of them each time;
/// - other requests that one function makes for several objects have one fault each time, another one each time;
/// - scenarios that have done the same share the faults of a call;
/// - a request that xtask's client makes again when it is refused for a moment, without a word to whoever wants it, fails
///   twice in one place of all where it is made.
fn pairs(scenario: usize, scenarios: &Calls<'_>, all: bool) -> Vec<Pair> {
    let calls = scenarios[&scenario];
    let every = || scenarios.iter().flat_map(|(number, steps)| steps.iter().map(|step| (*number, step)));
    let names: BTreeSet<&str> = every().map(|(_, step)| step.call.name.as_str()).collect();
    let mut found = Vec::new();
    for step in calls {
        let Step { call, done, is_repeatable } = step;
        let index = names.iter().take_while(|name| **name != call.name).count();
        // The same in each scenario that shares the call.
        let place = index + done.call.number;
        let later = calls.iter().any(|other| other.call.name == call.name && other.call.number > call.number);
        let mut alike: Vec<usize> = every().filter(|(_, step)| step.done == *done).map(|(number, _)| number).collect();
        alike.dedup();
        let same = every().filter(|(_, step)| step.is_repeatable && step.call.name == call.name);
        let same: Vec<(usize, &Call)> = same.map(|(number, step)| (number, &step.call)).collect();
        let group = Group::of(&call.name);
        let group_names =
            every().filter(|(_, other)| Group::of(&other.call.name) == group && other.done.is_beside(done));
        let group_names: BTreeSet<&str> = group_names.map(|(_, other)| other.call.name.as_str()).collect();
        let in_group = group_names.iter().take_while(|name| **name != call.name).count();
        for (number, fault) in FAULTS.into_iter().enumerate() {
            let chosen = match (fault, group) {
                _ if all => true,
                (_, Group::Lists | Group::Watches) if (done.call.number + number) % group_names.len() != in_group => {
                    false
                }
                (_, Group::OneByOne) if place % FAULTS.len() != number => false,
                (Fault::Twice, Group::None) if *is_repeatable => same[index % same.len()] == (scenario, call),
                _ => alike[(place + number) % alike.len()] == scenario,
            };
            // Of a tool that is not called again, failing twice is failing.
            let fails = fault == Fault::Twice && !later && !call.name.starts_with(|c: char| c.is_ascii_uppercase());
            if chosen && !fails {
                found.push(Pair { scenario, call: call.clone(), fault });
            }
        }
    }
    found
}

/// Requests that one function makes for several objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    /// The lists of a snapshot, side by side.
    Lists,
    /// Its watches, side by side.
    Watches,
    /// One after the other: lists that others want as well, and logs.
    OneByOne,
    /// None of these.
    None,
}

impl Group {
    /// That of a call of this name.
    fn of(name: &str) -> Self {
        let Some(path) = name.strip_prefix("GET ") else { return Self::None };
        let watched = path.strip_suffix("?watch=true");
        match watched.unwrap_or(path).split_once("/namespaces/todo/").map(|(_, rest)| rest) {
            Some(rest) if rest.ends_with("/log") => Self::OneByOne,
            None => Self::None,
            Some(rest) if rest.contains(['/', '?']) => Self::None,
            Some("secrets" | "resourcequotas") => Self::OneByOne,
            Some(_) if watched.is_some() => Self::Watches,
            Some(_) => Self::Lists,
        }
    }
}

impl Done {
    /// Whether the same was done before another call, as often as it had come.
    fn is_beside(&self, other: &Self) -> bool {
        let key = |done: &Self| (done.start, done.command, done.change, done.call.number);
        key(self) == key(other)
    }
}

/// Makes the worlds side by side.
pub fn worlds(setting: &Setting<'_>, count: usize) -> Result<Vec<Prepared>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(move || Prepared::make(setting, number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("making a world panicked"))).collect()
    })
}

/// References by the number of their scenario.
pub type References = BTreeMap<usize, Reference>;

/// The references of all scenarios, or of the one that `only` begins with, made by the worlds side by side.
pub fn references(setting: &Setting<'_>, worlds: &[Prepared], only: Option<&str>) -> Result<References> {
    let scenario = only.and_then(|text| text.split_once('/')).map(|(name, _)| name);
    let named =
        (0..SCENARIOS.len()).filter(|number| scenario.is_none_or(|name| SCENARIOS[*number].name.ends_with(name)));
    let queue = Mutex::new(named.collect::<VecDeque<_>>());
    let found = Mutex::new(BTreeMap::new());
    side_by_side(worlds, |world| {
        loop {
            let Some(number) = lock(&queue).pop_front() else { return Ok(()) };
            let _place = setting.gate.enter();
            let reference = world.reference(&SCENARIOS[number]).with_context(|| SCENARIOS[number].name)?;
            lock(&found).insert(number, reference);
        }
    })?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Does `work` in every world at the same time.
pub fn side_by_side(worlds: &[Prepared], work: impl Fn(&Prepared) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = worlds.iter().map(|world| scope.spawn(|| work(world))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a world panicked")))
    })
}

/// The pairs that are run: those that `only` is a part of, if it is given.
pub fn select(references: &References, only: Option<&str>, all: bool) -> Vec<Pair> {
    // Who names a call wants all of it.
    let all = all || only.is_some_and(names_call);
    let scenarios: Calls<'_> =
        references.iter().map(|(number, reference)| (*number, reference.calls.as_slice())).collect();
    let found = references.keys().flat_map(|number| pairs(*number, &scenarios, all));
    found.filter(|pair| only.is_none_or(|text| pair.to_string().contains(text))).collect()
}

/// The pairs that wait to be run. As many as there are worlds for that are pairs whose call hangs.
struct Queue {
    hanging: VecDeque<Pair>,
    others: VecDeque<Pair>,
    /// Pairs whose call hangs that are being run.
    running: usize,
}

impl Queue {
    fn new(pairs: &[Pair]) -> Self {
        let (hanging, others) = pairs.iter().cloned().partition(|pair| pair.fault == Fault::Hang);
        Self { hanging, others, running: 0 }
    }

    fn next(&mut self) -> Option<Pair> {
        let hanging = self.running < HANGING || self.others.is_empty();
        let pair = if hanging { self.hanging.pop_front() } else { None };
        self.running += usize::from(pair.is_some());
        pair.or_else(|| self.others.pop_front())
    }
}

/// Runs `pairs`; `tell` hears of each violation and, from time to time, how far it is.
///
/// A busy machine can exceed a scaled limit. So a pair that looks wrong, or whose call does not come, is run again when
/// the others are through, and if it still looks wrong, with longer limits.
fn run(
    setting: &Setting<'_>,
    worlds: &[Prepared],
    references: &References,
    pairs: &[Pair],
    tell: impl Fn(&str) + Sync,
) -> Result<Findings> {
    let queue = Mutex::new(Queue::new(pairs));
    let known = Known::default();
    let total = Mutex::new(Findings::default());
    let doubtful = Mutex::new(Vec::new());
    let told = Mutex::new(Instant::now());
    let now_and_then = |line: &dyn Fn() -> String| {
        let mut told = lock(&told);
        if told.elapsed() > Duration::from_secs(30) {
            *told = Instant::now();
            tell(&line());
        }
    };
    side_by_side(worlds, |world| {
        loop {
            if xtask::process::ending() {
                return Ok(());
            }
            let Some(pair) = lock(&queue).next() else { return Ok(()) };
            let place = setting.gate.enter();
            let checked = world.check(&pair, &references[&pair.scenario], &known, FACTOR)?;
            drop(place);
            lock(&queue).running -= usize::from(pair.fault == Fault::Hang);
            let mut total = lock(&total);
            total.again += usize::from(checked.again);
            if checked.came && checked.violations.is_empty() {
                total.runs += 1;
            } else {
                lock(&doubtful).push(pair);
            }
            let doubtful = lock(&doubtful).len();
            now_and_then(&|| format!("{} of {} runs, {doubtful} to be repeated", total.runs, pairs.len()));
        }
    })?;
    side_by_side(&worlds[..worlds.len().min(REPEATING)], |world| {
        loop {
            let Some(pair) = lock(&doubtful).pop().filter(|_| !xtask::process::ending()) else { return Ok(()) };
            let checked = world.check_again(&pair, &references[&pair.scenario])?;
            let mut total = lock(&total);
            total.repeated += 1;
            now_and_then(&|| format!("{} runs repeated, {} to go", total.repeated, lock(&doubtful).len()));
            if !checked.came {
                total.missed.push(pair.to_string());
                continue;
            }
            total.runs += 1;
            for violation in checked.violations {
                tell(&format!("{pair}\n  said or done: {}\n  the truth:    {}", violation.claim, violation.truth));
                total.violations.push((pair.clone(), violation));
            }
        }
    })?;
    Ok(total.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Runs the whole suite: every pair, and then the mutants. Gives the findings and how many mutants were not caught.
pub fn whole(
    setting: &Setting<'_>,
    only: Option<&str>,
    all: bool,
    tell: impl Fn(&str) + Sync,
) -> Result<(Findings, Vec<mutants::Caught>)> {
    let mutants = only.is_none_or(|text| text.starts_with(MUTANTS));
    let pairs_too = !only.is_some_and(|text| text.starts_with(MUTANTS));
    // Who names a call has few pairs, and each world takes seconds to start.
    let count = if only.is_some_and(names_call) { 2 } else { places() + HANGING };
    tell(&format!("{count} worlds start"));
    std::thread::scope(|scope| {
        // Beside the runs, which wait now and then.
        let program = mutants.then(|| scope.spawn(|| mutants::build_all(setting)));
        let worlds = worlds(setting, count)?;
        let references = references(setting, &worlds, only.filter(|_| pairs_too))?;
        let mut found = Findings::default();
        if pairs_too {
            let mut pairs = select(&references, only, all);
            let every = select(&references, only, true);
            // Mixed, so that some worlds compute while others wait for a limit.
            pairs.sort_by_key(|pair| digest(pair.to_string().as_bytes()));
            ensure!(!pairs.is_empty(), "no pair of a call and a fault fits {}", only.unwrap_or_default());
            let alike = every.len() - pairs.len();
            let scenarios = references.len();
            tell(&format!(
                "{} runs of {scenarios} scenarios; {alike} more are left out, for which others stand",
                pairs.len()
            ));
            let calls = every.iter().map(|pair| (pair.scenario, &pair.call)).collect::<BTreeSet<_>>().len();
            found = Findings { calls, alike, ..run(setting, &worlds, &references, &pairs, &tell)? };
        }
        let Some(program) = program else { return Ok((found, Vec::new())) };
        let program = program.join().unwrap_or_else(|_| bail!("the build of the mutants panicked"))?;
        Ok((found, mutants::try_all(setting, &program, &worlds, &references, &tell)?))
    })
}

/// Whether `--only` names a call or a part of one, not a whole scenario.
fn names_call(only: &str) -> bool {
    only.split_once('/').is_some_and(|(_, call)| !call.is_empty())
}

/// What `--only` begins with for the mutants alone.
const MUTANTS: &str = "mutants";

/// Makes a folder for worlds that goes with the returned value. Those of suites that were killed go first.
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

/// What the names of these folders begin with; a process ID follows.
const PREFIX: &str = "xtask-faults-";

/// Links `program` into `folder`, or copies it where that cannot be done.
pub fn keep(program: &Utf8Path, folder: &Utf8Path) -> Result<Utf8PathBuf> {
    std::fs::create_dir_all(folder)?;
    let dest = folder.join(program.file_name().context("a program's name")?);
    if std::fs::hard_link(program, &dest).is_err() {
        std::fs::copy(program, &dest).with_context(|| format!("copying {program}"))?;
    }
    Ok(dest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(name: &str) -> usize {
        SCENARIOS.iter().position(|scenario| scenario.name == name).unwrap()
    }

    /// A run with these calls, the `before_wait` first of them before a watch waits.
    fn run(scenario: &str, names: &[&str], before_wait: usize) -> Vec<Step> {
        let number = |at: usize| names[..=at].iter().filter(|name| **name == names[at]).count();
        let calls = names.iter().enumerate().map(|(at, name)| Call { name: (*name).to_owned(), number: number(at) });
        let outcome = Outcome { calls: calls.collect(), before_wait, ..Outcome::default() };
        steps(&SCENARIOS[index(scenario)], &outcome)
    }

    #[test]
    fn scenarios_share_the_faults_of_a_call_before_which_they_have_done_the_same() {
        let deploy = ["docker version", "GET /version", "helm upgrade", "git rev-parse"];
        let watch = [&deploy[..2], &deploy].concat();
        let runs = [
            ("changed deploy", run("changed deploy", &deploy, 4)),
            ("failing deploy", run("failing deploy", &deploy, 4)),
            ("no-op", run("no-op", &deploy[..2], 2)),
            ("status", run("status", &deploy[..2], 2)),
            ("watch", run("watch", &watch, 2)),
        ];
        let scenarios: Calls<'_> = runs.iter().map(|(name, steps)| (index(name), steps.as_slice())).collect();
        // Which scenarios have each fault.
        let who = |shared: &[(&str, &str)], all| {
            let of = |(scenario, call): &(&str, &str)| {
                let pairs = pairs(index(scenario), &scenarios, all).into_iter();
                pairs.filter(|pair| pair.call.to_string() == *call).map(|pair| pair.fault).collect::<BTreeSet<_>>()
            };
            shared.iter().map(of).collect::<Vec<_>>()
        };
        let once = |shared: &[(&str, &str)], faults: usize| {
            let who = who(shared, false);
            assert_eq!(who.iter().map(BTreeSet::len).sum::<usize>(), faults, "{shared:?} {who:?}");
            assert_eq!(who.iter().flatten().collect::<BTreeSet<_>>().len(), faults, "{shared:?} {who:?}");
            assert!(who.iter().all(|faults| !faults.is_empty()), "{shared:?} {who:?}");
        };
        once(&[("no-op", "GET /version #1"), ("watch", "GET /version #1")], 5);
        let changed = [
            ("changed deploy", "GET /version #1"),
            ("failing deploy", "GET /version #1"),
            ("watch", "GET /version #2"),
        ];
        once(&changed, 5);
        once(&[("changed deploy", "helm upgrade #1"), ("watch", "helm upgrade #1")], 4);
        // xtask asks again for what is refused for a moment: here and there alike.
        let twice = |scenarios: &Calls<'_>| {
            let all = scenarios.keys().flat_map(|number| pairs(*number, scenarios, false));
            all.filter(|pair| pair.fault == Fault::Twice && pair.call.name == "GET /version").count()
        };
        assert_eq!(twice(&scenarios), 3);
        let mut repeatable = runs.clone();
        let steps = repeatable.iter_mut().flat_map(|(_, steps)| steps);
        steps.for_each(|step| step.is_repeatable = step.call.name.starts_with("GET "));
        assert_eq!(twice(&repeatable.iter().map(|(name, steps)| (index(name), steps.as_slice())).collect()), 1);
        let kinds = ["configmaps", "events", "pods", "services", "persistentvolumeclaims", "serviceaccounts"];
        let lists: Vec<String> = kinds.iter().map(|kind| format!("GET /api/v1/namespaces/todo/{kind}")).collect();
        let lists = lists.iter().map(String::as_str).collect::<Vec<_>>().repeat(2);
        let status = run("status", &lists, 12);
        let shared = pairs(index("status"), &BTreeMap::from([(index("status"), status.as_slice())]), false);
        for number in [1, 2] {
            let of_snapshot = || shared.iter().filter(|pair| pair.call.number == number);
            assert_eq!(of_snapshot().map(|pair| pair.fault).collect::<BTreeSet<_>>(), FAULTS.into());
            assert_eq!(of_snapshot().map(|pair| &pair.call.name).collect::<BTreeSet<_>>().len(), 5);
        }
        let one_fault_each = shared.iter().map(|pair| (&pair.call.name, pair.fault)).collect::<BTreeSet<_>>();
        assert_eq!((shared.len(), one_fault_each.len()), (10, 10), "another one each time");
        // A failing deploy is another one from there on.
        once(&[("failing deploy", "helm upgrade #1")], 4);
        once(&[("status", "GET /version #1")], 5);
        assert!(who(&changed, true).iter().all(|faults| faults.len() == 5));
    }
}
