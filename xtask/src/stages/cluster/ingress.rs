//! Installs the ingress controller if the cluster has no IngressClass for the chart's Ingress. Updates xtask's controller to
//! the checkout's manifests: older images have vulnerabilities, and older manifests let it read more than it needs.

mod outage;

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use serde_json::{Value, json};

use super::available;
use crate::api::{Api, Propagation, Resource, Scope, kinds};
use crate::failure::{self, Class, Failure};
use crate::labels::{COMPONENT, Release, label};
use crate::node::NodeImages;
use crate::origin::Origin;
use crate::plan::Step;
use crate::snapshot::{number, text};
use crate::stages::images::load::{self, Wanted};
use crate::toolbox::Toolbox;
use outage::{Outage, OutageProbe};

/// The component of the controller in `infra/ingress`.
const CONTROLLERS: &str = "ingress-controller";

/// The field manager of the controller's objects: that of `kubectl apply --server-side`, which older versions of xtask used
/// and users may use by hand. With another manager, fields that a newer manifest drops would stay.
const MANAGER: &str = "kubectl";

/// The class of the controller in `infra/ingress`.
const CLASS: &str = "traefik";

/// The `spec.controller` of an IngressClass that Traefik serves.
const CONTROLLER: &str = "traefik.io/ingress-controller";

/// The argument with the namespaces that the controller serves. Without it, the controller serves all.
const NAMESPACES: &str = "--providers.kubernetesingress.namespaces=";

/// The comment on lines of a manifest that end in the release's namespace. The files have a default there, for use by hand.
const RELEASE: &str = "  # the release's namespace";

/// An IngressClass.
#[derive(Clone, Debug, PartialEq, Eq)]
struct IngressClass {
    name: String,
    default: bool,
    /// Whether Traefik serves the class.
    traefik: bool,
}

/// The ingress controllers of the cluster, as observed before any step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedIngress {
    classes: Vec<IngressClass>,
    /// Whether xtask's controller is available; `None` if the cluster does not have it.
    ours: Option<bool>,
    /// The Deployment of xtask's controller.
    deployment: Value,
    /// The Roles and RoleBindings of xtask's controller in all namespaces.
    permissions: Vec<Value>,
    /// Namespaces other than the release's whose Ingresses it serves.
    others: BTreeSet<String>,
}

impl ObservedIngress {
    /// Reads the ingress controllers from the cluster.
    pub fn observe(tools: &Toolbox) -> Result<Self> {
        let api = tools.api()?;
        let kinds = [kinds::INGRESS_CLASS, kinds::DEPLOYMENT, kinds::ROLE, kinds::ROLE_BINDING];
        let lists = api.list_all(&kinds, Scope::Cluster)?;
        let mut observed = Self::of(lists.iter().flat_map(|list| &list.items), tools.release());
        let own = tools.namespace();
        if observed.ours.is_some() && served_namespaces(&observed.deployment).is_none_or(|all| all != [own]) {
            observed.others = observed.namespaces_with_ingresses(&api.list(&kinds::INGRESS, Scope::Cluster)?.items);
            observed.others.remove(own);
        }
        Ok(observed)
    }

    fn of<'a>(objects: impl IntoIterator<Item = &'a Value>, release: &Release) -> Self {
        let mut observed = Self::default();
        for object in objects {
            let part = release.is_part(object);
            let ours = part && label(object, COMPONENT) == CONTROLLERS;
            match text(object, "/kind") {
                "IngressClass" => {
                    let default = &object["metadata"]["annotations"]["ingressclass.kubernetes.io/is-default-class"];
                    let name = text(object, "/metadata/name").to_owned();
                    let traefik = text(object, "/spec/controller") == CONTROLLER;
                    observed.classes.push(IngressClass { name, default: default == "true", traefik });
                }
                "Deployment" if ours => {
                    observed.deployment = object.clone();
                    let available = number(object, "/status/availableReplicas") > 0;
                    observed.ours = Some(available || observed.ours.unwrap_or(false));
                }
                "Role" | "RoleBinding" if part && label(object, "app.kubernetes.io/name") == "traefik" => {
                    observed.permissions.push(object.clone());
                }
                _ => {}
            }
        }
        observed
    }

    /// Returns the namespaces of those `ingresses` that the controller serves.
    fn namespaces_with_ingresses(&self, ingresses: &[Value]) -> BTreeSet<String> {
        let served = served_namespaces(&self.deployment);
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

    /// Returns whether the controller lacks a Role or RoleBinding of `manifests`.
    fn lacks_permission(&self, manifests: &[Value]) -> bool {
        let given = |wanted: &Value| self.permissions.iter().any(|live| contains_all(live, wanted));
        manifests.iter().filter(|object| is_permission(object)).any(|wanted| !given(wanted))
    }

    /// Returns the Roles and RoleBindings that `manifests` do not have.
    fn stale_permissions(&self, manifests: &[Value]) -> Vec<&Value> {
        let named = |live: &&Value| {
            manifests.iter().any(|wanted| {
                ["/kind", "/metadata/name", "/metadata/namespace"].iter().all(|at| text(live, at) == text(wanted, at))
            })
        };
        self.permissions.iter().filter(|live| !named(live)).collect()
    }

    fn image(&self) -> &str {
        image_of(&self.deployment)
    }

    /// Returns whether the cluster has the class `wanted`; an empty name means the default class.
    fn has(&self, wanted: &str) -> bool {
        self.classes.iter().any(|class| if wanted.is_empty() { class.default } else { class.name == wanted })
    }
}

/// Returns what to do with the controller for an Ingress of the class `wanted` (`install`, `update`, `repair`), and why.
fn needed_action(ingress: &ObservedIngress, manifests: &[Value], wanted: &str) -> Option<(&'static str, String)> {
    let install = install_reason(ingress, wanted).map(|why| ("install", why.to_owned()));
    let update = || update_reason(ingress, manifests).map(|why| ("update", why));
    let repair = || {
        let why = if ingress.lacks_permission(manifests) {
            "its permissions in the release's namespace are not those of its manifests".to_owned()
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

/// Returns the namespaces that the controller in `deployment` serves; `None` means all.
fn served_namespaces(deployment: &Value) -> Option<Vec<&str>> {
    let arguments = deployment.pointer("/spec/template/spec/containers/0/args")?.as_array()?;
    let named = arguments.iter().filter_map(Value::as_str).find_map(|argument| argument.strip_prefix(NAMESPACES))?;
    Some(named.split(',').collect())
}

fn install_reason(ingress: &ObservedIngress, wanted: &str) -> Option<&'static str> {
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
        // xtask's controller would not serve that class either. The proof's route checks name what is missing.
        (false, _) => None,
    }
}

fn image_of(deployment: &Value) -> &str {
    text(deployment, "/spec/template/spec/containers/0/image")
}

fn update_reason(ingress: &ObservedIngress, manifests: &[Value]) -> Option<String> {
    let wanted = manifests.iter().find(|object| object["kind"] == "Deployment")?;
    if ingress.ours.is_none() || contains_all(&ingress.deployment["spec"], &wanted["spec"]) {
        return None;
    }
    let (old, new) = (ingress.image(), image_of(wanted));
    let what = if old == new { "it differs from its manifests".to_owned() } else { format!("{old} -> {new}") };
    let others = served_namespaces(wanted).into_iter().flatten().skip(1).collect::<Vec<_>>();
    let others = if others.is_empty() { String::new() } else { format!("it goes on serving {}; ", others.join(", ")) };
    Some(format!("{what}; {others}no route answers for some seconds"))
}

/// Returns whether `live` has all of `wanted`. It may have more, because the API server adds defaults.
fn contains_all(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| live.get(key).is_some_and(|live| contains_all(live, value)))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| contains_all(live, wanted))
        }
        _ => live == wanted,
    }
}

/// Returns the step that installs, updates or repairs the controller of the image `pinned`, if an Ingress of the class `wanted` needs it.
/// `namespace` is the release's Namespace if the cluster lacks it: the controller needs it for a Role.
pub fn decide<'a>(
    pinned: &'a str,
    tools: &'a Toolbox,
    origin: &'a dyn Origin,
    ingress: &ObservedIngress,
    manifests: ControllerManifests,
    wanted: &str,
    namespace: Option<Value>,
) -> Result<Option<Step<'a>>> {
    let objects = manifests.objects(tools.namespace(), &ingress.others)?;
    let Some((what, why)) = needed_action(ingress, &objects, wanted) else { return Ok(None) };
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
        // Minutes may have passed since the decision.
        let now = ObservedIngress::observe(tools)?;
        let objects = manifests.objects(tools.namespace(), &now.others)?;
        if needed_action(&now, &objects, &wanted_class).is_none() {
            return Ok("not needed any more: the cluster has one now".to_owned());
        }
        let wanted = Wanted::of(tools, &image)?;
        for node in tools.nodes()? {
            load::load(tools, &node, &NodeImages::default(), &wanted, running)?;
        }
        let api = tools.api()?;
        if let Some(namespace) = &namespace {
            api.apply(namespace, crate::api::MANAGER)?;
        }
        let outage = if update_reason(&now, &objects).is_some() {
            running.progress("replacing its pod");
            update(&api, &objects, tools.release(), super::profile(tools)?.address())?
        } else {
            apply(&api, &objects)?;
            if now.ours.is_some() && now.lacks_permission(&objects) {
                // Traefik backs off longer and longer after a refused request, so new pods are faster.
                for pod in api.select(&kinds::POD, Scope::Cluster, &tools.release().component_selector(CONTROLLERS))? {
                    in_its_namespace(&api, &pod).delete(
                        &kinds::POD,
                        text(&pod, "/metadata/name"),
                        Propagation::Background,
                    )?;
                }
            }
            running.progress("waiting for it to be available");
            wait_until_available(&api, tools.release())?;
            None
        };
        // No pod needs these any more.
        for stale in now.stale_permissions(&objects) {
            let name = text(stale, "/metadata/name");
            in_its_namespace(&api, stale).delete(Resource::of(stale)?, name, Propagation::Background)?;
        }
        Ok(outage.map_or(pinned.to_owned(), |outage| format!("{pinned}, {outage}")))
    })))
}

/// Updates the controller to `objects`, or restores the old objects if that fails. Returns the measured outage of `address`.
fn update(api: &Api, objects: &[Value], release: &Release, address: Option<String>) -> Result<Option<Outage>> {
    let before = read_live_objects(api, objects)?;
    // The node's port 80 allows one pod at a time, so the old pod ends before the new one starts.
    let outage = OutageProbe::begin(address.clone());
    let apply = |objects: &[Value]| apply(api, objects).and_then(|()| wait_until_available(api, release));
    let Err(error) = apply(objects) else { return Ok(outage.end()) };
    let restored = apply(&before);
    let answers = outage.end().map(|measured| measured.answers);
    let what = match (restored, answers) {
        (Err(restoring), _) => {
            format!("the previous controller could not be restored: {}", failure::message(&restoring))
        }
        (Ok(()), Some(true)) => "the previous controller serves again".to_owned(),
        (Ok(()), Some(false)) => {
            format!("the previous controller runs again, but {} does not answer as before", address.unwrap_or_default())
        }
        (Ok(()), None) => "the previous controller runs again; no route was requested".to_owned(),
    };
    Err(Failure::new(Class::Cluster, "the ingress controller could not be updated")
        .because(error)
        .append(format!("\n  {what}"))
        .help("cargo xtask tool kubectl -- get pods,events -A")
        .into())
}

fn apply(api: &Api, objects: &[Value]) -> Result<()> {
    objects.iter().try_for_each(|object| api.apply(object, MANAGER).map(drop))
}

/// Returns the client for the namespace of `object`. Objects of the whole cluster have none.
fn in_its_namespace(api: &Api, object: &Value) -> Api {
    let namespace = text(object, "/metadata/namespace");
    api.in_namespace(if namespace.is_empty() { "default" } else { namespace })
}

/// Reads those of `objects` that the cluster has, without the fields that the API server sets.
fn read_live_objects(api: &Api, objects: &[Value]) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for object in objects {
        let api = in_its_namespace(api, object);
        let Some(mut live) = api.get(Resource::of(object)?, text(object, "/metadata/name"))? else { continue };
        if let (Some(live), Some(wanted)) = (live["metadata"].as_object_mut(), object["metadata"].as_object()) {
            // The API server sets the rest.
            live.retain(|key, _| wanted.contains_key(key));
        }
        if let Some(live) = live.as_object_mut() {
            live.remove("status");
        }
        found.push(live);
    }
    Ok(found)
}

/// The controller's manifests: path and text of each file, in the order of file names.
#[derive(Clone, Debug)]
pub struct ControllerManifests(Vec<(Utf8PathBuf, String)>);

impl ControllerManifests {
    /// Reads the files of `folder`.
    pub fn read(folder: &Utf8Path) -> Result<Self> {
        let mut files = Vec::new();
        for entry in folder.read_dir_utf8().with_context(|| format!("reading {folder}"))? {
            files.push(entry?.into_path());
        }
        files.retain(|file| ["yaml", "yml"].contains(&file.extension().unwrap_or_default()));
        files.sort();
        let read = |file: Utf8PathBuf| {
            let text = std::fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
            Ok((file, text))
        };
        files.into_iter().map(read).collect::<Result<_>>().map(Self)
    }

    /// Returns the objects for the release's `namespace`. Repeats each Role of it for `others`.
    fn objects(&self, namespace: &str, others: &BTreeSet<String>) -> Result<Vec<Value>> {
        let all = [namespace].into_iter().chain(others.iter().map(String::as_str)).collect::<Vec<_>>();
        let mut objects = Vec::new();
        for (file, text) in &self.0 {
            let without_default = |line: &'_ str| line.rfind([' ', '=']).map(|at| line[..=at].to_owned());
            let line = |line: &str| match line.strip_suffix(RELEASE).and_then(without_default) {
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
                    // A document of comments alone is null.
                    objects.push(object);
                }
            }
        }
        Ok(objects)
    }
}

fn wait_until_available(api: &Api, release: &Release) -> Result<()> {
    let labels = release.component_selector(CONTROLLERS);
    if available::wait(api, "the ingress controller", &labels)? {
        return Ok(());
    }
    let what = format!("the manifests of cluster.ingress have no Deployment with the labels {labels}");
    Err(Failure::new(Class::Config, what).into())
}

/// Removes the controller of `manifests`, which a deploy installed, unless it serves other Ingresses. Describes what it did, if anything.
pub fn remove_controller(tools: &Toolbox, manifests: &ControllerManifests) -> Result<Option<String>> {
    let api = tools.api()?;
    // The namespace is deleted last, so while it exists, other objects may exist.
    let labels = tools.release().component_selector(CONTROLLERS);
    if api.select(&kinds::NAMESPACE, Scope::Cluster, &labels)?.is_empty() {
        return Ok(None);
    }
    let mut lists = api.list_all(&[kinds::INGRESS, kinds::INGRESS_CLASS, kinds::DEPLOYMENT], Scope::Cluster)?;
    let ingresses = lists.remove(0).items;
    let observed = ObservedIngress::of(lists.iter().flat_map(|list| &list.items), tools.release());
    let namespaces = observed.namespaces_with_ingresses(&ingresses);
    if !namespaces.is_empty() {
        let list = Vec::from_iter(namespaces).join(", ");
        return Ok(Some(format!("ingress controller kept: it serves Ingresses of namespace {list}")));
    }
    let others = served_namespaces(&observed.deployment).unwrap_or_default().into_iter().map(str::to_owned);
    let others = others.filter(|name| name != tools.namespace()).collect();
    // In reverse order, so that the namespace is deleted last.
    for object in manifests.objects(tools.namespace(), &others)?.iter().rev() {
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

    fn release() -> Release {
        Release::of("todo", "shop")
    }

    fn objects() -> Vec<Value> {
        objects_for(&[])
    }

    fn objects_for(others: &[&str]) -> Vec<Value> {
        let folder = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/ingress");
        let manifests = ControllerManifests::read(&folder).unwrap();
        manifests.objects("shop", &others.iter().map(|name| (*name).to_owned()).collect()).unwrap()
    }

    fn deployment(objects: &[Value]) -> Value {
        objects.iter().find(|object| object["kind"] == "Deployment").unwrap().clone()
    }

    /// Returns `deployment` without the argument for namespaces, as in version 0.2.x.
    fn without_namespaces(mut deployment: Value) -> Value {
        let arguments = &mut deployment["spec"]["template"]["spec"]["containers"][0]["args"];
        arguments.as_array_mut().unwrap().retain(|argument| !argument.as_str().unwrap().starts_with(NAMESPACES));
        deployment
    }

    fn ingress(namespace: &str, class: Option<&str>) -> Value {
        json!({"kind": "Ingress", "metadata": {"name": "web", "namespace": namespace},
               "spec": {"ingressClassName": class}})
    }

    /// Parses lines of kind, component, part-of, available replicas, name and whether it is the default class.
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
        ObservedIngress::of(&text.lines().map(object).collect::<Vec<_>>(), &release())
    }

    #[test]
    fn reads_the_projects_manifests_in_order() {
        let objects = objects();
        let names: Vec<&str> = objects.iter().map(|object| text(object, "/kind")).collect();
        // The class comes last, so a cluster with the class has the controller.
        assert_eq!((names[0], names.last().copied()), ("Namespace", Some("IngressClass")));
        assert!(objects.iter().all(|object| Resource::of(object).is_ok()), "{names:?}");
    }

    #[test]
    fn reads_secrets_of_the_releases_namespace_alone() {
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
    fn reads_the_recorded_answer_of_a_cluster() {
        let text = include_str!("../../../tests/recorded/cluster/ingress.json");
        let list: Value = serde_json::from_str(text).unwrap();
        let observed = ObservedIngress::of(list["items"].as_array().unwrap(), &release());
        // The recording lacks `spec.controller`.
        let classes = vec![IngressClass { name: CLASS.to_owned(), default: true, traefik: false }];
        assert_eq!((&observed.classes, observed.ours, observed.image()), (&classes, Some(true), "traefik:v3.6.7"));
    }

    #[test]
    fn updates_only_a_controller_of_xtask_that_differs() {
        let objects = objects();
        let mut ours = deployment(&objects);
        ours["spec"]["progressDeadlineSeconds"] = json!(600);
        ours["spec"]["template"]["spec"]["containers"][0]["terminationMessagePath"] = json!("/dev/termination-log");
        let why = |live: &Value| update_reason(&ObservedIngress::of([live], &release()), &objects);
        assert_eq!(why(&ours), None, "what the API server adds is no difference");
        let pinned = image_of(&ours).to_owned();
        let mut old = ours.clone();
        old["spec"]["template"]["spec"]["containers"][0]["image"] = json!("traefik:v3.6.7");
        assert_eq!(why(&old).unwrap(), format!("traefik:v3.6.7 -> {pinned}; no route answers for some seconds"));
        assert_eq!(
            why(&without_namespaces(ours)).unwrap(),
            "it differs from its manifests; no route answers for some seconds"
        );
        let mut foreign = old;
        foreign["metadata"]["labels"] = json!({});
        assert_eq!(why(&foreign), None);
    }

    #[test]
    fn installs_the_controller_only_where_nothing_serves_the_class() {
        let why = |text: &str, wanted: &str| install_reason(&parse(text), wanted);
        let other = "Deployment|||1|other|\n";
        assert_eq!(why(other, ""), Some("the cluster has no ingress controller"));
        let addon = "IngressClass|controller|||nginx|true\nDeployment|||1|nginx|\n";
        assert_eq!(why(addon, ""), None);
        // A class that is not the default serves only Ingresses that name it.
        let foreign = "IngressClass||||foreign|\n";
        assert_eq!(
            (why(foreign, ""), why(foreign, "foreign")),
            (Some("the cluster has no default IngressClass"), None)
        );
        // xtask's controller would not serve it either; the proof reports that.
        assert_eq!(why(foreign, "nginx"), None);
        let ours = "IngressClass||todo||traefik|true\nDeployment|ingress-controller|todo|1|traefik|\n";
        assert_eq!((why(ours, ""), why(ours, "traefik")), (None, None));
        let down = ours.replace("|1|", "||");
        assert_eq!(why(&down, ""), Some("the ingress controller is not available"));
        let classless = "Deployment|ingress-controller|todo|1|traefik|\n";
        assert_eq!(why(classless, "traefik"), Some("the IngressClass of the ingress controller is gone"));
    }

    #[test]
    fn repairs_missing_changed_and_stale_permissions() {
        let (objects, theirs) = (objects(), objects_for(&["web"]));
        let mut live = deployment(&objects);
        live["status"]["availableReplicas"] = json!(1);
        let class = objects.last().unwrap();
        let why = |permissions: &[Value]| {
            let observed = ObservedIngress::of(permissions.iter().chain([&live, class]), &release());
            needed_action(&observed, &objects, "").map(|(what, why)| format!("{what}: {why}"))
        };
        let of = |objects: &[Value]| objects.iter().filter(|object| is_permission(object)).cloned().collect::<Vec<_>>();
        let own = of(&objects);
        assert_eq!((own.len(), why(&own)), (2, None));
        let lacks = "repair: its permissions in the release's namespace are not those of its manifests".to_owned();
        assert_eq!(why(&[]), Some(lacks.clone()), "the namespace was made again");
        let mut changed = own;
        changed[0]["rules"][0]["verbs"] = json!(["get"]);
        assert_eq!(why(&changed), Some(lacks));
        let stale = why(&of(&theirs)).unwrap();
        assert!(stale.starts_with("repair: it may still read the Secrets of namespace web"), "{stale}");
    }

    #[test]
    fn keeps_serving_ingresses_of_other_namespaces_after_an_update() {
        let all = [ingress("shop", None), ingress("web", Some("traefik")), ingress("other", Some("nginx"))];
        let namespaces =
            |live: Value| Vec::from_iter(ObservedIngress::of(&[live], &release()).namespaces_with_ingresses(&all));
        let ours = deployment(&objects());
        assert_eq!(namespaces(without_namespaces(ours.clone())), ["shop", "web"]);
        assert_eq!(namespaces(ours.clone()), ["shop"]);
        assert!(ObservedIngress::default().namespaces_with_ingresses(&all).is_empty(), "no controller serves nobody");

        let objects = objects_for(&["web"]);
        assert_eq!(served_namespaces(&deployment(&objects)), Some(vec!["shop", "web"]));
        let roles = objects.iter().filter(|object| object["kind"] == "Role");
        assert_eq!(roles.map(|role| text(role, "/metadata/namespace")).collect::<Vec<_>>(), ["shop", "web"]);
        let why = update_reason(&ObservedIngress::of(&[without_namespaces(ours)], &release()), &objects).unwrap();
        assert!(why.contains("it goes on serving web; "), "{why}");
    }

    #[test]
    fn restores_the_permissions_after_a_failed_update() {
        let server = ApiServer::start();
        let api = client(&server);
        let objects = objects();
        let role = objects.iter().find(|object| object["kind"] == "ClusterRole").unwrap();
        let mut before = role.clone();
        before["rules"] = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "watch"]}]);
        let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/todo-ingress-traefik";
        server.put(path, before.clone());
        let mut old = without_namespaces(deployment(&objects));
        let count = json!({"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        old["status"] = count;
        let deployments = "/apis/apps/v1/namespaces/ingress-traefik/deployments/traefik";
        server.put(deployments, old.clone());
        let list = json!({"kind": "DeploymentList", "apiVersion": "apps/v1", "metadata": {}, "items": [old]});
        server.on("GET /apis/apps/v1/deployments", &[Reply::Json(200, "", list)]);
        let refused = status(422, "Invalid", "a port is taken", json!({}));
        server.on(&format!("PATCH {deployments}"), &[Reply::Json(422, "", refused), Reply::Pass]);
        let error = update(&api, &objects, &release(), None).unwrap_err();
        assert!(error.chain().count() > 1, "the API server's answer is the cause");
        let error = failure::message(&error);
        assert!(error.contains("a port is taken"), "{error}");
        assert!(error.ends_with("the previous controller runs again; no route was requested"), "{error}");
        assert_eq!(server.object(path).unwrap()["rules"], before["rules"]);
        let restored = server.object(deployments).unwrap();
        assert!(served_namespaces(&restored).is_none() && restored["status"].is_null(), "{restored}");
    }
}
