//! The keys that the chart requires in `.env`, from its values files.

use std::collections::BTreeMap;

use anyhow::Result;
use camino::Utf8Path;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_norway::{Mapping, Value};

use crate::failure::{Class, Failure, restore};
use crate::settings::{Keys, Settings};

/// The keys that a deploy to one environment needs and knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// Environment of `infra/xtask.toml`.
    pub environment: String,
    /// Its values file, relative to the checkout.
    pub values: String,
    /// Keys without which no pod starts. The Postgres URL may be absent where `embedded` is true.
    pub required: Vec<String>,
    /// Keys that may be there.
    pub optional: Vec<String>,
    /// The keys that xtask knows by the kind of their value.
    pub kinds: Keys,
    /// Whether the environment's values enable the embedded Postgres.
    pub embedded: bool,
    /// Path of the chart value that enables it.
    pub embedded_key: String,
    /// The class of its Ingress; empty: the cluster's default.
    pub ingress_class: String,
    /// The URL of the assistant's API.
    pub assistant_url: String,
    /// The variables of the containers of `dev`, with their values in the chart.
    pub variables: BTreeMap<String, String>,
}

impl Contract {
    /// Reads the contract of `environment` from the chart's values in the checkout `root` and the environment's on top of them.
    pub fn read(settings: &Settings, root: &Utf8Path, environment: &str) -> Result<Self> {
        let values = &settings.environment(environment)?.values;
        let base = yaml(root, &settings.chart.path.join("values.yaml"))?;
        let over = yaml(root, values)?;
        Ok(Self::from_values(environment, values.as_str(), settings, &base, &over))
    }

    fn from_values(environment: &str, file: &str, settings: &Settings, base: &Value, over: &Value) -> Self {
        let (kinds, components) = (&settings.keys, &settings.components);
        let value = |path: &str| at(over, path).or_else(|| at(base, path));
        let list = |name: &str, always: [&String; 2]| {
            let mut keys: Vec<String> = always.map(String::clone).to_vec();
            let given = value(&format!("{}.secret.keys.{name}", components.backend)).and_then(Value::as_sequence);
            keys.extend(given.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
            let mut seen = Vec::new();
            keys.retain(|key| !seen.contains(key) && (seen.push(key.clone()), true).1);
            keys
        };
        let required = list("required", [&kinds.postgres_url, &kinds.random]);
        let mut optional = list("optional", [&kinds.openai_key, &kinds.postgres_direct_url]);
        optional.retain(|key| !required.contains(key));
        let embedded_key = format!("{}.enabled", components.database);
        let text = |path: &str| value(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        // As the chart's `int64` does: numbers may be written as 1e6.
        let as_text = |value: &Value| {
            value.as_str().map(str::to_owned).or_else(|| value.as_f64().map(|number| format!("{number:.0}")))
        };
        let variables = settings.dev.variables.iter();
        Self {
            environment: environment.to_owned(),
            values: file.to_owned(),
            required,
            optional,
            kinds: kinds.clone(),
            embedded: value(&embedded_key).is_some_and(is_true),
            embedded_key,
            ingress_class: text("ingress.className"),
            assistant_url: text(&settings.application.assistant_url),
            variables: variables.filter_map(|(name, path)| Some((name.clone(), as_text(value(path)?)?))).collect(),
        }
    }

    /// Returns whether the assistant uses OpenAI itself, which is the chart's default.
    pub fn asks_openai(&self) -> bool {
        let rest = self.assistant_url.split_once("://").map_or(self.assistant_url.as_str(), |(_, rest)| rest);
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        host.is_empty() || host == "openai.com" || host.ends_with(".openai.com")
    }

    /// Returns all keys that may be in `.env`.
    pub fn keys(&self) -> Vec<&str> {
        self.required.iter().chain(&self.optional).map(String::as_str).collect()
    }
}

/// Returns the value at `path`, such as `ingress.className`; `None` if it is null.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, key| value.get(key)).filter(|value| !value.is_null())
}

fn yaml(root: &Utf8Path, path: &Utf8Path) -> Result<Value> {
    let text = std::fs::read_to_string(root.join(path)).map_err(|error| {
        Failure::new(Class::Config, format!("cannot read {path}: {error}")).help(restore(path, &error))
    })?;
    parse(&text).map_err(|error| {
        let place = line_of(&error).map_or(String::new(), |line| format!(":{line}"));
        Failure::new(Class::Config, format!("{path}{place}: {error}")).help(format!("edit {path}")).into()
    })
}

/// Parses values as Helm does: the last one of duplicate keys counts.
fn parse(text: &str) -> Result<Value, serde_norway::Error> {
    // An empty file is a document without a value.
    serde_norway::from_str::<Option<Values>>(text).map(|values| values.map_or(Value::Null, |values| values.0))
}

/// Returns the line of the mistake: where an unclosed construct begins, else where the parser stopped.
fn line_of(error: &serde_norway::Error) -> Option<usize> {
    let words = error.to_string();
    let unfinished = ["unexpected end of stream", "could not find expected ':'"].iter().any(|end| words.contains(end));
    let begun = words.rsplit_once("while scanning ").and_then(|(_, begun)| begun.split_once(" at line "));
    let begun = begun.and_then(|(_, place)| place.split(' ').next()?.parse().ok());
    begun.filter(|_| unfinished).or_else(|| Some(error.location()?.line()))
}

/// Returns whether Helm reads the value as true: it reads YAML 1.1, which also has `yes` and `on`. In quotes they are
/// strings, which the chart's schema refuses.
fn is_true(value: &Value) -> bool {
    const WORDS: [&str; 3] = ["y", "yes", "on"];
    let is_word = |text: &str| {
        let (first, rest) = text.split_at(text.len().min(1));
        WORDS.contains(&text.to_ascii_lowercase().as_str())
            && (rest == rest.to_ascii_lowercase() || format!("{first}{rest}") == text.to_ascii_uppercase())
    };
    value.as_bool().unwrap_or_else(|| value.as_str().is_some_and(is_word))
}

/// A value whose mappings may have a key twice.
struct Values(Value);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Values;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value")
            }
            fn visit_bool<E>(self, value: bool) -> Result<Values, E> {
                Ok(Values(value.into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Values, E> {
                Ok(Values(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Values, E> {
                Ok(Values(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Values, E> {
                Ok(Values(value.into()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Values, E> {
                Ok(Values(value.into()))
            }
            fn visit_unit<E>(self) -> Result<Values, E> {
                Ok(Values(Value::Null))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Values, A::Error> {
                let mut list = Vec::new();
                while let Some(Values(item)) = items.next_element()? {
                    list.push(item);
                }
                Ok(Values(Value::Sequence(list)))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Values, A::Error> {
                let mut mapping = Mapping::new();
                while let Some((Values(key), Values(value))) = entries.next_entry()? {
                    mapping.insert(key, value);
                }
                Ok(Values(Value::Mapping(mapping)))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{AUTH_SECRET, DATABASE_URL, DATABASE_URL_UNPOOLED, OPENAI_API_KEY, settings};
    use super::*;
    use std::collections::BTreeSet;

    const BASE: &str = include_str!("../../../infra/helm/values.yaml");
    const DEV: &str = include_str!("../../../infra/helm/values-dev.yaml");

    fn contract(over: &str) -> Contract {
        let parse = |text| parse(text).unwrap();
        Contract::from_values("dev", "values-dev.yaml", &settings(), &parse(BASE), &parse(over))
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
    fn the_containers_of_dev_have_the_values_of_the_chart() {
        let template = include_str!("../../../infra/helm/templates/_config.tpl");
        let keys = template.lines().find(|line| line.starts_with("[\"ENVIRONMENT\"")).unwrap();
        let keys: Vec<String> = serde_norway::from_str(keys).unwrap();
        let given = contract(DEV).variables;
        assert!(given.keys().eq(&BTreeSet::from_iter(keys)), "{given:?}");
        assert_eq!((given["ENVIRONMENT"].as_str(), given["TODOS_PER_USER"].as_str()), ("dev", "50000"));
        let over = "config: {allowedOrigins: 'https://a.example', limits: {todosPerUser: 1e6}}";
        // What it leaves out is as in values.yaml, not as in dev.
        let given = contract(over).variables;
        for (name, value) in
            [("ALLOWED_ORIGINS", "https://a.example"), ("SIGN_UPS_PER_HOUR", "100"), ("TODOS_PER_USER", "1000000")]
        {
            assert_eq!(given[name], value);
        }
    }

    #[test]
    fn values_mean_what_they_mean_to_helm() {
        for (text, embedded) in [
            ("postgres: {enabled: yes}", true),
            ("postgres: {enabled: On}", true),
            ("postgres: {enabled: TRUE}", true),
            ("postgres: {enabled: no}", false),
            ("postgres: {enabled: yEs}", false),
            ("postgres: {enabled: false}\npostgres: {enabled: true}", true),
            ("postgres:\n  enabled: true\n  enabled: false\n", false),
        ] {
            assert_eq!(contract(text).embedded, embedded, "{text}");
        }
        let local = contract("config: {openai: {baseUrl: 'http://host.minikube.internal:11434/v1'}}");
        assert!(!local.asks_openai() && contract("").asks_openai());
    }

    #[test]
    fn reports_the_line_of_a_mistake_in_a_values_file() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        std::fs::write(root.join("v.yaml"), "a: 1\nb: [\n").unwrap();
        let error = yaml(root, "v.yaml".into()).unwrap_err().to_string();
        assert!(error.starts_with("v.yaml:"), "{error}");
        for text in ["a: 1\nb: 2\n c: [\n", "a: 1\nb: 2\nc: \"x\nd: 1\n", "a: 1\nb: 2\nc 3\n", "a: 1\nb: 2\n\tc: 1\n"] {
            std::fs::write(root.join("v.yaml"), text).unwrap();
            let error = yaml(root, "v.yaml".into()).unwrap_err().to_string();
            assert!(error.starts_with("v.yaml:3: "), "{text}: {error}");
        }
        assert!(yaml(root, "w.yaml".into()).unwrap_err().to_string().starts_with("cannot read w.yaml"));
    }
}
