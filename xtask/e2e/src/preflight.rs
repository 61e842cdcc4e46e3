//! The preflight reports why a database is unusable before anything is released.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::database::Database;
use super::test_cluster::{AUTH, TestCluster};

/// Must appear in no message.
const PASSWORD: &str = "not-a-secret-database-password";

/// Neon's error for a project that has used up its quota.
const QUOTA: &str =
    "Your account or project has exceeded the compute time quota. Upgrade your plan to increase limits.";

/// A URL, and the texts that the deploy must print about it.
struct Case {
    url: String,
    expected: &'static [&'static str],
}

pub fn told_apart(test_cluster: &TestCluster) -> Result<()> {
    let database = Database::start(test_cluster, PASSWORD)?;
    let there = format!("{}:5432", database.address);
    let closed = TcpListener::bind((database.gateway, 0))?.local_addr()?.to_string();
    let url = |password: &str, place: &str, name: &str, ssl: &str| database.url_with(password, place, name, ssl);
    let cases = [
        Case {
            url: url("not-a-secret-but-wrong", &there, "todo", "disable"),
            expected: &["from this machine: wrong password (at authentication)", "edit DATABASE_URL in .env"],
        },
        Case {
            url: url(PASSWORD, &there, "nowhere", "disable"),
            expected: &["from this machine: no such database", "after the last / of DATABASE_URL"],
        },
        Case {
            url: url(PASSWORD, &there, "todo", "require"),
            expected: &["from this machine: TLS refused", "sslmode"],
        },
        Case {
            url: url(PASSWORD, &closed, "todo", "disable"),
            expected: &["from this machine, nor from a pod: unreachable (at connection)", "refused"],
        },
        Case {
            url: url(PASSWORD, "no-such-host.invalid", "todo", "disable"),
            expected: &[
                "from this machine, nor from a pod: unreachable (at name resolution)",
                "no-such-host.invalid does not resolve",
            ],
        },
        Case {
            url: url(PASSWORD, &database.asleep(Duration::from_secs(600))?, "todo", "disable"),
            expected: &["from this machine, nor from a pod: waking up", "then again: cargo xtask "],
        },
        Case {
            url: url(PASSWORD, &database.refusing(QUOTA)?, "todo", "disable"),
            expected: &["quota exceeded", "Neon: Billing"],
        },
    ];
    // Since Postgres 15, only the owner may create tables in schema public.
    database.run(&format!("CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'"))?;
    let guest = Case {
        url: url(PASSWORD, &there, "todo", "disable").replace("//todo:", "//guest:"),
        expected: &[
            "missing privilege (at migrations)",
            "role guest may not create tables in schema public",
            "GRANT USAGE, CREATE ON SCHEMA public TO guest;",
        ],
    };
    let diverged = Case {
        url: url(PASSWORD, &there, "todo", "disable"),
        expected: &["from this machine: diverged (at migrations)", "use a branch of your own"],
    };
    let before = state(test_cluster)?;
    for case in cases.into_iter().chain([guest, diverged]) {
        if case.expected[0].contains("diverged") {
            // Migrations of another branch produce this state.
            database.run("CREATE TABLE alembic_version AS SELECT 'a1b2c3' AS version_num")?;
            database.run("CREATE TABLE schema_history AS SELECT 'a1b2c3' AS revision, 'a1b2c3_theirs' AS name")?;
        }
        test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}\nDATABASE_URL='{}'\n", case.url))?;
        let ran = test_cluster.xtask(&["deploy", "dev", "--verbose"])?.expect(11, case.expected)?;
        ensure!(!ran.text.contains("not-a-secret"), "the password is shown:\n{}", ran.text);
        test_cluster.project.report.note(format!("{}: reported in {:.1} s", case.expected[0], ran.took.as_secs_f64()));
        ensure!(state(test_cluster)? == before, "something was changed: {before:?} is now {:?}", state(test_cluster)?);
    }
    test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}\n"))
}

pub fn used(test_cluster: &TestCluster) -> Result<()> {
    let result = check_remote(test_cluster);
    // Switch back to the embedded database, which needs no preflight.
    test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}\n"))?;
    let back = test_cluster.xtask(&["deploy", "dev"])?;
    result?;
    let back = back.expect(0, &["embedded Postgres", "is up"])?;
    ensure!(!back.text.contains("look at the database"), "the embedded database was checked:\n{}", back.text);
    Ok(())
}

fn check_remote(test_cluster: &TestCluster) -> Result<()> {
    let database = Database::start_with_tls(test_cluster, PASSWORD)?;
    let slow = database.asleep(Duration::from_millis(2500))?;
    test_cluster.write_dotenv(&format!(
        "AUTH_SECRET={AUTH}\nDATABASE_URL='{}'\n",
        database.url_with(PASSWORD, &slow, "todo", "disable")
    ))?;
    let deploy = |texts: &[&str]| test_cluster.xtask(&["deploy", "dev"])?.expect(0, texts);
    deploy(&["look at the database from a pod", "it was suspended, and woke up within", "is up"])?;
    test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}\nDATABASE_URL='{}'\n", database.url()))?;
    let ran = deploy(&[
        "from here",
        "from a pod",
        "Postgres 17",
        "no TLS, direct",
        "Secret of backend changed (DATABASE_URL)",
    ])?;
    ensure!(!ran.text.contains(PASSWORD), "the password is shown:\n{}", ran.text);
    // The server accepts clients with and without TLS.
    let with_tls = database.url().replace("sslmode=disable", "sslmode=require");
    test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}\nDATABASE_URL='{with_tls}'\n"))?;
    deploy(&["from a pod", "Postgres 17", "TLS, direct", "is up"])?;
    let again = deploy(&["nothing changed"])?;
    ensure!(!again.text.contains("look at the database"), "an unchanged database was checked again:\n{}", again.text);
    Ok(())
}

/// Returns the pods, Secrets, Jobs and Deployments, which a refused deploy must leave unchanged.
fn state(test_cluster: &TestCluster) -> Result<Vec<String>> {
    let names = test_cluster.tools()?.kubectl_here().args(["get", "pods,secrets,jobs,deployments", "-o"]);
    let path = r#"jsonpath={range .items[*]}{.metadata.deletionTimestamp} {.kind} {.metadata.name} {.metadata.uid}{"\n"}{end}"#;
    let names = names.arg(path).read()?;
    // Skips pods that are terminating, and the preflight Job's pod, which is deleted in the background.
    let stay = |line: &&str| !line.starts_with(" Pod todo-preflight");
    Ok(names.lines().filter(|line| line.starts_with(' ')).filter(stay).map(str::to_owned).collect())
}
