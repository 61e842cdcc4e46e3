//! The scenarios of `test e2e` and `test recovery`, in order: each starts from the state that the previous one leaves.

use anyhow::Result;

use super::test_cluster::TestCluster;
use super::{
    application, backup, canaries, causes, cluster, drift, guard, interrupts, lifecycle, load, neighbours, pairs,
    planted, preflight, premises, refusals, routes, views,
};

/// A scenario: the expected behaviour, and the test for it.
pub type Scenario = (&'static str, fn(&TestCluster) -> Result<()>);

/// The scenario that creates the cluster for the later ones.
pub const FIRST: &str = "a deploy from nothing gives each application two ready replicas, and the address answers";

/// Scenarios that run at the same time.
pub struct Stage {
    /// The lanes run side by side, the scenarios of a lane in order.
    pub lanes: &'static [&'static [Scenario]],
    /// Whether the load of [`TestCluster::load`] goes on from one scenario to the next. Otherwise it ends with the scenario.
    pub keeps_load: bool,
}

/// The stages of `e2e`, one after the other.
pub const E2E: [Stage; 5] = [
    Stage { lanes: &[CREATION], keeps_load: false },
    Stage { lanes: &[BROWSER, UNCHANGED], keeps_load: false },
    Stage { lanes: &[CHANGES], keeps_load: false },
    Stage { lanes: &[ROLLOUTS], keeps_load: true },
    Stage { lanes: &[&[LAST]], keeps_load: false },
];

/// The stages of `recovery`.
pub const RECOVERY: [Stage; 1] = [Stage { lanes: &[RECOVERY_SCENARIOS], keeps_load: false }];

/// The scenario that removes the cluster.
const LAST: Scenario = ("teardown --cluster removes the profile and may run twice", lifecycle::teardown_cluster);

/// Returns the scenarios whose names contain `only`, or all without it. `first` adds the one that creates the cluster.
pub fn select<'a>(lane: &'a [Scenario], only: Option<&'a str>, first: bool) -> impl Iterator<Item = &'a Scenario> {
    lane.iter().filter(move |(name, _)| only.is_none_or(|text| name.contains(text)) || first && *name == FIRST)
}

/// Refusals before there is a cluster, and the first deploy.
const CREATION: &[Scenario] = &[
    ("a broken .env is refused with line and fix, before anything changes", refusals::dotenv),
    ("an unknown environment is refused, and a broken infra/xtask.toml with its line", refusals::settings),
    (
        "a foreign context under our profile's name is refused; a foreign current context is left alone",
        refusals::context,
    ),
    ("guard: a foreign kubeconfig entry is refused before xtask creates cache, engine or .env", guard::before_anything),
    (FIRST, lifecycle::first),
    ("a second deploy changes nothing and restarts nothing", lifecycle::noop),
    ("todos are stored, rendered by the server, and survive a restart of both applications", application::todos),
];

/// The browser's tests, which mostly wait.
const BROWSER: &[Scenario] = &[(
    "a browser signs up, adds, completes, edits and deletes todos; without a key the assistant says so",
    application::browser,
)];

/// Scenarios that leave the running application unchanged.
const UNCHANGED: &[Scenario] = &[
    ("a dry run shows steps, no secrets, and does nothing", lifecycle::dry_run),
    ("status, logs, config and doctor answer", lifecycle::looks),
    ("no secret value is in pod specs, descriptions or the release (SC-005)", cluster::no_secret_shown),
    ("the Secret holds the specification's three keys (FR-011 to FR-013)", cluster::three_keys),
    ("the API server accepts every rendered object (strict validation)", cluster::server_dry_run),
    ("the chart's own helm tests pass", cluster::helm_tests),
    ("identity: images read from the engine's files match `docker save`", planted::stored),
    ("routes: every path of the Ingress and one beside it answer; pods, p50, p95 and max (SC-003)", routes::matrix),
    ("routes: a profile that publishes no port is proven through a port-forward", routes::forwarded),
    ("preflight: each cause of an unusable database is identified, and nothing changes", preflight::told_apart),
    ("guard: with several kubeconfig files, the others stay unchanged", guard::several_files),
    ("guard: every command refuses a kubeconfig entry for another server", guard::elsewhere),
    ("guard: tools refuse our entry with the port of an earlier start, and a deploy renews it", guard::old_port),
    ("views: doctor --bundle: state, events and logs, no secret, no .env", views::bundle),
    ("views: --json and --timings: the events of deploy, status and images", views::json),
];

/// Changes, drift, and commands that stop, start, remove or restore.
const CHANGES: &[Scenario] = &[
    ("a browser talks to the assistant, which changes todos and asks before it deletes", application::assistant),
    ("a changed source file rebuilds and restarts its application alone", drift::source),
    ("`deploy --watch` deploys each saved file and goes on after a mistake", drift::watched),
    ("a deploy restores the replicas of a scaled Deployment and says why", drift::scale),
    ("a deploy restores an edited ConfigMap and says why", drift::config_map),
    ("environment variables for other work redirect no tool", guard::environment),
    ("a changed AUTH_SECRET restarts the backend alone", drift::secret),
    ("a deploy loads a deleted image again and says why", drift::image),
    ("a deleted pod is replaced: two replicas again (SC-002)", cluster::deleted_pod),
    ("a hung backend is restarted by its liveness probe (User Story 3)", cluster::hung_backend),
    ("db: a restore brings back all of a dump or nothing; a dump of a newer schema is refused", backup::embedded),
    ("db: dump and restore work with DATABASE_URL and never show its password", backup::remote),
    ("a deploy starts a stopped profile, and the todos are there", lifecycle::stopped),
    ("stop frees the memory, start brings the todos back; both may run twice", lifecycle::stop_and_start),
    ("teardown keeps the data for the next deploy and may run twice", lifecycle::teardown),
    ("one plain helm command installs everything (SC-006)", cluster::plain_helm),
    ("a deploy into an existing namespace makes it enforce Pod Security", cluster::existing_namespace),
    ("identity: a deploy finds and replaces another image under the same tag on node and in pod", planted::other_image),
    (
        "identity: a rebuilt image under the same tag is loaded, its pods restart; a failing clean-up only warns",
        planted::built_again,
    ),
    ("routes: each cause of a failing route is identified, with its fix", routes::told_apart),
    ("preflight: a remote database is checked from this machine and from a pod, once", preflight::used),
    ("secrets: no canary of the three keys leaks; a changed value restarts only its consumer", canaries::nowhere),
    ("guard: a missing kubeconfig gets our context and nothing else", guard::without_kubeconfig),
    ("guard: the chart refuses a cluster that is not Minikube, unless allowed (FR-018)", guard::other_cluster),
    ("guard: a paused node is unpaused, and nothing is restarted", guard::paused),
    (
        "guard: status reports a node that docker restarted, and that it is starting while a deploy starts it",
        guard::restarted,
    ),
    ("guard: a half-deleted profile and a foreign container are reported and left alone", guard::half_deleted),
    ("views: status: one screen, drift by field, what a deploy would change; --verify ends with code 8", views::status),
    ("views: status --watch: one block per change, until Ctrl-C", views::watch),
    ("views: deploy --dry-run: changed files, manifests as a diff, keys of Secrets by name", views::dry_run_diff),
    ("views: logs: both replicas, prefixed, since, followed into new pods; Ctrl-C and a closed pipe", views::logs),
    (
        "views: rollback: to the previous revision and by number, proven; the next deploy releases the checkout",
        views::rollback,
    ),
    ("bench: latency at a steady rate, with a separate user", views::bench),
];

/// Causes of a failing rollout, while users send requests, of which none may fail.
const ROLLOUTS: &[Scenario] = &[
    (
        "rollout: no request at 50/s fails while code and Secret change; a crash loop is reported with exit code and log",
        load::through_changes,
    ),
    ("rollout: an image removed from the node is reported; evidence is saved; rolled back", causes::image_missing),
    ("rollout: a pull policy that asks a registry is reported", causes::image_pull),
    ("rollout: a variable from a missing Secret key is reported with key and Secret", causes::config),
    ("rollout: a volume from a missing Secret is reported", causes::mount),
    ("rollout: a program that cannot be started is reported", causes::cannot_start),
    ("rollout: a migration waits for the lock, and its failure is reported with its cause", causes::migration),
    ("rollout: a failing readiness probe is reported with the answer it got", causes::not_ready),
    ("rollout: a memory limit that is too small is reported", causes::out_of_memory),
    (
        "rollout: a request that fits on no node is reported with free resources and their holders",
        causes::unschedulable,
    ),
    (
        "rollout: a request beyond the profile is reported, even if the machine could serve it",
        causes::beyond_the_profile,
    ),
    ("rollout: deploy and status name a cordoned node with kubectl uncordon", causes::cordoned),
    ("rollout: an exhausted quota is reported", causes::quota),
    ("rollout: a refusal by Pod Security is reported", causes::pod_security),
    ("rollout: a refusal by another policy is reported", causes::refused),
    ("rollout: a pod that the node evicts is reported", causes::evicted),
    ("rollout: a release that Helm applied only in part is rolled back", causes::refused_half_way),
    ("rollout: a host name that does not resolve is reported", premises::unknown_host),
    ("rollout: none of all requests during these scenarios has failed, and there were 10,000", load::many),
];

/// Broken premises, neighbours, and kills.
const RECOVERY_SCENARIOS: &[Scenario] = &[
    (FIRST, lifecycle::first),
    ("rollout: a drained node is named at once with kubectl uncordon", causes::drained),
    ("premises: a value that renames the objects is refused before Helm, and the data stays", premises::renamed),
    ("premises: a deploy that fails after Helm's history was deleted removes nothing", premises::lost_history),
    ("premises: a failed move to another database is rolled back completely", premises::failed_move),
    ("premises: an Ingress for one host is proven with that host, and the printed address has it", premises::host),
    ("neighbours: another release and a foreign Deployment are ignored", neighbours::foreign),
    (
        "neighbours: a deploy keeps an autoscaler's replicas, and restores the chart's when it is gone",
        neighbours::autoscaler,
    ),
    ("killed while building: the next deploy converges, nothing is left", interrupts::killed_while_building),
    ("killed while loading: the same", interrupts::killed_while_loading),
    ("killed between Secret and helm: the same", interrupts::killed_before_helm),
    ("killed in helm: the same", interrupts::killed_in_helm),
    ("killed in the rollout: the same", interrupts::killed_in_the_rollout),
    ("killed in a rollback: the same", interrupts::killed_in_a_rollback),
    ("killed in a first install: the same", interrupts::killed_in_first_install),
    ("a release that a killed helm left pending is reported with its age and freed", interrupts::stuck_release),
    ("the next deploy finishes a killed uninstall; the todos stay", interrupts::killed_uninstall),
    ("two deploys at once: the second names the process of the first", interrupts::two_at_once),
    ("Ctrl-C: children end, the state is printed, exit code 130, the next deploy converges", interrupts::ctrl_c),
    ("faults: 30 runs, each with one failing call, on the real cluster", pairs::chosen),
    ("neighbours: a deploy waits until a terminating namespace is gone", neighbours::ending_namespace),
    ("a failed first install is removed (a PersistentVolumeClaim without a volume)", causes::first_install),
    ("a failed first install keeps the data", causes::first_install_keeps_data),
    LAST,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn names(stages: &[Stage], only: Option<&str>, first: bool) -> Vec<&'static str> {
        let lanes = stages.iter().flat_map(|stage| stage.lanes);
        lanes.flat_map(|lane| select(lane, only, first).map(|(name, _)| *name).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn only_selects_scenarios_by_name() {
        assert!(names(&E2E, None, false).len() > 70 && names(&RECOVERY, None, false).len() > 20);
        assert_eq!(names(&E2E, Some("liveness probe"), false).len(), 1);
        assert_eq!(names(&E2E, Some("no such scenario"), false), [""; 0]);
    }

    #[test]
    fn the_deploy_that_creates_the_cluster_comes_first() {
        assert_eq!(names(&E2E, Some("liveness probe"), true)[0], FIRST);
        assert_eq!(names(&RECOVERY, Some("in helm"), true)[0], FIRST);
        assert_eq!(names(&E2E, Some("from nothing"), true), [FIRST]);
    }
}
