//! Foreign, incomplete and stopped profiles, and teardown.

use std::fs;
use std::net::TcpListener;

use crate::common::{DOTENV, OFFLINE, Run, Sandbox, free_port};

const DEPLOY: [&str; 3] = ["deploy", "dev", "--origin=release"];

/// A kubeconfig whose entry `todo` names a foreign cluster.
const FOREIGN: &str = "\
apiVersion: v1
kind: Config
current-context: todo
contexts: [{name: todo, context: {cluster: production, user: admin}}]
clusters: [{name: production, cluster: {server: 'https://production.lan:6443', certificate-authority: /ca.crt}}]
users: [{name: admin, user: {}}]
";

/// Runs xtask with a valid `.env`. Fails if it changes the kubeconfig or calls anything but read-only commands.
fn run(sandbox: &Sandbox, args: &[&str]) -> Run {
    sandbox.dotenv(DOTENV);
    let kubeconfig = fs::read(&sandbox.kubeconfig).ok();
    let run = sandbox.run(args);
    assert_eq!(fs::read(&sandbox.kubeconfig).ok(), kubeconfig, "{run}");
    let questions = [
        "docker version ",
        "docker info ",
        "docker inspect ",
        "docker image inspect ",
        "docker container inspect ",
        "docker volume inspect ",
        "docker context ",
        "docker image ls ",
        "docker system df ",
    ];
    for call in sandbox.fake("calls").lines() {
        assert!(questions.iter().any(|question| call.starts_with(question)), "{call}\n{run}");
    }
    run
}

#[test]
fn a_foreign_entry_under_our_name_is_refused() {
    let sandbox = Sandbox::with_tools();
    fs::write(&sandbox.kubeconfig, FOREIGN).unwrap();
    insta::assert_snapshot!(run(&sandbox, &DEPLOY), @"
    exit code 5
    -- stderr
    error: context `todo` in <tmp>/kubeconfig is not our minikube profile: it points to https://production.lan:6443, and there is no such profile
      try: if nothing needs that entry: kubectl config --kubeconfig <tmp>/kubeconfig delete-context todo
      try: or leave it alone and use another name: --profile todo2
    ");

    // The profile exists, but the entry names another server.
    sandbox.profile("containerd");
    sandbox.node("running", 8080);
    insta::assert_snapshot!(run(&sandbox, &DEPLOY), @"
    exit code 5
    -- stderr
    error: context `todo` in <tmp>/kubeconfig is not our minikube profile: it points to https://production.lan:6443; the profile is at https://192.168.49.2:8443
      try: if nothing needs that entry: kubectl config --kubeconfig <tmp>/kubeconfig delete-context todo
      try: or leave it alone and use another name: --profile todo2
    ");
    for args in [["teardown"].as_slice(), &["status"], &["deploy", "dev", "--dry-run"], &[]] {
        let run = run(&sandbox, &[&["--origin=release"], args].concat());
        assert_eq!(run.code, Some(5), "{run}");
        assert!(run.stderr.contains("is not our minikube profile"), "{run}");
    }
}

#[test]
fn a_foreign_entry_is_refused_before_anything_is_created() {
    // No engine, no tools, no `.env`: a first deploy would create them.
    let sandbox = Sandbox::new();
    fs::write(&sandbox.kubeconfig, FOREIGN).unwrap();
    let before = sandbox.listing(&sandbox.dir);
    let run = sandbox.run(&["deploy", "dev", "--yes"]);
    assert_eq!(run.code, Some(5), "{run}");
    assert!(run.stderr.contains("it points to https://production.lan:6443, and there is no such profile"), "{run}");
    assert_eq!(sandbox.listing(&sandbox.dir), before);
}

#[test]
fn a_foreign_cluster_or_user_of_our_name_is_refused_too() {
    // minikube would overwrite both, and the context `prod` would then name our cluster.
    let entries = [
        ("cluster", "clusters: [{name: todo, cluster: {server: 'https://production.lan:6443'}}]"),
        ("user", "users: [{name: todo, user: {token: not-a-secret}}]"),
    ];
    for (kind, entry) in entries {
        let sandbox = Sandbox::with_tools();
        let text = format!("contexts: [{{name: prod, context: {{cluster: todo, user: todo}}}}]\n{entry}\n");
        fs::write(&sandbox.kubeconfig, text).unwrap();
        let run = run(&sandbox, &DEPLOY);
        assert_eq!(run.code, Some(5), "{run}");
        assert!(run.stderr.contains(&format!("{kind} `todo` in ")), "{run}");
        assert!(run.stderr.contains(&format!("delete-{kind} todo")), "{run}");
        assert!(!run.stderr.contains("not-a-secret"), "{run}");
    }
}

#[test]
fn a_foreign_entry_in_any_file_of_kubeconfig_is_refused() {
    let sandbox = Sandbox::with_tools();
    let second = sandbox.dir.join("second");
    fs::write(&second, FOREIGN).unwrap();
    sandbox.dotenv(DOTENV);
    let both = format!("{}:{second}", sandbox.kubeconfig);
    let run = sandbox.run_with(&DEPLOY, &[("KUBECONFIG", &both)]);
    assert_eq!(run.code, Some(5), "{run}");
    assert!(run.stderr.contains(&format!("context `todo` in {second} is not our minikube profile")), "{run}");
    assert_eq!(fs::read_to_string(&second).unwrap(), FOREIGN);
    assert!(!sandbox.kubeconfig.exists());
}

#[test]
fn a_profile_of_another_driver_is_neither_used_nor_removed() {
    let sandbox = Sandbox::with_tools();
    sandbox.profile("containerd");
    let record = sandbox.dir.join("home/.minikube/profiles/todo/config.json");
    let text = fs::read_to_string(&record).unwrap().replacen('{', "{\"Driver\":\"kvm2\",", 1);
    fs::write(&record, &text).unwrap();
    insta::assert_snapshot!(run(&sandbox, &DEPLOY), @"
    exit code 5
    -- stderr
    error: minikube profile `todo` is made with the driver kvm2; only docker is supported
      try: use another profile: --profile todo-docker
    ");
    for args in [["teardown"].as_slice(), &["teardown", "--cluster"]] {
        let run = run(&sandbox, &[args, &["--origin=release"]].concat());
        assert_eq!(run.code, Some(5), "{run}");
    }
    assert_eq!(fs::read_to_string(&record).unwrap(), text);
}

#[test]
fn teardown_of_a_cluster_leaves_foreign_kube_entries_alone() {
    // `minikube delete` removes entries by name, also foreign ones.
    let sandbox = Sandbox::with_tools();
    fs::write(&sandbox.kubeconfig, FOREIGN).unwrap();
    sandbox.profile("containerd");
    sandbox.node("running", 8080);
    let run = run(&sandbox, &["teardown", "--cluster", "--yes", "--origin=release"]);
    assert_eq!(run.code, Some(5), "{run}");
    assert!(run.stderr.contains("is not our minikube profile"), "{run}");
}

#[test]
fn commands_that_need_no_deploy_refuse_a_foreign_entry_too() {
    let sandbox = Sandbox::with_tools();
    fs::write(&sandbox.kubeconfig, FOREIGN).unwrap();
    sandbox.profile("containerd");
    sandbox.node("running", 8080);
    for args in [["logs"].as_slice(), &["tool", "kubectl", "get", "pods"], &["tool", "helm", "list"]] {
        let run = run(&sandbox, &[&["--origin=release"], args].concat());
        assert_eq!(run.code, Some(5), "{run}");
    }
}

#[test]
fn an_unreadable_kubeconfig_is_reported() {
    let sandbox = Sandbox::with_tools();
    fs::write(&sandbox.kubeconfig, "contexts: [\n").unwrap();
    insta::assert_snapshot!(run(&sandbox, &DEPLOY), @"
    exit code 3
    -- stderr
    error: <tmp>/kubeconfig is not a kubeconfig: did not find expected node content at line 2 column 1, while parsing a flow node
      try: repair it, or name another: KUBECONFIG=/path cargo xtask deploy dev (todo)
    ");
}

#[test]
fn a_profile_with_another_runtime_is_refused() {
    let sandbox = Sandbox::with_tools();
    sandbox.profile("docker");
    sandbox.node("running", 8080);
    insta::assert_snapshot!(run(&sandbox, &DEPLOY), @"
    exit code 5
    -- stderr
    error: profile `todo` runs docker; only containerd is supported
      try: use another profile: --profile todo-containerd
    ");
}

#[test]
fn a_half_deleted_profile_is_reported_with_the_fix() {
    let sandbox = Sandbox::with_tools();
    sandbox.profile("containerd");
    sandbox.on("docker volume inspect *", r#"echo '{"Name": "todo"}'"#);
    insta::assert_snapshot!(run(&sandbox, &DEPLOY), @"
    exit code 5
    -- stderr
    error: minikube profile `todo` is half deleted: minikube has a record of it but its node is gone
      try: remove the rest of it, with any data inside: cargo xtask teardown --cluster
      try: then: cargo xtask deploy dev
    ");

    let sandbox = Sandbox::with_tools();
    sandbox.node("running", 8080);
    insta::assert_snapshot!(run(&sandbox, &DEPLOY), @"
    exit code 5
    -- stderr
    error: minikube profile `todo` is half deleted: its node exists but minikube has no record of it
      try: to keep the data in its node, put minikube's record back: <tmp>/cache/minikube/.minikube/profiles/todo/config.json
      try: remove the rest of it, with any data inside: cargo xtask teardown --cluster
      try: then: cargo xtask deploy dev
    ");
    let refused = run(&sandbox, &["teardown", "--origin=release"]);
    insta::assert_snapshot!(refused, @"
    exit code 5
    -- stderr
    error: the cluster `todo` does not run, so nothing in it can be removed
      try: delete it with all its data: cargo xtask teardown --cluster
    ");
}

#[test]
fn a_recorded_profile_without_a_node_is_created() {
    let sandbox = Sandbox::with_tools();
    sandbox.profile("containerd");
    sandbox.on("docker volume inspect *", "echo 'Error response from daemon: get todo: no such volume' >&2; exit 1");
    sandbox.on("minikube *", "echo no room >&2; exit 1");
    sandbox.dotenv(DOTENV);
    let run = sandbox.run(&DEPLOY);
    let step = "create cluster todo (minikube has a record of it, but it has no node and no data)";
    assert!(run.code == Some(5) && run.stderr.contains(step) && run.stderr.contains("no room"), "{run}");

    // The record of builds shows that the profile had data.
    let needed = sandbox.cache.join("needed");
    fs::create_dir_all(&needed).unwrap();
    fs::write(needed.join("todo"), "todo-backend:0123456789abcdef\n").unwrap();
    insta::assert_snapshot!(sandbox.run(&DEPLOY), @"
    exit code 5
    -- stderr
    error: minikube profile `todo` is half deleted: minikube has a record of it but its node is gone, and so is the data of what was deployed to it
      try: remove the rest of it, with any data inside: cargo xtask teardown --cluster
      try: then: cargo xtask deploy dev
    ");
}

#[test]
fn hints_name_the_profile_of_the_command_line() {
    let sandbox = Sandbox::with_tools();
    let status = |more: &[&str]| sandbox.run(&[&["status", "--origin=release", "--profile=scratch"], more].concat());
    let run = status(&[]);
    assert!(run.stderr.contains("try: cargo xtask --profile scratch deploy dev"), "{run}");
    let run = status(&["--json"]);
    let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(document["error"]["hints"][0]["command"], "cargo xtask --profile scratch deploy dev", "{document}");
}

#[test]
fn a_foreign_container_is_neither_used_nor_removed() {
    let sandbox = Sandbox::with_tools();
    sandbox.container("app", "running", 8080);
    insta::assert_snapshot!(run(&sandbox, &DEPLOY), @"
    exit code 5
    -- stderr
    error: the engine has a container `todo` that minikube did not make
      try: use another profile: --profile todo2
      try: or give the container another name: docker rename todo <new name>
    ");
    for args in [["teardown"].as_slice(), &["teardown", "--cluster"], &["teardown", "--cache"]] {
        let run = run(&sandbox, &[args, &["--origin=release"]].concat());
        assert_eq!(run.code, Some(5), "{run}");
        assert!(run.stderr.contains("that minikube did not make"), "{run}");
    }
}

#[test]
fn a_truncated_record_of_minikube_is_reported() {
    let sandbox = Sandbox::with_tools();
    sandbox.profile("containerd");
    fs::write(sandbox.dir.join("home/.minikube/profiles/todo/config.json"), "").unwrap();
    sandbox.node("running", 8080);
    insta::assert_snapshot!(run(&sandbox, &DEPLOY), @"
    exit code 5
    -- stderr
    error: minikube profile `todo` is half deleted: minikube's record of it is cut off
      try: to keep the data in its node, put minikube's record back: <tmp>/home/.minikube/profiles/todo/config.json
      try: remove the rest of it, with any data inside: cargo xtask teardown --cluster
      try: then: cargo xtask deploy dev
    ");
}

#[test]
fn the_holder_of_a_stopped_profiles_port_is_named() {
    let sandbox = Sandbox::with_tools();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    sandbox.profile("containerd");
    sandbox.node("exited", port);
    let run = run(&sandbox, &DEPLOY);
    insta::assert_snapshot!(run.to_string().replace(&port.to_string(), "<port>"), @"
    exit code 4
    -- stderr
    error: port <port>, which the profile publishes, is held by <this test>
      try: end that program, or use another profile: --profile todo2
    ");
}

/// xtask would change its recorded flags, or delete its other content.
#[test]
fn a_profile_of_the_users_own_is_neither_started_nor_stopped_nor_deleted() {
    let sandbox = Sandbox::with_tools();
    sandbox.cluster();
    sandbox.users_profile();
    let record = sandbox.dir.join("home/.minikube/profiles/todo/config.json");
    let before = fs::read_to_string(&record).unwrap();
    for args in [["teardown", "--cluster"].as_slice(), &["teardown", "--images"], &["stop"], &["cluster", "upgrade"]] {
        let run = sandbox.run(&[args, &["--yes", "--origin=release"]].concat());
        assert_eq!(run.code, Some(5), "{run}");
        assert!(run.stderr.contains("profile `todo` is yours: xtask did not make it"), "{run}");
    }
    sandbox.node("exited", free_port().parse().unwrap());
    for args in [DEPLOY.as_slice(), &["start", "--origin=release"]] {
        sandbox.dotenv(DOTENV);
        let run = sandbox.run(args);
        assert_eq!(run.code, Some(5), "{run}");
        assert!(run.stderr.contains("do it yourself: minikube --profile todo start"), "{run}");
    }
    assert!(!sandbox.fake("calls").contains("minikube "), "{}", sandbox.calls());
    assert_eq!(fs::read_to_string(&record).unwrap(), before);
}

/// minikube takes defaults from `config/config.json` in its folder, and from MINIKUBE_* for each flag.
#[test]
fn the_users_minikube_settings_do_not_affect_a_new_profile() {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    let settings = sandbox.dir.join("home/.minikube/config");
    fs::create_dir_all(&settings).unwrap();
    let text = r#"{"driver": "none", "cpus": 9, "memory": "99999", "kubernetes-version": "v1.20.0"}"#;
    fs::write(settings.join("config.json"), text).unwrap();
    sandbox.on("minikube * start *", "env > \"$FAKES/minikube\"; exit 1");
    std::os::unix::fs::symlink("/usr/bin/env", sandbox.dir.join("bin/env")).unwrap();
    let variables = [("MINIKUBE_DRIVER", "none"), ("MINIKUBE_CPUS", "9"), ("MINIKUBE_ROOTLESS", "true")];
    let run = sandbox.run_with(&DEPLOY, &variables);
    assert_eq!(run.code, Some(5), "{run}");
    let environment = sandbox.fake("minikube");
    let mut got: Vec<&str> = environment.lines().filter(|line| line.starts_with("MINIKUBE_")).collect();
    got.sort_unstable();
    let home = format!("MINIKUBE_HOME={}", sandbox.cache.join("minikube"));
    assert_eq!(got, [&home, "MINIKUBE_IN_STYLE=false", "MINIKUBE_WANTUPDATENOTIFICATION=false"]);
    assert!(!sandbox.cache.join("minikube/.minikube/config").exists(), "{run}");
}

#[test]
fn a_new_profile_avoids_ports_in_use_on_either_address_of_localhost() {
    for host in ["127.0.0.1", "[::1]"] {
        // Without IPv6, the second address cannot be bound.
        let Ok(listener) = TcpListener::bind(format!("{host}:0")) else { continue };
        let port = listener.local_addr().unwrap().port();
        let sandbox = Sandbox::with_tools();
        sandbox.dotenv(DOTENV);
        let run = sandbox.run(&["deploy", "dev", "--dry-run", "--origin=release", "--port", &port.to_string()]);
        assert_eq!(run.code, Some(0), "{run}");
        assert!(run.stderr.contains(&format!("port {port} is held by")), "{host}: {run}");
        assert!(!run.stderr.contains(&format!("--ports=127.0.0.1:{port}:80")), "{host}: {run}");
    }
}

/// Messages of minikube 1.38 and kube-proxy 1.36 when other clusters use up fs.inotify.max_user_instances (recorded by
/// `test ordinary`).
#[test]
fn a_lack_of_inotify_instances_is_reported_with_the_fix() {
    let by_systemd = "Failed to create control group inotify object: Too many open files";
    let by_pod = "couldn't initialize inotify: too many open files";
    let cases = [
        (by_systemd, "exit 1", true),
        ("timed out waiting for the condition", "exit 0", true),
        ("timed out waiting for the condition", "exit 1", false),
    ];
    for (message, in_pods, is_recognized) in cases {
        let sandbox = Sandbox::with_tools();
        sandbox.dotenv(DOTENV);
        sandbox.on("minikube * start *", &format!("echo '{message}' >&2; exit 80"));
        let pattern = by_pod.split_once("initialize ").unwrap().1;
        sandbox.on(&format!("docker exec -i todo grep *{pattern}*"), in_pods);
        let run = sandbox.run(&DEPLOY);
        assert_eq!(run.code, Some(5), "{run}");
        assert!(run.stderr.contains("minikube did not start"), "{run}");
        assert_eq!(run.stderr.contains("sudo sysctl fs.inotify.max_user_instances=512"), is_recognized, "{run}");
    }
}

#[test]
fn teardown_of_nothing_succeeds() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!(sandbox.run(&["teardown"]), @"
    exit code 0
    -- stderr
      ✓ no Docker Engine runs, and minikube has no profile `todo` on record
    ");
    for flag in ["--data", "--cluster", "--engine", "--cache"] {
        let run = sandbox.run(&["teardown", flag]);
        assert_eq!(run.code, Some(0), "{run}");
    }
    assert!(!sandbox.cache.exists());

    let sandbox = Sandbox::with_tools();
    insta::assert_snapshot!(run(&sandbox, &["teardown", "--origin=release"]), @"
    exit code 0
    -- stderr
      ✓ no minikube profile `todo`: nothing to remove
      · stays: .env, which is yours  (rm .env removes it)
    ");
    let run = run(&sandbox, &["teardown", "--cluster", "--yes", "--origin=release"]);
    assert_eq!(run.code, Some(0), "{run}");
}

#[test]
fn teardown_of_nothing_succeeds_without_a_network() {
    let sandbox = Sandbox::with_engine();
    for _ in 0..2 {
        let run = sandbox.run_with(&["teardown"], &OFFLINE);
        assert_eq!(run.code, Some(0), "{run}");
    }
}

#[test]
fn teardown_deletes_the_rest_of_a_half_deleted_profile() {
    let sandbox = Sandbox::with_tools();
    sandbox.profile("containerd");
    sandbox.on("minikube * delete", r#"rm -r "$MINIKUBE_HOME/.minikube/profiles/todo""#);
    insta::assert_snapshot!(sandbox.run(&["teardown", "--cluster", "--yes", "--origin=release"]), @"
    exit code 0
    -- stderr
    xtask will make these changes on this machine:
      - delete the minikube profile `todo` and everything in it, todos included
      > delete cluster todo (asked for)
      ✓ delete cluster todo <time>
    ");
    insta::assert_snapshot!(sandbox.calls(), @"
    docker container inspect --format {{json .}} todo
    docker image ls --no-trunc --format {{.ID}}	{{.Repository}}:{{.Tag}}	{{.Size}}
    docker image ls --no-trunc --quiet --filter label=app=todo-xtask
    docker network inspect --format {{json .}} todo
    docker system df --format {{.Type}}	{{.TotalCount}}	{{.Size}}
    docker version --format {{.Server.Version}}
    docker volume inspect --format {{json .}} todo
    minikube --profile todo delete
    ");
}

#[test]
fn teardown_deletes_the_volume_of_a_profile_that_was_never_recorded() {
    let sandbox = Sandbox::with_tools();
    let volume = |labels: &str| {
        format!(
            r#"[ -e "$FAKES/gone" ] || {{ echo '{{"Name": "todo", "Labels": {labels}}}'; exit 0; }}
echo 'Error response from daemon: get todo: no such volume' >&2; exit 1"#
        )
    };
    sandbox.on("docker volume rm *", r#": > "$FAKES/gone""#);
    sandbox.on("minikube * delete", "");
    let teardown = ["teardown", "--cluster", "--yes", "--origin=release"];
    sandbox.on("docker volume inspect *", &volume("null"));
    let run = sandbox.run(&teardown);
    assert!(run.stderr.contains("no minikube profile `todo`"), "{run}");
    sandbox.on("docker volume inspect *", &volume(r#"{"name.minikube.sigs.k8s.io": "todo"}"#));
    insta::assert_snapshot!(sandbox.run(&teardown), @"
    exit code 0
    -- stderr
    xtask will make these changes on this machine:
      - delete the leftover volume of the minikube profile `todo` and everything in it, todos included
      > delete cluster todo (asked for)
      ✓ delete cluster todo <time>
    ");
    assert!(sandbox.run(&teardown).stderr.contains("no minikube profile `todo`"));
}

#[test]
fn a_deletion_that_minikube_reports_is_verified() {
    let sandbox = Sandbox::with_tools();
    sandbox.profile("containerd");
    sandbox.node("running", 8080);
    for command in ["minikube * delete", "docker rm *"] {
        sandbox.on(command, "");
    }
    insta::assert_snapshot!(sandbox.run(&["teardown", "--cluster", "--yes", "--origin=release"]), @"
    exit code 5
    -- stderr
    xtask will make these changes on this machine:
      - delete the minikube profile `todo` and everything in it, todos included
      > delete cluster todo (asked for)
      ✗ delete cluster todo <time>
    error: cluster `todo` is not deleted; still there: its node, minikube's record of it
      try: cargo xtask tool docker -- container inspect todo
      try: then run it again: cargo xtask teardown --cluster
    ");
}

#[test]
fn an_engine_that_does_not_answer_is_not_an_engine_without_clusters() {
    let sandbox = Sandbox::with_tools();
    sandbox.profile("containerd");
    let own = sandbox.cache.join("minikube/.minikube/profiles/todo");
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("config.json"), "{}").unwrap();
    let before = sandbox.listing(&sandbox.dir.join("home"));
    sandbox.on("docker version *", "echo 'error during connect: context deadline exceeded' >&2; exit 1");
    for flag in ["--data", "--cluster", "--engine", "--cache"] {
        let run = sandbox.run(&["teardown", flag, "--yes", "--origin=release"]);
        assert_eq!(run.code, Some(4), "{run}");
        assert!(run.stderr.contains("your Docker Engine does not answer: error during connect"), "{run}");
    }
    assert!(own.join("config.json").is_file() && before == sandbox.listing(&sandbox.dir.join("home")));

    // No cluster runs, but a stopped one may exist.
    let none =
        "echo 'Cannot connect to the Docker daemon at unix:///nonexistent/docker.sock. Is it running?' >&2; exit 1";
    sandbox.on("docker version *", none);
    for flag in ["--data", "--cluster"] {
        let run = sandbox.run(&["teardown", flag, "--yes", "--origin=release"]);
        assert_eq!(run.code, Some(5), "{run}");
        assert!(run.stderr.contains("there is a profile `todo`, but no Docker Engine runs"), "{run}");
    }
    let container = sandbox.cache.join("engine/data/containers/0123");
    fs::create_dir_all(&container).unwrap();
    fs::write(container.join("config.v2.json"), r#"{"Name": "/todo"}"#).unwrap();
    let run = sandbox.run(&["teardown", "--data", "--yes", "--origin=release"]);
    assert_eq!(run.code, Some(5), "{run}");
    assert!(run.stderr.contains("try: start it: cargo xtask start\n"), "{run}");
    fs::remove_dir_all(sandbox.cache.join("engine")).unwrap();
    let run = sandbox.run(&["teardown", "--engine", "--yes", "--origin=release"]);
    assert_eq!(run.code, Some(0), "{run}");
    let run = sandbox.run(&["teardown", "--cache", "--yes", "--origin=release"]);
    assert_eq!(run.code, Some(5), "{run}");
    assert!(run.stderr.contains("minikube's records of profiles in another engine: todo"), "{run}");
    assert!(own.join("config.json").is_file(), "the record of a node that no engine of ours had");
}

#[test]
fn an_unreadable_record_is_not_reported_as_half_deleted() {
    let sandbox = Sandbox::with_tools();
    sandbox.profile("containerd");
    sandbox.node("running", 8080);
    let record = sandbox.dir.join("home/.minikube/profiles/todo/config.json");
    fs::remove_file(&record).unwrap();
    // Reading a folder as a file fails even for root.
    fs::create_dir(&record).unwrap();
    for args in
        [DEPLOY.as_slice(), &["status", "--origin=release"], &["teardown", "--cluster", "--yes", "--origin=release"]]
    {
        let run = run(&sandbox, args);
        assert_eq!(run.code, Some(4), "{run}");
        assert!(run.stderr.contains(&format!("cannot read {record}")), "{run}");
        assert!(!run.stderr.contains("half deleted"), "{run}");
    }
}

#[test]
fn a_record_without_nodes_is_not_treated_as_one_node() {
    let sandbox = Sandbox::with_tools();
    sandbox.cluster();
    let record = sandbox.dir.join("home/.minikube/profiles/todo/config.json");
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace("Nodes", "Hosts")).unwrap();
    sandbox.dotenv(DOTENV);
    let run = sandbox.run(&["deploy", "dev", "--dry-run", "--origin=release"]);
    assert_eq!(run.code, Some(5), "{run}");
    assert!(run.stderr.contains("lists no nodes"), "{run}");
}

#[test]
fn a_dry_run_with_a_stopped_cluster_claims_nothing_about_its_content() {
    let sandbox = Sandbox::with_tools();
    sandbox.profile("containerd");
    sandbox.node("exited", free_port().parse().unwrap());
    sandbox.dotenv(DOTENV);
    let run = sandbox.run(&["deploy", "dev", "--dry-run", "--origin=release"]);
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stderr.contains("start cluster todo") && run.stderr.contains("why: the profile is stopped"), "{run}");
    assert!(run.stderr.contains("the remaining steps are unknown until the cluster responds"), "{run}");
    for claim in ["does not exist", "does not have", "not installed", "no ingress controller"] {
        assert!(!run.stderr.contains(claim), "{claim}: {run}");
    }
}

#[test]
fn nothing_is_built_if_the_engine_does_not_list_its_images() {
    let sandbox = Sandbox::with_tools();
    sandbox.on("docker image inspect *todo-*", "echo 'Error response from daemon: i/o timeout' >&2; exit 1");
    let run = sandbox.run(&["images", "--origin=release"]);
    assert_eq!(run.code, Some(4), "{run}");
    assert!(run.stderr.contains("does not say whether it has image todo-backend:"), "{run}");
    assert!(run.stderr.contains("i/o timeout") && !sandbox.fake("calls").contains("buildx build"), "{run}");
}
