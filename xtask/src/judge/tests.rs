//! The table of causes, tested with objects of real clusters: recorded with `kubectl get -o json` and trimmed.

use serde_json::{Value, json};

use super::*;
use crate::labels::{COMPONENT, INSTANCE, PART_OF};
use crate::snapshot::PROFILE;

/// Parses a recording: objects of the namespace and, in some recordings, of the whole cluster.
fn recorded(text: &str) -> Snapshot {
    let mut value: serde_json::Value = serde_json::from_str(text).unwrap();
    let cluster = serde_json::json!({"items": value["cluster"].take()}).to_string();
    Snapshot::parse(&value.to_string()).unwrap().with_cluster(&cluster).unwrap()
}

macro_rules! recorded {
    ($name:literal) => {
        recorded(include_str!(concat!("../../tests/recorded/judge/", $name, ".json")))
    };
}

/// Returns the next steps as people read them.
fn lines(finding: &Finding) -> String {
    finding.help.iter().map(Hint::text).collect::<Vec<_>>().join("\n")
}

/// Asserts that the first finding is fatal, has the cause `name`, and contains all of `words`.
fn expect(snapshot: &Snapshot, name: &str, words: &[&str]) {
    let found = findings(snapshot);
    let first = found.first().unwrap_or_else(|| panic!("{name} is not found"));
    assert_eq!((first.name, first.gravity), (name, Gravity::Fatal), "{found:#?}");
    let text = format!("{}\n{}\n{}", first.subject, first.cause, lines(first));
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    let fatal = found.iter().filter(|finding| finding.gravity == Gravity::Fatal).count();
    assert_eq!(fatal, 1, "one cause is one finding: {found:#?}");
}

/// Returns a snapshot with an unready pod of the backend, whose container has this spec and status.
fn backend(spec: Value, status: Value) -> Snapshot {
    Snapshot::parse(&backend_json(spec, status).to_string()).unwrap()
}

fn backend_json(spec: Value, status: Value) -> Value {
    let labels = json!({"app": "x", "app.kubernetes.io/component": "backend"});
    let (mut spec, mut status) = (spec, status);
    spec["name"] = "backend".into();
    status["name"] = "backend".into();
    status["ready"] = false.into();
    json!({"items": [
        {"kind": "Deployment", "metadata": {"name": "todo-backend", "labels": {}},
         "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}}},
        {"kind": "Pod", "metadata": {"name": "todo-backend-1", "uid": "u", "labels": labels},
         "spec": {"containers": [spec]}, "status": {"phase": "Running", "containerStatuses": [status]}},
        {"kind": "Event", "metadata": {"name": "e"}, "involvedObject": {"uid": "u"}, "reason": "Unhealthy", "count": 3,
         "message": "Readiness probe failed: HTTP probe failed with statuscode: 503"}]})
}

fn ended(code: u64, message: &str) -> Value {
    let ended = json!({"terminated": {"exitCode": code, "reason": "Error", "message": message}});
    json!({"restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended})
}

/// containerd 1.7 reports a container that ended with its node like this.
#[test]
fn a_container_that_ended_with_its_node_has_not_crashed() {
    let crashes = |reason: &str| {
        let ended = json!({"terminated": {"exitCode": 255, "reason": reason}});
        let snapshot = backend(json!({}), json!({"restartCount": 2, "state": ended, "lastState": ended}));
        findings(&snapshot).iter().any(|finding| finding.name == "crash-loop")
    };
    assert!(crashes("Error") && !crashes("Unknown"));
}

#[test]
fn a_failed_migration_gets_the_help_for_its_exit_code() {
    for (code, help) in [
        (1, "its last log lines say why"),
        (3, "cannot be reached"),
        (4, "user or password"),
        (5, "no such database"),
        (6, "sslmode"),
        (7, "limit of its plan"),
        (10, "deploy that code, or use a branch of your own"),
        (10, "embedded: cargo xtask teardown --data deletes all todos"),
        (137, "its last log lines say why"),
    ] {
        let message = "migration failed (todo@db:5432/todo): the reason";
        let words = [&format!("container backend ended with exit code {code}, 2 times: {message}"), help];
        let snapshot = backend(json!({}), ended(code, message));
        expect(&snapshot, "migration", &words);
        assert!(findings(&snapshot)[0].log_of.is_some());
    }
}

#[test]
fn wrong_settings_are_reported_as_such() {
    let message = "todo-backend cannot start: AUTH_SECRET is shorter than 32 bytes";
    expect(&backend(json!({}), ended(2, message)), "crash-loop", &[message, "the settings are wrong", ".env"]);
}

#[test]
fn a_program_that_cannot_be_started_names_the_value_to_correct() {
    let failed = json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": "not found"}});
    let help = |spec: Value| lines(&findings(&backend(spec, json!({"lastState": failed})))[0]);
    assert!(help(json!({})).contains("backend.image"));
    assert!(help(json!({"command": ["no-such-program"]})).contains("backend.command"));
}

#[test]
fn an_unready_container_is_fatal_unless_its_log_says_what_it_waits_for() {
    let gravity = |log: Option<&str>| {
        let probe = json!({"httpGet": {"path": "/health", "port": "http"}});
        let running = json!({"state": {"running": {"startedAt": "2026-11-21T08:00:00Z"}}});
        let mut snapshot = backend(json!({"readinessProbe": probe}), running);
        if let Some(log) = log {
            snapshot.add_log("todo-backend-1", "backend", log.to_owned());
        }
        let found = findings(&snapshot);
        assert_eq!((found.len(), found[0].name), (1, "not-ready"), "{found:#?}");
        (found[0].gravity, found[0].cause.clone())
    };
    let (waits, others) =
        (r#"{"message": "waiting for the migration of the schema"}"#, r#"{"message": "database lost"}"#);
    assert_eq!(gravity(None).0, Gravity::Waiting, "its log was not read yet");
    assert_eq!(gravity(Some("")).0, Gravity::Waiting, "it has logged nothing yet");
    let (found, cause) = gravity(Some(&format!("{others}\n{waits}\n\n")));
    assert!(
        found == Gravity::Waiting && cause.ends_with("3 times: waiting for the migration of the schema"),
        "{cause}"
    );
    assert_eq!(gravity(Some(&format!("{waits}\n{others}"))).0, Gravity::Fatal);
    assert_eq!(gravity(Some("waiting for nothing that anybody knows")).0, Gravity::Fatal);
}

/// After a restart of the node, events of the pod's first start are still there (seen by `test ordinary`).
#[test]
fn a_probe_that_failed_before_the_pod_was_ready_does_not_count() {
    let gravity = |unready_since: &str| {
        let probe = json!({"exec": {"command": ["pg_isready"]}});
        let status = json!({"ready": false, "started": true, "state": {"running": {}}});
        let mut value = backend_json(json!({"startupProbe": probe}), status);
        value["items"][1]["status"]["conditions"] =
            json!([{"type": "Ready", "status": "False", "lastTransitionTime": unready_since}]);
        value["items"][2]["message"] = "Startup probe failed: 127.0.0.1:5432 - no response".into();
        value["items"][2]["lastTimestamp"] = "2026-11-27T19:46:28Z".into();
        findings(&Snapshot::parse(&value.to_string()).unwrap())[0].gravity
    };
    assert_eq!(gravity("2026-11-27T19:47:25Z"), Gravity::Waiting);
    assert_eq!(gravity("2026-11-27T19:46:30Z"), Gravity::Fatal);
}

#[test]
fn image_missing() {
    expect(
        &recorded!("image-missing"),
        "image-missing",
        &["init container migrate", "todo-backend:gone", "deploy dev"],
    );
}

#[test]
fn image_pull() {
    expect(
        &recorded!("image-pull"),
        "image-pull",
        &["ErrImagePull", "frontend.image.pullPolicy: Never", "it is Always"],
    );
}

#[test]
fn config_key() {
    let words = ["key SMTP_PASSWORD is not in Secret todo-postgres", "its variable X needs it"];
    expect(&recorded!("config-key"), "config", &words);
}

#[test]
fn evicted() {
    let words = [
        "pod/todo-backend-689c96d57f-4mnng",
        "volume \"tmp\" exceeds the limit \"64Mi\"",
        "sizeLimit",
        "templates/backend",
    ];
    expect(&recorded!("evicted"), "evicted", &words);
}

#[test]
fn crash() {
    let snapshot = recorded!("crash");
    expect(&snapshot, "crash-loop", &["container frontend ended with exit code 7, 2 times", "log lines"]);
    assert!(findings(&snapshot)[0].log_of.is_some());
}

#[test]
fn init_container() {
    expect(
        &recorded!("init"),
        "init",
        &["init container migrate failed with exit code 1, 2 times", "its last log lines say why"],
    );
}

#[test]
fn start() {
    let words = ["container frontend cannot be started: exec: \"no-such-program\": executable file not found in $PATH"];
    expect(&recorded!("start"), "cannot-start", &words);
}

#[test]
fn readiness() {
    let words = ["readiness probe GET /no-such-path on port http, got status 404", "nothing is at that path"];
    expect(&recorded!("readiness"), "not-ready", &words);
}

#[test]
fn out_of_memory() {
    let words = ["container frontend was killed", "its limit of 40Mi", "raise frontend.resources.limits.memory"];
    expect(&recorded!("oom"), "out-of-memory", &words);
}

#[test]
fn unschedulable() {
    let words = [
        "1 Insufficient memory",
        "memory requested: 60Gi",
        "node xr: 22.6Gi free of 23.5Gi; held by todo/todo-frontend-",
        "lower frontend.resources.requests.memory in chart/values*.yaml to at most 22.6Gi",
        "no setting makes room: all pods together need 61.0Gi, and the machine has 23.5Gi",
    ];
    expect(&recorded!("unschedulable"), "unschedulable", &words);
}

/// Recorded from a profile of 6 GiB of an older version, whose node offers the whole machine.
#[test]
fn a_node_has_at_most_the_size_of_its_profile() {
    let text = include_str!("../../tests/recorded/judge/unschedulable.json").replace("60Gi", "10Gi");
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let size = serde_json::json!({"memory": "6144Mi", "cpu": "2"});
    value["cluster"].as_array_mut().unwrap().iter_mut().for_each(|object| object[PROFILE] = size.clone());
    let words = [
        "memory requested: 10Gi",
        "node xr: 5142Mi free of 6Gi; held by todo/todo-frontend-",
        "lower frontend.resources.requests.memory in chart/values*.yaml to at most 5142Mi",
        "set cluster.memory_mib = 11242 or more in infra/xtask.toml; only a new cluster gets it: cargo xtask teardown",
    ];
    expect(&recorded(&value.to_string()), "unschedulable", &words);
}

#[test]
fn a_cordoned_node_comes_with_the_command_that_uncordons_it() {
    let text = include_str!("../../tests/recorded/judge/unschedulable.json");
    // The words of the scheduler of Kubernetes 1.36.
    let text = text.replace("1 Insufficient memory.", "1 node(s) were unschedulable.");
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["cluster"][0]["spec"]["unschedulable"] = true.into();
    let words = ["node xr is cordoned", "cargo xtask tool kubectl -- uncordon xr"];
    expect(&recorded(&value.to_string()), "cordoned", &words);
    // No pod waits for the node.
    let node = serde_json::json!({"items": [], "cluster": [value["cluster"][0]]});
    let found = findings(&recorded(&node.to_string()));
    assert_eq!((found[0].name, found[0].gravity, found[0].subject.as_str()), ("cordoned", Gravity::Waiting, "node/xr"));
    assert_eq!(lines(&found[0]), "cargo xtask tool kubectl -- uncordon xr");
}

#[test]
fn pod_security() {
    let words = ["deployment/todo-frontend", "Pod Security `restricted` refuses", "volume type \"hostPath\""];
    expect(&recorded!("pod-security"), "pod-security", &words);
}

#[test]
fn quota() {
    let words = [
        "quota small has no room for another pod: requested: pods=1, used: pods=5, limited: pods=5",
        "frontend.replicas",
    ];
    expect(&recorded!("quota"), "quota", &words);
}

#[test]
fn hints_name_the_folder_of_the_chart() {
    let labels = json!({COMPONENT: "postgres", PART_OF: "todo", INSTANCE: "todo"});
    let claim = json!({"kind": "PersistentVolumeClaim", "metadata": {"name": "data", "uid": "u", "labels": labels},
        "status": {"phase": "Pending"}});
    let event = json!({"kind": "Event", "involvedObject": {"uid": "u"}, "reason": "ProvisioningFailed"});
    let cluster = json!({"items": [{"kind": "StorageClass", "metadata": {"name": "standard"}}]}).to_string();
    let snapshot = Snapshot::of_release("todo", "todo", vec![claim, event]).with_cluster(&cluster).unwrap();
    let words = ["set postgres.storage.className in charts/todo/values*.yaml to one that exists: standard"];
    expect(&snapshot, "claim-pending", &words);
}

#[test]
fn claim() {
    let words = ["no volume of class no-such-class: storageclass.storage.k8s.io \"no-such-class\" not found"];
    expect(&recorded!("pvc"), "claim-pending", &words);
}

#[test]
fn pods_that_the_rollout_replaces_are_skipped() {
    // The old pod crashes while the new one starts: a deploy that fixes a mistake looks like this.
    let status = serde_json::json!({"name": "backend", "restartCount": 3, "ready": false,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 1}}});
    let set = |name: &str, revision: &str| {
        serde_json::json!({"kind": "ReplicaSet", "metadata": {"name": name, "labels": {"pod-template-hash": name},
            "annotations": {"deployment.kubernetes.io/revision": revision}, "ownerReferences": [{"name": "todo-backend"}]}})
    };
    let items = |current: &str| {
        let items = serde_json::json!({"items": [
            {"kind": "Deployment", "metadata": {"name": "todo-backend", "generation": 2,
                "annotations": {"deployment.kubernetes.io/revision": current}},
             "spec": {"selector": {"matchLabels": {"app": "b"}}}, "status": {"observedGeneration": 2}},
            set("one", "1"), set("two", "2"),
            {"kind": "Pod", "metadata": {"name": "todo-backend-one-x", "labels": {"app": "b", "pod-template-hash": "one"}},
             "status": {"containerStatuses": [status.clone()]}}]});
        Snapshot::parse(&items.to_string()).unwrap()
    };
    assert_eq!(findings(&items("1")).len(), 1);
    assert_eq!(findings(&items("2")), []);
}

#[test]
fn an_unready_pod_with_an_old_template_is_stuck() {
    let items = |ready: &str, newest: &str| {
        let items = serde_json::json!({"items": [
            {"kind": "StatefulSet", "metadata": {"name": "todo-postgres"}, "spec": {"selector": {"matchLabels": {"app": "p"}}},
             "status": {"updateRevision": newest}},
            {"kind": "Pod", "metadata": {"name": "todo-postgres-0", "labels": {"app": "p", "controller-revision-hash": "a"}},
             "status": {"conditions": [{"type": "Ready", "status": ready}]}}]});
        stuck(&Snapshot::parse(&items.to_string()).unwrap())
    };
    assert_eq!(items("False", "b"), ["todo-postgres-0"]);
    assert!(items("True", "b").is_empty() && items("False", "a").is_empty());
}

#[test]
fn a_rollout_is_complete_when_all_pods_are_new_and_ready() {
    let complete = |updated: u64, ready: u64, all: u64| {
        let workload = serde_json::json!({"kind": "Deployment", "metadata": {"name": "d", "generation": 2},
            "spec": {"replicas": 2}, "status": {"observedGeneration": 2, "updatedReplicas": updated,
            "readyReplicas": ready, "replicas": all}});
        progress::of_workload(&workload).complete
    };
    assert!(complete(2, 2, 2));
    assert!(!complete(2, 2, 3));
    assert!(!complete(1, 2, 2));
}

#[test]
fn names_of_causes_are_unique_and_valid_folder_names() {
    for (at, cause) in CAUSES.iter().enumerate() {
        assert!(cause.name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", cause.name);
        assert!(CAUSES[..at].iter().all(|other| other.name != cause.name));
    }
}
