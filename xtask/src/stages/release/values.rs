//! Suggests edits of values files from Helm's messages about values that the chart's schema refuses.

use std::collections::BTreeSet;

use serde_norway::Value;

use super::Desired;
use crate::failure::{Change, Hint, describe_type, nearest};

/// A values file: its name in the checkout, and its text.
pub type File = (String, String);

/// Reads the values files: that of the environment, then the chart's own, which has every value.
pub fn files(desired: &Desired) -> Vec<File> {
    let all = [desired.values_file.clone(), desired.chart.join("values.yaml")];
    let read = all.iter().map(|path| (path.to_string(), std::fs::read_to_string(desired.root.join(path))));
    read.filter_map(|(name, text)| Some((name, text.ok()?))).collect()
}

/// Returns an edit for each value that Helm's `message` names and that is in one of `files`.
pub fn edits(message: &str, files: &[File]) -> Vec<Hint> {
    let mut seen = BTreeSet::new();
    // The output of a failed command is printed behind a bar.
    let lines = message.lines().map(|line| line.trim_start_matches([' ', '|']));
    let lines = lines.filter_map(|line| line.strip_prefix("- at '")?.split_once("': "));
    lines
        .flat_map(|(pointer, what)| {
            let parent: Vec<&str> = pointer.split('/').skip(1).collect();
            let Some((_, rest)) = what.split_once("additional properties '") else { return vec![(parent, what)] };
            let names = rest.split('\'').step_by(2).take_while(|name| !name.contains(" not allowed"));
            names.map(|name| (parent.iter().copied().chain([name]).collect(), "")).collect()
        })
        .filter_map(|(path, what)| {
            let (file, text) = files.iter().find(|(_, text)| at(text, &path).is_some())?;
            let (line, value) = find(text, &path)?;
            let key = *path.last()?;
            let change =
                if what.is_empty() { correct_name(&path, text, value, files)? } else { correct_value(value, what)? };
            seen.insert((file, line)).then(|| Hint::edit(line, key, change).of_file(file))
        })
        .collect()
}

/// Returns the change for a name in `text`, with `value`, that the chart does not have. `None` if a change of one line cannot
/// fix it: another line has the right name already, or the value continues in the lines below.
fn correct_name(path: &[&str], text: &str, value: &str, files: &[File]) -> Option<Change> {
    let (wrong, parents) = path.split_last()?;
    let parent = files.last().and_then(|(_, text)| at(text, parents));
    let names =
        parent.iter().filter_map(Value::as_mapping).flat_map(|mapping| mapping.keys()).filter_map(Value::as_str);
    match nearest(wrong, names) {
        Some(name) => {
            let exists = at(text, &[parents, &[name]].concat()).is_some();
            (!exists).then(|| Change::Rename(name.to_owned()))
        }
        None => is_scalar(value).then_some(Change::Remove),
    }
}

/// Returns whether `value`, the rest of a line, is the whole value.
fn is_scalar(value: &str) -> bool {
    !value.is_empty() && !value.starts_with(['{', '[', '|', '>', '&', '"', '\''])
        || value.len() > 1 && ['"', '\''].into_iter().any(|quote| value.starts_with(quote) && value.ends_with(quote))
}

/// Returns the change for a `value` that Helm refuses with `what`; `None` if `what` only introduces the next lines.
fn correct_value(value: &str, what: &str) -> Option<Change> {
    if what.ends_with(" failed") {
        return None;
    }
    let bare = value.trim_matches(['"', '\'']);
    let is_quoted = bare != value
        && match what.rsplit_once(", want ").map(|(_, kind)| kind) {
            Some("integer") => bare.parse::<i64>().is_ok(),
            Some("number") => bare.parse::<f64>().is_ok(),
            Some("boolean") => ["true", "false"].contains(&bare),
            _ => false,
        };
    Some(if is_quoted {
        Change::Set(bare.to_owned())
    } else {
        let kind = what.rsplit_once(", want ").and_then(|(_, kind)| describe_type(kind));
        Change::SetDescribed(kind.map_or(format!("a value that the chart's schema accepts ({what})"), str::to_owned))
    })
}

/// Returns the value at `path` in `text`.
fn at(text: &str, path: &[&str]) -> Option<Value> {
    let values: Value = serde_norway::from_str(text).ok()?;
    path.iter().try_fold(&values, |value, key| value.get(*key)).cloned()
}

/// Returns the line number of the key at `path` in `text`, and the value behind it; `None` for keys in braces.
fn find<'a>(text: &'a str, path: &[&str]) -> Option<(usize, &'a str)> {
    let mut open: Vec<(usize, &str)> = Vec::new();
    text.lines().enumerate().find_map(|(number, line)| {
        let content = line.trim_start();
        let (key, value) = content.split_once(':').filter(|_| !content.starts_with(['#', '-']))?;
        let indent = line.len() - content.len();
        open.retain(|(outer, _)| *outer < indent);
        open.push((indent, key.trim_matches(['"', '\''])));
        let value = value.split(" #").next().unwrap_or_default().trim();
        open.iter().map(|(_, key)| key).eq(path).then_some((number + 1, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message of Helm 4 about the values below.
    const MESSAGE: &str = "Error: values don't meet the specifications of the schema(s) in the following chart(s):
todo:
  | - at '/postgres/storage': additional properties 'sise' not allowed
- at '/rollout/maxSurge': 'anyOf' failed
  - at '/rollout/maxSurge': got string, want integer
  - at '/rollout/maxSurge': 'x' does not match pattern '^[0-9]{1,3}%$'
- at '/backend': validation failed
  - at '/backend/replicas': got string, want integer
  - at '/backend': additional properties 'replcias' not allowed
  - at '/frontend/replicas': got string, want integer
";

    #[test]
    fn each_value_that_helm_names_gets_one_edit() {
        let values = "# backend:\nbackend:\n  replicas: \"3\" # many\n  replcias: 3\npostgres:\n  enabled: true\n  \
                      storage:\n    sise: 1Gi\nrollout: {maxSurge: x}\nfrontend:\n  replicas: many\n";
        let chart = include_str!("../../../../infra/helm/values.yaml");
        let files = [("v.yaml".to_owned(), values.to_owned()), ("values.yaml".to_owned(), chart.to_owned())];
        let texts: Vec<String> = edits(MESSAGE, &files).iter().map(|hint| hint.text().to_owned()).collect();
        assert_eq!(
            texts,
            [
                "rename sise in v.yaml:8 to size",
                // maxSurge is in braces, so it has no line of its own.
                "set replicas in v.yaml:3 to 3",
                "set replicas in v.yaml:11 to a whole number",
            ]
        );
    }

    #[test]
    fn a_wrong_name_is_renamed_unless_the_right_one_exists() {
        let wanted = "- at '/backend': additional properties 'replcias' not allowed";
        let texts = |values: &str| {
            let files = [("v.yaml".to_owned(), values.to_owned()), (String::new(), "backend: {replicas: 2}".into())];
            edits(wanted, &files).iter().map(|hint| hint.text().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(texts("backend:\n  replcias: 3\n"), ["rename replcias in v.yaml:2 to replicas"]);
        assert_eq!(texts("backend:\n  replcias: 3\n  replicas: 3\n"), [""; 0]);
    }

    #[test]
    fn a_name_without_a_similar_one_is_removed() {
        let files =
            [("v.yaml".to_owned(), "backend:\n  colour: red\n".to_owned()), (String::new(), "backend: {}".into())];
        let hints = edits("- at '/backend': additional properties 'colour' not allowed", &files);
        assert_eq!(hints[0].text(), "remove colour from v.yaml:2");
        let files = [("v.yaml".to_owned(), "backend:\n  colour:\n    red: 1\n".into()), files[1].clone()];
        assert_eq!(edits("- at '/backend': additional properties 'colour' not allowed", &files), []);
        assert_eq!(edits("Error: parse error at (todo/templates/x.yaml:9)", &files), []);
    }
}
