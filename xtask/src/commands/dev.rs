//! `cargo xtask dev`: serves both applications behind one port and reloads them after each save, without a cluster.

mod image;
mod service;
mod sources;
mod stack;
mod testing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use anstyle::{AnsiColor, Style};
use anyhow::{Result, anyhow};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::credentials::{self, Credentials};
use crate::deadlines;
use crate::dotenv::{Contract, DotenvSource};
use crate::failure::{Class, Failure};
use crate::files;
use crate::inventory::readable;
use crate::origin::Requirement;
use crate::plan::{self, Mode};
use crate::private;
use crate::process;
use crate::project::Project;
use crate::report::{BAD, DIM, GOOD, Report, seconds};
use crate::secrets::Secret;
use crate::settings::{ImageSettings, Keys, Settings};
use crate::stages::machine;
use crate::stages::proof::http;
use crate::stages::release::secret_manifest;
use crate::toolchain::Toolchain;
use service::{Number, Service};
use sources::{ExtraSources, Part, Sources};
use stack::Stack;
pub use stack::{loss, part_of, stored_todos, tear_down};
pub use testing::{browser_reference, build_browser};

/// The stage's name in reports.
const STAGE: &str = "dev";
/// The first character of a line that the supervisor itself prints.
const MARK: char = '\x1e';

/// Serve both applications behind one port, with reload on each save; no cluster
#[derive(Args, Debug, Clone)]
pub struct Dev {
    /// Answer assistant requests from a scripted server; no API key needed
    #[arg(long)]
    pub fake_assistant: bool,
    /// Create an account with N todos
    #[arg(long, value_name = "N")]
    pub seed: Option<u32>,
    /// Open a debugger port on loopback: debugpy at 5678, the Node inspector at 9229
    #[arg(long, value_name = "APP", value_delimiter = ',')]
    pub debug: Vec<App>,
    /// Do this instead of serving.
    #[command(subcommand)]
    pub command: Option<DevCommand>,
}

/// The subcommands of `dev`.
#[derive(Subcommand, Debug, Clone)]
pub enum DevCommand {
    /// Run the applications' tests now and after each save, with or without a running `dev`
    Test {
        /// Test file or folder, e.g. apps/backend/tests/test_todos.py
        path: Option<String>,
    },
}

/// An application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum App {
    /// FastAPI.
    Backend,
    /// Next.js.
    Frontend,
}

const APPS: [App; 2] = [App::Backend, App::Frontend];

impl App {
    fn name(self) -> &'static str {
        if self == Self::Backend { "backend" } else { "frontend" }
    }

    /// Returns name and settings of its image.
    fn image(self, settings: &Settings) -> (&String, &ImageSettings) {
        let components = &settings.components;
        settings.image_of(if self == Self::Backend { &components.backend } else { &components.frontend })
    }

    fn debug_port(self) -> u16 {
        if self == Self::Backend { 5678 } else { 9229 }
    }

    /// Returns its folder in the checkout `root`.
    fn folder(self, settings: &Settings, root: &Utf8Path) -> Utf8PathBuf {
        root.join(&self.image(settings).1.context)
    }
}

impl Dev {
    fn extra_sources(&self) -> ExtraSources {
        if self.fake_assistant { ExtraSources::Assistant } else { ExtraSources::Nothing }
    }
}

/// An event while `dev` runs.
enum Event {
    /// A container printed a line.
    Line(&'static str, String),
    /// A container exited; the error says why.
    Ended(&'static str, Number, Option<anyhow::Error>),
    /// The user saved files.
    Saved(Sources),
    /// Both applications answered for the first time.
    Answered,
}

/// Serves both applications, or runs their tests, until the user interrupts.
pub fn run(project: &Project, args: &Dev) -> Result<()> {
    if let Some(DevCommand::Test { path }) = &args.command {
        return testing::run(project, path.as_deref());
    }
    let began = Instant::now();
    let (settings, environment) = (&project.settings, &project.settings.dev.environment);
    crate::cache::claim(&project.cache)?;
    let _lock = stack::lock(&project.cache, &project.root, "")?;
    let contract = Contract::read(settings, &project.root, environment)?;
    let credentials = credentials::read(&project.dotenv, settings, &project.report, environment)?.ensure(
        &project.dotenv,
        environment,
        Mode::Apply,
    )?;
    let mut contract = Contract { embedded: credentials.embedded, ..contract };
    if args.fake_assistant {
        let Settings { application, dev, .. } = settings;
        let names = dev.variables.iter().filter(|(_, path)| **path == application.assistant_url);
        contract.variables.extend(names.map(|(name, _)| (name.clone(), dev.assistant.url.clone())));
    }
    consent_to_migrate(settings, &project.target(), &project.report, project.options.yes, &credentials)?;
    let toolchain = project.bring_tools(Mode::Apply, &requirements(settings, contract.embedded))?;
    let mut session = Session::new(settings, &project.dotenv, args, &toolchain, &contract, credentials);
    session.start()?;
    session.serve(began)
}

/// Returns the requirements of `dev`. `embedded`: it runs its own Postgres.
pub fn requirements(settings: &Settings, embedded: bool) -> Vec<Requirement> {
    let mut requirements: Vec<Requirement> = settings.bases().cloned().map(Requirement::Image).collect();
    requirements.push(Requirement::Image(settings.cluster.ingress_image.clone()));
    requirements.extend(embedded.then(|| Requirement::Image(settings.database.image.clone())));
    requirements
}

/// Asks before it migrates an external database for the first time. Stores the consent as a digest, which reveals nothing
/// of the URL; it is valid until the URL or AUTH_SECRET changes.
fn consent_to_migrate(
    settings: &Settings,
    target: &Utf8Path,
    report: &Report,
    yes: bool,
    credentials: &Credentials,
) -> Result<()> {
    if credentials.embedded {
        return Ok(());
    }
    let file = target.join("dev-database");
    let digest = database_digest(settings, credentials)?;
    if files::read(&file)?.as_deref() != Some(digest.as_str()) {
        let loss = format!("migrate the database at {}, now and whenever you save a migration", credentials.database);
        machine::consent_to(
            report,
            yes,
            &[loss],
            &format!("without {} in .env, `cargo xtask dev` uses a Postgres of its own", settings.keys.postgres_url),
        )?;
        private::create_dir(target)?;
        private::write(&file, &digest)?;
    }
    report.note(format!("database: {}, which `dev` migrates", credentials.database));
    Ok(())
}

fn database_digest(settings: &Settings, credentials: &Credentials) -> Result<String> {
    let keys = &settings.keys;
    let pairs = credentials.values().filter(|(key, _)| *key == keys.random || keys.is_postgres_url(key));
    secret_manifest::digest(settings, &pairs.map(|(key, value)| (key, value.expose())).collect::<Vec<_>>())
}

/// Returns whether the database URLs differ. Other values do not count.
fn names_other_database<'a>(
    keys: &Keys,
    now: impl Iterator<Item = (&'a str, &'a Secret)>,
    before: impl Iterator<Item = (&'a str, &'a Secret)>,
) -> bool {
    let is_database_url = |(key, _): &(&str, &Secret)| keys.is_postgres_url(key);
    let exposed = |(key, value): (&'a str, &'a Secret)| (key, value.expose());
    now.filter(is_database_url).map(exposed).ne(before.filter(is_database_url).map(exposed))
}

/// Reports on interrupt whether containers may still run. `running` counts those whose removal is not confirmed.
fn report_on_interrupt(report: &Report, running: &Arc<AtomicUsize>, stays: String) {
    let (reporter, running) = (report.clone(), running.clone());
    report.on_interrupt(move || match running.load(Ordering::SeqCst) {
        0 => reporter.line(format!("\nstopped, and removed all containers{stays}")),
        left => reporter.line(format!(
            "\nstopped; {left} containers may still run: the next `cargo xtask dev` or `cargo xtask teardown` removes them"
        )),
    });
}

/// A run of `dev`.
struct Session<'a> {
    settings: &'a Settings,
    dotenv: &'a DotenvSource,
    args: &'a Dev,
    toolchain: &'a Toolchain,
    contract: &'a Contract,
    credentials: Credentials,
    stack: Stack,
    address: String,
    sources: Sources,
    services: BTreeMap<&'static str, Service>,
    /// Number of containers whose removal is not confirmed.
    running: Arc<AtomicUsize>,
    /// The last save of each application.
    saved: BTreeMap<&'static str, Instant>,
    send: Sender<Event>,
    events: Receiver<Event>,
}

impl<'a> Session<'a> {
    fn new(
        settings: &'a Settings,
        dotenv: &'a DotenvSource,
        args: &'a Dev,
        toolchain: &'a Toolchain,
        contract: &'a Contract,
        credentials: Credentials,
    ) -> Self {
        let (send, events) = channel();
        let stack = Stack::new(&settings.chart.release, &dotenv.root, &toolchain.tools.engine);
        let address = format!("http://localhost:{}", settings.dev.port);
        let (services, saved, sources, running) = Default::default();
        Self {
            settings,
            dotenv,
            args,
            toolchain,
            contract,
            credentials,
            stack,
            address,
            sources,
            services,
            running,
            saved,
            send,
            events,
        }
    }

    /// Starts all containers and sends the sources to them.
    fn start(&mut self) -> Result<()> {
        let report = &self.toolchain.tools.report;
        stack::mark(&self.toolchain.tools.cache, &self.dotenv.root)?;
        let left = self.stack.prepare()?;
        if left > 0 {
            report.note(format!("removed {left} containers that a killed `dev` left"));
        }
        let port = self.settings.dev.port;
        self.stack
            .check_port(port, &format!("take another port: cargo xtask dev --port {}", port.saturating_add(1)))?;
        for app in &self.args.debug {
            self.stack.check_port(app.debug_port(), "leave out the debugger: cargo xtask dev")?;
        }
        let sources = Sources::read(self.settings, self.dotenv, self.args.extra_sources())?;
        let mut images = Vec::new();
        let mut steps = Vec::new();
        for app in APPS {
            let target = self.target(app);
            let image = image::observe(self.settings, self.toolchain, app, target, &sources.apps[&app])?;
            images.push((app, image.reference.clone()));
            steps.extend(image::decide(self.settings, self.toolchain, app, image));
        }
        plan::apply_side_by_side(report, STAGE, Mode::Apply, steps)?;
        let kept = self.stack.name(stack::DATA);
        let stays =
            if self.contract.embedded { format!("; the todos stay in the volume {kept}") } else { String::new() };
        report_on_interrupt(report, &self.running, stays);
        if self.contract.embedded {
            self.run_part("postgres", &self.stack.postgres(self.settings, self.toolchain))?;
        }
        for (app, image) in images {
            self.run_app(app, &image, &sources)?;
        }
        self.sources = sources;
        let proxy = self.stack.proxy(self.settings, self.toolchain)?;
        self.run_part("proxy", &proxy)
    }

    fn target(&self, app: App) -> &'static str {
        if app == App::Backend && self.args.debug.contains(&app) { "dev-debug" } else { "dev" }
    }

    fn run_part(&mut self, part: &'static str, process: &process::Process) -> Result<()> {
        self.toolchain.tools.report.command(process);
        self.services.insert(part, Service::start(part, process, &self.send, &self.running)?);
        Ok(())
    }

    /// Runs `app` and sends it all of `sources`.
    fn run_app(&mut self, app: App, image: &str, sources: &Sources) -> Result<()> {
        self.saved.insert(app.name(), Instant::now());
        let run = self.stack.application(app, image, self.settings, self.contract, self.args);
        self.run_part(app.name(), &run)?;
        let mut message = sources.message(&app.folder(self.settings, &self.dotenv.root), None, app)?;
        if let (App::Backend, Some(message)) = (app, &mut message) {
            message["secrets"] = self.secrets();
        }
        self.send_to(app, message);
        Ok(())
    }

    fn send_to(&mut self, app: App, message: Option<Value>) {
        if let (Some(message), Some(service)) = (message, self.services.get_mut(app.name())) {
            service.send(&message);
        }
    }

    /// Returns the backend's secrets by name. The supervisor writes them to files, as in a pod.
    fn secrets(&self) -> Value {
        let keys = &self.contract.kinds;
        let embedded = (keys.postgres_url.as_str(), stack::database_url(&self.settings.database.name));
        let scripted = (keys.openai_key.as_str(), Secret::new("not-a-secret-of-the-scripted-assistant"));
        let own = self.contract.embedded.then_some(embedded).into_iter();
        let own: Vec<_> = own.chain(self.args.fake_assistant.then_some(scripted)).collect();
        let values = self.credentials.values().chain(own.iter().map(|(key, value)| (*key, value)));
        values.map(|(key, value)| (key.to_owned(), Value::from(value.expose()))).collect()
    }

    /// Prints events and delivers saved sources, until the user interrupts.
    fn serve(mut self, began: Instant) -> Result<()> {
        let (settings, dotenv) = (self.settings.clone(), self.dotenv.clone());
        let (report, extra) = (self.toolchain.tools.report.clone(), self.args.extra_sources());
        let (before, send) = (self.sources.clone(), self.send.clone());
        std::thread::spawn(move || sources::watch(&settings, &dotenv, &report, before, extra, &send));
        let (address, send) = (self.address.clone(), self.send.clone());
        let paths = APPS.map(|app| app.image(self.settings).1.ready.clone());
        std::thread::spawn(move || {
            // Requesting the page also makes the frontend compile it.
            for path in &paths {
                while !http::get(&address, "", path).is_ok_and(|answer| answer.status == 200) {
                    std::thread::sleep(deadlines::DEV_POLL.time());
                }
            }
            let _ = send.send(Event::Answered);
        });
        while let Ok(event) = self.events.recv() {
            if process::ending() {
                break;
            }
            match event {
                Event::Line(part, line) => self.print(part, &line),
                Event::Answered => self.answered(began),
                Event::Saved(now) => self.save(&now),
                Event::Ended(part, number, error)
                    if self.services.get(part).is_some_and(|part| part.has_number(number)) =>
                {
                    return Err(self.ended(part, error));
                }
                // A save replaced this container.
                Event::Ended(..) => {}
            }
        }
        Ok(())
    }

    fn answered(&self, began: Instant) {
        let report = &self.toolchain.tools.report;
        report.ok(format!("{}/ {DIM}ready in {}{DIM:#}", self.address, seconds(began.elapsed())));
        for app in &self.args.debug {
            report.note(format!("debugger of the {}: 127.0.0.1:{}", app.name(), app.debug_port()));
        }
        if let Some(count) = self.args.seed {
            match self.stack.seed(&self.settings.dev.seed, count).read() {
                Ok(seed) => report.ok(seed.trim()),
                Err(error) => report.error(&error),
            }
        }
    }

    /// Returns the error that ends `dev` after a container exited without being replaced.
    fn ended(&self, part: &str, error: Option<anyhow::Error>) -> anyhow::Error {
        let error = error.unwrap_or_else(|| anyhow!("it was stopped"));
        Failure::new(Class::Machine, format!("the container {} exited", self.stack.name(part)))
            .because(error)
            .help("see what it printed: cargo xtask dev --verbose")
            .into()
    }

    fn save(&mut self, now: &Sources) {
        let saved = Instant::now();
        let mut delivered = std::mem::take(&mut self.sources);
        let errors = delivered.advance(now, |before, part| match part {
            Part::App(app) => self.deliver(app, before, now, saved),
            Part::Secrets => self.deliver_secrets(saved),
        });
        self.sources = delivered;
        errors.iter().for_each(|error| self.toolchain.tools.report.error(error));
    }

    /// Updates the container of `app` from `before` to `now`.
    fn deliver(&mut self, app: App, before: &Sources, now: &Sources, saved: Instant) -> Result<()> {
        let Some(difference) = now.difference(before, app) else { return Ok(()) };
        self.saved.insert(app.name(), saved);
        self.print(app.name(), &format!("{DIM}{difference}{DIM:#}"));
        // The container is missing if an earlier save stopped it and could not start the next one.
        if !now.has_other_image(before, app) && self.services.contains_key(app.name()) {
            let message = now.message(&app.folder(self.settings, &self.dotenv.root), Some(before), app)?;
            self.send_to(app, message);
            return Ok(());
        }
        let image = image::observe(self.settings, self.toolchain, app, self.target(app), &now.apps[&app])?;
        let reference = image.reference.clone();
        let step = image::decide(self.settings, self.toolchain, app, image);
        plan::apply(&self.toolchain.tools.report, STAGE, Mode::Apply, step.into_iter().collect())?;
        if let Some(service) = self.services.remove(app.name()) {
            service.end();
        }
        self.run_app(app, &reference, now)
    }

    fn deliver_secrets(&mut self, saved: Instant) -> Result<()> {
        let report = &self.toolchain.tools.report;
        let changed = credentials::read(self.dotenv, self.settings, report, &self.contract.environment)?;
        let is_embedded = changed.embedded && self.credentials.embedded;
        if !is_embedded && names_other_database(&self.contract.kinds, changed.values(), self.credentials.values()) {
            report.warn("`.env` names another database. Restart `cargo xtask dev` to use it.");
            return Ok(());
        }
        self.print(App::Backend.name(), &format!("{DIM}.env changed{DIM:#}"));
        self.saved.insert(App::Backend.name(), saved);
        self.credentials = changed;
        let secrets = self.secrets();
        self.send_to(App::Backend, Some(json!({ "secrets": secrets })));
        Ok(())
    }

    fn print(&self, part: &'static str, line: &str) {
        let event = line.strip_prefix(MARK).and_then(|event| serde_json::from_str::<Value>(event).ok());
        let text = event.map_or(line.to_owned(), |event| self.describe(part, &event));
        print_line(&self.toolchain.tools.report, &self.settings.dev.quiet, part, &text);
    }

    /// Returns the text for an event of a supervisor.
    fn describe(&self, part: &str, event: &Value) -> String {
        let since = self.saved.get(part).map_or(String::new(), |saved| seconds(saved.elapsed()));
        match event["event"].as_str() {
            Some("ready") => format!("{GOOD}serves{GOOD:#} {DIM}{since}{DIM:#}"),
            Some("crashed") => format!(
                "{BAD}exited{BAD:#} (exit code {}): its last lines are above; the next save starts it again",
                event["code"]
            ),
            _ => event.to_string(),
        }
    }
}

/// Prints a line of a container with its name in its colour, unless it is one of the log messages `quiet`.
fn print_line(report: &Report, quiet: &[String], part: &'static str, line: &str) {
    let colour = match part {
        "proxy" | "postgres" if !report.is_verbose() => return,
        _ if part.starts_with(App::Backend.name()) => AnsiColor::Cyan,
        _ if part.starts_with(App::Frontend.name()) => AnsiColor::Magenta,
        _ => AnsiColor::Blue,
    };
    let text = if report.is_verbose() { Some(readable("", line)) } else { shorten(line, quiet) };
    if let Some(text) = text.filter(|text| !text.trim().is_empty()) {
        let colour = Style::new().fg_color(Some(colour.into()));
        report.line(format!("{colour}{part:<8}{colour:#} {text}"));
    }
}

/// Returns a log line in short form: `None` for the messages `quiet` of level info; of a request only its summary and
/// duration.
fn shorten(line: &str, quiet: &[String]) -> Option<String> {
    // These addresses of Next.js are valid only inside the container.
    if line.starts_with("- Local:") || line.starts_with("- Network:") {
        return None;
    }
    let Ok(Value::Object(mut entry)) = serde_json::from_str(line) else { return Some(line.to_owned()) };
    let message = entry.get("message").and_then(Value::as_str).unwrap_or_default();
    if entry.get("level").is_some_and(|level| level == "info") && quiet.iter().any(|text| text == message) {
        return None;
    }
    if ["method", "path", "status"].iter().all(|name| entry.contains_key(*name)) {
        ["request_id", "method", "path", "status", "client"].iter().for_each(|name| drop(entry.remove(*name)));
    }
    entry.remove("logger");
    Some(readable("", &Value::Object(entry).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dotenv::tests::{AUTH_SECRET, DATABASE_URL, keys};

    #[test]
    fn only_a_changed_url_names_another_database() {
        let values = |url: &str, secret: &str| {
            [(AUTH_SECRET, secret), (DATABASE_URL, url)].map(|(key, value)| (key, Secret::new(value)))
        };
        let differs = |now: &[(&str, Secret)], before: &[(&str, Secret)]| {
            names_other_database(
                &keys(),
                now.iter().map(|(key, value)| (*key, value)),
                before.iter().map(|(key, value)| (*key, value)),
            )
        };
        let before = values("postgresql://db.test/x", "not-a-secret-1");
        assert!(!differs(&values("postgresql://db.test/x", "not-a-secret-2"), &before));
        assert!(differs(&values("postgresql://db.test/y", "not-a-secret-1"), &before));
        assert!(differs(&before[..1], &before));
    }

    #[test]
    fn omits_start_messages_and_shortens_requests() {
        let quiet = ["starting".to_owned()];
        let line = |text: &str| shorten(text, &quiet).map(|text| anstream::adapter::strip_str(&text).to_string());
        assert_eq!(line(r#"{"level": "info", "logger": "app", "message": "starting"}"#), None);
        assert_eq!(line(r#"{"level": "warning", "message": "starting"}"#).unwrap(), "WARNING starting");
        let access = r#"{"level": "info", "logger": "app.access", "message": "GET /api/v1/todos 200",
                         "method": "GET", "path": "/", "status": 200, "duration_ms": 2.9}"#;
        assert_eq!(line(access).unwrap(), "INFO    GET /api/v1/todos 200 duration_ms=2.9");
        assert_eq!(line("- Local:         http://localhost:3000"), None);
        assert_eq!(line("Traceback:").unwrap(), "Traceback:");
    }
}
