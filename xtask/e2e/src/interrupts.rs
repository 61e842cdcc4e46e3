//! Killed, interrupted and concurrent deploys leave nothing behind, and the next deploy converges.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use camino::Utf8PathBuf;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::application;
use super::causes::nothing_to_do;
use super::test_cluster::{AUTH, TestCluster};
use xtask::process::Process;
use xtask::snapshot::{Snapshot, text};

/// Time limit for a moment to come: a whole deploy with a build on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);
/// Time limit for the guardian to end the children of a killed xtask.
const ORPHANS: Duration = Duration::from_secs(5);

/// An xtask process that runs beside the test.
pub struct Deploy {
    child: Child,
    output: Utf8PathBuf,
}

impl Deploy {
    /// Starts a deploy.
    pub fn start(test_cluster: &TestCluster) -> Result<Self> {
        Self::start_with(test_cluster, &[])
    }

    /// Starts a deploy with more arguments.
    pub fn start_with(test_cluster: &TestCluster, args: &[&str]) -> Result<Self> {
        Self::start_command(test_cluster, &[&["deploy", "dev"], args].concat())
    }

    /// Starts any command of the xtask under test. Its output goes to a file.
    pub fn start_command(test_cluster: &TestCluster, args: &[&str]) -> Result<Self> {
        let output = test_cluster.root.join("target/e2e-deploy.log");
        std::fs::create_dir_all(output.parent().context("a file has a folder")?)?;
        let file = std::fs::File::create(&output)?;
        let mut command = Command::new(test_cluster.exe());
        command
            .args(args)
            .args(test_cluster.options())
            .envs(test_cluster.environment())
            .env("TMPDIR", temp(test_cluster)?);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        Ok(Self { child: command.spawn().context("starting a deploy")?, output })
    }

    /// Waits up to [`LIMIT`] until the output has `text`. Returns false if the process ends without it.
    pub fn wait_for(&mut self, text: &str) -> Result<bool> {
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            if self.output()?.contains(text) {
                return Ok(true);
            }
            if self.child.try_wait()?.is_some() {
                return Ok(self.output()?.contains(text));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("`{text}` was not printed:\n{}", self.output()?)
    }

    /// Returns whether the process still runs.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Returns the output so far.
    pub fn output(&self) -> Result<String> {
        let mut text = String::new();
        std::fs::File::open(&self.output)?.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Sends a signal to xtask alone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process has a number")?;
        kill_process(pid, signal).context("sending a signal")
    }

    /// Returns the process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the process to end. Returns the exit code (none after a signal) and the output.
    pub fn end(mut self) -> Result<(Option<i32>, String)> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok((status.code(), self.output()?));
            }
            if start.elapsed() > LIMIT {
                self.child.kill()?;
                self.child.wait()?;
                bail!("the process does not end:\n{}", self.output()?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A process left by a failed scenario would keep the lock. Its guardian ends its children.
impl Drop for Deploy {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Returns the folder for temporary files, which must be empty after each run.
fn temp(test_cluster: &TestCluster) -> Result<Utf8PathBuf> {
    let dir = test_cluster.root.join("target/e2e-tmp");
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// A moment to kill xtask: its name, the line of output that starts it, and the delay after that line in ms.
type Moment = (&'static str, &'static str, u64);

/// The moments of a deploy. Each run starts with a changed source file.
const MOMENTS: &[Moment] = &[
    ("building", "> build todo-backend", 400),
    ("loading", "> load todo-backend", 30),
    ("between Secret and helm", "✓ apply Secret todo-backend-", 0),
    ("in helm", "> helm upgrade todo", 450),
    ("in the rollout", "> roll out", 1500),
];

pub fn killed_while_building(test_cluster: &TestCluster) -> Result<()> {
    killed(test_cluster, &MOMENTS[0])
}

pub fn killed_while_loading(test_cluster: &TestCluster) -> Result<()> {
    killed(test_cluster, &MOMENTS[1])
}

pub fn killed_before_helm(test_cluster: &TestCluster) -> Result<()> {
    killed(test_cluster, &MOMENTS[2])
}

pub fn killed_in_helm(test_cluster: &TestCluster) -> Result<()> {
    killed(test_cluster, &MOMENTS[3])
}

pub fn killed_in_the_rollout(test_cluster: &TestCluster) -> Result<()> {
    killed(test_cluster, &MOMENTS[4])
}

/// Kills a deploy with changed source and secret at the moment, and expects the next deploy to converge.
fn killed(test_cluster: &TestCluster, (name, line, after): &Moment) -> Result<()> {
    change(test_cluster)?;
    let mut deploy = Deploy::start(test_cluster)?;
    ensure!(deploy.wait_for(line)?, "`{line}` was not printed:\n{}", deploy.output()?);
    std::thread::sleep(Duration::from_millis(*after));
    kill(test_cluster, deploy)?;
    converges(test_cluster, &format!("killed {name}"))
}

/// Changes the secret and a line of source, so that every stage has work to do.
pub fn change(test_cluster: &TestCluster) -> Result<()> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
    test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}-{now}\n"))?;
    let path = test_cluster.root.join("apps/backend/app/__init__.py");
    let text = std::fs::read_to_string(&path)?;
    let kept: String =
        text.lines().filter(|line| !line.starts_with("# killed")).map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, format!("{kept}# killed at {now}\n"))?;
    Ok(())
}

/// Sends SIGKILL to xtask alone, and waits until its guardian has ended the children.
pub fn kill(test_cluster: &TestCluster, deploy: Deploy) -> Result<()> {
    deploy.signal(Signal::KILL)?;
    deploy.end()?;
    let start = Instant::now();
    while let Some(orphan) = orphan(test_cluster) {
        ensure!(start.elapsed() < ORPHANS, "{orphan} outlives the killed xtask");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Finds a process whose arguments name the kubeconfig or the checkout of the test cluster.
fn orphan(test_cluster: &TestCluster) -> Option<String> {
    let own = std::process::id().to_string();
    let marks = [test_cluster.kubeconfig.as_str(), test_cluster.root.as_str()];
    std::fs::read_dir("/proc").ok()?.filter_map(Result::ok).find_map(|entry| {
        let pid = entry.file_name().to_str()?.to_owned();
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        (pid != own && pid.parse::<u32>().is_ok() && marks.iter().any(|mark| line.contains(mark)))
            .then(|| format!("process {pid} ({line})"))
    })
}

/// Expects the next deploy after the event `happened` to succeed and to leave nothing of the previous one.
pub fn converges(test_cluster: &TestCluster, happened: &str) -> Result<()> {
    let ran = test_cluster
        .xtask(&["deploy", "dev"])?
        .expect(0, &["is up", "2/2 ready"])
        .with_context(|| happened.to_owned())?;
    test_cluster.project.report.note(format!("{happened}: the next deploy took {:.1} s", ran.took.as_secs_f64()));
    check_leftovers(test_cluster)?;
    nothing_to_do(test_cluster)
}

/// Fails if a revision is pending, a Secret belongs to no kept revision, or a temporary file is left.
fn check_leftovers(test_cluster: &TestCluster) -> Result<()> {
    let tools = test_cluster.tools()?;
    let history = tools.helm().args(["history", "todo", "--output", "json"]).read()?;
    ensure!(!history.contains("pending-"), "a revision is pending: {history}");
    let snapshot = Snapshot::take(&tools)?;
    // Includes the Secrets of revisions that a rollback can reach.
    let record = xtask::stages::release::Record::read(&snapshot)?;
    let mut named: BTreeSet<String> =
        record.map(|record| record.all_secrets()).unwrap_or_default().into_iter().collect();
    for set in snapshot.kind("ReplicaSet") {
        for volume in set.pointer("/spec/template/spec/volumes").and_then(Value::as_array).into_iter().flatten() {
            let sources = volume.pointer("/projected/sources").and_then(Value::as_array).into_iter().flatten();
            named.extend(sources.map(|source| text(source, "/secret/name").to_owned()));
        }
    }
    let selector = "app.kubernetes.io/managed-by=xtask,app.kubernetes.io/component=backend";
    let names =
        tools.kubectl_here().args(["get", "secrets", "-l", selector, "-o", "jsonpath={.items[*].metadata.name}"]);
    let unused: Vec<String> =
        names.read()?.split_whitespace().filter(|name| !named.contains(*name)).map(str::to_owned).collect();
    ensure!(unused.is_empty(), "unused Secrets: {unused:?}; in use: {named:?}");
    let files: Vec<_> =
        std::fs::read_dir(temp(test_cluster)?)?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    ensure!(files.is_empty(), "temporary files are left: {files:?}");
    Ok(())
}

pub fn killed_in_a_rollback(test_cluster: &TestCluster) -> Result<()> {
    let edited = test_cluster
        .edit("infra/helm/values-dev.yaml", |text| format!("{text}\nbackend:\n  command: [no-such-program]\n"))?;
    let mut deploy = Deploy::start(test_cluster)?;
    ensure!(deploy.wait_for("> roll back to revision")?, "there was no rollback:\n{}", deploy.output()?);
    std::thread::sleep(Duration::from_millis(400));
    kill(test_cluster, deploy)?;
    drop(edited);
    converges(test_cluster, "killed in a rollback")
}

/// No earlier revision exists, and Helm's first one is pending or failed.
pub fn killed_in_first_install(test_cluster: &TestCluster) -> Result<()> {
    test_cluster.xtask(&["teardown"])?.expect(0, &[])?;
    let mut deploy = Deploy::start(test_cluster)?;
    ensure!(deploy.wait_for("> helm upgrade todo")?, "helm did not begin:\n{}", deploy.output()?);
    std::thread::sleep(Duration::from_millis(700));
    kill(test_cluster, deploy)?;
    converges(test_cluster, "killed in a first install")
}

/// Creates a pending revision directly, because the moments above do not always leave one.
pub fn stuck_release(test_cluster: &TestCluster) -> Result<()> {
    let tools = test_cluster.tools()?;
    let chart = test_cluster.root.join("infra/helm");
    // Helm marks its revision pending before it waits, and this wait never ends.
    let upgrade = tools.helm().args(["upgrade", "todo", chart.as_str(), "--reuse-values", "--wait", "--timeout=120s"]);
    let upgrade = upgrade.args(["--set-string", "backend.command={sleep,600}"]);
    killed_while(test_cluster, upgrade, "pending-upgrade")?;
    test_cluster
        .xtask(&["deploy", "dev"])?
        .expect(0, &["free the stuck release todo", "is pending-upgrade for ", "is up"])?;
    check_leftovers(test_cluster)
}

pub fn killed_uninstall(test_cluster: &TestCluster) -> Result<()> {
    application::store_lasting(test_cluster)?;
    let uninstall =
        test_cluster.tools()?.helm().args(["uninstall", "todo", "--cascade=foreground", "--wait", "--timeout=120s"]);
    killed_while(test_cluster, uninstall, "uninstalling")?;
    test_cluster.xtask(&["deploy", "dev", "--dry-run"])?.expect(0, &["finish the uninstall of todo"])?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["finish the uninstall of todo", "is uninstalling", "is up"])?;
    application::lasting_is_there(test_cluster)?;
    check_leftovers(test_cluster)
}

/// Starts helm and kills it when its revision has the status `wanted`.
fn killed_while(test_cluster: &TestCluster, helm: Process, wanted: &str) -> Result<()> {
    let tools = test_cluster.tools()?;
    let child = Command::new(helm.program()).args(helm.arguments()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child?;
    let reached = || -> Result<bool> {
        let labels = "jsonpath={.items[*].metadata.labels.status}";
        let statuses = tools.kubectl_here().args(["get", "secrets", "-l", "owner=helm", "-o", labels]).read()?;
        Ok(statuses.contains(wanted))
    };
    let result = test_cluster.until("the revision's status", Duration::from_secs(60), reached);
    child.kill()?;
    child.wait()?;
    result?;
    ensure!(reached()?, "helm cleaned up before it died");
    Ok(())
}

pub fn two_at_once(test_cluster: &TestCluster) -> Result<()> {
    change(test_cluster)?;
    let mut first = Deploy::start(test_cluster)?;
    ensure!(first.wait_for("> build todo-backend")?, "no build began:\n{}", first.output()?);
    let who = format!("deploy dev --yes --root {}", test_cluster.root);
    let pid = format!("(pid {})", first.pid());
    test_cluster.xtask(&["deploy", "dev"])?.expect(10, &["another xtask is at work", &who, &pid])?;
    let (code, output) = first.end()?;
    ensure!(code == Some(0), "the first ended with {code:?}:\n{output}");
    Ok(())
}

pub fn ctrl_c(test_cluster: &TestCluster) -> Result<()> {
    change(test_cluster)?;
    let mut deploy = Deploy::start(test_cluster)?;
    ensure!(deploy.wait_for("> roll out")?, "no rollout began:\n{}", deploy.output()?);
    std::thread::sleep(Duration::from_millis(300));
    deploy.signal(Signal::INT)?;
    let (code, output) = deploy.end()?;
    ensure!(code == Some(130), "exit code {code:?}:\n{output}");
    ensure!(output.contains("interrupted at: roll out (old pods go on serving"), "the state is not printed:\n{output}");
    ensure!(!output.contains("error:"), "an error is printed:\n{output}");
    let start = Instant::now();
    while let Some(orphan) = orphan(test_cluster) {
        ensure!(start.elapsed() < ORPHANS, "{orphan} outlives the interrupted xtask");
        std::thread::sleep(Duration::from_millis(50));
    }
    converges(test_cluster, "ended by Ctrl-C")
}
