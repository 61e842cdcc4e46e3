//! User mistakes, one for each row of the table of causes. xtask reports each cause within ten seconds, saves evidence and
//! rolls back to the verified revision, while the application keeps answering.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use camino::Utf8Path;
use serde_json::json;

use super::lifecycle::references;
use super::test_cluster::{AUTH, TestCluster};
use xtask::node::canonical;
use xtask_faults::ran::Ran;

pub const VALUES: &str = "infra/helm/values-dev.yaml";
const FRONTEND: &str = "infra/helm/templates/frontend/deployment.yaml";

/// Longest time in seconds from the first sign of a cause to the end of the rollout.
const BOUND: f64 = 10.0;

/// Deploys with a mistake in the file `path`. The deploy must fail with exit code 7, the cause `name` and `words`, and roll
/// everything back.
pub fn mistake(
    test_cluster: &TestCluster,
    path: &str,
    edit: impl FnOnce(&str) -> String,
    name: &str,
    words: &[&str],
) -> Result<Ran> {
    sound(test_cluster)?;
    let edited = test_cluster.edit(path, edit)?;
    let ran = fails(test_cluster, name, words)?;
    drop(edited);
    nothing_to_do(test_cluster)?;
    Ok(ran)
}

/// Deploys the copy as it is. With `--only`, another state of it may be running.
pub fn sound(test_cluster: &TestCluster) -> Result<()> {
    if !test_cluster.is_settled.load(Ordering::Relaxed) {
        test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
    }
    // Pods that a ReplicaSet started just before a rollback must be gone, or they count as old pods.
    test_cluster.until("two pods of each", Duration::from_secs(20), || Ok(all_pods(test_cluster)?.len() == 4))
}

/// Fails if a deploy without the mistake releases anything: the rollback must have restored the verified state.
pub fn nothing_to_do(test_cluster: &TestCluster) -> Result<()> {
    let ran = test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
    ensure!(!ran.text.contains("> helm upgrade"), "it was released again:\n{}", ran.text);
    test_cluster.is_settled.store(true, Ordering::Relaxed);
    Ok(())
}

/// Deploys under load and expects a failure with the cause `name`, while the old pods keep serving.
fn fails(test_cluster: &TestCluster, name: &str, words: &[&str]) -> Result<Ran> {
    let before = all_pods(test_cluster)?;
    let (ran, answers) = test_cluster.load.during(test_cluster, || test_cluster.xtask(&["deploy", "dev"]))?;
    let ran = ran?.expect(7, &["rolled back to revision", "runs now: todo-backend     2/2 ready"])?.expect(7, words)?;
    check_time(&ran)?;
    check_evidence(test_cluster, &ran, name)?;
    ensure!(!ran.text.contains(AUTH), "a secret is shown");
    // Pods that a ReplicaSet started just before the rollback end at once.
    test_cluster
        .until("the old pods alone", Duration::from_secs(10), || Ok(all_pods(test_cluster)? == before))
        .with_context(|| format!("old pods did not stay: {before:?} {:?}", all_pods(test_cluster)))?;
    test_cluster
        .project
        .report
        .note(format!("{name}: {:.1} s in all, {answers} requests, none failed", ran.took.as_secs_f64()));
    Ok(ran)
}

fn all_pods(test_cluster: &TestCluster) -> Result<Vec<String>> {
    Ok([test_cluster.pods("backend")?, test_cluster.pods("frontend")?].concat())
}

/// Fails unless the output has `(seen N s ago)` with at most [`BOUND`] seconds that count.
pub fn check_time(ran: &Ran) -> Result<()> {
    let seen = ran.text.split_once("(seen ").and_then(|(_, rest)| rest.split_once(')')).map(|(text, _)| text);
    let seen = seen.with_context(|| format!("no time is printed:\n{}", ran.text))?;
    let (_, counted) = seen.split_once("; ").unwrap_or(("", seen));
    let seconds: f64 = counted.split(' ').next().unwrap_or_default().parse().with_context(|| format!("in `{seen}`"))?;
    ensure!(seconds <= BOUND, "the cause was seen for {seconds} s: {seen}");
    Ok(())
}

/// Fails unless the evidence named in the output exists, is private, names the cause and contains no secret.
pub fn check_evidence(test_cluster: &TestCluster, ran: &Ran, name: &str) -> Result<()> {
    let line = ran.text.lines().find_map(|line| line.split_once("evidence (events, descriptions, logs): "));
    let dir = test_cluster.root.join(line.with_context(|| format!("no evidence is named:\n{}", ran.text))?.1.trim());
    ensure!(dir.as_str().ends_with(&format!("-{name}")), "{dir} is not about {name}");
    let files = ["pods.txt", "events.txt", "describe.txt", "objects.yaml", "nodes.txt", "helm-history.txt", "logs.txt"];
    let mode = |path: &Utf8Path| Ok::<_, anyhow::Error>(path.metadata()?.permissions().mode() & 0o777);
    ensure!(mode(&dir)? == 0o700, "others can look into {dir}");
    for file in files.into_iter().chain(["cause.txt"]) {
        ensure!(mode(&dir.join(file))? == 0o600, "others can read {file} in {dir}");
        let text = std::fs::read_to_string(dir.join(file)).with_context(|| format!("reading {file} in {dir}"))?;
        ensure!(!text.is_empty() && !text.contains(AUTH), "{file} in {dir} is empty or shows a secret");
    }
    Ok(())
}

/// Returns an edit that appends `yaml` to the values.
pub fn values(yaml: &str) -> impl FnOnce(&str) -> String {
    move |text| format!("{text}\n{yaml}\n")
}

pub fn image_missing(test_cluster: &TestCluster) -> Result<()> {
    sound(test_cluster)?;
    let edited = test_cluster
        .edit("apps/backend/app/__init__.py", |text| format!("{text}\n# removed {:?}\n", Instant::now()))?;
    let reference = references(test_cluster)?.into_iter().find(|r| r.starts_with("todo-backend")).unwrap_or_default();
    let node = test_cluster.tools()?.nodes()?.remove(0);
    let name = canonical(&reference);
    let events = test_cluster.root.join("target/xtask/events.jsonl");
    std::fs::remove_file(&events).context("the events of the deploy before")?;
    let loaded = || {
        let text = std::fs::read_to_string(&events).unwrap_or_default();
        text.lines().any(|line| line.contains(&format!("load {reference}")) && line.contains(r#""outcome":"ran""#))
    };
    let ran = std::thread::scope(|scope| {
        let deploy =
            scope.spawn(|| fails(test_cluster, "image-missing", &["todo-backend", "ErrImageNeverPull", "deploy dev"]));
        let start = Instant::now();
        // Removes the image as soon as it is loaded, before the pods start.
        while start.elapsed() < Duration::from_secs(180) && !deploy.is_finished() && !loaded() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = node.ctr(["images", "rm", "--sync", &name]).run();
        deploy.join().map_err(|_| anyhow::anyhow!("the deploy panicked"))?
    });
    drop(edited);
    ran?;
    nothing_to_do(test_cluster)
}

pub fn image_pull(test_cluster: &TestCluster) -> Result<()> {
    let edit = values("frontend:\n  image:\n    pullPolicy: Always");
    mistake(test_cluster, VALUES, edit, "image-pull", &["frontend.image.pullPolicy: Never", "it is Always"]).map(drop)
}

pub fn config(test_cluster: &TestCluster) -> Result<()> {
    let edit = |text: &str| {
        let variable = "            - name: SMTP\n              valueFrom:\n                secretKeyRef: {name: todo-postgres, \
                        key: SMTP_PASSWORD}\n            - name: PORT\n";
        text.replace("            - name: PORT\n", variable)
    };
    let words = ["key SMTP_PASSWORD is not in Secret todo-postgres", "its variable SMTP needs it"];
    mistake(test_cluster, FRONTEND, edit, "config", &words).map(drop)
}

pub fn mount(test_cluster: &TestCluster) -> Result<()> {
    let edit = |text: &str| {
        let text = text.replace(
            "          lifecycle:\n",
            "          volumeMounts:\n            - name: smtp\n              mountPath: /smtp\n          lifecycle:\n",
        );
        text.replace(
            "      containers:\n",
            "      volumes:\n        - name: smtp\n          secret: {secretName: todo-smtp}\n      containers:\n",
        )
    };
    mistake(test_cluster, FRONTEND, edit, "mount", &["volume `smtp`", "Secret todo-smtp does not exist"]).map(drop)
}

pub fn cannot_start(test_cluster: &TestCluster) -> Result<()> {
    let edit = values("backend:\n  command: [no-such-program]");
    let words = ["no-such-program", "executable file not found", "backend.command"];
    mistake(test_cluster, VALUES, edit, "cannot-start", &words).map(drop)
}

/// The database rejects a migration that has waited for its lock longer than the grace period of any cause.
pub fn migration(test_cluster: &TestCluster) -> Result<()> {
    // The key is LOCK_KEY of app/migrate.py. The lock is held for 12 s after the migration starts to wait.
    const LOCK: &str = "DO $$BEGIN PERFORM pg_advisory_lock(7265646001); FOR i IN 1..600 LOOP EXIT WHEN EXISTS (SELECT \
                        FROM pg_locks WHERE locktype = 'advisory' AND NOT granted); PERFORM pg_sleep(0.2); END LOOP; \
                        PERFORM pg_sleep(12); END$$";
    sound(test_cluster)?;
    let tools = test_cluster.tools()?;
    let psql = |statement: &str| {
        let psql = ["exec", "statefulset/todo-postgres", "--", "psql", "-U", "todo", "-tAc", statement];
        tools.kubectl_here().args(psql).read()
    };
    let text = "from alembic import op\n\nrevision = \"9999\"\ndown_revision = \"NEWEST\"\n\n\n\
                def upgrade():\n    op.execute(\"SELECT no_such_column FROM todos\")\n";
    let text = text.replace("NEWEST", psql("SELECT version_num FROM alembic_version")?.trim());
    let path = test_cluster.root.join("apps/backend/app/migrations/versions/9999_refused.py");
    std::fs::write(&path, text)?;
    let ran = std::thread::scope(|scope| {
        let lock = scope.spawn(|| psql(LOCK));
        let words = ["container backend ended with exit code 1", "migration failed (todo@todo-postgres"];
        let ran = fails(test_cluster, "migration", &words);
        lock.join().map_err(|_| anyhow::anyhow!("the lock panicked"))??;
        ran
    });
    std::fs::remove_file(&path)?;
    ran?.expect(7, &["waiting for the migration of the schema", "no_such_column"])?;
    nothing_to_do(test_cluster)
}

pub fn crash_loop(test_cluster: &TestCluster) -> Result<()> {
    let edit = |text: &str| format!("import sys\n\nprint('a deliberate mistake')\nsys.exit(7)\n{text}");
    let words = ["container backend ended with exit code 7", "| a deliberate mistake"];
    let ran = mistake(test_cluster, "apps/backend/app/__main__.py", edit, "crash-loop", &words)?;
    ensure!(ran.text.contains("build todo-backend"), "nothing was built:\n{}", ran.text);
    Ok(())
}

pub fn not_ready(test_cluster: &TestCluster) -> Result<()> {
    let edit = |text: &str| {
        let (before, after) = text.split_once("readinessProbe:").unwrap_or((text, ""));
        format!("{before}readinessProbe:{}", after.replacen("/healthz", "/no-such-path", 1))
    };
    let words = ["readiness probe GET /no-such-path on port http, got status 404", "nothing is at that path"];
    mistake(test_cluster, FRONTEND, edit, "not-ready", &words).map(drop)
}

/// The limit is so small that the container dies before it is ready: a ready one would fail its first requests.
pub fn out_of_memory(test_cluster: &TestCluster) -> Result<()> {
    let edit =
        values("frontend:\n  resources:\n    requests: {cpu: 50m, memory: 20Mi}\n    limits: {cpu: '1', memory: 20Mi}");
    let words = ["its limit of 20Mi", "raise frontend.resources.limits.memory"];
    mistake(test_cluster, VALUES, edit, "out-of-memory", &words).map(drop)
}

pub fn unschedulable(test_cluster: &TestCluster) -> Result<()> {
    let edit = values(
        "frontend:\n  resources:\n    requests: {cpu: 50m, memory: 900Gi}\n    limits: {cpu: '1', memory: 900Gi}",
    );
    let node = format!("node {}: ", test_cluster.profile);
    let words = [
        "memory requested: 900Gi",
        &node,
        " free of ",
        "held by ",
        "todo/todo-frontend-",
        "to at most ",
        "no setting makes room",
    ];
    mistake(test_cluster, VALUES, edit, "unschedulable", &words).map(drop)
}

/// More than the profile has and less than the machine: the node must not offer more than its own limit.
pub fn beyond_the_profile(test_cluster: &TestCluster) -> Result<()> {
    let tools = test_cluster.tools()?;
    let path = "jsonpath={.status.allocatable.memory}";
    let offered = tools.kubectl().args(["get", "node", &test_cluster.profile, "-o", path]).read()?;
    let size = test_cluster.project.settings.cluster.memory_mib;
    let fits = offered == format!("{}Ki", size * 1024) || offered == format!("{}Gi", size / 1024);
    ensure!(fits, "the node offers {offered} to pods, the profile has {size} MiB");
    let edit =
        values("frontend:\n  resources:\n    requests: {cpu: 50m, memory: 10Gi}\n    limits: {cpu: '1', memory: 10Gi}");
    let words = ["memory requested: 10Gi", " free of 6Gi", "set cluster.memory_mib = 1", "only a new cluster gets it"];
    mistake(test_cluster, VALUES, edit, "unschedulable", &words).map(drop)
}

/// `kubectl cordon` keeps running pods, but new ones wait.
pub fn cordoned(test_cluster: &TestCluster) -> Result<()> {
    sound(test_cluster)?;
    let kubectl = |verb: &str| test_cluster.tools()?.kubectl().args([verb, &test_cluster.profile]).run();
    kubectl("cordon")?;
    let uncordon = test_cluster.hint(&format!("tool kubectl -- uncordon {}", test_cluster.profile));
    let status = test_cluster.xtask(&["status"]).and_then(|ran| ran.expect(0, &["it is cordoned", &uncordon]));
    let edit = values(
        "frontend:\n  resources:\n    requests: {cpu: 52m, memory: 192Mi}\n    limits: {cpu: '1', memory: 384Mi}",
    );
    let result = mistake(test_cluster, VALUES, edit, "cordoned", &["is cordoned", &uncordon]);
    kubectl("uncordon")?;
    status?;
    result.map(drop)
}

/// After `kubectl drain` nothing serves until the node accepts pods again, and xtask reports that at once.
pub fn drained(test_cluster: &TestCluster) -> Result<()> {
    sound(test_cluster)?;
    let drain = test_cluster.tools()?.kubectl().args([
        "drain",
        &test_cluster.profile,
        "--pod-selector=app.kubernetes.io/part-of=todo",
    ]);
    let drained = drain.args(["--delete-emptydir-data", "--disable-eviction", "--timeout=60s"]).run();
    let uncordon = test_cluster.hint(&format!("tool kubectl -- uncordon {}", test_cluster.profile));
    let result = drained.and_then(|()| {
        test_cluster.xtask(&["status"])?.expect(0, &["is cordoned", &uncordon])?;
        let ran = test_cluster.xtask(&["deploy", "dev"])?.expect(5, &["is cordoned", &uncordon])?;
        ensure!(ran.took < Duration::from_secs(30), "it took {:.0} s", ran.took.as_secs_f64());
        Ok(())
    });
    test_cluster.tools()?.kubectl().args(["uncordon", &test_cluster.profile]).run()?;
    result?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"]).map(drop)
}

pub fn quota(test_cluster: &TestCluster) -> Result<()> {
    let kubectl = || Ok::<_, anyhow::Error>(test_cluster.tools()?.kubectl_here());
    // Terminating pods of an earlier rollout count against the quota.
    test_cluster.until("five pods", Duration::from_secs(60), || {
        Ok(kubectl()?.args(["get", "pods", "-o", "name"]).read()?.lines().count() == 5)
    })?;
    kubectl()?.args(["create", "quota", "small", "--hard=pods=5"]).run()?;
    let edit = values(
        "frontend:\n  resources:\n    requests: {cpu: 51m, memory: 192Mi}\n    limits: {cpu: '1', memory: 384Mi}",
    );
    let words = ["quota small has no room for another pod: requested: pods=1, used: pods=5, limited: pods=5"];
    let result = mistake(test_cluster, VALUES, edit, "quota", &words);
    kubectl()?.args(["delete", "quota", "small"]).run()?;
    result.map(drop)
}

pub fn pod_security(test_cluster: &TestCluster) -> Result<()> {
    let edit = |text: &str| {
        let volume = "      volumes:\n        - name: host\n          hostPath: {path: /etc}\n      containers:\n";
        text.replace("      containers:\n", volume)
    };
    let words = ["Pod Security `restricted` refuses", "hostPath", "infra/helm/templates/frontend"];
    mistake(test_cluster, FRONTEND, edit, "pod-security", &words).map(drop)
}

pub fn refused(test_cluster: &TestCluster) -> Result<()> {
    let kubectl = || Ok::<_, anyhow::Error>(test_cluster.tools()?.kubectl_here());
    let policy = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"},
                        "spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}});
    kubectl()?.args(["apply", "-f", "-"]).stdin(policy.to_string()).run()?;
    let edit = values(
        "frontend:\n  resources:\n    requests: {cpu: 50m, memory: 192Mi}\n    limits: {cpu: '2', memory: 384Mi}",
    );
    let words = [
        "its pods are refused: maximum cpu usage per Container is 1, but limit is 2",
        "change the policy that the message names",
    ];
    let result = mistake(test_cluster, VALUES, edit, "refused", &words);
    kubectl()?.args(["delete", "limitrange", "small"]).run()?;
    result.map(drop)
}

/// A volume exceeds its size limit, so the node evicts the pod, which waits for a database until then.
pub fn evicted(test_cluster: &TestCluster) -> Result<()> {
    let edit = values(
        "backend:\n  command: [sh, -c, \"head -c 80000000 /dev/zero >/tmp/full; \
         DATABASE_URL=postgresql://todo@127.0.0.1:1/todo exec python3 -m app\"]",
    );
    mistake(
        test_cluster,
        VALUES,
        edit,
        "evicted",
        &["evicted: Usage of EmptyDir volume \"tmp\" exceeds the limit \"64Mi\""],
    )
    .map(drop)
}

/// A StatefulSet's volume cannot change, so Helm fails with half of the release applied. The chart refuses another size
/// beforehand, but not another class.
pub fn refused_half_way(test_cluster: &TestCluster) -> Result<()> {
    let before = all_pods(test_cluster)?;
    let edited = test_cluster.edit(VALUES, |text| {
        let text = text.replace("postgres:\n  enabled: true", "postgres:\n  enabled: true\n  storage: {className: other}");
        format!("{text}\nbackend:\n  resources:\n    requests: {{cpu: 51m, memory: 128Mi}}\n    limits: {{cpu: '1', memory: 256Mi}}\n")
    })?;
    let (ran, _) = test_cluster.load.during(test_cluster, || test_cluster.xtask(&["deploy", "dev"]))?;
    ran?.expect(3, &["Helm refused the release", "StatefulSet", "rolled back to revision"])?;
    drop(edited);
    ensure!(all_pods(test_cluster)?.iter().any(|pod| before.contains(pod)), "no old pod stayed");
    nothing_to_do(test_cluster)
}

/// A failed first install leaves nothing in its namespace.
pub fn first_install(test_cluster: &TestCluster) -> Result<()> {
    test_cluster.xtask(&["teardown", "--data"])?.expect(0, &[])?;
    let edited = test_cluster.edit(VALUES, |text| {
        text.replace("postgres:\n  enabled: true", "postgres:\n  enabled: true\n  storage: {className: no-such-class}")
    })?;
    let ran = test_cluster.xtask(&["deploy", "dev"])?.expect(
        7,
        &[
            "no volume of class no-such-class",
            "set postgres.storage.className in infra/helm/values*.yaml to one that exists: standard",
            "the first install failed, so it was removed",
            "runs now: nothing",
        ],
    )?;
    check_time(&ran)?;
    let kinds = "deployments,statefulsets,pods,services,ingresses,persistentvolumeclaims,secrets";
    let left = test_cluster.tools()?.kubectl_here().args(["get", kinds, "-o", "name"]).read()?;
    ensure!(left.trim().is_empty(), "left behind: {left}");
    drop(edited);
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
    Ok(())
}

/// A first install that fails after its volume was provisioned keeps the volume, and the next deploy uses it.
pub fn first_install_keeps_data(test_cluster: &TestCluster) -> Result<()> {
    test_cluster.xtask(&["teardown"])?.expect(0, &["stays: the todos"])?;
    let edited = test_cluster.edit(VALUES, values("backend:\n  command: [no-such-program]"))?;
    let words = ["the first install failed, so it was removed", "volume data-todo-postgres-0 stays", "teardown --data"];
    test_cluster.xtask(&["deploy", "dev"])?.expect(7, &words)?;
    drop(edited);
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
    Ok(())
}
