//! A recording as an animated SVG: each text is an element that is visible while the screen shows it. Users can select the
//! text. With reduced motion, they see the last frame.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::terminal::{COLUMNS, Recording, Span};

/// Number of visible lines; a longer screen scrolls.
const VISIBLE: usize = 36;
/// Longest duration of the animation; longer recordings are accelerated.
const LONGEST: Duration = Duration::from_secs(20);
/// Duration of the last frame.
const REST: Duration = Duration::from_secs(8);
/// Shortest visible duration in seconds; faster changes are merged.
const SAMPLE: f64 = 0.2;
/// Width of a column and height of a line, in pixels.
const CELL: (f64, f64) = (7.8, 18.0);
const MARGIN: f64 = 14.0;

const STYLE: &str = "\
.w{fill:#f6f8fa;stroke:#d1d9e0}text{fill:#1f2328;white-space:pre}.g{fill:#1a7f37}.y{fill:#9a6700}.r{fill:#cf222e}\
.c{fill:#1b7c83}.d{fill:#59636e}.b{font-weight:bold}\
@media(prefers-color-scheme:dark){.w{fill:#151b23;stroke:#3d444d}text{fill:#e6edf3}.g{fill:#3fb950}.y{fill:#d29922}\
.r{fill:#ff7b72}.c{fill:#39c5cf}.d{fill:#9198a1}}
.h{visibility:hidden}";

/// A line, and the time in which the screen shows it.
struct Shown<'a> {
    row: usize,
    line: &'a [Span],
    from: f64,
    /// `None` means until the end.
    to: Option<f64>,
}

/// Returns `recording` as an SVG with the title `title`.
pub fn animate(recording: &Recording, title: &str) -> String {
    let speed = (recording.took.as_secs_f64() / LONGEST.as_secs_f64()).max(1.0).ceil();
    let length = recording.took.as_secs_f64() / speed + REST.as_secs_f64();
    let percent = |time: f64| 100.0 * time / length;
    let (shown, scrolls) = watch(recording, speed);
    let rows = recording.frames.iter().map(|frame| frame.lines.len()).max().unwrap_or(0).min(VISIBLE);
    let (width, height) = (f64::from(COLUMNS) * CELL.0 + 2.0 * MARGIN, rows as f64 * CELL.1 + 2.0 * MARGIN);
    let mut rules = String::new();
    let mut texts = String::new();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for Shown { row, line, from, to } in &shown {
        let frames = match to {
            Some(to) => {
                format!("{:.2}%{{visibility:visible}}{:.2}%{{visibility:hidden}}", percent(*from), percent(*to))
            }
            None => format!("0%{{visibility:hidden}}{:.2}%{{visibility:visible}}", percent(*from)),
        };
        let next = names.len();
        let name = *names.entry(frames.clone()).or_insert_with(|| {
            let _ = writeln!(rules, ".k{next}{{animation-name:k{next}}}@keyframes k{next}{{{frames}}}");
            next
        });
        let hidden = if to.is_some() { " h" } else { "" };
        let y = MARGIN + (*row as f64 + 0.72) * CELL.1;
        let _ = writeln!(texts, "<text class=\"a k{name}{hidden}\" y=\"{y:.0}\">{}</text>", spans(line));
    }
    let scroll: String = scrolls
        .iter()
        .map(|(at, rows)| format!("{:.2}%{{transform:translateY({:.0}px)}}", percent(*at), -(*rows as f64) * CELL.1))
        .collect();
    let end = -(scrolls.last().map_or(0, |(_, rows)| *rows) as f64) * CELL.1;
    let played = if speed > 1.0 { format!("; {speed:.0} times as fast as it was") } else { String::new() };
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" \
         font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace\" font-size=\"13\">\n\
         <!-- Made by `cargo xtask record`. -->\n<title>{}{played}</title>\n<style>{STYLE}\n\
         @media(prefers-reduced-motion:no-preference){{.a,.s{{animation:{length:.2}s step-end infinite}}.s{{animation-name:s}}\n\
         {rules}@keyframes s{{{scroll}}}}}</style>\n\
         <rect class=\"w\" x=\".5\" y=\".5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"8\"/>\n\
         <svg x=\"{MARGIN}\" width=\"{width:.0}\" height=\"{height:.0}\"><g class=\"s\" transform=\"translate(0 {end:.0})\" xml:space=\"preserve\">\n{texts}</g></svg>\n</svg>\n",
        escape(title),
        width - 1.0,
        height - 1.0,
    )
}

/// Returns the lines with their times, and the scroll positions with theirs. All times are playback times.
fn watch(recording: &Recording, speed: f64) -> (Vec<Shown<'_>>, Vec<(f64, usize)>) {
    let mut open: Vec<Option<Shown<'_>>> = Vec::new();
    let (mut shown, mut scrolls) = (Vec::new(), vec![(0.0, 0)]);
    let frames = &recording.frames;
    for (index, frame) in frames.iter().enumerate() {
        let at = frame.at.as_secs_f64() / speed;
        // The last frame of each moment counts.
        let moment = |time: Duration| (time.as_secs_f64() / speed / SAMPLE) as u64;
        if frames.get(index + 1).is_some_and(|next| moment(next.at) == moment(frame.at)) {
            continue;
        }
        open.resize_with(open.len().max(frame.lines.len()), || None);
        for (row, slot) in open.iter_mut().enumerate() {
            let line = frame.lines.get(row).map(Vec::as_slice).unwrap_or_default();
            if slot.as_ref().map(|shown| shown.line).unwrap_or_default() == line {
                continue;
            }
            shown.extend(slot.take().map(|old| Shown { to: Some(at), ..old }));
            *slot = (!line.is_empty()).then_some(Shown { row, line, from: at, to: None });
        }
        let scroll = frame.lines.len().saturating_sub(VISIBLE);
        if scrolls.last().is_some_and(|(_, last)| *last != scroll) {
            scrolls.push((at, scroll));
        }
    }
    shown.extend(open.into_iter().flatten());
    shown.sort_by_key(|shown| shown.row);
    (shown, scrolls)
}

/// Returns the parts of a line, each at its column, so that any font keeps them aligned.
fn spans(line: &[Span]) -> String {
    let mut column = 0;
    let span = |Span { text, style }: &Span| {
        let x = column as f64 * CELL.0;
        column += text.chars().count();
        let class = if style.is_empty() { String::new() } else { format!(" class=\"{style}\"") };
        format!("<tspan x=\"{x:.1}\"{class}>{}</tspan>", escape(text))
    };
    line.iter().map(span).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Frame;

    fn recording(frames: &[(u64, &[&str])]) -> Recording {
        let line = |text: &&str| vec![Span { text: (*text).to_owned(), style: "g".to_owned() }];
        let frames: Vec<Frame> = frames
            .iter()
            .map(|(at, lines)| Frame { at: Duration::from_secs(*at), lines: lines.iter().map(line).collect() })
            .collect();
        Recording { frames, took: Duration::from_secs(40) }
    }

    #[test]
    fn a_text_is_visible_as_long_as_on_the_screen() {
        let image =
            animate(&recording(&[(0, &["$ a <b>"]), (10, &["$ a <b>", "live"]), (20, &["$ a <b>", "done"])]), "a");
        // 40 s are played in 20 s, then the end stays for 8 s.
        assert!(image.contains("<title>a; 2 times as fast as it was</title>") && image.contains("animation:28.00s"));
        assert!(image.contains("@keyframes k0{0%{visibility:hidden}0.00%{visibility:visible}}"), "{image}");
        assert!(image.contains("{17.86%{visibility:visible}35.71%{visibility:hidden}}"), "{image}");
        assert!(image.contains("><tspan x=\"0.0\" class=\"g\">$ a &lt;b&gt;</tspan></text>"), "{image}");
        // With reduced motion, only the end is visible.
        let hidden = |text: &str| image.lines().any(|line| line.contains(text) && line.contains(" h\""));
        assert!(hidden("live") && !hidden("done") && image.matches("<text ").count() == 3, "{image}");
    }

    #[test]
    fn a_line_that_changes_all_the_time_is_shown_every_moment() {
        let text = |number: u64| vec![vec![Span { text: number.to_string(), style: String::new() }]];
        let at = |number: u64| Duration::from_millis(100 * number);
        let frames = (0..100).map(|number| Frame { at: at(number), lines: text(number) }).collect();
        let image = animate(&Recording { frames, took: Duration::from_secs(10) }, "a");
        assert_eq!(image.matches("<text ").count(), 50, "{image}");
    }

    #[test]
    fn a_long_screen_scrolls_to_its_end() {
        let lines: Vec<String> = (0..VISIBLE + 3).map(|number| number.to_string()).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let image = animate(&recording(&[(0, &["$"]), (5, &lines)]), "a");
        assert!(image.contains("transform=\"translate(0 -54)\""), "{image}");
        assert!(image.contains("8.93%{transform:translateY(-54px)}"), "{image}");
    }
}
