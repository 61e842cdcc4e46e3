//! Helm's revisions, read from the labels of its release Secrets, and the commands that change the release.

use anyhow::{Context, Result};
use camino::Utf8Path;

use super::desired::Desired;
use super::secrets::{self, ObservedSecrets};
use super::undo::Run;
use super::values;
use crate::api::{Propagation, kinds};
use crate::clock;
use crate::deadlines;
use crate::failure::{self, Class, Failure};
use crate::inventory;
use crate::labels::Release;
use crate::plan::Step;
use crate::process::Process;
use crate::toolbox::Toolbox;

/// A revision of the release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The number that Helm gives it.
    pub number: u64,
    /// `deployed`, `superseded`, `failed`, `pending-install`, …
    pub status: String,
    /// Its creation time, as Kubernetes prints it.
    pub created: String,
}

impl Revision {
    /// Returns whether a helm process works on it, or has left it unfinished.
    pub fn is_pending(&self) -> bool {
        self.status.starts_with("pending-")
    }

    /// Returns whether its uninstall is unfinished. Helm then refuses to upgrade or install the release.
    pub fn is_uninstalling(&self) -> bool {
        self.status == "uninstalling"
    }
}

/// The revisions that Helm keeps of the release.
#[derive(Clone, Debug, Default)]
pub struct HelmHistory {
    /// The revisions, newest first.
    pub revisions: Vec<Revision>,
}

impl HelmHistory {
    /// Returns the newest revision.
    pub fn newest(&self) -> Option<&Revision> {
        self.revisions.first()
    }

    /// Returns the revisions as a table with a head, the newest first.
    pub fn table(&self) -> String {
        let rows =
            self.revisions.iter().map(|row| vec![row.number.to_string(), row.created.clone(), row.status.clone()]);
        inventory::table(&["REVISION", "CREATED", "STATUS"], rows.collect())
    }

    /// Returns the number of the deployed revision.
    pub fn deployed(&self) -> Option<u64> {
        self.revisions.iter().find(|revision| revision.status == "deployed").map(|revision| revision.number)
    }
}

/// Returns Helm's revisions, from the Secrets that hold them.
pub fn observe(secrets: &ObservedSecrets) -> HelmHistory {
    let mut revisions = secrets.helm.clone();
    revisions.sort_by_key(|revision| std::cmp::Reverse(revision.number));
    HelmHistory { revisions }
}

/// Returns `for 3 min (since 2026-11-21T08:24:59Z)`.
fn since(created: &str) -> String {
    let age = clock::parse(created).map(|then| format!("for {} ", clock::age(clock::now().saturating_sub(then))));
    format!("{}(since {created})", age.unwrap_or_default())
}

/// Returns the steps that repair a release which a killed helm left pending.
pub fn repair<'a>(tools: &'a Toolbox, release: &str, history: &HelmHistory) -> Vec<Step<'a>> {
    let Some(newest) = history.newest().filter(|revision| revision.is_pending()) else {
        return Vec::new();
    };
    let why = format!(
        "revision {} is {} {}: the helm that created it is gone",
        newest.number,
        newest.status,
        since(&newest.created)
    );
    // Helm refuses every upgrade while its newest revision is pending. Without that revision's Secret, the one before it is
    // the newest again.
    let name = format!("sh.helm.release.v1.{release}.v{}", newest.number);
    let shown = format!("DELETE {}", kinds::SECRET.object(tools.namespace(), &name));
    let (release, context, number) = (release.to_owned(), tools.profile.clone(), newest.number);
    vec![Step::new(format!("free the stuck release {release}"), why, shown, move |_| {
        ensure_idle(&release, &context)?;
        let now = observe(&secrets::observe(tools)?);
        if now.newest().is_none_or(|now| now.number != number || !now.is_pending()) {
            return Ok("it is no longer pending".to_owned());
        }
        tools.api()?.delete(&kinds::SECRET, &name, Propagation::Background).map(|_| String::new())
    })]
}

/// Fails while a helm process on this machine changes `release`.
pub fn ensure_idle(release: &str, context: &str) -> Result<()> {
    let Some(pid) = find_helm(release, context) else { return Ok(()) };
    let what = format!("helm (process {pid}) is at work on the release {release}");
    Err(Failure::new(Class::Busy, what).help("wait for it to end, or end it; then deploy again").into())
}

/// Returns the ID of a helm process on this machine that changes `release`; `None` also where there is no /proc.
fn find_helm(release: &str, context: &str) -> Option<u32> {
    std::fs::read_dir("/proc").ok()?.filter_map(Result::ok).find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let words: Vec<String> =
            line.split(|byte| *byte == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
        changes(&words, release, context).then_some(pid)
    })
}

/// Returns whether a command line is a helm that changes `release` in `context`, or names no context.
fn changes(words: &[String], release: &str, context: &str) -> bool {
    let has = |word: &str| words.iter().any(|w| w == word);
    let is_helm = words.first().is_some_and(|program| program.rsplit('/').next() == Some("helm"));
    let is_change = ["upgrade", "install", "rollback", "uninstall"].iter().any(|verb| has(verb));
    let is_elsewhere =
        words.iter().any(|word| word.starts_with("--kube-context")) && !words.iter().any(|w| w.ends_with(context));
    is_helm && is_change && has(release) && !is_elsewhere
}

/// Returns the command of [`upgrade`] and [`render`].
fn helm_upgrade(tools: &Toolbox, desired: &Desired) -> Process {
    let in_checkout = |path: &Utf8Path| desired.root.join(path).into_string();
    let release = &tools.release().name;
    let helm = tools.helm().args(["upgrade", "--install", release, &in_checkout(&desired.chart)]);
    helm.args(["--values", &in_checkout(&desired.values_file), "--values", "-"])
        // Fields that somebody changed with kubectl belong to another manager; Helm overwrites them.
        .args(["--server-side=true", "--force-conflicts", "--history-max=10"])
        .stdin(desired.values.to_string())
        .deadline(deadlines::HELM_UPGRADE)
}

/// Returns the step `helm upgrade --install`, without wait: xtask follows the rollout itself. `undoes`: whether a failure is
/// undone. `is_known`: the API server has accepted these objects before, except for images and Secrets. Helm then skips their
/// validation, which takes most of its time.
pub fn upgrade<'a>(
    tools: &'a Toolbox,
    desired: &'a Desired,
    run: Run,
    undoes: bool,
    is_known: bool,
    why: String,
) -> Step<'a> {
    let release = &tools.release().name;
    let mut command = helm_upgrade(tools, desired).log(tools.log("helm"));
    if is_known {
        command = command.arg("--disable-openapi-validation");
    }
    let shown = format!("{command} <<< '{}'", desired.values);
    Step::new(format!("helm upgrade {release}"), why, shown, move |_| {
        run.change(tools, &command, undoes, Some(desired)).map(|()| String::new())
    })
}

fn helm_render(tools: &Toolbox, desired: &Desired) -> Process {
    helm_upgrade(tools, desired).args(["--dry-run=server", "--hide-secret", "--output=json"])
}

/// Returns the command of [`render`], for a step to show.
pub fn shown_render(tools: &Toolbox, desired: &Desired) -> String {
    format!("{} <<< '{}'", helm_render(tools, desired), desired.values)
}

/// Renders the manifests that [`upgrade`] would apply, with a dry run on the API server.
pub fn render(tools: &Toolbox, desired: &Desired) -> Result<String> {
    let text = helm_render(tools, desired).read().map_err(|error| explain(tools.release(), Some(desired), error))?;
    let release: serde_json::Value = serde_json::from_str(&text).context("helm did not print JSON")?;
    release["manifest"].as_str().map(str::to_owned).context("helm rendered no manifest")
}

/// Reads the manifests of a revision that Helm keeps.
pub fn manifest(tools: &Toolbox, revision: u64) -> Result<String> {
    let release = &tools.release().name;
    tools.helm().class(Class::Cluster).args(["get", "manifest", release, "--revision", &revision.to_string()]).read()
}

/// Words of a Helm that got no answer from the API server, or was ended before it did.
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

/// Returns Helm's error with its class and the next steps: edits of the values files, if it is about a `desired` release.
pub fn explain(release: &Release, desired: Option<&Desired>, error: anyhow::Error) -> Failure {
    classify(&failure::message(&error), &release.chart_path, || desired.map(values::files).unwrap_or_default())
        .because(error)
}

fn classify(message: &str, chart: &Utf8Path, files: impl FnOnce() -> Vec<values::File>) -> Failure {
    if UNANSWERED.iter().any(|unanswered| message.contains(unanswered)) {
        return Failure::new(Class::Cluster, "Helm did not finish")
            .help("see whether the cluster answers: cargo xtask status");
    }
    let what = "Helm refused the release";
    if message.contains("because it is being terminated") {
        return Failure::new(Class::Cluster, what)
            .help("somebody is deleting the namespace; a deploy waits until it is gone: cargo xtask deploy dev");
    }
    if message.contains("has no deployed releases") {
        return Failure::new(Class::Cluster, what)
            .help("an uninstall did not finish; a deploy finishes it first: cargo xtask deploy dev");
    }
    let edits = values::edits(message, &files());
    let failure = edits.into_iter().fold(Failure::new(Class::Config, what), Failure::help);
    failure.help(format!("see what the message names: cargo xtask tool helm -- lint {chart}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_helm_that_changes_the_release_is_found() {
        let changes =
            |line: &str| changes(&line.split(' ').map(str::to_owned).collect::<Vec<_>>(), "todo", "todo-test");
        assert!(changes("/cache/helm --kube-context todo-test upgrade --install todo chart"));
        assert!(changes("helm rollback todo 3"));
        assert!(!changes("helm --kube-context other upgrade todo chart"));
        assert!(!changes("helm history todo"));
        assert!(!changes("vim upgrade todo"));
    }

    #[test]
    fn a_helm_without_an_answer_is_a_failure_of_the_cluster() {
        let class = |message: &'static str| classify(message, "charts/todo".into(), Vec::new).class;
        assert_eq!(
            class("`helm upgrade` failed (exit status: 1): Error: Kubernetes cluster unreachable: EOF"),
            Class::Cluster
        );
        assert_eq!(class("`helm upgrade` failed (signal: 9 (SIGKILL))"), Class::Cluster);
        let cut = "server-side apply failed for object todo/todo-postgres /v1, Kind=ServiceAccount: unexpected error when \
                   reading response body. Please retry. Original error: unexpected EOF";
        assert_eq!(class(cut), Class::Cluster);
        assert_eq!(class("Error: UPGRADE FAILED: Get \"https://127.0.0.1:32769/version\": EOF"), Class::Cluster);
        // A mistake in a template.
        assert_eq!(class("Error: parse error at (todo/templates/service.yaml:9): unexpected EOF"), Class::Config);
        assert_eq!(class("Error: values don't meet the specifications of the schema(s)"), Class::Config);
    }

    #[test]
    fn revisions_are_sorted_by_number() {
        let revision = |number, status: &str| Revision { number, status: status.into(), created: String::new() };
        let history = observe(&ObservedSecrets {
            helm: vec![revision(9, "superseded"), revision(11, "pending-upgrade"), revision(10, "deployed")],
            ..ObservedSecrets::default()
        });
        assert_eq!(history.newest().unwrap().number, 11);
        assert_eq!(history.deployed(), Some(10));
    }
}
