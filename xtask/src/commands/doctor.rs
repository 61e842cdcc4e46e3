//! `cargo xtask doctor`: shows every prerequisite with its version, a verdict and the fix.

mod archive;
mod bundle;

use anyhow::Result;
use camino::Utf8Path;
use clap::Args;
use serde_json::{Value, json};

use super::output;
use crate::clock;
use crate::engine::{Engine, EngineMachine};
use crate::failure::{self, Class, Failure, Hint};
use crate::files;
use crate::origin::{self, Origin, Tool, bases};
use crate::process::Process;
use crate::project::Project;
use crate::report::{BAD, BOLD, DIM, GOOD, WARN, bytes};
use crate::settings::Settings;
use crate::stages::cluster::{self, ProfileState};
use crate::stages::machine::{self, NodeSize};
use crate::toolbox::Toolbox;
use crate::wsl;

/// Free disk space below which a deploy may run out, in bytes.
const DISK: u64 = 5_000_000_000;

/// Check every prerequisite: version, verdict, fix
#[derive(Args, Debug, Default)]
pub struct Doctor {
    /// Also save versions, configuration, state, events and logs, without secrets, as one archive to send to somebody
    #[arg(long)]
    pub bundle: bool,
    /// Print one JSON document; its schema is in docs/schema
    #[arg(long, conflicts_with = "bundle")]
    pub json: bool,
}

/// The verdict on a prerequisite.
enum Verdict {
    Good,
    /// Missing, but the next deploy installs or creates it.
    Later,
    /// Its state cannot be determined.
    Unknown,
    /// Met, but the user should act.
    Warning(Vec<Hint>),
    Bad(Vec<Hint>),
}

impl Verdict {
    fn warning(fix: impl Into<Hint>) -> Self {
        Self::Warning(vec![fix.into()])
    }

    fn bad(fix: impl Into<Hint>) -> Self {
        Self::Bad(vec![fix.into()])
    }

    /// Returns its name in the JSON document, and the fixes.
    fn parts(&self) -> (&'static str, &[Hint]) {
        match self {
            Self::Good => ("good", &[]),
            Self::Later => ("later", &[]),
            Self::Unknown => ("unknown", &[]),
            Self::Warning(fixes) => ("warning", fixes),
            Self::Bad(fixes) => ("bad", fixes),
        }
    }
}

struct CheckRow {
    name: &'static str,
    found: String,
    verdict: Verdict,
}

fn row(name: &'static str, found: impl Into<String>, verdict: Verdict) -> CheckRow {
    CheckRow { name, found: found.into(), verdict }
}

/// Prints the checks on standard output, or adds them to the JSON document. With `--bundle`, the last line is the path of
/// the archive. Fails if a check is bad.
pub fn run(project: &Project, args: &Doctor) -> Result<()> {
    let rows = rows(project)?;
    if args.json {
        project.report.fact("checks", rows.iter().map(to_json).collect::<Value>());
    } else {
        for row in &rows {
            output::print(&project.report.shown(&line(row)))?;
        }
    }
    if args.bundle {
        let table: Vec<String> = rows.iter().map(|row| anstream::adapter::strip_str(&line(row)).to_string()).collect();
        let path = bundle::write(project, &table.join("\n"))?;
        project.report.ok("all files in it are redacted; check them before you send the archive");
        output::print(path.as_str())?;
    }
    let bad = rows.iter().filter(|row| matches!(row.verdict, Verdict::Bad(_))).count();
    if bad > 0 {
        return Err(Failure::new(Class::Machine, format!("{bad} prerequisites are not met"))
            .help("each line marked ✗ says how to fix it")
            .into());
    }
    Ok(())
}

fn line(CheckRow { name, found, verdict }: &CheckRow) -> String {
    let (mark, fix) = match verdict {
        Verdict::Good => (format!("{GOOD}✓{GOOD:#}"), String::new()),
        Verdict::Later => (format!("{WARN}·{WARN:#}"), "the next deploy installs or creates it".to_owned()),
        Verdict::Unknown => (format!("{WARN}?{WARN:#}"), String::new()),
        Verdict::Warning(fixes) => (format!("{WARN}!{WARN:#}"), join_hints(fixes)),
        Verdict::Bad(fixes) => (format!("{BAD}✗{BAD:#}"), join_hints(fixes)),
    };
    format!("{mark} {BOLD}{name:<14}{BOLD:#} {found}  {DIM}{fix}{DIM:#}")
}

fn join_hints(fixes: &[Hint]) -> String {
    fixes.iter().map(Hint::text).collect::<Vec<_>>().join("; ")
}

fn to_json(CheckRow { name, found, verdict }: &CheckRow) -> Value {
    let (verdict, fixes) = verdict.parts();
    let hints: Vec<Value> = fixes.iter().map(Hint::data).collect();
    json!({"name": name, "found": found, "verdict": verdict, "help": join_hints(fixes), "hints": hints})
}

fn rows(project: &Project) -> Result<Vec<CheckRow>> {
    let settings = &project.settings;
    let observed = machine::observe(&project.cache, &project.root)?;
    let mut rows = vec![
        row("machine", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH), Verdict::Good),
        disk(&observed),
        memory(settings.cluster.memory_mib << 20, observed.memory),
    ];
    rows.extend(wsl_row(&project.root, &wsl::kernel()));
    let engine = match observed.engine() {
        Ok(engine) => engine,
        Err(error) => {
            rows.push(bad_row("docker engine", &error));
            rows.push(port(settings.cluster.port, None));
            return Ok(rows);
        }
    };
    rows.push(match &engine {
        Some(engine) => version("docker engine", &engine.docker().args(["version", "--format", "{{.Server.Version}}"])),
        None => match machine::decide(
            &observed,
            NodeSize::wanted(&settings.cluster),
            project.log("debian"),
            project.ca_bundle(),
        ) {
            Ok(_) => row("docker engine", "not running", Verdict::Later),
            Err(error) => bad_row("docker engine", &error),
        },
    });
    let Some(engine) = engine else {
        rows.push(port(settings.cluster.port, None));
        return Ok(rows);
    };
    match engine.machine() {
        Ok(machine) => {
            rows.push(node(NodeSize::wanted(&settings.cluster), &machine));
            match machine::conditions(&engine, &machine) {
                Ok(conditions) => rows.extend(conditions.into_iter().map(|condition| match condition.fault {
                    Some(failure) => bad_row(condition.name, &failure.into()),
                    None => row(condition.name, condition.found, Verdict::Good),
                })),
                Err(error) => rows.push(bad_row("engine location", &error)),
            }
        }
        Err(error) => rows.push(bad_row(NODE, &error)),
    }
    let origins = project.origins();
    let origin = origin::select(&origins, &engine)?;
    rows.push(row("origin", origin.name(), Verdict::Good));
    rows.extend(base_images(settings, &engine, origin.as_ref()));
    let tools = Toolbox::new(settings, &origins, engine, origin.as_ref())?;
    let versions = [
        (Tool::Minikube, "minikube", Some(["version", "--short"])),
        // Only `tool kubectl` and a port-forward need it, so its version does not matter here.
        (Tool::Kubectl, "kubectl", None),
        (Tool::Helm, "helm", Some(["version", "--short"])),
    ];
    for (tool, name, args) in versions {
        let path = origin.tool(tool);
        rows.push(match args {
            _ if !files::exists(&path)? => row(name, "not installed yet", Verdict::Later),
            Some(args) => version(name, &Process::new(path.as_str()).args(args)),
            None => row(name, "installed, for `cargo xtask tool kubectl`", Verdict::Good),
        });
    }
    let profile = cluster::observe(&tools);
    rows.push(match &profile {
        Ok(profile) => match profile.state {
            cluster::ProfileState::Running => {
                row("cluster", format!("profile `{}` runs", tools.profile), Verdict::Good)
            }
            cluster::ProfileState::HalfDeleted(how) => {
                row("cluster", how, Verdict::bad("cargo xtask teardown --cluster"))
            }
            ref other => match cluster::refusal(&tools, profile) {
                Some(failure) => bad_row("cluster", &failure.into()),
                None => {
                    row("cluster", format!("profile `{}`: {other:?}", tools.profile).to_lowercase(), Verdict::Later)
                }
            },
        },
        Err(error) => bad_row("cluster", error),
    });
    rows.push(port(settings.cluster.port, profile.as_ref().ok()));
    Ok(rows)
}

/// Returns a row for each base image in the engine; the next deploy brings the others.
fn base_images(settings: &Settings, engine: &Engine, origin: &dyn Origin) -> Vec<CheckRow> {
    let found = match bases::observe(settings, engine, origin) {
        Ok(found) => found,
        Err(error) => return vec![bad_row("base images", &error)],
    };
    let now = clock::now();
    let rows = found.iter().filter(|base| base.id.is_some()).map(|base| {
        let verdict = match base.is_stale(now) {
            true => Verdict::warning("cargo xtask images --refresh"),
            false if base.days(now).is_none() => Verdict::Unknown,
            false => Verdict::Good,
        };
        row("base image", base.describe(now), verdict)
    });
    let rows: Vec<CheckRow> = rows.collect();
    if rows.is_empty() { vec![row("base images", "not installed yet", Verdict::Later)] } else { rows }
}

/// Returns a row about the location of the checkout `root` under WSL; `None` outside of WSL.
fn wsl_row(root: &Utf8Path, kernel: &str) -> Option<CheckRow> {
    wsl::is_wsl(kernel).then(|| match wsl::drive(root, kernel) {
        Some(drive) => {
            let fix = "clone into WSL's own file system (~): files on a drive have no modes, and builds take long";
            row("WSL", format!("the checkout is on a Windows drive, below {drive}"), Verdict::bad(fix))
        }
        None => row("WSL", "the checkout is in Linux' own file system", Verdict::Good),
    })
}

/// Returns a row with the port of `profile`, or of a new profile, which prefers `new`, and the program that holds it.
/// `profile` is `None` if it is unknown.
fn port(new: u16, profile: Option<&cluster::Profile>) -> CheckRow {
    let (state, published) = profile.map_or((None, None), |profile| (Some(&profile.state), profile.port));
    match (state, published) {
        (Some(ProfileState::Running | ProfileState::Paused), Some(port)) => {
            row("port", format!("{port}, published by the cluster"), Verdict::Good)
        }
        (Some(ProfileState::Stopped), Some(port)) => match machine::port_holder(port) {
            Some(holder) => {
                let fix = "end that program: the stopped cluster publishes this port";
                row("port", format!("{port} is held by {holder}"), Verdict::bad(fix))
            }
            None => row("port", format!("{port} is free for the stopped cluster"), Verdict::Good),
        },
        _ => {
            let port = new;
            match machine::port_holder(port) {
                Some(holder) => {
                    let fix = "a new cluster takes the next free port, or the one that --port names";
                    row("port", format!("{port} is held by {holder}"), Verdict::warning(fix))
                }
                None if profile.is_none() => row("port", format!("{port} is free"), Verdict::Good),
                None => row("port", format!("{port} is free for a new cluster"), Verdict::Good),
            }
        }
    }
}

fn disk(observed: &machine::ObservedMachine) -> CheckRow {
    let Some(disk) = observed.disk else { return row("disk", "unknown", Verdict::Unknown) };
    let verdict = match machine::check_room(observed, DISK, "engine, cluster and images") {
        Ok(()) => Verdict::Good,
        Err(failure) => Verdict::Bad(failure.ways_out().to_vec()),
    };
    row("disk", format!("{} free", bytes(disk.free)), verdict)
}

/// The name of the row about the size of the engine's machine.
const NODE: &str = "engine's size";

/// Returns a row that says whether a new node of the `wanted` size fits the engine's machine, which may be a virtual one.
fn node(wanted: NodeSize, machine: &EngineMachine) -> CheckRow {
    match machine::fit(wanted, machine) {
        Ok(size) => {
            let (cpus, has) = (machine.cpus, machine.memory >> 20);
            let node = format!("a new node gets {} and {} MiB", size.cpus, size.memory_mib);
            row(NODE, format!("{cpus} processors, {has} MiB; {node}"), Verdict::Good)
        }
        Err(failure) => bad_row(NODE, &failure.into()),
    }
}

/// Returns a bad row from `error`, with its hints as fixes.
fn bad_row(name: &'static str, error: &anyhow::Error) -> CheckRow {
    let fixes = error.downcast_ref::<Failure>().map(|failure| failure.ways_out().to_vec()).unwrap_or_default();
    row(name, failure::message(error), Verdict::Bad(fixes))
}

fn memory(needed: u64, memory: Option<machine::Memory>) -> CheckRow {
    let Some(machine::Memory { available, .. }) = memory else {
        return row("memory", format!("unknown; the cluster may take {}", bytes(needed)), Verdict::Unknown);
    };
    let found = format!("{} available, the cluster may take {}", bytes(available), bytes(needed));
    let verdict = if available < needed / 3 {
        Verdict::bad("end other programs, or lower cluster.memory_mib in infra/xtask.toml")
    } else {
        Verdict::Good
    };
    row("memory", found, verdict)
}

/// Returns a row with the first line of the output of a version command.
fn version(name: &'static str, process: &Process) -> CheckRow {
    match process.read() {
        Ok(text) => match text.lines().next().map(str::trim) {
            None | Some("") => row(name, "unknown", Verdict::Unknown),
            Some(line) => row(name, line, Verdict::Good),
        },
        Err(error) => {
            let what = error.to_string();
            let what = format!("does not run: {}", what.lines().next().unwrap_or_default());
            row(name, what, Verdict::bad(format!("see its output: {process}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_value_is_unknown_and_not_good() {
        let unread = to_json(&memory(6 << 30, None));
        assert_eq!(
            (&unread["found"], &unread["verdict"]),
            (&json!("unknown; the cluster may take 6.4 GB"), &json!("unknown"))
        );
        let (few, many) = (1 << 30, 4 << 30);
        for (available, verdict) in [(few, "bad"), (many, "good")] {
            let read = memory(6 << 30, Some(machine::Memory { total: 8 << 30, available }));
            assert_eq!(to_json(&read)["verdict"], verdict);
        }
        let silent = version("helm", &Process::new("true"));
        let broken = version("helm", &Process::new("false"));
        assert_eq!(
            (to_json(&silent)["verdict"].as_str(), to_json(&broken)["verdict"].as_str()),
            (Some("unknown"), Some("bad"))
        );
    }

    /// The kernel's version text is that of WSL 2, written after Microsoft's documentation.
    #[test]
    fn refuses_a_checkout_on_a_windows_drive() {
        let wsl = "Linux version 5.15.167.4-microsoft-standard-WSL2 (root@f9c826d3017f) (gcc 11.2.0)";
        let verdict = |root: &str, kernel: &str| wsl_row(Utf8Path::new(root), kernel).map(|row| row.verdict);
        assert!(
            matches!(verdict("/mnt/c/Users/me/todo", wsl), Some(Verdict::Bad(fix)) if join_hints(&fix).contains("clone into WSL"))
        );
        assert!(matches!(verdict("/home/me/todo", wsl), Some(Verdict::Good)));
        assert!(verdict("/mnt/c/Users/me/todo", "Linux version 6.1.0-27-amd64").is_none());
    }
}
