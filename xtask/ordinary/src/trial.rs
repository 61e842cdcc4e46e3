//! The actions of a user in the first hour, and their expected results.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use camino::Utf8Path;
use xtask::commands::test::refuse_ordinary;
use xtask::failure::{Class, Failure};
use xtask::git;
use xtask::lock;
use xtask::origin::OriginKind;
use xtask::pins;
use xtask::project::Project;
use xtask::report::bytes;
use xtask::tally::Tally;

use crate::machine::{self, Machine, MachineKind, Store};
use crate::stand_ins::StandIns;
use crate::{hosts, internet};

/// Path of the program under test in the machine.
const XTASK: &str = "/shared/xtask";

/// The product's settings.
const SETTINGS: &str = "infra/xtask.toml";

/// Time limit for one command. On a busy machine, a first deploy takes several times its usual 3 minutes.
const LIMIT: Duration = Duration::from_secs(1200);

/// A machine with the user's checkout, which scenarios use.
struct Trial<'a> {
    machine: Machine,
    stand_ins: &'a StandIns,
    profile: String,
    /// The traces before the first deploy.
    before: Traces,
}

/// Traces that a deploy may leave: sets of lines by kind.
type Traces = BTreeMap<&'static str, BTreeSet<String>>;

type Scenario = (&'static str, fn(&Trial<'_>) -> Result<String>);

/// Scenarios with Docker's own image store, in this order.
const CLASSIC: &[Scenario] = &[
    ("classic store: a first deploy with the origin `release`, by a user who is not root", first),
    ("classic store: minikube falls back from its base image's digest to the tag", fallback),
    ("classic store: a second deploy changes nothing", noop),
    ("classic store: a deploy releases a changed line of the backend", changed),
    ("classic store: the next deploy starts a node that docker restarted", restarted),
    ("classic store: teardown leaves no object, image, volume, network, rule, process or file of ours", teardown),
];

/// Scenarios with containerd's image store, in this order. The first one is behind a forward proxy, with bad first answers.
const CONTAINERD: &[Scenario] = &[
    (
        "behind a proxy: `release` gets all downloads, although the first answer is late and Docker Hub refuses once",
        through_proxy,
    ),
    ("containerd store: the interrupted first deploy succeeds without the proxy", first),
    ("containerd store: a second deploy changes nothing", noop),
    ("containerd store: a deploy releases a changed line of the backend", changed),
];

/// Runs the scenarios of all machines, or of those whose names contain `only`.
pub fn run(project: &Project, xtask: &str, only: Option<&str>) -> Result<Tally> {
    // Refuses before [`StandIns::bring`] spends time; only after it, the actual origin is known.
    if let Some(refusal) = refuse_ordinary(OriginKind::Packages.name()) {
        return Err(refusal.into());
    }
    let _lock = lock::take(&project.cache.join("locks"), "ordinary")?;
    let machines = [
        ("classic store", MachineKind { store: Store::Classic, behind_proxy: false }, CLASSIC),
        ("containerd store", MachineKind { store: Store::Containerd, behind_proxy: true }, CONTAINERD),
    ];
    let wanted: Vec<_> =
        machines.into_iter().filter(|(name, ..)| only.is_none_or(|text| name.contains(text))).collect();
    if wanted.is_empty() {
        let what = "the suite `ordinary` has no such machine";
        return Err(Failure::new(Class::Config, what).help("--only classic, or --only containerd").into());
    }
    let stand_ins = StandIns::bring(project)?;
    machine::remove_offer(project)?;
    let mut tally = Tally::default();
    for (name, kind, scenarios) in wanted {
        let mut trial = None;
        tally += Tally::of(&project.report, &format!("{name}: the ordinary machine starts"), |running| {
            running.progress("installing Debian");
            let tree = machine::install(project, running)?;
            running.progress("filling the simulated internet");
            trial = Some(Trial::prepare(project, &stand_ins, &tree, xtask, kind)?);
            Ok(String::new())
        });
        let Some(trial) = trial else {
            machine::clear(project)?;
            continue;
        };
        for (name, scenario) in scenarios {
            let result = Tally::of(&project.report, name, |_| scenario(&trial));
            let failed = result.failed > 0;
            tally += result;
            if failed {
                // Later scenarios start from the state that this one should have left.
                break;
            }
        }
        let Trial { machine, .. } = trial;
        tally += Tally::of(&project.report, &format!("{name}: the machine ends and leaves nothing"), |_| {
            machine.remove(project)?;
            let left = machine::left(project)?;
            ensure!(left.is_empty(), "left: {}", left.join(", "));
            Ok(String::new())
        });
    }
    machine::remove_offer(project)?;
    Ok(tally)
}

impl<'a> Trial<'a> {
    fn prepare(
        project: &Project,
        stand_ins: &'a StandIns,
        tree: &Utf8Path,
        xtask: &str,
        kind: MachineKind,
    ) -> Result<Self> {
        let machine = Machine::start(project, tree, xtask, kind)?;
        let copy = machine.shared.join("checkout");
        copy_checkout(project, &copy)?;
        stand_ins.offer(project, &machine, &copy)?;
        // From the settings, not from this run's options: the user gives none.
        let settings: toml::Value = toml::from_str(&pins::read_rendered(&copy, SETTINGS)?)?;
        let profile = settings["cluster"]["profile"].as_str().context("the settings name no profile")?.to_owned();
        let mut trial = Self { machine, stand_ins, profile, before: Traces::new() };
        let script = "cp -r /shared/checkout ~/origin && cd ~/origin && git init --quiet && git add --all \
                      && git -c user.name=user -c user.email=user@ordinary commit --quiet -m ordinary \
                      && git clone --quiet ~/origin ~/todo";
        trial.sh(script)?;
        trial.before = trial.traces()?;
        Ok(trial)
    }

    /// Runs a line in the user's shell. Returns its output; fails unless it succeeds.
    fn sh(&self, line: &str) -> Result<String> {
        Ok(self.machine.user(&["sh", "-c", line], &[], LIMIT)?.expect(0, &[])?.text)
    }

    /// Collects the traces that a deploy may leave.
    fn traces(&self) -> Result<Traces> {
        let of_user = [
            ("containers", "docker ps --all --format '{{.Names}}'"),
            ("images", "docker image ls --all --format '{{.ID}} {{.Repository}}:{{.Tag}}'"),
            ("volumes", "docker volume ls --quiet"),
            ("networks", "docker network ls --format '{{.Name}}'"),
            // The processes of this command itself differ each time.
            ("processes", "ps -u user -o comm= | grep -vxE 'sh|ps|grep' || true"),
            // ~/.docker belongs to docker; the checkout and a kubeconfig without entries belong to the user.
            (
                "files",
                "cd && find . -path ./.docker -prune -o -path ./todo -prune -o -path ./origin -prune -o -print \
                 | grep -vxE '[.]/[.]cache|[.]/[.]kube|[.]/[.]kube/config'",
            ),
            ("entries of the kubeconfig", "grep -E '(name|server|cluster|user):' ~/.kube/config || true"),
        ];
        let mut traces = Traces::new();
        for (what, list) in of_user {
            traces.insert(what, self.sh(list)?.lines().map(str::to_owned).collect());
        }
        // Comments contain times; counters change.
        let rules = self.machine.root(&["sh", "-c", "iptables-save; ip6tables-save"]).read()?;
        let rules = rules.lines().filter(|line| !line.starts_with('#'));
        let rules = rules.map(|line| line.split(" [").next().unwrap_or_default().to_owned());
        traces.insert("rules", rules.collect());
        Ok(traces)
    }

    fn deploy(&self, texts: &[&str]) -> Result<String> {
        let ran = self.machine.user(&[XTASK, "deploy", "dev"], &[], LIMIT)?.expect(0, texts)?;
        Ok(format!("{:.1} s", ran.took.as_secs_f64()))
    }
}

/// Copies the files that git tracks, and those that it does not ignore.
fn copy_checkout(project: &Project, to: &Utf8Path) -> Result<()> {
    let names = git::files(&project.root, &[])?;
    for name in names.iter().filter(|name| project.root.join(name).is_file()) {
        let (from, to) = (project.root.join(name), to.join(name));
        std::fs::create_dir_all(to.parent().context("a file has a folder")?)?;
        std::fs::copy(&from, &to).with_context(|| format!("copying {from}"))?;
    }
    Ok(())
}

fn first(trial: &Trial<'_>) -> Result<String> {
    let who = trial.sh("id -u; id -Gn; docker info --format '{{.Driver}}'")?;
    ensure!(!who.starts_with("0\n") && who.contains("docker"), "the user is {who}");
    let took =
        trial.deploy(&["is up", "todo-backend     2/2 ready", "todo-frontend    2/2 ready", "built = node = pods"])?;
    Ok(format!("{took}, {} from package registries", bytes(internet::forwarded_bytes(&trial.machine.shared)?)))
}

fn fallback(trial: &Trial<'_>) -> Result<String> {
    let requests = internet::requests(&trial.machine.shared)?;
    let (name, digest) = trial.stand_ins.kicbase.split_once('@').context("a digest")?;
    let tag = name.rsplit_once(':').context("a tag")?.1;
    let asked = |end: &str| requests.iter().any(|line| line.contains("kicbase/manifests/") && line.contains(end));
    ensure!(asked(&format!("{digest} 404")), "the digest was not requested: {requests:#?}");
    ensure!(asked(&format!("{tag} 200")), "the tag was not requested: {requests:#?}");
    Ok(String::new())
}

fn noop(trial: &Trial<'_>) -> Result<String> {
    trial.deploy(&["nothing changed: nothing was built, loaded or restarted"])
}

fn changed(trial: &Trial<'_>) -> Result<String> {
    trial.sh("echo '# a change of one line' >> ~/todo/apps/backend/app/__init__.py")?;
    trial.deploy(&["app/__init__.py", "is up"])
}

fn restarted(trial: &Trial<'_>) -> Result<String> {
    let port = format!("docker port {} 8443/tcp", trial.profile);
    let before = trial.sh(&port)?;
    trial.sh(&format!("docker restart {}", trial.profile))?;
    let after = trial.sh(&port)?;
    ensure!(before != after, "the API server's port is the same: {after}");
    trial.deploy(&["is up"])
}

fn teardown(trial: &Trial<'_>) -> Result<String> {
    // `teardown --cache` also removes all our objects from the engine.
    trial
        .machine
        .user(&[XTASK, "teardown", "--cache", "--yes"], &[], LIMIT)?
        .expect(0, &["cache removed", "of build cache"])?;
    let after = trial.traces()?;
    for (what, lines) in &after {
        let left: Vec<&String> = lines.difference(&trial.before[what]).collect();
        ensure!(left.is_empty(), "{what}: {left:#?}");
    }
    Ok(format!("0 of {}", after.keys().copied().collect::<Vec<_>>().join(", ")))
}

/// Interrupts the deploy once the engine has the node's container, deletes the cluster, and leaves the proxy.
fn through_proxy(trial: &Trial<'_>) -> Result<String> {
    let script = format!(
        "{XTASK} deploy dev & deploy=$!; until docker container inspect {} >/dev/null 2>&1; do \
         kill -0 $deploy || exit 1; sleep 0.2; done; kill -INT $deploy; wait $deploy",
        trial.profile
    );
    let ran = trial.machine.user(&["bash", "-c", &script], &[], LIMIT)?.expect(130, &["create cluster"])?;
    let requests = internet::requests(&trial.machine.shared)?;
    for host in ["dl.k8s.io", "get.helm.sh", hosts::ASSETS, "registry-1.docker.io", "gcr.io", "registry.k8s.io"] {
        let asked = requests.iter().any(|line| line.starts_with(host) && line.ends_with(" 200"));
        ensure!(asked, "{host} got no request:\n{}", ran.text);
    }
    ensure!(requests.iter().any(|line| line.ends_with(" 429")), "Docker Hub refused nothing: {requests:#?}");
    trial.machine.user(&[XTASK, "teardown", "--cluster", "--yes"], &[], LIMIT)?.expect(0, &[])?;
    trial.machine.leave_proxy().map(|()| String::new())
}
