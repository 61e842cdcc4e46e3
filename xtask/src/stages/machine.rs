//! The machine stage checks Docker Engine, disk and memory. If no engine answers, it makes a private one for root on Linux;
//! elsewhere the error says how to get one.

mod conditions;
mod consent;
mod decide;
mod installed;
mod memory;
mod observe;
mod port;
mod size;

use anyhow::Result;
use camino::Utf8Path;

use crate::engine::paths::EnginePaths;
use crate::engine::{Engine, stop};
use crate::plan::Step;
use crate::units::quote;

pub use conditions::conditions;
pub use consent::{consent, consent_to};
pub use decide::{check_room, decide};
pub use installed::remember as remember_engine;
pub use memory::Memory;
pub use observe::{ObservedMachine, observe};
pub use port::{PortHolder, holder as port_holder};
pub use size::{NodeMachine, NodeSize, fit};

/// The steps that make a Docker Engine answer.
pub struct EnginePlan {
    /// Empty if an engine answers already.
    pub steps: Vec<Step<'static>>,
    /// The engine that answers once the steps are done.
    pub engine: Engine,
    /// Changes to the machine that need consent, a line each.
    pub consent: Vec<String>,
}

/// Returns the steps that stop the private engine of `cache` and remove it with its data. Empty if there is no private engine.
pub fn stop_engine(cache: &Utf8Path) -> Result<Vec<Step<'static>>> {
    let paths = EnginePaths::new(cache);
    if !stop::exists(&paths)? {
        return Ok(Vec::new());
    }
    let command = format!("kill $(cat {})\nrm -rf {}", quote(paths.pid_file()), quote(paths.dir()));
    let why = "this also removes its images, containers, volumes, networks and firewall rules";
    Ok(vec![Step::new("remove the private Docker Engine", why, command, move |running| stop::remove(&paths, running))])
}
