//! `cargo xtask tidy`: checks for mistakes that no compiler and no linter finds, because two files disagree or because
//! they are in prose.

mod checkout;
mod documents;
mod generated;
mod keys;
mod layers;
mod licences;
mod rules;
mod texts;

#[cfg(test)]
mod tests;

use anyhow::{Context, Result};
use xtask::commands::output;
use xtask::commands::tidy::Tidy;
use xtask::failure::{Class, Failure};
use xtask::project::Project;
use xtask::{deadlines, members};

use checkout::{Checkout, Mistake};
use rules::Rules;

fn main() {
    xtask::program::main(|cli, report| match cli.tidy() {
        Some(args) => run(&cli.open(report)?, args).map(|()| 0),
        None => Err(Failure::new(Class::Internal, "xtask-tidy runs `tidy` only").help("cargo xtask tidy").into()),
    })
}

/// Runs all checks; each mistake is a line on standard output.
fn run(project: &Project, args: &Tidy) -> Result<()> {
    let mut failed: Vec<&str> = Vec::new();
    let format: &[&str] = if args.fix { &["fmt", "--all"] } else { &["fmt", "--all", "--check"] };
    let pins: &[&str] = &["test", "--locked", "--package=xtask", "--lib", "pins::"];
    for (name, why, command) in
        [("cargo fmt", "the format of Rust", format), ("pins", "every version stands once: their tests", pins)]
    {
        let running = project.report.step("tidy", name, why);
        let cargo = members::cargo().args(command.iter().copied()).cwd(&project.root).deadline(deadlines::CARGO);
        project.report.command(&cargo);
        match cargo.run() {
            Ok(()) => running.done(""),
            Err(error) => {
                drop(running);
                project.report.error(&error);
                failed.push(name);
            }
        }
    }
    let mut checkout = Checkout::read(&project.root)?;
    let mut mistakes = examine(&checkout)?;
    if args.fix {
        // One repair may need another one.
        while mend(&checkout, &mistakes)? > 0 {
            checkout = Checkout::read(&project.root)?;
            mistakes = examine(&checkout)?;
        }
    }
    for mistake in &mistakes {
        output::print(&mistake.to_string())?;
    }
    if mistakes.is_empty() && failed.is_empty() {
        project.report.ok(format!("{} files are tidy", checkout.files.len()));
        return Ok(());
    }
    Err(failure(&mistakes, checkout.files.len(), &failed, args.fix).into())
}

/// Returns the failure with the number of mistakes above, and the next step.
fn failure(mistakes: &[Mistake], files: usize, failed: &[&str], fixed: bool) -> Failure {
    let mut what = format!("{} mistakes in {files} files", mistakes.len());
    if !failed.is_empty() {
        what = format!("{what}; failed: {}", failed.join(", "));
    }
    let mut failure = Failure::new(Class::Check, what);
    let is_fixable = mistakes.iter().any(|mistake| mistake.mended.is_some()) || failed.contains(&"cargo fmt");
    if is_fixable && !fixed {
        failure = failure.help("mend white space, formats and generated files: cargo xtask tidy --fix");
    }
    failure.help("each line above says what to edit; then look again: cargo xtask tidy")
}

/// Runs the checks that read files.
fn examine(checkout: &Checkout) -> Result<Vec<Mistake>> {
    let rules = Rules::read(checkout)?;
    let mut mistakes = documents::check(checkout);
    mistakes.extend(keys::check(checkout)?);
    mistakes.extend(keys::documented(checkout)?);
    mistakes.extend(generated::chart(checkout)?);
    mistakes.extend(generated::openapi(checkout)?);
    mistakes.extend(layers::check(checkout)?);
    mistakes.extend(texts::white_space(checkout));
    mistakes.extend(texts::sizes(checkout, &rules.sizes));
    mistakes.extend(texts::phrases(checkout, &rules));
    mistakes.extend(texts::hosts(checkout, &rules.registries, &texts::own_mirrors(&rules.registries)));
    mistakes.extend(licences::crates(&licences::metadata(checkout)?, &rules.licences));
    mistakes.extend(licences::npm(checkout, &rules.licences)?);
    Ok(mistakes)
}

/// Writes what the checks would have, at most once a file. Returns the number of files.
fn mend(checkout: &Checkout, mistakes: &[Mistake]) -> Result<usize> {
    let mut files = std::collections::BTreeMap::new();
    for Mistake { file, mended, .. } in mistakes {
        if let Some(mended) = mended {
            files.entry(file).or_insert(mended);
        }
    }
    for (file, mended) in &files {
        std::fs::write(checkout.root.join(file.as_str()), mended).with_context(|| format!("writing {file}"))?;
    }
    Ok(files.len())
}
