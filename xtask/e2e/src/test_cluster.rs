//! A test cluster: a copy of the checkout with its own profile, port and kubeconfig, and the xtask under test.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};

use super::database;
use super::load::SharedLoad;
use xtask::api::{Scope, kinds};
use xtask::git;
use xtask::lock::{self, Lock};
use xtask::origin;
use xtask::process::{ALL, Process};
use xtask::project::Project;
use xtask::snapshot::text;
use xtask::stages::machine;
use xtask::toolbox::Toolbox;
use xtask_faults::ran::Ran;

/// An AUTH_SECRET for tests.
pub const AUTH: &str = "not-a-secret-not-a-secret-not-a-secret-1";

/// The file that gets a comment, so that each cluster has a backend image of its own: scenarios change images under their tags.
const MARK: &str = "apps/backend/app/__init__.py";

/// Names that separate the test clusters of the suites.
pub struct Names {
    /// The folder of its files.
    pub folder: Utf8PathBuf,
    /// Suffix of the profile that `deploy` uses.
    pub suffix: &'static str,
    /// Distance of its port from the port that `deploy` prefers.
    pub port_offset: u16,
    /// Environment variables of its runs.
    pub environment: Vec<(&'static str, String)>,
}

impl Names {
    /// Returns the names for a cluster in the engine of `deploy`, with files in `folder` of the checkout's target folder.
    pub fn new(project: &Project, folder: &str, suffix: &'static str, port_offset: u16) -> Self {
        Self { folder: project.target().join(folder), suffix, port_offset, environment: Vec::new() }
    }

    /// Returns the names for `e2e`, `policies` and `soak`.
    pub fn of_e2e(project: &Project) -> Self {
        Self::new(project, "e2e", "test", 400)
    }

    /// Returns the names for `recovery`.
    pub fn of_recovery(project: &Project) -> Self {
        Self::new(project, "recovery", "recovery", 420)
    }
}

/// The cluster and the checkout that scenarios use.
pub struct TestCluster {
    /// The project that runs the tests.
    pub project: Project,
    /// The profile that the tests create and delete.
    pub profile: String,
    /// Preferred port of the tests' cluster.
    pub port: u16,
    /// The copy of the checkout.
    pub root: Utf8PathBuf,
    /// The kubeconfig of the tests.
    pub kubeconfig: Utf8PathBuf,
    /// The xtask under test.
    exe: Utf8PathBuf,
    /// Log of every xtask run.
    pub log: Utf8PathBuf,
    /// Environment variables of every xtask run.
    environment: Vec<(&'static str, String)>,
    /// The load that scenarios share.
    pub load: SharedLoad,
    /// Whether the last run was a deploy that had nothing to do.
    pub is_settled: AtomicBool,
    /// Keeps the other suites of this user from the profile.
    _lock: Lock,
}

impl TestCluster {
    /// Copies the kubeconfig to `to`, with the API server at `port`. Returns the previous address.
    pub fn aim(&self, to: &Utf8Path, port: u16) -> Result<String> {
        let mut config: Value = serde_norway::from_str(&std::fs::read_to_string(&self.kubeconfig)?)?;
        let clusters = config["clusters"].as_array_mut().into_iter().flatten();
        let cluster = clusters.into_iter().find(|entry| entry["name"] == self.profile.as_str());
        let cluster = cluster.with_context(|| format!("{} has no cluster {}", self.kubeconfig, self.profile))?;
        let server = cluster["cluster"]["server"].as_str().unwrap_or_default().to_owned();
        cluster["cluster"]["server"] = json!(format!("https://127.0.0.1:{port}"));
        write_private(to, &serde_norway::to_string(&config)?)?;
        Ok(server)
    }

    /// Locks the profile, and copies the checkout and the program `xtask`. `clean` also removes the remains of an earlier run.
    pub fn make(project: &Project, xtask: &str, names: &Names, clean: bool) -> Result<Self> {
        let cluster = &project.settings.cluster;
        let profile = format!("{}-{}", cluster.profile, names.suffix);
        let lock = lock::take(&project.cache.join("locks"), &format!("{profile}-tests"))?;
        let dir = &names.folder;
        let root = dir.join("checkout");
        let dotenv = std::fs::read_to_string(root.join(".env")).ok().filter(|_| !clean);
        match std::fs::remove_dir_all(&root) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context("removing the old copy");
            }
            _ => {}
        }
        for name in git::files(&project.root, &[])? {
            let (from, to) = (project.root.join(&name), root.join(&name));
            if from.is_file() {
                std::fs::create_dir_all(to.parent().context("a file has a folder")?)?;
                std::fs::copy(&from, &to).with_context(|| format!("copying {from}"))?;
            }
        }
        let mark = root.join(MARK);
        let text = std::fs::read_to_string(&mark).with_context(|| format!("reading {mark}"))?;
        std::fs::write(&mark, format!("{text}# {profile}\n"))?;
        let kubeconfig = dir.join("kubeconfig");
        if clean {
            let _ = std::fs::remove_file(&kubeconfig);
        }
        let exe = dir.join("xtask");
        copy_program(xtask, &exe)?;
        let test_cluster = Self {
            profile,
            port: cluster.port.saturating_add(names.port_offset),
            project: project.clone(),
            root,
            kubeconfig,
            exe,
            log: project.log(if names.suffix == "test" { "e2e" } else { names.suffix }),
            environment: names.environment.clone(),
            load: SharedLoad::default(),
            is_settled: AtomicBool::new(false),
            _lock: lock,
        };
        match dotenv {
            Some(text) => test_cluster.write_dotenv(&text)?,
            None if clean => {
                database::remove_left(&test_cluster);
                test_cluster.xtask(&["teardown", "--cluster"])?.expect(0, &[])?;
            }
            None => {}
        }
        Ok(test_cluster)
    }

    /// Runs the xtask under test on the copy.
    pub fn xtask(&self, args: &[&str]) -> Result<Ran> {
        self.xtask_with(args, &[])
    }

    /// Returns the path of the xtask under test.
    pub fn exe(&self) -> &Utf8PathBuf {
        &self.exe
    }

    /// Returns the options that select the copy and the test cluster.
    pub fn options(&self) -> Vec<String> {
        let port = self.port.to_string();
        let options = ["--yes", "--root", self.root.as_str(), "--profile", &self.profile, "--port", &port];
        options.map(str::to_owned).into()
    }

    /// Returns the environment variables that each run gets besides the caller's.
    pub fn environment(&self) -> Vec<(&str, &str)> {
        let all = [("KUBECONFIG", self.kubeconfig.as_str()), ("NO_COLOR", "1"), ("CI", "true")];
        let own = self.environment.iter().map(|(name, value)| (*name, value.as_str()));
        all.into_iter().chain(own).collect()
    }

    /// Runs the xtask under test with extra environment variables.
    pub fn xtask_with(&self, args: &[&str], envs: &[(&str, &str)]) -> Result<Ran> {
        self.run(&self.exe, args, envs, Duration::from_secs(1500))
    }

    /// Runs `program`, a build of the xtask under test, for at most `limit`.
    pub fn run(&self, program: &Utf8Path, args: &[&str], envs: &[(&str, &str)], limit: Duration) -> Result<Ran> {
        let mut process = Process::new(program.as_str())
            // Options come first: arguments after `--` belong to another program.
            .args(self.options())
            .args(args.iter().copied())
            .inherit(ALL)
            .log(&self.log)
            .deadline(limit);
        // If a variable is set twice, the first value wins.
        let ours = self.environment().into_iter().filter(|(name, _)| !envs.iter().any(|(given, _)| given == name));
        for (name, value) in ours.chain(envs.iter().copied()) {
            process = process.env(name, value);
        }
        self.is_settled.store(false, Ordering::Relaxed);
        let start = Instant::now();
        let output = process.output()?;
        Ok(Ran::of(output, start.elapsed()))
    }

    /// Returns `cargo xtask <rest>` as hints print it for the test cluster.
    pub fn hint(&self, rest: &str) -> String {
        format!("cargo xtask --profile {} {rest}", self.profile)
    }

    /// Returns the xtask under test as a command, for scenarios that read its output or interrupt it.
    pub fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(&self.exe);
        command.args(args).args(["--root", self.root.as_str(), "--profile", &self.profile]);
        command.envs(self.environment());
        command.stdin(std::process::Stdio::null());
        command
    }

    /// Returns the names of the running pods of a component.
    pub fn pod_names(&self, component: &str) -> Result<Vec<String>> {
        let pods = self.list_pods(component)?;
        Ok(pods.iter().map(|pod| text(pod, "/metadata/name").to_owned()).collect())
    }

    /// Returns the tools for the test cluster.
    pub fn tools(&self) -> Result<Toolbox> {
        let mut project = self.project.clone();
        project.settings.cluster.profile.clone_from(&self.profile);
        let observed = machine::observe(&project.cache, &project.root)?;
        let engine = observed.engine()?.context("no engine answers")?;
        let origins = project.origins();
        let origin = origin::select(&origins, &engine)?;
        let mut tools = Toolbox::new(&project.settings, &origins, engine, origin.as_ref())?;
        tools.kubeconfig.clone_from(&self.kubeconfig);
        Ok(tools)
    }

    /// Returns the engine's reference for an official image.
    pub fn origin_image(&self, official: &str) -> Result<String> {
        let engine = self.tools()?.engine;
        Ok(origin::select(&self.project.origins(), &engine)?.image(official))
    }

    /// Returns the address of the deployed application.
    pub fn address(&self) -> Result<String> {
        let profile = xtask::stages::cluster::profile(&self.tools()?)?;
        profile.address().context("the profile publishes no port")
    }

    /// Writes the copy's `.env`, readable by its owner only.
    pub fn write_dotenv(&self, text: &str) -> Result<()> {
        write_private(&self.root.join(".env"), text)
    }

    /// Returns the sorted UIDs of the running pods of a component.
    pub fn pods(&self, component: &str) -> Result<Vec<String>> {
        let pods = self.list_pods(component)?;
        let mut uids: Vec<String> = pods.iter().map(|pod| text(pod, "/metadata/uid").to_owned()).collect();
        uids.sort();
        Ok(uids)
    }

    /// Lists the pods of a component, without those that are being deleted, and without the evicted ones that Kubernetes keeps. One
    /// whose process exited with 0 counts as succeeded.
    pub fn list_pods(&self, component: &str) -> Result<Vec<Value>> {
        let selector = format!("app.kubernetes.io/part-of=todo,app.kubernetes.io/component={component}");
        let mut pods = self.tools()?.api()?.select(&kinds::POD, Scope::Namespace, &selector)?;
        let stays = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null();
        pods.retain(|pod| stays(pod) && !["Failed", "Succeeded"].contains(&text(pod, "/status/phase")));
        Ok(pods)
    }

    /// Sends an HTTP request, anonymously or as the user of `token`. Returns status and body.
    pub fn http(&self, method: &str, path: &str, token: Option<&str>, body: Option<&Value>) -> Result<(u16, String)> {
        let url = format!("{}{path}", self.address()?);
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        if let Some(token) = token {
            // The API reads the first header, the server-rendered page the second.
            request = request.header("authorization", format!("Bearer {token}"));
            request = request.header("cookie", format!("todo_session={token}"));
        }
        let request = request.header("content-type", "application/json");
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut response = xtask::stages::proof::agent().run(request.body(body)?)?;
        Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
    }

    /// Polls until `holds` returns true, for at most `limit`. On a busy machine, time counts less.
    pub fn until(&self, what: &str, limit: Duration, holds: impl Fn() -> Result<bool>) -> Result<()> {
        let mut waited = Duration::ZERO;
        loop {
            let start = Instant::now();
            if holds()? {
                return Ok(());
            }
            if waited > limit {
                bail!("{what}: not within {} s", limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(500));
            waited += machine_time(start.elapsed());
        }
    }

    /// Waits until both applications have two ready replicas.
    pub fn until_ready(&self) -> Result<()> {
        self.until("two ready replicas of both", Duration::from_secs(120), || {
            let snapshot = xtask::snapshot::Snapshot::take(&self.tools()?)?;
            let progress = xtask::judge::progress(&snapshot);
            Ok(!progress.is_empty() && progress.iter().all(|p| p.complete))
        })
    }
}

/// Returns how much of the time that just passed counts: on a busy machine, less.
pub fn machine_time(passed: Duration) -> Duration {
    passed.mul_f64(xtask::deadlines::machine_speed())
}

/// Writes a file that only its owner can read.
pub fn write_private(path: &Utf8Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).with_context(|| format!("writing {path}"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).with_context(|| format!("writing {path}"))
}

/// Copies the xtask under test, because a build may replace the original while the tests run.
fn copy_program(from: &str, to: &Utf8PathBuf) -> Result<()> {
    let _ = std::fs::remove_file(to);
    std::fs::copy(from, to).with_context(|| format!("copying {from} to {to}"))?;
    Ok(())
}
