//! `cargo xtask cluster upgrade`: replaces the cluster with one at the pinned Kubernetes and moves the todos to it.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use camino::Utf8Path;
use clap::{Args, Subcommand};

use super::deploy::{self, Deploy, ReadyCluster};
use super::output::Output;
use crate::credentials;
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::origin::{Requirement, Tool};
use crate::plan::{self, Mode, Step};
use crate::project::Project;
use crate::report::{Running, bytes, seconds};
use crate::stages::cluster::{self, ApiServer, Profile, ProfileState, StartFacts, Version};
use crate::stages::machine;
use crate::stages::release::{self, Record};
use crate::stages::upgrade::{self, Contents, Dump, Phase, Postgres, UpgradeState};
use crate::toolbox::Toolbox;
use crate::toolchain::Toolchain;
use crate::units::quote;

/// Upgrade the cluster's Kubernetes
#[derive(Args, Debug)]
pub struct Cluster {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Upgrade(Upgrade),
}

/// Replace the cluster with one at the pinned Kubernetes; a dump moves the todos and is kept
///
/// Stops writes, dumps the embedded database, deletes the profile, creates it anew, deploys the recorded environment and
/// restores the dump. An upgrade that fails or is killed loses nothing: run the same command to continue it.
#[derive(Args, Debug)]
struct Upgrade {
    /// Show the steps that would run, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
pub fn run(project: &Project, args: &Cluster) -> Result<()> {
    let Command::Upgrade(args) = &args.command;
    let start = Instant::now();
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Apply };
    cluster::guard(&project.cache, &project.settings.cluster.profile)?;
    let _lock = match mode {
        Mode::Apply => Some(project.lock()?),
        Mode::DryRun => None,
    };
    let (name, folder) =
        (&project.settings.cluster.profile, upgrade::folder(&project.cache, &project.settings.cluster.profile)?);
    let unfinished = UpgradeState::load(&folder)?;
    if unfinished.is_none()
        && !cluster::exists_anywhere(&project.cache, &project.settings.cluster.profile)?
        && machine::observe(&project.cache, &project.root)?.engine()?.is_none()
    {
        return Err(no_cluster(name).into());
    }
    // Brings the tools that inspect the cluster. A dry run does not start an engine for that.
    let toolchain = project.bring_tools(mode, &[Requirement::Tool(Tool::Minikube)])?;
    if !toolchain.engine_answers {
        return Err(Failure::new(Class::Machine, "no Docker Engine answers, so xtask cannot inspect the cluster")
            .help("without --dry-run the same command starts it")
            .into());
    }
    let upgrade = UpgradeRun { project, folder: &folder, mode, toolchain: &toolchain, start };
    match unfinished {
        Some(state) => upgrade.resume(state),
        None => upgrade.begin(),
    }
}

fn no_cluster(profile: &str) -> Failure {
    let what = format!("there is no minikube profile `{profile}`, so there is nothing to upgrade");
    Failure::new(Class::Cluster, what).help("cargo xtask deploy dev")
}

struct UpgradeRun<'a> {
    project: &'a Project,
    /// The folder of the profile's dumps.
    folder: &'a Utf8Path,
    mode: Mode,
    toolchain: &'a Toolchain,
    start: Instant,
}

/// The contents of the old cluster.
struct OldCluster {
    uid: String,
    environment: String,
    /// Whether the embedded database runs. Only then is there data to dump.
    database: bool,
}

impl UpgradeRun<'_> {
    fn tools(&self) -> &Toolbox {
        &self.toolchain.tools
    }

    /// Starts an upgrade from the beginning: everything is still in the old cluster.
    fn begin(&self) -> Result<()> {
        let (project, tools) = (self.project, self.tools());
        let pinned = cluster::pinned(&project.settings.cluster)?;
        let profile = cluster::observe(tools)?;
        cluster::refuse_users(tools, &profile, "delete")?;
        let Some(running) = profile.kubernetes(tools)? else {
            return Err(match &profile.state {
                ProfileState::Absent => no_cluster(&tools.profile).into(),
                // A deploy's refusal explains these states.
                _ => self.start_steps(&profile, None).err().unwrap_or_else(|| no_cluster(&tools.profile).into()),
            });
        };
        if running == pinned {
            let all = format!("the cluster runs Kubernetes {running} already: nothing to upgrade");
            if self.mode == Mode::DryRun {
                project.report.answer(all)
            } else {
                project.report.ok(all)
            }
            return Ok(());
        }
        if running > pinned {
            let what =
                format!("the cluster runs Kubernetes {running}, newer than the {pinned} that this checkout pins");
            return Err(Failure::new(Class::Cluster, what).help("use the checkout that made the cluster").into());
        }
        let old = (profile.state == ProfileState::Running).then(|| self.inspect()).transpose()?;
        self.consent(&profile, &running, &pinned, old.as_ref())?;
        let old = match old {
            Some(old) => old,
            None => {
                self.start_old(&profile, None)?;
                if self.mode == Mode::DryRun {
                    project.report.answer("then: inspect what the cluster holds, and run the steps above");
                    return Ok(());
                }
                self.inspect()?
            }
        };
        self.bring_everything(&old)?;
        let state = self.dump(&profile, &running, &old)?;
        if self.mode == Mode::DryRun {
            self.show_remaining_steps(&profile, &pinned, &old);
            return Ok(());
        }
        self.delete_and_create(state.context("an upgrade that is applied has a state")?)
    }

    /// Returns the contents of the running cluster. Fails if the upgrade would lose any of them.
    fn inspect(&self) -> Result<OldCluster> {
        let (project, tools) = (self.project, self.tools());
        // A start gives the API server another port and renews certificates.
        cluster::observe(tools)?;
        let contents = Contents::observe(&project.settings, tools)?;
        if !contents.foreign.is_empty() {
            let list = contents.foreign.join(", ");
            let what = format!(
                "the upgrade would delete objects that no deploy made from the cluster `{}`: {list}",
                tools.profile
            );
            return Err(Failure::new(Class::Cluster, what)
                .help("save and delete them first, e.g. cargo xtask tool kubectl -- delete namespace NAME")
                .help("or keep this cluster: deploys continue to use it")
                .into());
        }
        let (namespace, key) = (&project.settings.chart.namespace, &project.settings.keys.postgres_url);
        if contents.claim && !contents.database {
            let what = format!(
                "the embedded database's volume is in namespace {namespace}, but no database runs on it, so it cannot be dumped"
            );
            return Err(Failure::new(Class::Cluster, what)
                .help(format!("to keep its todos, use the embedded database again: remove {key} from .env and deploy"))
                .help(format!(
                    "or, if nobody needs them: cargo xtask tool kubectl -- --namespace {namespace} delete pvc --all"
                ))
                .into());
        }
        let record = release::observe(tools)?.record;
        let environment = self.environment(record.as_ref())?;
        let credentials = credentials::read(&project.dotenv, &project.settings, &project.report, &environment)?;
        if contents.database && !credentials.embedded {
            let what = ".env names a database, but the application uses the embedded one: the upgrade could not restore its todos";
            return Err(Failure::new(Class::Config, what)
                .help(format!("release the change first: cargo xtask deploy {environment}"))
                .help(format!("or remove {key} from .env"))
                .into());
        }
        Ok(OldCluster { uid: upgrade::cluster_uid(tools)?, environment, database: contents.database })
    }

    /// Returns the recorded environment, or else the only one in the settings.
    fn environment(&self, record: Option<&Record>) -> Result<String> {
        let environments = &self.project.settings.environments;
        match record {
            Some(record) => Ok(record.environment.clone()),
            None if environments.len() == 1 => Ok(environments.keys().next().cloned().unwrap_or_default()),
            None => {
                Err(Failure::new(Class::Cluster, "nothing was verified in this cluster, so its environment is unknown")
                    .help("cargo xtask deploy <env>")
                    .into())
            }
        }
    }

    fn consent(&self, profile: &Profile, running: &Version, pinned: &Version, old: Option<&OldCluster>) -> Result<()> {
        let name = &self.tools().profile;
        let folder = self.folder;
        let port = profile.port.map(|port| format!(" at port {port}")).unwrap_or_default();
        let mut lines = Vec::new();
        if old.is_none() {
            lines.push(format!("start the cluster `{name}` with its own Kubernetes {running}"));
        }
        if old.is_none_or(|old| old.database) {
            lines.push("stop the backend: from here until the end, nobody can sign in".to_owned());
            lines.push(format!("dump the database into {folder} and read the dump back"));
        }
        lines.push(format!("delete the cluster `{name}` (Kubernetes {running}) with its volumes"));
        lines.push(format!("create it again with Kubernetes {pinned}{port}"));
        let environment = old.map_or("the recorded environment".to_owned(), |old| format!("`{}`", old.environment));
        lines.push(format!("deploy {environment} from this checkout, restore the dump before the application starts"));
        lines.push(format!("keep the newest {} dumps of this profile", upgrade::KEEP));
        if self.mode == Mode::DryRun {
            self.project.report.heading("An upgrade would:");
            lines.iter().for_each(|line| self.project.report.line(format!("  - {line}")));
            return Ok(());
        }
        machine::consent_to(
            &self.project.report,
            self.project.options.yes,
            &lines,
            "the cluster stays as it is; deploys work without the upgrade",
        )
    }

    /// Starts the old cluster at its own Kubernetes version: it is stopped, or its API server does not respond (`silence`).
    fn start_old(&self, profile: &Profile, silence: Option<&str>) -> Result<()> {
        plan::apply(&self.project.report, "cluster", self.mode, self.start_steps(profile, silence)?).map(drop)
    }

    fn start_steps(&self, profile: &Profile, silence: Option<&str>) -> Result<Vec<Step<'_>>> {
        let (project, tools, origin) = (self.project, self.tools(), self.toolchain.origin.as_ref());
        let facts = StartFacts::observe(&project.settings.cluster, tools, origin, profile, silence)?;
        cluster::decide(&project.settings.cluster, tools, origin, profile, facts, &[])
    }

    /// Brings and builds everything that the new cluster needs. The old one still serves, so a failure here is harmless.
    fn bring_everything(&self, old: &OldCluster) -> Result<()> {
        let (project, origin) = (self.project, self.toolchain.origin.as_ref());
        let credentials = credentials::read(&project.dotenv, &project.settings, &project.report, &old.environment)?;
        let requirements = deploy::requirements(&project.settings, credentials.embedded, true);
        plan::apply(&project.report, "tools", self.mode, origin.plan(&requirements, &self.tools().engine)?)?;
        let builder = self.toolchain.image_builder(&project.settings.images);
        builder.build(&builder.observe()?, &mut [], self.mode).map(drop)
    }

    /// Stops the backend and dumps the database. Starts the backend again if that fails.
    fn dump(&self, profile: &Profile, from: &Version, old: &OldCluster) -> Result<Option<UpgradeState>> {
        let (project, tools) = (self.project, self.tools());
        let mut dump = None;
        if old.database {
            let replicas = upgrade::backend(&project.settings, tools)?.map(|backend| backend.replicas);
            let made = &mut dump;
            let step = Step::new(
                "dump the database",
                "deleting the cluster deletes its volume",
                format!(
                    "kubectl scale deployment/{} --replicas=0\n\
                     docker exec {} crictl exec <postgres> pg_dump --format=custom > {}/<time>.dump",
                    upgrade::backend_name(&project.settings),
                    tools.profile,
                    quote(self.folder)
                ),
                move |running| {
                    let result = self.stop_and_dump(replicas, from, running);
                    let dump = match (result, replicas) {
                        (result @ Err(_), Some(replicas)) => {
                            let deploy = format!("deploy {}", old.environment);
                            upgrade::start_backend(&project.settings, tools, replicas, &deploy, result)?
                        }
                        (result, _) => result?,
                    };
                    let summary = format!("{} rows of {} tables, {}", dump.rows(), dump.tables.len(), bytes(dump.size));
                    *made = Some(dump);
                    Ok(summary)
                },
            );
            plan::apply(&project.report, "upgrade", self.mode, vec![step])?;
        }
        if self.mode == Mode::DryRun {
            return Ok(None);
        }
        Ok(Some(UpgradeState::new(old.environment.clone(), profile.port, from.to_string(), old.uid.clone(), dump)))
    }

    fn stop_and_dump(&self, replicas: Option<u64>, from: &Version, running: &Running) -> Result<Dump> {
        if replicas.is_some() {
            running.progress("stopping the backend");
            upgrade::scale_backend(&self.project.settings, self.tools(), 0)?;
        }
        let postgres = self.postgres()?;
        Dump::create(self.folder, &postgres, &from.to_string(), running)
    }

    fn postgres(&self) -> Result<Postgres> {
        let found = Postgres::find(&self.project.settings, self.tools())?;
        found.ok_or_else(|| {
            Failure::new(Class::Cluster, "the embedded database does not run, so it cannot be dumped or restored")
                .help("see why: cargo xtask status")
                .into()
        })
    }

    fn show_remaining_steps(&self, profile: &Profile, pinned: &Version, old: &OldCluster) {
        let (report, name) = (&self.project.report, &self.tools().profile);
        let delete = format!("minikube --profile {name} delete");
        report.planned("upgrade", &format!("delete cluster {name}"), "the dump was checked", &delete);
        let port = profile.port.map(|port| format!(" --ports=127.0.0.1:{port}:80")).unwrap_or_default();
        let create = format!("minikube --profile {name} start --kubernetes-version={pinned}{port}");
        report.planned("upgrade", &format!("create cluster {name}"), "this checkout pins its Kubernetes", &create);
        if old.database {
            let restore =
                format!("docker exec -i {name} crictl exec -i <postgres> sh -c \"pg_restore | psql\" < <dump>");
            report.planned("upgrade", "restore the database", "before the application starts", &restore);
        }
        let deploy = format!("cargo xtask deploy {}", old.environment);
        report.planned("upgrade", &format!("deploy {}", old.environment), "the recorded environment", &deploy);
    }

    /// Deletes the old cluster and creates the new one. Checks the cluster, the dump and the database right before.
    fn delete_and_create(&self, mut state: UpgradeState) -> Result<()> {
        let tools = self.tools();
        let uid = upgrade::cluster_uid(tools)?;
        ensure!(uid == state.old_cluster, "the cluster `{}` is not the one that was dumped", tools.profile);
        if let Some(dump) = &state.dump {
            dump.check_file(self.folder)?;
            let changed = dump.check_database(&self.postgres()?);
            changed.context("the database changed while the backend was stopped; nothing was deleted")?;
        }
        state.store(self.folder)?;
        self.delete(&mut state)?;
        self.create(state)
    }

    fn delete(&self, state: &mut UpgradeState) -> Result<()> {
        let tools = self.tools();
        let why = if state.phase == Phase::Delete { "the dump was checked" } else { "its creation did not finish" };
        let step = cluster::delete_step(tools, why);
        plan::apply(&self.project.report, "upgrade", Mode::Apply, vec![step])?;
        state.advance(self.folder, Phase::Create)
    }

    /// Creates the cluster and restores the dump, unless an earlier run did, and deploys.
    fn create(&self, state: UpgradeState) -> Result<()> {
        let mut project = self.project.clone();
        project.settings.cluster.port = state.port.unwrap_or(project.settings.cluster.port);
        let output = Output::default();
        let args =
            Deploy { environment: state.environment.clone(), dry_run: false, watch: false, output, in_brief: false };
        let mut state = state;
        let mut restore = |ready: &ReadyCluster<'_>| self.restore(&mut state, ready);
        deploy::deploy(&project, &args, Some(&mut restore))?;
        UpgradeState::remove(self.folder)?;
        let kept = upgrade::remove_old(self.folder)?;
        let pinned = cluster::pinned(&project.settings.cluster)?;
        let took = seconds(self.start.elapsed());
        project.report.ok(format!("the cluster runs Kubernetes {pinned} instead of {}, {took}", state.from));
        if let Some(dump) = &state.dump {
            let folder = self.folder;
            project.report.note(format!("{} rows restored; the dump stays: {}", dump.rows(), folder.join(&dump.file)));
            if kept.len() > 1 {
                project.report.note(format!("{} dumps of this profile are kept in {folder}", kept.len()));
            }
        }
        Ok(())
    }

    /// Restores the dump into a cluster without pods of the application, unless an earlier run did.
    fn restore(&self, state: &mut UpgradeState, ready: &ReadyCluster<'_>) -> Result<()> {
        let project = self.project;
        let uid = upgrade::cluster_uid(ready.tools)?;
        if uid == state.old_cluster {
            bail!("the old cluster `{}` still runs; nothing was restored", ready.tools.profile);
        }
        if state.phase == Phase::Release && state.new_cluster.as_ref() == Some(&uid) {
            return Ok(());
        }
        let known = state.phase == Phase::Restore && state.new_cluster.as_ref() == Some(&uid);
        if !known && ready.release.helm.newest().is_some() {
            let what = format!("the cluster `{}` has a release that no upgrade made", ready.tools.profile);
            return Err(Failure::new(Class::Cluster, format!("{what}; nothing was restored into it"))
                .help("if nothing in it must be kept: cargo xtask teardown --cluster   # then the same command again")
                .into());
        }
        state.new_cluster = Some(uid);
        let Some(dump) = state.dump.clone() else { return state.advance(self.folder, Phase::Release) };
        state.advance(self.folder, Phase::Restore)?;
        let components = project.settings.images.values().map(|image| image.component.as_str());
        let desired = ready.desired.without(components);
        let steps = release::decide_database(ready.tools, &desired, ready.secrets.clone(), ready.release);
        plan::apply(&project.report, "release", Mode::Apply, steps)?;
        let folder = self.folder;
        let shown = format!("pg_restore < {} | psql    # one transaction", folder.join(&dump.file));
        let step = Step::new("restore the database", "before the application starts", shown, |running: &Running| {
            let file = dump.check_file(folder)?;
            let postgres = self.postgres()?;
            let start = Instant::now();
            while let Err(error) = postgres.ensure_ready() {
                if start.elapsed() > deadlines::DATABASE_READY.time() {
                    let limit = deadlines::DATABASE_READY.as_secs();
                    return Err(error.context(format!("the database accepted no connection within {limit} s")));
                }
                std::thread::sleep(deadlines::POLL.time());
            }
            running.progress(format!("{} rows", dump.rows()));
            postgres.restore(&file)?;
            dump.check_database(&postgres).context("the restored data differs from the dump")?;
            Ok(format!("{} rows of {} tables, as in the dump", dump.rows(), dump.tables.len()))
        });
        plan::apply(&project.report, "upgrade", Mode::Apply, vec![step])?;
        state.advance(self.folder, Phase::Release)
    }

    /// Returns the UID of the cluster; the inner `Err` says why its API server does not respond. A failed request to an API
    /// server that responds is an error, so that it does not lead to a deletion.
    fn uid(&self, profile: &Profile) -> Result<Result<String, String>> {
        if profile.state != ProfileState::Running {
            return Ok(Err("it does not run".to_owned()));
        }
        match cluster::wait_for_api_server(self.tools(), profile)? {
            ApiServer::Ready => upgrade::cluster_uid(self.tools()).map(Ok),
            ApiServer::Starting(words) | ApiServer::Away(words) => Ok(Err(words)),
        }
    }

    fn restart(&self) -> Result<()> {
        self.project.report.note("the old cluster is still complete: xtask dumps it again");
        self.begin()
    }

    /// Continues an upgrade that an earlier run began.
    fn resume(&self, mut state: UpgradeState) -> Result<()> {
        let (project, tools) = (self.project, self.tools());
        let profile = cluster::profile(tools)?;
        if let Some(refusal) = cluster::refusal(tools, &profile) {
            return Err(refusal.into());
        }
        let from = &state.from;
        let done = match state.phase {
            Phase::Delete => "the old cluster was being deleted",
            Phase::Create => "the old cluster is deleted",
            Phase::Restore => "the new cluster runs, the dump was being restored",
            Phase::Release => "the todos are in the new cluster",
        };
        project
            .report
            .note(format!("an upgrade from Kubernetes {from} is not finished: {done}; this run continues from there"));
        if self.mode == Mode::DryRun {
            project.report.answer("without --dry-run, xtask runs the remaining steps and does not ask again");
            return Ok(());
        }
        if let Some(dump) = &state.dump {
            dump.check_file(self.folder)?;
        }
        match &profile.state {
            ProfileState::Absent => state.advance(self.folder, Phase::Create)?,
            // The rest is of the old cluster, whose dump was checked, or of a new one that holds nothing yet.
            ProfileState::HalfDeleted(_) if state.phase != Phase::Release => self.delete(&mut state)?,
            ProfileState::HalfDeleted(how) => {
                let what = format!("minikube profile `{}` is half deleted: {how}", tools.profile);
                return Err(Failure::new(Class::Cluster, what)
                    .help("remove the rest of it: cargo xtask teardown --cluster")
                    .help("then: cargo xtask cluster upgrade   # restores the dump again")
                    .into());
            }
            _ => match (state.phase, self.uid(&profile)?) {
                // The old cluster is complete, and users may have written to it since the dump.
                (Phase::Delete, Ok(uid)) if uid == state.old_cluster => return self.restart(),
                // An API server that does not respond says nothing about the todos, so start the cluster and ask again.
                (Phase::Delete, Err(silence)) => {
                    self.start_old(&profile, Some(&silence)).map_err(|error| {
                        Failure::new(
                            Class::Cluster,
                            "the old cluster was being deleted, and it cannot be started again",
                        )
                        .because(error)
                        .help("delete the rest of it: cargo xtask teardown --cluster")
                        .help("then restore the dump, which has all todos: cargo xtask cluster upgrade")
                    })?;
                    return self.restart();
                }
                // minikube was killed during the creation and cannot continue it; the cluster holds nothing yet.
                (Phase::Create, Err(_)) => self.delete(&mut state)?,
                _ => {}
            },
        }
        self.create(state)
    }
}
