//! Errors for users: what failed, hints, and the class that sets the exit code.

mod hint;

use std::fmt;

pub use hint::{Change, Hint, describe_type, name_profile, restore};

/// The class of a failure; each has one exit code, documented in README.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A defect of xtask itself or a failure nothing else describes.
    Internal = 1,
    /// `.env`, `infra/xtask.toml` or the chart is wrong.
    Config = 3,
    /// The machine lacks something: engine, disk, memory, a port, a network.
    Machine = 4,
    /// The cluster cannot be used, or is not the one we may touch.
    Cluster = 5,
    /// An image did not build or load.
    Image = 6,
    /// The release did not become healthy.
    Rollout = 7,
    /// What runs is not what was built, or a route does not answer.
    Proof = 8,
    /// Tests or the secret scan found something.
    Check = 9,
    /// Another xtask is at work here.
    Busy = 10,
    /// The database of `DATABASE_URL` cannot be used.
    Database = 11,
    /// The user interrupted (128 + SIGINT).
    Interrupted = 130,
}

/// An error with its class and the next step.
#[derive(Debug)]
pub struct Failure {
    /// Sets the exit code.
    pub class: Class,
    what: String,
    help: Vec<Hint>,
    reason: Option<anyhow::Error>,
}

impl Failure {
    /// Makes a failure; `what` says what is wrong and where.
    pub fn new(class: Class, what: impl Into<String>) -> Self {
        Self { class, what: what.into(), help: Vec::new(), reason: None }
    }

    /// Adds the command or edit that fixes it.
    pub fn help(mut self, hint: impl Into<Hint>) -> Self {
        self.help.push(hint.into());
        self
    }

    /// Adds the error that it came from. [`messages`] shows it after the failure's own words, without its hints.
    pub fn because(self, reason: anyhow::Error) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// Appends `text` to the message and its reason: what was done about the failure.
    pub fn append(mut self, text: impl AsRef<str>) -> Self {
        if let Some(reason) = self.reason.take() {
            self.what.push_str(&format!(": {reason:#}"));
        }
        self.what.push_str(text.as_ref());
        self
    }

    /// Appends another error, and those of its hints that the failure does not have yet.
    pub fn and(self, other: anyhow::Error) -> Self {
        let hints = other.downcast_ref::<Self>().map(|failure| failure.help.clone()).unwrap_or_default();
        let mut both = self.append(format!("\n{other:#}"));
        both.help.extend(hints);
        let mut seen = std::collections::HashSet::new();
        both.help.retain(|hint| seen.insert(hint.text().to_owned()));
        both
    }

    /// Returns the hints.
    pub fn ways_out(&self) -> &[Hint] {
        &self.help
    }

    /// Returns the lines of the hints.
    pub fn hints(&self) -> Vec<String> {
        self.help.iter().map(|hint| hint.text().to_owned()).collect()
    }

    /// Returns the hints as data; docs/schema has their form.
    pub fn repairs(&self) -> Vec<serde_json::Value> {
        self.help.iter().map(Hint::data).collect()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.reason.as_ref().map(AsRef::as_ref)
    }
}

/// Returns the lines of the message of `error`: what failed, then each cause. The reason of a [`Failure`] is on its line.
pub fn messages(error: &anyhow::Error) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut has_reason = false;
    for link in error.chain() {
        match lines.last_mut().filter(|_| has_reason) {
            Some(line) => line.push_str(&format!(": {link}")),
            None => lines.push(link.to_string()),
        }
        has_reason |= link.downcast_ref::<Failure>().is_some_and(|failure| failure.reason.is_some());
    }
    lines
}

/// Returns the class of the first [`Failure`] in the chain of `error`.
pub fn class_of(error: &anyhow::Error) -> Class {
    error.downcast_ref::<Failure>().map_or(Class::Internal, |f| f.class)
}

/// Returns the valid name nearest to `wrong`, if one is near enough to be meant.
pub fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wrong.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_only_what_is_near() {
        assert_eq!(nearest("DATABSE_URL", ["AUTH_SECRET", "DATABASE_URL"]), Some("DATABASE_URL"));
        assert_eq!(nearest("HOME", ["AUTH_SECRET", "DATABASE_URL"]), None);
    }

    #[test]
    fn class_survives_context() {
        let error = anyhow::Error::new(Failure::new(Class::Config, "bad")).context("while reading");
        assert_eq!(class_of(&error), Class::Config);
    }

    #[test]
    fn the_reason_of_a_failure_stays_in_the_chain() {
        let reason = anyhow::anyhow!("no space left").context("`ctr` failed");
        let failure = Failure::new(Class::Image, "cannot load a").because(reason);
        let error = anyhow::Error::new(failure).context("deploying");
        assert_eq!(messages(&error), ["deploying", "cannot load a: `ctr` failed: no space left"]);
        assert_eq!((error.chain().count(), class_of(&error)), (4, Class::Image));
        assert_eq!(messages(&anyhow::anyhow!("refused").context("asking")), ["asking", "refused"]);
    }

    #[test]
    fn joins_two_failures_without_repeating_hints() {
        let other = Failure::new(Class::Proof, "nobody answers").help("deploy").help("logs");
        let both = Failure::new(Class::Proof, "drift").help("deploy").and(other.into());
        assert_eq!(
            (both.to_string().as_str(), both.hints()),
            ("drift\nnobody answers", vec!["deploy".into(), "logs".into()])
        );
    }
}
