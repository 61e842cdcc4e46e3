//! What all programs of this workspace share: arguments, Ctrl-C, the closing JSON document and the exit code.

use anyhow::Result;
use clap::Parser;

use crate::cli::Cli;
use crate::commands::output;
use crate::report::Report;
use crate::{failure, process, stages};

/// Parses the command line, calls `run`, and exits with the code that it returns, or with that of its error.
pub fn main(run: impl FnOnce(Cli, &Report) -> Result<i32>) -> ! {
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
