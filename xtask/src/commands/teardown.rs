//! `cargo xtask teardown`: removes what deploy created, and reports what remains. Idempotent.

use std::time::Instant;

use anyhow::{Context, Result};
use camino::Utf8Path;
use clap::Args;
use serde_json::Value;

use crate::api::{Api, Propagation, Scope, kinds};
use crate::cache;
use crate::commands::dev;
use crate::deadlines;
use crate::dotenv::{DotenvSource, SecretsSource};
use crate::engine::paths::EnginePaths;
use crate::engine::ping::Answer;
use crate::engine::{Engine, stop, stored};
use crate::failure::{Class, Failure};
use crate::files;
use crate::labels::COMPONENT;
use crate::lock;
use crate::minikube;
use crate::origin;
use crate::plan::{self, Mode};
use crate::project::Project;
use crate::report::{Report, bytes};
use crate::settings::Settings;
use crate::snapshot::{Snapshot, text, title};
use crate::stages::cluster::{self, ContextEntry, ControllerManifests};
use crate::stages::images::owned::{self, OwnedImage};
use crate::stages::machine::{self, NodeSize};
use crate::stages::release::{self, Record};
use crate::stages::upgrade::{self, Phase, UpgradeState};
use crate::toolbox::Toolbox;
use crate::units::quote;

/// Remove the application; data, cluster, engine and cache only with flags
#[derive(Args, Debug, Default)]
pub struct Teardown {
    /// Also remove the embedded database's volume and Secret, the todos of `dev`, and the namespace if nobody else uses it
    #[arg(long)]
    pub data: bool,
    /// Also delete the minikube profile (and with it the data)
    #[arg(long)]
    pub cluster: bool,
    /// Also remove from the engine the images that xtask built or pulled (and with them the cluster)
    #[arg(long)]
    pub images: bool,
    /// Also stop and remove the private Docker Engine (and with it cluster, data and images)
    #[arg(long)]
    pub engine: bool,
    /// Also remove the cache: tools, base images, downloads (and with it everything else)
    #[arg(long)]
    pub cache: bool,
}

/// The things that remain after a teardown.
#[derive(Default)]
struct Remainder {
    cluster: bool,
    todos: bool,
    /// The volume with the todos of `dev`.
    dev: Option<String>,
    /// The things that remain in the engine, one line each.
    engine: Vec<String>,
}

/// Runs the teardown.
pub fn run(project: &Project, args: &Teardown) -> Result<()> {
    let (settings, cache, report) = (&project.settings, &project.cache, &project.report);
    let (profile, yes) = (&settings.cluster.profile, project.options.yes);
    let consent = Consent { args, cache, report, yes };
    if args.cache {
        cache::check_removable(cache)?;
    }
    let guard = project.lock()?;
    let observed = machine::observe(cache, &project.root)?;
    let engine = match observed.engine() {
        // The private engine can be removed even if it does not answer. The user's own engine is not involved.
        Err(error) if args.removes_engine() && matches!(observed.system, Answer::Absent(_)) => {
            consent.ask(Vec::new())?;
            report.warn(format!("{error}; teardown removes it with its contents"));
            None
        }
        Err(error) => return Err(error),
        Ok(None) if args.removes_cluster() && !args.removes_engine() && is_in_private(cache, profile)? => {
            let (log, ca_bundle) = (project.log("debian"), project.ca_bundle());
            let plan = machine::decide(&observed, NodeSize::wanted(&settings.cluster), log, ca_bundle)?;
            // A restart of the machine ends the private engine.
            machine::consent(report, yes, &plan.consent)?;
            plan::apply(report, "machine", Mode::Apply, plan.steps)?;
            Some(plan.engine)
        }
        Ok(None) => {
            check_without_engine(args, cache, profile, report)?;
            consent.ask(Vec::new())?;
            None
        }
        Ok(engine) => engine,
    };
    let remainder = match engine {
        Some(engine) => {
            let origins = project.origins();
            let origin = origin::present(&origins, &engine)?;
            let tools = Toolbox::new(settings, &origins, engine, origin.as_ref())?;
            remove_from_engine(&consent, &tools, settings, &project.root)?
        }
        None => Remainder::default(),
    };
    if args.removes_engine() {
        remove_engine(cache, report)?;
    }
    if args.cache {
        remove_cache(cache, report, guard)?;
    }
    report_remainder(cache, report, &project.dotenv, &settings.keys.postgres_url, &remainder)?;
    report_upgrade(cache, profile, report)
}

impl Teardown {
    fn removes_engine(&self) -> bool {
        self.engine || self.cache
    }

    fn removes_images(&self) -> bool {
        self.images || self.removes_engine()
    }

    fn removes_cluster(&self) -> bool {
        self.cluster || self.removes_images()
    }
}

/// The question about irreversible removals.
struct Consent<'a> {
    args: &'a Teardown,
    cache: &'a Utf8Path,
    report: &'a Report,
    yes: bool,
}

impl Consent<'_> {
    /// Asks for consent to `losses`, and to the removal of the private engine and the cache if the arguments say so.
    fn ask(&self, mut losses: Vec<String>) -> Result<()> {
        let Self { args, cache, report, yes } = *self;
        let paths = EnginePaths::new(cache);
        if args.removes_engine() && stop::exists(&paths)? {
            let mut clusters = stored::containers(&paths)?;
            clusters.retain(|name| dev::part_of(name).is_none());
            let clusters = clusters.join(", ");
            let clusters = if clusters.is_empty() { String::new() } else { format!(", with the clusters {clusters}") };
            losses.push(format!("stop the private Docker Engine and remove it with all its images{clusters}"));
            losses.extend(dev::stored_todos(&paths)?.iter().map(|volume| dev::loss(volume)));
        }
        if args.cache && has_brought_artifacts(cache)? {
            losses.push(format!("remove {cache}: tools, downloads and base images"));
        }
        machine::consent_to(
            report,
            yes,
            &losses,
            "without flags, only the application is removed: cargo xtask teardown",
        )
    }
}

/// Removes from the engine what the arguments say, and returns what remains. `root` is the checkout.
fn remove_from_engine(
    consent: &Consent<'_>,
    tools: &Toolbox,
    settings: &Settings,
    root: &Utf8Path,
) -> Result<Remainder> {
    let (args, engine) = (consent.args, &tools.engine);
    // The todos of `dev` in the private engine go with it; the question about the engine names them.
    let goes_with_engine = engine.private && args.removes_engine();
    let removes_todos = args.data || args.removes_engine() && !goes_with_engine;
    let dev =
        dev::tear_down(tools, &settings.chart.release, root, removes_todos, consent.yes)?.filter(|_| !goes_with_engine);
    let mut remainder = Remainder { dev, ..remove_release_or_cluster(consent, tools, settings, root)? };
    if args.removes_images() {
        remove_images(tools, args)?;
    }
    if !goes_with_engine {
        remainder.engine = list_in_engine(&tools.cache, engine)?;
    }
    Ok(remainder)
}

/// Returns whether the node is in the private engine, by the engine's files.
fn is_in_private(cache: &Utf8Path, profile: &String) -> Result<bool> {
    Ok(stored::containers(&EnginePaths::new(cache))?.contains(profile))
}

/// Checks what a teardown can do without a running engine. No cluster runs then, but a stopped one may exist.
fn check_without_engine(args: &Teardown, cache: &Utf8Path, name: &String, report: &Report) -> Result<()> {
    let in_private = is_in_private(cache, name)?;
    if args.removes_engine() && in_private {
        return Ok(());
    }
    if !in_private && !cluster::exists_anywhere(cache, name)? {
        report.ok(format!("no Docker Engine runs, and minikube has no profile `{name}` on record"));
        return Ok(());
    }
    let what = format!("there is a profile `{name}`, but no Docker Engine runs, so xtask cannot remove it");
    if args.removes_engine() {
        report.warn(format!("{what}; its node is in an engine other than the private one"));
        return Ok(());
    }
    let failure = Failure::new(Class::Cluster, what);
    Err(match in_private {
        true => failure
            .help("start it: cargo xtask start")
            .help("or delete it with all its data: cargo xtask teardown --cluster"),
        false => failure.help("start engine and cluster: cargo xtask deploy dev"),
    }
    .into())
}

/// Returns whether an origin has brought anything into the cache.
fn has_brought_artifacts(cache: &Utf8Path) -> Result<bool> {
    files::exists(&cache.join(origin::REMEMBERED))
}

/// Removes the private engine, and minikube's records of the profiles whose nodes were in it. Leaves other records alone.
fn remove_engine(cache: &Utf8Path, report: &Report) -> Result<()> {
    let nodes = stored::containers(&EnginePaths::new(cache))?;
    let steps = machine::stop_engine(cache)?;
    if !plan::apply(report, "teardown", Mode::Apply, steps)?.any() {
        report.ok("no private engine");
    }
    let minikube = minikube::folder(&minikube::own_home(cache));
    for folder in
        nodes.iter().flat_map(|node| ["profiles", "machines"].map(|records| minikube.join(records).join(node)))
    {
        files::remove_folder(&folder)?;
    }
    Ok(())
}

/// Removes the cache, unless it holds minikube's records of profiles in another engine.
fn remove_cache(cache: &Utf8Path, report: &Report, guard: lock::Lock) -> Result<()> {
    let profiles = profiles(cache)?;
    if let Some(profile) = profiles.first() {
        let what = format!("the cache has minikube's records of profiles in another engine: {}", profiles.join(", "));
        return Err(Failure::new(Class::Cluster, what)
            .help(format!("delete each of them first: cargo xtask teardown --cluster --profile {profile}"))
            .into());
    }
    drop(guard);
    cache::remove(cache)?;
    report.ok(format!("cache removed: {cache}"));
    Ok(())
}

/// Removes the release, or the whole cluster if the arguments say so.
fn remove_release_or_cluster(
    consent: &Consent<'_>,
    tools: &Toolbox,
    settings: &Settings,
    root: &Utf8Path,
) -> Result<Remainder> {
    let (args, report) = (consent.args, consent.report);
    let name = &tools.profile;
    let profile = cluster::profile(tools)?;
    if let Some(refusal) = cluster::refusal(tools, &profile) {
        return Err(refusal.into());
    }
    if args.removes_cluster() {
        // A cluster in the private engine, which is not the engine in use, is removed with that engine.
        let elsewhere = args.removes_engine() && cluster::is_elsewhere(tools)?;
        let is_absent = profile.state == cluster::ProfileState::Absent;
        // A run that was killed before minikube recorded the profile leaves a volume.
        let has_volume = is_absent && cluster::has_volume(&tools.engine, name)?;
        if elsewhere || is_absent && !has_volume {
            consent.ask(Vec::new())?;
            if !elsewhere {
                report.ok(format!("no minikube profile `{name}`"));
            }
            return Ok(Remainder::default());
        }
        cluster::refuse_users(tools, &profile, "delete")?;
        // minikube deletes kubeconfig entries by name, even if it did not create them.
        cluster::guard(&tools.cache, name)?;
        let what = if has_volume { "leftover volume of the minikube profile" } else { "minikube profile" };
        consent.ask(vec![format!("delete the {what} `{name}` and everything in it, todos included")])?;
        let step = cluster::delete_step(tools, "asked for");
        plan::apply(report, "teardown", Mode::Apply, vec![step])?;
        return Ok(Remainder::default());
    }
    match profile.state {
        cluster::ProfileState::Running => remove_release(consent, tools, settings, root),
        cluster::ProfileState::Absent => {
            report.ok(format!("no minikube profile `{name}`: nothing to remove"));
            Ok(Remainder::default())
        }
        state => {
            let what = format!("the cluster `{name}` does not run, so nothing in it can be removed");
            let failure = Failure::new(Class::Cluster, what);
            let failure = match state {
                cluster::ProfileState::Stopped | cluster::ProfileState::Paused => {
                    failure.help("start it: cargo xtask start")
                }
                _ => failure,
            };
            Err(failure.help("delete it with all its data: cargo xtask teardown --cluster").into())
        }
    }
}

fn remove_release(consent: &Consent<'_>, tools: &Toolbox, settings: &Settings, root: &Utf8Path) -> Result<Remainder> {
    let profile = cluster::observe(tools)?;
    let (args, report) = (consent.args, consent.report);
    let api = tools.api()?;
    let mut remainder = Remainder { cluster: true, ..Remainder::default() };
    let namespace = api.get(&kinds::NAMESPACE, tools.namespace());
    let unknown = || format!("cannot tell whether namespace {} exists", tools.namespace());
    let exists = namespace.with_context(unknown)?.is_some();
    if !exists {
        report.ok(format!("no namespace `{}`", tools.namespace()));
    } else {
        let snapshot = Snapshot::take(tools)?;
        warn_of_unreadable_record(report, &snapshot);
        let has_data = snapshot.kind("PersistentVolumeClaim").next().is_some();
        if args.data && has_data {
            consent.ask(vec!["delete the embedded database's volume with all todos in it".to_owned()])?;
        }
        remainder.todos = has_data && !args.data;
        let context = cluster::context_step(tools, ContextEntry::observe(tools, &profile)?);
        plan::apply(report, "teardown", Mode::Apply, context.into_iter().collect())?;
        let running = report.step("teardown", format!("uninstall {}", tools.release().name), "asked for");
        // First, because the pods of the release read the Secrets.
        release::uninstall(tools)?;
        // Helm does not delete the pods of a failed `helm test`.
        let tests = format!("{},{COMPONENT}=test", tools.release().selector());
        api.delete_selected(&kinds::POD, &tests)?;
        running.done("");
        let mut selector = tools.release().made_selector();
        if !args.data {
            // The volume needs the password in its Secret.
            selector += &format!(",{COMPONENT}!={}", settings.components.database);
        }
        api.delete_selected(&kinds::SECRET, &selector)?;
        api.delete_selected(&kinds::CONFIG_MAP, &selector)?;
        report.ok("Secrets and records removed");
    }
    // Before the namespace: the controller has a Role in it.
    if let Some(done) =
        cluster::remove_controller(tools, &ControllerManifests::read(&root.join(&settings.cluster.ingress))?)?
    {
        report.ok(done);
    }
    if args.data && exists {
        remove_data(report, tools)?;
    }
    Ok(remainder)
}

/// Deletes the namespace with the database's volume, or only the volume if the namespace has objects of others.
fn remove_data(report: &Report, tools: &Toolbox) -> Result<()> {
    let (api, name) = (tools.api()?, tools.namespace());
    let snapshot = Snapshot::take(tools)?;
    // A snapshot lacks these kinds, which the release does not use, and Secrets.
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
        let running = report.step("teardown", format!("delete namespace {name}"), "--data");
        api.delete(&kinds::NAMESPACE, name, Propagation::Background)?;
        confirm_volumes_gone(&api, name, &claims)?;
        running.done("with the database's volume");
        return Ok(());
    }
    let running = report.step("teardown", "delete the database's volume", "--data");
    for claim in &claims {
        api.delete(&kinds::PERSISTENT_VOLUME_CLAIM, claim, Propagation::Background)?;
    }
    confirm_volumes_gone(&api, name, &claims)?;
    running.done("");
    let stays = format!("stays: namespace {name}, which contains other objects: {}", others.join(", "));
    report.note(format!("{stays}  (cargo xtask tool kubectl -- delete namespace {name} removes all)"));
    Ok(())
}

/// Waits until the provisioner has removed the volumes of `claims` in `namespace`, which outlive their claims.
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
                "claim {} in namespace {namespace} is deleted, but its volume {} with the data still exists ({})",
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

/// Warns of an unreadable record. It is no error, because teardown deletes the record.
fn warn_of_unreadable_record(report: &Report, snapshot: &Snapshot) {
    if let Err(error) = Record::read(snapshot) {
        report.warn(format!("{error}; teardown deletes it with the release"));
    }
}

/// Removes xtask's images from the user's own engine, unless another profile of this cache uses them. Images in the
/// private engine are removed with it.
fn remove_images(tools: &Toolbox, args: &Teardown) -> Result<()> {
    let Toolbox { engine, report, cache, profile, .. } = tools;
    if engine.private {
        if !args.removes_engine() {
            report.note("the images are in the private engine; remove both: cargo xtask teardown --engine");
        }
        return Ok(());
    }
    let others: Vec<String> = profiles(cache)?.into_iter().filter(|name| name != profile).collect();
    if let Some(other) = others.first() {
        report.note(format!("the images stay while other profiles use them: {}", others.join(", ")));
        report.note(format!("remove these first: cargo xtask teardown --images --profile {other}"));
        return Ok(());
    }
    let images = owned::observe(cache, engine)?;
    if images.is_empty() {
        report.ok("the engine has no image that xtask built or pulled");
        return Ok(());
    }
    let step = owned::remove_step(cache, engine, images);
    plan::apply(report, "teardown", Mode::Apply, vec![step]).map(drop)
}

/// Returns the profiles in minikube's records in the cache.
fn profiles(cache: &Utf8Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in files::entries(&minikube::folder(&minikube::own_home(cache)).join("profiles"))? {
        if files::exists(&folder.join("config.json"))? {
            names.extend(folder.file_name().map(str::to_owned));
        }
    }
    Ok(names)
}

/// Returns one line with its size for each thing of xtask in the engine.
fn list_in_engine(cache: &Utf8Path, engine: &Engine) -> Result<Vec<String>> {
    let usage = owned::usage(engine)?;
    let build_cache = format!("{} of build cache", bytes(usage.build_cache));
    if engine.private {
        let (count, size) = (usage.images, bytes(usage.images_size));
        return Ok(vec![format!(
            "the private engine with {count} images, {size}, and {build_cache}  (--engine removes it)"
        )]);
    }
    let images = owned::observe(cache, engine)?;
    let size = |images: &[&OwnedImage]| bytes(images.iter().map(|image| image.size).sum());
    let (built, pulled): (Vec<&OwnedImage>, Vec<&OwnedImage>) = images.iter().partition(|image| image.built);
    let mut lines = Vec::new();
    if !built.is_empty() {
        let (count, size) = (built.len(), size(&built));
        lines.push(format!(
            "{count} images that xtask built, {size} with the layers that they share  (--images removes them)"
        ));
    }
    if !pulled.is_empty() {
        let names: Vec<String> =
            pulled.iter().map(|image| format!("{} ({})", image.reference, bytes(image.size))).collect();
        lines.push(format!("images that xtask pulled: {}  (--images removes them)", names.join(", ")));
    }
    if usage.build_cache > 0 {
        lines.push(format!("{build_cache}, yours and xtask's together  (docker buildx prune removes it)"));
    }
    Ok(lines)
}

/// Reports the remaining dumps, and an unfinished upgrade.
fn report_upgrade(cache: &Utf8Path, profile: &str, report: &Report) -> Result<()> {
    let folder = upgrade::folder(cache, profile)?;
    if files::exists(&folder)? {
        report.note(format!("stays: dumps of the database  (rm -r {} removes them)", quote(&folder)));
    }
    if UpgradeState::load(&folder)?.is_some_and(|state| state.phase != Phase::Release) {
        report.warn("an upgrade of the cluster is not finished: cargo xtask cluster upgrade restores the todos");
    }
    Ok(())
}

/// Reports what remains, and the flag that removes it.
fn report_remainder(
    cache: &Utf8Path,
    report: &Report,
    dotenv: &DotenvSource,
    postgres_url: &str,
    remainder: &Remainder,
) -> Result<()> {
    let stays = |what: &str, flag: &str| report.note(format!("stays: {what}  ({flag} removes it)"));
    if remainder.todos {
        stays("the todos (database volume and its Secret)", "--data");
    }
    if let Some(volume) = &remainder.dev {
        stays(&format!("the todos of `cargo xtask dev` (volume {volume})"), "--data");
    }
    if remainder.cluster {
        stays("the cluster", "--cluster");
    }
    remainder.engine.iter().for_each(|line| report.note(format!("stays: {line}")));
    let paths = EnginePaths::new(cache);
    if stop::exists(&paths)? && !remainder.engine.iter().any(|line| line.contains("the private engine")) {
        stays("the private engine with images", "--engine");
    }
    if has_brought_artifacts(cache)? {
        stays("tools and base images in the cache", "--cache");
    }
    if files::exists(&dotenv.path)? {
        stays(".env, which is yours", "rm .env");
    }
    if names_database(dotenv, postgres_url)? {
        report.note(format!("stays: the database of {postgres_url} with its tables and todos; no teardown touches it"));
    }
    Ok(())
}

/// Returns whether `.env` names a database. Does not read a pipe, because its writer may ask a person.
fn names_database(dotenv: &DotenvSource, key: &str) -> Result<bool> {
    if !dotenv.path.is_file() {
        return Ok(std::env::var_os(key).is_some_and(|_| dotenv.from == SecretsSource::Env));
    }
    let text = files::read(&dotenv.path)?.unwrap_or_default();
    let value = |line: &str| {
        let assignment = line.trim_start().trim_start_matches("export ").strip_prefix(key)?;
        assignment.strip_prefix('=').map(str::len)
    };
    Ok(text.lines().filter_map(value).any(|length| length > 0))
}
