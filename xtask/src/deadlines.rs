//! One table of all time limits of calls that leave this process, and of the pauses between two polls.
//!
//! The fault suite (`xtask/faults`) lets calls hang until their limits pass. It builds xtask with the feature
//! `scaled-deadlines`, which multiplies all limits by the environment variable [`SCALE`]. Without that feature the
//! variable has no effect.

use std::time::Duration;

/// The environment variable that scales all limits in a build with the feature `scaled-deadlines`: a factor, and where
/// something real is waited for, the longest limit in seconds (`0.1 60`).
pub const SCALE: &str = "XTASK_DEADLINE_SCALE";

/// A time limit or a pause; [`Limit::time`] returns its duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Limit(Duration);

impl Limit {
    /// Returns a limit of `seconds`.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Returns a limit of `milliseconds`.
    pub const fn milliseconds(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// Returns its duration, scaled in a build with the feature `scaled-deadlines`.
    pub fn time(self) -> Duration {
        scale::scaled(self.0)
    }

    /// Returns the unscaled duration in whole seconds, for messages and for arguments of other programs.
    pub const fn as_secs(self) -> u64 {
        self.0.as_secs()
    }
}

impl From<Duration> for Limit {
    fn from(time: Duration) -> Self {
        Self(time)
    }
}

/// Returns this machine's current speed for a new program, as a share of its usual speed, in (0, 1]. On a machine that also
/// compiles something, a start that usually takes a second may take half a minute.
///
/// Linux counts the threads that want a processor. Twice as many as there are processors are usual while the application's
/// pods start. On other systems the result is 1. It is also 1 where pods are simulated (`scaled-deadlines`).
pub fn machine_speed() -> f64 {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let load = std::fs::read_to_string("/proc/loadavg").ok().filter(|_| !cfg!(feature = "scaled-deadlines"));
    load.and_then(|load| speed(&load, processors)).unwrap_or(1.0)
}

/// Reads `1.31 3.02 3.44 4/89 691`: four threads run or want to, and one of them is the reader.
fn speed(load: &str, processors: usize) -> Option<f64> {
    let running: f64 = load.split(' ').nth(3)?.split('/').next()?.parse().ok()?;
    Some((2.0 * processors as f64 / (running - 1.0)).clamp(0.0, 1.0))
}

/// Maximum duration of a test's call, also on a busy machine; a longer one hangs.
#[cfg(test)]
pub const HANG: Duration = Duration::from_secs(120);

#[cfg(not(feature = "scaled-deadlines"))]
mod scale {
    pub fn scaled(time: std::time::Duration) -> std::time::Duration {
        time
    }
}

#[cfg(feature = "scaled-deadlines")]
mod scale {
    use std::sync::OnceLock;
    use std::time::Duration;

    /// Minimum of a scaled limit that was a second or more: a busy machine must not look like a fault.
    const SHORTEST: Duration = Duration::from_secs(1);
    /// Default maximum of a scaled limit: a suite waits for many of them.
    const LONGEST: Duration = Duration::from_secs(10);
    /// Pauses of less than a second are shortened less: every look is work for the machine.
    const PAUSES: f64 = 4.0;

    pub fn scaled(time: Duration) -> Duration {
        static SCALE: OnceLock<Option<(f64, Duration)>> = OnceLock::new();
        let scale = SCALE.get_or_init(|| parse(&std::env::var(super::SCALE).ok()?));
        scale.map_or(time, |(factor, longest)| scaled_by(time, factor, longest))
    }

    /// Parses the factor and the longest limit.
    pub(super) fn parse(text: &str) -> Option<(f64, Duration)> {
        let mut words = text.split(' ');
        let factor = words.next()?.parse().ok().filter(|factor| (0.0..=1.0).contains(factor))?;
        let longest = words.next().map_or(Some(LONGEST), |seconds| seconds.parse().ok().map(Duration::from_secs));
        Some((factor, longest?.max(SHORTEST)))
    }

    pub(super) fn scaled_by(time: Duration, factor: f64, longest: Duration) -> Duration {
        if time < Duration::from_secs(1) {
            return time.mul_f64((factor * PAUSES).min(1.0));
        }
        time.mul_f64(factor).clamp(SHORTEST, longest)
    }
}

// Child processes.

/// A child process without another limit.
pub const CHILD: Limit = Limit::seconds(120);
/// Pause before a child that never began its work runs again.
pub const CHILD_AGAIN: Limit = Limit::milliseconds(200);
/// git.
pub const GIT: Limit = Limit::seconds(30);
/// kubectl, apart from what it streams.
pub const KUBECTL: Limit = Limit::seconds(60);
/// `kubectl port-forward`: longer than any proof takes.
pub const PORT_FORWARD: Limit = Limit::seconds(3600);
/// `kubectl port-forward` to print its local port.
pub const PORT_FORWARD_BEGIN: Limit = Limit::seconds(20);
/// minikube, apart from what follows.
pub const MINIKUBE: Limit = Limit::seconds(600);
/// `minikube start`, which waits up to 5 minutes itself.
pub const MINIKUBE_START: Limit = Limit::seconds(900);
/// `minikube stop`: containers get their grace period.
pub const MINIKUBE_STOP: Limit = Limit::seconds(180);
/// `minikube delete`.
pub const MINIKUBE_DELETE: Limit = Limit::seconds(180);
/// helm, apart from what follows.
pub const HELM: Limit = Limit::seconds(120);
/// `helm upgrade`.
pub const HELM_UPGRADE: Limit = Limit::seconds(180);
/// `helm uninstall`, which asks for deletions and does not wait for their end.
pub const HELM_UNINSTALL: Limit = Limit::seconds(60);
/// For the end of these deletions: pods finish their requests first.
pub const UNINSTALL_WAIT: Limit = Limit::seconds(150);
/// gitleaks.
pub const SCAN: Limit = Limit::seconds(600);
/// The preflight of the database on this machine.
pub const PREFLIGHT: Limit = Limit::seconds(60);
/// A container of `dev`: as long as somebody works with it.
pub const DEV: Limit = Limit::seconds(30 * 24 * 3600);
/// Between two requests of `dev`, until the applications answer.
pub const DEV_POLL: Limit = Limit::milliseconds(100);
/// A cargo build or test, also on a busy machine.
pub const CARGO: Limit = Limit::seconds(3600);
/// A named pipe in the place of `.env`: its writer may ask a person.
pub const DOTENV_PIPE: Limit = Limit::seconds(60);
/// A suite that is a separate program. It limits its own waits; `soak` runs for hours.
pub const SUITE: Limit = Limit::seconds(24 * 3600);
/// The tests of an application in its image, and the build of that image, also on a busy machine: each test has a limit.
pub const APPLICATION_TEST: Limit = Limit::seconds(3600);

// The engine, and calls to the node through it.

/// A query to an engine about its images, containers and resources.
pub const ENGINE_QUESTION: Limit = Limit::seconds(60);
/// An engine to answer. A slower one is an error; it does not count as absent.
pub const ENGINE_ANSWER: Limit = Limit::seconds(15);
/// One answer of an engine that is being started or ended.
pub const ENGINE_PROBE: Limit = Limit::seconds(3);
/// The private engine to answer after its start.
pub const ENGINE_START: Limit = Limit::seconds(60);
/// A private engine that another run started a moment ago.
pub const ENGINE_STARTING: Limit = Limit::seconds(20);
/// The launcher of the private engine to be among the processes.
pub const ENGINE_LAUNCH: Limit = Limit::seconds(4);
/// The private engine to end its containers.
pub const ENGINE_STOP: Limit = Limit::seconds(40);
/// Killed processes to be gone.
pub const REAP: Limit = Limit::seconds(15);
/// A command on the node.
pub const NODE: Limit = Limit::seconds(30);
/// `docker pull`.
pub const IMAGE_PULL: Limit = Limit::seconds(30 * 60);
/// `docker build` of an application.
pub const IMAGE_BUILD: Limit = Limit::seconds(1800);
/// `docker build` of a stand-in.
pub const STAND_IN_BUILD: Limit = Limit::seconds(900);
/// An image on its way to the node.
pub const IMAGE_STREAM: Limit = Limit::seconds(600);
/// The CRI image list to show an import.
pub const IMAGE_LISTED: Limit = Limit::seconds(5);

/// A node to take a connection at its own address.
pub const NODE_REACHED: Limit = Limit::seconds(2);

/// Between two looks at a profile that seems half deleted: minikube writes its record and its node one after the other.
pub const PROFILE_SETTLE: Limit = Limit::seconds(1);

// The API server.

/// A TCP connection and its TLS handshake, also on a busy machine.
pub const API_CONNECT: Limit = Limit::seconds(10);
/// A whole answer, from the connection to the last byte of the body.
pub const API_ANSWER: Limit = Limit::seconds(20);
/// The head of a stream's answer.
pub const API_HEAD: Limit = Limit::seconds(10);
/// A watch, before it is asked to go on.
pub const API_WATCH: Limit = Limit::seconds(60);
/// All attempts of a request together.
pub const API_RETRY: Limit = Limit::seconds(5);
/// The first pause between two attempts; each one after it is twice as long.
pub const API_PAUSE: Limit = Limit::milliseconds(100);
/// The longest pause between two attempts.
pub const API_LONGEST_PAUSE: Limit = Limit::seconds(2);
/// An object to be gone after its deletion. Pods take their grace period.
pub const API_DELETION: Limit = Limit::seconds(90);
/// A namespace to be gone: every object in it goes first.
pub const API_NAMESPACE_DELETION: Limit = Limit::seconds(180);
/// An API server that starts to be ready.
pub const API_START: Limit = Limit::seconds(90);
/// Between two looks at an API server that starts.
pub const API_START_POLL: Limit = Limit::seconds(1);
/// A followed view whose API server stays away.
pub const API_AWAY: Limit = Limit::seconds(30);
/// A watched list to be read again as a whole.
pub const LIST_AGAIN: Limit = Limit::seconds(20);
/// Changes that come together.
pub const GATHER: Limit = Limit::milliseconds(40);

// Rollouts, and other objects of the cluster to become ready.

/// A rollout, as long as no cause ends it.
pub const ROLLOUT: Limit = Limit::seconds(300);
/// The rollout of a rollback.
pub const ROLLOUT_UNDO: Limit = Limit::seconds(180);
/// A change during a rollout: the patience with a cause runs out without one.
pub const ROLLOUT_TICK: Limit = Limit::milliseconds(500);
/// A namespace without any workload of ours: Helm has made them before a rollout is followed.
pub const ROLLOUT_EMPTY: Limit = Limit::seconds(3);
/// Between two looks at the logs of containers that hold up their pods.
pub const LOG_LOOK: Limit = Limit::seconds(1);
/// A cause that comes and goes (a container that crashes runs for a moment each time) counts as standing all along.
pub const CAUSE_GAP: Limit = Limit::seconds(4);
/// A pod of a StatefulSet that keeps its own successor from coming.
pub const POD_STUCK: Limit = Limit::seconds(3);
/// A volume to be gone after its namespace.
pub const VOLUME_DELETION: Limit = Limit::seconds(60);
/// The scheduler to place the ingress controller's pod; until then its message does not count.
pub const SCHEDULED: Limit = Limit::seconds(5);
/// The ingress controller and the cluster's DNS to be available.
pub const AVAILABLE: Limit = Limit::seconds(120);
/// The Job of the preflight.
pub const PREFLIGHT_JOB: Limit = Limit::seconds(75);
/// The embedded database to be ready after its restart.
pub const DATABASE_RESTART: Limit = Limit::seconds(180);
/// The embedded database to take connections before a restore.
pub const DATABASE_READY: Limit = Limit::seconds(60);
/// A statement in the embedded database.
pub const DATABASE_QUERY: Limit = Limit::seconds(120);
/// A dump or a restore.
pub const DATABASE_DUMP: Limit = Limit::seconds(3600);
/// The backend's pods to end before a dump.
pub const BACKEND_END: Limit = Limit::seconds(90);

// Requests over HTTP.

/// A request to a route.
pub const ROUTE: Limit = Limit::seconds(10);
/// An ingress controller that runs, until it serves each route: Traefik takes up changes every 2 s.
pub const INGRESS: Limit = Limit::seconds(5);
/// A new ingress controller, until it serves each route: Traefik's pauses between requests to the API server grow.
pub const INGRESS_STARTED: Limit = Limit::seconds(45);
/// The name of a host to resolve.
pub const RESOLVE: Limit = Limit::seconds(2);
/// A request while the ingress controller is replaced.
pub const OUTAGE_REQUEST: Limit = Limit::seconds(1);
/// Between two such requests.
pub const OUTAGE_PAUSE: Limit = Limit::milliseconds(100);
/// A probe whether a registry answers.
pub const REGISTRY_PROBE: Limit = Limit::seconds(3);
/// Name resolution and, separately, connection with TLS of a download.
pub const DOWNLOAD_CONNECT: Limit = Limit::seconds(10);
/// A server that sends no byte of a download.
pub const DOWNLOAD_STALL: Limit = Limit::seconds(30);
/// Before the first retry of a download; doubled for each further one.
pub const DOWNLOAD_PAUSE: Limit = Limit::seconds(1);

// Artifacts that the origin `packages` makes.

/// Between two checks whether a stage's artifacts exist.
pub const SUPPLY_POLL: Limit = Limit::seconds(1);
/// Go modules, one download or the removal of all.
pub const GO_MODULE: Limit = Limit::seconds(300);
/// All Go modules of a program.
pub const GO_MODULES: Limit = Limit::seconds(1200);
/// A Go program's compilation.
pub const GO_BUILD: Limit = Limit::seconds(1800);
/// `npm ci`.
pub const NPM: Limit = Limit::seconds(300);
/// The Debian root.
pub const DEBIAN: Limit = Limit::seconds(20 * 60);
/// The Debian packages that a tool needs.
pub const DEBIAN_TOOL: Limit = Limit::seconds(10 * 60);

// Locks and looks.

/// A killed run to end before its lock counts as held.
pub const LOCK: Limit = Limit::seconds(5);
/// Between two looks at a lock.
pub const LOCK_POLL: Limit = Limit::milliseconds(20);
/// Between two looks at something in the cluster.
pub const POLL: Limit = Limit::milliseconds(200);
/// Between two looks at a process or a file of this machine.
pub const POLL_LOCAL: Limit = Limit::milliseconds(100);
/// Between two snapshots.
pub const LIST_POLL: Limit = Limit::milliseconds(800);
/// Between two looks of `deploy --watch` at the sources where the system reports no changes.
pub const SOURCES_POLL: Limit = Limit::milliseconds(400);
/// Between two looks where it does: a report may be lost, or a file lie on another machine.
pub const SOURCES_LOOK: Limit = Limit::seconds(2);
/// Without a report for this long a change has come to rest.
pub const SOURCES_REST: Limit = Limit::milliseconds(60);
/// Between two looks of `status --watch`.
pub const STATUS_POLL: Limit = Limit::seconds(1);
/// Between two attempts at a log that ended, and between two looks for new pods.
pub const LOG_POLL: Limit = Limit::seconds(2);
/// `logs` without any pod.
pub const LOG_AWAY: Limit = Limit::seconds(60);
/// Between two attempts to apply an object that another writer changed.
pub const CONFLICT_PAUSE: Limit = Limit::milliseconds(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_slow_for_a_new_program_where_many_threads_want_a_processor() {
        let speed = |running: u32| speed(&format!("1.31 3.02 3.44 {running}/489 691\n"), 2);
        assert_eq!([1, 4, 5, 9, 41].map(speed), [1.0, 1.0, 1.0, 0.5, 0.1].map(Some));
        assert_eq!(super::speed("", 2), None);
    }

    #[cfg(not(feature = "scaled-deadlines"))]
    #[test]
    fn the_variable_has_no_effect_without_the_feature() {
        // The tests run once more with the variable set, so that no other test of this process sees it.
        let own = std::env::current_exe().expect("a path");
        let this = "deadlines::tests::limits_are_unscaled_without_the_feature";
        let again = std::process::Command::new(own).args([this, "--exact"]).env(SCALE, "0.01").output().expect("runs");
        let text = String::from_utf8_lossy(&again.stdout);
        assert!(again.status.success() && text.contains("1 passed"), "{text}");
    }

    #[cfg(not(feature = "scaled-deadlines"))]
    #[test]
    fn limits_are_unscaled_without_the_feature() {
        assert_eq!(API_ANSWER.time(), Duration::from_secs(20));
        assert_eq!(POLL.time(), Duration::from_millis(200));
    }

    #[cfg(feature = "scaled-deadlines")]
    #[test]
    fn a_test_build_scales_within_bounds() {
        let (factor, longest) = scale::parse("0.05").expect("a factor");
        let scaled = |limit: Limit| scale::scaled_by(limit.0, factor, longest);
        assert_eq!(scaled(HELM_UPGRADE), Duration::from_secs(9));
        assert_eq!(scaled(MINIKUBE_START), Duration::from_secs(10));
        assert_eq!(scaled(ENGINE_PROBE), Duration::from_secs(1));
        assert_eq!(scaled(POLL), Duration::from_millis(40));
        assert_eq!(scale::parse("0.1 60"), Some((0.1, Duration::from_secs(60))));
        assert_eq!(scale::parse("2"), None);
    }
}
