//! `cargo xtask test dev`: `cargo xtask dev` on a copy of the checkout, with saves, crashes, kills and teardown.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use camino::Utf8PathBuf;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use xtask::commands::dev::browser_reference;
use xtask::engine::Engine;
use xtask::project::Project;
use xtask::tally::Tally;

use crate::application::browser_image;
use crate::interrupts::Deploy;
use crate::test_cluster::{Names, TestCluster, machine_time};

/// Number of saves per median.
const ROUNDS: usize = 10;
/// Limit for the median time from a save to the new answer.
const SAVED: Duration = Duration::from_secs(1);
/// Limits until `dev` is ready: on a machine that has deployed, and where `dev` has run before.
const READY: [Duration; 2] = [Duration::from_secs(90), Duration::from_secs(20)];
/// Limit for the shutdown after Ctrl-C.
const ENDED: Duration = Duration::from_secs(3);
/// Limit for the guardian to clean up after xtask alone was killed.
const GUARDIAN: Duration = Duration::from_secs(6);
/// Limit for everything else.
const PATIENCE: Duration = Duration::from_secs(60);

/// The test cluster and the running `dev` that scenarios use.
struct Stage {
    test_cluster: TestCluster,
    engine: Engine,
    running: Mutex<Option<Deploy>>,
    /// The session of a user who has a todo.
    token: Mutex<String>,
}

type Scenario = (&'static str, fn(&Stage) -> Result<()>);

/// Order matters: each scenario starts from the state that the previous one leaves.
const SCENARIOS: &[Scenario] = &[
    ("ready within 90 s on a machine that has deployed before, with the Ingress' routes", first_start),
    ("no secret is in arguments, environment or labels of a container, or in the output", secrets),
    ("a second `dev` names the process of the first", second),
    ("Ctrl-C ends everything within 3 s; an occupied port is reported with its process", ctrl_c),
    ("ready within 20 s, with the earlier todos, a scripted assistant and a seeded account", warm_start),
    ("a saved line of the backend answers within a second (median of 10)", backend_line),
    ("a saved line of the frontend is in the browser within a second, state kept (median of 10)", frontend_line),
    ("a crash of the backend shows its last lines and a 503; the next save repairs it", backend_crash),
    ("a crash of the frontend does not affect the backend; the next save repairs it", frontend_crash),
    ("a saved migration is applied", migration),
    ("a changed requirements.txt rebuilds the image and says so; the application keeps serving", dependencies),
    ("a changed .env reaches the backend", dotenv),
    ("a file that replaces a folder, and the reverse, is synchronized", places),
    ("`dev test PATH` reruns the tests after a save; browser tests use the running `dev`", tests),
    ("after a SIGKILL nothing is left, or the next `dev` removes it", killed),
    ("debuggers stop both applications at a breakpoint and continue", debuggers),
    ("teardown refuses while `dev` runs; later, --data removes all its objects from the engine", teardown),
];

/// Runs the suite.
pub fn run(project: &Project, xtask: &str, only: Option<&str>) -> Result<Tally> {
    let test_cluster = TestCluster::make(project, xtask, &Names::new(project, "dev", "dev", 470), true)?;
    let engine = test_cluster.tools()?.engine;
    let stage = Stage { test_cluster, engine, running: Mutex::default(), token: Mutex::default() };
    // An earlier run may have been killed.
    stage.test_cluster.xtask(&["teardown", "--data"])?;
    let mut tally = Tally::default();
    // The first scenario starts the `dev` that the others use.
    let is_wanted = |name: &str| name == SCENARIOS[0].0 || only.is_none_or(|text| name.contains(text));
    for (name, scenario) in SCENARIOS.iter().filter(|(name, _)| is_wanted(name)) {
        tally += Tally::of(&project.report, name, |_| {
            let result = scenario(&stage).map(|()| String::new());
            result.map_err(|error| anyhow!("{error:#}; `dev` has printed:\n{}", stage.output().unwrap_or_default()))
        });
    }
    if let Some(dev) = stage.running.lock().ok().and_then(|mut running| running.take()) {
        dev.signal(Signal::INT)?;
        dev.end()?;
    }
    Ok(tally)
}

impl Stage {
    fn address(&self) -> String {
        format!("http://localhost:{}", self.test_cluster.port)
    }

    /// Starts `dev`. Returns the time until it was ready.
    fn start(&self, args: &[&str], limit: Duration) -> Result<Duration> {
        let started = Instant::now();
        let mut dev = Deploy::start_command(&self.test_cluster, &[&["dev"], args].concat())?;
        let heard = dev.wait_for(" ready in ")?;
        let output = dev.output()?;
        *self.running.lock().expect("one thread") = Some(dev);
        ensure!(heard, "it has ended:\n{output}");
        let took = machine_time(started.elapsed());
        self.note(&format!("ready in {:.1} s", took.as_secs_f64()));
        ensure!(took < limit, "ready after {} s instead of {}", took.as_secs(), limit.as_secs());
        Ok(took)
    }

    fn note(&self, text: &str) {
        self.test_cluster.project.report.note(text);
    }

    fn stop(&self) -> Result<()> {
        let Some(dev) = self.running.lock().expect("one thread").take() else { bail!("`dev` does not run") };
        let began = Instant::now();
        dev.signal(Signal::INT)?;
        let (code, output) = dev.end()?;
        let took = machine_time(began.elapsed());
        self.note(&format!("ended in {:.1} s", took.as_secs_f64()));
        ensure!(code == Some(130) && took < ENDED, "exit code {code:?} after {took:?}:\n{output}");
        ensure!(output.contains("stopped, and removed all containers"), "{output}");
        Ok(())
    }

    /// Returns the output of `dev` so far.
    fn output(&self) -> Result<String> {
        self.running.lock().expect("one thread").as_ref().map_or_else(|| Ok(String::new()), Deploy::output)
    }

    /// Waits until the output of `dev` after the byte `from` contains `text`.
    fn wait_for(&self, from: usize, text: &str) -> Result<()> {
        let heard = || Ok(self.output()?.get(from..).is_some_and(|output| output.contains(text)));
        self.test_cluster.until(&format!("`{text}` in the output"), PATIENCE, heard)
    }

    /// Returns the names of the containers of `dev`.
    fn containers(&self) -> Result<Vec<String>> {
        self.objects("container", "{{.Names}}")
    }

    fn objects(&self, noun: &str, format: &str) -> Result<Vec<String>> {
        let filter = format!("label=todo-xtask.dev={}", self.test_cluster.root);
        let all = if noun == "container" { ["--all"].as_slice() } else { &[] };
        let list = self.engine.docker().args([noun, "ls", "--format", format, "--filter", &filter]);
        Ok(list.args(all.iter().copied()).read()?.lines().map(str::to_owned).collect())
    }

    fn container(&self, part: &str) -> Result<String> {
        let names = self.containers()?;
        names.into_iter().find(|name| name.ends_with(part)).with_context(|| format!("no container of the {part}"))
    }

    /// Sends a request as the user of the token. Returns status, the serving pod or container, and body.
    fn http(&self, method: &str, path: &str, body: Option<Value>) -> Result<(u16, String, String)> {
        let token = self.token.lock().expect("one thread").clone();
        let request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.address()));
        let request =
            request.header("authorization", format!("Bearer {token}")).header("content-type", "application/json");
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let mut answer = xtask::stages::proof::agent().run(request.body(body)?)?;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok().map(str::to_owned));
        let (status, by) = (answer.status().as_u16(), header("x-served-by").unwrap_or_default());
        Ok((status, by, answer.body_mut().read_to_string()?))
    }

    fn file(&self, path: &str) -> Utf8PathBuf {
        self.test_cluster.root.join(path)
    }

    /// Replaces `old` in `path`. Returns the previous text.
    fn replace(&self, path: &str, old: &str, new: &str) -> Result<String> {
        let text = std::fs::read_to_string(self.file(path))?;
        ensure!(text.contains(old), "{path} has no `{old}`");
        std::fs::write(self.file(path), text.replace(old, new))?;
        Ok(text)
    }

    fn save(&self, path: &str, text: &str) -> Result<()> {
        std::fs::write(self.file(path), text).with_context(|| format!("writing {path}"))
    }
}

fn first_start(stage: &Stage) -> Result<()> {
    stage.start(&[], READY[0])?;
    for (path, by) in
        [("/api/v1/health", "backend"), ("/api/none", "backend"), ("/apix", "frontend"), ("/sign-in", "frontend")]
    {
        let (status, served_by, _) = stage.http("GET", path, None)?;
        ensure!(served_by.starts_with(&format!("todo-{by}/")), "{path} is served by `{served_by}`: {status}");
    }
    let account = json!({"email": "dev@example.com", "password": "not-a-secret passphrase"});
    let (_, _, session) = stage.http("POST", "/api/v1/users", Some(account))?;
    let session: Value = serde_json::from_str(&session)?;
    *stage.token.lock().expect("one thread") = session["token"].as_str().context("no token")?.to_owned();
    let (status, ..) = stage.http("POST", "/api/v1/todos", Some(json!({"title": "Lasting"})))?;
    ensure!(status == 201, "creating a todo: {status}");
    Ok(())
}

fn secrets(stage: &Stage) -> Result<()> {
    let dotenv = std::fs::read_to_string(stage.file(".env"))?;
    let secret = dotenv.lines().find_map(|line| line.strip_prefix("AUTH_SECRET=")).context("no AUTH_SECRET")?;
    let secret = secret.trim_matches('\'').to_owned();
    let containers = stage.containers()?;
    ensure!(containers.len() == 4, "{containers:?}");
    let inspected = stage.engine.docker().args(["container", "inspect"]).args(containers).read()?;
    ensure!(inspected.contains("todo-xtask.dev") && !inspected.contains(&secret), "docker inspect shows AUTH_SECRET");
    ensure!(!stage.output()?.contains(&secret), "the output shows AUTH_SECRET");
    let mut arguments = String::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let read = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        arguments.push_str(&String::from_utf8_lossy(&read));
    }
    ensure!(!arguments.contains(&secret), "a process has AUTH_SECRET among its arguments");
    Ok(())
}

fn second(stage: &Stage) -> Result<()> {
    let pid = stage.running.lock().expect("one thread").as_ref().context("`dev` does not run")?.pid();
    let process = format!("(pid {pid})");
    stage.test_cluster.xtask(&["dev"])?.expect(10, &["another xtask is at work on `dev-", &process])?;
    Ok(())
}

fn ctrl_c(stage: &Stage) -> Result<()> {
    stage.stop()?;
    ensure!(stage.containers()?.is_empty(), "containers are left: {:?}", stage.containers()?);
    let port = stage.test_cluster.port;
    let _listener = TcpListener::bind(("127.0.0.1", port))?;
    let expected = format!("port {port} is held by xtask-e2e (process {})", std::process::id());
    let expected = if cfg!(target_os = "linux") { expected } else { format!("port {port} is held by") };
    stage.test_cluster.xtask(&["dev"])?.expect(4, &[&expected, "--port"])?;
    Ok(())
}

fn warm_start(stage: &Stage) -> Result<()> {
    if !stage.containers()?.is_empty() {
        stage.stop()?;
    }
    stage.start(&["--fake-assistant", "--seed", "3"], READY[1])?;
    stage.wait_for(0, "3 todos of dev-")?;
    let (_, _, todos) = stage.http("GET", "/api/v1/todos", None)?;
    ensure!(todos.contains("Lasting"), "the earlier todo is gone: {todos}");
    let (status, _, events) = stage.http("POST", "/api/v1/assistant", Some(json!({"message": "add milk"})))?;
    ensure!(status == 200 && events.contains("event:"), "the assistant answers {status}: {events}");
    check_streaming(stage)?;
    let (_, _, todos) = stage.http("GET", "/api/v1/todos", None)?;
    ensure!(todos.contains("milk"), "the assistant added nothing: {todos}");
    Ok(())
}

/// Checks that the first words of an answer that takes 5 s arrive long before its end.
fn check_streaming(stage: &Stage) -> Result<()> {
    let token = stage.token.lock().expect("one thread").clone();
    let request = ureq::http::Request::builder().method("POST").uri(format!("{}/api/v1/assistant", stage.address()));
    let request = request.header("authorization", format!("Bearer {token}")).header("content-type", "application/json");
    let began = Instant::now();
    let answer = xtask::stages::proof::agent().run(request.body(json!({"message": "slow"}).to_string())?)?;
    let mut body = answer.into_body().into_reader();
    let (mut output, mut part) = (String::new(), [0; 1024]);
    // A buffering proxy would delay the second word until the end.
    while !output.contains('2') || !output.contains("text") {
        let count = body.read(&mut part)?;
        ensure!(count > 0, "the answer ends without words: {output}");
        output.push_str(&String::from_utf8_lossy(&part[..count]));
    }
    ensure!(
        began.elapsed() < Duration::from_secs(3),
        "words come after {:?}: the answer is not streamed",
        began.elapsed()
    );
    // The assistant refuses other messages of this user until the answer ends.
    body.read_to_string(&mut output)?;
    Ok(())
}

/// Fails unless the median of `times` is within [`SAVED`]. Notes all times.
fn check_median(stage: &Stage, mut times: Vec<Duration>) -> Result<()> {
    times.sort();
    ensure!(times.len() == ROUNDS, "{} of {ROUNDS} saves were seen", times.len());
    let median = (times[ROUNDS / 2 - 1] + times[ROUNDS / 2]) / 2;
    let all: Vec<String> = times.iter().map(|time| format!("{:.2}", time.as_secs_f64())).collect();
    stage.note(&format!("median {:.2} s of {}", median.as_secs_f64(), all.join(" ")));
    ensure!(median <= SAVED, "the median is {median:?}");
    Ok(())
}

const VERSION: &str = "apps/backend/app/__init__.py";

fn backend_line(stage: &Stage) -> Result<()> {
    let before = std::fs::read_to_string(stage.file(VERSION))?;
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        // Lets `dev` finish with the previous save.
        std::thread::sleep(Duration::from_millis(500));
        let began = Instant::now();
        stage.save(VERSION, &format!("{before}\n__version__ = \"dev-{round}\"\n"))?;
        while !stage.http("GET", "/api/v1/health", None)?.2.contains(&format!("\"dev-{round}\"")) {
            ensure!(began.elapsed() < PATIENCE, "the saved line is not served");
            std::thread::sleep(Duration::from_millis(10));
        }
        times.push(machine_time(began.elapsed()));
    }
    stage.save(VERSION, &before)?;
    check_median(stage, times)
}

const PAGE: &str = "apps/frontend/components/account/enter-page.tsx";
const LEAD: &str = "Good to see you again.";

fn frontend_line(stage: &Stage) -> Result<()> {
    let before = std::fs::read_to_string(stage.file(PAGE))?;
    ensure!(before.contains(LEAD), "{PAGE} has no `{LEAD}`");
    browser_image(&stage.test_cluster)?;
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (mut saved, mut times) = (Duration::ZERO, Vec::new());
    let browser = stage.engine.docker().args(["run", "--rm", "--init", "--network=host", "--shm-size=256m"]);
    let browser = browser.args(["--env".to_owned(), format!("BASE_URL={}", stage.address())]);
    let browser =
        browser.args(["--env", &format!("ROUNDS={ROUNDS}"), &browser_reference(&stage.test_cluster.project.settings)]);
    let browser = browser.args(["node_modules/.bin/playwright", "test", "--config", "dev.config.ts"]);
    let result = browser.log(stage.test_cluster.project.log("browser-dev")).stream(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["waits", round] => {
                std::thread::sleep(Duration::from_millis(500));
                saved = now();
                let _ = stage.save(PAGE, &before.replace(LEAD, &format!("Round {round}.")));
            }
            ["seen", _, at] => {
                let at = Duration::from_millis(at.parse().unwrap_or_default());
                times.push(machine_time(at.saturating_sub(saved)));
            }
            _ => {}
        }
    });
    stage.save(PAGE, &before)?;
    result?;
    check_median(stage, times)
}

fn backend_crash(stage: &Stage) -> Result<()> {
    let (from, path) = (stage.output()?.len(), "apps/backend/app/main.py");
    let before = std::fs::read_to_string(stage.file(path))?;
    stage.save(path, &format!("{before}\nnot_a_name\n"))?;
    stage.wait_for(from, "exited (exit code")?;
    stage.wait_for(from, "NameError: name 'not_a_name' is not defined")?;
    let (status, _, problem) = stage.http("GET", "/api/v1/health", None)?;
    ensure!(status == 503 && problem.contains("cargo xtask dev"), "{status}: {problem}");
    ensure!(stage.http("GET", "/sign-in", None)?.0 == 200, "the frontend does not answer");
    stage.save(path, &before)?;
    stage
        .test_cluster
        .until("the backend to serve again", PATIENCE, || Ok(stage.http("GET", "/api/v1/health", None)?.0 == 200))
}

fn frontend_crash(stage: &Stage) -> Result<()> {
    let (from, path) = (stage.output()?.len(), "apps/frontend/next.config.ts");
    let before = std::fs::read_to_string(stage.file(path))?;
    stage.save(path, "process.exit(7);\n")?;
    stage.wait_for(from, "exited (exit code")?;
    ensure!(stage.http("GET", "/api/v1/health", None)?.0 == 200, "the backend does not answer");
    stage.save(path, &before)?;
    stage
        .test_cluster
        .until("the frontend to serve again", PATIENCE, || Ok(stage.http("GET", "/sign-in", None)?.0 == 200))
}

fn migration(stage: &Stage) -> Result<()> {
    let folder = "apps/backend/app/migrations/versions";
    let newest =
        std::fs::read_dir(stage.file(folder))?.flatten().filter_map(|file| file.file_name().into_string().ok());
    let newest =
        newest.filter(|name| name.ends_with(".py")).filter_map(|name| name.split('_').next().map(str::to_owned));
    let newest = newest.max().context("no migrations")?;
    let text = format!(
        "from alembic import op\n\nrevision = \"9999\"\ndown_revision = \"{newest}\"\nbranch_labels = None\n\
         depends_on = None\n\n\ndef upgrade() -> None:\n    op.execute(\"CREATE TABLE dev_probe (n int)\")\n"
    );
    let from = stage.output()?.len();
    stage.save(&format!("{folder}/9999_probe.py"), &text)?;
    stage.wait_for(from, "schema migrated")?;
    let psql = ["psql", "--username=todo", "--command=SELECT count(*) FROM dev_probe"];
    stage.engine.docker().args(["exec", &stage.container("postgres")?]).args(psql).run()?;
    std::fs::remove_file(stage.file(&format!("{folder}/9999_probe.py")))?;
    stage
        .test_cluster
        .until("the backend to serve", PATIENCE, || Ok(stage.http("GET", "/api/v1/health", None)?.0 == 200))
}

fn dependencies(stage: &Stage) -> Result<()> {
    let (from, path) = (stage.output()?.len(), "apps/backend/requirements.txt");
    let before = std::fs::read_to_string(stage.file(path))?;
    let first = container_id(stage)?;
    // A unique text each time: `dev` would reuse an image that an earlier run built.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    stage.save(path, &format!("{before}# {now}\n"))?;
    stage.wait_for(from, "build todo-backend-dev (requirements.txt changed)")?;
    wait_for_other_container(stage, &first)?;
    let second = container_id(stage)?;
    stage.save(path, &before)?;
    wait_for_other_container(stage, &second)
}

/// Returns the ID of the backend's container, or an empty text without one.
fn container_id(stage: &Stage) -> Result<String> {
    let ids = stage.objects("container", "{{.Names}} {{.ID}}")?;
    Ok(ids.into_iter().find(|line| line.contains("-backend ")).unwrap_or_default())
}

/// Waits until another container than `before` serves the backend.
fn wait_for_other_container(stage: &Stage, before: &str) -> Result<()> {
    stage.test_cluster.until("another container of the backend", PATIENCE, || {
        let now = container_id(stage)?;
        Ok(!now.is_empty() && now != before && stage.http("GET", "/api/v1/health", None)?.0 == 200)
    })
}

fn dotenv(stage: &Stage) -> Result<()> {
    let before = std::fs::read_to_string(stage.file(".env"))?;
    let result = change_dotenv(stage);
    stage.test_cluster.write_dotenv(&before)?;
    result
}

fn change_dotenv(stage: &Stage) -> Result<()> {
    let from = stage.output()?.len();
    stage.test_cluster.write_dotenv("AUTH_SECRET=short\n")?;
    stage.wait_for(from, "AUTH_SECRET")?;
    ensure!(stage.http("GET", "/api/v1/health", None)?.0 == 200, "a mistake in .env stopped the backend");
    let from = stage.output()?.len();
    let other = "not-a-secret-but-another-one-of-32-bytes";
    stage.test_cluster.write_dotenv(&format!("AUTH_SECRET={other}\n"))?;
    stage.wait_for(from, ".env changed")?;
    // The previous secret signed the session.
    stage.test_cluster.until("another secret", PATIENCE, || Ok(stage.http("GET", "/api/v1/todos", None)?.0 == 401))?;
    ensure!(!stage.output()?.contains(other), "the output shows AUTH_SECRET");
    Ok(())
}

fn places(stage: &Stage) -> Result<()> {
    for (app, container) in [("backend/app", "/srv/app"), ("frontend/lib", "/app/lib")] {
        let place = stage.file(&format!("apps/{app}/place"));
        let part = app.split('/').next().unwrap_or_default();
        let wait_until = |test: &str| {
            let test =
                ["exec", &stage.container(part)?, "test", test, &format!("{container}/place")].map(str::to_owned);
            stage
                .test_cluster
                .until("the save to arrive", PATIENCE, || Ok(stage.engine.docker().args(test.clone()).succeeds()))
        };
        std::fs::write(&place, "")?;
        wait_until("-f")?;
        std::fs::remove_file(&place)?;
        std::fs::create_dir(&place)?;
        std::fs::write(place.join("file"), "")?;
        wait_until("-d")?;
        std::fs::remove_dir_all(&place)?;
        std::fs::write(&place, "")?;
        wait_until("-f")?;
        std::fs::remove_file(&place)?;
    }
    let serves =
        || Ok(stage.http("GET", "/api/v1/health", None)?.0 == 200 && stage.http("GET", "/sign-in", None)?.0 == 200);
    stage.test_cluster.until("both to serve", PATIENCE, serves)
}

fn tests(stage: &Stage) -> Result<()> {
    let path = "apps/frontend/tests/sse.test.ts";
    let mut tests = Deploy::start_command(&stage.test_cluster, &["dev", "test", path])?;
    ensure!(tests.wait_for("passed")? && tests.wait_for("the next save runs them again")?, "{}", tests.output()?);
    let before = stage.replace(path, "expect(", "expect(1).toBe(2); expect(")?;
    ensure!(tests.wait_for("tests/sse.test.ts changed")? && tests.wait_for("failed")?, "{}", tests.output()?);
    stage.save(path, &before)?;
    tests.signal(Signal::INT)?;
    let (code, output) = tests.end()?;
    ensure!(code == Some(130), "exit code {code:?}:\n{output}");
    let mut tests =
        Deploy::start_command(&stage.test_cluster, &["dev", "test", "apps/frontend/e2e/plain-forms.spec.ts"])?;
    let passed = tests.wait_for("passed, 0 failed")?;
    ensure!(passed && tests.wait_for("the next save runs them again")?, "{}", tests.output()?);
    tests.signal(Signal::INT)?;
    tests.end()?;
    ensure!(!stage.containers()?.iter().any(|name| name.ends_with("tests")), "a test container is left");
    Ok(())
}

fn killed(stage: &Stage) -> Result<()> {
    let dev = stage.running.lock().expect("one thread").take().context("`dev` does not run")?;
    dev.signal(Signal::KILL)?;
    dev.end()?;
    stage.test_cluster.until("the guardian to end the containers", GUARDIAN, || Ok(stage.containers()?.is_empty()))?;
    stage.start(&[], READY[1])?;
    let dev = stage.running.lock().expect("one thread").take().context("`dev` does not run")?;
    let processes = with_children(dev.pid())?;
    ensure!(processes.len() > 4, "{processes:?}");
    for process in processes {
        // Kills the parent first, then guardian and clients, which could remove the containers.
        let _ = kill_process(process, Signal::KILL);
    }
    dev.end()?;
    stage.start(&["--debug", "backend,frontend"], READY[0])?;
    ensure!(stage.output()?.contains("containers that a killed `dev` left"), "the removal is not reported");
    ensure!(stage.containers()?.len() == 4, "{:?}", stage.containers()?);
    Ok(())
}

/// The breakpoint of debugpy: file and line of the health endpoint's answer.
const STOP: (&str, &str) = ("apps/backend/app/health/endpoints.py", "    return Health(");
/// Script for the container: pauses the server at its next statement by Chrome's DevTools protocol, and resumes it.
const INSPECT: &str = r#"
const [target] = await (await fetch("http://127.0.0.1:9229/json/list")).json();
const socket = new WebSocket(target.webSocketDebuggerUrl);
await new Promise((resolve) => socket.addEventListener("open", resolve));
const paused = new Promise((resolve) => socket.addEventListener("message", ({ data }) => {
  if (JSON.parse(data).method === "Debugger.paused") resolve();
}));
["enable", "pause"].forEach((method, id) => socket.send(JSON.stringify({ id, method: `Debugger.${method}` })));
const answer = fetch("http://127.0.0.1:3000/sign-in");
await paused;
socket.send(JSON.stringify({ id: 2, method: "Debugger.resume" }));
socket.close();
console.log("stopped, then", (await answer).status);
process.exit();
"#;

fn debuggers(stage: &Stage) -> Result<()> {
    let text = std::fs::read_to_string(stage.file(STOP.0))?;
    let line = text.lines().position(|line| line.starts_with(STOP.1)).context("health has no answer")? + 1;
    let mut debugpy = Debugpy::connect()?;
    debugpy.request("initialize", json!({"adapterID": "test"}))?;
    debugpy.request("attach", json!({"justMyCode": true}))?;
    debugpy.wait_for("initialized")?;
    let path = STOP.0.replace("apps/backend", "/srv");
    debugpy.request("setBreakpoints", json!({"source": {"path": path}, "breakpoints": [{"line": line}]}))?;
    debugpy.request("configurationDone", json!({"restart": false}))?;
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| stage.http("GET", "/api/v1/health", None));
        let stopped = debugpy.wait_for("stopped")?;
        ensure!(stopped["body"]["reason"] == "breakpoint", "{stopped}");
        debugpy.request("disconnect", json!({"restart": false}))?;
        let (status, ..) = answer.join().map_err(|_| anyhow!("the request panicked"))??;
        ensure!(status == 200, "health answers {status}");
        Ok(())
    })?;
    let inspect = ["exec", &stage.container("frontend")?, "node", "--input-type=module", "--eval", INSPECT];
    let output = stage.engine.docker().args(inspect).deadline(PATIENCE).read()?;
    ensure!(output.contains("stopped, then 200"), "{output}");
    Ok(())
}

/// A client of debugpy: the Debug Adapter Protocol.
struct Debugpy {
    stream: BufReader<TcpStream>,
    number: usize,
}

impl Debugpy {
    fn connect() -> Result<Self> {
        let stream = TcpStream::connect("127.0.0.1:5678").context("debugpy does not answer")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream), number: 0 })
    }

    fn request(&mut self, command: &str, arguments: Value) -> Result<()> {
        self.number += 1;
        let message = json!({"seq": self.number, "type": "request", "command": command, "arguments": arguments});
        let message = message.to_string();
        self.stream.get_mut().write_all(format!("Content-Length: {}\r\n\r\n{message}", message.len()).as_bytes())?;
        Ok(())
    }

    /// Waits for the next `event`.
    fn wait_for(&mut self, event: &str) -> Result<Value> {
        loop {
            let mut length = 0;
            loop {
                let mut line = String::new();
                self.stream.read_line(&mut line).with_context(|| format!("waiting for debugpy's event {event}"))?;
                match line.trim() {
                    "" => break,
                    header => length = header.trim_start_matches("Content-Length: ").parse().unwrap_or(length),
                }
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body)?;
            let message: Value = serde_json::from_slice(&body).context("debugpy did not send JSON")?;
            if message["event"] == event {
                return Ok(message);
            }
            ensure!(message["success"] != false, "{message}");
        }
    }
}

/// Returns the process and its children.
fn with_children(pid: u32) -> Result<Vec<Pid>> {
    let list = xtask::process::Process::new("ps").args(["-A", "-o", "pid=,ppid="]).read()?;
    let mut found = vec![pid];
    for line in list.lines() {
        let mut numbers = line.split_whitespace().filter_map(|word| word.parse::<u32>().ok());
        if let (Some(child), Some(parent)) = (numbers.next(), numbers.next())
            && parent == pid
        {
            found.push(child);
        }
    }
    Ok(found.into_iter().filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).collect())
}

fn teardown(stage: &Stage) -> Result<()> {
    stage.test_cluster.xtask(&["teardown", "--data"])?.expect(10, &["another xtask is at work on `dev-"])?;
    stage.stop()?;
    stage.test_cluster.xtask(&["teardown"])?.expect(0, &["stays: the todos of `cargo xtask dev` (volume todo-dev-"])?;
    stage.test_cluster.xtask(&["teardown", "--data"])?.expect(0, &["delete the todos of `cargo xtask dev`"])?;
    for (noun, format) in [("container", "{{.Names}}"), ("volume", "{{.Name}}"), ("network", "{{.Name}}")] {
        let left = stage.objects(noun, format)?;
        ensure!(left.is_empty(), "{noun}: {left:?}");
    }
    Ok(())
}
