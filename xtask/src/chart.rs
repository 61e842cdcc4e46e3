//! The chart's README: its table of values is made from the comments in values.yaml.

use camino::Utf8Path;
use serde_norway::Value;

/// A value that values.yaml explains.
#[derive(Debug, PartialEq, Eq)]
struct ChartValue {
    /// Keys from the top down: `backend.image.tag`.
    path: String,
    /// Comment that begins with `# --`, on one line.
    comment: String,
}

/// Returns the explained values in the order of the file. Comments that do not begin with `# --` explain the file.
fn explained(text: &str) -> Vec<ChartValue> {
    let mut found = Vec::new();
    let mut parents: Vec<(usize, &str)> = Vec::new();
    let mut comment: Option<String> = None;
    for line in text.lines() {
        let content = line.trim_start();
        if let Some(begin) = content.strip_prefix("# -- ") {
            comment = Some(begin.to_owned());
        } else if let Some(more) = content.strip_prefix("# ") {
            if let Some(comment) = &mut comment {
                comment.push(' ');
                comment.push_str(more);
            }
        } else if let Some((key, _)) = content.split_once(':') {
            let indent = line.len() - content.len();
            parents.retain(|(of_parent, _)| *of_parent < indent);
            parents.push((indent, key));
            let path = parents.iter().map(|(_, key)| *key).collect::<Vec<_>>().join(".");
            found.extend(comment.take().map(|comment| ChartValue { path, comment }));
        }
    }
    found
}

/// Returns the value at `path`, as Helm's users write it: JSON is YAML.
fn default_of(values: &Value, path: &str) -> String {
    let value = path.split('.').try_fold(values, |value, key| value.get(key));
    serde_json::to_string(value.unwrap_or_else(|| panic!("values.yaml has no {path}"))).unwrap()
}

fn table(text: &str) -> String {
    let values: Value = serde_norway::from_str(text).unwrap();
    let row = |value: ChartValue| {
        // A bar would end the cell.
        let [default, comment] = [default_of(&values, &value.path), value.comment].map(|text| text.replace('|', "\\|"));
        format!("| `{}` | `{default}` | {comment} |\n", value.path)
    };
    let rows: String = explained(text).into_iter().map(row).collect();
    format!("| Value | Default | Meaning |\n|---|---|---|\n{rows}")
}

/// Paths of the values that hold no other values.
fn leaves(value: &Value, path: &str) -> Vec<String> {
    match value.as_mapping() {
        Some(mapping) if !mapping.is_empty() => mapping
            .iter()
            .flat_map(|(key, value)| leaves(value, &format!("{path}.{}", key.as_str().unwrap())))
            .collect(),
        _ => vec![path.trim_start_matches('.').to_owned()],
    }
}

fn chart() -> camino::Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("infra/helm")
}

#[test]
fn the_readme_of_the_chart_has_every_value() {
    let (begin, end) = ("<!-- values: begin -->\n", "<!-- values: end -->\n");
    let path = chart().join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let table = table(&std::fs::read_to_string(chart().join("values.yaml")).unwrap());
    let wanted = format!("{before}{begin}{table}{end}{after}");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &wanted).unwrap();
        return;
    }
    assert!(readme == wanted, "{path} is not what values.yaml says; try: UPDATE=1 cargo test -p xtask --lib chart");
}

#[test]
fn every_value_of_the_chart_is_explained() {
    let text = std::fs::read_to_string(chart().join("values.yaml")).unwrap();
    let explained = explained(&text);
    let is_explained =
        |leaf: &&String| explained.iter().any(|value| format!("{leaf}.").starts_with(&format!("{}.", value.path)));
    let leaves = leaves(&serde_norway::from_str(&text).unwrap(), "");
    let missing: Vec<&String> = leaves.iter().filter(|leaf| !is_explained(leaf)).collect();
    assert!(missing.is_empty(), "write a comment that begins with `# --` above {missing:?} in values.yaml");
}

#[test]
fn a_comment_belongs_to_the_key_below_it() {
    let text = "# Of the file.\n\na:\n  # -- First\n  # and more\n  b: 1\n  c:\n    # -- Second || last\n    d: {e: [x]}\nf: 2\n";
    let rows = "| `a.b` | `1` | First and more |\n| `a.c.d` | `{\"e\":[\"x\"]}` | Second \\|\\| last |\n";
    assert!(table(text).ends_with(&format!("|---|\n{rows}")), "{}", table(text));
}
