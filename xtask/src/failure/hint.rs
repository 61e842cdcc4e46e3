//! Hints of a failure: a line for people, and the same as data for scripts (docs/json.md).
//!
//! Each hint is written once. A line has the form `purpose: command   # note`. This module parses the data from it; the
//! command ends at the first two spaces. An edit is the other way round: it is data, and this module makes the line.

use serde_json::{Map, Value, json};

use crate::units::quote;

/// A hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    text: String,
    repair: Box<Repair>,
}

/// A repair that a script can apply.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Repair {
    Edit(Edit),
    /// A command that repairs, and removes nothing of value.
    Run(String),
    /// A command that only shows information.
    Look(String),
    /// A command that needs a person's consent.
    Ask(String),
    /// The failed command again, with these additional arguments, and these environment variables set or unset.
    Again(Vec<String>, Vec<(String, Option<String>)>),
    /// Only the text.
    Tell,
}

/// A change of one key in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Edit {
    /// Relative to the checkout; `None`: the key is in no file.
    file: Option<String>,
    /// Counted from 1; `None`: the key is not there.
    line: Option<usize>,
    key: String,
    change: Change,
}

/// A change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It gets this value, as the file writes it.
    Set(String),
    /// It gets the value that this command prints.
    SetPrinted(&'static str),
    /// It gets a value that only a person knows, described in words.
    SetDescribed(String),
    /// It gets this name.
    Rename(String),
    /// It is removed.
    Remove,
    /// In its value, the second text replaces the first one.
    Replace(String, String),
}

impl Hint {
    /// Makes an edit of `key` in `line`. [`Hint::of_file`] names the file.
    pub fn edit(line: impl Into<Option<usize>>, key: impl Into<String>, change: Change) -> Self {
        Self::from(Edit { file: None, line: line.into(), key: key.into(), change })
    }

    /// Returns the same edit in `file`.
    pub fn of_file(self, file: &str) -> Self {
        match &*self.repair {
            Repair::Edit(edit) => Self::from(Edit { file: Some(file.to_owned()), ..edit.clone() }),
            _ => self,
        }
    }

    /// Returns the line for people.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the hint as data.
    pub fn data(&self) -> Value {
        let mut data = match &*self.repair {
            Repair::Edit(edit) if edit.file.is_some() => edit.data(),
            Repair::Run(command) => json!({"kind": "run", "command": command}),
            Repair::Look(command) => json!({"kind": "look", "command": command}),
            Repair::Ask(command) => json!({"kind": "ask", "command": command}),
            Repair::Again(arguments, environment) => {
                let environment: Map<String, Value> =
                    environment.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
                json!({"kind": "again", "arguments": arguments, "environment": environment})
            }
            Repair::Edit(_) | Repair::Tell => json!({"kind": "tell"}),
        };
        data["text"] = json!(self.text);
        data
    }
}

impl From<Edit> for Hint {
    fn from(edit: Edit) -> Self {
        Self { text: edit.text(), repair: Repair::Edit(edit).into() }
    }
}

impl From<String> for Hint {
    fn from(text: String) -> Self {
        Self { repair: Repair::read(&text).into(), text }
    }
}

impl From<&str> for Hint {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Edit {
    fn text(&self) -> String {
        let Self { file, line, key, change } = self;
        let place = file.as_ref().map(|file| line.map_or(file.clone(), |line| format!("{file}:{line}")));
        let within = place.as_ref().map(|place| format!(" in {place}")).unwrap_or_default();
        match change {
            Change::Set(value) => format!("set {key}{within} to {value}"),
            Change::SetPrinted(command) => format!("set {key}{within} to what this prints: {command}"),
            Change::SetDescribed(what) => format!("set {key}{within} to {what}"),
            Change::Rename(name) => format!("rename {key}{within} to {name}"),
            Change::Remove => place.map_or(format!("unset {key}"), |place| format!("remove {key} from {place}")),
            Change::Replace(old, new) => {
                let place = place.map(|place| format!(", {place}")).unwrap_or_default();
                format!("replace {old} with {new} in {key}{place}")
            }
        }
    }

    fn data(&self) -> Value {
        let (change, value, value_from, old) = match &self.change {
            Change::Set(value) => ("set", Some(value.as_str()), None, None),
            Change::SetPrinted(command) => ("set", None, Some(*command), None),
            Change::SetDescribed(_) => ("set", None, None, None),
            Change::Rename(name) => ("rename", Some(name.as_str()), None, None),
            Change::Remove => ("remove", None, None, None),
            Change::Replace(old, new) => ("replace", Some(new.as_str()), None, Some(old.as_str())),
        };
        let Self { file, line, key, .. } = self;
        json!({"kind": "edit", "file": file, "line": line, "key": key, "change": change, "value": value,
            "value_from": value_from, "old": old})
    }
}

/// Commands of xtask that are about a cluster.
const OF_CLUSTER: [&str; 12] =
    ["bench", "cluster", "db", "deploy", "doctor", "logs", "rollback", "start", "status", "stop", "teardown", "tool"];

/// Adds `--profile` to each command of xtask in `text` that is about a cluster and names no profile: without it, the
/// command would use the profile of the settings.
pub fn name_profile(text: &str, profile: &str) -> String {
    const PROGRAM: &str = "cargo xtask ";
    let mut parts = text.split(PROGRAM);
    let mut named = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        named.push_str(PROGRAM);
        let word = part.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default();
        if OF_CLUSTER.contains(&word) && !part.lines().next().unwrap_or_default().contains("--profile") {
            named.push_str(&format!("--profile {} ", quote(profile)));
        }
        named.push_str(part);
    }
    named
}

/// Programs that hints name.
const PROGRAMS: [&str; 24] = [
    "apt-cache",
    "apt-get",
    "brew",
    "cargo",
    "chmod",
    "chown",
    "colima",
    "docker",
    "echo",
    "git",
    "helm",
    "ip",
    "kill",
    "kubectl",
    "less",
    "ls",
    "minikube",
    "mv",
    "openssl",
    "orb",
    "ps",
    "rm",
    "sops",
    "sudo",
];

/// Beginnings of commands that repair and remove nothing.
const REPAIRS: [&str; 8] = [
    "cargo xtask images",
    "cargo xtask start",
    "cargo xtask tidy --fix",
    "cargo xtask tool kubectl -- uncordon ",
    "cargo xtask tool minikube -- addons enable ",
    "chmod ",
    "echo ",
    "git checkout ",
];

/// Returns the hint that restores a `file` of the checkout after a read `error`. Only a missing file has no changes to
/// lose.
pub fn restore(file: impl AsRef<str>, error: &std::io::Error) -> String {
    let condition = if error.kind() == std::io::ErrorKind::NotFound { "" } else { "if your changes may go: " };
    format!("{condition}git checkout {}", quote(file))
}

/// Beginnings of commands that only show something.
const LOOKS: [&str; 17] = [
    "apt-cache ",
    "cargo xtask config",
    "cargo xtask doctor",
    "cargo xtask logs",
    "cargo xtask pins",
    "cargo xtask status",
    "cargo xtask tidy",
    "docker context ls",
    "docker context show",
    "docker image ls",
    "docker version",
    "git diff ",
    "git status",
    "ip route",
    "less ",
    "ls ",
    "ps ",
];

/// Words after which a pinned tool only shows something.
const TOOL_LOOKS: [&str; 9] = ["describe", "df", "get", "history", "inspect", "lint", "list", "logs", "status"];

/// Begin of a hint to repeat the user's command.
const SAME_COMMAND: &str = "run the same command ";

impl Repair {
    /// Parses `purpose: command   # note`. A line of another form is for people only.
    fn read(line: &str) -> Self {
        let line = line[..masked(line).find("  ").unwrap_or(line.len())].trim();
        if let Some(rest) = line.strip_prefix(SAME_COMMAND) {
            let rest = rest.split(',').next().unwrap_or_default();
            return match rest.strip_prefix("with ") {
                Some(arguments) if arguments.starts_with("--") => Self::again(arguments),
                None if rest.starts_with("again") => Self::Again(Vec::new(), Vec::new()),
                _ => Self::Tell,
            };
        }
        let starts = std::iter::once(0).chain(line.match_indices(": ").map(|(at, found)| at + found.len()));
        let Some(at) = starts.into_iter().find(|at| is_command(&line[*at..])) else { return Self::Tell };
        let (purpose, command) = (line[..at].trim_end_matches(": "), &line[at..]);
        // The first part is for a person, or the command has a gap for a person to fill.
        if [", and", ", then"].iter().any(|end| purpose.ends_with(end)) || has_gap(command) {
            return Self::Tell;
        }
        if command.starts_with("--") {
            return Self::again(command);
        }
        let is_variable = ["unset ", "export "].iter().any(|word| command.starts_with(word));
        if is_variable && (purpose.starts_with("or ") || purpose.contains("if ")) {
            return Self::Ask(command.to_owned());
        }
        if let Some(name) = command.strip_prefix("unset ") {
            return Self::Again(Vec::new(), vec![(name.to_owned(), None)]);
        }
        if let Some((name, value)) = command.strip_prefix("export ").and_then(|rest| rest.split_once('=')) {
            return Self::Again(Vec::new(), vec![(name.to_owned(), Some(value.to_owned()))]);
        }
        let is_tool = command.starts_with("cargo xtask ") && command.contains(" tool ");
        let all_begin = |with: &[&str]| {
            masked(command).split([';', '&']).filter(|part| !part.is_empty()).all(|part| {
                let part = part.trim();
                with.iter().any(|start| part.starts_with(start))
            })
        };
        if all_begin(&REPAIRS) && !purpose.starts_with("if ") {
            Self::Run(command.to_owned())
        } else if all_begin(&LOOKS) || is_tool && command.split(' ').any(|word| TOOL_LOOKS.contains(&word)) {
            Self::Look(command.to_owned())
        } else {
            Self::Ask(command.to_owned())
        }
    }

    fn again(arguments: &str) -> Self {
        Self::Again(arguments.split(' ').map(str::to_owned).collect(), Vec::new())
    }
}

/// Returns whether `text` is a command or a part of one.
fn is_command(text: &str) -> bool {
    let word = text.split(' ').next().unwrap_or_default();
    // A variable that is unset together with another command is more than an environment.
    let is_variable = |rest: &str| !rest.contains([' ', ';', '$', '…']);
    PROGRAMS.contains(&word)
        || word.starts_with("--") && !text.contains([',', '<'])
        || text.strip_prefix("unset ").is_some_and(is_variable)
        || text.strip_prefix("export ").is_some_and(is_variable) && !has_gap(text)
}

/// Returns whether a person must fill something in: `NAME`, `<suite>`, `…`, `/path`.
fn has_gap(command: &str) -> bool {
    let command = masked(command);
    let is_name = |word: &str| word.len() > 2 && word.chars().all(|c| c.is_ascii_uppercase() || c == '^');
    let is_path = |word: &str| word == "/path" || word.starts_with("/path/");
    command.contains(['…', '<']) || command.split([' ', '=']).any(is_path) || command.split(' ').any(is_name)
}

/// Replaces each byte in single quotes by an underscore: quoted text is no part of the line's form. An apostrophe
/// within a word is no quote.
fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let (mut rest, mut before) = (text, ' ');
    while let Some(c) = rest.chars().next() {
        let quoted = (c == '\'' && [' ', '=', '/', '\''].contains(&before)).then(|| rest[1..].find('\'')).flatten();
        let length = quoted.map_or(c.len_utf8(), |end| end + 2);
        match quoted {
            Some(_) => masked.push_str(&"_".repeat(length)),
            None => masked.push(c),
        }
        (before, rest) = (if quoted.is_some() { '\'' } else { c }, &rest[length..]);
    }
    masked
}

/// Describes a value of the type `name`, a name of serde or of JSON schemas.
pub fn describe_type(name: &str) -> Option<&'static str> {
    Some(match name {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number of 0 or more",
        "i32" | "i64" | "integer" => "a whole number",
        "f64" | "number" => "a number",
        "a boolean" | "boolean" => "true or false",
        "a string" | "string" | "path string" => "a string",
        "a sequence" | "array" => "a list",
        "object" => "a mapping: further keys below it",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Value {
        let mut data = Hint::from(line).data();
        data.as_object_mut().unwrap().remove("text");
        data
    }

    #[test]
    fn the_data_of_a_line_is_read_from_it() {
        for (line, kind, command) in [
            ("cargo xtask deploy dev", "ask", "cargo xtask deploy dev"),
            ("see why: cargo xtask status", "look", "cargo xtask status"),
            ("cargo xtask start    (waits for the end of that)", "run", "cargo xtask start"),
            ("chmod 600 .env", "run", "chmod 600 .env"),
            ("chmod 600 '/my  NEW & own/.env'", "run", "chmod 600 '/my  NEW & own/.env'"),
            (r"ls -l '/it'\''s; mine/x'   # look", "look", r"ls -l '/it'\''s; mine/x'"),
            ("see the user's: less /home/me/pathology.log", "look", "less /home/me/pathology.log"),
            ("see what it says: less /c/engine.log", "look", "less /c/engine.log"),
            (
                "cargo xtask tool kubectl -- get pods,events -A",
                "look",
                "cargo xtask tool kubectl -- get pods,events -A",
            ),
            ("uncordon it: cargo xtask tool kubectl -- uncordon xr", "run", "cargo xtask tool kubectl -- uncordon xr"),
            ("if the todos may go: cargo xtask teardown --data", "ask", "cargo xtask teardown --data"),
            ("if it is yours: cargo xtask start", "ask", "cargo xtask start"),
            ("cargo xtask start && cargo xtask teardown", "ask", "cargo xtask start && cargo xtask teardown"),
            ("or give it up: rm /x/state.json", "ask", "rm /x/state.json"),
            (
                "raise it: cargo xtask tool kubectl -- edit resourcequota q",
                "ask",
                "cargo xtask tool kubectl -- edit resourcequota q",
            ),
            (
                "colima stop && colima start --cpu 2   # keeps what is in it",
                "ask",
                "colima stop && colima start --cpu 2",
            ),
        ] {
            assert_eq!(read(line), json!({"kind": kind, "command": command}), "{line}");
        }
        let again = |arguments: &[&str], environment: Value| json!({"kind": "again", "arguments": arguments, "environment": environment});
        for (line, data) in [
            ("run the same command with --yes", again(&["--yes"], json!({}))),
            ("run the same command again", again(&[], json!({}))),
            ("take the official images: --origin release", again(&["--origin", "release"], json!({}))),
            ("unset DOCKER_DEFAULT_PLATFORM", again(&[], json!({"DOCKER_DEFAULT_PLATFORM": null}))),
            ("do without it: export A=unix:///none", again(&[], json!({"A": "unix:///none"}))),
            ("or do without it: export A=b", json!({"kind": "ask", "command": "export A=b"})),
        ] {
            assert_eq!(read(line), data, "{line}");
        }
        for line in [
            "edit infra/pins.toml; see docs/pins.md",
            "check out the commit that the revision was built from, and: cargo xtask deploy dev",
            "save that first, e.g.: cargo xtask tool kubectl -- delete namespace NAME",
            "run one suite alone: cargo xtask test <suite>",
            "name another folder: export XDG_DATA_HOME=/path",
            "or run the same command as root: xtask then makes a private engine in its cache",
        ] {
            assert_eq!(read(line), json!({"kind": "tell"}), "{line}");
        }
    }

    #[test]
    fn a_command_about_a_cluster_names_its_profile() {
        for (text, named) in [
            ("cargo xtask teardown --cluster   # it", "cargo xtask --profile x teardown --cluster   # it"),
            (
                "`cargo xtask start`: a\ncargo xtask deploy dev",
                "`cargo xtask --profile x start`: a\ncargo xtask --profile x deploy dev",
            ),
            (
                "cargo xtask deploy dev && cargo xtask teardown",
                "cargo xtask --profile x deploy dev && cargo xtask --profile x teardown",
            ),
            ("cargo xtask tool kubectl -- get pods", "cargo xtask --profile x tool kubectl -- get pods"),
            ("cargo xtask teardown --images --profile y", "cargo xtask teardown --images --profile y"),
            ("cargo xtask --profile y tool helm -- list", "cargo xtask --profile y tool helm -- list"),
            ("cargo xtask dev, cargo xtask pins", "cargo xtask dev, cargo xtask pins"),
        ] {
            assert_eq!(name_profile(text, "x"), named);
        }
    }

    #[test]
    fn the_line_of_an_edit_is_made_from_its_data() {
        let edit = |line: Option<usize>, change| Hint::edit(line, "KEY", change).of_file(".env");
        let data = |change: &str, line: Option<usize>, value: Option<&str>, from: Option<&str>, old: Option<&str>| {
            json!({"kind": "edit", "file": ".env", "line": line, "key": "KEY", "change": change, "value": value,
                "value_from": from, "old": old})
        };
        let replace = Change::Replace("a://".into(), "b://".into());
        for (hint, text, expected) in [
            (
                edit(Some(2), Change::Set("8".into())),
                "set KEY in .env:2 to 8",
                data("set", Some(2), Some("8"), None, None),
            ),
            (
                edit(None, Change::SetPrinted("openssl rand -hex 32")),
                "set KEY in .env to what this prints: openssl rand -hex 32",
                data("set", None, None, Some("openssl rand -hex 32"), None),
            ),
            (
                edit(Some(1), Change::SetDescribed("its real value".into())),
                "set KEY in .env:1 to its real value",
                data("set", Some(1), None, None, None),
            ),
            (
                edit(Some(1), Change::Rename("K".into())),
                "rename KEY in .env:1 to K",
                data("rename", Some(1), Some("K"), None, None),
            ),
            (edit(Some(1), Change::Remove), "remove KEY from .env:1", data("remove", Some(1), None, None, None)),
            (
                edit(Some(1), replace),
                "replace a:// with b:// in KEY, .env:1",
                data("replace", Some(1), Some("b://"), None, Some("a://")),
            ),
        ] {
            let mut expected = expected;
            expected["text"] = json!(text);
            assert_eq!((hint.text(), hint.data()), (text, expected));
        }
        // What is in no file is for people.
        let unset = Hint::edit(None, "KEY", Change::Remove);
        assert_eq!((unset.text(), unset.data()["kind"].as_str()), ("unset KEY", Some("tell")));
    }
}
