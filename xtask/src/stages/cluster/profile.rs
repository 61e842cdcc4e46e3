//! The minikube profile: its state, and the steps to a running node.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::Value;

use super::api_server::{self, ApiServer};
use super::identity;
use super::version::{self, Version};
use super::volume;
use crate::clock;
use crate::deadlines;
use crate::engine::paths::EnginePaths;
use crate::engine::stored;
use crate::failure::{Class, Failure};
use crate::files;
use crate::origin::Origin;
use crate::origin::bases::Brought;
use crate::plan::Step;
use crate::project::Project;
use crate::stages::images::{owned, prune};
use crate::stages::machine::{self, NodeSize};
use crate::toolbox::Toolbox;
use crate::units::quote;

/// What is said of a profile that minikube has on record without a node.
const NODE_GONE: &str = "minikube has a record of it but its node is gone";

/// What a profile is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileState {
    /// No such profile.
    Absent,
    /// minikube knows it but its node is gone, or the other way round.
    HalfDeleted(&'static str),
    /// A container of its name exists that minikube did not make: it is somebody's, and neither used nor removed.
    Foreign,
    /// minikube's record says that it is made with another driver: its node is no container of the engine.
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
    /// What it is doing.
    pub state: ProfileState,
    /// minikube's `config.json`, if there is one.
    pub config: Option<Value>,
    /// The loopback port that is published for the node's port 80.
    pub port: Option<u16>,
    /// The loopback port that is published for the API server.
    pub api_port: Option<u16>,
    /// When the node was started, in seconds since 1970.
    pub started_at: Option<u64>,
}

impl Profile {
    /// The node's container runtime, if it is not one we support.
    pub fn unsupported_runtime(&self) -> Option<&str> {
        let runtime = self.config.as_ref()?.pointer("/KubernetesConfig/ContainerRuntime")?.as_str()?;
        (runtime != "containerd").then_some(runtime)
    }

    /// The Kubernetes that minikube has on record for a profile that can be used; `None` for any other.
    pub fn kubernetes(&self, tools: &Toolbox) -> Result<Option<Version>> {
        let usable = matches!(self.state, ProfileState::Running | ProfileState::Paused | ProfileState::Stopped);
        let config = self.config.as_ref().filter(|_| usable);
        config.map(|config| version::recorded(config, &tools.profile_config())).transpose()
    }

    /// Where a user finds the application, if the profile publishes a port.
    pub fn address(&self) -> Option<String> {
        self.port
            .map(|port| if port == 80 { "http://localhost".to_owned() } else { format!("http://localhost:{port}") })
    }

    /// The addresses under which minikube may have registered the API server.
    pub fn servers(&self) -> Vec<String> {
        let Some(config) = &self.config else { return Vec::new() };
        let nodes = config["Nodes"].as_array().cloned().unwrap_or_default();
        let direct = nodes.iter().filter_map(|node| Some(format!("https://{}:{}", node["IP"].as_str()?, node["Port"])));
        // Where the node's address cannot be reached from the host, minikube registers the published port.
        let published = self.api_port.map(|port| format!("https://127.0.0.1:{port}"));
        direct.chain(published).collect()
    }
}

/// Asks minikube's files and the engine: no minikube process. What seems half deleted is looked at twice.
pub fn observe(tools: &Toolbox) -> Result<Profile> {
    let look = || Ok::<_, anyhow::Error>(judge(tools.record()?, inspect(tools)?.as_ref()));
    let mut profile = look()?;
    if matches!(profile.state, ProfileState::HalfDeleted(_)) {
        std::thread::sleep(deadlines::PROFILE_SETTLE.time());
        profile = look()?;
    }
    tools.aim_api(profile.api_port);
    Ok(profile)
}

/// The node's container; `None`: the engine says that there is none.
fn inspect(tools: &Toolbox) -> Result<Option<Value>> {
    let Some(node) = tools.engine.inspect_one("container", &tools.profile)? else { return Ok(None) };
    let node = Some(node).filter(|node| node["State"]["Status"].is_string()).ok_or_else(|| {
        let what = format!("`docker container inspect {}` printed no state of the node", tools.profile);
        Failure::new(Class::Machine, what).help("see whether the engine answers: cargo xtask doctor")
    })?;
    Ok(Some(node))
}

/// The state from minikube's record and the engine's container.
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
        (Some(_), Some(c)) => match c.pointer("/State/Status").and_then(Value::as_str) {
            Some("running") => ProfileState::Running,
            Some("paused") => ProfileState::Paused,
            _ => ProfileState::Stopped,
        },
    };
    let api = container.and_then(|c| c.pointer("/NetworkSettings/Ports/8443~1tcp/0/HostPort")?.as_str()?.parse().ok());
    let started_at = container.and_then(|c| clock::parse(c.pointer("/State/StartedAt")?.as_str()?));
    Profile { state, config, port, api_port: api, started_at }
}

/// The steps to a running node; a new one gets `images` where that is possible.
pub fn decide<'a>(
    project: &'a Project,
    tools: &'a Toolbox,
    origin: &'a dyn Origin,
    profile: &Profile,
    silence: Option<&str>,
    images: &[String],
) -> Result<Vec<Step<'a>>> {
    let name = &tools.profile;
    let create = |why: &str| {
        let start = start(project, tools, origin, profile, why, Some(free_port(project)?))?;
        let fill = volume::step(project, tools, origin, &version::pinned(project)?.to_string(), images);
        Ok(fill.into_iter().chain([start]).collect())
    };
    match &profile.state {
        ProfileState::Running => match silence {
            None => Ok(identity::context_step(tools, profile)?.into_iter().collect()),
            Some(words) => Ok(vec![start(project, tools, origin, profile, words, None)?]),
        },
        ProfileState::Paused => {
            let unpause = tools.engine.docker().args(["unpause", name]);
            Ok(vec![Step::new(format!("unpause {name}"), "the node is paused", unpause.clone(), move |_| {
                unpause.run().map(|()| String::new())
            })])
        }
        ProfileState::Stopped => Ok(vec![start(project, tools, origin, profile, "the profile is stopped", None)?]),
        ProfileState::Absent => create("there is no profile of that name"),
        ProfileState::Foreign | ProfileState::OtherDriver(_) => {
            Err(refusal(tools, profile).unwrap_or_else(|| foreign(name)).into())
        }
        ProfileState::HalfDeleted(how) => {
            in_this_engine(project, tools)?;
            let mut message = format!("minikube profile `{name}` is half deleted: {how}");
            if *how == NODE_GONE && !volume::has_data(&tools.engine, name, origin.node_content().as_ref())? {
                if !prune::was_deployed(&project.cache, name)? {
                    return create("minikube has a record of it, but it has no node and no data");
                }
                message.push_str(", and so is the data of what was deployed to it");
            }
            let record = tools.profile_config();
            let mut failure = Failure::new(Class::Cluster, message);
            if !how.contains("node is gone") {
                failure = failure.help(format!("to keep the data in its node, put minikube's record back: {record}"));
            }
            Err(failure
                .help("remove the rest of it, with any data inside: cargo xtask teardown --cluster")
                .help("then: cargo xtask deploy dev")
                .into())
        }
    }
}

/// Whether the profile's node is in the private engine while another one is asked, which cannot say anything about it.
pub fn is_elsewhere(project: &Project, tools: &Toolbox) -> Result<bool> {
    Ok(!tools.engine.private && stored::containers(&EnginePaths::new(&project.cache))?.contains(&tools.profile))
}

fn in_this_engine(project: &Project, tools: &Toolbox) -> Result<()> {
    let name = &tools.profile;
    if !is_elsewhere(project, tools)? {
        return Ok(());
    }
    let what = format!("the node of profile `{name}` is in the private Docker Engine, but your own engine is asked");
    let hidden = project.command("status");
    Err(Failure::new(Class::Cluster, what)
        .help(format!("hide your own engine for one command: DOCKER_HOST=unix:///nonexistent {hidden}"))
        .into())
}

/// The step that deletes the profile, also a half-deleted one. Whose it is is looked at again right before, and what is
/// said to be deleted is looked for afterwards.
pub fn delete_step<'a>(project: &'a Project, tools: &'a Toolbox, why: &str) -> Step<'a> {
    let delete = tools.minikube().arg("delete").deadline(deadlines::MINIKUBE_DELETE);
    Step::new(format!("delete cluster {}", tools.profile), why, delete.clone(), move |_| {
        let name = &tools.profile;
        in_this_engine(project, tools)?;
        if let Some(refusal) = refusal(tools, &observe(tools)?) {
            return Err(refusal.into());
        }
        refuse_users(tools, "delete")?;
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
            // Nobody else can: without its node it is but a record.
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
            return prune::forget_profile(&project.cache, name).map(|()| String::new());
        }
        let what = format!("cluster `{name}` is not deleted; still there: {}", left.join(", "));
        Err(Failure::new(Class::Cluster, what)
            .help(format!("cargo xtask tool docker -- container inspect {name}"))
            .help("then once more: cargo xtask teardown --cluster")
            .into())
    })
}

/// Why the profile is neither used nor removed, if it is not ours to use.
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

/// Why xtask does not `verb` the profile: it is the user's own. It is used as it is; a `minikube start` of ours would put
/// our flags on its record.
pub fn refuse_users(tools: &Toolbox, verb: &str) -> Result<()> {
    if !tools.is_users_profile()? {
        return Ok(());
    }
    let name = &tools.profile;
    let what = format!("minikube profile `{name}` is yours, not made by xtask, which does not {verb} it");
    Err(Failure::new(Class::Cluster, what)
        .help(format!("do it yourself: minikube --profile {name} {verb}    # then the same command again"))
        .help(format!("or use a profile of xtask's own: --profile {name}-xtask"))
        .into())
}

/// The refusal of a container that is not ours.
fn foreign(name: &str) -> Failure {
    let what = format!("the engine has a container `{name}` that minikube did not make");
    Failure::new(Class::Cluster, what)
        .help(format!("use another profile: --profile {name}2"))
        .help(format!("or give the container another name: docker rename {name} <new name>"))
}

fn start<'a>(
    project: &'a Project,
    tools: &'a Toolbox,
    origin: &'a dyn Origin,
    profile: &Profile,
    why: &str,
    port: Option<u16>,
) -> Result<Step<'a>> {
    if let (ProfileState::Stopped, Some(port)) = (&profile.state, profile.port)
        && let Some(holder) = machine::port_holder(port)
    {
        return Err(Failure::new(
            Class::Machine,
            format!("port {port}, which the profile publishes, is held by {holder}"),
        )
        .help(format!("end that program, or use another profile: --profile {}2", tools.profile))
        .into());
    }
    if profile.state != ProfileState::Absent {
        refuse_users(tools, "start")?;
    }
    let log = project.log("minikube-start");
    let own = profile.kubernetes(tools)?;
    let kubernetes = own.clone().map_or_else(|| version::pinned(project), Ok)?;
    let mut command = tools
        .minikube()
        .arg("start")
        .args(["--driver=docker", "--container-runtime=containerd", "--keep-context", "--interactive=false"])
        .arg(format!("--kubernetes-version={kubernetes}"));
    // An existing profile keeps its Kubernetes, its node and its size: only the user changes them.
    let (flags, wait) = if own.is_some() {
        (origin.minikube_restart_flags(), "--wait=all")
    } else {
        let size = machine::node_size(project, &tools.engine)?;
        command = command.args([format!("--cpus={}", size.cpus), format!("--memory={}m", size.memory_mib)]);
        command = command
            .args(reserved(tools, size)?.map(|rest| format!("--extra-config=kubelet.system-reserved={rest}")))
            .args([WITHOUT_WATCH_CACHE, CONTROLLERS_QPS, CONTROLLERS_BURST, NODE_STATUS]);
        (origin.minikube_flags(), WAIT_FOR_NEW)
    };
    command =
        command.args([wait, "--wait-timeout=5m"]).args(flags).log(log.clone()).deadline(deadlines::MINIKUBE_START);
    if rustix::process::geteuid().is_root() {
        // minikube refuses the docker driver for root otherwise.
        command = command.arg("--force");
    }
    if let Some(port) = port {
        command = command.arg(format!("--ports=127.0.0.1:{port}:80"));
    }
    let what =
        if matches!(profile.state, ProfileState::Absent | ProfileState::HalfDeleted(_)) { "create" } else { "start" };
    let name = tools.profile.clone();
    let before = profile.state.clone();
    Ok(Step::new(format!("{what} cluster {name}"), why, command.clone(), move |running| {
        if !is_still_due(tools, &before)? {
            return Ok("it runs by now: not needed".to_owned());
        }
        if before == ProfileState::Absent {
            // Somebody else has deleted the one before.
            prune::forget_profile(&project.cache, &tools.profile)?;
        }
        // The private engine's images go with the engine.
        let images_before = match before {
            ProfileState::Absent | ProfileState::HalfDeleted(_) if !tools.engine.private => {
                Some(owned::ids(&tools.engine)?)
            }
            _ => None,
        };
        let started = command.stream(|line| running.progress(line.trim_start_matches(['*', '-', '!', ' '])));
        let recorded = images_before.map_or(Ok(()), |images| record_node_image(tools, origin, &images));
        started.map_err(|error| {
            let mut failure = Failure::new(Class::Cluster, format!("minikube did not start: {error:#}"));
            if lacks_inotify(tools, &format!("{error:#}")) {
                failure = failure.help(INOTIFY);
            }
            failure = failure
                .help(format!("less {}", quote(&log)))
                .help("then run the same command again: it goes on from what is there");
            match before {
                ProfileState::Absent | ProfileState::HalfDeleted(_) => {
                    failure.help("or start afresh: cargo xtask teardown --cluster   # it holds no data yet")
                }
                _ => failure.help(format!("see what the node says: cargo xtask tool docker -- logs --tail 50 {name}")),
            }
        })?;
        // What minikube says of its own success is not proof.
        match observe(tools)?.state {
            ProfileState::Running => recorded.map(|()| format!("Kubernetes {kubernetes}")),
            state => {
                let what =
                    format!("minikube has ended well, but profile `{}` is not running: {state:?}", tools.profile);
                Err(Failure::new(Class::Cluster, what).help(format!("less {}", quote(&log))).into())
            }
        }
    }))
}

/// Records the node's image as pulled, if minikube has brought it: one of the images `before` is somebody's. minikube has
/// the engine load the image, which leaves no time at which it got its tag.
fn record_node_image(tools: &Toolbox, origin: &dyn Origin, before: &BTreeSet<String>) -> Result<()> {
    let config = tools.record()?.unwrap_or_default();
    let image = config["KicBaseImage"].as_str().and_then(|name| name.split('@').next()).unwrap_or_default();
    if image.is_empty() || tools.engine.image_id(image)?.is_none_or(|id| before.contains(&id)) {
        return Ok(());
    }
    origin.base_records().record(&tools.engine, image, Brought::Pulled)
}

/// The way out where the kernel's limit for all containers is used up.
const INOTIFY: &str = "the kernel has no inotify instance left, other clusters use them all: \
                       sudo sysctl fs.inotify.max_user_instances=512   # on the engine's machine, or stop another cluster";

/// Whether the node's systemd said so to minikube, which says `words`, or a pod to its log, for which minikube waited.
fn lacks_inotify(tools: &Toolbox, words: &str) -> bool {
    let by_systemd = words.contains("inotify") && words.contains("Too many open files");
    let grep = ["grep", "-rqE", "inotify: too many open files", "/var/log/pods"];
    by_systemd || tools.first_node().exec(grep).deadline(deadlines::NODE).succeeds()
}

/// What minikube waits for in a new cluster: all but `extra`, that each pod of Kubernetes' own is ready. That took 17 s, most of
/// them for second probes; a deploy loads images meanwhile and waits for the DNS itself.
const WAIT_FOR_NEW: &str = "--wait=apiserver,apps_running,default_sa,kubelet,node_ready,system_pods";

/// The API server's watch cache keeps a copy of each kind of object and wakes for each copy every second, which is a fifth of
/// an idle cluster's processor time. It spares etcd many clients with many objects; here are few of both.
const WITHOUT_WATCH_CACHE: &str = "--extra-config=apiserver.watch-cache=false";

/// Controllers ask for an account and a token each before any of them starts, at 20 requests a second by default: 4 s of a
/// new cluster's start. In one node with one API server nobody else waits for them.
const CONTROLLERS_QPS: &str = "--extra-config=controller-manager.kube-api-qps=200";
const CONTROLLERS_BURST: &str = "--extra-config=controller-manager.kube-api-burst=400";

/// The node's lease says every 10 s that it lives; what else kubelet reports of it seldom changes, and is put together from all
/// images and volumes.
const NODE_STATUS: &str = "--extra-config=kubelet.node-status-update-frequency=1m";

/// What a new node must not offer to pods: the machine's memory and processors beyond those of the profile. kubelet counts
/// the machine's, because a container sees them all; its limits come without a word to the scheduler.
fn reserved(tools: &Toolbox, size: NodeSize) -> Result<Option<String>> {
    if tools.engine.empty {
        return Ok(Some("<what the machine has beyond the profile>".to_owned()));
    }
    let machine = tools.engine.machine()?;
    Ok(beyond((machine.memory, machine.cpus), size.cpus, size.memory_mib))
}

fn beyond((memory, cpus): (u64, u64), own_cpus: u64, own_mib: u64) -> Option<String> {
    let memory = (memory / 1024).checked_sub(own_mib * 1024).filter(|rest| *rest > 0);
    let cpus = cpus.checked_sub(own_cpus).filter(|rest| *rest > 0);
    let parts = [cpus.map(|cpus| format!("cpu={cpus}")), memory.map(|kib| format!("memory={kib}Ki"))];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(","))
}

/// Whether a profile that was `before` must still be started, asked right before that: minutes may have gone by. The port
/// and the certificates of its API server are read anew.
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

/// The preferred port, or the next free one.
fn free_port(project: &Project) -> Result<u16> {
    let first = project.settings.cluster.port;
    // Whoever holds the port's other address would answer there instead of us.
    let is_free = |port: &u16| machine::port_holder(*port).is_none();
    let Some(port) = (first..first.saturating_add(50)).find(is_free) else {
        return Err(Failure::new(Class::Machine, format!("no free port from {first} on"))
            .help("choose another: set cluster.port in infra/xtask.toml")
            .into());
    };
    if port != first {
        let holder = machine::port_holder(first).map_or("another program".to_owned(), |holder| holder.to_string());
        project.report.warn(format!("port {first} is held by {holder}; the application will be at port {port}"));
    }
    Ok(port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(status: &str) -> Value {
        json!({"State": {"Status": status}, "Config": {"Labels": {"created_by.minikube.sigs.k8s.io": "true"}},
               "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}}})
    }

    #[test]
    fn a_node_offers_what_the_profile_has_and_not_what_the_machine_has() {
        let machine = |gib: u64, cpus: u64| beyond((gib << 30, cpus), 2, 6144);
        assert_eq!(machine(24, 8).as_deref(), Some("cpu=6,memory=18874368Ki"));
        assert_eq!(machine(24, 2).as_deref(), Some("memory=18874368Ki"));
        assert_eq!(machine(6, 1), None);
    }

    #[test]
    fn every_combination_has_a_state() {
        let config = || Some(json!({"Nodes": [{"IP": "192.168.49.2", "Port": 8443}]}));
        let state = |config, container: Option<Value>| judge(config, container.as_ref()).state;
        assert_eq!(state(None, None), ProfileState::Absent);
        assert_eq!(state(config(), Some(container("running"))), ProfileState::Running);
        assert_eq!(state(config(), Some(container("paused"))), ProfileState::Paused);
        assert_eq!(state(config(), Some(container("exited"))), ProfileState::Stopped);
        assert!(matches!(state(config(), None), ProfileState::HalfDeleted(_)));
        assert!(matches!(state(None, Some(container("running"))), ProfileState::HalfDeleted(_)));
        assert!(matches!(state(Some(Value::Null), Some(container("running"))), ProfileState::HalfDeleted(_)));
        let somebodys = json!({"State": {"Status": "running"}, "Config": {"Labels": {}}});
        assert_eq!(state(None, Some(somebodys.clone())), ProfileState::Foreign);
        assert_eq!(state(config(), Some(somebodys)), ProfileState::Foreign);
        let kvm = || Some(json!({"Driver": "kvm2", "Nodes": [{"IP": "192.168.39.2", "Port": 8443}]}));
        assert_eq!(state(kvm(), None), ProfileState::OtherDriver("kvm2".to_owned()));
        let docker = Some(json!({"Driver": "docker"}));
        assert_eq!(state(docker, Some(container("running"))), ProfileState::Running);
    }

    #[test]
    fn what_minikube_and_the_engine_recorded_of_a_running_profile_is_read() {
        let config = serde_json::from_str(include_str!("../../../tests/recorded/cluster/profile.json")).unwrap();
        let node: Value = serde_json::from_str(include_str!("../../../tests/recorded/cluster/node.json")).unwrap();
        let profile = judge(Some(config), Some(&node[0]));
        assert_eq!((profile.state.clone(), profile.port), (ProfileState::Running, Some(8480)));
        assert_eq!(profile.unsupported_runtime(), None);
        let api = profile.api_port.unwrap();
        assert_eq!(profile.servers(), ["https://192.168.67.2:8443".to_owned(), format!("https://127.0.0.1:{api}")]);
    }

    #[test]
    fn port_and_server_come_from_the_profile() {
        let profile =
            judge(Some(json!({"Nodes": [{"IP": "192.168.49.2", "Port": 8443}]})), Some(&container("running")));
        assert_eq!(profile.address().as_deref(), Some("http://localhost:8080"));
        assert_eq!(Profile { port: Some(80), ..profile.clone() }.address().as_deref(), Some("http://localhost"));
        assert_eq!(Profile { port: None, ..profile.clone() }.address(), None);
        assert_eq!(profile.servers(), ["https://192.168.49.2:8443"]);
    }
}
