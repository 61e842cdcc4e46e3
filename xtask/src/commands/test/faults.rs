//! The suite `faults`: `xtask-faults` makes every external call of xtask fail once.

use anyhow::Result;

use super::Suite;
use super::suites;
use crate::members;
use crate::origin::{Requirement, Tool};
use crate::pins::Pins;
use crate::project::Project;
use crate::tally::Tally;

/// Returns the images with etcd and the API server. Both origins bring them, because minikube needs them too.
pub fn images(project: &Project) -> Result<[String; 2]> {
    let pins = Pins::read(&project.root)?;
    let render = |name: &str| pins.render(file!(), name);
    Ok([render("{etcd.image}")?, render("registry.k8s.io/kube-apiserver:v{kubernetes}")?])
}

/// Returns the requirements of the suite.
pub fn requirements(project: &Project) -> Result<Vec<Requirement>> {
    let images = images(project)?.map(Requirement::Image);
    Ok([Requirement::Tool(Tool::Helm)].into_iter().chain(images).collect())
}

/// Builds and runs the suite.
pub fn run(project: &Project, args: &[String]) -> Result<Tally> {
    let program = members::build(&project.report, "xtask-faults")?;
    suites::member(project, &program, Suite::Faults, args)
}
