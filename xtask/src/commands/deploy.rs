//! `cargo xtask deploy <env>`: runs the stages machine -> tools -> cluster -> images -> release -> proof.

mod facts;
pub(crate) mod watch;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use super::output::{self, Output};
use super::{diff, summary};
use crate::credentials::{self, Credentials};
use crate::failure::{Class, Failure};
use crate::origin::{Requirement, Tool};
use crate::plan::{self, Mode};
use crate::project::Project;
use crate::stages::cluster::{self, ControllerManifests, ProfileState, StartFacts};
use crate::stages::database;
use crate::stages::images::load::Wanted;
use crate::stages::images::prune::{self, Builds};
use crate::stages::images::{self, Built};
use crate::stages::proof::{self, Access, LiveState};
use crate::stages::release::{self, Desired};
use crate::stages::upgrade;
use crate::supply::{self, Stale, Supply};
use crate::toolbox::Toolbox;
use crate::toolchain::{Preparation, Toolchain};
use facts::{AppliedState, Facts, LiveCluster};

/// A caller's action between the images stage and the release stage, on a running cluster with loaded images.
pub(crate) type BeforeRelease<'a> = &'a mut dyn FnMut(&ReadyCluster<'_>) -> Result<()>;

/// The state of the deploy before the release stage.
pub(crate) struct ReadyCluster<'a> {
    /// The tools.
    pub tools: &'a Toolbox,
    /// The desired release.
    pub desired: &'a Desired,
    /// The Secrets of the desired release.
    pub secrets: &'a release::SecretPlan,
    /// The live release, as observed before the action.
    pub release: &'a release::ObservedRelease,
}

/// Build, load, release and prove the application on Minikube
#[derive(Args, Clone, Debug)]
pub struct Deploy {
    /// Environment in infra/xtask.toml, e.g. dev
    pub environment: String,
    /// Show the steps that would run, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Deploy again whenever you save a file that affects the deployment, until Ctrl-C
    #[arg(long, conflicts_with_all = ["dry_run", "json", "timings"])]
    pub watch: bool,
    #[command(flatten)]
    pub output: Output,
    /// Ends with one line instead of the summary
    #[arg(skip)]
    pub in_brief: bool,
}

/// Deploys once, or with `--watch` after each change.
pub fn run(project: &Project, args: &Deploy) -> Result<()> {
    if args.watch { watch::run(project, args) } else { deploy_once(project, args) }
}

fn deploy_once(project: &Project, args: &Deploy) -> Result<()> {
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Apply };
    project.settings.environment(&args.environment)?;
    cluster::guard(project)?;
    let _lock = match mode {
        Mode::Apply => Some(project.lock()?),
        Mode::DryRun => None,
    };
    upgrade::refuse_unfinished(project)?;
    deploy(project, args, None)?;
    if mode == Mode::Apply {
        // An upgrade that had reached its last phase only lacked this deploy.
        upgrade::UpgradeState::remove(project)?;
    }
    Ok(())
}

/// Deploys; the caller holds the profile's lock.
pub(crate) fn deploy(project: &Project, args: &Deploy, before_release: Option<BeforeRelease<'_>>) -> Result<()> {
    let start = Instant::now();
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Apply };
    let report = &project.report;
    report.fact("environment", args.environment.as_str());
    report.fact("dry_run", args.dry_run);
    // Check .env before the builds, which may take a quarter of an hour.
    let credentials = credentials::read(project, &args.environment)?;
    let create = before_release.is_some() || !cluster::exists(project)?;
    let requirements = requirements(project, credentials.embedded, create);
    let preparation = Preparation::new(project, &requirements)?;
    if mode == Mode::Apply {
        preparation.consent()?;
        report.recorder().keep_in(&project.target().join("events.jsonl"))?;
    }
    let credentials = credentials.ensure(project, &args.environment, mode)?;
    let (toolchain, engine, machine) = preparation.bring_engine(mode)?;
    let (tools, origin) = (&toolchain.tools, toolchain.origin.as_ref());
    let probe_tools = if machine.is_empty() { toolchain.tools_for_look(project) } else { tools.clone() };
    let steps = match machine.is_empty() && origin.is_there(&requirements, &probe_tools.engine)? {
        true => Vec::new(),
        false => origin.plan_beside(&requirements, &engine, machine)?,
    };
    // The steps bring the missing artifacts, so the cached answers of the engine become outdated.
    let probe_tools = if steps.is_empty() { &probe_tools } else { tools };
    Supply::run(project, &toolchain, mode, &requirements, steps, |supply| {
        if !create && !toolchain.tools.has_kubectl()? && !cluster::publishes_port(&toolchain.tools)? {
            // A profile without a published port is reached through `kubectl port-forward`.
            let kubectl = toolchain.origin.plan(&[Requirement::Tool(Tool::Kubectl)], &toolchain.tools.engine)?;
            supply::bring(project, mode, kubectl)?;
        }
        std::thread::scope(|scope| {
            let run = DeployContext {
                project,
                args,
                start,
                credentials: &credentials,
                toolchain: &toolchain,
                probe_tools,
                supply,
            };
            let early = supply.is_under_way().then(|| scope.spawn(move || supply.part(|| build_early(run))));
            supply.settle(run_stages(run, early, before_release))
        })
    })
}

/// The inputs of all stages after the tools stage.
#[derive(Clone, Copy)]
struct DeployContext<'a> {
    project: &'a Project,
    args: &'a Deploy,
    start: Instant,
    credentials: &'a Credentials,
    toolchain: &'a Toolchain,
    /// The tools for the first observation, which may use cached answers of the engine.
    probe_tools: &'a Toolbox,
    supply: &'a Supply<'a>,
}

/// A build of the applications' images that runs beside the tools stage.
type EarlyBuild<'scope> = std::thread::ScopedJoinHandle<'scope, Result<Vec<Built>>>;

/// Builds the applications' images as soon as the origin has brought their base images.
fn build_early(DeployContext { project, toolchain, supply, .. }: DeployContext<'_>) -> Result<Vec<Built>> {
    let (engine, origin) = (&toolchain.tools.engine, toolchain.origin.as_ref());
    supply.wait_for(&base_images(project))?;
    images::build(project, engine, origin, &images::observe(project, engine, origin)?, &mut [], Mode::Apply)
}

/// Runs the stages after the tools stage, which may still be running.
fn run_stages(
    run: DeployContext<'_>,
    early: Option<EarlyBuild<'_>>,
    before_release: Option<BeforeRelease<'_>>,
) -> Result<()> {
    let DeployContext { project, args, start, credentials, toolchain, probe_tools, supply } = run;
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Apply };
    let report = &project.report;
    let (tools, origin) = (&toolchain.tools, toolchain.origin.as_ref());
    supply.wait_for(&first_requirements(project, credentials.embedded))?;
    let look = || Facts::observe(project, probe_tools, origin, credentials);
    let mut facts = report.look("observe", "cluster, release and images", look)?;
    if facts.cluster.profile.state == ProfileState::Running {
        report.skipped("cluster", &format!("create cluster {}", tools.profile), "it runs");
    }
    if let Some(difference) = cluster::difference(project, tools, &facts.cluster.profile)? {
        report.warn(difference);
    }
    let silence = facts.live.as_ref().err().map(String::as_str);
    // `cluster::decide` refuses a half deleted profile or creates it again.
    let is_new = matches!(facts.cluster.profile.state, ProfileState::Absent | ProfileState::HalfDeleted(_));
    let images = facts.images_for_a_new_node(project);
    let start_facts = StartFacts::observe(project, tools, origin, &facts.cluster.profile, silence)?;
    let cluster_steps = cluster::decide(project, tools, origin, &facts.cluster.profile, start_facts, &images)?;
    let mut steps = plan::apply(project, "cluster", mode, cluster_steps)?;
    if steps > 0 && mode == Mode::Apply {
        facts.observe_again(project, toolchain, credentials)?;
    }
    let mut live = match facts.live {
        Ok(live) => live,
        // A dry run does not create the cluster, so nothing is in it.
        Err(_) if mode == Mode::DryRun && is_new => LiveCluster::empty(tools),
        Err(silence) if mode == Mode::DryRun => {
            images::build(project, &tools.engine, origin, &facts.images, &mut [], mode)?;
            report.warn(format!("the remaining steps are unknown until the cluster responds: {silence}"));
            return Ok(());
        }
        Err(silence) => {
            let what = format!("cannot query the cluster: {silence}");
            return Err(Failure::new(Class::Cluster, what).help("see why: cargo xtask status").into());
        }
    };
    steps +=
        plan::apply(project, "release", mode, release::wait_until_gone(tools, &live.release)?.into_iter().collect())?;
    let ingress = || {
        supply.wait_for(&[Requirement::Image(project.settings.cluster.ingress_image.clone())])?;
        // The ingress controller has a Role in the namespace.
        let namespace = release::absent_namespace(tools, &live.release);
        let (manifests, class) = (ControllerManifests::read(project)?, &credentials.ingress_class);
        let step = cluster::decide_ingress(project, tools, origin, &live.ingress, manifests, class, namespace)?;
        plan::apply(project, "cluster", mode, step.into_iter().collect())
    };
    let images = |early: Option<EarlyBuild<'_>>| -> Result<_> {
        let built = match early {
            Some(early) => early.join().unwrap_or_else(|_| bail!("the early build of the images panicked")),
            None => images::build(project, &tools.engine, origin, &facts.images, &mut live.on_nodes, mode),
        };
        // Last point at which a newer save stops this deploy: nothing of the application is applied yet.
        if project.stale.load(Ordering::Relaxed) {
            return Err(Stale.into());
        }
        let built = built?;
        report.fact("images", output::images(&built));
        let wanted: Vec<Wanted> = wanted(&built).chain(facts.database).collect();
        let loaded = images::load(project, &tools.engine, &wanted, &live.on_nodes, mode)?;
        Ok((built, wanted, loaded))
    };
    let (ingress, images) = match mode {
        // Installing the controller waits for its image and its pod, so load the other images meanwhile.
        Mode::Apply if is_new => std::thread::scope(|scope| {
            let ingress = scope.spawn(|| supply.part(ingress));
            let images = supply.part(|| images(early));
            (ingress.join().unwrap_or_else(|_| bail!("the ingress controller's installation panicked")), images)
        }),
        _ => (Ok(ingress()?), images(early)),
    };
    let (built, wanted, loaded) = images?;
    steps += ingress? + built.iter().filter(|image| image.why.is_some()).count() + loaded;
    supply.wait_for(&[Requirement::Tool(Tool::Helm)])?;
    if is_new && mode == Mode::Apply {
        // minikube did not wait for DNS, so that images could be loaded meanwhile.
        plan::apply(project, "cluster", mode, vec![cluster::dns_step(tools)])?;
    }
    if steps > 0 && mode == Mode::Apply {
        // The steps may have taken minutes.
        live.release = report.look("observe", "the release again", || release::observe(tools))?;
        live.postgres = credentials.postgres(tools)?;
    }
    let secrets = credentials.plan(tools, &live.release, live.postgres.as_ref(), mode)?;
    let tags = built.iter().filter_map(|image| Some((image.name.clone(), image.tag.clone()?))).collect();
    let desired = Desired::new(project, &args.environment, &tags, &secrets.names)?;
    if let Some(before_release) = before_release {
        before_release(&ReadyCluster { tools, desired: &desired, secrets: &secrets, release: &live.release })?;
        live.release = report.look("observe", "the release again", || release::observe(tools))?;
    }
    let desired = live.release.snapshot.as_ref().map_or(desired.clone(), |snapshot| desired.with_autoscaled(snapshot));
    let names: Vec<String> = secrets.names.values().cloned().collect();
    let run = release::Run::default();
    let is_new = database::has_new_migrations(project, &desired, &live.release);
    let preflight = database::decide(project, tools, &desired, &secrets, &live.release, is_new);
    let preflight = preflight.map(|preflight| preflight.steps());
    let release_steps = release::decide(project, tools, &desired, secrets.clone(), &live.release, &run, preflight);
    let mut changed = release_steps.len();
    if changed == 0 {
        let what = format!("helm upgrade {}", project.settings.chart.release);
        report.skipped("release", &what, "the live state matches the verified one and is ready");
    }
    let remove_old = || remove_old_builds(project, tools, &live, &wanted);
    // A failed removal does not fail the deploy; the next deploy with changes tries again.
    let warn_if_failed = |result: Result<()>| {
        result.unwrap_or_else(|error| report.warn(format!("old builds could not be removed: {error:#}")));
    };
    steps += std::thread::scope(|scope| {
        // Runs beside the rollout, which needs none of the old builds.
        let is_due = changed > 0 && mode == Mode::Apply;
        let remove_old = is_due.then(|| scope.spawn(remove_old));
        let applied = plan::apply(project, "release", mode, release_steps)?;
        if let Some(remove_old) = remove_old {
            warn_if_failed(remove_old.join().unwrap_or_else(|_| bail!("the look for old builds panicked")));
        }
        anyhow::Ok(applied)
    })?;
    let access = match mode {
        Mode::Apply => Some(Access::open(tools, &facts.cluster.profile)?),
        Mode::DryRun => None,
    };
    let look = |access: &Access| {
        report.look("proof", "images and routes", || AppliedState::observe(project, tools, &wanted, &access.address))
    };
    let mut applied = match &access {
        Some(access) if steps > 0 => look(access)?,
        _ => AppliedState::unchanged(&wanted, &live),
    };
    if let Some(LiveState { snapshot, nodes, .. }) = &applied.evidence {
        let (ids, redactor) = (&applied.ids, &secrets.redactor);
        let restarted = release::restart_outdated(project, tools, ids, nodes, snapshot, redactor, mode)?;
        (steps, changed) = (steps + restarted, changed + restarted);
        if let Some(access) = access.as_ref().filter(|_| restarted > 0) {
            // The restart has freed the images whose tag the new pods' images took over.
            warn_if_failed(remove_old());
            applied = look(access)?;
        }
    }
    let Some(access) = access else {
        if changed > 0 {
            diff::show(project, tools, &desired, &secrets, &live.release, &built)?;
        }
        let last = if steps == 0 {
            "nothing to do: the live state matches the desired one"
        } else {
            "then: compare image IDs from build to pod, and request every route"
        };
        report.answer(last);
        return Ok(());
    };

    let AppliedState { ids, evidence } = applied;
    let prove = || {
        let evidence = evidence.map_or_else(|| LiveState::take(tools, &access.address, 1), Ok)?;
        proof::prove(project, tools, &ids, &access.address, evidence)
    };
    let proof = report.look("proof", "images and routes", prove)?;
    let front = access.front(&proof.snapshot);
    report.fact("address", front.as_ref().map(|front| front.address.as_str()));
    report.fact("open_with", access.open_with());
    report.fact("routes", output::routes(&proof.answers));
    report.fact("workloads", output::workloads(&proof.snapshot));
    report.fact("database", credentials.database.as_str());
    if changed > 0 {
        release::record_desired(tools, &run, &proof.snapshot, &desired, ids.clone(), names)?;
        if let Err(error) = release::remove_unused(tools) {
            report.warn(format!("old Secrets could not be removed: {error:#}"));
        }
    }
    if steps == 0 {
        report.ok("nothing changed: nothing was built, loaded or restarted");
    }
    if args.in_brief {
        summary::print_in_brief(project, &access, front, &proof, start.elapsed());
    } else {
        summary::print(project, &access, front, credentials, &ids, &proof, start.elapsed());
    }
    Ok(())
}

/// Removes old builds, whose content tags would pile up. Keeps the `wanted` images, those of the revisions that Helm kept
/// in `live`, and the newest [`prune::KEEP`].
fn remove_old_builds(project: &Project, tools: &Toolbox, live: &LiveCluster, wanted: &[Wanted]) -> Result<()> {
    let builds = Builds::observe(tools)?;
    let names: Vec<&str> = project.settings.images.keys().map(String::as_str).collect();
    let kept = live.release.snapshot.as_ref().map(release::images_of_revisions).transpose()?.unwrap_or_default();
    let needed = wanted.iter().map(|image| image.reference.clone()).chain(kept).collect();
    let needed_by_all = prune::record_needed(&project.cache, &tools.profile, &needed)?;
    let mut steps = builds.engine.steps(&tools.engine, &names, prune::KEEP, &needed_by_all);
    steps.extend(builds.node_steps(&names, &needed)?);
    if steps.is_empty() {
        return Ok(());
    }
    let running = project.report.step("images", "remove old builds", "no kept revision needs them");
    // A failed removal does not stop the others.
    let results: Vec<Result<String>> = std::thread::scope(|scope| {
        let removals: Vec<_> = steps.into_iter().map(|step| scope.spawn(|| (step.action)(&running))).collect();
        removals.into_iter().map(|r| r.join().unwrap_or_else(|_| bail!("a removal panicked"))).collect()
    });
    running.done(format!("{} removed", results.iter().filter(|result| result.is_ok()).count()));
    results.into_iter().collect::<Result<Vec<String>>>().map(|_| ())
}

/// Returns the applications' images, which every node must have.
fn wanted(built: &[Built]) -> impl Iterator<Item = Wanted> + '_ {
    built.iter().map(|image| Wanted {
        reference: image.reference().unwrap_or_else(|| format!("{}:<tag>", image.name)),
        id: image.id.clone(),
    })
}

/// Returns the requirements of a deploy in the order in which it needs them. `embedded`: the chart's Postgres is in use.
/// `create`: the cluster must be created; an existing one has its Kubernetes, and kubectl comes with that.
pub fn requirements(project: &Project, embedded: bool, create: bool) -> Vec<Requirement> {
    let mut requirements = first_requirements(project, embedded);
    if !create {
        requirements
            .retain(|requirement| ![Requirement::Tool(Tool::Kubectl), Requirement::Cluster].contains(requirement));
    }
    requirements
        .extend([Requirement::Image(project.settings.cluster.ingress_image.clone()), Requirement::Tool(Tool::Helm)]);
    requirements
}

/// Returns the requirements of creating and observing a cluster.
fn first_requirements(project: &Project, embedded: bool) -> Vec<Requirement> {
    let mut requirements =
        vec![Requirement::Tool(Tool::Kubectl), Requirement::Cluster, Requirement::Tool(Tool::Minikube)];
    requirements.extend(base_images(project));
    if embedded {
        requirements.push(Requirement::Image(project.settings.database.image.clone()));
    }
    requirements
}

/// Returns the base images of the applications as requirements.
fn base_images(project: &Project) -> Vec<Requirement> {
    let base_images: BTreeSet<&String> = project.settings.bases().collect();
    base_images.into_iter().cloned().map(Requirement::Image).collect()
}
