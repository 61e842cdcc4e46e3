//! How large a new cluster's node is: what `infra/xtask.toml` says, or what the engine's machine has. Docker Desktop and
//! colima run the engine in a virtual machine that often has less.

use anyhow::Result;

use super::own;
use crate::engine::{Engine, EngineMachine};
use crate::failure::{Class, Failure};
use crate::project::Project;
use crate::settings::Cluster;

/// The least memory of a node in which the application and its rollouts fit.
const LEAST_MIB: u64 = 3072;
/// What the engine itself and image builds keep.
const ENGINE_MIB: u64 = 512;
/// minikube refuses fewer processors.
const LEAST_CPUS: u64 = 2;

/// Processors and memory of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeSize {
    /// Processors.
    pub cpus: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
}

impl NodeSize {
    /// What the settings say.
    pub fn wanted(cluster: &Cluster) -> Self {
        Self { cpus: u64::from(cluster.cpus), memory_mib: cluster.memory_mib }
    }
}

/// The size of a new node in `engine`; an error says how the engine's machine gets enough.
pub fn node_size(project: &Project, engine: &Engine) -> Result<NodeSize> {
    let wanted = NodeSize::wanted(&project.settings.cluster);
    // One that is yet to be made runs on this machine, which was looked at before.
    if engine.empty {
        return Ok(wanted);
    }
    let machine = engine.machine()?;
    if let Some(fault) = own::conditions(engine, &machine)?.into_iter().find_map(|condition| condition.fault) {
        return Err(fault.into());
    }
    Ok(fit(wanted, &machine)?)
}

/// `wanted`, or as much of it as `machine` has.
pub fn fit(wanted: NodeSize, machine: &EngineMachine) -> Result<NodeSize, Failure> {
    let has = machine.memory >> 20;
    let size = NodeSize {
        cpus: wanted.cpus.min(machine.cpus),
        memory_mib: wanted.memory_mib.min(has.saturating_sub(ENGINE_MIB)),
    };
    let least = NodeSize { cpus: wanted.cpus.min(LEAST_CPUS), memory_mib: wanted.memory_mib.min(LEAST_MIB) };
    if size.cpus >= least.cpus && size.memory_mib >= least.memory_mib {
        return Ok(size);
    }
    let what = format!(
        "the Docker Engine's machine has {} processors and {has} MiB of memory; the cluster needs {} and {} MiB, {ENGINE_MIB} of \
         them for the engine",
        machine.cpus,
        least.cpus,
        least.memory_mib + ENGINE_MIB
    );
    let failure = Failure::new(Class::Machine, what);
    let (cpus, gib) = ample(wanted);
    Err(match machine.kind.as_str() {
        kind if kind.contains("Docker Desktop") => failure.help(format!(
            "Docker Desktop: Settings, Resources, Advanced: at least {cpus} CPUs and {gib} GB, then Apply & restart"
        )),
        kind if kind.contains("colima") => {
            failure.help(format!("colima stop && {}   # keeps what is in it", colima_start(wanted)))
        }
        kind if kind.contains("OrbStack") => {
            failure.help(format!("orb config set memory_mib {}   # and: orb config set cpu {cpus}", gib * 1024))
        }
        _ => failure.help("give the machine more, or use another one: docker context ls"),
    })
}

/// Processors and GiB of a machine for the engine in which a node of the size `wanted` fits.
fn ample(wanted: NodeSize) -> (u64, u64) {
    (wanted.cpus.max(LEAST_CPUS), (wanted.memory_mib + ENGINE_MIB).div_ceil(1024))
}

/// The command that starts colima with a machine in which a node of the size `wanted` fits. Its default is 2 GiB.
pub fn colima_start(wanted: NodeSize) -> String {
    let (cpus, gib) = ample(wanted);
    format!("colima start --cpu {cpus} --memory {gib}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: NodeSize = NodeSize { cpus: 2, memory_mib: 6144 };

    fn machine(mib: u64, cpus: u64, kind: &str) -> EngineMachine {
        EngineMachine { memory: mib << 20, cpus, kind: kind.to_owned(), security: None, plugins: None }
    }

    #[test]
    fn a_node_is_as_large_as_wanted_or_as_the_machine_allows() {
        let fitted = |mib, cpus| fit(WANTED, &machine(mib, cpus, "")).unwrap();
        assert_eq!(fitted(24_105, 8), WANTED);
        // Docker Desktop gives half of an 8 GiB laptop, and says a little less of it.
        assert_eq!(fitted(3_917, 4), NodeSize { cpus: 2, memory_mib: 3_405 });
        assert_eq!(fit(NodeSize { cpus: 4, memory_mib: 6144 }, &machine(8_000, 2, "")).unwrap().cpus, 2);
        // Who asks for less than the least gets it.
        let small = NodeSize { cpus: 1, memory_mib: 1024 };
        assert_eq!(fit(small, &machine(2_000, 1, "")).unwrap(), small);
    }

    /// The names of the machines: by hand after the documentation of colima, Docker Desktop and OrbStack.
    #[test]
    fn too_small_a_machine_is_refused_with_the_command_of_its_engine() {
        let refused = |mib, cpus, kind| fit(WANTED, &machine(mib, cpus, kind)).unwrap_err();
        // As `colima start` makes it.
        let failure = refused(1_960, 2, "colima Ubuntu 24.04.2 LTS");
        assert!(failure.to_string().contains("2 processors and 1960 MiB"), "{failure}");
        assert_eq!(failure.hints(), ["colima stop && colima start --cpu 2 --memory 7   # keeps what is in it"]);
        assert!(refused(2_000, 2, "docker-desktop Docker Desktop").hints()[0].contains("Resources"));
        assert!(refused(2_000, 2, "orbstack OrbStack").hints()[0].starts_with("orb config set memory_mib 7168"));
        assert!(refused(16_000, 1, "host Debian GNU/Linux 12 (bookworm)").to_string().contains("1 processors"));
    }
}
