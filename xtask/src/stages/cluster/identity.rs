//! Proof that the kube entries under our name are our profile's: server and authority are those that minikube has on
//! record. Read as YAML: nothing is started for it, so that it can come before everything else.

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
use crate::plan::Step;
use crate::project::Project;
use crate::stages::images::recipe::write;
use crate::toolbox::{Toolbox, dir_of, kubeconfigs, own_minikube_home, record_of, users_minikube_home};
use crate::units::quote;

/// What is known of the profile that may stand behind an entry.
struct Ours {
    /// minikube's folder.
    dir: Utf8PathBuf,
    /// Whether there is such a profile.
    exists: bool,
    /// The addresses of its API server.
    servers: Vec<String>,
    /// Whether a loopback address may be one of them: which port is published only the engine knows.
    loopback: bool,
}

/// Refuses foreign entries under the profile's name in any file of KUBECONFIG, from files alone: before the engine, the
/// tools or `.env` are made. What only the engine knows is checked by [`check`].
pub fn guard(project: &Project) -> Result<()> {
    let name = &project.settings.cluster.profile;
    let ours: Vec<Ours> = [users_minikube_home(), own_minikube_home(project)]
        .map(|home| on_record(&dir_of(&home), name))
        .into_iter()
        .collect::<Result<_>>()?;
    kubeconfigs().iter().try_for_each(|file| refuse(file, name, &ours))
}

/// Refuses entries under the profile's name that lead elsewhere. None at all is fine: `minikube start` writes them.
pub fn check(tools: &Toolbox, profile: &Profile) -> Result<()> {
    let servers = profile.servers();
    // A profile without a record, or with one that names no node, has no address that an entry could be compared with.
    let exists = servers.iter().any(|server| !server.starts_with("https://127.0.0.1:"));
    // Where the node's own address leads nowhere (macOS, WSL with Docker Desktop), the entry has the published port of the
    // node's last start. The authority tells that it is ours; `is_stale` tells that it leads elsewhere now.
    let ours = Ours { dir: tools.minikube_dir(), exists, servers, loopback: true };
    refuse(&tools.kubeconfig, &tools.profile, &[ours])
}

/// Whether the entry of a running profile has a published port that is not the node's any more. Another program may have
/// it by now, or another cluster of the same minikube.
pub fn is_stale(tools: &Toolbox, profile: &Profile) -> Result<bool> {
    let config = read(&tools.kubeconfig)?;
    Ok(profile.state == ProfileState::Running && leads_elsewhere(&config, &tools.profile, &profile.servers()))
}

/// The same as an error, for what goes where the entry leads.
pub fn refuse_stale(tools: &Toolbox, profile: &Profile) -> Result<()> {
    if !is_stale(tools, profile)? {
        return Ok(());
    }
    let (name, file) = (&tools.profile, &tools.kubeconfig);
    let what = format!("context `{name}` in {file} has a port that is not the cluster's any more");
    Err(Failure::new(Class::Cluster, what).help("renew it: cargo xtask start").into())
}

fn leads_elsewhere(kubeconfig: &Value, name: &str, servers: &[String]) -> bool {
    let find =
        |list: &str, name: &Value| kubeconfig[list].as_array()?.iter().find(|entry| entry["name"] == *name).cloned();
    let context = find("contexts", &name.into());
    let cluster = context.and_then(|context| find("clusters", &context["context"]["cluster"]));
    let server = cluster.as_ref().and_then(|cluster| cluster["cluster"]["server"].as_str());
    server.is_some_and(|server| !servers.iter().any(|ours| ours == server))
}

fn read(file: &Utf8Path) -> Result<Value> {
    let text = files::read(file)?.unwrap_or_default();
    serde_norway::from_str(&text).with_context(|| format!("reading {file}"))
}

/// The step that writes the entries of a running profile into a kubeconfig that has none, or an old port. Helm goes where
/// they lead; `minikube update-context` would change the current context.
pub fn context_step<'a>(tools: &'a Toolbox, profile: &Profile) -> Result<Option<Step<'a>>> {
    let (file, name) = (&tools.kubeconfig, &tools.profile);
    let named = move |entry: &Value| entry["name"] == name.as_str();
    let exists = read(file)?["contexts"].as_array().is_some_and(|contexts| contexts.iter().any(named));
    if exists && !is_stale(tools, profile)? {
        return Ok(None);
    }
    let servers = profile.servers();
    // Where the engine runs in a virtual machine the node's own address leads nowhere.
    let server = servers.iter().find(|server| is_reached(server)).or(servers.last());
    let server = server.with_context(|| format!("profile `{name}` has no address of its API server"))?.clone();
    let shown = format!("kubectl config --kubeconfig {file} set-context {name} --cluster {name} --user {name}");
    let (what, why) = match exists {
        true => (format!("renew context {name} in {file}"), "it has the port of an earlier start"),
        false => (format!("add context {name} to {file}"), "it has none, and Helm needs one"),
    };
    Ok(Some(Step::new(what, why, shown, move |_| {
        let mut config = read(file)?;
        if config.is_null() {
            config = json!({"apiVersion": "v1", "kind": "Config"});
        }
        let dir = tools.minikube_dir();
        let (certificate, key) = (client(&dir, name), client(&dir, name).with_extension("key"));
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
        // Through a link: the file that it leads to stays the one that others read.
        let place = if files::exists(file)? { file.canonicalize_utf8()? } else { file.clone() };
        write(&place, serde_norway::to_string(&config)?.as_bytes())?;
        Ok(String::new())
    })))
}

/// Whether somebody takes connections at `server` (`https://192.168.49.2:8443`).
fn is_reached(server: &str) -> bool {
    let address = server.strip_prefix("https://").and_then(|place| place.parse::<SocketAddr>().ok());
    address.is_some_and(|address| TcpStream::connect_timeout(&address, deadlines::NODE_REACHED.time()).is_ok())
}

fn on_record(dir: &Utf8Path, name: &str) -> Result<Ours> {
    let text = files::read(&record_of(dir, name))?;
    // A record that is cut off names no server; the engine tells later what there is.
    let config: Option<Value> = text.and_then(|text| serde_json::from_str(&text).ok());
    let nodes = config.as_ref().and_then(|config| config["Nodes"].as_array().cloned()).unwrap_or_default();
    let server = |node: &Value| Some(format!("https://{}:{}", node["IP"].as_str()?, node["Port"]));
    let servers: Vec<String> = nodes.iter().filter_map(server).collect();
    // Without an address nothing can be compared but the authority.
    Ok(Ours { dir: dir.to_owned(), exists: !servers.is_empty(), servers, loopback: true })
}

fn refuse(file: &Utf8Path, name: &str, ours: &[Ours]) -> Result<()> {
    let Some(text) = files::read(file)? else { return Ok(()) };
    let config: Value = serde_norway::from_str(&text).map_err(|error| {
        Failure::new(Class::Config, format!("{file} is not a kubeconfig: {error}"))
            .help(format!("repair it, or name another: KUBECONFIG=/path cargo xtask deploy dev ({name})"))
    })?;
    let Some((entry, how)) = foreign(&config, name, ours)? else { return Ok(()) };
    Err(Failure::new(Class::Cluster, format!("{entry} `{name}` in {file} is not our minikube profile: {how}"))
        .help(format!("if nothing needs that entry: kubectl config --kubeconfig {} delete-{entry} {name}", quote(file)))
        .help(format!("or leave it alone and use another name: --profile {name}2"))
        .into())
}

/// The entry that is none of ours and how it differs, if there is one. minikube writes a context, a cluster and a user of
/// the profile's name: each would be lost, also where other contexts lead to it.
fn foreign(kubeconfig: &Value, name: &str, ours: &[Ours]) -> Result<Option<(&'static str, String)>> {
    let named = |list: &str, kind: &str, name: &str| -> Option<Value> {
        let found = kubeconfig[list].as_array()?.iter().find(|entry| entry["name"] == name)?;
        Some(found[kind].clone())
    };
    if let Some(context) = named("contexts", "context", name) {
        let cluster = named("clusters", "cluster", context["cluster"].as_str().unwrap_or_default());
        if let Some(how) = elsewhere(&cluster.unwrap_or_default(), ours)? {
            return Ok(Some(("context", how)));
        }
    }
    if let Some(cluster) = named("clusters", "cluster", name)
        && let Some(how) = elsewhere(&cluster, ours)?
    {
        return Ok(Some(("cluster", how)));
    }
    let Some(user) = named("users", "user", name) else { return Ok(None) };
    if user.is_null() || user.as_object().is_some_and(serde_json::Map::is_empty) {
        return Ok(None);
    }
    for ours in ours {
        if matches(&user, "client-certificate", &client(&ours.dir, name))? {
            return Ok(None);
        }
    }
    Ok(Some(("user", "its certificate is not minikube's".to_owned())))
}

fn client(dir: &Utf8Path, name: &str) -> Utf8PathBuf {
    dir.join("profiles").join(name).join("client.crt")
}

/// How a cluster's entry differs from every profile that it could be.
fn elsewhere(cluster: &Value, ours: &[Ours]) -> Result<Option<String>> {
    let server = cluster["server"].as_str().unwrap_or("no server");
    let mut hows = ours.iter().map(|ours| differs(cluster, server, ours)).collect::<Result<Vec<_>>>()?;
    if hows.iter().any(Option::is_none) {
        return Ok(None);
    }
    // An existing profile's difference says more than that there is none.
    let telling = ours.iter().position(|ours| ours.exists).unwrap_or(0);
    Ok(hows.swap_remove(telling))
}

fn differs(cluster: &Value, server: &str, ours: &Ours) -> Result<Option<String>> {
    let authority = matches(cluster, "certificate-authority", &ours.dir.join("ca.crt"))?;
    if !ours.exists {
        // An entry with our minikube's own authority was left by a profile whose engine went away: minikube renews it.
        return Ok((!authority).then(|| format!("it leads to {server}, and there is no such profile")));
    }
    let published = ours.loopback && ["https://127.0.0.1:", "https://localhost:"].iter().any(|l| server.starts_with(l));
    if !published && !ours.servers.iter().any(|ours| ours == server) {
        return Ok(Some(format!("it leads to {server}; the profile is at {}", ours.servers.join(", "))));
    }
    Ok((!authority).then(|| "its certificate authority is not minikube's".to_owned()))
}

/// Whether the entry's `key` (a path) or `key-data` (base64) is the file `ours`, or has its content.
fn matches(entry: &Value, key: &str, ours: &Utf8Path) -> Result<bool> {
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

    fn ours(exists: bool, loopback: bool) -> Ours {
        let servers = vec!["https://192.168.49.2:8443".to_owned(), "https://127.0.0.1:32771".to_owned()];
        Ours { dir: "/m".into(), exists, servers: if exists { servers } else { vec![] }, loopback }
    }

    fn entry(server: &str, ca: &str) -> Value {
        json!({"contexts": [{"name": "todo", "context": {"cluster": "todo"}}],
               "clusters": [{"name": "todo", "cluster": {"server": server, "certificate-authority": ca}}],
               "users": [{"name": "todo", "user": {"client-certificate": "/m/profiles/todo/client.crt"}}]})
    }

    #[test]
    fn only_our_own_server_and_authority_pass() {
        let check = |kubeconfig: &Value, ours: Ours| foreign(kubeconfig, "todo", &[ours]).unwrap().map(|(_, how)| how);
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
    fn without_the_engine_any_published_port_may_be_ours_but_no_other_address() {
        let check = |server: &str| {
            foreign(&entry(server, "/m/ca.crt"), "todo", &[ours(false, true), ours(true, true)]).unwrap()
        };
        assert_eq!(check("https://127.0.0.1:40000"), None);
        let none = ours(true, true);
        let other = foreign(&entry("https://prod.example:6443", "/m/ca.crt"), "todo", &[none]).unwrap();
        assert!(other.unwrap().1.contains("prod.example"));
    }

    /// The entry is as minikube 1.38 writes it on macOS; the node's answers are recorded, the stopped one's ports by hand.
    #[test]
    fn a_node_that_was_stopped_or_started_again_is_ours_and_its_old_port_is_not() {
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
            let ours = Ours { dir: "/m".into(), exists: true, servers: profile.servers(), loopback: true };
            foreign(entry, "todo", &[ours]).unwrap().is_none()
        };
        let stale = |profile: &Profile, entry: &Value| leads_elsewhere(entry, "todo", &profile.servers());
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
    fn a_cluster_or_user_of_our_name_would_be_overwritten() {
        let mut config = json!({"contexts": [{"name": "prod", "context": {"cluster": "todo", "user": "todo"}}],
            "clusters": [{"name": "todo", "cluster": {"server": "https://prod.example:6443"}}]});
        let (entry, how) = foreign(&config, "todo", &[ours(false, true)]).unwrap().unwrap();
        assert_eq!((entry, how.contains("prod.example")), ("cluster", true));
        config["clusters"] = json!([]);
        config["users"] = json!([{"name": "todo", "user": {"token": "not-a-secret"}}]);
        let (entry, how) = foreign(&config, "todo", &[ours(false, true)]).unwrap().unwrap();
        assert_eq!((entry, how.as_str()), ("user", "its certificate is not minikube's"));
        config["users"] = json!([{"name": "todo", "user": {}}]);
        assert_eq!(foreign(&config, "todo", &[ours(false, true)]).unwrap(), None);
    }
}
