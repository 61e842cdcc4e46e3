//! `cargo xtask db`: a shell in the database that serves, a dump of it, and the way back.

use std::fs::{self, File};
use std::io::{IsTerminal, Read};

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};

use crate::credentials;
use crate::dotenv::{DATABASE_URL, DATABASE_URL_UNPOOLED};
use crate::failure::{Class, Failure};
use crate::origin::Need;
use crate::plan::{self, Mode};
use crate::project::Project;
use crate::report::{Running, bytes};
use crate::stages::cluster::{self, State};
use crate::stages::machine;
use crate::stages::release;
use crate::stages::upgrade::{self, InDump, Postgres, Remote};
use crate::toolbox::Toolbox;
use crate::world::World;

/// The migrations, in the build context of the backend.
const MIGRATIONS: &str = "app/migrations/versions";
/// How a dump begins.
const MAGIC: &[u8] = b"PGDMP";

/// Look into the database, dump it, or restore a dump
///
/// The database is the one that serves: that of DATABASE_URL in .env (DATABASE_URL_UNPOOLED, if it is given), or else the
/// embedded one. Its client programs are those of the Postgres image; psql need not be installed.
#[derive(Args, Debug)]
pub struct Db {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Open psql; SQL at standard input is run as a script that ends at the first error
    Shell,
    /// Dump the database to FILE, which only you can read; asks before it replaces a file
    Dump {
        /// The file, in Postgres' custom format: `pg_restore --list FILE` shows what is in it
        file: Utf8PathBuf,
    },
    /// Replace all that the database holds by a dump; asks first
    ///
    /// One transaction: afterwards the database has all of the dump, or is as it was. The backend is stopped meanwhile, and
    /// then brings an older schema up to date. A dump of a schema that this checkout does not know is refused.
    Restore {
        /// What `db dump` or `cluster upgrade` has made
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

/// The database that serves.
struct Open {
    world: World,
    postgres: Postgres,
    /// Its name for people.
    name: String,
}

fn open(project: &Project) -> Result<Open> {
    let environment = &project.settings.dev.environment;
    let credentials = credentials::read(project, environment)?;
    let name = credentials.database.clone();
    let url = |wanted: &str| credentials.values().find(|(key, value)| *key == wanted && !value.is_empty());
    let url = url(DATABASE_URL_UNPOOLED).or_else(|| url(DATABASE_URL)).map(|(_, url)| url.clone());
    if let Some(url) = url {
        let image = project.settings.database.image.clone();
        let world = World::bring(project, Mode::Apply, &[Need::Image(image.clone())])?;
        let image = world.origin.image(&image);
        let remote = Remote::start(&world.tools.engine, &world.tools.profile, &image, &url)?;
        return Ok(Open { postgres: Postgres::remote(remote), world, name });
    }
    let world = World::present(project)?;
    if cluster::observe(&world.tools)?.profile.state != State::Running {
        let what = "the cluster does not run, and its embedded database with it";
        return Err(Failure::new(Class::Cluster, what).help(project.command(&format!("deploy {environment}"))).into());
    }
    let postgres = Postgres::find(&world.tools, &project.settings.chart.namespace)?.ok_or_else(|| {
        Failure::new(Class::Cluster, "the embedded database does not run").help("see why: cargo xtask status")
    })?;
    Ok(Open { world, postgres, name })
}

impl Open {
    /// The first question to it, whose failure explains how it is reached.
    fn schema(&self) -> Result<Option<String>> {
        self.postgres.schema().map_err(|error| {
            Failure::new(Class::Database, format!("the database cannot be asked: {error:#}"))
                .help("a name that only the cluster knows is not supported: the client runs on this machine's network")
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
    open.postgres.shell(&open.world.tools.engine, is_terminal).interactive()
}

fn dump(project: &Project, file: &Utf8Path) -> Result<()> {
    if file.is_dir() {
        return Err(Failure::new(Class::Config, format!("{file} is a folder: name a file in it")).into());
    }
    if file.exists() {
        machine::consent_to(project, &[format!("replace the file {file}")], "name another file")?;
    }
    let open = open(project)?;
    open.schema()?;
    let running = project.report.step("database", format!("dump to {file}"), &open.name);
    let new = Utf8PathBuf::from(format!("{file}.new"));
    let _ = fs::remove_file(&new);
    let made = write(&open.postgres, &new, &running).and_then(|made| {
        fs::rename(&new, file).with_context(|| format!("writing {file}"))?;
        Ok(made)
    });
    let (size, contents) = made.inspect_err(|_| drop(fs::remove_file(&new)))?;
    running.done(format!("{}, {}", describe(&contents), bytes(size)));
    Ok(())
}

/// Dumps to the file `new` and reads it back.
fn write(postgres: &Postgres, new: &Utf8Path, running: &Running) -> Result<(u64, InDump)> {
    let mut output = upgrade::create_file(new)?;
    let (size, _) = postgres.dump(&mut output, |written| running.progress(bytes(written)))?;
    output.sync_all().with_context(|| format!("writing {new}"))?;
    running.progress("reading it back");
    Ok((size, postgres.contents_of(new)?))
}

fn describe(contents: &InDump) -> String {
    let rows: u64 = contents.rows.values().sum();
    let schema = contents.schema.as_deref().unwrap_or("none");
    format!("{rows} rows of {} tables, schema {schema}", contents.rows.len())
}

fn restore(project: &Project, file: &Utf8Path) -> Result<()> {
    let mut begin = Vec::new();
    let read = File::open(file).and_then(|input| input.take(MAGIC.len() as u64).read_to_end(&mut begin));
    read.map_err(|error| Failure::new(Class::Config, format!("{file} cannot be read: {error}")))?;
    if begin != MAGIC {
        let what = format!("{file} is no dump in Postgres' custom format");
        return Err(Failure::new(Class::Config, what).help("make one: cargo xtask db dump todo.dump").into());
    }
    let _lock = project.lock()?;
    upgrade::refuse_unfinished(project)?;
    let open = open(project)?;
    let (tools, postgres) = (&open.world.tools, &open.postgres);
    let schema = open.schema()?;
    let contents = postgres.contents_of(file).map_err(|error| {
        let what = format!("{file} is damaged; nothing was changed: {error:#}");
        Failure::new(Class::Config, what).help("name another dump, or a whole copy of this one")
    })?;
    refuse_unknown(project, file, &contents)?;
    let now = postgres.tables()?;
    let rows: u64 = now.values().map(|table| table.rows).sum();
    let replicas = backend(project, tools)?;
    let lines = [
        format!("replace {rows} rows (schema {}) in: {}", schema.as_deref().unwrap_or("none"), open.name),
        format!("by {} from {file}", describe(&contents)),
        "lose what was written since that dump was made; `cargo xtask db dump FILE` first would keep it".to_owned(),
    ];
    let stop = replicas.map(|_| "stop the backend meanwhile: the API answers 503 for some seconds".to_owned());
    let lines: Vec<String> = lines.into_iter().chain(stop).collect();
    machine::consent_to(project, &lines, "the database is as it was")?;
    let running = project.report.step("database", format!("restore {file}"), &open.name);
    if replicas.is_some() {
        running.progress("stopping the backend");
        upgrade::scale_backend(project, tools, 0)?;
    }
    running.progress("restoring");
    let restored = postgres.restore(file).context("the database is as it was");
    let checked = restored.and_then(|()| check(postgres, &contents));
    if let Some(replicas) = replicas {
        upgrade::scale_backend(project, tools, replicas)
            .with_context(|| format!("the backend is still stopped; start it: {}", project.command("deploy dev")))?;
    }
    checked?;
    running.done(format!("{}, as in the dump", describe(&contents)));
    if replicas.is_some() {
        let redactor = release::redactor_of_secrets(tools)?;
        project.report.hide(&redactor);
        let wait = release::wait_step(project, tools, redactor);
        plan::apply(project, "release", Mode::Apply, vec![wait])?;
        let schema = postgres.schema()?;
        project.report.ok(format!("the application serves again, schema {}", schema.as_deref().unwrap_or("none")));
    } else {
        project.report.note("an older schema is brought up to date by the next start of the backend");
    }
    Ok(())
}

/// Fails unless the database holds what is in the dump. Nobody of this cluster has written meanwhile.
fn check(postgres: &Postgres, contents: &InDump) -> Result<()> {
    let found = postgres.tables()?.into_iter().map(|(name, table)| (name, table.rows)).collect();
    ensure!(contents.rows == found, "the database holds the rows {found:?}, the dump has {:?}", contents.rows);
    let schema = postgres.schema()?;
    ensure!(contents.schema == schema, "the database has the schema {schema:?}, the dump {:?}", contents.schema);
    Ok(())
}

/// Refuses a dump that the backend of this checkout could not serve.
fn refuse_unknown(project: &Project, file: &Utf8Path, contents: &InDump) -> Result<()> {
    let Some(schema) = &contents.schema else {
        let what = format!("{file} is no dump of this application: it has no version of the schema");
        return Err(Failure::new(Class::Database, what).into());
    };
    let known = migrations(project)?;
    if known.contains(schema) {
        return Ok(());
    }
    let newest = known.last().map_or("none", String::as_str);
    let what = format!("{file} has the schema {schema}, and this checkout knows none later than {newest}");
    Err(Failure::new(Class::Database, what).help("use the checkout that the dump is from, or a newer one").into())
}

/// The versions of the schema that this checkout has, in their order.
fn migrations(project: &Project) -> Result<Vec<String>> {
    let image = project.settings.images.values().find(|image| image.component == "backend");
    let folder = project.root.join(&image.context("infra/xtask.toml has no image of the backend")?.context);
    let folder = folder.join(MIGRATIONS);
    let mut known = Vec::new();
    for entry in folder.read_dir_utf8().with_context(|| format!("reading {folder}"))? {
        let entry = entry?;
        if entry.path().extension() == Some("py") {
            let text = fs::read_to_string(entry.path()).with_context(|| format!("reading {}", entry.path()))?;
            let line = text.lines().find_map(|line| line.strip_prefix("revision = "));
            known.extend(line.map(|line| line.trim_matches('"').to_owned()));
        }
    }
    known.sort();
    Ok(known)
}

/// The replicas of a backend that this cluster runs, if there is any.
fn backend(project: &Project, tools: &Toolbox) -> Result<Option<u64>> {
    if !cluster::exists_anywhere(project)? || cluster::observe(tools)?.profile.state != State::Running {
        return Ok(None);
    }
    Ok(upgrade::backend(project, tools)?.filter(|replicas| *replicas > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;

    #[test]
    fn a_dump_of_a_schema_that_the_checkout_does_not_have_is_refused() {
        let project = Project::open(None, Default::default(), Report::new(false)).unwrap();
        let known = migrations(&project).unwrap();
        let refuse = |schema: Option<&str>| {
            let contents = InDump { schema: schema.map(str::to_owned), ..InDump::default() };
            refuse_unknown(&project, "a.dump".into(), &contents).err().map(|error| error.to_string())
        };
        assert!(known.len() > 3, "{known:?}");
        assert!(known.iter().all(|schema| refuse(Some(schema)).is_none()));
        assert!(refuse(Some("9999")).unwrap().contains("has the schema 9999, and this checkout knows none later than"));
        assert!(refuse(None).unwrap().contains("is no dump of this application"));
    }
}
