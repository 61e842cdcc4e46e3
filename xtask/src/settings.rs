//! `infra/xtask.toml`. An unknown or missing key is an error with its line.

use std::collections::BTreeMap;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;

use crate::failure::{Change, Class, Failure, Hint, describe_type, nearest};
use crate::labels::Release;
use crate::pins;

/// Path of the settings in the repository.
pub const FILE: &str = "infra/xtask.toml";

/// The whole of `infra/xtask.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The one chart and where it is released.
    pub chart: Chart,
    /// The minikube profile.
    pub cluster: Cluster,
    /// Deployable environments by name.
    pub environments: BTreeMap<String, Environment>,
    /// Names, paths and commands of the application, apart from its keys.
    pub application: Application,
    /// The chart's components by role.
    pub components: Components,
    /// The images that are built here, by name.
    pub images: BTreeMap<String, ImageSettings>,
    /// The embedded database.
    pub database: Database,
    /// The keys of `.env` that xtask knows.
    pub keys: Keys,
    /// The settings of `cargo xtask dev`.
    pub dev: Dev,
}

/// Names, paths and commands of the application, apart from its keys.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// The header with the Service and the pod that answered.
    pub identity_header: String,
    /// The command in the backend's image that checks a database.
    pub preflight: Vec<String>,
    /// The folder where the backend finds the Secret.
    pub secrets: String,
    /// The folder with the migrations, in the backend's build context.
    pub migrations: String,
    /// Path of the chart value with the URL of the assistant's API.
    pub assistant_url: String,
}

/// Names of the chart's components by role.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Components {
    /// The API, which uses the Secret and the database.
    pub backend: String,
    /// The server of the pages.
    pub frontend: String,
    /// The embedded Postgres.
    pub database: String,
}

impl Components {
    /// Returns the name of every component.
    pub fn names(&self) -> [&str; 3] {
        [&self.backend, &self.frontend, &self.database]
    }
}

/// The settings of `cargo xtask dev`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dev {
    /// Host port of both applications.
    pub port: u16,
    /// The environment whose contract and settings apply.
    pub environment: String,
    /// The command in the backend's container that creates an account with as many todos as its last argument says.
    pub seed: Vec<String>,
    /// The scripted assistant of `--fake-assistant`.
    pub assistant: Assistant,
    /// The backend's log messages of level info that are not shown.
    pub quiet: Vec<String>,
    /// Path of the chart value of each variable of the containers.
    pub variables: BTreeMap<String, String>,
}

/// The scripted assistant of `dev`, which the backend's supervisor starts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assistant {
    /// Its source file, in the backend's folder.
    pub file: String,
    /// Its URL inside the backend's container.
    pub url: String,
}

/// The chart and its release.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chart {
    /// The chart's folder.
    pub path: Utf8PathBuf,
    /// The chart's name, which the label part-of of its objects has.
    pub name: String,
    /// Helm release name.
    pub release: String,
    /// Kubernetes namespace.
    pub namespace: String,
}

impl Chart {
    /// Returns the release, which decides which objects are ours.
    pub fn as_release(&self) -> Release {
        let (namespace, chart_path) = (self.namespace.clone(), self.path.clone());
        Release { name: self.release.clone(), namespace, chart: self.name.clone(), chart_path }
    }
}

/// The cluster that the project makes for itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// minikube profile and kube context.
    pub profile: String,
    /// Preferred host port of the ingress.
    pub port: u16,
    /// Kubernetes version, with the `v`.
    pub kubernetes: String,
    /// CPUs of the node.
    pub cpus: u32,
    /// Memory of the node in MiB.
    pub memory_mib: u64,
    /// Manifests of the ingress controller.
    pub ingress: Utf8PathBuf,
    /// Image of the ingress controller.
    pub ingress_image: String,
}

/// One deployable environment.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Helm values file.
    pub values: Utf8PathBuf,
}

/// One image built from a Dockerfile.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSettings {
    /// Build context, which holds the Dockerfile.
    pub context: Utf8PathBuf,
    /// Component of the chart that runs it.
    pub component: String,
    /// Build arguments that name base images.
    pub bases: BTreeMap<String, String>,
    /// The path prefix that the Ingress and the proxy of `dev` route to it.
    pub route: String,
    /// Its container port, and the port of its Service.
    pub port: u16,
    /// The path that `dev` waits for.
    pub ready: String,
    /// A path below its routes that needs no database.
    pub path: Option<String>,
}

/// The embedded database.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Its image.
    pub image: String,
    /// Its user, and its database.
    pub name: String,
}

/// The keys of `.env` that xtask knows, by the kind of their value.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The URL of a Postgres.
    pub postgres_url: String,
    /// The direct URL of the same Postgres, for migrations.
    pub postgres_direct_url: String,
    /// A random value.
    pub random: String,
    /// The key of OpenAI's API or a compatible one.
    pub openai_key: String,
}

impl Keys {
    /// Returns whether `key` names a database.
    pub fn is_postgres_url(&self, key: &str) -> bool {
        key == self.postgres_url || key == self.postgres_direct_url
    }
}

impl Settings {
    /// Reads the settings below `root`, with the pins in place of their names.
    pub fn read(root: &Utf8Path) -> Result<Self> {
        Self::parse(&pins::read_rendered(root, FILE)?)
    }

    /// Returns name and settings of the image of `component`, the backend or the frontend.
    pub fn image_of(&self, component: &str) -> (&String, &ImageSettings) {
        self.images.iter().find(|(_, image)| image.component == component).expect("checked by `parse`")
    }

    /// Returns the official names of the base images. Two images may have the same one.
    pub fn bases(&self) -> impl Iterator<Item = &String> {
        self.images.values().flat_map(|image| image.bases.values())
    }

    fn parse(text: &str) -> Result<Self> {
        let settings: Self = Self::from_toml(text)?;
        for name in [&settings.components.backend, &settings.components.frontend] {
            if !settings.images.values().any(|image| image.component == *name) {
                return Err(Failure::new(Class::Config, format!("{FILE}: no image has the component {name}"))
                    .help(format!("edit {FILE}; its comments describe every key"))
                    .into());
            }
        }
        Ok(settings)
    }

    fn from_toml(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            let place = error.span().map_or(String::new(), |span| format!(":{}", pins::line_of(text, span.start)));
            let failure = Failure::new(Class::Config, format!("{FILE}{place}: {}", error.message()));
            let edit = error.span().and_then(|span| edit(text, &text[span.clone()], span.start, error.message()));
            match edit {
                Some(hint) => failure.help(hint.of_file(FILE)),
                None => failure.help(format!("edit {FILE}; its comments describe every key")),
            }
            .into()
        })
    }

    /// Returns the environment `name`. The error names the known ones.
    pub fn environment(&self, name: &str) -> Result<&Environment> {
        self.environments.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.environments.keys().map(String::as_str).collect();
            let meant = nearest(name, names.iter().copied()).unwrap_or("dev");
            Failure::new(Class::Config, format!("there is no environment `{name}`; known are: {}", names.join(", ")))
                .help(format!("cargo xtask deploy {meant}"))
                .into()
        })
    }
}

/// Returns the only edit that fixes the parser's `message` about the `wrong` part at byte `at` of `text`, if there is
/// one.
fn edit(text: &str, wrong: &str, at: usize, message: &str) -> Option<Hint> {
    let line = pins::line_of(text, at);
    if let Some((_, rest)) = message.split_once("unknown field `") {
        let (name, rest) = rest.split_once('`')?;
        // A change of one line cannot fix a table, nor a name beside the right one.
        let (_, value) = text.lines().nth(line - 1)?.split_once('=')?;
        let change = match nearest(name, rest.split('`').skip(1).step_by(2)) {
            Some(to) if table(text, line).any(|line| line.split('=').next().is_some_and(|key| key.trim() == to)) => {
                return None;
            }
            Some(to) => Change::Rename(to.into()),
            None if value.trim_start().starts_with(['{', '[']) => return None,
            None => Change::Remove,
        };
        return Some(Hint::edit(line, name, change));
    }
    let (_, expected) = message.split_once(", expected ")?;
    let (key, value) = text.lines().nth(line - 1)?.split_once('=')?;
    if value.trim_start().starts_with(['{', '[']) {
        return None;
    }
    let number = wrong.trim_matches('"');
    let is_quoted = wrong != number && expected.starts_with('u') && number.parse::<u32>().is_ok();
    let change = match is_quoted {
        true => Change::Set(number.to_owned()),
        false => Change::SetDescribed(describe_type(expected)?.to_owned()),
    };
    message.starts_with("invalid ").then(|| Hint::edit(line, key.trim(), change))
}

/// Returns the lines of the table that contains `line` of `text`.
fn table(text: &str, line: usize) -> impl Iterator<Item = &str> {
    let is_header = |line: &str| line.starts_with('[');
    let begin =
        text.lines().take(line).enumerate().filter(|(_, line)| is_header(line)).last().map_or(0, |(at, _)| at + 1);
    text.lines().skip(begin).take_while(move |line| !is_header(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn real() -> Settings {
        Settings::read(&crate::checkout::find(None)).unwrap()
    }

    #[test]
    fn the_real_file_is_valid() {
        assert_eq!(real().images.len(), 2);
        let real = pins::read_rendered(&crate::checkout::find(None), FILE).unwrap();
        let error = Settings::parse(&real.replace("component = \"backend\"", "component = \"server\"")).unwrap_err();
        assert_eq!(error.to_string(), "infra/xtask.toml: no image has the component backend");
    }

    #[test]
    fn the_chart_and_the_ingress_controller_have_the_names_of_the_settings() {
        let (root, settings) = (crate::checkout::find(None), real());
        let read = |path: &Utf8Path| std::fs::read_to_string(root.join(path)).unwrap();
        let chart = read(&settings.chart.path.join("Chart.yaml"));
        assert!(chart.contains(&format!("\nname: {}\n", settings.chart.name)), "{chart}");
        let label = format!("app.kubernetes.io/part-of: {}", settings.chart.name);
        let controller = read(&settings.cluster.ingress.join("30-deployment.yaml"));
        assert!(controller.contains(&label), "{label}");
        let database = read(&settings.chart.path.join("templates/postgres/statefulset.yaml"));
        for name in ["POSTGRES_USER", "POSTGRES_DB"] {
            assert!(
                database.contains(&format!("- name: {name}\n              value: {}\n", settings.database.name)),
                "{name}"
            );
        }
        let values = read(&settings.chart.path.join("values.yaml"));
        for component in settings.components.names() {
            assert!(values.contains(&format!("\n{component}:\n")), "{component}");
        }
        let backend = read(&settings.chart.path.join("templates/backend/deployment.yaml"));
        assert!(backend.contains(&format!("mountPath: {}", settings.application.secrets)));
    }

    #[test]
    fn the_chart_has_the_routes_and_ports_of_the_settings() {
        let (root, settings) = (crate::checkout::find(None), real());
        let read = |path: &str| std::fs::read_to_string(root.join(&settings.chart.path).join(path)).unwrap();
        let ingress: String = read("templates/ingress.yaml").split_whitespace().collect();
        assert_eq!(ingress.matches("-path:").count(), settings.images.len(), "{ingress}");
        for ImageSettings { component, route, port, .. } in settings.images.values() {
            let service = format!("service:name:{{{{include\"{}.{component}.name\".}}}}", settings.chart.name);
            let rule = format!("-path:{route}pathType:Prefixbackend:{service}port:name:http");
            assert!(ingress.contains(&rule), "{rule}");
            let service = read(&format!("templates/{component}/service.yaml"));
            assert!(service.contains(&format!("\"{component}\" {port} ")), "{service}");
            let container = format!("- name: http\n              containerPort: {port}\n");
            assert!(read(&format!("templates/{component}/deployment.yaml")).contains(&container), "{component}");
        }
    }

    #[test]
    fn code_names_no_path_that_is_a_setting() {
        let (root, settings) = (crate::checkout::find(None), real());
        let contexts = settings.images.values().map(|image| &image.context);
        let paths: Vec<&Utf8PathBuf> = contexts.chain([&settings.chart.path, &settings.cluster.ingress]).collect();
        for file in walkdir::WalkDir::new(root.join("xtask/src")).into_iter().map(|entry| entry.unwrap().into_path()) {
            if file.extension().is_none_or(|end| end != "rs") || file.ends_with("tests.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                assert!(!paths.iter().any(|path| line.contains(path.as_str())), "{}: {line}", file.display());
            }
        }
    }

    #[test]
    fn reports_the_line_of_a_mistake() {
        let error = Settings::parse("[chart]\npath = \"x\"\nreleas = \"y\"\n").unwrap_err().to_string();
        assert!(error.starts_with("infra/xtask.toml:3: unknown field `releas`"), "{error}");
    }

    #[test]
    fn a_mistake_with_one_way_out_has_an_edit() {
        let real = pins::read_rendered(&crate::checkout::find(None), FILE).unwrap();
        let line = 1 + real.lines().position(|line| line == "port = 8080").unwrap();
        for (wrong, hint) in [
            ("prot = 8080", format!("rename prot in {FILE}:{line} to port")),
            ("port = 8080\ncolour = 1", format!("remove colour from {FILE}:{}", line + 1)),
            ("port = \"8081\"", format!("set port in {FILE}:{line} to 8081")),
            ("port = \"http\"", format!("set port in {FILE}:{line} to a whole number from 0 to 65535")),
            ("port = 80800", format!("set port in {FILE}:{line} to a whole number from 0 to 65535")),
            ("", format!("edit {FILE}; its comments describe every key")),
        ] {
            let error = Settings::parse(&real.replace("port = 8080", wrong)).unwrap_err();
            assert_eq!(error.downcast_ref::<Failure>().unwrap().hints(), [hint], "{wrong}");
        }
        let cpus = real.lines().find(|line| line.starts_with("cpus = ")).unwrap();
        let error = Settings::parse(&real.replace(cpus, "cpus = 5000000000")).unwrap_err();
        let hint = &error.downcast_ref::<Failure>().unwrap().hints()[0];
        assert!(hint.ends_with("to a whole number from 0 to 4294967295"), "{hint}");
    }

    #[test]
    fn an_unknown_environment_is_an_error_with_the_known_ones() {
        let error = real().environment("dve").unwrap_err();
        let failure = error.downcast_ref::<Failure>().unwrap();
        assert!(failure.to_string().contains("known are: dev"));
        assert_eq!(failure.hints(), ["cargo xtask deploy dev"]);
    }
}
