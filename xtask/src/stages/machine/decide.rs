//! From what is there to what to do: no effects.

use anyhow::Result;

use super::Plan;
use super::observe::{ObservedMachine, silent};
use super::size::{self, NodeSize};
use crate::disk::Disk;
use crate::engine::paths::EnginePaths;
use crate::engine::ping::Answer;
use crate::engine::{Engine, EngineMachine, HIDDEN, start, tree};
use crate::failure::{Class, Failure};
use crate::plan::Step;
use crate::project::Project;
use crate::report::bytes;

/// Room for an engine, a node and the images, from nothing.
pub const DISK_COLD: u64 = 8_000_000_000;
/// Room to work on with what is there.
const DISK_WARM: u64 = 1_000_000_000;
/// An idle cluster takes about 1 GiB, building an image or a tool at most 3 more.
const MEMORY_COLD: u64 = 3 << 30;
/// To build the application's images beside a running cluster.
const MEMORY_WARM: u64 = 1 << 29;

/// Decides which engine serves and what must be done until it answers, or why none can.
pub fn decide<'a>(project: &'a Project, observed: &ObservedMachine) -> Result<Plan<'a>> {
    let paths = EnginePaths::new(&project.cache);
    let runs = matches!(observed.private, Answer::Version(_));
    let answers = runs || matches!(observed.system, Answer::Version(_));
    resources(observed, answers, NodeSize::wanted(&project.settings.cluster))?;
    let reason = match &observed.system {
        Answer::Version(_) => return Ok(Plan { steps: Vec::new(), engine: Engine::system(), consent: Vec::new() }),
        Answer::Unknown(words) => return Err(silent(words).into()),
        Answer::Absent(reason) => reason,
    };
    if let Some(trace) = observed.installed.as_ref().filter(|_| observed.os == "linux") {
        return Err(not_running(reason, trace).into());
    }
    let engine = Engine { empty: !observed.made, ..Engine::private(&paths) };
    if runs && observed.current {
        return Ok(Plan { steps: Vec::new(), engine, consent: Vec::new() });
    }
    possible(observed, reason, NodeSize::wanted(&project.settings.cluster))?;
    let recipe = tree::recipe(&project.root)?;
    let mut steps = Vec::new();
    let mut consent = Vec::new();
    if !observed.tree {
        let command = format!(
            "mmdebstrap --mode=root --variant=minbase --include={} {} {}",
            recipe.packages.join(","),
            recipe.suite,
            paths.tree(&observed.key)
        );
        let why = format!("no Docker Engine answers: {reason}");
        if !observed.made {
            consent = told(&paths, &recipe.suite);
        }
        let at = paths.clone();
        steps.push(Step::new("make a private Docker Engine from Debian packages", why, command, move |running| {
            tree::make(project, &at, &recipe, running)
        }));
    }
    let why = match &observed.private {
        Answer::Version(_) => format!("{} has changed; images, containers and volumes are kept", tree::RECIPE),
        Answer::Absent(_) => format!("no Docker Engine answers: {reason}"),
        Answer::Unknown(words) => format!("it does not answer yet: {words}"),
    };
    let key = observed.key.clone();
    let command =
        format!("setsid unshare --mount dockerd --host=unix://{} --bridge={}", paths.socket(), paths.bridge());
    steps.push(Step::new("start the private Docker Engine", why, command, move |running| {
        start::start(project, &paths, &key, running)
    }));
    Ok(Plan { steps, engine, consent })
}

/// The error where the user's own engine does not run: another one in its place would be a surprise, whatever `--yes` says.
fn not_running(reason: &str, trace: &str) -> Failure {
    let what = format!("no Docker Engine answers ({reason}), although one seems to be installed: {trace}");
    Failure::new(Class::Machine, what)
        .help("start it: sudo systemctl start docker   # or Docker Desktop; `docker version` must show a server")
        .help(format!("or have xtask use a private one, as root on Debian: export DOCKER_HOST={HIDDEN}"))
}

/// What the first start of a private engine does to the machine.
fn told(paths: &EnginePaths, suite: &str) -> Vec<String> {
    vec![
        format!("make a Docker Engine from Debian {suite} packages in {} (0.5 GB; nothing is installed)", paths.dir()),
        format!("run it in the background with its own socket and data, and a network bridge `{}`", paths.bridge()),
        "while it is there: IP forwarding is on, and Docker's firewall rules stand beside yours".to_owned(),
        "nobody patches it: it keeps the Debian packages of today until xtask's recipe changes, or you remove it"
            .to_owned(),
        "`cargo xtask teardown --engine` ends it and takes all of this back".to_owned(),
    ]
}

/// Fails unless a private engine can be made and run here.
fn possible(observed: &ObservedMachine, reason: &str, wanted: NodeSize) -> Result<(), Failure> {
    let none = |more: &str| Failure::new(Class::Machine, format!("no Docker Engine answers ({reason}){more}"));
    if observed.os != "linux" {
        return Err(none("")
            .help(format!(
                "start Docker Desktop, or: brew install colima docker docker-buildx && {}",
                size::colima_start(wanted)
            ))
            .help("docker version   # must show a server; then run the same command again"));
    }
    if !observed.root {
        return Err(none("")
            .help("sudo systemctl start docker   # if it is installed")
            .help("install one: https://docs.docker.com/engine/install/")
            .help("or run the same command as root: xtask then makes a private engine in its cache"));
    }
    if !observed.capable {
        return Err(none(", and this root may not mount or set up networks, so a private one cannot run")
            .help("start this container with --privileged, or give it an engine: -v /var/run/docker.sock:/var/run/docker.sock"));
    }
    if !observed.apt || !tree::supported(&observed.arch) {
        let lack = if observed.apt { format!("for {}", observed.arch) } else { "without apt".to_owned() };
        return Err(none(&format!(", and xtask cannot make one {lack}"))
            .help("install one: https://docs.docker.com/engine/install/, start it and run the same command again"));
    }
    Ok(())
}

fn resources(observed: &ObservedMachine, answers: bool, wanted: NodeSize) -> Result<(), Failure> {
    let (room_needed, memory_needed) = if answers { (DISK_WARM, MEMORY_WARM) } else { (DISK_COLD, MEMORY_COLD) };
    let room_needed = if observed.made { DISK_WARM } else { room_needed };
    room(observed, room_needed, "engine, cluster and images")?;
    let Some(memory) = observed.memory else { return Ok(()) };
    if !matches!(observed.system, Answer::Version(_)) {
        // The private engine's machine is this one. Another one is asked when a cluster is to be made in it.
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

/// Fails if the cache's file system has less than `needed` bytes for `purpose`; names what can be given back.
pub fn room(observed: &ObservedMachine, needed: u64, purpose: &str) -> Result<(), Failure> {
    let Some(Disk { free, total }) = observed.disk.filter(|disk| disk.free < needed) else { return Ok(()) };
    let what = format!(
        "{} are free of the {} that hold the cache; {purpose} need {}",
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
