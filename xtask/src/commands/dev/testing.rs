//! `dev test [PATH]`: runs the tests after each save, in a new container. The tests of an application run in its `test`
//! target and read the sources from standard input, so only new dependencies need a build. The browser's tests use the
//! running `dev`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};

use super::service::Service;
use super::sources::{self, ExtraSources, Sources};
use super::stack::{self, Stack};
use super::{APPS, App, Event, STAGE, image, print_line, report_on_interrupt};
use crate::failure::{Class, Failure};
use crate::origin::Requirement;
use crate::plan::{self, Mode, Step};
use crate::process::{self, Process};
use crate::project::Project;
use crate::report::{BAD, DIM, GOOD, seconds};
use crate::settings::{ImageSettings, Settings};
use crate::stages::images::context;
use crate::toolchain::Toolchain;

/// The build target.
pub const TARGET: &str = "test";
/// The script in an application's folder that unpacks the sources from standard input and runs the tests at `$0`.
const TEST_SCRIPT: &str = "dev/test.sh";
/// The folder of the browser's tests in the frontend's.
pub const BROWSER: &str = "e2e";
/// Tests that run in one container.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Suite {
    Of(App),
    Browser,
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Self::Of(App::Backend) => "backend tests",
            Self::Of(App::Frontend) => "frontend tests",
            Self::Browser => "browser tests",
        }
    }

    fn folder(self, settings: &Settings) -> Utf8PathBuf {
        let context = |app: App| app.image(settings).1.context.clone();
        match self {
            Self::Of(app) => context(app),
            Self::Browser => context(App::Frontend).join(BROWSER),
        }
    }

    /// Returns whether these tests cover `app`.
    fn covers(self, app: App) -> bool {
        self == Self::Browser || self == Self::Of(app)
    }
}

/// Returns the reference of the image of the browser's tests.
pub fn browser_reference(settings: &Settings) -> String {
    format!("{}-browser:test", settings.chart.release)
}

/// Returns the step that builds the image of the browser's tests.
pub fn build_browser<'a>(settings: &'a Settings, toolchain: &'a Toolchain) -> Result<Step<'a>> {
    let (_, frontend) = App::Frontend.image(settings);
    let image = ImageSettings { context: frontend.context.join(BROWSER), ..frontend.clone() };
    let builder = toolchain.image_builder(&settings.images);
    let (_, tar) = context::pack(&builder.root.join(&image.context), &toolchain.tools.target)?;
    let command = builder.command(&builder.buildx_builder()?, &image, &browser_reference(settings));
    let shown = format!("{command} < (tar of {})", image.context);
    let name = format!("{}-browser", settings.chart.release);
    Ok(Step::new(format!("build {name}"), "the browser's tests", shown, move |running| {
        builder.run(command.stdin_file(Arc::new(tar)), &name, &image, running)?;
        Ok(String::new())
    }))
}

/// The inputs of every test run.
struct Runner<'a> {
    settings: &'a Settings,
    toolchain: &'a Toolchain,
    stack: Stack,
}

impl Runner<'_> {
    /// Builds the image of `suite` if needed. Returns the command that runs its tests at `path`, and its standard input.
    fn prepare(&self, suite: Suite, path: &str, sources: &Sources) -> Result<(Process, Vec<u8>)> {
        let Self { settings, toolchain, stack } = self;
        let report = &toolchain.tools.report;
        let Suite::Of(app) = suite else {
            let run = stack.browser_tests(suite.name(), &browser_reference(settings))?;
            plan::apply(report, STAGE, Mode::Apply, vec![build_browser(settings, toolchain)?])?;
            let path = (!path.is_empty()).then(|| path.to_owned());
            return Ok((run.args(["node_modules/.bin/playwright", "test"]).args(path), Vec::new()));
        };
        let image = image::observe(settings, toolchain, app, TARGET, &sources.apps[&app])?;
        let reference = image.reference.clone();
        let step = image::decide(settings, toolchain, app, image);
        plan::apply(report, STAGE, Mode::Apply, step.into_iter().collect())?;
        let folder = app.folder(settings, toolchain.image_builder(&settings.images).root);
        let script = folder.join(TEST_SCRIPT);
        let script = std::fs::read_to_string(&script).with_context(|| format!("reading {script}"))?;
        let run = stack.tests(suite.name(), &reference).args(["sh", "-c", &script, path]);
        Ok((run, sources.pack(&folder, app)?))
    }
}

/// Runs the tests at `path`, or those of both applications, now and after each save, until the user interrupts.
pub fn run(project: &Project, path: Option<&str>) -> Result<()> {
    let chosen: BTreeMap<Suite, String> = match path {
        None => APPS.map(|app| (Suite::Of(app), String::new())).into(),
        Some(path) => [suite_of(&project.settings, &project.root, path)?].into(),
    };
    let extra = if chosen.contains_key(&Suite::Browser) { ExtraSources::BrowserTests } else { ExtraSources::Tests };
    crate::cache::claim(&project.cache)?;
    let _lock = stack::lock(&project.cache, &project.root, "-test")?;
    let bases: Vec<Requirement> = project.settings.bases().cloned().map(Requirement::Image).collect();
    let toolchain = project.bring_tools(Mode::Apply, &bases)?;
    stack::mark(&project.cache, &project.root)?;
    let runner = Runner {
        settings: &project.settings,
        toolchain: &toolchain,
        stack: Stack::new(&project.settings.chart.release, &project.root, &toolchain.tools.engine),
    };
    let count = Arc::default();
    report_on_interrupt(&project.report, &count, String::new());
    let (send, events) = channel();
    let first = Sources::read(&project.settings, &project.dotenv, extra)?;
    let (settings, dotenv, writer) = (project.settings.clone(), project.dotenv.clone(), project.report.clone());
    let (before, saves) = (first.clone(), send.clone());
    std::thread::spawn(move || sources::watch(&settings, &dotenv, &writer, before, extra, &saves));
    let mut running: BTreeMap<Suite, (Service, Instant)> = BTreeMap::new();
    let mut sources = Sources::default();
    // The suites to run. A suite that fails to start stays here for the next save.
    let mut due = BTreeSet::new();
    let mut next = Some(first);
    loop {
        if let Some(now) = next.take() {
            for app in APPS {
                let Some(difference) = now.difference(&sources, app) else { continue };
                for suite in chosen.keys().copied().filter(|suite| suite.covers(app)) {
                    if sources.apps.contains_key(&app) {
                        print_line(
                            &project.report,
                            &project.settings.dev.quiet,
                            suite.name(),
                            &format!("{DIM}{difference}{DIM:#}"),
                        );
                    }
                    due.insert(suite);
                }
            }
            sources = now;
            for suite in due.clone() {
                let mut start = || {
                    // Removed first, so that the end of this container does not count as a result.
                    let replaced = running.remove(&suite);
                    runner.stack.end(suite.name())?;
                    if let Some((service, _)) = replaced {
                        service.end();
                    }
                    let (process, input) = runner.prepare(suite, &chosen[&suite], &sources)?;
                    let mut service = Service::start(suite.name(), &process, &send, &count)?;
                    service.send_all(&input);
                    running.insert(suite, (service, Instant::now()));
                    Ok::<_, anyhow::Error>(())
                };
                let result = start();
                if process::ending() {
                    return Ok(());
                }
                match result {
                    Ok(()) => drop(due.remove(&suite)),
                    Err(error) => project.report.error(&error),
                }
            }
        }
        let event = events.recv()?;
        if process::ending() {
            return Ok(());
        }
        match event {
            Event::Saved(now) => next = Some(now),
            Event::Line(part, line) => print_line(&project.report, &project.settings.dev.quiet, part, &line),
            Event::Ended(part, number, error) => {
                let ended = running.iter().find(|(_, (service, _))| service.has_number(number));
                let Some((&suite, (_, began))) = ended else { continue };
                let took = seconds(began.elapsed());
                running.remove(&suite);
                // Exit code 125 is an error of docker itself.
                if let Some(error) = error.as_ref().filter(|error| error.to_string().contains("exit status: 125")) {
                    project.report.error(error);
                }
                let verdict =
                    if error.is_none() { format!("{GOOD}passed{GOOD:#}") } else { format!("{BAD}failed{BAD:#}") };
                print_line(
                    &project.report,
                    &project.settings.dev.quiet,
                    part,
                    &format!("{verdict} {DIM}{took}; the next save runs them again{DIM:#}"),
                );
            }
            Event::Answered => {}
        }
    }
}

/// Returns the suite of the tests at `path`, and their path in its folder.
fn suite_of(settings: &Settings, root: &Utf8Path, path: &str) -> Result<(Suite, String)> {
    let inside = |suite: Suite| {
        let rest = Utf8Path::new(path).strip_prefix(suite.folder(settings)).ok()?;
        root.join(path).exists().then(|| (suite, rest.to_string()))
    };
    // First the browser: its tests are in a folder of the frontend.
    [Suite::Browser, Suite::Of(App::Backend), Suite::Of(App::Frontend)].into_iter().find_map(inside).ok_or_else(|| {
        Failure::new(Class::Config, format!("`{path}` is not a test file or folder of an application"))
            .help(format!(
                "name a file or folder by its path: cargo xtask dev test {}/tests",
                App::Backend.image(settings).1.context
            ))
            .into()
    })
}
