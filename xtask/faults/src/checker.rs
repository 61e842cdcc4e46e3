//! The checker of all scenarios: compares the messages and steps of a run with the states before and after it, and with
//! the same run without a fault. Its rules name no scenario.

use std::collections::BTreeMap;

use crate::calls::{Call, Fault};
use crate::claims::{Around, false_claims};
use crate::names;
use crate::sandbox::{RunOutcome, WATCHING};
use crate::scenario::Scenario;
use crate::truth::{Truth, differences};

/// A message or action of xtask that contradicts the real state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The message or action.
    pub claim: String,
    /// The real state.
    pub truth: String,
}

/// A run to check, with the states and the reference to compare it with.
pub struct Case<'a> {
    /// The scenario of the run.
    pub scenario: &'a Scenario,
    /// The call that went wrong, and its fault.
    pub planned: &'a (Call, Fault),
    /// The state before the run.
    pub before: &'a Truth,
    /// The state after the run.
    pub after: &'a Truth,
    /// The outcome of the run.
    pub outcome: &'a RunOutcome,
    /// The outcome of the same run without a fault.
    pub reference: &'a RunOutcome,
    /// The state after the reference run.
    pub wanted: &'a Truth,
}

/// Steps that xtask runs only after a failure.
const UNDOING: [&str; 3] = ["save the evidence", "roll back to revision", "remove the failed first install"];

/// The message after xtask has removed a failed first install, including what earlier steps created.
const REMOVED: &str = "\u{2713} remove the failed first install";

/// Returns all violations of a run.
pub fn check(case: &Case<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut add = |claim: String, truth: String| found.push(Violation { claim, truth });
    // Messages before the first wait of a watch are about the state at that time.
    let (first, rest) = match case.outcome.text.split_once(WATCHING) {
        Some((first, rest)) => (first, rest),
        None => ("", case.outcome.text.as_str()),
    };
    for (text, after) in [(first, case.before), (rest, case.after)] {
        let around = Around { before: case.before, after, removed: case.outcome.text.contains(REMOVED) };
        false_claims(text, &around).into_iter().for_each(|(claim, truth)| add(claim, truth));
    }
    exit(case, &mut add);
    words(case, &mut add);
    destruction(case, &mut add);
    service(case, &mut add);
    steps(case, &mut add);
    found
}

/// The result of the second run, which follows a run with a fault.
#[derive(Clone)]
pub struct Followed {
    code: Option<i32>,
    text: String,
    essence: BTreeMap<String, String>,
}

impl Followed {
    /// Creates the result of a second run with this outcome.
    pub fn new(outcome: &RunOutcome) -> Self {
        Self { code: outcome.code, text: tail(&outcome.text), essence: Truth::of(&outcome.after).essence() }
    }
}

/// Returns the violations of the second run, which must end as if there had been no fault.
pub fn check_again(case: &Case<'_>, again: &Followed) -> Vec<Violation> {
    let mut found = Vec::new();
    let command = case.scenario.again.join(" ");
    // A command other than the scenario's own must succeed.
    let wanted = if case.scenario.again == case.scenario.args { case.reference.code } else { Some(0) };
    if again.code != wanted {
        let truth = format!("exit code {:?} instead of {wanted:?}: {}", again.code, again.text);
        found.push(Violation { claim: format!("`{command}` again"), truth });
    }
    let different = differences(&case.wanted.essence(), &again.essence);
    if !different.is_empty() {
        found.push(Violation { claim: format!("`{command}` again converges"), truth: different.join("; ") });
    }
    found
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.iter().rposition(|line| line.starts_with("error:")).unwrap_or(lines.len().saturating_sub(4));
    lines[start..].join(" | ").chars().take(500).collect()
}

/// Checks the exit code: 0 requires the desired state; any other code requires an error with a next step.
fn exit(case: &Case<'_>, add: &mut impl FnMut(String, String)) {
    let outcome = case.outcome;
    match outcome.code {
        Some(0) => {
            let different = differences(&case.wanted.essence(), &case.after.essence());
            if case.reference.code != Some(0) {
                add("exit code 0".to_owned(), format!("without a fault it is {:?}", case.reference.code));
            } else if !different.is_empty() {
                add("exit code 0".to_owned(), different.join("; "));
            }
        }
        Some(code @ (1 | 3..=11 | 130)) => {
            // A watch prints the error and goes on until it is interrupted.
            let told = outcome.text.contains("error: ") || code == 130;
            if !told {
                add(format!("exit code {code}"), "no line begins with `error:`".to_owned());
            } else if !outcome.text.contains("try: ") && code != 130 {
                add(
                    format!("exit code {code}: {}", tail(&outcome.text)),
                    "no line names a next step (`try:`)".to_owned(),
                );
            }
        }
        other => add(
            format!("exit code {other:?}"),
            format!("it was killed, hung, or ended in no known way: {}", tail(&outcome.text)),
        ),
    }
}

/// Checks that an error has the tool's own words and names the tool or server, and that no panic is shown.
fn words(case: &Case<'_>, add: &mut impl FnMut(String, String)) {
    let outcome = case.outcome;
    for sign in ["panicked", "RUST_BACKTRACE", "stack backtrace"] {
        if let Some(line) = outcome.text.lines().find(|line| line.contains(sign)) {
            add(line.to_owned(), "a defect is shown raw".to_owned());
        }
    }
    let (call, fault) = case.planned;
    let failed = outcome.code != Some(0) && case.reference.code == Some(0) && outcome.struck > 0;
    if !failed || outcome.code == Some(130) && !outcome.text.contains("error: ") {
        return;
    }
    let tool = call.name.split(' ').next().unwrap_or_default();
    let (mut who, said): (Vec<&str>, &str) = match tool {
        "docker" => (vec!["docker", "crictl", "ctr", "engine", "node"], "connection refused"),
        "helm" => (vec!["helm", "Helm"], "Kubernetes cluster unreachable"),
        "minikube" => (vec!["minikube"], "the engine went away"),
        "git" => (vec!["git"], "unable to read"),
        "HTTP" => (vec![call.name.split(' ').nth(2).unwrap_or_default()], ""),
        // Helm sends requests to the API server too.
        _ => (vec!["API server", "Helm"], "request timed out"),
    };
    who.push(call.name.split(' ').nth(1).unwrap_or_default());
    if !who.iter().any(|name| outcome.text.contains(name)) {
        add(tail(&outcome.text), format!("the error does not name what failed: {call}"));
    }
    let said =
        if *fault == Fault::Twice && said == "request timed out" { "unable to handle the request" } else { said };
    if matches!(fault, Fault::Fail | Fault::Twice) && !outcome.text.contains(said) {
        add(tail(&outcome.text), format!("the error does not have the tool's own words, `{said}`"));
    }
}

/// Checks that xtask destroys or rebuilds only where the precondition holds, and that nothing in use is lost.
fn destruction(case: &Case<'_>, add: &mut impl FnMut(String, String)) {
    let (before, after) = (case.before, case.after);
    let called =
        |start: &str| case.outcome.calls.iter().find(|call| call.name.starts_with(start)).map(ToString::to_string);
    if let Some(call) = called("minikube start").filter(|_| before.node_runs()) {
        add(call, "the node ran, and its API server answered".to_owned());
    }
    for start in [
        "minikube delete",
        "docker rm",
        "docker volume rm",
        "DELETE /api/v1/namespaces/todo #",
        "DELETE /api/v1/namespaces/todo/persistentvolumeclaims",
    ] {
        if let Some(call) = case.outcome.calls.iter().map(ToString::to_string).find(|call| call.starts_with(start)) {
            add(call, "nobody asked for that".to_owned());
        }
    }
    if let Some(call) = called("helm uninstall").filter(|_| !case.scenario.removes && !before.revisions().is_empty()) {
        add(call, "there was a release before this run".to_owned());
    }
    if let Some(call) = called("PATCH /apis/apps/v1/namespaces/ingress-traefik").filter(|_| before.has_ingress_class())
    {
        add(call, "the cluster had an ingress controller".to_owned());
    }
    for built in case.outcome.after.machine.done.iter().filter_map(|done| done.strip_prefix("build ")) {
        if before.engine_images().contains(built) {
            add(format!("build {built}"), "the engine had it".to_owned());
        }
    }
    let lost = |kind: &str, what: Vec<String>, add: &mut dyn FnMut(String, String)| {
        if !what.is_empty() {
            add(format!("{kind} gone"), what.join(", "));
        }
    };
    lost("volume claims", before.claims().difference(&after.claims()).cloned().collect(), add);
    let password = before.secrets().contains("todo-postgres") && !after.secrets().contains("todo-postgres");
    lost("Secrets", password.then(|| "todo-postgres".to_owned()).into_iter().collect(), add);
    lost("Secrets of running pods", after.mounted_secrets().difference(&after.secrets()).cloned().collect(), add);
    lost("images of running pods", after.lost_images(), add);
    if before.node_runs() && !after.node_runs() {
        add("the node does not run any more".to_owned(), "it did before".to_owned());
    }
}

/// Checks that a workload that had ready pods has at least one during and after the run. Skips scenarios that remove
/// the release.
fn service(case: &Case<'_>, add: &mut impl FnMut(String, String)) {
    if case.scenario.removes {
        return;
    }
    for workload in case.before.workloads().iter().filter(|workload| workload.ready > 0) {
        let fewest = case.outcome.served.get(&workload.name).copied().unwrap_or(workload.ready);
        let now = case.after.workloads().into_iter().find(|now| now.name == workload.name).map_or(0, |now| now.ready);
        if fewest == 0 || now == 0 {
            let truth =
                format!("it had {} ready pods; {fewest} at the least meanwhile, {now} afterwards", workload.ready);
            add(format!("{} does not serve", workload.name), truth);
        }
    }
}

fn words_of(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Checks that a fault causes no unneeded steps, such as a build, a start or an install.
fn steps(case: &Case<'_>, add: &mut impl FnMut(String, String)) {
    let steps = |text: &str| -> Vec<String> {
        let begun = text.lines().filter_map(|line| line.trim_start().strip_prefix("> "));
        begun.map(|step| names::tool(&words_of(step.split(" (").next().unwrap_or_default()), "")).collect()
    };
    let usual = steps(&case.reference.text);
    for step in steps(&case.outcome.text) {
        if !usual.contains(&step) && !UNDOING.iter().any(|start| step.starts_with(start)) {
            add(format!("> {step}"), "a step that nothing needs".to_owned());
        }
    }
}
