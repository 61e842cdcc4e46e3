//! A tool as xtask finds it: a link to this program that is called `docker` is docker. It is small, for a run starts dozens.

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
