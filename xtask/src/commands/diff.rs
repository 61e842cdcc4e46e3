//! `deploy --dry-run`: what would change in the cluster, as a diff against the live release.

use anyhow::Result;
use serde_json::json;

use crate::project::Project;
use crate::report::{BAD, BOLD, DIM, GOOD, WARN};
use crate::stages::images::{Built, recipe};
use crate::stages::release::{self, Changed, Desired, Object, ObservedRelease, SecretPlan};
use crate::toolbox::Toolbox;

/// Changed files of an image that are shown.
const FILES: usize = 20;

/// An image that would take the place of the one that runs.
struct ImageChange {
    name: String,
    from: String,
    to: String,
    /// What differs; `None`: the one that runs was built elsewhere.
    files: Option<Vec<String>>,
}

/// Shows the difference, and puts it into the document of `--json`.
pub fn show(
    project: &Project,
    tools: &Toolbox,
    desired: &Desired,
    secrets: &SecretPlan,
    observed: &ObservedRelease,
    built: &[Built],
) -> Result<()> {
    let Some(changed) = release::diff(project, tools, desired, secrets, observed)? else { return Ok(()) };
    let images: Vec<ImageChange> = built.iter().filter_map(|image| of_image(project, observed, image)).collect();
    let drift = release::drift(project, tools, observed);
    project.report.fact(
        "diff",
        json!({
            "revision": changed.revision,
            "images": images.iter().map(|image| json!({
                "name": image.name, "from": image.from, "to": image.to, "files": image.files})).collect::<Vec<_>>(),
            "objects": changed.objects, "secrets": changed.secrets, "drift": drift,
        }),
    );
    if !(changed.objects.is_empty() && changed.secrets.is_empty() && drift.is_empty()) {
        print(project, &changed, &images, &drift);
    }
    Ok(())
}

/// The image's difference from the one that was verified last.
fn of_image(project: &Project, observed: &ObservedRelease, image: &Built) -> Option<ImageChange> {
    let from = observed.record.as_ref()?.fingerprint.get(&format!("image {}", image.name))?;
    let (to, now) = (image.tag.as_ref()?, image.recipe.as_ref()?);
    if from == to {
        return None;
    }
    let files = recipe::of_tag(project, &image.name, from).map(|then| now.differences(&then));
    Some(ImageChange { name: image.name.clone(), from: from.clone(), to: to.clone(), files })
}

fn print(project: &Project, changed: &Changed, images: &[ImageChange], drift: &[String]) {
    let line = |text: String| project.report.line(text);
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
    let (labels, objects): (Vec<_>, Vec<_>) = changed.objects.iter().partition(|object| only_version(object));
    if !labels.is_empty() {
        let names: Vec<&str> = labels.iter().map(|object| object.object.as_str()).collect();
        line(format!("  {DIM}only the version label changes: {}{DIM:#}", names.join(", ")));
    }
    for object in objects {
        // Of what comes and goes as a whole the name says enough.
        if object.how != "changed" {
            line(format!("  {} {}", object.object, object.how));
            continue;
        }
        object.diff.lines().for_each(|text| line(coloured(text)));
    }
}

/// Whether nothing but the label with the version differs: each object of an application has it.
fn only_version(object: &Object) -> bool {
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
    fn objects_that_differ_in_their_version_alone_are_told_apart() {
        let object = |diff: &str| Object { object: "Service/a".into(), how: "changed", diff: diff.into() };
        let head = "--- live Service/a\n+++ wanted Service/a\n@@ -8,3 +8,3 @@\n labels:\n";
        let version = "-    app.kubernetes.io/version: \"1\"\n+    app.kubernetes.io/version: \"2\"\n";
        assert!(only_version(&object(&format!("{head}{version}"))));
        assert!(!only_version(&object(&format!("{head}{version}+  port: 9000\n"))));
    }
}
