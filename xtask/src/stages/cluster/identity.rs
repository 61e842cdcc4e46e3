//! Proof that the kube context under our name is our profile: its server and CA are those minikube has on record.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::profile::{Profile, State};
use crate::failure::{Class, Failure};
use crate::toolbox::Toolbox;

/// Refuses a kubeconfig entry under the profile's name that leads elsewhere. No entry at all is fine: `minikube start`
/// writes it.
pub fn check(tools: &Toolbox, profile: &Profile) -> Result<()> {
    if !tools.kubeconfig.is_file() {
        return Ok(());
    }
    let text = std::fs::read_to_string(&tools.kubeconfig)?;
    let config: Value = serde_norway::from_str(&text).map_err(|error| {
        Failure::new(Class::Config, format!("{} is not a kubeconfig: {error}", tools.kubeconfig))
            .help(format!("repair it, or name another: KUBECONFIG=/path cargo xtask deploy dev ({})", tools.profile))
    })?;
    let ca = tools.minikube_dir().join("ca.crt");
    match foreign(&config, &tools.profile, profile, ca.as_str()) {
        None => Ok(()),
        Some(how) => Err(Failure::new(
            Class::Cluster,
            format!("context `{}` in {} is not our minikube profile: {how}", tools.profile, tools.kubeconfig),
        )
        .help(format!(
            "if nothing needs that entry: kubectl config --kubeconfig {} delete-context {}",
            tools.kubeconfig, tools.profile
        ))
        .help("or leave it alone and deploy under another name: cargo xtask deploy dev --profile todo2")
        .into()),
    }
}

/// How the entry differs from the profile, if it does.
fn foreign(kubeconfig: &Value, name: &str, profile: &Profile, our_ca: &str) -> Option<String> {
    let named = |list: &str, name: &str| -> Option<Value> {
        let found = kubeconfig[list].as_array()?.iter().find(|entry| entry["name"] == name)?;
        Some(found.clone())
    };
    let context = named("contexts", name)?;
    let cluster_name = context.pointer("/context/cluster").and_then(Value::as_str).unwrap_or_default();
    let cluster = named("clusters", cluster_name).map(|entry| entry["cluster"].clone()).unwrap_or_default();
    let server = cluster["server"].as_str().unwrap_or("no server");
    let same_file = cluster["certificate-authority"].as_str().is_some_and(|path| same_content(path, our_ca));
    let same_data = cluster["certificate-authority-data"].as_str().is_some_and(|data| data_matches(data, our_ca));
    if profile.state == State::Absent {
        // An entry with our minikube's own authority was left by a profile whose engine went away: minikube renews it.
        return (!same_file && !same_data).then(|| format!("it leads to {server}, and there is no such profile"));
    }
    if !profile.servers().iter().any(|ours| ours == server) {
        return Some(format!("it leads to {server}; the profile is at {}", profile.servers().join(", ")));
    }
    if !same_file && !same_data {
        return Some("its certificate authority is not minikube's".to_owned());
    }
    None
}

fn same_content(path: &str, ours: &str) -> bool {
    path == ours || std::fs::read(path).is_ok_and(|theirs| std::fs::read(ours).is_ok_and(|ours| ours == theirs))
}

fn data_matches(data: &str, ours: &str) -> bool {
    std::fs::read(ours).is_ok_and(|ours| BASE64.decode(data).is_ok_and(|theirs| theirs == ours))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn profile(state: State) -> Profile {
        Profile {
            state,
            config: Some(json!({"Nodes": [{"IP": "192.168.49.2", "Port": 8443}]})),
            port: None,
            api_port: Some(32771),
        }
    }

    fn entry(server: &str, ca: &str) -> Value {
        json!({"contexts": [{"name": "todo", "context": {"cluster": "todo"}}],
               "clusters": [{"name": "todo", "cluster": {"server": server, "certificate-authority": ca}}]})
    }

    #[test]
    fn only_our_own_server_and_authority_pass() {
        let running = profile(State::Running);
        let check = |kubeconfig: &Value, profile: &Profile| foreign(kubeconfig, "todo", profile, "/m/ca.crt");
        assert_eq!(check(&entry("https://192.168.49.2:8443", "/m/ca.crt"), &running), None);
        assert_eq!(check(&entry("https://127.0.0.1:32771", "/m/ca.crt"), &running), None);
        assert!(check(&entry("https://127.0.0.1:40000", "/m/ca.crt"), &running).unwrap().contains("127.0.0.1:40000"));
        assert!(check(&entry("https://prod.example:6443", "/m/ca.crt"), &running).unwrap().contains("prod.example"));
        assert!(check(&entry("https://192.168.49.2:8443", "/other.crt"), &running).unwrap().contains("authority"));
        let absent = profile(State::Absent);
        assert_eq!(check(&entry("https://192.168.49.2:8443", "/m/ca.crt"), &absent), None);
        assert!(check(&entry("https://192.168.49.2:8443", "/other.crt"), &absent).is_some());
        assert_eq!(check(&json!({"contexts": [{"name": "prod"}]}), &running), None);
    }
}
