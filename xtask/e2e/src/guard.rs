//! xtask changes nothing that belongs to others, whatever the state of profile and kubeconfig.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use camino::Utf8PathBuf;

use super::lifecycle::references;
use super::test_cluster::{AUTH, TestCluster};
use xtask_faults::ran::Ran;

/// Returns a foreign kubeconfig with the current context `name`.
pub fn foreign(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {name}\n\
         clusters: [{{name: {name}, cluster: {{server: 'https://127.0.0.2:6443'}}}}]\n\
         users: [{{name: {name}, user: {{}}}}]\n\
         contexts: [{{name: {name}, context: {{cluster: {name}, user: {name}}}}}]\n"
    )
}

/// All commands that could touch a cluster.
const COMMANDS: [&[&str]; 7] = [
    &["deploy", "dev"],
    &["deploy", "dev", "--dry-run"],
    &["status"],
    &["teardown"],
    &["teardown", "--cluster"],
    &["logs", "backend"],
    &["tool", "kubectl", "--", "get", "pods"],
];

/// Returns the path for a scenario's file `name`, in a folder that git ignores.
fn scratch(test_cluster: &TestCluster, name: &str) -> Result<Utf8PathBuf> {
    let folder = test_cluster.root.join("target");
    std::fs::create_dir_all(&folder)?;
    Ok(folder.join(name))
}

/// A refused deploy creates nothing: no cache, no engine, no tools, no `.env`.
pub fn before_anything(test_cluster: &TestCluster) -> Result<()> {
    let (cache, kubeconfig) = (scratch(test_cluster, "no-cache")?, scratch(test_cluster, "foreign-kubeconfig")?);
    std::fs::write(&kubeconfig, foreign(&test_cluster.profile))?;
    let dotenv = std::fs::read_to_string(test_cluster.root.join(".env")).ok();
    let _ = std::fs::remove_file(test_cluster.root.join(".env"));
    let envs = [("KUBECONFIG", kubeconfig.as_str()), ("TODO_XTASK_CACHE", cache.as_str())];
    let ran = test_cluster
        .xtask_with(&["deploy", "dev"], &envs)?
        .expect(5, &["is not our minikube profile", "delete-context"])?;
    ensure!(!cache.exists() && !test_cluster.root.join(".env").exists(), "something was made:\n{}", ran.text);
    ensure!(std::fs::read_to_string(&kubeconfig)? == foreign(&test_cluster.profile), "the kubeconfig was changed");
    dotenv.map_or(Ok(()), |text| test_cluster.write_dotenv(&text))
}

/// Runs xtask with proxies, a Helm driver, and preferences of kubectl and minikube that a user set for other work.
pub fn run_with_variables_for_other_work(test_cluster: &TestCluster, args: &[&str]) -> Result<Ran> {
    let kuberc = scratch(test_cluster, "kuberc")?;
    let preference = "apiVersion: kubectl.config.k8s.io/v1beta1\nkind: Preference\n\
        defaults: [{command: delete, options: [{name: interactive, default: 'true'}]}]\n";
    std::fs::write(&kuberc, preference)?;
    let minikube = scratch(test_cluster, "minikube")?;
    std::fs::create_dir_all(minikube.join(".minikube/config"))?;
    let settings = r#"{"driver": "none", "cpus": 9, "memory": "99999", "kubernetes-version": "v1.20.0"}"#;
    std::fs::write(minikube.join(".minikube/config/config.json"), settings)?;
    let dead = "http://127.0.0.1:9";
    let envs = [
        ("HTTPS_PROXY", dead),
        ("HTTP_PROXY", dead),
        ("https_proxy", dead),
        ("NO_PROXY", ""),
        ("HELM_DRIVER", "configmap"),
        ("HELM_NAMESPACE", "default"),
        ("KUBERC", kuberc.as_str()),
        ("MINIKUBE_PROFILE", "elsewhere"),
        ("MINIKUBE_DRIVER", "none"),
        ("MINIKUBE_MEMORY", "99999"),
        ("MINIKUBE_HOME", minikube.as_str()),
        ("GIT_DIR", "/nonexistent"),
    ];
    test_cluster.xtask_with(args, &envs)
}

/// Such variables affect neither a successful deploy, nor a rollback, nor a teardown.
pub fn environment(test_cluster: &TestCluster) -> Result<()> {
    let run = |args: &[&str]| run_with_variables_for_other_work(test_cluster, args);
    run(&["status"])?.expect(0, &["2/2 ready"])?;
    run(&["deploy", "dev"])?.expect(0, &["nothing changed"])?;
    let releases = |kind: &str| -> Result<usize> {
        let list = test_cluster.tools()?.kubectl_here().args(["get", kind, "-l", "owner=helm", "-o", "name"]).read()?;
        Ok(list.lines().count())
    };
    test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}-elsewhere\n"))?;
    run(&["deploy", "dev"])?.expect(0, &["is up"])?;
    ensure!(releases("configmaps")? == 0 && releases("secrets")? > 0, "Helm keeps the release in another store");
    let mistake = "backend:\n  command: [no-such-program]";
    let edited = test_cluster.edit("infra/helm/values-dev.yaml", |text| format!("{text}\n{mistake}\n"))?;
    let failed = run(&["deploy", "dev"]);
    drop(edited);
    failed?.expect(7, &["rolled back to revision", "runs now: todo-backend     2/2 ready"])?;
    run(&["teardown"])?.expect(0, &["stays: the todos"])?;
    let left = ["get", "deployments,statefulsets,services,ingresses,pods", "-o", "name"];
    let left = test_cluster.tools()?.kubectl_here().args(left).read()?;
    ensure!(left.trim().is_empty() && releases("secrets")? == 0, "reported as removed, but left: {left}");
    test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}\n"))?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"]).map(|_| ())
}

/// A missing kubeconfig gets our context and nothing else. status and deploy work without it.
pub fn without_kubeconfig(test_cluster: &TestCluster) -> Result<()> {
    let absent = scratch(test_cluster, "no-kubeconfig")?;
    let _ = std::fs::remove_file(&absent);
    let run = |args: &[&str]| test_cluster.xtask_with(args, &[("KUBECONFIG", absent.as_str())]);
    run(&["status"])?.expect(0, &["2/2 ready"])?;
    ensure!(!absent.exists(), "status created a kubeconfig");
    test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}-without-kubeconfig\n"))?;
    run(&["deploy", "dev"])?.expect(0, &["add context", "is up"])?;
    ensure!(!std::fs::read_to_string(&absent)?.contains("current-context"), "a current context was set");
    test_cluster.write_dotenv(&format!("AUTH_SECRET={AUTH}\n"))?;
    run(&["deploy", "dev"])?.expect(0, &["is up"])?;
    std::fs::remove_file(absent).context("removing the kubeconfig")
}

/// With several files in KUBECONFIG, xtask writes only the first, and only its own entries. It refuses a foreign entry of
/// its name in any of them.
pub fn several_files(test_cluster: &TestCluster) -> Result<()> {
    let other = scratch(test_cluster, "other-kubeconfig")?;
    let both = format!("{}:{other}", test_cluster.kubeconfig);
    let run = |args: &[&str]| test_cluster.xtask_with(args, &[("KUBECONFIG", &both)]);
    for (name, code, text) in
        [("production", 0, "is up"), (test_cluster.profile.as_str(), 5, "is not our minikube profile")]
    {
        std::fs::write(&other, foreign(name))?;
        let ours = std::fs::read(&test_cluster.kubeconfig)?;
        run(&["deploy", "dev"])?.expect(code, &[text])?;
        ensure!(std::fs::read_to_string(&other)? == foreign(name), "the other file was changed");
        ensure!(std::fs::read(&test_cluster.kubeconfig)? == ours, "our file was changed needlessly");
    }
    std::fs::remove_file(other).context("removing the other kubeconfig")
}

/// Every command refuses our own entry if it names another server, and the cluster stays unchanged.
pub fn elsewhere(test_cluster: &TestCluster) -> Result<()> {
    let text = std::fs::read_to_string(&test_cluster.kubeconfig)?;
    let server = text.lines().find(|line| line.trim().starts_with("server: https://") && !line.contains("127.0.0.2"));
    let server = server.context("a server in the kubeconfig")?.trim().to_owned();
    let changed = scratch(test_cluster, "changed-kubeconfig")?;
    std::fs::write(&changed, text.replace(&server, "server: https://127.0.0.2:8443"))?;
    let before = (test_cluster.pods("backend")?, std::fs::read(&changed)?);
    for args in COMMANDS {
        // Only the engine knows the API server's published port, so this also passes the first check.
        test_cluster
            .xtask_with(args, &[("KUBECONFIG", changed.as_str())])?
            .expect(5, &["is not our minikube profile"])?;
    }
    ensure!(before == (test_cluster.pods("backend")?, std::fs::read(&changed)?), "something was touched");
    Ok(())
}

/// On macOS, minikube writes the published port, which changes with each start of the node.
pub fn old_port(test_cluster: &TestCluster) -> Result<()> {
    let changed = scratch(test_cluster, "old-port-kubeconfig")?;
    // Nothing listens on port 9.
    let server = test_cluster.aim(&changed, 9)?;
    let before = (test_cluster.pods("backend")?, test_cluster.pods("frontend")?);
    let run = |args: &[&str]| test_cluster.xtask_with(args, &[("KUBECONFIG", changed.as_str())]);
    run(&["status"])?.expect(0, &["2/2 ready"])?;
    for args in [["tool", "helm", "--", "list"].as_slice(), &["rollback"]] {
        run(args)?.expect(5, &["has the port of an earlier start of the cluster", &test_cluster.hint("start")])?;
    }
    run(&["deploy", "dev"])?.expect(0, &["renew context", "is up"])?;
    ensure!(std::fs::read_to_string(&changed)?.contains(&server), "the entry does not lead to the node");
    run(&["tool", "helm", "--", "list", "--short"])?.expect(0, &["todo"])?;
    ensure!(before == (test_cluster.pods("backend")?, test_cluster.pods("frontend")?), "pods were restarted");
    Ok(())
}

/// A deploy unpauses a paused node and changes nothing else.
pub fn paused(test_cluster: &TestCluster) -> Result<()> {
    let before = (test_cluster.pods("backend")?, test_cluster.pods("frontend")?);
    test_cluster.tools()?.engine.docker().args(["pause", &test_cluster.profile]).run()?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["the node is paused", "is up"])?;
    ensure!(before == (test_cluster.pods("backend")?, test_cluster.pods("frontend")?), "pods were replaced");
    // `minikube pause` freezes the containers in the node, not the node.
    test_cluster.tools()?.minikube().arg("pause").run()?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["did not answer `GET /readyz`", "is up"])?;
    Ok(())
}

/// `docker restart` of the node does not start Kubernetes in it: status reports that, and a deploy starts it. Meanwhile,
/// status reports that the API server is starting, and never that nothing is deployed.
pub fn restarted(test_cluster: &TestCluster) -> Result<()> {
    test_cluster.tools()?.engine.docker().args(["restart", &test_cluster.profile]).run()?;
    let away = test_cluster.xtask(&["status"])?.expect(5, &["its API server does not respond", "deploy dev"])?;
    ensure!(!away.text.contains("not deployed"), "status claims more than it can know:\n{}", away.text);
    let (ran, statuses) = std::thread::scope(|scope| {
        let deploy = scope.spawn(|| test_cluster.xtask(&["deploy", "dev"]));
        let mut statuses = Vec::new();
        while !deploy.is_finished() {
            statuses.push(test_cluster.xtask(&["status"])?.text);
            std::thread::sleep(Duration::from_millis(200));
        }
        let ran = deploy.join().map_err(|_| anyhow!("the deploy panicked"))?;
        Ok::<_, anyhow::Error>((ran, statuses))
    })?;
    ran?.expect(0, &["start cluster", "is up"])?;
    let starting = statuses.iter().filter(|text| text.contains("its API server is starting")).count();
    ensure!(starting > 0, "none of {} runs of status saw it starting:\n{}", statuses.len(), statuses.concat());
    let claims_too_much = statuses.iter().any(|text| text.contains("not deployed"));
    ensure!(!claims_too_much, "one reported `not deployed`:\n{}", statuses.concat());
    test_cluster.project.report.note(format!("status saw it starting {starting} of {} times", statuses.len()));
    Ok(())
}

/// xtask refuses a node without minikube's record, a record without its node, and a foreign container of the node's name.
pub fn half_deleted(test_cluster: &TestCluster) -> Result<()> {
    let tools = test_cluster.tools()?;
    let docker = || tools.engine.docker();
    let (record, away) = (tools.profile_config(), scratch(test_cluster, "record.json")?);
    std::fs::rename(&record, &away)?;
    let refused =
        test_cluster.xtask(&["deploy", "dev"]).and_then(|ran| ran.expect(5, &["minikube has no record of it"]));
    std::fs::rename(&away, &record)?;
    refused?;

    let aside = format!("{}-aside", test_cluster.profile);
    docker().args(["rename", &test_cluster.profile, &aside]).run()?;
    let refused = without_node(test_cluster);
    docker().args(["rm", "--force", &test_cluster.profile]).run()?;
    docker().args(["rename", &aside, &test_cluster.profile]).run()?;
    refused?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
    Ok(())
}

fn without_node(test_cluster: &TestCluster) -> Result<()> {
    let tools = test_cluster.tools()?;
    test_cluster
        .xtask(&["deploy", "dev"])?
        .expect(5, &["minikube has a record of it but its node is gone", "teardown --cluster"])?;
    let image = references(test_cluster)?.into_iter().next().context("an image")?;
    let id = tools.engine.docker().args(["create", "--name", &test_cluster.profile, &image]).read()?;
    for args in
        [["deploy", "dev"].as_slice(), &["deploy", "dev", "--dry-run"], &["teardown"], &["teardown", "--cluster"]]
    {
        test_cluster.xtask(args)?.expect(5, &["that minikube did not make"])?;
    }
    let still = tools.engine.docker().args(["inspect", "--format", "{{.Id}}", &test_cluster.profile]).read()?;
    ensure!(still == id, "the foreign container was changed");
    ensure!(tools.profile_config().is_file(), "minikube's record was changed");
    Ok(())
}

/// FR-018: the chart itself refuses a cluster that is not Minikube, unless `allowAnyCluster` is set.
pub fn other_cluster(test_cluster: &TestCluster) -> Result<()> {
    let tools = test_cluster.tools()?;
    let label = |value: &str| tools.kubectl().args(["label", "node", &test_cluster.profile, "--overwrite", value]);
    label("minikube.k8s.io/name-").run()?;
    let checked = refused_by_chart(test_cluster);
    label(&format!("minikube.k8s.io/name={}", test_cluster.profile)).run()?;
    checked
}

fn refused_by_chart(test_cluster: &TestCluster) -> Result<()> {
    let tools = test_cluster.tools()?;
    let chart: Utf8PathBuf = test_cluster.root.join(&test_cluster.project.settings.chart.path);
    let values =
        ["--set-string=backend.image.tag=1,frontend.image.tag=1", "--set=secrets.create=true,postgres.enabled=true"];
    let install = |more: &[&str]| {
        let helm = tools.helm().args(["install", "other", chart.as_str(), "--dry-run=server"]).args(values);
        helm.args(more.iter().copied()).output()
    };
    let refused = install(&[])?;
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && stderr.contains("this cluster is not Minikube"), "helm printed: {stderr}");
    ensure!(stderr.contains("--set allowAnyCluster=true"), "the override is not named: {stderr}");
    let allowed = install(&["--set=allowAnyCluster=true"])?;
    ensure!(allowed.status.success(), "refused in spite of it: {}", String::from_utf8_lossy(&allowed.stderr));
    // `helm template` has no cluster to check.
    let given = "--set=postgres.enabled=false,secrets.values.DATABASE_URL=postgresql://todo@db.lan/todo";
    let auth = "--set=secrets.values.AUTH_SECRET=not-a-secret-but-long-enough-to-be-one";
    let version = format!("--kube-version={}", test_cluster.project.settings.cluster.kubernetes);
    tools.helm().args(["template", "other", chart.as_str(), &version]).args(values).args([given, auth]).run()
}
