//! Helm's state, read from the labels of its release Secrets, and the commands that change it.

use anyhow::{Context, Result};

use super::desired::Desired;
use super::secrets::{self, Existing};
use super::undo::Run;
use super::values;
use crate::api::{Propagation, kinds};
use crate::clock;
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::plan::Step;
use crate::process::Process;
use crate::project::Project;
use crate::toolbox::Toolbox;

/// One revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Its number.
    pub number: u64,
    /// `deployed`, `superseded`, `failed`, `pending-install`, …
    pub status: String,
    /// When it was made, as Kubernetes prints it.
    pub created: String,
}

impl Revision {
    /// Whether a helm was, or is, at work on it.
    pub fn pending(&self) -> bool {
        self.status.starts_with("pending-")
    }

    /// Whether its uninstall began and did not end. Helm neither upgrades it nor installs over it.
    pub fn uninstalling(&self) -> bool {
        self.status == "uninstalling"
    }
}

/// The revisions that Helm keeps, the newest first.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The revisions.
    pub revisions: Vec<Revision>,
}

impl Status {
    /// The newest revision.
    pub fn newest(&self) -> Option<&Revision> {
        self.revisions.first()
    }

    /// The number of the deployed revision.
    pub fn deployed(&self) -> Option<u64> {
        self.revisions.iter().find(|revision| revision.status == "deployed").map(|revision| revision.number)
    }
}

/// Helm's state, from the Secrets that hold it.
pub fn observe(secrets: &Existing) -> Status {
    let mut revisions = secrets.helm.clone();
    revisions.sort_by_key(|revision| std::cmp::Reverse(revision.number));
    Status { revisions }
}

/// `for 3 min (since 2026-11-21T08:24:59Z)`.
fn since(created: &str) -> String {
    let age = clock::parse(created).map(|then| format!("for {} ", clock::age(clock::now().saturating_sub(then))));
    format!("{}(since {created})", age.unwrap_or_default())
}

/// The steps that free a release which a killed helm left pending.
pub fn repair<'a>(tools: &'a Toolbox, release: &str, status: &Status) -> Vec<Step<'a>> {
    let Some(newest) = status.newest().filter(|revision| revision.pending()) else {
        return Vec::new();
    };
    let why = format!(
        "revision {} is {} {}: the helm that made it is gone",
        newest.number,
        newest.status,
        since(&newest.created)
    );
    // Helm refuses every upgrade while its newest revision is pending. That revision never became anything: its record
    // goes, and the revision before it, or nothing at all, is the newest again.
    let name = format!("sh.helm.release.v1.{release}.v{}", newest.number);
    let shown = format!("DELETE {}", kinds::SECRET.object(tools.namespace(), &name));
    let (release, context, number) = (release.to_owned(), tools.profile.clone(), newest.number);
    vec![Step::new(format!("free the stuck release {release}"), why, shown, move |_| {
        nobody_at_work(&release, &context)?;
        let now = observe(&secrets::observe(tools)?);
        if now.newest().is_none_or(|now| now.number != number || !now.pending()) {
            return Ok("it is not pending any more".to_owned());
        }
        tools.api()?.delete(&kinds::SECRET, &name, Propagation::Background).map(|_| String::new())
    })]
}

/// Fails while somebody's helm on this machine changes `release`.
pub fn nobody_at_work(release: &str, context: &str) -> Result<()> {
    let Some(pid) = at_work(release, context) else { return Ok(()) };
    let what = format!("helm (process {pid}) is at work on the release {release}");
    Err(Failure::new(Class::Busy, what).help("wait for it to end, or end it; then deploy again").into())
}

/// A helm of somebody's on this machine that changes `release` right now. Without /proc nobody is seen.
fn at_work(release: &str, context: &str) -> Option<u32> {
    std::fs::read_dir("/proc").ok()?.filter_map(Result::ok).find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let words: Vec<String> =
            line.split(|byte| *byte == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
        changes(&words, release, context).then_some(pid)
    })
}

/// Whether a command line is a helm that changes `release` in this context, or in the current one.
fn changes(words: &[String], release: &str, context: &str) -> bool {
    let has = |word: &str| words.iter().any(|w| w == word);
    let helm = words.first().is_some_and(|program| program.rsplit('/').next() == Some("helm"));
    let verb = ["upgrade", "install", "rollback", "uninstall"].iter().any(|verb| has(verb));
    let elsewhere =
        words.iter().any(|word| word.starts_with("--kube-context")) && !words.iter().any(|w| w.ends_with(context));
    helm && verb && has(release) && !elsewhere
}

/// The command of [`upgrade`], which is also how a dry run renders.
fn command(project: &Project, tools: &Toolbox, desired: &Desired) -> Process {
    let chart = project.root.join(&project.settings.chart.path);
    let release = &project.settings.chart.release;
    let helm = tools.helm().args(["upgrade", "--install", release, chart.as_str()]);
    helm.args(["--values", desired.values_file.as_str(), "--values", "-"])
        // What somebody changed with kubectl belongs to another field manager: it is taken back.
        .args(["--server-side=true", "--force-conflicts", "--history-max=10"])
        .stdin(desired.values.to_string())
        .deadline(deadlines::HELM_UPGRADE)
}

/// The `helm upgrade --install` without wait: xtask watches itself. What Helm has half applied when it fails is undone,
/// where `undoes` says so. `known`: the API server has had these objects, other images and Secrets aside, so Helm need not
/// compare them with its schema, which takes longer than all else that Helm does.
pub fn upgrade<'a>(
    project: &'a Project,
    tools: &'a Toolbox,
    desired: &'a Desired,
    run: Run,
    undoes: bool,
    known: bool,
    why: String,
) -> Step<'a> {
    let release = &project.settings.chart.release;
    let mut command = command(project, tools, desired).log(project.log("helm"));
    if known {
        command = command.arg("--disable-openapi-validation");
    }
    let shown = format!("{command} <<< '{}'", desired.values);
    Step::new(format!("helm upgrade {release}"), why, shown, move |_| {
        run.change(project, tools, &command, undoes).map(|()| String::new())
    })
}

fn rendering(project: &Project, tools: &Toolbox, desired: &Desired) -> Process {
    command(project, tools, desired).args(["--dry-run=server", "--hide-secret", "--output=json"])
}

/// The command of [`render`], for a step to show.
pub fn shown_render(project: &Project, tools: &Toolbox, desired: &Desired) -> String {
    format!("{} <<< '{}'", rendering(project, tools, desired), desired.values)
}

/// The manifests that [`upgrade`] would apply, rendered with the cluster at hand; changes nothing.
pub fn render(project: &Project, tools: &Toolbox, desired: &Desired) -> Result<String> {
    let text = rendering(project, tools, desired).read().map_err(|error| refused(project, &error))?;
    let release: serde_json::Value = serde_json::from_str(&text).context("helm did not print JSON")?;
    release["manifest"].as_str().map(str::to_owned).context("helm rendered no manifest")
}

/// The manifests of a revision, as Helm keeps them.
pub fn manifest(project: &Project, tools: &Toolbox, revision: u64) -> Result<String> {
    let release = &project.settings.chart.release;
    tools.helm().args(["get", "manifest", release, "--revision", &revision.to_string()]).read()
}

/// Words of a Helm that could not ask the API server, or was ended before it had its answer.
const UNANSWERED: [&str; 12] = [
    "cluster unreachable",
    "connection refused",
    "connection reset",
    "i/o timeout",
    "TLS handshake timeout",
    "context deadline exceeded",
    // The connection ended before an answer, and within it.
    "\": EOF",
    "reading response body",
    "etcdserver: ",
    "unable to handle the request",
    "took longer than",
    "(signal: ",
];

/// What Helm's error means.
pub fn refused(project: &Project, error: &anyhow::Error) -> Failure {
    meaning(&format!("{error:#}"), || values::files(project))
}

fn meaning(words: &str, files: impl FnOnce() -> Vec<values::File>) -> Failure {
    if UNANSWERED.iter().any(|unanswered| words.contains(unanswered)) {
        return Failure::new(Class::Cluster, format!("Helm did not finish: {words}"))
            .help("see whether the cluster answers: cargo xtask status");
    }
    let what = format!("Helm refused the release: {words}");
    if what.contains("because it is being terminated") {
        return Failure::new(Class::Cluster, what)
            .help("somebody is deleting the namespace; a deploy waits for the end of that: cargo xtask deploy dev");
    }
    if what.contains("has no deployed releases") {
        return Failure::new(Class::Cluster, what)
            .help("an uninstall has not ended; a deploy ends it first: cargo xtask deploy dev");
    }
    let edits = values::edits(words, &files());
    let failure = edits.into_iter().fold(Failure::new(Class::Config, what), Failure::help);
    failure.help("see what the message names: cargo xtask tool helm -- lint infra/helm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helm_that_is_at_work_is_told_from_others() {
        let changes =
            |line: &str| changes(&line.split(' ').map(str::to_owned).collect::<Vec<_>>(), "todo", "todo-test");
        assert!(changes("/cache/helm --kube-context todo-test upgrade --install todo chart"));
        assert!(changes("helm rollback todo 3"));
        assert!(!changes("helm --kube-context other upgrade todo chart"));
        assert!(!changes("helm history todo"));
        assert!(!changes("vim upgrade todo"));
    }

    #[test]
    fn a_helm_without_an_answer_is_no_refusal_of_the_chart() {
        let class = |words: &'static str| meaning(words, Vec::new).class;
        assert_eq!(
            class("`helm upgrade` failed (exit status: 1): Error: Kubernetes cluster unreachable: EOF"),
            Class::Cluster
        );
        assert_eq!(class("`helm upgrade` failed (signal: 9 (SIGKILL))"), Class::Cluster);
        let cut = "server-side apply failed for object todo/todo-postgres /v1, Kind=ServiceAccount: unexpected error when \
                   reading response body. Please retry. Original error: unexpected EOF";
        assert_eq!(class(cut), Class::Cluster);
        assert_eq!(class("Error: UPGRADE FAILED: Get \"https://127.0.0.1:32769/version\": EOF"), Class::Cluster);
        // A template with a mistake.
        assert_eq!(class("Error: parse error at (todo/templates/service.yaml:9): unexpected EOF"), Class::Config);
        assert_eq!(class("Error: values don't meet the specifications of the schema(s)"), Class::Config);
    }

    #[test]
    fn the_newest_revision_counts() {
        let revision = |number, status: &str| Revision { number, status: status.into(), created: String::new() };
        let status = observe(&Existing {
            helm: vec![revision(9, "superseded"), revision(11, "pending-upgrade"), revision(10, "deployed")],
            ..Existing::default()
        });
        assert_eq!(status.newest().unwrap().number, 11);
        assert_eq!(status.deployed(), Some(10));
    }
}
