//! `cargo xtask db`: a shell in the database that `.env` names, a dump of it, and the way back.

use std::fs::{self, File};
use std::io::{IsTerminal, Read};

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};

use crate::api::kinds;
use crate::credentials::{self, Credentials};
use crate::dotenv::{DATABASE_URL, DATABASE_URL_UNPOOLED, split_url};
use crate::failure::{Class, Failure};
use crate::origin::Requirement;
use crate::plan::{self, Mode};
use crate::project::Project;
use crate::report::bytes;
use crate::secrets::{self, Secret};
use crate::stages::cluster::{self, State};
use crate::stages::machine;
use crate::stages::release;
use crate::stages::upgrade::{self, Backend, InDump, Postgres, Remote, VERSION};
use crate::toolbox::Toolbox;
use crate::toolchain::Toolchain;
use crate::units::quote;

/// The migrations, in the build context of the backend.
const MIGRATIONS: &str = "app/migrations/versions";
/// How a dump begins.
const MAGIC: &[u8] = b"PGDMP";

/// Query the database, dump it, or restore a dump
///
/// Uses the database of DATABASE_URL_UNPOOLED or DATABASE_URL in .env, or else the embedded one. The client programs come
/// from the Postgres image: you need not install psql.
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
    cluster::guard(project)?;
    match &args.command {
        Command::Shell => shell(project),
        Command::Dump { file } => dump(project, file).map(|()| 0),
        Command::Restore { file } => restore(project, file).map(|()| 0),
    }
}

/// The database that .env names.
struct Open {
    toolchain: Toolchain,
    credentials: Credentials,
    postgres: Postgres,
    /// Its name for people.
    name: String,
}

fn open(project: &Project) -> Result<Open> {
    let environment = &project.settings.dev.environment;
    let credentials = credentials::read(project, environment)?;
    let name = credentials.database.clone();
    let url = [DATABASE_URL_UNPOOLED, DATABASE_URL].iter().find_map(|key| value(&credentials, key)).cloned();
    if let Some(url) = url {
        let image = project.settings.database.image.clone();
        let toolchain = Toolchain::bring(project, Mode::Apply, &[Requirement::Image(image.clone())])?;
        let image = toolchain.origin.image(&image);
        let remote = Remote::start(&toolchain.tools.engine, &toolchain.tools.profile, &image, &url)?;
        return Ok(Open { postgres: Postgres::remote(remote), toolchain, credentials, name });
    }
    let toolchain = Toolchain::present(project)?;
    if cluster::observe(&toolchain.tools)?.profile.state != State::Running {
        let what = "the cluster does not run, so its embedded database does not run either";
        return Err(Failure::new(Class::Cluster, what).help(project.command(&format!("deploy {environment}"))).into());
    }
    let postgres = Postgres::find(&toolchain.tools, &project.settings.chart.namespace)?.ok_or_else(|| {
        Failure::new(Class::Cluster, "the embedded database does not run").help("see why: cargo xtask status")
    })?;
    Ok(Open { toolchain, credentials, postgres, name })
}

/// The value that .env has, if it is not empty.
fn value<'a>(credentials: &'a Credentials, wanted: &str) -> Option<&'a Secret> {
    credentials.values().find(|(key, value)| *key == wanted && !value.is_empty()).map(|(_, value)| value)
}

impl Open {
    /// The first question to it, whose failure explains how it is reached.
    fn schema(&self) -> Result<Option<String>> {
        self.postgres.schema().map_err(|error| {
            Failure::new(Class::Database, format!("cannot query the database: {error:#}"))
                .help("use a host name that this machine resolves: the client runs in this machine's network, not in the cluster")
                .help("see what the application sees: cargo xtask logs backend")
                .into()
        })
    }
}

fn shell(project: &Project) -> Result<i32> {
    let open = open(project)?;
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if is_terminal {
        project.report.note(format!("{}; \\q ends psql", open.name));
    }
    open.postgres.shell(&open.toolchain.tools.engine, is_terminal).interactive()
}

fn dump(project: &Project, file: &Utf8Path) -> Result<()> {
    if file.is_dir() {
        let help = project.command(&format!("db dump {}", quote(file.join("todo.dump"))));
        return Err(Failure::new(Class::Config, format!("{file} is a folder: name a file in it")).help(help).into());
    }
    if file.exists() {
        machine::consent_to(project, &[format!("replace the file {file}")], "name another file")?;
    }
    let open = open(project)?;
    open.schema()?;
    let running = project.report.step("database", format!("dump to {file}"), &open.name);
    // For its owner alone, under a name that nothing else has; it goes unless it is complete.
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

fn describe(contents: &InDump) -> String {
    let rows: u64 = contents.rows.values().sum();
    let schema = contents.schema.as_deref().unwrap_or("none");
    format!("{rows} rows of {} tables, schema {schema}", contents.rows.len())
}

fn restore(project: &Project, file: &Utf8Path) -> Result<()> {
    let mut begin = Vec::new();
    let read = File::open(file).and_then(|input| input.take(MAGIC.len() as u64).read_to_end(&mut begin));
    read.map_err(|error| {
        let what = format!("{file} cannot be read: {error}");
        Failure::new(Class::Config, what).help("make one: cargo xtask db dump todo.dump")
    })?;
    if begin != MAGIC {
        let what = format!("{file} is not a dump in Postgres' custom format");
        return Err(Failure::new(Class::Config, what).help("make one: cargo xtask db dump todo.dump").into());
    }
    let _lock = project.lock()?;
    upgrade::refuse_unfinished(project)?;
    let open = open(project)?;
    let (tools, postgres) = (&open.toolchain.tools, &open.postgres);
    let schema = open.schema()?;
    let contents = postgres.contents_of(file).map_err(|error| {
        let why = format!("nothing was changed: {error:#}");
        // Its own words are about the file. Whatever else fails, the engine for one, says nothing of it.
        if why.contains("pg_restore: ") {
            let what = format!("{file} is damaged; {why}");
            return Failure::new(Class::Config, what).help("name another dump, or an undamaged copy of this one");
        }
        Failure::new(Class::Database, format!("cannot read {file}; {why}"))
            .help("see whether engine and cluster answer: cargo xtask doctor")
            .help("then run the same command again")
    })?;
    let known = Migrations::read(project)?;
    known.refuse_unknown(file, &contents)?;
    let now = postgres.tables()?;
    known.refuse_foreign(&open.name, now.keys(), &contents)?;
    let rows: u64 = now.values().map(|table| table.rows).sum();
    let (backend, more) = match backend(project, tools)? {
        None => (None, None),
        Some(backend) if is_of(project, &open, &backend)? => {
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
    machine::consent_to(project, &lines, "the database is unchanged")?;
    let running = project.report.step("database", format!("restore {file}"), &open.name);
    let work = || {
        running.progress("restoring");
        postgres.restore(file)?;
        check(postgres, &contents)
    };
    let Some(Backend { replicas, .. }) = backend else {
        work()?;
        running.done(format!("{}, as in the dump", describe(&contents)));
        project.report.note("the next start of the backend migrates an older schema");
        return Ok(());
    };
    running.progress("stopping the backend");
    let stopped = upgrade::scale_backend(project, tools, 0).context("the database is unchanged");
    let deploy = format!("deploy {}", project.settings.dev.environment);
    upgrade::start_backend(project, tools, replicas, &deploy, stopped.and_then(|()| work()))?;
    running.done(format!("{}, as in the dump", describe(&contents)));
    let redactor = release::redactor_of_secrets(tools)?;
    project.report.hide(&redactor);
    let wait = release::wait_step(project, tools, redactor);
    plan::apply(project, "release", Mode::Apply, vec![wait])?;
    let schema = postgres.schema()?;
    project.report.ok(format!("the application serves again, schema {}", schema.as_deref().unwrap_or("none")));
    Ok(())
}

/// Fails unless the database holds what is in the dump. Nobody of this cluster has written meanwhile.
fn check(postgres: &Postgres, contents: &InDump) -> Result<()> {
    let found = postgres.contents().context("the dump was restored, but the database cannot be read")?;
    let (rows, wanted) = (&found.rows, &contents.rows);
    ensure!(rows == wanted, "the number of rows differs: the database has {rows:?}, the dump {wanted:?}");
    ensure!(found == *contents, "the rows in the database differ from those in the dump");
    Ok(())
}

/// Whether the backend that runs has the database that .env names: somebody may have changed .env and not deployed.
fn is_of(project: &Project, open: &Open, backend: &Backend) -> Result<bool> {
    let secret = backend.secret.as_ref().context("the backend's Deployment names no Secret")?;
    let live = open.toolchain.tools.api()?.get(&kinds::SECRET, secret)?;
    let live = live.with_context(|| format!("the backend's Secret {secret} does not exist"))?;
    let embedded = || secrets::embedded_url(&project.settings.chart, &Secret::new(""));
    let here = value(&open.credentials, DATABASE_URL).cloned().unwrap_or_else(embedded);
    // Host and name: another password or parameter leads to the same one.
    let place = |url: &Secret| {
        let (_, location) = split_url(url.expose());
        location.split('?').next().map(str::to_owned)
    };
    Ok(secrets::decode(&live, DATABASE_URL)?.is_some_and(|live| place(&live) == place(&here)))
}

/// The migrations of this checkout.
struct Migrations {
    /// The versions of the schema, in their order.
    versions: Vec<String>,
    /// The text of all of them.
    text: String,
}

impl Migrations {
    fn read(project: &Project) -> Result<Self> {
        let image = project.settings.images.values().find(|image| image.component == "backend");
        let folder = project.root.join(&image.context("infra/xtask.toml has no image of the backend")?.context);
        let folder = folder.join(MIGRATIONS);
        let mut known = Self { versions: Vec::new(), text: String::new() };
        for entry in folder.read_dir_utf8().with_context(|| format!("reading {folder}"))? {
            let entry = entry?;
            if entry.path().extension() == Some("py") {
                let text = fs::read_to_string(entry.path()).with_context(|| format!("reading {}", entry.path()))?;
                let line = text.lines().find_map(|line| line.strip_prefix("revision = "));
                known.versions.extend(line.map(|line| line.trim_matches('"').to_owned()));
                known.text += &text;
            }
        }
        known.versions.sort();
        Ok(known)
    }

    /// Refuses a dump that the backend of this checkout could not serve.
    fn refuse_unknown(&self, file: &Utf8Path, contents: &InDump) -> Result<()> {
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

    /// Refuses a database with tables that neither the dump has nor a migration makes: a restore would drop them.
    fn refuse_foreign<'a>(
        &self,
        database: &str,
        tables: impl Iterator<Item = &'a String>,
        contents: &InDump,
    ) -> Result<()> {
        let is_ours = |table: &str| {
            let made = |name: &str| self.text.contains(&format!("CREATE TABLE {name} ("));
            table == VERSION || table.strip_prefix("public.").is_some_and(made)
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

/// The backend that this cluster runs, if there is any.
fn backend(project: &Project, tools: &Toolbox) -> Result<Option<Backend>> {
    if !cluster::exists_anywhere(project)? || cluster::observe(tools)?.profile.state != State::Running {
        return Ok(None);
    }
    Ok(upgrade::backend(project, tools)?.filter(|backend| backend.replicas > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;

    fn known() -> Migrations {
        Migrations::read(&Project::open(None, Default::default(), Report::new(false)).unwrap()).unwrap()
    }

    #[test]
    fn a_dump_of_a_schema_that_the_checkout_does_not_have_is_refused() {
        let known = known();
        let refuse = |schema: Option<&str>| {
            let contents = InDump { schema: schema.map(str::to_owned), ..InDump::default() };
            known.refuse_unknown("a.dump".into(), &contents).err().map(|error| error.to_string())
        };
        assert!(known.versions.len() > 3, "{:?}", known.versions);
        assert!(known.versions.iter().all(|schema| refuse(Some(schema)).is_none()));
        assert!(refuse(Some("9999")).unwrap().contains("has schema 9999, but the newest one in this checkout is"));
        assert!(refuse(None).unwrap().contains("is not a dump of this application"));
    }

    #[test]
    fn a_database_with_tables_of_another_application_is_refused() {
        let contents = InDump { rows: [("public.mine".to_owned(), 1)].into(), ..InDump::default() };
        let refuse = |tables: &[&str]| {
            let tables: Vec<String> = tables.iter().map(|table| (*table).to_owned()).collect();
            known().refuse_foreign("db.test", tables.iter(), &contents).err().map(|error| error.to_string())
        };
        assert_eq!(refuse(&["public.todos", "public.alembic_version", "public.mine"]), None);
        let told = refuse(&["public.todos", "public.orders", "shop.todos"]).unwrap();
        assert!(told.contains("would drop them: public.orders, shop.todos; nothing was changed"), "{told}");
    }
}
