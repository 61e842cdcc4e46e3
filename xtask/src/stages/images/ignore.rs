//! Reads `.dockerignore` as Docker does (moby's patternmatcher, buildx's walk). Unlike `.gitignore`, patterns are rooted at
//! the context, `*` stops at `/`, and the last matching pattern wins.

use anyhow::Result;
use regex_lite::Regex;

use crate::failure::{Class, Failure};

/// The patterns of one `.dockerignore`.
#[derive(Debug, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    exception: bool,
    text: String,
    regex: Regex,
}

/// The patterns that matched a path. The walk passes a folder's matches on to its entries: a pattern that matched a folder
/// matches everything below it.
#[derive(Clone, Debug, Default)]
pub struct Matches {
    matched: Vec<bool>,
    /// Whether the path is excluded.
    pub excluded: bool,
}

impl Ignore {
    /// Parses `text`. Errors name the file `name`.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let mut patterns = Vec::new();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let invalid = |why: &str| {
                Failure::new(Class::Config, format!("{name}:{}: {why}: `{}`", index + 1, line.trim()))
                    .help(format!("edit {name}; its patterns follow Docker's rules, not those of .gitignore"))
            };
            // `#` starts a comment only in the first column.
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let (exception, text) = match line.trim().strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line.trim()),
            };
            if text.is_empty() {
                return Err(invalid("an exception needs a pattern").into());
            }
            let text = clean(text);
            let regex = Regex::new(&translate(&text)).map_err(|_| invalid("not a valid pattern"))?;
            patterns.push(Pattern { exception, text, regex });
        }
        Ok(Self { patterns })
    }

    /// Matches `path` (relative to the context, with `/`), whose folder has the matches `parent`.
    ///
    /// Follows buildx exactly, including its shortcut: a pattern that could not change the result is not tried. It then
    /// does not count as a match for the entries below either.
    pub fn judge(&self, path: &str, parent: &Matches) -> Matches {
        let mut result = Matches { matched: vec![false; self.patterns.len()], excluded: false };
        for (index, pattern) in self.patterns.iter().enumerate() {
            let inherited = parent.matched.get(index).copied().unwrap_or(false);
            if !inherited && pattern.exception != result.excluded {
                continue;
            }
            let matched = inherited || pattern.regex.is_match(path);
            result.matched[index] = matched;
            if matched {
                result.excluded = !pattern.exception;
            }
        }
        result
    }

    /// Returns whether an exception could match below the excluded `folder`, so that the walk must enter it.
    pub fn may_return_below(&self, folder: &str) -> bool {
        self.patterns.iter().filter(|pattern| pattern.exception).any(|pattern| pattern.reaches_below(folder))
    }
}

impl Pattern {
    fn reaches_below(&self, folder: &str) -> bool {
        let mut wanted = self.text.split('/');
        for have in folder.split('/') {
            let Some(want) = wanted.next() else { return false };
            // These can match a `/`, so a comparison by segments ends here.
            if want.contains("**") || want.contains(['[', '\\']) {
                return true;
            }
            if !Regex::new(&translate(want)).is_ok_and(|regex| regex.is_match(have)) {
                return false;
            }
        }
        wanted.next().is_some()
    }
}

/// Cleans a pattern like Go's `filepath.Clean` and drops the leading slash: `./a//b/../c/` becomes `a/c`.
fn clean(pattern: &str) -> String {
    let rooted = pattern.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            _ => parts.push(part),
        }
    }
    match (parts.is_empty(), rooted) {
        (true, true) => "/".into(),
        (true, false) => ".".into(),
        _ => parts.join("/"),
    }
}

/// moby's kind of comparison for a pattern. The last special character decides.
#[derive(PartialEq)]
enum PatternKind {
    Exact,
    /// `foo/**` alone.
    Prefix,
    /// `**/foo` alone. Unlike by the general rule, `**foo` also matches `barfoo`.
    Suffix,
    General,
}

/// Returns the regular expression for a pattern, like moby's patternmatcher.
fn translate(pattern: &str) -> String {
    let mut regex = String::new();
    let mut kind = PatternKind::Exact;
    let mut chars = pattern.chars().peekable();
    let mut first = true;
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                if chars.peek().is_some() {
                    regex.push_str("(.*/)?");
                    kind = PatternKind::General;
                } else {
                    regex.push_str(".*");
                    kind = if kind == PatternKind::Exact { PatternKind::Prefix } else { PatternKind::General };
                }
                if first {
                    kind = PatternKind::Suffix;
                }
            }
            '*' => {
                regex.push_str("[^/]*");
                kind = PatternKind::General;
            }
            '?' => {
                regex.push_str("[^/]");
                kind = PatternKind::General;
            }
            '\\' => {
                regex.push_str(&regex_lite::escape(&chars.next().unwrap_or('\\').to_string()));
                kind = PatternKind::General;
            }
            '[' | ']' => {
                regex.push(c);
                kind = PatternKind::General;
            }
            // Special within brackets. Moby does not escape them elsewhere.
            '^' | '-' => regex.push(c),
            _ => regex.push_str(&regex_lite::escape(c.encode_utf8(&mut [0; 4]))),
        }
        first = false;
    }
    let regex = match kind {
        PatternKind::Exact => regex_lite::escape(pattern),
        PatternKind::Prefix => format!("{}.*", regex_lite::escape(&pattern[..pattern.len() - 2])),
        PatternKind::Suffix => match pattern[2..].strip_prefix('/') {
            Some(rest) => format!("(.*/)?{}", regex_lite::escape(rest)),
            None => format!(".*{}", regex_lite::escape(&pattern[2..])),
        },
        PatternKind::General => regex,
    };
    format!("(?s)^{regex}$")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Matches `path` from the context's root downwards, as the walk does.
    fn excluded(patterns: &str, path: &str) -> bool {
        let ignore = Ignore::parse(patterns, ".dockerignore").unwrap();
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.fold(Matches::default(), |parent, end| ignore.judge(&path[..end], &parent)).excluded
    }

    #[test]
    fn matches_patterns_like_docker() {
        // Checked against `docker buildx build` of 26.1 with the same patterns and paths.
        let table: &[(&str, &[&str], &[&str])] = &[
            ("node_modules", &["node_modules", "node_modules/a/b"], &["x/node_modules", "node_modules2"]),
            ("**/node_modules", &["node_modules/a", "x/y/node_modules"], &["xnode_modules"]),
            ("/foo/", &["foo", "foo/a"], &["x/foo"]),
            ("./a//b/../c/", &["a/c"], &["a/b", "a"]),
            ("*.pyc", &["a.pyc"], &["x/a.pyc", "apyc"]),
            ("**/*.pyc", &["a.pyc", "x/y/a.pyc"], &["a.py"]),
            ("*/temp*", &["x/temp1", "x/temporary/a"], &["temp1", "x/y/temp1"]),
            ("temp?", &["tempa"], &["temp", "temp/"]),
            ("foo/**", &["foo/a", "foo/a/b"], &["foo", "foobar"]),
            ("**", &["a", "a/b"], &[]),
            ("**foo", &["foo", "barfoo", "x/barfoo"], &["foobar"]),
            ("a**", &["a", "abc", "ab/c"], &["ba"]),
            ("a/**/z", &["a/z", "a/b/c/z"], &["a/bz", "z"]),
            ("*\n!keep", &["a", "a/keep"], &["keep", "keep/x"]),
            ("a\n!a/b", &["a", "a/c"], &["a/b", "a/b/c"]),
            ("!a/b\na", &["a/b"], &[]),
            ("*.md\n!README*.md\nREADME-secret.md", &["x.md", "README-secret.md"], &["README.md", "README-x.md"]),
            ("# comment\n\n  \n #no\r\n", &["#no"], &["# comment"]),
            ("\u{feff}bom", &["bom"], &[]),
            ("[a-c].txt\n[^x]y", &["b.txt", "zy"], &["d.txt", "xy"]),
            (r"a\*b", &["a*b"], &["axb"]),
            ("a.b+(c)", &["a.b+(c)"], &["axb+(c)"]),
            ("ignored/ spaced ", &["ignored/ spaced"], &["ignored"]),
            ("..\n../x\n.\n/", &[], &["x", "a"]),
            // The shortcut: the second `a` is not tried on the folder, so it does not match the excepted file either.
            ("a\n!a/b\na", &["a", "a/c"], &["a/b"]),
        ];
        for (patterns, out, kept) in table {
            out.iter().for_each(|path| assert!(excluded(patterns, path), "{patterns:?} leaves {path} out"));
            kept.iter().for_each(|path| assert!(!excluded(patterns, path), "{patterns:?} keeps {path}"));
        }
    }

    #[test]
    fn enters_only_folders_that_an_exception_may_match() {
        let table = [
            ("node_modules\n!keep", "node_modules", false),
            ("node_modules\n!node_modules/x/y", "node_modules", true),
            ("node_modules\n!node_modules/x/y", "node_modules/x", true),
            ("node_modules\n!node_modules/x/y", "node_modules/z", false),
            ("node_modules\n!node_modules/*/y", "node_modules/z", true),
            ("node_modules\n!node_modules", "node_modules", false),
            ("node_modules\n!**/y", "node_modules", true),
            ("node_modules\n!*.md", "node_modules", false),
        ];
        for (patterns, folder, walked) in table {
            let ignore = Ignore::parse(patterns, "x").unwrap();
            assert_eq!(ignore.may_return_below(folder), walked, "{patterns:?} {folder}");
        }
    }

    #[test]
    fn names_the_line_of_an_invalid_pattern() {
        let error = |text: &str| Ignore::parse(text, "a/.dockerignore").unwrap_err().to_string();
        assert_eq!(error("x\n !\n"), "a/.dockerignore:2: an exception needs a pattern: `!`");
        assert_eq!(error("[z-a]"), "a/.dockerignore:1: not a valid pattern: `[z-a]`");
    }
}
