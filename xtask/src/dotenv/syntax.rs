//! Parses `.env` line by line.
//!
//! dotenvy is the parser. But it expands `$`, drops a trailing backslash, lets an unclosed quote swallow the next
//! lines, reports no line numbers, and prints the line in its errors. So this module rejects such lines first.

use super::{Entry, Problem};
use crate::failure::{Change, nearest};
use crate::secrets::Secret;

/// A mistake in a line's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Dollar,
    Unclosed(char),
    Backslash,
    TextAfter,
    Typographic,
}

/// The result of reading a text.
#[derive(Debug, Default)]
pub struct Lines {
    /// The variables that could be read.
    pub entries: Vec<Entry>,
    /// The mistakes.
    pub problems: Vec<Problem>,
    /// Keys of invalid lines, as written or as meant: they are not reported as missing too.
    pub broken: Vec<String>,
}

/// Reads `text`. `keys` are the names that may occur.
pub fn lines(text: &str, keys: &[&str]) -> Lines {
    let mut found = Lines::default();
    let Lines { entries, problems, broken } = &mut found;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let there: Vec<(&str, usize)> =
        text.lines().enumerate().filter_map(|(n, content)| Some((name_of(content)?, n + 1))).collect();
    for (line, content) in text.lines().enumerate().map(|(n, content)| (n + 1, content.trim())) {
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        match entry(line, content, keys, &there) {
            Err((problem, key)) => {
                problems.push(problem);
                broken.extend(key);
            }
            Ok(new) => {
                if let Some(first) = entries.iter().find(|old| old.key == new.key) {
                    let (key, first) = (&new.key, first.line.unwrap_or_default());
                    problems.push(Problem::new(
                        line,
                        format!("{key} is set again, first in line {first}"),
                        format!("remove line {first} or line {line}"),
                    ));
                }
                entries.push(new);
            }
        }
    }
    found
}

/// Returns the name in a line that is no comment.
fn name_of(line: &str) -> Option<&str> {
    let (name, _) = line.trim().split_once('=').filter(|(name, _)| !name.starts_with('#'))?;
    let name = name.trim();
    Some(name.strip_prefix("export ").unwrap_or(name).trim())
}

/// Parses the entry of a line. The error is the mistake with the key, as written or as meant. `there` has the keys of all
/// lines.
fn entry(
    line: usize,
    content: &str,
    keys: &[&str],
    there: &[(&str, usize)],
) -> Result<Entry, (Problem, Option<String>)> {
    let malformed = |text: &str| Problem::new(line, text, format!("write line {line} as NAME=value or NAME='value'"));
    let (Some(name), Some((_, value))) = (name_of(content), content.split_once('=')) else {
        return Err((malformed("there is no = in this line"), None));
    };
    let mut characters = name.chars();
    let begins = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !begins || !characters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        // Not shown: the end of a pasted secret has an = too.
        return Err((malformed("what is before the = is not a variable's name"), None));
    }
    if !keys.contains(&name) {
        return Err(unknown(line, name, keys, there));
    }
    if let Some(fault) = fault(value.trim()) {
        return Err((refuse(line, name, value, fault), Some(name.to_owned())));
    }
    let parsed = dotenvy::from_read_iter(format!("{content}\n").as_bytes()).next();
    match parsed {
        Some(Ok((key, value))) if key == name => Ok(Entry { key, value: Secret::new(value), line: Some(line) }),
        _ => Err((malformed(&format!("{name}=… is malformed")), Some(name.to_owned()))),
    }
}

fn unknown(line: usize, name: &str, keys: &[&str], there: &[(&str, usize)]) -> (Problem, Option<String>) {
    let there_are = keys.join(", ");
    if let Some(meant) = nearest(name, keys.iter().copied()) {
        if let Some((_, other)) = there.iter().find(|(name, _)| *name == meant) {
            // Only a person knows which of the two values is meant.
            let text = format!("{name} is not known; {meant} is, and it is set in line {other}");
            let fix = format!("remove line {line}; or remove line {other} and rename {name} to {meant}");
            return (Problem::new(line, text, fix), Some(meant.to_owned()));
        }
        let text = format!("{name} is not known; {meant} is");
        return (Problem::of_key(Some(line), text, name, Change::Rename(meant.to_owned())), Some(meant.to_owned()));
    }
    // A line of a secret that was pasted over several may look like a name; one of capitals alone hardly does.
    let tame = name.len() <= 40 && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    if tame {
        let text = format!("{name} is not known; known are {there_are}");
        return (Problem::of_key(Some(line), text, name, Change::Remove), None);
    }
    (Problem::new(line, format!("this name is not known; known are {there_are}"), format!("remove line {line}")), None)
}

fn refuse(line: usize, name: &str, value: &str, fault: Fault) -> Problem {
    const QUOTED: &str = "the same value in single quotes";
    let psql = value.trim_start().starts_with("psql ");
    let (text, what) = match fault {
        Fault::TextAfter if psql => ("begins with the command psql".to_owned(), "the URL alone, in single quotes"),
        Fault::Dollar => ("has a $ outside single quotes, which would be replaced by a variable".to_owned(), QUOTED),
        Fault::Unclosed(quote) => {
            (format!("has a {quote} that is not closed in this line"), "the value with both quotes in one line")
        }
        Fault::Backslash => ("ends with a backslash, which would be dropped".to_owned(), QUOTED),
        Fault::TextAfter => ("has text after a space".to_owned(), QUOTED),
        Fault::Typographic => ("has typographic quotes".to_owned(), "the value in straight quotes"),
    };
    Problem::of_key(Some(line), format!("{name}=… {text}"), name, Change::SetDescribed(what.to_owned()))
}

/// Returns the first part of `value` that dotenvy would read differently than its writer meant. Follows dotenvy's states.
fn fault(value: &str) -> Option<Fault> {
    if value.starts_with('#') {
        return None;
    }
    if value.starts_with(['“', '”', '„', '‘', '’']) {
        return Some(Fault::Typographic);
    }
    let mut quote = None;
    let mut escaped = false;
    let mut ended = false;
    for c in value.chars() {
        match (quote, c) {
            _ if ended => match c {
                ' ' | '\t' => {}
                '#' => return None,
                _ => return Some(Fault::TextAfter),
            },
            (Some('\''), '\'') => quote = None,
            (Some('\''), _) => {}
            (_, '$') => return Some(Fault::Dollar),
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (Some(_), '"') => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ' | '\t') => ended = true,
            (None, _) => {}
        }
    }
    match quote {
        Some(quote) => Some(Fault::Unclosed(quote)),
        None => escaped.then_some(Fault::Backslash),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_values_that_dotenvy_reads_as_meant() {
        let cases = [
            ("A=b", "b"),
            ("  export A = b  ", "b"),
            ("A='a $b \\ \"c\" #d' # comment with $x", "a $b \\ \"c\" #d"),
            ("A=\"a b\"", "a b"),
            ("A=b#c", "b#c"),
            ("A=b # it's $5", "b"),
            ("A=", ""),
            ("A=   # nothing", ""),
            ("A=a\\ b", "a b"),
            ("A='it'\\''s'", "it's"),
            ("A=ends==", "ends=="),
        ];
        for (line, expected) in cases {
            let Lines { entries, problems, .. } = lines(line, &["A"]);
            assert_eq!(problems, [], "{line}");
            assert_eq!(entries[0].value.expose(), expected, "{line}");
        }
    }

    #[test]
    fn ignores_a_bom_crlf_and_a_missing_last_newline() {
        let Lines { entries, problems, .. } = lines("\u{feff}A=1\r\n# x\r\n\r\nB=2 ", &["A", "B"]);
        assert_eq!(problems, []);
        let seen: Vec<_> = entries.iter().map(|e| (e.key.as_str(), e.value.expose(), e.line.unwrap())).collect();
        assert_eq!(seen, [("A", "1", 1), ("B", "2", 4)]);
    }

    #[test]
    fn a_wrong_name_beside_the_right_one_is_not_renamed() {
        let fixes = |text: &str| {
            let Lines { problems, .. } = lines(text, &["DATABASE_URL", "AUTH_SECRET"]);
            problems.iter().map(|problem| problem.fix.text().to_owned()).collect::<Vec<_>>()
        };
        let beside = "remove line 1; or remove line 3 and rename DATABASE_URl to DATABASE_URL";
        assert_eq!(fixes("DATABASE_URl=a\n# DATABASE_URL=b\nexport DATABASE_URL = c\n"), [beside]);
        assert_eq!(fixes("DATABASE_URl=a\n# DATABASE_URL=b\n"), ["rename DATABASE_URl to DATABASE_URL"]);
    }

    #[test]
    fn finds_each_fault() {
        let cases = [
            ("a$b", Fault::Dollar),
            ("\"a$b\"", Fault::Dollar),
            ("a\\$b", Fault::Dollar),
            ("'a'$b", Fault::Dollar),
            ("'abc", Fault::Unclosed('\'')),
            ("\"abc\\\"", Fault::Unclosed('"')),
            ("abc\\", Fault::Backslash),
            ("a b", Fault::TextAfter),
            ("'a' b", Fault::TextAfter),
            ("“a”", Fault::Typographic),
        ];
        for (value, expected) in cases {
            assert_eq!(fault(value), Some(expected), "{value}");
        }
    }
}
