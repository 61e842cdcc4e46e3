//! Values of `.env` reach only the cluster.

use std::fs;

use crate::common::{DOTENV, ID, Run, Sandbox, decoded};

/// The preflight's report about a usable database.
const FOUND: &str = concat!(
    r#"{"ok": true, "target": "u@db.lan:5432/x", "server": "17.6", "tls": true, "#,
    r#""resolve_ms": 2, "connect_ms": 31, "query_ms": 1}"#
);

/// Returns a sandbox with a running cluster that has the images. Helm fails, so a deploy ends there.
pub fn cluster() -> Sandbox {
    let sandbox = Sandbox::with_tools();
    sandbox.cluster();
    sandbox.on("docker run *", &format!("echo '{FOUND}'"));
    sandbox.preflight(FOUND);
    sandbox.on("helm *upgrade *", "echo 'Error: template: todo/templates/x.yaml:3:7: no such value' >&2; exit 1");
    let check = r#"for a; do case $a in name==*) echo "${a#name==}" ;; esac; done"#;
    sandbox.on("docker exec -i todo ctr -n k8s.io images check *", check);
    let images = sandbox.run(&["images", "--origin=release"]);
    assert_eq!(images.code, Some(0), "{images}");
    let references = images.stdout.lines().map(|line| line.split(' ').next().unwrap()).chain(["postgres:17-trixie"]);
    let listed: Vec<_> = references
        .map(|name| serde_json::json!({"id": ID, "repoTags": [format!("docker.io/library/{name}")]}))
        .collect();
    let listed = serde_json::json!({"images": listed});
    sandbox.on("docker exec -i todo crictl --timeout=10s images *", &format!("echo '{listed}'"));
    sandbox
}

/// Fails if `values` appear in arguments, environments, outputs, or files other than `.env`.
fn check_no_leaks(sandbox: &Sandbox, run: &Run, values: &[String]) {
    let mut places = vec![
        ("arguments".to_owned(), sandbox.fake("calls")),
        ("environment".to_owned(), sandbox.fake("environment")),
        ("stdout".to_owned(), run.stdout.clone()),
        ("stderr".to_owned(), run.stderr.clone()),
    ];
    for dir in [&sandbox.root, &sandbox.cache, &sandbox.dir.join("home")] {
        for entry in walkdir::WalkDir::new(dir).into_iter().map(Result::unwrap) {
            if entry.path().is_file() && entry.file_name() != ".env" {
                let text = String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned();
                places.push((entry.path().display().to_string(), text));
            }
        }
    }
    for value in values {
        for (place, text) in &places {
            assert!(!text.contains(value.as_str()), "{value} is in {place}");
        }
    }
}

/// Returns the Secrets that the API server received.
fn applied(sandbox: &Sandbox) -> Vec<serde_json::Value> {
    assert!(!sandbox.fake("calls").contains("kubectl"));
    let requests = sandbox.api().received().into_iter().filter(|request| request.line.starts_with("PATCH "));
    let objects = requests.map(|request| serde_json::from_str::<serde_json::Value>(&request.body).unwrap());
    objects.filter(|object| object["kind"] == "Secret").collect()
}

#[test]
fn values_of_dotenv_reach_only_the_cluster() {
    let sandbox = cluster();
    let secret = |name: &str| format!("not-a-secret-canary-{name}-0123456789abcdef");
    let (auth, key, password) = (secret("auth"), secret("key"), secret("password"));
    let url = format!("postgresql://u:{password}@db.lan/x");
    sandbox.dotenv(format!("AUTH_SECRET={auth}\nOPENAI_API_KEY='{key}'\nDATABASE_URL='{url}'\n"));
    let run = sandbox.run(&["deploy", "dev", "--verbose", "--origin=release"]);
    insta::assert_snapshot!(run, @r#"
    exit code 3
    -- stderr
      · create cluster todo: not needed, it runs
      ✓ todo-backend:<tag> unchanged
      ✓ todo-frontend:<tag> unchanged
      · load todo-backend:<tag>: not needed, todo has the same image
      · load todo-frontend:<tag>: not needed, todo has the same image
        $ docker run --rm --interactive --network=host --pull=never --read-only --cap-drop=ALL --security-opt=no-new-privileges --label=app.kubernetes.io/part-of=todo todo-backend:<tag> python3 -m app.preflight --stdin < (DATABASE_URL)
      > look at the database from here (DATABASE_URL is new or changed)
      ✓ look at the database from here: u@db.lan:5432/x: Postgres 17.6, TLS, direct; resolved in 2 ms, connected in 31 ms, queried in 1 ms <time>
        $ PATCH /api/v1/namespaces/todo?fieldManager=xtask&force=true
      > create namespace todo (it does not exist; enforces Pod Security `restricted`)
      ✓ create namespace todo <time>
        $ PATCH /api/v1/namespaces/todo/secrets/todo-backend-<digest>?fieldManager=xtask&force=true < (Secret todo-backend-<digest>)
      > apply Secret todo-backend-<digest> (it is not in the cluster)
      ✓ apply Secret todo-backend-<digest> <time>
        $ POST /apis/batch/v1/namespaces/todo/jobs < (Job todo-preflight: python3 -m app.preflight)
      > look at the database from a pod (as the backend in todo)
      ✓ look at the database from a pod: u@db.lan:5432/x: Postgres 17.6, TLS, direct; resolved in 2 ms, connected in 31 ms, queried in 1 ms <time>
        $ helm --kubeconfig <tmp>/kubeconfig --kube-context todo --namespace todo upgrade --install todo <tmp>/root/infra/helm --values <tmp>/root/infra/helm/values-dev.yaml --values - --server-side=true --force-conflicts --history-max=10 <<< '{"backend":{"image":{"repository":"todo-backend","tag":"<tag>"},"secret":{"name":"todo-backend-<digest>"}},"frontend":{"image":{"repository":"todo-frontend","tag":"<tag>"}},"postgres":{"enabled":false}}'
      > helm upgrade todo (it is not installed; Secret todo-backend-<digest> is not in the cluster)
      ✗ helm upgrade todo <time>
    error: Helm refused the release: `helm --kubeconfig <tmp>/kubeconfig --kube-context todo --namespace todo upgrade --install todo <tmp>/root/infra/helm --values <tmp>/root/infra/helm/values-dev.yaml --values - --server-side=true --force-conflicts --history-max=10` failed (exit status: 1)
      | Error: template: todo/templates/x.yaml:3:7: no such value
    whole output: <tmp>/root/target/xtask/logs/helm.log
      nothing was applied: Helm has created no revision, so nothing is undone
      runs now: nothing
      try: see what the message names: cargo xtask tool helm -- lint infra/helm
    "#);
    let [backend] = applied(&sandbox).try_into().unwrap();
    let mut values = decoded(&backend);
    values.sort();
    assert_eq!(values, [auth.clone(), key.clone(), url.clone()]);
    use base64::Engine as _;
    let encoded = [&auth, &key, &url].map(|value| base64::engine::general_purpose::STANDARD.encode(value));
    check_no_leaks(&sandbox, &run, &[vec!["canary".to_owned(), password], encoded.to_vec()].concat());
}

#[test]
fn a_database_with_foreign_migrations_is_refused_before_helm() {
    let sandbox = cluster();
    let diverged = concat!(
        r#"{"ok": false, "target": "u@db.lan:5432/x", "step": "migrations", "kind": "diverged", "#,
        r#""text": "the database has 0004_theirs, and lacks 0004_mine of this code", "#,
        r#""advice": "Other code has migrated this database: use a branch of your own."}"#
    );
    sandbox.dotenv(format!("{DOTENV}DATABASE_URL='postgresql://u:not-a-secret@db.lan/x'\n"));
    let refused = |places: &str| {
        let run = sandbox.run(&["deploy", "dev", "--origin=release"]);
        let text = [
            &format!("error: the database cannot be used {places}: diverged (at migrations)"),
            "u@db.lan:5432/x: the database has 0004_theirs, and lacks 0004_mine of this code",
            "try: Other code has migrated this database: use a branch of your own.",
            "then again: cargo xtask deploy dev",
        ];
        assert!(run.code == Some(11) && text.iter().all(|text| run.stderr.contains(text)), "{run}");
        assert!(!run.stderr.contains("firewall"), "{run}");
        assert!(!sandbox.fake("calls").contains("upgrade --install"), "{run}");
    };
    sandbox.preflight(diverged);
    refused("from a pod, although it answers on this machine");
    sandbox.on("docker run *", &format!("echo '{diverged}'; exit 1"));
    refused("from this machine");
}

#[test]
fn the_embedded_databases_password_reaches_only_the_cluster() {
    let sandbox = cluster();
    sandbox.dotenv(DOTENV);
    let run = sandbox.run(&["deploy", "dev", "--verbose", "--origin=release"]);
    assert_eq!(run.code, Some(3), "{run}");
    let secrets = applied(&sandbox);
    assert_eq!(secrets.len(), 2, "{run}");
    let mut values: Vec<String> = secrets.iter().flat_map(decoded).filter(|value| !value.is_empty()).collect();
    let postgres = secrets.iter().find(|secret| secret["metadata"]["name"] == "todo-postgres").unwrap();
    let [password] = decoded(postgres).try_into().unwrap();
    assert!(password.len() >= 32 && values.iter().any(|value| value.contains(&format!(":{password}@"))));
    values.push("canary".to_owned());
    check_no_leaks(&sandbox, &run, &values);
}

#[test]
fn a_created_dotenv_is_private_and_random() {
    use std::os::unix::fs::PermissionsExt;
    let secrets = [cluster(), cluster()].map(|sandbox| {
        let run = sandbox.run(&["deploy", "dev", "--origin=release"]);
        assert_eq!(run.code, Some(3), "{run}");
        assert!(run.stderr.contains("make .env from .env.example: with a random AUTH_SECRET"), "{run}");
        assert_eq!(sandbox.root.join(".env").metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let text = sandbox.read(".env");
        let secret = text.lines().find_map(|line| line.strip_prefix("AUTH_SECRET=")).unwrap().to_owned();
        check_no_leaks(&sandbox, &run, std::slice::from_ref(&secret));
        secret
    });
    assert!(secrets[0].len() == 64 && secrets[0] != secrets[1], "{secrets:?}");
}

#[test]
fn variables_of_the_shell_reach_no_tool() {
    let sandbox = cluster();
    sandbox.dotenv(DOTENV);
    let exported = [
        ("HELM_DRIVER", "configmap"),
        ("HELM_NAMESPACE", "elsewhere"),
        ("KUBECTL_KUBERC", "true"),
        ("MINIKUBE_PROFILE", "elsewhere"),
        ("GIT_DIR", "/nonexistent"),
        ("OPENAI_API_KEY", "not-a-secret-exported"),
    ];
    let run = sandbox.run_with(&["deploy", "dev", "--origin=release"], &exported);
    assert_eq!(run.code, Some(3), "{run}");
    let environment = sandbox.fake("environment");
    for (name, value) in exported {
        assert!(!environment.contains(name) && !environment.contains(value), "{name} reaches a tool");
    }
    assert!(environment.contains("PATH="));
    // Helm's cache of API resources is in our cache, not in ~/.kube.
    assert!(environment.contains("KUBECACHEDIR=") && environment.contains("/todo-xtask/kube"), "{environment}");
    assert!(environment.contains("GOGC='off'"), "helm collects garbage: {environment}");
}
