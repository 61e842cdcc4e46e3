//! The release's namespace: whether it can be used, the wait until one that is being deleted is gone, and its labels.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::ObservedRelease;
use crate::api::{Api, MANAGER, kinds};
use crate::failure::{Class, Failure};
use crate::plan::Step;
use crate::process;
use crate::project::Project;
use crate::snapshot::text;
use crate::toolbox::Toolbox;

/// The label of a namespace that says which level of Pod Security it enforces.
pub const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
/// The level that the chart's pods keep to.
const LEVEL: &str = "restricted";

/// The namespace's object; `None`: there is none. A cluster that does not say whether it exists is an error: what is
/// taken for absent may be removed or installed anew.
pub fn read(tools: &Toolbox) -> Result<Option<Value>> {
    let name = tools.namespace();
    tools.api()?.get(&kinds::NAMESPACE, name).with_context(|| format!("cannot tell whether namespace {name} exists"))
}

/// Whether somebody deletes the namespace right now: nothing can be made in it, and all that is in it goes.
pub fn is_ending(namespace: &Value) -> bool {
    namespace.pointer("/metadata/deletionTimestamp").is_some()
}

/// Why nothing can be done in the namespace: it is being deleted, or gone.
pub fn unusable(tools: &Toolbox) -> Result<Option<String>> {
    let name = tools.namespace();
    Ok(match read(tools)? {
        None => Some(format!("namespace {name} is gone")),
        Some(namespace) if is_ending(&namespace) => Some(format!("namespace {name} is being deleted")),
        Some(_) => None,
    })
}

/// The step that waits until a namespace that is being deleted is gone.
pub fn wait_until_gone<'a>(tools: &'a Toolbox, observed: &ObservedRelease) -> Result<Option<Step<'a>>> {
    if !observed.ending {
        return Ok(None);
    }
    let (name, limit) = (tools.namespace(), tools.api()?.deadlines().namespace_deletion);
    let why = format!("somebody is deleting it; waiting up to {} s", limit.as_secs());
    let shown = format!("GET {}", kinds::NAMESPACE.object("", name));
    Ok(Some(Step::new(format!("wait until namespace {name} is deleted"), why, shown, move |running| {
        let begun = Instant::now();
        loop {
            // One that somebody made again meanwhile is another namespace.
            let Some(namespace) = read(tools)?.filter(is_ending) else { return Ok("it is gone".to_owned()) };
            let held = remains(&namespace);
            running.progress(&held);
            if process::ending() {
                bail!("interrupted");
            }
            if begun.elapsed() > limit {
                let what =
                    format!("namespace {name} is being deleted and not gone after {} s: {held}", limit.as_secs());
                let see = format!("cargo xtask tool kubectl -- get namespace {name} -o yaml");
                return Err(Failure::new(Class::Cluster, what)
                    .help(format!("see what holds it: {see}"))
                    .help("remove the finalizers that it names, then: cargo xtask deploy dev")
                    .into());
            }
            std::thread::sleep(tools.api()?.deadlines().poll);
        }
    })))
}

/// What is left in a namespace that is being deleted, in the words of its controller.
fn remains(namespace: &Value) -> String {
    let conditions = namespace.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let telling = conditions.filter(|condition| condition["status"] == "True").map(|c| text(c, "/message"));
    let told: Vec<&str> = telling.filter(|message| !message.is_empty()).collect();
    if told.is_empty() { "its controller names nothing that is left".to_owned() } else { told.join("; ") }
}

/// The manifest of an absent namespace.
pub fn absent(tools: &Toolbox, observed: &ObservedRelease) -> Option<Value> {
    observed.snapshot.is_none().then(|| manifest(tools.namespace()))
}

fn manifest(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {
            "app.kubernetes.io/managed-by": "xtask", "app.kubernetes.io/part-of": "todo",
            ENFORCE: LEVEL,
            "pod-security.kubernetes.io/warn": LEVEL,
        }},
    })
}

/// The step that makes the namespace, or has one that somebody made enforce Pod Security.
pub fn step<'a>(project: &Project, tools: &'a Toolbox, observed: &ObservedRelease) -> Option<Step<'a>> {
    let (what, why) = match &observed.snapshot {
        None => ("create", "it does not exist; enforces Pod Security `restricted`"),
        Some(_) if observed.enforced != LEVEL => ("label", "it does not enforce Pod Security `restricted`"),
        Some(_) => return None,
    };
    let name = project.settings.chart.namespace.clone();
    let manifest = manifest(&name);
    let shown = Api::shown_apply(&manifest, &name, MANAGER);
    Some(Step::new(format!("{what} namespace {name}"), why, shown, move |_| {
        tools.api()?.apply(&manifest, MANAGER).map(|_| String::new())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_a_namespace_is_told_in_its_controllers_words() {
        let condition = |status: &str, message: &str| json!({"status": status, "message": message});
        let conditions = [
            condition("False", "All resources successfully discovered"),
            condition("True", "Some resources are remaining: configmaps. has 1 resource instances"),
            condition(
                "True",
                "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
            ),
        ];
        let told = remains(&json!({"status": {"phase": "Terminating", "conditions": conditions}}));
        assert!(
            told.starts_with("Some resources are remaining: configmaps.") && told.contains("example.com/hold"),
            "{told}"
        );
        assert_eq!(remains(&json!({})), "its controller names nothing that is left");
    }
}
