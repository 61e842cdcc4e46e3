//! Repeated kills, API server outages, mistakes and foreign objects at random moments, under load. At the end, the suite
//! measures disk use.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use camino::Utf8Path;
use xtask::engine::paths::EnginePaths;
use xtask::process::Process;
use xtask::report::bytes;

use super::interrupts::{self, Deploy};
use super::test_cluster::{AUTH, TestCluster};
use super::{Tally, causes, pairs};

/// Latest start of a disturbance: the duration of a deploy of one changed application under load.
const SPAN: Duration = Duration::from_secs(8);
/// Longest outage of the API server.
const AWAY: Duration = Duration::from_secs(4);
/// Allowed growth of all stores together in 50 rounds, in bytes.
const GROWTH: u64 = 1_000_000_000;

/// Name of the rounds for `--only`.
const ROUNDS: &str = "rounds";

/// Runs `rounds` under load, then every pair of a call and a fault. `only` selects the rounds or some of the pairs.
pub fn run(test_cluster: &TestCluster, rounds: usize, only: Option<&str>) -> Result<Tally> {
    if !test_cluster.root.join(".env").is_file() {
        test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}\n"))?;
    }
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
    let mut tally = Tally::default();
    if only.is_none_or(|text| text == ROUNDS) {
        tally += all_rounds(test_cluster, rounds)?;
    }
    if only != Some(ROUNDS) {
        tally += pairs::all(test_cluster, only)?;
    }
    Ok(tally)
}

fn all_rounds(test_cluster: &TestCluster, rounds: usize) -> Result<Tally> {
    let mut tally = Tally::default();
    let before = Stores::measure(test_cluster)?;
    for round in 1..=rounds {
        tally += Tally::of(&test_cluster.project.report, &format!("round {round} of {rounds}"), |_| {
            run_round(test_cluster, round)
        });
    }
    tally += Tally::of(&test_cluster.project.report, "no request of the rounds failed", |_| {
        test_cluster.load.end().map(|()| String::new())
    });
    let after = Stores::measure(test_cluster)?;
    tally += Tally::of(&test_cluster.project.report, "all stores together grow by at most 1 GB", |_| {
        let growth = format!("before: {before}; after: {after}");
        ensure!(after.sum() <= before.sum() + GROWTH, "{growth}");
        Ok(growth)
    });
    Ok(tally)
}

fn run_round(test_cluster: &TestCluster, round: usize) -> Result<String> {
    let (summary, answers) = test_cluster.load.during(test_cluster, || disturb(test_cluster, round))?;
    Ok(format!("{}, {answers} requests, none failed", summary?))
}

/// Disturbs a deploy and expects the next one to converge. Returns a description.
fn disturb(test_cluster: &TestCluster, round: usize) -> Result<String> {
    let after = SPAN.mul_f64(random()?);
    interrupts::change(test_cluster)?;
    match round % 4 {
        0 => add_foreign_objects(test_cluster),
        2 => {
            let summary = pause_api_server(test_cluster, after)?;
            // Rollbacks fill the stores too.
            causes::cannot_start(test_cluster)?;
            Ok(summary)
        }
        _ => kill_deploy(test_cluster, after),
    }
}

fn kill_deploy(test_cluster: &TestCluster, after: Duration) -> Result<String> {
    let deploy = Deploy::start(test_cluster)?;
    std::thread::sleep(after);
    let output = deploy.output()?;
    interrupts::kill(test_cluster, deploy)?;
    interrupts::converges(test_cluster, &format!("killed after {:.1} s", after.as_secs_f64()))?;
    ensure!(!output.contains(AUTH), "a secret is shown");
    let last = output.lines().rev().find_map(|line| line.strip_prefix("  > ")).unwrap_or("(nothing)");
    Ok(format!("killed after {:.1} s at `{last}`", after.as_secs_f64()))
}

/// Pauses the API server during a deploy. The deploy may fail, but must not roll back without evidence.
fn pause_api_server(test_cluster: &TestCluster, after: Duration) -> Result<String> {
    let away = AWAY.mul_f64(random()?);
    let tools = test_cluster.tools()?;
    let signal = |signal: &str| {
        let kill = format!("kill -{signal} $(pgrep -x kube-apiserver)");
        tools.engine.docker().args(["exec", &test_cluster.profile, "sh", "-c", &kill]).run()
    };
    let deploy = Deploy::start(test_cluster)?;
    std::thread::sleep(after);
    signal("STOP")?;
    std::thread::sleep(away);
    signal("CONT")?;
    let (code, output) = deploy.end()?;
    ensure!(!output.contains("remove the failed first install"), "a release was removed:\n{output}");
    ensure!(matches!(code, Some(0 | 5 | 7)), "exit code {code:?}:\n{output}");
    let what =
        format!("no API server for {:.1} s after {:.1} s: exit code {code:?}", away.as_secs_f64(), after.as_secs_f64());
    interrupts::converges(test_cluster, &what)?;
    Ok(what)
}

/// Adds a foreign Deployment whose pods never start and a foreign Helm release to the namespace.
fn add_foreign_objects(test_cluster: &TestCluster) -> Result<String> {
    let tools = test_cluster.tools()?;
    let kubectl = |args: &[&str]| tools.kubectl_here().args(args.iter().copied()).run();
    let secret = ["create", "secret", "generic", "sh.helm.release.v1.other.v99", "--type=helm.sh/release.v1"];
    let objects = ["deployment/somebodys", "secret/sh.helm.release.v1.other.v99"];
    // A round that failed may have left its objects.
    kubectl(&["delete", "--ignore-not-found", objects[0], objects[1]])?;
    kubectl(&["create", "deployment", "somebodys", "--image=somebodys"])?;
    kubectl(&secret)?;
    kubectl(&["label", "secret", secret[3], "owner=helm", "name=other", "version=99", "status=deployed"])?;
    let converges = interrupts::converges(test_cluster, "beside foreign objects");
    let kept = kubectl(&["get", objects[0], objects[1]]);
    kubectl(&["delete", objects[0], objects[1]])?;
    converges?;
    kept.context("a foreign object was touched")?;
    Ok("foreign objects".to_owned())
}

/// Returns a random number from 0 to 1.
fn random() -> Result<f64> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    Ok(f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX))
}

/// Sizes in bytes of the stores that deploys fill.
struct Stores {
    /// The cache with the private engine, without nodes: other profiles may be in use.
    cache: u64,
    /// The profile's node.
    node: u64,
    /// The checkout with logs and evidence.
    checkout: u64,
}

impl Stores {
    fn measure(test_cluster: &TestCluster) -> Result<Self> {
        let cache = &test_cluster.project.cache;
        let volumes = EnginePaths::new(cache).data().join("volumes");
        let node = volumes.join(&test_cluster.profile);
        Ok(Self {
            cache: size(cache, &volumes)?,
            // The user's own engine keeps its volumes elsewhere.
            node: if node.is_dir() { size(&node, "".into())? } else { 0 },
            checkout: size(&test_cluster.root, "".into())?,
        })
    }

    fn sum(&self) -> u64 {
        self.cache + self.node + self.checkout
    }
}

impl fmt::Display for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [all, cache, node, checkout] = [self.sum(), self.cache, self.node, self.checkout].map(bytes);
        write!(f, "{all} (cache and engine {cache}, node {node}, checkout {checkout})")
    }
}

/// Returns the size of `folder` in bytes, without `excluded`.
fn size(folder: &Utf8Path, excluded: &Utf8Path) -> Result<u64> {
    let excluded = format!("--exclude={excluded}");
    let du = Process::new("du").args(["--summarize", "--block-size=1", &excluded, folder.as_str()]);
    // Ignores the exit code: du fails when files disappear while it runs.
    let text = String::from_utf8_lossy(&du.output()?.stdout).into_owned();
    let size = text.split_whitespace().next().with_context(|| format!("du printed nothing of {folder}"))?;
    size.parse().with_context(|| format!("du printed {text}"))
}
