//! `--timings`: the events as a waterfall in one HTML file, without scripts and without external files.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};

use super::{Event, Recorder, StepOutcome, stages};
use crate::clock;
use crate::private;
use crate::units::seconds;

/// Runs that are kept.
const KEEP: usize = 20;

/// Writes the waterfall of the run below `target` and points `timings.html` there at it. Gives that path.
pub fn write(recorder: &Recorder, title: &str, target: &Utf8Path) -> Result<Utf8PathBuf> {
    let folder = target.join("timings");
    private::create_dir(&folder)?;
    let started = clock::rfc3339(recorder.started);
    let name = format!("timings-{}.html", started.replace(':', ""));
    let page = page(&recorder.events(), recorder.elapsed_ms(), &recorder.shown(title), &started);
    private::write(&folder.join(&name), &page)?;
    let link = target.join("timings.html");
    // Made aside and moved over the old one: there is always a page to open.
    let fresh = target.join(".timings.html");
    let _ = std::fs::remove_file(&fresh);
    std::os::unix::fs::symlink(format!("timings/{name}"), &fresh).with_context(|| format!("linking {link}"))?;
    std::fs::rename(&fresh, &link).with_context(|| format!("linking {link}"))?;
    forget_old(&folder);
    Ok(link)
}

fn forget_old(folder: &Utf8Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<_> = entries.map(|entry| entry.path()).collect();
    // The name begins with the time.
    names.sort();
    for old in names.iter().rev().skip(KEEP) {
        let _ = std::fs::remove_file(old);
    }
}

/// Returns the page.
fn page(events: &[Event], total_ms: u64, title: &str, started: &str) -> String {
    let total_ms = total_ms.max(1);
    let mut body = String::new();
    let failed = events.iter().any(|event| event.outcome == StepOutcome::Failed);
    let ran = events.iter().filter(|event| event.outcome == StepOutcome::Ran).count();
    let skipped = events.iter().filter(|event| event.outcome == StepOutcome::Skipped).count();
    let _ = write!(
        body,
        "<h1>{}</h1><p class=\"sub\">{} · {} · {ran} ran, {skipped} skipped{}</p>",
        escape(title),
        escape(started),
        seconds(std::time::Duration::from_millis(total_ms)),
        if failed { " · <b class=\"bad\">failed</b>" } else { "" },
    );
    let _ = write!(body, "<ul class=\"key\">");
    let order: Vec<&str> = stages(events).into_iter().map(|(stage, _)| stage).collect();
    for (stage, took) in stages(events) {
        let class = class_of(stage, &order);
        let _ = write!(body, "<li><i class=\"{class}\"></i>{} <span>{}</span></li>", escape(stage), seconds(took));
    }
    let _ = write!(body, "</ul><div class=\"chart\" role=\"list\">{}", axis(total_ms));
    for event in events.iter().filter(|event| event.outcome != StepOutcome::Planned) {
        body.push_str(&row(event, total_ms, &order));
    }
    body.push_str("</div>");
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>{} · timings</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n",
        escape(title)
    )
}

/// Returns the row of an event: its name, and its bar on the time axis.
fn row(event: &Event, total_ms: u64, order: &[&str]) -> String {
    let left = event.start_ms.min(total_ms) as f64 * 100.0 / total_ms as f64;
    let width = (event.end_ms.saturating_sub(event.start_ms) as f64 * 100.0 / total_ms as f64).min(100.0 - left);
    let (class, said) = match event.outcome {
        StepOutcome::Skipped => ("skipped", "skipped".to_owned()),
        StepOutcome::Looked => ("looked", seconds(event.took())),
        StepOutcome::Failed => ("failed", format!("failed after {}", seconds(event.took()))),
        StepOutcome::Running => ("failed", format!("cut off after {}", seconds(event.took()))),
        StepOutcome::Ran | StepOutcome::Planned => (class_of(event.stage, order), seconds(event.took())),
    };
    let parts = [event.why.as_str(), event.result.as_str(), event.command.as_str()];
    let parts: Vec<&str> = parts.into_iter().filter(|text| !text.is_empty()).collect();
    // Where there is no room to the right of the bar, its time stands to the left of it.
    let side = if left + width > 82.0 { "before" } else { "after" };
    format!(
        "<div class=\"row\" role=\"listitem\" title=\"{}\"><div class=\"name\"><b>{}</b> {}</div><div class=\"lane\">\
         <i class=\"{class}\" style=\"left:{left:.3}%;width:{width:.3}%\"></i><span class=\"{side}\" \
         style=\"--l:{left:.3}%;--r:{:.3}%\">{}</span></div></div>",
        escape(&parts.join("\n")),
        escape(event.stage),
        escape(&event.what),
        left + width,
        escape(&said),
    )
}

/// Returns five to ten marks at a round distance.
fn axis(total_ms: u64) -> String {
    let steps = [10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000];
    let step = steps.into_iter().find(|step| total_ms / step < 10).unwrap_or(600_000);
    let mut marks = String::new();
    for at in (0..=total_ms).step_by(usize::try_from(step).unwrap_or(1)) {
        let place = at as f64 * 100.0 / total_ms as f64;
        let text = if at % 1000 == 0 { format!("{} s", at / 1000) } else { format!("{:.2} s", at as f64 / 1000.0) };
        let _ = write!(marks, "<span style=\"left:{place:.3}%\">{text}</span>");
    }
    format!(
        "<div class=\"row axis\" aria-hidden=\"true\"><div class=\"name\"></div><div class=\"lane\">{marks}</div></div>"
    )
}

/// Returns the CSS class of a stage, whose colour depends on its place in the run.
fn class_of(stage: &str, order: &[&str]) -> &'static str {
    const CLASSES: [&str; 7] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6"];
    CLASSES[order.iter().position(|other| *other == stage).unwrap_or_default() % CLASSES.len()]
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = include_str!("timings.css");

#[cfg(test)]
mod tests {
    use super::*;

    fn recorder() -> Recorder {
        let mut recorder = Recorder::default();
        let build = recorder.begin("images", "build <todo>", "a \"quoted\" file & more changed", "docker build");
        std::thread::sleep(std::time::Duration::from_millis(15));
        recorder.end(build, StepOutcome::Ran, "");
        recorder.note("images", "load todo", "the node has it", "", StepOutcome::Skipped);
        let rollout = recorder.begin("release", "roll out", "", "");
        recorder.end(rollout, StepOutcome::Failed, "");
        recorder
    }

    #[test]
    fn the_page_is_complete_in_itself_and_escaped() {
        let page = page(&recorder().events(), 20, "deploy dev", "2026-11-21T08:18:13Z");
        for part in ["build &lt;todo&gt;", "a &quot;quoted&quot; file &amp; more", "skipped", "failed after", "1 ran"] {
            assert!(page.contains(part), "{part} is not in {page}");
        }
        for outside in ["http:", "https:", "<script", "src=", "url(", "@import", "<todo>"] {
            assert!(!page.contains(outside), "{outside} is in {page}");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn the_link_leads_to_the_newest_page_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let target = Utf8Path::from_path(dir.path()).unwrap();
        let mut recorder = recorder();
        for second in 0..30 {
            recorder.started = second;
            write(&recorder, "deploy dev", target).unwrap();
        }
        assert_eq!(std::fs::read_dir(target.join("timings")).unwrap().count(), KEEP);
        assert!(std::fs::read_to_string(target.join("timings.html")).unwrap().contains("1970-01-01T00:00:29Z"));
    }

    #[test]
    fn the_axis_has_five_to_ten_marks() {
        for total in [120, 999, 15_400, 98_000, 1_200_000] {
            let marks = axis(total).matches("<span").count();
            assert!((3..=12).contains(&marks), "{marks} marks for {total} ms");
        }
    }
}
