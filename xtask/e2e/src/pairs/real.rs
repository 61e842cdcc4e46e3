//! Intercepts the calls of xtask on the real cluster: counts each tool call and each API request, and lets one fail.
//!
//! xtask itself is unchanged. In its cache and on its PATH, all tools are links to the suite's tool. So the engine looks
//! like the user's own, the origin is `release`, and MINIKUBE_HOME has the profile. `docker inspect` of the node shows one
//! changed value: the API server's port is the port of a proxy, which has the API server's certificate.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use camino::Utf8PathBuf;
use serde_json::{Value, json};

use xtask::cache::CACHE_VARIABLE;
use xtask::deadlines::SCALE;
use xtask::engine::Engine;
use xtask::members;
use xtask::node::NodeImages;
use xtask::toolbox::Toolbox;
use xtask_faults::calls::{Call, Called, Fault, Ledger};
use xtask_faults::client::{Reply, SOCKET};
use xtask_faults::control::{Tools, listen};
use xtask_faults::etcd::{Objects, Stored};
use xtask_faults::gate::Gate;
use xtask_faults::machine::{BuiltImage, Machine};
use xtask_faults::mutants;
use xtask_faults::pki::{Pair, Pki};
use xtask_faults::proxy::Proxy;
use xtask_faults::ran::Ran;
use xtask_faults::sandbox::{RunOutcome, State, on_path};
use xtask_faults::suite;
use xtask_faults::truth::Truth;

use crate::test_cluster::TestCluster;

/// Scale and cap (s) of the time limits for a run with a hanging call. The cap covers a rollout, the longest normal wait.
const SHORT: &str = "0.1 30";
/// Time limit of one run.
const LONGEST: Duration = Duration::from_secs(200);
/// Prefix of the backend's Secrets, of which each revision has one.
const PER_REVISION: &str = "todo-backend-";
/// Kinds of objects that the state contains.
const KINDS: &str = "namespaces,secrets,configmaps,serviceaccounts,services,deployments,statefulsets,pods,\
                     poddisruptionbudgets,persistentvolumeclaims,ingresses,ingressclasses";

/// The real cluster with all calls of xtask intercepted.
pub struct RealCluster<'a> {
    test_cluster: &'a TestCluster,
    tools: Toolbox,
    _temp: tempfile::TempDir,
    envs: Vec<(&'static str, String)>,
    /// The program under test of the suite `faults`, which has scalable time limits.
    scaled: Utf8PathBuf,
    ledger: Ledger,
    control: Arc<Control>,
}

/// The builds that runs have made, by name.
#[derive(Default)]
struct Built {
    /// Since the run started.
    now: Vec<String>,
    /// Ever, and those that the profile needed at the start. The engine also has builds of other checkouts.
    all: BTreeSet<String>,
}

struct Control {
    ledger: Ledger,
    folder: String,
    engine: Engine,
    /// The paths of the real tools by name.
    programs: Vec<(&'static str, String)>,
    profile: String,
    /// The API server's published port, and the proxy's port.
    ports: [u16; 2],
    built: Mutex<Built>,
}

impl<'a> RealCluster<'a> {
    /// Starts to intercept calls to the running cluster of `test_cluster`.
    pub fn new(test_cluster: &'a TestCluster) -> Result<Self> {
        let project = &test_cluster.project;
        let suite_program = members::build(&project.report, "xtask-faults")?;
        let (temp, folder) = suite::folder(&Utf8PathBuf::try_from(std::env::temp_dir())?)?;
        for name in ["bin", "cache", "home"] {
            std::fs::create_dir_all(folder.join(name))?;
        }
        // Copies, because Cargo may replace the originals during the runs.
        let tool = suite::keep(&suite_program.with_file_name("xtask-tool"), &folder)?;
        let scaled = mutants::build_all(&project.root, &folder)?;
        xtask_faults::sandbox::tools(&folder, &test_cluster.root, &tool)?;
        std::fs::write(folder.join("cache/origin"), "release")?;
        // Shares the locks of the profile and the list of builds that other checkouts need.
        for shared in ["locks", "needed"] {
            let shared_folder = project.cache.join(shared);
            std::fs::create_dir_all(&shared_folder)?;
            symlink(shared_folder, folder.join("cache").join(shared))?;
        }

        let needed = folder.join("cache/needed").join(&test_cluster.profile);
        let needed = std::fs::read_to_string(&needed).with_context(|| format!("reading {needed}"))?;
        let needed = needed.lines().map(str::to_owned).collect();

        let tools = test_cluster.tools()?;
        let profile = xtask::stages::cluster::profile(&tools)?;
        let api = profile.api_port.context("the node publishes no port for its API server")?;
        let ledger = Ledger::new(Arc::new(Gate::new(1)));
        let proxy = Proxy::start(api, &certificates(&tools)?, ledger.clone(), None)?.port;
        let kubeconfig = folder.join("kubeconfig");
        test_cluster.aim(&kubeconfig, proxy)?;

        let engine = tools.engine.clone();
        let client = match engine.client.as_str() {
            name if !name.contains('/') => on_path(name)?,
            path => path.to_owned(),
        };
        let home = std::env::var("HOME").unwrap_or_default();
        let mut envs = vec![
            ("PATH", format!("{}:{}", folder.join("bin"), std::env::var("PATH").unwrap_or_default())),
            ("HOME", folder.join("home").into()),
            ("KUBECONFIG", kubeconfig.into()),
            ("MINIKUBE_HOME", tools.minikube_home.to_string()),
            (CACHE_VARIABLE, folder.join("cache").into()),
        ];
        if std::env::var_os("DOCKER_CONFIG").is_none() {
            envs.push(("DOCKER_CONFIG", format!("{home}/.docker")));
        }
        for name in ["DOCKER_HOST", "DOCKER_CONFIG"] {
            if let Some((_, value)) = engine.envs.iter().find(|(set, _)| set == name) {
                envs.retain(|(other, _)| *other != name);
                envs.push((name, value.clone()));
            }
        }
        let control = Arc::new(Control {
            ledger: ledger.clone(),
            folder: folder.to_string(),
            programs: vec![
                ("docker", client),
                ("git", on_path("git")?),
                ("helm", tools.helm().program().to_owned()),
                ("minikube", tools.minikube().program().to_owned()),
            ],
            engine,
            profile: test_cluster.profile.clone(),
            ports: [api, proxy],
            built: Mutex::new(Built { now: Vec::new(), all: needed }),
        });
        listen(control.clone(), UnixListener::bind(folder.join(SOCKET))?);
        Ok(Self { test_cluster, tools, _temp: temp, envs, scaled, ledger, control })
    }

    /// Runs xtask with the fault `planned`.
    pub fn run(&self, args: &[&str], planned: Option<(Call, Fault)>) -> Result<(RunOutcome, Duration)> {
        let hangs = planned.as_ref().is_some_and(|(_, fault)| *fault == Fault::Hang);
        self.ledger.begin(planned);
        self.control.built().now.clear();
        let mut envs: Vec<(&str, &str)> = self.envs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let program = if hangs { &self.scaled } else { self.test_cluster.exe() };
        if hangs {
            envs.push((SCALE, SHORT));
        }
        let begun = std::time::Instant::now();
        // The revision differs from run to run.
        let revision = format!("to revision {}", if args[0] == "rollback" { args[1] } else { "<none>" });
        // A run that exceeds its time limit has no exit code.
        let ran = self.test_cluster.run(program, args, &envs, LONGEST).unwrap_or_else(|error| Ran {
            code: -1,
            text: format!("{error:#}"),
            stdout: String::new(),
            took: begun.elapsed(),
        });
        let Called { calls, struck, unknown, .. } = self.ledger.end();
        let machine = Machine { done: self.control.built().now.clone(), ..Machine::default() };
        let outcome = RunOutcome {
            code: (ran.code >= 0).then_some(ran.code),
            text: ran.text.replace(&self.control.folder, "<sandbox>").replace(&revision, "to revision <asked>"),
            calls,
            struck,
            unknown,
            after: State { machine, ..State::default() },
            ..RunOutcome::default()
        };
        Ok((outcome, ran.took))
    }

    /// Returns the state of cluster, node and engine, read without xtask and without the proxy.
    pub fn state(&self) -> Result<State> {
        let tools = &self.tools;
        let kubectl = tools.kubectl().args(["get", KINDS, "-A", "-o", "json"]);
        let images = tools.engine.docker().args(["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]);
        let node = tools.nodes()?.remove(0);
        let (list, on_node, images) = std::thread::scope(|scope| {
            let (list, images) = (scope.spawn(|| kubectl.read()), scope.spawn(|| images.read()));
            let on_node = node.list_images(&[]);
            let joined =
                |text: std::thread::Result<Result<String>>| text.unwrap_or_else(|_| bail!("a reader panicked"));
            (joined(list.join()), on_node, joined(images.join()))
        });
        let (list, NodeImages { images: node_images, names, .. }) = (serde_json::from_str::<Value>(&list?)?, on_node?);
        let (mut state, mut objects) = (State::default(), Objects::new());
        let list = list["items"].as_array().context("kubectl printed no list")?;
        let users = list.iter().filter(|object| uses_secrets(object)).map(Value::to_string).collect::<String>();
        for object in list {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let is_per_revision = object["kind"] == "Secret" && name.starts_with(PER_REVISION);
            if is_per_revision && users.contains(PER_REVISION) && !users.contains(name) {
                // Belongs to an earlier revision; any deploy may prune it.
                continue;
            }
            if object["kind"] == "Pod" && is_over(object) {
                continue;
            }
            let mut object = object.clone();
            normalize(&mut object, |name| names.get(name).cloned());
            let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
            let namespace = object["metadata"]["namespace"].as_str().map(|name| format!("/{name}")).unwrap_or_default();
            let key =
                format!("/registry/{kind}s{namespace}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
            objects.insert(key, stored(object.to_string())?);
        }
        state.objects = Arc::new(objects);
        state.machine.node = Some("running".to_owned());
        state.machine.node_images = node_images;
        let built = &self.control.built().all;
        let images = images?;
        let ours = images.lines().filter(|name| built.contains(*name));
        state.machine.images = ours.map(|name| BuiltImage::new(name, name)).collect();
        state.files.insert("cache/minikube/.minikube/profiles/todo/config.json".into(), Default::default());
        Ok(state)
    }
}

impl Control {
    fn built(&self) -> std::sync::MutexGuard<'_, Built> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tools for Control {
    fn ledger(&self) -> (&Ledger, &str) {
        (&self.ledger, &self.folder)
    }

    fn reads_input(&self, _: &[String]) -> bool {
        // The real program reads its own input.
        false
    }

    fn really(&self, words: &[String], _: &[u8], cut: bool) -> Result<Reply> {
        if words[0] == "docker"
            && words[1..].iter().take(2).any(|word| word == "inspect")
            && words.contains(&self.profile)
        {
            let output = self.engine.docker().args(words[1..].iter().cloned()).output()?;
            let [api, proxy] = self.ports.map(|port| format!("\"HostPort\":\"{port}\""));
            let shown = String::from_utf8_lossy(&output.stdout).replace(&api, &proxy);
            return Ok(Reply {
                output: BASE64.encode(shown),
                error: String::from_utf8_lossy(&output.stderr).into_owned(),
                code: output.status.code().unwrap_or(1),
                cut,
                ..Reply::default()
            });
        }
        if words.iter().any(|word| word == "build")
            && let Some(at) = words.iter().position(|word| word == "--tag")
        {
            let mut built = self.built();
            built.now.push(format!("build {}", words[at + 1]));
            built.all.insert(words[at + 1].clone());
        }
        let program = self.programs.iter().find(|(name, _)| *name == words[0]).context("a tool without a program")?;
        Ok(Reply { become_program: Some(program.1.clone()), cut, ..Reply::default() })
    }
}

/// Returns the proxy's certificates: the API server's own towards xtask, the profile's towards the API server.
fn certificates(tools: &Toolbox) -> Result<Pki> {
    let node = tools.nodes()?.remove(0);
    let inside = |name: &str| node.exec(["cat", &format!("/var/lib/minikube/certs/{name}")]).read();
    let own = |name: &str| std::fs::read_to_string(tools.minikube_dir().join(name));
    let profile = format!("profiles/{}", tools.profile);
    Ok(Pki {
        authority: own("ca.crt")?,
        server: Pair { certificate: inside("apiserver.crt")?, key: inside("apiserver.key")? },
        client: Pair {
            certificate: own(&format!("{profile}/client.crt"))?,
            key: own(&format!("{profile}/client.key"))?,
        },
    })
}

/// Returns whether a pod is terminating or completed.
fn is_over(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_string()
        || ["Succeeded", "Failed"].iter().any(|phase| pod["status"]["phase"] == *phase)
}

/// Returns whether the Secrets that an object names must stay.
fn uses_secrets(object: &Value) -> bool {
    object["kind"] == "Deployment" || object["kind"] == "Pod" && !is_over(object)
}

/// Makes an object comparable: replaces image IDs by config digests, and removes the record's input digests.
fn normalize(object: &mut Value, id: impl Fn(&str) -> Option<String>) {
    for list in ["containerStatuses", "initContainerStatuses"] {
        for status in object["status"][list].as_array_mut().into_iter().flatten() {
            if let Some(id) = status["imageID"].as_str().and_then(&id) {
                status["imageID"] = json!(id);
            }
        }
    }
    let record = object["data"]["record.json"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    if let Some(mut record) = record {
        record["fingerprint"] = json!(record["fingerprint"].as_object().map(|parts| parts.keys().collect::<Vec<_>>()));
        object["data"]["record.json"] = json!(record.to_string());
    }
}

/// Returns content tag and ID of the verified backend image. The tag is also the label `version`.
fn verified_backend(state: &State) -> Option<(String, String)> {
    let record = Truth::of(state).record()?;
    let images = record["images"].as_object()?;
    let mut tags = images.iter().filter_map(|(name, id)| Some((name.strip_prefix("todo-backend:")?, id.as_str()?)));
    tags.next().map(|(tag, id)| (tag.to_owned(), id.to_owned()))
}

/// Returns `wanted` with the backend of `now`, because each run builds a different image.
pub fn with_backend_of(wanted: &State, now: &State) -> Result<State> {
    let (Some(from), Some(to)) = (verified_backend(wanted), verified_backend(now)) else { return Ok(wanted.clone()) };
    let renamed = |text: &str| text.replace(&from.0, &to.0).replace(&from.1, &to.1);
    let mut state = wanted.clone();
    let objects = wanted.objects.iter().map(|(key, object)| Ok((key.clone(), stored(renamed(&object.text))?)));
    state.objects = Arc::new(objects.collect::<Result<_>>()?);
    let images = &state.machine.node_images;
    state.machine.node_images = images.iter().map(|(name, id)| (renamed(name), renamed(id))).collect();
    Ok(state)
}

/// Converts an object to the form of the checker's states.
fn stored(text: String) -> Result<Arc<Stored>> {
    Ok(Arc::new(Stored { value: serde_json::from_str(&text)?, text, revision: String::new() }))
}

/// Fails unless `after` has the foreign objects `names` exactly as `before`.
pub fn foreign_is_kept(before: &State, after: &State, names: &[&str]) -> Result<()> {
    for name in names {
        let at = |state: &State| state.objects.get(*name).map(|object| object.text.clone());
        ensure!(at(before).is_some() && at(before) == at(after), "the foreign object {name} was changed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified(tag: &str, id: &str) -> State {
        let record = json!({"fingerprint": {"chart": "aa"}, "images": {format!("todo-backend:{tag}"): id}});
        let mut map = json!({"kind": "ConfigMap", "metadata": {"name": "todo-xtask", "namespace": "todo"},
                             "data": {"record.json": record.to_string()}});
        normalize(&mut map, |_| None);
        let deployment = json!(format!("todo-backend:{tag}, version {tag}"));
        let objects = [("/registry/configmaps/todo/todo-xtask", map), ("deployment", deployment)];
        let objects = objects.map(|(key, object)| (key.to_owned(), stored(object.to_string()).unwrap()));
        let mut state = State { objects: Arc::new(objects.into()), ..State::default() };
        state.machine.node_images.insert(format!("docker.io/library/todo-backend:{tag}"), id.to_owned());
        state
    }

    #[test]
    fn states_that_differ_only_in_the_backend_build_are_equal() {
        let (wanted, now) = (verified("0123456789abcdef", "sha256:aa"), verified("fedcba9876543210", "sha256:bb"));
        let wanted = with_backend_of(&wanted, &now).unwrap();
        let texts = |state: &State| state.objects.values().map(|object| object.text.clone()).collect::<Vec<_>>();
        assert_eq!((texts(&wanted), wanted.machine.node_images), (texts(&now), now.machine.node_images));
    }

    #[test]
    fn only_deployments_and_live_pods_use_secrets() {
        let pod =
            |metadata: Value, phase: &str| json!({"kind": "Pod", "metadata": metadata, "status": {"phase": phase}});
        assert!(uses_secrets(&json!({"kind": "Deployment"})) && uses_secrets(&pod(json!({}), "Running")));
        let ending = pod(json!({"deletionTimestamp": "2026-11-27T10:00:00Z"}), "Running");
        let preflight = pod(json!({"ownerReferences": [{"kind": "Job"}]}), "Succeeded");
        assert!(!uses_secrets(&ending) && !uses_secrets(&preflight) && !uses_secrets(&json!({"kind": "Secret"})));
    }

    #[test]
    fn pod_images_are_compared_by_config_digest() {
        let by_manifest = "docker.io/library/import@sha256:cc";
        let mut pod = json!({"status": {"containerStatuses": [{"imageID": by_manifest}, {"imageID": "sha256:aa"}]}});
        normalize(&mut pod, |name| (name == by_manifest).then(|| "sha256:bb".to_owned()));
        let ids: Vec<&Value> =
            pod["status"]["containerStatuses"].as_array().unwrap().iter().map(|s| &s["imageID"]).collect();
        assert_eq!(ids, ["sha256:bb", "sha256:aa"]);
    }
}
