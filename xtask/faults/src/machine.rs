//! The simulated machine: an engine with its images, the node's container, and the node's image store.

mod docker;
mod images;
mod minikube;
mod node;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sha2::{Digest, Sha256};

pub use images::{BuiltImage, canonical, import, read_context, save};

/// The state of engine and node.
#[derive(Clone, Default)]
pub struct Machine {
    /// The engine's images, the newest first.
    pub images: Vec<BuiltImage>,
    /// The node's container: its status (`running`, `exited`, `paused`), if there is one.
    pub node: Option<String>,
    /// The node's images: references as containerd spells them, and config digests.
    pub node_images: BTreeMap<String, String>,
    /// The node's content by digest.
    pub node_content: BTreeMap<String, Vec<u8>>,
    /// IDs of images whose containers crash.
    pub crashing: BTreeSet<String>,
    /// Actions that cannot be undone, in order.
    pub done: Vec<String>,
}

/// The result of a tool: both outputs and the exit code.
pub struct ToolResult {
    /// Standard output.
    pub output: Vec<u8>,
    /// Standard error.
    pub error: String,
    /// The exit code.
    pub code: i32,
}

impl ToolResult {
    fn well(output: impl Into<Vec<u8>>) -> Self {
        Self { output: output.into(), error: String::new(), code: 0 }
    }

    fn badly(error: impl Into<String>) -> Self {
        Self { output: Vec::new(), error: error.into() + "\n", code: 1 }
    }
}

/// What tools know besides the machine's own state.
pub struct Surroundings {
    /// minikube's folder (`…/.minikube`).
    pub minikube: camino::Utf8PathBuf,
    /// The kubeconfig.
    pub kubeconfig: camino::Utf8PathBuf,
    /// The certificates of the API server.
    pub pki: crate::pki::Pki,
    /// Where the API server itself listens.
    pub api: u16,
    /// Where the proxy before it listens.
    pub proxy: u16,
    /// The port that the profile publishes for the node's port 80.
    pub published: u16,
    /// References of the images that pods run.
    pub used: Vec<String>,
}

/// The image of CoreDNS, which a new node has.
pub const DNS_IMAGE: &str = "registry.k8s.io/coredns/coredns:v1";

/// The profile and the node's container.
pub const PROFILE: &str = "todo";

impl Machine {
    /// Has the engine hold the image `reference`, as if it had been pulled.
    pub fn pulled(&mut self, reference: &str) {
        let image = BuiltImage::new(reference, reference);
        self.images.retain(|other| other.reference != reference);
        self.images.insert(0, image);
    }

    /// What `words`, a tool and its arguments, does; `None` where the suite does not know.
    pub fn run(&mut self, words: &[String], input: &[u8], around: &Surroundings) -> Option<ToolResult> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["docker", rest @ ..] => self.docker(rest, input, around),
            ["minikube", "--profile", PROFILE, rest @ ..] => Some(self.minikube(rest, around)),
            _ => None,
        }
    }

    /// Whether the tool reads its standard input.
    pub fn reads_input(words: &[String]) -> bool {
        let ends = words.last().is_some_and(|last| last == "-");
        ends && (words.iter().any(|word| word == "import") || words.iter().any(|word| word == "build"))
    }
}

/// `sha256:<hex>` of `bytes`.
pub fn digest(bytes: &[u8]) -> String {
    let hex = xtask::units::hex(&Sha256::digest(bytes));
    format!("sha256:{hex}")
}

/// The node's container as `docker container inspect` shows it.
fn container(status: &str, around: &Surroundings) -> serde_json::Value {
    let bound = |port: u16| json!([{"HostIp": "127.0.0.1", "HostPort": port.to_string()}]);
    let live = if status == "running" { json!({"8443/tcp": bound(around.proxy)}) } else { json!({}) };
    json!({"Name": "/todo", "State": {"Status": status, "Running": status == "running"},
        "Config": {"Labels": {"created_by.minikube.sigs.k8s.io": "true"}},
        "NetworkSettings": {"Ports": live},
        "HostConfig": {"PortBindings": {"80/tcp": bound(around.published)}}})
}
