//! The ingress controller: installed only where the cluster has no IngressClass that serves the chart's Ingress.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use camino::Utf8Path;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{Api, Propagation, Resource, Scope, kinds};
use crate::failure::{Class, Failure};
use crate::origin::Origin;
use crate::plan::Step;
use crate::process;
use crate::project::Project;
use crate::snapshot::{number, text};
use crate::stages::images::load::{self, Wanted};
use crate::toolbox::Toolbox;

/// Labels of the controller in `infra/ingress`.
const MANAGED: &str = "app.kubernetes.io/part-of=todo,app.kubernetes.io/component=ingress-controller";

/// The field manager of the controller's objects: that of `kubectl apply --server-side`, which older versions of xtask
/// used and which `infra/ingress` says to use by hand. Under another name fields that a newer manifest drops would stay.
const MANAGER: &str = "kubectl";

/// How long the controller may take to be available, from its manifests on.
const PATIENCE: Duration = Duration::from_secs(120);

/// The class of the controller in `infra/ingress`.
const CLASS: &str = "traefik";

/// An IngressClass.
#[derive(Clone, Debug, PartialEq, Eq)]
struct IngressClass {
    name: String,
    default: bool,
}

/// What there is of ingress controllers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ingress {
    classes: Vec<IngressClass>,
    /// The controller of our making: whether it is available, if there is one.
    ours: Option<bool>,
}

impl Ingress {
    /// Asks the cluster.
    pub fn observe(tools: &Toolbox) -> Result<Self> {
        let lists = tools.api()?.list_all(&[kinds::INGRESS_CLASS, kinds::DEPLOYMENT], Scope::Cluster)?;
        Ok(Self::of(lists.iter().flat_map(|list| &list.items)))
    }

    fn of<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut seen = Self::default();
        for object in objects {
            let label = |name: &str| object["metadata"]["labels"][name].as_str().unwrap_or_default();
            let ours = label("app.kubernetes.io/component") == "ingress-controller"
                && label("app.kubernetes.io/part-of") == "todo";
            match text(object, "/kind") {
                "IngressClass" => {
                    let default = &object["metadata"]["annotations"]["ingressclass.kubernetes.io/is-default-class"];
                    let name = text(object, "/metadata/name").to_owned();
                    seen.classes.push(IngressClass { name, default: default == "true" });
                }
                "Deployment" if ours => {
                    let available = number(object, "/status/availableReplicas") > 0;
                    seen.ours = Some(available || seen.ours.unwrap_or(false));
                }
                _ => {}
            }
        }
        seen
    }

    /// Whether the cluster has the class `wanted`; an empty name stands for the default one.
    fn has(&self, wanted: &str) -> bool {
        self.classes.iter().any(|class| if wanted.is_empty() { class.default } else { class.name == wanted })
    }
}

/// Why the controller must be installed for an Ingress of the class `wanted`.
fn why(ingress: &Ingress, wanted: &str) -> Option<&'static str> {
    match (ingress.has(wanted), ingress.ours) {
        (true, None | Some(true)) => None,
        (_, Some(false)) => Some("the ingress controller is not available"),
        (false, Some(true)) if ["", CLASS].contains(&wanted) => {
            Some("the IngressClass of the ingress controller is gone")
        }
        (false, None) if wanted.is_empty() && !ingress.classes.is_empty() => {
            Some("the cluster has no default IngressClass")
        }
        (false, None) if ["", CLASS].contains(&wanted) => Some("the cluster has no ingress controller"),
        // Ours would not serve that class either; the proof of the routes says what is missing.
        (false, _) => None,
    }
}

/// The step that brings the controller, if one is needed for an Ingress of the class `wanted`.
pub fn decide<'a>(
    project: &'a Project,
    tools: &'a Toolbox,
    origin: &'a dyn Origin,
    ingress: &Ingress,
    wanted: &str,
) -> Result<Option<Step<'a>>> {
    let Some(why) = why(ingress, wanted) else { return Ok(None) };
    let objects = manifests(&project.root.join(&project.settings.cluster.ingress))?;
    let image = origin.image(&project.settings.cluster.ingress_image);
    let mut command = format!("docker save {image} | ctr images import");
    for object in &objects {
        command.push_str(&format!("\n{}", Api::shown_apply(object, "default", MANAGER)));
    }
    Ok(Some(Step::new("install ingress controller", why, command, move |running| {
        let wanted = Wanted::of(project, &tools.engine, &image);
        for node in tools.nodes() {
            load::load(project, &tools.engine, &node, &wanted, running)?;
        }
        let api = tools.api()?;
        for object in &objects {
            api.apply(object, MANAGER)?;
        }
        running.progress("waiting for it to be available");
        wait_until_available(&api)?;
        Ok(project.settings.cluster.ingress_image.clone())
    })))
}

/// The objects of all files in `folder`, in the order of the files' names.
fn manifests(folder: &Utf8Path) -> Result<Vec<Value>> {
    let mut files = Vec::new();
    for entry in folder.read_dir_utf8().with_context(|| format!("reading {folder}"))? {
        files.push(entry?.into_path());
    }
    files.retain(|file| ["yaml", "yml"].contains(&file.extension().unwrap_or_default()));
    files.sort();
    let mut objects = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
        for document in serde_norway::Deserializer::from_str(&text) {
            let object = Value::deserialize(document)
                .map_err(|error| Failure::new(Class::Config, format!("{file} is not YAML: {error}")))?;
            // A document of comments alone.
            if !object.is_null() {
                objects.push(object);
            }
        }
    }
    Ok(objects)
}

fn wait_until_available(api: &Api) -> Result<()> {
    let begun = Instant::now();
    loop {
        let ours = api.select(&kinds::DEPLOYMENT, Scope::Cluster, MANAGED)?;
        let waiting: Vec<&Value> = ours.iter().filter(|deployment| !is_available(deployment)).collect();
        let Some(first) = waiting.first().filter(|_| !ours.is_empty()) else {
            if !ours.is_empty() {
                return Ok(());
            }
            let what = format!("infra/ingress has no Deployment with the labels {MANAGED}");
            return Err(Failure::new(Class::Config, what).into());
        };
        if process::ending() {
            anyhow::bail!("interrupted");
        }
        if begun.elapsed() > PATIENCE {
            let (name, available) = (text(first, "/metadata/name"), number(first, "/status/availableReplicas"));
            let what = format!(
                "the ingress controller is not available after {} s: Deployment {name} has {available} of {} replicas",
                PATIENCE.as_secs(),
                number(first, "/spec/replicas")
            );
            let help = "cargo xtask tool kubectl -- get pods,events -A";
            return Err(Failure::new(Class::Cluster, what).help(help).into());
        }
        std::thread::sleep(api.deadlines().poll);
    }
}

fn is_available(deployment: &Value) -> bool {
    // The conditions may still be about the generation before.
    let current = number(deployment, "/status/observedGeneration") >= number(deployment, "/metadata/generation");
    let conditions = deployment.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    current && conditions.into_iter().any(|c| c["type"] == "Available" && c["status"] == "True")
}

/// Removes the controller that deploy installed, unless another Ingress uses it. Gives what was done, if anything.
pub fn remove_controller(project: &Project, tools: &Toolbox) -> Result<Option<String>> {
    let api = tools.api()?;
    if api.select(&kinds::DEPLOYMENT, Scope::Cluster, MANAGED)?.is_empty() {
        return Ok(None);
    }
    if !api.list(&kinds::INGRESS, Scope::Cluster)?.items.is_empty() {
        return Ok(Some("ingress controller kept: other Ingresses use it".to_owned()));
    }
    // The namespace, which comes first, goes last.
    for object in manifests(&project.root.join(&project.settings.cluster.ingress))?.iter().rev() {
        let (namespace, name) = (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
        let api = api.in_namespace(if namespace.is_empty() { "default" } else { namespace });
        api.delete(Resource::of(object)?, name, Propagation::Background).context("removing the ingress controller")?;
    }
    Ok(Some("ingress controller removed".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// From lines of kind, component, part-of, available replicas, name and whether it is the default.
    fn parse(text: &str) -> Ingress {
        let object = |line: &str| {
            let [kind, component, part, available, name, default] = line.split('|').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            json!({"kind": kind, "metadata": {"name": name,
                       "labels": {"app.kubernetes.io/component": component, "app.kubernetes.io/part-of": part},
                       "annotations": {"ingressclass.kubernetes.io/is-default-class": default}},
                   "status": {"availableReplicas": available.parse::<u64>().ok()}})
        };
        Ingress::of(&text.lines().map(object).collect::<Vec<_>>())
    }

    #[test]
    fn the_manifests_of_the_project_are_read_in_order() {
        let folder = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/ingress");
        let objects = manifests(&folder).unwrap();
        let names: Vec<&str> = objects.iter().map(|object| text(object, "/kind")).collect();
        assert_eq!((names[0], names.last().copied()), ("Namespace", Some("Deployment")));
        assert!(objects.iter().all(|object| Resource::of(object).is_ok()), "{names:?}");
    }

    #[test]
    fn a_deployment_is_available_in_its_newest_generation() {
        let deployment = |generation: u64, status: &str| {
            json!({"metadata": {"generation": generation}, "status": {"observedGeneration": 2,
                   "conditions": [{"type": "Available", "status": status}]}})
        };
        assert!(is_available(&deployment(2, "True")));
        assert!(!is_available(&deployment(2, "False")) && !is_available(&deployment(3, "True")));
        assert!(!is_available(&json!({"metadata": {"generation": 1}})));
    }

    #[test]
    fn what_a_cluster_with_our_controller_answered_is_read() {
        let text = include_str!("../../../tests/recorded/cluster/ingress.json");
        let list: Value = serde_json::from_str(text).unwrap();
        let seen = Ingress::of(list["items"].as_array().unwrap());
        let classes = vec![IngressClass { name: CLASS.to_owned(), default: true }];
        assert_eq!(seen, Ingress { classes, ours: Some(true) });
    }

    #[test]
    fn a_class_that_serves_and_our_controller_are_told_from_others() {
        let why = |text: &str, wanted: &str| why(&parse(text), wanted);
        let other = "Deployment|||1|other|\n";
        assert_eq!(why(other, ""), Some("the cluster has no ingress controller"));
        let addon = "IngressClass|controller|||nginx|true\nDeployment|||1|nginx|\n";
        assert_eq!(why(addon, ""), None);
        // A class that nobody has made the default serves only who names it.
        let foreign = "IngressClass||||foreign|\n";
        assert_eq!(
            (why(foreign, ""), why(foreign, "foreign")),
            (Some("the cluster has no default IngressClass"), None)
        );
        // Ours would not serve it: the proof tells.
        assert_eq!(why(foreign, "nginx"), None);
        let ours = "IngressClass||todo||traefik|true\nDeployment|ingress-controller|todo|1|traefik|\n";
        assert_eq!((why(ours, ""), why(ours, "traefik")), (None, None));
        let down = ours.replace("|1|", "||");
        assert_eq!(why(&down, ""), Some("the ingress controller is not available"));
        let classless = "Deployment|ingress-controller|todo|1|traefik|\n";
        assert_eq!(why(classless, "traefik"), Some("the IngressClass of the ingress controller is gone"));
    }
}
