//! Builds, deploys and proves the Todo application on Minikube. See README.md and ARCHITECTURE.md.

mod engine;
mod failure;
mod origin;
mod plan;
mod process;
mod project;
mod report;
mod settings;
mod stages;

fn main() {}
