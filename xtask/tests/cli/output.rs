//! Help, completions, colours and pipes.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use serde_json::json;

use crate::api_server::Reply;
use crate::common::{DOTENV, Sandbox};

#[test]
fn the_short_help() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!(sandbox.run(&["-h"]), @"
    exit code 0
    -- stdout
    Build, deploy and prove the Todo application on Minikube

    Usage: cargo xtask [OPTIONS] [COMMAND]

    Commands:
      images       Build both images, tagged by content
      deploy       Build, load, release and prove the application on Minikube
      dev          Serve both applications behind one port, with reload on each save; no cluster
      cluster      Upgrade the cluster's Kubernetes
      stop         Stop the cluster to free its memory; all data stays
      start        Start a stopped cluster and prove the application in it
      teardown     Remove the application; data, cluster, engine and cache only with flags
      status       Show cluster, release, pods, images, routes, Secrets and drift
      rollback     Roll back to a revision that Helm keeps, and prove it
      bench        Measure the application, deploys, or an idle cluster
      logs         Show the logs of all components, or of one
      db           Query the database, dump it, or restore a dump
      doctor       Check every prerequisite: version, verdict, fix
      pins         Show every pinned version, what uses it, and where each origin gets it
      config       Show each resolved value and its source; secrets are masked
      scan         Search the working tree and the history for secrets
      tidy         Check documents, keys, generated files, pins, layers, sizes, phrases and licences
      record       Record the README's animations: a deploy, and a failing deploy with its cause
      test         Run all test suites, or the named ones
      tool         Run a pinned tool against this cluster
      completions  Print a completion script
      help         Print this message or the help of the given subcommand(s)

    Options:
      -y, --yes               Answer yes to every question
      -v, --verbose           Show every command that xtask runs
      -q, --quiet             Show only warnings, errors and the command's result
          --no-progress       Show the start and the end of each step, without live progress
          --profile <NAME>    minikube profile and kube context, instead of the one in infra/xtask.toml
          --port <PORT>       Port on localhost for a new profile, and for `dev`
          --secrets <FROM>    Where the application's secrets come from, instead of .env [possible
                              values: file, env, stdin]
          --origin <ORIGIN>   Where engine, tools and base images come from (default: probed once)
                              [possible values: release, packages]
          --system-tools      Use kubectl, helm and minikube on PATH if their versions are compatible
          --root <DIR>        Checkout to work on, instead of the current one
          --ca-bundle <FILE>  Extra certificate authorities for downloads, builds and the proof
                              (default: SSL_CERT_FILE)
      -h, --help              Print help (see more with '--help')
      -V, --version           Print version

    Exit codes: 0 done · 1 internal · 2 usage · 3 configuration or .env · 4 machine · 5 cluster · 6
    image · 7 rollout · 8 proof · 9 tests or scan · 10 another xtask is at work · 11 database · 130
    interrupted
    ");
}

#[test]
fn completions_need_no_checkout() {
    let sandbox = Sandbox::new();
    std::fs::remove_dir_all(&sandbox.root).unwrap();
    let run = sandbox.run(&["completions", "bash"]);
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stdout.starts_with("_xtask() {") && run.stdout.contains("teardown"), "{run}");
    insta::assert_snapshot!(run.stderr, @r#"
    · add to ~/.bashrc:  xtask() { cargo xtask "$@"; }
    · and below it:  source <(cargo xtask completions bash)
    "#);
}

#[test]
fn only_capable_terminals_get_colours() {
    let sandbox = Sandbox::with_tools();
    let escapes = |args: &[&str], environment: &[(&str, &str)]| {
        let run = sandbox.run_with(&[args, &["--origin=release"]].concat(), environment);
        (run.stdout + &run.stderr).contains('\u{1b}')
    };
    for args in [[].as_slice(), &["doctor"], &["deploy", "dve"], &["deploy", "dev", "--dry-run"], &["-h"]] {
        assert!(!escapes(args, &[("TERM", "xterm-256color")]), "{args:?}");
        assert!(!escapes(args, &[("TERM", "xterm-256color"), ("NO_COLOR", "1")]), "{args:?}");
        assert!(escapes(args, &[("CLICOLOR_FORCE", "1")]), "no colour is possible at all: {args:?}");
    }
}

#[test]
fn a_pipe_closed_by_its_reader_is_no_error() {
    let sandbox = Sandbox::with_tools();
    for args in [[].as_slice(), &["config"], &["doctor"], &["images"], &["completions", "zsh"], &["-h"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = sandbox.command(&[args, &["--origin=release"]].concat());
        let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        // `doctor` may report problems of this machine.
        let good = output.status.success() || args == ["doctor"] && output.status.code() == Some(4);
        assert!(good && !stderr.contains("panicked"), "{args:?}: {} {stderr}", output.status);
    }
}

/// Returns the output of a run on a terminal, without colours.
fn on_a_terminal(sandbox: &Sandbox, args: &[&str], term: &str) -> String {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let terminal = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut command = sandbox.command(args);
    let mut child = command.env("TERM", term).stdout(terminal.try_clone().unwrap()).stderr(terminal).spawn().unwrap();
    // `command` keeps the terminal open until it is dropped.
    drop(command);
    let mut bytes = Vec::new();
    // Reading a closed terminal fails instead of returning 0 bytes.
    let _ = File::from(ours).read_to_end(&mut bytes);
    assert!(child.wait().unwrap().success(), "{}", String::from_utf8_lossy(&bytes));
    anstream::adapter::strip_str(&String::from_utf8_lossy(&bytes)).to_string()
}

#[test]
fn quiet_keeps_results_and_problems() {
    let sandbox = Sandbox::with_tools();
    sandbox.on("docker pull *", ":");
    let run = sandbox.run(&["images", "--refresh", "--quiet", "--origin=release"]);
    assert!(run.code == Some(0) && run.stdout.contains("todo-backend:") && run.stderr.is_empty(), "{run}");
    let run = sandbox.run(&["images", "--dry-run", "--refresh", "-q", "--origin=release"]);
    assert!(run.stderr.contains("pull node:24-trixie-slim"), "{run}");
    sandbox.dotenv(DOTENV);
    let run = sandbox.run(&["deploy", "dev", "--dry-run", "-q", "--origin=release"]);
    assert!(run.stderr.contains("create cluster todo") && run.stderr.contains("then: compare image IDs"), "{run}");
    sandbox.profile("containerd");
    sandbox.node("running", 8080);
    let run = sandbox.run(&["cluster", "upgrade", "--dry-run", "-q", "--origin=release"]);
    assert!(run.code == Some(0) && run.stderr.contains("nothing to upgrade"), "{run}");
    let run = sandbox.run(&["images", "--timings", "-q", "--origin=release"]);
    assert!(run.stderr.contains("timings: "), "{run}");
    let run = sandbox.run(&["deploy", "dve", "-q"]);
    assert!(run.code == Some(3) && run.stderr.contains("error: ") && run.stderr.contains("try: "), "{run}");
    sandbox.on("docker pull *", "echo no such image >&2; exit 1");
    let run = sandbox.run(&["images", "--refresh", "-q", "--origin=release"]);
    assert!(run.stderr.starts_with("  ✗ pull ") && run.stderr.contains("error: "), "{run}");
    assert_eq!(sandbox.run(&["images", "--quiet", "--verbose"]).code, Some(2));
}

#[test]
fn without_progress_a_step_has_two_lines_even_on_a_terminal() {
    let sandbox = Sandbox::with_tools();
    sandbox.on("docker pull *", "sleep 0.5");
    let is_live = |more: &[&str]| {
        let args = [&["images", "--refresh", "--origin=release"], more].concat();
        let text = on_a_terminal(&sandbox, &args, "xterm-256color");
        assert!(text.contains("> pull node:24-trixie-slim (") && text.contains("✓ pull node:24-trixie-slim"), "{text}");
        text.contains(|c| ('\u{2800}'..='\u{28ff}').contains(&c))
    };
    assert!(is_live(&[]) && !is_live(&["--no-progress"]));
}

#[test]
fn every_terminal_keeps_the_reason_of_a_step() {
    for term in ["dumb", "xterm-256color"] {
        let sandbox = Sandbox::with_tools();
        sandbox.on("docker pull *", ":");
        let text = on_a_terminal(&sandbox, &["images", "--refresh", "--origin=release"], term);
        for line in ["  > pull node:24-trixie-slim (", "  \u{2713} pull node:24-trixie-slim"] {
            assert!(
                text.lines().any(|shown| shown.trim_start_matches('\r').contains(line.trim())),
                "{term}: {line}\n{text}"
            );
        }
    }
}

#[test]
fn logs_are_formatted_on_a_terminal_and_raw_elsewhere() {
    const LINE: &str = r#"{"time": "2026-11-21T08:18:13Z", "level": "warning", "message": "it sleeps", "tries": 3}"#;
    let sandbox = Sandbox::with_tools();
    sandbox.cluster();
    let labels = json!({"app.kubernetes.io/instance": "todo", "app.kubernetes.io/part-of": "todo",
        "app.kubernetes.io/component": "backend"});
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "todo-backend-x", "labels": labels},
        "spec": {"containers": [{"name": "backend"}]},
        "status": {"containerStatuses": [{"name": "backend", "restartCount": 0, "state": {"running": {}}}]}});
    let path = "/api/v1/namespaces/todo/pods/todo-backend-x";
    sandbox.api().put(path, pod);
    let text = format!("2026-11-21T08:18:13.5Z {LINE}\n");
    sandbox.api().on(&format!("GET {path}/log"), &[Reply::Text(200, text.leak())]);
    let (args, raw) = (["logs", "--origin=release"], format!("todo-backend-x {LINE}"));
    let shown = on_a_terminal(&sandbox, &args, "xterm-256color");
    assert_eq!(shown.trim_end(), "todo-backend-x 08:18:13 WARNING it sleeps tries=3");
    assert_eq!(on_a_terminal(&sandbox, &[args[0], "--json", args[1]], "xterm-256color").trim_end(), raw);
    for more in [&[][..], &["--json"]] {
        let run = sandbox.run(&[&args, more].concat());
        assert_eq!((run.code, run.stdout.trim_end()), (Some(0), raw.as_str()), "{run}");
    }
}
