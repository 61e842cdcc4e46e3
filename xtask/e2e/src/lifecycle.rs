//! The life of a deployment: create, inspect, stop, start and remove.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::application::{lasting_is_there, store_lasting};
use super::guard::run_with_variables_for_other_work;
use super::test_cluster::{AUTH, TestCluster};
use xtask::stages::images;

pub fn first(test_cluster: &TestCluster) -> Result<()> {
    test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}\n"))?;
    let ran = test_cluster.xtask(&["deploy", "dev"])?;
    ran.expect(
        0,
        &["is up", "todo-backend     2/2 ready", "todo-frontend    2/2 ready", "built = node = pods", "sha256:"],
    )?;
    let (status, body) = test_cluster.http("GET", "/api/v1/health", None, None)?;
    ensure!(status == 200 && body.contains("\"environment\":\"dev\""), "health: {status} {body}");
    ensure!(test_cluster.http("GET", "/", None, None)?.0 == 200);
    Ok(())
}

pub fn noop(test_cluster: &TestCluster) -> Result<()> {
    let before = (test_cluster.pods("backend")?, test_cluster.pods("frontend")?);
    ensure!(before.0.len() == 2 && before.1.len() == 2, "two pods of each: {before:?}");
    let ran = test_cluster
        .xtask(&["deploy", "dev"])?
        .expect(0, &["nothing changed: nothing was built, loaded or restarted"])?;
    ensure!(before == (test_cluster.pods("backend")?, test_cluster.pods("frontend")?), "pods were restarted");
    test_cluster.project.report.note(format!("no-op deploy: {:.2} s", ran.took.as_secs_f64()));
    Ok(())
}

pub fn dry_run(test_cluster: &TestCluster) -> Result<()> {
    let ran = test_cluster.xtask(&["deploy", "dev", "--dry-run"])?.expect(0, &["nothing to do"])?;
    ensure!(!ran.text.contains(AUTH), "a secret is shown");
    Ok(())
}

pub fn looks(test_cluster: &TestCluster) -> Result<()> {
    test_cluster.xtask(&["status", "--verify"])?.expect(0, &["verified", "2/2 ready"])?;
    test_cluster.xtask(&["logs", "backend", "--tail", "5"])?.expect(0, &["todo-backend-"])?;
    let config = test_cluster.xtask(&["config"])?.expect(0, &["AUTH_SECRET"])?;
    ensure!(!config.text.contains(AUTH), "config shows a secret");
    test_cluster.xtask(&["doctor"])?.expect(0, &["docker engine", "kubectl", "helm", "minikube"])?;
    test_cluster.xtask(&[])?.expect(0, &[&test_cluster.hint("status")])?;
    test_cluster.xtask(&["tool", "kubectl", "--", "get", "pods", "-o", "name"]).map(|_| ())
}

pub fn stopped(test_cluster: &TestCluster) -> Result<()> {
    store_lasting(test_cluster)?;
    test_cluster.tools()?.minikube().arg("stop").run()?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["the profile is stopped", "is up"])?;
    lasting_is_there(test_cluster)
}

pub fn stop_and_start(test_cluster: &TestCluster) -> Result<()> {
    let run = |command: &str, code: i32, expected: &[&str]| {
        run_with_variables_for_other_work(test_cluster, &[command])?.expect(code, expected).map(drop)
    };
    let size = || -> Result<Vec<Value>> {
        let record = test_cluster.tools()?.record()?.unwrap_or_default();
        let fields = ["/Driver", "/CPUs", "/Memory", "/KubernetesConfig/KubernetesVersion"];
        Ok(fields.iter().filter_map(|field| record.pointer(field).cloned()).collect())
    };
    store_lasting(test_cluster)?;
    let recorded = size()?;
    run("stop", 0, &["of memory are free again", &test_cluster.hint("start")])?;
    let node = test_cluster.tools()?.engine.inspect_one("container", &test_cluster.profile)?.unwrap_or_default();
    ensure!(node["State"]["Status"] == "exited", "the node is {}", node["State"]["Status"]);
    run("stop", 0, &["is stopped already"])?;
    run("status", 5, &["is stopped; its data is kept", &test_cluster.hint("start")])?;
    run("start", 0, &["runs again; the application answers at http://localhost:"])?;
    lasting_is_there(test_cluster)?;
    let before = (test_cluster.pods("backend")?, test_cluster.pods("frontend")?);
    run("start", 0, &["runs already; the application answers at http://localhost:"])?;
    ensure!(before == (test_cluster.pods("backend")?, test_cluster.pods("frontend")?), "pods were restarted");
    ensure!(recorded.len() == 4 && recorded == size()?, "the profile has changed: {recorded:?} {:?}", size()?);
    Ok(())
}

pub fn teardown(test_cluster: &TestCluster) -> Result<()> {
    store_lasting(test_cluster)?;
    test_cluster.xtask(&["teardown"])?.expect(0, &["stays: the todos"])?;
    test_cluster.xtask(&["teardown"])?.expect(0, &[])?;
    let left = test_cluster
        .tools()?
        .kubectl_here()
        .args(["get", "deployments,services,ingresses,pods", "-o", "name"])
        .read()?;
    ensure!(left.trim().is_empty(), "left behind: {left}");
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
    lasting_is_there(test_cluster)?;
    run_with_variables_for_other_work(test_cluster, &["teardown", "--data"])?
        .expect(0, &["ingress controller removed"])?;
    let namespaces = test_cluster.tools()?.kubectl().args(["get", "namespaces", "-o", "name"]).read()?;
    let left =
        ["namespace/todo", "namespace/ingress-traefik"].into_iter().find(|ours| namespaces.lines().any(|n| n == *ours));
    ensure!(left.is_none(), "{left:?} is left");
    let volumes = test_cluster.tools()?.kubectl().args(["get", "persistentvolumes", "-o", "name"]).read()?;
    ensure!(volumes.trim().is_empty(), "left behind: {volumes}");
    Ok(())
}

pub fn teardown_cluster(test_cluster: &TestCluster) -> Result<()> {
    test_cluster.xtask(&["teardown", "--cluster"])?.expect(0, &[])?;
    test_cluster.xtask(&["teardown", "--cluster"])?.expect(0, &["no minikube profile"])?;
    let left = leftovers(test_cluster)?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

/// Returns the remains of the test cluster: containers, volumes and networks of the engine, kubeconfig entries, and
/// minikube's records.
pub fn leftovers(test_cluster: &TestCluster) -> Result<Vec<String>> {
    let tools = test_cluster.tools()?;
    let mut left = Vec::new();
    let lists = [
        ["ps", "--all", "--format", "{{.Names}}"],
        ["volume", "ls", "--format", "{{.Name}}"],
        ["network", "ls", "--format", "{{.Name}}"],
    ];
    for list in lists {
        let names = tools.engine.docker().args(list).read()?;
        left.extend(
            names.lines().filter(|name| *name == test_cluster.profile).map(|name| format!("{} {name}", list[0])),
        );
    }
    for file in xtask::toolbox::kubeconfigs().iter().chain([&test_cluster.kubeconfig]) {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let name = format!("name: {}", test_cluster.profile);
        left.extend(text.lines().filter(|line| line.trim_start_matches(['-', ' ']) == name).map(|_| file.to_string()));
    }
    let minikube = tools.minikube_dir();
    let folders = ["profiles", "machines"].map(|records| minikube.join(records).join(&test_cluster.profile));
    left.extend(folders.into_iter().filter(|folder| folder.exists()).map(String::from));
    Ok(left)
}

/// Returns the references of the images that the copy's sources produce.
pub fn references(test_cluster: &TestCluster) -> Result<Vec<String>> {
    let mut project = test_cluster.project.clone();
    project.root.clone_from(&test_cluster.root);
    let toolchain = project.present_tools()?;
    let states = toolchain.image_builder(&project.settings.images).observe()?;
    Ok(states.iter().map(images::build::ImageState::reference).collect())
}
