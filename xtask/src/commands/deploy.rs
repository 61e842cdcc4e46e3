//! `cargo xtask deploy <env>`: runs the stages machine -> tools -> cluster -> images -> release -> proof.

mod facts;
pub(crate) mod watch;

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Result, bail};
use camino::Utf8Path;
use clap::Args;

use super::output::{self, Output};
use super::{diff, summary};
use crate::credentials::{self, Credentials};
use crate::failure::{Class, Failure};
use crate::origin::{Requirement, Tool};
use crate::plan::{self, Changes, Mode};
use crate::project::Project;
use crate::report::Report;
use crate::settings::Settings;
use crate::stages::cluster::{self, ControllerManifests, Profile, ProfileState, StartFacts};
use crate::stages::database;
use crate::stages::images::load::Wanted;
use crate::stages::images::prune::{self, Builds};
use crate::stages::images::{self, Built, ImageBuilder, ImageState};
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
    cluster::guard(&project.cache, &project.settings.cluster.profile)?;
    let _lock = match mode {
        Mode::Apply => Some(project.lock()?),
        Mode::DryRun => None,
    };
    let profile = &project.settings.cluster.profile;
    upgrade::refuse_unfinished(&project.cache, profile)?;
    deploy(project, args, None)?;
    if mode == Mode::Apply {
        // An upgrade that had reached its last phase only lacked this deploy.
        upgrade::UpgradeState::remove(&upgrade::folder(&project.cache, profile)?)?;
    }
    Ok(())
}

/// Deploys. The caller holds the profile's lock.
pub(crate) fn deploy(project: &Project, args: &Deploy, before_release: Option<BeforeRelease<'_>>) -> Result<()> {
    let start = Instant::now();
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Apply };
    let report = &project.report;
    report.fact("environment", args.environment.as_str());
    report.fact("dry_run", args.dry_run);
    // Check .env before the builds, which may take a quarter of an hour.
    let credentials = credentials::read(&project.dotenv, &project.settings, &project.report, &args.environment)?;
    let create = before_release.is_some() || !cluster::exists(&project.cache, &project.settings.cluster.profile)?;
    let requirements = requirements(&project.settings, credentials.embedded, create);
    let preparation = Preparation::new(&project.settings, project.origins(), &requirements)?;
    if mode == Mode::Apply {
        preparation.consent(project.options.yes)?;
        report.recorder().keep_in(&project.target().join("events.jsonl"))?;
    }
    let credentials = credentials.ensure(&project.dotenv, &args.environment, mode)?;
    let (toolchain, engine, machine) = preparation.bring_engine(mode)?;
    let (tools, origin) = (&toolchain.tools, toolchain.origin.as_ref());
    let probe_tools = if machine.is_empty() { toolchain.tools_for_look(&project.settings) } else { tools.clone() };
    let steps = match machine.is_empty() && origin.is_there(&requirements, &probe_tools.engine)? {
        true => Vec::new(),
        false => origin.observe(&requirements, &engine)?.decide(machine)?,
    };
    // The steps bring the missing artifacts, so the cached answers of the engine become outdated.
    let probe_tools = if steps.is_empty() { &probe_tools } else { tools };
    Supply::run(&project.stale, &toolchain, mode, &requirements, steps, |supply| {
        if !create && !toolchain.tools.has_kubectl()? && !cluster::publishes_port(&toolchain.tools)? {
            // A profile without a published port is reached through `kubectl port-forward`.
            let kubectl = toolchain.origin.plan(&[Requirement::Tool(Tool::Kubectl)], &toolchain.tools.engine)?;
            supply::bring(&project.report, &project.stale, mode, kubectl)?;
        }
        std::thread::scope(|scope| {
            let run = DeployContext {
                settings: &project.settings,
                root: &project.root,
                args,
                start,
                mode,
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
    settings: &'a Settings,
    /// The checkout.
    root: &'a Utf8Path,
    args: &'a Deploy,
    start: Instant,
    mode: Mode,
    credentials: &'a Credentials,
    toolchain: &'a Toolchain,
    /// The tools for the first observation, which may use cached answers of the engine.
    probe_tools: &'a Toolbox,
    supply: &'a Supply<'a>,
}

/// A build of the applications' images that runs beside the tools stage.
type EarlyBuild<'scope> = std::thread::ScopedJoinHandle<'scope, Result<Vec<Built>>>;

/// Builds the applications' images as soon as the origin has brought their base images.
fn build_early(DeployContext { settings, toolchain, supply, .. }: DeployContext<'_>) -> Result<Vec<Built>> {
    supply.wait_for(&base_images(settings))?;
    let builder = toolchain.image_builder(&settings.images);
    builder.build(&builder.observe()?, &mut [], Mode::Apply)
}

/// Runs the stages after the tools stage, which may still be running. Each needs the results of those before it.
fn run_stages(
    run: DeployContext<'_>,
    early: Option<EarlyBuild<'_>>,
    before_release: Option<BeforeRelease<'_>>,
) -> Result<()> {
    run.supply.wait_for(&first_requirements(run.settings, run.credentials.embedded))?;
    let builder = ImageBuilder { tools: run.probe_tools, ..run.toolchain.image_builder(&run.settings.images) };
    let look = || Facts::observe(run.settings, &builder, run.credentials);
    let facts = run.toolchain.tools.report.look("observe", "cluster, release and images", look)?;
    let Some(mut cluster) = start_cluster(run, facts)? else { return Ok(()) };
    let images = bring_images(run, &mut cluster, early)?;
    let release = apply_release(run, &mut cluster, &images, before_release)?;
    prove(run, &cluster, &images, release)
}

/// The result of the cluster stage.
struct RunningCluster {
    profile: Profile,
    /// The state in the cluster, observed after the stage's steps.
    live: LiveCluster,
    /// Whether the stage creates the node.
    is_new: bool,
    /// Whether the stage creates or starts the node.
    has_started: bool,
    /// The applications' images in the engine.
    images: Vec<ImageState>,
    /// The embedded database's image, if that database is in use.
    database: Option<Wanted>,
    changes: Changes,
}

/// Runs the cluster stage. `None`: this is a dry run, and the cluster does not respond.
fn start_cluster(run: DeployContext<'_>, mut facts: Facts) -> Result<Option<RunningCluster>> {
    let DeployContext { settings, root, mode, credentials, toolchain, .. } = run;
    let (tools, origin) = (&toolchain.tools, toolchain.origin.as_ref());
    let report = &tools.report;
    if facts.profile.state == ProfileState::Running {
        report.skipped("cluster", &format!("create cluster {}", tools.profile), "it runs");
    }
    if let Some(difference) = cluster::difference(settings, root, tools, &facts.profile)? {
        report.warn(difference);
    }
    let silence = facts.live.as_ref().err().map(String::as_str);
    // `cluster::decide` refuses a half deleted profile or creates it again.
    let is_new = matches!(facts.profile.state, ProfileState::Absent | ProfileState::HalfDeleted(_));
    let images = facts.images_for_a_new_node(settings);
    let start = StartFacts::observe(&settings.cluster, tools, origin, &facts.profile, silence)?;
    let has_started = !matches!(start, StartFacts::Running(_) | StartFacts::Other);
    let steps = cluster::decide(&settings.cluster, tools, origin, &facts.profile, start, &images)?;
    let mut changes = plan::apply(report, "cluster", mode, steps)?;
    if changes.any() && mode == Mode::Apply {
        facts.observe_again(settings, toolchain, credentials)?;
    }
    let Facts { profile, live, images, database } = facts;
    let live = match live {
        Ok(live) => live,
        // A dry run does not create the cluster, so nothing is in it.
        Err(_) if mode == Mode::DryRun && is_new => LiveCluster::empty(tools),
        Err(silence) if mode == Mode::DryRun => {
            toolchain.image_builder(&settings.images).build(&images, &mut [], mode)?;
            report.warn(format!("the remaining steps are unknown until the cluster responds: {silence}"));
            return Ok(None);
        }
        Err(silence) => {
            let what = format!("cannot query the cluster: {silence}");
            return Err(Failure::new(Class::Cluster, what).help("see why: cargo xtask status").into());
        }
    };
    let wait = release::wait_until_gone(tools, &live.release)?;
    changes += plan::apply(report, "release", mode, wait.into_iter().collect())?;
    Ok(Some(RunningCluster { profile, live, is_new, has_started, images, database, changes }))
}

/// The result of the images stage: every node has the images.
struct LoadedImages {
    built: Vec<Built>,
    /// The built images, and the embedded database's.
    wanted: Vec<Wanted>,
    changes: Changes,
}

/// Runs the images stage, and beside it the step of the ingress controller.
fn bring_images(
    run: DeployContext<'_>,
    cluster: &mut RunningCluster,
    early: Option<EarlyBuild<'_>>,
) -> Result<LoadedImages> {
    let DeployContext { settings, root, mode, credentials, toolchain, supply, .. } = run;
    let (tools, origin) = (&toolchain.tools, toolchain.origin.as_ref());
    let RunningCluster { live, is_new, has_started, images: states, database, .. } = cluster;
    let LiveCluster { ingress: controllers, release, on_nodes, .. } = live;
    let ingress = || {
        let image = &settings.cluster.ingress_image;
        supply.wait_for(&[Requirement::Image(image.clone())])?;
        // The ingress controller has a Role in the namespace.
        let namespace = release::absent_namespace(tools, release);
        let manifests = ControllerManifests::read(&root.join(&settings.cluster.ingress))?;
        let class = &credentials.ingress_class;
        let step = cluster::decide_ingress(image, tools, origin, controllers, manifests, class, namespace)?;
        plan::apply(&tools.report, "cluster", mode, step.into_iter().collect())
    };
    let mut images = |early: Option<EarlyBuild<'_>>| -> Result<LoadedImages> {
        let built = match early {
            Some(early) => early.join().unwrap_or_else(|_| bail!("the early build of the images panicked")),
            None => toolchain.image_builder(&settings.images).build(states, on_nodes, mode),
        };
        // Last point at which a newer save stops this deploy: nothing of the application is applied yet.
        if supply.is_stale() {
            return Err(Stale.into());
        }
        let built = built?;
        tools.report.fact("images", output::images(&built));
        let wanted: Vec<Wanted> = wanted(&built).chain(database.take()).collect();
        let loaded = images::load(tools, &wanted, on_nodes, mode)?;
        let changes = Changes::of(built.iter().filter(|image| image.why.is_some()).count()) + loaded;
        Ok(LoadedImages { built, wanted, changes })
    };
    let (ingress, images) = match mode {
        // Installing the controller waits for its image and its pod, so load the other images meanwhile.
        Mode::Apply if *is_new => std::thread::scope(|scope| {
            let ingress = scope.spawn(|| supply.part(ingress));
            let images = supply.part(|| images(early));
            (ingress.join().unwrap_or_else(|_| bail!("the ingress controller's installation panicked")), images)
        }),
        _ => (Ok(ingress()?), images(early)),
    };
    let images = images?;
    let changes = images.changes + ingress?;
    supply.wait_for(&[Requirement::Tool(Tool::Helm)])?;
    if *has_started && mode == Mode::Apply {
        // minikube did not wait for DNS, so that images could be loaded meanwhile.
        plan::apply(&tools.report, "cluster", mode, vec![cluster::dns_step(tools)])?;
    }
    Ok(LoadedImages { changes, ..images })
}

/// The result of the release stage.
struct AppliedRelease {
    desired: Desired,
    secrets: release::SecretPlan,
    /// The Helm revision that this deploy made, if it made one.
    run: release::Run,
    changes: Changes,
}

/// Runs the release stage, and beside it the removal of old builds.
fn apply_release(
    run: DeployContext<'_>,
    cluster: &mut RunningCluster,
    images: &LoadedImages,
    before_release: Option<BeforeRelease<'_>>,
) -> Result<AppliedRelease> {
    let DeployContext { settings, root, args, mode, credentials, toolchain, .. } = run;
    let (tools, report) = (&toolchain.tools, &toolchain.tools.report);
    let live = &mut cluster.live;
    if (cluster.changes + images.changes).any() && mode == Mode::Apply {
        // The steps may have taken minutes.
        live.release = report.look("observe", "the release again", || release::observe(tools))?;
        live.postgres = credentials.postgres(tools)?;
    }
    let secrets = credentials.plan(tools, &live.release, live.postgres.as_ref(), mode)?;
    let tags = images.built.iter().filter_map(|image| Some((image.name.clone(), image.tag.clone()?))).collect();
    let desired = Desired::new(settings, root, &args.environment, &tags, &secrets.names)?;
    if let Some(before_release) = before_release {
        before_release(&ReadyCluster { tools, desired: &desired, secrets: &secrets, release: &live.release })?;
        live.release = report.look("observe", "the release again", || release::observe(tools))?;
    }
    let desired = live.release.snapshot.as_ref().map_or(desired.clone(), |snapshot| desired.with_autoscaled(snapshot));
    let run = release::Run::default();
    let has_new = database::has_new_migrations(settings, &tools.target, &desired, &live.release);
    let preflight = database::decide(settings, tools, &desired, &secrets, &live.release, has_new);
    let preflight = preflight.map(|preflight| preflight.steps());
    let steps = release::decide(tools, &desired, secrets.clone(), &live.release, &run, preflight);
    if steps.is_empty() {
        let what = format!("helm upgrade {}", tools.release().name);
        report.skipped("release", &what, "the live state matches the verified one and is ready");
    }
    let remove_old = || remove_old_builds(settings, tools, live, &images.wanted);
    let changes = std::thread::scope(|scope| {
        // Runs beside the rollout, which needs none of the old builds.
        let is_due = !steps.is_empty() && mode == Mode::Apply;
        let remove_old = is_due.then(|| scope.spawn(remove_old));
        let changes = plan::apply(report, "release", mode, steps)?;
        if let Some(remove_old) = remove_old {
            let removed = remove_old.join().unwrap_or_else(|_| bail!("the look for old builds panicked"));
            warn_of_kept_builds(report, removed);
        }
        anyhow::Ok(changes)
    })?;
    Ok(AppliedRelease { desired, secrets, run, changes })
}

/// Runs the proof stage: restarts outdated pods, compares IDs, requests the routes and records what it has verified. A dry run
/// shows the differences instead.
fn prove(
    run: DeployContext<'_>,
    cluster: &RunningCluster,
    images: &LoadedImages,
    release: AppliedRelease,
) -> Result<()> {
    let DeployContext { settings, args, start, mode, credentials, toolchain, .. } = run;
    let (tools, report) = (&toolchain.tools, &toolchain.tools.report);
    let AppliedRelease { desired, secrets, run, mut changes } = release;
    let before = cluster.changes + images.changes;
    let access = match mode {
        Mode::Apply => Some(Access::open(tools, &cluster.profile)?),
        Mode::DryRun => None,
    };
    let look = |access: &Access| {
        let observe = || AppliedState::observe(settings, tools, &images.wanted, run.take_ready(), &access.address);
        report.look("proof", "images and routes", observe)
    };
    let mut applied = match &access {
        Some(access) if (before + changes).any() => look(access)?,
        _ => AppliedState::unchanged(&images.wanted, &cluster.live),
    };
    if let Some(LiveState { snapshot, nodes, .. }) = &applied.evidence {
        let (ids, redactor) = (&applied.ids, &secrets.redactor);
        let restarted = release::restart_outdated(tools, ids, nodes, snapshot, redactor, mode)?;
        changes += restarted;
        if let Some(access) = access.as_ref().filter(|_| restarted.any()) {
            // The restart has freed the images whose tag the new pods' images took over.
            warn_of_kept_builds(report, remove_old_builds(settings, tools, &cluster.live, &images.wanted));
            applied = look(access)?;
        }
    }
    let Some(access) = access else {
        if changes.any() {
            diff::show(tools, &desired, &secrets, &cluster.live.release, &images.built)?;
        }
        let last = if (before + changes).any() {
            "then: compare image IDs from build to pod, and request every route"
        } else {
            "nothing to do: the live state matches the desired one"
        };
        report.answer(last);
        return Ok(());
    };

    let AppliedState { ids, evidence } = applied;
    let prove = || {
        let evidence = evidence.map_or_else(|| LiveState::take(settings, tools, None, &access.address, 1), Ok)?;
        proof::prove(settings, tools, &ids, &access.address, evidence)
    };
    let proof = report.look("proof", "images and routes", prove)?;
    let front = access.front(&proof.snapshot);
    report.fact("address", front.as_ref().map(|front| front.address.as_str()));
    report.fact("open_with", access.open_with());
    report.fact("routes", output::routes(&proof.answers));
    report.fact("workloads", output::workloads(&proof.snapshot));
    report.fact("database", credentials.database.as_str());
    if changes.any() {
        let names: Vec<String> = secrets.names.values().cloned().collect();
        let unused = release::record_desired(tools, &run, &proof.snapshot, &desired, ids.clone(), names)?;
        if !unused.is_empty()
            && let Err(error) = release::remove_unused(tools)
        {
            report.warn_because("old Secrets could not be removed", &error);
        }
    }
    if !(before + changes).any() {
        report.ok("nothing changed: nothing was built, loaded or restarted");
    }
    if args.in_brief {
        summary::print_in_brief(tools, &access, front, &proof, start.elapsed());
    } else {
        summary::print(tools, &access, front, credentials, &ids, &proof, start.elapsed());
    }
    Ok(())
}

/// Warns of a failed removal of old builds. It does not fail the deploy; the next deploy with changes tries again.
fn warn_of_kept_builds(report: &Report, removed: Result<()>) {
    if let Err(error) = removed {
        report.warn_because("old builds could not be removed", &error);
    }
}

/// Removes old builds, whose content tags would pile up. Keeps the `wanted` images, those of the revisions that Helm kept
/// in `live`, and the newest [`prune::KEEP`].
fn remove_old_builds(settings: &Settings, tools: &Toolbox, live: &LiveCluster, wanted: &[Wanted]) -> Result<()> {
    let builds = Builds::observe(tools)?;
    let names: Vec<&str> = settings.images.keys().map(String::as_str).collect();
    let kept = live.release.snapshot.as_ref().map(release::images_of_revisions).transpose()?.unwrap_or_default();
    let needed = wanted.iter().map(|image| image.reference.clone()).chain(kept).collect();
    let needed_by_all = prune::record_needed(&tools.cache, &tools.profile, &needed)?;
    let mut steps = builds.engine.steps(&tools.engine, &names, prune::KEEP, &needed_by_all);
    steps.extend(builds.node_steps(&names, &needed)?);
    if steps.is_empty() {
        return Ok(());
    }
    let running = tools.report.step("images", "remove old builds", "no kept revision needs them");
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
pub fn requirements(settings: &Settings, embedded: bool, create: bool) -> Vec<Requirement> {
    let mut requirements = first_requirements(settings, embedded);
    if !create {
        requirements
            .retain(|requirement| ![Requirement::Tool(Tool::Kubectl), Requirement::Cluster].contains(requirement));
    }
    requirements.extend([Requirement::Image(settings.cluster.ingress_image.clone()), Requirement::Tool(Tool::Helm)]);
    requirements
}

/// Returns the requirements of creating and observing a cluster.
fn first_requirements(settings: &Settings, embedded: bool) -> Vec<Requirement> {
    let mut requirements =
        vec![Requirement::Tool(Tool::Kubectl), Requirement::Cluster, Requirement::Tool(Tool::Minikube)];
    requirements.extend(base_images(settings));
    if embedded {
        requirements.push(Requirement::Image(settings.database.image.clone()));
    }
    requirements
}

/// Returns the base images of the applications as requirements.
fn base_images(settings: &Settings) -> Vec<Requirement> {
    let base_images: BTreeSet<&String> = settings.bases().collect();
    base_images.into_iter().cloned().map(Requirement::Image).collect()
}
