//! Checks documents: the target of each link, each path and each command must exist.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::LazyLock;

use clap::CommandFactory;
use clap::Parser as _;
use pulldown_cmark::{Event, LinkType, Options, Parser, Tag, TagEnd};
use regex::Regex;
use xtask::cli::Cli;

use crate::checkout::{Checkout, Mistake};

/// Endings of the names of source files. A document may also name files that only exist at run time.
const SOURCES: [&str; 11] = ["md", "mjs", "py", "rs", "sh", "toml", "tpl", "ts", "tsx", "yaml", "yml"];

/// A path, a placeholder in one, and the name of a test. Documents have thousands of code spans.
static PATH: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^[A-Za-z0-9_.@-]+(/[A-Za-z0-9_.@-]+)*/?$").unwrap());
static PLACEHOLDER: LazyLock<Regex> = LazyLock::new(|| Regex::new("[A-Z]{3,}").unwrap());
static NAME: LazyLock<Regex> = LazyLock::new(|| Regex::new("^[a-z0-9]+(_[a-z0-9]+){2,}$").unwrap());

/// Returns dead links of all documents; of those that describe the checkout, also paths and commands that do not exist.
pub fn check(checkout: &Checkout) -> Vec<Mistake> {
    let markdown = || checkout.texts().filter(|(path, _)| path.ends_with(".md"));
    let anchors: BTreeMap<&str, BTreeSet<String>> = markdown().map(|(path, text)| (path, anchors(text))).collect();
    let mut mistakes = Vec::new();
    for (path, text) in markdown() {
        let mut add = |at: usize, what: String| mistakes.push(Mistake::new(path, line_of(text, at), what));
        for (target, at) in links(text) {
            if let Err(what) = follow(checkout, &anchors, path, &target) {
                add(at, what);
            }
        }
    }
    for (path, text) in checkout.documents() {
        for (code, at) in codes(text) {
            let problems = missing_path(checkout, &code).into_iter().chain(missing_name(checkout, &code));
            let problems = problems.chain(wrong_commands(&code));
            mistakes.extend(problems.map(|what| Mistake::new(path, line_of(text, at), what)));
        }
    }
    mistakes
}

fn parse(text: &str) -> impl Iterator<Item = (Event<'_>, Range<usize>)> {
    Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter()
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Returns the targets of links and images, in Markdown and in HTML, each with its place.
fn links(text: &str) -> Vec<(String, usize)> {
    let attribute = Regex::new(r#"(?:src|href)="([^"]*)""#).unwrap();
    let mut links = Vec::new();
    for (event, range) in parse(text) {
        match event {
            Event::Start(Tag::Link { link_type: LinkType::Autolink | LinkType::Email, .. }) => {}
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                links.push((dest_url.to_string(), range.start));
            }
            Event::Html(html) | Event::InlineHtml(html) => {
                links.extend(attribute.captures_iter(&html).map(|found| (found[1].to_owned(), range.start)));
            }
            _ => {}
        }
    }
    // pulldown-cmark takes a reference without a definition for text.
    let definition = Regex::new(r"(?m)^\[[^\]]+\]: (.+)$").unwrap();
    links.extend(definition.captures_iter(text).map(|found| (found[1].to_owned(), found.get(0).unwrap().start())));
    links
}

/// Returns the anchors that GitHub makes of the headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut heading: Option<String> = None;
    for (event, _) in parse(text) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let slug = slug(&heading.take().unwrap_or_default());
                let numbered = (1..).map(|number| format!("{slug}-{number}"));
                let free = std::iter::once(slug.clone()).chain(numbered).find(|slug| !found.contains(slug));
                found.extend(free);
            }
            _ => {}
        }
    }
    found
}

fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Follows a link in the document `from`. Addresses of other hosts are nobody's business here: a test needs no network.
fn follow(
    checkout: &Checkout,
    anchors: &BTreeMap<&str, BTreeSet<String>>,
    from: &str,
    target: &str,
) -> Result<(), String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(());
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file = if path.is_empty() { from.to_owned() } else { beside(from, path) };
    if !checkout.has(&file) {
        return Err(format!("the link to `{target}` is dead: there is no {file}"));
    }
    match (anchor, anchors.get(file.as_str())) {
        (Some(anchor), Some(known)) if !known.contains(anchor) => {
            Err(format!("the link to `{target}` is dead: {file} has no such heading"))
        }
        _ => Ok(()),
    }
}

/// Returns the path in the checkout of `target`, which the document `from` names.
fn beside(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Returns the code spans and the lines of code blocks, each with its position.
fn codes(text: &str) -> Vec<(String, usize)> {
    let mut codes = Vec::new();
    let mut is_block = false;
    for (event, range) in parse(text) {
        match event {
            Event::Start(Tag::CodeBlock(_)) => is_block = true,
            Event::End(TagEnd::CodeBlock) => is_block = false,
            // The parser gives a block in one or more pieces.
            Event::Text(block) if is_block => {
                let mut at = range.start;
                for line in block.lines() {
                    codes.push((line.to_owned(), at));
                    at += line.len() + 1;
                }
            }
            Event::Code(code) => codes.push((code.to_string(), range.start)),
            _ => {}
        }
    }
    codes
}

/// Returns a mistake if the code span looks like a path of the checkout, or the end of one, and no such file exists.
fn missing_path(checkout: &Checkout, code: &str) -> Option<String> {
    let is_path = PATH.is_match(code);
    let path = code.trim_end_matches('/');
    let begins_at_the_root = path.split_once('/').is_some_and(|(first, _)| checkout.has(first) && first != "target");
    let is_source = path.rsplit_once('.').is_some_and(|(name, ending)| !name.is_empty() && SOURCES.contains(&ending));
    let is_named = || {
        let end = format!("/{path}");
        let folder = format!("/{path}/");
        checkout.files.keys().any(|file| format!("/{file}").ends_with(&end) || format!("/{file}").contains(&folder))
    };
    // `values-ENVIRONMENT.yaml` stands for many.
    let is_placeholder = PLACEHOLDER.is_match(path) && !path.ends_with(".md");
    let is_missing = is_path && !is_placeholder && (begins_at_the_root || is_source) && !is_named();
    is_missing.then(|| format!("there is no file `{code}`"))
}

/// Returns a mistake if the code span looks like the name of a test (`three_words_long`) and no source file has it.
fn missing_name(checkout: &Checkout, code: &str) -> Option<String> {
    let is_name = NAME.is_match(code);
    let is_known = || checkout.texts().any(|(path, text)| !path.ends_with(".md") && text.contains(code));
    (is_name && !is_known()).then(|| format!("no source file has `{code}`"))
}

/// Returns xtask's errors about the commands in `code`. Skips commands with a placeholder, which are incomplete.
fn wrong_commands(code: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    // Words of a shell before a command; after others it is a part of a sentence.
    let is_begin = |before: &str| {
        let last = before.split_whitespace().next_back().unwrap_or("$");
        ["$", "|", "--", "&&", "("].contains(&last) || last.contains('=')
    };
    for (at, _) in code.match_indices("cargo xtask ").filter(|(at, _)| is_begin(&code[..*at])) {
        let rest = &code[at + "cargo ".len()..];
        let end = rest.find(['#', ';', '|', '&', '`', '"', '<', '[', '…', '(', '\\']).unwrap_or(rest.len());
        let is_whole = !rest[end..].starts_with(['<', '[', '…', '"', '\\']);
        let words: Vec<&str> = rest[..end].split_whitespace().collect();
        let is_placeholder = |word: &&&str| word.chars().all(|c| c.is_ascii_uppercase()) && word.len() > 1;
        let is_complete = is_whole && words.len() > 1 && !words.iter().any(|word| is_placeholder(&word));
        let unknown_command = || words.get(1).is_some_and(|name| !name.starts_with('-') && !is_command(name));
        if is_complete && let Err(error) = Cli::try_parse_from(&words) {
            if !matches!(error.kind(), clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion) {
                let reason = error.to_string();
                let reason = reason.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
                wrong.push(format!("`cargo {}`: {reason}", words.join(" ")));
            }
        } else if !is_complete && end > "xtask ".len() && unknown_command() {
            wrong.push(format!("`cargo {}`: there is no such command", words.join(" ")));
        }
    }
    wrong
}

fn is_command(name: &str) -> bool {
    Cli::command().find_subcommand(name).is_some() || name.chars().all(|c| c.is_ascii_uppercase())
}
