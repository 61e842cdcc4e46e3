//! Checks all texts: white space, sizes, phrases and hosts.

use std::collections::BTreeMap;

use regex::Regex;

use crate::checkout::{Checkout, Mistake};
use crate::rules::{FILE, Registries, Rules, Sizes};

/// Finds white space at the end of a line or of the file, carriage returns, and a last line without a newline. Formatters
/// check the rest.
pub fn white_space(checkout: &Checkout) -> Vec<Mistake> {
    let written = checkout.texts().filter(|(path, _)| !checkout.generated.contains(*path));
    let mistake = |(path, text): (&str, &str)| {
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        let mended = format!("{}\n", lines.join("\n").trim_end());
        let differs = || text.split('\n').zip(mended.split('\n')).take_while(|(old, new)| old == new).count() + 1;
        (!text.is_empty() && text != mended).then(|| {
            Mistake::mended(path, differs(), "white space at the end of a line or of the file", mended.clone())
        })
    };
    written.filter_map(mistake).collect()
}

/// Finds files that are too large to read at once, or for each clone.
pub fn sizes(checkout: &Checkout, limits: &Sizes) -> Vec<Mistake> {
    let kib = |bytes: usize| bytes.div_ceil(1024);
    let mistake = |(path, file): (&String, &crate::checkout::File)| {
        let is_written = file.text.is_some() && !checkout.generated.contains(path);
        let (limit, way) = if is_written {
            (limits.written, "split it; or name it in .gitattributes if a program writes it")
        } else {
            (limits.any, "every clone has it: keep it elsewhere")
        };
        let what = format!("{} KiB, where {} KiB are the limit: {way}", kib(file.size), kib(limit));
        (file.size > limit).then(|| Mistake::new(path, 0, what))
    };
    checkout.files.iter().filter_map(mistake).collect()
}

/// Finds phrases that a reader must read twice. A file that had one before the rule may keep it, but not get another one.
pub fn phrases(checkout: &Checkout, rules: &Rules) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let nothing = BTreeMap::new();
    for (phrase, instead) in &rules.phrases {
        let old = rules.old_phrases.get(phrase).unwrap_or(&nothing);
        let words: Vec<&str> = phrase.split(' ').collect();
        let written = checkout.texts().filter(|(path, _)| !checkout.generated.contains(*path) && *path != FILE);
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (path, text) in written {
            let found = occurrences(&text.to_ascii_lowercase(), &words);
            counts.insert(path, found.len());
            if found.len() > old.get(path).copied().unwrap_or(0) {
                let mistake = |line: &usize| Mistake::new(path, *line, format!("\"{phrase}\": {instead}"));
                mistakes.extend(found.iter().map(mistake));
            }
        }
        for (path, count) in old {
            let now = counts.get(path.as_str()).copied().unwrap_or(0);
            if now < *count {
                let what = format!("{path} has \"{phrase}\" {now} times, no longer {count}: lower the number");
                mistakes.push(Mistake::new(FILE, 0, what));
            }
        }
    }
    mistakes
}

/// Returns the lines on which `words` follow each other in `text`. A line, also one of a comment, may end between two of them.
fn occurrences(text: &str, words: &[&str]) -> Vec<usize> {
    if words.iter().any(|word| !text.contains(word)) {
        return Vec::new();
    }
    let markers = |c: char| c.is_ascii_whitespace() || matches!(c, '/' | '!' | '#' | '*');
    let is_letter = |c: char| c.is_ascii_alphabetic();
    let follows = |at: &usize| {
        let mut rest = &text[*at..];
        let is_all = words.iter().all(|word| match rest.strip_prefix(word) {
            Some(after) if !after.starts_with(is_letter) => {
                rest = after.trim_start_matches(markers);
                true
            }
            _ => false,
        });
        is_all && !text[..*at].ends_with(is_letter)
    };
    let starts = text.match_indices(words[0]).map(|(at, _)| at).filter(follows);
    starts.map(|at| text[..at].matches('\n').count() + 1).collect()
}

/// Finds hosts of packages that others cannot reach. `own` are the mirrors in this machine's settings.
pub fn hosts(checkout: &Checkout, registries: &Registries, own: &[String]) -> Vec<Mistake> {
    // What tools read or write: locks, and settings that name a registry.
    let names_registry =
        Regex::new(r#""resolved": "|^source = "[a-z]+\+|(?:goproxy|gosumdb|index[_-]url|registry|index) *[=:]"#)
            .unwrap();
    let address = Regex::new(r#"://(?:[^/@" ]*@)?([a-z0-9.-]+)"#).unwrap();
    let mut mistakes = Vec::new();
    for (path, text) in checkout.texts().filter(|(path, _)| *path != FILE) {
        // Expressions are slow where nothing is optimised: most lines need none.
        let text = text.to_ascii_lowercase();
        let has_own = own.iter().any(|own| text.contains(own));
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| has_own || line.contains("://")) {
            let mut hosts = address.captures_iter(line).map(|found| found[1].to_owned());
            let is_setting = names_registry.is_match(line);
            let is_foreign = |host: &String| {
                let is_example = host.ends_with(".example") || host.ends_with(".example.org");
                let is_mirror = host.split(['.', '-']).any(|part| registries.mirrors.iter().any(|name| name == part));
                !is_example && (is_mirror || is_setting && !registries.public.contains(host))
            };
            let foreign = own.iter().find(|own| line.contains(*own)).cloned().or_else(|| hosts.find(is_foreign));
            if let Some(host) = foreign {
                let what = format!("{host} is no host that everybody reaches: name the public registry");
                mistakes.push(Mistake::new(path, number, what));
            }
        }
    }
    mistakes
}

/// Returns the hosts of the package mirrors in this machine's settings, none of which belongs in a checkout.
pub fn own_mirrors(registries: &Registries) -> Vec<String> {
    let variables = ["GOPROXY", "PIP_INDEX_URL", "UV_INDEX_URL", "npm_config_registry", "NPM_CONFIG_REGISTRY"];
    let variables = variables.into_iter().filter_map(|name| std::env::var(name).ok());
    let home = std::env::var("HOME").unwrap_or_default();
    let files = ["/etc/pip.conf".to_owned(), format!("{home}/.npmrc"), format!("{home}/.config/pip/pip.conf")];
    let texts = variables.chain(files.iter().filter_map(|file| std::fs::read_to_string(file).ok()));
    let address = Regex::new(r"https?://(?:[^@/ \n]*@)?([A-Za-z0-9.-]+\.[A-Za-z0-9.-]+)").unwrap();
    let hosts: Vec<String> = texts
        .flat_map(|text| address.captures_iter(&text).map(|found| found[1].to_lowercase()).collect::<Vec<_>>())
        .collect();
    hosts.into_iter().filter(|host| !registries.public.contains(host)).collect()
}
