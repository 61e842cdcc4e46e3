//! Checks the layers: a module of xtask may use only modules that ARCHITECTURE.md lists before it, so there are no
//! cycles.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use regex::Regex;

use crate::checkout::{Checkout, Mistake};

/// The document that lists the layers, in a code block of its own language.
const DOCUMENT: &str = "ARCHITECTURE.md";
const BEGIN: &str = "```layers\n";
/// The crate that the layers are of.
const SOURCES: &str = "xtask/src/";

/// One module's use of another one: `report -> events`.
type Uses = BTreeMap<String, (String, usize)>;

/// Compares what each module uses with the layers.
pub fn check(checkout: &Checkout) -> Result<Vec<Mistake>> {
    let order = order(checkout.text(DOCUMENT)?)?;
    let place = |module: &str| order.iter().position(|known| known == module);
    let mut mistakes = Vec::new();
    let modules: BTreeSet<String> = sources(checkout).map(|(path, _)| module_of(&parts(path))).collect();
    let missing = modules.iter().filter(|module| place(module).is_none());
    mistakes.extend(missing.map(|module| Mistake::new(DOCUMENT, 0, format!("the layers lack the module {module}"))));
    let gone = order.iter().filter(|module| !modules.contains(*module));
    mistakes.extend(gone.map(|module| Mistake::new(DOCUMENT, 0, format!("the layers name {module}, which is gone"))));

    let mut upward = Uses::new();
    for (path, text) in sources(checkout) {
        let from = module_of(&parts(path));
        for (to, line) in uses(path, text) {
            if to != from && modules.contains(&to) && place(&to) > place(&from) {
                upward.entry(format!("{from} -> {to}")).or_insert((path.to_owned(), line));
            }
        }
    }
    mistakes.extend(upward.into_iter().map(|(pair, (path, line))| {
        let what = format!("{pair} leads up the layers of {DOCUMENT}: move what both need into a lower module");
        Mistake::new(&path, line, what)
    }));
    Ok(mistakes)
}

/// Returns the modules from the lowest to the highest. A line begins with the name of its layer, or continues the one above.
fn order(document: &str) -> Result<Vec<String>> {
    let (_, rest) = document.split_once(BEGIN).context("ARCHITECTURE.md has no block of layers")?;
    let (block, _) = rest.split_once("```").context("the block of layers in ARCHITECTURE.md has no end")?;
    let modules = block.lines().flat_map(|line| {
        let words = line.split_whitespace();
        words.skip(usize::from(!line.starts_with(' '))).map(str::to_owned).collect::<Vec<_>>()
    });
    Ok(modules.collect())
}

fn sources(checkout: &Checkout) -> impl Iterator<Item = (&str, &str)> {
    // The entries to the crate name all modules; tests may use everything.
    let is_source = |name: &str| {
        name.ends_with(".rs")
            && !matches!(name, "lib.rs" | "main.rs")
            && name != "tests.rs"
            && !name.ends_with("/tests.rs")
    };
    checkout.texts().filter(move |(path, _)| path.strip_prefix(SOURCES).is_some_and(is_source))
}

/// Returns the module path of a file: `xtask/src/stages/images/load.rs` is `stages::images::load`.
fn parts(path: &str) -> Vec<&str> {
    let inner = path.strip_prefix(SOURCES).unwrap_or(path);
    inner.strip_suffix(".rs").unwrap_or(inner).split('/').collect()
}

/// Returns the unit of the layers: a module of the crate, or one stage.
fn module_of(parts: &[&str]) -> String {
    match parts {
        ["stages", stage, ..] => format!("stages/{stage}"),
        [module, ..] => (*module).to_owned(),
        [] => String::new(),
    }
}

/// Returns the modules that a file uses, each with a line. Ignores those that only tests use.
fn uses(path: &str, text: &str) -> Vec<(String, usize)> {
    let code: String =
        text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().lines().fold(String::new(), |all, line| {
            let line = if line.trim_start().starts_with("//") { "" } else { line };
            all + line + "\n"
        });
    let root = Regex::new(r"(?-u:\b)(crate|super(?:::super)*)::").unwrap();
    let own = parts(path);
    let mut found = Vec::new();
    for start in root.captures_iter(&code) {
        let whole = start.get(0).unwrap();
        let line = code[..whole.start()].matches('\n').count() + 1;
        let ups = if &start[1] == "crate" { own.len() } else { start[1].matches("super").count() };
        let base = own[..own.len().saturating_sub(ups)].to_vec();
        for rest in paths(&code[whole.end()..]) {
            let full: Vec<&str> = base.iter().copied().chain(rest.iter().copied()).collect();
            found.push((module_of(&full), line));
        }
    }
    found
}

/// Returns the paths that begin here, at most two names deep: `{a, b::{c, d}}` has `a`, `b::c` and `b::d`.
fn paths(text: &str) -> Vec<Vec<&str>> {
    let Some(group) = text.strip_prefix('{') else {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let below = rest.strip_prefix("::").map(paths).filter(|below| !below.is_empty());
        let below = below.unwrap_or_else(|| vec![Vec::new()]);
        let whole =
            |below: Vec<_>| std::iter::once(name).chain(below).filter(|name| !name.is_empty()).take(2).collect();
        return below.into_iter().map(whole).collect();
    };
    let (mut depth, mut start, mut found) = (0_usize, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                found.extend(paths(group[start..at].trim_start()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_file_uses() {
        let text = "use crate::{failure::Class, plan};\nuse super::super::images::{build, context};\n\
                    use crate::stages::{self, release::{Desired, undo}};\nfn f() { crate::report::seconds(1) }\n\
                    // crate::engine\n#[cfg(test)]\nmod tests { use crate::supply; }\n";
        let found: Vec<_> = uses("xtask/src/stages/proof/facts.rs", text).into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            found,
            [
                "failure",
                "plan",
                "stages/images",
                "stages/images",
                "stages/self",
                "stages/release",
                "stages/release",
                "report"
            ]
        );
    }
}
