//! Runs without an engine, consent, and the overview.

use crate::common::{DOTENV, OFFLINE, Sandbox};

#[test]
fn without_a_command_it_shows_the_state_and_the_next_command() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!(sandbox.run(&[]), @"
    exit code 0
    -- stdout
    engine   not running
    cluster  unknown without an engine
    release  unknown without a cluster
    .env     absent; the first deploy creates it
    next     cargo xtask deploy dev
    ");
    assert!(!sandbox.cache.exists());

    let sandbox = Sandbox::with_engine();
    insta::assert_snapshot!(sandbox.run(&["--origin=release"]), @"
    exit code 0
    -- stdout
    engine   Docker Engine answers
    cluster  unknown: the tools are not installed yet
    release  unknown without a cluster
    .env     absent; the first deploy creates it
    next     cargo xtask deploy dev
    ");
    assert!(!sandbox.cache.exists());
}

#[test]
fn the_overview_shows_the_state_of_the_profile() {
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
    next     cargo xtask start
    ");
}

/// Runs without `--yes`: as root on Debian, that would start an engine.
#[test]
fn the_machine_is_not_changed_without_consent() {
    for args in [["deploy", "dev"].as_slice(), &["images"], &["scan"]] {
        let sandbox = Sandbox::new();
        sandbox.dotenv(DOTENV);
        let run = sandbox.run(&[args, &["--origin=release"]].concat());
        assert_eq!(run.code, Some(4), "{run}");
        // Without root or enough memory, xtask reports that instead of asking.
        let asked = run.stderr.contains("run the same command with --yes");
        assert!(asked || run.stderr.contains("no Docker Engine answers") || run.stderr.contains("are free"), "{run}");
        assert!(!sandbox.cache.join("engine").exists() && !sandbox.cache.join("release").exists(), "{run}");
    }
}

/// Even with `--yes`. A docker client without a server does not count as an engine.
#[cfg(target_os = "linux")]
#[test]
fn no_private_engine_replaces_an_installed_one() {
    let none = "echo 'Cannot connect to the Docker daemon at unix:///nonexistent.sock. Is it running?' >&2; exit 1";
    let stopped = || {
        let sandbox = Sandbox::with_tools();
        sandbox.dotenv(DOTENV);
        sandbox
    };
    let sandbox = stopped();
    sandbox.fake_tool("dockerd");
    sandbox.on("docker version *", none);
    let run = sandbox.run(&["deploy", "dev", "--yes"]);
    assert_eq!(run.code, Some(4), "{run}");
    assert!(run.stderr.contains("/bin/dockerd") && run.stderr.contains("sudo systemctl start docker"), "{run}");
    assert!(!sandbox.cache.join("engine").exists(), "{run}");

    // xtask remembers the engine that it used, even if that is no longer visible.
    let sandbox = stopped();
    assert_eq!(sandbox.run(&["images"]).code, Some(0));
    sandbox.on("docker version *", none);
    let run = sandbox.run(&["deploy", "dev", "--yes"]);
    assert!(run.code == Some(4) && run.stderr.contains("the last deploy used it"), "{run}");
    assert!(!sandbox.cache.join("engine").exists(), "{run}");
}

#[test]
fn an_engine_is_absent_only_if_its_socket_is_closed() {
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
    // The socket is open, but the engine does not answer: no private engine replaces it.
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
fn read_only_commands_bring_no_tools() {
    let sandbox = Sandbox::with_engine();
    for args in [["status"].as_slice(), &["logs"], &["tool", "kubectl", "get", "pods"]] {
        let run = sandbox.run(&[&["--origin=release"], args].concat());
        assert_eq!(run.code, Some(4), "{run}");
        assert!(run.stderr.contains("the tools are not installed yet\n  try: cargo xtask deploy dev"), "{run}");
    }
    assert!(!sandbox.cache.exists());
}

#[test]
fn the_first_origin_of_a_cache_is_remembered() {
    // With the user's own engine, only `release` is possible, even on a slow or missing network.
    let sandbox = Sandbox::with_tools();
    let run = sandbox.run_with(&["images"], &OFFLINE);
    assert_eq!(run.code, Some(0), "{run}");
    assert_eq!(std::fs::read_to_string(sandbox.cache.join("origin")).unwrap(), "release");
    std::fs::write(sandbox.cache.join("origin"), "packages").unwrap();
    let run = sandbox.run_with(&["images"], &OFFLINE);
    assert!(run.code == Some(4) && run.stderr.contains("--origin release"), "{run}");
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
    docker container inspect --format {{json .}} todo
    docker version --format {{.Server.Version}}
    kubectl --kubeconfig <tmp>/kubeconfig --context todo --namespace todo get pods -o wide -- a b
    ");
}

/// The forms of `docker info` follow the documentation of Docker Desktop and colima.
#[test]
fn a_small_engine_gets_a_smaller_node_or_is_refused_before_any_download() {
    let sandbox = Sandbox::with_engine();
    sandbox.dotenv(DOTENV);
    sandbox.edit("infra/xtask.toml", |text| text.replace("memory_mib = 3\n", "memory_mib = 6144\n"));
    sandbox.on("docker info *", "echo 2056257536 2 colima Ubuntu 24.04.2 LTS");
    for args in [["deploy", "dev", "--yes"].as_slice(), &["doctor"]] {
        let run = sandbox.run_with(args, &OFFLINE);
        let text = format!("{}{}", run.stdout, run.stderr);
        assert_eq!(run.code, Some(4), "{run}");
        assert!(text.contains("2 processors and 1961 MiB of memory"), "{run}");
        assert!(text.contains("colima stop && colima start --cpu 2 --memory 7"), "{run}");
    }
    assert!(!sandbox.cache.join("release").exists());

    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    sandbox.edit("infra/xtask.toml", |text| text.replace("memory_mib = 3\n", "memory_mib = 6144\n"));
    sandbox.on("docker info *", "echo 4107272192 4 docker-desktop Docker Desktop");
    let run = sandbox.run(&["deploy", "dev", "--dry-run"]);
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stderr.contains("--cpus=2 --memory=3405m"), "{run}");
    assert!(run.stderr.contains("a node of 2 processors and 3405 MiB instead of 2 and 6144"), "{run}");
}

/// Answers recorded from Debian's Docker 26.1.5 without docker-buildx and from its Podman 4.3.1.
#[test]
fn an_unsuitable_engine_is_reported_before_anything_is_created() {
    let info = |rest: &str| format!("echo '25276502016 2 vm Debian GNU/Linux 13 (trixie) | {rest}'");
    let good = info(r#"["name=seccomp,profile=builtin"] | buildx "#);
    let podman = "echo 'Error: template: info:1:2: executing \"info\" at <.MemTotal>: \
                  can\u{2019}t evaluate field MemTotal in type *define.Info' >&2; exit 125"
        .replace('\u{2019}', "'\\''");
    let table = [
        (info(r#"["name=seccomp,profile=builtin"] | "#), [("A", "")], "docker has no plugin buildx"),
        (info(r#"["name=seccomp,profile=builtin","name=rootless"] | buildx "#), [("A", "")], "is rootless"),
        (podman, [("A", "")], "the `docker` on PATH is Podman"),
        (
            good.clone(),
            [("DOCKER_HOST", "ssh://me@build.lan")],
            "is on another machine (DOCKER_HOST=ssh://me@build.lan)",
        ),
        (good.clone(), [("DOCKER_CONTEXT", "lan")], "(docker's context lan: tcp://10.0.0.7:2376)"),
        (good, [("DOCKER_DEFAULT_PLATFORM", "linux/riscv64")], "DOCKER_DEFAULT_PLATFORM is linux/riscv64"),
    ];
    for (script, environment, expected) in table {
        let sandbox = Sandbox::with_engine();
        sandbox.dotenv(DOTENV);
        sandbox.on("docker info *", &script);
        sandbox.on(
            "docker context inspect *",
            "case $DOCKER_CONTEXT in lan) echo lan tcp://10.0.0.7:2376 ;; *) echo default unix:///var/run/docker.sock ;; esac",
        );
        for args in [["deploy", "dev", "--yes"].as_slice(), &["doctor"]] {
            let run = sandbox.run_with(args, &environment);
            assert_eq!(run.code, Some(4), "{expected}: {run}");
            assert!(format!("{}{}", run.stdout, run.stderr).contains(expected), "{expected}: {run}");
        }
        assert!(!sandbox.cache.join("release").exists() && !sandbox.fake("calls").contains("pull"), "{expected}");
    }
}

#[test]
fn doctor_names_the_process_on_the_port_of_the_cluster() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let held = format!("{port} is held by ");
    // `doctor` may report other problems of this machine.
    let doctor = |sandbox: &Sandbox| {
        let run = sandbox.run(&["doctor", "--origin=release", "--port", &port.to_string()]);
        let row = run.stdout.lines().find(|line| line.contains(" port ")).map(str::to_owned);
        row.unwrap_or_else(|| panic!("{run}"))
    };
    for sandbox in [Sandbox::new(), Sandbox::with_tools()] {
        let row = doctor(&sandbox);
        assert!(row.starts_with('!') && row.contains(&held) && row.contains("takes the next free port"), "{row}");
    }
    let sandbox = Sandbox::with_tools();
    sandbox.profile("containerd");
    sandbox.node("exited", port);
    let row = doctor(&sandbox);
    assert!(row.starts_with('\u{2717}') && row.contains(&held) && row.contains("end that program"), "{row}");
    sandbox.node("running", port);
    let row = doctor(&sandbox);
    assert!(row.contains(&format!("{port}, published by the cluster")), "{row}");
}
