//! A line of a log, and its presentation.

use std::collections::BTreeMap;

use anstyle::{AnsiColor, Style};

use super::source::Source;
use crate::clock;
use crate::inventory::readable;
use crate::report::DIM;
use crate::secrets::Redactor;

/// A line of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The container that wrote it.
    pub source: Source,
    /// Time at which the node received it: RFC 3339 with a fixed number of digits, so that it sorts as text.
    pub time: String,
    /// The text that the container wrote.
    pub text: String,
}

impl Line {
    /// Parses a line in the format of `kubectl logs --timestamps`.
    pub fn parse(source: &Source, line: &str) -> Self {
        let (time, text) = line.split_once(' ').unwrap_or((line, ""));
        let is_time = time.len() >= 20 && time.ends_with('Z') && time.as_bytes()[4] == b'-';
        let (time, text) = if is_time { (padded(time), text) } else { (String::new(), line) };
        Self { source: source.clone(), time, text: text.to_owned() }
    }
}

/// Formats a time, in seconds since 1970, like [`Line::time`].
pub fn format_time(seconds: u64) -> String {
    padded(&clock::rfc3339(seconds))
}

/// Returns the time with nine decimal places: the container runtime omits trailing zeros.
fn padded(time: &str) -> String {
    let whole = time.trim_end_matches('Z');
    let (seconds, fraction) = whole.split_once('.').unwrap_or((whole, ""));
    format!("{seconds}.{fraction:0<9}Z")
}

/// Formats lines: gives each pod a colour, in order of appearance, and masks the values of Secrets.
pub struct Painter {
    pods: BTreeMap<String, usize>,
    raw: bool,
    redactor: Redactor,
}

const COLOURS: [AnsiColor; 6] =
    [AnsiColor::Cyan, AnsiColor::Yellow, AnsiColor::Green, AnsiColor::Magenta, AnsiColor::Blue, AnsiColor::Red];

impl Painter {
    /// Creates a painter for lines as the containers wrote them (`raw`), or for people. `redactor` knows the values to mask.
    pub fn new(raw: bool, redactor: Redactor) -> Self {
        Self { pods: BTreeMap::new(), raw, redactor }
    }

    /// Masks the values of this redactor, too.
    pub fn hide(&mut self, redactor: Redactor) {
        self.redactor.extend(redactor);
    }

    /// Returns the line with its pod's name in the pod's colour, and the name of any container but the first.
    pub fn paint(&mut self, line: &Line) -> String {
        let next = self.pods.len();
        let index = *self.pods.entry(line.source.pod.clone()).or_insert(next);
        let style = Style::new().fg_color(Some(COLOURS[index % COLOURS.len()].into()));
        let container =
            if line.source.is_main { String::new() } else { format!(" {DIM}{}{DIM:#}", line.source.container) };
        let time = line.time.get(11..19).unwrap_or_default();
        let text = if self.raw { line.text.clone() } else { readable(time, &line.text) };
        format!("{style}{}{style:#}{container} {}", line.source.pod, self.redactor.redact(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Secret;

    fn source(pod: &str, is_main: bool) -> Source {
        Source { pod: pod.into(), container: if is_main { "backend" } else { "migrate" }.into(), is_main }
    }

    #[test]
    fn parses_times_that_sort_as_text() {
        let parse = |text: &str| Line::parse(&source("p", true), text);
        let line = parse("2026-11-21T08:18:13.5Z {\"level\": \"info\"}");
        assert_eq!(
            (line.time.as_str(), line.text.as_str()),
            ("2026-11-21T08:18:13.500000000Z", "{\"level\": \"info\"}")
        );
        assert!(parse("2026-11-21T08:18:13.12Z a").time < parse("2026-11-21T08:18:13.123456789Z b").time);
        // An empty line, and a message of kubectl itself.
        assert_eq!(parse("2026-11-21T08:18:13.5Z ").text, "");
        assert_eq!(parse("unable to retrieve container logs").text, "unable to retrieve container logs");
    }

    #[test]
    fn gives_each_pod_a_colour_and_names_second_containers() {
        let mut painter = Painter::new(true, Redactor::new([]));
        let line = |pod: &str, main| Line { source: source(pod, main), time: String::new(), text: "x".into() };
        let (a, b) = (painter.paint(&line("a", true)), painter.paint(&line("b", true)));
        assert_eq!((a.as_str(), b.as_str()), ("\u{1b}[36ma\u{1b}[0m x", "\u{1b}[33mb\u{1b}[0m x"));
        assert_eq!(painter.paint(&line("a", true)), a);
        assert!(painter.paint(&line("a", false)).contains("migrate"));
    }

    #[test]
    fn masks_values_of_secrets_also_of_later_ones() {
        let [first, second] = ["not-a-secret-of-old-pods", "not-a-secret-of-new-pods"].map(Secret::new);
        for raw in [true, false] {
            let mut painter = Painter::new(raw, Redactor::new([&first]));
            painter.hide(Redactor::new([&second]));
            let text =
                format!(r#"{{"level": "error", "message": "{}", "key": "{}"}}"#, first.expose(), second.expose());
            let shown = painter.paint(&Line { source: source("p", true), time: String::new(), text });
            assert!(!shown.contains("not-a-secret"), "{shown}");
        }
    }

    #[test]
    fn shows_a_json_line_as_time_level_message_and_fields() {
        let shown = |text: &str| {
            let line = Line::parse(&source("p", true), &format!("2026-11-21T08:18:13.5Z {text}"));
            anstream::adapter::strip_str(&Painter::new(false, Redactor::new([])).paint(&line)).to_string()
        };
        let json = r#"{"time": "2026-11-21T08:18:13.499+00:00", "level": "warning", "logger": "app.db", "message": "it sleeps",
            "cause": "waking up", "tries": 3, "exception": "Error\n  at x\n"}"#;
        assert_eq!(
            shown(&json.replace('\n', " ")),
            "p 08:18:13 WARNING it sleeps logger=app.db cause=\"waking up\" tries=3\n    exception:\n      Error\n        at x"
        );
        assert_eq!(shown("LOG:  checkpoint"), "p 08:18:13 LOG:  checkpoint");
        assert_eq!(shown(r#"{"level": "info"}"#), r#"p 08:18:13 {"level": "info"}"#);
    }
}
