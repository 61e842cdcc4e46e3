//! `doctor --bundle`: collects what a remote helper needs in one archive without secrets.

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::archive::Archive;
use crate::api::{LogOptions, Scope, kinds};
use crate::clock;
use crate::commands::{config, status};
use crate::dotenv::DotenvSource;
use crate::failure;
use crate::git::git;
use crate::inventory;
use crate::labels::{Release, label};
use crate::process::Process;
use crate::project::Project;
use crate::secrets::Redactor;
use crate::settings::Settings;
use crate::snapshot::{Snapshot, text};
use crate::stages::{cluster, release};
use crate::toolbox::Toolbox;

/// Maximum number of lines of each log.
const LINES: u32 = 2000;

const README: &str = "\
Collected by `cargo xtask doctor --bundle`. Each value of .env and of the release's Secrets is replaced with ***, and so
is each text that looks like a token or a password in a URL. The file .env itself is not included.

doctor.txt config.txt xtask.toml pins.toml versions.txt   the machine, the settings, versions of programs
status.txt status.json                          what `cargo xtask status` shows
cluster/                                        events, descriptions, manifests, Helm's history, logs of all pods
run/                                            the last deploy: its events, logs of each command, evidence
";

/// Writes the archive below `target/xtask` and returns its path. `table` is the output of `doctor`.
pub fn write(project: &Project, table: &str) -> Result<Utf8PathBuf> {
    let running = project.report.step("doctor", "collect a bundle", "asked for");
    let toolchain = project.present_tools();
    // Queries the cluster only after `cluster::observe` has checked that it is this project's: the redactor needs its Secrets.
    let tools = toolchain.as_ref().ok().map(|toolchain| &toolchain.tools);
    let observed = tools.map(cluster::observe);
    let runs = matches!(&observed, Some(Ok(observed)) if observed.state == cluster::ProfileState::Running);
    let our_tools = tools.filter(|_| runs);
    let name = format!("bundle-{}", clock::rfc3339(clock::now()).replace(':', ""));
    let mut archive =
        Archive::create(&project.target(), &name, redactor(&project.dotenv, &project.settings, our_tools)?)?;
    archive.add("README.txt", README)?;
    archive.add("doctor.txt", table)?;
    archive.collect("config.txt", || config::text(project))?;
    archive.collect("xtask.toml", || read(&project.root.join("infra/xtask.toml")))?;
    archive.collect("pins.toml", || read(&project.root.join("infra/pins.toml")))?;
    archive.collect("versions.txt", || Ok(versions(&project.root, tools)))?;
    if let (Ok(toolchain), Some(tools)) = (&toolchain, our_tools) {
        running.progress("asking the cluster");
        let shown = status::plain(&project.settings, &project.dotenv, toolchain);
        archive.collect("status.txt", || Ok(shown.as_ref().map_err(cloned_error)?.0.clone()))?;
        archive.collect("status.json", || Ok(shown.as_ref().map_err(cloned_error)?.1.clone()))?;
        add_cluster(&mut archive, tools)?;
    } else {
        let why = match (&toolchain, &observed) {
            (Err(error), _) | (_, Some(Err(error))) => failure::message(error),
            _ => "the cluster does not run".to_owned(),
        };
        archive.add("status.txt", &format!("{why}\n"))?;
    }
    add_last_run(&mut archive, &project.target())?;
    let path = archive.finish()?;
    let size = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
    running.done(crate::report::bytes(size));
    Ok(path)
}

fn cloned_error(error: &anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!(failure::message(error))
}

/// Returns a redactor for every value in `.env`, even an invalid one, and in the cluster's Secrets, including old ones.
fn redactor(dotenv: &DotenvSource, settings: &Settings, tools: Option<&Toolbox>) -> Result<Redactor> {
    let mut redactor = Redactor::new(&dotenv.every_value(settings)?);
    if let Some(tools) = tools {
        let ours = release::redactor_of_secrets(tools);
        let ours = ours.context("cannot read the cluster's Secrets, so xtask does not know which values to mask")?;
        redactor.extend(ours);
    }
    Ok(redactor)
}

fn versions(root: &Utf8Path, tools: Option<&Toolbox>) -> String {
    let mut commands = vec![
        Process::new("uname").arg("-a"),
        Process::new("rustc").arg("--version").inherit(&["RUSTUP_*", "CARGO_HOME"]),
        git(root).args(["log", "-1", "--format=%H %cI"]),
        git(root).args(["status", "--short"]),
    ];
    if let Some(tools) = tools {
        commands.push(tools.engine.docker().arg("version"));
        commands.push(tools.engine.docker().args(["container", "ls", "--all"]));
    }
    let mut text = format!("xtask {}\n", env!("CARGO_PKG_VERSION"));
    commands.iter().for_each(|command| text.push_str(&run_and_show(command)));
    text
}

/// Runs a command. Returns its command line, standard output and standard error.
fn run_and_show(command: &Process) -> String {
    let output = match command.output() {
        Ok(output) => String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        Err(error) => failure::message(&error) + "\n",
    };
    format!("$ {command}\n{output}\n")
}

fn add_cluster(archive: &mut Archive, tools: &Toolbox) -> Result<()> {
    let release = &tools.release().name;
    let api = tools.api()?;
    let of = |resource, scope| Ok(inventory::yaml(&api.list(resource, scope)?.items));
    let snapshot = Snapshot::take(tools);
    let objects = || anyhow::Ok(snapshot.as_ref().map_err(cloned_error)?.objects());
    archive.collect("cluster/events.txt", || Ok(inventory::events(objects()?)))?;
    archive.collect("cluster/nodes.yaml", || of(&kinds::NODE, Scope::Cluster))?;
    let pods = api.list(&kinds::POD, Scope::Cluster);
    let pods = || anyhow::Ok(&pods.as_ref().map_err(cloned_error)?.items);
    archive.collect("cluster/pods.txt", || Ok(inventory::pods(pods()?)))?;
    archive.collect("cluster/describe.txt", || Ok(inventory::describe(objects()?)))?;
    let things = || Ok(inventory::yaml(objects()?.iter().filter(|object| object["kind"] != "Event")));
    archive.collect("cluster/objects.yaml", things)?;
    archive.collect("cluster/secrets.yaml", || of(&kinds::SECRET, Scope::Namespace))?;
    archive.collect("cluster/ingress-classes.yaml", || of(&kinds::INGRESS_CLASS, Scope::Cluster))?;
    let commands = [
        ("helm-history.txt", tools.helm().args(["history", release])),
        ("helm-values.txt", tools.helm().args(["get", "values", release])),
        ("helm-manifest.yaml", tools.helm().args(["get", "manifest", release])),
    ];
    for (name, command) in commands {
        archive.add(&format!("cluster/{name}"), &run_and_show(&command))?;
    }
    for pod in pods().into_iter().flatten().filter(|pod| is_of_interest(pod, tools.release())) {
        let (api, name) = (api.in_namespace(text(pod, "/metadata/namespace")), text(pod, "/metadata/name"));
        let logs = |previous| {
            let options = LogOptions { previous, timestamps: true, tail: Some(LINES), ..LogOptions::default() };
            inventory::logs(&api, pod, &options)
        };
        archive.add(&format!("cluster/logs/{name}.txt"), &logs(false))?;
        let before = logs(true);
        if !before.is_empty() {
            archive.add(&format!("cluster/logs/{name}-previous.txt"), &before)?;
        }
    }
    Ok(())
}

/// Returns whether the pod belongs to the application or to an ingress controller, even one of others.
fn is_of_interest(pod: &Value, release: &Release) -> bool {
    release.is_part(pod) || ["traefik", "ingress-nginx"].contains(&label(pod, "app.kubernetes.io/name"))
}

/// Adds the files that earlier runs left below `target/xtask`.
fn add_last_run(archive: &mut Archive, target: &Utf8Path) -> Result<()> {
    let mut files = vec![target.join("events.jsonl")];
    for folder in ["logs", "evidence"] {
        let walk = walkdir::WalkDir::new(target.join(folder)).max_depth(4).sort_by_file_name();
        let entries = walk.into_iter().filter_map(Result::ok).filter(|entry| entry.file_type().is_file());
        files.extend(entries.filter_map(|entry| Utf8PathBuf::from_path_buf(entry.into_path()).ok()));
    }
    for path in files.iter().filter(|path| path.is_file()) {
        let name = path.strip_prefix(target).unwrap_or(path);
        archive.collect(&format!("run/{name}"), || read(path))?;
    }
    Ok(())
}

fn read(path: &Utf8Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&std::fs::read(path).with_context(|| format!("reading {path}"))?).into_owned())
}
