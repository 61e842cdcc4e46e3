//! `db`: shell, dump and restore of the embedded and of a remote database.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use camino::Utf8Path;

use super::database::Database;
use super::test_cluster::{AUTH, TestCluster};
use xtask::stages::upgrade::Postgres;

/// Must appear in no message and in no argument.
const PASSWORD: &str = "not-a-secret-database-password";

/// Runs a script in `db shell`. Returns its output.
fn shell(test_cluster: &TestCluster, sql: &str, envs: &[(&str, &str)]) -> Result<String> {
    let source: &[&str] = if envs.is_empty() { &[] } else { &["--secrets", "env"] };
    let mut command = test_cluster.command(&[&["db", "shell"], source].concat());
    command.envs(envs.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().context("a standard input")?.write_all(sql.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{sql}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// A restore brings back exactly the dumped state, whatever changed since.
pub fn embedded(test_cluster: &TestCluster) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = Utf8Path::from_path(folder.path()).context("a folder")?.join("a.dump");
    test_cluster.xtask(&["db", "dump", file.as_str()])?.expect(0, &["tables, schema "])?;
    let postgres = Postgres::find(&test_cluster.project.settings, &test_cluster.tools()?)?.context("a database")?;
    let before = postgres.tables()?;

    shell(test_cluster, "CREATE TABLE later (a int); DELETE FROM users;", &[])?;
    let changed = postgres.tables()?;
    ensure!(changed != before, "nothing was changed");
    // A truncated dump changes nothing.
    let whole = std::fs::read(&file)?;
    let half = file.with_extension("half");
    std::fs::write(&half, &whole[..whole.len() * 2 / 3])?;
    ensure!(postgres.restore(&half).is_err() && postgres.tables()? == changed, "half a dump changed something");
    test_cluster.xtask(&["db", "restore", half.as_str()])?.expect(3, &["is damaged; nothing was changed"])?;

    // A table that neither dump nor migrations have is foreign.
    test_cluster.xtask(&["db", "restore", file.as_str()])?.expect(11, &["a restore would drop them: public.later"])?;
    ensure!(postgres.tables()? == changed, "a refused restore changed something");
    shell(test_cluster, "DROP TABLE later;", &[])?;
    let restored = test_cluster.xtask(&["db", "restore", file.as_str()])?;
    restored.expect(0, &["as in the dump", "the application serves again"])?;
    ensure!(postgres.tables()? == before, "{:?} instead of {before:?}", postgres.tables()?);

    let newer = file.with_extension("newer");
    shell(test_cluster, "UPDATE alembic_version SET version_num = '9999';", &[])?;
    test_cluster.xtask(&["db", "dump", newer.as_str()])?.expect(0, &["schema 9999"])?;
    test_cluster
        .xtask(&["db", "restore", newer.as_str()])?
        .expect(11, &["has schema 9999, but the newest one in this checkout is"])?;
    test_cluster.xtask(&["db", "restore", file.as_str()])?.expect(0, &["(schema 9999)", "as in the dump"])?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["nothing changed"]).map(drop)
}

/// Dump and restore with `DATABASE_URL` need no local psql and leave no trace of container or password.
pub fn remote(test_cluster: &TestCluster) -> Result<()> {
    let database = Database::start(test_cluster, PASSWORD)?;
    let url = database.url();
    let environment = [("DATABASE_URL", url.as_str()), ("AUTH_SECRET", AUTH)];
    let schema = "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('0001'); \
                  CREATE TABLE notes (a text); INSERT INTO notes VALUES ('kept');";
    shell(test_cluster, schema, &environment)?;
    let folder = tempfile::tempdir()?;
    let file = Utf8Path::from_path(folder.path()).context("a folder")?.join("a.dump");
    let run = |args: &[&str], code: i32, expected: &[&str]| -> Result<()> {
        let ran = test_cluster
            .xtask_with(&[args, &["--secrets", "env", "--verbose"]].concat(), &environment)?
            .expect(code, expected)?;
        ensure!(!ran.text.contains(PASSWORD), "the password is shown: {}", ran.text);
        Ok(())
    };
    run(&["db", "dump", file.as_str()], 0, &["2 rows of 2 tables, schema 0001"])?;
    shell(test_cluster, "DELETE FROM notes;", &environment)?;
    run(
        &["db", "restore", file.as_str()],
        0,
        &["keep the running release as it is", "2 rows of 2 tables, schema 0001, as in the dump"],
    )?;
    ensure!(shell(test_cluster, "SELECT a FROM notes;", &environment)?.contains("kept"), "the note is gone");
    let left = test_cluster.tools()?.engine.docker().args([
        "container",
        "ls",
        "--all",
        "--quiet",
        "--filter=name=todo-xtask-db-",
    ]);
    ensure!(left.read()?.trim().is_empty(), "a container is left");
    Ok(())
}
