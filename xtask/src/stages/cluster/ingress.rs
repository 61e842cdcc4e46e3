//! The ingress controller: installed only where the cluster has no IngressClass that serves the chart's Ingress. One that
//! xtask installed is updated to the pinned image: older ones have published holes.

mod outage;

use anyhow::{Context, Result};
use camino::Utf8Path;
use serde::Deserialize;
use serde_json::{Value, json};

use super::available;
use crate::api::{Api, Propagation, Resource, Scope, kinds};
use crate::failure::{Class, Failure};
use crate::origin::Origin;
use crate::plan::Step;
use crate::project::Project;
use crate::snapshot::{number, text};
use crate::stages::images::load::{self, Wanted};
use crate::stages::images::node::Stock;
use crate::toolbox::Toolbox;
use outage::Outage;

/// Labels of the controller in `infra/ingress`.
const MANAGED: &str = "app.kubernetes.io/part-of=todo,app.kubernetes.io/component=ingress-controller";

/// The field manager of the controller's objects: that of `kubectl apply --server-side`, which older versions of xtask
/// used and which `infra/ingress` says to use by hand. Under another name fields that a newer manifest drops would stay.
const MANAGER: &str = "kubectl";

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
    /// The image that it runs.
    image: String,
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
                    seen.image = text(object, "/spec/template/spec/containers/0/image").to_owned();
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

/// Why the controller of our making must be updated to the image `pinned`.
fn outdated(ingress: &Ingress, pinned: &str) -> Option<String> {
    let other = ingress.ours.is_some() && !ingress.image.is_empty() && ingress.image != pinned;
    other.then(|| format!("{} -> {pinned}; no route answers for some seconds", ingress.image))
}

/// The step that brings or updates the controller, if that is needed for an Ingress of the class `wanted`.
pub fn decide<'a>(
    project: &'a Project,
    tools: &'a Toolbox,
    origin: &'a dyn Origin,
    ingress: &Ingress,
    wanted: &str,
) -> Result<Option<Step<'a>>> {
    let pinned = &project.settings.cluster.ingress_image;
    let outdated = outdated(ingress, pinned);
    let (what, why) = match (why(ingress, wanted), &outdated) {
        (Some(why), _) => ("install", why.to_owned()),
        (None, Some(outdated)) => ("update", outdated.clone()),
        (None, None) => return Ok(None),
    };
    let objects = manifests(&project.root.join(&project.settings.cluster.ingress))?;
    let image = origin.image(pinned);
    let mut command = format!("docker save {image} | ctr images import");
    for object in &objects {
        command.push_str(&format!("\n{}", Api::shown_apply(object, "default", MANAGER)));
    }
    let wanted_class = wanted.to_owned();
    Ok(Some(Step::new(format!("{what} ingress controller"), why, command, move |running| {
        // Minutes may have gone by.
        let now = Ingress::observe(tools)?;
        let outdated = self::outdated(&now, pinned);
        if self::why(&now, &wanted_class).is_none() && outdated.is_none() {
            return Ok("not needed: one is there by now".to_owned());
        }
        let wanted = Wanted::of(project, &tools.engine, &image)?;
        for node in tools.nodes()? {
            load::load(project, &tools.engine, &node, &Stock::default(), &wanted, running)?;
        }
        let api = tools.api()?;
        if outdated.is_none() {
            apply(&api, &objects)?;
            running.progress("waiting for it to be available");
            wait_until_available(&api)?;
            return Ok(pinned.clone());
        }
        // The node's port 80 belongs to one pod at a time, so the old one ends before the new one starts.
        let before = live_controller(&api)?;
        let outage = Outage::begin(super::profile(tools)?.address());
        running.progress("replacing its pod");
        let updated = apply(&api, &objects).and_then(|()| wait_until_available(&api));
        let outage = outage.end();
        if let Err(error) = updated {
            let restored = apply(&api, std::slice::from_ref(&before)).and_then(|()| wait_until_available(&api));
            let what = match restored {
                Ok(()) => "the controller that ran before serves again".to_owned(),
                Err(restoring) => format!("the one that ran before could not be restored: {restoring:#}"),
            };
            return Err(Failure::new(Class::Cluster, format!("{error:#}\n  {what}"))
                .help("cargo xtask tool kubectl -- get pods,events -A")
                .into());
        }
        Ok(outage.map_or(pinned.clone(), |outage| format!("{pinned}, {outage}")))
    })))
}

fn apply(api: &Api, objects: &[Value]) -> Result<()> {
    objects.iter().try_for_each(|object| api.apply(object, MANAGER).map(drop))
}

/// The controller's Deployment as somebody would apply it.
fn live_controller(api: &Api) -> Result<Value> {
    let live = api.select(&kinds::DEPLOYMENT, Scope::Cluster, MANAGED)?;
    let live = live.first().context("the ingress controller's Deployment is gone")?;
    let metadata = &live["metadata"];
    let metadata = json!({"name": metadata["name"], "namespace": metadata["namespace"], "labels": metadata["labels"]});
    Ok(json!({"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata, "spec": live["spec"]}))
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
    if available::wait(api, "the ingress controller", MANAGED)? {
        return Ok(());
    }
    let what = format!("infra/ingress has no Deployment with the labels {MANAGED}");
    Err(Failure::new(Class::Config, what).into())
}

/// Removes the controller that deploy installed, unless another Ingress uses it. Gives what was done, if anything.
pub fn remove_controller(project: &Project, tools: &Toolbox) -> Result<Option<String>> {
    let api = tools.api()?;
    // The namespace goes last: as long as it is there, something may be left.
    if api.select(&kinds::NAMESPACE, Scope::Cluster, MANAGED)?.is_empty() {
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
            let [kind, component, part, available, name, default, ref image @ ..] =
                line.split('|').collect::<Vec<_>>()[..]
            else {
                panic!("{line}")
            };
            json!({"kind": kind, "spec": {"template": {"spec": {"containers": [{"image": image.concat()}]}}}, "metadata": {"name": name,
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
        // A cluster that has the class has the controller.
        assert_eq!((names[0], names.last().copied()), ("Namespace", Some("IngressClass")));
        assert!(objects.iter().all(|object| Resource::of(object).is_ok()), "{names:?}");
    }

    #[test]
    fn what_a_cluster_with_our_controller_answered_is_read() {
        let text = include_str!("../../../tests/recorded/cluster/ingress.json");
        let list: Value = serde_json::from_str(text).unwrap();
        let seen = Ingress::of(list["items"].as_array().unwrap());
        let classes = vec![IngressClass { name: CLASS.to_owned(), default: true }];
        assert_eq!(seen, Ingress { classes, ours: Some(true), image: "traefik:v3.6.7".to_owned() });
    }

    #[test]
    fn only_a_controller_of_ours_with_another_image_is_updated() {
        let outdated = |text: &str| outdated(&parse(text), "traefik:v3.7.13");
        let ours = "Deployment|ingress-controller|todo|1|traefik||traefik:v3.6.7\n";
        let why = "traefik:v3.6.7 -> traefik:v3.7.13; no route answers for some seconds";
        assert_eq!(outdated(ours).as_deref(), Some(why));
        assert_eq!(outdated(&ours.replace("3.6.7", "3.7.13")), None);
        assert_eq!(outdated("Deployment|||1|traefik||traefik:v3.6.7\nIngressClass||||nginx|true|\n"), None);
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
