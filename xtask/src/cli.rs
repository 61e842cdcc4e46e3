//! The command line: all commands, and the options that every command takes.

use anyhow::Result;
use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand};

use crate::commands::{
    bench, cluster, db, deploy, dev, doctor, images, logs, pins, rollback, status, teardown, test, tidy, tool,
};
use crate::dotenv::SecretsSource;
use crate::origin::OriginKind;
use crate::project::{Options, Project};
use crate::report::Report;

/// Build, deploy and prove the Todo application on Minikube
#[derive(Parser, Debug)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 110, after_help = AFTER)]
// A repeated option overrides the earlier one, so that a script can append the option that a hint names.
#[command(args_override_self = true)]
pub struct Cli {
    /// Without a command, xtask shows the state in five lines and the next command
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Options of every command
    #[command(flatten)]
    pub(crate) global: Global,
}

impl Cli {
    /// Opens the checkout given by `--root`, or the current one.
    pub fn open(&self, report: &Report) -> Result<Project> {
        Project::open(self.global.root.clone(), self.global.options(), report.clone())
    }

    /// Returns the arguments of `bench` if it is the command.
    pub fn bench(&self) -> Option<&bench::Bench> {
        if let Some(Command::Bench(args)) = &self.command { Some(args) } else { None }
    }

    /// Returns the arguments of `tidy` if it is the command.
    pub fn tidy(&self) -> Option<&tidy::Tidy> {
        if let Some(Command::Tidy(args)) = &self.command { Some(args) } else { None }
    }

    /// Returns the arguments of `test` if it is the command.
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
    /// Answer yes to every question
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Show every command that xtask runs
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Show only warnings, errors and the command's result
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Show the start and the end of each step, without live progress
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// minikube profile and kube context, instead of the one in infra/xtask.toml
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// Port on localhost for a new profile, and for `dev`
    #[arg(long, global = true, value_name = "PORT")]
    pub port: Option<u16>,
    /// Where the application's secrets come from, instead of .env
    #[arg(long, global = true, value_name = "FROM", default_value = "file", hide_default_value = true)]
    pub secrets: SecretsSource,
    /// Where engine, tools and base images come from (default: probed once)
    #[arg(long, global = true, value_name = "ORIGIN")]
    pub origin: Option<OriginKind>,
    /// Use kubectl, helm and minikube on PATH if their versions are compatible
    #[arg(long, global = true)]
    pub system_tools: bool,
    /// Checkout to work on, instead of the current one
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<Utf8PathBuf>,
    /// Extra certificate authorities for downloads, builds and the proof (default: SSL_CERT_FILE)
    #[arg(long, global = true, value_name = "FILE")]
    pub ca_bundle: Option<Utf8PathBuf>,
    /// Text before each line: the suite, while another one prints beside it
    #[arg(long, global = true, value_name = "TEXT", hide = true)]
    pub prefix: Option<String>,
}

impl Global {
    /// Returns the options in the form that commands take.
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

/// The commands of xtask.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Build both images, tagged by content
    Images(images::Images),
    Deploy(deploy::Deploy),
    Dev(dev::Dev),
    Cluster(cluster::Cluster),
    /// Stop the cluster to free its memory; all data stays
    Stop,
    /// Start a stopped cluster and prove the application in it
    Start,
    Teardown(teardown::Teardown),
    Status(status::Status),
    Rollback(rollback::Rollback),
    Bench(bench::Bench),
    Logs(logs::Logs),
    Db(db::Db),
    Doctor(doctor::Doctor),
    Pins(pins::Pins),
    /// Show each resolved value and its source; secrets are masked
    Config {
        /// Print one JSON document; its schema is in docs/schema
        #[arg(long)]
        json: bool,
    },
    /// Search the working tree and the history for secrets
    Scan,
    Tidy(tidy::Tidy),
    /// Record the README's animations: a deploy, and a failing deploy with its cause
    Record,
    Test(test::Test),
    Tool(tool::Tool),
    /// Print a completion script
    Completions {
        /// Shell to complete for
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
        for (class, text) in [
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
            assert!(text.starts_with(&format!("{} ", class as i32)));
            assert!(super::AFTER.replace("  ", "").contains(text) && readme.contains(text), "{text}");
        }
    }

    #[test]
    fn the_ci_workflow_uses_only_existing_commands() {
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
    fn hints_name_only_existing_commands() {
        let help = regex::Regex::new(r#"\.help\(\s*(?:format!\()?\s*"((?:[^"\\]|\\[^\x00])*)""#).unwrap();
        let [next_line, gap] = [r"\\\n *", r"\{[^{}]*\}"].map(|rule| regex::Regex::new(rule).unwrap());
        let (mut count, mut wrong) = (0, Vec::new());
        let sources = crate::checkout::compiled_from().join("xtask/src");
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
    fn clap_accepts_the_command_line_definition() {
        super::Cli::command().debug_assert();
    }
}
