//! `cargo xtask record`: the README's animations of a real deploy and of a real failure with its cause.
//!
//! Both run in a copy of the checkout. The copy's `infra/xtask.toml` sets a separate profile and port, so the animations
//! show the commands exactly as they run.

mod svg;
mod terminal;

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use xtask::members::UNDER_TEST;
use xtask::process::{ALL, Process};
use xtask::project::Project;
use xtask::report::Report;
use xtask::{deadlines, git};

use terminal::{Recording, Terminal};

/// Distance of the port from the port that `deploy` prefers.
const PORT_OFFSET: u16 = 180;
/// The command of both recordings.
const DEPLOY: &str = "cargo xtask deploy dev";
/// A mistake that only shows when the new pods start.
const MISTAKE: &str = "echo 'import todo_metrics' >> apps/backend/app/main.py";

fn main() {
    xtask::program::main(|cli, report| run(&cli.open(report)?).map(|()| 0));
}

/// Makes both recordings and removes the cluster.
fn run(project: &Project) -> Result<()> {
    let checkout = RecordedCheckout::make(project)?;
    checkout.xtask(&["teardown", "--cluster", "--yes"])?;
    let recorded = checkout.record_both();
    let removed = checkout.xtask(&["teardown", "--cluster", "--yes"]);
    recorded.and(removed)
}

/// The copy of the checkout in which the recordings run.
struct RecordedCheckout<'a> {
    project: &'a Project,
    /// The copy of the checkout.
    root: Utf8PathBuf,
    kubeconfig: Utf8PathBuf,
    xtask: Utf8PathBuf,
}

impl<'a> RecordedCheckout<'a> {
    fn make(project: &'a Project) -> Result<Self> {
        let folder = project.target().join("record");
        let root = folder.join("todo");
        xtask::files::remove_folder(&root)?;
        for name in git::files(&project.root, &[])? {
            let (from, to) = (project.root.join(&name), root.join(&name));
            if from.is_file() {
                std::fs::create_dir_all(to.parent().context("a file has a folder")?)?;
                std::fs::copy(&from, &to).with_context(|| format!("copying {from}"))?;
            }
        }
        let cluster = &project.settings.cluster;
        set_cluster(&root, &format!("{}-rec", cluster.profile), cluster.port.saturating_add(PORT_OFFSET))?;
        let xtask = std::env::var(UNDER_TEST).with_context(|| format!("{UNDER_TEST} does not name the program"))?;
        Ok(Self { project, root, kubeconfig: folder.join("kubeconfig"), xtask: xtask.into() })
    }

    fn record_both(&self) -> Result<()> {
        self.record("deploy", &[DEPLOY], 0)?;
        self.record("failed-deploy", &[MISTAKE, DEPLOY], 7)
    }

    /// Runs `commands`, expects the exit code `code` of the last one, and writes `docs/<name>.svg`.
    fn record(&self, name: &str, commands: &[&str], code: i32) -> Result<()> {
        let running = self.project.report.step("record", name, "as the README shows it");
        let mut terminal = Terminal::open(self.hidden_paths());
        let mut ended = 0;
        for command in commands {
            terminal.type_line(&format!("$ {command}"));
            ended = terminal.run(&mut self.shell(command))?;
        }
        let recording = terminal.end();
        ensure!(
            ended == code,
            "`{}` ended with {ended}, not with {code}:\n{}",
            commands.join(" && "),
            recording.text()
        );
        self.check_private(&recording)?;
        let file = self.project.root.join("docs").join(name).with_extension("svg");
        let image = svg::animate(&recording, &format!("$ {}", commands.join("; ")));
        std::fs::write(&file, &image).with_context(|| format!("writing {file}"))?;
        running.done(format!("{file}, {}", xtask::units::bytes(image.len() as u64)));
        Ok(())
    }

    /// Returns a command line in the copy. `cargo xtask` stands for the program under test.
    fn shell(&self, line: &str) -> std::process::Command {
        let mut shell = std::process::Command::new("sh");
        let line = line.replace("cargo xtask", &xtask::units::quote(&self.xtask));
        shell.args(["-c", &line]).current_dir(&self.root);
        shell.env("KUBECONFIG", &self.kubeconfig).env_remove("CI").env_remove("NO_COLOR");
        shell
    }

    /// Runs xtask in the copy without recording it.
    fn xtask(&self, args: &[&str]) -> Result<()> {
        let xtask = Process::new(self.xtask.as_str()).args(args.iter().copied()).inherit(ALL).cwd(&self.root);
        xtask.env("KUBECONFIG", self.kubeconfig.as_str()).deadline(deadlines::CARGO).run()
    }

    /// Returns this machine's paths, and the texts that the recordings show instead.
    fn hidden_paths(&self) -> Vec<(String, &'static str)> {
        let home = std::env::var("HOME").ok().filter(|home| Utf8Path::new(home).components().count() > 1);
        let paths = [(self.root.to_string(), "~/todo"), (self.project.cache.to_string(), "~/.cache/todo-xtask")];
        paths.into_iter().chain(home.map(|home| (home, "~"))).collect()
    }

    /// Fails if the recording shows a path or the name of this machine.
    fn check_private(&self, recording: &Recording) -> Result<()> {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let paths = self.hidden_paths().into_iter().map(|(path, _)| path).chain([self.project.root.to_string()]);
        let found = private_names(recording, &paths.collect::<Vec<_>>(), host.trim());
        ensure!(found.is_empty(), "the recording names this machine: {}\n{}", found.join(", "), recording.text());
        Ok(())
    }
}

/// Sets profile and port in the checkout `root`. Fails unless its settings then have them: the caller deletes that cluster.
fn set_cluster(root: &Utf8Path, profile: &str, port: u16) -> Result<()> {
    let path = root.join("infra/xtask.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let mut table = String::new();
    let changed = text.lines().map(|line| {
        if line.starts_with('[') {
            line.clone_into(&mut table);
        }
        match line.split('=').next().unwrap_or_default().trim() {
            "profile" if table == "[cluster]" => format!("profile = \"{profile}\"\n"),
            "port" if table == "[cluster]" => format!("port = {port}\n"),
            _ => format!("{line}\n"),
        }
    });
    let changed: String = changed.collect();
    std::fs::write(&path, changed).with_context(|| format!("writing {path}"))?;
    let cluster = Project::open(Some(root.to_owned()), Default::default(), Report::new(false))?.settings.cluster;
    ensure!(
        cluster.profile == profile && cluster.port == port,
        "{path} still has the profile {} and the port {}, not {profile} and {port}",
        cluster.profile,
        cluster.port
    );
    Ok(())
}

/// Returns the `paths` that any frame shows, also wrapped ones, and `host` if a frame shows it as a word.
fn private_names(recording: &Recording, paths: &[String], host: &str) -> Vec<String> {
    let frames: Vec<String> = recording.frames.iter().map(|frame| frame.text().replace('\n', "")).collect();
    let is_word = |text: &String| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').any(|part| part == host);
    let found = paths.iter().filter(|path| frames.iter().any(|text| text.contains(*path)));
    let host = Some(host.to_owned()).filter(|host| !host.is_empty() && frames.iter().any(is_word));
    found.cloned().chain(host).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use terminal::{Frame, Span};

    #[test]
    fn finds_names_of_the_machine_in_every_frame() {
        let recording = |frames: &[&[&str]]| {
            let line = |text: &&str| vec![Span { text: (*text).to_owned(), style: String::new() }];
            let frames = frames.iter().map(|lines| lines.iter().map(line).collect());
            let frames = frames.map(|lines| Frame { at: Duration::ZERO, lines }).collect();
            Recording { frames, took: Duration::ZERO }
        };
        let found = |frames: &[&[&str]]| private_names(&recording(frames), &["/home/me".to_owned()], "box");
        assert_eq!(found(&[&["~/todo"], &["boxes"]]), Vec::<String>::new());
        assert_eq!(found(&[&["in /home/me/todo"], &["done"]]), ["/home/me"]);
        assert_eq!(found(&[&["wrapped /ho", "me/me"], &["done"]]), ["/home/me"]);
        assert_eq!(found(&[&["at box:80"], &["done"]]), ["box"]);
    }

    #[test]
    fn never_uses_the_users_own_cluster() {
        let checkout = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        std::fs::create_dir(root.join("infra")).unwrap();
        for name in ["pins.toml", "xtask.toml"] {
            std::fs::copy(checkout.join("infra").join(name), root.join("infra").join(name)).unwrap();
        }
        let path = root.join("infra/xtask.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        for (profile, port) in [("\"todo\"", "8080"), ("\"mine\"", "80"), ("'mine' # my own", "80")] {
            let text = text.replace("profile = \"todo\"", &format!("profile  =  {profile}"));
            std::fs::write(&path, text.replace("port = 8080", &format!("port = {port}"))).unwrap();
            set_cluster(root, "mine-rec", 260).unwrap();
            let changed = std::fs::read_to_string(&path).unwrap();
            assert!(changed.contains("[dev]\nport = 3000\n"), "{changed}");
        }
        std::fs::write(&path, text.replace("[cluster]", "[ cluster ]")).unwrap();
        assert!(set_cluster(root, "mine-rec", 260).unwrap_err().to_string().contains("still has the profile todo"));
    }
}
