//! `cargo xtask tool`: runs a pinned tool against this cluster.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::origin::Requirement;
use crate::plan::Mode;
use crate::process::{Names, Process};
use crate::project::Project;
use crate::stages::cluster;

/// A tool that a user can run directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// kubectl with the application's context and namespace
    Kubectl,
    /// helm with the application's context and namespace
    Helm,
    /// minikube with this profile
    Minikube,
    /// docker with the cluster's engine
    Docker,
}

/// Environment variables of the user's editor and pager, for example for `kubectl edit`.
const EDITOR_AND_PAGER: Names =
    &["EDITOR", "VISUAL", "KUBE_EDITOR", "KUBECTL_EXTERNAL_DIFF", "PAGER", "LESS", "COLUMNS", "LINES"];

/// Run a pinned tool against this cluster
#[derive(Args, Debug)]
pub struct Tool {
    /// Tool to run
    pub name: Name,
    /// Its arguments, after `--`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<String>,
}

/// Runs the tool with the terminal's streams. Returns its exit code.
pub fn run(project: &Project, args: &Tool) -> Result<i32> {
    let mut toolchain = project.present_tools()?;
    if args.name == Name::Kubectl && !toolchain.tools.has_kubectl()? {
        toolchain = project.bring_tools(Mode::Apply, &[Requirement::Tool(crate::origin::Tool::Kubectl)])?;
    }
    if matches!(args.name, Name::Kubectl | Name::Helm) {
        // They follow the kubeconfig, so first check that it leads to this project's cluster.
        let profile = cluster::observe(&toolchain.tools)?;
        cluster::refuse_stale(&toolchain.tools, &profile)?;
    }
    let process: Process = match args.name {
        Name::Kubectl => toolchain.tools.kubectl_here(),
        Name::Helm => toolchain.tools.helm(),
        Name::Minikube => toolchain.tools.minikube(),
        Name::Docker => toolchain.tools.engine.docker(),
    };
    process.args(args.args.clone()).inherit(EDITOR_AND_PAGER).interactive()
}
