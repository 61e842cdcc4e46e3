//! No engine, and what needs consent.

use crate::common::{DOTENV, OFFLINE, Sandbox};

#[test]
fn without_a_command_the_state_and_the_next_command() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!(sandbox.run(&[]), @"
    exit code 0
    -- stdout
    engine   none runs
    cluster  unknown without an engine
    release  unknown without a cluster
    .env     absent; the first deploy makes it
    next     cargo xtask deploy dev
    ");
    assert!(!sandbox.cache.exists());

    let sandbox = Sandbox::with_engine();
    insta::assert_snapshot!(sandbox.run(&["--origin=release"]), @"
    exit code 0
    -- stdout
    engine   Docker Engine answers
    cluster  tools are not there yet
    release  unknown without a cluster
    .env     absent; the first deploy makes it
    next     cargo xtask deploy dev
    ");
    assert!(!sandbox.cache.exists());
}

#[test]
fn with_a_profile_the_overview_tells_its_state() {
    let sandbox = Sandbox::with_tools();
    sandbox.profile("containerd");
    sandbox.node("exited", 8080);
    sandbox.dotenv(DOTENV);
    insta::assert_snapshot!(sandbox.run(&["--origin=release"]), @"
    exit code 0
    -- stdout
    engine   Docker Engine answers
    cluster  `todo` stopped
    release  unknown without a cluster
    .env     present
    next     cargo xtask deploy dev
    ");
}

/// Not with `--yes`: this test may run as root on Debian, where that would make an engine.
#[test]
fn nothing_is_done_to_the_machine_without_consent() {
    for args in [["deploy", "dev"].as_slice(), &["images"], &["scan"]] {
        let sandbox = Sandbox::new();
        sandbox.dotenv(DOTENV);
        let run = sandbox.run(&[args, &["--origin=release"]].concat());
        assert_eq!(run.code, Some(4), "{run}");
        // Who is not root, or short of memory, is told that instead of being asked.
        let asked = run.stderr.contains("run the same command with --yes");
        assert!(asked || run.stderr.contains("no Docker Engine answers") || run.stderr.contains("are free"), "{run}");
        assert!(!sandbox.cache.join("engine").exists() && !sandbox.cache.join("release").exists(), "{run}");
    }
}

#[test]
fn an_engine_is_absent_only_where_nobody_listens() {
    let sandbox = Sandbox::with_engine();
    let says = |socket: &str| {
        format!("echo 'Cannot connect to the Docker daemon at unix://{socket}. Is it running?' >&2; exit 1")
    };
    sandbox.on("docker version *", &says("/nonexistent/docker.sock"));
    insta::assert_snapshot!(sandbox.run(&["status"]), @"
    exit code 4
    -- stderr
    error: no Docker Engine runs, so there is no cluster to ask
      try: cargo xtask deploy dev
    ");
    // Somebody listens who does not answer: no private engine is put in its place.
    let socket = sandbox.dir.join("docker.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    sandbox.on("docker version *", &says(socket.as_str()));
    sandbox.dotenv(DOTENV);
    for args in [["status"].as_slice(), &["deploy", "dev", "--yes"], &["doctor"], &[]] {
        let run = sandbox.run(&[args, &["--origin=release"]].concat());
        assert_eq!(run.code, Some(4), "{run}");
        let text = format!("{}{}", run.stdout, run.stderr);
        assert!(
            text.contains("your Docker Engine does not answer: Cannot connect to the Docker daemon at unix://"),
            "{run}"
        );
        assert!(
            text.contains("docker version   # must show a server") && !text.contains("private Docker Engine"),
            "{run}"
        );
    }
    assert!(!sandbox.cache.join("engine").exists());
}

#[test]
fn only_looking_brings_no_tools() {
    let sandbox = Sandbox::with_engine();
    for args in [["status"].as_slice(), &["logs"], &["tool", "kubectl", "get", "pods"]] {
        let run = sandbox.run(&[&["--origin=release"], args].concat());
        assert_eq!(run.code, Some(4), "{run}");
        assert!(run.stderr.contains("the tools have not been brought yet\n  try: cargo xtask deploy dev"), "{run}");
    }
    assert!(!sandbox.cache.exists());
}

#[test]
fn the_origin_that_the_cache_was_begun_with_is_remembered() {
    let sandbox = Sandbox::with_tools();
    let run = sandbox.run_with(&["images"], &OFFLINE);
    assert!(run.code == Some(4) && run.stderr.contains("--origin release"), "{run}");
    assert_eq!(sandbox.run(&["images", "--origin=release"]).code, Some(0));
    let run = sandbox.run_with(&["images"], &OFFLINE);
    assert_eq!(run.code, Some(0), "{run}");
}

#[test]
fn a_tool_gets_its_arguments_and_gives_its_exit_code() {
    let sandbox = Sandbox::with_tools();
    sandbox.on("kubectl *get pods*", "echo no such pods; exit 7");
    let run = sandbox.run(&["--origin=release", "tool", "kubectl", "--", "get", "pods", "-o", "wide", "--", "a b"]);
    insta::assert_snapshot!(run, @"
    exit code 7
    -- stdout
    no such pods
    ");
    insta::assert_snapshot!(sandbox.calls(), @"
    docker container inspect todo
    docker version --format {{.Server.Version}}
    kubectl --kubeconfig <tmp>/kubeconfig --context todo --namespace todo get pods -o wide -- a b
    ");
}
