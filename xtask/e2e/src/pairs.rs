//! Faults on the real cluster: in each run, one call fails. The checker of `test faults` compares output and actions of
//! xtask with the states before and after. Besides, every user request must be answered, todos and foreign objects must
//! stay, and the next command must converge.

mod real;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use xtask::failure::{Class, Failure};
use xtask::tally::Tally;
use xtask_faults::calls::{Call, FAULTS, Fault};
use xtask_faults::checker::{Case, Followed, Violation, check, check_again};
use xtask_faults::machine::digest;
use xtask_faults::sandbox::{RunOutcome, State};
use xtask_faults::scenario::{DEPLOY, Scenario, Start};
use xtask_faults::truth::Truth;

use super::application;
use super::causes::{VALUES, sound, values};
use super::load::Load;
use super::test_cluster::TestCluster;
use real::{RealCluster, foreign_is_kept, with_backend_of};

/// The variable with the seed that chooses the pairs, and its default. A fixed seed makes failures reproducible.
const SEED: (&str, u64) = ("XTASK_FAULT_SEED", 1);
/// The file that a changed deploy edits.
const SOURCE: &str = "apps/backend/app/__init__.py";
/// Keys of the foreign objects in the state.
const FOREIGN: [&str; 2] =
    ["/registry/configmaps/todo/somebodys", "/registry/secrets/todo/sh.helm.release.v1.other.v99"];
/// Number of calls of one name that become pairs. The number of polls differs from run to run.
const NUMBERED: usize = 2;

/// A command, and its share of the chosen pairs.
struct CommandShare {
    scenario: Scenario,
    share: usize,
}

const fn kind(name: &'static str, args: &'static [&'static str], share: usize) -> CommandShare {
    let (start, removes) = (Start::Deployed, false);
    CommandShare { scenario: Scenario { name, start, edit: None, args, saved: None, again: args, removes }, share }
}

const NO_OP: usize = 1;
const CHANGED: usize = 2;
const ROLLBACK: usize = 3;
const FAILING: usize = 4;
const TEARDOWN: usize = 5;
const FIRST: usize = 6;

/// All commands in the order of their runs. Each starts from the state that the previous one leaves.
const KINDS: [CommandShare; 7] = [
    kind("status", &["status"], 6),
    kind("no-op", DEPLOY, 7),
    kind("changed deploy", DEPLOY, 6),
    kind("rollback", &["rollback"], 2),
    kind("failing deploy", DEPLOY, 5),
    CommandShare { scenario: Scenario { removes: true, ..kind("teardown", &["teardown"], 2).scenario }, share: 2 },
    CommandShare { scenario: Scenario { start: Start::Nothing, ..kind("first deploy", DEPLOY, 2).scenario }, share: 2 },
];

/// A call of a command, and the fault that it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    /// Index into [`KINDS`].
    kind: usize,
    call: Call,
    fault: Fault,
}

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", KINDS[self.kind].scenario.name, self.call, self.fault)
    }
}

/// A run without a fault, and the state after it.
struct Reference {
    outcome: RunOutcome,
    after: State,
}

/// The pairs to run.
enum Choice<'a> {
    /// Some of each command, chosen by this seed.
    Seed(u64),
    /// Pairs whose names contain the text; `None`: all.
    Named(Option<&'a str>),
}

/// The results of all runs.
#[derive(Default)]
struct Findings {
    /// Number of pairs to run.
    all: usize,
    /// Number of pairs that were run.
    runs: usize,
    /// Number of pairs whose call did not occur.
    missed: usize,
    violations: Vec<(Pair, Violation)>,
}

/// Runs 30 pairs chosen by a seed: some of each command.
pub fn chosen(test_cluster: &TestCluster) -> Result<()> {
    let (variable, default) = SEED;
    let given = std::env::var(variable).ok().map(|text| text.parse().context(variable)).transpose()?;
    let seed = given.unwrap_or(default);
    test_cluster.project.report.note(format!("seed {seed}; other pairs: {variable}=<number>"));
    let begun = Instant::now();
    let found = run(test_cluster, &Choice::Seed(seed))?;
    let seconds = begun.elapsed().as_secs();
    test_cluster.project.report.note(format!("{found} in {seconds} s"));
    ensure!(found.runs > 0, "no pair was run");
    let first = found.violations.first().map(|(pair, _)| pair.to_string()).unwrap_or_default();
    let again = format!("repeat one: cargo xtask test soak --only '{first}'");
    match found.violations.len() {
        0 => Ok(()),
        count => Err(Failure::new(Class::Check, format!("{count} violations, listed above")).help(again).into()),
    }
}

/// Runs every pair, or those whose names contain `only`.
pub fn all(test_cluster: &TestCluster, only: Option<&str>) -> Result<Tally> {
    let found = run(test_cluster, &Choice::Named(only))?;
    test_cluster.project.report.note(found.to_string());
    if found.runs == 0 {
        let what = format!("no name of a call and a fault contains {}", only.unwrap_or("anything"));
        return Err(Failure::new(Class::Config, what).help("give part of a name: --only 'no-op/docker'").into());
    }
    let failed: BTreeSet<String> = found.violations.iter().map(|(pair, _)| pair.to_string()).collect();
    let names: Vec<String> = failed.into_iter().collect();
    Ok(Tally { passed: found.runs - names.len(), failed: names.len(), names, ..Tally::default() })
}

fn run(test_cluster: &TestCluster, choice: &Choice<'_>) -> Result<Findings> {
    let mut cluster = FaultyCluster::new(test_cluster)?;
    let found = cluster.run(choice);
    let cleaned = cluster.clean_up();
    let found = found?;
    cleaned.map(|()| found)
}

/// The result of one pair.
struct PairResult {
    /// Whether the call occurred.
    occurred: bool,
    violations: Vec<Violation>,
    summary: String,
}

/// A test cluster on which calls fail.
struct FaultyCluster<'a> {
    test_cluster: &'a TestCluster,
    real: RealCluster<'a>,
    address: String,
    /// The current state of the cluster.
    now: State,
    /// Whether the release matches the checkout.
    is_current: bool,
    /// Source and values of the last deploy.
    deployed: [(&'static str, String); 2],
    /// Source and values before the first deploy.
    original: [(&'static str, String); 2],
    /// Number of changes so far; makes each change different.
    changes: usize,
}

impl<'a> FaultyCluster<'a> {
    fn new(test_cluster: &'a TestCluster) -> Result<Self> {
        sound(test_cluster)?;
        application::store_lasting(test_cluster)?;
        remove_foreign(test_cluster)?;
        let kubectl = || Ok::<_, anyhow::Error>(test_cluster.tools()?.kubectl_here());
        kubectl()?.args(["create", "configmap", "somebodys"]).run()?;
        let name = "sh.helm.release.v1.other.v99";
        let labels = json!({"owner": "helm", "name": "other", "version": "99", "status": "deployed"});
        let other = json!({"apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1",
                           "metadata": {"name": name, "labels": labels}});
        kubectl()?.args(["create", "-f", "-"]).stdin(other.to_string()).run()?;
        let read = |name| Ok::<_, anyhow::Error>((name, std::fs::read_to_string(test_cluster.root.join(name))?));
        let files = [read(SOURCE)?, read(VALUES)?];
        let real = RealCluster::new(test_cluster)?;
        let (address, now) = (test_cluster.address()?, real.state()?);
        let mut cluster = Self {
            test_cluster,
            real,
            address,
            now,
            is_current: false,
            deployed: files.clone(),
            original: files,
            changes: 0,
        };
        cluster.run_without_fault(DEPLOY)?;
        Ok(cluster)
    }

    /// Restores files, objects and release.
    fn clean_up(&mut self) -> Result<()> {
        self.deployed = self.original.clone();
        self.restore()?;
        remove_foreign(self.test_cluster)?;
        sound(self.test_cluster)
    }

    /// Restores the files of the last deploy.
    fn restore(&self) -> Result<()> {
        let write = |(name, text): &(&str, String)| std::fs::write(self.test_cluster.root.join(name), text);
        Ok(self.deployed.iter().try_for_each(write)?)
    }

    fn is_deployed(&self) -> bool {
        !Truth::of(&self.now).revisions().is_empty()
    }

    /// Runs a command without a fault.
    fn run_without_fault(&mut self, args: &[&str]) -> Result<()> {
        let (outcome, _) = self.real.run(args, None)?;
        ensure!(outcome.code == Some(0), "`{}` fails without a fault:\n{}", args.join(" "), outcome.text);
        self.now = self.real.state()?;
        self.is_current = args == DEPLOY;
        Ok(())
    }

    /// Establishes the state from which a command of this kind starts. Returns the arguments of the command.
    fn prepare(&mut self, kind: usize) -> Result<Vec<String>> {
        self.restore()?;
        let Scenario { start, args, .. } = KINDS[kind].scenario;
        match start {
            Start::Nothing if self.is_deployed() => self.run_without_fault(&["teardown"])?,
            Start::Nothing => {}
            _ if self.is_deployed() && self.is_current => {}
            _ => self.run_without_fault(DEPLOY)?,
        }
        let mut args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        match kind {
            CHANGED => {
                self.changes += 1;
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
                let change = format!("{}\n# changed at {now}, the change {}\n", self.original[0].1, self.changes);
                std::fs::write(self.test_cluster.root.join(SOURCE), change)?;
            }
            FAILING => {
                let mistake = values("backend:\n  command: [no-such-program]")(&self.deployed[1].1);
                std::fs::write(self.test_cluster.root.join(VALUES), mistake)?;
            }
            ROLLBACK => {
                let record = Truth::of(&self.now).record().context("no record of a verified revision")?;
                args.push(
                    record["history"][0]["revision"].as_u64().context("no earlier verified revision")?.to_string(),
                );
            }
            _ => {}
        }
        Ok(args)
    }

    /// Keeps the state that a run of this kind leaves.
    fn keep_state(&mut self, kind: usize, after: State, changed: bool) -> Result<()> {
        self.now = after;
        match kind {
            CHANGED if changed => self.deployed[0].1 = std::fs::read_to_string(self.test_cluster.root.join(SOURCE))?,
            ROLLBACK | FAILING | TEARDOWN if changed => self.is_current = false,
            FIRST => self.is_current = true,
            _ => {}
        }
        Ok(())
    }

    fn reference(&mut self, kind: usize) -> Result<Reference> {
        let args = self.prepare(kind)?;
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (outcome, took) = self.real.run(&args, None)?;
        let wanted = Some(if kind == FAILING { 7 } else { 0 });
        ensure!(outcome.code == wanted, "exit code {:?} instead of {wanted:?}:\n{}", outcome.code, outcome.text);
        let after = self.real.state()?;
        let (name, calls) = (KINDS[kind].scenario.name, outcome.calls.len());
        self.test_cluster.project.report.note(format!("{name}: {calls} calls, {:.1} s", took.as_secs_f64()));
        self.keep_state(kind, after.clone(), true)?;
        Ok(Reference { outcome, after })
    }

    fn run(&mut self, choice: &Choice<'_>) -> Result<Findings> {
        let is_named =
            |kind: usize, text: &str| text.split('/').next().is_some_and(|name| KINDS[kind].scenario.name == name);
        let is_needed = |kind: usize| match choice {
            Choice::Named(Some(text)) => is_named(kind, text) || !(0..KINDS.len()).any(|kind| is_named(kind, text)),
            _ => true,
        };
        // A rollback needs an earlier change, and a no-op deploy follows a failing one.
        let is_needed = |kind: usize| is_needed(kind) || kind == NO_OP || kind == CHANGED && is_needed(ROLLBACK);
        let mut references = BTreeMap::new();
        for kind in (0..KINDS.len()).filter(|kind| is_needed(*kind)) {
            references.insert(kind, self.reference(kind)?);
        }
        let mut queues = queues(&references, choice);
        let mut found = Findings { all: queues.iter().map(Vec::len).sum(), ..Findings::default() };
        let shares: Vec<usize> = match choice {
            Choice::Seed(_) => KINDS.iter().map(|kind| kind.share).collect(),
            _ => queues.iter().map(Vec::len).collect(),
        };
        let mut reported = Instant::now();
        for kind in turns(&shares) {
            // If the call does not occur, the next pair replaces this one.
            while let Some(pair) = queues[kind].pop() {
                if xtask::process::ending() {
                    bail!("interrupted");
                }
                let mut checked = self.check(&pair, &references)?;
                // A second run filters out violations that only a busy machine causes.
                let is_replaced = matches!(choice, Choice::Seed(_));
                if !checked.occurred && !is_replaced || !checked.violations.is_empty() {
                    checked = self.check(&pair, &references)?;
                }
                if !checked.occurred {
                    found.missed += 1;
                    continue;
                }
                found.runs += 1;
                if found.all > MANY && matches!(choice, Choice::Named(_)) {
                    if reported.elapsed() > PROGRESS {
                        reported = Instant::now();
                        self.test_cluster.project.report.note(found.to_string());
                    }
                } else {
                    self.test_cluster.project.report.note(format!("{pair}: {}", checked.summary));
                }
                for violation in checked.violations {
                    let (claim, truth) = (&violation.claim, &violation.truth);
                    self.test_cluster.project.report.warn(format!("{pair}\n  claim: {claim}\n  truth: {truth}"));
                    found.violations.push((pair.clone(), violation));
                }
                break;
            }
        }
        Ok(found)
    }

    /// Lets one call fail, and checks this run and the next one.
    fn check(&mut self, pair: &Pair, references: &BTreeMap<usize, Reference>) -> Result<PairResult> {
        let (kind, planned) = (pair.kind, (pair.call.clone(), pair.fault));
        let args = self.prepare(kind).with_context(|| format!("before {pair}"))?;
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let scenario = &KINDS[kind].scenario;
        let before = self.now.clone();
        let user = (scenario.start == Start::Deployed && !scenario.removes).then(|| Load::at(&self.address));
        let (outcome, took) = self.real.run(&args, Some(planned.clone()))?;
        let after = self.real.state()?;
        let truths = (Truth::of(&before), Truth::of(&after));
        let changed = truths.0.everything() != truths.1.everything();
        if outcome.struck == 0 {
            drop(user.map(Load::end));
            self.keep_state(kind, after, changed)?;
            return Ok(PairResult { occurred: false, violations: Vec::new(), summary: String::new() });
        }
        let reference = &references[&kind];
        let wanted = Truth::of(&with_backend_of(&reference.after, &after)?);
        let case = Case {
            scenario,
            planned: &planned,
            before: &truths.0,
            after: &truths.1,
            outcome: &outcome,
            reference: &reference.outcome,
            wanted: &wanted,
        };
        let mut violations = check(&case);
        let mut summary = format!("exit code {:?} after {:.1} s", outcome.code.unwrap_or(-1), took.as_secs_f64());
        let mut last = after.clone();
        if changed {
            // After a failing deploy, the user would revert the mistake.
            let (reference, args) = match kind {
                FAILING => {
                    self.restore()?;
                    (&references[&NO_OP], KINDS[NO_OP].scenario.args.to_vec())
                }
                _ => (reference, args),
            };
            let (mut again, took) = self.real.run(&args, None)?;
            last = self.real.state()?;
            let wanted = Truth::of(&with_backend_of(&reference.after, &last)?);
            let case = Case { reference: &reference.outcome, wanted: &wanted, ..case };
            again.after = last.clone();
            violations.extend(check_again(&case, &Followed::new(&again)));
            summary += &format!(", then {:?} after {:.1} s", again.code.unwrap_or(-1), took.as_secs_f64());
        }
        let mut require = |claim: &str, result: Result<()>| {
            let violation = |error: anyhow::Error| Violation { claim: claim.to_owned(), truth: format!("{error:#}") };
            violations.extend(result.map_err(violation).err());
        };
        require("every request is answered", user.map_or(Ok(()), |user| user.end().map(drop)));
        require("foreign objects stay unchanged", foreign_is_kept(&before, &last, &FOREIGN));
        self.keep_state(kind, last, changed)?;
        if changed && self.is_deployed() {
            require("the todos stay", application::lasting_is_there(self.test_cluster));
        }
        if !violations.is_empty() {
            self.is_current = false;
        }
        Ok(PairResult { occurred: true, violations, summary })
    }
}

/// Up to this number of pairs, each one gets a line of output.
const MANY: usize = 60;
/// Time between two progress lines of a longer run.
const PROGRESS: Duration = Duration::from_secs(60);

impl std::fmt::Display for Findings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { all, runs, missed, violations } = self;
        write!(f, "{runs} of {all} pairs were run, {} violations; {missed} calls did not occur", violations.len())
    }
}

/// Returns the pairs of each kind, to be taken from the end. A seed shuffles them by name, so that a new call does not
/// change the order of the others.
fn queues(references: &BTreeMap<usize, Reference>, choice: &Choice<'_>) -> Vec<Vec<Pair>> {
    let seed = if let Choice::Seed(seed) = choice { *seed } else { 0 };
    let pairs = |kind: usize| {
        let calls = references.get(&kind).map(|reference| reference.outcome.calls.as_slice()).unwrap_or_default();
        let calls: BTreeSet<&Call> = calls.iter().filter(|call| call.number <= NUMBERED).collect();
        let each = |call: &&Call| FAULTS.map(|fault| Pair { kind, call: (*call).clone(), fault });
        let mut pairs: Vec<Pair> = calls.iter().flat_map(each).collect();
        if let Choice::Named(Some(text)) = choice {
            pairs.retain(|pair| pair.to_string().contains(text));
        }
        pairs.sort_by_key(|pair| digest(format!("{seed} {pair}").as_bytes()));
        pairs
    };
    (0..KINDS.len()).map(pairs).collect()
}

/// Returns the order of the kinds. Teardowns and first deploys alternate: each starts from the state the other leaves.
fn turns(shares: &[usize]) -> Vec<usize> {
    let several = |kind: usize| std::iter::repeat_n(kind, shares[kind]);
    let mut turns: Vec<usize> = (0..TEARDOWN).flat_map(several).collect();
    for turn in 0..shares[TEARDOWN].max(shares[FIRST]) {
        turns.extend([TEARDOWN, FIRST].into_iter().filter(|kind| turn < shares[*kind]));
    }
    turns
}

fn remove_foreign(test_cluster: &TestCluster) -> Result<()> {
    let names = ["configmap/somebodys", "secret/sh.helm.release.v1.other.v99"];
    test_cluster.tools()?.kubectl_here().args(["delete", "--ignore-not-found"]).args(names).run()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(calls: &[(&str, usize)]) -> BTreeMap<usize, Reference> {
        let call = |(name, number): &(&str, usize)| Call { name: (*name).to_owned(), number: *number };
        let outcome = RunOutcome { code: Some(0), calls: calls.iter().map(call).collect(), ..RunOutcome::default() };
        BTreeMap::from([(NO_OP, Reference { outcome, after: State::default() })])
    }

    #[test]
    fn a_seed_chooses_the_same_pairs_and_a_new_call_keeps_their_order() {
        let few = references(&[("docker version", 1), ("helm history", 1), ("helm history", 3)]);
        let names = |references, seed| -> Vec<String> {
            let queues = queues(references, &Choice::Seed(seed));
            queues.iter().flatten().map(ToString::to_string).collect()
        };
        assert_eq!(names(&few, 7).len(), 2 * FAULTS.len(), "polls beyond the second are not numbered");
        assert_eq!(names(&few, 7), names(&few, 7));
        assert_ne!(names(&few, 7), names(&few, 8));
        let more = references(&[("docker version", 1), ("GET /readyz", 1), ("helm history", 1)]);
        let kept: Vec<String> = names(&more, 7).into_iter().filter(|name| !name.contains("readyz")).collect();
        assert_eq!(kept, names(&few, 7));
    }

    #[test]
    fn thirty_pairs_are_chosen_and_teardowns_alternate_with_first_deploys() {
        let shares: Vec<usize> = KINDS.iter().map(|kind| kind.share).collect();
        let turns = turns(&shares);
        assert_eq!(turns.len(), 30);
        assert_eq!(turns[26..], [TEARDOWN, FIRST, TEARDOWN, FIRST]);
    }
}
