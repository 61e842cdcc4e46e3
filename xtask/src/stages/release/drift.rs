//! Finds fields that somebody changed by hand: compares live objects with Helm's manifest.

use serde::Deserialize;
use serde_json::Value;

use crate::snapshot::{Snapshot, key, text};

/// Changed fields that a line names at most; then it gives the number of others.
const SHOWN_FIELDS: usize = 4;

/// Returns the lines of `drift`, which begin with `Kind/name`, each with the fields that differ from the manifest.
pub fn explain(drift: Vec<String>, manifest: &str, snapshot: &Snapshot) -> Vec<String> {
    let wanted = objects(manifest);
    let with_fields = |line: String| {
        let object = line.split(' ').next().unwrap_or_default();
        let wanted = wanted.iter().find(|wanted| key(wanted) == object);
        let live = snapshot.applied().find(|live| key(live) == object);
        let (Some(wanted), Some(live)) = (wanted, live) else { return line };
        let mut found = fields(wanted, live, snapshot);
        if found.is_empty() {
            return line;
        }
        let more = found.len().saturating_sub(SHOWN_FIELDS);
        found.truncate(SHOWN_FIELDS);
        if more > 0 {
            found.push(format!("{more} more"));
        }
        format!("{line}: {}", found.join(", "))
    };
    drift.into_iter().map(with_fields).collect()
}

/// Returns the fields in which the object `live` differs from `wanted`, its manifest.
pub fn fields(wanted: &Value, live: &Value, snapshot: &Snapshot) -> Vec<String> {
    let mut found = Vec::new();
    let mut wanted = wanted.clone();
    if snapshot.is_autoscaled(live) {
        wanted["spec"]["replicas"] = live["spec"]["replicas"].clone();
    }
    for part in ["spec", "data"] {
        compare(part, &wanted[part], &live[part], &mut found);
    }
    compare("metadata.labels", &wanted["metadata"]["labels"], &live["metadata"]["labels"], &mut found);
    found
}

/// Returns the objects of a manifest with several documents. Skips documents that cannot be parsed.
pub fn objects(manifest: &str) -> Vec<Value> {
    let documents = serde_norway::Deserializer::from_str(manifest);
    documents.filter_map(|document| Value::deserialize(document).ok()).filter(Value::is_object).collect()
}

/// Adds the paths at which `live` differs from `wanted`. Skips fields that only `live` has, because the API server adds
/// defaults, except in `data`, labels and lists of named items.
fn compare(path: &str, wanted: &Value, live: &Value, found: &mut Vec<String>) {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            for (key, value) in wanted {
                compare(&format!("{path}.{key}"), value, live.get(key).unwrap_or(&Value::Null), found);
            }
            if path == "data" || path.ends_with("abels") {
                let added = live.keys().filter(|key| !wanted.contains_key(*key));
                found.extend(added.map(|key| format!("{path}.{key} added")));
            }
        }
        (Value::Array(wanted), Value::Array(live)) => compare_lists(path, wanted, live, found),
        // The API server drops empty values.
        (wanted, Value::Null) if is_empty(wanted) => {}
        (wanted, live) if !is_equal(wanted, live) => found.push(format!("{path} {} -> {}", shown(wanted), shown(live))),
        _ => {}
    }
}

fn compare_lists(path: &str, wanted: &[Value], live: &[Value], found: &mut Vec<String>) {
    let is_named = |list: &[Value]| list.iter().all(|item| item["name"].is_string());
    if !(is_named(wanted) && is_named(live)) {
        if wanted.len() != live.len() {
            found.push(format!("{path} has {} entries instead of {}", live.len(), wanted.len()));
            return;
        }
        let pairs = wanted.iter().zip(live).enumerate();
        pairs.for_each(|(index, (wanted, live))| compare(&format!("{path}[{index}]"), wanted, live, found));
        return;
    }
    for item in wanted {
        let name = text(item, "/name");
        match live.iter().find(|other| other["name"] == item["name"]) {
            Some(other) => compare(&format!("{path}[{name}]"), item, other, found),
            None => found.push(format!("{path}[{name}] removed")),
        }
    }
    let added = live.iter().filter(|item| !wanted.iter().any(|other| other["name"] == item["name"]));
    found.extend(added.map(|item| format!("{path}[{}] added", text(item, "/name"))));
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_empty),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Returns whether both values are equal in any notation: `1` and `"1"`, `0.5` and `500m`, `1024Mi` and `1Gi`, `0440` and 288.
fn is_equal(wanted: &Value, live: &Value) -> bool {
    let (wanted, live) = (shown(wanted), shown(live));
    wanted == live
        || is_octal_of(&wanted, &live)
        || is_octal_of(&live, &wanted)
        || matches!((quantity(&wanted), quantity(&live)), (Some(a), Some(b)) if (a - b).abs() < 1e-9 * a.abs())
}

/// Returns whether `octal` is the file mode `decimal`: for YAML 1.1, and so for Helm, a number that begins with 0 is octal.
fn is_octal_of(octal: &str, decimal: &str) -> bool {
    let value = || u32::from_str_radix(octal, 8).ok();
    octal.len() > 1 && octal.starts_with('0') && value().is_some_and(|value| decimal.parse() == Ok(value))
}

fn quantity(text: &str) -> Option<f64> {
    let at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "nothing".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded with `helm get manifest` and `kubectl get -o json` from a scaled and edited release, trimmed.
    const MANIFEST: &str = include_str!("recorded/manifest.yaml");
    const LIVE: &str = include_str!("recorded/edited.json");

    fn explained(lines: &[&str]) -> Vec<String> {
        explain(lines.iter().map(ToString::to_string).collect(), MANIFEST, &Snapshot::parse(LIVE).unwrap())
    }

    #[test]
    fn changes_by_hand_are_listed_by_field() {
        let lines = explained(&[
            "Deployment/todo-frontend was changed by hand",
            "ConfigMap/todo-config was changed by hand",
            "Service/gone was deleted by hand",
        ]);
        insta::assert_snapshot!(lines.join("\n"), @"
        Deployment/todo-frontend was changed by hand: spec.replicas 2 -> 1, spec.template.spec.containers[frontend].env[EXTRA] added
        ConfigMap/todo-config was changed by hand: data.ENVIRONMENT dev -> edited, data.ADDED added
        Service/gone was deleted by hand
        ");
    }

    #[test]
    fn unchanged_objects_have_no_differences() {
        let unchanged = ["Deployment/todo-backend x", "Service/todo-backend x", "Ingress/todo x"];
        assert_eq!(explained(&unchanged), unchanged);
    }

    #[test]
    fn replicas_that_an_autoscaler_sets_are_no_difference() {
        let snapshot = Snapshot::parse(LIVE).unwrap();
        let autoscaler = serde_json::json!({"kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "todo-frontend"}}});
        let scaled = Snapshot::of([snapshot.objects(), &[autoscaler]].concat());
        let names_replicas = |snapshot: &Snapshot| {
            explain(vec!["Deployment/todo-frontend x".to_owned()], MANIFEST, snapshot).concat().contains("replicas")
        };
        assert!(names_replicas(&snapshot) && !names_replicas(&scaled));
    }

    #[test]
    fn values_are_compared_in_any_notation() {
        for (one, other) in [("0.5", "500m"), ("1024Mi", "1Gi"), ("8000", "8000"), ("1", "1000m"), ("0440", "288")] {
            assert!(is_equal(&one.into(), &other.into()), "{one} and {other}");
        }
        assert!(
            !is_equal(&"500m".into(), &"501m".into())
                && !is_equal(&"a".into(), &"b".into())
                && !is_equal(&"x".into(), &"0y".into())
        );
    }
}
