//! What the chart wants of `.env`: its values files are the one place that says so.

use anyhow::Result;
use camino::Utf8Path;
use serde_norway::Value;

use super::{AUTH_SECRET, DATABASE_URL, DATABASE_URL_UNPOOLED, OPENAI_API_KEY};
use crate::failure::{Class, Failure};
use crate::project::Project;

/// The keys that a deploy to one environment needs and knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// Environment of `infra/xtask.toml`.
    pub environment: String,
    /// Its values file, relative to the checkout.
    pub values: String,
    /// Keys without which no pod starts. DATABASE_URL may be absent where `embedded` is true.
    pub required: Vec<String>,
    /// Keys that may be there.
    pub optional: Vec<String>,
    /// Whether the chart brings a Postgres of its own.
    pub embedded: bool,
    /// The class of its Ingress; empty: the cluster's default.
    pub ingress_class: String,
}

impl Contract {
    /// Reads the contract of `environment` from the chart's values and the environment's on top of them.
    pub fn read(project: &Project, environment: &str) -> Result<Self> {
        let settings = &project.settings;
        let values = &settings.environment(environment)?.values;
        let base = yaml(&project.root, &settings.chart.path.join("values.yaml"))?;
        let over = yaml(&project.root, values)?;
        Ok(Self::from_values(environment, values.as_str(), &base, &over))
    }

    fn from_values(environment: &str, file: &str, base: &Value, over: &Value) -> Self {
        let list = |name: &str, always: &[&str]| {
            let path = ["backend", "secret", "keys", name];
            let mut keys: Vec<String> = always.iter().map(|key| (*key).to_owned()).collect();
            let given = at(over, &path).or_else(|| at(base, &path)).and_then(Value::as_sequence);
            keys.extend(given.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
            let mut seen = Vec::new();
            keys.retain(|key| !seen.contains(key) && (seen.push(key.clone()), true).1);
            keys
        };
        let required = list("required", &[DATABASE_URL, AUTH_SECRET]);
        let mut optional = list("optional", &[OPENAI_API_KEY, DATABASE_URL_UNPOOLED]);
        optional.retain(|key| !required.contains(key));
        let value = |path: &[&str]| at(over, path).or_else(|| at(base, path));
        let embedded = value(&["postgres", "enabled"]).and_then(Value::as_bool).unwrap_or(false);
        let ingress_class = value(&["ingress", "className"]).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (environment, values) = (environment.to_owned(), file.to_owned());
        Self { environment, values, required, optional, embedded, ingress_class }
    }

    /// All keys that may be in `.env`.
    pub fn keys(&self) -> Vec<&str> {
        self.required.iter().chain(&self.optional).map(String::as_str).collect()
    }
}

fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.get(*key)).filter(|value| !value.is_null())
}

fn yaml(root: &Utf8Path, path: &Utf8Path) -> Result<Value> {
    let text = std::fs::read_to_string(root.join(path)).map_err(|error| {
        Failure::new(Class::Config, format!("cannot read {path}: {error}")).help(format!("git checkout {path}"))
    })?;
    serde_norway::from_str(&text).map_err(|error| {
        let place = error.location().map_or(String::new(), |at| format!(":{}", at.line()));
        Failure::new(Class::Config, format!("{path}{place}: {error}")).help(format!("edit {path}")).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = include_str!("../../../infra/helm/values.yaml");
    const DEV: &str = include_str!("../../../infra/helm/values-dev.yaml");

    fn contract(over: &str) -> Contract {
        let parse = |text| serde_norway::from_str(text).unwrap();
        Contract::from_values("dev", "values-dev.yaml", &parse(BASE), &parse(over))
    }

    #[test]
    fn the_real_chart_is_understood() {
        let dev = contract(DEV);
        assert_eq!(dev.required, [DATABASE_URL, AUTH_SECRET]);
        assert!(dev.optional.iter().any(|key| key == OPENAI_API_KEY));
        assert!(dev.optional.iter().any(|key| key == DATABASE_URL_UNPOOLED));
        assert!(dev.embedded);
    }

    #[test]
    fn an_environment_overrides_key_by_key() {
        let prod = contract("backend: {secret: {keys: {required: [DATABASE_URL, AUTH_SECRET, OPENAI_API_KEY]}}}");
        assert_eq!(prod.required, [DATABASE_URL, AUTH_SECRET, OPENAI_API_KEY]);
        assert!(!prod.optional.iter().any(|key| key == OPENAI_API_KEY));
        assert!(!prod.embedded);
        assert_eq!(contract("").required, [DATABASE_URL, AUTH_SECRET], "an empty values file is fine");
    }

    #[test]
    fn a_mistake_in_a_values_file_is_told_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        std::fs::write(root.join("v.yaml"), "a: 1\nb: [\n").unwrap();
        let error = yaml(root, "v.yaml".into()).unwrap_err().to_string();
        assert!(error.starts_with("v.yaml:"), "{error}");
        assert!(yaml(root, "w.yaml".into()).unwrap_err().to_string().starts_with("cannot read w.yaml"));
    }
}
