//! Shell, dump and restore of the database, with fake database clients.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine as _;
use camino::Utf8PathBuf;
use serde_json::{Value, json};

use crate::api_server::Reply;
use crate::common::{DOTENV, Run, Sandbox, inspect};

const PASSWORD: &str = "not-a-secret-database-password";

/// Returns a sandbox with a remote database in `.env` and an engine with the Postgres image. The password has a character
/// that the password file escapes.
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
        assert!(run.stderr.contains("the cluster does not run, so its embedded database does not run either"), "{run}");
        assert!(run.stderr.contains("try: cargo xtask deploy dev"), "{run}");
    }
}

#[test]
fn an_invalid_dump_is_refused_before_any_question() {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    let file = sandbox.dir.join("a.dump");
    for (content, error) in [(None, "cannot be read"), (Some("-- SQL"), "is not a dump in Postgres' custom format")] {
        if let Some(content) = content {
            fs::write(&file, content).unwrap();
        }
        let run = sandbox.run(&["db", "restore", file.as_str(), "--yes", "--origin=release"]);
        assert!(run.code == Some(3) && run.stderr.contains(error), "{run}");
    }
    assert_eq!(sandbox.fake("calls"), "");
}

#[test]
fn an_existing_file_is_replaced_only_on_request() {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    let file = sandbox.dir.join("a.dump");
    fs::write(&file, "mine").unwrap();
    let run = sandbox.run(&["db", "dump", file.as_str(), "--origin=release"]);
    assert!(run.code == Some(4) && run.stderr.contains("replace the file "), "{run}");
    assert_eq!((fs::read_to_string(&file).unwrap().as_str(), sandbox.fake("calls").as_str()), ("mine", ""));
}

#[test]
fn a_folder_is_refused_as_the_file_of_a_dump() {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    let run = sandbox.run(&["db", "dump", sandbox.dir.as_str(), "--origin=release"]);
    assert!(run.code == Some(3) && run.stderr.contains("is a folder: name a file in it"), "{run}");
    let help = format!("try: cargo xtask db dump {}/todo.dump", sandbox.dir);
    assert!(run.stderr.contains(&help), "{run}");
}

#[test]
fn the_password_of_a_remote_database_is_in_no_argument() {
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
    let file = sandbox.dir.join("dumps/a.dump");
    fs::create_dir(sandbox.dir.join("dumps")).unwrap();
    fs::write(sandbox.dir.join("dumps/a.dump.new"), "mine").unwrap();
    let before = sandbox.listing(&sandbox.dir.join("dumps"));
    let run = sandbox.run(&["db", "dump", file.as_str(), "--origin=release"]);
    assert!(run.code != Some(0) && run.stderr.contains("connection lost"), "{run}");
    assert_eq!(sandbox.listing(&sandbox.dir.join("dumps")), before);
}

#[test]
fn an_unreachable_remote_database_is_reported_with_a_hint() {
    let sandbox = remote();
    sandbox.on("docker exec -i todo-xtask-db-* psql *", "echo could not translate host name >&2; exit 2");
    let run = sandbox.run(&["db", "dump", sandbox.dir.join("a.dump").as_str(), "--origin=release"]);
    assert!(run.code == Some(11) && run.stderr.contains("could not translate host name"), "{run}");
    assert!(run.stderr.contains("use a host name that this machine resolves"), "{run}");
}

/// Path of the backend's Deployment on the API server.
const BACKEND: &str = "/apis/apps/v1/namespaces/todo/deployments/todo-backend";
/// SQL of a restored database: one row of the schema's version, and one todo.
const SQL: &str = "COPY public.alembic_version (version_num) FROM stdin;\\n0001\\n\\\\.\\n\
                   COPY public.todos (id) FROM stdin;\\n7\\n\\\\.\\n";

/// A sandbox in which a restore runs with a fake database.
struct Restore {
    sandbox: Sandbox,
    file: Utf8PathBuf,
}

impl Restore {
    /// Adds a database that has `tables` before and `sql` after a restore. The restore runs `script`.
    fn of(sandbox: Sandbox, client: &str, tables: &str, script: &str, sql: &str) -> Self {
        let versions = sandbox.root.join("apps/backend/app/migrations/versions");
        fs::create_dir_all(&versions).unwrap();
        fs::write(versions.join("0001.py"), "revision = \"0001\"\nCREATE TABLE todos (\n").unwrap();
        // The queries differ only in their SQL on standard input.
        let answer = format!("case $(cat \"$FAKES/stdin\") in *query_to_xml*) printf '{tables}' ;; *) echo t ;; esac");
        sandbox.on(&format!("{client} psql *"), &answer);
        sandbox.on(&format!("{client} pg_restore --file=-"), &format!("printf '{SQL}'"));
        sandbox.on(&format!("{client} pg_dump --no-owner *"), &format!("printf '{sql}'"));
        sandbox.on(&format!("{client} sh -c size=*"), script);
        let file = sandbox.dir.join("a.dump");
        fs::write(&file, "PGDMP-content\n").unwrap();
        Self { sandbox, file }
    }

    /// Returns a restore of a remote database, without a cluster.
    fn remote(tables: &str, script: &str, sql: &str) -> Self {
        Self::of(remote(), "docker exec -i todo-xtask-db-*", tables, script, sql)
    }

    /// Returns a restore of the embedded database, with a backend of two pods.
    fn embedded(script: &str) -> Self {
        let sandbox = Sandbox::with_tools();
        sandbox.cluster();
        sandbox.release();
        sandbox.dotenv(DOTENV);
        sandbox.on("docker exec -i todo crictl --timeout=10s ps *", r#"echo '{"containers": [{"id": "db"}]}'"#);
        let sources = json!([{"secret": {"name": "todo-backend-x"}}]);
        let deployment = json!({"kind": "Deployment", "apiVersion": "apps/v1",
            "metadata": {"name": "todo-backend", "generation": 1, "annotations": {
                "meta.helm.sh/release-name": "todo", "meta.helm.sh/release-namespace": "todo"},
                "labels": {"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/instance": "todo"}},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}},
                     "template": {"spec": {"volumes": [{"name": "secrets", "projected": {"sources": sources}}]}}},
            "status": {"observedGeneration": 1, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2,
                       "replicas": 2}});
        sandbox.api().put(BACKEND, deployment.clone());
        sandbox.api().on(&format!("PATCH {BACKEND}"), &[Reply::Json(200, "", deployment)]);
        let restore = Self::of(sandbox, "docker exec -i todo crictl --timeout=10s exec -i db", "", script, SQL);
        restore.serves("postgresql://todo:not-a-secret@todo-postgres:5432/todo?sslmode=disable");
        restore
    }

    /// Sets the URL in the backend's Secret.
    fn serves(&self, url: &str) {
        let url = base64::engine::general_purpose::STANDARD.encode(url);
        let secret = json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "todo-backend-x"},
            "data": {"DATABASE_URL": url}});
        self.sandbox.api().put("/api/v1/namespaces/todo/secrets/todo-backend-x", secret);
    }

    fn run(&self) -> Run {
        self.sandbox.run(&["db", "restore", self.file.as_str(), "--yes", "--origin=release"])
    }

    /// Returns the replica counts that were set for the backend, in order.
    fn scaled(&self) -> Vec<Value> {
        let received = self.sandbox.api().received();
        let patches = received.iter().filter(|request| request.line == format!("PATCH {BACKEND}"));
        patches.map(|patch| serde_json::from_str::<Value>(&patch.body).unwrap()[0]["value"].clone()).collect()
    }
}

/// A successful restore that writes the rest of standard input to `$FAKES/restored`.
const RESTORES: &str = "echo restored; cat >\"$FAKES/restored\"";

#[test]
fn a_restore_commits_after_all_rows_and_compares_each_row() {
    let restore = Restore::remote("public.todos 3 1\\n", RESTORES, SQL);
    let run = restore.run();
    assert!(run.code == Some(0) && run.stderr.contains("2 rows of 2 tables, schema 0001, as in the dump"), "{run}");
    assert!(run.stderr.contains("replace 3 rows (schema t)"), "{run}");
    assert_eq!(restore.sandbox.fake("restored"), "PGDMP-content\ncommit\n");

    let other = SQL.replace("7", "8");
    let run = Restore::remote("", RESTORES, &other).run();
    assert!(run.code != Some(0) && run.stderr.contains("differ from those in the dump"), "{run}");
}

#[test]
fn a_dump_counts_as_damaged_only_if_pg_restore_says_so() {
    let restore = Restore::remote("", RESTORES, SQL);
    for (words, code, error) in [
        ("pg_restore: error: could not read from input file: end of file", 3, "a.dump is damaged; nothing was changed"),
        ("Error response from daemon: container is not running", 11, "a.dump; nothing was changed: `docker exec"),
    ] {
        restore
            .sandbox
            .on("docker exec -i todo-xtask-db-* pg_restore --file=-", &format!("echo '{words}' >&2; exit 1"));
        let run = restore.run();
        assert!(run.code == Some(code) && run.stderr.contains(error) && run.stderr.contains(words), "{run}");
    }
}

#[test]
fn a_restore_that_fails_says_whether_it_may_have_been_committed() {
    let restore = Restore::remote("", "echo division by zero >&2; exit 3", SQL);
    let run = restore.run();
    let unchanged = run.stderr.contains("the database is unchanged") && run.stderr.contains("division by zero");
    assert!(run.code == Some(11) && unchanged, "{run}");
    let run = Restore::remote("", &format!("{RESTORES}; echo connection lost >&2; exit 2"), SQL).run();
    assert!(run.code == Some(11) && run.stderr.contains("it is not known whether the database has the dump"), "{run}");
    assert!(run.stderr.contains("try: run the same command again") && !run.stderr.contains("is unchanged"), "{run}");
}

#[test]
fn tables_of_another_application_are_not_dropped() {
    let restore = Restore::remote("public.todos 3 1\\nshop.orders 9 1\\n", RESTORES, SQL);
    let run = restore.run();
    assert!(run.code == Some(11) && run.stderr.contains("a restore would drop them: shop.orders"), "{run}");
    assert!(!restore.sandbox.fake("calls").contains("COMMIT"));
}

#[test]
fn the_backend_is_stopped_for_a_restore_and_always_started_again() {
    let restore = Restore::embedded(RESTORES);
    let run = restore.run();
    assert!(run.code == Some(0) && run.stderr.contains("the application serves again, schema"), "{run}");
    assert_eq!(restore.scaled(), [0, 2]);

    let restore = Restore::embedded("echo division by zero >&2; exit 3");
    let run = restore.run();
    assert!(run.stderr.contains("the database is unchanged") && run.stderr.contains("division by zero"), "{run}");
    assert_eq!(restore.scaled(), [0, 2]);

    let conflict =
        Reply::Json(409, "", json!({"kind": "Status", "reason": "Conflict", "message": "held", "code": 409}));
    let restore = Restore::embedded("echo division by zero >&2; exit 3");
    let deployment = restore.sandbox.api().object(BACKEND).unwrap();
    restore.sandbox.api().on(&format!("PATCH {BACKEND}"), &[Reply::Json(200, "", deployment), conflict]);
    let run = restore.run();
    assert!(run.stderr.contains("the backend is still stopped (") && run.stderr.contains("division by zero"), "{run}");
    assert!(run.stderr.contains("start it: cargo xtask deploy dev"), "{run}");
}

#[test]
fn a_backend_that_cannot_be_stopped_is_scaled_up_again() {
    let restore = Restore::embedded(RESTORES);
    restore.sandbox.api().on("GET /api/v1/namespaces/todo/pods", &[Reply::Text(500, "no pods today")]);
    let run = restore.run();
    assert!(run.code != Some(0) && run.stderr.contains("the database is unchanged"), "{run}");
    assert_eq!(restore.scaled(), [0, 2]);
    assert!(!restore.sandbox.fake("calls").contains("COMMIT"));
}

#[test]
fn a_backend_with_another_database_is_not_stopped() {
    let restore = Restore::embedded(RESTORES);
    restore.serves("postgresql://u:not-a-secret@db.test/todo");
    let run = restore.run();
    assert!(run.code == Some(0) && run.stderr.contains("as in the dump"), "{run}");
    assert!(
        run.stderr.contains("keep the running release as it is: it uses another database than the one in .env"),
        "{run}"
    );
    assert!(restore.scaled().is_empty() && !run.stderr.contains("not-a-secret"), "{run}");
}
