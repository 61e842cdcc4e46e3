//! `cargo xtask db`: opens a shell in the application's database, dumps it, or restores a dump.

use std::fs::{self, File};
use std::io::{IsTerminal, Read};

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};

use crate::api::kinds;
use crate::credentials::{self, Credentials};
use crate::dotenv::split_url;
use crate::failure::{self, Class, Failure};
use crate::origin::Requirement;
use crate::plan::{self, Mode};
use crate::project::Project;
use crate::report::bytes;
use crate::secrets::Secret;
use crate::settings::Settings;
use crate::stages::cluster::{self, ProfileState};
use crate::stages::machine;
use crate::stages::release::{self, secret_manifest};
use crate::stages::upgrade::{self, Backend, DumpContents, Postgres, Remote, VERSION_TABLE};
use crate::toolbox::Toolbox;
use crate::toolchain::Toolchain;
use crate::units::quote;

/// The first bytes of a dump in Postgres' custom format.
const MAGIC: &[u8] = b"PGDMP";

/// Query the database, dump it, or restore a dump
///
/// Uses the database that .env names, or else the embedded one. The client programs come from the Postgres image: you need
/// not install psql.
#[derive(Args, Debug)]
pub struct Db {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Open psql, or run SQL from standard input as a script that stops at the first error
    Shell,
    /// Dump the database to FILE, readable by you alone; ask before replacing an existing file
    Dump {
        /// File in Postgres' custom format; `pg_restore --list FILE` shows its contents
        file: Utf8PathBuf,
    },
    /// Replace the contents of the database with a dump, after a question
    ///
    /// Restores in one transaction: either all of it succeeds, or the database stays unchanged. Stops the backend meanwhile;
    /// its next start migrates an older schema. Refuses a dump whose schema this checkout does not know, and a database
    /// with tables of another application.
    Restore {
        /// Dump made by `db dump` or `cluster upgrade`
        file: Utf8PathBuf,
    },
}

/// Runs the command. Returns the exit code.
pub fn run(project: &Project, args: &Db) -> Result<i32> {
    cluster::guard(&project.cache, &project.settings.cluster.profile)?;
    match &args.command {
        Command::Shell => shell(project),
        Command::Dump { file } => dump(project, file).map(|()| 0),
        Command::Restore { file } => restore(project, file).map(|()| 0),
    }
}

/// The database in use: the one in `.env`, or the embedded one.
struct OpenDatabase {
    toolchain: Toolchain,
    credentials: Credentials,
    postgres: Postgres,
    /// Its name in messages.
    name: String,
}

fn open_database(project: &Project) -> Result<OpenDatabase> {
    let environment = &project.settings.dev.environment;
    let credentials = credentials::read(&project.dotenv, &project.settings, &project.report, environment)?;
    let name = credentials.database.clone();
    let keys = &project.settings.keys;
    let url = [&keys.postgres_direct_url, &keys.postgres_url]
        .into_iter()
        .find_map(|key| Some((key, env_value(&credentials, key)?.clone())));
    if let Some((key, url)) = url {
        let image = project.settings.database.image.clone();
        let toolchain = project.bring_tools(Mode::Apply, &[Requirement::Image(image.clone())])?;
        let image = toolchain.origin.image(&image);
        let remote = Remote::start(&toolchain.tools, &image, key, &url)?;
        return Ok(OpenDatabase { postgres: Postgres::remote(remote), toolchain, credentials, name });
    }
    let toolchain = project.present_tools()?;
    if cluster::observe(&toolchain.tools)?.state != ProfileState::Running {
        let what = "the cluster does not run, so its embedded database does not run either";
        return Err(Failure::new(Class::Cluster, what).help(format!("cargo xtask deploy {environment}")).into());
    }
    let postgres = Postgres::find(&project.settings, &toolchain.tools)?.ok_or_else(|| {
        Failure::new(Class::Cluster, "the embedded database does not run").help("see why: cargo xtask status")
    })?;
    Ok(OpenDatabase { toolchain, credentials, postgres, name })
}

/// Returns the value of the key `wanted`, unless it is empty.
fn env_value<'a>(credentials: &'a Credentials, wanted: &str) -> Option<&'a Secret> {
    credentials.values().find(|(key, value)| *key == wanted && !value.is_empty()).map(|(_, value)| value)
}

impl OpenDatabase {
    /// Returns the schema version. This is the first query, so its error explains how the client connects.
    fn schema(&self, settings: &Settings) -> Result<Option<String>> {
        self.postgres.schema().map_err(|error| {
            Failure::new(Class::Database, "cannot query the database")
                .because(error)
                .help("use a host name that this machine resolves: the client runs in this machine's network, not in the cluster")
                .help(format!("see what the application sees: cargo xtask logs {}", settings.components.backend))
                .into()
        })
    }
}

fn shell(project: &Project) -> Result<i32> {
    let open = open_database(project)?;
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if is_terminal {
        project.report.note(format!("{}; \\q ends psql", open.name));
    }
    open.postgres.shell(&open.toolchain.tools.engine, is_terminal).interactive()
}

fn dump(project: &Project, file: &Utf8Path) -> Result<()> {
    if file.is_dir() {
        let help = format!("cargo xtask db dump {}", quote(file.join(example(project))));
        return Err(Failure::new(Class::Config, format!("{file} is a folder: name a file in it")).help(help).into());
    }
    if file.exists() {
        machine::consent_to(
            &project.report,
            project.options.yes,
            &[format!("replace the file {file}")],
            "name another file",
        )?;
    }
    let open = open_database(project)?;
    open.schema(&project.settings)?;
    let running = project.report.step("database", format!("dump to {file}"), &open.name);
    // A temporary file with mode 600, deleted unless the dump is complete.
    let folder = file.parent().filter(|folder| !folder.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
    let writing = || format!("writing {file}");
    let mut new = tempfile::Builder::new().prefix(".todo-xtask-dump-").tempfile_in(folder).with_context(writing)?;
    let (size, _) = open.postgres.dump(&mut new, |written| running.progress(bytes(written)))?;
    new.as_file().sync_all().with_context(writing)?;
    running.progress("reading it back");
    let contents = open.postgres.contents_of(Utf8Path::from_path(new.path()).context("a path is UTF-8")?)?;
    new.persist(file).with_context(writing)?;
    running.done(format!("{}, {}", describe(&contents), bytes(size)));
    Ok(())
}

/// Returns the name of a dump for hints.
fn example(project: &Project) -> String {
    format!("{}.dump", project.settings.chart.release)
}

fn describe(contents: &DumpContents) -> String {
    let rows: u64 = contents.rows.values().sum();
    let schema = contents.schema.as_deref().unwrap_or("none");
    format!("{rows} rows of {} tables, schema {schema}", contents.rows.len())
}

fn restore(project: &Project, file: &Utf8Path) -> Result<()> {
    let mut begin = Vec::new();
    let read = File::open(file).and_then(|input| input.take(MAGIC.len() as u64).read_to_end(&mut begin));
    read.map_err(|error| {
        let what = format!("{file} cannot be read: {error}");
        Failure::new(Class::Config, what).help(format!("make one: cargo xtask db dump {}", example(project)))
    })?;
    if begin != MAGIC {
        let what = format!("{file} is not a dump in Postgres' custom format");
        return Err(Failure::new(Class::Config, what)
            .help(format!("make one: cargo xtask db dump {}", example(project)))
            .into());
    }
    let _lock = project.lock()?;
    upgrade::refuse_unfinished(&project.cache, &project.settings.cluster.profile)?;
    let open = open_database(project)?;
    let (tools, postgres) = (&open.toolchain.tools, &open.postgres);
    let schema = open.schema(&project.settings)?;
    let contents = postgres.contents_of(file).map_err(|error| {
        // Only an error of pg_restore itself means that the file is damaged; others may come from the engine.
        if failure::message(&error).contains("pg_restore: ") {
            return Failure::new(Class::Config, format!("{file} is damaged; nothing was changed"))
                .because(error)
                .help("name another dump, or an undamaged copy of this one");
        }
        Failure::new(Class::Database, format!("cannot read {file}; nothing was changed"))
            .because(error)
            .help("see whether engine and cluster answer: cargo xtask doctor")
            .help("then run the same command again")
    })?;
    let migrations = Migrations::read(&project.settings, &project.root)?;
    migrations.refuse_unknown(file, &contents)?;
    let now = postgres.tables()?;
    migrations.refuse_foreign(&open.name, now.keys(), &contents)?;
    let rows: u64 = now.values().map(|table| table.rows).sum();
    let (backend, more) = match running_backend(&project.settings, tools)? {
        None => (None, None),
        Some(backend) if uses_database(&project.settings, &open, &backend)? => {
            (Some(backend), Some("stop the backend meanwhile: the API answers 503 for some seconds"))
        }
        Some(_) => (None, Some("keep the running release as it is: it uses another database than the one in .env")),
    };
    let lines = [
        format!("replace {rows} rows (schema {}) in: {}", schema.as_deref().unwrap_or("none"), open.name),
        format!("with {} from {file}", describe(&contents)),
        "lose everything written since that dump; to save it, run `cargo xtask db dump FILE` first".to_owned(),
    ];
    let lines: Vec<String> = lines.into_iter().chain(more.map(str::to_owned)).collect();
    machine::consent_to(&project.report, project.options.yes, &lines, "the database is unchanged")?;
    let running = project.report.step("database", format!("restore {file}"), &open.name);
    let work = || {
        running.progress("restoring");
        postgres.restore(file)?;
        check_restored(postgres, &contents)
    };
    let Some(Backend { replicas, .. }) = backend else {
        work()?;
        running.done(format!("{}, as in the dump", describe(&contents)));
        project.report.note("the next start of the backend migrates an older schema");
        return Ok(());
    };
    running.progress("stopping the backend");
    let stopped = upgrade::scale_backend(&project.settings, tools, 0).context("the database is unchanged");
    let deploy = format!("deploy {}", project.settings.dev.environment);
    upgrade::start_backend(&project.settings, tools, replicas, &deploy, stopped.and_then(|()| work()))?;
    running.done(format!("{}, as in the dump", describe(&contents)));
    let redactor = release::redactor_of_secrets(tools)?;
    project.report.hide(&redactor);
    let wait = release::wait_step(tools, redactor);
    plan::apply(&project.report, "release", Mode::Apply, vec![wait])?;
    let schema = postgres.schema()?;
    project.report.ok(format!("the application serves again, schema {}", schema.as_deref().unwrap_or("none")));
    Ok(())
}

/// Fails unless the database has the contents of the dump. No pod of this cluster has written since the restore.
fn check_restored(postgres: &Postgres, contents: &DumpContents) -> Result<()> {
    let found = postgres.contents().context("the dump was restored, but the database cannot be read")?;
    let (rows, wanted) = (&found.rows, &contents.rows);
    ensure!(rows == wanted, "the number of rows differs: the database has {rows:?}, the dump {wanted:?}");
    ensure!(found == *contents, "the rows in the database differ from those in the dump");
    Ok(())
}

/// Returns whether the running backend uses the `open` database. It does not if the user changed `.env` without a deploy.
fn uses_database(settings: &Settings, open: &OpenDatabase, backend: &Backend) -> Result<bool> {
    let secret = backend.secret.as_ref().context("the backend's Deployment names no Secret")?;
    let live = open.toolchain.tools.api()?.get(&kinds::SECRET, secret)?;
    let live = live.with_context(|| format!("the backend's Secret {secret} does not exist"))?;
    let key = &settings.keys.postgres_url;
    let embedded = || secret_manifest::embedded_url(settings, &Secret::new(""));
    let here = env_value(&open.credentials, key).cloned().unwrap_or_else(embedded);
    // Host and name identify the database; password and parameters may differ.
    let host_and_name = |url: &Secret| {
        let (_, location) = split_url(url.expose());
        location.split('?').next().map(str::to_owned)
    };
    Ok(secret_manifest::decode(&live, key)?.is_some_and(|live| host_and_name(&live) == host_and_name(&here)))
}

/// The migrations of this checkout.
struct Migrations {
    /// The schema versions, oldest first.
    versions: Vec<String>,
    /// The text of all migrations.
    text: String,
}

impl Migrations {
    /// Reads the migrations of the checkout `root`.
    fn read(settings: &Settings, root: &Utf8Path) -> Result<Self> {
        let (_, image) = settings.image_of(&settings.components.backend);
        let folder = root.join(&image.context).join(&settings.application.migrations);
        let mut all = Self { versions: Vec::new(), text: String::new() };
        for entry in folder.read_dir_utf8().with_context(|| format!("reading {folder}"))? {
            let entry = entry?;
            if entry.path().extension() == Some("py") {
                let text = fs::read_to_string(entry.path()).with_context(|| format!("reading {}", entry.path()))?;
                let line = text.lines().find_map(|line| line.strip_prefix("revision = "));
                all.versions.extend(line.map(|line| line.trim_matches('"').to_owned()));
                all.text += &text;
            }
        }
        all.versions.sort();
        Ok(all)
    }

    /// Refuses a dump with a schema that the backend of this checkout does not know.
    fn refuse_unknown(&self, file: &Utf8Path, contents: &DumpContents) -> Result<()> {
        let Some(schema) = &contents.schema else {
            let what = format!("{file} is not a dump of this application: it has no schema version");
            return Err(Failure::new(Class::Database, what).help("name another dump").into());
        };
        if self.versions.contains(schema) {
            return Ok(());
        }
        let newest = self.versions.last().map_or("none", String::as_str);
        let what = format!("{file} has schema {schema}, but the newest one in this checkout is {newest}");
        Err(Failure::new(Class::Database, what).help("use the checkout that made the dump, or a newer one").into())
    }

    /// Refuses a database with tables that are neither in the dump nor in a migration: a restore would drop them.
    fn refuse_foreign<'a>(
        &self,
        database: &str,
        tables: impl Iterator<Item = &'a String>,
        contents: &DumpContents,
    ) -> Result<()> {
        let is_ours = |table: &str| {
            let made = |name: &str| self.text.contains(&format!("CREATE TABLE {name} ("));
            table == VERSION_TABLE || table.strip_prefix("public.").is_some_and(made)
        };
        let foreign = tables.filter(|table| !contents.rows.contains_key(*table) && !is_ours(table));
        let foreign: Vec<&str> = foreign.map(String::as_str).collect();
        if foreign.is_empty() {
            return Ok(());
        }
        let what = format!("{database} has tables that neither the dump nor a migration of this checkout knows");
        let what = format!("{what}, and a restore would drop them: {}; nothing was changed", foreign.join(", "));
        Err(Failure::new(Class::Database, what)
            .help("give the application a database of its own, and restore there")
            .help("or, if they may go, drop them first: cargo xtask db shell")
            .into())
    }
}

/// Returns the backend, if the cluster and at least one replica run.
fn running_backend(settings: &Settings, tools: &Toolbox) -> Result<Option<Backend>> {
    if !cluster::exists_anywhere(&tools.cache, &tools.profile)?
        || cluster::observe(tools)?.state != ProfileState::Running
    {
        return Ok(None);
    }
    Ok(upgrade::backend(settings, tools)?.filter(|backend| backend.replicas > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_migrations() -> Migrations {
        let root = crate::checkout::find(None);
        Migrations::read(&Settings::read(&root).unwrap(), &root).unwrap()
    }

    #[test]
    fn refuses_a_dump_with_an_unknown_schema() {
        let migrations = read_migrations();
        let refuse = |schema: Option<&str>| {
            let contents = DumpContents { schema: schema.map(str::to_owned), ..DumpContents::default() };
            migrations.refuse_unknown("a.dump".into(), &contents).err().map(|error| error.to_string())
        };
        assert!(migrations.versions.len() > 3, "{:?}", migrations.versions);
        assert!(migrations.versions.iter().all(|schema| refuse(Some(schema)).is_none()));
        assert!(refuse(Some("9999")).unwrap().contains("has schema 9999, but the newest one in this checkout is"));
        assert!(refuse(None).unwrap().contains("is not a dump of this application"));
    }

    #[test]
    fn refuses_a_database_with_tables_of_another_application() {
        let contents = DumpContents { rows: [("public.mine".to_owned(), 1)].into(), ..DumpContents::default() };
        let refuse = |tables: &[&str]| {
            let tables: Vec<String> = tables.iter().map(|table| (*table).to_owned()).collect();
            read_migrations().refuse_foreign("db.test", tables.iter(), &contents).err().map(|error| error.to_string())
        };
        assert_eq!(refuse(&["public.todos", "public.alembic_version", "public.mine"]), None);
        let message = refuse(&["public.todos", "public.orders", "shop.todos"]).unwrap();
        assert!(message.contains("would drop them: public.orders, shop.todos; nothing was changed"), "{message}");
    }
}
