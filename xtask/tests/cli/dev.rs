//! Questions and refusals of `dev` before it serves, and its removal by `teardown`.

use std::fs;

use crate::common::{DOTENV, Sandbox};

const URL: &str = "postgresql://u:not-a-secret-canary-password@db.lan/x?sslmode=require";

#[test]
fn asks_once_before_it_migrates_a_remote_database() {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(format!("{DOTENV}DATABASE_URL='{URL}'\n"));
    // No containers can start here, so this checks the output before that.
    sandbox.on("docker container ls *", "echo 'connection reset by peer' >&2; exit 1");
    insta::assert_snapshot!(sandbox.run(&["dev", "--origin=release"]), @"
    exit code 4
    -- stderr
    xtask will make these changes on this machine:
      - migrate the database at db.lan, now and whenever you save a migration
    error: cannot ask for your consent: there is no terminal
      try: run the same command with --yes
    ");
    let agreed = sandbox.run(&["dev", "--yes", "--origin=release"]);
    assert!(agreed.stderr.contains("migrate the database at db.lan"), "{agreed}");
    let again = sandbox.run(&["dev", "--origin=release"]);
    assert!(
        !again.stderr.contains("make these changes") && again.stderr.contains("db.lan, which `dev` migrates"),
        "{again}"
    );
    sandbox.dotenv(format!("{DOTENV}DATABASE_URL='{}'\n", URL.replace("/x?", "/y?")));
    let other = sandbox.run(&["dev", "--origin=release"]);
    assert!(other.stderr.contains("cannot ask for your consent"), "{other}");
    for run in [&agreed, &again, &other] {
        assert!(!run.stderr.contains("canary"), "{run}");
    }
}

#[test]
fn an_unreadable_list_of_containers_is_an_error_and_nothing_is_removed() {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    sandbox.on("docker container ls *", "echo 'context deadline exceeded' >&2; exit 1");
    let dev = sandbox.run(&["dev", "--origin=release"]);
    sandbox.on("docker volume ls *", "");
    let teardown = sandbox.run(&["teardown", "--data", "--yes", "--origin=release"]);
    for run in [dev, teardown] {
        let error = "error: cannot list the containers of `dev`: `docker container ls";
        assert!(run.code == Some(4) && run.stderr.contains(error), "{run}");
    }
    assert!(!sandbox.calls().contains("rm "), "{}", sandbox.calls());
}

#[test]
fn removes_the_rest_of_a_killed_dev_and_reports_failed_removals() {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    sandbox.on("docker container ls *", "echo 'context deadline exceeded' >&2; exit 1");
    sandbox.run(&["dev", "--origin=release"]);
    for noun in ["container", "volume", "network"] {
        sandbox.on(&format!("docker {noun} ls *"), &format!("[ -e $FAKES/no-{noun} ] || echo 0123456789ab"));
        sandbox.on(&format!("docker {noun} rm *"), &format!(": > $FAKES/no-{noun}"));
    }
    let kept = sandbox.run(&["teardown", "--origin=release"]);
    assert!(kept.stderr.contains("✓ containers (1), network of `cargo xtask dev` removed"), "{kept}");
    assert!(kept.stderr.contains("stays: the todos of `cargo xtask dev` (volume todo-dev-"), "{kept}");
    sandbox.on("docker volume rm *", "echo 'volume is in use' >&2; exit 1");
    let failed = sandbox.run(&["teardown", "--data", "--yes", "--origin=release"]);
    assert!(failed.code != Some(0) && failed.stderr.contains("volume is in use"), "{failed}");
    sandbox.on("docker volume rm *", "");
    let left = sandbox.run(&["teardown", "--data", "--yes", "--origin=release"]);
    assert!(left.code == Some(4) && left.stderr.contains("but still lists 0123456789ab"), "{left}");
    sandbox.on("docker volume rm *", ": > $FAKES/no-volume");
    let removed = sandbox.run(&["teardown", "--data", "--yes", "--origin=release"]);
    assert!(removed.stderr.contains("delete the todos of `cargo xtask dev`: volume todo-dev-"), "{removed}");
    assert!(
        removed.code == Some(0) && removed.stderr.contains("network and todos of `cargo xtask dev` removed"),
        "{removed}"
    );
    let again = sandbox.run(&["teardown", "--data", "--origin=release"]);
    assert!(again.code == Some(0) && !again.stderr.contains("cargo xtask dev"), "{again}");
}

#[test]
fn a_port_used_by_dev_of_another_checkout_is_reported_with_its_process() {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    for noun in ["container", "network"] {
        sandbox.on(&format!("docker {noun} ls --quiet *"), "");
    }
    sandbox.on("docker network create *", "");
    sandbox.on("docker container ls --format *publish=3999*", "echo '/other (process 42)'");
    let run = sandbox.run(&["dev", "--port=3999", "--origin=release"]);
    let error = "error: port 3999 is held by `cargo xtask dev` of /other (process 42)";
    assert!(run.code == Some(4) && run.stderr.contains(error) && run.stderr.contains("--port 4000"), "{run}");
    sandbox.on("docker container ls --format *", "");
    sandbox.on("docker container ls --format *publish=5678*", "echo '/other (process 42)'");
    let run = sandbox.run(&["dev", "--port=3999", "--debug=backend", "--origin=release"]);
    let error = "error: port 5678 is held by `cargo xtask dev` of /other (process 42)";
    assert!(run.code == Some(4) && run.stderr.contains(error), "{run}");
    assert!(run.stderr.contains("leave out the debugger"), "{run}");
}

#[test]
fn teardown_does_not_stop_a_running_dev_test() {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    sandbox.on("docker container ls *", "echo 'context deadline exceeded' >&2; exit 1");
    sandbox.run(&["dev", "--origin=release"]);
    let locks = sandbox.cache.join("locks");
    let own = locks.as_std_path().read_dir().unwrap().map(|found| found.unwrap().file_name().into_string().unwrap());
    let own = own.filter(|name| name.starts_with("dev-")).collect::<Vec<_>>().concat();
    let file = fs::File::create(locks.join(own.replace(".lock", "-test.lock"))).unwrap();
    file.lock().unwrap();
    for noun in ["container", "volume", "network"] {
        sandbox.on(&format!("docker {noun} ls *"), "echo 0123456789ab");
    }
    let run = sandbox.run(&["teardown", "--origin=release"]);
    assert!(run.stderr.contains("error: another xtask is at work on `dev-"), "{run}");
    assert!(!sandbox.calls().contains("rm "), "{run}{}", sandbox.calls());
}

#[test]
fn tests_outside_the_applications_are_refused_with_an_example() {
    let sandbox = Sandbox::with_tools();
    for path in ["apps/backend/tests/none.py", "README.md"] {
        let run = sandbox.run(&["dev", "test", path]);
        assert!(
            run.code == Some(3)
                && run.stderr.contains(&format!("`{path}` is not a test file or folder of an application")),
            "{run}"
        );
    }
}
