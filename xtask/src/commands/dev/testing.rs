//! `dev test [PATH]`: the tests of what was saved, each time in a new container of the application's `test` target. It gets
//! the sources through standard input, so an image is built only for other dependencies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

use anyhow::Result;

use super::service::Service;
use super::sources::{self, More, Part, Sources};
use super::stack::{self, Stack};
use super::{APPS, App, Event, STAGE, image, print, tell_end};
use crate::failure::{Class, Failure};
use crate::origin::Need;
use crate::plan::{self, Mode};
use crate::process;
use crate::project::Project;
use crate::report::{BAD, DIM, GOOD, seconds};
use crate::world::World;

/// The build target.
pub const TARGET: &str = "test";

impl App {
    fn tests(self) -> &'static str {
        if self == Self::Backend { "backend tests" } else { "frontend tests" }
    }

    /// Unpacks the sources and runs the tests at `$0`. Those of the built server are left out: nothing is built here.
    fn script(self) -> &'static str {
        match self {
            // Not every base image of Python has tar.
            Self::Backend => {
                "exec 2>&1; mkdir /tmp/src && cd /tmp/src && \
                 python3 -c 'import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode=\"r|\").extractall(filter=\"data\")' && \
                 exec python3 -m pytest ${0:--n 2}"
            }
            Self::Frontend => {
                "exec 2>&1; mkdir /tmp/src && cd /tmp/src && tar -x && ln -s /app/node_modules /app/next-env.d.ts . && \
                 exec node node_modules/vitest/vitest.mjs run --configLoader=native --exclude 'tests/{built,server}.test.ts' $0"
            }
        }
    }
}

/// Runs the tests at `path`, or all, now and after each save, until the user interrupts.
pub fn run(project: &Project, path: Option<&str>) -> Result<()> {
    let chosen: Vec<(App, String)> = match path {
        None => APPS.map(|app| (app, String::new())).into(),
        Some(path) => vec![choose(project, path)?],
    };
    crate::cache::claim(&project.cache)?;
    let _lock = stack::lock(project, "-test")?;
    let bases: Vec<Need> = project.settings.bases().cloned().map(Need::Image).collect();
    let world = World::bring(project, Mode::Apply, &bases)?;
    stack::mark(project)?;
    let stack = Stack::new(project, &world.tools.engine);
    let count = Arc::default();
    tell_end(&project.report, &count, String::new());
    let (send, events) = channel();
    let first = Sources::read(project, More::Tests)?;
    let (watched, before, saves) = (project.clone(), first.clone(), send.clone());
    std::thread::spawn(move || sources::watch(&watched, before, More::Tests, &saves));
    let mut running: BTreeMap<App, (Service, Instant)> = BTreeMap::new();
    let mut sources = Sources::default();
    let mut next = Some(first);
    loop {
        if let Some(now) = next.take() {
            let errors = sources.advance(&now, |before, part| {
                let Part::App(app) = part else { return Ok(()) };
                let Some((_, path)) = chosen.iter().find(|(chosen, _)| *chosen == app) else { return Ok(()) };
                let Some(difference) = now.difference(before, app) else { return Ok(()) };
                if before.apps.contains_key(&app) {
                    print(&project.report, app.tests(), &format!("{DIM}{difference}{DIM:#}"));
                }
                // The end of this container is no verdict.
                let replaced = running.remove(&app);
                stack.end(app.tests())?;
                if let Some((service, _)) = replaced {
                    service.end();
                }
                let (image, step) = image::decide(project, &world, app, TARGET, &now.apps[&app])?;
                plan::apply(project, STAGE, Mode::Apply, step.into_iter().collect())?;
                let packed = now.pack(project, app)?;
                let process = stack.tests(app.tests(), &image).args(["sh", "-c", app.script(), path]);
                let mut service = Service::start(app.tests(), &process, &send, &count)?;
                service.send_all(&packed);
                running.insert(app, (service, Instant::now()));
                Ok(())
            });
            if process::ending() {
                return Ok(());
            }
            errors.iter().for_each(|error| project.report.error(error));
        }
        let event = events.recv()?;
        if process::ending() {
            return Ok(());
        }
        match event {
            Event::Saved(now) => next = Some(now),
            Event::Line(part, line) => print(&project.report, part, &line),
            Event::Ended(part, number, error) => {
                let app = if part == App::Backend.tests() { App::Backend } else { App::Frontend };
                let Some((_, began)) = running.get(&app).filter(|(service, _)| service.is(number)) else { continue };
                let took = seconds(began.elapsed());
                running.remove(&app);
                // With 125 docker itself ends, and says why.
                if let Some(error) = error.as_ref().filter(|error| error.to_string().contains("exit status: 125")) {
                    project.report.error(error);
                }
                let verdict =
                    if error.is_none() { format!("{GOOD}passed{GOOD:#}") } else { format!("{BAD}failed{BAD:#}") };
                print(&project.report, part, &format!("{verdict} {DIM}{took}; the next save runs them again{DIM:#}"));
            }
            Event::Answered => {}
        }
    }
}

/// The application that the tests at `path` belong to, and their path in it.
fn choose(project: &Project, path: &str) -> Result<(App, String)> {
    let inside = |app: App| {
        let context = &project.settings.images[app.image()].context;
        let rest = camino::Utf8Path::new(path).strip_prefix(context).ok()?;
        project.root.join(path).exists().then(|| (app, rest.to_string()))
    };
    APPS.into_iter().find_map(inside).ok_or_else(|| {
        Failure::new(Class::Config, format!("`{path}` is not a test file or folder of an application"))
            .help("name a file or folder by its path: cargo xtask dev test apps/backend/tests/test_todos.py")
            .into()
    })
}
