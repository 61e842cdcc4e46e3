//! `cargo xtask bench`: its arguments, the check for a running cluster, and the start of `xtask-bench`.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::failure::{Class, Failure};
use crate::members;
use crate::project::Project;
use crate::stages::cluster::{self, Profile, ProfileState};
use crate::toolchain::Toolchain;

/// Measure the application, deploys, or an idle cluster
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    /// Measure this instead of the application
    #[command(subcommand)]
    pub subject: Option<Subject>,
    /// Number of todos of the benchmark's user
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub todos: u32,
    /// Requests per second in the steady measurements, sent whether or not earlier ones were answered
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub rate: u32,
    /// Duration of each steady measurement, in seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=300))]
    pub seconds: u32,
    /// Skip the search for the throughput at which the application saturates
    #[arg(long)]
    pub no_saturation: bool,
    /// Print one JSON document on standard output; its schema is in docs/schema
    #[arg(long)]
    pub json: bool,
}

/// The other subjects of a measurement.
#[derive(Subcommand, Clone, Debug)]
pub enum Subject {
    /// Measure deploys of a copy of the checkout to a separate profile: unchanged, and with one changed line per application
    Deploy(BenchDeploy),
    /// Measure the CPU time and the memory that each program of an idle cluster uses
    Idle(BenchIdle),
}

/// The arguments of `bench deploy`.
#[derive(Args, Clone, Debug)]
pub struct BenchDeploy {
    /// Number of deploys of each kind
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Print one JSON document on standard output; its schema is in docs/schema
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `bench idle`.
#[derive(Args, Clone, Debug)]
pub struct BenchIdle {
    /// Duration of the measurement, in seconds
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

/// Replaces this process with the program that measures, which gets the same command line.
pub fn run(project: &Project, args: &Bench) -> Result<()> {
    let package = match args.subject {
        None | Some(Subject::Idle(_)) => {
            // Checked first: a compilation takes long, and without a cluster there is nothing to measure.
            running_cluster(project)?;
            "xtask-bench"
        }
        // It measures on the test cluster of the end-to-end suites.
        Some(Subject::Deploy(_)) => "xtask-e2e",
    };
    members::become_program(&members::build(&project.report, package)?)
}

/// Returns the tools and the profile of the cluster to measure, which must be running.
pub fn running_cluster(project: &Project) -> Result<(Toolchain, Profile)> {
    let toolchain = project.present_tools()?;
    let profile = cluster::observe(&toolchain.tools)?;
    if profile.state != ProfileState::Running {
        return Err(Failure::new(Class::Cluster, "the cluster does not run").help("cargo xtask deploy dev").into());
    }
    Ok((toolchain, profile))
}
