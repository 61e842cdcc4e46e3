//! Concurrent runs, and Ctrl-C.

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{DOTENV, Sandbox, TIME_LIMIT, inspect, no_image};

/// Returns a sandbox whose builds signal their start and run until they are stopped.
fn building() -> Sandbox {
    let sandbox = Sandbox::with_tools();
    sandbox.on("docker image inspect *todo-*", &format!("test -e $FAKES/go || {{ {}; }}; {}", no_image(), inspect()));
    let build = |name: &str| {
        let script = format!(
            "echo $$ >$FAKES/{name}; n=0; while [ $n -lt 300 ] && [ ! -e $FAKES/go ]; do sleep 0.1; n=$((n+1)); done"
        );
        sandbox.on(&format!("docker buildx build *--tag todo-{name}:*"), &script);
    };
    build("backend");
    build("frontend");
    sandbox
}

#[test]
fn a_second_xtask_names_the_running_one() {
    let sandbox = building();
    let first = sandbox.start(&["images", "--origin=release"]);
    sandbox.wait_for_line("backend");
    sandbox.wait_for_line("frontend");
    for args in [["images", "--origin=release"].as_slice(), &["teardown", "--cache"], &["deploy", "dev"]] {
        let second = sandbox.run(args);
        assert_eq!(second.code, Some(10), "{second}");
        assert!(second.stderr.contains(&format!("(pid {})", first.pid())), "{second}");
    }
    insta::assert_snapshot!(sandbox.run(&["teardown"]), @"
    exit code 10
    -- stderr
    error: another xtask is at work on `todo`: cargo xtask --root <tmp>/root images --origin=release (pid <pid>)
      try: wait for it to end, or end it; this run changed nothing
    ");
    // A run on another profile is not blocked.
    assert_eq!(sandbox.run(&["teardown", "--profile=other", "--origin=release"]).code, Some(0));
    sandbox.signal("go");
    let first = first.end();
    assert_eq!(first.code, Some(0), "{first}");
    assert_eq!(sandbox.run(&["images", "--origin=release"]).code, Some(0), "the lock is free again");
}

#[test]
fn ctrl_c_ends_everything_with_code_130() {
    for (signal, command) in [(Signal::INT, ["images"].as_slice()), (Signal::TERM, &["deploy", "dev"])] {
        let sandbox = building();
        sandbox.dotenv(DOTENV);
        sandbox.cluster();
        sandbox.on("docker exec -i todo crictl --timeout=10s images *", r#"echo '{"images": []}'"#);
        let running = sandbox.start(&[command, &["--origin=release"]].concat());
        let groups = ["backend", "frontend"].map(|name| sandbox.wait_for_line(name).parse::<i32>().unwrap());
        let before = sandbox.fake("calls");
        kill_process(Pid::from_raw(running.pid() as i32).unwrap(), signal).unwrap();
        let run = running.end();
        assert_eq!(run.code, Some(130), "{run}");
        assert!(run.stderr.trim_end().ends_with("run the same command to continue"), "{run}");
        assert!(!run.stderr.contains("error:"), "{run}");
        groups.iter().for_each(|group| assert!(!alive(*group), "group {group} lives on after: {run}"));
        assert_eq!(sandbox.fake("calls"), before, "something was begun after the interruption");
    }
}

#[test]
fn a_failing_part_ends_a_first_run_without_waiting_for_the_others() {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    sandbox.on("docker image inspect *todo-*", &no_image());
    sandbox.on("docker image inspect *traefik*", &no_image());
    // The earlier stages still run when the images are built, and when they fail.
    sandbox.on("docker pull traefik*", "echo $$ >$FAKES/pull; sleep 600");
    sandbox.on("minikube * start *", "while [ ! -e $FAKES/built ]; do sleep 0.1; done; sleep 1; exit 1");
    sandbox.on("docker buildx build *", "echo >$FAKES/built; echo 'no such module' >&2; exit 1");
    let start = std::time::Instant::now();
    let run = sandbox.run(&["deploy", "dev", "--origin=release"]);
    assert!(run.stderr.contains(" did not build: ") && run.stderr.contains("no such module"), "{run}");
    assert!(!run.stderr.contains("error: minikube did not start"), "{run}");
    assert!(start.elapsed() < TIME_LIMIT, "{run}");
    assert!(!alive(sandbox.wait_for_line("pull").parse().unwrap()), "{run}");
}

/// Returns whether a process of the group runs. Ignores zombies.
fn alive(group: i32) -> bool {
    if !cfg!(target_os = "linux") {
        return rustix::process::test_kill_process_group(Pid::from_raw(group).unwrap()).is_ok();
    }
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter_map(|stat| Some(stat.rsplit_once(") ")?.1.to_owned())).any(|stat| {
        let fields: Vec<&str> = stat.split(' ').collect();
        fields[2] == group.to_string() && !["Z", "X"].contains(&fields[0])
    })
}
