//! The ingress controller: installed only where the cluster has no IngressClass that serves the chart's Ingress. One that
//! xtask installed is brought to the manifests of the checkout: older images have published holes, and older manifests let
//! it read more than it needs.

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

/// Ends the lines of a manifest that name the release's namespace; in the files that is `todo`, for use by hand.
const RELEASE: &str = "  # the release's namespace";

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
    /// Its Deployment.
    deployment: Value,
    /// Names of the RoleBindings of our making in the release's namespace.
    bindings: Vec<String>,
}

impl Ingress {
    /// Asks the cluster.
    pub fn observe(tools: &Toolbox) -> Result<Self> {
        let kinds = [kinds::INGRESS_CLASS, kinds::DEPLOYMENT, kinds::ROLE_BINDING];
        let lists = tools.api()?.list_all(&kinds, Scope::Cluster)?;
        Ok(Self::of(lists.iter().flat_map(|list| &list.items), tools.namespace()))
    }

    fn of<'a>(objects: impl IntoIterator<Item = &'a Value>, namespace: &str) -> Self {
        let mut seen = Self::default();
        for object in objects {
            let label = |name: &str| object["metadata"]["labels"][name].as_str().unwrap_or_default();
            let part = label("app.kubernetes.io/part-of") == "todo";
            let ours = part && label("app.kubernetes.io/component") == "ingress-controller";
            match text(object, "/kind") {
                "IngressClass" => {
                    let default = &object["metadata"]["annotations"]["ingressclass.kubernetes.io/is-default-class"];
                    let name = text(object, "/metadata/name").to_owned();
                    seen.classes.push(IngressClass { name, default: default == "true" });
                }
                "Deployment" if ours => {
                    seen.deployment = object.clone();
                    let available = number(object, "/status/availableReplicas") > 0;
                    seen.ours = Some(available || seen.ours.unwrap_or(false));
                }
                "RoleBinding" if part && text(object, "/metadata/namespace") == namespace => {
                    seen.bindings.push(text(object, "/metadata/name").to_owned());
                }
                _ => {}
            }
        }
        seen
    }

    /// Whether the controller lacks a permission in the release's namespace that `manifests` give it.
    fn lacks_permission(&self, manifests: &[Value]) -> bool {
        let own = manifests.first().map_or("", |namespace| text(namespace, "/metadata/name"));
        let mut bindings = manifests.iter().filter(|object| object["kind"] == "RoleBinding");
        bindings.any(|binding| {
            text(binding, "/metadata/namespace") != own
                && !self.bindings.iter().any(|name| name == text(binding, "/metadata/name"))
        })
    }

    fn image(&self) -> &str {
        image(&self.deployment)
    }

    /// Whether the cluster has the class `wanted`; an empty name stands for the default one.
    fn has(&self, wanted: &str) -> bool {
        self.classes.iter().any(|class| if wanted.is_empty() { class.default } else { class.name == wanted })
    }
}

/// What must be done with the controller of `manifests` for an Ingress of the class `wanted`, and why.
fn reason(ingress: &Ingress, manifests: &[Value], wanted: &str) -> Option<(&'static str, String)> {
    let install = why(ingress, wanted).map(|why| ("install", why.to_owned()));
    let update = || outdated(ingress, manifests).map(|why| ("update", why));
    let lacks = ingress.ours.is_some() && ingress.lacks_permission(manifests);
    let repair = || lacks.then(|| ("repair", "it may not read the release's namespace".to_owned()));
    install.or_else(update).or_else(repair)
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

fn image(deployment: &Value) -> &str {
    text(deployment, "/spec/template/spec/containers/0/image")
}

/// Why the controller of our making must be updated to `manifests`.
fn outdated(ingress: &Ingress, manifests: &[Value]) -> Option<String> {
    let wanted = manifests.iter().find(|object| object["kind"] == "Deployment")?;
    if ingress.ours.is_none() || covers(&ingress.deployment["spec"], &wanted["spec"]) {
        return None;
    }
    let (old, new) = (ingress.image(), image(wanted));
    let what = if old == new { "it differs from infra/ingress".to_owned() } else { format!("{old} -> {new}") };
    Some(format!("{what}; no route answers for some seconds"))
}

/// Whether `live` has all of `wanted`; the API server adds defaults.
fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| live.get(key).is_some_and(|live| covers(live, value)))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| covers(live, wanted))
        }
        _ => live == wanted,
    }
}

/// The step that brings or updates the controller, if that is needed for an Ingress of the class `wanted`. `namespace` is
/// the release's, which is applied first where it is absent: the controller has a Role in it.
pub fn decide<'a>(
    project: &'a Project,
    tools: &'a Toolbox,
    origin: &'a dyn Origin,
    ingress: &Ingress,
    wanted: &str,
    namespace: Option<Value>,
) -> Result<Option<Step<'a>>> {
    let pinned = &project.settings.cluster.ingress_image;
    let objects = manifests(project)?;
    let Some((what, why)) = reason(ingress, &objects, wanted) else { return Ok(None) };
    let image = origin.image(pinned);
    let mut command = format!("docker save {image} | ctr images import");
    let theirs = objects.iter().map(|object| (object, MANAGER));
    for (object, manager) in namespace.iter().map(|object| (object, crate::api::MANAGER)).chain(theirs) {
        command.push_str(&format!("\n{}", Api::shown_apply(object, "default", manager)));
    }
    let wanted_class = wanted.to_owned();
    Ok(Some(Step::new(format!("{what} ingress controller"), why, command, move |running| {
        // Minutes may have gone by.
        let now = Ingress::observe(tools)?;
        if reason(&now, &objects, &wanted_class).is_none() {
            return Ok("not needed: one is there by now".to_owned());
        }
        let wanted = Wanted::of(project, &tools.engine, &image)?;
        for node in tools.nodes()? {
            load::load(project, &tools.engine, &node, &Stock::default(), &wanted, running)?;
        }
        let api = tools.api()?;
        if let Some(namespace) = &namespace {
            api.apply(namespace, crate::api::MANAGER)?;
        }
        if outdated(&now, &objects).is_none() {
            apply(&api, &objects)?;
            if now.ours.is_some() && now.lacks_permission(&objects) {
                // It waits longer and longer before it asks again for what it may not read.
                for pod in api.select(&kinds::POD, Scope::Cluster, MANAGED)? {
                    let api = api.in_namespace(text(&pod, "/metadata/namespace"));
                    api.delete(&kinds::POD, text(&pod, "/metadata/name"), Propagation::Background)?;
                }
            }
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

/// The objects of `infra/ingress`, for the namespace of the release.
fn manifests(project: &Project) -> Result<Vec<Value>> {
    read_manifests(&project.root.join(&project.settings.cluster.ingress), &project.settings.chart.namespace)
}

/// The objects of all files in `folder`, in the order of the files' names.
fn read_manifests(folder: &Utf8Path, namespace: &str) -> Result<Vec<Value>> {
    let mut files = Vec::new();
    for entry in folder.read_dir_utf8().with_context(|| format!("reading {folder}"))? {
        files.push(entry?.into_path());
    }
    files.retain(|file| ["yaml", "yml"].contains(&file.extension().unwrap_or_default()));
    files.sort();
    let mut objects = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
        let line = |line: &str| match line.strip_suffix(RELEASE).and_then(|line| line.strip_suffix("todo")) {
            Some(head) => format!("{head}{namespace}\n"),
            None => format!("{line}\n"),
        };
        let text: String = text.lines().map(line).collect();
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
    // It serves no other namespace.
    if !api.list(&kinds::INGRESS, Scope::Namespace)?.items.is_empty() {
        return Ok(Some("ingress controller kept: other Ingresses use it".to_owned()));
    }
    // The namespace, which comes first, goes last.
    for object in manifests(project)?.iter().rev() {
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

    fn objects() -> Vec<Value> {
        read_manifests(&Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/ingress"), "shop").unwrap()
    }

    /// From lines of kind, component, part-of, available replicas, name and whether it is the default.
    fn parse(text: &str) -> Ingress {
        let object = |line: &str| {
            let [kind, component, part, available, name, default] = line.split('|').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            json!({"kind": kind, "metadata": {"name": name, "namespace": "shop",
                       "labels": {"app.kubernetes.io/component": component, "app.kubernetes.io/part-of": part},
                       "annotations": {"ingressclass.kubernetes.io/is-default-class": default}},
                   "status": {"availableReplicas": available.parse::<u64>().ok()}})
        };
        Ingress::of(&text.lines().map(object).collect::<Vec<_>>(), "shop")
    }

    #[test]
    fn the_manifests_of_the_project_are_read_in_order() {
        let objects = objects();
        let names: Vec<&str> = objects.iter().map(|object| text(object, "/kind")).collect();
        // A cluster that has the class has the controller.
        assert_eq!((names[0], names.last().copied()), ("Namespace", Some("IngressClass")));
        assert!(objects.iter().all(|object| Resource::of(object).is_ok()), "{names:?}");
    }

    #[test]
    fn the_controller_reads_secrets_of_the_releases_namespace_alone() {
        let objects = objects();
        let reads = |object: &&Value| object["rules"].to_string().contains("\"secrets\"");
        let roles: Vec<_> =
            objects.iter().filter(reads).map(|role| (text(role, "/kind"), text(role, "/metadata/namespace"))).collect();
        assert_eq!(roles, [("Role", "shop")]);
        let all = Value::from(objects).to_string();
        assert!(all.contains("\"--providers.kubernetesingress.namespaces=shop\""), "{all}");
        assert!(!all.contains("\"namespace\":\"todo\""), "{all}");
    }

    #[test]
    fn what_a_cluster_with_our_controller_answered_is_read() {
        let text = include_str!("../../../tests/recorded/cluster/ingress.json");
        let list: Value = serde_json::from_str(text).unwrap();
        let seen = Ingress::of(list["items"].as_array().unwrap(), "todo");
        let classes = vec![IngressClass { name: CLASS.to_owned(), default: true }];
        assert_eq!((&seen.classes, seen.ours, seen.image()), (&classes, Some(true), "traefik:v3.6.7"));
    }

    #[test]
    fn only_a_controller_of_ours_that_differs_is_updated() {
        let objects = objects();
        let mut ours = objects.iter().find(|object| object["kind"] == "Deployment").unwrap().clone();
        ours["spec"]["progressDeadlineSeconds"] = json!(600);
        ours["spec"]["template"]["spec"]["containers"][0]["terminationMessagePath"] = json!("/dev/termination-log");
        let outdated = |live: &Value| outdated(&Ingress::of([live], "shop"), &objects);
        assert_eq!(outdated(&ours), None, "what the API server adds is no difference");
        let pinned = image(&ours).to_owned();
        let mut old = ours.clone();
        old["spec"]["template"]["spec"]["containers"][0]["image"] = json!("traefik:v3.6.7");
        assert_eq!(outdated(&old).unwrap(), format!("traefik:v3.6.7 -> {pinned}; no route answers for some seconds"));
        let mut wide = ours.clone();
        wide["spec"]["template"]["spec"]["containers"][0]["args"].as_array_mut().unwrap().pop();
        assert_eq!(outdated(&wide).unwrap(), "it differs from infra/ingress; no route answers for some seconds");
        let mut foreign = old;
        foreign["metadata"]["labels"] = json!({});
        assert_eq!(outdated(&foreign), None);
    }

    #[test]
    fn a_class_that_serves_and_our_controller_are_told_from_others() {
        let objects = objects();
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
        let binding = "RoleBinding||todo||todo-ingress-traefik|\n";
        let ours =
            format!("IngressClass||todo||traefik|true\nDeployment|ingress-controller|todo|1|traefik|\n{binding}");
        assert_eq!((why(&ours, ""), why(&ours, "traefik")), (None, None));
        let lacks = |text: &str| parse(text).lacks_permission(&objects);
        assert!(!lacks(&ours) && lacks(&ours.replace(binding, "")), "the namespace was made again");
        let down = ours.replace("|1|", "||");
        assert_eq!(why(&down, ""), Some("the ingress controller is not available"));
        let classless = format!("Deployment|ingress-controller|todo|1|traefik|\n{binding}");
        assert_eq!(why(&classless, "traefik"), Some("the IngressClass of the ingress controller is gone"));
    }
}
