//! From `.env` to the cluster's Secrets. xtask reads and checks `.env` before it builds anything. It makes the Secrets
//! once it can read the embedded database's password from the cluster.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::api::kinds;
use crate::dotenv::{Contract, Database, Dotenv, DotenvSource};
use crate::failure::{Class, Failure};
use crate::plan::{self, Mode};
use crate::report::Report;
use crate::secrets::Secret;
use crate::settings::Settings;
use crate::stages::release::secret_manifest::{self, POSTGRES_PASSWORD};
use crate::stages::release::{ObservedRelease, SecretPlan};
use crate::toolbox::Toolbox;

/// The checked content of `.env`.
pub struct Credentials {
    /// `None`: `.env` does not exist.
    dotenv: Option<Dotenv>,
    settings: Settings,
    report: Report,
    /// Whether the application uses the embedded Postgres.
    pub embedded: bool,
    /// The class of the chart's Ingress; empty: the cluster's default.
    pub ingress_class: String,
    /// The name of the database in use, for messages.
    pub database: String,
    /// Notes for the user.
    pub notes: Vec<String>,
}

/// Reads `source` and checks it for `environment`; a missing `.env` is no error.
pub fn read(source: &DotenvSource, settings: &Settings, report: &Report, environment: &str) -> Result<Credentials> {
    let contract = Contract::read(settings, &source.root, environment)?;
    let absent = source.ensure(&settings.keys.random).is_some();
    let dotenv = if absent { None } else { Some(source.load(&contract)?) };
    let remote = dotenv.as_ref().and_then(|dotenv| match &dotenv.database {
        Database::Remote(host) => Some(host.clone()),
        Database::Embedded => None,
    });
    let embedded = remote.is_none() && contract.embedded;
    let database = remote.unwrap_or_else(|| "embedded Postgres, on a volume in the cluster".to_owned());
    let notes = dotenv.as_ref().map(|dotenv| dotenv.notes.clone()).unwrap_or_default();
    if let Some(dotenv) = &dotenv {
        report.hide(&dotenv.redactor(None));
    }
    let (settings, report) = (settings.clone(), report.clone());
    let ingress_class = contract.ingress_class;
    Ok(Credentials { dotenv, settings, report, embedded, ingress_class, database, notes })
}

impl Credentials {
    /// Returns the variables of `.env` that are set.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.dotenv.iter().flat_map(Dotenv::values)
    }

    /// Makes `.env` if it does not exist, and reads it; a dry run shows the step.
    pub fn ensure(self, source: &DotenvSource, environment: &str, mode: Mode) -> Result<Self> {
        let step = source.ensure(&self.settings.keys.random);
        if plan::apply(&self.report, "machine", mode, step.into_iter().collect())?.any() && mode == Mode::Apply {
            return read(source, &self.settings, &self.report, environment);
        }
        Ok(self)
    }

    /// Reads the embedded database's Secret, if that database serves.
    pub fn postgres(&self, tools: &Toolbox) -> Result<Option<Value>> {
        if !self.embedded {
            return Ok(None);
        }
        tools.api()?.get(&kinds::SECRET, &secret_manifest::database_name(&self.settings))
    }

    /// Returns the Secrets that the release needs; `postgres` is the result of [`Credentials::postgres`].
    pub fn plan(
        &self,
        tools: &Toolbox,
        observed: &ObservedRelease,
        postgres: Option<&Value>,
        mode: Mode,
    ) -> Result<SecretPlan> {
        let mut plan = SecretPlan::default();
        let components = &self.settings.components;
        let name = secret_manifest::database_name(&self.settings);
        let mut password = None;
        if self.embedded {
            if let Some(object) = postgres {
                password = secret_manifest::decode(object, POSTGRES_PASSWORD)?;
                plan.add(&components.database, &name, None);
            } else {
                let claim = format!("data-{name}-0");
                if observed.snapshot.as_ref().is_some_and(|s| s.get("PersistentVolumeClaim", &claim).is_some()) {
                    let what =
                        format!("the database's volume {claim} is there, but Secret {name} with its password is gone");
                    return Err(Failure::new(Class::Cluster, what)
                        .help("if you have the password: put the Secret back (key POSTGRES_PASSWORD)")
                        .help("if the todos may go: cargo xtask teardown --data")
                        .into());
                }
                let new = secret_manifest::new_password()?;
                plan.add(&components.database, &name, Some(secret_manifest::database(&self.settings, &new).json));
                // A dry run does not know the password that the real run will make, nor the Secret's name that depends
                // on it.
                password = (mode == Mode::Apply).then_some(new);
            }
        }
        if let Some(dotenv) = &self.dotenv {
            plan.redactor = dotenv.redactor(password.as_ref());
            self.report.hide(&plan.redactor);
        }
        match &self.dotenv {
            Some(dotenv) if !self.embedded || password.is_some() => {
                let manifest = secret_manifest::backend(&self.settings, dotenv, password.as_ref())?;
                if let Some(old) = verified(observed, &components.backend, &manifest.name) {
                    let old = tools.api()?.get(&kinds::SECRET, &old)?;
                    let wanted = serde_json::from_slice(&manifest.json).ok().context("a Secret of ours is JSON")?;
                    let changed = secret_manifest::compare(old.as_ref(), &wanted).into_keys().collect();
                    plan.changed.insert(components.backend.clone(), changed);
                }
                let mut urls =
                    dotenv.values().filter(|(key, _)| *key == self.settings.keys.postgres_url && !self.embedded);
                plan.database = urls.next().map(|(_, url)| url.clone());
                plan.add(&components.backend, &manifest.name, Some(manifest.json));
            }
            _ => {
                let name = self.settings.chart.as_release().object_name(&components.backend);
                plan.add(&components.backend, &format!("{name}-<digest>"), Some(Vec::new()));
            }
        }
        Ok(plan)
    }
}

/// Returns the last verified Secret of `component`, if it exists and is not `wanted`.
fn verified(observed: &ObservedRelease, component: &str, wanted: &str) -> Option<String> {
    let old = observed.record.as_ref()?.fingerprint.get(&format!("Secret of {component}"))?;
    (old != wanted && observed.secrets.ours.contains(old)).then(|| old.clone())
}
