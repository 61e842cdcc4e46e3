//! What a single pass would miss: kills at moments that nobody has chosen, mistakes in between, again and again.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::bed::{AUTH, Bed};
use super::interrupts::{self, Deploy};
use super::load::Load;
use super::{Tally, causes};

/// A kill comes within this time after the beginning: that of a deploy with one changed application.
const SPAN: Duration = Duration::from_secs(20);

/// Runs `rounds` of a kill, a mistake and a change; the application answers through all of it.
pub fn run(bed: &Bed, rounds: usize) -> Result<Tally> {
    if !bed.root.join(".env").is_file() {
        bed.write_dotenv(&format!("AUTH_SECRET={AUTH}\n"))?;
    }
    bed.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
    let mut tally = Tally::default();
    for round in 1..=rounds {
        let running = bed.project.report.step("test", format!("round {round} of {rounds}"), "");
        match one(bed, round) {
            Ok(said) => {
                running.done(said);
                tally += Tally::one(true);
            }
            Err(error) => {
                drop(running);
                bed.project.report.error(&error);
                tally += Tally::one(false);
            }
        }
    }
    Ok(tally)
}

fn one(bed: &Bed, round: usize) -> Result<String> {
    let load = Load::start(bed)?;
    let result = kill_and_go_on(bed, round);
    let answers = load.stop();
    Ok(format!("{}, {} requests, none failed", result?, answers?))
}

fn kill_and_go_on(bed: &Bed, round: usize) -> Result<String> {
    let mut random = [0; 2];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    let after = SPAN.mul_f64(f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX));
    interrupts::change(bed)?;
    let deploy = Deploy::start(bed)?;
    std::thread::sleep(after);
    let said = deploy.said()?;
    interrupts::kill(bed, deploy)?;
    interrupts::converges(bed, &format!("after {:.1} s", after.as_secs_f64()))?;
    // A mistake every other time, so that rollbacks and their revisions pile up too.
    if round.is_multiple_of(2) {
        causes::cannot_start(bed)?;
    }
    ensure!(!said.contains(AUTH), "a secret is shown");
    let last =
        said.lines().rev().find(|line| line.starts_with("  > ")).unwrap_or("  > (nothing)").trim_start_matches("  > ");
    Ok(format!("killed after {:.1} s at `{last}`", after.as_secs_f64()))
}
