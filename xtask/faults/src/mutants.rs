//! Tests the checker, which must catch twenty mutants of xtask. Each mutant treats an unknown answer as absent, or
//! omits a check.
//!
//! All mutants are compiled into the program under test, in a copy of the sources: each is an `if` around an
//! expression. An environment variable switches one on. Without it, every `if` evaluates the original expression, so
//! the pairs run with the same program: compiling a second one takes 25 s of processor time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use xtask::deadlines;
use xtask::members;

use crate::suite::{PreparedSandbox, References, SuiteSettings, keep, select, side_by_side};

/// The mutants, in TOML.
const LIST: &str = include_str!("../mutants.toml");
/// The environment variable with the number of the active mutant; 0 for none.
pub const SWITCH: &str = "XTASK_MUTANT";
/// The function that is added to the copy's library.
const FUNCTION: &str = r#"
/// Whether the mutant `number` is switched on.
pub fn is_mutant(number: usize) -> bool {
    std::env::var("XTASK_MUTANT").is_ok_and(|text| text == number.to_string())
}
"#;

/// The replacement of one expression in one file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// The path of the file, relative to the checkout.
    pub file: String,
    /// The original expression, which occurs once in the file.
    pub find: String,
    /// The expression that replaces the original one.
    pub replace: String,
    /// The defect that the replacement causes.
    pub why: String,
    /// The runs to try, as a substring of `scenario/call/fault`.
    pub runs: String,
}

#[derive(Deserialize)]
struct List {
    mutant: Vec<Mutant>,
}

/// Parses the list of mutants.
fn all() -> Result<Vec<Mutant>> {
    Ok(toml::from_str::<List>(LIST).context("mutants.toml")?.mutant)
}

/// Builds the program under test: the xtask of `checkout` with all mutants and with scaled time limits. Returns the
/// path of its copy in `folder`. The pairs on a real cluster use it, too, if a call hangs.
pub fn build_all(checkout: &Utf8Path, folder: &Utf8Path) -> Result<Utf8PathBuf> {
    let mutants = all()?;
    let copy = checkout.join("target/faults/mutants");
    std::fs::create_dir_all(&copy)?;
    // Until it is dropped: another suite may build the program at the same time.
    let lock = File::create(copy.with_extension("lock"))?;
    lock.lock()?;
    let changed = changed_files(checkout, &mutants)?.into_iter();
    let mut changed: BTreeMap<Utf8PathBuf, String> = changed.map(|(file, text)| (copy.join(file), text)).collect();
    let library = copy.join("xtask/src/lib.rs");
    let text =
        changed.remove(&library).map_or_else(|| std::fs::read_to_string(checkout.join("xtask/src/lib.rs")), Ok)?;
    changed.insert(library, format!("#![allow(unused_parens)]\n{text}{FUNCTION}"));
    for part in ["Cargo.toml", "Cargo.lock", "README.md", "xtask", "infra"] {
        mirror(&checkout.join(part), &copy.join(part), &changed)?;
    }
    // A separate target folder, because cargo takes the two copies of a package for one. Their dependencies are equal,
    // so the compiled ones are linked instead of compiled again.
    let target = copy.with_file_name("target");
    if !target.exists() {
        let new = target.with_extension("new");
        lend(&checkout.join("target/debug"), &new.join("debug"))?;
        std::fs::rename(&new, &target)?;
    }
    let cargo = members::cargo()
        .args(["build", "--locked", "--package", "xtask", "--features", "scaled-deadlines"])
        // It runs a thousand times.
        .args(["--config", "profile.dev.package.xtask.opt-level=1"])
        .cwd(copy)
        .env("CARGO_TARGET_DIR", target.as_str())
        // Nobody debugs this program, and its sources change as a whole.
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        .env("CARGO_INCREMENTAL", "0")
        .deadline(deadlines::CARGO)
        .show_stderr();
    cargo.run()?;
    keep(&target.join("debug/xtask"), folder)
}

/// Returns the changed text of each file that `mutants` change, by its path in `checkout`. Fails unless every
/// expression occurs exactly once.
fn changed_files<'a>(checkout: &Utf8Path, mutants: &'a [Mutant]) -> Result<BTreeMap<&'a str, String>> {
    let mut changed = BTreeMap::new();
    for (number, mutant) in mutants.iter().enumerate() {
        let text = match changed.remove(mutant.file.as_str()) {
            Some(text) => text,
            None => std::fs::read_to_string(checkout.join(&mutant.file))?,
        };
        let count = text.matches(mutant.find.as_str()).count();
        ensure!(count == 1, "mutant {}: its text stands in {} {count} times: {}", number + 1, mutant.file, mutant.find);
        // A final semicolon, which may make the text unique, stays outside the `if`.
        let (find, end) = mutant.find.strip_suffix(';').map_or((mutant.find.as_str(), ""), |find| (find, ";"));
        let replace = mutant.replace.trim_end_matches(';');
        let both = format!("(if crate::is_mutant({}) {{ {replace} }} else {{ {find} }}){end}", number + 1);
        changed.insert(mutant.file.as_str(), text.replacen(&mutant.find, &both, 1));
    }
    Ok(changed)
}

/// A mutant that was run, and the first violation that it caused.
pub struct TriedMutant {
    /// The defect of the mutant.
    pub why: String,
    /// The pair and the claim of the violation. `None` if no run of the mutant caused one.
    pub by: Option<String>,
}

/// Runs each mutant until the checker catches it or all its runs are done.
pub fn try_all(
    setting: &SuiteSettings<'_>,
    sandboxes: &[PreparedSandbox],
    references: &References,
    tell: &(impl Fn(&str) + Sync),
) -> Result<Vec<TriedMutant>> {
    let mutants = all()?;
    let queue = Mutex::new(mutants.iter().enumerate());
    let caught = Mutex::new(Vec::new());
    side_by_side(sandboxes, |sandbox| {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((number, mutant)) = next else { return Ok(()) };
            let _place = setting.gate.enter();
            let by = catch(sandbox, references, number + 1, mutant)?;
            tell(&format!("mutant {}: {}: {}", number + 1, mutant.why, by.as_deref().unwrap_or("not caught")));
            let mut caught = caught.lock().unwrap_or_else(PoisonError::into_inner);
            caught.push(TriedMutant { why: mutant.why.clone(), by });
        }
    })?;
    Ok(caught.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Runs the pairs of a mutant until one has a violation that it does not have without the mutant. Returns the pair and
/// the claim, or `None` if no pair has one.
fn catch(sandbox: &PreparedSandbox, references: &References, number: usize, mutant: &Mutant) -> Result<Option<String>> {
    let pairs = select(references, Some(&mutant.runs));
    ensure!(!pairs.is_empty(), "mutant {number}: no run fits {}", mutant.runs);
    for pair in pairs.iter().take_while(|_| !xtask::process::ending()) {
        let reference = &references[&pair.scenario];
        sandbox.sandbox.mutate(number);
        // A violation is expected: with short limits, each one would need a repetition.
        let violations = sandbox.check_patiently(pair, reference)?.violations;
        sandbox.sandbox.mutate(0);
        let Some(violation) = violations.into_iter().next() else { continue };
        if sandbox.check_again(pair, reference)?.is_clean() {
            return Ok(Some(format!("{pair}: {}", violation.claim)));
        }
    }
    Ok(None)
}

/// Hard-links the compiled dependencies in the target folder `from` into `to`. Skips the packages of xtask, and files that go
/// meanwhile: another suite may compile there.
fn lend(from: &Utf8Path, to: &Utf8Path) -> Result<()> {
    for part in ["build", "deps", ".fingerprint"] {
        let ours = |entry: &walkdir::DirEntry| entry.file_name().to_string_lossy().contains("xtask");
        for entry in walkdir::WalkDir::new(from.join(part)).into_iter().filter_entry(|entry| !ours(entry)) {
            let is_gone = |error: &walkdir::Error| error.io_error().is_some_and(|io| io.kind() == ErrorKind::NotFound);
            let entry = match entry {
                Err(error) if is_gone(&error) => continue,
                entry => entry?,
            };
            let dest = to.as_std_path().join(entry.path().strip_prefix(from)?);
            if entry.file_type().is_dir() {
                std::fs::create_dir_all(dest)?;
            } else if entry.file_type().is_file() {
                match std::fs::hard_link(entry.path(), dest) {
                    Err(error) if ![ErrorKind::NotFound, ErrorKind::AlreadyExists].contains(&error.kind()) => {
                        return Err(error.into());
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

/// Copies `from` to `to`, with the texts in `changed` in place of the original files. Does not write equal files, so
/// that cargo does not compile them again.
fn mirror(from: &Utf8Path, to: &Utf8Path, changed: &BTreeMap<Utf8PathBuf, String>) -> Result<()> {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry?;
        let dest = to.as_std_path().join(entry.path().strip_prefix(from)?);
        let dest = if from.is_file() { to.as_std_path().to_owned() } else { dest };
        if entry.file_type().is_dir() {
            std::fs::create_dir_all(dest)?;
            continue;
        }
        let dest = Utf8PathBuf::try_from(dest)?;
        let text =
            changed.get(&dest).map_or_else(|| std::fs::read(entry.path()), |text| Ok(text.clone().into_bytes()))?;
        if std::fs::read(&dest).ok().as_ref() != Some(&text) {
            std::fs::create_dir_all(dest.parent().context("a folder")?)?;
            std::fs::write(dest, text)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mutant_changes_an_expression_that_is_there() {
        let checkout = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        changed_files(&checkout, &all().unwrap()).unwrap();
    }
}
