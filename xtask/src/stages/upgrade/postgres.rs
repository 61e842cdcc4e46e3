//! A database, reached with Postgres' own client programs. The embedded one through its node: `docker exec <node> crictl
//! exec`; the container's own socket asks for no password, so none is an argument or leaves the cluster.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};

use anyhow::{Context, Result, bail, ensure};
use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::dump;
use super::remote::Remote;
use crate::deadlines;
use crate::engine::Engine;
use crate::process::Process;
use crate::stages::images::node::Node;
use crate::toolbox::Toolbox;

/// User and database of the chart.
const NAME: &str = "todo";
/// Of each table in schemas that are not Postgres' own: name, rows, and the sum of all rows' hashes, which any other
/// content would change.
const TABLES: &str = "SELECT format('%I.%I', n.nspname, c.relname), \
    (xpath('/row/rows/text()', x))[1]::text, (xpath('/row/hash/text()', x))[1]::text \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, \
    LATERAL query_to_xml(format('SELECT count(*) AS rows, coalesce(sum(hashtextextended(t::text, 0)), 0) AS hash \
    FROM %I.%I t', n.nspname, c.relname), false, true, '') x \
    WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1;\n";

/// What is in each table, by its name with the schema.
pub type Tables = BTreeMap<String, Table>;

/// What is in a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its rows.
    pub rows: u64,
    /// The sum of all rows' hashes.
    pub hash: String,
}

/// The table in which migrations keep the version of the schema.
const VERSION: &str = "public.alembic_version";
/// Drops what a dump replaces; what no dump has would outlive it.
const DROP_ALL: &str = "DO $do$ DECLARE t text; BEGIN FOR t IN SELECT format('%I.%I', n.nspname, c.relname) \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') \
    AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
    LOOP EXECUTE 'DROP TABLE IF EXISTS ' || t || ' CASCADE'; END LOOP; END $do$;";
/// Restores the dump at standard input in one transaction: it is committed only once pg_restore has given all of it.
const RESTORE: &str = "sql=$1; shift; { printf 'BEGIN;\\n%s\\n' \"$sql\"; \
    if pg_restore --no-owner --no-acl --file=-; then echo 'COMMIT;'; else printf '\\n\\\\.\\nSELECT 1/0;\\n'; fi; } | \
    psql \"$@\" --no-psqlrc --quiet --output=/dev/null --set=ON_ERROR_STOP=1 --file=-";

/// A database, and how it is reached.
pub struct Postgres(Access);

enum Access {
    /// The running container of the embedded one.
    Embedded { node: Box<Node>, container: String },
    /// That of a URL.
    Remote(Box<Remote>),
}

/// What is in a dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InDump {
    /// The rows of each table.
    pub rows: BTreeMap<String, u64>,
    /// The version of the schema, if it tells.
    pub schema: Option<String>,
}

impl Postgres {
    /// Finds it; `None`: no node runs one in `namespace`.
    pub fn find(tools: &Toolbox, namespace: &str) -> Result<Option<Self>> {
        let label = |name: &str, value: &str| ["--label".to_owned(), format!("io.kubernetes.{name}={value}")];
        for node in tools.nodes()? {
            let list = node.exec(["crictl", "ps", "--state", "Running", "--output", "json"]);
            let list = list.args(label("container.name", "postgres")).args(label("pod.namespace", namespace));
            let listing: Value = serde_json::from_str(&list.deadline(deadlines::DATABASE_QUERY).read()?)
                .context("crictl printed no JSON")?;
            let containers = listing["containers"].as_array().context("crictl printed no list of containers")?;
            match &containers[..] {
                [] => {}
                [one] => {
                    let container = one["id"].as_str().context("crictl printed a container without an ID")?.to_owned();
                    return Ok(Some(Self(Access::Embedded { node: Box::new(node), container })));
                }
                _ => bail!("node {} runs {} containers of the database", node.name, containers.len()),
            }
        }
        Ok(None)
    }

    /// The database at `remote`'s URL.
    pub fn remote(remote: Remote) -> Self {
        Self(Access::Remote(Box::new(remote)))
    }

    /// A command beside the database.
    fn exec(&self, args: &[&str]) -> Process {
        let process = match &self.0 {
            Access::Embedded { node, container } => {
                node.exec(["crictl", "exec", "-i", container]).args(args.iter().copied())
            }
            Access::Remote(remote) => remote.exec(args),
        };
        process.deadline(deadlines::DATABASE_QUERY)
    }

    /// What leads a client program to the database.
    fn connection(&self) -> Vec<&str> {
        match &self.0 {
            Access::Embedded { .. } => vec!["--username", NAME, "--dbname", NAME],
            Access::Remote(remote) => vec!["--dbname", remote.url()],
        }
    }

    /// `psql` for a person, or for a script at standard input.
    pub fn shell(&self, engine: &Engine, is_terminal: bool) -> Process {
        let args = [&["psql"][..], &self.connection()].concat();
        match &self.0 {
            _ if !is_terminal => self.exec(&args).args(["--set=ON_ERROR_STOP=1"]),
            Access::Embedded { node, container } => {
                let crictl = ["exec", "-it", &node.name, "crictl", "exec", "-it", container];
                engine.docker().args(crictl).args(args)
            }
            Access::Remote(remote) => remote.exec_at_terminal(&args),
        }
    }

    fn ask(&self, sql: &str) -> Result<String> {
        let psql = [&["psql"][..], &self.connection()].concat();
        let psql = self.exec(&psql).args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]);
        let psql = psql.args(["--field-separator= ", "--set=ON_ERROR_STOP=1", "--file=-"]);
        psql.stdin(sql).deadline(deadlines::DATABASE_DUMP).read()
    }

    /// The version of the schema; `None`: it has none.
    pub fn schema(&self) -> Result<Option<String>> {
        let exists = self.ask(&format!("SELECT to_regclass('{VERSION}') IS NOT NULL;\n"))?;
        if exists.trim() != "t" {
            return Ok(None);
        }
        let version = self.ask(&format!("SELECT version_num FROM {VERSION};\n"))?;
        Ok(Some(version.trim().to_owned()).filter(|version| !version.is_empty()))
    }

    /// Succeeds if it takes connections.
    pub fn ready(&self) -> Result<()> {
        self.ask("SELECT 1;\n").map(drop)
    }

    /// The size of the database in bytes.
    pub fn size(&self) -> Result<u64> {
        let text = self.ask("SELECT pg_database_size(current_database());\n")?;
        text.trim().parse().with_context(|| format!("psql printed `{text}` for the size of the database"))
    }

    /// What is in each table right now.
    pub fn tables(&self) -> Result<Tables> {
        parse_tables(&self.ask(TABLES)?)
    }

    /// Streams a dump in the custom format to `output`. Returns the number of bytes and their SHA-256.
    pub fn dump(&self, output: &mut impl Write, told: impl FnMut(u64)) -> Result<(u64, String)> {
        let command = [&["pg_dump", "--format=custom", "--no-owner"][..], &self.connection()].concat();
        let piped = self.exec(&command).deadline(deadlines::DATABASE_DUMP).pipe_from(None)?;
        let copied = dump::copy(piped.reader(), output, told);
        piped.finish()?;
        let (size, sha256) = copied?;
        ensure!(size > 0, "pg_dump printed nothing");
        Ok((size, sha256))
    }

    /// What is in the dump `file`, by reading all of it as SQL.
    pub fn contents_of(&self, file: &Utf8Path) -> Result<InDump> {
        let command = self.exec(&["pg_restore", "--file=-"]).deadline(deadlines::DATABASE_DUMP);
        with_input(&command, file, |output| read_sql(BufReader::new(output)))
    }

    /// Replaces what there is by the dump `file`, in one transaction: afterwards the database has all of it or is as it was.
    pub fn restore(&self, file: &Utf8Path) -> Result<()> {
        let command = [&["sh", "-c", RESTORE, "sh", DROP_ALL][..], &self.connection()].concat();
        let command = self.exec(&command).deadline(deadlines::DATABASE_DUMP);
        with_input(&command, file, |mut output| {
            std::io::copy(&mut output, &mut std::io::sink()).map(drop).context("reading what psql prints")
        })
    }
}

/// Runs `command` with the content of `file` on its standard input; `read` gets its output.
fn with_input<T>(command: &Process, file: &Utf8Path, read: impl FnOnce(&duct::ReaderHandle) -> Result<T>) -> Result<T> {
    let mut input = File::open(file).with_context(|| format!("opening {file}"))?;
    let (reader, mut writer) = std::io::pipe()?;
    let piped = command.pipe_from(Some(reader))?;
    std::thread::scope(|scope| {
        // A command that ends early says why itself; here it is only a broken pipe.
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
        // A name may have spaces, the two numbers have none.
        let mut parts = line.rsplitn(3, ' ');
        let (hash, rows, name) = (parts.next()?.to_owned(), parts.next()?.parse().ok()?, parts.next()?.to_owned());
        Some((name, Table { rows, hash }))
    };
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| table(line).with_context(|| format!("psql printed `{line}`"))).collect()
}

/// Reads the SQL that pg_restore prints: the lines between `COPY … FROM stdin;` and `\.` are rows.
fn read_sql(sql: impl BufRead) -> Result<InDump> {
    let mut found = InDump::default();
    let mut copying: Option<(String, u64)> = None;
    for line in sql.split(b'\n') {
        let line = line?;
        match &mut copying {
            Some(_) if line == b"\\." => found.rows.extend(copying.take()),
            Some((table, rows)) => {
                *rows += 1;
                if table == VERSION {
                    found.schema = Some(String::from_utf8_lossy(&line).into_owned());
                }
            }
            None => {
                let text = String::from_utf8_lossy(&line);
                let head = text.strip_prefix("COPY ").filter(|rest| rest.ends_with(" FROM stdin;"));
                copying = head.and_then(|rest| Some((rest.split_once(" (")?.0.to_owned(), 0)));
            }
        }
    }
    ensure!(copying.is_none(), "the SQL of the dump ends within a table");
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
    fn tables_are_read_as_psql_prints_them() {
        let tables = parse_tables("public.todos 3 -12345\npublic.\"odd name\" 0 0\n").unwrap();
        assert_eq!(tables["public.todos"], Table { rows: 3, hash: "-12345".into() });
        assert_eq!(tables["public.\"odd name\""].rows, 0);
        assert!(parse_tables("nonsense\n").is_err());
    }
}
