//! A tool as xtask finds it: a link to this program that is called `docker` acts as docker. The program is small,
//! because a run starts dozens of tools.

use xtask_faults::client;

fn main() {
    let called = std::env::args().next().unwrap_or_default();
    let called = called.rsplit('/').next().unwrap_or_default();
    let code = client::play(called).unwrap_or_else(|error| {
        eprintln!("{called}: {error:#}");
        1
    });
    std::process::exit(code);
}
