//! The simulated machine: an engine with its images, the node's container, and the node's image store.

mod docker;
mod images;
mod minikube;
mod node;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sha2::{Digest, Sha256};

pub use images::{BuiltImage, canonical, import, read_context, save};

/// The state of the engine and the node.
#[derive(Clone, Default)]
pub struct Machine {
    /// The engine's images, newest first.
    pub images: Vec<BuiltImage>,
    /// The status of the node's container: `running`, `exited` or `paused`. `None` if it does not exist.
    pub node: Option<String>,
    /// The config digests of the node's images, by reference in containerd's spelling.
    pub node_images: BTreeMap<String, String>,
    /// The blobs in the node's content store, by digest.
    pub node_content: BTreeMap<String, Vec<u8>>,
    /// The IDs of images whose containers crash.
    pub crashing: BTreeSet<String>,
    /// The builds, and the starts and deletions of the node, in order since the run began.
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

/// The paths, ports and certificates that the tools use in addition to the machine's state.
pub struct Surroundings {
    /// The path of minikube's folder (`…/.minikube`).
    pub minikube: camino::Utf8PathBuf,
    /// The path of the kubeconfig.
    pub kubeconfig: camino::Utf8PathBuf,
    /// The certificates of the API server and its client.
    pub pki: crate::pki::Pki,
    /// The port of the API server itself.
    pub api: u16,
    /// The port of the proxy in front of the API server.
    pub proxy: u16,
    /// The port on the host that the profile publishes for the node's port 80.
    pub published: u16,
    /// The references of the images in the specs of pods.
    pub used: Vec<String>,
}

/// The CoreDNS image, which a new node has.
pub const DNS_IMAGE: &str = "registry.k8s.io/coredns/coredns:v1";

/// The name of the minikube profile and of the node's container.
pub const PROFILE: &str = "todo";

impl Machine {
    /// Adds the image `reference` to the engine, as if it had been pulled.
    pub fn pulled(&mut self, reference: &str) {
        let image = BuiltImage::new(reference, reference);
        self.images.retain(|other| other.reference != reference);
        self.images.insert(0, image);
    }

    /// Runs `words`, a tool and its arguments. Returns `None` if the suite does not know the command.
    pub fn run(&mut self, words: &[String], input: &[u8], around: &Surroundings) -> Option<ToolResult> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["docker", rest @ ..] => self.docker(rest, input, around),
            ["minikube", "--profile", PROFILE, rest @ ..] => Some(self.minikube(rest, around)),
            _ => None,
        }
    }

    /// Returns whether the command `words` reads standard input.
    pub fn reads_input(words: &[String]) -> bool {
        let ends = words.last().is_some_and(|last| last == "-");
        ends && (words.iter().any(|word| word == "import") || words.iter().any(|word| word == "build"))
    }
}

/// Returns the SHA-256 digest of `bytes` as `sha256:<hex>`.
pub fn digest(bytes: &[u8]) -> String {
    let hex = xtask::units::hex(&Sha256::digest(bytes));
    format!("sha256:{hex}")
}

/// Returns the node's container as `docker container inspect` shows it.
fn container(status: &str, around: &Surroundings) -> serde_json::Value {
    let bound = |port: u16| json!([{"HostIp": "127.0.0.1", "HostPort": port.to_string()}]);
    let live = if status == "running" { json!({"8443/tcp": bound(around.proxy)}) } else { json!({}) };
    json!({"Name": "/todo", "State": {"Status": status, "Running": status == "running"},
        "Config": {"Labels": {"created_by.minikube.sigs.k8s.io": "true"}},
        "NetworkSettings": {"Ports": live},
        "HostConfig": {"PortBindings": {"80/tcp": bound(around.published)}}})
}
