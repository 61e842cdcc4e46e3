//! Issue 10: what an undo rests on, values that take the database away, and names that lead nowhere.

use anyhow::{Context, Result, ensure};

use super::bed::{AUTH, Bed};
use super::causes::{VALUES, check_evidence, check_time, mistake, nothing_to_do, sound, values};
use super::database::Database;
use super::load::Load;
use super::neighbours::revisions;

/// Helm's history is gone while the release serves: a deploy that fails must not take that for a first install.
pub fn lost_history(bed: &Bed) -> Result<()> {
    sound(bed)?;
    let before = [bed.pods("backend")?, bed.pods("frontend")?];
    bed.tools()?.kubectl_here().args(["delete", "secrets", "-l", "owner=helm,name=todo"]).run()?;
    let edited = bed.edit(VALUES, values("backend:\n  command: [no-such-program]"))?;
    let load = Load::start(bed)?;
    let ran = bed.xtask(&["deploy", "dev"]);
    load.stop()?;
    drop(edited);
    let told =
        ["no-such-program", "it could not be undone: nothing was removed: revision", "so this was no first install"];
    ran?.expect(7, &told)?.expect(7, &["runs now: todo-backend     2/2 ready"])?;
    ensure!(before[1] == bed.pods("frontend")?, "the frontend was replaced");
    let (old, after) = (&before[0], bed.pods("backend")?);
    ensure!(old.iter().all(|pod| after.contains(pod)), "old pods did not stay: {old:?} {after:?}");
    bed.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
    let (newest, verified) = revisions(bed)?;
    ensure!(newest == verified, "Helm is at {newest:?}, recorded is {verified:?}");
    nothing_to_do(bed)
}

/// A value that renames the objects would delete the database under the running application.
pub fn renamed(bed: &Bed) -> Result<()> {
    sound(bed)?;
    let before = [bed.pods("backend")?, bed.pods("frontend")?, bed.pods("postgres")?];
    let edited = bed.edit(VALUES, values("fullnameOverride: shop"))?;
    let told =
        ["would leave the todos behind", "StatefulSet todo-postgres would be deleted", "StatefulSet shop-postgres"];
    bed.xtask(&["deploy", "dev"])?.expect(3, &told)?.expect(3, &["fullnameOverride", "teardown --data"])?;
    bed.xtask(&["deploy", "dev", "--dry-run"])?.expect(3, &told)?;
    drop(edited);
    ensure!(before == [bed.pods("backend")?, bed.pods("frontend")?, bed.pods("postgres")?], "pods were replaced");
    nothing_to_do(bed)
}

/// A backend whose database's name does not resolve.
pub fn unknown_host(bed: &Bed) -> Result<()> {
    let edit =
        values("backend:\n  command: [env, 'DATABASE_URL=postgresql://todo@no-such-host/todo', python3, -m, app]");
    let words = ["container backend waits for host no-such-host, whose name does not resolve", ".env, or a value"];
    mistake(bed, VALUES, edit, "unknown-host", &words).map(drop)
}

/// The Ingress serves one host: that is proven, and the address that is printed works.
pub fn host(bed: &Bed) -> Result<()> {
    let edited = bed.edit(VALUES, values("ingress:\n  host: todo.test"))?;
    let front = format!("http://todo.test:{}", bed.port);
    let told = bed.xtask(&["deploy", "dev"]);
    let status = bed.xtask(&["status", "--verify"]);
    let address = bed.address()?;
    let asked = |host: &str| {
        xtask::stages::proof::http::get(&address, host, "/").map(|answer| (answer.status, answer.served_by))
    };
    let (with, without) = (asked("todo.test"), asked(""));
    drop(edited);
    bed.xtask(&["deploy", "dev"])?.expect(0, &[&format!("{address}  is up")])?;
    told?.expect(0, &[&format!("{front}  is up"), "127.0.0.1 todo.test", "curl --resolve todo.test:"])?;
    status?.expect(0, &[&front, "every route answers", "curl --resolve todo.test:"])?;
    ensure!(with.as_ref().is_ok_and(|(status, by)| *status < 500 && by.starts_with("todo-frontend/")), "{with:?}");
    ensure!(without.as_ref().is_ok_and(|(status, _)| *status == 404), "{without:?}");
    nothing_to_do(bed)
}

/// A role that may not create tables is refused before Helm takes the embedded database away. A rollout that fails on the
/// way to another database is rolled back to what was verified.
pub fn failed_move(bed: &Bed) -> Result<()> {
    const PASSWORD: &str = "not-a-secret-of-another-database";
    sound(bed)?;
    let (dotenv, embedded) = (std::fs::read_to_string(bed.root.join(".env"))?, bed.pods("postgres")?);
    let database = Database::start(bed, PASSWORD)?;
    database.run(&format!("CREATE ROLE limited LOGIN PASSWORD '{PASSWORD}'"))?;
    let deploy = |url: &str| -> Result<_> {
        bed.write_dotenv(&format!("AUTH_SECRET={AUTH}\nDATABASE_URL='{url}'\n"))?;
        let ran = bed.xtask(&["deploy", "dev"]);
        bed.write_dotenv(&dotenv)?;
        ran
    };
    let refused = deploy(&database.url().replace("//todo:", "//limited:"))?;
    let refused =
        refused.expect(11, &["role limited may not create tables in schema public", "GRANT USAGE, CREATE"])?;
    ensure!(bed.pods("postgres")? == embedded, "the embedded database was touched");
    let edited = bed.edit(VALUES, values("backend:\n  command: [no-such-program]"))?;
    let failed = deploy(&database.url());
    drop(edited);
    let failed = failed?.expect(7, &["no-such-program", "rolled back to revision"])?;
    ensure!(![refused.text, failed.text.clone()].concat().contains(PASSWORD), "the password is shown");
    check_time(&failed)?;
    check_evidence(bed, &failed, "cannot-start")?;
    bed.until_ready().context("the embedded database is back")?;
    nothing_to_do(bed)
}
