//! `deploy --dry-run`: shows the changes to the cluster as a diff against the live release.

use anyhow::Result;
use serde_json::json;

use crate::report::{BAD, BOLD, DIM, GOOD, Report, WARN};
use crate::stages::images::{Built, recipe};
use crate::stages::release::{self, ChangedObject, Desired, ObservedRelease, ReleaseDiff, SecretPlan};
use crate::toolbox::Toolbox;

/// Maximum number of changed files shown per image.
const FILES: usize = 20;

/// An image that would replace the running one.
struct ImageChange {
    name: String,
    from: String,
    to: String,
    /// The changed files; `None` if the running image was built elsewhere.
    files: Option<Vec<String>>,
}

/// Prints the differences and adds them to the JSON document.
pub fn show(
    tools: &Toolbox,
    desired: &Desired,
    secrets: &SecretPlan,
    observed: &ObservedRelease,
    built: &[Built],
) -> Result<()> {
    let Some(changed) = release::diff(tools, desired, secrets, observed)? else { return Ok(()) };
    let images: Vec<ImageChange> = built.iter().filter_map(|image| compare_image(tools, observed, image)).collect();
    let drift = release::drift(tools, observed);
    tools.report.fact(
        "diff",
        json!({
            "revision": changed.revision,
            "images": images.iter().map(|image| json!({
                "name": image.name, "from": image.from, "to": image.to, "files": image.files})).collect::<Vec<_>>(),
            "objects": changed.objects, "secrets": changed.secrets, "drift": drift,
        }),
    );
    if !(changed.objects.is_empty() && changed.secrets.is_empty() && drift.is_empty()) {
        print(&tools.report, &changed, &images, &drift);
    }
    Ok(())
}

/// Returns the difference between `image` and the last verified one; `None` if there is none.
fn compare_image(tools: &Toolbox, observed: &ObservedRelease, image: &Built) -> Option<ImageChange> {
    let from = observed.record.as_ref()?.fingerprint.get(&format!("image {}", image.name))?;
    let (to, now) = (image.tag.as_ref()?, image.recipe.as_ref()?);
    if from == to {
        return None;
    }
    let files = recipe::of_tag(&tools.target, &image.name, from).map(|then| now.differences(&then));
    Some(ImageChange { name: image.name.clone(), from: from.clone(), to: to.clone(), files })
}

fn print(report: &Report, changed: &ReleaseDiff, images: &[ImageChange], drift: &[String]) {
    let line = |text: String| report.line(text);
    line(format!("\n  {BOLD}changes of revision {}{BOLD:#}", changed.revision));
    for ImageChange { name, from, to, files } in images {
        line(format!("  image {name}: {from} -> {to}"));
        let Some(files) = files else {
            line(format!("    {DIM}cannot list the changed files: {from} was not built in this checkout{DIM:#}"));
            continue;
        };
        files.iter().take(FILES).for_each(|file| line(format!("    {file}")));
        if files.len() > FILES {
            line(format!("    {DIM}and {} more{DIM:#}", files.len() - FILES));
        }
    }
    for secret in &changed.secrets {
        let replaces = secret.replaces.as_ref().map(|old| format!(" instead of {old}")).unwrap_or_default();
        line(format!("  Secret {}{replaces}", secret.name));
        secret.keys.iter().for_each(|(key, how)| line(format!("    {key} {how}")));
    }
    for text in drift {
        line(format!("  {WARN}reverted:{WARN:#} {text}"));
    }
    let (labels, objects): (Vec<_>, Vec<_>) =
        changed.objects.iter().partition(|object| has_only_version_change(object));
    if !labels.is_empty() {
        let names: Vec<&str> = labels.iter().map(|object| object.object.as_str()).collect();
        line(format!("  {DIM}only the version label changes: {}{DIM:#}", names.join(", ")));
    }
    for object in objects {
        // For added and removed objects, the name is enough.
        if object.how != "changed" {
            line(format!("  {} {}", object.object, object.how));
            continue;
        }
        object.diff.lines().for_each(|text| line(coloured(text)));
    }
}

/// Returns whether only the version label differs, which each object of an application has.
fn has_only_version_change(object: &ChangedObject) -> bool {
    let differing = object.diff.lines().skip(2).filter(|line| line.starts_with(['+', '-']));
    object.how == "changed"
        && differing.into_iter().all(|line| line[1..].trim().starts_with("app.kubernetes.io/version:"))
}

fn coloured(text: &str) -> String {
    match text.as_bytes().first() {
        _ if text.starts_with("---") || text.starts_with("+++") => format!("  {BOLD}{text}{BOLD:#}"),
        Some(b'+') => format!("  {GOOD}{text}{GOOD:#}"),
        Some(b'-') => format!("  {BAD}{text}{BAD:#}"),
        Some(b'@') => format!("  {DIM}{text}{DIM:#}"),
        _ => format!("  {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_objects_with_only_a_version_change() {
        let object = |diff: &str| ChangedObject { object: "Service/a".into(), how: "changed", diff: diff.into() };
        let head = "--- live Service/a\n+++ wanted Service/a\n@@ -8,3 +8,3 @@\n labels:\n";
        let version = "-    app.kubernetes.io/version: \"1\"\n+    app.kubernetes.io/version: \"2\"\n";
        assert!(has_only_version_change(&object(&format!("{head}{version}"))));
        assert!(!has_only_version_change(&object(&format!("{head}{version}+  port: 9000\n"))));
    }
}
