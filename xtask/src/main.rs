//! Builds, deploys and proves the Todo application on Minikube. See README.md and ARCHITECTURE.md.

mod commands;
mod dotenv;
mod engine;
mod failure;
mod git;
mod origin;
mod plan;
mod process;
mod project;
mod report;
mod secrets;
mod settings;

fn main() {}
