//! `tool` and `logs`: the pinned tools, aimed at this cluster.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::process::Process;
use crate::project::Project;
use crate::stages::cluster;
use crate::world::World;

/// A tool that can be run directly.
#[derive(Clone, Copy, Debug, ValueEnum)]
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
    let world = World::present(project)?;
    if matches!(args.name, Name::Kubectl | Name::Helm) {
        // They go where the kubeconfig leads: not without proof that this is our cluster.
        cluster::observe(&world.tools)?;
    }
    let process: Process = match args.name {
        Name::Kubectl => world.tools.kubectl_here(),
        Name::Helm => world.tools.helm(),
        Name::Minikube => world.tools.minikube(),
        Name::Docker => world.tools.engine.docker(),
    };
    process.args(args.args.clone()).interactive()
}

/// Show the logs of both applications, or of one
#[derive(Args, Debug)]
pub struct Logs {
    /// backend, frontend or postgres; all of them if left out
    pub app: Option<App>,
    /// Go on as new lines come
    #[arg(short, long)]
    pub follow: bool,
    /// Lines of each container, at most
    #[arg(long, default_value_t = 100)]
    pub tail: u32,
    /// Only what is newer, e.g. 10m
    #[arg(long)]
    pub since: Option<String>,
}

/// A component with logs.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum App {
    /// The API
    Backend,
    /// The page
    Frontend,
    /// The embedded database
    Postgres,
}

/// Prints logs of every replica, each line prefixed with its pod.
pub fn logs(project: &Project, args: &Logs) -> Result<i32> {
    let world = World::present(project)?;
    cluster::observe(&world.tools)?;
    let component = match args.app {
        None => String::new(),
        Some(App::Backend) => ",app.kubernetes.io/component=backend".to_owned(),
        Some(App::Frontend) => ",app.kubernetes.io/component=frontend".to_owned(),
        Some(App::Postgres) => ",app.kubernetes.io/component=postgres".to_owned(),
    };
    let mut process = world
        .tools
        .kubectl_here()
        .args(["logs", "--prefix", "--all-containers", "--max-log-requests=20", &format!("--tail={}", args.tail)])
        .args(["-l", &format!("app.kubernetes.io/part-of=todo{component}")]);
    if args.follow {
        process = process.args(["--follow", "--request-timeout=0"]);
    }
    if let Some(since) = &args.since {
        process = process.arg(format!("--since={since}"));
    }
    process.interactive()
}
