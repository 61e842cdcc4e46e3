//! The pinned tools, bound to one profile: every kubectl and helm call names context and kubeconfig, and every minikube
//! call names its profile.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::api::{Api, Credentials};
use crate::checkout;
use crate::deadlines;
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::files;
use crate::labels::Release;
use crate::minikube;
use crate::node::Node;
use crate::origin::{Origin, OriginSettings, Tool};
use crate::process::Process;
use crate::report::Report;
use crate::settings::Settings;

/// Addresses that minikube must reach without a proxy: the node (its networks are 192.168.49.0/24 and those after it)
/// and the cluster's Services.
const DIRECT: &str = "localhost,127.0.0.1,192.168.0.0/16,10.96.0.0/12";

/// Tools, engine and the profile that they work on.
#[derive(Clone)]
pub struct Toolbox {
    /// The engine that the cluster's node runs in.
    pub engine: Engine,
    /// Kubeconfig with the profile's entry.
    pub kubeconfig: Utf8PathBuf,
    /// MINIKUBE_HOME of the profile (see [`minikube_home`]).
    pub minikube_home: Utf8PathBuf,
    /// Profile, kube context and (docker driver) node container.
    pub profile: String,
    /// The cache.
    pub cache: Utf8PathBuf,
    /// The checkout's folder for logs and other output.
    pub target: Utf8PathBuf,
    /// The writer.
    pub report: Report,
    release: Release,
    client: Arc<Mutex<Client>>,
    kubectl: Utf8PathBuf,
    helm: Utf8PathBuf,
    minikube: Utf8PathBuf,
}

/// The client for the API server, with its port and credentials.
#[derive(Default)]
struct Client {
    port: Option<u16>,
    made: Option<(Credentials, Api)>,
}

impl Toolbox {
    /// Binds the tools of `origin`, which has the settings `origins`, to the profile of `settings` in `engine`.
    pub fn new(settings: &Settings, origins: &OriginSettings, engine: Engine, origin: &dyn Origin) -> Result<Self> {
        let (OriginSettings { cache, report, root, .. }, profile) = (origins, settings.cluster.profile.clone());
        Ok(Self {
            kubeconfig: kubeconfig(),
            minikube_home: minikube_home(cache, &profile, engine.private)?,
            cache: cache.to_owned(),
            target: checkout::target(root),
            report: report.clone(),
            profile,
            release: settings.chart.as_release(),
            client: Arc::default(),
            kubectl: origin.tool(Tool::Kubectl),
            helm: origin.tool(Tool::Helm),
            minikube: origin.tool(Tool::Minikube),
            engine,
        })
    }

    /// Makes a toolbox that only reaches the API server of a test.
    #[cfg(test)]
    pub fn of_api(credentials: Credentials, api: Api) -> Self {
        let client = Arc::new(Mutex::new(Client { port: None, made: Some((credentials, api)) }));
        Self { client, ..Self::of_engine(Engine::system()) }
    }

    /// Makes a toolbox that only reaches the engine of a test.
    #[cfg(test)]
    pub fn of_engine(engine: Engine) -> Self {
        let nowhere = Utf8PathBuf::new;
        Self {
            engine,
            kubeconfig: nowhere(),
            minikube_home: minikube::own_home(&nowhere()),
            profile: "todo".to_owned(),
            cache: nowhere(),
            target: nowhere(),
            report: Report::new(false),
            release: Release::of("todo", "todo"),
            client: Arc::default(),
            kubectl: nowhere(),
            helm: nowhere(),
            minikube: nowhere(),
        }
    }

    /// Returns the client for the API server, in the release's namespace.
    pub fn api(&self) -> Result<Api> {
        let mut client = self.client();
        if let Some((_, api)) = &client.made {
            return Ok(api.clone());
        }
        if client.port.is_none() {
            drop(client);
            self.aim_api(self.inspect_node()?.as_ref().and_then(published_api_port));
            client = self.client();
        }
        let port = client.port.ok_or_else(|| {
            let what = format!("the node of profile `{}` publishes no port for its API server", self.profile);
            Failure::new(Class::Cluster, what).help("see what the node is doing: cargo xtask status")
        })?;
        let credentials = Credentials::read(&self.minikube_dir(), &self.profile)?;
        let api = Api::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), &credentials, &self.release.namespace)?;
        client.made = Some((credentials, api.clone()));
        Ok(api)
    }

    /// Returns a log file of the checkout.
    pub fn log(&self, name: &str) -> Utf8PathBuf {
        checkout::log(&self.target, name)
    }

    /// Returns the release's namespace.
    pub fn namespace(&self) -> &str {
        &self.release.namespace
    }

    /// Returns the release, which decides which objects are ours.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// Sets the port that the node publishes for its API server. A start of the node changes the port and minikube's
    /// certificates, so every observation of the profile calls this.
    pub fn aim_api(&self, port: Option<u16>) {
        let mut client = self.client();
        let same = client.port == port
            && client.made.as_ref().is_none_or(|(credentials, _)| {
                Credentials::read(&self.minikube_dir(), &self.profile).is_ok_and(|now| now == *credentials)
            });
        if !same {
            *client = Client { port, made: None };
        }
    }

    /// Returns the container of the profile's first node as the engine describes it; `None`: the engine has no such container.
    pub fn inspect_node(&self) -> Result<Option<Value>> {
        let Some(node) = self.engine.inspect_one("container", &self.profile)? else { return Ok(None) };
        let node = Some(node).filter(|node| node["State"]["Status"].is_string()).ok_or_else(|| {
            let what = format!("`docker container inspect {}` printed no state of the node", self.profile);
            Failure::new(Class::Machine, what).help("see whether the engine answers: cargo xtask doctor")
        })?;
        Ok(Some(node))
    }

    /// Returns the discovery cache of helm and kubectl, in place of `~/.kube/cache`.
    fn kube_cache(&self) -> String {
        self.cache.join("kube").into_string()
    }

    fn client(&self) -> std::sync::MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the pinned kubectl if it is installed, else the one of the cluster's version: an older cluster does not
    /// need the new Kubernetes.
    fn kubectl_program(&self) -> Utf8PathBuf {
        let here =
            || Ok::<_, anyhow::Error>(if files::exists(&self.kubectl)? { None } else { self.clusters_kubectl()? });
        // If the look fails, the pinned one is started; its absence is an error with its path.
        here().ok().flatten().unwrap_or(self.kubectl.clone())
    }

    /// Returns the kubectl that minikube keeps for the Kubernetes of the profile.
    fn clusters_kubectl(&self) -> Result<Option<Utf8PathBuf>> {
        let config = self.record()?.unwrap_or_default();
        let Some(version) = config.pointer("/KubernetesConfig/KubernetesVersion").and_then(Value::as_str) else {
            return Ok(None);
        };
        let arch = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
        let path =
            self.minikube_dir().join("cache").join(std::env::consts::OS).join(arch).join(version).join("kubectl");
        Ok(files::exists(&path)?.then_some(path))
    }

    /// Returns whether a kubectl is installed. A bare name is a tool on PATH that has answered before.
    pub fn has_kubectl(&self) -> Result<bool> {
        let on_path = self.kubectl.parent().is_some_and(|dir| dir.as_str().is_empty());
        Ok(on_path || files::exists(&self.kubectl)? || self.clusters_kubectl()?.is_some())
    }

    /// Returns kubectl in the cluster's context.
    pub fn kubectl(&self) -> Process {
        Process::new(self.kubectl_program().as_str())
            .class(Class::Cluster)
            .args(["--kubeconfig", self.kubeconfig.as_str(), "--context", &self.profile])
            .env("KUBECACHEDIR", self.kube_cache())
            .deadline(deadlines::KUBECTL)
    }

    /// Returns kubectl in the release's namespace.
    pub fn kubectl_here(&self) -> Process {
        self.kubectl().args(["--namespace", self.namespace()])
    }

    /// Returns `kubectl config` for the kubeconfig, without a context.
    pub fn kubectl_config(&self) -> Process {
        Process::new(self.kubectl_program().as_str()).class(Class::Cluster).args([
            "--kubeconfig",
            self.kubeconfig.as_str(),
            "config",
        ])
    }

    /// Returns helm in the release's namespace.
    pub fn helm(&self) -> Process {
        Process::new(self.helm.as_str())
            .class(Class::Rollout)
            .args(["--kubeconfig", self.kubeconfig.as_str(), "--kube-context", &self.profile])
            .args(["--namespace", self.namespace()])
            .env("KUBECACHEDIR", self.kube_cache())
            // A short process of 120 MB needs no garbage collection, which took a fifth of its processor time (measured).
            .env("GOGC", "off")
            .env("GOMEMLIMIT", "512MiB")
            .deadline(deadlines::HELM)
    }

    /// Returns minikube for the profile. It finds docker through PATH, so the engine's client comes first there. Its
    /// downloads use the proxy; requests to the node and the cluster do not.
    pub fn minikube(&self) -> Process {
        let mut path = std::env::var("PATH").unwrap_or_default();
        if let Some(dir) = self.engine.client.parent().filter(|dir| !dir.as_str().is_empty()) {
            path = format!("{dir}:{path}");
        }
        let direct = std::env::var("NO_PROXY").or_else(|_| std::env::var("no_proxy")).unwrap_or_default();
        let direct = [direct.as_str(), DIRECT].join(",").trim_start_matches(',').to_owned();
        self.engine
            .aim(Process::new(self.minikube.as_str()))
            .class(Class::Cluster)
            .args(["--profile", &self.profile])
            .env("PATH", path)
            .env("NO_PROXY", &direct)
            .env("no_proxy", &direct)
            .env("MINIKUBE_HOME", self.minikube_home.as_str())
            .env("KUBECONFIG", self.kubeconfig.as_str())
            .env("MINIKUBE_IN_STYLE", "false")
            .env("MINIKUBE_WANTUPDATENOTIFICATION", "false")
            .deadline(deadlines::MINIKUBE)
    }

    /// Returns the cluster's nodes: containers that minikube names by the profile. Their number stands only in
    /// minikube's record, so a record without nodes is an error.
    pub fn nodes(&self) -> Result<Vec<Node>> {
        let config = self.record()?.unwrap_or_default();
        let count = config["Nodes"].as_array().map_or(0, Vec::len);
        if count == 0 {
            let what = format!("minikube's record {} lists no nodes", self.profile_config());
            return Err(Failure::new(Class::Cluster, what).help("see what the cluster is: cargo xtask status").into());
        }
        let name = |index: usize| match index {
            0 => self.profile.clone(),
            _ => format!("{}-m{:02}", self.profile, index + 1),
        };
        Ok((0..count).map(|index| Node::container(&self.engine, &name(index))).collect())
    }

    /// Returns the first node, whether or not it exists yet.
    pub fn first_node(&self) -> Node {
        Node::container(&self.engine, &self.profile)
    }

    /// Returns whether minikube is installed.
    pub fn minikube_exists(&self) -> Result<bool> {
        // A bare name is a tool on PATH that has answered before.
        let on_path = self.minikube.parent().is_some_and(|dir| dir.as_str().is_empty());
        Ok(on_path || files::exists(&self.minikube)?)
    }

    /// Returns minikube's folder: `$MINIKUBE_HOME/.minikube`, or MINIKUBE_HOME itself where it has that name.
    pub fn minikube_dir(&self) -> Utf8PathBuf {
        minikube::folder(&self.minikube_home)
    }

    /// Returns the file with minikube's record of the profile.
    pub fn profile_config(&self) -> Utf8PathBuf {
        minikube::record(&self.minikube_dir(), &self.profile)
    }

    /// Returns whether the profile with this `record` is the user's own: in their minikube's folder, and without the port
    /// that every version of xtask publishes. Versions before 0.3 used that folder too.
    pub fn is_users_profile(&self, record: Option<&Value>) -> bool {
        let Some(record) = record.filter(|_| self.minikube_home != minikube::own_home(&self.cache)) else {
            return false;
        };
        let ports = record["ExposedPorts"].as_array().cloned().unwrap_or_default();
        let is_ours = |port: &str| port.starts_with("127.0.0.1:") && port.ends_with(":80");
        // A truncated record may be ours.
        !record.is_null() && !ports.iter().any(|port| port.as_str().is_some_and(is_ours))
    }

    /// Reads minikube's record of the profile; `None`: no record. A record that is not JSON is `Value::Null`: a
    /// minikube that was killed while writing leaves it empty or truncated.
    pub fn record(&self) -> Result<Option<Value>> {
        Ok(files::read(&self.profile_config())?.map(|text| serde_json::from_str(&text).unwrap_or_default()))
    }
}

/// Returns the port on this machine that a node's `container` publishes for its API server.
pub fn published_api_port(container: &Value) -> Option<u16> {
    container.pointer("/NetworkSettings/Ports/8443~1tcp/0/HostPort")?.as_str()?.parse().ok()
}

/// Returns the MINIKUBE_HOME of the profile: ours, unless the user's minikube has the profile on record and ours has not.
/// A profile of theirs stays where it is; its node is never in a private engine.
fn minikube_home(cache: &Utf8Path, profile: &str, private: bool) -> Result<Utf8PathBuf> {
    let (own, users) = (minikube::own_home(cache), minikube::users_home());
    let is_recorded = |home: &Utf8Path| minikube::is_recorded(home, profile);
    Ok(if !private && !is_recorded(&own)? && is_recorded(&users)? { users } else { own })
}

/// Returns the kubeconfig that minikube writes: the first file of KUBECONFIG, else `~/.kube/config`.
pub fn kubeconfig() -> Utf8PathBuf {
    kubeconfigs().remove(0)
}

/// Returns all files that the user's kubectl merges: those of KUBECONFIG, else `~/.kube/config`. Never empty.
pub fn kubeconfigs() -> Vec<Utf8PathBuf> {
    let named = std::env::var("KUBECONFIG").unwrap_or_default();
    let named: Vec<Utf8PathBuf> = named.split(':').filter(|path| !path.is_empty()).map(Utf8PathBuf::from).collect();
    if !named.is_empty() {
        return named;
    }
    vec![Utf8PathBuf::from(std::env::var("HOME").unwrap_or_else(|_| "/".into())).join(".kube/config")]
}
