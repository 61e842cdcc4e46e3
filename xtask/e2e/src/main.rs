//! The whole job on a real Minikube profile of its own: a copy of the checkout is deployed, changed, broken, repaired
//! and removed by the xtask that the user started. It shares engine, tools and images with `deploy`.
//!
//! `cargo xtask test e2e` and `cargo xtask test soak` build and run this program; it understands the same command line.

mod application;
mod backup;
mod bench;
mod canaries;
mod causes;
mod cluster;
mod database;
mod dev;
mod drift;
mod edited;
mod guard;
mod interrupts;
mod lifecycle;
mod load;
mod marker;
mod neighbours;
mod pairs;
mod planted;
mod policies;
mod preflight;
mod premises;
mod refusals;
mod routes;
mod sampler;
mod soak;
mod test_cluster;
mod upgrade;
mod views;

use anyhow::{Result, bail};
use xtask::commands::bench::Subject;
use xtask::commands::output;
use xtask::commands::test::Suite;
use xtask::failure::{Class, Failure};
use xtask::lock;
use xtask::members::UNDER_TEST;
use xtask::process;
use xtask::project::Project;
use xtask::tally::Tally;

use test_cluster::TestCluster;

/// A scenario: what must be true, and the test of it.
type Scenario = (&'static str, fn(&TestCluster) -> Result<()>);

/// The scenario that makes the cluster which the later ones need.
const FIRST: &str = "a deploy from nothing ends with two ready replicas of each and an address that answers";

/// In this order: each scenario starts from the state that the one before leaves.
const SCENARIOS: &[Scenario] = &[
    ("a broken .env is refused before anything is touched, with line and fix", refusals::dotenv),
    ("an unknown environment and a broken infra/xtask.toml are told with their place", refusals::settings),
    (
        "a foreign context under our profile's name is refused; a foreign current context is left alone",
        refusals::context,
    ),
    ("guard: a foreign entry is refused before cache, engine, tools or .env are made", guard::before_anything),
    (FIRST, lifecycle::first),
    ("a second deploy changes nothing and restarts nothing", lifecycle::noop),
    ("a dry run shows steps, no secrets, and does nothing", lifecycle::dry_run),
    ("todos are stored, rendered by the server, and survive a restart of both", application::todos),
    (
        "a browser signs up, adds, completes, edits and deletes todos; without a key the assistant says so",
        application::browser,
    ),
    ("a browser talks to the assistant, which changes todos and asks before it deletes", application::assistant),
    ("a changed source file rebuilds and restarts its application alone", drift::source),
    ("a saved file is deployed by `deploy --watch`, which a mistake does not end", drift::watched),
    ("a scaled deployment is put right, with the reason", drift::scale),
    ("an edited ConfigMap is put right, with the reason", drift::config_map),
    ("variables that are set for other work lead no tool elsewhere", guard::environment),
    ("a changed AUTH_SECRET restarts the backend alone", drift::secret),
    ("a deleted image is loaded again, with the reason", drift::image),
    ("a deleted pod is replaced: two replicas again (SC-002)", cluster::deleted_pod),
    ("a hung backend is restarted by its liveness probe (User Story 3)", cluster::hung_backend),
    ("no secret value is in pod specs, descriptions or the release (SC-005)", cluster::no_secret_shown),
    ("the Secret holds the specification's three keys (FR-011 to FR-013)", cluster::three_keys),
    ("the API server accepts every rendered object (strict validation)", cluster::server_dry_run),
    ("the chart's own helm tests pass", cluster::helm_tests),
    ("db: a dump brings back what was, all of it or nothing; one of a newer schema is refused", backup::embedded),
    ("db: the same with the database that DATABASE_URL names, without a trace of its password", backup::remote),
    ("status, logs, config and doctor answer", lifecycle::looks),
    ("a stopped profile is started again and the todos are there", lifecycle::stopped),
    ("stop frees the memory and start brings the todos back; twice is fine", lifecycle::stop_and_start),
    ("teardown keeps the data; the next deploy shows it; twice is fine", lifecycle::teardown),
    ("one plain helm command installs everything (SC-006)", cluster::plain_helm),
];

/// What goes wrong, and how it is told and undone; in this order, too.
const FAULTS: &[Scenario] = &[
    ("a deploy into a namespace that somebody has made has it enforce Pod Security", cluster::existing_namespace),
    (
        "identity: another image under the same tag is found on the node and in the pod, and replaced",
        planted::other_image,
    ),
    (
        "identity: an image that was built again under its tag is loaded, its pods restart; a failing clean-up only warns",
        planted::built_again,
    ),
    ("identity: what is read from the engine's files is what `docker save` writes", planted::stored),
    (
        "routes: each path of the Ingress 20 times, one beside it once, who answered, p50, p95 and max (SC-003)",
        routes::matrix,
    ),
    ("routes: a profile that publishes no port is proven through a port-forward", routes::forwarded),
    ("routes: what keeps them from answering is told apart, each with its fix", routes::told_apart),
    ("preflight: what keeps a database from being used is told apart, and nothing is changed", preflight::told_apart),
    ("preflight: a remote database is looked at from here and from a pod, once", preflight::used),
    (
        "secrets: canaries of all three keys are nowhere else; one changed value restarts one consumer",
        canaries::nowhere,
    ),
    ("guard: a kubeconfig that is not there gets our context alone", guard::without_kubeconfig),
    ("guard: of several kubeconfig files the others are not touched", guard::several_files),
    ("guard: an entry that leads elsewhere is refused by every command", guard::elsewhere),
    (
        "guard: an entry with the port of an earlier start is ours; no tool follows it, a deploy renews it",
        guard::old_port,
    ),
    ("guard: the chart refuses a cluster that is no Minikube, unless overruled (FR-018)", guard::other_cluster),
    ("guard: a paused node is unpaused, and nothing is restarted", guard::paused),
    ("guard: a node that docker restarted is told, started, and said to be starting meanwhile", guard::restarted),
    ("guard: a half deleted profile and somebody's container are told and left alone", guard::half_deleted),
    ("(9) status: one screen, drift by field, what a deploy would change; --verify ends with code 8", views::status),
    ("(9) status --watch: a block each time that something changes, until Ctrl-C", views::watch),
    ("(9) deploy --dry-run: changed files, manifests as a diff, keys of Secrets by name", views::dry_run_diff),
    ("(9) logs: both replicas, prefixed, since, followed into new pods; Ctrl-C and a closed pipe", views::logs),
    (
        "(9) rollback: to the revision before and by number, proven; the next deploy brings the checkout",
        views::rollback,
    ),
    ("(9) doctor --bundle: state, events and logs, no secret, no .env", views::bundle),
    ("(10) --json and --timings: the events of deploy, status and images", views::json),
    ("(issue 4) bench: latency at a steady rate by a user of its own", views::bench),
    ("rollout: an image that is removed from the node is told, evidence saved, rolled back", causes::image_missing),
    ("rollout: a pull policy that asks a registry is told", causes::image_pull),
    ("rollout: a variable from a key that no Secret has is told with key and Secret", causes::config),
    ("rollout: a volume from a Secret that is not there is told", causes::mount),
    ("rollout: a program that cannot be started is told", causes::cannot_start),
    ("rollout: a migration waits for the lock, and its failure is told with its cause", causes::migration),
    ("rollout: a crash loop is told with exit code and log", causes::crash_loop),
    (
        "rollout: 10,000 requests at 50 a second through changes of code and Secret and a failing one: none is lost",
        load::through_changes,
    ),
    ("rollout: a failing readiness probe is told with what it got", causes::not_ready),
    ("rollout: a memory limit that is too small is told", causes::out_of_memory),
    ("rollout: a request that fits on no node is told with what is free and who holds the rest", causes::unschedulable),
    ("rollout: a request beyond the profile is told, also where the machine has it", causes::beyond_the_profile),
    ("rollout: a cordoned node is named with kubectl uncordon, and so it is by status", causes::cordoned),
    ("rollout: a drained node is named at once with kubectl uncordon", causes::drained),
    ("rollout: a used up quota is told", causes::quota),
    ("rollout: a refusal by Pod Security is told", causes::pod_security),
    ("rollout: a refusal by another policy is told", causes::refused),
    ("rollout: a pod that the node evicts is told", causes::evicted),
    ("rollout: what Helm has half applied when it is refused is rolled back", causes::refused_half_way),
    ("rollout: a container that waits for a host name that does not resolve is told", premises::unknown_host),
    ("premises: a value that renames the objects is refused before Helm, and the data stays", premises::renamed),
    ("premises: a deploy that fails after Helm's history was deleted removes nothing", premises::lost_history),
    ("premises: after a failed move to another database there is nothing to release", premises::failed_move),
    ("premises: an Ingress for one host is proven with it, and the printed address has it", premises::host),
    ("neighbours: another release and a foreign Deployment are neither judged nor counted", neighbours::foreign),
    ("neighbours: an autoscaler's number is its own, and the chart's when it is gone", neighbours::autoscaler),
    ("killed while building: the next deploy converges, nothing is left", interrupts::killed_while_building),
    ("killed while loading: the same", interrupts::killed_while_loading),
    ("killed between Secret and helm: the same", interrupts::killed_before_helm),
    ("killed in helm: the same", interrupts::killed_in_helm),
    ("killed in the rollout: the same", interrupts::killed_in_the_rollout),
    ("killed in a rollback: the same", interrupts::killed_in_a_rollback),
    ("killed in a first install: the same", interrupts::killed_in_first_install),
    ("a release that a killed helm left pending is told with its age and freed", interrupts::stuck_release),
    ("an uninstall that was killed is ended by the next deploy; the todos stay", interrupts::killed_uninstall),
    ("two deploys at once: the second says who is at work", interrupts::two_at_once),
    ("Ctrl-C: children end, the state is told, exit code 130, the next deploy converges", interrupts::ctrl_c),
    ("faults: 30 calls go wrong, one in each run, on the real cluster", pairs::chosen),
    ("neighbours: a deploy waits for the end of a namespace that is being deleted", neighbours::ending_namespace),
    ("a failed first install is removed (a claim that no volume is provided for)", causes::first_install),
    ("a failed first install keeps the data", causes::first_install_keeps_data),
    ("teardown --cluster removes the profile; twice is fine", lifecycle::teardown_cluster),
];

fn main() {
    xtask::program::main(|cli, report| {
        let xtask = std::env::var(UNDER_TEST).map_err(|_| started_alone())?;
        let project = cli.open(report)?;
        if let Some(Subject::Deploy(args)) = cli.bench().and_then(|bench| bench.subject.as_ref()) {
            return bench::run(&project, &xtask, args).map(|()| 0);
        }
        let args = cli.test().ok_or_else(started_alone)?;
        let tally = match args.suites[..] {
            [Suite::E2e] => run(&project, &xtask, args.only.as_deref())?,
            [Suite::Dev] => dev::run(&project, &xtask, args.only.as_deref())?,
            [Suite::Upgrade] => upgrade::run(&project, &xtask)?,
            [Suite::Policies] => {
                let _lock = lock_tests(&project)?;
                policies::run(&TestCluster::make(&project, &xtask, false)?)?
            }
            [Suite::Soak] => soak(&project, &xtask, args.rounds, args.only.as_deref())?,
            _ => return Err(started_alone()),
        };
        if process::ending() {
            // The counts would be those of a suite that was cut off; the handler of Ctrl-C ends the process.
            bail!("interrupted");
        }
        output::print(&tally.to_output())?;
        Ok(if tally.failed > 0 { Class::Check as i32 } else { 0 })
    })
}

fn started_alone() -> anyhow::Error {
    let what = format!(
        "xtask-e2e runs a suite (dev, e2e, upgrade, policies, soak) or `bench deploy` with the xtask that {UNDER_TEST} names"
    );
    Failure::new(Class::Internal, what).help("cargo xtask test e2e").into()
}

/// Repetitions of `test soak`, on the cluster that they leave standing for the next time.
fn soak(project: &Project, xtask: &str, rounds: usize, only: Option<&str>) -> Result<Tally> {
    let _lock = lock_tests(project)?;
    soak::run(&TestCluster::make(project, xtask, false)?, rounds, only)
}

/// Two checkouts would take each other's cluster.
fn lock_tests(project: &Project) -> Result<lock::Lock> {
    lock::take(&project.cache.join("locks"), &format!("{}-tests", project.settings.cluster.profile))
}

/// Runs all scenarios, or those whose names contain `only`: these on the cluster that an earlier run has left, or that the
/// first deploy makes for them.
fn run(project: &Project, xtask: &str, only: Option<&str>) -> Result<Tally> {
    if let Some(text) = only.filter(|text| select(Some(text), false).next().is_none()) {
        return Err(Failure::new(Class::Config, format!("no scenario's name contains `{text}`"))
            .help(format!("the names stand in {}", file!()))
            .into());
    }
    let _lock = lock_tests(project)?;
    let test_cluster = TestCluster::make(project, xtask, only.is_none())?;
    let mut tally = Tally::default();
    let first = only.is_some() && test_cluster.address().is_err();
    for (name, scenario) in select(only, first) {
        tally += Tally::of(&project.report, name, |_| scenario(&test_cluster).map(|()| String::new()));
    }
    Ok(tally)
}

/// Returns the scenarios whose names contain `only`, all of them without it; `first` adds the one that makes the cluster.
fn select(only: Option<&str>, first: bool) -> impl Iterator<Item = &'static Scenario> {
    let named = move |name: &str| only.is_none_or(|text| name.contains(text));
    SCENARIOS.iter().chain(FAULTS).filter(move |(name, _)| named(name) || first && *name == FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(only: Option<&str>, first: bool) -> Vec<&'static str> {
        select(only, first).map(|(name, _)| *name).collect()
    }

    #[test]
    fn only_selects_by_name() {
        assert_eq!(names(None, false).len(), SCENARIOS.len() + FAULTS.len());
        assert_eq!(names(Some("liveness probe"), false).len(), 1);
        assert_eq!(names(Some("no such scenario"), false), [""; 0]);
    }

    #[test]
    fn the_deploy_that_makes_the_cluster_comes_first() {
        assert_eq!(names(Some("liveness probe"), true)[0], FIRST);
        assert_eq!(names(Some("from nothing"), true), [FIRST]);
    }
}
