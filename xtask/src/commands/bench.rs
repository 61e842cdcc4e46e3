//! `cargo xtask bench`: the arguments, the check before anything is compiled, and the start of `xtask-bench`.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::failure::{Class, Failure};
use crate::members;
use crate::project::Project;
use crate::stages::cluster::{self, Profile, ProfileState};
use crate::toolchain::Toolchain;

/// Measure the application, deploys, or what an idle cluster takes
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    /// What to measure instead of the application
    #[command(subcommand)]
    pub subject: Option<Subject>,
    /// Todos that the user has
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub todos: u32,
    /// Requests a second of the steady measurements, whether or not earlier ones were answered
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub rate: u32,
    /// Seconds of each steady measurement
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=300))]
    pub seconds: u32,
    /// Leave out the search for the throughput at which it saturates
    #[arg(long)]
    pub no_saturation: bool,
    /// Print one JSON document on standard output; its schema is in docs/schema
    #[arg(long)]
    pub json: bool,
}

/// What else can be measured.
#[derive(Subcommand, Clone, Debug)]
pub enum Subject {
    /// Measure deploys of a copy of the checkout to a profile of its own: nothing changed, one line of each application
    Deploy(BenchDeploy),
    /// Measure the processor time and the memory that the cluster takes by itself, by program
    Idle(BenchIdle),
}

/// Arguments of `bench deploy`.
#[derive(Args, Clone, Debug)]
pub struct BenchDeploy {
    /// Deploys of each kind
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Print one JSON document on standard output; its schema is in docs/schema
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bench idle`.
#[derive(Args, Clone, Debug)]
pub struct BenchIdle {
    /// Seconds to watch
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// Print one JSON document on standard output; its schema is in docs/schema
    #[arg(long)]
    pub json: bool,
}

impl Bench {
    /// Returns whether the result is a JSON document.
    pub fn is_json(&self) -> bool {
        match &self.subject {
            None => self.json,
            Some(Subject::Deploy(args)) => args.json,
            Some(Subject::Idle(args)) => args.json,
        }
    }
}

/// Replaces this process with the program that measures. It gets the same command line.
pub fn run(project: &Project, args: &Bench) -> Result<()> {
    let package = match args.subject {
        None | Some(Subject::Idle(_)) => {
            // Nobody should wait for a compilation only to learn that there is nothing to measure.
            running_cluster(project)?;
            "xtask-bench"
        }
        // Its test cluster is that of the end-to-end suites.
        Some(Subject::Deploy(_)) => "xtask-e2e",
    };
    members::become_program(&members::build(project, package)?)
}

/// Returns the tools and the profile of the cluster to measure, which must be running.
pub fn running_cluster(project: &Project) -> Result<(Toolchain, Profile)> {
    let toolchain = Toolchain::present(project)?;
    let profile = cluster::observe(&toolchain.tools)?.profile;
    if profile.state != ProfileState::Running {
        return Err(Failure::new(Class::Cluster, "the cluster does not run").help("cargo xtask deploy dev").into());
    }
    Ok((toolchain, profile))
}
