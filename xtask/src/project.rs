//! Where things are: the checkout, its settings, the cache, and the options of this run.

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;

use crate::failure::{Class, Failure};
use crate::report::Report;
use crate::settings::Settings;

/// Environment variable that moves the cache.
pub const CACHE_VARIABLE: &str = "TODO_XTASK_CACHE";

/// Everything that commands share.
#[derive(Clone)]
pub struct Project {
    /// The checkout.
    pub root: Utf8PathBuf,
    /// `infra/xtask.toml`, with the overrides of the command line.
    pub settings: Settings,
    /// Engine, tools and their sources; shared by all checkouts of one user.
    pub cache: Utf8PathBuf,
    /// The dotenv file, normally `.env` in the checkout.
    pub dotenv: Utf8PathBuf,
    /// The options of this run.
    pub options: Options,
    /// The writer.
    pub report: Report,
}

/// Options that every command takes.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Do what needs consent without asking.
    pub yes: bool,
    /// Where engine, tools and base images come from; `None`: probe once.
    pub origin: Option<crate::origin::Kind>,
    /// Use the tools on PATH where their version will do.
    pub system_tools: bool,
    /// Extra CA bundle for downloads and image builds.
    pub ca_bundle: Option<Utf8PathBuf>,
    /// The minikube profile, where it is not that of the settings.
    pub profile: Option<String>,
    /// The preferred port, where it is not that of the settings.
    pub port: Option<u16>,
}

impl Project {
    /// Reads the settings of the checkout `root`; normally the one that this xtask was compiled from.
    pub fn open(root: Option<Utf8PathBuf>, options: Options, report: Report) -> Result<Self> {
        let root = checkout(root);
        let mut settings = Settings::read(&root)?;
        let cluster = &mut settings.cluster;
        cluster.profile = options.profile.clone().unwrap_or_else(|| cluster.profile.clone());
        cluster.port = options.port.unwrap_or(cluster.port);
        let cache = cache_dir()?;
        Ok(Self { dotenv: root.join(".env"), root, settings, cache, options, report })
    }

    /// The same project with its settings read anew.
    pub fn reopen(&self) -> Result<Self> {
        Self::open(Some(self.root.clone()), self.options.clone(), self.report.clone())
    }

    /// The options that lead another program of this workspace to the same checkout, cache and cluster.
    pub fn arguments(&self) -> Vec<String> {
        let options = &self.options;
        let flags =
            [("--yes", options.yes), ("--verbose", self.report.is_verbose()), ("--system-tools", options.system_tools)];
        let origin = options.origin.and_then(|origin| Some(origin.to_possible_value()?.get_name().to_owned()));
        let values = [
            ("--root", Some(self.root.to_string())),
            ("--profile", options.profile.clone()),
            ("--port", options.port.map(|port| port.to_string())),
            ("--origin", origin),
            ("--ca-bundle", options.ca_bundle.as_ref().map(ToString::to_string)),
        ];
        let flags = flags.into_iter().filter(|(_, given)| *given).map(|(name, _)| name.to_owned());
        let values = values.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
        flags.chain(values).collect()
    }

    /// `cargo xtask <rest>` for this profile, as a user types it.
    pub fn command(&self, rest: &str) -> String {
        let profile = self.options.profile.as_ref().map(|name| format!(" --profile {name}"));
        format!("cargo xtask {rest}{}", profile.unwrap_or_default())
    }

    /// Logs and other output of this checkout.
    pub fn target(&self) -> Utf8PathBuf {
        target(&self.root)
    }

    /// A log file below `target/xtask/logs`.
    pub fn log(&self, name: &str) -> Utf8PathBuf {
        self.target().join("logs").join(format!("{name}.log"))
    }

    /// The CA bundle that downloads and builds trust besides the system's own: `--ca-bundle`, else `SSL_CERT_FILE`.
    pub fn ca_bundle(&self) -> Option<Utf8PathBuf> {
        let named = self.options.ca_bundle.clone();
        named.or_else(|| std::env::var("SSL_CERT_FILE").ok().map(Utf8PathBuf::from)).filter(|path| path.is_file())
    }
}

/// The checkout to work on: `named`, else the one that this xtask was compiled from.
pub fn checkout(named: Option<Utf8PathBuf>) -> Utf8PathBuf {
    let manifest = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
    named.unwrap_or_else(|| manifest.parent().unwrap_or(manifest).to_owned())
}

/// Where logs and other output of the checkout `root` go.
pub fn target(root: &Utf8Path) -> Utf8PathBuf {
    root.join("target/xtask")
}

fn cache_dir() -> Result<Utf8PathBuf> {
    let from = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty()).map(Utf8PathBuf::from);
    let dir = from(CACHE_VARIABLE)
        .or_else(|| Some(from("XDG_CACHE_HOME")?.join("todo-xtask")))
        .or_else(|| Some(from("HOME")?.join(".cache/todo-xtask")))
        .ok_or_else(|| {
            Failure::new(Class::Machine, "no cache folder: neither HOME nor XDG_CACHE_HOME is set")
                .help(format!("export {CACHE_VARIABLE}=/path/to/a/folder"))
        })?;
    if dir.is_relative() {
        return Err(Failure::new(Class::Config, format!("the cache folder must be an absolute path, not `{dir}`"))
            .help(format!("export {CACHE_VARIABLE}=\"$PWD/{dir}\""))
            .into());
    }
    Ok(dir)
}
