//! Checks the values: present, no placeholders, accepted by the backend. No message shows any part of a value.

use super::url::{self, PostgresUrl};
use super::{Contract, Database, Entry, Problem};
use crate::failure::Change;
use crate::settings::Keys;

/// The backend refuses a shorter random value: an HS256 key has 32 bytes.
const RANDOM_BYTES: usize = 32;

/// The backend refuses fewer different characters: such a value is not random.
const RANDOM_CHARACTERS: usize = 8;

/// Makes a random value.
const MAKE_RANDOM: &str = "openssl rand -hex 32";

/// Words that no real secret contains.
const PLACEHOLDERS: [&str; 11] = [
    "changeme",
    "change-me",
    "change_me",
    "placeholder",
    "replace-",
    "replace_",
    "replaceme",
    "your-",
    "your_",
    "example",
    "sk-...",
];

/// The result of [`check`].
#[derive(Debug, Default)]
pub struct Checked {
    /// The mistakes.
    pub problems: Vec<Problem>,
    /// The database that the application uses, if known.
    pub database: Option<Database>,
    /// Consequences that are no mistakes.
    pub notes: Vec<String>,
}

/// Checks `entries`; `broken` are keys whose lines were already refused.
pub fn check(entries: &[Entry], broken: &[String], contract: &Contract) -> Checked {
    let mut checked = Checked::default();
    let set = |key: &str| entries.iter().find(|entry| entry.key == key && !entry.value.is_empty());
    let is_broken = |key: &str| broken.iter().any(|name| name == key);
    let Keys { postgres_url, postgres_direct_url, openai_key, .. } = &contract.kinds;
    for key in &contract.required {
        let serves_itself = key == postgres_url && contract.embedded;
        if set(key).is_none() && !is_broken(key) && !serves_itself {
            let line = entries.iter().find(|entry| entry.key == *key).map(|entry| entry.line);
            checked.problems.push(missing(key, line, contract));
        }
    }
    let mut host = None;
    for entry in entries.iter().filter(|entry| !entry.value.is_empty()) {
        match value(entry, contract) {
            Err((text, change)) => {
                checked.problems.push(Problem::of_key(entry.line, format!("{} {text}", entry.key), &entry.key, change));
            }
            Ok(Some(url)) if entry.key == *postgres_url => host = Some(url.host),
            Ok(Some(url)) if url.host.contains("-pooler.") => checked
                .notes
                .push(format!("{postgres_direct_url} names a pooled host (-pooler): migrations gain nothing from it")),
            Ok(_) => {}
        }
    }
    match (host, set(postgres_url), is_broken(postgres_url)) {
        (Some(host), _, _) => checked.database = Some(Database::Remote(host)),
        (None, None, false) if contract.embedded => {
            checked.database = Some(Database::Embedded);
            if let Some(entry) = set(postgres_direct_url) {
                checked.problems.push(Problem::new(
                    entry.line,
                    format!(
                        "{postgres_direct_url} is set without {postgres_url}: migrations would go to another database"
                    ),
                    format!("set {postgres_url} too, or {}", entry.removal()),
                ));
            }
        }
        _ => {}
    }
    if set(openai_key).is_none() && !is_broken(openai_key) {
        checked.notes.push(format!("no {openai_key}: the assistant is off"));
    }
    checked
}

fn missing(key: &str, entry: Option<Option<usize>>, contract: &Contract) -> Problem {
    let state = if entry.is_some() { "is empty" } else { "is missing" };
    let line = entry.flatten();
    let text = format!("{key} {state}");
    match key {
        _ if key == contract.kinds.random => Problem::of_key(line, text, key, Change::SetPrinted(MAKE_RANDOM)),
        _ if key == contract.kinds.postgres_url => {
            let what = format!(
                "the connection string that Neon shows, or set {} to true in {}",
                contract.embedded_key, contract.values
            );
            let text = format!("{text}, and {} has no database of its own", contract.values);
            Problem::of_key(line, text, key, Change::SetDescribed(what))
        }
        _ => Problem::of_key(line, text, key, Change::SetDescribed("its value; the chart requires it".to_owned())),
    }
}

type Verdict = Result<Option<PostgresUrl>, (String, Change)>;

fn value(entry: &Entry, contract: &Contract) -> Verdict {
    let (key, text) = (entry.key.as_str(), entry.value.expose());
    if text.chars().any(char::is_control) {
        return refuse("has a line break or another control character", "one line in single quotes");
    }
    if text.trim() != text {
        return refuse("begins or ends with a space", "its value without the space inside the quotes");
    }
    let is_openai_key = key == contract.kinds.openai_key;
    match key {
        _ if contract.kinds.is_postgres_url(key) => url::parse(text).map(Some).map_err(|fault| fault.describe()),
        _ if key == contract.kinds.random => random(text),
        // A compatible API takes what its operator says: `ollama`, `none`.
        _ if is_openai_key && !contract.asks_openai() => Ok(None),
        _ if is_openai_key && (is_placeholder(text) || text.len() < 16 || text.contains(' ')) => refuse(
            "is a placeholder, no key",
            format!("a key from platform.openai.com, or {}: the assistant is off then", entry.removal()),
        ),
        _ if is_placeholder(text) => refuse("is a placeholder", "its real value"),
        _ => Ok(None),
    }
}

/// Checks the backend's own rules before anything is deployed; the backend would refuse to start.
fn random(text: &str) -> Verdict {
    let bad = |text: &str| Err((text.to_owned(), Change::SetPrinted(MAKE_RANDOM)));
    let mut characters: Vec<char> = text.chars().collect();
    characters.sort_unstable();
    characters.dedup();
    if is_placeholder(text) {
        bad("is a placeholder")
    } else if text.len() < RANDOM_BYTES {
        bad(&format!("is shorter than {RANDOM_BYTES} bytes"))
    } else if characters.len() < RANDOM_CHARACTERS {
        bad(&format!("has fewer than {RANDOM_CHARACTERS} different characters"))
    } else {
        Ok(None)
    }
}

/// Returns the error `text`, with the hint that the user sets the value that `what` describes.
fn refuse(text: &str, what: impl Into<String>) -> Verdict {
    Err((text.to_owned(), Change::SetDescribed(what.into())))
}

/// Returns whether `text` is a placeholder.
fn is_placeholder(text: &str) -> bool {
    let lower = text.to_lowercase();
    let marks = lower.trim_start_matches("sk-").chars().all(|c| "x*.-_ ".contains(c));
    let bracketed =
        (lower.starts_with('<') && lower.ends_with('>')) || (lower.starts_with('[') && lower.ends_with(']'));
    let bare = ["secret", "password", "todo", "none", "null", "test", "key"].contains(&lower.as_str());
    marks || bracketed || bare || lower.contains("...") || PLACEHOLDERS.iter().any(|word| lower.contains(word))
}
