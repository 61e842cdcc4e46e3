//! The ingress controller: installed only where the cluster has no IngressClass that serves the chart's Ingress. One that
//! xtask installed is brought to the manifests of the checkout: older images have published holes, and older manifests let
//! it read more than it needs.

mod outage;

use std::collections::BTreeSet;

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
use crate::stages::images::node::NodeImages;
use crate::toolbox::Toolbox;
use outage::{Measured, Outage};

/// Labels of the controller in `infra/ingress`.
const MANAGED: &str = "app.kubernetes.io/part-of=todo,app.kubernetes.io/component=ingress-controller";

/// The field manager of the controller's objects: that of `kubectl apply --server-side`, which older versions of xtask
/// used and which `infra/ingress` says to use by hand. Under another name fields that a newer manifest drops would stay.
const MANAGER: &str = "kubectl";

/// The class of the controller in `infra/ingress`.
const CLASS: &str = "traefik";

/// What an IngressClass names for which Traefik is responsible.
const CONTROLLER: &str = "traefik.io/ingress-controller";

/// The argument with the namespaces that the controller serves; without it, it serves all.
const NAMESPACES: &str = "--providers.kubernetesingress.namespaces=";

/// Ends the lines of a manifest that name the release's namespace; in the files that is `todo`, for use by hand.
const RELEASE: &str = "  # the release's namespace";

/// An IngressClass.
#[derive(Clone, Debug, PartialEq, Eq)]
struct IngressClass {
    name: String,
    default: bool,
    /// Whether Traefik is responsible for it.
    traefik: bool,
}

/// What there is of ingress controllers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedIngress {
    classes: Vec<IngressClass>,
    /// The controller of our making: whether it is available, if there is one.
    ours: Option<bool>,
    /// Its Deployment.
    deployment: Value,
    /// The Roles and RoleBindings of our making in all namespaces.
    permissions: Vec<Value>,
    /// The other namespaces with Ingresses that it serves.
    others: BTreeSet<String>,
}

impl ObservedIngress {
    /// Asks the cluster.
    pub fn observe(tools: &Toolbox) -> Result<Self> {
        let api = tools.api()?;
        let kinds = [kinds::INGRESS_CLASS, kinds::DEPLOYMENT, kinds::ROLE, kinds::ROLE_BINDING];
        let lists = api.list_all(&kinds, Scope::Cluster)?;
        let mut seen = Self::of(lists.iter().flat_map(|list| &list.items));
        let own = tools.namespace();
        if seen.ours.is_some() && served(&seen.deployment).is_none_or(|all| all != [own]) {
            seen.others = seen.users(&api.list(&kinds::INGRESS, Scope::Cluster)?.items);
            seen.others.remove(own);
        }
        Ok(seen)
    }

    fn of<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut seen = Self::default();
        for object in objects {
            let label = |name: &str| object["metadata"]["labels"][name].as_str().unwrap_or_default();
            let part = label("app.kubernetes.io/part-of") == "todo";
            let ours = part && label("app.kubernetes.io/component") == "ingress-controller";
            match text(object, "/kind") {
                "IngressClass" => {
                    let default = &object["metadata"]["annotations"]["ingressclass.kubernetes.io/is-default-class"];
                    let name = text(object, "/metadata/name").to_owned();
                    let traefik = text(object, "/spec/controller") == CONTROLLER;
                    seen.classes.push(IngressClass { name, default: default == "true", traefik });
                }
                "Deployment" if ours => {
                    seen.deployment = object.clone();
                    let available = number(object, "/status/availableReplicas") > 0;
                    seen.ours = Some(available || seen.ours.unwrap_or(false));
                }
                "Role" | "RoleBinding" if part && label("app.kubernetes.io/name") == "traefik" => {
                    seen.permissions.push(object.clone());
                }
                _ => {}
            }
        }
        seen
    }

    /// The namespaces of those `ingresses` that the controller serves.
    fn users(&self, ingresses: &[Value]) -> BTreeSet<String> {
        let served = served(&self.deployment);
        let is_served = |ingress: &&Value| {
            let annotation = &ingress["metadata"]["annotations"]["kubernetes.io/ingress.class"];
            let named = [&ingress["spec"]["ingressClassName"], annotation];
            let class = named.into_iter().find_map(Value::as_str).unwrap_or_default();
            let namespace = text(ingress, "/metadata/namespace");
            self.ours.is_some()
                && served.as_ref().is_none_or(|all| all.contains(&namespace))
                && (["", CLASS].contains(&class) || self.classes.iter().any(|c| c.traefik && c.name == class))
        };
        ingresses.iter().filter(is_served).map(|ingress| text(ingress, "/metadata/namespace").to_owned()).collect()
    }

    /// Whether the controller lacks a permission in a namespace that `manifests` give it.
    fn lacks_permission(&self, manifests: &[Value]) -> bool {
        let given = |wanted: &Value| self.permissions.iter().any(|live| covers(live, wanted));
        manifests.iter().filter(|object| is_permission(object)).any(|wanted| !given(wanted))
    }

    /// The permissions in namespaces that `manifests` do not name.
    fn stale_permissions(&self, manifests: &[Value]) -> Vec<&Value> {
        let named = |live: &&Value| {
            manifests.iter().any(|wanted| {
                ["/kind", "/metadata/name", "/metadata/namespace"].iter().all(|at| text(live, at) == text(wanted, at))
            })
        };
        self.permissions.iter().filter(|live| !named(live)).collect()
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
fn reason(ingress: &ObservedIngress, manifests: &[Value], wanted: &str) -> Option<(&'static str, String)> {
    let install = why(ingress, wanted).map(|why| ("install", why.to_owned()));
    let update = || outdated(ingress, manifests).map(|why| ("update", why));
    let repair = || {
        let why = if ingress.lacks_permission(manifests) {
            "its permissions in the release's namespace are not those of infra/ingress".to_owned()
        } else {
            let namespace = text(ingress.stale_permissions(manifests).first()?, "/metadata/namespace");
            format!("it may still read the Secrets of namespace {namespace}, which it does not serve")
        };
        ingress.ours.is_some().then_some(("repair", why))
    };
    install.or_else(update).or_else(repair)
}

fn is_permission(object: &Value) -> bool {
    ["Role", "RoleBinding"].contains(&text(object, "/kind"))
}

/// The namespaces that the controller of `deployment` serves; `None`: all.
fn served(deployment: &Value) -> Option<Vec<&str>> {
    let arguments = deployment.pointer("/spec/template/spec/containers/0/args")?.as_array()?;
    let named = arguments.iter().filter_map(Value::as_str).find_map(|argument| argument.strip_prefix(NAMESPACES))?;
    Some(named.split(',').collect())
}

/// Why the controller must be installed for an Ingress of the class `wanted`.
fn why(ingress: &ObservedIngress, wanted: &str) -> Option<&'static str> {
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
fn outdated(ingress: &ObservedIngress, manifests: &[Value]) -> Option<String> {
    let wanted = manifests.iter().find(|object| object["kind"] == "Deployment")?;
    if ingress.ours.is_none() || covers(&ingress.deployment["spec"], &wanted["spec"]) {
        return None;
    }
    let (old, new) = (ingress.image(), image(wanted));
    let what = if old == new { "it differs from infra/ingress".to_owned() } else { format!("{old} -> {new}") };
    let others = served(wanted).into_iter().flatten().skip(1).collect::<Vec<_>>();
    let others = if others.is_empty() { String::new() } else { format!("it goes on serving {}; ", others.join(", ")) };
    Some(format!("{what}; {others}no route answers for some seconds"))
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
    ingress: &ObservedIngress,
    wanted: &str,
    namespace: Option<Value>,
) -> Result<Option<Step<'a>>> {
    let pinned = &project.settings.cluster.ingress_image;
    let objects = manifests(project, &ingress.others)?;
    let Some((what, why)) = reason(ingress, &objects, wanted) else { return Ok(None) };
    let image = origin.image(pinned);
    let mut command = format!("docker save {image} | ctr images import");
    let theirs = objects.iter().map(|object| (object, MANAGER));
    for (object, manager) in namespace.iter().map(|object| (object, crate::api::MANAGER)).chain(theirs) {
        command.push_str(&format!("\n{}", Api::shown_apply(object, "default", manager)));
    }
    for stale in ingress.stale_permissions(&objects) {
        let path = Resource::of(stale)?.object(text(stale, "/metadata/namespace"), text(stale, "/metadata/name"));
        command.push_str(&format!("\nDELETE {path}"));
    }
    let wanted_class = wanted.to_owned();
    Ok(Some(Step::new(format!("{what} ingress controller"), why, command, move |running| {
        // Minutes may have gone by.
        let now = ObservedIngress::observe(tools)?;
        let objects = manifests(project, &now.others)?;
        if reason(&now, &objects, &wanted_class).is_none() {
            return Ok("not needed: one is there by now".to_owned());
        }
        let wanted = Wanted::of(project, &tools.engine, &image)?;
        for node in tools.nodes()? {
            load::load(project, &tools.engine, &node, &NodeImages::default(), &wanted, running)?;
        }
        let api = tools.api()?;
        if let Some(namespace) = &namespace {
            api.apply(namespace, crate::api::MANAGER)?;
        }
        let outage = if outdated(&now, &objects).is_some() {
            running.progress("replacing its pod");
            update(&api, &objects, super::profile(tools)?.address())?
        } else {
            apply(&api, &objects)?;
            if now.ours.is_some() && now.lacks_permission(&objects) {
                // It waits longer and longer before it asks again for what it may not read.
                for pod in api.select(&kinds::POD, Scope::Cluster, MANAGED)? {
                    in_its_namespace(&api, &pod).delete(
                        &kinds::POD,
                        text(&pod, "/metadata/name"),
                        Propagation::Background,
                    )?;
                }
            }
            running.progress("waiting for it to be available");
            wait_until_available(&api)?;
            None
        };
        // The old pod, which needed them, is gone.
        for stale in now.stale_permissions(&objects) {
            let name = text(stale, "/metadata/name");
            in_its_namespace(&api, stale).delete(Resource::of(stale)?, name, Propagation::Background)?;
        }
        Ok(outage.map_or(pinned.clone(), |outage| format!("{pinned}, {outage}")))
    })))
}

/// Brings the controller to `objects`, or back to what was there. Returns how long `address` did not answer, if that is known.
fn update(api: &Api, objects: &[Value], address: Option<String>) -> Result<Option<Measured>> {
    let before = live(api, objects)?;
    // The node's port 80 belongs to one pod at a time, so the old one ends before the new one starts.
    let outage = Outage::begin(address.clone());
    let Err(error) = apply(api, objects).and_then(|()| wait_until_available(api)) else { return Ok(outage.end()) };
    let restored = apply(api, &before).and_then(|()| wait_until_available(api));
    let answers = outage.end().map(|measured| measured.answers);
    let what = match (restored, answers) {
        (Err(restoring), _) => format!("the one that ran before could not be restored: {restoring:#}"),
        (Ok(()), Some(true)) => "the controller that ran before serves again".to_owned(),
        (Ok(()), Some(false)) => format!(
            "the controller that ran before runs again, but {} does not answer as before",
            address.unwrap_or_default()
        ),
        (Ok(()), None) => "the controller that ran before runs again; no route was requested".to_owned(),
    };
    Err(Failure::new(Class::Cluster, format!("{error:#}\n  {what}"))
        .help("cargo xtask tool kubectl -- get pods,events -A")
        .into())
}

fn apply(api: &Api, objects: &[Value]) -> Result<()> {
    objects.iter().try_for_each(|object| api.apply(object, MANAGER).map(drop))
}

/// The client for the namespace of `object`; one of the whole cluster names none.
fn in_its_namespace(api: &Api, object: &Value) -> Api {
    let namespace = text(object, "/metadata/namespace");
    api.in_namespace(if namespace.is_empty() { "default" } else { namespace })
}

/// Those of `objects` that the cluster has, as they are there and as somebody would apply them.
fn live(api: &Api, objects: &[Value]) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for object in objects {
        let api = in_its_namespace(api, object);
        let Some(mut live) = api.get(Resource::of(object)?, text(object, "/metadata/name"))? else { continue };
        if let (Some(live), Some(wanted)) = (live["metadata"].as_object_mut(), object["metadata"].as_object()) {
            // The rest is the API server's.
            live.retain(|key, _| wanted.contains_key(key));
        }
        if let Some(live) = live.as_object_mut() {
            live.remove("status");
        }
        found.push(live);
    }
    Ok(found)
}

/// The objects of `infra/ingress`, for the namespace of the release and `others`.
fn manifests(project: &Project, others: &BTreeSet<String>) -> Result<Vec<Value>> {
    read_manifests(&project.root.join(&project.settings.cluster.ingress), &project.settings.chart.namespace, others)
}

/// The objects of all files in `folder`, in the order of the files' names. `others` have the Roles of `namespace`, too.
fn read_manifests(folder: &Utf8Path, namespace: &str, others: &BTreeSet<String>) -> Result<Vec<Value>> {
    let all = [namespace].into_iter().chain(others.iter().map(String::as_str)).collect::<Vec<_>>();
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
            Some(head) if head.ends_with(NAMESPACES) => format!("{head}{}\n", all.join(",")),
            Some(head) => format!("{head}{namespace}\n"),
            None => format!("{line}\n"),
        };
        let text: String = text.lines().map(line).collect();
        for document in serde_norway::Deserializer::from_str(&text) {
            let object = Value::deserialize(document)
                .map_err(|error| Failure::new(Class::Config, format!("{file} is not YAML: {error}")))?;
            if is_permission(&object) {
                objects.extend(all.iter().map(|namespace| {
                    let mut object = object.clone();
                    object["metadata"]["namespace"] = json!(namespace);
                    object
                }));
            } else if !object.is_null() {
                // Null is a document of comments alone.
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

/// Removes the controller that deploy installed, unless it serves other Ingresses. Gives what was done, if anything.
pub fn remove_controller(project: &Project, tools: &Toolbox) -> Result<Option<String>> {
    let api = tools.api()?;
    // The namespace goes last: as long as it is there, something may be left.
    if api.select(&kinds::NAMESPACE, Scope::Cluster, MANAGED)?.is_empty() {
        return Ok(None);
    }
    let mut lists = api.list_all(&[kinds::INGRESS, kinds::INGRESS_CLASS, kinds::DEPLOYMENT], Scope::Cluster)?;
    let ingresses = lists.remove(0).items;
    let seen = ObservedIngress::of(lists.iter().flat_map(|list| &list.items));
    let users = seen.users(&ingresses);
    if !users.is_empty() {
        let users: Vec<_> = users.into_iter().collect();
        return Ok(Some(format!("ingress controller kept: it serves Ingresses of namespace {}", users.join(", "))));
    }
    let others = served(&seen.deployment).unwrap_or_default().into_iter().map(str::to_owned);
    let others = others.filter(|name| name != tools.namespace()).collect();
    // The namespace, which comes first, goes last.
    for object in manifests(project, &others)?.iter().rev() {
        let (api, name) = (in_its_namespace(&api, object), text(object, "/metadata/name"));
        api.delete(Resource::of(object)?, name, Propagation::Background).context("removing the ingress controller")?;
    }
    Ok(Some("ingress controller removed".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::api_server::{ApiServer, Reply, status};
    use crate::api::tests::client;

    fn objects() -> Vec<Value> {
        objects_for(&[])
    }

    fn objects_for(others: &[&str]) -> Vec<Value> {
        let folder = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/ingress");
        read_manifests(&folder, "shop", &others.iter().map(|name| (*name).to_owned()).collect()).unwrap()
    }

    fn deployment(objects: &[Value]) -> Value {
        objects.iter().find(|object| object["kind"] == "Deployment").unwrap().clone()
    }

    /// The same without the argument that names the namespaces, as 0.2.x had it.
    fn wide(mut deployment: Value) -> Value {
        let arguments = &mut deployment["spec"]["template"]["spec"]["containers"][0]["args"];
        arguments.as_array_mut().unwrap().retain(|argument| !argument.as_str().unwrap().starts_with(NAMESPACES));
        deployment
    }

    fn ingress(namespace: &str, class: Option<&str>) -> Value {
        json!({"kind": "Ingress", "metadata": {"name": "web", "namespace": namespace},
               "spec": {"ingressClassName": class}})
    }

    /// From lines of kind, component, part-of, available replicas, name and whether it is the default.
    fn parse(text: &str) -> ObservedIngress {
        let object = |line: &str| {
            let [kind, component, part, available, name, default] = line.split('|').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            json!({"kind": kind, "metadata": {"name": name, "namespace": "shop",
                       "labels": {"app.kubernetes.io/component": component, "app.kubernetes.io/part-of": part},
                       "annotations": {"ingressclass.kubernetes.io/is-default-class": default}},
                   "status": {"availableReplicas": available.parse::<u64>().ok()}})
        };
        ObservedIngress::of(&text.lines().map(object).collect::<Vec<_>>())
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
        let seen = ObservedIngress::of(list["items"].as_array().unwrap());
        // The recording leaves the controller out.
        let classes = vec![IngressClass { name: CLASS.to_owned(), default: true, traefik: false }];
        assert_eq!((&seen.classes, seen.ours, seen.image()), (&classes, Some(true), "traefik:v3.6.7"));
    }

    #[test]
    fn only_a_controller_of_ours_that_differs_is_updated() {
        let objects = objects();
        let mut ours = deployment(&objects);
        ours["spec"]["progressDeadlineSeconds"] = json!(600);
        ours["spec"]["template"]["spec"]["containers"][0]["terminationMessagePath"] = json!("/dev/termination-log");
        let outdated = |live: &Value| outdated(&ObservedIngress::of([live]), &objects);
        assert_eq!(outdated(&ours), None, "what the API server adds is no difference");
        let pinned = image(&ours).to_owned();
        let mut old = ours.clone();
        old["spec"]["template"]["spec"]["containers"][0]["image"] = json!("traefik:v3.6.7");
        assert_eq!(outdated(&old).unwrap(), format!("traefik:v3.6.7 -> {pinned}; no route answers for some seconds"));
        assert_eq!(outdated(&wide(ours)).unwrap(), "it differs from infra/ingress; no route answers for some seconds");
        let mut foreign = old;
        foreign["metadata"]["labels"] = json!({});
        assert_eq!(outdated(&foreign), None);
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

    #[test]
    fn permissions_that_are_gone_changed_or_of_another_namespace_are_repaired() {
        let (objects, theirs) = (objects(), objects_for(&["web"]));
        let mut live = deployment(&objects);
        live["status"]["availableReplicas"] = json!(1);
        let class = objects.last().unwrap();
        let why = |permissions: &[Value]| {
            let seen = ObservedIngress::of(permissions.iter().chain([&live, class]));
            reason(&seen, &objects, "").map(|(what, why)| format!("{what}: {why}"))
        };
        let of = |objects: &[Value]| objects.iter().filter(|object| is_permission(object)).cloned().collect::<Vec<_>>();
        let own = of(&objects);
        assert_eq!((own.len(), why(&own)), (2, None));
        let lacks = "repair: its permissions in the release's namespace are not those of infra/ingress".to_owned();
        assert_eq!(why(&[]), Some(lacks.clone()), "the namespace was made again");
        let mut changed = own;
        changed[0]["rules"][0]["verbs"] = json!(["get"]);
        assert_eq!(why(&changed), Some(lacks));
        let stale = why(&of(&theirs)).unwrap();
        assert!(stale.starts_with("repair: it may still read the Secrets of namespace web"), "{stale}");
    }

    #[test]
    fn an_update_goes_on_serving_the_ingresses_of_other_namespaces() {
        let all = [ingress("shop", None), ingress("web", Some("traefik")), ingress("other", Some("nginx"))];
        let users = |deployment: Value| ObservedIngress::of(&[deployment]).users(&all).into_iter().collect::<Vec<_>>();
        let ours = deployment(&objects());
        assert_eq!(users(wide(ours.clone())), ["shop", "web"]);
        assert_eq!(users(ours.clone()), ["shop"]);
        assert!(ObservedIngress::default().users(&all).is_empty(), "no controller serves nobody");

        let objects = objects_for(&["web"]);
        assert_eq!(served(&deployment(&objects)), Some(vec!["shop", "web"]));
        let namespaces = objects.iter().filter(|object| object["kind"] == "Role");
        assert_eq!(namespaces.map(|role| text(role, "/metadata/namespace")).collect::<Vec<_>>(), ["shop", "web"]);
        let why = outdated(&ObservedIngress::of(&[wide(ours)]), &objects).unwrap();
        assert!(why.contains("it goes on serving web; "), "{why}");
    }

    #[test]
    fn an_update_that_fails_gives_the_permissions_back() {
        let server = ApiServer::start();
        let api = client(&server);
        let objects = objects();
        let role = objects.iter().find(|object| object["kind"] == "ClusterRole").unwrap();
        let mut before = role.clone();
        before["rules"] = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "watch"]}]);
        let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/todo-ingress-traefik";
        server.put(path, before.clone());
        let mut old = wide(deployment(&objects));
        let count = json!({"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        old["status"] = count;
        let deployments = "/apis/apps/v1/namespaces/ingress-traefik/deployments/traefik";
        server.put(deployments, old.clone());
        let list = json!({"kind": "DeploymentList", "apiVersion": "apps/v1", "metadata": {}, "items": [old]});
        server.on("GET /apis/apps/v1/deployments", &[Reply::Json(200, "", list)]);
        let refused = status(422, "Invalid", "a port is taken", json!({}));
        server.on(&format!("PATCH {deployments}"), &[Reply::Json(422, "", refused), Reply::Pass]);
        let error = update(&api, &objects, None).unwrap_err().to_string();
        assert!(error.contains("a port is taken"), "{error}");
        assert!(error.ends_with("the controller that ran before runs again; no route was requested"), "{error}");
        assert_eq!(server.object(path).unwrap()["rules"], before["rules"]);
        let restored = server.object(deployments).unwrap();
        assert!(served(&restored).is_none() && restored["status"].is_null(), "{restored}");
    }
}
