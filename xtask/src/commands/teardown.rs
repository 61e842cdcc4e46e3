//! `cargo xtask teardown`: the mirror of deploy. Idempotent; says what stays.

use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value;

use crate::api::{Api, Propagation, Scope, kinds};
use crate::cache;
use crate::deadlines;
use crate::engine::ping::Answer;
use crate::engine::place::Place;
use crate::engine::stored;
use crate::failure::{Class, Failure};
use crate::files;
use crate::lock;
use crate::origin;
use crate::plan::{self, Mode};
use crate::project::Project;
use crate::secrets::SELECTOR;
use crate::snapshot::{Snapshot, text, title};
use crate::stages::release::{self, Record};
use crate::stages::upgrade::{self, Phase, State};
use crate::stages::{cluster, machine};
use crate::toolbox::{Toolbox, dir_of, own_minikube_home};

/// Remove what deploy made; data, cluster, engine and caches only when asked
#[derive(Args, Debug, Default)]
pub struct Teardown {
    /// Also remove the embedded database's volume with its Secret, and the namespace if nobody else uses it
    #[arg(long)]
    pub data: bool,
    /// Also delete the minikube profile (and with it the data)
    #[arg(long)]
    pub cluster: bool,
    /// Also end and remove the private Docker Engine (and with it cluster, data and images)
    #[arg(long)]
    pub engine: bool,
    /// Also remove the cache: tools, base images, downloads (and with it everything else)
    #[arg(long)]
    pub cache: bool,
}

/// Runs the teardown.
pub fn run(project: &Project, args: &Teardown) -> Result<()> {
    let report = &project.report;
    if args.cache {
        cache::check_removable(&project.cache)?;
    }
    let guard = project.lock()?;
    let observed = machine::observe(project)?;
    match observed.engine(project) {
        // It goes with its cluster and its data, whether it answers or not. The user's own engine has no part in it.
        Err(error) if args.removes_engine() && matches!(observed.system, Answer::Absent(_)) => {
            report.warn(format!("{error}; it is removed with what is in it"));
        }
        Err(error) => return Err(error),
        Ok(None) => without_engine(project, args)?,
        Ok(Some(engine)) => {
            let origin = origin::present(project, &engine)?;
            let tools = Toolbox::new(project, engine, origin.as_ref())?;
            release_and_cluster(project, &tools, args)?;
        }
    }
    if args.removes_engine() {
        remove_engine(project)?;
    }
    if args.cache {
        remove_cache(project, guard)?;
    }
    stays(project, args);
    stays_of_upgrade(project)
}

impl Teardown {
    fn removes_engine(&self) -> bool {
        self.engine || self.cache
    }
}

/// No engine runs: that no cluster does either is certain, but not that there is none.
fn without_engine(project: &Project, args: &Teardown) -> Result<()> {
    let name = &project.settings.cluster.profile;
    let in_private = stored::containers(&Place::new(&project.cache))?.contains(name);
    if args.removes_engine() && in_private {
        return Ok(());
    }
    if !in_private && !cluster::exists_anywhere(project)? {
        project.report.ok(format!("no Docker Engine runs, and minikube has no profile `{name}` on record"));
        return Ok(());
    }
    let what = format!("there is a profile `{name}`, but no Docker Engine runs, so nothing of it can be removed");
    if args.removes_engine() {
        project.report.warn(format!("{what}; its node is in another engine than the private one"));
        return Ok(());
    }
    let failure = Failure::new(Class::Cluster, what).help("start engine and cluster: cargo xtask deploy dev");
    Err(match in_private {
        true => failure.help("or remove the private engine with the data in it: cargo xtask teardown --engine").into(),
        false => failure.into(),
    })
}

/// Removes the private engine, and minikube's records of the nodes that were in it: without its node a profile is but a
/// record. Records of other nodes are left alone.
fn remove_engine(project: &Project) -> Result<()> {
    let nodes = stored::containers(&Place::new(&project.cache))?;
    let steps = machine::stop_engine(project)?;
    if plan::apply(project, "teardown", Mode::Apply, steps)? == 0 {
        project.report.ok("no private engine");
    }
    let minikube = dir_of(&own_minikube_home(project));
    for folder in
        nodes.iter().flat_map(|node| ["profiles", "machines"].map(|records| minikube.join(records).join(node)))
    {
        files::remove_folder(&folder)?;
    }
    Ok(())
}

/// Removes the cache, unless minikube has profiles on record there whose nodes are somewhere else.
fn remove_cache(project: &Project, guard: lock::Lock) -> Result<()> {
    let mut profiles = Vec::new();
    for folder in files::entries(&dir_of(&own_minikube_home(project)).join("profiles"))? {
        if files::exists(&folder.join("config.json"))? {
            profiles.extend(folder.file_name().map(str::to_owned));
        }
    }
    if let Some(profile) = profiles.first() {
        let what = format!("the cache has minikube's records of profiles in another engine: {}", profiles.join(", "));
        return Err(Failure::new(Class::Cluster, what)
            .help(format!("delete each of them first: cargo xtask teardown --cluster --profile {profile}"))
            .into());
    }
    drop(guard);
    cache::remove(&project.cache)?;
    project.report.ok(format!("cache removed: {}", project.cache));
    Ok(())
}

fn release_and_cluster(project: &Project, tools: &Toolbox, args: &Teardown) -> Result<()> {
    let report = &project.report;
    let profile = cluster::profile(tools)?;
    if let Some(refusal) = cluster::refused(tools, &profile) {
        return Err(refusal.into());
    }
    if args.cluster || args.removes_engine() {
        if args.removes_engine() && cluster::is_elsewhere(project, tools)? {
            // It goes with the private engine.
            return Ok(());
        }
        if profile.state == cluster::State::Absent {
            report.ok(format!("no minikube profile `{}`", tools.profile));
            return Ok(());
        }
        // minikube deletes kube entries by their name, whoever made them.
        cluster::guard(project)?;
        let step = cluster::delete_step(project, tools, "asked for");
        return plan::apply(project, "teardown", Mode::Apply, vec![step]).map(drop);
    }
    match profile.state {
        cluster::State::Running => remove_release(project, tools, args),
        cluster::State::Absent => {
            report.ok(format!("no minikube profile `{}`: nothing to remove", tools.profile));
            Ok(())
        }
        state => {
            let what = format!("the cluster `{}` does not run, so nothing in it can be removed", tools.profile);
            let failure = Failure::new(Class::Cluster, what);
            let failure = match state {
                cluster::State::Stopped | cluster::State::Paused => {
                    failure.help(format!("start it: {}", project.command("start")))
                }
                _ => failure,
            };
            Err(failure.help("delete it with all its data: cargo xtask teardown --cluster").into())
        }
    }
}

fn remove_release(project: &Project, tools: &Toolbox, args: &Teardown) -> Result<()> {
    let profile = cluster::observe(tools)?.profile;
    let report = &project.report;
    let chart = &project.settings.chart;
    let api = tools.api()?;
    let namespace = api.get(&kinds::NAMESPACE, &chart.namespace);
    if namespace.with_context(|| format!("cannot tell whether namespace {} exists", chart.namespace))?.is_none() {
        report.ok(format!("no namespace `{}`", chart.namespace));
    } else {
        warn_of_unreadable_record(project, tools)?;
        plan::apply(project, "teardown", Mode::Apply, cluster::context_step(tools, &profile)?.into_iter().collect())?;
        let running = report.step("teardown", format!("uninstall {}", chart.release), "asked for");
        // Before the Secrets go that pods of a release which is still there read.
        release::uninstall(project, tools)?;
        // Helm keeps the pods of a `helm test` that failed, and forgets them.
        let tests = format!("{},app.kubernetes.io/component=test", tools.release().selector());
        api.delete_selected(&kinds::POD, &tests)?;
        running.done("");
        let selector = match args.data {
            true => SELECTOR.to_owned(),
            // The password lives and dies with the volume it opens.
            false => format!("{SELECTOR},app.kubernetes.io/component!=postgres"),
        };
        api.delete_selected(&kinds::SECRET, &selector)?;
        api.delete_selected(&kinds::CONFIG_MAP, &selector)?;
        report.ok("Secrets and records removed");
        if args.data {
            remove_data(project, tools)?;
        }
    }
    if let Some(done) = cluster::remove_controller(project, tools)? {
        report.ok(done);
    }
    Ok(())
}

/// Deletes the namespace with the database's volume, or the volume alone where others have something in the namespace.
fn remove_data(project: &Project, tools: &Toolbox) -> Result<()> {
    let (api, name) = (tools.api()?, tools.namespace());
    let snapshot = Snapshot::take(tools)?;
    // A snapshot has no Secrets, and of these kinds a release has none.
    let kinds = [kinds::JOB, kinds::DAEMON_SET, kinds::ROLE, kinds::ROLE_BINDING];
    let lists = api.list_all(&kinds, Scope::Namespace)?;
    let secrets = api.list_metadata(&kinds::SECRET, "")?;
    let secrets =
        secrets.iter().filter(|secret| !tools.release().owns(secret) && !tools.release().has_revision(secret));
    let secrets = secrets.map(|secret| format!("Secret {}", text(secret, "/metadata/name")));
    let rest = lists.iter().flat_map(|list| &list.items).filter(|object| !tools.release().owns(object));
    let others: Vec<String> = snapshot.would_be_lost().into_iter().chain(rest.map(title)).chain(secrets).collect();
    let claims: Vec<&str> = snapshot.kind("PersistentVolumeClaim").map(|claim| text(claim, "/metadata/name")).collect();
    if others.is_empty() {
        let running = project.report.step("teardown", format!("delete namespace {name}"), "--data");
        api.delete(&kinds::NAMESPACE, name, Propagation::Background)?;
        confirm_volumes_gone(&api, name, &claims)?;
        running.done("with the database's volume");
        return Ok(());
    }
    let running = project.report.step("teardown", "delete the database's volume", "--data");
    for claim in &claims {
        api.delete(&kinds::PERSISTENT_VOLUME_CLAIM, claim, Propagation::Background)?;
    }
    confirm_volumes_gone(&api, name, &claims)?;
    running.done("");
    let stays = format!("stays: namespace {name}, where others have {}", others.join(", "));
    project.report.note(format!("{stays}  (cargo xtask tool kubectl -- delete namespace {name} removes all)"));
    Ok(())
}

/// Waits until the provisioner has removed the volumes of these `claims` in `namespace`: they outlive their claims.
fn confirm_volumes_gone(api: &Api, namespace: &str, claims: &[&str]) -> Result<()> {
    let begun = Instant::now();
    let ours = |volume: &&Value| {
        let claim = &volume["spec"]["claimRef"];
        claim["namespace"] == namespace && claims.contains(&text(claim, "/name"))
    };
    loop {
        let volumes = api.list(&kinds::PERSISTENT_VOLUME, Scope::Cluster)?.items;
        let Some(volume) = volumes.iter().find(ours) else { return Ok(()) };
        if begun.elapsed() > deadlines::VOLUME_DELETION.time() {
            let what = format!(
                "claim {} in namespace {namespace} is gone, but its volume {} with the data is not ({})",
                text(volume, "/spec/claimRef/name"),
                text(volume, "/metadata/name"),
                text(volume, "/status/phase")
            );
            return Err(Failure::new(Class::Cluster, what)
                .help("see whether the provisioner runs: cargo xtask tool kubectl -- get pods -n kube-system")
                .into());
        }
        std::thread::sleep(api.deadlines().poll);
    }
}

/// The record goes either way, so one that cannot be read stops nothing here.
fn warn_of_unreadable_record(project: &Project, tools: &Toolbox) -> Result<()> {
    if let Err(error) = Record::read(&Snapshot::take(tools)?) {
        project.report.warn(format!("{error}; it goes with the release"));
    }
    Ok(())
}

/// Says what stays of an upgrade: dumps, and what is left to do.
fn stays_of_upgrade(project: &Project) -> Result<()> {
    let folder = upgrade::folder(project)?;
    if files::exists(&folder)? {
        project.report.note(format!("stays: dumps of the database  (rm -r {folder} removes them)"));
    }
    if State::load(project)?.is_some_and(|state| state.phase != Phase::Release) {
        let command = project.command("cluster upgrade");
        project.report.warn(format!("an upgrade of the cluster is not finished: {command} restores the todos"));
    }
    Ok(())
}

fn stays(project: &Project, args: &Teardown) {
    let mut stays: Vec<(&str, &str)> = Vec::new();
    let all = args.cache;
    if !(args.data || args.cluster || args.engine || all) {
        stays.push(("the todos (database volume and its Secret)", "--data"));
    }
    if !(args.cluster || args.engine || all) {
        stays.push(("the cluster", "--cluster"));
    }
    if !(args.engine || all) {
        stays.push(("the private engine with images", "--engine"));
    }
    if !all {
        stays.push(("tools and base images in the cache", "--cache"));
    }
    if project.dotenv.exists() {
        stays.push((".env, which is yours", "rm .env"));
    }
    for (what, how) in stays {
        project.report.note(format!("stays: {what}  ({how} removes it)"));
    }
}
