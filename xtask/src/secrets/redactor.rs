//! Removes secrets from text of other programs: logs of pods, output of tools, saved evidence.

use std::borrow::Cow;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use regex_lite::Regex;
use serde_json::Value;

use super::Secret;

/// The text that replaces a secret.
pub const MASK: &str = "***";

/// Shorter values are too likely to be part of innocent words.
const SHORTEST: usize = 6;

/// A quick test that most texts fail, so that no expression is compiled for them; the expression; its replacement.
type Pattern = (fn(&str) -> bool, LazyLock<Regex>, &'static str);

/// Patterns of secrets that are not in `.env` or the cluster: session tokens, passwords in URLs, model API keys.
static PATTERNS: [Pattern; 4] = [
    (
        |text| text.contains("eyJ"),
        LazyLock::new(|| rule(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}")),
        MASK,
    ),
    (
        |text| text.contains("://") && text.contains('@'),
        LazyLock::new(|| rule(r"([a-z][a-z0-9+.-]*://[^ \t\r\n:/@]+:)[^ \t\r\n/@]+@")),
        "$1***@",
    ),
    (
        |text| text.contains('=') && text.contains(['?', '&']),
        LazyLock::new(|| {
            rule(r#"([?&](?i:[a-z_-]*password|passwd|pwd|[a-z_-]*token|api[_-]?key|secret)=)[^&# \t\r\n"'<>]+"#)
        }),
        "$1***",
    ),
    (|text| text.contains("sk-"), LazyLock::new(|| rule(r"(sk-[A-Za-z0-9_-]{2})[A-Za-z0-9_-]{14,}")), "$1***"),
];

fn rule(text: &str) -> Regex {
    Regex::new(text).expect("valid")
}

/// Characters that a URL need not encode.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Replaces secrets, in every form in which they usually appear, by `***`.
#[derive(Clone, Default)]
pub struct Redactor {
    needles: Vec<String>,
}

impl Redactor {
    /// Makes a redactor of `secrets`. The password inside a URL counts as a separate secret.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut needles: Vec<String> =
            secrets.into_iter().flat_map(|secret| parts(secret.expose())).flat_map(|v| forms(&v)).collect();
        needles.retain(|needle| needle.len() >= SHORTEST);
        let mut redactor = Self { needles };
        redactor.sort();
        redactor
    }

    /// Adds the secrets of `other`.
    pub fn extend(&mut self, other: Self) {
        self.needles.extend(other.needles);
        self.sort();
    }

    /// Sorts the longest first, so that no part of a longer secret remains around a mask.
    fn sort(&mut self) {
        self.needles.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        self.needles.dedup();
    }

    /// Returns `text` without secrets: neither the known ones nor what looks like one.
    pub fn redact(&self, text: &str) -> String {
        let text = self.needles.iter().fold(text.to_owned(), |text, needle| {
            if text.contains(needle.as_str()) { text.replace(needle.as_str(), MASK) } else { text }
        });
        PATTERNS.iter().fold(text, |text, (may_match, pattern, to)| {
            // No pattern matches a line end.
            let line = |line| if may_match(line) { pattern.replace_all(line, *to) } else { Cow::Borrowed(line) };
            if may_match(&text) { text.split_inclusive('\n').map(line).collect() } else { text }
        })
    }

    /// Redacts every string in a JSON value, keys included. Its structure stays valid whatever a secret consists of.
    pub fn redact_json(&self, value: Value) -> Value {
        match value {
            Value::String(text) => self.redact(&text).into(),
            Value::Array(items) => items.into_iter().map(|item| self.redact_json(item)).collect(),
            Value::Object(fields) => {
                fields.into_iter().map(|(name, field)| (self.redact(&name), self.redact_json(field))).collect()
            }
            other => other,
        }
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} forms)", self.needles.len())
    }
}

/// Returns the value and, of a URL, its passwords as written and decoded: that of the user, and those among the parameters
/// (libpq takes `?password=` and `&sslpassword=`).
fn parts(value: &str) -> Vec<String> {
    let mut parts = vec![value.to_owned()];
    if let Some((_, rest)) = value.split_once("://") {
        let user = rest.split_once('@').and_then(|(user, _)| user.split_once(':'));
        let parameters = rest.split_once('?').map_or("", |(_, parameters)| parameters).split('&');
        let parameters = parameters.filter_map(|parameter| parameter.split_once('='));
        let passwords = parameters.filter(|(name, _)| name.to_lowercase().ends_with("password"));
        for (_, password) in passwords.chain(user) {
            parts.push(password.to_owned());
            parts.push(percent_decode_str(password).decode_utf8_lossy().into_owned());
        }
    }
    parts.retain(|part| part.len() >= SHORTEST);
    parts
}

/// Returns `value` as written, URL-encoded (either case of hex digits), escaped as in JSON, and in base64 of both alphabets.
fn forms(value: &str) -> Vec<String> {
    let encoded = utf8_percent_encode(value, &RESERVED).to_string();
    let json = serde_json::Value::from(value).to_string();
    let json = json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(value);
    let mut forms = vec![value.to_owned(), lower_hex(&encoded), encoded, json.to_owned()];
    forms.extend([STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].map(|engine| engine.encode(value)));
    forms
}

fn lower_hex(encoded: &str) -> String {
    let mut digits = 0;
    let lower = |c: char| match c {
        '%' => {
            digits = 2;
            c
        }
        _ if digits > 0 => {
            digits -= 1;
            c.to_ascii_lowercase()
        }
        _ => c,
    };
    encoded.chars().map(lower).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value with everything that some encoding changes.
    const VALUE: &str = "not-a-secret/?\"\\ä>";

    fn redactor() -> Redactor {
        let url = format!("postgresql://todo:{}@db/todo", utf8_percent_encode(VALUE, &RESERVED));
        Redactor::new(&[Secret::new(url), Secret::new("short"), Secret::new(VALUE)])
    }

    #[test]
    fn redacts_every_encoding_of_a_secret() {
        let upper = utf8_percent_encode(VALUE, &RESERVED).to_string();
        let json = serde_json::json!({ "a": VALUE }).to_string();
        let cases = [
            (VALUE.to_owned(), "***"),
            (format!("password={upper} for"), "password=*** for"),
            (lower_hex(&upper), "***"),
            (json, r#"{"a":"***"}"#),
            (STANDARD.encode(VALUE), "***"),
            (URL_SAFE_NO_PAD.encode(VALUE), "***"),
            (format!("cannot open postgresql://todo:{upper}@db/todo: gone"), "cannot open ***: gone"),
            (format!("postgresql://todo:{upper}@other/"), "postgresql://todo:***@other/"),
        ];
        for (text, expected) in cases {
            assert_eq!(redactor().redact(&text), expected);
        }
    }

    #[test]
    fn removes_passwords_from_the_parameters_of_urls() {
        let url = "postgresql://db/todo?user=todo&password=not-a%2Dsecret-word&sslmode=require";
        let redactor = Redactor::new(&[Secret::new(url)]);
        assert_eq!(redactor.redact("refused not-a-secret-word, not-a%2Dsecret-word"), "refused ***, ***");
        let unknown = "GET https://db/x?a=1&sslpassword=not-a-secret&b=2 and ?access_token=not-a-secret#c";
        let redacted = "GET https://db/x?a=1&sslpassword=***&b=2 and ?access_token=***#c";
        assert_eq!(Redactor::default().redact(unknown), redacted);
    }

    #[test]
    fn keeps_json_valid_whatever_a_secret_consists_of() {
        let redactor = Redactor::new(&[Secret::new(r#""message":"#), Secret::new("not-a-secret\\")]);
        let value = serde_json::json!({"message": ["not-a-secret\\ x", 7], "not-a-secret\\": null});
        let expected = serde_json::json!({"message": ["*** x", 7], "***": null});
        assert_eq!(redactor.redact_json(value), expected);
    }

    #[test]
    fn keeps_text_without_secrets() {
        let text = "a short line, häppy % 100%";
        assert_eq!(redactor().redact(text), text);
        assert_eq!(Redactor::default().redact(text), text);
        assert_eq!(Redactor::new(&[Secret::new("")]).redact(text), text);
    }

    #[test]
    fn redacts_the_longest_secret_first() {
        let redactor = Redactor::new(&[Secret::new("not-a-secret"), Secret::new("not-a-secret-at-all")]);
        assert_eq!(redactor.redact("x not-a-secret-at-all y not-a-secret z"), "x *** y *** z");
    }
}
