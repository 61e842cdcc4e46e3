//! The text of the `status` screen.

use std::fmt::Write as _;

use serde_json::Value;

use super::view::{ReleaseView, View};
use crate::clock;
use crate::report::{BAD, BOLD, DIM, GOOD, WARN};

/// Returns the whole screen. `now` (seconds since 1970) turns times into ages. Without it, ages and durations are left
/// out, so that two screens differ only if something has changed.
pub fn screen(view: &View, now: Option<u64>) -> String {
    let mut screen = Screen { text: String::new(), last: "" };
    let cluster = &view.cluster;
    let colour = if cluster.state == "running" { GOOD } else { WARN };
    let open_with = cluster.open_with.as_ref().map(|command| format!("  no published port: {command}"));
    let address = cluster.address.as_ref().map(|address| format!("  {BOLD}{address}{BOLD:#}")).unwrap_or_default();
    let open_with = open_with.unwrap_or_default();
    screen.row("cluster", &format!("{}: {colour}{}{colour:#}{address}{open_with}", cluster.profile, cluster.state));
    if let Some(hint) = &cluster.hint {
        screen.row("cluster", &format!("{WARN}{hint}{WARN:#}"));
    }
    if let Some(silence) = &cluster.silence {
        screen.row("cluster", &format!("{WARN}{silence}{WARN:#}"));
    }
    if let Some(difference) = &cluster.difference {
        screen.row("cluster", &format!("{WARN}{difference}{WARN:#}"));
    }
    if let Some(release) = &view.release {
        screen.row("release", &release_line(release, now));
    }
    for workload in &view.workloads {
        let colour = if workload.complete { GOOD } else { WARN };
        let (ready, wanted) = (workload.ready, workload.wanted);
        screen.row("pods", &format!("{:<16} {colour}{ready}/{wanted} ready{colour:#}", workload.name));
        for pod in view.pods.iter().filter(|pod| is_pod_of(&pod.name, &workload.name)) {
            let colour = if pod.ready { DIM } else { WARN };
            let restarts = if pod.restarts == 0 { String::new() } else { format!("  {} restarts", pod.restarts) };
            let age = age(&pod.created_at, now);
            screen.row("pods", &format!("  {colour}{}  {}{restarts}{age}{colour:#}", pod.name, pod.state));
        }
    }
    for finding in &view.findings {
        let colour = if finding.fatal { BAD } else { WARN };
        screen.row("cause", &format!("{colour}{}{colour:#}: {}", finding.subject, finding.cause));
        if !finding.help.is_empty() {
            screen.row("cause", &format!("  {GOOD}try:{GOOD:#} {}", finding.help));
        }
    }
    if !view.foreign.is_empty() {
        screen.row("others", &format!("{DIM}not part of the release: {}{DIM:#}", view.foreign.join(", ")));
    }
    for image in &view.images {
        let id = image.id.get(..19).unwrap_or(&image.id);
        let pods = if image.pods == 1 { "1 pod".to_owned() } else { format!("{} pods", image.pods) };
        screen.row("images", &format!("{:<40} {DIM}{id}{DIM:#}  {pods}", image.reference));
    }
    for route in &view.routes {
        screen.row("routes", &route_line(route, now.is_some()));
    }
    for secret in &view.secrets {
        let used = if secret.used_by.is_empty() { "kept for a rollback".into() } else { secret.used_by.join(", ") };
        screen.row("secrets", &format!("{:<24} {DIM}{used}{DIM:#}", secret.name));
    }
    if view.release.is_some() {
        screen.list("drift", &view.drift, "none: nothing was changed by hand");
    }
    if let Some(pending) = &view.pending {
        screen.list("deploy", pending, "would change nothing");
    }
    screen.text
}

struct Screen {
    text: String,
    last: &'static str,
}

impl Screen {
    /// Adds a row. Consecutive rows of the same name show it only once.
    fn row(&mut self, name: &'static str, text: &str) {
        let shown = if self.last == name { "" } else { name };
        self.last = name;
        let _ = writeln!(self.text, "{BOLD}{shown:<9}{BOLD:#} {text}");
    }

    fn list(&mut self, name: &'static str, lines: &[String], none: &str) {
        if lines.is_empty() {
            self.row(name, &format!("{DIM}{none}{DIM:#}"));
        }
        for line in lines {
            self.row(name, &format!("{WARN}{line}{WARN:#}"));
        }
    }
}

fn release_line(release: &ReleaseView, now: Option<u64>) -> String {
    let helm = match (release.revision, &release.status) {
        (Some(revision), Some(status)) => format!("revision {revision} {status}"),
        _ => "not installed".to_owned(),
    };
    let verified = match (release.verified_revision, &release.verified_at) {
        (Some(revision), Some(at)) => {
            let environment = release.environment.as_deref().unwrap_or_default();
            format!("{GOOD}verified{GOOD:#}: revision {revision} ({environment}){}", age(at, now))
        }
        _ => format!("{WARN}never verified{WARN:#}"),
    };
    let others: Vec<String> =
        release.kept.iter().filter(|n| Some(**n) != release.revision).map(ToString::to_string).collect();
    let kept =
        if others.is_empty() { String::new() } else { format!("  {DIM}rollback to {}{DIM:#}", others.join(", ")) };
    format!("{helm}, {verified}{kept}")
}

fn route_line(route: &Value, with_times: bool) -> String {
    let at = |name: &str| route[name].as_str().unwrap_or_default().to_owned();
    let path = format!("{}{}", at("host"), at("path"));
    if let Some(problem) = route["problem"].as_str() {
        return format!("{path:<16} {BAD}{problem}{BAD:#}");
    }
    // Without the pod's suffix: which replica answers is random.
    let by = at("served_by");
    let by = by.split('/').next().unwrap_or_default();
    let time = if with_times { format!("  {DIM}{} ms{DIM:#}", route["p50_ms"]) } else { String::new() };
    let reason = route["reason"].as_str().map(|reason| format!("  {DIM}{reason}{DIM:#}")).unwrap_or_default();
    format!("{path:<16} {GOOD}{}{GOOD:#} {by}{time}{reason}", route["status"])
}

fn age(time: &str, now: Option<u64>) -> String {
    match (now, clock::parse(time)) {
        (Some(now), Some(then)) => format!(", {}", clock::age(now.saturating_sub(then))),
        _ => String::new(),
    }
}

/// Returns whether the pod's name is one of the workload's: `todo-backend-<hash>-<suffix>`, `todo-postgres-0`.
fn is_pod_of(pod: &str, workload: &str) -> bool {
    pod.strip_prefix(workload).is_some_and(|rest| rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn explains_an_expected_404() {
        let route = json!({"host": "", "path": "/apix", "status": 404, "served_by": "todo-frontend/x", "p50_ms": 3,
            "problem": null, "reason": "as it should: /apix is not below /api"});
        let line = anstream::adapter::strip_str(&route_line(&route, false)).to_string();
        assert_eq!(line, "/apix            404 todo-frontend  as it should: /apix is not below /api");
    }
}
