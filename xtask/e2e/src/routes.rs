//! The routes of the live Ingress, and the causes of their failures.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::test_cluster::TestCluster;
use xtask::process::Process;
use xtask::snapshot::Snapshot;
use xtask::stages::cluster::Profile;
use xtask::stages::proof::{self, Access, diagnose::RouteProblem, facts::IngressFacts};

/// Time limit for the controller to apply a change.
const NOTICE: Duration = Duration::from_secs(40);

pub fn matrix(test_cluster: &TestCluster) -> Result<()> {
    let snapshot = Snapshot::take(&test_cluster.tools()?)?;
    let routes = proof::routes(&test_cluster.project.settings, &snapshot);
    let answers = proof::measure(&routes, &test_cluster.address()?, 20);
    for answer in &answers {
        ensure!(answer.is_good() && answer.times.len() == answer.route.requests(20), "{answer:?}");
        let [p50, p95, max] = [50, 95, 100].map(|p| answer.percentile(p));
        let status = answer.status.unwrap_or_default();
        test_cluster.project.report.note(format!(
            "{}: {status} from {} ({} pods), p50 {p50} ms, p95 {p95} ms, max {max} ms",
            answer.route.path,
            answer.route.service,
            answer.pods.len()
        ));
    }
    proof::warnings(&answers).iter().for_each(|warning| test_cluster.project.report.warn(warning));
    let paths: Vec<&str> = answers.iter().map(|answer| answer.route.path.as_str()).collect();
    ensure!(paths == ["/api", "/api/v1/health", "/apix", "/"], "{paths:?}");
    let both = answers.iter().filter(|answer| answer.pods.len() == 2).count();
    ensure!(both > 0, "no application answered with both replicas");
    Ok(())
}

/// An existing profile may publish no port; then a port-forward serves the proof.
pub fn forwarded(test_cluster: &TestCluster) -> Result<()> {
    let tools = test_cluster.tools()?;
    let unpublished = Profile { port: None, ..xtask::stages::cluster::profile(&tools)? };
    let snapshot = Snapshot::take(&tools)?;
    let access = Access::open(&tools, &unpublished)?;
    let address = access.address.clone();
    for answer in proof::measure(&proof::routes(&test_cluster.project.settings, &snapshot), &address, 5) {
        ensure!(answer.is_good() && answer.times.len() == answer.route.requests(5), "{answer:?}");
    }
    let open_with = access.open_with().context("no port-forward command is printed")?;
    ensure!(
        access.user_address().is_none() && open_with.contains("port-forward deployment/traefik 8080:"),
        "{open_with}"
    );
    drop(access);
    let after = proof::measure(&proof::routes(&test_cluster.project.settings, &snapshot), &address, 1);
    ensure!(after.iter().all(|answer| answer.error.is_some()), "the port-forward goes on: {after:?}");
    Ok(())
}

pub fn told_apart(test_cluster: &TestCluster) -> Result<()> {
    let result = break_one_by_one(test_cluster);
    if result.is_err() {
        // The next scenarios need a working Ingress.
        restore(test_cluster)?;
    }
    result
}

fn restore(test_cluster: &TestCluster) -> Result<()> {
    let tools = test_cluster.tools()?;
    let here = |args: &[&str]| tools.kubectl_here().args(args.iter().copied()).run();
    here(&["delete", "pod", "broken", "--ignore-not-found"])?;
    here(&["delete", "ingress,service", "--all"])?;
    tools.kubectl().args(["delete", "ingressclass", "foreign", "--ignore-not-found"]).run()?;
    let folder = test_cluster.root.join(&test_cluster.project.settings.cluster.ingress);
    tools.kubectl().args(["apply", "--server-side", "--force-conflicts", "-f", folder.as_str()]).run()?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"]).map(drop)
}

fn break_one_by_one(test_cluster: &TestCluster) -> Result<()> {
    nothing_listens(test_cluster)?;
    let cluster = || test_cluster.tools().map(|tools| tools.kubectl());
    let ingress = |patch: &str| -> Result<()> {
        let patch = ["patch", "ingress", "todo", "--type=json", "--patch", patch];
        test_cluster.tools()?.kubectl_here().args(patch).run()
    };

    let traefik = |replicas: &str| -> Result<()> {
        let scale = ["scale", "deployment/traefik", "--namespace=ingress-traefik", &format!("--replicas={replicas}")];
        cluster()?.args(scale).run()
    };
    traefik("0")?;
    expect_broken(
        test_cluster,
        "no ingress controller listens in the cluster",
        "install the ingress controller, or repair it",
    )?;
    traefik("1")?;
    wait_for_repair(test_cluster)?;

    cluster()?.args(["delete", "ingressclass", "traefik"]).run()?;
    expect_broken(
        test_cluster,
        "wants IngressClass `traefik`, which the cluster does not have",
        "revert changes made by hand",
    )?;
    let class = test_cluster.root.join(&test_cluster.project.settings.cluster.ingress).join("40-ingressclass.yaml");
    cluster()?.args(["apply", "--server-side", "--force-conflicts", "--filename", class.as_str()]).run()?;
    wait_for_repair(test_cluster)?;

    let foreign = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "foreign"},
                         "spec": {"controller": "example.com/foreign"}});
    cluster()?.args(["apply", "--server-side", "--filename", "-"]).stdin(foreign.to_string()).run()?;
    ingress(r#"[{"op": "replace", "path": "/spec/ingressClassName", "value": "foreign"}]"#)?;
    let cause = "class `foreign` belongs to the controller example.com/foreign, but ";
    expect_broken(test_cluster, cause, "class foreign")?;
    ingress(r#"[{"op": "replace", "path": "/spec/ingressClassName", "value": "traefik"}]"#)?;
    cluster()?.args(["delete", "ingressclass", "foreign"]).run()?;
    wait_for_repair(test_cluster)?;

    // By default, Traefik matches prefixes by character, not by path element.
    let traefik_args = "/spec/template/spec/containers/0/args";
    let here = ["deployment/traefik", "--namespace=ingress-traefik"];
    let deployment: Value = serde_json::from_str(&cluster()?.arg("get").args(here).args(["-o", "json"]).read()?)?;
    let args = deployment.pointer(traefik_args).and_then(Value::as_array).context("the arguments of Traefik")?;
    let loose: Vec<&Value> = args.iter().filter(|arg| !arg.to_string().contains("strictPrefixMatching")).collect();
    ensure!(loose.len() < args.len(), "infra/ingress does not ask for strict prefixes");
    let set = |args: &Value| -> Result<()> {
        let patch = json!([{"op": "replace", "path": traefik_args, "value": args}]).to_string();
        cluster()?.arg("patch").args(here).args(["--type=json", "--patch", &patch]).run()
    };
    set(&json!(loose))?;
    expect_broken(test_cluster, "/apix: answered by todo-backend/", "strictPrefixMatching=true")?;
    set(&json!(args))?;
    wait_for_repair(test_cluster)?;

    application_error(test_cluster)?;

    let scale = |replicas: &str| -> Result<()> {
        let scale = ["scale", "deployment/todo-backend", &format!("--replicas={replicas}")];
        test_cluster.tools()?.kubectl_here().args(scale).run()
    };
    scale("0")?;
    // Without a pod, `status --verify` reports the image chain first, so this checks the routes alone.
    test_cluster.until("no endpoints", NOTICE, || {
        Ok(causes(test_cluster)?.contains("Service todo-backend has no ready pod behind it"))
    })?;
    let status = test_cluster.xtask(&["status"])?;
    ensure!(status.text.contains("todo-backend"), "{}", status.text);
    scale("2")?;
    test_cluster.until_ready()?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
    Ok(())
}

/// Fails unless a closed port is distinguished from a cluster without a controller.
fn nothing_listens(test_cluster: &TestCluster) -> Result<()> {
    let free = xtask_faults::servers::free_port()?;
    let tools = test_cluster.tools()?;
    let routes = proof::routes(&test_cluster.project.settings, &Snapshot::take(&tools)?);
    let answers = proof::measure(&routes, &format!("http://localhost:{free}"), 1);
    let facts = IngressFacts::take(&tools)?;
    ensure!(
        answers.iter().all(|answer| RouteProblem::of(answer, Some(&facts)) == RouteProblem::NothingListens),
        "{answers:?}"
    );
    Ok(())
}

/// Points the backend's Service at a pod that answers every request with 500.
fn application_error(test_cluster: &TestCluster) -> Result<()> {
    let tools = test_cluster.tools()?;
    let image = super::lifecycle::references(test_cluster)?.into_iter().find(|r| r.starts_with("todo-backend"));
    let program = "import http.server as h\nclass A(h.BaseHTTPRequestHandler):\n    def do_GET(s):\n        \
                   s.send_response(500)\n        s.send_header('X-Served-By', 'todo-backend/broken')\n        \
                   s.end_headers()\nh.ThreadingHTTPServer(('', 8000), A).serve_forever()\n";
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "broken", "labels": {"test": "broken"}},
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "broken", "image": image, "imagePullPolicy": "Never",
                "command": ["python3", "-c", program], "ports": [{"name": "http", "containerPort": 8000}],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}});
    tools.kubectl_here().args(["apply", "--filename", "-"]).stdin(pod.to_string()).run()?;
    tools.kubectl_here().args(["wait", "pod/broken", "--for=condition=Ready", "--timeout=30s"]).run()?;
    let select = |patch: String| -> Process {
        tools.kubectl_here().args(["patch", "service", "todo-backend", "--type=json", "--patch", &patch])
    };
    let now =
        tools.kubectl_here().args(["get", "service", "todo-backend", "-o", "jsonpath={.spec.selector}"]).read()?;
    let replace = |selector: &str| format!(r#"[{{"op": "replace", "path": "/spec/selector", "value": {selector}}}]"#);
    select(replace(r#"{"test": "broken"}"#)).run()?;
    let result = expect_broken(
        test_cluster,
        "500 from todo-backend/broken: the application itself failed",
        &test_cluster.hint("logs backend"),
    );
    select(replace(&now)).run()?;
    tools.kubectl_here().args(["delete", "pod", "broken"]).run()?;
    result?;
    wait_for_repair(test_cluster)
}

/// Returns the causes of all failing routes, as `status --verify` prints them.
fn causes(test_cluster: &TestCluster) -> Result<String> {
    let tools = test_cluster.tools()?;
    let answers = proof::measure(
        &proof::routes(&test_cluster.project.settings, &Snapshot::take(&tools)?),
        &test_cluster.address()?,
        1,
    );
    let facts = IngressFacts::take(&tools)?;
    let causes = answers
        .iter()
        .filter(|answer| !answer.is_good())
        .map(|answer| RouteProblem::of(answer, Some(&facts)).to_string());
    Ok(causes.collect::<Vec<_>>().join("\n"))
}

/// Waits for the route's failure, then expects xtask to report it.
fn expect_broken(test_cluster: &TestCluster, expected: &str, help: &str) -> Result<()> {
    let cause = expected.strip_prefix("/apix: ").unwrap_or(expected);
    test_cluster.until(expected, NOTICE, || Ok(causes(test_cluster)?.contains(cause)))?;
    test_cluster.xtask(&["status", "--verify"])?.expect(8, &[expected, help]).map(|_| ())
}

/// Waits until every route answers again.
fn wait_for_repair(test_cluster: &TestCluster) -> Result<()> {
    test_cluster.until("every route answers again", NOTICE, || Ok(causes(test_cluster)?.is_empty()))
}
