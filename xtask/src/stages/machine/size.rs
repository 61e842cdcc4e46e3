//! The size of a new cluster's node: that of `infra/xtask.toml`, limited by the engine's machine. Docker Desktop and colima
//! run the engine in a virtual machine that is often smaller.

use anyhow::Result;

use super::conditions;
use crate::engine::{Engine, EngineMachine};
use crate::failure::{Class, Failure};
use crate::settings::Cluster;

/// The smallest node in MiB that fits the application and its rollouts.
const MIN_MEMORY_MIB: u64 = 3072;
/// Memory in MiB that stays for the engine and image builds.
const ENGINE_RESERVE_MIB: u64 = 512;
/// The fewest processors that minikube accepts.
const MIN_CPUS: u64 = 2;

/// Processors and memory of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeSize {
    /// Number of processors.
    pub cpus: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
}

impl NodeSize {
    /// Returns the size in the settings.
    pub fn wanted(cluster: &Cluster) -> Self {
        Self { cpus: u64::from(cluster.cpus), memory_mib: cluster.memory_mib }
    }
}

/// The machine that a new node would run on.
#[derive(Debug, Default)]
pub struct NodeMachine {
    /// `None`: xtask is about to make a private engine on this machine, which `observe` has checked.
    pub machine: Option<EngineMachine>,
    /// The first condition that does not hold.
    pub fault: Option<Failure>,
}

impl NodeMachine {
    /// Asks `engine` for its machine.
    pub fn observe(engine: &Engine) -> Result<Self> {
        if engine.empty {
            return Ok(Self::default());
        }
        let machine = engine.machine()?;
        let fault = conditions::conditions(engine, &machine)?.into_iter().find_map(|condition| condition.fault);
        Ok(Self { machine: Some(machine), fault })
    }

    /// Returns the size of a new node: `wanted`, limited by the machine. Fails if the machine is too small or unsuitable, with
    /// the fix.
    pub fn size(self, wanted: NodeSize) -> Result<NodeSize, Failure> {
        match (self.fault, &self.machine) {
            (Some(fault), _) => Err(fault),
            (None, Some(machine)) => fit(wanted, machine),
            (None, None) => Ok(wanted),
        }
    }
}

/// Returns `wanted`, limited by what `machine` has. Fails if that is too little for a node.
pub fn fit(wanted: NodeSize, machine: &EngineMachine) -> Result<NodeSize, Failure> {
    let has = machine.memory >> 20;
    let size = NodeSize {
        cpus: wanted.cpus.min(machine.cpus),
        memory_mib: wanted.memory_mib.min(has.saturating_sub(ENGINE_RESERVE_MIB)),
    };
    let least = NodeSize { cpus: wanted.cpus.min(MIN_CPUS), memory_mib: wanted.memory_mib.min(MIN_MEMORY_MIB) };
    if size.cpus >= least.cpus && size.memory_mib >= least.memory_mib {
        return Ok(size);
    }
    let what = format!(
        "the Docker Engine's machine has {} processors and {has} MiB of memory; the cluster needs {} and {} MiB, {ENGINE_RESERVE_MIB} of \
         them for the engine",
        machine.cpus,
        least.cpus,
        least.memory_mib + ENGINE_RESERVE_MIB
    );
    let failure = Failure::new(Class::Machine, what);
    let (cpus, gib) = engine_machine_size(wanted);
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

/// Returns the processors and GiB that the engine's machine needs for a node of the size `wanted`.
fn engine_machine_size(wanted: NodeSize) -> (u64, u64) {
    (wanted.cpus.max(MIN_CPUS), (wanted.memory_mib + ENGINE_RESERVE_MIB).div_ceil(1024))
}

/// Returns the command that starts colima with enough for a node of the size `wanted`. Colima's default is 2 GiB.
pub fn colima_start(wanted: NodeSize) -> String {
    let (cpus, gib) = engine_machine_size(wanted);
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
    fn limits_a_node_to_what_the_machine_has() {
        let fitted = |mib, cpus| fit(WANTED, &machine(mib, cpus, "")).unwrap();
        assert_eq!(fitted(24_105, 8), WANTED);
        // Docker Desktop takes half of an 8 GiB laptop, and reports a little less.
        assert_eq!(fitted(3_917, 4), NodeSize { cpus: 2, memory_mib: 3_405 });
        assert_eq!(fit(NodeSize { cpus: 4, memory_mib: 6144 }, &machine(8_000, 2, "")).unwrap().cpus, 2);
        // Settings below the minimum are accepted.
        let small = NodeSize { cpus: 1, memory_mib: 1024 };
        assert_eq!(fit(small, &machine(2_000, 1, "")).unwrap(), small);
    }

    /// Machine names are written by hand after the documentation of colima, Docker Desktop and OrbStack.
    #[test]
    fn refuses_too_small_a_machine_with_its_engines_command() {
        let refused = |mib, cpus, kind| fit(WANTED, &machine(mib, cpus, kind)).unwrap_err();
        // The default of `colima start`.
        let failure = refused(1_960, 2, "colima Ubuntu 24.04.2 LTS");
        assert!(failure.to_string().contains("2 processors and 1960 MiB"), "{failure}");
        assert_eq!(failure.hints(), ["colima stop && colima start --cpu 2 --memory 7   # keeps what is in it"]);
        assert!(refused(2_000, 2, "docker-desktop Docker Desktop").hints()[0].contains("Resources"));
        assert!(refused(2_000, 2, "orbstack OrbStack").hints()[0].starts_with("orb config set memory_mib 7168"));
        assert!(refused(16_000, 1, "host Debian GNU/Linux 12 (bookworm)").to_string().contains("1 processors"));
    }
}
