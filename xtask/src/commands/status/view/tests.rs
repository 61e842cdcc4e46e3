use super::*;
use crate::commands::status::text::screen;
use crate::stages::release::{self, Verified};

/// The output of `kubectl get … -o json` for a running release, trimmed to the fields in use.
const RUNNING: &str = include_str!("running.json");

fn observed() -> ObservedRelease {
    let snapshot = Snapshot::parse(RUNNING).unwrap();
    let images = snapshot.kind("Pod").map(|pod| text(pod, "/spec/containers/0/image").to_owned());
    let verified = Verified {
        fingerprint: Default::default(),
        revision: 1,
        images: images.map(|reference| (reference, "sha256:0123456789abcdef0123".to_owned())).collect(),
        secrets: Vec::new(),
        environment: "dev".into(),
        verified_at: clock::parse("2026-11-21T08:40:00Z").unwrap(),
    };
    let record = Record::new(verified, &snapshot, &[1]).unwrap();
    let revision = release::Revision { number: 1, status: "deployed".into(), created: String::new() };
    ObservedRelease {
        helm: release::HelmHistory { revisions: vec![revision] },
        secrets: release::ObservedSecrets {
            ours: vec!["todo-backend-00000000".into(), "todo-postgres".into()],
            ..release::ObservedSecrets::default()
        },
        record: Some(record),
        snapshot: Some(snapshot),
        ..ObservedRelease::default()
    }
}

fn view() -> View {
    let cluster = ClusterView {
        profile: "todo".into(),
        state: "running".into(),
        address: Some("http://localhost:8080".into()),
        hint: None,
        open_with: None,
        silence: None,
        kubernetes: Some("v1.34.4".into()),
        difference: None,
    };
    View::new(cluster, &observed())
}

#[test]
fn shows_a_kubernetes_that_differs_from_the_pinned_one() {
    let mut view = view();
    view.cluster.difference = Some("the cluster runs Kubernetes v1.34.4, this checkout pins v1.36.4".into());
    let text = anstream::adapter::strip_str(&screen(&view, None)).to_string();
    assert!(
        text.contains("8080\n          the cluster runs Kubernetes v1.34.4, this checkout pins v1.36.4\nrelease"),
        "{text}"
    );
}

#[test]
fn shows_objects_of_others_and_an_unresolvable_host() {
    let mut view = view();
    view.foreign = vec!["Deployment adminer".into(), "Pod shell".into()];
    view.cluster.hint = Some("todo.test does not resolve on this machine: ...".into());
    let text = anstream::adapter::strip_str(&screen(&view, None)).to_string();
    for line in [
        "others    not part of the release: Deployment adminer, Pod shell\n",
        "8080\n          todo.test does not resolve on this machine: ...\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn shows_everything_on_one_screen() {
    let text = screen(&view(), clock::parse("2026-11-21T08:45:00Z"));
    insta::assert_snapshot!(anstream::adapter::strip_str(&text).to_string(), @"
    cluster   todo: running  http://localhost:8080
    release   revision 1 deployed, verified: revision 1 (dev), 5 min
    pods      todo-backend     2/2 ready
                todo-backend-7747d78d4d-67nj6  Running, 11 min
                todo-backend-7747d78d4d-xdml5  Running, 11 min
              todo-frontend    2/2 ready
                todo-frontend-59b84bf764-65s9w  Running, 11 min
                todo-frontend-59b84bf764-tzfv9  Running, 11 min
              todo-postgres    1/1 ready
                todo-postgres-0  Running, 11 min
    images    postgres:17-trixie                       sha256:0123456789ab  1 pod
              todo-backend:ac36752f4eef9be9            sha256:0123456789ab  2 pods
              todo-frontend:b6fa6fb5acf83d29           sha256:0123456789ab  2 pods
    secrets   todo-backend-00000000    todo-backend
              todo-postgres            todo-postgres
    drift     none: nothing was changed by hand
    ");
}

#[test]
fn a_screen_without_a_clock_changes_only_with_the_state() {
    let mut later = view();
    later.routes = vec![serde_json::json!({"host": "", "path": "/", "status": 200, "served_by": "todo-frontend/a",
                                           "p50_ms": 3, "problem": null})];
    let first = screen(&later, None);
    later.routes[0]["p50_ms"] = 17.into();
    later.routes[0]["served_by"] = "todo-frontend/b".into();
    assert_eq!(first, screen(&later, None));
    later.pods[0].restarts += 1;
    assert_ne!(first, screen(&later, None));
}

#[test]
fn keeps_the_hints_of_a_finding_as_data() {
    let hint = Hint::edit(3, "AUTH_SECRET", crate::failure::Change::Remove).of_file(".env");
    let found = judge::Finding {
        name: "config",
        patience: std::time::Duration::ZERO,
        gravity: Gravity::Fatal,
        subject: "pod/todo-backend-1-a".into(),
        cause: "lacks a key".into(),
        help: vec![hint.clone(), "cargo xtask doctor".into()],
        log_of: None,
    };
    let shown = finding(found);
    assert_eq!((&shown.hints[0], &shown.hints[0]["kind"]), (&hint.data(), &"edit".into()));
    assert_eq!(shown.help, format!("{}; cargo xtask doctor", hint.text()));
}
