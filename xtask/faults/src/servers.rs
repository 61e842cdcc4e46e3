//! A real etcd and a real API server, without a node and without the rest of a control plane.

use std::net::TcpListener;
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use xtask::deadlines;
use xtask::process::{Piped, Process};

use crate::etcd::Etcd;
use crate::pki::Pki;

/// The ports of the servers.
const PORTS: Range<u16> = 20_000..32_000;
/// The time limit for etcd and the API server to become ready, together, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Admission plugins that a sandbox does not need: it relies on no policies, webhooks, quotas, classes or certificates,
/// and its pods are written into etcd. Each plugin would watch the objects that it needs.
const IDLE: &str = "CertificateApproval,CertificateSigning,CertificateSubjectRestriction,ClusterTrustBundleAttest,\
    DefaultIngressClass,DefaultStorageClass,DefaultTolerationSeconds,LimitRanger,MutatingAdmissionPolicy,\
    MutatingAdmissionWebhook,PersistentVolumeClaimResize,PodSecurity,PodTopologyLabels,Priority,ResourceQuota,\
    RuntimeClass,ServiceAccount,StorageObjectInUseProtection,TaintNodesByCondition,ValidatingAdmissionPolicy,\
    ValidatingAdmissionWebhook";

/// The API groups that xtask, its chart and Helm use, and those without which the server does not start. Helm reads the
/// list of resources of each group at each start, so the other groups are disabled.
const GROUPS: &str = "api/all=false,v1=true,apiextensions.k8s.io/v1=true,apiregistration.k8s.io/v1=true,apps/v1=true,\
    authentication.k8s.io/v1=true,authorization.k8s.io/v1=true,autoscaling/v2=true,batch/v1=true,\
    coordination.k8s.io/v1=true,discovery.k8s.io/v1=true,events.k8s.io/v1=true,networking.k8s.io/v1=true,policy/v1=true,\
    rbac.authorization.k8s.io/v1=true,storage.k8s.io/v1=true";

/// The ABAC policy that allows everything to anonymous clients. So the server requests no client certificates, whose
/// verification takes a tenth of its processor time. The mode `AlwaysAllow` refuses anonymous clients.
const POLICY: &str = r#"{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec":
    {"group": "system:unauthenticated", "namespace": "*", "resource": "*", "apiGroup": "*", "nonResourcePath": "*"}}"#;

/// The paths of the real programs that a sandbox uses.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The path of etcd.
    pub etcd: Utf8PathBuf,
    /// The path of kube-apiserver.
    pub apiserver: Utf8PathBuf,
    /// The path of Helm.
    pub helm: Utf8PathBuf,
}

/// The running servers. They end when this value is dropped or this process ends.
pub struct Servers {
    _apiserver: Piped,
    _etcd: Piped,
    /// The port of the API server.
    pub port: u16,
    /// The client of etcd.
    pub store: Etcd,
}

impl Servers {
    /// Starts etcd and the API server with their data in `folder`, and waits until the API server is ready.
    pub fn start(programs: &Programs, folder: &Utf8Path, pki: &Pki) -> Result<Self> {
        let certificates = pki.write(&folder.join("pki"))?;
        let policy = folder.join("policy.json");
        // The file must have one policy per line.
        std::fs::write(&policy, POLICY.replace('\n', ""))?;
        let [client, peer, port] = [free_port()?, free_port()?, free_port()?];
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let etcd = server(programs.etcd.as_str(), &folder.join("etcd.log"))
            .args(["--data-dir", folder.join("data").as_str(), "--unsafe-no-fsync", "--log-level=error"])
            // This etcd has no peers, and its data are not needed after it ends.
            .args(["--heartbeat-interval=500", "--election-timeout=5000"])
            .args(["--backend-batch-interval=5s", "--backend-batch-limit=100000"])
            .args(["--listen-client-urls", &url(client), "--advertise-client-urls", &url(client)])
            .args(["--listen-peer-urls", &url(peer), "--initial-advertise-peer-urls", &url(peer)])
            .args(["--initial-cluster", &format!("default={}", url(peer))]);
        let file = |name: &str| certificates.join(name).to_string();
        let apiserver = server(programs.apiserver.as_str(), &folder.join("apiserver.log"))
            .args(["--etcd-servers", &url(client), "--storage-media-type=application/json"])
            .args(["--bind-address=127.0.0.1", "--secure-port", &port.to_string()])
            .args(["--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=ABAC"])
            .args(["--authorization-policy-file", policy.as_str()])
            .args(["--tls-cert-file", &file("server.crt"), "--tls-private-key-file", &file("server.key")])
            .args(["--cert-dir", folder.join("apiserver").as_str()])
            .args(["--service-account-issuer=https://faults", "--service-account-key-file", &file("server.crt")])
            .args(["--service-account-signing-key-file", &file("server.key")])
            .args([
                "--disable-admission-plugins",
                IDLE,
                "--endpoint-reconciler-type=none",
                "-v=0",
                "--enable-priority-and-fairness=false",
                "--watch-cache=false",
                // Over HTTP/2, the server closes the connection after each request of an anonymous client.
                "--disable-http2-serving",
                "--runtime-config",
                GROUPS,
            ]);
        let (etcd, apiserver) = (etcd.pipe_from(None)?, apiserver.pipe_from(None)?);
        // The folder is removed after a failure.
        let log = |name: &str| {
            let text = std::fs::read_to_string(folder.join(name).with_extension("log")).unwrap_or_default();
            let last: Vec<&str> = text.lines().rev().take(5).collect();
            format!("{name} has printed:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"))
        };
        let begun = Instant::now();
        let store = loop {
            match Etcd::connect(client) {
                Ok(store) => break store,
                Err(error) if begun.elapsed() > PATIENCE => return Err(error.context(log("etcd"))),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        };
        let this = Self { _apiserver: apiserver, _etcd: etcd, port, store };
        while !this.is_ready() {
            ensure!(begun.elapsed() < PATIENCE, "the API server did not become ready; {}", log("apiserver"));
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(this)
    }

    fn is_ready(&self) -> bool {
        std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
            && self.store.latest().1.contains_key("/registry/services/specs/default/kubernetes")
    }
}

/// Returns the process of a server that writes its output to the file `log`. The server ends when its [`Piped`] is
/// dropped or this process ends.
fn server(program: &str, log: &Utf8Path) -> Process {
    Process::new("/bin/sh")
        .args(["-c", "log=$1; shift; exec \"$0\" \"$@\" >\"$log\" 2>&1", program, log.as_str()])
        .env("GOGC", "400")
        .deadline(deadlines::SUITE)
}

/// Returns a free port that no other call of this process returns. It is below those that Linux gives to connections: other
/// suites make fifty a second, and one would take the port before its server listens.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two suites begin at different ports.
    let first = std::process::id().wrapping_mul(100) as u16;
    let next = || first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    PORTS.map(|_| PORTS.start + next()).find(is_free).context("no port is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_returns_another_port_that_no_connection_gets() {
        let ports = [(); 30].map(|()| free_port().unwrap());
        let different: std::collections::BTreeSet<u16> = ports.into();
        assert_eq!(different.len(), ports.len());
        assert!(ports.iter().all(|port| PORTS.contains(port)));
    }
}
