//! `.env`: parses it with dotenvy and checks it against the chart's requirements. Its values never become environment
//! variables of xtask.
//!
//! One run reports every problem with its line but without any value, because a value may be a secret in the wrong
//! place.

mod contract;
mod create;
mod file;
mod syntax;
mod url;
mod values;

use std::os::unix::fs::FileTypeExt;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;

use crate::failure::{Change, Class, Failure, Hint};
use crate::files;
use crate::secrets::{Redactor, Secret};
use crate::settings::Settings;

pub use contract::Contract;
pub use url::split as split_url;

/// Where the values of `.env` come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SecretsSource {
    /// `.env`; a named pipe is read once
    #[default]
    File,
    /// The environment: `op run`, `sops exec-env`
    Env,
    /// Standard input, in the form of `.env`
    Stdin,
}

/// The dotenv file of a checkout, or what replaces it.
#[derive(Clone, Debug)]
pub struct DotenvSource {
    /// Where the values come from.
    pub from: SecretsSource,
    /// The file, normally `.env` in the checkout.
    pub path: Utf8PathBuf,
    /// The checkout, which has the example and the chart's values.
    pub root: Utf8PathBuf,
}

/// One variable of `.env`.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: Secret,
    /// Its line, counted from 1; `None`: it is an environment variable.
    pub line: Option<usize>,
}

impl Entry {
    /// Returns how to remove it.
    fn removal(&self) -> String {
        self.line.map_or(format!("unset {}", self.key), |line| format!("remove line {line}"))
    }
}

/// The environment's name in messages, if the values come from it.
const ENVIRONMENT: &str = "environment";

/// The database that the application uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// The chart's own Postgres.
    Embedded,
    /// The database of the URL in `.env`, on this host.
    Remote(String),
}

/// A mistake in `.env`, described without any value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its line; `None`: it is about the whole file.
    pub line: Option<usize>,
    /// The description.
    pub text: String,
    /// The fix; an edit names no file.
    pub fix: Hint,
}

impl Problem {
    fn new(line: impl Into<Option<usize>>, text: impl Into<String>, fix: impl Into<Hint>) -> Self {
        Self { line: line.into(), text: text.into(), fix: fix.into() }
    }

    /// Makes a problem whose fix is a change of `key`.
    fn of_key(line: Option<usize>, text: impl Into<String>, key: &str, change: Change) -> Self {
        Self::new(line, text, Hint::edit(line, key, change))
    }
}

/// A `.env` without problems.
#[derive(Clone, Debug)]
pub struct Dotenv {
    entries: Vec<Entry>,
    /// The database that the application uses.
    pub database: Database,
    /// Consequences for the user to know; they are no mistakes.
    pub notes: Vec<String>,
}

impl Dotenv {
    /// Returns the variables that are set, in the order of the file.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.entries.iter().map(|entry| (entry.key.as_str(), &entry.value))
    }

    /// Returns a redactor of all values and of `more`, such as the embedded database's password.
    pub fn redactor<'a>(&'a self, more: impl IntoIterator<Item = &'a Secret>) -> Redactor {
        Redactor::new(self.entries.iter().map(|entry| &entry.value).chain(more))
    }

    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        let entry = |(n, (key, value)): (usize, &(&str, &str))| Entry {
            key: (*key).to_owned(),
            value: Secret::new(*value),
            line: Some(n + 1),
        };
        let remote = pairs.iter().any(|(key, _)| *key == tests::DATABASE_URL);
        let database = if remote { Database::Remote("db".to_owned()) } else { Database::Embedded };
        Self { entries: pairs.iter().enumerate().map(entry).collect(), database, notes: Vec::new() }
    }
}

/// The content of `.env`, valid or not.
#[derive(Debug, Default)]
pub struct Inspection {
    /// The variables that could be read.
    pub entries: Vec<Entry>,
    /// All mistakes.
    pub problems: Vec<Problem>,
    database: Option<Database>,
    notes: Vec<String>,
}

impl Inspection {
    fn result(self, shown: &str, environment: &str) -> Result<Dotenv> {
        if let Some(failure) = failure(shown, &self.problems) {
            return Err(failure.into());
        }
        let database = self.database.ok_or_else(|| {
            Failure::new(Class::Internal, format!("{shown} names no database for environment `{environment}`"))
        })?;
        Ok(Dotenv { entries: self.entries, database, notes: self.notes })
    }

    /// Returns which database would serve, if known.
    pub fn database(&self) -> Option<&Database> {
        self.database.as_ref()
    }

    /// Returns the problems as one failure, if there are any.
    pub fn failure(&self, source: &DotenvSource) -> Option<Failure> {
        failure(&source.shown(), &self.problems)
    }
}

impl DotenvSource {
    /// Reads and checks the values for an environment of `infra/xtask.toml`; all problems are one [`Failure`].
    pub fn load(&self, contract: &Contract) -> Result<Dotenv> {
        self.inspect(contract)?.result(&self.shown(), &contract.environment)
    }

    /// Reads and checks the values. Fails only if the file cannot be read at all.
    pub fn inspect(&self, contract: &Contract) -> Result<Inspection> {
        if self.from == SecretsSource::Env {
            return Ok(inspect_lines(file::environment(&contract.keys()), contract));
        }
        let mut inspection = inspect_text(&self.text()?, contract);
        if self.from == SecretsSource::File {
            inspection.problems.splice(0..0, file::exposure(&self.path, &self.shown())?);
        }
        Ok(inspection)
    }

    /// Reads the text of the file, or standard input instead.
    fn text(&self) -> Result<String> {
        match self.from {
            SecretsSource::Stdin => file::read_stdin(),
            _ => file::read(&self.path, &self.shown()),
        }
    }

    /// Returns whether the file or its replacement exists, without reading it.
    pub fn is_there(&self) -> Result<bool> {
        Ok(self.from != SecretsSource::File || files::exists(&self.path)?)
    }

    /// Returns whether the values come from a named pipe, which can be read only once.
    pub fn is_pipe(&self) -> bool {
        self.from == SecretsSource::File && is_pipe(&self.path)
    }

    /// Returns all values, valid or not, so that none of them is shown.
    pub fn every_value(&self, settings: &Settings) -> Result<Vec<Secret>> {
        if self.from == SecretsSource::Env {
            let mut keys = Vec::new();
            for environment in settings.environments.keys() {
                keys.extend(Contract::read(settings, &self.root, environment)?.keys().into_iter().map(str::to_owned));
            }
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            return Ok(file::environment(&keys).entries.into_iter().map(|entry| entry.value).collect());
        }
        // An invalid file has values too.
        let text = match self.from {
            SecretsSource::File if !self.is_pipe() => {
                String::from_utf8_lossy(&files::read_bytes(&self.path)?.unwrap_or_default()).into_owned()
            }
            _ => self.text()?,
        };
        Ok(values_in(&text))
    }

    /// Returns the source's name for messages, as short as possible.
    pub fn shown(&self) -> String {
        match self.from {
            SecretsSource::File => self.path.strip_prefix(&self.root).unwrap_or(&self.path).to_string(),
            SecretsSource::Env => ENVIRONMENT.to_owned(),
            SecretsSource::Stdin => file::STDIN.to_owned(),
        }
    }
}

/// Returns whether `path` is a named pipe, which can be read only once.
pub fn is_pipe(path: &Utf8Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.file_type().is_fifo())
}

/// Returns the text after each `=`, with and without quotes.
fn values_in(text: &str) -> Vec<Secret> {
    let values = text.lines().filter_map(|line| line.trim_start().split_once('='));
    let forms = values.filter(|(key, _)| !key.starts_with('#')).flat_map(|(_, value)| {
        let value = value.trim();
        [value.to_owned(), value.trim_matches(['\'', '"']).to_owned()]
    });
    forms.map(Secret::new).collect()
}

/// Checks `text` like [`DotenvSource::inspect`], without reading files.
fn inspect_text(text: &str, contract: &Contract) -> Inspection {
    inspect_lines(syntax::lines(text, &contract.keys()), contract)
}

fn inspect_lines(lines: syntax::Lines, contract: &Contract) -> Inspection {
    let syntax::Lines { entries, mut problems, broken } = lines;
    let checked = values::check(&entries, &broken, contract);
    problems.extend(checked.problems);
    problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    Inspection { entries, problems, database: checked.database, notes: checked.notes }
}

fn failure(shown: &str, problems: &[Problem]) -> Option<Failure> {
    let place = |problem: &Problem| problem.line.map_or(shown.to_owned(), |line| format!("{shown}:{line}"));
    let lines: Vec<String> = problems.iter().map(|p| format!("{}: {}", place(p), p.text)).collect();
    let what = match lines.as_slice() {
        [] => return None,
        [only] => only.clone(),
        many => format!("{} problems in {shown}:\n  {}", many.len(), many.join("\n  ")),
    };
    let is_file = ![ENVIRONMENT, file::STDIN].contains(&shown);
    let mut fixes: Vec<Hint> = Vec::new();
    for problem in problems {
        let fix = if is_file { problem.fix.clone().of_file(shown) } else { problem.fix.clone() };
        if !fixes.contains(&fix) {
            fixes.push(fix);
        }
    }
    Some(fixes.into_iter().fold(Failure::new(Class::Config, what), Failure::help))
}

#[cfg(test)]
pub mod tests;
