//! The minikube profile: its state, and the steps that make its node run.

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
use crate::toolbox::{Toolbox, published_api_port};
use crate::units::quote;

/// The reason why a recorded profile without a node is half deleted.
const NODE_GONE: &str = "minikube has a record of it but its node is gone";

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
    /// When the node was started, in seconds since 1970.
    pub started_at: Option<u64>,
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
    let look = || Ok::<_, anyhow::Error>(judge(tools.record()?, tools.inspect_node()?.as_ref()));
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
        (Some(_), Some(c)) => match c.pointer("/State/Status").and_then(Value::as_str) {
            Some("running") => ProfileState::Running,
            Some("paused") => ProfileState::Paused,
            _ => ProfileState::Stopped,
        },
    };
    let api = container.and_then(published_api_port);
    let started_at = container.and_then(|c| clock::parse(c.pointer("/State/StartedAt")?.as_str()?));
    Profile { state, config, port, api_port: api, started_at }
}

/// Returns the steps that make the node run. A new node gets `images`, if the origin fills nodes.
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

/// Returns whether the profile's node is in the private engine although xtask uses the user's own one.
pub fn is_elsewhere(project: &Project, tools: &Toolbox) -> Result<bool> {
    Ok(!tools.engine.private && stored::containers(&EnginePaths::new(&project.cache))?.contains(&tools.profile))
}

fn in_this_engine(project: &Project, tools: &Toolbox) -> Result<()> {
    let name = &tools.profile;
    if !is_elsewhere(project, tools)? {
        return Ok(());
    }
    let what = format!("the node of profile `{name}` is in the private Docker Engine, but xtask uses your own engine");
    let hidden = project.command("status");
    Err(Failure::new(Class::Cluster, what)
        .help(format!("hide your own engine for one command: DOCKER_HOST=unix:///nonexistent {hidden}"))
        .into())
}

/// Returns the step that deletes the profile, also a half-deleted one. It checks right before that the profile is xtask's,
/// and afterwards that nothing is left.
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
            return prune::forget_profile(&project.cache, name).map(|()| String::new());
        }
        let what = format!("cluster `{name}` is not deleted; still there: {}", left.join(", "));
        Err(Failure::new(Class::Cluster, what)
            .help(format!("cargo xtask tool docker -- container inspect {name}"))
            .help("then run it again: cargo xtask teardown --cluster")
            .into())
    })
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
pub fn refuse_users(tools: &Toolbox, verb: &str) -> Result<()> {
    if !tools.is_users_profile()? {
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
    // An existing profile keeps its version, node and size: only the user may change them.
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
            return Ok("not needed any more: it runs now".to_owned());
        }
        if before == ProfileState::Absent {
            // Somebody else has deleted the profile of this record.
            prune::forget_profile(&project.cache, &tools.profile)?;
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
            let mut failure = Failure::new(Class::Cluster, format!("minikube did not start: {error:#}"));
            if lacks_inotify(tools, &format!("{error:#}")) {
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

/// What minikube waits for in a new cluster: all but `extra`, the readiness of each system pod. That took 17 s, mostly for
/// second probes. A deploy loads images meanwhile and waits for the DNS itself.
const WAIT_FOR_NEW: &str = "--wait=apiserver,apps_running,default_sa,kubelet,node_ready,system_pods";

/// The API server's watch cache copies each kind of object and wakes for each copy every second: a fifth of an idle cluster's
/// processor time. It protects etcd from many clients with many objects, which this cluster does not have.
const WITHOUT_WATCH_CACHE: &str = "--extra-config=apiserver.watch-cache=false";

/// All controllers request accounts and tokens before the first one starts. The default of 20 requests a second takes 4 s of a
/// new cluster's start. With one node, no other client is slowed down.
const CONTROLLERS_QPS: &str = "--extra-config=controller-manager.kube-api-qps=200";
const CONTROLLERS_BURST: &str = "--extra-config=controller-manager.kube-api-burst=400";

/// kubelet's node status seldom changes, and each report reads all images and volumes. The lease, every 10 s, shows that the
/// node lives.
const NODE_STATUS: &str = "--extra-config=kubelet.node-status-update-frequency=1m";

/// Returns what a new node must not offer to pods: memory and processors of the machine beyond the profile's. A container sees
/// all of the machine's, so kubelet would report those to the scheduler.
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

/// Returns the port of the settings, or the next free one.
fn free_port(project: &Project) -> Result<u16> {
    let first = project.settings.cluster.port;
    // A program on the other loopback address would answer there instead.
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
    fn offers_pods_only_the_size_of_the_profile() {
        let machine = |gib: u64, cpus: u64| beyond((gib << 30, cpus), 2, 6144);
        assert_eq!(machine(24, 8).as_deref(), Some("cpu=6,memory=18874368Ki"));
        assert_eq!(machine(24, 2).as_deref(), Some("memory=18874368Ki"));
        assert_eq!(machine(6, 1), None);
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
        let config = serde_json::from_str(include_str!("../../../tests/recorded/cluster/profile.json")).unwrap();
        let node: Value = serde_json::from_str(include_str!("../../../tests/recorded/cluster/node.json")).unwrap();
        let profile = judge(Some(config), Some(&node[0]));
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
