//! `minikube start` and `minikube delete`.

use anyhow::Result;
use serde_json::json;

use super::{DNS_IMAGE, Machine, PROFILE, Surroundings, ToolResult, canonical, digest};

impl Machine {
    pub(super) fn minikube(&mut self, words: &[&str], around: &Surroundings) -> ToolResult {
        let result = match words {
            ["start", flags @ ..] => self.start(flags, around),
            ["delete", ..] => self.delete(around),
            _ => return ToolResult::badly(format!("minikube: the suite does not know {words:?}")),
        };
        match result {
            Ok(()) => ToolResult::well("* Done! kubectl is now configured\n"),
            Err(error) => ToolResult::badly(format!("X Exiting due to GUEST_PROVISION: {error:#}")),
        }
    }

    fn start(&mut self, flags: &[&str], around: &Surroundings) -> Result<()> {
        self.done.push("minikube start".to_owned());
        let version = flags.iter().find_map(|flag| flag.strip_prefix("--kubernetes-version=")).unwrap_or("v1.0.0");
        let dir = &around.minikube;
        let profile = dir.join("profiles").join(PROFILE);
        std::fs::create_dir_all(&profile)?;
        let config = json!({"Name": PROFILE, "Driver": "docker",
            "Nodes": [{"Name": "", "IP": "127.0.0.1", "Port": around.api, "ControlPlane": true, "Worker": true}],
            "KubernetesConfig": {"KubernetesVersion": version, "ContainerRuntime": "containerd", "ClusterName": PROFILE},
            "ExposedPorts": [format!("127.0.0.1:{}:80", around.published)]});
        std::fs::write(profile.join("config.json"), config.to_string())?;
        std::fs::write(dir.join("ca.crt"), &around.pki.authority)?;
        std::fs::write(profile.join("client.crt"), &around.pki.client.certificate)?;
        std::fs::write(profile.join("client.key"), &around.pki.client.key)?;
        let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "",
            "contexts": [{"name": PROFILE, "context": {"cluster": PROFILE, "user": PROFILE}}],
            "clusters": [{"name": PROFILE, "cluster": {"server": format!("https://127.0.0.1:{}", around.api),
                "certificate-authority": dir.join("ca.crt")}}],
            "users": [{"name": PROFILE, "user": {"client-certificate": profile.join("client.crt"), "client-key": profile.join("client.key")}}]});
        if let Some(folder) = around.kubeconfig.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&around.kubeconfig, kubeconfig.to_string())?;
        self.node_images.insert(canonical(DNS_IMAGE), digest(DNS_IMAGE.as_bytes()));
        self.node = Some("running".to_owned());
        Ok(())
    }

    fn delete(&mut self, around: &Surroundings) -> Result<()> {
        self.done.push("minikube delete".to_owned());
        self.node = None;
        let _ = std::fs::remove_dir_all(around.minikube.join("profiles").join(PROFILE));
        let _ = std::fs::remove_file(&around.kubeconfig);
        Ok(())
    }
}
