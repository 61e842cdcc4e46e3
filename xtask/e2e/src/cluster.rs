//! Scenarios of the specification on the running release.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::lifecycle::references;
use super::test_cluster::{AUTH, TestCluster};

pub fn deleted_pod(test_cluster: &TestCluster) -> Result<()> {
    let before = test_cluster.pods("backend")?;
    let kubectl = test_cluster.tools()?.kubectl_here();
    // A terminating pod would prove nothing.
    let names = "jsonpath={range .items[*]}{.metadata.name} {.metadata.deletionTimestamp}{\"\\n\"}{end}";
    let names =
        kubectl.clone().args(["get", "pods", "-l", "app.kubernetes.io/component=backend", "-o", names]).read()?;
    let pod = names.lines().find_map(|line| line.strip_suffix(' ')).context("no backend pod runs")?;
    kubectl.args(["delete", "pod", pod, "--wait=false"]).run()?;
    test_cluster.until("a new pod in its place", Duration::from_secs(60), || {
        let now = test_cluster.pods("backend")?;
        Ok(now.len() == 2 && now != before)
    })?;
    test_cluster.until_ready()
}

pub fn hung_backend(test_cluster: &TestCluster) -> Result<()> {
    let tools = test_cluster.tools()?;
    // Not the pod that the scenario before this one has deleted.
    let pod = test_cluster.pods("backend")?.into_iter().next().context("a pod")?;
    let restarts = || -> Result<u64> {
        let pods = test_cluster.list_pods("backend")?;
        let pod = pods.iter().find(|other| other["metadata"]["uid"] == pod.as_str()).context("the pod is gone")?;
        pod["status"]["containerStatuses"][0]["restartCount"].as_u64().context("no restartCount")
    };
    let before = restarts()?;
    // SIGSTOP comes from the node: PID 1 ignores it within its own PID namespace.
    let label = format!("io.kubernetes.pod.uid={pod}");
    let find = ["ps", "--name", "^backend$", "--label", &label, "--state", "Running", "-q"];
    let node = tools.nodes()?.remove(0);
    let containers = node.crictl(find).read()?;
    let id = containers.lines().next().unwrap_or_default().to_owned();
    let pid = node.crictl(["inspect", "-o", "go-template", "--template", "{{.info.pid}}", &id]).read()?;
    node.exec(["kill", "-STOP", pid.trim()]).run()?;
    test_cluster.until("the kubelet restarts it", Duration::from_secs(150), || Ok(restarts()? > before))?;
    test_cluster.until_ready()
}

pub fn no_secret_shown(test_cluster: &TestCluster) -> Result<()> {
    let tools = test_cluster.tools()?;
    let kubectl = || tools.kubectl_here();
    let password = "jsonpath={.data.POSTGRES_PASSWORD}";
    let encoded = kubectl().args(["get", "secret", "todo-postgres", "-o", password]).read()?;
    use base64::Engine as _;
    let password = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded.trim())?)?;
    let shown = [
        kubectl().args(["get", "pods,deployments,statefulsets,configmaps,events", "-o", "yaml"]).read()?,
        kubectl().args(["describe", "pods"]).read()?,
        tools.helm().args(["get", "all", "todo"]).read()?,
    ];
    for text in shown {
        ensure!(!text.contains(AUTH), "AUTH_SECRET is shown");
        ensure!(!text.contains(&password), "the database's password is shown");
    }
    Ok(())
}

pub fn three_keys(test_cluster: &TestCluster) -> Result<()> {
    let list =
        test_cluster.tools()?.kubectl_here().args(["get", "secrets", "-l", "app.kubernetes.io/component=backend"]);
    let keys =
        list.args(["-o", "go-template={{range .items}}{{range $k, $v := .data}}{{$k}} {{end}}{{end}}"]).read()?;
    for key in ["DATABASE_URL", "OPENAI_API_KEY", "AUTH_SECRET"] {
        ensure!(keys.split_whitespace().any(|k| k == key), "{key} is not among: {keys}");
    }
    Ok(())
}

pub fn server_dry_run(test_cluster: &TestCluster) -> Result<()> {
    let tools = test_cluster.tools()?;
    let manifest = tools.helm().args(["get", "manifest", "todo"]).read()?;
    let apply = tools.kubectl_here().args(["apply", "--server-side", "--force-conflicts", "--dry-run=server"]);
    let output = apply.args(["--validate=strict", "-f", "-"]).stdin(manifest).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success() && !stderr.contains("Warning"), "the API server says: {stderr}");
    Ok(())
}

pub fn helm_tests(test_cluster: &TestCluster) -> Result<()> {
    test_cluster.tools()?.helm().args(["test", "todo", "--timeout=120s"]).deadline(Duration::from_secs(150)).run()
}

pub fn plain_helm(test_cluster: &TestCluster) -> Result<()> {
    let tools = test_cluster.tools()?;
    let chart = test_cluster.root.join("infra/helm");
    let values = test_cluster.root.join("infra/helm/values-dev.yaml");
    let mut set = Vec::new();
    for reference in references(test_cluster)? {
        let (name, tag) = reference.rsplit_once(':').unwrap_or((&reference, ""));
        let component = name.trim_start_matches("todo-").to_owned();
        set.push("--set-string".to_owned());
        set.push(format!("{component}.image.tag={tag}"));
    }
    let install = tools.helm().args(["upgrade", "--install", "todo", chart.as_str(), "--create-namespace"]);
    let install = install.args(["--values", values.as_str(), "--set", "secrets.create=true"]).args(set);
    install.args(["--wait", "--timeout=180s"]).deadline(Duration::from_secs(200)).run()?;
    // The teardown removed the ingress controller, so only in-cluster checks can pass.
    tools.helm().args(["test", "todo", "--timeout=120s"]).deadline(Duration::from_secs(150)).run()?;
    let ready =
        tools.kubectl_here().args(["get", "deployments", "-o", "jsonpath={.items[*].status.readyReplicas}"]).read()?;
    ensure!(ready.trim() == "2 2", "ready replicas: {ready}");
    tools.helm().args(["uninstall", "todo", "--wait"]).run()?;
    // The volume stays, but its password was deleted with the release.
    test_cluster.xtask(&["teardown", "--data"])?.expect(0, &[]).map(drop)
}

pub fn existing_namespace(test_cluster: &TestCluster) -> Result<()> {
    test_cluster.tools()?.kubectl().args(["create", "namespace", "todo"]).run()?;
    test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}\n"))?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["Pod Security", "is up"])?;
    let label = "jsonpath={.metadata.labels.pod-security\\.kubernetes\\.io/enforce}";
    let level = test_cluster.tools()?.kubectl().args(["get", "namespace", "todo", "-o", label]).read()?;
    ensure!(level == "restricted", "the namespace enforces `{level}`");
    Ok(())
}
