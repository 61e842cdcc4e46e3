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

/// Whether the cluster has any IngressClass.
pub fn class_exists(tools: &Toolbox) -> Result<bool> {
    let names = tools.kubectl().args(["get", "ingressclass", "-o", "name"]).read()?;
    Ok(!names.trim().is_empty())
}

/// The steps that bring the controller.
pub fn decide<'a>(project: &'a Project, tools: &'a Toolbox, origin: &'a dyn Origin) -> Result<Vec<Step<'a>>> {
    let ours = tools.kubectl().args(["get", "deployment", "-A", "-l", MANAGED, "-o"]).arg(
        "jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {.status.availableReplicas}{\"\\n\"}{end}",
    );
    let (classes, ours) = (class_exists(tools)?, ours.read()?);
    let available = ours.lines().any(|line| line.ends_with(|c: char| c.is_ascii_digit() && c != '0'));
    let ours = !ours.trim().is_empty();
    let why = match (classes, ours, available) {
        (true, false, _) | (true, true, true) => return Ok(Vec::new()),
        (_, true, _) => "the ingress controller is not available",
        (false, false, _) => "the cluster has no ingress controller",
    };
    let folder = project.root.join(&project.settings.cluster.ingress);
    let apply = tools.kubectl().args(["apply", "--server-side", "--force-conflicts", "-f", folder.as_str()]);
    let image = origin.image(&project.settings.cluster.ingress_image);
    let command = format!("docker save {image} | ctr images import\n{apply}");
    Ok(vec![Step::new("install ingress controller", why, command, move |running| {
        let wanted = Wanted::of(project, &tools.engine, &image);
        for node in tools.nodes() {
            load::load(project, &tools.engine, &node, &wanted, running)?;
        }
        apply.run()?;
        running.progress("waiting for it to be available");
        wait(tools)?;
        Ok(project.settings.cluster.ingress_image.clone())
    })])
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
