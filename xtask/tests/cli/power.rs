//! `stop` and `start`.

use crate::common::{DOTENV, Sandbox};

/// Memory in the form of `/proc/<pid>/smaps_rollup`.
const MEMORY: &str =
    "printf 'Rss: 900000 kB\\nPss: 800000 kB\\n'; echo 'cat: /proc/7/smaps_rollup: No such file' >&2; exit 1";

fn running() -> Sandbox {
    let sandbox = Sandbox::with_tools();
    sandbox.cluster();
    sandbox.on("docker exec -i todo sh -c *smaps_rollup*", MEMORY);
    sandbox
}

/// Stops the node when minikube runs.
fn stops(sandbox: &Sandbox) {
    let answer = sandbox.node_json("exited", 8080);
    sandbox.on("minikube * stop *", &format!("echo '{answer}' > \"$FAKES/stopped\""));
    let before = sandbox.node_json("running", 8080);
    sandbox.on(
        "docker container inspect * todo",
        &format!("if [ -e \"$FAKES/stopped\" ]; then cat \"$FAKES/stopped\"; else echo '{before}'; fi"),
    );
}

#[test]
fn stop_reports_the_freed_memory_and_the_command_to_start() {
    let sandbox = running();
    stops(&sandbox);
    insta::assert_snapshot!(sandbox.run(&["stop", "--origin=release"]), @"
    exit code 0
    -- stderr
      > stop cluster todo (asked for)
      ✓ stop cluster todo: 819.2 MB of memory are free again <time>
      · todos, images and settings are kept; start the cluster again: cargo xtask start
    ");
    insta::assert_snapshot!(sandbox.run(&["stop", "--origin=release"]), @"
    exit code 0
    -- stderr
      ✓ the cluster `todo` is stopped already
      · todos, images and settings are kept; start the cluster again: cargo xtask start
    ");
    insta::assert_snapshot!(sandbox.run(&["status", "--origin=release"]), @"
    exit code 5
    -- stdout
    cluster   todo: stopped
    -- stderr
    error: the cluster `todo` is stopped; its data is kept
      try: cargo xtask start
    ");
    let calls = sandbox.fake("calls");
    assert_eq!(calls.matches("minikube --profile todo stop --keep-context-active").count(), 1, "{calls}");
}

#[test]
fn stop_claims_nothing_unverified() {
    let sandbox = running();
    sandbox.on("minikube * stop *", "");
    insta::assert_snapshot!(sandbox.run(&["stop", "--origin=release"]), @"
    exit code 5
    -- stderr
      > stop cluster todo (asked for)
      ✗ stop cluster todo <time>
    error: `minikube stop` succeeded, but the node of profile `todo` is not stopped: Running
      try: see the node's log: cargo xtask tool docker -- logs --tail 50 todo
    ");
}

#[test]
fn a_node_with_unreadable_memory_is_stopped_too() {
    let sandbox = running();
    sandbox.on("docker exec -i todo sh -c *smaps_rollup*", "echo 'OCI runtime exec failed' >&2; exit 126");
    stops(&sandbox);
    let run = sandbox.run(&["stop", "--origin=release"]);
    assert!(run.code == Some(0) && run.stderr.contains("stop cluster todo: its memory is free again"), "{run}");
}

#[test]
fn a_frozen_node_is_unfrozen_before_it_is_stopped() {
    let sandbox = running();
    sandbox.node("paused", 8080);
    sandbox.on("docker unpause todo", "");
    sandbox.on("minikube * stop *", "");
    assert_eq!(sandbox.run(&["stop", "--origin=release"]).code, Some(5));
    let calls = sandbox.fake("calls");
    assert!(calls.find("docker unpause todo").unwrap() < calls.find("minikube").unwrap(), "{calls}");
}

#[test]
fn without_a_cluster_stop_and_start_have_nothing_to_do() {
    for sandbox in [Sandbox::new(), Sandbox::with_engine(), Sandbox::with_tools()] {
        let run = sandbox.run(&["stop", "--origin=release"]);
        assert_eq!(run.code, Some(0), "{run}");
    }
    let sandbox = Sandbox::new();
    insta::assert_snapshot!(sandbox.run(&["start", "--yes"]), @"
    exit code 5
    -- stderr
    error: there is no minikube profile `todo` to start
      try: make it: cargo xtask deploy dev
    ");
    assert!(!sandbox.cache.join("engine").exists());
    let sandbox = Sandbox::with_tools();
    insta::assert_snapshot!(sandbox.run(&["start", "--origin=release"]), @"
    exit code 5
    -- stderr
    error: there is no minikube profile `todo` to start
      try: make it: cargo xtask deploy dev
    ");
    // A foreign container is not our cluster.
    sandbox.container("app", "running", 8080);
    for command in ["stop", "start"] {
        let run = sandbox.run(&[command, "--origin=release"]);
        assert!(run.code == Some(5) && run.stderr.contains("that minikube did not make"), "{run}");
    }
}

#[test]
fn start_reports_a_cluster_without_a_release() {
    let sandbox = running();
    sandbox.dotenv(DOTENV);
    insta::assert_snapshot!(sandbox.run(&["start", "--origin=release"]), @"
    exit code 0
    -- stderr
      ✓ the cluster `todo` runs already; no application in it was ever verified
      · deploy it: cargo xtask deploy dev
    ");
    let calls = sandbox.fake("calls");
    assert!(!calls.contains("minikube") && !calls.contains("helm"), "{calls}");
}
