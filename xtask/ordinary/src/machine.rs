//! The ordinary machine: Debian with a Docker Engine in default settings, a user in the group docker, and no network but
//! the simulated internet.
//!
//! Its processes have separate namespaces, so the machine ends with its first process and writes to one folder only. The
//! network of the host stays unchanged: no address, no route, no rule.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::json;
use xtask::deadlines::{self, Limit};
use xtask::engine::debian::{self, Dest, Recipe};
use xtask::engine::paths::EnginePaths;
use xtask::engine::{mounts, reap};
use xtask::pins;
use xtask::process::{Piped, Process};
use xtask::project::Project;
use xtask::report::Running;
use xtask_faults::ran::Ran;

use crate::{hosts, internet, registry};

/// The list of its Debian packages, in the repository.
const RECIPE: &str = "xtask/ordinary/machine.toml";

/// The script of its first process, before and after it enters a separate control group.
const ENTER: &str = include_str!("enter.sh");
const BOOT: &str = include_str!("boot.sh");

/// The script that removes the control groups after its end.
const LEAVE: &str = include_str!("leave.sh");

/// Environment variable that marks the machine's processes, so that a later run finds those of a killed suite.
const MARK: &str = "TODO_XTASK_ORDINARY";

/// Certificates that Debian trusts, on the host and in the machine.
const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The engine's image store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Docker's own store, the default in Debian.
    Classic,
    /// containerd's store, the default in Docker Desktop.
    Containerd,
}

/// Properties of a machine.
#[derive(Clone, Copy, Debug)]
pub struct MachineKind {
    /// The image store of its engine.
    pub store: Store,
    /// Whether it first reaches the official hosts only through a forward proxy. Then the first answer is late, and Docker
    /// Hub refuses one request.
    pub behind_proxy: bool,
}

/// A running machine. It ends when this value is dropped or this process ends.
pub struct Machine {
    process: Piped,
    first_pid: i32,
    /// The folder that host and machine share. The machine mounts it at `/shared`.
    pub shared: Utf8PathBuf,
    folder: Utf8PathBuf,
    /// Log of the user's commands.
    log: Utf8PathBuf,
    store: Store,
}

/// Creates the machine's file system unless the cache has it. Removes outdated ones.
pub fn install(project: &Project, running: &Running) -> Result<Utf8PathBuf> {
    let recipe = Recipe::parse(RECIPE, &pins::read_rendered(&project.root, RECIPE)?)?;
    let tree = folder(project).join(format!("tree-{}", recipe.key()));
    debian::debian_tree(&project.cache, &project.log("debian"), &recipe, &Dest::Tree(tree.clone()), running)?;
    let others = xtask::files::entries(&folder(project))?;
    let is_tree = |path: &&Utf8PathBuf| path.file_name().is_some_and(|name| name.starts_with("tree-"));
    for other in others.iter().filter(is_tree).filter(|path| !path.as_str().starts_with(tree.as_str())) {
        if other.is_dir() { mounts::remove_tree(other)? } else { xtask::files::remove(other)? }
    }
    Ok(tree)
}

fn folder(project: &Project) -> Utf8PathBuf {
    project.cache.join("ordinary")
}

/// Returns the folder that keeps the simulated internet's content between two machines.
fn kept_offer(project: &Project) -> Utf8PathBuf {
    folder(project).join(internet::OFFER)
}

/// Removes the simulated internet's content.
pub fn remove_offer(project: &Project) -> Result<()> {
    mounts::remove_tree(&kept_offer(project))
}

/// Returns the name of its control groups, which differs for each cache.
fn group(project: &Project) -> String {
    format!("todo-ordinary-{}", EnginePaths::new(&project.cache).id())
}

/// Removes processes, control groups and files of an earlier machine.
pub fn clear(project: &Project) -> Result<()> {
    let machine = folder(project).join("machine");
    reap::end_marked(MARK, machine.as_str())?;
    if xtask::files::exists(&machine)? {
        let leave = Process::new("unshare").args(["--mount", "sh", "-euc", LEAVE, "leave", machine.as_str()]);
        let leave = leave.arg(group(project));
        // The kernel needs a moment to end the processes of the groups.
        let start = Instant::now();
        while let Err(error) = leave.run() {
            if start.elapsed() > deadlines::REAP.time() {
                return Err(error);
            }
            std::thread::sleep(deadlines::POLL_LOCAL.time());
        }
    }
    mounts::remove_tree(&machine)
}

/// Returns the remains of a stopped machine: processes, mounts, control groups and files.
pub fn left(project: &Project) -> Result<Vec<String>> {
    let machine = folder(project).join("machine");
    let mut left: Vec<String> = Vec::new();
    left.extend(reap::marked(MARK, machine.as_str())?.iter().map(|pid| format!("process {pid}")));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("reading the list of mounts")?;
    left.extend(mounts.lines().filter(|line| line.contains(machine.as_str())).map(|line| format!("mount {line}")));
    let root = Utf8PathBuf::from("/sys/fs/cgroup");
    let groups = xtask::files::entries(&root)?.into_iter().chain([root]).map(|paths| paths.join(group(project)));
    left.extend(groups.filter(|group| group.is_dir()).map(|group| format!("control group {group}")));
    if xtask::files::exists(&machine)? {
        left.push(format!("folder {machine}"));
    }
    Ok(left)
}

impl Machine {
    /// Starts a machine from `tree` that contains the program `xtask` and this one.
    pub fn start(project: &Project, tree: &Utf8Path, xtask: &str, kind: MachineKind) -> Result<Self> {
        clear(project)?;
        let folder = folder(project).join("machine");
        let shared = folder.join("shared");
        for part in ["upper", "work", "root", "docker", "shared"] {
            std::fs::create_dir_all(folder.join(part)).with_context(|| format!("creating {folder}/{part}"))?;
        }
        let (kept, offer) = (kept_offer(project), shared.join(internet::OFFER));
        if xtask::files::exists(&kept)? {
            std::fs::rename(&kept, &offer).with_context(|| format!("moving {kept}"))?;
        } else {
            std::fs::create_dir(&offer).with_context(|| format!("creating {offer}"))?;
            certificates(&offer)?;
        }
        if kind.behind_proxy {
            let (address, port) = hosts::PROXY;
            let configuration = format!("Listen {address}\nPort {port}\nTimeout 600\nConnectPort 443\n");
            std::fs::write(shared.join(internet::PROXY), configuration)?;
            let known: String = hosts::official().map(|host| format!("{} {host}\n", hosts::OFFICIAL)).collect();
            std::fs::write(shared.join("proxy.hosts"), known)?;
        }
        let files = [
            ("daemon.json", engine_settings(kind)),
            ("registry.yml", registry::CONFIGURATION.to_owned()),
            ("resolv.conf", format!("nameserver {}\n", hosts::RESOLVER)),
        ];
        for (name, text) in files {
            std::fs::write(shared.join(name), text)?;
        }
        std::fs::copy(xtask, shared.join("xtask")).with_context(|| format!("copying {xtask}"))?;
        std::fs::copy(std::env::current_exe()?, shared.join("xtask-ordinary")).context("copying this program")?;
        internet::accept_forwarded(&shared)?;
        let addresses: Vec<String> = hosts::addresses().iter().map(ToString::to_string).collect();
        let process = Process::new("unshare")
            .args(["--mount", "--net", "--pid", "--uts", "--fork", "--kill-child"])
            .args([
                "sh",
                "-euc",
                ENTER,
                "enter",
                tree.as_str(),
                folder.as_str(),
                &group(project),
                &addresses.join(" "),
                BOOT,
            ])
            .env(MARK, folder.as_str())
            .deadline(deadlines::SUITE)
            .pipe_from(None)?;
        let log = project.log("ordinary");
        let mut machine = Self { process, first_pid: 0, shared, folder, log, store: kind.store };
        machine.wait_until("its first process is ready", || Ok(machine.shared.join("ready").is_file()))?;
        let parent = machine.process.reader().pids().first().copied().context("unshare has no process ID")?;
        let list = format!("/proc/{parent}/task/{parent}/children");
        let children = std::fs::read_to_string(&list).with_context(|| format!("reading {list}"))?;
        machine.first_pid = children.split_whitespace().next().and_then(|pid| pid.parse().ok()).context("no child")?;
        machine
            .wait_until("its engine answers", || Ok(machine.root(&["docker", "version"]).output()?.status.success()))?;
        Ok(machine)
    }

    /// Ends the proxy and restarts the engine without it. The resolver then knows the official hosts.
    pub fn leave_proxy(&self) -> Result<()> {
        std::fs::remove_file(self.shared.join(internet::PROXY))?;
        let settings = engine_settings(MachineKind { store: self.store, behind_proxy: false });
        std::fs::write(self.shared.join("daemon.json"), settings)?;
        self.root(&["pkill", "--exact", "dockerd|tinyproxy"]).run()?;
        self.wait_until("its engine uses no proxy", || {
            // Without an engine, both are empty.
            let info = self.root(&["docker", "info", "--format", "{{.ServerVersion}} {{.HTTPSProxy}}"]).read()?;
            Ok(info.split_whitespace().count() == 1)
        })
    }

    /// Waits until `holds`. Fails with the log if the machine ends, or after [`deadlines::ENGINE_START`].
    fn wait_until(&self, what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !holds()? {
            let ended = self.process.reader().try_wait()?.is_some();
            if ended || start.elapsed() > deadlines::ENGINE_START.time() {
                let read = |name: &str| std::fs::read_to_string(self.shared.join(name)).unwrap_or_default();
                let tail: Vec<String> = ["machine.log", "dockerd.log"].map(read).into();
                let lines: Vec<&str> = tail.iter().flat_map(|text| text.lines()).collect();
                bail!("the machine did not start ({what}):\n{}", lines[lines.len().saturating_sub(12)..].join("\n"));
            }
            std::thread::sleep(deadlines::POLL_LOCAL.time());
        }
        Ok(())
    }

    /// Returns a command that runs as root.
    pub fn root(&self, command: &[&str]) -> Process {
        let first_pid = self.first_pid.to_string();
        Process::new("nsenter")
            .args(["--target", &first_pid, "--mount", "--net", "--pid", "--uts", "--root", "--wd"])
            .args(["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"])
            .args(command.iter().copied())
    }

    /// Runs a command as the user, in the user's checkout, within `limit`. Sets SSL_CERT_FILE to the machine's certificates if
    /// it is set on the host.
    pub fn user(&self, command: &[&str], more: &[(&str, &str)], limit: impl Into<Limit>) -> Result<Ran> {
        let mut environment = vec![("HOME", "/home/user"), ("USER", "user"), ("NO_COLOR", "1"), ("LANG", "C.UTF-8")];
        environment.push(("PATH", "/usr/local/bin:/usr/bin:/bin"));
        if std::env::var_os("SSL_CERT_FILE").is_some() {
            environment.push(("SSL_CERT_FILE", TRUSTED));
        }
        let proxy = proxy();
        if self.shared.join(internet::PROXY).is_file() {
            environment.extend([("HTTP_PROXY", proxy.as_str()), ("HTTPS_PROXY", proxy.as_str())]);
        }
        let variables: Vec<String> =
            environment.iter().chain(more).map(|(name, value)| format!("{name}={value}")).collect();
        let mut all = vec!["setpriv", "--reuid=user", "--regid=user", "--init-groups", "env", "-i"];
        all.extend(variables.iter().map(String::as_str));
        all.extend(["sh", "-c", "cd ~/todo 2>/dev/null || cd; exec \"$@\"", "user"]);
        all.extend(command);
        let start = Instant::now();
        let output = self.root(&all).log(&self.log).deadline(limit).output()?;
        Ok(Ran::of(output, start.elapsed()))
    }

    /// Stops the machine and removes its files. Keeps the simulated internet's content for the next machine.
    pub fn remove(self, project: &Project) -> Result<()> {
        let (offer, kept) = (self.shared.join(internet::OFFER), kept_offer(project));
        drop(self);
        std::fs::rename(&offer, &kept).with_context(|| format!("moving {offer}"))?;
        clear(project)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.process.kill();
        // unshare ignores SIGTERM.
        if let Err(error) = reap::end_marked(MARK, self.folder.as_str()) {
            eprintln!("{error:#}");
        }
    }
}

/// Returns the content of the engine's daemon.json.
fn engine_settings(kind: MachineKind) -> String {
    let mut settings = json!({});
    if kind.store == Store::Containerd {
        settings["features"] = json!({"containerd-snapshotter": true});
    }
    if kind.behind_proxy {
        settings["proxies"] = json!({"http-proxy": proxy(), "https-proxy": proxy()});
    }
    settings.to_string()
}

/// Returns the URL of the forward proxy.
fn proxy() -> String {
    format!("http://{}:{}", hosts::PROXY.0, hosts::PROXY.1)
}

/// Creates a certificate authority and the certificate of the official hosts. Writes the machine's trusted certificates:
/// that authority, and those of the host for the forwarded registries.
fn certificates(offer: &Utf8Path) -> Result<()> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "simulated internet");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let params = CertificateParams::new(hosts::official().map(str::to_owned).collect::<Vec<_>>())?;
    let key = KeyPair::generate()?;
    let server = params.signed_by(&key, &authority)?;
    let trusted = std::env::var("SSL_CERT_FILE").unwrap_or_else(|_| TRUSTED.to_owned());
    let trusted = std::fs::read_to_string(&trusted).with_context(|| format!("reading {trusted}"))?;
    std::fs::write(offer.join("bundle.pem"), format!("{trusted}\n{}", authority.as_ref().pem()))?;
    std::fs::write(offer.join("server.pem"), server.pem())?;
    Ok(std::fs::write(offer.join("server.key"), key.serialize_pem())?)
}
