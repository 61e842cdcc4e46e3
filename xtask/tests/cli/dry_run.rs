//! A dry run shows the steps and changes nothing.

use crate::common::{DOTENV, OFFLINE, Sandbox, free_port, no_image};

#[test]
fn without_a_cluster_it_shows_every_step_and_leaves_nothing() {
    let sandbox = Sandbox::with_engine();
    let port = free_port();
    let home = sandbox.listing(&sandbox.dir.join("home"));
    let before = sandbox.listing(&sandbox.dir.join("root"));
    let run = sandbox.run(&["deploy", "dev", "--dry-run", "--origin=release", "--port", &port]);
    insta::assert_snapshot!(run.to_string().replace(&port, "<port>"), @r#"
    exit code 0
    -- stderr
      make .env from .env.example
          why: there is none; it gets a random AUTH_SECRET and is for you alone (mode 600)
          $ install -m 600 .env.example .env  # and AUTH_SECRET=$(openssl rand -hex 32)
      download kubectl <version>
          why: not in the cache; its checksum is from <cite>
          $ curl -fL -C - --create-dirs -o <tmp>/cache/release/<sha>/kubectl.download <url>
          $ echo '<sha256>  <tmp>/cache/release/<sha>/kubectl.download' | sha256sum -c
          $ mv <tmp>/cache/release/<sha>/kubectl.download <tmp>/cache/release/<sha>/kubectl
          $ chmod 755 <tmp>/cache/release/<sha>/kubectl
      download minikube <version>
          why: not in the cache; its checksum is from <cite>
          $ curl -fL -C - --create-dirs -o <tmp>/cache/release/<sha>/minikube.download <url>
          $ echo '<sha256>  <tmp>/cache/release/<sha>/minikube.download' | sha256sum -c
          $ mv <tmp>/cache/release/<sha>/minikube.download <tmp>/cache/release/<sha>/minikube
          $ chmod 755 <tmp>/cache/release/<sha>/minikube
      pull node:24-trixie-slim
          why: the engine has no such image
          $ docker pull node:24-trixie-slim
      pull python:3.13-slim-trixie
          why: the engine has no such image
          $ docker pull python:3.13-slim-trixie
      pull postgres:17-trixie
          why: the engine has no such image
          $ docker pull postgres:17-trixie
      pull traefik:<version>
          why: the engine has no such image
          $ docker pull traefik:<version>
      download helm <version>
          why: not in the cache; its checksum is from <cite>
          $ curl -fL -C - --create-dirs -o <tmp>/cache/release/<sha>/helm.tar.gz <url>
          $ echo '<sha256>  <tmp>/cache/release/<sha>/helm.tar.gz' | sha256sum -c
          $ tar -xzOf <tmp>/cache/release/<sha>/helm.tar.gz <platform>/helm > <tmp>/cache/release/<sha>/helm
          $ chmod 755 <tmp>/cache/release/<sha>/helm
      create cluster todo
          why: there is no profile of that name
          $ minikube --profile todo start --driver=docker --container-runtime=containerd --keep-context --interactive=false --kubernetes-version=<version> --cpus=2 --memory=3m --extra-config=kubelet.system-reserved=cpu=6,memory=25162752Ki --extra-config=apiserver.watch-cache=false --extra-config=controller-manager.kube-api-qps=200 --extra-config=controller-manager.kube-api-burst=400 --extra-config=kubelet.node-status-update-frequency=1m --extra-config=kubelet.housekeeping-interval=1m --wait=apiserver,apps_running,default_sa,kubelet,node_ready,system_pods --wait-timeout=5m --ports=127.0.0.1:<port>:80
      install ingress controller
          why: the cluster has no ingress controller
          $ docker save traefik:<version> | ctr images import
          $ PATCH /api/v1/namespaces/todo?fieldManager=xtask&force=true
          $ PATCH /api/v1/namespaces/ingress-traefik?fieldManager=kubectl&force=true
          $ PATCH /api/v1/namespaces/ingress-traefik/serviceaccounts/traefik?fieldManager=kubectl&force=true
          $ PATCH /apis/rbac.authorization.k8s.io/v1/clusterroles/todo-ingress-traefik?fieldManager=kubectl&force=true
          $ PATCH /apis/rbac.authorization.k8s.io/v1/clusterrolebindings/todo-ingress-traefik?fieldManager=kubectl&force=true
          $ PATCH /apis/rbac.authorization.k8s.io/v1/namespaces/todo/roles/todo-ingress-traefik?fieldManager=kubectl&force=true
          $ PATCH /apis/rbac.authorization.k8s.io/v1/namespaces/todo/rolebindings/todo-ingress-traefik?fieldManager=kubectl&force=true
          $ PATCH /apis/apps/v1/namespaces/ingress-traefik/deployments/traefik?fieldManager=kubectl&force=true
          $ PATCH /apis/networking.k8s.io/v1/ingressclasses/traefik?fieldManager=kubectl&force=true
      build todo-backend
          why: the engine does not have its base image python:3.13-slim-trixie yet
          $ docker buildx build --builder default --progress=plain --load --provenance=false --label app=todo-xtask --tag 'todo-backend:<tag>' --build-arg PYTHON_IMAGE=python:3.13-slim-trixie --build-arg 'BUILD_ID=<tag>' --file Dockerfile - < (tar of apps/backend)
      build todo-frontend
          why: the engine does not have its base image node:24-trixie-slim yet
          $ docker buildx build --builder default --progress=plain --load --provenance=false --label app=todo-xtask --tag 'todo-frontend:<tag>' --build-arg NODE_IMAGE=node:24-trixie-slim --build-arg 'BUILD_ID=<tag>' --file Dockerfile - < (tar of apps/frontend)
      load todo-backend:<tag>
          why: the node does not have it
          $ docker save 'todo-backend:<tag>' | docker exec -i todo ctr -n k8s.io images import -
      load todo-frontend:<tag>
          why: the node does not have it
          $ docker save 'todo-frontend:<tag>' | docker exec -i todo ctr -n k8s.io images import -
      load postgres:17-trixie
          why: the node does not have it
          $ docker save postgres:17-trixie | docker exec -i todo ctr -n k8s.io images import -
      create namespace todo
          why: it does not exist; enforces Pod Security `restricted`
          $ PATCH /api/v1/namespaces/todo?fieldManager=xtask&force=true
      apply Secret todo-postgres
          why: it is not in the cluster
          $ PATCH /api/v1/namespaces/todo/secrets/todo-postgres?fieldManager=xtask&force=true < (Secret todo-postgres)
      apply Secret todo-backend-<digest>
          why: it is not in the cluster
          $ PATCH /api/v1/namespaces/todo/secrets/todo-backend-<digest>?fieldManager=xtask&force=true < (Secret todo-backend-<digest>)
      helm upgrade todo
          why: it is not installed; Secret todo-postgres is not in the cluster; Secret todo-backend-<digest> is not in the cluster
          $ helm --kubeconfig <tmp>/kubeconfig --kube-context todo --namespace todo upgrade --install todo <tmp>/root/infra/helm --values <tmp>/root/infra/helm/values-dev.yaml --values - --server-side=true --force-conflicts --history-max=10 <<< '{"backend":{"image":{"repository":"todo-backend","tag":"<tag>"},"secret":{"name":"todo-backend-<digest>"}},"frontend":{"image":{"repository":"todo-frontend","tag":"<tag>"}},"postgres":{"secret":{"name":"todo-postgres"},"enabled":true,"image":{"repository":"postgres","tag":"17-trixie"}}}'
      roll out
          why: Helm applies, xtask watches
          $ GET /api/v1/namespaces/todo/pods?watch=true  # and other kinds
      · then: compare image IDs from build to pod, and request every route
    "#);
    insta::assert_snapshot!(sandbox.calls(), @"
    docker container inspect --format {{json .}} todo
    docker context inspect --format {{.Name}} {{.Endpoints.docker.Host}}
    docker context show
    docker image inspect --format {{json .}} node:24-trixie-slim
    docker image inspect --format {{json .}} postgres:17-trixie
    docker image inspect --format {{json .}} python:3.13-slim-trixie
    docker image inspect --format {{json .}} python:3.13-slim-trixie node:24-trixie-slim
    docker image inspect --format {{json .}} traefik:<version>
    docker info --format {{.MemTotal}} {{.NCPU}} {{.Name}} {{.OperatingSystem}} | {{json .SecurityOptions}} | {{range .ClientInfo.Plugins}}{{.Name}} {{end}}
    docker inspect --format {{json .}} node:24-trixie-slim postgres:17-trixie python:3.13-slim-trixie todo traefik:<version>
    docker version --format {{.Server.Version}}
    ");
    assert!(before == sandbox.listing(&sandbox.dir.join("root")) && !sandbox.cache.exists());
    assert_eq!(home, sandbox.listing(&sandbox.dir.join("home")));
}

#[test]
fn without_an_engine_it_leaves_nothing() {
    let sandbox = Sandbox::new();
    sandbox.fake_tool("go");
    sandbox.on("go env GOVERSION", "echo go1.99.0");
    let listing = || [&sandbox.root, &sandbox.dir.join("home")].map(|dir| sandbox.listing(dir));
    let before = listing();
    let images = ["mmdebstrap", "artifacts from packages", "build todo-backend", "build todo-frontend"];
    let deploy = ["create cluster todo", "install ingress", "load todo-backend", "helm upgrade todo", "roll out"];
    let cases = [(["images", "--dry-run"].as_slice(), Vec::new()), (&["deploy", "dev", "--dry-run"], deploy.to_vec())];
    for (args, more) in cases {
        let run = sandbox.run_with(args, &OFFLINE);
        assert!(before == listing() && !sandbox.cache.exists(), "{run}");
        let is_complete = images.iter().chain(&more).all(|part| run.stderr.contains(part));
        // A private engine needs root on Debian, and enough memory.
        let refused = run.stderr.contains("error: no Docker Engine answers") || run.stderr.contains("are free");
        assert!(run.code == Some(0) && is_complete || run.code == Some(4) && refused, "{run}");
    }
}

#[test]
fn images_are_listed_with_the_commands_that_would_build_them() {
    let sandbox = Sandbox::with_tools();
    sandbox.on("docker image inspect *todo-*", &no_image());
    insta::assert_snapshot!(sandbox.run(&["images", "--dry-run", "--origin=release"]), @"
    exit code 0
    -- stderr
      build todo-backend
          why: not built in this checkout yet
          $ docker buildx build --builder default --progress=plain --load --provenance=false --label app=todo-xtask --tag todo-backend:<tag> --build-arg PYTHON_IMAGE=python:3.13-slim-trixie --build-arg BUILD_ID=<tag> --file Dockerfile - < (tar of apps/backend)
      build todo-frontend
          why: not built in this checkout yet
          $ docker buildx build --builder default --progress=plain --load --provenance=false --label app=todo-xtask --tag todo-frontend:<tag> --build-arg NODE_IMAGE=node:24-trixie-slim --build-arg BUILD_ID=<tag> --file Dockerfile - < (tar of apps/frontend)
      · base image python:3.13-slim-trixie sha256:0123456789ab, tagged at an unknown time
      · base image node:24-trixie-slim sha256:0123456789ab, tagged at an unknown time
      · base image postgres:17-trixie sha256:0123456789ab, tagged at an unknown time
    ");
    assert!(!sandbox.root.join("target").exists());
}

#[test]
fn no_dry_run_shows_secrets() {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(format!("{DOTENV}DATABASE_URL='postgresql://u:not-a-secret-canary@db.lan/x'\n"));
    sandbox.cluster();
    sandbox.on("docker exec -i todo crictl --timeout=10s images *", r#"echo '{"images": []}'"#);
    let run = sandbox.run(&["deploy", "dev", "--dry-run", "--verbose", "--origin=release"]);
    insta::assert_snapshot!(run, @r#"
    exit code 0
    -- stderr
      · create cluster todo: not needed, it runs
      ✓ todo-backend:<tag> unchanged
      ✓ todo-frontend:<tag> unchanged
      load todo-backend:<tag>
          why: the node does not have it
          $ docker save todo-backend:<tag> | docker exec -i todo ctr -n k8s.io images import -
      load todo-frontend:<tag>
          why: the node does not have it
          $ docker save todo-frontend:<tag> | docker exec -i todo ctr -n k8s.io images import -
      look at the database from here
          why: DATABASE_URL is new or changed
          $ docker run --rm --interactive --network=host --pull=never --read-only --cap-drop=ALL --security-opt=no-new-privileges --label=app.kubernetes.io/part-of=todo todo-backend:<tag> python3 -m app.preflight --stdin < (DATABASE_URL)
      create namespace todo
          why: it does not exist; enforces Pod Security `restricted`
          $ PATCH /api/v1/namespaces/todo?fieldManager=xtask&force=true
      apply Secret todo-backend-<digest>
          why: it is not in the cluster
          $ PATCH /api/v1/namespaces/todo/secrets/todo-backend-<digest>?fieldManager=xtask&force=true < (Secret todo-backend-<digest>)
      look at the database from a pod
          why: as the backend in todo
          $ POST /apis/batch/v1/namespaces/todo/jobs < (Job todo-preflight: python3 -m app.preflight)
      helm upgrade todo
          why: it is not installed; Secret todo-backend-<digest> is not in the cluster
          $ helm --kubeconfig <tmp>/kubeconfig --kube-context todo --namespace todo upgrade --install todo <tmp>/root/infra/helm --values <tmp>/root/infra/helm/values-dev.yaml --values - --server-side=true --force-conflicts --history-max=10 <<< '{"backend":{"image":{"repository":"todo-backend","tag":"<tag>"},"secret":{"name":"todo-backend-<digest>"}},"frontend":{"image":{"repository":"todo-frontend","tag":"<tag>"}},"postgres":{"enabled":false}}'
      roll out
          why: Helm applies, xtask watches
          $ GET /api/v1/namespaces/todo/pods?watch=true  # and other kinds
      · then: compare image IDs from build to pod, and request every route
    "#);
    assert!(!(run.stdout.clone() + &run.stderr + &sandbox.fake("calls")).contains("canary"));
    assert_eq!(sandbox.fake("stdin"), "");
}

/// Gives the sandbox another application: other names of release, keys, images, components and commands.
fn rename_application(sandbox: &Sandbox) {
    let keys = [
        ("DATABASE_URL_UNPOOLED", "SHOP_DIRECT"),
        ("DATABASE_URL", "SHOP_DB"),
        ("AUTH_SECRET", "SHOP_RANDOM"),
        ("OPENAI_API_KEY", "SHOP_AI"),
    ];
    let rename = |text: String| keys.iter().fold(text, |text, (old, new)| text.replace(old, new));
    let components = [("backend", "api"), ("frontend", "web"), ("postgres", "db")];
    for values in ["infra/helm/values.yaml", "infra/helm/values-dev.yaml"] {
        sandbox.edit(values, |text| {
            let text = text.replace("\nconfig:", "\nsettings:");
            components
                .iter()
                .fold(rename(text), |text, (old, new)| text.replace(&format!("\n{old}:\n"), &format!("\n{new}:\n")))
        });
    }
    sandbox.edit("infra/xtask.toml", |text| {
        let text = ["name", "release", "namespace"].iter().fold(text.to_owned(), |text, key| {
            text.replace(&format!("\n{key} = \"todo\""), &format!("\n{key} = \"shop\""))
        });
        let text = components.iter().fold(text, |text, (old, new)| {
            text.replace(&format!(" = \"{old}\"\n"), &format!(" = \"{new}\"\n"))
                .replace(&format!("images.todo-{old}"), &format!("images.shop-{new}"))
        });
        rename(
            text.replace("app.preflight", "shop.check")
                .replace("\"config.", "\"settings.")
                .replace("{postgres.image}", "db-server:17"),
        )
    });
    sandbox.dotenv(rename(DOTENV.to_owned()));
}

#[test]
fn the_names_of_the_settings_reach_every_command() {
    let sandbox = Sandbox::with_tools();
    rename_application(&sandbox);
    sandbox.cluster();
    sandbox.on("docker exec -i todo crictl --timeout=10s images *", r#"echo '{"images": []}'"#);
    let plan = || {
        let run = sandbox.run(&["deploy", "dev", "--dry-run", "--verbose", "--origin=release"]);
        assert_eq!(run.code, Some(0), "{run}");
        // The profile keeps its name, and so do xtask and the role of a component.
        let of_others =
            ["todo-xtask", "cluster todo", "--kube-context todo", "docker exec -i todo ", "as the backend in"];
        let shown = of_others.iter().fold(run.to_string(), |text, name| text.replace(name, ""));
        let old = ["todo", "DATABASE_URL", "AUTH_SECRET", "app.preflight", "backend", "frontend", "postgres"];
        assert!(!old.iter().any(|name| shown.contains(name)), "{shown}");
        shown
    };
    let embedded = plan();
    for name in
        ["Secret shop-db", "Secret shop-api-<digest>", "\"db\":{\"secret\":{\"name\":\"shop-db\"},\"enabled\":true"]
    {
        assert!(embedded.contains(name), "{name}: {embedded}");
    }
    sandbox.dotenv(sandbox.read(".env") + "SHOP_DB='postgresql://u:not-a-secret@db.lan/x'\n");
    let remote = plan();
    for name in [
        "SHOP_DB is new",
        "part-of=shop shop-api:",
        "-m shop.check",
        "namespaces/shop?",
        "Secret shop-api-",
        "{\"api\":{\"image\":{\"repository\":\"shop-api\"",
        "\"web\":{\"image\":{\"repository\":\"shop-web\"",
    ] {
        assert!(remote.contains(name), "{name}: {remote}");
    }
}

#[test]
fn the_names_of_the_settings_reach_dev_and_logs() {
    let sandbox = Sandbox::with_tools();
    rename_application(&sandbox);
    for noun in ["container", "network"] {
        sandbox.on(&format!("docker {noun} ls *"), "");
    }
    sandbox.on("docker network create *", "exit 1");
    assert_ne!(sandbox.run(&["dev", "--origin=release"]).code, Some(0));
    let calls = sandbox.calls();
    assert!(calls.contains(" shop-dev-") && !calls.contains("todo-dev-"), "{calls}");
    let run = sandbox.run(&["logs", "backend", "--origin=release"]);
    assert!(run.stderr.contains("there is no component `backend`; known are: api, web, db"), "{run}");
}
