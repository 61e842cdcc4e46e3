//! Clusters with another Kubernetes version than the pinned one, and unfinished upgrades.

use std::fs;

use camino::Utf8PathBuf;
use serde_json::json;
use xtask::engine::paths::EnginePaths;

use crate::common::{DOTENV, Run, Sandbox, free_port};

const OLD: &str = "v1.31.2";

/// Returns a sandbox whose profile `todo` runs `kubernetes`.
fn sandbox(kubernetes: &str, status: &str) -> Sandbox {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    sandbox.profile("containerd");
    sandbox.profile_runs(kubernetes);
    sandbox.node(status, free_port().parse().unwrap());
    sandbox
}

/// Runs xtask. Fails if it calls anything but read-only commands.
fn ask(sandbox: &Sandbox, args: &[&str]) -> Run {
    let run = sandbox.run(&[args, &["--origin=release"]].concat());
    let questions = [
        "docker version ",
        "docker inspect ",
        "docker image inspect ",
        "docker container inspect ",
        "docker context show",
    ];
    for call in sandbox.fake("calls").lines() {
        assert!(questions.iter().any(|question| call.starts_with(question)), "{call}\n{run}");
    }
    run
}

/// Returns the folder of the profile's dumps.
fn folder(sandbox: &Sandbox) -> Utf8PathBuf {
    let folder = format!("home/.local/share/todo-xtask/todo-{}", EnginePaths::new(&sandbox.cache).id());
    let folder = sandbox.dir.join(folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Returns the run's output without parts that differ between sandboxes.
fn normalise(sandbox: &Sandbox, run: &Run) -> String {
    let text = run.to_string().replace(folder(sandbox).file_name().unwrap(), "todo-<id>");
    regex::Regex::new("at port [0-9]+").unwrap().replace_all(&text, "at port <port>").into_owned()
}

/// Adds an upgrade that stopped after the deletion of the old cluster.
fn unfinished(sandbox: &Sandbox, format: u64) {
    stopped_in(sandbox, format, "create");
}

/// Adds an upgrade that stopped in `phase`. The correct content of its dump is `x`.
fn stopped_in(sandbox: &Sandbox, format: u64, phase: &str) {
    let table = json!({"rows": 3, "hash": "1"});
    let sha256 = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
    let dump = json!({"file": "a.dump", "size": 1, "sha256": sha256, "tables": {"public.todos": table}});
    let state = json!({"format": format, "phase": phase, "environment": "dev", "port": 8080, "from": OLD,
                       "old_cluster": "uid", "new_cluster": null, "dump": dump});
    fs::write(folder(sandbox).join("upgrade.json"), state.to_string()).unwrap();
}

#[test]
fn a_cluster_at_the_pinned_kubernetes_is_not_upgraded() {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    sandbox.profile("containerd");
    sandbox.node("running", 8080);
    insta::assert_snapshot!(ask(&sandbox, &["cluster", "upgrade", "--yes"]), @"
    exit code 0
    -- stderr
      ✓ the cluster runs Kubernetes <version> already: nothing to upgrade
    ");
}

#[test]
fn a_missing_profile_is_not_upgraded() {
    let sandbox = Sandbox::with_tools();
    insta::assert_snapshot!(ask(&sandbox, &["cluster", "upgrade", "--yes"]), @"
    exit code 5
    -- stderr
    error: there is no minikube profile `todo`, so there is nothing to upgrade
      try: cargo xtask deploy dev
    ");
    insta::assert_snapshot!(ask(&Sandbox::new(), &["cluster", "upgrade", "--yes"]), @"
    exit code 5
    -- stderr
    error: there is no minikube profile `todo`, so there is nothing to upgrade
      try: cargo xtask deploy dev
    ");
}

#[test]
fn a_cluster_that_is_newer_than_the_checkout_is_not_upgraded() {
    let sandbox = sandbox("v1.99.0", "running");
    insta::assert_snapshot!(ask(&sandbox, &["cluster", "upgrade", "--yes"]), @"
    exit code 5
    -- stderr
    error: the cluster runs Kubernetes <version>, newer than the <version> that this checkout pins
      try: use the checkout that made the cluster
    ");
}

#[test]
fn an_upgrade_needs_consent() {
    let sandbox = sandbox(OLD, "exited");
    let text = normalise(&sandbox, &ask(&sandbox, &["cluster", "upgrade"]));
    insta::assert_snapshot!(text, @"
    exit code 4
    -- stderr
    xtask will make these changes on this machine:
      - start the cluster `todo` with its own Kubernetes <version>
      - stop the backend: from here until the end, nobody can sign in
      - dump the database into <tmp>/home/.local/share/todo-xtask/todo-<id> and read the dump back
      - delete the cluster `todo` (Kubernetes <version>) with its volumes
      - create it again with Kubernetes <version> at port <port>
      - deploy the recorded environment from this checkout, restore the dump before the application starts
      - keep the newest 3 dumps of this profile
    error: cannot ask for your consent: there is no terminal
      try: run the same command with --yes
    ");
}

#[test]
fn a_stopped_profile_is_started_at_its_own_kubernetes() {
    let sandbox = sandbox(OLD, "exited");
    let run = ask(&sandbox, &["deploy", "dev", "--dry-run"]);
    assert_eq!(run.code, Some(0), "{run}");
    assert!(
        run.stderr.contains(&format!(
            " start --driver=docker --container-runtime=containerd --keep-context \
        --interactive=false --kubernetes-version={OLD} --wait=apiserver,"
        )),
        "{run}"
    );
    let expected = format!(
        "the cluster runs Kubernetes {OLD}, this checkout pins {}: cargo xtask cluster upgrade keeps the todos",
        sandbox.pinned()
    );
    assert!(run.stderr.contains(&expected), "{run}");
}

#[test]
fn a_kubernetes_that_the_chart_does_not_support_is_reported() {
    let run = ask(&sandbox("v1.29.0", "exited"), &["deploy", "dev", "--dry-run"]);
    assert!(run.stderr.contains(", and the chart supports >=1.30.0-0: cargo xtask cluster upgrade"), "{run}");
}

#[test]
fn a_profile_with_an_unreadable_kubernetes_version_is_refused() {
    let sandbox = sandbox("stable", "exited");
    for args in [["deploy", "dev"].as_slice(), &["status"], &["cluster", "upgrade", "--yes"]] {
        let run = ask(&sandbox, args);
        assert_eq!(run.code, Some(5), "{run}");
        assert!(run.stderr.contains("has no valid version of Kubernetes (`stable`)"), "{run}");
    }
}

#[test]
fn a_deploy_during_an_unfinished_upgrade_is_refused_with_the_command() {
    let sandbox = sandbox(OLD, "running");
    unfinished(&sandbox, 1);
    let text = normalise(&sandbox, &ask(&sandbox, &["deploy", "dev", "--yes"]));
    insta::assert_snapshot!(text, @"
    exit code 5
    -- stderr
    error: an upgrade of the cluster `todo` from Kubernetes <version> is not finished; the todos are in <tmp>/home/.local/share/todo-xtask/todo-<id>/a.dump
      try: cargo xtask cluster upgrade   # goes on where it stopped
      try: or give it up and begin with an empty application; the dump stays: rm <tmp>/home/.local/share/todo-xtask/todo-<id>/upgrade.json
    ");
    assert_eq!(ask(&sandbox, &["deploy", "dev", "--dry-run"]).code, Some(5));
}

#[test]
fn an_upgrade_with_a_changed_dump_does_not_resume() {
    let sandbox = sandbox(OLD, "running");
    unfinished(&sandbox, 1);
    let run = ask(&sandbox, &["cluster", "upgrade", "--yes"]);
    assert!(run.code == Some(5) && run.stderr.contains("a.dump cannot be read: No such file"), "{run}");
    fs::write(folder(&sandbox).join("a.dump"), "y").unwrap();
    let run = ask(&sandbox, &["cluster", "upgrade", "--yes"]);
    assert!(run.code == Some(5) && run.stderr.contains("a.dump has another content than"), "{run}");
}

#[test]
fn an_unresponsive_old_cluster_is_not_deleted() {
    let sandbox = sandbox(OLD, "running");
    stopped_in(&sandbox, 1, "delete");
    fs::write(folder(&sandbox).join("a.dump"), "x").unwrap();
    let run = sandbox.run(&["cluster", "upgrade", "--yes", "--origin=release"]);
    assert!(run.code == Some(5) && run.stderr.contains("it cannot be started again"), "{run}");
    let calls = sandbox.calls();
    assert!(calls.contains(" start ") && !calls.contains(" delete") && !calls.contains("docker rm"), "{calls}");
}

#[test]
fn an_unreadable_state_of_an_upgrade_is_not_treated_as_absent() {
    let sandbox = sandbox(OLD, "running");
    unfinished(&sandbox, 2);
    for args in [["deploy", "dev"].as_slice(), &["cluster", "upgrade", "--yes"], &["deploy", "dev", "--dry-run"]] {
        let run = ask(&sandbox, args);
        assert!(run.code == Some(5) && run.stderr.contains("it has format 2, and this xtask reads 1"), "{run}");
    }
}
