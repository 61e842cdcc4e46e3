//! The database's shell, dumps and restores, as far as they need no database.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::common::{DOTENV, Sandbox, inspect};

const PASSWORD: &str = "not-a-secret-database-password";

/// A sandbox whose `.env` names a database, with an engine that has the Postgres image. The password has a character that
/// the file of passwords escapes.
fn remote() -> Sandbox {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(format!("{DOTENV}DATABASE_URL='postgresql://u:{PASSWORD}%3A1@db.test/todo?sslmode=require'\n"));
    sandbox.on("docker image inspect * postgres:*", &inspect());
    sandbox.on("docker container rm --force todo-xtask-db-*", ":");
    sandbox.on("docker exec -i todo-xtask-db-* sh -c *passwords*", ":");
    sandbox
}

#[test]
fn without_a_cluster_there_is_no_embedded_database() {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    for args in [["db", "shell"].as_slice(), &["db", "dump", "a.dump"]] {
        let run = sandbox.run(&[args, &["--origin=release"]].concat());
        assert_eq!(run.code, Some(5), "{run}");
        assert!(run.stderr.contains("the cluster does not run, and its embedded database with it"), "{run}");
        assert!(run.stderr.contains("try: cargo xtask deploy dev"), "{run}");
    }
}

#[test]
fn what_is_no_dump_is_refused_before_anything_is_asked() {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    let file = sandbox.dir.join("a.dump");
    for (content, told) in [(None, "cannot be read"), (Some("-- SQL"), "is no dump in Postgres' custom format")] {
        if let Some(content) = content {
            fs::write(&file, content).unwrap();
        }
        let run = sandbox.run(&["db", "restore", file.as_str(), "--yes", "--origin=release"]);
        assert!(run.code == Some(3) && run.stderr.contains(told), "{run}");
    }
    assert_eq!(sandbox.fake("calls"), "");
}

#[test]
fn a_file_that_is_there_is_replaced_only_when_asked_for() {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    let file = sandbox.dir.join("a.dump");
    fs::write(&file, "mine").unwrap();
    let run = sandbox.run(&["db", "dump", file.as_str(), "--origin=release"]);
    assert!(run.code == Some(4) && run.stderr.contains("replace the file "), "{run}");
    assert_eq!((fs::read_to_string(&file).unwrap().as_str(), sandbox.fake("calls").as_str()), ("mine", ""));
}

#[test]
fn a_remote_database_is_dumped_with_a_password_that_no_argument_has() {
    let sandbox = remote();
    sandbox.on("docker exec -i todo-xtask-db-* psql *", "echo t");
    sandbox.on("docker exec -i todo-xtask-db-* pg_dump *", "printf PGDMP-content");
    let sql = "COPY public.alembic_version (version_num) FROM stdin;\n0004\n\\.\n";
    sandbox
        .on("docker exec -i todo-xtask-db-* pg_restore --file=-", &format!("printf '{}'", sql.replace('\\', "\\\\")));
    let file = sandbox.dir.join("a.dump");
    let run = sandbox.run(&["db", "dump", file.as_str(), "--verbose", "--origin=release"]);
    assert!(run.code == Some(0) && run.stderr.contains("1 rows of 1 tables, schema 0004, 13 B"), "{run}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "PGDMP-content");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let calls = sandbox.fake("calls");
    assert!(calls.contains("pg_dump --format=custom --no-owner --dbname postgresql://u@db.test/todo?sslmode=require"));
    for (place, text) in [("calls", &calls), ("output", &run.stderr), ("environment", &sandbox.fake("environment"))] {
        assert!(!text.contains(PASSWORD), "{place}: {text}");
    }
    assert!(sandbox.fake("stdin").contains(&format!("*:*:*:*:{PASSWORD}\\:1")), "{}", sandbox.fake("stdin"));
    assert!(calls.contains("docker container rm --force todo-xtask-db-todo-"), "{calls}");
}

#[test]
fn a_dump_that_fails_leaves_no_file() {
    let sandbox = remote();
    sandbox.on("docker exec -i todo-xtask-db-* psql *", "echo t");
    sandbox.on("docker exec -i todo-xtask-db-* pg_dump *", "printf PGDMP; echo connection lost >&2; exit 1");
    let file = sandbox.dir.join("a.dump");
    let run = sandbox.run(&["db", "dump", file.as_str(), "--origin=release"]);
    assert!(run.code != Some(0) && run.stderr.contains("connection lost"), "{run}");
    assert!(!file.exists() && !file.with_extension("dump.new").exists());
}

#[test]
fn a_remote_database_that_does_not_answer_is_told_with_what_is_not_supported() {
    let sandbox = remote();
    sandbox.on("docker exec -i todo-xtask-db-* psql *", "echo could not translate host name >&2; exit 2");
    let run = sandbox.run(&["db", "dump", sandbox.dir.join("a.dump").as_str(), "--origin=release"]);
    assert!(run.code == Some(11) && run.stderr.contains("could not translate host name"), "{run}");
    assert!(run.stderr.contains("a name that only the cluster knows is not supported"), "{run}");
}
