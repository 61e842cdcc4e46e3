//! The ingress controller: installed only where the cluster has no IngressClass.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::failure::{Class, Failure};
use crate::origin::Origin;
use crate::plan::Step;
use crate::project::Project;
use crate::stages::images::load::{self, Wanted};
use crate::toolbox::Toolbox;

/// Labels of the controller in `infra/ingress`.
const MANAGED: &str = "app.kubernetes.io/part-of=todo,app.kubernetes.io/component=ingress-controller";

/// What there is of ingress controllers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ingress {
    /// Whether the cluster has any IngressClass.
    class: bool,
    /// The controller of our making: whether it is available, if there is one.
    ours: Option<bool>,
}

impl Ingress {
    /// Asks the cluster.
    pub fn observe(tools: &Toolbox) -> Result<Self> {
        let ask = tools.kubectl().args(["get", "ingressclasses,deployments", "-A", "-o"]).arg(
            "jsonpath={range .items[*]}{.kind} {.metadata.labels.app\\.kubernetes\\.io/component} \
             {.metadata.labels.app\\.kubernetes\\.io/part-of} {.status.availableReplicas}{\"\\n\"}{end}",
        );
        Ok(Self::parse(&ask.read()?))
    }

    fn parse(text: &str) -> Self {
        let ours = text.lines().filter_map(|line| line.strip_prefix("Deployment ingress-controller todo"));
        let ours = ours.map(|replicas| replicas.trim().parse::<u32>().is_ok_and(|count| count > 0));
        Self { class: text.lines().any(|line| line.starts_with("IngressClass")), ours: ours.reduce(|a, b| a || b) }
    }
}

/// The step that brings the controller, if one is needed.
pub fn decide<'a>(
    project: &'a Project,
    tools: &'a Toolbox,
    origin: &'a dyn Origin,
    ingress: Ingress,
) -> Option<Step<'a>> {
    let why = match (ingress.class, ingress.ours) {
        (true, None | Some(true)) => return None,
        (_, Some(_)) => "the ingress controller is not available",
        (false, None) => "the cluster has no ingress controller",
    };
    let folder = project.root.join(&project.settings.cluster.ingress);
    let apply = tools.kubectl().args(["apply", "--server-side", "--force-conflicts", "-f", folder.as_str()]);
    let image = origin.image(&project.settings.cluster.ingress_image);
    let command = format!("docker save {image} | ctr images import\n{apply}");
    Some(Step::new("install ingress controller", why, command, move |running| {
        let wanted = Wanted::of(project, &tools.engine, &image);
        for node in tools.nodes() {
            load::load(project, &tools.engine, &node, &wanted, running)?;
        }
        apply.run()?;
        running.progress("waiting for it to be available");
        wait(tools)?;
        Ok(project.settings.cluster.ingress_image.clone())
    }))
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
    fn a_class_and_our_controller_are_told_from_others() {
        let none = Ingress::parse("Deployment   1\n");
        assert_eq!(none, Ingress { class: false, ours: None });
        let foreign = Ingress::parse("IngressClass controller  \nDeployment   1\n");
        assert_eq!(foreign, Ingress { class: true, ours: None });
        let ours = "IngressClass ingress-controller todo \nDeployment   1\nDeployment ingress-controller todo 1\n";
        assert_eq!(Ingress::parse(ours), Ingress { class: true, ours: Some(true) });
        let down = "IngressClass ingress-controller todo \nDeployment ingress-controller todo \n";
        assert_eq!(Ingress::parse(down), Ingress { class: true, ours: Some(false) });
    }
}
