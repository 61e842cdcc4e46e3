//! The ordinary machine: Debian with its own Docker Engine in default settings, a user in the group docker, and no
//! network but the stand-in internet.
//!
//! Its processes have namespaces of their own, so all of it ends with one process, and everything that it writes lies in
//! one folder. Nothing of this machine's network changes: no address, no route, no rule.

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

/// What is installed on it, in the repository.
const RECIPE: &str = "xtask/ordinary/machine.toml";

/// Its first process, before and after it has a control group of its own.
const ENTER: &str = include_str!("enter.sh");
const BOOT: &str = include_str!("boot.sh");

/// Removes the control groups when it has ended.
const LEAVE: &str = include_str!("leave.sh");

/// Variable by which a machine that a killed suite left behind is found.
const MARK: &str = "TODO_XTASK_ORDINARY";

/// Certificates that this machine trusts.
const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How images are kept by the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Docker's own, the default of Debian's Docker.
    Classic,
    /// containerd's, the default of Docker Desktop.
    Containerd,
}

/// What sort of a machine.
#[derive(Clone, Copy, Debug)]
pub struct MachineKind {
    /// How its engine keeps images.
    pub store: Store,
    /// Whether a forward proxy is its only way to the official hosts. Then the first answer is late, and Docker Hub
    /// refuses one request.
    pub behind_proxy: bool,
}

/// A running machine. It ends with this value and with this process.
pub struct Machine {
    process: Piped,
    first: i32,
    /// The folder that both this process and the machine see, there as `/shared`.
    pub shared: Utf8PathBuf,
    folder: Utf8PathBuf,
    /// Log of what ran in it.
    log: Utf8PathBuf,
    behind_proxy: bool,
}

/// Makes the machine's file system unless the cache has it.
pub fn install(project: &Project, running: &Running) -> Result<Utf8PathBuf> {
    let recipe = Recipe::parse(RECIPE, &pins::read_rendered(&project.root, RECIPE)?)?;
    let tree = folder(project).join(format!("tree-{}", recipe.key()));
    debian::debian_tree(project, running, &recipe, &Dest::Tree(tree.clone()))?;
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

/// Where the stand-in internet's offer lies between two machines.
fn kept_offer(project: &Project) -> Utf8PathBuf {
    folder(project).join(internet::OFFER)
}

/// Removes the stand-in internet's offer.
pub fn remove_offer(project: &Project) -> Result<()> {
    mounts::remove_tree(&kept_offer(project))
}

/// The name of its control groups: two caches are two machines.
fn group(project: &Project) -> String {
    format!("todo-ordinary-{}", EnginePaths::new(&project.cache).id())
}

/// Removes what an earlier machine has left: its processes, control groups and files.
pub fn clear(project: &Project) -> Result<()> {
    let machine = folder(project).join("machine");
    reap::end_marked(MARK, machine.as_str())?;
    if xtask::files::exists(&machine)? {
        let leave = Process::new("unshare").args(["--mount", "sh", "-euc", LEAVE, "leave", machine.as_str()]);
        let leave = leave.arg(group(project));
        // The kernel takes a moment to end what was in them.
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

/// Lists what this machine still has of one that has ended: its processes, mounts, control groups and files.
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
    /// Starts a machine from `tree`, with the programs `xtask` and this one in it.
    pub fn start(project: &Project, tree: &Utf8Path, xtask: &str, kind: MachineKind) -> Result<Self> {
        clear(project)?;
        let folder = folder(project).join("machine");
        let shared = folder.join("shared");
        for part in ["upper", "work", "root", "docker", "shared"] {
            std::fs::create_dir_all(folder.join(part)).with_context(|| format!("making {folder}/{part}"))?;
        }
        let (kept, offer) = (kept_offer(project), shared.join(internet::OFFER));
        if xtask::files::exists(&kept)? {
            std::fs::rename(&kept, &offer).with_context(|| format!("moving {kept}"))?;
        } else {
            std::fs::create_dir(&offer).with_context(|| format!("making {offer}"))?;
            certificates(&offer)?;
        }
        let mut daemon = json!({});
        if kind.store == Store::Containerd {
            daemon["features"] = json!({"containerd-snapshotter": true});
        }
        if kind.behind_proxy {
            daemon["proxies"] = json!({"http-proxy": proxy(), "https-proxy": proxy()});
            let (address, port) = hosts::PROXY;
            let configuration = format!("Listen {address}\nPort {port}\nTimeout 600\nConnectPort 443\n");
            std::fs::write(shared.join(internet::PROXY), configuration)?;
            let known: String = hosts::official().map(|host| format!("{} {host}\n", hosts::OFFICIAL)).collect();
            std::fs::write(shared.join("proxy.hosts"), known)?;
        }
        let files = [
            ("daemon.json", daemon.to_string()),
            ("registry.yml", registry::CONFIGURATION.to_owned()),
            ("resolv.conf", format!("nameserver {}\n", hosts::RESOLVER)),
        ];
        for (name, text) in files {
            std::fs::write(shared.join(name), text)?;
        }
        std::fs::copy(xtask, shared.join("xtask")).with_context(|| format!("copying {xtask}"))?;
        std::fs::copy(std::env::current_exe()?, shared.join("xtask-ordinary")).context("copying this program")?;
        internet::open_way_out(&shared)?;
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
        let mut machine = Self { process, first: 0, shared, folder, log, behind_proxy: kind.behind_proxy };
        machine.wait_until("its first process is ready", || Ok(machine.shared.join("ready").is_file()))?;
        let parent = machine.process.reader().pids().first().copied().context("unshare has a number")?;
        let list = format!("/proc/{parent}/task/{parent}/children");
        let children = std::fs::read_to_string(&list).with_context(|| format!("reading {list}"))?;
        machine.first = children.split_whitespace().next().and_then(|pid| pid.parse().ok()).context("no child")?;
        machine
            .wait_until("its engine answers", || Ok(machine.root(&["docker", "version"]).output()?.status.success()))?;
        Ok(machine)
    }

    /// Fails with the log unless `holds` within the time of an engine's start.
    fn wait_until(&self, what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !holds()? {
            let ended = self.process.reader().try_wait()?.is_some();
            if ended || start.elapsed() > deadlines::ENGINE_START.time() {
                let said = |name: &str| std::fs::read_to_string(self.shared.join(name)).unwrap_or_default();
                let tail: Vec<String> = ["machine.log", "dockerd.log"].map(said).into();
                let lines: Vec<&str> = tail.iter().flat_map(|text| text.lines()).collect();
                bail!("the machine did not start ({what}):\n{}", lines[lines.len().saturating_sub(12)..].join("\n"));
            }
            std::thread::sleep(deadlines::POLL_LOCAL.time());
        }
        Ok(())
    }

    /// A command of its administrator.
    pub fn root(&self, command: &[&str]) -> Process {
        let first = self.first.to_string();
        Process::new("nsenter")
            .args(["--target", &first, "--mount", "--net", "--pid", "--uts", "--root", "--wd"])
            .args(["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"])
            .args(command.iter().copied())
    }

    /// A command of its user, in the user's checkout, within `limit`. SSL_CERT_FILE names what the machine trusts where
    /// this one's user has set it.
    pub fn user(&self, command: &[&str], more: &[(&str, &str)], limit: impl Into<Limit>) -> Result<Ran> {
        let mut environment = vec![("HOME", "/home/user"), ("USER", "user"), ("NO_COLOR", "1"), ("LANG", "C.UTF-8")];
        environment.push(("PATH", "/usr/local/bin:/usr/bin:/bin"));
        if std::env::var_os("SSL_CERT_FILE").is_some() {
            environment.push(("SSL_CERT_FILE", TRUSTED));
        }
        let proxy = proxy();
        if self.behind_proxy {
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

    /// Ends it and removes all that it has written, but for what the stand-in internet offers to the next machine.
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
        // unshare takes no notice of the signal that others end by.
        if let Err(error) = reap::end_marked(MARK, self.folder.as_str()) {
            eprintln!("{error:#}");
        }
    }
}

/// The forward proxy's address.
fn proxy() -> String {
    format!("http://{}:{}", hosts::PROXY.0, hosts::PROXY.1)
}

/// Makes an authority and the official hosts' certificate; writes the bundle of what the machine trusts: what this one
/// does, for the registries that are passed on, and that authority.
fn certificates(offer: &Utf8Path) -> Result<()> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "stand-in internet");
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
