//! The specification's scenarios on the running release.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::bed::{AUTH, Bed};
use super::lifecycle::references;

pub fn deleted_pod(bed: &Bed) -> Result<()> {
    let before = bed.pods("backend")?;
    let kubectl = bed.tools()?.kubectl_here();
    // Not one that is ending anyway.
    let names = "jsonpath={range .items[*]}{.metadata.name} {.metadata.deletionTimestamp}{\"\\n\"}{end}";
    let names =
        kubectl.clone().args(["get", "pods", "-l", "app.kubernetes.io/component=backend", "-o", names]).read()?;
    let pod = names.lines().find_map(|line| line.strip_suffix(' ')).context("no backend pod runs")?;
    kubectl.args(["delete", "pod", pod, "--wait=false"]).run()?;
    bed.until("a new pod in its place", Duration::from_secs(60), || {
        let now = bed.pods("backend")?;
        Ok(now.len() == 2 && now != before)
    })?;
    bed.until_ready()
}

pub fn hung_backend(bed: &Bed) -> Result<()> {
    let tools = bed.tools()?;
    let restarts = || -> Result<u64> {
        let path = "jsonpath={range .items[*]}{.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
        let text = tools
            .kubectl_here()
            .args(["get", "pods", "-l", "app.kubernetes.io/component=backend", "-o", path])
            .read()?;
        Ok(text.lines().filter_map(|line| line.parse::<u64>().ok()).sum())
    };
    let before = restarts()?;
    // SIGSTOP from the node: within its own PID namespace the first process cannot be stopped.
    let find = ["crictl", "ps", "--name", "^backend$", "--state", "Running", "-q"];
    let node = tools.nodes()?.remove(0);
    let containers = node.exec(find).read()?;
    let id = containers.lines().next().unwrap_or_default().to_owned();
    let pid = node.exec(["crictl", "inspect", "-o", "go-template", "--template", "{{.info.pid}}", &id]).read()?;
    node.exec(["kill", "-STOP", pid.trim()]).run()?;
    bed.until("the kubelet restarts it", Duration::from_secs(150), || Ok(restarts()? > before))?;
    bed.until_ready()
}

pub fn no_secret_shown(bed: &Bed) -> Result<()> {
    let tools = bed.tools()?;
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

pub fn three_keys(bed: &Bed) -> Result<()> {
    let list = bed.tools()?.kubectl_here().args(["get", "secrets", "-l", "app.kubernetes.io/component=backend"]);
    let keys =
        list.args(["-o", "go-template={{range .items}}{{range $k, $v := .data}}{{$k}} {{end}}{{end}}"]).read()?;
    for key in ["DATABASE_URL", "OPENAI_API_KEY", "AUTH_SECRET"] {
        ensure!(keys.split_whitespace().any(|k| k == key), "{key} is not among: {keys}");
    }
    Ok(())
}

pub fn server_dry_run(bed: &Bed) -> Result<()> {
    let tools = bed.tools()?;
    let manifest = tools.helm().args(["get", "manifest", "todo"]).read()?;
    let apply = tools.kubectl_here().args(["apply", "--server-side", "--force-conflicts", "--dry-run=server"]);
    let output = apply.args(["--validate=strict", "-f", "-"]).stdin(manifest).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success() && !said.contains("Warning"), "the API server says: {said}");
    Ok(())
}

pub fn helm_tests(bed: &Bed) -> Result<()> {
    bed.tools()?.helm().args(["test", "todo", "--timeout=120s"]).deadline(Duration::from_secs(150)).run()
}

pub fn plain_helm(bed: &Bed) -> Result<()> {
    let tools = bed.tools()?;
    let chart = bed.root.join("infra/helm");
    let values = bed.root.join("infra/helm/values-dev.yaml");
    let mut set = Vec::new();
    for reference in references(bed)? {
        let (name, tag) = reference.rsplit_once(':').unwrap_or((&reference, ""));
        let component = name.trim_start_matches("todo-").to_owned();
        set.push("--set-string".to_owned());
        set.push(format!("{component}.image.tag={tag}"));
    }
    let install = tools.helm().args(["upgrade", "--install", "todo", chart.as_str(), "--create-namespace"]);
    let install = install.args(["--values", values.as_str(), "--set", "secrets.create=true"]).args(set);
    install.args(["--wait", "--timeout=180s"]).deadline(Duration::from_secs(200)).run()?;
    // The controller went with the last Ingress when the application was torn down, so what counts is inside.
    tools.helm().args(["test", "todo", "--timeout=120s"]).deadline(Duration::from_secs(150)).run()?;
    let ready =
        tools.kubectl_here().args(["get", "deployments", "-o", "jsonpath={.items[*].status.readyReplicas}"]).read()?;
    ensure!(ready.trim() == "2 2", "ready replicas: {ready}");
    tools.helm().args(["uninstall", "todo", "--wait"]).run()?;
    // Its volume stays, but the password that opens it went with the release.
    bed.xtask(&["teardown", "--data"])?.expect(0, &[]).map(drop)
}

pub fn existing_namespace(bed: &Bed) -> Result<()> {
    bed.tools()?.kubectl().args(["create", "namespace", "todo"]).run()?;
    bed.write_dotenv(&format!("AUTH_SECRET={AUTH}\n"))?;
    bed.xtask(&["deploy", "dev"])?.expect(0, &["Pod Security", "is up"])?;
    let label = "jsonpath={.metadata.labels.pod-security\\.kubernetes\\.io/enforce}";
    let level = bed.tools()?.kubectl().args(["get", "namespace", "todo", "-o", label]).read()?;
    ensure!(level == "restricted", "the namespace enforces `{level}`");
    Ok(())
}
