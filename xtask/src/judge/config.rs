//! Containers and volumes that refer to a missing Secret or ConfigMap, or to a missing key in one.

use camino::Utf8Path;

use super::Symptom;
use super::pods::{containers, current, subject};
use crate::labels::{COMPONENT, label};
use crate::snapshot::{Snapshot, text};

/// Finds containers with an environment variable from a missing reference.
pub fn container(snapshot: &Snapshot) -> Vec<Symptom> {
    let failing = containers(snapshot).filter(|c| c.waiting_reason() == "CreateContainerConfigError");
    failing
        .map(|c| {
            let message = text(c.status, "/state/waiting/message");
            let variables = c.spec["env"].as_array().into_iter().flatten();
            let reference = |kind: &str, key: &str| {
                let pointer = format!("/valueFrom/{kind}/key");
                variables.clone().find(|v| text(v, &pointer) == key).map(|v| text(v, "/name").to_owned())
            };
            let missing = MissingReference::parse(message);
            let variable = missing.as_ref().and_then(|missing| {
                let kind = if missing.kind == "Secret" { "secretKeyRef" } else { "configMapKeyRef" };
                reference(kind, missing.key.as_deref()?)
            });
            let reason = missing.as_ref().map_or_else(|| message.to_owned(), MissingReference::describe);
            let user = variable.map(|name| format!(" (its variable {name} needs it)")).unwrap_or_default();
            let symptom = Symptom::fatal(c.subject(), format!("{} cannot be created: {reason}{user}", c.title()));
            with_help(symptom, snapshot.chart(), c.pod, missing)
        })
        .collect()
}

/// Finds volumes that cannot be mounted. Only the event shows it: the pod's status is `ContainerCreating`.
pub fn mount(snapshot: &Snapshot) -> Vec<Symptom> {
    let waiting = current(snapshot).filter(|pod| {
        let started = |c: &serde_json::Value| c["started"] == true || c.pointer("/state/running").is_some();
        text(pod, "/status/phase") == "Pending" && !super::pods::array(pod, "/status/containerStatuses").any(started)
    });
    waiting
        .filter_map(|pod| {
            // A Secret that is created right after its pod fails to mount once, so only a second failure counts.
            let event = snapshot.last_event(pod, &["FailedMount"]).filter(|event| event.count > 1)?;
            let missing = MissingReference::parse(&event.message);
            let volume = event.message.split("volume \"").nth(1).and_then(|rest| rest.split('"').next());
            let volume = volume.map(|name| format!("volume `{name}` ")).unwrap_or_default();
            let reason = missing.as_ref().map_or_else(|| event.message.clone(), MissingReference::describe);
            let symptom = Symptom::fatal(subject(pod), format!("{volume}cannot be mounted: {reason}"));
            Some(with_help(symptom, snapshot.chart(), pod, missing))
        })
        .collect()
}

fn with_help(
    symptom: Symptom,
    chart: &Utf8Path,
    pod: &serde_json::Value,
    missing: Option<MissingReference>,
) -> Symptom {
    let component = label(pod, COMPONENT);
    match missing {
        // Only a Secret with the content of .env has a digest in its name.
        Some(MissingReference { kind: "Secret", key: Some(key), name }) if name.contains(&format!("-{component}-")) => {
            symptom
                .help(format!(
                    "add {key} to .env and to {component}.secret.keys in {chart}/values.yaml, then deploy again"
                ))
                .help(format!("or remove the reference from {chart}/templates"))
        }
        Some(MissingReference { kind, key: Some(key), name }) => {
            symptom.help(format!("put key {key} into {kind} {name}, or remove the reference from {chart}/templates"))
        }
        Some(MissingReference { kind, key: None, name }) => symptom
            .help(format!("the chart refers to {kind} {name}, which nothing creates: correct the name in {chart}"))
            .help("create xtask's own Secrets again, if somebody deleted one: cargo xtask deploy dev"),
        None => symptom.help(format!("the message names what is missing; see {chart}/templates")),
    }
}

/// A reference to a missing Secret or ConfigMap, or to a missing key in one.
#[derive(Debug, PartialEq, Eq)]
struct MissingReference {
    kind: &'static str,
    name: String,
    key: Option<String>,
}

impl MissingReference {
    /// Parses a message of kubelet.
    fn parse(message: &str) -> Option<Self> {
        let kind = if message.to_lowercase().contains("configmap") { "ConfigMap" } else { "Secret" };
        // couldn't find key SMTP_PASSWORD in Secret todo/todo-postgres
        if let Some((_, rest)) = message.split_once("couldn't find key ") {
            let (key, rest) = rest.split_once(" in ")?;
            let name = rest.split(['/', ' ']).nth(2)?;
            return Some(Self { kind, name: name.to_owned(), key: Some(key.to_owned()) });
        }
        // … references non-existent secret key: SMTP_PASSWORD
        if let Some((_, rest)) = message.split_once("references non-existent ") {
            let key = rest.split_once("key: ")?.1.split([' ', ',', ']']).next()?;
            return Some(Self { kind, name: String::new(), key: Some(key.to_owned()) });
        }
        // secret "todo-smtp" not found
        let before = message.split("\" not found").next().filter(|before| before.len() < message.len())?;
        let name = before.rsplit_once('"')?.1;
        Some(Self { kind, name: name.to_owned(), key: None })
    }

    fn describe(&self) -> String {
        let Self { kind, name, key } = self;
        match key {
            Some(key) if name.is_empty() => format!("key {key} is not in the {kind}"),
            Some(key) => format!("key {key} is not in {kind} {name}"),
            None => format!("{kind} {name} does not exist"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_reference_is_read_from_kubelets_message() {
        let cases = [
            ("couldn't find key SMTP in Secret todo/todo-postgres", "key SMTP is not in Secret todo-postgres"),
            ("couldn't find key A in ConfigMap todo/todo-config", "key A is not in ConfigMap todo-config"),
            ("secret \"todo-smtp\" not found", "Secret todo-smtp does not exist"),
            (
                "MountVolume.SetUp failed for volume \"x\" : configmap \"todo-x\" not found",
                "ConfigMap todo-x does not exist",
            ),
            (
                "MountVolume.SetUp failed for volume \"secrets\" : references non-existent secret key: SMTP",
                "key SMTP is not in the Secret",
            ),
        ];
        for (message, described) in cases {
            assert_eq!(MissingReference::parse(message).unwrap().describe(), described);
        }
        assert_eq!(MissingReference::parse("timed out waiting for the condition"), None);
    }

    #[test]
    fn a_missing_key_of_dotenv_names_the_value_of_the_pods_component() {
        let help = |component: &str, name: &str| {
            let pod = serde_json::json!({"metadata": {"labels": {COMPONENT: component}}});
            let missing = MissingReference::parse(&format!("couldn't find key SMTP in Secret shop/{name}"));
            with_help(Symptom::fatal("pod/shop-1", "it waits"), "charts/shop".into(), &pod, missing).help[0]
                .text()
                .to_owned()
        };
        let dotenv = "add SMTP to .env and to api.secret.keys in charts/shop/values.yaml, then deploy again";
        assert_eq!(help("api", "shop-api-0a1b2c3d"), dotenv);
        assert!(help("db", "shop-db").starts_with("put key SMTP into Secret shop-db"));
    }
}
