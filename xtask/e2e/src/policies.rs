//! The chart's NetworkPolicies under enforcement. minikube's default network does not enforce them, so kube-router's
//! firewall runs in the node. Needs Go and apt-get; compiling kube-router takes minutes, so the suite runs on request only.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use xtask::process::Process;

use super::Tally;
use super::test_cluster::{AUTH, TestCluster};

/// infra/pins.toml pins the version. Go verifies it with its checksum database.
const KUBE_ROUTER: &str = "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router@v2.1.0";
/// kube-router refuses to start without a version.
const LDFLAGS: &str = "-s -w -X github.com/cloudnativelabs/kube-router/v2/pkg/version.Version=v2.1.0 \
    -X github.com/cloudnativelabs/kube-router/v2/pkg/version.BuildDate=2025-01-01T00:00:00+0000";
/// Debian packages that kube-router needs besides iptables, which the node has.
const DEBS: [&str; 2] = ["ipset", "libipset13"];
const FIREWALL: &str = "kube-router --run-firewall=true --run-router=false --run-service-proxy=false \
    --run-loadbalancer=false --kubeconfig=/etc/kubernetes/admin.conf --service-cluster-ip-range=10.96.0.0/12 \
    --health-port=0 --metrics-port=0";
/// Stops kube-router and removes its rules. Its own --cleanup-config needs tools of its service proxy.
const END: &str = "pkill -x kube-router; sleep 1; for t in iptables ip6tables; do $t-save | \
    grep -vE 'KUBE-(ROUTER|POD-FW|NWPLCY)' | $t-restore || exit 1; done; ipset destroy";
/// Prints for each `host:port` whether a connection succeeds within 3 s.
const PYTHON: &str = "import socket,sys\nfor a in sys.argv[1:]:\n    h,p=a.split(':')\n    try:\n        \
    socket.create_connection((h,int(p)),3).close(); print(a,'open')\n    except OSError: print(a,'closed')";
const NODE: &str = "const n=require('net'),t=a=>new Promise(r=>{const[h,p]=a.split(':'),s=n.connect({host:h,port:+p,\
    timeout:3000}),e=w=>{s.destroy();r(console.log(a+' '+w))};s.on('connect',()=>e('open'));s.on('timeout',()=>\
    e('closed'));s.on('error',()=>e('closed'))});(async()=>{for(const a of process.argv.slice(1))await t(a)})()";

/// Runs the suite on the cluster of the end-to-end suite.
pub fn run(test_cluster: &TestCluster) -> Result<Tally> {
    if !test_cluster.root.join(".env").is_file() {
        test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}\n"))?;
    }
    let values = test_cluster.root.join("infra/helm/values-dev.yaml");
    let good = std::fs::read_to_string(&values)?;
    let mut tally = Tally::default();
    let name = "with kube-router's firewall, each pod reaches only the pods that it needs, and the application answers";
    tally += Tally::of(&test_cluster.project.report, name, |_| {
        std::fs::write(&values, format!("{good}\nnetworkPolicy: {{enabled: true}}\n"))?;
        test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
        let result = check_enforcement(test_cluster);
        let ended = in_node(test_cluster, END).run();
        std::fs::write(&values, &good)?;
        test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
        ended.and(result)
    });
    Ok(tally)
}

fn check_enforcement(test_cluster: &TestCluster) -> Result<String> {
    let temp = tempfile::tempdir()?;
    let folder = Utf8Path::from_path(temp.path()).context("a folder")?;
    install_kube_router(test_cluster, folder)?;
    let expected = [
        ("frontend", vec!["node", "-e", NODE], vec!["todo-backend:8000 open", "todo-postgres:5432 closed"]),
        ("backend", vec!["python3", "-c", PYTHON], vec!["todo-postgres:5432 open", "todo-frontend:3000 closed"]),
    ];
    let open_before = probe(test_cluster, "frontend", &["node", "-e", NODE], &["todo-postgres:5432"])?;
    ensure!(open_before.contains("open"), "closed before the firewall runs: {open_before}");
    in_node(
        test_cluster,
        &format!("nohup {FIREWALL} --hostname-override={} >/var/log/kube-router.log 2>&1 &", test_cluster.profile),
    )
    .run()?;
    test_cluster.until("the firewall is up", Duration::from_secs(60), || {
        Ok(in_node(test_cluster, "iptables -S").read()?.contains("KUBE-POD-FW"))
    })?;
    for (component, program, wanted) in expected {
        let places: Vec<&str> = wanted.iter().filter_map(|line| line.split(' ').next()).collect();
        test_cluster.until(&format!("{component}: {}", wanted.join(", ")), Duration::from_secs(60), || {
            Ok(probe(test_cluster, component, &program, &places)?.trim() == wanted.join("\n"))
        })?;
    }
    let tools = test_cluster.tools()?;
    let image = super::lifecycle::references(test_cluster)?.into_iter().find(|r| r.starts_with("todo-backend"));
    let places = ["todo-backend.todo:8000", "todo-frontend.todo:3000", "todo-postgres.todo:5432"];
    let other = |args: &[&str]| tools.kubectl().args(["--namespace=default"]).args(args.iter().copied());
    let image = format!("--image={}", image.context("a backend image")?);
    other(&[
        "run",
        "stranger",
        &image,
        "--image-pull-policy=Never",
        "--restart=Never",
        "--command",
        "--",
        "sleep",
        "600",
    ])
    .run()?;
    let reached = other(&["wait", "pod/stranger", "--for=condition=Ready", "--timeout=60s"])
        .run()
        .and_then(|()| other(&[&["exec", "stranger", "--", "python3", "-c", PYTHON], &places[..]].concat()).read());
    other(&["delete", "pod", "stranger", "--now"]).run()?;
    let reached = reached?;
    ensure!(reached.lines().count() == 3 && !reached.contains("open"), "a foreign pod reaches: {reached}");
    test_cluster.xtask(&["status", "--verify"])?.expect(0, &["every route answers"])?;
    // A new pod may connect before kube-router knows it.
    test_cluster.until("the chart's own tests pass", Duration::from_secs(90), || {
        Ok(test_cluster.xtask(&["tool", "helm", "--", "test", "todo"])?.expect(0, &["Succeeded"]).is_ok())
    })?;
    Ok("and a foreign pod reaches none of them".to_owned())
}

/// Returns which of `places` a pod of `component` reaches.
fn probe(test_cluster: &TestCluster, component: &str, program: &[&str], places: &[&str]) -> Result<String> {
    let pod = test_cluster.pod_names(component)?.into_iter().next().context("a pod")?;
    test_cluster.tools()?.kubectl_here().args(["exec", &pod, "--"]).args([program, places].concat()).read()
}

fn in_node(test_cluster: &TestCluster, script: &str) -> Process {
    let engine = test_cluster.tools().map(|tools| tools.engine.docker()).unwrap_or_else(|_| Process::new("docker"));
    engine.args(["exec", &test_cluster.profile, "sh", "-c", script])
}

/// Compiles kube-router and installs it in the node with its dependencies.
fn install_kube_router(test_cluster: &TestCluster, folder: &Utf8Path) -> Result<()> {
    let go = Process::new("go").args(["install", "-trimpath", "-ldflags", LDFLAGS, KUBE_ROUTER]);
    let go = go.inherit(&["GOPROXY", "GOSUMDB", "GONOSUMDB", "GOFLAGS", "SSL_CERT_FILE", "HTTPS_PROXY", "HTTP_PROXY"]);
    go.env("GOBIN", folder.as_str()).env("CGO_ENABLED", "0").deadline(Duration::from_secs(1800)).run()?;
    let root = folder.join("root");
    std::fs::create_dir_all(root.join("usr/local/bin"))?;
    std::fs::rename(folder.join("kube-router"), root.join("usr/local/bin/kube-router"))?;
    Process::new("apt-get").arg("download").args(DEBS).cwd(folder).run()?;
    for file in debs(folder)? {
        Process::new("dpkg-deb").args(["--extract", file.as_str(), root.as_str()]).run()?;
    }
    let archive = folder.join("root.tar");
    Process::new("tar").args(["--create", "--file", archive.as_str(), "--directory", root.as_str(), "usr"]).run()?;
    let unpack = ["exec", "-i", &test_cluster.profile, "tar", "--extract", "--keep-directory-symlink", "--directory=/"];
    let archive = std::sync::Arc::new(std::fs::File::open(&archive)?);
    test_cluster.tools()?.engine.docker().args(unpack).stdin_file(archive).run()?;
    in_node(test_cluster, "ldconfig").run()
}

fn debs(folder: &Utf8Path) -> Result<Vec<Utf8PathBuf>> {
    let mut found = Vec::new();
    for entry in folder.read_dir_utf8()? {
        found.push(entry?.into_path());
    }
    found.retain(|path| path.extension() == Some("deb"));
    Ok(found)
}
