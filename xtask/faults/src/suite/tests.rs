use super::*;

fn index(name: &str) -> usize {
    SCENARIOS.iter().position(|scenario| scenario.name == name).unwrap()
}

/// Returns the steps of a run with these calls. The first `before_wait` of them come before a watch waits.
fn run(scenario: &str, names: &[&str], before_wait: usize) -> Vec<Step> {
    let number = |at: usize| names[..=at].iter().filter(|name| **name == names[at]).count();
    let calls = names.iter().enumerate().map(|(at, name)| Call { name: (*name).to_owned(), number: number(at) });
    let outcome = RunOutcome { calls: calls.collect(), before_wait, ..RunOutcome::default() };
    steps(&SCENARIOS[index(scenario)], &outcome)
}

/// Returns the steps of each scenario in `runs`, by index into [`SCENARIOS`].
fn calls<'a>(runs: &'a [(&str, Vec<Step>)]) -> Calls<'a> {
    runs.iter().map(|(name, steps)| (index(name), steps.as_slice())).collect()
}

const DEPLOYING: [&str; 4] = ["docker version", "GET /version", "helm upgrade", "git rev-parse"];

fn deploys() -> Vec<(&'static str, Vec<Step>)> {
    let watch = [&DEPLOYING[..2], &DEPLOYING].concat();
    vec![
        ("changed deploy", run("changed deploy", &DEPLOYING, 4)),
        ("failing deploy", run("failing deploy", &DEPLOYING, 4)),
        ("no-op", run("no-op", &DEPLOYING[..2], 2)),
        ("status", run("status", &DEPLOYING[..2], 2)),
        ("watch", run("watch", &watch, 2)),
    ]
}

/// Returns the planned faults of `calls`, each given as a scenario and a call.
fn faults(plan: &Plan, calls: &[(&str, &str)]) -> Vec<Fault> {
    let fits = |pair: &&Pair| calls.iter().any(|(name, call)| pair.to_string().starts_with(&format!("{name}/{call}/")));
    plan.pairs.iter().filter(fits).map(|pair| pair.fault).collect()
}

#[test]
fn scenarios_that_have_done_the_same_share_the_faults_of_a_call() {
    let runs = deploys();
    let plan = Plan::new(&calls(&runs), false);
    let once = |calls: &[(&str, &str)], count: usize| {
        let faults = faults(&plan, calls);
        assert_eq!(faults.iter().collect::<BTreeSet<_>>().len(), count, "{calls:?} {faults:?}");
        assert_eq!(faults.len(), count, "{calls:?} {faults:?}");
    };
    once(&[("no-op", "GET /version #1"), ("watch", "GET /version #1")], 5);
    once(
        &[("changed deploy", "GET /version #1"), ("failing deploy", "GET /version #1"), ("watch", "GET /version #2")],
        5,
    );
    once(&[("changed deploy", "helm upgrade #1"), ("watch", "helm upgrade #1")], 4);
    // From Helm's first call on, a deploy that fails by itself shares nothing. Another command never shares anything.
    once(&[("failing deploy", "helm upgrade #1")], 4);
    once(&[("status", "GET /version #1")], 5);
    let calls: usize = runs.iter().map(|(_, steps)| steps.len()).sum();
    assert_eq!(plan.pairs.len() + plan.left_out.len(), calls * FAULTS.len());
    assert_eq!(Plan::new(&super::tests::calls(&runs), true).pairs.len(), calls * FAULTS.len());
}

#[test]
fn a_run_that_goes_on_stands_for_itself_alone() {
    let runs = deploys();
    let new = || Plan::new(&calls(&runs), false);
    let left_out = new().left_out;
    let shared =
        |pair: &&Pair| pair.call.name == "GET /version" && left_out.values().filter(|(_, by)| by == *pair).count() == 2;
    let pair = new().pairs.iter().find(shared).cloned().unwrap();
    let follow = |went_on, came_again| new().follow(&pair, Some(Signature { went_on, came_again }));
    assert_eq!((follow(false, true), follow(true, false).len()), (Vec::new(), 2));
    assert!(follow(true, false).iter().all(|other| other.fault == pair.fault && other.scenario != pair.scenario));
    assert_eq!(new().follow(&pair, None), follow(true, false), "a call that does not come stands for nothing");
    let mut plan = new();
    let more = plan.follow(&pair, None);
    assert_eq!(plan.left_out.len() + more.len(), left_out.len());
    assert_eq!(plan.follow(&pair, None), [], "each is run once");

    let outcome = |code: i32, text: &str, names: &[&str]| RunOutcome {
        code: Some(code),
        text: text.to_owned(),
        calls: names.iter().map(|name| Call { name: (*name).to_owned(), number: 1 }).collect(),
        ..RunOutcome::default()
    };
    let went_on = |code, text, names: &[&str]| {
        Signature::of(&Call { name: "docker version".to_owned(), number: 1 }, &outcome(code, text, names)).went_on
    };
    assert!(!went_on(3, "error: no engine", &["helm list", "docker version", "GET /version"]));
    assert!(went_on(3, "error: rolled back", &["docker version", "helm rollback"]));
    assert!(went_on(0, "note: a log could not be read: error: no engine", &["docker version"]));
    // A watch is interrupted in any case.
    assert!(went_on(130, "up", &["docker version"]) && !went_on(130, "error: no engine", &["docker version"]));
}

#[test]
fn a_tool_fails_twice_where_it_was_called_again_after_it_had_failed() {
    let runs = deploys();
    let new = || Plan::new(&calls(&runs), false);
    let tools = |fault| {
        let found = new().pairs.into_iter().filter(move |pair| is_tool(&pair.call) && pair.fault == fault);
        found.collect::<Vec<_>>()
    };
    let twice = |pair: &Pair| Pair { fault: Fault::Twice, ..pair.clone() };
    let (ended, again) =
        (Signature { went_on: false, came_again: false }, Signature { went_on: false, came_again: true });
    assert_eq!(tools(Fault::Twice), []);
    for pair in tools(Fault::Fail) {
        assert_eq!(new().follow(&pair, Some(ended)), []);
        let mut plan = new();
        let alike: Vec<Pair> =
            plan.left_out.iter().filter(|(_, (_, by))| *by == pair).map(|(pair, _)| twice(pair)).collect();
        assert_eq!(plan.follow(&pair, Some(again)), [twice(&pair)]);
        // The run with `Fault::Twice` stands for the equal pairs if it ends before the scenarios diverge.
        let alike: Vec<Pair> = alike.into_iter().filter(|other| *other != twice(&pair)).collect();
        assert!(alike.iter().all(|other| plan.left_out[other] == (LeftOutReason::Alike, twice(&pair))));
        assert_eq!(plan.follow(&twice(&pair), Some(Signature { went_on: true, came_again: true })), alike);
    }
    assert_eq!(new().follow(&tools(Fault::Hang)[0], Some(again)), []);
    // A plan of all pairs has no pairs to add.
    let mut all = Plan::new(&calls(&runs), true);
    for pair in all.pairs.clone() {
        assert_eq!(all.follow(&pair, None), []);
    }
}

#[test]
fn what_the_client_asks_again_is_refused_for_a_moment_once_for_each_request() {
    let mut runs = deploys();
    let twice = |runs: &[(&str, Vec<Step>)]| {
        let pairs = Plan::new(&calls(runs), false).pairs.into_iter();
        pairs.filter(|pair| pair.fault == Fault::Twice && pair.call.name == "GET /version").count()
    };
    assert_eq!(twice(&runs), 3);
    let steps = runs.iter_mut().flat_map(|(_, steps)| steps);
    steps.for_each(|step| step.is_repeatable = step.call.name.starts_with("GET "));
    assert_eq!(twice(&runs), 1);
}

#[test]
fn what_is_left_out_has_a_run_that_stands_for_it() {
    let kinds = ["configmaps", "events", "pods", "services", "serviceaccounts"];
    let lists: Vec<String> = kinds.iter().map(|kind| format!("GET /api/v1/namespaces/todo/{kind}")).collect();
    let lists: Vec<&str> = lists.iter().map(String::as_str).chain(["docker version"]).collect();
    // One scenario makes these requests concurrently. Another scenario also makes one of them elsewhere.
    let watch = [&lists[..], &lists[..1]].concat();
    let mut runs = vec![
        ("no-op", run("no-op", &lists, lists.len())),
        ("watch", run("watch", &watch, lists.len())),
        ("status", run("status", &lists[1..], lists.len() - 1)),
    ];
    for is_repeatable in [false, true] {
        for step in runs.iter_mut().flat_map(|(_, steps)| steps) {
            step.is_repeatable = is_repeatable && step.call.name.starts_with("GET ");
        }
        let plan = Plan::new(&calls(&runs), false);
        assert!(!plan.left_out.is_empty());
        for (pair, (why, by)) in &plan.left_out {
            let mut by = by;
            while let Some((_, next)) = plan.left_out.get(by) {
                assert_ne!(next, pair);
                by = next;
            }
            assert!(plan.pairs.contains(by), "{pair}: {why}: {by}");
            let is_same = by.call.name == pair.call.name || *why == LeftOutReason::SideBySide;
            let may_differ = [LeftOutReason::NotAgain, LeftOutReason::SameError].contains(why);
            assert!(is_same && (by.fault == pair.fault || may_differ), "{pair}: {why}: {by}");
        }
    }
}

#[test]
fn what_is_asked_side_by_side_shares_the_faults_each_time() {
    let kinds = ["configmaps", "events", "pods", "services", "persistentvolumeclaims", "serviceaccounts", "secrets"];
    let lists: Vec<String> = kinds.iter().map(|kind| format!("GET /api/v1/namespaces/todo/{kind}")).collect();
    let lists = lists.iter().map(String::as_str).collect::<Vec<_>>().repeat(2);
    let planned = |names: &[&str]| {
        let runs = [("status", run("status", names, names.len()))];
        Plan::new(&calls(&runs), false).pairs
    };
    let pairs = planned(&lists);
    let of = |number: usize, is_secret: bool| {
        let fits = move |pair: &&Pair| pair.call.number == number && pair.call.name.ends_with("secrets") == is_secret;
        pairs.iter().filter(fits).map(|pair| (pair.call.name.as_str(), pair.fault)).collect::<Vec<_>>()
    };
    for number in [1, 2] {
        assert_eq!(of(number, false).iter().map(|(_, fault)| *fault).collect::<BTreeSet<_>>(), FAULTS.into());
        assert_eq!(of(number, false).iter().map(|(name, _)| *name).collect::<BTreeSet<_>>().len(), 5);
        assert_eq!(of(number, true).len(), 2, "nothing is asked side by side with it: an error, and a short refusal");
    }
    assert_ne!(of(1, false), of(2, false), "other ones each time");
    // If one of them is also made elsewhere, nothing is shared: each request gets two faults.
    assert_eq!(planned(&lists[..lists.len() - 3]).len(), (lists.len() - 3) * 2);
}

#[test]
fn the_logs_of_the_evidence_share_the_faults() {
    let log = |pod: &str| format!("GET /api/v1/namespaces/todo/pods/{pod}/log?tailLines=500");
    let names = ["todo-backend-<pod>", "todo-frontend-<pod>", "todo-backend-<pod>"].repeat(2);
    let names: Vec<String> = names.into_iter().map(log).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let planned = |count: usize| {
        let runs = [("failing deploy", run("failing deploy", &names[..count], count))];
        Plan::new(&calls(&runs), false).pairs
    };
    let pairs = planned(names.len());
    assert_eq!(pairs.iter().map(|pair| pair.fault).collect::<BTreeSet<_>>(), FAULTS.into());
    assert_eq!(pairs.iter().map(|pair| pair.call.clone()).collect::<BTreeSet<_>>().len(), FAULTS.len());
    assert_eq!(pairs.len(), FAULTS.len());
    assert_eq!(planned(4).len(), 4 * FAULTS.len(), "fewer logs than faults share nothing");
}

#[test]
fn a_read_fails_in_one_way_if_that_ends_the_command() {
    let names = ["GET /api/v1/namespaces/todo", "GET /apis/apps/v1/namespaces/todo/deployments/todo-backend"];
    let others = [
        "GET /readyz",
        "GET /api/v1/namespaces/todo/pods/a/log?tailLines=20",
        "GET /api/v1/pods?watch=true",
        "PATCH /api/v1/a",
    ];
    let runs = |scenarios: &[&'static str]| {
        let names = [&names[..], &others].concat();
        scenarios.iter().map(|name| (*name, run(name, &names, names.len()))).collect::<Vec<_>>()
    };
    let one = runs(&["status"]);
    let plan = Plan::new(&calls(&one), false);
    names.iter().for_each(|name| assert_eq!(faults(&plan, &[("status", &format!("{name} #1"))]).len(), 2, "{name}"));
    others.iter().for_each(|name| assert_eq!(faults(&plan, &[("status", &format!("{name} #1"))]).len(), 5, "{name}"));
    // Scenarios with equal progress share the error too.
    let both = runs(&["changed deploy", "failing deploy"]);
    let mut plan = Plan::new(&calls(&both), false);
    let is_error = |pair: &&Pair| pair.call.name == names[0] && pair.fault != Fault::Twice;
    let chosen: Vec<Pair> = plan.pairs.iter().filter(is_error).cloned().collect();
    let [chosen] = chosen.as_slice() else { panic!("{chosen:?}") };
    let seen = |went_on| Some(Signature { went_on, came_again: false });
    assert_eq!(plan.follow(chosen, seen(false)), []);
    let more = plan.follow(chosen, seen(true));
    assert_eq!(more.len(), 7, "an error that does not end the command stands for itself: {more:?}");
    assert!(more.iter().all(|pair| pair.call.name == names[0] && READ_ERRORS.contains(&pair.fault)));
}
