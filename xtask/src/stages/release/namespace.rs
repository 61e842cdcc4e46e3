//! The release's namespace: whether it is usable, the wait while it is deleted, and its labels.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::ObservedRelease;
use crate::api::{Api, MANAGER, kinds};
use crate::failure::{Class, Failure};
use crate::labels::Release;
use crate::plan::Step;
use crate::process;
use crate::snapshot::{is_terminating, text};
use crate::toolbox::Toolbox;

/// The label of a namespace with the level of Pod Security that it enforces.
pub const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
/// The level that the chart's pods meet.
const LEVEL: &str = "restricted";

/// Reads the namespace; `None`: it does not exist.
///
/// # Errors
/// Fails if the cluster does not answer: an unreachable namespace must not count as absent.
pub fn read(tools: &Toolbox) -> Result<Option<Value>> {
    let name = tools.namespace();
    tools.api()?.get(&kinds::NAMESPACE, name).with_context(|| format!("cannot tell whether namespace {name} exists"))
}

/// Returns why the namespace cannot be used, if it is gone or being deleted.
pub fn why_unusable(tools: &Toolbox) -> Result<Option<String>> {
    let name = tools.namespace();
    Ok(match read(tools)? {
        None => Some(format!("namespace {name} is gone")),
        Some(namespace) if is_terminating(&namespace) => Some(format!("namespace {name} is being deleted")),
        Some(_) => None,
    })
}

/// Returns the step that waits until the namespace is gone, if it is being deleted.
pub fn wait_until_gone<'a>(tools: &'a Toolbox, observed: &ObservedRelease) -> Result<Option<Step<'a>>> {
    if !observed.is_terminating {
        return Ok(None);
    }
    let (name, limit) = (tools.namespace(), tools.api()?.deadlines().namespace_deletion);
    let why = format!("somebody is deleting it; waiting up to {} s", limit.as_secs());
    let shown = format!("GET {}", kinds::NAMESPACE.object("", name));
    Ok(Some(Step::new(format!("wait until namespace {name} is deleted"), why, shown, move |running| {
        let start = Instant::now();
        loop {
            // A new namespace of the same name has no deletion timestamp.
            let Some(namespace) = read(tools)?.filter(is_terminating) else { return Ok("it is gone".to_owned()) };
            let remaining = remaining_content(&namespace);
            running.progress(&remaining);
            if process::ending() {
                bail!("interrupted");
            }
            if start.elapsed() > limit {
                let what = format!("namespace {name} is still being deleted after {} s: {remaining}", limit.as_secs());
                let see = format!("cargo xtask tool kubectl -- get namespace {name} -o yaml");
                return Err(Failure::new(Class::Cluster, what)
                    .help(format!("see what blocks it: {see}"))
                    .help("remove the finalizers that it names, then: cargo xtask deploy dev")
                    .into());
            }
            std::thread::sleep(tools.api()?.deadlines().poll);
        }
    })))
}

/// Returns what is left in a namespace that is being deleted, in the words of its controller.
fn remaining_content(namespace: &Value) -> String {
    let conditions = namespace.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let messages = conditions.filter(|condition| condition["status"] == "True").map(|c| text(c, "/message"));
    let messages: Vec<&str> = messages.filter(|message| !message.is_empty()).collect();
    if messages.is_empty() { "its controller does not say what is left".to_owned() } else { messages.join("; ") }
}

/// Returns the manifest of the namespace, if it does not exist.
pub fn absent(tools: &Toolbox, observed: &ObservedRelease) -> Option<Value> {
    observed.snapshot.is_none().then(|| manifest(tools.release()))
}

fn manifest(release: &Release) -> Value {
    let mut labels = release.made_labels();
    (labels[ENFORCE], labels["pod-security.kubernetes.io/warn"]) = (json!(LEVEL), json!(LEVEL));
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": release.namespace, "labels": labels}})
}

/// Returns the step that creates the namespace, or labels an existing one so that it enforces Pod Security.
pub fn step<'a>(tools: &'a Toolbox, observed: &ObservedRelease) -> Option<Step<'a>> {
    let (what, why) = match &observed.snapshot {
        None => ("create", "it does not exist; enforces Pod Security `restricted`"),
        Some(_) if observed.enforced != LEVEL => ("label", "it does not enforce Pod Security `restricted`"),
        Some(_) => return None,
    };
    let name = tools.namespace();
    let manifest = manifest(tools.release());
    let shown = Api::shown_apply(&manifest, name, MANAGER);
    Some(Step::new(format!("{what} namespace {name}"), why, shown, move |_| {
        tools.api()?.apply(&manifest, MANAGER).map(|_| String::new())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_what_blocks_a_deletion_in_the_controllers_words() {
        let condition = |status: &str, message: &str| json!({"status": status, "message": message});
        let conditions = [
            condition("False", "All resources successfully discovered"),
            condition("True", "Some resources are remaining: configmaps. has 1 resource instances"),
            condition(
                "True",
                "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
            ),
        ];
        let message = remaining_content(&json!({"status": {"phase": "Terminating", "conditions": conditions}}));
        assert!(
            message.starts_with("Some resources are remaining: configmaps.") && message.contains("example.com/hold"),
            "{message}"
        );
        assert_eq!(remaining_content(&json!({})), "its controller does not say what is left");
    }
}
