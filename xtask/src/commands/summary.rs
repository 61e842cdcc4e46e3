//! The final summary of a deploy: address, replicas, images, database, time per stage.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::credentials::Credentials;
use crate::events;
use crate::judge;
use crate::report::{BOLD, DIM, GOOD, seconds};
use crate::stages::proof::{Access, Front, Proof, warnings};
use crate::toolbox::Toolbox;

/// Prints one line with the address on standard error, for a deploy of `--watch`, followed by notes and warnings.
pub fn print_in_brief(tools: &Toolbox, access: &Access, front: Option<Front>, proof: &Proof, took: Duration) {
    let (place, notes) = access.describe(front, &tools.release().name);
    tools.report.info(format!("  {GOOD}{BOLD}{place}{BOLD:#}{GOOD:#}  is up  {DIM}{}{DIM:#}", seconds(took)));
    notes.into_iter().for_each(|note| tools.report.warn(note));
    warnings(&proof.answers).iter().for_each(|warning| tools.report.warn(warning));
}

/// Prints the summary on standard error.
pub fn print(
    tools: &Toolbox,
    access: &Access,
    front: Option<Front>,
    credentials: &Credentials,
    images: &BTreeMap<String, String>,
    proof: &Proof,
    took: Duration,
) {
    let report = &tools.report;
    report.info("");
    let (place, notes) = access.describe(front, &tools.release().name);
    report.info(format!("  {GOOD}{BOLD}{place}{BOLD:#}{GOOD:#}  is up  {DIM}{}{DIM:#}", seconds(took)));
    notes.into_iter().for_each(|note| report.warn(note));
    for workload in judge::progress(&proof.snapshot) {
        report.info(format!("  {:<16} {}/{} ready", workload.name, workload.ready, workload.wanted));
    }
    for (reference, id) in images {
        let short = id.get(..19).unwrap_or(id);
        report.info(format!("  {reference:<40} {short}  {DIM}built = node = pods{DIM:#}"));
    }
    report.info(format!("  database         {}", credentials.database));
    for answer in &proof.answers {
        let [p50, p95, max] = [50, 95, 100].map(|p| answer.percentile(p));
        let status = answer.status.unwrap_or_default();
        report.info(format!(
            "  {:<16} {status} from {}  p50 {p50} ms, p95 {p95} ms, max {max} ms{}",
            answer.route.path,
            answer.served_by,
            answer.explain_404().map(|reason| format!("  {DIM}{reason}{DIM:#}")).unwrap_or_default()
        ));
    }
    warnings(&proof.answers).iter().for_each(|warning| report.warn(warning));
    for note in &credentials.notes {
        report.note(note);
    }
    let stages = events::stages(&report.events());
    let stages: Vec<String> = stages.iter().map(|(stage, took)| format!("{stage} {}", seconds(*took))).collect();
    if !stages.is_empty() {
        report.info(format!("  {DIM}{}{DIM:#}", stages.join(" · ")));
    }
}
