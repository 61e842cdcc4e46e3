//! All commands and flags: this file reads as the manual.

use anyhow::Result;
use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand};

use crate::commands::{
    bench, cluster, db, deploy, dev, doctor, images, logs, pins, rollback, status, teardown, test, tidy, tool,
};
use crate::project::{Options, OriginKind, Project, SecretsSource};
use crate::report::Report;

/// Build, deploy and prove the Todo application on Minikube
#[derive(Parser, Debug)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 110, after_help = AFTER)]
// A repeated option overrides the earlier one, so that a script can append what a hint names.
#[command(args_override_self = true)]
pub struct Cli {
    /// Without a command: the state in five lines and the next command
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Options of every command
    #[command(flatten)]
    pub(crate) global: Global,
}

impl Cli {
    /// Opens the checkout that the options name.
    pub fn open(&self, report: &Report) -> Result<Project> {
        Project::open(self.global.root.clone(), self.global.options(), report.clone())
    }

    /// The arguments of `bench`, if that is the command.
    pub fn bench(&self) -> Option<&bench::Bench> {
        if let Some(Command::Bench(args)) = &self.command { Some(args) } else { None }
    }

    /// The arguments of `tidy`, if that is the command.
    pub fn tidy(&self) -> Option<&tidy::Tidy> {
        if let Some(Command::Tidy(args)) = &self.command { Some(args) } else { None }
    }

    /// The arguments of `test`, if that is the command.
    pub fn test(&self) -> Option<&test::Test> {
        if let Some(Command::Test(args)) = &self.command { Some(args) } else { None }
    }
}

const AFTER: &str = "Exit codes: 0 done · 1 internal · 2 usage · 3 configuration or .env · 4 machine · 5 cluster · \
                     6 image · 7 rollout · 8 proof · 9 tests or scan · 10 another xtask is at work · \
                     11 database · 130 interrupted";

/// Options of every command.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// Do what needs consent without asking
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Show every command that is run
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Show only warnings, errors, and what the command was asked for
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Show when each step begins and when it ends, and nothing in between
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// minikube profile and kube context, instead of the one in infra/xtask.toml
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// Port of http://localhost when the profile is created, and of `dev`
    #[arg(long, global = true, value_name = "PORT")]
    pub port: Option<u16>,
    /// Where the application's secrets come from, instead of .env
    #[arg(long, global = true, value_name = "FROM", default_value = "file", hide_default_value = true)]
    pub secrets: SecretsSource,
    /// Where engine, tools and base images come from; probed once if left out
    #[arg(long, global = true, value_name = "ORIGIN")]
    pub origin: Option<OriginKind>,
    /// Use kubectl, helm and minikube on PATH where their version will do
    #[arg(long, global = true)]
    pub system_tools: bool,
    /// Checkout to work on, instead of the one that xtask is run in
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<Utf8PathBuf>,
    /// Extra certificate authorities for downloads, builds and the proof (default: SSL_CERT_FILE)
    #[arg(long, global = true, value_name = "FILE")]
    pub ca_bundle: Option<Utf8PathBuf>,
}

impl Global {
    /// The options that commands need.
    pub fn options(&self) -> Options {
        Options {
            yes: self.yes,
            origin: self.origin,
            system_tools: self.system_tools,
            ca_bundle: self.ca_bundle.clone(),
            profile: self.profile.clone(),
            secrets_from: self.secrets,
            port: self.port,
        }
    }
}

/// The commands.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Build both images, tagged by content
    Images(images::Images),
    Deploy(deploy::Deploy),
    Dev(dev::Dev),
    Cluster(cluster::Cluster),
    /// Stop the cluster, which frees its memory; all data stays
    Stop,
    /// Start a stopped cluster again, and prove what was deployed in it
    Start,
    Teardown(teardown::Teardown),
    Status(status::Status),
    Rollback(rollback::Rollback),
    Bench(bench::Bench),
    Logs(logs::Logs),
    Db(db::Db),
    Doctor(doctor::Doctor),
    Pins(pins::Pins),
    /// Show each resolved value and where it is from; secrets are masked
    Config {
        /// Print one JSON document; its schema is in docs/schema
        #[arg(long)]
        json: bool,
    },
    /// Search the working tree and the history for secrets
    Scan,
    Tidy(tidy::Tidy),
    /// Record the README's animations: a deploy, and one that fails with its cause
    Record,
    Test(test::Test),
    Tool(tool::Tool),
    /// Print a completion script
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    #[test]
    fn every_exit_code_is_documented_and_names_one_class() {
        use crate::failure::Class;
        let readme = include_str!("../../README.md");
        for (class, said) in [
            (Class::Internal, "1 internal"),
            (Class::Config, "3 configuration"),
            (Class::Machine, "4 machine"),
            (Class::Cluster, "5 cluster"),
            (Class::Image, "6 image"),
            (Class::Rollout, "7 rollout"),
            (Class::Proof, "8 proof"),
            (Class::Check, "9 tests"),
            (Class::Busy, "10 another xtask is at work"),
            (Class::Interrupted, "130 interrupted"),
        ] {
            assert!(said.starts_with(&format!("{} ", class as i32)));
            assert!(super::AFTER.replace("  ", "").contains(said) && readme.contains(said), "{said}");
        }
    }

    #[test]
    fn each_command_of_the_workflow_exists() {
        let workflow = include_str!("../../.github/workflows/ci.yml");
        let commands: Vec<&str> = workflow.split("cargo ").skip(1).filter(|text| text.starts_with("xtask ")).collect();
        for command in &commands {
            let words = command.lines().next().unwrap_or_default().split_whitespace();
            let parsed = super::Cli::try_parse_from(words);
            assert!(parsed.is_ok(), "{command}: {}", parsed.err().map(|error| error.to_string()).unwrap_or_default());
        }
        assert!(commands.len() >= 5, "{commands:#?}");
    }

    #[test]
    fn each_command_of_a_hint_exists() {
        let help = regex::Regex::new(r#"\.help\(\s*(?:format!\()?\s*"((?:[^"\\]|\\[^\x00])*)""#).unwrap();
        let [next_line, gap] = [r"\\\n *", r"\{[^{}]*\}"].map(|rule| regex::Regex::new(rule).unwrap());
        let (mut count, mut wrong) = (0, Vec::new());
        let sources = crate::project::compiled_from().join("xtask/src");
        for entry in walkdir::WalkDir::new(sources).into_iter().map(Result::unwrap) {
            if entry.path().extension().is_none_or(|kind| kind != "rs") {
                continue;
            }
            let text = std::fs::read_to_string(entry.path()).unwrap();
            for found in help.captures_iter(&text) {
                let line = next_line.replace_all(&found[1], "").replace("\\\"", "\"");
                let line = gap.replace_all(&line, "x");
                let data = crate::failure::Hint::from(&*line).data();
                let is_for_people =
                    [", and:", ", then:", "REVISION", "NAME", "=/path", "<"].iter().any(|part| line.contains(part));
                if data["kind"] == "tell" && !is_for_people && line.contains("cargo xtask ") {
                    wrong.push(format!("write it as `purpose: command   # note`: {line}"));
                }
                let command = data["command"].as_str().unwrap_or_default();
                for part in command.split(" && ").filter_map(|part| part.strip_prefix("cargo ")) {
                    count += 1;
                    wrong.extend(
                        super::Cli::try_parse_from(part.split(' ')).err().map(|error| format!("{line}: {error}")),
                    );
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(count > 80, "{count}");
    }

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
