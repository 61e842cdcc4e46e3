//! The table of results.

use std::fmt::Write as _;

use super::client::RequestKind;
use super::load::LoadResult;
use super::saturation::Saturation;
use xtask::report::{BAD, BOLD, DIM, GOOD};
use xtask::stages::proof::BOUND_MS;

/// Returns the table.
pub fn render(steady: &[(RequestKind, LoadResult)], saturation: &[Saturation]) -> String {
    let mut text = format!(
        "{BOLD}{:<28}{:>9}{:>10}{:>10}{:>10}{:>10}{:>8}{BOLD:#}  served by\n",
        "steady, latency in ms", "per s", "p50", "p95", "p99", "max", "failed"
    );
    for (kind, outcome) in steady {
        let ms = |p| outcome.percentile_us(p) as f64 / 1000.0;
        let colour = if ms(99) < BOUND_MS as f64 { GOOD } else { BAD };
        let lost = outcome.failed + outcome.given_up;
        let _ = writeln!(
            text,
            "{:<28}{:>9.1}{:>10.1}{:>10.1}{colour}{:>10.1}{colour:#}{:>10.1}{lost:>8}  {} pods",
            kind.name(),
            outcome.achieved(),
            ms(50),
            ms(95),
            ms(99),
            ms(100),
            outcome.served_by.len(),
        );
    }
    if !saturation.is_empty() {
        let _ = writeln!(text, "\n{BOLD}saturation{BOLD:#}");
    }
    for found in saturation {
        let more = if found.saturated { "" } else { " or more: the search ended before" };
        let offered: Vec<String> =
            found.steps.iter().map(|step| format!("{:.0}/{:.0}", step.achieved(), step.offered)).collect();
        let name = found.kind.name();
        let _ = writeln!(text, "{name:<28}{:>9.1} per s{more}  {DIM}{}{DIM:#}", found.per_s, offered.join(" "));
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn columns_are_aligned_with_their_headings() {
        let outcome = LoadResult {
            offered: 50.0,
            done: 1000,
            latencies_us: (0..1000).map(|n| n * 20).collect(),
            took: Duration::from_secs(20),
            served_by: ["todo-backend/a".to_owned(), "todo-backend/b".to_owned()].into(),
            ..LoadResult::default()
        };
        let found = Saturation {
            kind: RequestKind::Post,
            per_s: 212.34,
            saturated: true,
            steps: vec![outcome.clone(), outcome.clone()],
        };
        let text = render(&[(RequestKind::List, outcome)], &[found]);
        insta::assert_snapshot!(anstream::adapter::strip_str(&text).to_string(), @"
        steady, latency in ms           per s       p50       p95       p99       max  failed  served by
        GET /api/v1/todos?limit=50       50.0      10.0      19.0      19.8      20.0       0  2 pods

        saturation
        POST /api/v1/todos              212.3 per s  50/50 50/50
        ");
    }
}
