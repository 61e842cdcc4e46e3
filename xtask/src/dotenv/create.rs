//! Creates `.env` on the first run.

use std::io::Write;

use anyhow::{Context, Result};
use camino::Utf8Path;

use super::{DotenvSource, SecretsSource};
use crate::failure::{Class, Failure, restore};
use crate::plan::Step;
use crate::secrets::Secret;

/// The documented example in the repository.
pub const EXAMPLE: &str = ".env.example";

impl DotenvSource {
    /// Returns the step that makes `.env` with a value for the key `random`, if it does not exist.
    pub fn ensure<'a>(&'a self, random: &'a str) -> Option<Step<'a>> {
        if self.from != SecretsSource::File {
            return None;
        }
        // A dangling link counts as existing: it is the user's, and reading it reports what is wrong.
        // So does a file whose metadata cannot be read.
        let looked = std::fs::symlink_metadata(&self.path);
        if !looked.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return None;
        }
        let shown = self.shown();
        Some(Step::new(
            format!("make {shown} from {EXAMPLE}"),
            format!("there is none; it gets a random {random} and is for you alone (mode 600)"),
            format!("install -m 600 {EXAMPLE} {shown}  # and {random}=$(openssl rand -hex 32)"),
            move |_| create(&self.root.join(EXAMPLE), &self.path, random),
        ))
    }
}

fn create(example: &Utf8Path, dotenv: &Utf8Path, random: &str) -> Result<String> {
    let text = std::fs::read_to_string(example).map_err(|error| {
        Failure::new(Class::Config, format!("cannot read {EXAMPLE}: {error}")).help(restore(EXAMPLE, &error))
    })?;
    let text = fill(&text, random, &Secret::random(32)?)?;
    let dir = dotenv.parent().context("the dotenv file has no folder")?;
    // Created in the same folder with mode 600 under a name that .gitignore covers, then linked: the link is atomic and
    // never replaces a file that another process has made meanwhile.
    let mut file = tempfile::Builder::new().prefix(".env.").tempfile_in(dir)?;
    file.write_all(text.expose().as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(dotenv) {
        Ok(_) => Ok(format!("with a random {random}")),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok("it exists by now".to_owned()),
        Err(error) => Err(error.error).with_context(|| format!("cannot write {dotenv}")),
    }
}

/// Returns the example with the key `random` filled in.
fn fill(example: &str, random: &str, secret: &Secret) -> Result<Secret> {
    let empty = format!("{random}=");
    let mut filled = false;
    let lines: Vec<String> = example
        .lines()
        .map(|line| {
            if line.trim() == empty && !filled {
                filled = true;
                format!("{empty}{}", secret.expose())
            } else {
                line.to_owned()
            }
        })
        .collect();
    if !filled {
        return Err(Failure::new(Class::Config, format!("{EXAMPLE} has no line `{empty}` to fill in"))
            .help(format!("if your changes may go: git checkout {EXAMPLE}"))
            .into());
    }
    Ok(Secret::new(lines.join("\n") + "\n"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::tests::AUTH_SECRET;
    use super::*;

    const REAL: &str = include_str!("../../../.env.example");

    #[test]
    fn creates_a_private_file_with_a_random_value_and_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        let (example, dotenv) = (root.join(EXAMPLE), root.join(".env"));
        std::fs::write(&example, REAL).unwrap();
        assert_eq!(create(&example, &dotenv, AUTH_SECRET).unwrap(), "with a random AUTH_SECRET");
        assert_eq!(std::fs::metadata(&dotenv).unwrap().permissions().mode() & 0o777, 0o600);
        let first = std::fs::read_to_string(&dotenv).unwrap();
        assert_eq!(create(&example, &dotenv, AUTH_SECRET).unwrap(), "it exists by now");
        assert_eq!(std::fs::read_to_string(&dotenv).unwrap(), first);
        assert_eq!(std::fs::read_dir(root).unwrap().count(), 2, "nothing else is left behind");
    }

    #[test]
    fn an_example_without_the_line_is_refused() {
        let error = fill("A=\n# AUTH_SECRET=\n", AUTH_SECRET, &Secret::new("x")).unwrap_err().to_string();
        assert_eq!(error, ".env.example has no line `AUTH_SECRET=` to fill in");
    }

    #[test]
    fn the_real_example_filled_in_has_no_problem() {
        let text = fill(REAL, AUTH_SECRET, &Secret::random(32).unwrap()).unwrap();
        let inspection = super::super::inspect_text(text.expose(), &super::super::tests::contract(true));
        assert_eq!(inspection.problems, []);
        let keys: Vec<_> = inspection.entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, [AUTH_SECRET], "the rest is commented out");
    }

    #[test]
    fn the_real_example_has_every_variable() {
        for key in super::super::tests::contract(true).keys() {
            assert!(REAL.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key}="))), "{key}");
        }
    }
}
