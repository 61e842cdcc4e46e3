//! A sandbox: a separate checkout, engine, node and API server, and runs of xtask in it.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, Signal, kill_process};
use xtask::deadlines::{Limit, SCALE};
use xtask::process::Process;
use xtask::project::{Options, Project};
use xtask::report::Report;

use crate::calls::{Call, Called, Fault, Ledger};
use crate::client::SOCKET;
use crate::control::{Control, listen};
use crate::etcd::Objects;
use crate::ingress::Ingress;
use crate::machine::{Machine, Surroundings};
use crate::mutants::SWITCH;
use crate::pki::Pki;
use crate::player::{Player, Served};
use crate::proxy::{LOG, Proxy};
use crate::servers::{Servers, free_port};
use crate::suite::{BuiltProgram, SuiteSettings};

/// The time limit of a run. A run that exceeds it counts as hanging and is killed.
const LONGEST: Limit = Limit::seconds(90);
/// The files and folders that belong to a state, relative to the sandbox's folder.
const FILES: [&str; 5] = ["root/target", "root/apps", "root/.env", "cache/minikube", "home/.kube/config"];
/// The backend source, relative to the checkout.
const SOURCE: &str = "apps/backend/source";
/// The message of `deploy --watch` when it waits for changes.
pub const WATCHING: &str = "watching for changes";

/// The contents and modes of files, by path relative to the sandbox's folder.
pub type Files = BTreeMap<Utf8PathBuf, (Vec<u8>, u32)>;

/// The state that a run may change.
#[derive(Clone, Default)]
pub struct State {
    /// The objects that the API server stores.
    pub objects: Arc<Objects>,
    /// The engine and the node.
    pub machine: Machine,
    /// The files that belong to the state.
    pub files: Files,
}

impl State {
    /// Returns the backend source, or an empty string if it is missing or not UTF-8.
    pub fn source(&self) -> &str {
        let file = self.files.get(Utf8Path::new("root").join(SOURCE).as_path());
        file.and_then(|(bytes, _)| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// Returns whether the state has the file at `path`, relative to the sandbox's folder.
    pub fn has_file(&self, path: &str) -> bool {
        self.files.contains_key(Utf8Path::new(path))
    }
}

/// The outcome of a run of xtask.
#[derive(Default)]
pub struct RunOutcome {
    /// The exit code. `None` if the process was killed, for example by the suite at the time limit.
    pub code: Option<i32>,
    /// Standard output and standard error, in the order in which the lines came.
    pub text: String,
    /// The calls in the order in which they came.
    pub calls: Vec<Call>,
    /// The calls that xtask's client retries after a 503.
    pub repeatable: HashSet<Call>,
    /// The number of calls before a watch waits for the first time. Without a watch, the number of all calls.
    pub before_wait: usize,
    /// The number of calls that the fault struck.
    pub struck: usize,
    /// The commands that the sandbox could not answer, and actions that failed in it.
    pub unknown: Vec<String>,
    /// The minimum number of ready pods of each Deployment during the run.
    pub served: Served,
    /// The state after the run.
    pub after: State,
}

/// A sandbox with its running servers.
pub struct Sandbox {
    folder: Utf8PathBuf,
    program: Arc<BuiltProgram>,
    servers: Servers,
    machine: Arc<Mutex<Machine>>,
    ingress: Arc<Ingress>,
    ledger: Ledger,
    player: Player,
    /// The number of the active mutant; 0 for none.
    mutant: AtomicUsize,
}

impl Sandbox {
    /// Creates a sandbox in `folder`, which must not exist.
    pub fn new(folder: &Utf8Path, setting: &SuiteSettings<'_>) -> Result<Self> {
        let (programs, checkout) = (setting.programs, &setting.checkout);
        for name in ["root/apps/backend", "root/apps/frontend", "bin", "cache", "home", "tmp"] {
            std::fs::create_dir_all(folder.join(name))?;
        }
        let root = folder.join("root");
        copy(&checkout.join("infra"), &root.join("infra"))?;
        std::fs::copy(checkout.join(".env.example"), root.join(".env.example"))?;
        for app in ["backend", "frontend"] {
            std::fs::write(root.join("apps").join(app).join("Dockerfile"), format!("FROM {app}\n"))?;
            std::fs::write(root.join("apps").join(app).join("source"), "as it was at first\n")?;
        }
        std::fs::write(root.join(".env"), "AUTH_SECRET=not-a-secret-0123456789abcdef0123456789\n")?;
        std::fs::set_permissions(root.join(".env"), std::fs::Permissions::from_mode(0o600))?;
        std::fs::write(folder.join("cache/origin"), "release")?;
        // Invalid JSON, so that only the docker client itself can tell which engine it uses.
        std::fs::create_dir_all(folder.join("home/.docker"))?;
        std::fs::write(folder.join("home/.docker/config.json"), "{")?;
        let pki = Pki::generate()?;
        let servers = Servers::start(programs, &folder.join("servers"), &pki)?;
        let ledger = Ledger::new(setting.gate.clone());
        let proxy = Proxy::start(servers.port, &pki, ledger.clone(), Some(LOG))?;
        let published = free_port()?;
        let settings = root.join("infra/xtask.toml");
        let text = std::fs::read_to_string(&settings)?;
        std::fs::write(&settings, text.replace("port = 8080", &format!("port = {published}")))?;
        tools(folder, &root, &setting.tool)?;

        let mut machine = Machine::default();
        let project = Project::open(Some(root), Options::default(), Report::new(false))?;
        let settings = &project.settings;
        settings
            .bases()
            .chain([&settings.cluster.ingress_image, &settings.database.image])
            .for_each(|name| machine.pulled(name));
        let machine = Arc::new(Mutex::new(machine));
        let ingress = Arc::new(Ingress::new(published, servers.store.clone(), ledger.clone()));
        let around = Surroundings {
            minikube: folder.join("cache/minikube/.minikube"),
            kubeconfig: folder.join("home/.kube/config"),
            pki,
            api: servers.port,
            proxy: proxy.port,
            published,
            used: Vec::new(),
        };
        let control = Control {
            ledger: ledger.clone(),
            machine: machine.clone(),
            store: servers.store.clone(),
            ingress: ingress.clone(),
            folder: folder.to_string(),
            helm: programs.helm.to_string(),
            git: on_path("git")?,
            around: Mutex::new(around),
        };
        listen(Arc::new(control), UnixListener::bind(folder.join(SOCKET))?);
        let player = Player::start(servers.store.clone(), machine.clone());
        Ok(Self {
            folder: folder.to_owned(),
            program: setting.program.clone(),
            servers,
            machine,
            ingress,
            ledger,
            player,
            mutant: AtomicUsize::new(0),
        })
    }

    /// Activates the mutant with this number, counted from 1; 0 deactivates all mutants.
    pub fn mutate(&self, number: usize) {
        self.mutant.store(number, Ordering::SeqCst);
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the current state.
    pub fn state(&self) -> Result<State> {
        Ok(State { objects: self.servers.store.objects()?, machine: self.machine().clone(), files: self.files()? })
    }

    fn files(&self) -> Result<Files> {
        let mut files = BTreeMap::new();
        for path in FILES {
            for entry in walkdir::WalkDir::new(self.folder.join(path)).into_iter().filter_map(Result::ok) {
                if entry.file_type().is_file() {
                    let path = Utf8PathBuf::try_from(entry.into_path())?;
                    let mode = path.metadata()?.permissions().mode();
                    files.insert(path.strip_prefix(&self.folder)?.to_owned(), (std::fs::read(&path)?, mode));
                }
            }
        }
        Ok(files)
    }

    /// Restores the objects, the engine, the node and the files of `state`.
    pub fn restore(&self, state: &State) -> Result<()> {
        self.player.reset(|| {
            self.servers.store.restore(&state.objects)?;
            *self.machine() = state.machine.clone();
            self.machine().done.clear();
            let now = self.files()?;
            for path in now.keys().filter(|path| !state.files.contains_key(*path)) {
                std::fs::remove_file(self.folder.join(path))?;
            }
            for (path, (bytes, mode)) in state.files.iter().filter(|(path, file)| now.get(*path) != Some(*file)) {
                let path = self.folder.join(path);
                std::fs::create_dir_all(path.parent().context("a folder")?)?;
                std::fs::write(&path, bytes)?;
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode))?;
            }
            self.ingress.set(state.machine.node.as_deref() == Some("running"))
        })
    }

    /// Writes `text` as the backend source.
    pub fn edit(&self, text: &str) -> Result<()> {
        Ok(std::fs::write(self.folder.join("root").join(SOURCE), text)?)
    }

    /// Runs `cargo xtask <args>` while the fault of `planned` strikes. When a watch waits for the first time, `saved`
    /// is written as the backend source; the next wait is interrupted. If `saved` is `None`, the first wait is
    /// interrupted. All time limits are multiplied by `factor`.
    pub fn run(
        &self,
        args: &[&str],
        planned: Option<(Call, Fault)>,
        saved: Option<&str>,
        factor: f64,
    ) -> Result<RunOutcome> {
        let program = self.program.wait().as_ref().context("the program under test was not built")?;
        self.ledger.begin(planned);
        self.machine().done.clear();
        let at = |name: &str| self.folder.join(name).to_string();
        let mut command =
            Process::new("/bin/sh").args(["-c", "exec 2>&1; echo $$; exec \"$0\" \"$@\"", "/usr/bin/env", "-i"]);
        let environment = [
            ("PATH", at("bin")),
            ("HOME", at("home")),
            ("TMPDIR", at("tmp")),
            ("KUBECONFIG", at("home/.kube/config")),
            ("TODO_XTASK_CACHE", at("cache")),
            ("RUST_BACKTRACE", "0".to_owned()),
            (SCALE, factor.to_string()),
            (SWITCH, self.mutant.load(Ordering::SeqCst).to_string()),
        ];
        command = command.args(environment.map(|(name, value)| format!("{name}={value}")));
        command = command.arg(program.as_str()).args(["--root", &at("root")]).args(args.iter().copied());
        let running = command.cwd(self.folder.join("root")).deadline(LONGEST).pipe_from(None)?;
        let mut lines = BufReader::new(running.reader()).split(b'\n');
        let text =
            |line: std::io::Result<Vec<u8>>| Ok::<_, anyhow::Error>(String::from_utf8_lossy(&line?).into_owned());
        let pid: i32 = lines.next().map(text).context("xtask did not start")??.trim().parse()?;
        let (mut output, mut waits, mut before_wait) = (String::new(), 0, None);
        for line in lines {
            let line = text(line)?;
            if line.contains(WATCHING) {
                waits += 1;
                before_wait.get_or_insert_with(|| self.ledger.count());
                match saved.filter(|_| waits == 1) {
                    Some(saved) => self.edit(saved)?,
                    None => kill_process(Pid::from_raw(pid).context("no process")?, Signal::INT)?,
                }
            }
            output.push_str(&line);
            output.push('\n');
        }
        let code = running.reader().try_wait()?.and_then(|output| output.status.code());
        drop(running);
        let (objects, served) = self.player.settle()?;
        let Called { calls, repeatable, struck, unknown } = self.ledger.end();
        Ok(RunOutcome {
            code,
            text: output.replace(self.folder.as_str(), "<sandbox>"),
            before_wait: before_wait.unwrap_or(calls.len()),
            calls,
            repeatable,
            struck,
            unknown,
            served,
            after: State { objects, machine: self.machine().clone(), files: self.files()? },
        })
    }
}

/// Links every tool that xtask may call to `own`: docker and git in `folder/bin`, the others in a cache of the origin
/// `release` with the pins of the checkout `root`.
pub fn tools(folder: &Utf8Path, root: &Utf8Path, own: &Utf8Path) -> Result<()> {
    for tool in ["docker", "git"] {
        symlink(own, folder.join("bin").join(tool))?;
    }
    let manifest: toml::Table = toml::from_str(&std::fs::read_to_string(root.join("infra/release.toml"))?)?;
    let os = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    for tool in ["kubectl", "helm", "minikube"] {
        let digest = manifest[tool][&format!("{os}-{arch}")]["sha256"].as_str().context("sha256")?;
        let place = folder.join("cache/release").join(&digest[..16]);
        std::fs::create_dir_all(&place)?;
        symlink(own, place.join(tool))?;
    }
    Ok(())
}

/// Returns the path of `program` on `PATH`.
pub fn on_path(program: &str) -> Result<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path.split(':').map(|folder| Utf8Path::new(folder).join(program)).find(|file| file.is_file());
    Ok(found.with_context(|| format!("there is no {program} on PATH"))?.into_string())
}

fn copy(from: &Utf8Path, to: &Utf8Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry?;
        let dest = to.as_std_path().join(entry.path().strip_prefix(from)?);
        if entry.file_type().is_dir() {
            std::fs::create_dir_all(dest)?;
        } else {
            std::fs::copy(entry.path(), dest)?;
        }
    }
    Ok(())
}
