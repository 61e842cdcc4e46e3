//! The claims in xtask's messages, line by line, and the state that each claim requires.

use crate::truth::Truth;

/// The states before and after a run.
pub struct Around<'a> {
    /// The state before the run.
    pub before: &'a Truth,
    /// The state after the run. For messages before the first wait of a watch, the state before the run.
    pub after: &'a Truth,
    /// Whether the run says that it has removed its own first install, Secrets included.
    pub removed: bool,
}

/// A substring of a line, and a function that returns the real state if the claim in the line is false.
type Claim = (&'static str, fn(&str, &Around<'_>) -> Option<String>);

fn unless(is: bool, truth: impl Into<String>) -> Option<String> {
    (!is).then(|| truth.into())
}

const CLAIMS: &[Claim] = &[
    ("nothing changed: nothing was built", |_, at| {
        unless(
            at.before.essence() == at.after.essence() && at.after.is_verified(),
            "something changed, or it is not verified",
        )
    }),
    ("  is up  ", |_, at| unless(at.after.is_up(), "the release is not up")),
    ("built = node = pods", |_, at| unless(at.after.is_verified() || at.after.is_up(), "pods run something else")),
    ("the live state matches the verified one and is ready", |_, at| {
        unless(at.before.is_verified(), "it is not verified")
    }),
    ("verified: the pods run the built images", |_, at| unless(at.after.is_verified(), "it is not verified")),
    ("runs now: ", runs_now),
    ("rolled back to revision", |_, at| {
        let images = |truth: &Truth| truth.workloads().into_iter().map(|w| (w.name, w.images)).collect::<Vec<_>>();
        unless(
            at.after.is_up() && images(at.before) == images(at.after),
            "the images before do not run, or are not ready",
        )
    }),
    ("so it was removed", |_, at| {
        unless(
            at.after.revisions().is_empty() && at.after.workloads().is_empty(),
            "a revision or a workload is still there",
        )
    }),
    ("\u{2713} uninstall", |_, at| {
        unless(
            at.after.revisions().is_empty() && at.after.workloads().is_empty(),
            "a revision or a workload is still there",
        )
    }),
    ("Secrets and records removed", |_, at| {
        let left: Vec<String> = at.after.secrets().into_iter().filter(|name| name != "todo-postgres").collect();
        unless(
            left.is_empty() && at.after.record().is_none(),
            format!("left: {left:?}, record: {}", at.after.record().is_some()),
        )
    }),
    ("no namespace `", |_, at| unless(!at.before.has_namespace(), "the namespace exists")),
    ("no minikube profile", |_, at| unless(!at.before.recorded && !at.before.has_node(), "there is a profile")),
    ("there is no profile of that name", |_, at| {
        unless(!at.before.recorded && !at.before.has_node(), "there is a profile")
    }),
    ("is not deployed", |_, at| unless(at.before.workloads().is_empty(), "workloads are there")),
    ("it is not installed", |_, at| unless(at.before.revisions().is_empty(), "Helm has a revision")),
    ("Helm has no revision", |_, at| unless(at.before.revisions().is_empty(), "Helm has a revision")),
    ("was never verified", |_, at| unless(at.before.record().is_none(), "there is a record")),
    ("nothing was verified yet", |_, at| unless(at.before.record().is_none(), "there is a record")),
    ("(it does not exist;", |_, at| unless(!at.before.has_namespace(), "the namespace exists")),
    ("nothing was applied", |_, at| {
        let newest = |truth: &Truth| truth.revisions().into_keys().next_back();
        unless(newest(at.before) == newest(at.after), "Helm has made a revision")
    }),
    ("half deleted", |_, at| unless(at.before.recorded != at.before.has_node(), "it is whole")),
    ("no Docker Engine answers", |_, _| Some("the engine is there: one question to it failed".to_owned())),
    ("private Docker Engine", |line, _| unless(line.contains("stays:"), "the engine is there: none must be made")),
    ("the profile is stopped", |_, at| unless(!at.before.node_runs(), "the node runs")),
    ("the cluster does not run", |_, at| unless(!at.before.node_runs(), "the node runs")),
    ("ingress controller removed", |_, at| {
        unless(
            !at.after.has_controller() && !at.after.has_ingress_class(),
            "the controller or its class is still there",
        )
    }),
    ("has no ingress controller", |_, at| unless(!at.before.has_ingress_class(), "there is one")),
    ("has no default IngressClass", |_, at| unless(!at.before.has_ingress_class(), "there is one")),
    ("the engine no longer has it", |line, at| engine_lacks(line, at)),
    ("(not built in this checkout yet", |line, at| engine_lacks(line, at)),
    ("the engine has no such image", |_, _| Some("the engine has every image that is pulled".to_owned())),
    ("is not in the engine", |_, _| Some("the engine has it".to_owned())),
    ("changed by hand", |line, _| {
        unless(
            line.contains("try: ") || line.contains("nothing was changed by hand"),
            "nobody changed anything by hand",
        )
    }),
    (" serves at ", |_, at| unless(at.after.is_verified(), "the release is not verified")),
    ("cargo xtask teardown --cluster", |_, at| {
        unless(
            at.before.recorded != at.before.has_node() || !at.before.node_runs(),
            "the cluster is whole: nothing is to be deleted",
        )
    }),
    ("which xtask has never verified", |_, at| unless(at.before.record().is_none(), "there is a record")),
    ("somebody else has changed the release", |_, _| Some("nobody else has".to_owned())),
    ("\u{2713} load ", |line, at| {
        let reference = line.split("load ").nth(1).unwrap_or_default().split(": ").next().unwrap_or_default();
        unless(at.after.node_has(reference), "the node does not have it")
    }),
    ("\u{2713} create namespace", |_, at| unless(at.after.has_namespace(), "the namespace does not exist")),
    ("\u{2713} apply Secret", |line, at| {
        let name =
            line.split("apply Secret ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
        unless(at.after.secrets().contains(name) || at.removed, "there is no such Secret")
    }),
    ("\u{2713} install ingress controller", |_, at| unless(at.after.has_controller(), "there is no controller")),
    ("nothing to remove", |_, at| unless(at.before.revisions().is_empty(), "there is a release")),
];

/// Checks lines such as `runs now: todo-backend  2/2 ready, …` and `runs now: nothing`.
fn runs_now(line: &str, at: &Around<'_>) -> Option<String> {
    let words: Vec<&str> = line.split("runs now: ").nth(1)?.split_whitespace().collect();
    let workloads = at.after.workloads();
    if words.first() == Some(&"nothing") {
        return unless(workloads.iter().all(|workload| workload.ready == 0), format!("{workloads:?}"));
    }
    let ready: usize = words.get(1)?.split('/').next()?.parse().ok()?;
    let has = workloads.iter().find(|workload| workload.name == words[0]).map_or(0, |workload| workload.ready);
    unless(has >= ready, format!("{has} pods are ready"))
}

/// Checks a build whose stated reason is that the engine lacks an image of the component.
fn engine_lacks(line: &str, at: &Around<'_>) -> Option<String> {
    let name = line.split("build ").nth(1)?.split_whitespace().next()?;
    let has = at.before.engine_images().iter().any(|reference| reference.starts_with(&format!("{name}:")));
    unless(!has, format!("the engine has a build of {name}"))
}

/// Returns the false claims in `text`, each as the line and the real state.
pub fn false_claims(text: &str, at: &Around<'_>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in text.lines() {
        for (part, check) in CLAIMS.iter().filter(|(part, _)| line.contains(part)) {
            if let Some(truth) = check(line, at) {
                found.push((line.trim().to_owned(), format!("{truth} (claim `{}`)", part.trim())));
            }
        }
    }
    found
}
