//! The paths of a run: the checkout, its settings and the cache; and the options of the run.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;

use crate::cache;
use crate::lock::{self, Lock};
use crate::report::Report;
use crate::settings::{self, Settings};

/// The checkout, settings, options and writer that all commands share.
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
    /// Set when a newer save has made this run stale (`deploy --watch`), or when one part has failed beside others. The
    /// run ends unless it has begun to apply something.
    pub stale: Arc<AtomicBool>,
}

/// Options that every command takes.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Answer yes to every question.
    pub yes: bool,
    /// The origin of engine, tools and base images; `None`: probe once.
    pub origin: Option<OriginKind>,
    /// Use the tools on PATH where their version is supported.
    pub system_tools: bool,
    /// Extra CA bundle for downloads and image builds.
    pub ca_bundle: Option<Utf8PathBuf>,
    /// The minikube profile, if it differs from the settings.
    pub profile: Option<String>,
    /// The source of the application's secrets.
    pub secrets_from: SecretsSource,
    /// The preferred port, if it differs from the settings.
    pub port: Option<u16>,
}

/// The two origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OriginKind {
    /// Official downloads by checksum and official images.
    Release,
    /// Made from package registries (Go modules, Debian, npm, PyPI).
    Packages,
}

impl OriginKind {
    /// Returns its name on the command line and in the cache.
    pub fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Packages => "packages",
        }
    }
}

/// The source of the values of `.env`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SecretsSource {
    /// `.env`; a named pipe is read once
    #[default]
    File,
    /// The environment: `op run`, `sops exec-env`
    Env,
    /// Standard input, in the form of `.env`
    Stdin,
}

impl Project {
    /// Reads the settings of the checkout `root`; normally the one that xtask is run in.
    pub fn open(root: Option<Utf8PathBuf>, options: Options, report: Report) -> Result<Self> {
        let root = checkout(root);
        report.recorder().name_profile(options.profile.clone());
        let mut settings = Settings::read(&root)?;
        let cluster = &mut settings.cluster;
        cluster.profile = options.profile.clone().unwrap_or_else(|| cluster.profile.clone());
        cluster.port = options.port.unwrap_or(cluster.port);
        settings.dev.port = options.port.unwrap_or(settings.dev.port);
        let cache = cache::locate()?;
        Ok(Self { dotenv: root.join(".env"), root, settings, cache, options, report, stale: Arc::default() })
    }

    /// Reads the settings of the same checkout again.
    pub fn reopen(&self) -> Result<Self> {
        Self::open(Some(self.root.clone()), self.options.clone(), self.report.clone())
    }

    /// Returns the options that give another program of this workspace the same checkout, cache and cluster.
    pub fn arguments(&self) -> Vec<String> {
        let options = &self.options;
        let (quiet, has_progress) = (self.report.is_quiet(), self.report.has_progress());
        let flags = [
            ("--yes", options.yes),
            ("--verbose", self.report.is_verbose()),
            ("--quiet", quiet),
            ("--no-progress", !quiet && !has_progress),
            ("--system-tools", options.system_tools),
        ];
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

    /// Returns `cargo xtask <rest>` for this profile, as a user types it.
    pub fn command(&self, rest: &str) -> String {
        self.report.shown(&format!("cargo xtask {rest}"))
    }

    /// Returns the folder for logs and other output of this checkout.
    pub fn target(&self) -> Utf8PathBuf {
        target(&self.root)
    }

    /// Returns a log file below `target/xtask/logs`.
    pub fn log(&self, name: &str) -> Utf8PathBuf {
        self.target().join("logs").join(format!("{name}.log"))
    }

    /// Takes the profile's lock. The error names the process that holds it.
    pub fn lock(&self) -> Result<Lock> {
        cache::claim(&self.cache)?;
        lock::take(&self.cache.join("locks"), &self.settings.cluster.profile)
    }

    /// Returns the CA bundle that downloads, builds and the proof trust besides the system's: `--ca-bundle`, else
    /// `SSL_CERT_FILE`.
    pub fn ca_bundle(&self) -> Option<Utf8PathBuf> {
        let named = self.options.ca_bundle.clone();
        named.or_else(|| std::env::var("SSL_CERT_FILE").ok().map(Utf8PathBuf::from)).filter(|path| path.is_file())
    }
}

/// Returns the checkout to work on: `named`, else the one around the current folder, else the one that this xtask was
/// compiled from.
pub fn checkout(named: Option<Utf8PathBuf>) -> Utf8PathBuf {
    let current = std::env::current_dir().ok().and_then(|path| Utf8PathBuf::from_path_buf(path).ok());
    let around = current.as_deref().into_iter().flat_map(Utf8Path::ancestors);
    let here = || around.clone().find(|path| path.join(settings::FILE).is_file()).map(Utf8Path::to_owned);
    named.or_else(here).unwrap_or_else(compiled_from)
}

/// Returns the checkout that this xtask was compiled from.
///
/// cargo sets XTASK_CHECKOUT from `.cargo/config.toml`, and compiles again when its value changes. It does not do so
/// for CARGO_MANIFEST_DIR: two checkouts with one CARGO_TARGET_DIR, or a copy with its `target`, would run each other's
/// program.
pub fn compiled_from() -> Utf8PathBuf {
    let manifest = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
    let checkout = option_env!("XTASK_CHECKOUT").map(Utf8Path::new);
    // Without the slash at the end.
    checkout.or(manifest.parent()).unwrap_or(manifest).components().collect()
}

/// Returns the folder for logs and other output of the checkout `root`.
pub fn target(root: &Utf8Path) -> Utf8PathBuf {
    root.join("target/xtask")
}
