//! Views of the release, rollback, JSON output, and the benchmark.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

use super::test_cluster::{AUTH, TestCluster};

/// Returns the document of `--json`. Fails unless it has exactly the top-level fields of its schema in docs/schema. (The
/// tests of the command line check documents against the whole schema.)
fn document(test_cluster: &TestCluster, args: &[&str], code: i32) -> Result<Value> {
    let ran = test_cluster.xtask(&[args, &["--json"]].concat())?.expect(code, &[])?;
    ensure!(!ran.text.contains(AUTH), "a secret is shown");
    let document: Value = serde_json::from_str(&ran.stdout).with_context(|| format!("not JSON: {}", ran.stdout))?;
    let path = test_cluster.root.join(format!("docs/schema/{}.schema.json", args[0]));
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
    let parts = document.as_object().context("the document is no object")?;
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        ensure!(parts.contains_key(name), "{name} is missing");
    }
    for name in parts.keys() {
        ensure!(schema["properties"].get(name).is_some(), "{name} is not in {path}");
    }
    ensure!(parts["exit_code"] == code, "exit_code is {}", parts["exit_code"]);
    Ok(document)
}

/// Returns Helm's newest revision and its status.
fn revision(test_cluster: &TestCluster) -> Result<(u64, String)> {
    let history = test_cluster.tools()?.helm().args(["history", "todo", "--max=1", "--output=json"]).read()?;
    let history: Value = serde_json::from_str(&history)?;
    Ok((history[0]["revision"].as_u64().unwrap_or_default(), history[0]["status"].as_str().unwrap_or_default().into()))
}

fn edit(test_cluster: &TestCluster, path: &str, from: &str, to: &str) -> Result<()> {
    let path = test_cluster.root.join(path);
    let text = std::fs::read_to_string(&path)?;
    ensure!(text.contains(from), "`{from}` is not in {path}");
    Ok(std::fs::write(&path, text.replace(from, to))?)
}

pub fn status(test_cluster: &TestCluster) -> Result<()> {
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
    let parts = ["running", "deployed", "verified: revision", "todo-backend     2/2 ready", "images", "routes"];
    let ran = test_cluster.xtask(&["status"])?.expect(0, &parts)?;
    ran.expect(0, &["secrets", "todo-postgres", "drift     none", "deploy    would change nothing"])?;
    test_cluster.xtask(&["status", "--verify"])?.expect(0, &["the pods run the built images"])?;

    test_cluster.tools()?.kubectl_here().args(["scale", "deployment/todo-frontend", "--replicas=1"]).run()?;
    edit(test_cluster, "infra/helm/values-dev.yaml", "environment: dev", "environment: dev2")?;
    let expected = ["Deployment/todo-frontend was changed by hand: spec.replicas 2 -> 1", "values-dev.yaml changed"];
    test_cluster.xtask(&["status"])?.expect(0, &expected)?;
    test_cluster.xtask(&["status", "--verify"])?.expect(8, &[expected[0], &test_cluster.hint("deploy dev")])?;
    let document = document(test_cluster, &["status"], 0)?;
    ensure!(document["drift"].as_array().is_some_and(|drift| drift.len() == 1), "drift: {}", document["drift"]);
    edit(test_cluster, "infra/helm/values-dev.yaml", "environment: dev2", "environment: dev")?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
    test_cluster.xtask(&["status", "--verify"])?.expect(0, &[])?;
    Ok(())
}

pub fn watch(test_cluster: &TestCluster) -> Result<()> {
    let mut child = start(test_cluster, &["status", "--watch"])?;
    let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
    let mut changed = false;
    let result = (|| {
        while let Some(line) = lines.next().transpose()? {
            if line.contains("todo-frontend") && line.contains("2/2 ready") && !changed {
                test_cluster
                    .tools()?
                    .kubectl_here()
                    .args(["scale", "deployment/todo-frontend", "--replicas=3"])
                    .run()?;
                changed = true;
            }
            if line.contains("todo-frontend") && line.contains("3/3 ready") {
                return Ok(());
            }
        }
        anyhow::bail!("no change was shown")
    })();
    interrupt(&child)?;
    let status = child.wait()?;
    result?;
    ensure!(status.code() == Some(130), "Ctrl-C: {status}");
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["todo-frontend    2/2"])?;
    Ok(())
}

/// Starts xtask with piped outputs. Kills it after two minutes, so that reads end.
fn start(test_cluster: &TestCluster, args: &[&str]) -> Result<Child> {
    let child = test_cluster.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process has an ID")?;
    let began = Instant::now();
    std::thread::spawn(move || {
        // Once its exit status was read, another process may have its ID.
        while test_kill_process(pid).is_ok() {
            if began.elapsed() > Duration::from_secs(120) {
                let _ = kill_process(pid, Signal::KILL);
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    Ok(child)
}

fn interrupt(child: &std::process::Child) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process has an ID")?;
    Ok(kill_process(pid, Signal::INT)?)
}

pub fn dry_run_diff(test_cluster: &TestCluster) -> Result<()> {
    // Deploys this copy first: then xtask knows in which file an image differs.
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &[])?;
    let before = (test_cluster.pods("backend")?, revision(test_cluster)?);
    let source = "apps/backend/app/__init__.py";
    let text = std::fs::read_to_string(test_cluster.root.join(source))?;
    std::fs::write(test_cluster.root.join(source), format!("{text}\n# not deployed\n"))?;
    // Helm checks objects against the API server's schema unless chart and values were verified before.
    let skips = "--disable-openapi-validation";
    test_cluster.xtask(&["deploy", "dev", "--dry-run"])?.expect(0, &[skips])?;
    edit(test_cluster, "infra/helm/values-dev.yaml", "environment: dev", "environment: dev2")?;
    let dotenv = std::fs::read_to_string(test_cluster.root.join(".env"))?;
    // A unique value, which no earlier run can have left.
    test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}-{}\n", xtask::clock::now()))?;
    let expected = [
        "app/__init__.py changed",
        "AUTH_SECRET changed",
        "--- live ConfigMap/todo-config",
        "-  ENVIRONMENT: \"dev\"",
        "+  ENVIRONMENT: \"dev2\"",
        "+++ wanted Deployment/todo-backend",
    ];
    let ran = test_cluster.xtask(&["deploy", "dev", "--dry-run"])?.expect(0, &expected)?;
    ensure!(!ran.text.contains("not-a-secret"), "a secret is shown:\n{}", ran.text);
    ensure!(!ran.text.contains(skips), "changed values are not checked against the schema:\n{}", ran.text);
    // The change affects the frontend's pods by the ConfigMap's digest, but neither Ingress nor database.
    for unchanged in ["live Ingress/", "live StatefulSet/", "Service/todo-postgres"] {
        ensure!(!ran.text.contains(unchanged), "{unchanged} is shown:\n{}", ran.text);
    }
    let document = document(test_cluster, &["deploy", "dev", "--dry-run"], 0)?;
    ensure!(document["diff"]["secrets"][0]["keys"]["AUTH_SECRET"] == "changed", "{}", document["diff"]["secrets"]);
    ensure!(document["events"].as_array().is_some_and(|e| e.iter().any(|e| e["outcome"] == "planned")), "no plan");
    std::fs::write(test_cluster.root.join(source), text)?;
    test_cluster.write_dotenv(&dotenv)?;
    edit(test_cluster, "infra/helm/values-dev.yaml", "environment: dev2", "environment: dev")?;
    ensure!(before == (test_cluster.pods("backend")?, revision(test_cluster)?), "the dry run changed something");
    test_cluster.xtask(&["deploy", "dev", "--dry-run"])?.expect(0, &["nothing to do"])?;
    Ok(())
}

pub fn logs(test_cluster: &TestCluster) -> Result<()> {
    for _ in 0..20 {
        test_cluster.http("GET", "/api/v1/todos", None, None)?;
    }
    let ran = test_cluster.xtask(&["logs", "backend", "--since", "10m", "--tail", "50"])?.expect(0, &[])?;
    let pods: std::collections::BTreeSet<&str> = ran.stdout.lines().filter_map(|line| line.split(' ').next()).collect();
    let backends = pods.iter().filter(|pod| pod.starts_with("todo-backend-")).count();
    ensure!(backends == 2 && pods.len() == 2, "not exactly both replicas: {pods:?}");
    test_cluster.xtask(&["logs", "--since", "yesterday"])?.expect(2, &["90s, 10m"])?;

    let old = test_cluster.pod_names("backend")?;
    let mut child = start(test_cluster, &["logs", "-f", "--tail", "1"])?;
    let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
    lines.next().context("no line comes")??;
    test_cluster.tools()?.kubectl_here().args(["rollout", "restart", "deployment/todo-backend"]).run()?;
    // Waits for a line of a pod that started after `logs -f`.
    let mut new = None;
    while let (None, Some(line)) = (&new, lines.next().transpose()?) {
        let pod = line.split(' ').next().unwrap_or_default().to_owned();
        new = (pod.starts_with("todo-backend-") && !old.contains(&pod)).then_some(pod);
    }
    interrupt(&child)?;
    let mut stderr = String::new();
    child.stderr.take().context("stderr is piped")?.read_to_string(&mut stderr)?;
    let status = child.wait()?;
    ensure!(new.is_some() && status.code() == Some(130) && stderr.is_empty(), "{new:?}, Ctrl-C: {status} {stderr}");
    test_cluster.until_ready()?;

    // A closed pipe is no error.
    let mut child = start(test_cluster, &["logs", "-f", "postgres"])?;
    drop(child.stdout.take());
    let output = child.wait_with_output()?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success() && stderr.is_empty(), "after the pipe closed: {} {stderr}", output.status);
    Ok(())
}

pub fn rollback(test_cluster: &TestCluster) -> Result<()> {
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &[])?;
    let (first, dotenv) = (revision(test_cluster)?.0, std::fs::read_to_string(test_cluster.root.join(".env"))?);
    edit(test_cluster, "infra/helm/values-dev.yaml", "environment: dev", "environment: later")?;
    test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}-later\n"))?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
    let environment = || -> Result<String> {
        let (_, body) = test_cluster.http("GET", "/api/v1/health", None, None)?;
        Ok(serde_json::from_str::<Value>(&body)?["environment"].as_str().unwrap_or_default().to_owned())
    };
    ensure!(environment()? == "later", "environment: {}", environment()?);

    test_cluster
        .xtask(&["rollback", "999"])?
        .expect(3, &["Helm keeps no revision 999", &format!("{first} (superseded, verified)")])?;
    test_cluster.xtask(&["rollback", "--dry-run"])?.expect(0, &[&format!("helm rollback todo to revision {first}")])?;
    let undone = format!("revision {first} serves at");
    test_cluster.xtask(&["rollback"])?.expect(0, &[&undone])?;
    ensure!(environment()? == "dev", "environment after the rollback: {}", environment()?);
    // The verified revision runs, and the next deploy releases the checkout.
    test_cluster
        .xtask(&["status", "--verify"])?
        .expect(0, &["values-dev.yaml changed", "Secret of backend changed"])?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["values-dev.yaml changed"])?;
    ensure!(environment()? == "later", "environment after the deploy: {}", environment()?);
    // After a rollback by number with a restored checkout, the next deploy has nothing to do.
    test_cluster.xtask(&["rollback", &first.to_string()])?.expect(0, &[&undone])?;
    edit(test_cluster, "infra/helm/values-dev.yaml", "environment: later", "environment: dev")?;
    test_cluster.write_dotenv(&dotenv)?;
    // The deploy may prune an unused Secret, but must release nothing.
    super::causes::nothing_to_do(test_cluster)
}

pub fn bundle(test_cluster: &TestCluster) -> Result<()> {
    let ran = test_cluster.xtask(&["doctor", "--bundle"])?;
    // Exit code 4 reports a problem of this machine.
    ensure!(ran.code == 0 || ran.code == 4, "exit code {}: {}", ran.code, ran.text);
    let path = ran.stdout.lines().last().unwrap_or_default().to_owned();
    let file = std::fs::File::open(&path).with_context(|| format!("the last line is no path: {path}"))?;
    let password = test_cluster.tools()?.kubectl_here().args(["get", "secret", "todo-postgres"]);
    let encoded = password.args(["-o", "jsonpath={.data.POSTGRES_PASSWORD}"]).read()?;
    let decoded = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded.trim())?;
    let password = String::from_utf8(decoded)?;
    let mut names = Vec::new();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text)?;
        for secret in [AUTH, &password, &encoded] {
            ensure!(!text.contains(secret), "a secret is in {name}");
        }
        names.push(name);
    }
    let there = |end: &str| names.iter().any(|name| name.ends_with(end));
    for end in ["doctor.txt", "config.txt", "status.json", "cluster/events.txt", "run/events.jsonl", "versions.txt"] {
        ensure!(there(end), "{end} is not in {names:?}");
    }
    ensure!(names.iter().any(|name| name.contains("cluster/logs/todo-backend-")), "no logs: {names:?}");
    ensure!(!there("/.env"), ".env is in it");
    Ok(())
}

pub fn json(test_cluster: &TestCluster) -> Result<()> {
    let images = document(test_cluster, &["images"], 0)?;
    ensure!(images["images"].as_array().is_some_and(|images| images.len() == 2), "{images}");
    let ran = test_cluster.xtask(&["deploy", "dev", "--timings"])?.expect(0, &["timings.html"])?;
    let page = std::fs::read_to_string(test_cluster.root.join("target/xtask/timings.html"))?;
    ensure!(page.contains("helm upgrade todo") && page.contains("skipped"), "{}\n{page}", ran.text);
    ensure!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"), "not self-contained");

    let deploy = document(test_cluster, &["deploy", "dev"], 0)?;
    let events = deploy["events"].as_array().context("no events")?;
    let skipped = |what: &str| {
        let found = events.iter().find(|event| event["what"].as_str().is_some_and(|w| w.starts_with(what)));
        found.is_some_and(|event| event["outcome"] == "skipped" && event["why"] != "")
    };
    ensure!(skipped("build todo-backend") && skipped("load todo-") && skipped("helm upgrade"), "{deploy}");
    ensure!(deploy["routes"].as_array().is_some_and(|routes| routes.len() >= 2), "{deploy}");

    let failed = document(test_cluster, &["deploy", "dve"], 3)?;
    let help = test_cluster.hint("deploy dev");
    ensure!(failed["error"]["class"] == "config" && failed["error"]["help"][0] == help, "{failed}");
    Ok(())
}

pub fn bench(test_cluster: &TestCluster) -> Result<()> {
    let args = ["bench", "--todos", "200", "--rate", "10", "--seconds", "1", "--no-saturation"];
    let bench = document(test_cluster, &args, 0)?;
    let steady = bench["steady"].as_array().context("nothing was measured")?;
    let done: Vec<_> = steady.iter().filter_map(|kind| kind["done"].as_u64()).collect();
    // The last number counts sign-ins, which are limited to 5 a second.
    ensure!(done == [10, 10, 10, 5], "{bench}");
    for kind in steady {
        ensure!(kind["failed"] == 0 && kind["p99_ms"].as_f64() > Some(0.0), "{kind}");
    }
    test_cluster.xtask(&args)?.expect(0, &["p99", "GET /api/v1/todos?limit=50", "2 pods"])?;
    Ok(())
}
