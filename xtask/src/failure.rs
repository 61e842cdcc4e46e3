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
    /// Pods do not run the built images, or a route does not answer.
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
    after: String,
}

impl Failure {
    /// Makes a failure; `what` says what is wrong and where.
    pub fn new(class: Class, what: impl Into<String>) -> Self {
        Self { class, what: what.into(), help: Vec::new(), reason: None, after: String::new() }
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

    /// Adds `text`: what was done about the failure. [`messages`] shows it after the reason.
    pub fn append(mut self, text: impl AsRef<str>) -> Self {
        self.after.push_str(text.as_ref());
        self
    }

    /// Appends another error, and those of its hints that the failure does not have yet.
    pub fn and(self, other: anyhow::Error) -> Self {
        let hints = other.downcast_ref::<Self>().map(|failure| failure.help.clone()).unwrap_or_default();
        let mut both = self.append(format!("\n{}", message(&other)));
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
        write!(f, "{}{}", self.what, self.after)
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
    let (mut has_reason, mut after) = (false, String::new());
    for link in error.chain() {
        let failure = link.downcast_ref::<Failure>();
        let words = failure.map_or_else(|| link.to_string(), |failure| failure.what.clone());
        match lines.last_mut().filter(|_| has_reason) {
            Some(line) => line.push_str(&format!(": {words}")),
            None => lines.push(words),
        }
        has_reason |= failure.is_some_and(|failure| failure.reason.is_some());
        after.push_str(failure.map_or("", |failure| &failure.after));
    }
    lines.last_mut().into_iter().for_each(|line| line.push_str(&after));
    lines
}

/// Returns the message of `error` with its causes as one text, for warnings and saved files.
pub fn message(error: &anyhow::Error) -> String {
    messages(error).join(": ")
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

    #[test]
    fn appended_text_follows_the_reason_and_keeps_the_chain() {
        let reason = anyhow::anyhow!("refused").context("PATCH");
        let failure = Failure::new(Class::Cluster, "not updated").because(reason).append("\n  the old one serves");
        let error = anyhow::Error::new(failure).context("deploying");
        assert_eq!(message(&error), "deploying: not updated: PATCH: refused\n  the old one serves");
        assert_eq!(error.root_cause().to_string(), "refused");
        let alone = Failure::new(Class::Cluster, "not updated").append("; nothing is undone");
        assert_eq!(message(&alone.into()), "not updated; nothing is undone");
    }
}
