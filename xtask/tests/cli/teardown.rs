//! Questions, reports and removals of `teardown` besides the release.

use std::fs;

use serde_json::json;

use crate::common::{DOTENV, ID, Sandbox};

/// Returns a sandbox whose engine has two of our builds, an image pulled by xtask and a foreign one.
fn with_images() -> Sandbox {
    let sandbox = Sandbox::with_tools();
    let id = |digit: &str| format!("sha256:{}", digit.repeat(64));
    let images = [
        (id("a"), "todo-backend:0123456789abcdef", "116MB"),
        (id("b"), "<none>:<none>", "446MB"),
        (ID.to_owned(), "python:3.13-slim-trixie", "55.4MB"),
        (id("d"), "redis:8", "120MB"),
    ];
    let lines: String = images.iter().map(|(id, name, size)| format!("{id}\t{name}\t{size}\n")).collect();
    fs::write(sandbox.dir.join("images"), lines).unwrap();
    sandbox.on("docker image ls *", &format!("cat {}/images", sandbox.dir));
    let built = format!("printf '{}\\n{}\\n'", id("a"), id("b"));
    sandbox.on("docker image ls --no-trunc --quiet *", &built);
    sandbox.on(
        "docker system df *",
        "printf 'Images\\t4\\t700MB\\nContainers\\t0\\t0B\\nLocal Volumes\\t0\\t0B\\nBuild Cache\\t9\\t1.302GB\\n'",
    );
    let records = sandbox.cache.join("bases/release");
    fs::create_dir_all(&records).unwrap();
    let record = |image: &str, id: &str| {
        format!(r#"{{"image":"{image}","id":"{id}","at":"2026-11-27T00:00:00Z","how":"pulled"}}"#)
    };
    fs::write(records.join("python"), record("python:3.13-slim-trixie", ID)).unwrap();
    // The image that xtask pulled under this name is gone: another one was pulled since.
    fs::write(records.join("redis"), record("redis:8", &id("e"))).unwrap();
    sandbox
}

/// Lets the fake engine remove images.
fn removes(sandbox: &Sandbox) {
    for name in ["grep", "mv"] {
        std::os::unix::fs::symlink(format!("/usr/bin/{name}"), sandbox.dir.join("bin").join(name)).unwrap();
    }
    let dir = &sandbox.dir;
    let script =
        format!("for name; do :; done; grep -v -F \"$name\" {dir}/images > {dir}/rest; mv {dir}/rest {dir}/images");
    sandbox.on("docker image rm *", &script);
}

#[test]
fn irrecoverable_removals_need_consent() {
    let sandbox = Sandbox::with_tools();
    sandbox.cluster();
    insta::assert_snapshot!(sandbox.run(&["teardown", "--cluster", "--origin=release"]), @"
    exit code 4
    -- stderr
    xtask will make these changes on this machine:
      - delete the minikube profile `todo` and everything in it, todos included
    error: cannot ask for your consent: there is no terminal
      try: run the same command with --yes
    ");
    for flag in ["--images", "--engine", "--cache"] {
        let run = sandbox.run(&["teardown", flag, "--origin=release"]);
        assert!(run.code == Some(4) && run.stderr.contains("delete the minikube profile `todo`"), "{run}");
    }
    let calls = sandbox.fake("calls");
    assert!(!calls.contains("minikube") && !calls.contains(" rm "), "{calls}");
}

#[test]
fn todos_of_dev_in_the_private_engine_are_named_for_all_checkouts() {
    let sandbox = Sandbox::with_tools();
    sandbox.on(
        "docker version *",
        "echo 'Cannot connect to the Docker daemon at unix:///nonexistent/docker.sock. Is it running?' >&2; exit 1",
    );
    let data = sandbox.cache.join("engine/data");
    for volume in ["todo-dev-0a0a0a0a-data", "todo-dev-0a0a0a0a-socket", "shop-dev-1b1b1b1b-data", "data"] {
        fs::create_dir_all(data.join("volumes").join(volume)).unwrap();
    }
    for (id, name) in [("01", "todo"), ("02", "todo-dev-0a0a0a0a-proxy")] {
        let folder = data.join("containers").join(id);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.v2.json"), format!(r#"{{"Name":"/{name}"}}"#)).unwrap();
    }
    insta::assert_snapshot!(sandbox.run(&["teardown", "--engine", "--origin=release"]), @"
    exit code 4
    -- stderr
    xtask will make these changes on this machine:
      - stop the private Docker Engine and remove it with all its images, with the clusters todo
      - delete the todos of `cargo xtask dev`: volume shop-dev-1b1b1b1b-data
      - delete the todos of `cargo xtask dev`: volume todo-dev-0a0a0a0a-data
    error: cannot ask for your consent: there is no terminal
      try: run the same command with --yes
    ");
}

#[test]
fn the_rest_in_the_engine_is_reported_with_its_size() {
    let sandbox = with_images();
    insta::assert_snapshot!(sandbox.run(&["teardown", "--origin=release"]), @"
    exit code 0
    -- stderr
      ✓ no minikube profile `todo`: nothing to remove
      · stays: 2 images that xtask built, 562.0 MB with the layers that they share  (--images removes them)
      · stays: images that xtask pulled: python:3.13-slim-trixie (55.4 MB)  (--images removes them)
      · stays: 1.3 GB of build cache, yours and xtask's together  (docker buildx prune removes it)
    ");
    sandbox.on("docker image ls *", "echo 'connection reset by peer' >&2; exit 1");
    let run = sandbox.run(&["teardown", "--origin=release"]);
    assert!(run.code != Some(0) && run.stderr.contains("connection reset by peer"), "{run}");
}

#[test]
fn our_images_are_removed_and_foreign_ones_stay() {
    let sandbox = with_images();
    removes(&sandbox);
    insta::assert_snapshot!(sandbox.run(&["teardown", "--images", "--origin=release"]), @"
    exit code 0
    -- stderr
      ✓ no minikube profile `todo`
      > remove xtask's images from the engine (asked for)
      ✓ remove xtask's images from the engine: 3 removed <time>
      · stays: 1.3 GB of build cache, yours and xtask's together  (docker buildx prune removes it)
    ");
    assert!(fs::read_to_string(sandbox.dir.join("images")).unwrap().ends_with("redis:8\t120MB\n"));
    let run = sandbox.run(&["teardown", "--images", "--origin=release"]);
    assert!(run.code == Some(0) && run.stderr.contains("the engine has no image that xtask built or pulled"), "{run}");
}

/// The message about the conflict is from Docker 26.1.5.
#[test]
fn an_image_counts_as_removed_when_the_engine_has_lost_it() {
    let sandbox = with_images();
    removes(&sandbox);
    let conflict = "Error response from daemon: conflict: unable to remove repository reference \\\"python:3.13-slim-trixie\\\" \
                    (must force) - container 1b2c is using its referenced image c5ca4eaaa999";
    sandbox.on("docker image rm python*", &format!("echo \"{conflict}\" >&2; exit 1"));
    let run = sandbox.run(&["teardown", "--images", "--origin=release"]);
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stderr.contains("2 removed") && run.stderr.contains("stays, a container uses it: python"), "{run}");

    let sandbox = with_images();
    sandbox.on("docker image rm *", "");
    let run = sandbox.run(&["teardown", "--images", "--origin=release"]);
    assert_eq!(run.code, Some(6), "{run}");
    assert!(run.stderr.contains("not removed from the engine: python:3.13-slim-trixie"), "{run}");
}

#[test]
fn images_used_by_another_profile_stay() {
    let sandbox = with_images();
    let other = sandbox.cache.join("minikube/.minikube/profiles/other");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("config.json"), "{}").unwrap();
    let run = sandbox.run(&["teardown", "--images", "--origin=release"]);
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stderr.contains("the images stay while other profiles use them: other"), "{run}");
    assert!(!sandbox.fake("calls").contains("image rm"));
}

#[test]
fn a_remote_database_is_kept_and_that_is_reported() {
    let sandbox = Sandbox::with_tools();
    let expected = "stays: the database of DATABASE_URL with its tables and todos; no teardown touches it";
    for (line, is_remote) in
        [("", false), ("# DATABASE_URL=x", false), ("DATABASE_URL='postgresql://u@db.test/x'", true)]
    {
        sandbox.dotenv(format!("{DOTENV}{line}\n"));
        let run = sandbox.run(&["teardown", "--origin=release"]);
        assert!(run.code == Some(0) && run.stderr.contains(expected) == is_remote, "{line}: {run}");
    }
}

#[test]
fn a_controller_that_serves_other_namespaces_stays() {
    let sandbox = Sandbox::with_tools();
    sandbox.cluster();
    let api = sandbox.api();
    let labels = json!({"app.kubernetes.io/part-of": "todo", "app.kubernetes.io/component": "ingress-controller"});
    let metadata = json!({"name": "ingress-traefik", "labels": labels});
    let namespace = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": metadata});
    api.put("/api/v1/namespaces/ingress-traefik", namespace);
    let path = "/apis/apps/v1/namespaces/ingress-traefik/deployments/traefik";
    let controller = |arguments: &[&str]| {
        let metadata = json!({"name": "traefik", "namespace": "ingress-traefik", "labels": labels});
        let containers = json!([{"name": "traefik", "args": arguments}]);
        api.put(
            path,
            json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": metadata,
            "spec": {"template": {"spec": {"containers": containers}}}}),
        );
    };
    let ingress = json!({"kind": "Ingress", "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": "web", "namespace": "shop"}, "spec": {}});
    api.put("/apis/networking.k8s.io/v1/namespaces/shop/ingresses/web", ingress);
    // The controller of 0.2.x serves all namespaces, that of another checkout another namespace.
    for arguments in [&["--ping=true"][..], &["--providers.kubernetesingress.namespaces=shop"]] {
        controller(arguments);
        let run = sandbox.run(&["teardown", "--origin=release"]);
        let kept = "ingress controller kept: it serves Ingresses of namespace shop";
        assert!(run.code == Some(0) && run.stderr.contains(kept), "{arguments:?}: {run}");
        assert!(api.object(path).is_some());
    }
    controller(&["--providers.kubernetesingress.namespaces=todo"]);
    let run = sandbox.run(&["teardown", "--origin=release"]);
    assert!(run.code == Some(0) && run.stderr.contains("ingress controller removed"), "{run}");
    assert!(api.object(path).is_none());
}
