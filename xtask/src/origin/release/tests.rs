//! The origin `release` with a server on the loopback interface: plan, apply, and run the downloaded programs.

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

use super::*;
use crate::origin::download::loopback::{Loopback, Reply};
use crate::plan::{Changes, Mode, apply};
use crate::process::Process;
use crate::pure;
use crate::report::Report;

const SCRIPT: &[u8] = b"#!/bin/sh\necho it runs\n";

fn archive(member: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, content) in [("linux-amd64/README.md", &b"no"[..]), (member, SCRIPT)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn section(tool: &str, url: &str, file: &[u8], member: &str) -> String {
    let sum: String = Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect();
    let cite = format!("owner/repository@{}:sums", "0".repeat(40));
    format!(
        "[{tool}]\nversion = \"v1\"\n[{tool}.linux-amd64]\nurl = \"{url}\"\nsha256 = \"{sum}\"\n{member}cite = \"{cite}\"\n"
    )
}

/// Returns an origin with the downloads of `manifest` and its cache in `dir`.
fn origin(manifest: &str, dir: &tempfile::TempDir) -> ReleaseOrigin {
    ReleaseOrigin {
        manifest: Manifest::parse(manifest).unwrap(),
        platform: Some(Platform::LinuxAmd64),
        dir: Utf8Path::from_path(dir.path()).unwrap().join("release"),
        bases: BaseRecords::new(Utf8Path::from_path(dir.path()).unwrap(), "release"),
        ca_bundle: None,
        has_other: true,
        stale: Arc::default(),
    }
}

fn nobody() -> Engine {
    Engine { client: "no-such-docker".into(), ..Engine::system() }
}

fn report() -> Report {
    Report::new(false)
}

/// Observes, and decides without an effect.
fn plan<'a>(origin: &'a ReleaseOrigin, requirements: &[Requirement], engine: &Engine) -> Result<Vec<Step<'a>>> {
    let observed = origin.observe(requirements, engine)?;
    pure::decide(|| observed.decide(Vec::new()))
}

#[test]
fn planned_applied_and_run() {
    let (plain, packed) = (SCRIPT.to_vec(), archive("linux-amd64/helm"));
    let kubectl = Loopback::serve(&plain, &[Reply::Good]);
    let helm = Loopback::serve(&packed, &[Reply::CutAfter(60), Reply::Good]);
    let manifest = section("kubectl", &kubectl.url("/kubectl"), &plain, "")
        + &section("helm", &helm.url("/helm.tar.gz"), &packed, "member = \"linux-amd64/helm\"\n");
    let dir = tempfile::tempdir().unwrap();
    let origin = origin(&manifest, &dir);
    let requirements = [Requirement::Tool(Tool::Kubectl), Requirement::Tool(Tool::Helm), Requirement::Cluster];

    apply(&report(), "tools", Mode::DryRun, plan(&origin, &requirements, &nobody()).unwrap()).unwrap();
    assert!(kubectl.seen().is_empty() && !origin.dir.exists(), "a dry run does nothing");

    assert_eq!(
        apply(&report(), "tools", Mode::Apply, plan(&origin, &requirements, &nobody()).unwrap()).unwrap(),
        Changes::of(2)
    );
    for tool in [Tool::Kubectl, Tool::Helm] {
        assert_eq!(Process::new(origin.tool(tool)).read().unwrap(), "it runs\n");
    }
    assert_eq!(helm.seen(), ["GET", "GET 60-"]);
    assert!(!arrival_exists(&origin, Tool::Helm), "the archive is not kept");
    assert!(plan(&origin, &requirements, &nobody()).unwrap().is_empty(), "nothing is left to do");
}

fn arrival_exists(origin: &ReleaseOrigin, tool: Tool) -> bool {
    let (_, download) = origin.manifest.offer(tool, origin.platform).unwrap();
    arrival(download, &origin.tool(tool)).exists()
}

#[test]
fn the_commands_shown_are_those_one_would_type() {
    let download = Download {
        url: "https://get.helm.sh/helm.tar.gz".to_owned(),
        sha256: "ab12".to_owned(),
        member: Some("linux-amd64/helm".to_owned()),
        cite: String::new(),
    };
    let shown = commands(&download, Utf8Path::new("/cache/helm"));
    let expected = [
        "curl -fL -C - --create-dirs -o /cache/helm.tar.gz https://get.helm.sh/helm.tar.gz",
        "echo 'ab12  /cache/helm.tar.gz' | sha256sum -c",
        "tar -xzOf /cache/helm.tar.gz linux-amd64/helm > /cache/helm",
        "chmod 755 /cache/helm",
    ];
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn reports_an_archive_without_its_program() {
    let packed = archive("linux-amd64/hello");
    let server = Loopback::serve(&packed, &[Reply::Good]);
    let manifest = section("helm", &server.url("/helm.tar.gz"), &packed, "member = \"linux-amd64/helm\"\n");
    let dir = tempfile::tempdir().unwrap();
    let origin = origin(&manifest, &dir);
    let steps = plan(&origin, &[Requirement::Tool(Tool::Helm)], &nobody()).unwrap();
    let error = apply(&report(), "tools", Mode::Apply, steps).unwrap_err();
    assert!(error.to_string().contains("has no file `linux-amd64/helm`"), "{error}");
    assert!(!origin.tool(Tool::Helm).exists());
}

#[test]
fn a_plan_without_a_download_fails_with_hints() {
    let dir = tempfile::tempdir().unwrap();
    let origin = origin("", &dir);
    let Err(error) = plan(&origin, &[Requirement::Tool(Tool::Minikube)], &nobody()) else { panic!("it was planned") };
    let failure = error.downcast_ref::<Failure>().unwrap();
    assert!(failure.to_string().contains("offers no minikube"), "{failure}");
    assert!(failure.hints()[0].contains("--origin packages") && failure.hints()[1].contains("--system-tools"));
    assert!(!origin.tool(Tool::Minikube).exists());
    // Nothing advises what the user's own engine cannot have.
    let origin = ReleaseOrigin { has_other: false, ..origin };
    let Err(error) = plan(&origin, &[Requirement::Tool(Tool::Minikube)], &nobody()) else { panic!("it was planned") };
    let hints = error.downcast_ref::<Failure>().unwrap().hints().join("\n");
    assert!(!hints.contains("packages") && hints.contains("--system-tools"), "{hints}");
}

/// The client of an engine with the image of Python.
const PULLED: &str = r#"echo '{"Id": "sha256:1", "RepoTags": ["python:3.13-slim-trixie"]}'"#;

#[test]
fn an_image_that_is_missing_is_pulled_by_its_official_name() {
    let dir = tempfile::tempdir().unwrap();
    let origin = origin("", &dir);
    let requirements = [Requirement::Image("python:3.13-slim-trixie".to_owned())];
    // A client that has the image, and one that has none and pulls nothing.
    let there = Engine::scripted(dir.path(), PULLED);
    assert!(plan(&origin, &requirements, &there).unwrap().is_empty());
    // One that does not say is not one that has none.
    assert!(plan(&origin, &requirements, &Engine { client: "false".into(), ..Engine::system() }).is_err());
    let lacks = Engine::scripted(dir.path(), "echo 'No such image: python:3.13-slim-trixie' >&2\nexit 1");
    let steps = plan(&origin, &requirements, &lacks).unwrap();
    assert!(steps[0].command.ends_with("docker pull python:3.13-slim-trixie"), "{}", steps[0].command);
    let error = apply(&report(), "bases", Mode::Apply, steps).unwrap_err();
    assert!(error.to_string().contains("cannot pull python:3.13-slim-trixie"), "{error}");
    assert_eq!(origin.image("python:3.13-slim-trixie"), "python:3.13-slim-trixie");
    assert!(origin.minikube_flags().is_empty());
}

#[test]
fn an_image_planned_before_the_engine_is_made_is_recorded_when_it_is_pulled() {
    let dir = tempfile::tempdir().unwrap();
    let origin = origin("", &dir);
    let requirements = [Requirement::Image("python:3.13-slim-trixie".to_owned())];
    let later = Engine { empty: true, ..Engine::scripted(dir.path(), PULLED) };
    let steps = plan(&origin, &requirements, &later).unwrap();
    assert_eq!(apply(&report(), "bases", Mode::Apply, steps).unwrap(), Changes::of(1));
}
