//! Decides which engine serves, from what [`super::observe`] found. Has no effects.

use anyhow::Result;
use camino::Utf8PathBuf;

use super::EnginePlan;
use super::observe::{ObservedMachine, unresponsive_engine};
use super::size::{self, NodeSize};
use crate::disk::Disk;
use crate::engine::paths::EnginePaths;
use crate::engine::ping::Answer;
use crate::engine::{Engine, EngineMachine, HIDDEN, start, tree};
use crate::failure::{Class, Failure};
use crate::plan::Step;
use crate::report::bytes;

/// Free bytes that a first deploy needs for engine, node and images.
pub const DISK_COLD: u64 = 8_000_000_000;
/// Free bytes that later deploys need.
const DISK_WARM: u64 = 1_000_000_000;
/// Free memory that a first deploy needs, in bytes: an idle cluster takes about 1, a build at most 3 GiB.
const MEMORY_COLD: u64 = 3 << 30;
/// Free memory that later deploys need, in bytes: enough to build the images beside a running cluster.
const MEMORY_WARM: u64 = 1 << 29;

/// Returns the engine that serves a node of the `wanted` size, and the steps until it answers. A private engine logs to `log`
/// while it is made, and also trusts `ca_bundle`. Fails if no engine can serve.
pub fn decide(
    observed: &ObservedMachine,
    wanted: NodeSize,
    log: Utf8PathBuf,
    ca_bundle: Option<Utf8PathBuf>,
) -> Result<EnginePlan> {
    let paths = observed.paths.clone();
    let runs = matches!(observed.private, Answer::Version(_));
    let answers = runs || matches!(observed.system, Answer::Version(_));
    check_resources(observed, answers, wanted)?;
    let ready = |engine| Ok(EnginePlan { steps: Vec::new(), engine, consent: Vec::new() });
    let reason = match &observed.system {
        Answer::Version(_) => return ready(Engine::system()),
        Answer::Unknown(words) => return Err(unresponsive_engine(words).into()),
        Answer::Absent(reason) => reason,
    };
    if let Some(trace) = observed.installed.as_ref().filter(|_| observed.os == "linux") {
        return Err(not_running(reason, trace).into());
    }
    let engine = Engine { empty: !observed.was_made, ..Engine::private(&paths) };
    if runs && observed.is_current {
        return ready(engine);
    }
    check_can_run_private(observed, reason, wanted)?;
    let recipe = observed.recipe.clone();
    let mut steps = Vec::new();
    let mut consent = Vec::new();
    if !observed.has_tree {
        let command = format!(
            "mmdebstrap --mode=root --variant=minbase --include={} {} {}",
            recipe.packages.join(","),
            recipe.suite,
            paths.tree(&recipe.key())
        );
        let why = format!("no Docker Engine answers: {reason}");
        if !observed.was_made {
            consent = describe_changes(&paths, &recipe.suite);
        }
        let at = paths.clone();
        steps.push(Step::new("make a private Docker Engine from Debian packages", why, command, move |running| {
            tree::make(&at, &recipe, &log, running)
        }));
    }
    let why = match &observed.private {
        Answer::Version(_) => format!("{} has changed; images, containers and volumes are kept", tree::RECIPE),
        Answer::Absent(_) => format!("no Docker Engine answers: {reason}"),
        Answer::Unknown(words) => format!("the private engine does not answer yet: {words}"),
    };
    let key = observed.recipe.key();
    let command =
        format!("setsid unshare --mount dockerd --host=unix://{} --bridge={}", paths.socket(), paths.bridge());
    steps.push(Step::new("start the private Docker Engine", why, command, move |running| {
        start::start(&paths, &key, ca_bundle.as_deref(), running)
    }));
    Ok(EnginePlan { steps, engine, consent })
}

/// Returns the error for a user's own engine that does not run. Not even `--yes` makes a private one beside it.
fn not_running(reason: &str, trace: &str) -> Failure {
    let what = format!("no Docker Engine answers ({reason}), although one seems to be installed: {trace}");
    Failure::new(Class::Machine, what)
        .help("start it: sudo systemctl start docker   # or Docker Desktop; `docker version` must show a server")
        .help(format!("or have xtask use a private one, as root on Debian: export DOCKER_HOST={HIDDEN}"))
}

/// Describes what the first start of a private engine changes on the machine.
fn describe_changes(paths: &EnginePaths, suite: &str) -> Vec<String> {
    vec![
        format!("make a Docker Engine from Debian {suite} packages in {} (0.5 GB; nothing is installed)", paths.dir()),
        format!("run it in the background with its own socket, data and network bridge `{}`", paths.bridge()),
        "turn on IP forwarding and add Docker's firewall rules to yours while this engine exists".to_owned(),
        "keep today's Debian packages in it, without security updates, until xtask's recipe changes or you remove it"
            .to_owned(),
        "`cargo xtask teardown --engine` stops the engine and reverts all of this".to_owned(),
    ]
}

/// Fails if xtask can neither make nor run a private engine here.
fn check_can_run_private(observed: &ObservedMachine, reason: &str, wanted: NodeSize) -> Result<(), Failure> {
    let no_engine = |more: &str| Failure::new(Class::Machine, format!("no Docker Engine answers ({reason}){more}"));
    if observed.os != "linux" {
        return Err(no_engine("")
            .help(format!(
                "start Docker Desktop, or: brew install colima docker docker-buildx && {}",
                size::colima_start(wanted)
            ))
            .help("docker version   # must show a server; then run the same command again"));
    }
    if !observed.is_root {
        return Err(no_engine("")
            .help("sudo systemctl start docker   # if it is installed")
            .help("install one: https://docs.docker.com/engine/install/")
            .help("or run the same command as root: xtask then makes a private engine in its cache"));
    }
    if !observed.can_mount {
        return Err(no_engine("; a private one cannot run either, because this root may not mount or set up networks")
            .help("start this container with --privileged, or give it an engine: -v /var/run/docker.sock:/var/run/docker.sock"));
    }
    if !observed.has_apt || !tree::supported(&observed.arch) {
        let reason = if observed.has_apt { format!("for {}", observed.arch) } else { "without apt".to_owned() };
        return Err(no_engine(&format!(", and xtask cannot make one {reason}"))
            .help("install one: https://docs.docker.com/engine/install/, start it and run the same command again"));
    }
    Ok(())
}

fn check_resources(observed: &ObservedMachine, answers: bool, wanted: NodeSize) -> Result<(), Failure> {
    let (room_needed, memory_needed) = if answers { (DISK_WARM, MEMORY_WARM) } else { (DISK_COLD, MEMORY_COLD) };
    let room_needed = if observed.was_made { DISK_WARM } else { room_needed };
    check_room(observed, room_needed, "engine, cluster and images")?;
    let Some(memory) = observed.memory else { return Ok(()) };
    if !matches!(observed.system, Answer::Version(_)) {
        // The private engine runs on this machine. `size::node_size` asks the user's own engine for its machine.
        let (memory, cpus) = (memory.total, wanted.cpus);
        size::fit(wanted, &EngineMachine { memory, cpus, kind: String::new(), security: None, plugins: None })?;
    }
    if memory.available < memory_needed {
        return Err(Failure::new(
            Class::Machine,
            format!("{} of memory are free, {} are needed", bytes(memory.available), bytes(memory_needed)),
        )
        .help("ps -eo rss,comm --sort=-rss | head   # shows who takes it"));
    }
    Ok(())
}

/// Fails if the cache's file system has less than `needed` bytes free for `purpose`. The error lists what can be deleted.
pub fn check_room(observed: &ObservedMachine, needed: u64, purpose: &str) -> Result<(), Failure> {
    let Some(Disk { free, total }) = observed.disk.filter(|disk| disk.free < needed) else { return Ok(()) };
    let what = format!(
        "the cache's file system has {} of {} free; {purpose} need {}",
        bytes(free),
        bytes(total),
        bytes(needed)
    );
    let mut failure = Failure::new(Class::Machine, what);
    if !observed.reclaimable.is_empty() {
        let list = observed.reclaimable.join(", ");
        failure = failure.help(format!("cargo xtask teardown --cache   # the cache takes: {list}"));
    }
    Err(failure.help(format!("or put the cache where there is room: export {}=/path", crate::cache::CACHE_VARIABLE)))
}

#[cfg(test)]
mod tests;
