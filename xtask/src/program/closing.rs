//! The files and documents that a program writes when it ends, also on failure: `--json` and `--timings`.

use anyhow::Error;
use camino::Utf8PathBuf;

use crate::cli::{Cli, Command};
use crate::commands::output::{self, Output};
use crate::report::Report;
use crate::{checkout, events};

/// The output that a command still owes when it ends.
#[derive(Clone)]
pub struct Closing {
    command: &'static str,
    title: String,
    output: Output,
    target: Utf8PathBuf,
}

impl Closing {
    /// Reads from the command line which output is due.
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
        Self { command, title, output, target: checkout::target(&checkout::find(cli.global.root.clone())) }
    }

    /// Writes the timings and the JSON document if the command line requests them.
    pub fn close(&self, report: &Report, code: i32, error: Option<&Error>) {
        if self.output.timings {
            // Ends the recorder's lock, which the report takes again.
            let written = events::write_timings(&report.recorder(), &self.title, &self.target);
            match written {
                Ok(path) => report.answer(format!("timings: {path}")),
                Err(error) => report.warn_because("cannot write the timings", &error),
            }
        }
        if self.output.json {
            // An error means that the reader has closed standard output: nobody would see a message.
            let _ = output::print(&report.document(self.command, code, error).to_string());
        }
    }
}
