//! Commands that run a separate workspace member: `bench`, `test e2e` and `test soak`.

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{DOTENV, Sandbox};

#[test]
fn bench_runs_the_program_that_cargo_builds() {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    sandbox.cluster();
    sandbox.member("xtask-bench", "echo \"got: $*\"; exit 8");
    insta::assert_snapshot!(sandbox.run(&["bench", "--todos=5", "--json", "--origin=release"]), @"
    exit code 8
    -- stdout
    got: --root <tmp>/root bench --todos=5 --json --origin=release
    -- stderr
      · building xtask-bench, which only this command needs
    Compiling
    ");
}

#[test]
fn bench_compiles_nothing_without_a_release_to_measure() {
    let sandbox = Sandbox::with_tools();
    sandbox.member("xtask-bench", "exit 0");
    let run = sandbox.run(&["bench", "--origin=release"]);
    assert_eq!(run.code, Some(5), "{run}");
    assert!(!sandbox.fake("calls").contains("cargo"), "{run}");
}

#[test]
fn a_member_that_does_not_compile_is_an_error() {
    let sandbox = Sandbox::with_tools();
    sandbox.cluster();
    sandbox.fake_tool("cargo");
    sandbox.on("cargo build *", "echo 'error[E0308]: mismatched types' >&2; exit 101");
    insta::assert_snapshot!(sandbox.run(&["bench", "--origin=release"]), @"
    exit code 1
    -- stderr
      · building xtask-bench, which only this command needs
    error[E0308]: mismatched types
    error: `cargo build --locked --message-format=json-render-diagnostics --package xtask-bench` failed (exit status: 101): its messages are above
    ");
}

#[test]
fn the_last_line_shows_the_counts_of_the_suite() {
    for (script, code, closing) in [
        ("echo '3 passed, 0 failed'", 0, "3 passed, 0 failed"),
        ("echo '3 passed, 2 failed'; exit 9", 9, "3 passed, 2 failed"),
        ("echo '0 passed, 0 failed'", 9, "0 passed, 0 failed"),
        ("echo 'error: no engine' >&2; exit 4", 9, "0 passed, 1 failed"),
    ] {
        let sandbox = Sandbox::with_tools();
        sandbox.member(
            "xtask-e2e",
            &format!("echo \"$*\" >$FAKES/arguments; echo $XTASK_UNDER_TEST >$FAKES/xtask; {script}"),
        );
        let run = sandbox.run(&["test", "e2e", "--only=a deploy", "--yes", "--origin=release"]);
        assert_eq!(run.code, Some(code), "{run}");
        assert_eq!(run.stdout.trim(), closing, "{run}");
        assert!(run.stderr.contains("building xtask-e2e"), "{run}");
        let arguments = sandbox.normalise(&sandbox.fake("arguments"));
        assert_eq!(arguments, "test e2e --only=a deploy --yes --root=<tmp>/root --origin=release\n");
        assert!(sandbox.fake("xtask").starts_with('/'), "{run}");
    }
}

#[test]
fn ctrl_c_ends_the_suite_and_only_the_suite_reports_the_rest() {
    let sandbox = Sandbox::with_tools();
    let trap = "trap 'echo the suite has ended >&2; exit 130' TERM";
    sandbox.member("xtask-e2e", &format!("{trap}; echo $$ >$FAKES/suite; while :; do sleep 0.1; done"));
    let running = sandbox.start(&["test", "soak", "--yes", "--origin=release"]);
    sandbox.wait_for_line("suite");
    kill_process(Pid::from_raw(running.pid() as i32).unwrap(), Signal::INT).unwrap();
    let run = running.end();
    assert_eq!(run.code, Some(130), "{run}");
    assert!(run.stderr.trim_end().ends_with("the suite has ended"), "{run}");
}
