//! The suite `faults`: `xtask-faults` makes every external call of xtask fail once.

use anyhow::Result;
use camino::Utf8Path;

use super::Suite;
use super::suites;
use crate::members;
use crate::origin::{Requirement, Tool};
use crate::pins::Pins;
use crate::report::Report;
use crate::tally::Tally;

/// Returns the images with etcd and the API server that the checkout `root` pins. Both origins bring them, because minikube needs them too.
pub fn images(root: &Utf8Path) -> Result<[String; 2]> {
    let pins = Pins::read(root)?;
    let render = |name: &str| pins.render(file!(), name);
    Ok([render("{etcd.image}")?, render("registry.k8s.io/kube-apiserver:v{kubernetes}")?])
}

/// Returns the requirements of the suite.
pub fn requirements(root: &Utf8Path) -> Result<Vec<Requirement>> {
    let images = images(root)?.map(Requirement::Image);
    Ok([Requirement::Tool(Tool::Helm)].into_iter().chain(images).collect())
}

/// Builds and runs the suite.
pub fn run(report: &Report, args: &[String]) -> Result<Tally> {
    let program = members::build(report, "xtask-faults")?;
    suites::member(report, &program, Suite::Faults, args)
}
