//! `tool`: the pinned tools, aimed at this cluster.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::origin::Need;
use crate::plan::Mode;
use crate::process::{Names, Process};
use crate::project::Project;
use crate::stages::cluster;
use crate::world::World;

/// A tool that can be run directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// kubectl with context and namespace of the application
    Kubectl,
    /// helm with context and namespace of the application
    Helm,
    /// minikube with the profile
    Minikube,
    /// docker at the engine that the cluster runs in
    Docker,
}

/// What a person's own programs need besides: `kubectl edit`, `helm get`, pagers.
const PERSON: Names =
    &["EDITOR", "VISUAL", "KUBE_EDITOR", "KUBECTL_EXTERNAL_DIFF", "PAGER", "LESS", "COLUMNS", "LINES"];

/// Run a pinned tool, aimed at this cluster
#[derive(Args, Debug)]
pub struct Tool {
    /// Which tool
    pub name: Name,
    /// Its arguments, after `--`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<String>,
}

/// Runs the tool with the terminal's own streams; its exit code is ours.
pub fn run(project: &Project, args: &Tool) -> Result<i32> {
    let mut world = World::present(project)?;
    if args.name == Name::Kubectl && !world.tools.has_kubectl()? {
        world = World::bring(project, Mode::Apply, &[Need::Tool(crate::origin::Tool::Kubectl)])?;
    }
    if matches!(args.name, Name::Kubectl | Name::Helm) {
        // They go where the kubeconfig leads: not without proof that this is our cluster.
        let profile = cluster::observe(&world.tools)?.profile;
        cluster::refuse_stale(&world.tools, &profile)?;
    }
    let process: Process = match args.name {
        Name::Kubectl => world.tools.kubectl_here(),
        Name::Helm => world.tools.helm(),
        Name::Minikube => world.tools.minikube(),
        Name::Docker => world.tools.engine.docker(),
    };
    process.args(args.args.clone()).inherit(PERSON).interactive()
}
