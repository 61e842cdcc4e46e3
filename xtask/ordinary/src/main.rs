//! The first hour on an ordinary machine: the unchanged product, an engine with default settings, a user who is not root,
//! and the origin `release` from a simulated internet.
//!
//! `cargo xtask test ordinary` builds and runs this program. Inside the machine, it also serves the simulated internet.

mod hosts;
mod internet;
mod machine;
mod registry;
mod resolver;
mod stand_ins;
mod trial;

use anyhow::bail;
use camino::Utf8Path;
use xtask::commands::output;
use xtask::commands::test::Suite;
use xtask::failure::{Class, Failure};
use xtask::members::UNDER_TEST;
use xtask::process;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some([command, shared]) = args.get(1..)
        && command == "internet"
    {
        if let Err(error) = internet::serve(Utf8Path::new(shared)) {
            eprintln!("{error:#}");
        }
        std::process::exit(1);
    }
    xtask::program::main(|cli, report| {
        let (Some(args), Ok(xtask)) = (cli.test(), std::env::var(UNDER_TEST)) else { return Err(usage_error()) };
        if args.suites != [Suite::Ordinary] {
            return Err(usage_error());
        }
        let tally = trial::run(&cli.open(report)?, &xtask, args.only.as_deref())?;
        if process::ending() {
            bail!("interrupted");
        }
        output::print(&tally.to_output())?;
        Ok(if tally.failed > 0 { Class::Check as i32 } else { 0 })
    });
}

fn usage_error() -> anyhow::Error {
    let what = format!("xtask-ordinary runs the suite `ordinary` with the xtask that {UNDER_TEST} names");
    Failure::new(Class::Internal, what).help("cargo xtask test ordinary").into()
}
