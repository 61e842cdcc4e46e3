//! The entry point of every program in this workspace: arguments, Ctrl-C, the final JSON document and the exit code.
//! Also calls the commands of xtask itself.

mod closing;

use anyhow::Result;
use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command};
use crate::commands;
use crate::report::Report;
use crate::stages::proof;
use crate::{failure, process, stages};
use closing::Closing;

/// Parses the command line, calls `run`, and exits with the returned code or the code of its error.
pub fn main(run: impl FnOnce(Cli, &Report) -> Result<i32>) -> ! {
    let cli = Cli::parse();
    let report = Report::new(cli.global.verbose).limited(cli.global.quiet, !cli.global.no_progress);
    let report = match cli.global.prefix.clone() {
        Some(prefix) => report.beside(prefix),
        None => report,
    };
    let closing = Closing::new(&cli);
    let (interrupted, closing_then) = (report.clone(), closing.clone());
    let handler = ctrlc::set_handler(move || {
        let steps = interrupted.under_way();
        process::end_all();
        if !interrupted.interrupted() {
            interrupted.line("");
            for (stage, what) in &steps {
                interrupted.line(format!("interrupted at: {what}{}", stages::left_by(stage)));
            }
            interrupted.line("interrupted: all child processes have ended; run the same command to continue");
        }
        let code = failure::Class::Interrupted as i32;
        closing_then.close(&interrupted, code, None);
        std::process::exit(code);
    });
    let result = handler.map_err(anyhow::Error::from).and_then(|()| run(cli, &report));
    while process::ending() {
        // The interrupt handler reports the interruption and ends the process, so this thread reports nothing.
        std::thread::park();
    }
    let code = result.as_ref().map_or_else(|error| failure::class_of(error) as i32, |code| *code);
    if let Err(error) = &result {
        report.error(error);
    }
    closing.close(&report, code, result.as_ref().err());
    std::process::exit(code);
}

/// Runs the command that `cli` names. Returns the exit code.
pub fn run(cli: Cli, report: &Report) -> Result<i32> {
    if let Some(Command::Completions { shell }) = cli.command {
        return commands::completions::run(report, shell, Cli::command()).map(|()| 0);
    }
    let project = cli.open(report)?;
    project.ca_bundle().into_iter().for_each(proof::trust);
    match cli.command {
        None => commands::overview::run(&project)?,
        Some(Command::Images(args)) => commands::images::run(&project, &args)?,
        Some(Command::Deploy(args)) => commands::deploy::run(&project, &args)?,
        Some(Command::Dev(args)) => commands::dev::run(&project, &args)?,
        Some(Command::Cluster(args)) => commands::cluster::run(&project, &args)?,
        Some(Command::Teardown(args)) => commands::teardown::run(&project, &args)?,
        Some(Command::Stop) => commands::stop::run(&project)?,
        Some(Command::Start) => commands::start::run(&project)?,
        Some(Command::Status(args)) => commands::status::run(&project, &args)?,
        Some(Command::Rollback(args)) => commands::rollback::run(&project, &args)?,
        Some(Command::Bench(args)) => commands::bench::run(&project, &args)?,
        Some(Command::Doctor(args)) => commands::doctor::run(&project, &args)?,
        Some(Command::Pins(args)) => commands::pins::run(&project, &args)?,
        Some(Command::Config { json }) => commands::config::run(&project, json)?,
        Some(Command::Scan) => commands::scan::run(&project)?,
        Some(Command::Tidy(_)) => commands::tidy::run(&project)?,
        Some(Command::Record) => commands::record::run(&project)?,
        Some(Command::Test(args)) => commands::test::run(&project, &args)?,
        Some(Command::Logs(args)) => commands::logs::run(&project, &args)?,
        Some(Command::Db(args)) => return commands::db::run(&project, &args),
        Some(Command::Tool(args)) => return commands::tool::run(&project, &args),
        Some(Command::Completions { .. }) => {}
    }
    Ok(0)
}
