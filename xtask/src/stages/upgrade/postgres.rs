//! A database, used with Postgres' own client programs. The embedded one is reached through its node (`docker exec <node>
//! crictl exec`) and the container's socket, which needs no password.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Write};

use anyhow::{Context, Result, bail, ensure};
use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::dump;
use super::remote::Remote;
use crate::deadlines;
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::node::{CRICTL, Node};
use crate::process::Process;
use crate::settings::Settings;
use crate::toolbox::Toolbox;

/// Selects name, number of rows, and sum of the rows' hashes of each table outside Postgres' own schemas.
const TABLES: &str = "SELECT format('%I.%I', n.nspname, c.relname), \
    (xpath('/row/rows/text()', x))[1]::text, (xpath('/row/hash/text()', x))[1]::text \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, \
    LATERAL query_to_xml(format('SELECT count(*) AS rows, coalesce(sum(hashtextextended(t::text, 0)), 0) AS hash \
    FROM %I.%I t', n.nspname, c.relname), false, true, '') x \
    WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1;\n";

/// The contents of all tables, by name with schema.
pub type Tables = BTreeMap<String, Table>;

/// The contents of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The number of rows.
    pub rows: u64,
    /// The sum of all rows' hashes.
    pub hash: String,
}

/// The table with the version of the schema, which migrations maintain.
pub const VERSION_TABLE: &str = "public.alembic_version";
/// Drops all tables: one that the dump does not have would stay otherwise.
const DROP_ALL: &str = "DO $do$ DECLARE t text; BEGIN FOR t IN SELECT format('%I.%I', n.nspname, c.relname) \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') \
    AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
    LOOP EXECUTE 'DROP TABLE IF EXISTS ' || t || ' CASCADE'; END LOOP; END $do$;";
/// Restores the dump of `size` bytes from standard input in one transaction. It prints `restored`, and commits only when it
/// then reads `commit`: a client that was killed sends none, so nothing is committed after its end.
const RESTORE: &str = "size=$1 sql=$2; shift 2; { printf 'BEGIN;\\n%s\\n' \"$sql\"; \
    if head -c \"$size\" | pg_restore --no-owner --no-acl --file=- && printf '\\\\echo restored\\n' \
    && read -r word && [ \"$word\" = commit ]; then echo 'COMMIT;'; else printf '\\n\\\\.\\nSELECT 1/0;\\n'; fi; } | \
    psql \"$@\" --no-psqlrc --quiet --output=/dev/null --set=ON_ERROR_STOP=1 --file=-";

/// A database, and how to reach it.
pub struct Postgres(Endpoint);

enum Endpoint {
    /// The embedded database, in a running container.
    Embedded { node: Box<Node>, container: String, name: String },
    /// The database of a URL.
    Remote(Box<Remote>),
}

/// The contents of a dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DumpContents {
    /// The number of rows of each table.
    pub rows: BTreeMap<String, u64>,
    /// The sum of all rows' hashes, which does not depend on their order.
    pub hash: u64,
    /// The version of the schema, if the dump has one.
    pub schema: Option<String>,
}

impl Postgres {
    /// Finds the embedded database; `None`: no node runs one in the release's namespace.
    pub fn find(settings: &Settings, tools: &Toolbox) -> Result<Option<Self>> {
        let label = |name: &str, value: &str| ["--label".to_owned(), format!("io.kubernetes.{name}={value}")];
        for node in tools.nodes()? {
            let list = node.crictl(["ps", "--state", "Running", "--output", "json"]);
            let database = &settings.components.database;
            let list = list.args(label("container.name", database)).args(label("pod.namespace", tools.namespace()));
            let listing: Value = serde_json::from_str(&list.deadline(deadlines::DATABASE_QUERY).read()?)
                .context("crictl printed no JSON")?;
            let containers = listing["containers"].as_array().context("crictl printed no list of containers")?;
            match &containers[..] {
                [] => {}
                [container] => {
                    let container =
                        container["id"].as_str().context("crictl printed a container without an ID")?.to_owned();
                    let name = settings.database.name.clone();
                    return Ok(Some(Self(Endpoint::Embedded { node: Box::new(node), container, name })));
                }
                _ => bail!("node {} runs {} containers of the database", node.name, containers.len()),
            }
        }
        Ok(None)
    }

    /// Returns the database at `remote`'s URL.
    pub fn remote(remote: Remote) -> Self {
        Self(Endpoint::Remote(Box::new(remote)))
    }

    /// Returns a command that runs beside the database.
    fn exec(&self, args: &[&str]) -> Process {
        let process = match &self.0 {
            Endpoint::Embedded { node, container, .. } => {
                node.crictl(["exec", "-i", container]).args(args.iter().copied())
            }
            Endpoint::Remote(remote) => remote.exec(args),
        };
        process.class(Class::Database).deadline(deadlines::DATABASE_QUERY)
    }

    /// Returns the arguments that connect a client program to the database.
    fn connection_args(&self) -> Vec<&str> {
        match &self.0 {
            Endpoint::Embedded { name, .. } => vec!["--username", name, "--dbname", name],
            Endpoint::Remote(remote) => vec!["--dbname", remote.url()],
        }
    }

    /// Returns `psql` for a person, or for a script at standard input.
    pub fn shell(&self, engine: &Engine, is_terminal: bool) -> Process {
        let args = [&["psql"][..], &self.connection_args()].concat();
        match &self.0 {
            _ if !is_terminal => self.exec(&args).args(["--set=ON_ERROR_STOP=1"]),
            Endpoint::Embedded { node, container, .. } => {
                let node = engine.docker().args(["exec", "-it", &node.name]);
                node.args(CRICTL).args(["exec", "-it", container]).args(args)
            }
            Endpoint::Remote(remote) => remote.exec_at_terminal(&args),
        }
    }

    fn query(&self, sql: &str) -> Result<String> {
        let psql = [&["psql"][..], &self.connection_args()].concat();
        let psql = self.exec(&psql).args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]);
        let psql = psql.args(["--field-separator= ", "--set=ON_ERROR_STOP=1", "--file=-"]);
        psql.stdin(sql).deadline(deadlines::DATABASE_DUMP).read()
    }

    /// Returns the version of the schema; `None`: it has none.
    pub fn schema(&self) -> Result<Option<String>> {
        let exists = self.query(&format!("SELECT to_regclass('{VERSION_TABLE}') IS NOT NULL;\n"))?;
        if exists.trim() != "t" {
            return Ok(None);
        }
        let version = self.query(&format!("SELECT version_num FROM {VERSION_TABLE};\n"))?;
        Ok(Some(version.trim().to_owned()).filter(|version| !version.is_empty()))
    }

    /// Fails unless the database accepts connections.
    pub fn ensure_ready(&self) -> Result<()> {
        self.query("SELECT 1;\n").map(drop)
    }

    /// Returns the size of the database in bytes.
    pub fn size(&self) -> Result<u64> {
        let text = self.query("SELECT pg_database_size(current_database());\n")?;
        text.trim().parse().with_context(|| format!("psql printed `{text}` for the size of the database"))
    }

    /// Returns the present contents of all tables.
    pub fn tables(&self) -> Result<Tables> {
        parse_tables(&self.query(TABLES)?)
    }

    /// Streams a dump in the custom format to `output`, and calls `progress` with the bytes written. Returns the number of bytes
    /// and their SHA-256.
    pub fn dump(&self, output: &mut impl Write, progress: impl FnMut(u64)) -> Result<(u64, String)> {
        let command = [&["pg_dump", "--format=custom", "--no-owner"][..], &self.connection_args()].concat();
        let piped = self.exec(&command).deadline(deadlines::DATABASE_DUMP).pipe_from(None)?;
        let copied = dump::copy(piped.reader(), output, progress);
        piped.finish()?;
        let (size, sha256) = copied?;
        ensure!(size > 0, "pg_dump printed nothing");
        Ok((size, sha256))
    }

    /// Returns the contents of the dump `file`; reads all of it as SQL.
    pub fn contents_of(&self, file: &Utf8Path) -> Result<DumpContents> {
        let command = self.exec(&["pg_restore", "--file=-"]).deadline(deadlines::DATABASE_DUMP);
        with_input(&command, file, |output| read_sql(BufReader::new(output)))
    }

    /// Returns the contents that a dump would have now.
    pub fn contents(&self) -> Result<DumpContents> {
        let command = [&["pg_dump", "--no-owner"][..], &self.connection_args()].concat();
        let piped = self.exec(&command).deadline(deadlines::DATABASE_DUMP).pipe_from(None)?;
        let found = read_sql(BufReader::new(piped.reader()));
        piped.finish()?;
        found
    }

    /// Replaces the database's content with the dump `file`, in one transaction. An error says whether it may be committed.
    pub fn restore(&self, file: &Utf8Path) -> Result<()> {
        let mut input = File::open(file).with_context(|| format!("opening {file}"))?;
        let size = input.metadata().with_context(|| format!("reading {file}"))?.len();
        let bytes = size.to_string();
        let command = [&["sh", "-c", RESTORE, "sh", &bytes, DROP_ALL][..], &self.connection_args()].concat();
        let (reader, mut writer) = std::io::pipe()?;
        let piped = self.exec(&command).deadline(deadlines::DATABASE_DUMP).pipe_from(Some(reader))?;
        let mut output = BufReader::new(piped.reader());
        let has_asked = std::thread::scope(|scope| -> Result<bool> {
            // If the command ends early, its own error says why. If the copy is incomplete, its input is closed.
            let sent = scope.spawn(move || {
                let copied = std::io::copy(&mut input, &mut writer);
                copied.is_ok_and(|copied| copied == size).then_some(writer)
            });
            let mut line = String::new();
            output.read_line(&mut line).context("reading what psql prints")?;
            let writer = sent.join().unwrap_or_default().filter(|_| line == "restored\n");
            Ok(writer.is_some_and(|mut writer| writer.write_all(b"commit\n").is_ok()))
        })?;
        let unchanged = "the database is unchanged";
        match piped.finish() {
            Ok(_) if has_asked => Ok(()),
            Ok(_) => bail!("{unchanged}: psql ended before all was restored"),
            Err(error) if has_asked => {
                Err(Failure::new(Class::Database, "it is not known whether the database has the dump now")
                    .because(error)
                    .help("run the same command again: it replaces everything")
                    .into())
            }
            Err(error) => Err(error.context(unchanged)),
        }
    }
}

/// Runs `command` with `file` as its standard input. Returns what `read` returns for its output.
fn with_input<T>(command: &Process, file: &Utf8Path, read: impl FnOnce(&duct::ReaderHandle) -> Result<T>) -> Result<T> {
    let mut input = File::open(file).with_context(|| format!("opening {file}"))?;
    let (reader, mut writer) = std::io::pipe()?;
    let piped = command.pipe_from(Some(reader))?;
    std::thread::scope(|scope| {
        // If the command ends early, its own error says why.
        scope.spawn(move || {
            let _ = std::io::copy(&mut input, &mut writer);
        });
        let result = read(piped.reader());
        piped.finish()?;
        result
    })
}

fn parse_tables(text: &str) -> Result<Tables> {
    let table = |line: &str| {
        // Only the name may contain spaces.
        let mut parts = line.rsplitn(3, ' ');
        let (hash, rows, name) = (parts.next()?.to_owned(), parts.next()?.parse().ok()?, parts.next()?.to_owned());
        Some((name, Table { rows, hash }))
    };
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| table(line).with_context(|| format!("psql printed `{line}`"))).collect()
}

/// Reads the SQL that pg_restore prints: the lines between `COPY … FROM stdin;` and `\.` are rows.
fn read_sql(sql: impl BufRead) -> Result<DumpContents> {
    let mut found = DumpContents::default();
    let mut open_table: Option<(String, u64)> = None;
    for line in sql.split(b'\n') {
        let line = line?;
        match &mut open_table {
            Some(_) if line == b"\\." => found.rows.extend(open_table.take()),
            Some((table, rows)) => {
                *rows += 1;
                let mut hasher = DefaultHasher::new();
                (&*table, &line).hash(&mut hasher);
                found.hash = found.hash.wrapping_add(hasher.finish());
                if table == VERSION_TABLE {
                    found.schema = Some(String::from_utf8_lossy(&line).into_owned());
                }
            }
            None => {
                let text = String::from_utf8_lossy(&line);
                let head = text.strip_prefix("COPY ").filter(|rest| rest.ends_with(" FROM stdin;"));
                open_table = head.and_then(|rest| Some((rest.split_once(" (")?.0.to_owned(), 0)));
            }
        }
    }
    ensure!(open_table.is_none(), "the SQL of the dump ends within a table");
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_dump_are_counted_by_table() {
        let sql = "SET x = 1;\n\nCOPY public.users (id, email) FROM stdin;\n1\ta@b\n2\tCOPY public.x (a) FROM stdin;\n\\.\n\n\
                   COPY public.\"odd name\" (id) FROM stdin;\n\\.\n\nALTER TABLE x;\n";
        let found = read_sql(sql.as_bytes()).unwrap();
        assert_eq!(found.rows, [("public.users".to_owned(), 2), ("public.\"odd name\"".to_owned(), 0)].into());
        assert_eq!(found.schema, None);
        let version =
            read_sql("COPY public.alembic_version (version_num) FROM stdin;\n0004\n\\.\n".as_bytes()).unwrap();
        assert_eq!(version.schema.as_deref(), Some("0004"));
        assert!(read_sql("COPY public.users (id) FROM stdin;\n1\n".as_bytes()).is_err());
    }

    #[test]
    fn the_hash_of_a_dump_depends_on_each_row_but_not_on_their_order() {
        let of = |rows: &str| read_sql(format!("COPY public.t (a) FROM stdin;\n{rows}\\.\n").as_bytes()).unwrap();
        assert_eq!(of("1\n2\n"), of("2\n1\n"));
        assert_ne!(of("1\n2\n").hash, of("1\n3\n").hash);
    }

    /// Runs the script with a `pg_restore` that copies, or fails if the dump is `bad`, and a `psql` that prints its input.
    fn restore_script(dump: &str, size: usize, then: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("pg_restore", "dump=$(cat); [ \"$dump\" != bad ] && echo \"$dump\""),
            (
                "psql",
                "while IFS= read -r line; do case $line in '\\echo '*) echo \"${line#* }\" ;; esac; printf '%s\\n' \"$line\"; done",
            ),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let run = Process::new("sh").args(["-c", RESTORE, "sh", &size.to_string(), "DROP;"]).env("PATH", path);
        run.stdin(format!("{dump}{then}")).read().unwrap()
    }

    #[test]
    fn a_restore_is_committed_only_if_the_client_asks_for_it() {
        let all = "BEGIN;\nDROP;\ndump\nrestored\n\\echo restored\n";
        assert_eq!(restore_script("dump", 4, "commit\n"), format!("{all}COMMIT;\n"));
        let undone = "\n\\.\nSELECT 1/0;\n";
        assert_eq!(restore_script("dump", 4, ""), format!("{all}{undone}"));
        assert_eq!(restore_script("dump", 4, "com"), format!("{all}{undone}"));
        assert_eq!(restore_script("bad", 3, "commit\n"), format!("BEGIN;\nDROP;\n{undone}"));
    }

    #[test]
    fn tables_are_parsed_from_the_output_of_psql() {
        let tables = parse_tables("public.todos 3 -12345\npublic.\"odd name\" 0 0\n").unwrap();
        assert_eq!(tables["public.todos"], Table { rows: 3, hash: "-12345".into() });
        assert_eq!(tables["public.\"odd name\""].rows, 0);
        assert!(parse_tables("nonsense\n").is_err());
    }
}
