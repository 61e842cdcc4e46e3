//! Secrets appear only where they belong, a changed one restarts its consumer alone, and a rollback uses the matching
//! Secret.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use regex::Regex;
use serde_json::Value;

use super::database::Database;
use super::lifecycle::references;
use super::marker::{MARKER, Needles};
use super::sampler::Sampler;
use super::test_cluster::{AUTH, TestCluster};
use xtask::api::{Scope, kinds};
use xtask::secrets::MASK;

/// Values with a backend that prints its secrets and exits with 3.
const PRINTS_AND_FAILS: &str = "\nbackend:\n  command: [python3, -c, \"print(open('/etc/todo/secrets/AUTH_SECRET').read(), \
                        open('/etc/todo/secrets/DATABASE_URL').read(), flush=True); raise SystemExit(3)\"]\n";

/// Values with a backend that prints its API key and serves, so that logs of healthy pods contain it.
const PRINTS_AND_SERVES: &str =
    "\nbackend:\n  command: [sh, -c, \"cat /etc/todo/secrets/OPENAI_API_KEY; exec python3 -m app\"]\n";

fn dotenv(database: &Database, openai: &str) -> String {
    let (auth, key) = (format!("not-a-secret-{MARKER}-auth-0123456789"), format!("not-a-secret-{MARKER}-{openai}"));
    format!("AUTH_SECRET={auth}\nOPENAI_API_KEY={key}\nDATABASE_URL='{}'\n", database.url())
}

pub fn nowhere(test_cluster: &TestCluster) -> Result<()> {
    let result = with_database(test_cluster);
    // The next scenarios use the embedded database.
    test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}\n"))?;
    let back = test_cluster.xtask(&["deploy", "dev"])?;
    result?;
    back.expect(0, &["is up"]).map(|_| ())
}

fn with_database(test_cluster: &TestCluster) -> Result<()> {
    let needles = Needles::new();
    let database = Database::start(test_cluster, &format!("not-a-secret-{MARKER}-password"))?;
    test_cluster.write_dotenv(&dotenv(&database, "openai-1"))?;
    let log_start = std::fs::metadata(&test_cluster.log).map(|log| log.len()).unwrap_or_default();

    let sampler = Sampler::start(needles.clone());
    let deploy = |args: &[&str], code: i32| -> Result<()> {
        let ran = test_cluster.xtask(&[&["deploy", "dev"], args].concat())?.expect(code, &[])?;
        needles.absent(&format!("the output of deploy {args:?}"), ran.text)
    };
    deploy(&["--dry-run"], 0)?;
    deploy(&["--dry-run", "--verbose"], 0)?;
    let values = test_cluster.root.join("infra/helm/values-dev.yaml");
    let good = std::fs::read_to_string(&values)?;
    std::fs::write(&values, format!("{good}{PRINTS_AND_SERVES}"))?;
    let printed = deploy(&["--verbose"], 0);
    // The failing pods print their secrets, which excerpt, evidence and rollback must redact. The evidence also has the
    // logs of the older pods, with a key that is no longer in .env.
    test_cluster.write_dotenv(&dotenv(&database, "openai-2"))?;
    std::fs::write(&values, format!("{good}{PRINTS_AND_FAILS}"))?;
    let failed = printed.and_then(|()| deploy(&["--verbose"], 7));
    std::fs::write(&values, &good)?;
    failed?;
    deploy(&[], 0)?;
    // `logs` does not redact. The API lists the pods, because the sampler searches for kubectl.
    test_cluster.until("the pods that print their key are gone", Duration::from_secs(60), || {
        let backend = "app.kubernetes.io/component=backend";
        Ok(test_cluster.tools()?.api()?.select(&kinds::POD, Scope::Namespace, backend)?.len() == 2)
    })?;
    for args in [
        ["deploy", "dev", "--json"].as_slice(),
        &["deploy", "dev", "--timings"],
        &["images", "--json"],
        &["status", "--json"],
        &["status", "--verify"],
        &["config"],
        &["doctor"],
        &["logs", "backend", "--tail", "100"],
        &[],
    ] {
        needles.absent(&format!("the output of {args:?}"), test_cluster.xtask(args)?.text)?;
    }
    let samples = sampler.finish()?;
    let kubectl = test_cluster.tools()?.kubectl();
    // Another suite may call kubectl for its own cluster.
    let started = |command: &&Vec<u8>| {
        let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
        let ours = test_cluster.kubeconfig.as_str().as_bytes();
        let is_elsewhere = |pair: &[&[u8]]| pair[0] == b"--kubeconfig" && pair[1] != ours;
        words[0] == kubectl.program().as_bytes() && !words.windows(2).any(is_elsewhere)
    };
    if let Some(command) = samples.commands.iter().find(started) {
        bail!("kubectl was started: {}", String::from_utf8_lossy(command).replace('\0', " "));
    }
    ensure!(samples.commands.len() > 50 && samples.environments > 200, "too few samples: {samples:?}");

    let log = std::fs::read(&test_cluster.log)?;
    needles.absent("the log of all runs", &log[usize::try_from(log_start)?.min(log.len())..])?;
    in_bundle(test_cluster, &needles)?;
    let files = in_files(test_cluster, &needles)?;
    in_cluster(test_cluster, &needles)?;
    let image_bytes = in_images(test_cluster, &needles)?;
    let scripts = in_browser(test_cluster, &needles)?;
    test_cluster.project.report.note(format!(
        "0 canaries in {} command lines, {} environments, {files} files of logs and evidence, {} of images, {scripts} scripts",
        samples.commands.len(),
        samples.environments,
        xtask::report::bytes(image_bytes)
    ));
    change_one_value(test_cluster, &database)
}

/// Searches logs, evidence and all other files of the deploys. Returns their number.
fn in_files(test_cluster: &TestCluster, needles: &Needles) -> Result<usize> {
    let mut count = 0;
    let below = |folder| move |entry: &walkdir::DirEntry| entry.path().iter().any(|part| part == folder);
    for entry in walkdir::WalkDir::new(test_cluster.root.join("target")) {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let private = metadata.permissions().mode() & 0o077 == 0;
        ensure!(private || !below("evidence")(&entry), "others can read {}", entry.path().display());
        if metadata.is_file() {
            needles.absent(&entry.path().display().to_string(), std::fs::read(entry.path())?)?;
            count += 1;
        }
    }
    let evidence = walkdir::WalkDir::new(test_cluster.root.join("target/xtask")).into_iter().flatten();
    let is_redacted = |entry: &walkdir::DirEntry| {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        entry.file_name() == "logs.txt" && text.contains("todo-backend-") && text.contains(MASK)
    };
    ensure!(evidence.into_iter().any(|entry| is_redacted(&entry)), "no log of the failed deploy contains {MASK}");
    Ok(count)
}

/// Searches the bundle of `doctor --bundle`, which users send to others.
fn in_bundle(test_cluster: &TestCluster, needles: &Needles) -> Result<()> {
    let ran = test_cluster.xtask(&["doctor", "--bundle"])?;
    let path = ran.stdout.lines().last().unwrap_or_default();
    let file = std::fs::File::open(path).with_context(|| format!("the last line is no path: {path}"))?;
    needles.absent_in_image("the bundle", GzDecoder::new(file)).map(drop)
}

/// Searches specifications, descriptions, events, and the unpacked records of Helm.
fn in_cluster(test_cluster: &TestCluster, needles: &Needles) -> Result<()> {
    let tools = test_cluster.tools()?;
    let kinds = "pods,replicasets,deployments,statefulsets,jobs,configmaps,services,ingresses,events,endpointslices";
    needles.absent("the cluster's objects", tools.kubectl_here().args(["get", kinds, "-o", "yaml"]).read()?)?;
    needles.absent("kubectl describe", tools.kubectl_here().args(["describe", "pods,deployments,secrets"]).read()?)?;
    needles.absent("helm get all", tools.helm().args(["get", "all", "todo"]).read()?)?;
    let secrets = tools.kubectl_here().args(["get", "secrets", "-l", "owner=helm", "-o", "json"]).read()?;
    let list: Value = serde_json::from_str(&secrets)?;
    let releases = list["items"].as_array().context("Helm's releases")?;
    ensure!(releases.len() > 1, "Helm keeps {} releases", releases.len());
    for release in releases {
        // gzip, then Helm's base64, then Kubernetes' base64.
        let inner = STANDARD.decode(release["data"]["release"].as_str().unwrap_or_default())?;
        let mut text = String::new();
        GzDecoder::new(STANDARD.decode(inner)?.as_slice()).read_to_string(&mut text)?;
        ensure!(text.contains("\"chart\""), "a Secret of Helm without a release");
        needles.absent("a release of Helm", text)?;
    }
    Ok(())
}

/// Searches layers, configuration and history of both images. Returns the number of bytes.
fn in_images(test_cluster: &TestCluster, needles: &Needles) -> Result<u64> {
    let tools = test_cluster.tools()?;
    let mut sum = 0;
    for reference in references(test_cluster)? {
        let history = tools.engine.docker().args(["history", "--no-trunc", &reference]).read()?;
        needles.absent(&format!("the history of {reference}"), history)?;
        let save = tools.engine.docker().args(["save", &reference]).pipe_from(None)?;
        sum += needles.absent_in_image(&reference, save.reader())?;
        save.finish()?;
    }
    Ok(sum)
}

/// Searches the page and all its scripts and styles. Returns the number of files.
fn in_browser(test_cluster: &TestCluster, needles: &Needles) -> Result<usize> {
    let (status, page) = test_cluster.http("GET", "/", None, None)?;
    ensure!(status == 200, "the page: {status}");
    needles.absent("the page", &page)?;
    let names = Regex::new(r#"/_next/static/[^"'\\ ]+\.(js|css)"#)?;
    let files: std::collections::BTreeSet<&str> = names.find_iter(&page).map(|found| found.as_str()).collect();
    ensure!(files.iter().any(|file| file.ends_with(".js")), "the page names no script");
    for file in &files {
        let (status, text) = test_cluster.http("GET", file, None, None)?;
        ensure!(status == 200, "{file}: {status}");
        needles.absent(file, text)?;
    }
    Ok(files.len())
}

/// Changes one value: xtask names its key, only its consumer restarts, no request fails, and a rollback works.
fn change_one_value(test_cluster: &TestCluster, database: &Database) -> Result<()> {
    let secret = || -> Result<String> {
        let path = "jsonpath={.spec.template.spec.volumes[?(@.name==\"secrets\")].projected.sources[0].secret.name}";
        test_cluster.tools()?.kubectl_here().args(["get", "deployment", "todo-backend", "-o", path]).read()
    };
    let (first, frontend, backend) = (secret()?, test_cluster.pods("frontend")?, test_cluster.pods("backend")?);
    test_cluster.write_dotenv(&dotenv(database, "openai-3"))?;
    let dry = test_cluster
        .xtask(&["deploy", "dev", "--dry-run"])?
        .expect(0, &["Secret of backend changed (OPENAI_API_KEY)"])?;
    Needles::new().absent("the dry run", dry.text)?;

    let changes = || -> Result<()> {
        test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["Secret of backend changed (OPENAI_API_KEY)", "is up"])?;
        let second = secret()?;
        ensure!(first != second, "the Secret is still {first}");
        ensure!(test_cluster.pods("frontend")? == frontend, "the frontend was restarted");
        ensure!(test_cluster.pods("backend")?.iter().all(|pod| !backend.contains(pod)), "the backend was not replaced");

        // Helm does not manage the Secrets. The previous revision names its own Secret, which must still exist.
        test_cluster.tools()?.helm().args(["rollback", "todo", "--server-side=true", "--force-conflicts"]).run()?;
        test_cluster.until_ready()?;
        ensure!(secret()? == first, "after the rollback the backend has {} instead of {first}", secret()?);
        test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
        ensure!(secret()? == second, "the deploy after the rollback brings {second} back");
        Ok(())
    };
    let (changed, answers) = test_cluster.load.during(test_cluster, changes)?;
    changed?;
    test_cluster.project.report.note(format!("{answers} requests through three changes of the Secret, none failed"));
    Ok(())
}
