//! What a program leaves when it ends, however it ends: the document of `--json`, the waterfall of `--timings`.

use anyhow::Error;
use camino::Utf8PathBuf;

use crate::cli::{Cli, Command};
use crate::commands::output::{self, Output};
use crate::report::Report;
use crate::{events, project};

/// What is left to do when a command has ended.
#[derive(Clone)]
pub struct Closing {
    command: &'static str,
    title: String,
    output: Output,
    target: Utf8PathBuf,
}

impl Closing {
    /// As the command line wants it.
    pub fn new(cli: &Cli) -> Self {
        let (command, title, output) = match &cli.command {
            Some(Command::Deploy(args)) => ("deploy", format!("deploy {}", args.environment), args.output.clone()),
            Some(Command::Images(args)) => ("images", "images".to_owned(), args.output.clone()),
            Some(Command::Status(args)) => {
                ("status", String::new(), Output { json: args.json && !args.watch, timings: false })
            }
            Some(Command::Doctor(args)) => ("doctor", String::new(), Output { json: args.json, timings: false }),
            Some(Command::Pins(args)) => ("pins", String::new(), Output { json: args.json, timings: false }),
            Some(Command::Config { json }) => ("config", String::new(), Output { json: *json, timings: false }),
            Some(Command::Bench(args)) => ("bench", String::new(), Output { json: args.is_json(), timings: false }),
            _ => ("", String::new(), Output::default()),
        };
        Self { command, title, output, target: project::target(&project::checkout(cli.global.root.clone())) }
    }

    /// Writes what was asked for.
    pub fn close(&self, report: &Report, code: i32, error: Option<&Error>) {
        if self.output.timings {
            let written = events::write_timings(&report.recorder(), &self.title, &self.target);
            match written {
                Ok(path) => report.answer(format!("timings: {path}")),
                Err(error) => report.warn(format!("no timings: {error:#}")),
            }
        }
        if self.output.json {
            // Whoever stopped reading does not miss it.
            let _ = output::print(&report.document(self.command, code, error).to_string());
        }
    }
}
