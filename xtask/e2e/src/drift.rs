//! Drift and changed sources: a deploy repairs drift and releases changes, and nothing else restarts.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::interrupts::{Deploy, change};
use super::lifecycle::references;
use super::refusals::foreign_is_current;
use super::test_cluster::{AUTH, TestCluster};
use xtask::node::canonical;

pub fn source(test_cluster: &TestCluster) -> Result<()> {
    foreign_is_current(test_cluster)?;
    let path = test_cluster.root.join("apps/backend/app/__init__.py");
    let mut text = std::fs::read_to_string(&path)?;
    // A new line each time: the engine still has the image that an earlier run built from the same content.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
    text.push_str(&format!("\n# a change of one line at {now}\n"));
    std::fs::write(&path, text)?;
    // A umask of 077 creates such files. The image's user must still be able to read them.
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let frontend = test_cluster.pods("frontend")?;
    let backend = test_cluster.pods("backend")?;
    let ran = test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["app/__init__.py", "is up"])?;
    ensure!(!ran.text.contains("build todo-frontend"), "the frontend was built:\n{}", ran.text);
    ensure!(test_cluster.pods("frontend")? == frontend, "the frontend was restarted");
    ensure!(test_cluster.pods("backend")?.iter().all(|pod| !backend.contains(pod)), "the backend was not replaced");
    test_cluster.project.report.note(format!("one line changed: {:.1} s", ran.took.as_secs_f64()));
    Ok(())
}

/// `deploy --watch` deploys saved files, reports a mistake and tries its correction.
pub fn watched(test_cluster: &TestCluster) -> Result<()> {
    let deploy = Deploy::start_with(test_cluster, &["--watch"])?;
    let wait_for_rest = |times: usize| {
        let at_rest = || Ok(deploy.output()?.matches("watching for changes").count() >= times);
        test_cluster.until("deploys and goes on watching", Duration::from_secs(120), at_rest)
    };
    wait_for_rest(1)?;
    let (frontend, backend) = (test_cluster.pods("frontend")?, test_cluster.pods("backend")?);
    // Editor files and tests trigger no deploy; the next deploy names the other changes.
    let ignored = ["apps/backend/app/.main.py.swp", "infra/helm/.values.yaml.swp", "apps/backend/tests/test_new.py"];
    ignored.iter().try_for_each(|path| std::fs::write(test_cluster.root.join(path), "not read"))?;
    std::thread::sleep(Duration::from_secs(2));
    change(test_cluster)?;
    wait_for_rest(2)?;
    ignored.iter().try_for_each(|path| std::fs::remove_file(test_cluster.root.join(path)))?;
    ensure!(test_cluster.pods("frontend")? == frontend, "the frontend was restarted");
    ensure!(test_cluster.pods("backend")?.iter().all(|pod| !backend.contains(pod)), "the backend was not replaced");
    let dotenv = std::fs::read_to_string(test_cluster.root.join(".env"))?;
    test_cluster.write_dotenv("AUTH_SECRET=$HOME\n")?;
    wait_for_rest(3)?;
    test_cluster.write_dotenv(&dotenv)?;
    wait_for_rest(4)?;
    let output = deploy.output()?;
    ensure!(output.matches("watching for changes").count() == 4, "an ignored file started a deploy:\n{output}");
    // Texts are unique to this run: the engine may still have the images of an earlier run.
    let [one, two] = ["one", "two"].map(|name| format!("// {name} of run {}\n", std::process::id()));
    // A newer save stops the outdated build, which is not released.
    let header = test_cluster.root.join("apps/frontend/components/header.tsx");
    let original = std::fs::read_to_string(&header)?;
    let save = |comment: &str| std::fs::write(&header, format!("{original}{comment}")).context("saving");
    let count = |text: &str| Ok::<_, anyhow::Error>(deploy.output()?.matches(text).count());
    let stop = |saved: &str, newer: &str, times: usize| {
        let begun = count("> build todo-frontend")?;
        save(saved)?;
        test_cluster.until("builds", Duration::from_secs(30), || Ok(count("> build todo-frontend")? > begun))?;
        save(newer)?;
        test_cluster.until("stops", Duration::from_secs(30), || Ok(count("stopped this deploy")? >= times))
    };
    stop(&one, "", 1)?;
    wait_for_rest(5)?;
    ensure!(test_cluster.pods("frontend")? == frontend, "an overwritten save was released");
    // A stopped version is deployed if it is saved again last.
    let up = count("is up")?;
    let is_up =
        |times: usize| test_cluster.until("is up", Duration::from_secs(60), || Ok(count("is up")? >= up + times));
    stop(&one, &two, 2)?;
    save(&one)?;
    is_up(1)?;
    ensure!(test_cluster.pods("frontend")? != frontend, "the last save is not released");
    save("")?;
    is_up(2)?;
    deploy.signal(Signal::INT)?;
    let (code, output) = deploy.end()?;
    ensure!(code == Some(130), "exit code {code:?}:\n{output}");
    for text in [".env changed (+1 more)", "✓ build todo-backend", "is up", "error:", "nothing changed"] {
        ensure!(output.contains(text), "`{text}` is not printed:\n{output}");
    }
    ensure!(output.matches("error:").count() == 1, "more than one error:\n{output}");
    Ok(())
}

pub fn scale(test_cluster: &TestCluster) -> Result<()> {
    test_cluster.tools()?.kubectl_here().args(["scale", "deployment/todo-frontend", "--replicas=1"]).run()?;
    test_cluster
        .xtask(&["deploy", "dev"])?
        .expect(0, &["Deployment/todo-frontend was changed by hand", "todo-frontend    2/2"])?;
    Ok(())
}

pub fn config_map(test_cluster: &TestCluster) -> Result<()> {
    let kubectl = || Ok::<_, anyhow::Error>(test_cluster.tools()?.kubectl_here());
    let data = || kubectl()?.args(["get", "configmap", "todo-config", "-o", "jsonpath={.data}"]).read();
    let before = data()?;
    let patch = r#"{"data":{"ENVIRONMENT":"edited","EXTRA":"1"}}"#;
    kubectl()?.args(["patch", "configmap", "todo-config", "--type=merge", "-p", patch]).run()?;
    kubectl()?.args(["set", "env", "deployment/todo-frontend", "EXTRA=1"]).run()?;
    let expected = ["ConfigMap/todo-config was changed by hand", "Deployment/todo-frontend was changed by hand"];
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &expected)?;
    ensure!(data()? == before, "the ConfigMap holds {}", data()?);
    let template = "jsonpath={.spec.template.spec.containers}";
    let frontend = kubectl()?.args(["get", "deployment", "todo-frontend", "-o", template]).read()?;
    ensure!(!frontend.contains("EXTRA"), "the variable added by hand is still there: {frontend}");
    Ok(())
}

pub fn secret(test_cluster: &TestCluster) -> Result<()> {
    test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}-changed\n"))?;
    let (backend, frontend) = (test_cluster.pods("backend")?, test_cluster.pods("frontend")?);
    let ran = test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["Secret of backend changed", "is up"])?;
    ensure!(!ran.text.contains(AUTH), "a secret is shown");
    ensure!(test_cluster.pods("frontend")? == frontend, "the frontend was restarted");
    ensure!(test_cluster.pods("backend")?.iter().all(|pod| !backend.contains(pod)), "the backend was not replaced");
    Ok(())
}

pub fn image(test_cluster: &TestCluster) -> Result<()> {
    let tools = test_cluster.tools()?;
    let node = tools.nodes()?.remove(0);
    let reference = references(test_cluster)?.into_iter().find(|r| r.starts_with("todo-backend")).unwrap_or_default();
    node.ctr(["images", "rm", &canonical(&reference)]).run()?;
    test_cluster.until("the node notices", std::time::Duration::from_secs(20), || {
        Ok(!node.images()?.contains_key(&canonical(&reference)))
    })?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["load todo-backend", "is up"])?;
    Ok(())
}
