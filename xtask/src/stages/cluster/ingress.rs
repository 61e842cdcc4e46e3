//! The ingress controller: installed only where the cluster has no IngressClass that serves the chart's Ingress. One that
//! xtask installed is updated to the pinned image: older ones have published holes.

mod outage;

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::failure::{Class, Failure};
use crate::origin::Origin;
use crate::plan::Step;
use crate::project::Project;
use crate::stages::images::load::{self, Wanted};
use crate::toolbox::Toolbox;

/// Labels of the controller in `infra/ingress`.
const MANAGED: &str = "app.kubernetes.io/part-of=todo,app.kubernetes.io/component=ingress-controller";

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
        let ask = tools.kubectl().args(["get", "ingressclasses,deployments", "-A", "-o"]).arg(
            "jsonpath={range .items[*]}{.kind}|{.metadata.labels.app\\.kubernetes\\.io/component}|\
             {.metadata.labels.app\\.kubernetes\\.io/part-of}|{.status.availableReplicas}|{.metadata.name}|\
             {.metadata.annotations.ingressclass\\.kubernetes\\.io/is-default-class}|\
             {.spec.template.spec.containers[0].image}{\"\\n\"}{end}",
        );
        Ok(Self::parse(&ask.read()?))
    }

    fn parse(text: &str) -> Self {
        let mut seen = Self::default();
        for line in text.lines() {
            match line.split('|').collect::<Vec<_>>()[..] {
                ["IngressClass", _, _, _, name, default, ..] => {
                    seen.classes.push(IngressClass { name: name.to_owned(), default: default == "true" });
                }
                ["Deployment", "ingress-controller", "todo", available, _, _, ref image @ ..] => {
                    seen.image = image.concat();
                    let available = available.parse::<u32>().is_ok_and(|count| count > 0);
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
) -> Option<Step<'a>> {
    let pinned = &project.settings.cluster.ingress_image;
    let outdated = outdated(ingress, pinned);
    let (what, why) = match (why(ingress, wanted), &outdated) {
        (Some(why), _) => ("install", why.to_owned()),
        (None, Some(outdated)) => ("update", outdated.clone()),
        (None, None) => return None,
    };
    let folder = project.root.join(&project.settings.cluster.ingress);
    let apply = tools.kubectl().args(["apply", "--server-side", "--force-conflicts", "-f", folder.as_str()]);
    let image = origin.image(&project.settings.cluster.ingress_image);
    let command = format!("docker save {image} | ctr images import\n{apply}");
    Some(Step::new(format!("{what} ingress controller"), why, command, move |running| {
        let wanted = Wanted::of(project, &tools.engine, &image);
        for node in tools.nodes() {
            load::load(project, &tools.engine, &node, &wanted, running)?;
        }
        let pinned = project.settings.cluster.ingress_image.clone();
        if outdated.is_none() {
            apply.run()?;
            running.progress("waiting for it to be available");
            wait(tools)?;
            return Ok(pinned);
        }
        // The node's port 80 belongs to one pod at a time, so the old one ends before the new one starts.
        let before = controller(tools)?;
        let outage = outage::Outage::begin(super::profile(tools)?.address());
        running.progress("replacing its pod");
        let updated = apply.run().and_then(|()| wait(tools));
        let outage = outage.end();
        if let Err(error) = updated {
            let restored = restore(tools, &before).and_then(|()| wait(tools));
            let what = match restored {
                Ok(()) => "the controller that ran before serves again".to_owned(),
                Err(restoring) => format!("the one that ran before could not be restored: {restoring:#}"),
            };
            return Err(Failure::new(Class::Cluster, format!("{error:#}\n  {what}"))
                .help("cargo xtask tool kubectl -- get pods,events -A")
                .into());
        }
        Ok(outage.map_or(pinned.clone(), |outage| format!("{pinned}, {outage}")))
    }))
}

/// The controller's Deployment as somebody would apply it.
fn controller(tools: &Toolbox) -> Result<Value> {
    let list = tools.kubectl().args(["get", "deployments", "-A", "-l", MANAGED, "-o", "json"]).read()?;
    let list: Value = serde_json::from_str(&list).context("kubectl did not print JSON")?;
    let live = list["items"].get(0).context("the ingress controller's Deployment is gone")?;
    let metadata = &live["metadata"];
    let metadata = json!({"name": metadata["name"], "namespace": metadata["namespace"], "labels": metadata["labels"]});
    Ok(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": live["spec"]}))
}

fn restore(tools: &Toolbox, deployment: &Value) -> Result<()> {
    let apply = tools.kubectl().args(["apply", "--server-side", "--force-conflicts", "-f", "-"]);
    apply.stdin(deployment.to_string()).run()
}

fn wait(tools: &Toolbox) -> Result<()> {
    tools
        .kubectl()
        .args(["wait", "deployment", "-A", "-l", MANAGED, "--for=condition=Available", "--timeout=120s"])
        .arg("--request-timeout=0")
        .deadline(Duration::from_secs(130))
        .run()
        .map_err(|error| {
            Failure::new(Class::Cluster, format!("the ingress controller does not become available: {error:#}"))
                .help("cargo xtask tool kubectl -- get pods,events -A")
                .into()
        })
}

/// Removes the controller that deploy installed, unless another Ingress uses it. Gives what was done, if anything.
pub fn remove_controller(project: &Project, tools: &Toolbox) -> Result<Option<String>> {
    let ours = tools.kubectl().args(["get", "deployment", "-A", "-l", MANAGED, "-o", "name"]).read()?;
    if ours.trim().is_empty() {
        return Ok(None);
    }
    let users = tools.kubectl().args(["get", "ingress", "-A", "-o", "name"]).read()?;
    if !users.trim().is_empty() {
        return Ok(Some("ingress controller kept: other Ingresses use it".to_owned()));
    }
    let folder = project.root.join(&project.settings.cluster.ingress);
    tools
        .kubectl()
        .args(["delete", "--ignore-not-found", "--wait=true", "-f", folder.as_str()])
        .arg("--request-timeout=0")
        .deadline(Duration::from_secs(120))
        .run()
        .context("removing the ingress controller")?;
    Ok(Some("ingress controller removed".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cluster_with_our_controller_answered_is_read() {
        let seen = Ingress::parse(include_str!("../../../tests/recorded/cluster/ingress.txt"));
        let classes = vec![IngressClass { name: CLASS.to_owned(), default: true }];
        assert_eq!(seen, Ingress { classes, ours: Some(true), image: "traefik:v3.6.7".to_owned() });
    }

    #[test]
    fn only_a_controller_of_ours_with_another_image_is_updated() {
        let outdated = |text: &str| outdated(&Ingress::parse(text), "traefik:v3.7.13");
        let ours = "Deployment|ingress-controller|todo|1|traefik||traefik:v3.6.7\n";
        let why = "traefik:v3.6.7 -> traefik:v3.7.13; no route answers for some seconds";
        assert_eq!(outdated(ours).as_deref(), Some(why));
        assert_eq!(outdated(&ours.replace("3.6.7", "3.7.13")), None);
        assert_eq!(outdated("Deployment|||1|traefik||traefik:v3.6.7\nIngressClass||||nginx|true|\n"), None);
    }

    #[test]
    fn a_class_that_serves_and_our_controller_are_told_from_others() {
        let why = |text: &str, wanted: &str| why(&Ingress::parse(text), wanted);
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
