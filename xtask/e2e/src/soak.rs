//! What a single pass would miss: kills, an API server that goes away, mistakes and foreign objects at moments that nobody
//! has chosen, again and again under load. At the end the stores are measured.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use camino::Utf8Path;
use xtask::process::Process;
use xtask::report::bytes;

use super::bed::{AUTH, Bed};
use super::interrupts::{self, Deploy};
use super::load::Load;
use super::{Tally, causes};

/// What happens, happens within this time after the beginning: that of a deploy with one changed application.
const SPAN: Duration = Duration::from_secs(20);
/// The longest time without an API server.
const AWAY: Duration = Duration::from_secs(4);
/// How much all stores together may grow in 50 rounds, in bytes.
const GROWTH: u64 = 1_000_000_000;

/// Runs `rounds`; the application answers through all of them.
pub fn run(bed: &Bed, rounds: usize) -> Result<Tally> {
    if !bed.root.join(".env").is_file() {
        bed.write_dotenv(&format!("AUTH_SECRET={AUTH}\n"))?;
    }
    bed.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
    let mut tally = Tally::default();
    let before = stores(bed)?;
    for round in 1..=rounds {
        tally += Tally::of(&bed.project.report, &format!("round {round} of {rounds}"), |_| one(bed, round));
    }
    let after = stores(bed)?;
    tally += Tally::of(&bed.project.report, "all stores together grow by 1 GB at most", |_| {
        let growth = format!("{} before, {} after", bytes(before), bytes(after));
        ensure!(after <= before + GROWTH, "{growth}");
        Ok(growth)
    });
    Ok(tally)
}

fn one(bed: &Bed, round: usize) -> Result<String> {
    let load = Load::start(bed)?;
    let result = disturb(bed, round);
    let answers = load.stop();
    Ok(format!("{}, {} requests, none failed", result?, answers?))
}

/// A changed deploy with one disturbance, and the deploy after it, which must converge.
fn disturb(bed: &Bed, round: usize) -> Result<String> {
    let after = SPAN.mul_f64(random()?);
    interrupts::change(bed)?;
    match round % 4 {
        0 => foreign(bed),
        2 => {
            let said = hiccup(bed, after.mul_f64(0.5))?;
            // Rollbacks and their revisions pile up too.
            causes::cannot_start(bed)?;
            Ok(said)
        }
        _ => killed(bed, after),
    }
}

fn killed(bed: &Bed, after: Duration) -> Result<String> {
    let deploy = Deploy::start(bed)?;
    std::thread::sleep(after);
    let said = deploy.said()?;
    interrupts::kill(bed, deploy)?;
    interrupts::converges(bed, &format!("after {:.1} s", after.as_secs_f64()))?;
    ensure!(!said.contains(AUTH), "a secret is shown");
    let last =
        said.lines().rev().find(|line| line.starts_with("  > ")).unwrap_or("  > (nothing)").trim_start_matches("  > ");
    Ok(format!("killed after {:.1} s at `{last}`", after.as_secs_f64()))
}

/// The API server stands still for a moment. The deploy may fail for that, but undoes nothing on a guess.
fn hiccup(bed: &Bed, after: Duration) -> Result<String> {
    let away = AWAY.mul_f64(random()?);
    let tools = bed.tools()?;
    let signal = |signal: &str| {
        let kill = format!("kill -{signal} $(pgrep -x kube-apiserver)");
        tools.engine.docker().args(["exec", &bed.profile, "sh", "-c", &kill]).run()
    };
    let deploy = Deploy::start(bed)?;
    std::thread::sleep(after);
    signal("STOP")?;
    std::thread::sleep(away);
    signal("CONT")?;
    let (code, said) = deploy.end()?;
    ensure!(!said.contains("remove the failed first install"), "a release was removed:\n{said}");
    ensure!(matches!(code, Some(0 | 5 | 7)), "exit code {code:?}:\n{said}");
    let what =
        format!("no API server for {:.1} s after {:.1} s: exit code {code:?}", away.as_secs_f64(), after.as_secs_f64());
    interrupts::converges(bed, &what)?;
    Ok(what)
}

/// Somebody else's Deployment whose pods never start, and another release of Helm, in the same namespace.
fn foreign(bed: &Bed) -> Result<String> {
    let tools = bed.tools()?;
    let kubectl = |args: &[&str]| tools.kubectl_here().args(args.iter().copied()).run();
    let secret = ["create", "secret", "generic", "sh.helm.release.v1.other.v99", "--type=helm.sh/release.v1"];
    kubectl(&["create", "deployment", "somebodys", "--image=somebodys"])?;
    kubectl(&secret)?;
    kubectl(&["label", "secret", secret[3], "owner=helm", "name=other", "version=99", "status=deployed"])?;
    let converges = interrupts::converges(bed, "beside foreign objects");
    let kept = kubectl(&["get", "deployment/somebodys", "secret/sh.helm.release.v1.other.v99"]);
    kubectl(&["delete", "deployment/somebodys", "secret/sh.helm.release.v1.other.v99"])?;
    converges?;
    kept.context("a foreign object was touched")?;
    Ok("foreign objects".to_owned())
}

/// A number from 0 to 1.
fn random() -> Result<f64> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    Ok(f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX))
}

/// The size in bytes of all that deploys may fill: the cache with the private engine and its node, and the checkout.
fn stores(bed: &Bed) -> Result<u64> {
    let size = |folder: &Utf8Path| -> Result<u64> {
        // Files come and go meanwhile, which du reports by its exit code.
        let du = Process::new("du").args(["--summarize", "--block-size=1", folder.as_str()]).output()?;
        let text = String::from_utf8_lossy(&du.stdout).into_owned();
        let size = text.split_whitespace().next().with_context(|| format!("du printed nothing of {folder}"))?;
        size.parse().with_context(|| format!("du printed {text}"))
    };
    Ok(size(&bed.project.cache)? + size(&bed.root)?)
}
