//! Builds, deploys and proves the Todo application on Minikube. See README.md and ARCHITECTURE.md.

mod api;
mod cli;
mod clock;
mod commands;
mod credentials;
mod dotenv;
mod engine;
mod events;
mod failure;
mod git;
mod inventory;
mod judge;
mod lock;
mod origin;
mod plan;
mod process;
mod project;
mod report;
mod secrets;
mod settings;
mod snapshot;
mod stages;
mod toolbox;
mod world;

use anyhow::Result;
use clap::{CommandFactory, Parser};

use cli::{Cli, Command};
use commands::{
    bench, completions, config, deploy, doctor, images, logs, output, overview, rollback, scan, status, teardown, test,
    tool,
};
use project::Project;
use report::Report;

fn main() {
    let cli = Cli::parse();
    let report = Report::new(cli.global.verbose);
    let closing = output::Closing::new(&cli);
    let (interrupted, closing_then) = (report.clone(), closing.clone());
    let handler = ctrlc::set_handler(move || {
        let steps = interrupted.under_way();
        process::end_all();
        if !interrupted.interrupted() {
            interrupted.line("");
            for (stage, what) in &steps {
                interrupted.line(format!("interrupted at: {what}{}", stages::left_by(stage)));
            }
            interrupted.line("interrupted: every child has ended; the same command goes on where this one stopped");
        }
        let code = failure::Class::Interrupted as i32;
        closing_then.close(&interrupted, code, None);
        std::process::exit(code);
    });
    let result = handler.map_err(anyhow::Error::from).and_then(|()| run(cli, &report));
    while process::ending() {
        // What came of it is not worth telling: the handler says so and ends the process.
        std::thread::park();
    }
    let code = result.as_ref().map_or_else(|error| failure::class_of(error) as i32, |code| *code);
    if let Err(error) = &result {
        report.error(error);
    }
    closing.close(&report, code, result.as_ref().err());
    std::process::exit(code);
}

fn run(cli: Cli, report: &Report) -> Result<i32> {
    if let Some(Command::Completions { shell }) = cli.command {
        return completions::run(report, shell, Cli::command()).map(|()| 0);
    }
    let project = Project::open(cli.global.root.clone(), cli.global.options(), report.clone())?;
    match cli.command {
        None => overview::run(&project)?,
        Some(Command::Images(args)) => images::run(&project, &args)?,
        Some(Command::Deploy(args)) => deploy::run(&project, &args)?,
        Some(Command::Teardown(args)) => teardown::run(&project, &args)?,
        Some(Command::Status(args)) => status::run(&project, &args)?,
        Some(Command::Rollback(args)) => rollback::run(&project, &args)?,
        Some(Command::Bench(args)) => bench::run(&project, &args)?,
        Some(Command::Doctor(args)) => doctor::run(&project, &args)?,
        Some(Command::Config { json }) => config::run(&project, json)?,
        Some(Command::Scan) => scan::run(&project, &world::gitleaks(&project)?)?,
        Some(Command::Test(args)) => test::run(&project, &args)?,
        Some(Command::Logs(args)) => logs::run(&project, &args)?,
        Some(Command::Tool(args)) => return tool::run(&project, &args),
        Some(Command::Completions { .. }) => {}
    }
    Ok(0)
}
