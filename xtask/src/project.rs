//! What a command works with: checkout, settings, cache, options and writer. Only commands know all of it; they hand each
//! function what it uses.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use camino::Utf8PathBuf;
use clap::ValueEnum as _;

use crate::cache;
use crate::checkout;
use crate::dotenv::{DotenvSource, SecretsSource};
use crate::lock::{self, Lock};
use crate::origin::{OriginKind, OriginSettings, Requirement};
use crate::plan::Mode;
use crate::report::Report;
use crate::settings::Settings;
use crate::toolchain::{Preparation, Toolchain};

/// The checkout, settings, options and writer of a command.
#[derive(Clone)]
pub struct Project {
    /// The checkout.
    pub root: Utf8PathBuf,
    /// `infra/xtask.toml`, with the overrides of the command line.
    pub settings: Settings,
    /// Engine, tools and their sources; shared by all checkouts of one user.
    pub cache: Utf8PathBuf,
    /// `.env`, or what replaces it.
    pub dotenv: DotenvSource,
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

impl Project {
    /// Reads the settings of the checkout `root`; normally the one that xtask is run in.
    pub fn open(root: Option<Utf8PathBuf>, options: Options, report: Report) -> Result<Self> {
        let root = checkout::find(root);
        report.recorder().name_profile(options.profile.clone());
        let mut settings = Settings::read(&root)?;
        let cluster = &mut settings.cluster;
        cluster.profile = options.profile.clone().unwrap_or_else(|| cluster.profile.clone());
        cluster.port = options.port.unwrap_or(cluster.port);
        settings.dev.port = options.port.unwrap_or(settings.dev.port);
        let cache = cache::locate()?;
        let dotenv = DotenvSource { from: options.secrets_from, path: root.join(".env"), root: root.clone() };
        Ok(Self { dotenv, root, settings, cache, options, report, stale: Arc::default() })
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

    /// Returns the settings of the origin.
    pub fn origins(&self) -> OriginSettings {
        OriginSettings {
            kind: self.options.origin,
            system_tools: self.options.system_tools,
            root: self.root.clone(),
            cache: self.cache.clone(),
            ca_bundle: self.ca_bundle(),
            kubernetes: self.settings.cluster.kubernetes.clone(),
            report: self.report.clone(),
            stale: self.stale.clone(),
        }
    }

    /// Runs the stages machine and tools for `requirements`.
    pub fn bring_tools(&self, mode: Mode, requirements: &[Requirement]) -> Result<Toolchain> {
        let preparation = Preparation::new(&self.settings, self.origins(), requirements)?;
        if mode == Mode::Apply {
            preparation.consent(self.options.yes)?;
        }
        preparation.bring(mode)
    }

    /// Returns the installed tools, as [`Toolchain::present`] does.
    pub fn present_tools(&self) -> Result<Toolchain> {
        Toolchain::present(&self.settings, self.origins())
    }

    /// Returns the folder for logs and other output of this checkout.
    pub fn target(&self) -> Utf8PathBuf {
        checkout::target(&self.root)
    }

    /// Returns a log file below `target/xtask/logs`.
    pub fn log(&self, name: &str) -> Utf8PathBuf {
        checkout::log(&self.target(), name)
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
