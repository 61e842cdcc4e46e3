//! The first stage: is there a Docker Engine, room and memory? Where no engine answers, a private one is made on Linux as
//! root; elsewhere the way to get one is told.

mod consent;
mod decide;
mod installed;
mod memory;
mod observe;
mod own;
mod port;
mod size;

use anyhow::Result;

use crate::engine::paths::EnginePaths;
use crate::engine::{Engine, stop};
use crate::plan::Step;
use crate::project::Project;
use crate::units::quote;

pub use consent::{consent, consent_to};
pub use decide::{decide, room};
pub use installed::remember as remember_engine;
pub use memory::Memory;
pub use observe::{ObservedMachine, observe};
pub use own::conditions;
pub use port::holder as port_holder;
pub use size::{NodeSize, fit, node_size};

/// What this stage will do.
pub struct Plan<'a> {
    /// The steps; none where an engine answers.
    pub steps: Vec<Step<'a>>,
    /// The engine that answers once the steps are done.
    pub engine: Engine,
    /// What is done to the machine, a line each; empty if nothing needs consent.
    pub consent: Vec<String>,
}

/// The steps that end the private engine and remove it with its data; none if there is none.
pub fn stop_engine(project: &Project) -> Result<Vec<Step<'_>>> {
    let paths = EnginePaths::new(&project.cache);
    if !stop::exists(&paths)? {
        return Ok(Vec::new());
    }
    let command = format!("kill $(cat {})\nrm -rf {}", quote(paths.pid_file()), quote(paths.dir()));
    let why = "its images, containers, volumes, networks and firewall rules go with it";
    Ok(vec![Step::new("remove the private Docker Engine", why, command, move |running| stop::remove(&paths, running))])
}
