//! The minikube profile: its state, and the steps that make its node run.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::Value;

use super::api_server::{self, ApiServer};
use super::identity::{self, ContextEntry};
use super::version::{self, Version};
use super::volume;
use crate::clock;
use crate::deadlines;
use crate::engine::paths::EnginePaths;
use crate::engine::{HIDDEN, stored};
use crate::failure::{self, Class, Failure};
use crate::files;
use crate::origin::Origin;
use crate::origin::bases::Brought;
use crate::plan::Step;
use crate::report::Report;
use crate::settings::Cluster;
use crate::stages::images::{owned, prune};
use crate::stages::machine::{self, NodeMachine, NodeSize, PortHolder};
use crate::toolbox::{Toolbox, published_api_port};
use crate::units::quote;

/// The reason why a recorded profile without a node is half deleted.
const NODE_GONE: &str = "minikube has a record of it but its node is gone";
/// minikube is just creating the node, or was interrupted; then it cannot start the node. Kubernetes has never run in it.
const UNFINISHED: &str = "minikube has not recorded the address of its node";

/// The state of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileState {
    /// There is no such profile.
    Absent,
    /// minikube has a record but no node, or a node but no record. The text says which.
    HalfDeleted(&'static str),
    /// Its container was not made by minikube. xtask neither uses nor removes it.
    Foreign,
    /// minikube's record names another driver, so its node is no container of the engine.
    OtherDriver(String),
    /// Its node is stopped.
    Stopped,
    /// Its node is frozen by `minikube pause` or `docker pause`.
    Paused,
    /// Its node runs.
    Running,
}

/// The profile as minikube and the engine know it.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its state.
    pub state: ProfileState,
    /// minikube's `config.json`, if there is one.
    pub config: Option<Value>,
    /// The loopback port that is published for the node's port 80.
    pub port: Option<u16>,
    /// The loopback port that is published for the API server.
    pub api_port: Option<u16>,
    /// Start time of the node, in seconds since 1970.
    pub started_at: Option<u64>,
    /// Whether the user created the profile; see [`Toolbox::is_users_profile`].
    pub is_users: bool,
}

impl Profile {
    /// Returns the node's container runtime, if xtask does not support it.
    pub fn unsupported_runtime(&self) -> Option<&str> {
        let runtime = self.config.as_ref()?.pointer("/KubernetesConfig/ContainerRuntime")?.as_str()?;
        (runtime != "containerd").then_some(runtime)
    }

    /// Returns the Kubernetes version in minikube's record; `None` if the profile cannot be used.
    pub fn kubernetes(&self, tools: &Toolbox) -> Result<Option<Version>> {
        let usable = matches!(self.state, ProfileState::Running | ProfileState::Paused | ProfileState::Stopped);
        let config = self.config.as_ref().filter(|_| usable);
        config.map(|config| version::recorded(config, &tools.profile_config())).transpose()
    }

    /// Returns the address of the application, if the profile publishes a port.
    pub fn address(&self) -> Option<String> {
        self.port
            .map(|port| if port == 80 { "http://localhost".to_owned() } else { format!("http://localhost:{port}") })
    }

    /// Returns the addresses of the API server that minikube may have written to a kubeconfig.
    pub fn servers(&self) -> Vec<String> {
        let Some(config) = &self.config else { return Vec::new() };
        let nodes = config["Nodes"].as_array().cloned().unwrap_or_default();
        let direct = nodes.iter().filter_map(|node| Some(format!("https://{}:{}", node["IP"].as_str()?, node["Port"])));
        // If the host cannot reach the node's address, minikube writes the published port.
        let published = self.api_port.map(|port| format!("https://127.0.0.1:{port}"));
        direct.chain(published).collect()
    }
}

/// Reads minikube's files and asks the engine; starts no minikube. Checks a half-deleted profile twice, as it may be changing.
pub fn observe(tools: &Toolbox) -> Result<Profile> {
    let look = || {
        let record = tools.record()?;
        let is_users = tools.is_users_profile(record.as_ref());
        anyhow::Ok(Profile { is_users, ..judge(record, tools.inspect_node()?.as_ref()) })
    };
    let mut profile = look()?;
    if matches!(profile.state, ProfileState::HalfDeleted(_)) {
        std::thread::sleep(deadlines::PROFILE_SETTLE.time());
        profile = look()?;
    }
    tools.aim_api(profile.api_port);
    Ok(profile)
}

/// Derives the profile from minikube's record and the engine's container.
pub(super) fn judge(config: Option<Value>, container: Option<&Value>) -> Profile {
    let minikubes = |c: &&Value| c.pointer("/Config/Labels/created_by.minikube.sigs.k8s.io").is_some();
    let port = container.and_then(|c| {
        c.pointer("/HostConfig/PortBindings/80~1tcp/0/HostPort")?.as_str()?.parse().ok().filter(|port| *port != 0)
    });
    let driver = config.as_ref().and_then(|config| config["Driver"].as_str()).filter(|driver| *driver != "docker");
    let state = match (&config, container) {
        (None, None) => ProfileState::Absent,
        _ if driver.is_some() => ProfileState::OtherDriver(driver.unwrap_or_default().to_owned()),
        (_, Some(c)) if !minikubes(&c) => ProfileState::Foreign,
        (Some(Value::Null), _) => ProfileState::HalfDeleted("minikube's record of it is cut off"),
        (None, Some(_)) => ProfileState::HalfDeleted("its node exists but minikube has no record of it"),
        (Some(_), None) => ProfileState::HalfDeleted(NODE_GONE),
        (Some(config), Some(_)) if config.pointer("/Nodes/0/IP").is_some_and(|address| address == "") => {
            ProfileState::HalfDeleted(UNFINISHED)
        }
        (Some(_), Some(c)) => match c.pointer("/State/Status").and_then(Value::as_str) {
            Some("running") => ProfileState::Running,
            Some("paused") => ProfileState::Paused,
            _ => ProfileState::Stopped,
        },
    };
    let api = container.and_then(published_api_port);
    let started_at = container.and_then(|c| clock::parse(c.pointer("/State/StartedAt")?.as_str()?));
    Profile { state, config, port, api_port: api, started_at, is_users: false }
}

/// The facts that a start of the node needs besides its profile. Each state of the profile has its own.
#[derive(Debug)]
pub enum StartFacts {
    /// The node runs and its API server responds.
    Running(ContextEntry),
    /// The node must be started, and why. A stopped node may not get its published port back: another program holds it.
    Start(String, Option<(u16, PortHolder)>),
    /// The node can be made, and why.
    New(&'static str, NewNode),
    /// The profile is half deleted, and something was deployed to it.
    HalfDeleted {
        /// The missing half.
        how: &'static str,
        /// Whether its node is in the private engine, although xtask now uses the user's own one.
        is_elsewhere: bool,
        /// Whether the node or its volume may hold data.
        has_data: bool,
    },
    /// Paused, or not ours.
    Other,
}

/// The machine's facts that a new node needs.
#[derive(Debug)]
pub struct NewNode {
    /// The port of the settings, or the next free one; `None`: all of a range are held.
    port: Option<u16>,
    /// The engine's machine.
    machine: NodeMachine,
}

impl StartFacts {
    /// Reads them. `silence` is the reason why the API server of a running node does not respond, if so.
    pub fn observe(
        settings: &Cluster,
        tools: &Toolbox,
        origin: &dyn Origin,
        profile: &Profile,
        silence: Option<&str>,
    ) -> Result<Self> {
        let new = || {
            // The interrupted node holds its port until it is removed.
            let held = profile.port.filter(|_| profile.state == ProfileState::HalfDeleted(UNFINISHED));
            let port = held.or_else(|| free_port(settings.port, &tools.report));
            anyhow::Ok(NewNode { port, machine: NodeMachine::observe(&tools.engine)? })
        };
        Ok(match (&profile.state, silence) {
            (ProfileState::Running, None) => Self::Running(ContextEntry::observe(tools, profile)?),
            (ProfileState::Running, Some(words)) => Self::Start(words.to_owned(), None),
            (ProfileState::Stopped, _) => {
                let held = profile.port.and_then(|port| Some((port, machine::port_holder(port)?)));
                Self::Start("the profile is stopped".to_owned(), held)
            }
            (ProfileState::Absent, _) => Self::New("there is no profile of that name", new()?),
            (ProfileState::HalfDeleted(how), _) => {
                let (name, is_elsewhere) = (&tools.profile, is_elsewhere(tools)?);
                let content = || origin.node_content();
                let has_data = is_elsewhere
                    || match *how {
                        UNFINISHED => false,
                        NODE_GONE => volume::has_data(&tools.engine, name, content().as_ref())?,
                        _ => true,
                    };
                if has_data || prune::was_deployed(&tools.cache, name)? {
                    Self::HalfDeleted { how, is_elsewhere, has_data }
                } else {
                    let gone = "minikube has a record of it, but it has no node and no data";
                    Self::New(if *how == UNFINISHED { UNFINISHED } else { gone }, new()?)
                }
            }
            (ProfileState::Paused | ProfileState::Foreign | ProfileState::OtherDriver(_), _) => Self::Other,
        })
    }
}

/// Decides on the steps that make the node run. A new node gets `images`, if the origin fills nodes.
pub fn decide<'a>(
    settings: &Cluster,
    tools: &'a Toolbox,
    origin: &'a dyn Origin,
    profile: &Profile,
    facts: StartFacts,
    images: &[String],
) -> Result<Vec<Step<'a>>> {
    let name = &tools.profile;
    match facts {
        StartFacts::Running(entry) => Ok(identity::context_step(tools, entry).into_iter().collect()),
        StartFacts::Start(_, Some((port, holder))) => {
            let what = format!("port {port}, which the profile publishes, is held by {holder}");
            let other = format!("end that program, or use another profile: --profile {name}2");
            Err(Failure::new(Class::Machine, what).help(other).into())
        }
        StartFacts::Start(why, None) => Ok(vec![start(settings, tools, origin, profile, &why, None)?]),
        StartFacts::New(why, node) => {
            let mut profile = profile.clone();
            let remove = (profile.state == ProfileState::HalfDeleted(UNFINISHED)).then(|| remove_unfinished(tools));
            if remove.is_some() {
                profile.state = ProfileState::HalfDeleted(NODE_GONE);
            }
            let start = start(settings, tools, origin, &profile, why, Some(node))?;
            let fill = volume::step(tools, origin, &version::pinned(settings)?.to_string(), images);
            Ok(remove.into_iter().chain(fill).chain([start]).collect())
        }
        StartFacts::Other if profile.state == ProfileState::Paused => {
            let unpause = tools.engine.docker().args(["unpause", name]);
            Ok(vec![Step::new(format!("unpause {name}"), "the node is paused", unpause.clone(), move |_| {
                unpause.run().map(|()| String::new())
            })])
        }
        StartFacts::Other => Err(refusal(tools, profile).unwrap_or_else(|| foreign(name)).into()),
        StartFacts::HalfDeleted { is_elsewhere: true, .. } => Err(elsewhere(name).into()),
        StartFacts::HalfDeleted { how, has_data, .. } => {
            let mut message = format!("minikube profile `{name}` is half deleted: {how}");
            if !has_data {
                message.push_str(", and so is the data of what was deployed to it");
            }
            let record = tools.profile_config();
            let mut failure = Failure::new(Class::Cluster, message);
            if ![NODE_GONE, UNFINISHED].contains(&how) {
                failure = failure.help(format!("to keep the data in its node, put minikube's record back: {record}"));
            }
            Err(failure
                .help("remove the rest of it, with any data inside: cargo xtask teardown --cluster")
                .help("then: cargo xtask deploy dev")
                .into())
        }
    }
}

/// Returns the step that removes a node whose creation was interrupted. Its volume stays, which the next node uses.
fn remove_unfinished(tools: &Toolbox) -> Step<'_> {
    let remove = tools.engine.docker().args(["rm", "--force", &tools.profile]);
    Step::new(format!("remove the node {}", tools.profile), UNFINISHED, remove.clone(), move |_| {
        let state = observe(tools)?.state;
        if state != ProfileState::HalfDeleted(UNFINISHED) {
            let what = format!("profile `{}` is {state:?} now; its node was not removed", tools.profile);
            return Err(Failure::new(Class::Cluster, what).help("run the same command again").into());
        }
        remove.run().map(|()| String::new())
    })
}

/// Returns whether the profile's node is in the private engine although xtask uses the user's own one.
pub fn is_elsewhere(tools: &Toolbox) -> Result<bool> {
    Ok(!tools.engine.private && stored::containers(&EnginePaths::new(&tools.cache))?.contains(&tools.profile))
}

/// Returns the error for a node in the private engine while xtask uses the user's own one.
fn elsewhere(name: &str) -> Failure {
    let what = format!("the node of profile `{name}` is in the private Docker Engine, but xtask uses your own engine");
    Failure::new(Class::Cluster, what)
        .help(format!("if you want to use that one, hide your own: export DOCKER_HOST={HIDDEN}"))
}

/// Returns the step that deletes the profile, also a half-deleted one. It checks right before that the profile is xtask's,
/// and afterwards that nothing is left.
pub fn delete_step<'a>(tools: &'a Toolbox, why: &str) -> Step<'a> {
    let delete = tools.minikube().arg("delete").deadline(deadlines::MINIKUBE_DELETE);
    Step::new(format!("delete cluster {}", tools.profile), why, delete.clone(), move |_| {
        let name = &tools.profile;
        if is_elsewhere(tools)? {
            return Err(elsewhere(name).into());
        }
        let profile = observe(tools)?;
        if let Some(refusal) = refusal(tools, &profile) {
            return Err(refusal.into());
        }
        refuse_users(tools, &profile, "delete")?;
        if let Some(network) = tools.engine.inspect_one("network", name)? {
            refuse_attached(name, &network)?;
        }
        if tools.minikube_exists()? {
            delete.run()?;
        }
        // A half-deleted profile may leave its container or volume behind.
        let has = |noun: &str| Ok::<_, anyhow::Error>(tools.engine.inspect_one(noun, name)?.is_some());
        let remove = |args: &[&str]| tools.engine.docker().args(args.iter().copied()).arg(name.as_str()).run();
        if has("container")? {
            remove(&["rm", "--force", "--volumes"])?;
        }
        if volume::exists(&tools.engine, name)? {
            remove(&["volume", "rm", "--force"])?;
        }
        if has("network")? {
            remove(&["network", "rm"])?;
        }
        if !tools.minikube_exists()? {
            // Without minikube and a node, only the record is left to delete.
            let folder = tools.profile_config();
            folder.parent().map_or(Ok(()), files::remove_folder)?;
        }
        let left = [
            ("its node", has("container")?),
            ("its volume", volume::exists(&tools.engine, name)?),
            ("its network", has("network")?),
            ("minikube's record of it", tools.record()?.is_some()),
        ];
        let left: Vec<&str> = left.into_iter().filter(|(_, there)| *there).map(|(what, _)| what).collect();
        if left.is_empty() {
            return prune::forget_profile(&tools.cache, name).map(|()| String::new());
        }
        let what = format!("cluster `{name}` is not deleted; still there: {}", left.join(", "));
        Err(Failure::new(Class::Cluster, what)
            .help(format!("cargo xtask tool docker -- container inspect {name}"))
            .help("then run it again: cargo xtask teardown --cluster")
            .into())
    })
}

/// Refuses to delete the cluster `name` while its `network` connects other containers than its node: minikube cannot remove
/// such a network.
fn refuse_attached(name: &str, network: &Value) -> Result<()> {
    let containers = network["Containers"].as_object().into_iter().flat_map(|containers| containers.values());
    let others = containers.filter_map(|container| container["Name"].as_str()).filter(|container| *container != name);
    let others: Vec<&str> = others.collect();
    if others.is_empty() {
        return Ok(());
    }
    let what = format!("the network of cluster `{name}` also connects other containers: {}", others.join(", "));
    let disconnect = |container: &&str| format!("cargo xtask tool docker -- network disconnect {name} {container}");
    let failure = others.iter().map(disconnect).fold(Failure::new(Class::Cluster, what), Failure::help);
    Err(failure.help("then run the same command again").into())
}

/// Returns the error if xtask may neither use nor remove the profile.
pub fn refusal(tools: &Toolbox, profile: &Profile) -> Option<Failure> {
    let name = &tools.profile;
    match &profile.state {
        ProfileState::Foreign => Some(foreign(name)),
        ProfileState::OtherDriver(driver) => {
            let what = format!("minikube profile `{name}` is made with the driver {driver}; only docker is supported");
            Some(Failure::new(Class::Cluster, what).help(format!("use another profile: --profile {name}-docker")))
        }
        _ => None,
    }
}

/// Refuses to `verb` a profile that the user made. xtask uses it as it is; its own `minikube start` would write its flags
/// into the user's record.
pub fn refuse_users(tools: &Toolbox, profile: &Profile, verb: &str) -> Result<()> {
    if !profile.is_users {
        return Ok(());
    }
    let name = &tools.profile;
    let what = format!("minikube profile `{name}` is yours: xtask did not make it and does not {verb} it");
    Err(Failure::new(Class::Cluster, what)
        .help(format!("do it yourself: minikube --profile {name} {verb}    # then the same command again"))
        .help(format!("or use a profile of xtask's own: --profile {name}-xtask"))
        .into())
}

/// Returns the error for a container that minikube did not make.
fn foreign(name: &str) -> Failure {
    let what = format!("the engine has a container `{name}` that minikube did not make");
    Failure::new(Class::Cluster, what)
        .help(format!("use another profile: --profile {name}2"))
        .help(format!("or give the container another name: docker rename {name} <new name>"))
}

fn start<'a>(
    settings: &Cluster,
    tools: &'a Toolbox,
    origin: &'a dyn Origin,
    profile: &Profile,
    why: &str,
    new: Option<NewNode>,
) -> Result<Step<'a>> {
    refuse_users(tools, profile, "start")?;
    let log = tools.log("minikube-start");
    let own = profile.kubernetes(tools)?;
    let kubernetes = own.clone().map_or_else(|| version::pinned(settings), Ok)?;
    let mut command = tools
        .minikube()
        .arg("start")
        .args(["--driver=docker", "--container-runtime=containerd", "--keep-context", "--interactive=false"])
        .arg(format!("--kubernetes-version={kubernetes}"));
    let (flags, ports) = match new {
        // An existing profile keeps its version, node and size: only the user may change them.
        None => (origin.minikube_restart_flags(), None),
        Some(NewNode { port, machine }) => {
            let port = port.ok_or_else(|| no_free_port(settings))?;
            let all = machine.machine.as_ref().map(|machine| (machine.memory, machine.cpus));
            let size = machine.size(NodeSize::wanted(settings))?;
            command = command.args([format!("--cpus={}", size.cpus), format!("--memory={}m", size.memory_mib)]);
            command = command
                .args(reserved(all, size).map(|rest| format!("--extra-config=kubelet.system-reserved={rest}")))
                .args(SETTINGS_OF_NEW.map(|setting| format!("--extra-config={setting}")));
            (origin.minikube_flags(), Some(format!("--ports=127.0.0.1:{port}:80")))
        }
    };
    command =
        command.args([WAIT, "--wait-timeout=5m"]).args(flags).log(log.clone()).deadline(deadlines::MINIKUBE_START);
    if rustix::process::geteuid().is_root() {
        // minikube refuses the docker driver for root otherwise.
        command = command.arg("--force");
    }
    command = command.args(ports);
    let what =
        if matches!(profile.state, ProfileState::Absent | ProfileState::HalfDeleted(_)) { "create" } else { "start" };
    let name = tools.profile.clone();
    let before = profile.state.clone();
    Ok(Step::new(format!("{what} cluster {name}"), why, command.clone(), move |running| {
        if !is_still_due(tools, &before)? {
            return Ok("not needed any more: it runs now".to_owned());
        }
        if before == ProfileState::Absent {
            // Somebody else has deleted the profile of this record.
            prune::forget_profile(&tools.cache, &tools.profile)?;
        }
        // `teardown --engine` removes all images of a private engine, so it needs no record.
        let images_before = match before {
            ProfileState::Absent | ProfileState::HalfDeleted(_) if !tools.engine.private => {
                Some(owned::ids(&tools.engine)?)
            }
            _ => None,
        };
        let started = command.stream(|line| running.progress(line.trim_start_matches(['*', '-', '!', ' '])));
        let recorded = images_before.map_or(Ok(()), |images| record_node_image(tools, origin, &images));
        started.map_err(|error| {
            let lacks_inotify = lacks_inotify(tools, &failure::message(&error));
            let mut failure = Failure::new(Class::Cluster, "minikube did not start").because(error);
            if lacks_inotify {
                failure = failure.help(INOTIFY);
            }
            failure = failure
                .help(format!("less {}", quote(&log)))
                .help("then run the same command again: it continues from the current state");
            match before {
                ProfileState::Absent | ProfileState::HalfDeleted(_) => {
                    failure.help("or start over: cargo xtask teardown --cluster   # it holds no data yet")
                }
                _ => failure.help(format!("see the node's log: cargo xtask tool docker -- logs --tail 50 {name}")),
            }
        })?;
        // The exit code of minikube alone proves nothing.
        match observe(tools)?.state {
            ProfileState::Running => recorded.map(|()| format!("Kubernetes {kubernetes}")),
            state => {
                let what =
                    format!("`minikube start` succeeded, but profile `{}` is not running: {state:?}", tools.profile);
                Err(Failure::new(Class::Cluster, what).help(format!("less {}", quote(&log))).into())
            }
        }
    }))
}

/// Records the node's image as pulled, if minikube brought it. An image in `before` belongs to somebody else. minikube loads
/// the image, so the engine has no time of its tag.
fn record_node_image(tools: &Toolbox, origin: &dyn Origin, before: &BTreeSet<String>) -> Result<()> {
    let config = tools.record()?.unwrap_or_default();
    let image = config["KicBaseImage"].as_str().and_then(|name| name.split('@').next()).unwrap_or_default();
    if image.is_empty() || tools.engine.image_id(image)?.is_none_or(|id| before.contains(&id)) {
        return Ok(());
    }
    origin.base_records().record(&tools.engine, image, Brought::Pulled)
}

/// The hint for an exhausted limit of the kernel that all containers share.
const INOTIFY: &str = "the kernel has no inotify instance left, other clusters use them all: \
                       sudo sysctl fs.inotify.max_user_instances=512   # on the engine's machine, or stop another cluster";

/// Returns whether inotify instances ran out: in minikube's error `words` from the node's systemd, or in the log of a pod.
fn lacks_inotify(tools: &Toolbox, words: &str) -> bool {
    let by_systemd = words.contains("inotify") && words.contains("Too many open files");
    let grep = ["grep", "-rqE", "inotify: too many open files", "/var/log/pods"];
    by_systemd || tools.first_node().exec(grep).deadline(deadlines::NODE).succeeds()
}

/// The conditions that minikube waits for: all except `extra`, the readiness of each system pod, which took 13 to 17 s, mostly
/// for second probes. A deploy loads images meanwhile and waits for the DNS itself.
const WAIT: &str = "--wait=apiserver,apps_running,default_sa,kubelet,node_ready,system_pods";

/// Settings of a new cluster's Kubernetes. Most of them reduce the processor time of an idle cluster.
const SETTINGS_OF_NEW: [&str; 5] = [
    // The watch cache copies each kind of object and wakes for each copy every second. It protects etcd from many clients
    // with many objects, which this cluster does not have.
    "apiserver.watch-cache=false",
    // All controllers request accounts and tokens before the first one starts. The default of 20 requests a second takes 4 s
    // of a new cluster's start. With one node, no other client is slowed down.
    "controller-manager.kube-api-qps=200",
    "controller-manager.kube-api-burst=400",
    // kubelet's node status seldom changes, and each report reads all images and volumes. The lease, every 10 s, shows that
    // the node lives.
    "kubelet.node-status-update-frequency=1m",
    // kubelet reads all cgroups for metrics of containers, by default every 10 s. For evictions it reads the node's anew.
    "kubelet.housekeeping-interval=1m",
];

/// Returns what a new node of this `size` must not offer to pods: memory in bytes and processors of the machine beyond the
/// profile's. A container sees all of the machine's, so kubelet would report those to the scheduler.
fn reserved(machine: Option<(u64, u64)>, size: NodeSize) -> Option<String> {
    let Some((memory, cpus)) = machine else { return Some("<what the machine has beyond the profile>".to_owned()) };
    let memory = (memory / 1024).checked_sub(size.memory_mib * 1024).filter(|rest| *rest > 0);
    let cpus = cpus.checked_sub(size.cpus).filter(|rest| *rest > 0);
    let parts = [cpus.map(|cpus| format!("cpu={cpus}")), memory.map(|kib| format!("memory={kib}Ki"))];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(","))
}

/// Returns whether a profile in the state `before` must still be started: minutes may have passed since the decision. Also
/// reads the API server's port and certificates again.
fn is_still_due(tools: &Toolbox, before: &ProfileState) -> Result<bool> {
    let now = observe(tools)?;
    identity::check(tools, &now)?;
    match &now.state {
        ProfileState::Running => Ok(api_server::observe(tools, &now)? != ApiServer::Ready),
        state if state == before => Ok(true),
        state => {
            let what = format!("profile `{}` was {before:?} and is {state:?} now; nothing was started", tools.profile);
            Err(Failure::new(Class::Cluster, what.to_lowercase()).help("run the same command again").into())
        }
    }
}

/// Returns the port `first`, or the next free one, with a warning.
fn free_port(first: u16, report: &Report) -> Option<u16> {
    // A program on the other loopback address would answer there instead.
    let is_free = |port: &u16| machine::port_holder(*port).is_none();
    let port = (first..first.saturating_add(50)).find(is_free)?;
    if port != first {
        let holder = machine::port_holder(first).map_or("another program".to_owned(), |holder| holder.to_string());
        report.warn(format!("port {first} is held by {holder}; the application will be at port {port}"));
    }
    Some(port)
}

fn no_free_port(settings: &Cluster) -> Failure {
    Failure::new(Class::Machine, format!("no free port from {} on", settings.port))
        .help("choose another: set cluster.port in infra/xtask.toml")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkout;
    use crate::engine::{Engine, EngineMachine};
    use crate::origin::OriginSettings;
    use crate::origin::release::ReleaseOrigin;
    use crate::pure;
    use crate::settings::Settings;
    use serde_json::json;

    fn container(status: &str) -> Value {
        json!({"State": {"Status": status}, "Config": {"Labels": {"created_by.minikube.sigs.k8s.io": "true"}},
               "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}}})
    }

    #[test]
    fn a_network_that_connects_other_containers_than_the_node_is_refused_with_the_command() {
        let network = |names: &[&str]| {
            let containers = names.iter().enumerate().map(|(id, name)| (id.to_string(), json!({"Name": name})));
            json!({"Containers": containers.collect::<serde_json::Map<_, _>>()})
        };
        assert!(refuse_attached("todo", &network(&["todo"])).is_ok());
        let error = refuse_attached("todo", &network(&["todo", "registry"])).unwrap_err();
        let hints = error.downcast_ref::<Failure>().unwrap().hints();
        assert_eq!(hints[0], "cargo xtask tool docker -- network disconnect todo registry");
        assert!(error.to_string().ends_with("containers: registry"), "{error}");
    }

    #[test]
    fn offers_pods_only_the_size_of_the_profile() {
        let size = NodeSize { cpus: 2, memory_mib: 6144 };
        let machine = |gib: u64, cpus: u64| reserved(Some((gib << 30, cpus)), size);
        assert_eq!(machine(24, 8).as_deref(), Some("cpu=6,memory=18874368Ki"));
        assert_eq!(machine(24, 2).as_deref(), Some("memory=18874368Ki"));
        assert_eq!(machine(6, 1), None);
    }

    fn node(port: Option<u16>, fault: Option<Failure>) -> NewNode {
        let machine = EngineMachine { memory: 24 << 30, cpus: 8, kind: String::new(), security: None, plugins: None };
        NewNode { port, machine: NodeMachine { machine: Some(machine), fault } }
    }

    /// Returns what is decided for `profile`: each step with its reason and command, or the error with its hints.
    fn decided(profile: &Profile, facts: StartFacts) -> String {
        let settings = Settings::read(&checkout::find(None)).unwrap().cluster;
        let origin = ReleaseOrigin::new(&OriginSettings::of_cache("/cache".into()), false).unwrap();
        let tools = Toolbox::of_engine(Engine::system());
        match pure::decide(|| decide(&settings, &tools, &origin, profile, facts, &[])) {
            Ok(steps) => steps.iter().map(|step| format!("{}: {}\n{}\n", step.what, step.why, step.command)).collect(),
            Err(error) => format!("{error}\n{}", error.downcast_ref::<Failure>().unwrap().hints().join("\n")),
        }
    }

    fn recorded() -> Profile {
        let config = serde_json::from_str(include_str!("../../../tests/recorded/cluster/profile.json")).unwrap();
        let node: Value = serde_json::from_str(include_str!("../../../tests/recorded/cluster/node.json")).unwrap();
        judge(Some(config), Some(&node[0]))
    }

    #[test]
    fn creates_a_node_with_the_observed_port_and_size() {
        let absent = judge(None, None);
        let create = |node| decided(&absent, StartFacts::New("there is no profile of that name", node));
        let steps = create(node(Some(8081), None));
        assert!(steps.starts_with("create cluster todo: there is no profile of that name\n"), "{steps}");
        for part in ["--cpus=2", "--memory=6144m", "cpu=6,memory=18874368Ki", "--ports=127.0.0.1:8081:80"] {
            assert!(steps.contains(part), "{part} in {steps}");
        }
        let refused = create(node(None, None));
        assert!(refused.starts_with("no free port from 8080 on\nchoose another: set cluster.port"), "{refused}");
        let refused = create(node(Some(8080), Some(Failure::new(Class::Machine, "no buildx").help("get it"))));
        assert_eq!(refused, "no buildx\nget it");
    }

    #[test]
    fn a_node_whose_creation_was_interrupted_is_made_again() {
        let profile = Profile { state: ProfileState::HalfDeleted(UNFINISHED), ..recorded() };
        let steps = decided(&profile, StartFacts::New(UNFINISHED, node(Some(8080), None)));
        let order =
            ["remove the node todo: minikube has", "docker rm --force todo", "create cluster todo: minikube has"];
        let places: Vec<_> = order.iter().map(|part| steps.find(part)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} in {steps}");
    }

    #[test]
    fn starts_a_stopped_node_only_if_its_port_is_free() {
        let profile = Profile { state: ProfileState::Stopped, ..recorded() };
        let start = |held| decided(&profile, StartFacts::Start("the profile is stopped".to_owned(), held));
        let steps = start(None);
        assert!(steps.starts_with("start cluster todo: the profile is stopped\n"), "{steps}");
        // An existing node keeps its size and ports.
        assert!(steps.contains(WAIT) && !steps.contains("--cpus") && !steps.contains("--ports"), "{steps}");
        let refused = start(Some((8480, PortHolder { pid: Some(42), name: "nginx".to_owned() })));
        assert!(
            refused.starts_with("port 8480, which the profile publishes, is held by nginx (process 42)"),
            "{refused}"
        );
        let users = Profile { is_users: true, ..profile.clone() };
        let refused = decided(&users, StartFacts::Start(String::new(), None));
        assert!(refused.contains("is yours: xtask did not make it and does not start it"), "{refused}");
    }

    #[test]
    fn a_running_node_needs_at_most_its_context() {
        let running = recorded();
        assert_eq!(decided(&running, StartFacts::Running(ContextEntry::Current)), "");
        let steps = decided(&running, StartFacts::Running(ContextEntry::Old("https://127.0.0.1:1".to_owned())));
        assert!(
            steps.starts_with("renew context todo in ") && steps.contains("the port of an earlier start"),
            "{steps}"
        );
        let silent = decided(&running, StartFacts::Start("kubelet does not run".to_owned(), None));
        assert!(silent.starts_with("start cluster todo: kubelet does not run\n"), "{silent}");
        let paused = Profile { state: ProfileState::Paused, ..running };
        assert!(decided(&paused, StartFacts::Other).starts_with("unpause todo: the node is paused\n"));
        let foreign = Profile { state: ProfileState::Foreign, ..paused };
        assert!(decided(&foreign, StartFacts::Other).contains("that minikube did not make"));
    }

    #[test]
    fn refuses_a_half_deleted_profile_with_data() {
        let gone = Profile { state: ProfileState::HalfDeleted(NODE_GONE), ..recorded() };
        let refused =
            |has_data| decided(&gone, StartFacts::HalfDeleted { how: NODE_GONE, is_elsewhere: false, has_data });
        assert!(
            refused(true).starts_with("minikube profile `todo` is half deleted: minikube has a record of it but its")
        );
        assert!(
            refused(false).contains(", and so is the data of what was deployed to it\nremove the rest"),
            "{}",
            refused(false)
        );
        let elsewhere = decided(&gone, StartFacts::HalfDeleted { how: NODE_GONE, is_elsewhere: true, has_data: true });
        assert!(elsewhere.contains("is in the private Docker Engine, but xtask uses your own engine"), "{elsewhere}");
    }

    #[test]
    fn derives_a_state_from_every_combination() {
        let config = || Some(json!({"Nodes": [{"IP": "192.168.49.2", "Port": 8443}]}));
        let state = |config, container: Option<Value>| judge(config, container.as_ref()).state;
        assert_eq!(state(None, None), ProfileState::Absent);
        assert_eq!(state(config(), Some(container("running"))), ProfileState::Running);
        assert_eq!(state(config(), Some(container("paused"))), ProfileState::Paused);
        assert_eq!(state(config(), Some(container("exited"))), ProfileState::Stopped);
        assert!(matches!(state(config(), None), ProfileState::HalfDeleted(_)));
        assert!(matches!(state(None, Some(container("running"))), ProfileState::HalfDeleted(_)));
        assert!(matches!(state(Some(Value::Null), Some(container("running"))), ProfileState::HalfDeleted(_)));
        let unfinished = || Some(json!({"Nodes": [{"IP": "", "Port": 8443}]}));
        assert_eq!(state(unfinished(), Some(container("running"))), ProfileState::HalfDeleted(UNFINISHED));
        assert_eq!(state(unfinished(), None), ProfileState::HalfDeleted(NODE_GONE));
        let somebodys = json!({"State": {"Status": "running"}, "Config": {"Labels": {}}});
        assert_eq!(state(None, Some(somebodys.clone())), ProfileState::Foreign);
        assert_eq!(state(config(), Some(somebodys)), ProfileState::Foreign);
        let kvm = || Some(json!({"Driver": "kvm2", "Nodes": [{"IP": "192.168.39.2", "Port": 8443}]}));
        assert_eq!(state(kvm(), None), ProfileState::OtherDriver("kvm2".to_owned()));
        let docker = Some(json!({"Driver": "docker"}));
        assert_eq!(state(docker, Some(container("running"))), ProfileState::Running);
    }

    #[test]
    fn reads_the_recorded_state_of_a_running_profile() {
        let profile = recorded();
        assert_eq!((profile.state.clone(), profile.port), (ProfileState::Running, Some(8480)));
        assert_eq!(profile.unsupported_runtime(), None);
        let api = profile.api_port.unwrap();
        assert_eq!(profile.servers(), ["https://192.168.67.2:8443".to_owned(), format!("https://127.0.0.1:{api}")]);
    }

    #[test]
    fn returns_address_and_servers_of_the_profile() {
        let profile =
            judge(Some(json!({"Nodes": [{"IP": "192.168.49.2", "Port": 8443}]})), Some(&container("running")));
        assert_eq!(profile.address().as_deref(), Some("http://localhost:8080"));
        assert_eq!(Profile { port: Some(80), ..profile.clone() }.address().as_deref(), Some("http://localhost"));
        assert_eq!(Profile { port: None, ..profile.clone() }.address(), None);
        assert_eq!(profile.servers(), ["https://192.168.49.2:8443"]);
    }
}
