//! Preconditions of a rollback, values that would delete the database, and host names that do not resolve.

use anyhow::{Context, Result, ensure};

use super::causes::{VALUES, check_evidence, check_time, mistake, nothing_to_do, sound, values};
use super::database::Database;
use super::neighbours::revisions;
use super::test_cluster::{AUTH, TestCluster};

/// Without Helm's history, a failing deploy must not treat the serving release as a first install.
pub fn lost_history(test_cluster: &TestCluster) -> Result<()> {
    sound(test_cluster)?;
    let before = [test_cluster.pods("backend")?, test_cluster.pods("frontend")?];
    test_cluster.tools()?.kubectl_here().args(["delete", "secrets", "-l", "owner=helm,name=todo"]).run()?;
    let edited = test_cluster.edit(VALUES, values("backend:\n  command: [no-such-program]"))?;
    let (ran, _) = test_cluster.load.during(test_cluster, || test_cluster.xtask(&["deploy", "dev"]))?;
    drop(edited);
    let expected =
        ["no-such-program", "it could not be undone: nothing was removed: revision", "so this was no first install"];
    ran?.expect(7, &expected)?.expect(7, &["runs now: todo-backend     2/2 ready"])?;
    ensure!(before[1] == test_cluster.pods("frontend")?, "the frontend was replaced");
    let (old, after) = (&before[0], test_cluster.pods("backend")?);
    ensure!(old.iter().all(|pod| after.contains(pod)), "old pods did not stay: {old:?} {after:?}");
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
    let (newest, verified) = revisions(test_cluster)?;
    ensure!(newest == verified, "Helm is at {newest:?}, the record at {verified:?}");
    nothing_to_do(test_cluster)
}

/// A deploy refuses a value that renames the objects, because it would delete the running database.
pub fn renamed(test_cluster: &TestCluster) -> Result<()> {
    sound(test_cluster)?;
    let before = [test_cluster.pods("backend")?, test_cluster.pods("frontend")?, test_cluster.pods("postgres")?];
    let edited = test_cluster.edit(VALUES, values("fullnameOverride: shop"))?;
    let expected =
        ["would leave the todos behind", "StatefulSet todo-postgres would be deleted", "StatefulSet shop-postgres"];
    let ran = test_cluster.xtask(&["deploy", "dev"])?.expect(3, &expected)?;
    ran.expect(3, &["fullnameOverride", "teardown --data"])?;
    test_cluster.xtask(&["deploy", "dev", "--dry-run"])?.expect(3, &expected)?;
    drop(edited);
    ensure!(
        before == [test_cluster.pods("backend")?, test_cluster.pods("frontend")?, test_cluster.pods("postgres")?],
        "pods were replaced"
    );
    nothing_to_do(test_cluster)
}

/// The backend waits for a database whose host name does not resolve.
pub fn unknown_host(test_cluster: &TestCluster) -> Result<()> {
    let edit =
        values("backend:\n  command: [env, 'DATABASE_URL=postgresql://todo@no-such-host/todo', python3, -m, app]");
    let words = ["container backend waits for host no-such-host, whose name does not resolve", ".env, or a value"];
    mistake(test_cluster, VALUES, edit, "unknown-host", &words).map(drop)
}

/// An Ingress for one host is proven with that host, and the printed address works.
pub fn host(test_cluster: &TestCluster) -> Result<()> {
    let edited = test_cluster.edit(VALUES, values("ingress:\n  host: todo.test"))?;
    let front = format!("http://todo.test:{}", test_cluster.port);
    let deployed = test_cluster.xtask(&["deploy", "dev"]);
    let status = test_cluster.xtask(&["status", "--verify"]);
    let address = test_cluster.address()?;
    let get = |host: &str| {
        xtask::stages::proof::http::get(&address, host, "/")
            .map(|answer| (answer.status, answer.header("X-Served-By").to_owned()))
    };
    let (with, without) = (get("todo.test"), get(""));
    drop(edited);
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &[&format!("{address}  is up")])?;
    deployed?.expect(0, &[&format!("{front}  is up"), "127.0.0.1 todo.test", "curl --resolve todo.test:"])?;
    status?.expect(0, &[&front, "every route answers", "curl --resolve todo.test:"])?;
    ensure!(with.as_ref().is_ok_and(|(status, by)| *status < 500 && by.starts_with("todo-frontend/")), "{with:?}");
    ensure!(without.as_ref().is_ok_and(|(status, _)| *status == 404), "{without:?}");
    nothing_to_do(test_cluster)
}

/// A role that may not create tables is refused before Helm removes the embedded database. A failing rollout with another
/// database is rolled back to the verified revision.
pub fn failed_move(test_cluster: &TestCluster) -> Result<()> {
    const PASSWORD: &str = "not-a-secret-of-another-database";
    sound(test_cluster)?;
    let (dotenv, embedded) = (std::fs::read_to_string(test_cluster.root.join(".env"))?, test_cluster.pods("postgres")?);
    let database = Database::start(test_cluster, PASSWORD)?;
    database.run(&format!("CREATE ROLE limited LOGIN PASSWORD '{PASSWORD}'"))?;
    let deploy = |url: &str| -> Result<_> {
        test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}\nDATABASE_URL='{url}'\n"))?;
        let ran = test_cluster.xtask(&["deploy", "dev"]);
        test_cluster.write_dotenv(&dotenv)?;
        ran
    };
    let refused = deploy(&database.url().replace("//todo:", "//limited:"))?;
    let refused =
        refused.expect(11, &["role limited may not create tables in schema public", "GRANT USAGE, CREATE"])?;
    ensure!(test_cluster.pods("postgres")? == embedded, "the embedded database was touched");
    let edited = test_cluster.edit(VALUES, values("backend:\n  command: [no-such-program]"))?;
    let failed = deploy(&database.url());
    drop(edited);
    let failed = failed?.expect(7, &["no-such-program", "rolled back to revision"])?;
    ensure!(![refused.text, failed.text.clone()].concat().contains(PASSWORD), "the password is shown");
    check_time(&failed)?;
    check_evidence(test_cluster, &failed, "cannot-start")?;
    test_cluster.until_ready().context("the embedded database is back")?;
    nothing_to_do(test_cluster)
}
