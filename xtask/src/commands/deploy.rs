//! `cargo xtask deploy <env>`: machine -> tools -> cluster -> images -> release -> proof.

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
use crate::stages::cluster::{self, State};
use crate::stages::images::load::Wanted;
use crate::stages::images::prune::{self, Builds};
use crate::stages::images::{self, Built};
use crate::stages::proof::{self, Access, Evidence};
use crate::stages::release::{self, Desired};
use crate::stages::upgrade;
use crate::supply::{self, Stale, Supply};
use crate::toolbox::Toolbox;
use crate::toolchain::{Preparation, Toolchain};
use facts::{Applied, Facts, Live};

/// What a caller does when everything is there but the release: the cluster runs, its images are loaded.
pub(crate) type BeforeRelease<'a> = &'a mut dyn FnMut(&Ready<'_>) -> Result<()>;

/// What is there by then.
pub(crate) struct Ready<'a> {
    /// The tools.
    pub tools: &'a Toolbox,
    /// The release as it should be.
    pub desired: &'a Desired,
    /// The Secrets that it needs.
    pub secrets: &'a release::SecretPlan,
    /// What there is of it.
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
    /// Deploy again whenever a file changes that a deploy is made from, until Ctrl-C
    #[arg(long, conflicts_with_all = ["dry_run", "json", "timings"])]
    pub watch: bool,
    #[command(flatten)]
    pub output: Output,
    /// End with one line instead of the summary
    #[arg(skip)]
    pub in_brief: bool,
}

/// Runs the deploy, or one after another.
pub fn run(project: &Project, args: &Deploy) -> Result<()> {
    if args.watch { watch::run(project, args) } else { once(project, args) }
}

fn once(project: &Project, args: &Deploy) -> Result<()> {
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
        // What was left of an upgrade was this deploy.
        upgrade::State::remove(project)?;
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
    // The contract is checked before anything is built: a wrong .env must not cost a quarter of an hour.
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
    let for_look = if machine.is_empty() { toolchain.tools_for_look(project) } else { tools.clone() };
    let steps = match machine.is_empty() && origin.is_there(&requirements, &for_look.engine)? {
        true => Vec::new(),
        false => origin.plan_beside(&requirements, &engine, machine)?,
    };
    // What the engine has said of what it lacks will not be true any more.
    let for_look = if steps.is_empty() { &for_look } else { tools };
    Supply::run(project, &toolchain, mode, &requirements, steps, |supply| {
        if !create && !toolchain.tools.has_kubectl()? && !cluster::publishes_port(&toolchain.tools)? {
            // For the port-forward to a profile that publishes no port.
            let kubectl = toolchain.origin.plan(&[Requirement::Tool(Tool::Kubectl)], &toolchain.tools.engine)?;
            supply::bring(project, mode, kubectl)?;
        }
        std::thread::scope(|scope| {
            let run = Run { project, args, start, credentials: &credentials, toolchain: &toolchain, for_look, supply };
            let early = supply.is_under_way().then(|| scope.spawn(move || supply.part(|| build_early(run))));
            supply.settle(stages(run, early, before_release))
        })
    })
}

/// What all stages after the tools stage work with.
#[derive(Clone, Copy)]
struct Run<'a> {
    project: &'a Project,
    args: &'a Deploy,
    start: Instant,
    credentials: &'a Credentials,
    toolchain: &'a Toolchain,
    /// The tools with which to look for the first time.
    for_look: &'a Toolbox,
    supply: &'a Supply<'a>,
}

/// The images of the applications, built while the tools stage is still at work.
type Early<'scope> = std::thread::ScopedJoinHandle<'scope, Result<Vec<Built>>>;

/// Builds the applications' images as soon as their base images are there.
fn build_early(Run { project, toolchain, supply, .. }: Run<'_>) -> Result<Vec<Built>> {
    let (engine, origin) = (&toolchain.tools.engine, toolchain.origin.as_ref());
    supply.wait_for(&bases(project))?;
    images::build(project, engine, origin, &images::observe(project, engine, origin)?, &mut [], Mode::Apply)
}

/// The stages after the tools stage, which may still be at work.
fn stages(run: Run<'_>, early: Option<Early<'_>>, before_release: Option<BeforeRelease<'_>>) -> Result<()> {
    let Run { project, args, start, credentials, toolchain, for_look, supply } = run;
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Apply };
    let report = &project.report;
    let (tools, origin) = (&toolchain.tools, toolchain.origin.as_ref());
    supply.wait_for(&first_requirements(project, credentials.embedded))?;
    let look = || Facts::look(project, for_look, origin, credentials);
    let mut facts = report.look("observe", "everything side by side", look)?;
    if facts.cluster.profile.state == State::Running {
        report.skipped("cluster", &format!("create cluster {}", tools.profile), "it runs");
    }
    if let Some(difference) = cluster::difference(project, tools, &facts.cluster.profile)? {
        report.warn(difference);
    }
    let silence = facts.live.as_ref().err().map(String::as_str);
    // A half deleted one is either refused or made.
    let is_new = matches!(facts.cluster.profile.state, State::Absent | State::HalfDeleted(_));
    let images = facts.images_for_a_new_node(project);
    let cluster_steps = cluster::decide(project, tools, origin, &facts.cluster, silence, &images)?;
    let mut steps = plan::apply(project, "cluster", mode, cluster_steps)?;
    if steps > 0 && mode == Mode::Apply {
        facts.look_again(project, toolchain, credentials)?;
    }
    let mut live = match facts.live {
        Ok(live) => live,
        // In a dry run before there is a cluster: nothing of what it would hold is there.
        Err(_) if mode == Mode::DryRun && is_new => Live::nothing(tools),
        Err(silence) if mode == Mode::DryRun => {
            images::build(project, &tools.engine, origin, &facts.images, &mut [], mode)?;
            report.warn(format!("what else there is to do can be said when the cluster answers: {silence}"));
            return Ok(());
        }
        Err(silence) => {
            let what = format!("the cluster cannot be asked: {silence}");
            return Err(Failure::new(Class::Cluster, what).help("see why: cargo xtask status").into());
        }
    };
    steps +=
        plan::apply(project, "release", mode, release::wait_until_gone(tools, &live.release)?.into_iter().collect())?;
    let ingress = || {
        supply.wait_for(&[Requirement::Image(project.settings.cluster.ingress_image.clone())])?;
        // The controller has a Role in it.
        let namespace = release::absent_namespace(tools, &live.release);
        let step =
            cluster::decide_ingress(project, tools, origin, &live.ingress, &credentials.ingress_class, namespace)?;
        plan::apply(project, "cluster", mode, step.into_iter().collect())
    };
    let images = |early: Option<Early<'_>>| -> Result<_> {
        let built = match early {
            Some(early) => early.join().unwrap_or_else(|_| bail!("the early build of the images panicked")),
            None => images::build(project, &tools.engine, origin, &facts.images, &mut live.on_nodes, mode),
        };
        // Nothing of the application is applied yet. From here on the run goes on, whatever is saved.
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
        // The controller's image may still be missing, and its pod takes a moment: what is there is loaded meanwhile.
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
        // minikube has not waited for it, so that images could be loaded meanwhile.
        plan::apply(project, "cluster", mode, vec![cluster::dns_step(tools)])?;
    }
    if steps > 0 && mode == Mode::Apply {
        // Minutes may have gone by.
        live.release = report.look("observe", "the release again", || release::observe(tools))?;
        live.postgres = credentials.postgres(tools)?;
    }
    let secrets = credentials.plan(tools, &live.release, live.postgres.as_ref(), mode)?;
    let tags = built.iter().filter_map(|image| Some((image.name.clone(), image.tag.clone()?))).collect();
    let desired = Desired::new(project, &args.environment, &tags, &secrets.names)?;
    if let Some(before_release) = before_release {
        before_release(&Ready { tools, desired: &desired, secrets: &secrets, release: &live.release })?;
        live.release = report.look("observe", "the release again", || release::observe(tools))?;
    }
    let desired = live.release.snapshot.as_ref().map_or(desired.clone(), |snapshot| desired.with_autoscaled(snapshot));
    let names: Vec<String> = secrets.names.values().cloned().collect();
    let run = release::Run::default();
    let release_steps = release::decide(project, tools, &desired, secrets.clone(), &live.release, &run);
    let mut changed = release_steps.len();
    if changed == 0 {
        let what = format!("helm upgrade {}", project.settings.chart.release);
        report.skipped("release", &what, "what is there is what was verified, and ready");
    }
    let forget = || forget_old_builds(project, tools, &live, &wanted);
    // The deploy stands whatever becomes of them; the next one that changes something tries again.
    let forgotten = |result: Result<()>| {
        result.unwrap_or_else(|error| report.warn(format!("old builds could not be removed: {error:#}")));
    };
    steps += std::thread::scope(|scope| {
        // Beside the rollout, of which nothing needs them.
        let is_due = changed > 0 && mode == Mode::Apply;
        let forget = is_due.then(|| scope.spawn(forget));
        let applied = plan::apply(project, "release", mode, release_steps)?;
        if let Some(forget) = forget {
            forgotten(forget.join().unwrap_or_else(|_| bail!("the look for old builds panicked")));
        }
        anyhow::Ok(applied)
    })?;
    let access = match mode {
        Mode::Apply => Some(Access::open(tools, &facts.cluster.profile)?),
        Mode::DryRun => None,
    };
    let look = |access: &Access| {
        report.look("proof", "images and routes", || Applied::look(project, tools, &wanted, &access.address))
    };
    let mut applied = match &access {
        Some(access) if steps > 0 => look(access)?,
        _ => Applied::unchanged(&wanted, &live),
    };
    if let Some(Evidence { snapshot, nodes, .. }) = &applied.evidence {
        let (ids, redactor) = (&applied.ids, &secrets.redactor);
        let restarted = release::restart_outdated(project, tools, ids, nodes, snapshot, redactor, mode)?;
        (steps, changed) = (steps + restarted, changed + restarted);
        if let Some(access) = access.as_ref().filter(|_| restarted > 0) {
            // Those that lost their tag to what the pods run now.
            forgotten(forget());
            applied = look(access)?;
        }
    }
    let Some(access) = access else {
        if changed > 0 {
            diff::show(project, tools, &desired, &secrets, &live.release, &built)?;
        }
        let last = if steps == 0 {
            "nothing to do: what is there is what is wanted"
        } else {
            "then: image IDs are compared from build to pod, and every route is requested"
        };
        report.answer(last);
        return Ok(());
    };

    let Applied { ids, evidence } = applied;
    let prove = || {
        let evidence = evidence.map_or_else(|| Evidence::take(tools, &access.address, 1), Ok)?;
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
        release::verified(tools, &run, &proof.snapshot, &desired, ids.clone(), names)?;
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

/// Removes builds that are neither `wanted`, nor of a revision that was kept when `live` was looked at, nor one of the
/// newest few: content tags would pile up otherwise.
fn forget_old_builds(project: &Project, tools: &Toolbox, live: &Live, wanted: &[Wanted]) -> Result<()> {
    let builds = Builds::observe(tools)?;
    let names: Vec<&str> = project.settings.images.keys().map(String::as_str).collect();
    let kept = live.release.snapshot.as_ref().map(release::images_of_revisions).transpose()?.unwrap_or_default();
    let needed = wanted.iter().map(|image| image.reference.clone()).chain(kept).collect();
    let needed_by_all = prune::needed_by_profiles(&project.cache, &tools.profile, &needed)?;
    let mut steps = builds.engine.steps(&tools.engine, &names, prune::KEEP, &needed_by_all);
    steps.extend(builds.node_steps(&names, &needed)?);
    if steps.is_empty() {
        return Ok(());
    }
    let running = project.report.step("images", "forget old builds", "no kept revision needs them");
    // One that cannot be removed keeps no other one.
    let results: Vec<Result<String>> = std::thread::scope(|scope| {
        let removals: Vec<_> = steps.into_iter().map(|step| scope.spawn(|| (step.action)(&running))).collect();
        removals.into_iter().map(|r| r.join().unwrap_or_else(|_| bail!("a removal panicked"))).collect()
    });
    running.done(format!("{} removed", results.iter().filter(|result| result.is_ok()).count()));
    results.into_iter().collect::<Result<Vec<String>>>().map(|_| ())
}

/// Our images that the nodes must have.
fn wanted(built: &[Built]) -> impl Iterator<Item = Wanted> + '_ {
    built.iter().map(|image| Wanted {
        reference: image.reference().unwrap_or_else(|| format!("{}:<tag>", image.name)),
        id: image.id.clone(),
    })
}

/// What the origin must bring for a deploy, in the order in which it is needed; `embedded` tells whether the chart's own
/// Postgres serves, `create` whether the cluster must be made: an existing one has its Kubernetes, and kubectl is part of
/// that.
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

/// What there must be before a cluster is made and looked at.
fn first_requirements(project: &Project, embedded: bool) -> Vec<Requirement> {
    let mut requirements =
        vec![Requirement::Tool(Tool::Kubectl), Requirement::Cluster, Requirement::Tool(Tool::Minikube)];
    requirements.extend(bases(project));
    if embedded {
        requirements.push(Requirement::Image(project.settings.database.image.clone()));
    }
    requirements
}

/// The base images of the applications.
fn bases(project: &Project) -> Vec<Requirement> {
    let bases: BTreeSet<&String> = project.settings.bases().collect();
    bases.into_iter().cloned().map(Requirement::Image).collect()
}
