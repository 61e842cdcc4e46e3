//! Failing deploys whose release changes in the meantime: what xtask rolls back, and what it leaves alone. The test acts as
//! the cluster.

use serde_json::{Value, json};

use crate::api_server::{Reply, status};
use crate::common::{DOTENV, Run, Sandbox, TIME_LIMIT};
use crate::secrets;

const NAMESPACE: &str = "/api/v1/namespaces/todo";
/// Creation times of the serving release and of this run's revision.
const BEFORE: &str = "2026-11-27T08:00:00Z";
const NOW: &str = "2026-11-27T09:00:00Z";

/// Returns a cluster with the images, in which Helm waits for the test. It writes `$FAKES/upgrading` or `$FAKES/rolling`
/// when it starts.
fn cluster() -> Sandbox {
    let sandbox = secrets::cluster();
    sandbox.dotenv(DOTENV);
    sandbox.release();
    let wait = |name: &str| {
        format!(
            "echo $$ >$FAKES/{name}; n=0; while [ $n -lt 300 ] && [ ! -e $FAKES/{name}-done ]; do sleep 0.1; n=$((n+1)); done"
        )
    };
    sandbox.on("helm *upgrade *", &wait("upgrading"));
    sandbox.on("helm *rollback *", &wait("rolling"));
    sandbox.on("helm *uninstall *", "");
    sandbox
}

/// Adds a Helm revision of `release`.
fn revision(sandbox: &Sandbox, release: &str, number: u64, state: &str, created: &str) {
    let name = format!("sh.helm.release.v1.{release}.v{number}");
    let labels = json!({"owner": "helm", "name": release, "version": number.to_string(), "status": state});
    let metadata = json!({"name": name, "labels": labels, "creationTimestamp": created});
    let secret = json!({"kind": "Secret", "apiVersion": "v1", "metadata": metadata});
    sandbox.api().put(&format!("{NAMESPACE}/secrets/{name}"), secret);
}

/// Adds the backend's Deployment at `generation`. Unless `complete`, its newest pod is not ready.
fn deployment(sandbox: &Sandbox, generation: u64, complete: bool) {
    let labels = json!({"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/component": "backend"});
    let annotations = json!({"meta.helm.sh/release-name": "todo", "meta.helm.sh/release-namespace": "todo"});
    let metadata =
        json!({"name": "todo-backend", "generation": generation, "labels": labels, "annotations": annotations});
    let pods = json!({"matchLabels": {"app": "backend"}});
    let updated = if complete { 1 } else { 0 };
    let status =
        json!({"observedGeneration": generation, "updatedReplicas": updated, "readyReplicas": 1, "replicas": 1});
    let object = json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": metadata,
        "spec": {"replicas": 1, "selector": pods}, "status": status});
    sandbox.api().put("/apis/apps/v1/namespaces/todo/deployments/todo-backend", object);
}

/// Adds a pod of that Deployment: ready, or in a crash loop.
fn pod(sandbox: &Sandbox, name: &str, created: &str, ready: bool) {
    let path = "/apis/apps/v1/namespaces/todo/deployments/todo-backend";
    let uid = sandbox.api().object(path).unwrap()["metadata"]["uid"].clone();
    let owner = json!({"kind": "Deployment", "name": "todo-backend", "uid": uid, "controller": true});
    let metadata =
        json!({"name": name, "labels": {"app": "backend"}, "creationTimestamp": created, "ownerReferences": [owner]});
    let waiting = json!({"name": "backend", "ready": false, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 7}}});
    let statuses =
        if ready { json!([{"name": "backend", "ready": true, "restartCount": 0}]) } else { json!([waiting]) };
    let condition = json!({"type": "Ready", "status": if ready { "True" } else { "False" }});
    let object = json!({"kind": "Pod", "apiVersion": "v1", "metadata": metadata,
        "spec": {"containers": [{"name": "backend", "image": "todo-backend:1"}]},
        "status": {"phase": "Running", "conditions": [condition], "containerStatuses": statuses}});
    sandbox.api().put(&format!("{NAMESPACE}/pods/{name}"), object);
}

/// Adds a record of the verified revision 1.
fn record(sandbox: &Sandbox) {
    let record = json!({"format": 2, "fingerprint": {}, "revision": 1, "images": {}, "secrets": [], "objects": {},
        "environment": "dev", "verified_at": 1_790_000_000});
    let labels = json!({"app.kubernetes.io/managed-by": "xtask", "app.kubernetes.io/part-of": "todo"});
    let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "todo-xtask", "labels": labels},
        "data": {"record.json": record.to_string()}});
    sandbox.api().put(&format!("{NAMESPACE}/configmaps/todo-xtask"), object);
}

/// Adds a serving release: revision 1 with a ready pod.
fn serving(sandbox: &Sandbox) {
    revision(sandbox, "todo", 1, "deployed", BEFORE);
    deployment(sandbox, 1, true);
    pod(sandbox, "todo-backend-old", BEFORE, true);
}

/// Deploys. Helm creates revision `made`, whose backend crashes. `meanwhile` runs before Helm ends.
fn deploy(sandbox: &Sandbox, made: u64, meanwhile: impl FnOnce()) -> Run {
    let running = sandbox.start(&["deploy", "dev", "--origin=release"]);
    sandbox.wait_for_line("upgrading");
    let old = sandbox.api().object(&format!("{NAMESPACE}/secrets/sh.helm.release.v1.todo.v1"));
    if old.is_some_and(|old| old["metadata"]["labels"]["status"] == "deployed") {
        revision(sandbox, "todo", 1, "superseded", BEFORE);
    }
    revision(sandbox, "todo", made, "deployed", NOW);
    deployment(sandbox, 2, false);
    pod(sandbox, "todo-backend-new", NOW, false);
    meanwhile();
    sandbox.signal("upgrading-done");
    running.end()
}

/// Returns the helm commands that undo something.
fn undone(sandbox: &Sandbox) -> Vec<String> {
    let calls = sandbox.fake("calls");
    let undoing = calls.lines().filter(|call| call.contains(" rollback ") || call.contains(" uninstall "));
    undoing.map(str::to_owned).collect()
}

fn unavailable() -> Reply {
    Reply::Json(503, "", status(503, "ServiceUnavailable", "the server is currently unable to handle it", json!({})))
}

#[test]
fn a_transient_fault_of_the_api_server_does_not_turn_an_update_into_a_first_install() {
    let sandbox = cluster();
    serving(&sandbox);
    record(&sandbox);
    // Each request fails once, and then succeeds.
    for path in ["", "/secrets", "/configmaps", "/pods"] {
        sandbox.api().on(&format!("GET {NAMESPACE}{path}"), &[unavailable(), Reply::Pass]);
    }
    let run = std::thread::scope(|scope| {
        scope.spawn(|| {
            sandbox.wait_for_line("rolling");
            revision(&sandbox, "todo", 2, "superseded", NOW);
            revision(&sandbox, "todo", 3, "deployed", NOW);
            deployment(&sandbox, 3, true);
            sandbox.signal("rolling-done");
        });
        deploy(&sandbox, 2, || {
            for path in ["", "/secrets", "/configmaps", "/pods"] {
                sandbox.api().on(&format!("GET {NAMESPACE}{path}"), &[unavailable(), unavailable(), Reply::Pass]);
            }
        })
    });
    assert_eq!(run.code, Some(7), "{run}");
    assert!(
        run.stderr.contains("rolled back to revision 1, verified") && run.stderr.contains("it is revision 3 now"),
        "{run}"
    );
    assert!(run.stderr.contains("runs now: todo-backend     1/1 ready"), "{run}");
    let undone = undone(&sandbox);
    assert!(undone.len() == 1 && undone[0].contains("rollback todo 1 "), "{undone:?}");
    let old = sandbox.api().object(&format!("{NAMESPACE}/pods/todo-backend-old"));
    assert!(old.is_some() && !sandbox.api().writes().iter().any(|write| write.starts_with("DELETE ")), "{run}");
}

/// A case: the expected reason in the output, and the preparation.
type HistoryCase = (&'static str, fn(&Sandbox));

#[test]
fn a_release_whose_history_is_gone_is_not_removed_as_a_first_install() {
    let cases: [HistoryCase; 3] = [
        ("revision 1 was verified, so this was no first install", record),
        ("pod todo-backend-old is ready and older than revision 1", |_| {}),
        ("Helm has revision 1 (failed), so this was no first install", |sandbox| {
            revision(sandbox, "todo", 1, "failed", BEFORE);
        }),
    ];
    for (reason, prepare) in cases {
        let sandbox = cluster();
        serving(&sandbox);
        sandbox.api().remove(&format!("{NAMESPACE}/secrets/sh.helm.release.v1.todo.v1"));
        prepare(&sandbox);
        let made = if reason.contains("(failed)") { 2 } else { 1 };
        let run = deploy(&sandbox, made, || {});
        assert_eq!(run.code, Some(7), "{run}");
        assert!(run.stderr.contains(&format!("it could not be undone: nothing was removed: {reason}")), "{run}");
        assert!(run.stderr.contains("runs now: todo-backend     1/1 ready"), "{run}");
        assert_eq!(undone(&sandbox), [""; 0], "{run}");
    }
}

#[test]
fn a_first_install_that_fails_is_removed_and_read_back() {
    let sandbox = cluster();
    sandbox.api().remove(&format!("{NAMESPACE}/secrets/sh.helm.release.v1.todo.v1"));
    // Another release in the namespace does not belong to this history.
    revision(&sandbox, "other", 9, "deployed", BEFORE);
    let run = deploy(&sandbox, 1, || {});
    assert_eq!(run.code, Some(7), "{run}");
    assert_eq!(undone(&sandbox).len(), 1, "{run}");
    // This helm removes nothing, but reports success.
    let left = "it could not be undone: release todo is not removed; still there: ";
    assert!(run.stderr.contains(left), "{run}");
}

#[test]
fn a_foreign_revision_made_meanwhile_is_not_overwritten() {
    let sandbox = cluster();
    serving(&sandbox);
    record(&sandbox);
    let run = deploy(&sandbox, 2, || {
        revision(&sandbox, "todo", 2, "superseded", NOW);
        revision(&sandbox, "todo", 3, "deployed", NOW);
    });
    assert_eq!(run.code, Some(7), "{run}");
    let reason =
        "Helm's newest revision is 3; this run began at 1 and creates 2: somebody else has changed the release";
    assert!(run.stderr.contains(reason), "{run}");
    assert_eq!(undone(&sandbox), [""; 0], "{run}");
}

#[test]
fn without_an_answer_of_the_cluster_nothing_is_undone() {
    let forbidden = status(403, "Forbidden", "secrets is forbidden", json!({}));
    for (path, words) in [("/secrets", "secrets is forbidden"), ("", "cannot tell whether namespace todo exists")] {
        let sandbox = cluster();
        serving(&sandbox);
        record(&sandbox);
        let run = deploy(&sandbox, 2, || {
            sandbox.api().on(&format!("GET {NAMESPACE}{path}"), &[Reply::Json(403, "", forbidden.clone())]);
        });
        assert_eq!(run.code, Some(7), "{run}");
        assert!(run.stderr.contains("it could not be undone: ") && run.stderr.contains(words), "{run}");
        assert_eq!(undone(&sandbox), [""; 0], "{run}");
    }
}

#[test]
fn revisions_of_another_release_are_ignored() {
    let sandbox = cluster();
    serving(&sandbox);
    record(&sandbox);
    revision(&sandbox, "other", 9, "deployed", BEFORE);
    let run = std::thread::scope(|scope| {
        scope.spawn(|| {
            sandbox.wait_for_line("rolling");
            revision(&sandbox, "todo", 3, "deployed", NOW);
            deployment(&sandbox, 3, true);
            sandbox.signal("rolling-done");
        });
        deploy(&sandbox, 2, || {})
    });
    assert!(run.stderr.contains("rolled back to revision 1") && run.stderr.contains("it is revision 3 now"), "{run}");
    let record: Value = sandbox.api().object(&format!("{NAMESPACE}/configmaps/todo-xtask")).unwrap();
    assert!(record["data"]["record.json"].as_str().unwrap().contains("\"revision\": 3"), "{record}");
}

#[test]
fn a_rollback_that_helm_only_reports_is_not_claimed() {
    let sandbox = cluster();
    serving(&sandbox);
    record(&sandbox);
    let run = std::thread::scope(|scope| {
        scope.spawn(|| {
            sandbox.wait_for_line("rolling");
            deployment(&sandbox, 3, true);
            sandbox.signal("rolling-done");
        });
        deploy(&sandbox, 2, || {})
    });
    assert_eq!(run.code, Some(7), "{run}");
    assert!(
        run.stderr.contains("after the rollback Helm's newest revision is 2 (deployed), not 3 (deployed)"),
        "{run}"
    );
    assert!(!run.stderr.contains("rolled back to revision"), "{run}");
}

#[test]
fn nothing_is_undone_in_a_namespace_that_is_being_deleted() {
    let sandbox = cluster();
    serving(&sandbox);
    record(&sandbox);
    let run = deploy(&sandbox, 2, || ending(&sandbox));
    assert_eq!(run.code, Some(7), "{run}");
    assert!(run.stderr.contains("namespace todo is being deleted, so nothing is undone"), "{run}");
    assert_eq!(undone(&sandbox), [""; 0], "{run}");
}

/// Marks the namespace as being deleted.
fn ending(sandbox: &Sandbox) {
    let metadata = json!({"name": "todo", "deletionTimestamp": NOW});
    let condition =
        json!({"status": "True", "message": "Some resources are remaining: pods. has 2 resource instances"});
    let object = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": metadata,
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Terminating", "conditions": [condition]}});
    sandbox.api().put(NAMESPACE, object);
}

#[test]
fn a_deploy_waits_for_a_terminating_namespace_and_creates_it_again() {
    let sandbox = cluster();
    serving(&sandbox);
    record(&sandbox);
    ending(&sandbox);
    let run = std::thread::scope(|scope| {
        scope.spawn(|| {
            // After this many requests, the deploy waits.
            let asks = || sandbox.api().received().iter().filter(|got| got.line == format!("GET {NAMESPACE}")).count();
            let start = std::time::Instant::now();
            while asks() < 10 {
                assert!(start.elapsed() < TIME_LIMIT, "the deploy does not wait");
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            for path in ["/secrets/sh.helm.release.v1.todo.v1", "/configmaps/todo-xtask", "/pods/todo-backend-old", ""]
            {
                sandbox.api().remove(&format!("{NAMESPACE}{path}"));
            }
            sandbox.api().remove("/apis/apps/v1/namespaces/todo/deployments/todo-backend");
        });
        sandbox.on("helm *upgrade *", "echo 'Error: as far as this test goes' >&2; exit 1");
        sandbox.run(&["deploy", "dev", "--origin=release"])
    });
    assert_eq!(run.code, Some(3), "{run}");
    let steps = [
        "wait until namespace todo is deleted (somebody is deleting it; waiting up to 180 s)",
        "create namespace todo",
    ];
    assert!(steps.iter().all(|text| run.stderr.contains(text)), "{run}");
    let namespaces = sandbox.api().writes().into_iter().filter(|write| *write == format!("PATCH {NAMESPACE}")).count();
    assert_eq!(namespaces, 1, "{run}");

    ending(&sandbox);
    let status = sandbox.run(&["status", "--origin=release"]);
    assert_eq!(status.code, Some(7), "{status}");
    assert!(status.stderr.contains("namespace todo is being deleted, and the application with it"), "{status}");
    let dry = sandbox.run(&["deploy", "dev", "--dry-run", "--origin=release"]);
    assert!(dry.stderr.contains("wait until namespace todo is deleted"), "{dry}");
}
