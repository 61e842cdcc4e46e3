//! `cargo xtask teardown`: the mirror of deploy. Idempotent; says what stays.

use anyhow::{Context, Result};
use clap::Args;

use crate::api::{Propagation, kinds};
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::lock;
use crate::origin;
use crate::plan::{self, Mode};
use crate::project::Project;
use crate::secrets::SELECTOR;
use crate::snapshot::Snapshot;
use crate::stages::release::Record;
use crate::stages::upgrade::{self, Phase, State};
use crate::stages::{cluster, machine};
use crate::toolbox::{Toolbox, dir_of, own_minikube_home};

/// Remove what deploy made; data, cluster, engine and caches only when asked
#[derive(Args, Debug, Default)]
pub struct Teardown {
    /// Also remove the embedded database's volume with its Secret, and the namespace
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
    let locks = project.cache.join("locks");
    let guard = lock::take(&locks, &project.settings.cluster.profile)?;
    let observed = machine::observe(project)?;
    match observed.engine(project) {
        None => report.ok("no Docker Engine answers: no cluster runs"),
        Some(engine) => {
            let origin = origin::present(project, &engine)?;
            let tools = Toolbox::new(project, engine, origin.as_ref())?;
            release_and_cluster(project, &tools, args)?;
        }
    }
    if args.engine || args.cache {
        let steps = machine::stop_engine(project)?;
        if plan::apply(project, "teardown", Mode::Apply, steps)? == 0 {
            report.ok("no private engine");
        }
        // Without its engine a profile is but a record, which would look half deleted.
        for records in ["profiles", "machines"] {
            let _ = std::fs::remove_dir_all(dir_of(&own_minikube_home(project)).join(records));
        }
    }
    if args.cache {
        drop(guard);
        match std::fs::remove_dir_all(&project.cache) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", project.cache));
            }
            _ => report.ok(format!("cache removed: {}", project.cache)),
        }
    }
    stays(project, args);
    stays_of_upgrade(project)
}

fn release_and_cluster(project: &Project, tools: &Toolbox, args: &Teardown) -> Result<()> {
    let report = &project.report;
    let profile = cluster::profile(tools)?;
    if let Some(refusal) = cluster::refused(tools, &profile) {
        return Err(refusal.into());
    }
    if args.cluster || args.engine || args.cache {
        if profile.state == cluster::State::Absent {
            report.ok(format!("no minikube profile `{}`", tools.profile));
            return Ok(());
        }
        // minikube deletes kube entries by their name, whoever made them.
        cluster::guard(project)?;
        let step = cluster::delete_step(tools, "asked for");
        return plan::apply(project, "teardown", Mode::Apply, vec![step]).map(drop);
    }
    match profile.state {
        cluster::State::Running => remove_release(project, tools, args),
        cluster::State::Absent => {
            report.ok(format!("no minikube profile `{}`: nothing to remove", tools.profile));
            Ok(())
        }
        _ => Err(Failure::new(
            Class::Cluster,
            format!("the cluster `{}` does not run, so nothing in it can be removed", tools.profile),
        )
        .help("start it: cargo xtask deploy dev")
        .help("or delete it with all its data: cargo xtask teardown --cluster")
        .into()),
    }
}

fn remove_release(project: &Project, tools: &Toolbox, args: &Teardown) -> Result<()> {
    cluster::observe(tools)?;
    let report = &project.report;
    let chart = &project.settings.chart;
    let api = tools.api()?;
    let namespace = api.get(&kinds::NAMESPACE, &chart.namespace);
    if namespace.with_context(|| format!("cannot tell whether namespace {} exists", chart.namespace))?.is_none() {
        report.ok(format!("no namespace `{}`", chart.namespace));
    } else {
        warn_of_unreadable_record(project, tools)?;
        let running = report.step("teardown", format!("uninstall {}", chart.release), "asked for");
        let uninstall =
            tools.helm().args(["uninstall", &chart.release, "--ignore-not-found", "--cascade=foreground", "--wait"]);
        uninstall.deadline(deadlines::HELM_TEARDOWN).run()?;
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
            let running = report.step("teardown", format!("delete namespace {}", chart.namespace), "--data");
            api.delete(&kinds::NAMESPACE, &chart.namespace, Propagation::Background)?;
            running.done("with the database's volume");
        }
    }
    if let Some(done) = cluster::remove_controller(project, tools)? {
        report.ok(done);
    }
    Ok(())
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
    if folder.is_dir() {
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
    if project.dotenv.is_file() {
        stays.push((".env, which is yours", "rm .env"));
    }
    for (what, how) in stays {
        project.report.note(format!("stays: {what}  ({how} removes it)"));
    }
}
