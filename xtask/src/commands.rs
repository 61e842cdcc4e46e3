//! A file a command: its arguments and its `run`.

pub mod bench;
pub(crate) mod cluster;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod deploy;
pub mod dev;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod images;
pub(crate) mod logs;
pub mod output;
pub(crate) mod overview;
pub(crate) mod pins;
pub(crate) mod rollback;
pub(crate) mod scan;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod summary;
pub(crate) mod teardown;
pub mod test;
pub(crate) mod tool;

use anyhow::Result;
use clap::CommandFactory;

use crate::cli::{Cli, Command};
use crate::report::Report;
use crate::world;

/// Runs the command that `cli` names. Returns the exit code.
pub fn run(cli: Cli, report: &Report) -> Result<i32> {
    if let Some(Command::Completions { shell }) = cli.command {
        return completions::run(report, shell, Cli::command()).map(|()| 0);
    }
    let project = cli.open(report)?;
    match cli.command {
        None => overview::run(&project)?,
        Some(Command::Images(args)) => images::run(&project, &args)?,
        Some(Command::Deploy(args)) => deploy::run(&project, &args)?,
        Some(Command::Dev(args)) => dev::run(&project, &args)?,
        Some(Command::Cluster(args)) => cluster::run(&project, &args)?,
        Some(Command::Teardown(args)) => teardown::run(&project, &args)?,
        Some(Command::Stop) => stop::run(&project)?,
        Some(Command::Start) => start::run(&project)?,
        Some(Command::Status(args)) => status::run(&project, &args)?,
        Some(Command::Rollback(args)) => rollback::run(&project, &args)?,
        Some(Command::Bench(args)) => bench::run(&project, &args)?,
        Some(Command::Doctor(args)) => doctor::run(&project, &args)?,
        Some(Command::Pins(args)) => pins::run(&project, &args)?,
        Some(Command::Config { json }) => config::run(&project, json)?,
        Some(Command::Scan) => scan::run(&project, &world::gitleaks(&project)?)?,
        Some(Command::Test(args)) => test::run(&project, &args)?,
        Some(Command::Logs(args)) => logs::run(&project, &args)?,
        Some(Command::Tool(args)) => return tool::run(&project, &args),
        Some(Command::Completions { .. }) => {}
    }
    Ok(0)
}
