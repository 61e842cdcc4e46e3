//! Changes, by hand and in the sources: noticed and put right, and nothing else restarts.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::bed::{AUTH, Bed};
use super::interrupts::{Deploy, change};
use super::lifecycle::references;
use super::refusals::foreign_is_current;
use xtask::stages::images::node::canonical;

pub fn source(bed: &Bed) -> Result<()> {
    foreign_is_current(bed)?;
    let path = bed.root.join("apps/backend/app/__init__.py");
    let mut text = std::fs::read_to_string(&path)?;
    // Another line each time: the engine still has what an earlier run built of the same content.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
    text.push_str(&format!("\n# a change of one line at {now}\n"));
    std::fs::write(&path, text)?;
    // A umask of 077 leaves it like this; the image's user must be able to read it all the same.
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let frontend = bed.pods("frontend")?;
    let backend = bed.pods("backend")?;
    let ran = bed.xtask(&["deploy", "dev"])?.expect(0, &["app/__init__.py", "is up"])?;
    ensure!(!ran.text.contains("build todo-frontend"), "the frontend was built:\n{}", ran.text);
    ensure!(bed.pods("frontend")? == frontend, "the frontend was restarted");
    ensure!(bed.pods("backend")?.iter().all(|pod| !backend.contains(pod)), "the backend was not replaced");
    bed.project.report.note(format!("one line changed: {:.1} s", ran.took.as_secs_f64()));
    Ok(())
}

/// `deploy --watch`: what is saved is deployed, a mistake is told and its correction tried.
pub fn watched(bed: &Bed) -> Result<()> {
    let deploy = Deploy::start_with(bed, &["--watch"])?;
    let rests = |times: usize| {
        let at_rest = || Ok(deploy.said()?.matches("watching for changes").count() >= times);
        bed.until("deploys and watches on", Duration::from_secs(120), at_rest)
    };
    rests(1)?;
    let (frontend, backend) = (bed.pods("frontend")?, bed.pods("backend")?);
    // Neither an editor's file nor a test is a reason for a deploy: the next one names what else has changed.
    let ignored = ["apps/backend/app/.main.py.swp", "infra/helm/.values.yaml.swp", "apps/backend/tests/test_new.py"];
    ignored.iter().try_for_each(|path| std::fs::write(bed.root.join(path), "not read"))?;
    std::thread::sleep(Duration::from_secs(2));
    change(bed)?;
    rests(2)?;
    ignored.iter().try_for_each(|path| std::fs::remove_file(bed.root.join(path)))?;
    ensure!(bed.pods("frontend")? == frontend, "the frontend was restarted");
    ensure!(bed.pods("backend")?.iter().all(|pod| !backend.contains(pod)), "the backend was not replaced");
    let dotenv = std::fs::read_to_string(bed.root.join(".env"))?;
    bed.write_dotenv("AUTH_SECRET=$HOME\n")?;
    rests(3)?;
    bed.write_dotenv(&dotenv)?;
    rests(4)?;
    let said = deploy.said()?;
    ensure!(said.matches("watching for changes").count() == 4, "a file that does not count started a deploy:\n{said}");
    // Texts of this run alone: the engine may still have what an earlier run built.
    let [one, two] = ["one", "two"].map(|name| format!("// {name} of run {}\n", std::process::id()));
    // A newer save ends the build that it has made stale: that one is not released.
    let header = bed.root.join("apps/frontend/components/header.tsx");
    let original = std::fs::read_to_string(&header)?;
    let save = |comment: &str| std::fs::write(&header, format!("{original}{comment}")).context("saving");
    let count = |text: &str| Ok::<_, anyhow::Error>(deploy.said()?.matches(text).count());
    let stop = |saved: &str, newer: &str, times: usize| {
        let begun = count("> build todo-frontend")?;
        save(saved)?;
        bed.until("builds", Duration::from_secs(30), || Ok(count("> build todo-frontend")? > begun))?;
        save(newer)?;
        bed.until("stops", Duration::from_secs(30), || Ok(count("stopped this deploy")? >= times))
    };
    stop(&one, "", 1)?;
    rests(5)?;
    ensure!(bed.pods("frontend")? == frontend, "what was saved over has been released");
    // What was stopped is deployed if it is what there is in the end.
    let up = count("is up")?;
    let is_up = |times: usize| bed.until("is up", Duration::from_secs(60), || Ok(count("is up")? >= up + times));
    stop(&one, &two, 2)?;
    save(&one)?;
    is_up(1)?;
    ensure!(bed.pods("frontend")? != frontend, "what was saved last is not released");
    save("")?;
    is_up(2)?;
    deploy.signal(Signal::INT)?;
    let (code, said) = deploy.end()?;
    ensure!(code == Some(130), "exit code {code:?}:\n{said}");
    for text in [".env changed (+1 more)", "✓ build todo-backend", "is up", "error:", "nothing changed"] {
        ensure!(said.contains(text), "`{text}` is not told:\n{said}");
    }
    ensure!(said.matches("error:").count() == 1, "more than one error:\n{said}");
    Ok(())
}

pub fn scale(bed: &Bed) -> Result<()> {
    bed.tools()?.kubectl_here().args(["scale", "deployment/todo-frontend", "--replicas=1"]).run()?;
    bed.xtask(&["deploy", "dev"])?
        .expect(0, &["Deployment/todo-frontend was changed by hand", "todo-frontend    2/2"])?;
    Ok(())
}

pub fn config_map(bed: &Bed) -> Result<()> {
    let kubectl = || Ok::<_, anyhow::Error>(bed.tools()?.kubectl_here());
    let data = || kubectl()?.args(["get", "configmap", "todo-config", "-o", "jsonpath={.data}"]).read();
    let before = data()?;
    let patch = r#"{"data":{"ENVIRONMENT":"edited","EXTRA":"1"}}"#;
    kubectl()?.args(["patch", "configmap", "todo-config", "--type=merge", "-p", patch]).run()?;
    kubectl()?.args(["set", "env", "deployment/todo-frontend", "EXTRA=1"]).run()?;
    let told = ["ConfigMap/todo-config was changed by hand", "Deployment/todo-frontend was changed by hand"];
    bed.xtask(&["deploy", "dev"])?.expect(0, &told)?;
    ensure!(data()? == before, "the ConfigMap holds {}", data()?);
    let template = "jsonpath={.spec.template.spec.containers}";
    let frontend = kubectl()?.args(["get", "deployment", "todo-frontend", "-o", template]).read()?;
    ensure!(!frontend.contains("EXTRA"), "what was added by hand is still there: {frontend}");
    Ok(())
}

pub fn secret(bed: &Bed) -> Result<()> {
    bed.write_dotenv(&format!("AUTH_SECRET={AUTH}-changed\n"))?;
    let (backend, frontend) = (bed.pods("backend")?, bed.pods("frontend")?);
    let ran = bed.xtask(&["deploy", "dev"])?.expect(0, &["Secret of backend changed", "is up"])?;
    ensure!(!ran.text.contains(AUTH), "a secret is shown");
    ensure!(bed.pods("frontend")? == frontend, "the frontend was restarted");
    ensure!(bed.pods("backend")?.iter().all(|pod| !backend.contains(pod)), "the backend was not replaced");
    Ok(())
}

pub fn image(bed: &Bed) -> Result<()> {
    let tools = bed.tools()?;
    let node = tools.nodes()?.remove(0);
    let reference = references(bed)?.into_iter().find(|r| r.starts_with("todo-backend")).unwrap_or_default();
    node.ctr(["images", "rm", &canonical(&reference)]).run()?;
    bed.until("the node notices", std::time::Duration::from_secs(20), || {
        Ok(!node.images()?.contains_key(&canonical(&reference)))
    })?;
    bed.xtask(&["deploy", "dev"])?.expect(0, &["load todo-backend", "is up"])?;
    Ok(())
}
