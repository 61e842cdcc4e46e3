//! The application as users see it: accounts, todos, the assistant, and the browser tests.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::lifecycle::references;
use super::test_cluster::{AUTH, TestCluster};
use xtask::commands::dev::{browser_reference, build_browser};
use xtask::origin::Requirement;
use xtask::plan::{self, Mode};
use xtask::process::Process;
use xtask::toolchain::Toolchain;

/// Title of a todo that must survive restarts and teardowns.
const LASTING: &str = "outlive the restart of both";
/// Name of the container of the browser tests.
const BROWSER: &str = "todo-browser-tests";
/// Name of the pod and Service that simulate OpenAI's API.
const UPSTREAM: &str = "openai-scripted";

/// Signs in, and signs up first if there is no account. Returns the token.
fn sign_in(test_cluster: &TestCluster) -> Result<String> {
    let credentials = json!({"email": "lasting@example.com", "password": "not-a-secret-password"});
    let mut answer = test_cluster.http("POST", "/api/v1/session", None, Some(&credentials))?;
    if answer.0 == 401 {
        answer = test_cluster.http("POST", "/api/v1/users", None, Some(&credentials))?;
    }
    ensure!(matches!(answer.0, 200 | 201), "signing in: {} {}", answer.0, answer.1);
    let session: Value = serde_json::from_str(&answer.1)?;
    Ok(session["token"].as_str().context("the session has no token")?.to_owned())
}

pub fn todos(test_cluster: &TestCluster) -> Result<()> {
    let anonymous = test_cluster.http("GET", "/api/v1/todos", None, None)?;
    ensure!(anonymous.0 == 401, "todos without an account: {} {}", anonymous.0, anonymous.1);
    let body = store_lasting(test_cluster)?;
    let todo: Value = serde_json::from_str(&body)?;
    ensure!(
        todo["url"].as_str().is_some_and(|url| url.starts_with(&test_cluster.address().unwrap_or_default())),
        "url: {body}"
    );
    check_request_id_in_logs(test_cluster)?;
    let tools = test_cluster.tools()?;
    tools.kubectl_here().args(["rollout", "restart", "deployment/todo-backend", "deployment/todo-frontend"]).run()?;
    test_cluster.until_ready()?;
    lasting_is_there(test_cluster)?;
    // A restart is no drift: the next deploy ignores it.
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["nothing changed"])?;
    Ok(())
}

/// Requests the page, which calls the backend, and waits for the response's request ID in both logs.
fn check_request_id_in_logs(test_cluster: &TestCluster) -> Result<()> {
    let page = ureq::http::Request::get(format!("{}/", test_cluster.address()?));
    let answer = xtask::stages::proof::agent()
        .run(page.header("cookie", format!("todo_session={}", sign_in(test_cluster)?)).body(())?)?;
    let id = answer.headers().get("x-request-id").and_then(|id| id.to_str().ok()).context("the page has no ID")?;
    let tools = test_cluster.tools()?;
    let logs = |of: Process| of.args(["--tail=200", "--selector"]);
    let controller =
        logs(tools.kubectl().args(["logs", "--namespace=ingress-traefik"])).arg("app.kubernetes.io/name=traefik");
    let backend = logs(tools.kubectl_here().arg("logs")).arg("app.kubernetes.io/component=backend");
    for (logs, line) in [(controller, r#""RequestPath":"/""#), (backend, "GET /api/v1/todos 200")] {
        let is_there = || Ok(logs.read()?.lines().any(|entry| entry.contains(line) && entry.contains(id)));
        test_cluster.until(&format!("{line} with {id} in `{logs}`"), Duration::from_secs(10), is_there)?;
    }
    Ok(())
}

/// Stores the lasting todo. Returns the API's answer.
pub fn store_lasting(test_cluster: &TestCluster) -> Result<String> {
    let token = sign_in(test_cluster)?;
    let (status, body) = test_cluster.http("POST", "/api/v1/todos", Some(&token), Some(&json!({"title": LASTING})))?;
    ensure!(status == 201, "POST: {status} {body}");
    Ok(body)
}

/// Fails unless the lasting todo is in the API's list and in the server-rendered page.
pub fn lasting_is_there(test_cluster: &TestCluster) -> Result<()> {
    let token = sign_in(test_cluster)?;
    let get = |path: &str| test_cluster.http("GET", path, Some(&token), None);
    let (status, listed) = get("/api/v1/todos")?;
    ensure!(listed.contains(LASTING), "the API does not list the todo: {status} {listed}");
    ensure!(get("/")?.1.contains(LASTING), "the page is not rendered with the todo");
    Ok(())
}

pub fn browser(test_cluster: &TestCluster) -> Result<()> {
    playwright(test_cluster, "off", &[])
}

/// Runs the assistant's browser tests against a scripted OpenAI API in the cluster.
pub fn assistant(test_cluster: &TestCluster) -> Result<()> {
    let backend =
        references(test_cluster)?.into_iter().find(|name| name.starts_with("todo-backend")).unwrap_or_default();
    let script = std::fs::read_to_string(test_cluster.root.join("apps/backend/tests/openai_server.py"))?;
    let tools = test_cluster.tools()?;
    let apply = tools.kubectl_here().args(["apply", "--server-side", "--force-conflicts", "-f", "-"]);
    apply.stdin(upstream(&backend, &script).to_string()).run()?;
    let ready = ["wait", "pod", UPSTREAM, "--for=condition=Ready", "--timeout=60s", "--request-timeout=0"];
    tools.kubectl_here().args(ready).deadline(Duration::from_secs(70)).run()?;

    let values = test_cluster.root.join("infra/helm/values-dev.yaml");
    let before = std::fs::read_to_string(&values)?;
    let mut changed: serde_norway::Value = serde_norway::from_str(&before)?;
    let openai = json!({"baseUrl": format!("http://{UPSTREAM}:9901/v1"), "model": "scripted"});
    changed["config"]["openai"] = serde_norway::to_value(openai)?;
    std::fs::write(&values, serde_norway::to_string(&changed)?)?;
    test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}\nOPENAI_API_KEY=not-a-secret-key\n"))?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
    let result = playwright(test_cluster, "scripted", &["assistant.spec.ts", "screenshots.spec.ts"]);

    std::fs::write(&values, before)?;
    test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}\n"))?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
    let both = format!("pod/{UPSTREAM},service/{UPSTREAM},configmap/{UPSTREAM}");
    for object in both.split(',') {
        tools.kubectl_here().args(["delete", object, "--wait=false"]).run()?;
    }
    result
}

/// Returns the objects of the scripted server. It runs in the backend's image, which has Python and is on the node.
fn upstream(image: &str, script: &str) -> Value {
    let labels = json!({"app": UPSTREAM});
    let metadata = json!({"name": UPSTREAM, "labels": labels});
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata,
                        "data": {"openai_server.py": script}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
                         "spec": {"selector": labels, "ports": [{"port": 9901}]}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {
        "automountServiceAccountToken": false,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "server", "image": image, "imagePullPolicy": "Never",
            "command": ["python3", "/script/openai_server.py", "--host", "0.0.0.0", "--port", "9901"],
            "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                                "capabilities": {"drop": ["ALL"]}},
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
            "readinessProbe": {"tcpSocket": {"port": 9901}, "periodSeconds": 1},
            "volumeMounts": [{"name": "script", "mountPath": "/script"}],
        }],
        "volumes": [{"name": "script", "configMap": {"name": UPSTREAM}}],
    }});
    json!({"apiVersion": "v1", "kind": "List", "items": [config, service, pod]})
}

/// Runs the browser tests in their image; `assistant` names the assistant's expected state. Copies screenshots to
/// SCREENSHOT_DIR if that is set. A mount would not work: a private engine does not see this machine's folders.
fn playwright(test_cluster: &TestCluster, assistant: &str, specs: &[&str]) -> Result<()> {
    let toolchain = browser_image(test_cluster)?;
    let engine = &toolchain.tools.engine;
    let remove = engine.docker().args(["rm", "--force", BROWSER]);
    let run = engine.docker().args(["run", "--name", BROWSER, "--init", "--network=host", "--shm-size=256m"]);
    let pictures = std::env::var("SCREENSHOT_DIR").ok();
    let run = run.args(pictures.iter().flat_map(|_| ["--env", "SCREENSHOT_DIR=/tmp/pictures"])).args([
        "--env",
        &format!("BASE_URL={}", test_cluster.address()?),
        "--env",
        &format!("ASSISTANT={assistant}"),
    ]);
    let image = browser_reference(&test_cluster.project.settings);
    let run = run.args([&image, "node_modules/.bin/playwright", "test"]).args(specs.iter().copied());
    remove.run()?;
    let result = run.deadline(Duration::from_secs(420)).log(test_cluster.project.log("browser")).run();
    if let Some(dir) = pictures {
        engine.docker().args(["cp", &format!("{BROWSER}:/tmp/pictures/."), &dir]).run()?;
    }
    remove.run()?;
    result
}

/// Builds the image of the browser tests.
pub fn browser_image(test_cluster: &TestCluster) -> Result<Toolchain> {
    let bases: Vec<Requirement> =
        test_cluster.project.settings.images["todo-frontend"].bases.values().cloned().map(Requirement::Image).collect();
    let toolchain = test_cluster.project.bring_tools(Mode::Apply, &bases)?;
    let build = build_browser(&test_cluster.project.settings, &toolchain)?;
    plan::apply(&test_cluster.project.report, "test", Mode::Apply, vec![build])?;
    Ok(toolchain)
}
