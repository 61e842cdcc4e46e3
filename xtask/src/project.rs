//! Where things are: the checkout, its settings, the cache, and the options of this run.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;

use crate::cache;
use crate::lock::{self, Lock};
use crate::report::Report;
use crate::settings::{self, Settings};

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
    /// Set when a newer save has made this run stale (`deploy --watch`), or a part of it has failed while others go on:
    /// it ends unless it has begun to apply something.
    pub stale: Arc<AtomicBool>,
}

/// Options that every command takes.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Answer yes to every question.
    pub yes: bool,
    /// Where engine, tools and base images come from; `None`: probe once.
    pub origin: Option<crate::origin::OriginKind>,
    /// Use the tools on PATH where their version will do.
    pub system_tools: bool,
    /// Extra CA bundle for downloads and image builds.
    pub ca_bundle: Option<Utf8PathBuf>,
    /// The minikube profile, where it is not that of the settings.
    pub profile: Option<String>,
    /// Where the application's secrets come from.
    pub secrets_from: crate::dotenv::Source,
    /// The preferred port, where it is not that of the settings.
    pub port: Option<u16>,
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

    /// The same project with its settings read anew.
    pub fn reopen(&self) -> Result<Self> {
        Self::open(Some(self.root.clone()), self.options.clone(), self.report.clone())
    }

    /// The options that lead another program of this workspace to the same checkout, cache and cluster.
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

    /// `cargo xtask <rest>` for this profile, as a user types it.
    pub fn command(&self, rest: &str) -> String {
        self.report.shown(&format!("cargo xtask {rest}"))
    }

    /// Logs and other output of this checkout.
    pub fn target(&self) -> Utf8PathBuf {
        target(&self.root)
    }

    /// A log file below `target/xtask/logs`.
    pub fn log(&self, name: &str) -> Utf8PathBuf {
        self.target().join("logs").join(format!("{name}.log"))
    }

    /// Takes the profile's lock, or says who holds it.
    pub fn lock(&self) -> Result<Lock> {
        cache::claim(&self.cache)?;
        lock::take(&self.cache.join("locks"), &self.settings.cluster.profile)
    }

    /// The CA bundle that downloads, builds and the proof trust besides the system's own: `--ca-bundle`, else `SSL_CERT_FILE`.
    pub fn ca_bundle(&self) -> Option<Utf8PathBuf> {
        let named = self.options.ca_bundle.clone();
        named.or_else(|| std::env::var("SSL_CERT_FILE").ok().map(Utf8PathBuf::from)).filter(|path| path.is_file())
    }
}

/// The checkout to work on: `named`, else the one that the current folder is in, else the one that this xtask was compiled
/// from.
pub fn checkout(named: Option<Utf8PathBuf>) -> Utf8PathBuf {
    let current = std::env::current_dir().ok().and_then(|path| Utf8PathBuf::from_path_buf(path).ok());
    let around = current.as_deref().into_iter().flat_map(Utf8Path::ancestors);
    let here = || around.clone().find(|path| path.join(settings::FILE).is_file()).map(Utf8Path::to_owned);
    named.or_else(here).unwrap_or_else(compiled_from)
}

/// The checkout that this xtask was compiled from.
///
/// cargo sets the variable by `.cargo/config.toml`, and compiles again where it has another value. A change of
/// CARGO_MANIFEST_DIR goes unnoticed: two checkouts with one CARGO_TARGET_DIR, or a copy with its `target`, would run the
/// program of the other one.
pub fn compiled_from() -> Utf8PathBuf {
    let manifest = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
    let checkout = option_env!("XTASK_CHECKOUT").map(Utf8Path::new);
    // Without the slash at the end.
    checkout.or(manifest.parent()).unwrap_or(manifest).components().collect()
}

/// Where logs and other output of the checkout `root` go.
pub fn target(root: &Utf8Path) -> Utf8PathBuf {
    root.join("target/xtask")
}
