//! An API server that does not answer, or with errors: xtask treats unknown state as neither present nor absent.

use serde_json::json;

use crate::api_server::{Reply, status};
use crate::common::{DOTENV, Sandbox};

const NAMESPACE: &str = "GET /api/v1/namespaces/todo";

/// Returns replies that do not show whether the namespace exists.
fn faults() -> Vec<Reply> {
    let unavailable =
        status(503, "ServiceUnavailable", "the server is currently unable to handle the request", json!({}));
    let forbidden = status(403, "Forbidden", "namespaces \"todo\" is forbidden", json!({"name": "todo"}));
    vec![
        Reply::Json(503, "", unavailable),
        Reply::Json(403, "", forbidden),
        Reply::Text(404, "404 page not found"),
        Reply::Text(200, "<html>"),
        Reply::CutOff("{"),
        Reply::Close,
    ]
}

/// Returns a sandbox with a healthy release in a running cluster.
fn healthy() -> Sandbox {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    sandbox.cluster();
    sandbox.release();
    sandbox.on("docker exec -i todo crictl --timeout=10s images *", r#"echo '{"images": []}'"#);
    sandbox
}

#[test]
fn an_unreadable_release_is_not_treated_as_absent() {
    for fault in faults() {
        let sandbox = healthy();
        sandbox.api().on(NAMESPACE, std::slice::from_ref(&fault));
        for args in [["deploy", "dev"].as_slice(), &["teardown"], &["status"], &["rollback"]] {
            let run = sandbox.run(&[args, &["--origin=release"]].concat());
            assert_eq!(run.code, Some(5), "{fault:?}: {run}");
            assert!(run.stderr.contains("cannot tell whether namespace todo exists"), "{fault:?}: {run}");
            assert!(run.stderr.contains("try: "), "{fault:?}: {run}");
        }
        assert!(sandbox.api().writes().is_empty(), "{fault:?}: {:?}", sandbox.api().writes());
        let calls = sandbox.fake("calls");
        let tools = ["helm ", "kubectl ", "minikube ", "docker buildx ", "docker save "];
        assert!(!calls.lines().any(|call| tools.iter().any(|tool| call.starts_with(tool))), "{fault:?}: {calls}");
    }
}

/// Serves requests as the application `name`. Returns the port.
fn serve(name: &'static str) -> u16 {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nX-Served-By: {name}/x\r\nContent-Length: 0\r\n\r\n");
        }
    });
    port
}

/// Another program may answer at the port, but without an X-Served-By header of our applications.
#[test]
fn an_address_is_shown_only_if_the_application_answers_there() {
    for (name, is_ours) in [("todo-frontend", true), ("jenkins", false)] {
        let port = serve(name);
        let sandbox = healthy();
        sandbox.node("running", port);
        let metadata = json!({"name": "todo", "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"meta.helm.sh/release-name": "todo", "meta.helm.sh/release-namespace": "todo"}});
        let paths = json!([{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "todo-frontend"}}}]);
        let ingress = json!({"kind": "Ingress", "apiVersion": "networking.k8s.io/v1", "metadata": metadata,
            "spec": {"rules": [{"http": {"paths": paths}}]}});
        sandbox.api().put("/apis/networking.k8s.io/v1/namespaces/todo/ingresses/todo", ingress);
        for args in [["status"].as_slice(), &["status", "--json"]] {
            let run = sandbox.run(&[args, &["--origin=release"]].concat());
            assert_eq!(run.stdout.contains(&format!("http://localhost:{port}")), is_ours, "{run}");
        }
    }
}

#[test]
fn a_transient_fault_is_retried() {
    let sandbox = healthy();
    sandbox.api().on("GET *", &[Reply::Close, Reply::Json(503, "", json!({})), Reply::Pass]);
    let run = sandbox.run(&["status", "--origin=release"]);
    // The release has no workloads here, which is reported. The test is about its revision.
    assert_eq!(run.code, Some(7), "{run}");
    assert!(run.stdout.contains("revision 1 deployed"), "{run}");
}

#[test]
fn a_deploy_starts_a_missing_api_server_and_changes_nothing_else() {
    let sandbox = healthy();
    sandbox.api().on("*", &[Reply::Close]);
    let run = sandbox.run(&["deploy", "dev", "--dry-run", "--origin=release"]);
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stderr.contains("start cluster todo") && run.stderr.contains("did not answer `GET /readyz`"), "{run}");
    assert!(run.stderr.contains("are unknown until the cluster responds"), "{run}");
    assert!(!run.stderr.contains("create namespace") && !run.stderr.contains("helm upgrade"), "{run}");
}

#[test]
fn status_distinguishes_a_starting_api_server_from_a_missing_one() {
    let sandbox = healthy();
    sandbox.api().on("*", &[Reply::Close]);
    let run = sandbox.run(&["status", "--origin=release"]);
    assert_eq!(run.code, Some(5), "{run}");
    assert!(
        run.stdout.contains("todo: not answering") && run.stdout.contains("kubelet, which starts it, is inactive"),
        "{run}"
    );
    assert!(run.stderr.contains("start it; the data stays: cargo xtask deploy dev"), "{run}");
    assert!(!run.stderr.contains("not deployed"), "{run}");

    sandbox.on("docker exec -i todo systemctl is-active kubelet", "echo active");
    let run = sandbox.run(&["status", "--origin=release"]);
    assert_eq!(run.code, Some(5), "{run}");
    assert!(run.stdout.contains("todo: starting") && run.stdout.contains("its API server is starting"), "{run}");

    sandbox.on("docker exec -i todo systemctl is-active kubelet", "echo 'connection reset by peer' >&2; exit 1");
    let run = sandbox.run(&["status", "--origin=release"]);
    assert_eq!(run.code, Some(5), "{run}");
    assert!(run.stderr.contains("node todo does not report whether kubelet runs: connection reset by peer"), "{run}");
}

#[test]
fn a_missing_api_server_is_checked_again_right_before_its_start() {
    let sandbox = healthy();
    let mut replies = vec![Reply::Close; 6];
    replies.push(Reply::Pass);
    sandbox.api().on("GET /readyz", &replies);
    let run = sandbox.run(&["deploy", "dev", "--origin=release"]);
    assert!(run.stderr.contains("start cluster todo: not needed any more: it runs now"), "{run}");
    assert!(!sandbox.fake("calls").contains("minikube --profile todo start"), "{run}");
}

#[test]
fn a_kubeconfig_without_our_context_gets_it_and_keeps_its_own() {
    let sandbox = healthy();
    std::fs::remove_file(&sandbox.kubeconfig).unwrap();
    let dry = sandbox.run(&["deploy", "dev", "--dry-run", "--origin=release"]);
    assert!(dry.stderr.contains("add context todo to ") && !sandbox.kubeconfig.exists(), "{dry}");
    let theirs = "current-context: prod\ncontexts: [{name: prod, context: {cluster: prod, user: prod}}]\n";
    std::fs::write(&sandbox.kubeconfig, theirs).unwrap();
    let run = sandbox.run(&["deploy", "dev", "--origin=release"]);
    assert!(run.stderr.contains("add context todo to "), "{run}");
    let config: serde_json::Value =
        serde_norway::from_str(&std::fs::read_to_string(&sandbox.kubeconfig).unwrap()).unwrap();
    assert_eq!((&config["current-context"], &config["contexts"][0]["name"]), (&json!("prod"), &json!("prod")));
    assert_eq!((&config["contexts"][1]["name"], &config["users"][0]["name"]), (&json!("todo"), &json!("todo")));
    assert!(config["clusters"][0]["cluster"]["server"].as_str().unwrap().starts_with("https://"), "{config}");
    // The next run accepts the entry, because it is ours.
    let run = sandbox.run(&["deploy", "dev", "--dry-run", "--origin=release"]);
    assert!(!run.stderr.contains("add context") && !run.stderr.contains("is not our"), "{run}");
}

#[test]
fn a_release_that_helm_does_not_remove_is_reported_and_its_secrets_stay() {
    let sandbox = healthy();
    sandbox.on("helm *uninstall *", "");
    let folder = "/api/v1/namespaces/todo";
    let labels = json!({"app.kubernetes.io/managed-by": "xtask", "app.kubernetes.io/part-of": "todo",
                        "app.kubernetes.io/component": "backend"});
    let secret =
        json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "todo-backend-1", "labels": labels}});
    sandbox.api().put(&format!("{folder}/secrets/todo-backend-1"), secret);
    let annotations = json!({"meta.helm.sh/release-name": "todo", "meta.helm.sh/release-namespace": "todo"});
    let metadata = json!({"name": "todo-backend", "annotations": annotations,
                          "labels": {"app.kubernetes.io/managed-by": "Helm"}});
    let service = json!({"kind": "Service", "apiVersion": "v1", "metadata": metadata});
    // With its history in another store, Helm finds no release and reports that it is removed.
    sandbox.api().put(&format!("{folder}/services/todo-backend"), service);
    sandbox.api().remove(&format!("{folder}/secrets/sh.helm.release.v1.todo.v1"));
    for args in [["teardown"].as_slice(), &["teardown", "--data"]] {
        let run = sandbox.run(&[args, &["--origin=release"]].concat());
        assert_eq!(run.code, Some(5), "{run}");
        assert!(run.stderr.contains("release todo is not removed; still there: Service todo-backend"), "{run}");
        assert_eq!(sandbox.api().writes(), [""; 0], "nothing else may go");
    }
}

#[test]
fn a_teardown_removes_what_xtask_created_and_waits_for_it() {
    let sandbox = healthy();
    sandbox.on("helm *uninstall *", "");
    let labels = json!({"app.kubernetes.io/managed-by": "xtask", "app.kubernetes.io/part-of": "todo",
                        "app.kubernetes.io/component": "postgres"});
    let object = |kind: &str, name: &str, labels: &serde_json::Value| json!({"kind": kind, "apiVersion": "v1", "metadata": {"name": name, "labels": labels}});
    let folder = "/api/v1/namespaces/todo";
    sandbox.api().put(&format!("{folder}/secrets/todo-postgres"), object("Secret", "todo-postgres", &labels));
    let mut other = labels.clone();
    other["app.kubernetes.io/component"] = json!("backend");
    sandbox.api().put(&format!("{folder}/secrets/todo-backend-1"), object("Secret", "todo-backend-1", &other));
    sandbox.api().put(&format!("{folder}/configmaps/todo-xtask"), object("ConfigMap", "todo-xtask", &other));
    let run = sandbox.run(&["teardown", "--origin=release"]);
    assert_eq!(run.code, Some(5), "{run}");
    assert!(run.stderr.contains("still there: Helm's revision 1"), "{run}");
    sandbox.api().remove(&format!("{folder}/secrets/sh.helm.release.v1.todo.v1"));
    let run = sandbox.run(&["teardown", "--origin=release"]);
    assert_eq!(run.code, Some(0), "{run}");
    let deleted = ["secrets/todo-backend-1", "configmaps/todo-xtask"].map(|path| format!("DELETE {folder}/{path}"));
    assert_eq!(sandbox.api().writes(), deleted, "the password stays with its volume");
    let run = sandbox.run(&["teardown", "--data", "--origin=release"]);
    assert_eq!(run.code, Some(0), "{run}");
    assert!(sandbox.api().object(&format!("{folder}/secrets/todo-postgres")).is_none());
    assert!(sandbox.api().object(folder).is_none());
    assert!(!sandbox.fake("calls").contains("kubectl"));
}

#[test]
fn a_teardown_of_the_data_keeps_foreign_objects_in_the_namespace() {
    let sandbox = healthy();
    sandbox.on("helm *uninstall *", "");
    let folder = "/api/v1/namespaces/todo";
    sandbox.api().remove(&format!("{folder}/secrets/sh.helm.release.v1.todo.v1"));
    let object = |kind: &str, name: &str, labels: serde_json::Value| json!({"kind": kind, "apiVersion": "v1", "metadata": {"name": name, "labels": labels}});
    let ours = json!({"app.kubernetes.io/part-of": "todo", "app.kubernetes.io/instance": "todo"});
    let claim = format!("{folder}/persistentvolumeclaims/data-todo-postgres-0");
    sandbox.api().put(&claim, object("PersistentVolumeClaim", "data-todo-postgres-0", ours));
    for (plural, kind, name) in [("configmaps", "ConfigMap", "notes"), ("secrets", "Secret", "theirs")] {
        sandbox.api().put(&format!("{folder}/{plural}/{name}"), object(kind, name, json!({})));
    }
    let root = object("ConfigMap", "kube-root-ca.crt", json!({}));
    sandbox.api().put(&format!("{folder}/configmaps/kube-root-ca.crt"), root);
    // The question about the todos comes before any removal.
    let run = sandbox.run(&["teardown", "--data", "--origin=release"]);
    assert_eq!(run.code, Some(4), "{run}");
    assert!(run.stderr.contains("delete the embedded database's volume with all todos in it"), "{run}");
    assert!(run.stderr.contains("run the same command with --yes") && !sandbox.fake("calls").contains("helm"), "{run}");
    assert_eq!(sandbox.api().writes(), [""; 0]);
    let run = sandbox.run(&["teardown", "--data", "--yes", "--origin=release"]);
    assert_eq!(run.code, Some(0), "{run}");
    assert!(
        run.stderr.contains("stays: namespace todo, which contains other objects: ConfigMap notes, Secret theirs"),
        "{run}"
    );
    assert_eq!(sandbox.api().writes(), [format!("DELETE {claim}")]);
    for path in ["configmaps/notes", "secrets/theirs"] {
        sandbox.api().remove(&format!("{folder}/{path}"));
    }
    let run = sandbox.run(&["teardown", "--data", "--origin=release"]);
    assert!(run.code == Some(0) && sandbox.api().object(folder).is_none(), "{run}");
}
