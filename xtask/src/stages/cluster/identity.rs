//! Checks that kubeconfig entries of the profile's name belong to the profile: server and certificate authority must be
//! those in minikube's record. Reads files and starts no process, so that it can run before everything else.

use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};

use super::profile::{Profile, ProfileState};
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::files;
use crate::minikube;
use crate::plan::Step;
use crate::pure;
use crate::toolbox::{Toolbox, kubeconfigs};
use crate::units::quote;

/// A profile that a kubeconfig entry may point to.
struct KnownProfile {
    /// minikube's folder.
    dir: Utf8PathBuf,
    /// Whether minikube has the profile.
    exists: bool,
    /// The addresses of its API server.
    servers: Vec<String>,
    /// Whether each loopback address counts as the profile's, because only the engine knows the published port.
    loopback: bool,
}

/// Refuses foreign entries of the profile's name in any file of KUBECONFIG. Reads files alone, so that it can run before the
/// engine, the tools or `.env` exist. [`check`] uses what only the engine knows.
pub fn guard(cache: &Utf8Path, name: &str) -> Result<()> {
    let ours: Vec<KnownProfile> = [minikube::users_home(), minikube::own_home(cache)]
        .map(|home| read_record(&minikube::folder(&home), name))
        .into_iter()
        .collect::<Result<_>>()?;
    kubeconfigs().iter().try_for_each(|file| refuse_foreign(file, name, &ours))
}

/// Refuses entries of the profile's name that point to another cluster. Missing ones are fine: `minikube start` adds them.
pub fn check(tools: &Toolbox, profile: &Profile) -> Result<()> {
    let servers = profile.servers();
    // Without a record, or a node in it, there is no address to compare an entry with.
    let exists = servers.iter().any(|server| !server.starts_with("https://127.0.0.1:"));
    // If the host cannot reach the node's own address (macOS, WSL with Docker Desktop), the entry has the published port of
    // an earlier start. Its authority proves that it is ours; `is_stale` finds the old port.
    let ours = KnownProfile { dir: tools.minikube_dir(), exists, servers, loopback: true };
    refuse_foreign(&tools.kubeconfig, &tools.profile, &[ours])
}

/// Returns whether the entry of a running profile has the published port of an earlier start. Another program, or another
/// cluster of the same minikube, may have that port now.
pub fn is_stale(tools: &Toolbox, profile: &Profile) -> Result<bool> {
    let config = read_kubeconfig(&tools.kubeconfig)?;
    Ok(profile.state == ProfileState::Running && has_old_port(&config, &tools.profile, &profile.servers()))
}

/// Fails if the entry is stale. For commands that connect to the entry's server.
pub fn refuse_stale(tools: &Toolbox, profile: &Profile) -> Result<()> {
    if !is_stale(tools, profile)? {
        return Ok(());
    }
    let (name, file) = (&tools.profile, &tools.kubeconfig);
    let what = format!("context `{name}` in {file} has the port of an earlier start of the cluster");
    Err(Failure::new(Class::Cluster, what).help("renew it: cargo xtask start").into())
}

fn has_old_port(kubeconfig: &Value, name: &str, servers: &[String]) -> bool {
    let find =
        |list: &str, name: &Value| kubeconfig[list].as_array()?.iter().find(|entry| entry["name"] == *name).cloned();
    let context = find("contexts", &name.into());
    let cluster = context.and_then(|context| find("clusters", &context["context"]["cluster"]));
    let server = cluster.as_ref().and_then(|cluster| cluster["cluster"]["server"].as_str());
    server.is_some_and(|server| !servers.iter().any(|ours| ours == server))
}

fn read_kubeconfig(file: &Utf8Path) -> Result<Value> {
    let text = files::read(file)?.unwrap_or_default();
    serde_norway::from_str(&text).with_context(|| format!("reading {file}"))
}

/// The context of a running profile in the kubeconfig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextEntry {
    /// It leads to the API server.
    Current,
    /// It has the port of an earlier start; this is the server's address now.
    Old(String),
    /// There is none; this is the server's address.
    Missing(String),
}

impl ContextEntry {
    /// Reads the kubeconfig. If the entry must be written, tries which address of the API server this machine reaches.
    pub fn observe(tools: &Toolbox, profile: &Profile) -> Result<Self> {
        let name = &tools.profile;
        let named = |entry: &Value| entry["name"] == name.as_str();
        let config = read_kubeconfig(&tools.kubeconfig)?;
        let exists = config["contexts"].as_array().is_some_and(|contexts| contexts.iter().any(named));
        let servers = profile.servers();
        if exists && !(profile.state == ProfileState::Running && has_old_port(&config, name, &servers)) {
            return Ok(Self::Current);
        }
        // The host cannot reach the node's own address if the engine runs in a virtual machine.
        let server = servers.iter().find(|server| accepts_connections(server)).or(servers.last());
        let server = server.with_context(|| format!("profile `{name}` has no address of its API server"))?.clone();
        Ok(if exists { Self::Old(server) } else { Self::Missing(server) })
    }
}

/// Returns the step that writes the entries of a running profile, if the kubeconfig lacks them or has an old port. Helm needs
/// them. `minikube update-context` would change the current context.
pub fn context_step(tools: &Toolbox, entry: ContextEntry) -> Option<Step<'_>> {
    let (file, name) = (&tools.kubeconfig, &tools.profile);
    let named = move |entry: &Value| entry["name"] == name.as_str();
    let (server, what, why) = match entry {
        ContextEntry::Current => return None,
        ContextEntry::Old(server) => {
            (server, format!("renew context {name} in {file}"), "it has the port of an earlier start")
        }
        ContextEntry::Missing(server) => {
            (server, format!("add context {name} to {file}"), "it has none, and Helm needs one")
        }
    };
    let shown = format!("kubectl config --kubeconfig {file} set-context {name} --cluster {name} --user {name}");
    Some(Step::new(what, why, shown, move |_| {
        let mut config = read_kubeconfig(file)?;
        if config.is_null() {
            config = json!({"apiVersion": "v1", "kind": "Config"});
        }
        let dir = tools.minikube_dir();
        let (certificate, key) = (client_certificate(&dir, name), client_certificate(&dir, name).with_extension("key"));
        let entries = [
            ("clusters", "cluster", json!({"certificate-authority": dir.join("ca.crt"), "server": server})),
            ("contexts", "context", json!({"cluster": name, "user": name})),
            ("users", "user", json!({"client-certificate": certificate, "client-key": key})),
        ];
        for (list, kind, entry) in entries {
            let mut all = config[list].as_array().cloned().unwrap_or_default();
            all.retain(|entry| !named(entry));
            all.push(json!({"name": name, kind: entry}));
            config[list] = all.into();
        }
        // Keeps a symbolic link, and writes the file that it points to.
        let target = if files::exists(file)? { file.canonicalize_utf8()? } else { file.clone() };
        files::write(&target, serde_norway::to_string(&config)?.as_bytes())?;
        Ok(String::new())
    }))
}

/// Returns whether `server` (`https://192.168.49.2:8443`) accepts connections.
fn accepts_connections(server: &str) -> bool {
    pure::effect("opens a connection");
    let address = server.strip_prefix("https://").and_then(|address| address.parse::<SocketAddr>().ok());
    address.is_some_and(|address| TcpStream::connect_timeout(&address, deadlines::NODE_REACHED.time()).is_ok())
}

fn read_record(dir: &Utf8Path, name: &str) -> Result<KnownProfile> {
    let text = files::read(&minikube::record(dir, name))?;
    // An incomplete record has no server. `check` asks the engine later.
    let config: Option<Value> = text.and_then(|text| serde_json::from_str(&text).ok());
    let nodes = config.as_ref().and_then(|config| config["Nodes"].as_array().cloned()).unwrap_or_default();
    let server = |node: &Value| Some(format!("https://{}:{}", node["IP"].as_str()?, node["Port"]));
    let servers: Vec<String> = nodes.iter().filter_map(server).collect();
    // Without an address, only the authority can be compared.
    Ok(KnownProfile { dir: dir.to_owned(), exists: !servers.is_empty(), servers, loopback: true })
}

fn refuse_foreign(file: &Utf8Path, name: &str, ours: &[KnownProfile]) -> Result<()> {
    let Some(text) = files::read(file)? else { return Ok(()) };
    let config: Value = serde_norway::from_str(&text).map_err(|error| {
        Failure::new(Class::Config, format!("{file} is not a kubeconfig: {error}"))
            .help(format!("repair it, or name another: KUBECONFIG=/path cargo xtask deploy dev ({name})"))
    })?;
    let Some((entry, difference)) = find_foreign(&config, name, ours)? else { return Ok(()) };
    Err(Failure::new(Class::Cluster, format!("{entry} `{name}` in {file} is not our minikube profile: {difference}"))
        .help(format!("if nothing needs that entry: kubectl config --kubeconfig {} delete-{entry} {name}", quote(file)))
        .help(format!("or leave it alone and use another name: --profile {name}2"))
        .into())
}

/// Returns the foreign entry of the profile's name and how it differs, if there is one. minikube would overwrite context,
/// cluster and user of that name, even if other contexts use them.
fn find_foreign(kubeconfig: &Value, name: &str, ours: &[KnownProfile]) -> Result<Option<(&'static str, String)>> {
    let named = |list: &str, kind: &str, name: &str| -> Option<Value> {
        let found = kubeconfig[list].as_array()?.iter().find(|entry| entry["name"] == name)?;
        Some(found[kind].clone())
    };
    if let Some(context) = named("contexts", "context", name) {
        let cluster = named("clusters", "cluster", context["cluster"].as_str().unwrap_or_default());
        if let Some(difference) = difference_to_all(&cluster.unwrap_or_default(), ours)? {
            return Ok(Some(("context", difference)));
        }
    }
    if let Some(cluster) = named("clusters", "cluster", name)
        && let Some(difference) = difference_to_all(&cluster, ours)?
    {
        return Ok(Some(("cluster", difference)));
    }
    let Some(user) = named("users", "user", name) else { return Ok(None) };
    if user.is_null() || user.as_object().is_some_and(serde_json::Map::is_empty) {
        return Ok(None);
    }
    for ours in ours {
        if refers_to_file(&user, "client-certificate", &client_certificate(&ours.dir, name))? {
            return Ok(None);
        }
    }
    Ok(Some(("user", "its certificate is not minikube's".to_owned())))
}

fn client_certificate(dir: &Utf8Path, name: &str) -> Utf8PathBuf {
    dir.join("profiles").join(name).join("client.crt")
}

/// Describes how a cluster's entry differs from all profiles in `ours`; `None` if it is one of them.
fn difference_to_all(cluster: &Value, ours: &[KnownProfile]) -> Result<Option<String>> {
    let server = cluster["server"].as_str().unwrap_or("no server");
    let mut differences = ours.iter().map(|ours| difference(cluster, server, ours)).collect::<Result<Vec<_>>>()?;
    if differences.iter().any(Option::is_none) {
        return Ok(None);
    }
    // The difference to an existing profile is the better reason.
    let best = ours.iter().position(|ours| ours.exists).unwrap_or(0);
    Ok(differences.swap_remove(best))
}

fn difference(cluster: &Value, server: &str, ours: &KnownProfile) -> Result<Option<String>> {
    let authority = refers_to_file(cluster, "certificate-authority", &ours.dir.join("ca.crt"))?;
    if !ours.exists {
        // An entry with our minikube's authority is left from a profile whose engine is gone. minikube renews it.
        return Ok((!authority).then(|| format!("it points to {server}, and there is no such profile")));
    }
    let published = ours.loopback && ["https://127.0.0.1:", "https://localhost:"].iter().any(|l| server.starts_with(l));
    if !published && !ours.servers.iter().any(|ours| ours == server) {
        return Ok(Some(format!("it points to {server}; the profile is at {}", ours.servers.join(", "))));
    }
    Ok((!authority).then(|| "its certificate authority is not minikube's".to_owned()))
}

/// Returns whether the entry's `key` (a path) or `key-data` (base64) is the file `ours` or has its content.
fn refers_to_file(entry: &Value, key: &str, ours: &Utf8Path) -> Result<bool> {
    if entry[key].as_str().is_some_and(|path| path == ours) {
        return Ok(true);
    }
    let Some(content) = files::read_bytes(ours)? else { return Ok(false) };
    if let Some(path) = entry[key].as_str()
        && files::read_bytes(Utf8Path::new(path))?.is_some_and(|theirs| theirs == content)
    {
        return Ok(true);
    }
    let data = entry[format!("{key}-data")].as_str();
    Ok(data.is_some_and(|data| BASE64.decode(data).is_ok_and(|theirs| theirs == content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(exists: bool, loopback: bool) -> KnownProfile {
        let servers = vec!["https://192.168.49.2:8443".to_owned(), "https://127.0.0.1:32771".to_owned()];
        KnownProfile { dir: "/m".into(), exists, servers: if exists { servers } else { vec![] }, loopback }
    }

    fn entry(server: &str, ca: &str) -> Value {
        json!({"contexts": [{"name": "todo", "context": {"cluster": "todo"}}],
               "clusters": [{"name": "todo", "cluster": {"server": server, "certificate-authority": ca}}],
               "users": [{"name": "todo", "user": {"client-certificate": "/m/profiles/todo/client.crt"}}]})
    }

    #[test]
    fn accepts_only_the_profiles_server_and_authority() {
        let check = |kubeconfig: &Value, ours: KnownProfile| {
            find_foreign(kubeconfig, "todo", &[ours]).unwrap().map(|entry| entry.1)
        };
        let running = || ours(true, false);
        assert_eq!(check(&entry("https://192.168.49.2:8443", "/m/ca.crt"), running()), None);
        assert_eq!(check(&entry("https://127.0.0.1:32771", "/m/ca.crt"), running()), None);
        assert!(check(&entry("https://prod.example:6443", "/m/ca.crt"), running()).unwrap().contains("prod.example"));
        assert!(check(&entry("https://192.168.49.2:8443", "/other.crt"), running()).unwrap().contains("authority"));
        assert_eq!(check(&entry("https://192.168.49.2:8443", "/m/ca.crt"), ours(false, false)), None);
        assert!(check(&entry("https://192.168.49.2:8443", "/other.crt"), ours(false, false)).is_some());
        assert_eq!(check(&json!({"contexts": [{"name": "prod"}]}), running()), None);
    }

    #[test]
    fn accepts_any_loopback_port_but_no_other_address_without_the_engine() {
        let check = |server: &str| {
            find_foreign(&entry(server, "/m/ca.crt"), "todo", &[ours(false, true), ours(true, true)]).unwrap()
        };
        assert_eq!(check("https://127.0.0.1:40000"), None);
        let none = ours(true, true);
        let other = find_foreign(&entry("https://prod.example:6443", "/m/ca.crt"), "todo", &[none]).unwrap();
        assert!(other.unwrap().1.contains("prod.example"));
    }

    /// The entry is what minikube 1.38 writes on macOS. The node is recorded; the ports of the stopped one are by hand.
    #[test]
    fn accepts_an_old_port_of_the_profile_as_stale() {
        let config: Value = serde_json::from_str(include_str!("../../../tests/recorded/cluster/profile.json")).unwrap();
        let recorded: Value = serde_json::from_str(include_str!("../../../tests/recorded/cluster/node.json")).unwrap();
        let observe = |status: &str, ports: Value| {
            let mut node = recorded[0].clone();
            node["State"]["Status"] = json!(status);
            node["NetworkSettings"]["Ports"] = ports;
            super::super::profile::judge(Some(config.clone()), Some(&node))
        };
        let port = |port: &str| json!({"8443/tcp": [{"HostIp": "127.0.0.1", "HostPort": port}]});
        let is_ours = |profile: &Profile, entry: &Value| {
            let ours = KnownProfile { dir: "/m".into(), exists: true, servers: profile.servers(), loopback: true };
            find_foreign(entry, "todo", &[ours]).unwrap().is_none()
        };
        let stale = |profile: &Profile, entry: &Value| has_old_port(entry, "todo", &profile.servers());
        let old = entry("https://127.0.0.1:55001", "/m/ca.crt");
        for (profile, is_stale) in [
            (observe("running", port("55001")), false),
            (observe("exited", json!({})), true),
            (observe("running", port("55002")), true),
        ] {
            assert!(is_ours(&profile, &old), "{:?}", profile.servers());
            assert_eq!(stale(&profile, &old), is_stale, "{:?}", profile.servers());
            assert!(!is_ours(&profile, &entry("https://127.0.0.1:55001", "/other.crt")), "somebody's cluster");
            assert!(!is_ours(&profile, &entry("https://10.0.0.7:6443", "/m/ca.crt")), "not of this machine");
        }
    }

    #[test]
    fn refuses_a_foreign_cluster_or_user_of_the_profiles_name() {
        let mut config = json!({"contexts": [{"name": "prod", "context": {"cluster": "todo", "user": "todo"}}],
            "clusters": [{"name": "todo", "cluster": {"server": "https://prod.example:6443"}}]});
        let (entry, difference) = find_foreign(&config, "todo", &[ours(false, true)]).unwrap().unwrap();
        assert_eq!((entry, difference.contains("prod.example")), ("cluster", true));
        config["clusters"] = json!([]);
        config["users"] = json!([{"name": "todo", "user": {"token": "not-a-secret"}}]);
        let (entry, difference) = find_foreign(&config, "todo", &[ours(false, true)]).unwrap().unwrap();
        assert_eq!((entry, difference.as_str()), ("user", "its certificate is not minikube's"));
        config["users"] = json!([{"name": "todo", "user": {}}]);
        assert_eq!(find_foreign(&config, "todo", &[ours(false, true)]).unwrap(), None);
    }
}
