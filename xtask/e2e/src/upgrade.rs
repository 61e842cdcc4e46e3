//! Upgrades keep user data: the xtask of an earlier version creates cluster, record, engine, cache and todos. The xtask
//! under test takes them over, running and stopped.
//!
//! All files are in `<cache>-upgrade/<commit>`: the earlier checkout with its programs, and a cache with a separate engine.
//! Cluster and engine are removed at the end. Compiled programs, base images and BuildKit's cache stay there: a key or a digest
//! determines their content.

mod old;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use camino::Utf8PathBuf;
use rustix::process::Signal;
use serde_json::{Value, json};

use xtask::cache::CACHE_VARIABLE;
use xtask::engine::paths::EnginePaths;
use xtask::engine::{Engine, network, reap};
use xtask::lock;
use xtask::project::Project;
use xtask::tally::Tally;

use crate::interrupts::Deploy;
use crate::lifecycle::leftovers;
use crate::test_cluster::{AUTH, Names, TestCluster};
use old::{EarlierXtask, Recipe};

/// Distance of the suite's port from the port that `deploy` prefers.
const PORT_OFFSET: u16 = 410;
/// Number of todos that the earlier version stores.
const TODOS: usize = 5;
/// Time limit for an upgrade, which may compile the new Kubernetes.
const UPGRADE: Duration = Duration::from_secs(1800);
/// Time limit for the address to answer after a deploy.
const ANSWERS: Duration = Duration::from_secs(30);

/// The state of one earlier version, which scenarios upgrade.
struct Upgrade {
    recipe: Recipe,
    old: EarlierXtask,
    test_cluster: TestCluster,
}

/// What the earlier version leaves.
struct OldState {
    /// The user's session.
    token: String,
    todos: Value,
    base_images: ImageNames,
}

/// The names of images: pairs of ID and name.
type ImageNames = BTreeSet<(String, String)>;

type Scenario = (&'static str, fn(&Upgrade, &OldState) -> Result<()>);

/// Order matters: each scenario starts from the state that the previous one leaves.
const SCENARIOS: &[Scenario] = &[
    ("running: a deploy takes over the old state; todos, session and Kubernetes version stay", Upgrade::running),
    ("running: the next deploy has nothing to do, and status is in order", Upgrade::settled),
    ("stopped, engine killed: a deploy starts the cluster with its own Kubernetes; the data stays", Upgrade::stopped),
    ("cluster upgrade killed during the creation: a deploy refuses and names the command", Upgrade::killed_in_creation),
    ("cluster upgrade killed before the restore: the same", Upgrade::killed_before_restore),
    ("cluster upgrade resumes: the pinned Kubernetes, with the same todos and session", Upgrade::upgraded),
    ("a second cluster upgrade and a deploy have nothing to do", Upgrade::upgraded_twice),
    ("a record of a newer format is refused by deploy, status and rollback, and kept", Upgrade::newer_record),
];

/// Runs the suite for each recipe.
pub fn run(project: &Project, xtask: &str) -> Result<Tally> {
    let name = format!("{}-upgrades", project.settings.cluster.profile);
    let _lock = lock::take(&project.cache.join("locks"), &name)?;
    let mut tally = Tally::default();
    for recipe in Recipe::all()? {
        project.report.heading(&format!("from {} ({})", recipe.version, recipe.commit));
        tally += run_recipe(project, xtask, &recipe)?;
    }
    Ok(tally)
}

fn run_recipe(project: &Project, xtask: &str, recipe: &Recipe) -> Result<Tally> {
    let report = &project.report;
    let folder = recipe.folder(project);
    let running =
        report.step("test", format!("build the xtask of {}", recipe.version), "from this repository's history");
    let old = EarlierXtask::build(project, recipe)?;
    running.done("");
    let cache = folder.join("cache");
    old::lend_origin(project, &cache)?;
    let lent = old::lend_programs(&project.cache, &cache)?;
    let kept = folder.join("images");
    old::lend_engine(&project.cache, &cache, &kept)?;
    report.note(format!("{folder} is kept for the next run; {lent} compiled programs were lent to it"));

    let names = Names {
        folder: folder.join("new"),
        suffix: "upgrade",
        port_offset: PORT_OFFSET,
        environment: vec![(CACHE_VARIABLE, cache.to_string()), ("XDG_DATA_HOME", folder.join("data").to_string())],
    };
    // The helpers of the test cluster must find the engine of this cache.
    let own = Project { cache, ..project.clone() };
    let mut test_cluster = TestCluster::make(&own, xtask, &names, true)?;
    // The copy is independent of edits in the original checkout.
    test_cluster.project.root.clone_from(&test_cluster.root);
    let _ = std::fs::remove_dir_all(folder.join("data"));
    let upgrade = Upgrade { recipe: recipe.clone(), old, test_cluster };
    let tally = upgrade.run_scenarios();
    // Cleans up after failures too. Then no image stays, because it may be the cause.
    let passed = tally.as_ref().is_ok_and(|tally| tally.failed == 0);
    let cleaned = upgrade.clean(passed.then_some(&kept));
    let tally = tally?;
    cleaned?;
    let left =
        leftovers_of_engine(&EnginePaths::new(&upgrade.test_cluster.project.cache), &EnginePaths::new(&project.cache))?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(tally)
}

/// Returns folders, bridge and firewall rules left by the private engine of `paths`. The programs of the engine of `other`
/// read the rules.
fn leftovers_of_engine(paths: &EnginePaths, other: &EnginePaths) -> Result<Vec<String>> {
    let bridge = paths.bridge();
    let device = Utf8PathBuf::from(format!("/sys/class/net/{bridge}"));
    let paths = [paths.dir(), paths.run(), device].into_iter().filter(|path| path.exists()).map(String::from);
    let mut left: Vec<String> = paths.collect();
    if let Some(tree) = other.trees()?.iter().find(|tree| tree.join("usr/sbin/dockerd").is_file()) {
        let rules = network::rules(tree)?;
        left.extend(rules.lines().filter(|rule| rule.contains(&bridge)).map(str::to_owned));
    }
    Ok(left)
}

/// Returns whether `new` contains `old`: arrays of the same length, and each key of an object.
fn holds(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            old.iter().all(|(key, old)| new.get(key).is_some_and(|new| holds(new, old)))
        }
        (Value::Array(new), Value::Array(old)) => {
            new.len() == old.len() && new.iter().zip(old).all(|(new, old)| holds(new, old))
        }
        _ => new == old,
    }
}

impl Upgrade {
    fn run_scenarios(&self) -> Result<Tally> {
        let report = &self.test_cluster.project.report;
        let making = report.step("test", format!("make the state of {}", self.recipe.version), "with its own xtask");
        let kept = self.make()?;
        making.done(format!("{TODOS} todos"));
        let mut tally = Tally::default();
        for (name, scenario) in SCENARIOS {
            tally += Tally::of(report, name, |_| scenario(self, &kept).map(|()| String::new()));
        }
        if tally.failed == 0 {
            // The next run starts with these images.
            self.restore_names(&kept)?;
        }
        Ok(tally)
    }

    /// Creates the old state: its xtask deploys, a user signs up and stores todos.
    fn make(&self) -> Result<OldState> {
        let dotenv = format!("AUTH_SECRET={AUTH}\n");
        self.old.write_dotenv(&dotenv)?;
        self.test_cluster.write_dotenv(&dotenv)?;
        self.old.run(&self.test_cluster, &["deploy", &self.recipe.environment])?;
        self.check_kubernetes(&self.recipe.kubernetes)?;
        let credentials = json!({"email": "kept@example.com", "password": "not-a-secret-password"});
        let session = self.answer(201, "POST", "/api/v1/users", None, Some(&credentials))?;
        let token = session["token"].as_str().context("the session has no token")?.to_owned();
        for number in 1..=TODOS {
            let todo = json!({"title": format!("kept {number}")});
            self.answer(201, "POST", "/api/v1/todos", Some(&token), Some(&todo))?;
        }
        let todos = self.answer(200, "GET", "/api/v1/todos", Some(&token), None)?;
        let count = todos.as_array().map_or(0, Vec::len);
        ensure!(count == TODOS, "{count} todos instead of {TODOS}: {todos}");
        Ok(OldState { token, todos, base_images: self.base_images()? })
    }

    /// Returns the names of the base images.
    fn base_images(&self) -> Result<ImageNames> {
        let list = self.test_cluster.tools()?.engine.docker().args(["image", "ls", "--filter=dangling=false"]);
        let list =
            list.args(["--filter=label=todo-xtask.key", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"]).read()?;
        Ok(list.lines().filter_map(|line| line.split_once(' ')).map(|(id, name)| (id.into(), name.into())).collect())
    }

    /// Gives the old base images their names back, which those of the new xtask took.
    fn restore_names(&self, old: &OldState) -> Result<()> {
        let engine = self.test_cluster.tools()?.engine;
        for (id, name) in old.base_images.difference(&self.base_images()?) {
            engine.docker().args(["tag", id, name]).run()?;
        }
        Ok(())
    }

    /// Creates record, release and ingress controller again with the old xtask, on the existing cluster.
    fn make_again(&self, old: &OldState) -> Result<()> {
        self.restore_names(old)?;
        self.old.run(&self.test_cluster, &["teardown"])?;
        self.old.run(&self.test_cluster, &["deploy", &self.recipe.environment]).map(drop)
    }

    fn answer(&self, code: u16, method: &str, path: &str, token: Option<&str>, body: Option<&Value>) -> Result<Value> {
        let (status, text) = self.test_cluster.http(method, path, token, body)?;
        ensure!(status == code, "{method} {path}: {status} {text}");
        serde_json::from_str(&text).with_context(|| format!("{method} {path}: {text}"))
    }

    /// Fails unless the session is valid and each todo has all its old fields. A newer release may add fields.
    fn check_data(&self, kept: &OldState) -> Result<()> {
        self.test_cluster.until("the application answers", ANSWERS, || {
            Ok(self.test_cluster.http("GET", "/api/v1/health", None, None).is_ok_and(|(status, _)| status == 200))
        })?;
        let todos = self.answer(200, "GET", "/api/v1/todos", Some(&kept.token), None)?;
        ensure!(holds(&todos, &kept.todos), "the todos have changed:\n{todos}\n{}", kept.todos);
        let page = self.test_cluster.http("GET", "/", Some(&kept.token), None)?;
        ensure!(page.0 == 200 && page.1.contains("kept 1"), "the page does not show the todos: {}\n{}", page.0, page.1);
        Ok(())
    }

    /// Fails unless minikube has recorded this Kubernetes version and the node runs it.
    fn check_kubernetes(&self, kubernetes: &str) -> Result<()> {
        let tools = self.test_cluster.tools()?;
        let config: Value = serde_json::from_str(&std::fs::read_to_string(tools.profile_config())?)?;
        let recorded = config.pointer("/KubernetesConfig/KubernetesVersion").and_then(Value::as_str);
        ensure!(recorded == Some(kubernetes), "minikube has {recorded:?} on record instead of {kubernetes}");
        let kubelet = format!("/var/lib/minikube/binaries/{kubernetes}/kubelet");
        let ps = tools.engine.docker().args(["exec", &self.test_cluster.profile, "pgrep", "--full", &kubelet]);
        ensure!(ps.succeeds(), "the node does not run kubelet {kubernetes}");
        Ok(())
    }

    fn deploy(&self) -> Result<String> {
        Ok(self.test_cluster.xtask(&["deploy", &self.recipe.environment])?.expect(0, &["is up"])?.text)
    }

    /// Returns the Kubernetes version that this checkout pins.
    fn pinned(&self) -> &str {
        &self.test_cluster.project.settings.cluster.kubernetes
    }

    fn is_older(&self) -> bool {
        self.pinned() != self.recipe.kubernetes
    }

    fn running(&self, kept: &OldState) -> Result<()> {
        let text = self.deploy()?;
        if self.is_older() {
            let expected = format!(
                "the cluster runs Kubernetes {}, this checkout pins {}: {}",
                self.recipe.kubernetes,
                self.pinned(),
                self.test_cluster.hint("cluster upgrade")
            );
            ensure!(text.contains(&expected), "`{expected}` is not in:\n{text}");
        }
        self.check_kubernetes(&self.recipe.kubernetes)?;
        self.check_data(kept)
    }

    fn settled(&self, kept: &OldState) -> Result<()> {
        let environment = &self.recipe.environment;
        self.test_cluster
            .xtask(&["deploy", environment])?
            .expect(0, &["nothing changed: nothing was built, loaded or restarted"])?;
        self.test_cluster.xtask(&["status", "--verify"])?.expect(0, &["verified", "2/2 ready"])?;
        self.check_data(kept)
    }

    fn stopped(&self, kept: &OldState) -> Result<()> {
        self.make_again(kept)?;
        self.test_cluster.tools()?.engine.docker().args(["stop", &self.test_cluster.profile]).run()?;
        self.kill_private_engine()?;
        self.test_cluster
            .xtask(&["deploy", &self.recipe.environment])?
            .expect(0, &["the profile is stopped", "is up"])?;
        self.check_kubernetes(&self.recipe.kubernetes)?;
        self.check_data(kept)
    }

    /// Kills all processes of the private engine at once, as the end of a login session may do.
    fn kill_private_engine(&self) -> Result<()> {
        reap::reap(&EnginePaths::new(&self.test_cluster.project.cache)).map(drop)
    }

    fn killed_in_creation(&self, _: &OldState) -> Result<()> {
        self.kill_at(&format!("> create cluster {}", self.test_cluster.profile), Duration::from_secs(5))
    }

    fn killed_before_restore(&self, _: &OldState) -> Result<()> {
        self.kill_at("(the database first: the dump is restored before the application starts)", Duration::from_secs(1))
    }

    /// Kills an upgrade `later` than its output `line`. Expects that a deploy then refuses.
    fn kill_at(&self, line: &str, later: Duration) -> Result<()> {
        if !self.is_older() {
            return Ok(());
        }
        let mut upgrade = Deploy::start_command(&self.test_cluster, &["cluster", "upgrade"])?;
        // The upgrade may compile the new Kubernetes first.
        let start = Instant::now();
        while !upgrade.output()?.contains(line) {
            if !upgrade.is_running()? || start.elapsed() > UPGRADE {
                bail!("the upgrade does not reach `{line}`:\n{}", upgrade.output()?);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(later);
        upgrade.signal(Signal::KILL)?;
        upgrade.end()?;
        let refused = self.test_cluster.xtask(&["deploy", &self.recipe.environment])?;
        refused.expect(
            5,
            &["is not finished; the todos are in", &format!("try: {}", self.test_cluster.hint("cluster upgrade"))],
        )?;
        Ok(())
    }

    fn upgraded(&self, kept: &OldState) -> Result<()> {
        let ran = self.test_cluster.xtask(&["cluster", "upgrade"])?;
        if self.is_older() {
            ran.expect(0, &["is not finished", "as in the dump", "is up", "the dump stays"])?;
        } else {
            ran.expect(0, &["nothing to upgrade"])?;
        }
        self.check_kubernetes(self.pinned())?;
        self.check_data(kept)
    }

    fn upgraded_twice(&self, kept: &OldState) -> Result<()> {
        self.test_cluster.xtask(&["cluster", "upgrade"])?.expect(0, &["nothing to upgrade"])?;
        self.settled(kept)
    }

    fn newer_record(&self, kept: &OldState) -> Result<()> {
        let tools = self.test_cluster.tools()?;
        let ask = ["get", "configmap", "todo-xtask", "--output", "jsonpath={.data.record\\.json}"];
        let before = tools.kubectl_here().args(ask).read()?;
        let mut record: Value = serde_json::from_str(&before)?;
        record["format"] = json!(99);
        let write = |record: &str| {
            let patch = json!({"data": {"record.json": record}}).to_string();
            tools.kubectl_here().args(["patch", "configmap", "todo-xtask", "--type=merge", "--patch", &patch]).run()
        };
        write(&record.to_string())?;
        let commands: [&[&str]; 4] =
            [&["deploy", &self.recipe.environment], &["status"], &["status", "--verify"], &["rollback"]];
        for command in commands {
            let expected = ["ConfigMap todo-xtask in namespace todo: it has format 99", "delete configmap todo-xtask"];
            self.test_cluster.xtask(command)?.expect(5, &expected)?;
        }
        ensure!(tools.kubectl_here().args(ask).read()?.contains("99"), "the record was overwritten");
        write(&before)?;
        self.settled(kept)
    }

    /// Deletes the cluster and removes the engine. Programs in the cache stay for the next run, and images in `kept`.
    fn clean(&self, kept: Option<&Utf8PathBuf>) -> Result<()> {
        // As a restart of the machine leaves it: the node is there, its engine does not run.
        self.kill_private_engine()?;
        self.test_cluster.xtask(&["teardown", "--cluster"])?.expect(0, &[])?;
        let left = leftovers(&self.test_cluster)?;
        ensure!(left.is_empty(), "left behind: {left:?}");
        let tools = self.test_cluster.tools()?;
        if tools.engine.private {
            if let Some(kept) = kept {
                self.remove_builds(&tools.engine)?;
                old::keep_images(&tools.cache, kept)?;
            }
            self.test_cluster.xtask(&["teardown", "--engine"])?.expect(0, &[])?;
        }
        Ok(())
    }

    /// Removes the application's images, which each run builds again, and images without a name.
    fn remove_builds(&self, engine: &Engine) -> Result<()> {
        let names = self.test_cluster.project.settings.images.keys().map(|name| format!("--filter=reference={name}"));
        let list = engine.docker().args(["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]).args(names).read()?;
        engine.docker().args(["image", "rm"]).args(list.split_whitespace()).run()?;
        engine.docker().args(["image", "prune", "--force"]).run()
    }
}
