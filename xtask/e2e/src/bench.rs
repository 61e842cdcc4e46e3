//! `cargo xtask bench deploy`: the duration of deploys and of their parts. The kinds alternate, so that a busy moment of
//! the machine affects all of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use anyhow::{Context, Result};
use regex::Regex;
use serde_json::{Value, json};

use xtask::commands::bench::BenchDeploy;
use xtask::commands::output;
use xtask::project::Project;
use xtask::report::{BOLD, DIM};

use super::test_cluster::{AUTH, Names, TestCluster};

/// Shortest part of a deploy that is reported, in milliseconds.
const SHORTEST: u64 = 10;

/// A kind of deploy: its name, and the change before it. A number makes each change unique.
type DeployKind = (&'static str, fn(&TestCluster, u128) -> Result<()>);

const KINDS: &[DeployKind] = &[
    ("nothing changed", |_, _| Ok(())),
    ("one line of the backend", |test_cluster, number| {
        change_line(test_cluster, "apps/backend/app/__init__.py", "# change ", &format!("# change {number}"))
    }),
    ("one line of the frontend", |test_cluster, number| {
        let line = format!("      <h1 className={{styles.title}} data-change=\"{number}\">Todos</h1>");
        change_line(test_cluster, "apps/frontend/components/header.tsx", "      <h1 ", &line)
    }),
];

/// The deploys of one kind.
#[derive(Default)]
struct Measured {
    /// Duration of each deploy in milliseconds.
    took_ms: Vec<u64>,
    /// Durations of each part in milliseconds, by stage and step, in the order of their first occurrence.
    parts: Vec<((String, String), Vec<u64>)>,
}

impl Measured {
    /// Adds a deploy from its JSON document.
    fn add(&mut self, document: &Value) -> Result<()> {
        self.took_ms.push(document["took_ms"].as_u64().context("no took_ms")?);
        let mut parts: BTreeMap<(String, String), u64> = BTreeMap::new();
        let mut order = Vec::new();
        for event in document["events"].as_array().context("no events")? {
            let time = |name: &str| event[name].as_u64().unwrap_or_default();
            let text = |name: &str| event[name].as_str().unwrap_or_default();
            let part = (text("stage").to_owned(), without_tags(text("what")));
            order.push(part.clone());
            *parts.entry(part).or_default() += time("end_ms").saturating_sub(time("start_ms"));
        }
        for part in order {
            let Some(took) = parts.remove(&part).filter(|took| *took >= SHORTEST) else { continue };
            match self.parts.iter_mut().find(|(known, _)| *known == part) {
                Some((_, all)) => all.push(took),
                None => self.parts.push((part, vec![took])),
            }
        }
        Ok(())
    }

    fn json(&self, name: &str) -> Value {
        let parts = self.parts.iter().map(
            |((stage, what), all)| json!({"stage": stage, "what": what, "median_ms": median(all), "runs": all.len()}),
        );
        json!({"name": name, "took_ms": self.took_ms, "median_ms": median(&self.took_ms),
               "min_ms": self.took_ms.iter().min(), "max_ms": self.took_ms.iter().max(),
               "parts": parts.collect::<Vec<_>>()})
    }
}

/// Measures `args.runs` deploys of each kind. Keeps the cluster for the next run.
pub fn run(project: &Project, xtask: &str, args: &BenchDeploy) -> Result<()> {
    let report = &project.report;
    let test_cluster = TestCluster::make(project, xtask, &Names::new(project, "bench", "bench", 500), false)?;
    test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}\n"))?;
    let running =
        report.step("bench", format!("deploy to the profile {}", test_cluster.profile), "what is measured changes it");
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
    running.done("");
    let mut measured: Vec<Measured> = KINDS.iter().map(|_| Measured::default()).collect();
    for run in 1..=args.runs {
        for ((name, change), measured) in KINDS.iter().zip(&mut measured) {
            let running = report.step("bench", format!("{name}, {run} of {}", args.runs), "");
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
            change(&test_cluster, now)?;
            let ran = test_cluster.xtask(&["deploy", "dev", "--json"])?.expect(0, &[])?;
            measured.add(&serde_json::from_str(&ran.stdout).context("reading the document of deploy --json")?)?;
            running.done(format!("{} ms", measured.took_ms.last().copied().unwrap_or_default()));
        }
    }
    let all = || KINDS.iter().zip(&measured).map(|((name, _), measured)| (*name, measured));
    report.fact("kinds", all().map(|(name, measured)| measured.json(name)).collect::<Vec<_>>());
    if !args.json {
        output::print(&table(all()))?;
    }
    let delete = format!("cargo xtask teardown --cluster --profile {}", test_cluster.profile);
    report.note(format!("stays: the cluster {}  ({delete} removes it)", test_cluster.profile));
    Ok(())
}

/// Replaces the line of `file` that begins with `start` by `line`, or appends it.
fn change_line(test_cluster: &TestCluster, file: &str, start: &str, line: &str) -> Result<()> {
    let path = test_cluster.root.join(file);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let mut lines: Vec<&str> = text.lines().collect();
    match lines.iter_mut().find(|old| old.starts_with(start)) {
        Some(old) => *old = line,
        None => lines.push(line),
    }
    std::fs::write(&path, lines.join("\n") + "\n").with_context(|| format!("writing {path}"))
}

/// Returns a step's name without content tags, which differ from run to run.
fn without_tags(what: &str) -> String {
    static TAG: LazyLock<Regex> = LazyLock::new(|| Regex::new(":[0-9a-f]{16}").expect("valid"));
    TAG.replace_all(what, "").into_owned()
}

/// Returns the median, or 0 without values.
fn median(all: &[u64]) -> u64 {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => 0,
        (count, middle) if count % 2 == 0 => (sorted[middle - 1] + sorted[middle]) / 2,
        (_, middle) => sorted[middle],
    }
}

fn table<'a>(all: impl Iterator<Item = (&'a str, &'a Measured)>) -> String {
    let mut text = format!("{BOLD}{:<50}{:>6}{:>10}{:>9}{:>9}{BOLD:#}\n", "seconds", "runs", "median", "min", "max");
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let row = |text: &mut String, name: &str, all: &[u64]| {
        let (min, max) = (all.iter().min().copied().unwrap_or(0), all.iter().max().copied().unwrap_or(0));
        let (median, min, max) = (seconds(median(all)), seconds(min), seconds(max));
        let _ = writeln!(text, "{name:<50}{:>6}{median:>10.2}{min:>9.2}{max:>9.2}", all.len());
    };
    for (name, measured) in all {
        row(&mut text, name, &measured.took_ms);
        for ((stage, what), all) in &measured.parts {
            let _ = write!(text, "{DIM}");
            row(&mut text, &format!("  {stage:<8} {what}").chars().take(49).collect::<String>(), all);
            let _ = write!(text, "{DIM:#}");
        }
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(took: u64, build: u64) -> Value {
        json!({"took_ms": took, "events": [
            {"stage": "observe", "what": "cluster, release and images", "start_ms": 0, "end_ms": 200},
            {"stage": "images", "what": "build todo-backend:0123456789abcdef", "start_ms": 200, "end_ms": 200 + build},
            {"stage": "release", "what": "helm upgrade todo", "start_ms": 500, "end_ms": 505},
        ]})
    }

    #[test]
    fn parts_are_combined_over_runs_without_their_tags() {
        let mut measured = Measured::default();
        for (took, build) in [(900, 100), (700, 300), (800, 200)] {
            measured.add(&document(took, build)).unwrap();
        }
        let json = measured.json("a kind");
        assert_eq!((&json["median_ms"], &json["min_ms"], &json["max_ms"]), (&json!(800), &json!(700), &json!(900)));
        let build = json!({"stage": "images", "what": "build todo-backend", "median_ms": 200, "runs": 3});
        assert_eq!(json["parts"].as_array().unwrap().len(), 2, "a part of 5 ms is left out");
        assert_eq!(json["parts"][1], build);
        let text = table([("a kind", &measured)].into_iter());
        assert!(text.contains("a kind") && text.contains("      3      0.80     0.70     0.90"), "{text}");
    }

    #[test]
    fn the_median_of_an_even_count_is_the_mean_of_the_middle_two() {
        assert_eq!([median(&[]), median(&[3]), median(&[4, 1]), median(&[1, 9, 2])], [0, 3, 2, 2]);
    }
}
