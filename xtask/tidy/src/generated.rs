//! Checks that generated files are up to date.

use anyhow::{Context, Result, bail};
use serde_norway::Value;

use crate::checkout::{Checkout, Mistake};

const VALUES: &str = "infra/helm/values.yaml";
const README: &str = "infra/helm/README.md";
const BEGIN: &str = "<!-- values: begin -->\n";
const END: &str = "<!-- values: end -->\n";

/// The backend's tests compare its document with its code.
const OPENAPI: &str = "apps/backend/openapi.json";
/// The frontend's image is built from its own folder alone; its tests compare the types with this copy.
const OPENAPI_COPY: &str = "apps/frontend/openapi.json";

/// Checks that the chart's README has the comments of values.yaml as a table, and that each value has a comment.
pub fn chart(checkout: &Checkout) -> Result<Vec<Mistake>> {
    let text = checkout.text(VALUES)?;
    let values: Value = serde_norway::from_str(text).with_context(|| format!("reading {VALUES}"))?;
    let explained = explained(text);
    let is_explained =
        |leaf: &&String| explained.iter().any(|value| format!("{leaf}.").starts_with(&format!("{}.", value.path)));
    let leaves = leaves(&values, "");
    let missing = leaves.iter().filter(|leaf| !is_explained(leaf));
    let missing =
        missing.map(|leaf| Mistake::new(VALUES, 0, format!("write a comment that begins with `# --` above {leaf}")));
    let mut mistakes: Vec<Mistake> = missing.collect();
    let readme = checkout.text(README)?;
    let marked = readme.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, after)) = marked else { bail!("{README} has lost the marks around its table of values") };
    let wanted = format!("{before}{BEGIN}{}{END}{after}", table(&explained, &values)?);
    if readme != wanted {
        mistakes.push(Mistake::mended(README, 0, format!("its table is not what {VALUES} says"), wanted));
    }
    Ok(mistakes)
}

/// Checks that the frontend's copy of the API's document equals the backend's.
pub fn openapi(checkout: &Checkout) -> Result<Vec<Mistake>> {
    let document = checkout.text(OPENAPI)?;
    let what = format!("it is not {OPENAPI}; afterwards: (cd apps/frontend && node scripts/api-types.mjs)");
    let copy = Mistake::mended(OPENAPI_COPY, 0, what, document.to_owned());
    Ok((checkout.text(OPENAPI_COPY)? != document).then_some(copy).into_iter().collect())
}

/// A value that values.yaml explains.
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

fn table(explained: &[ChartValue], values: &Value) -> Result<String> {
    let mut table = "| Value | Default | Meaning |\n|---|---|---|\n".to_owned();
    for ChartValue { path, comment } in explained {
        let value = path.split('.').try_fold(values, |value, key| value.get(key));
        let value = value.with_context(|| format!("{VALUES} has no {path}"))?;
        // JSON is YAML. A bar would end the cell.
        let [default, comment] = [serde_json::to_string(value)?, comment.clone()].map(|text| text.replace('|', "\\|"));
        table += &format!("| `{path}` | `{default}` | {comment} |\n");
    }
    Ok(table)
}

/// Returns the paths of the values that contain no other values.
fn leaves(value: &Value, path: &str) -> Vec<String> {
    match value.as_mapping() {
        Some(mapping) if !mapping.is_empty() => {
            let below =
                |(key, value): (&Value, &Value)| leaves(value, &format!("{path}.{}", key.as_str().unwrap_or_default()));
            mapping.iter().flat_map(below).collect()
        }
        _ => vec![path.trim_start_matches('.').to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_belongs_to_the_key_below_it() {
        let text = "# Of the file.\n\na:\n  # -- First\n  # and more\n  b: 1\n  c:\n    # -- Second || last\n    d: {e: [x]}\nf: 2\n";
        let table = table(&explained(text), &serde_norway::from_str(text).unwrap()).unwrap();
        let rows = "| `a.b` | `1` | First and more |\n| `a.c.d` | `{\"e\":[\"x\"]}` | Second \\|\\| last |\n";
        assert!(table.ends_with(&format!("|---|\n{rows}")), "{table}");
    }
}
