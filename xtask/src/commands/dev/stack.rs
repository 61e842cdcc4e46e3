//! The containers of `dev`, their network and volumes. A label names the checkout, so that the next `dev` and `teardown`
//! find what a killed `dev` left.

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{APPS, App, Dev};
use crate::deadlines;
use crate::dotenv::Contract;
use crate::engine::Engine;
use crate::engine::paths::EnginePaths;
use crate::failure::{Class, Failure};
use crate::files;
use crate::lock::{self, Lock};
use crate::private;
use crate::process::Process;
use crate::secrets::Secret;
use crate::settings::{ImageSettings, Settings};
use crate::stages::machine;
use crate::toolbox::Toolbox;
use crate::toolchain::Toolchain;
use crate::units::hex;

/// The label whose value is the path of the checkout.
const LABEL: &str = "todo-xtask.dev";
/// The mark in all container, network and volume names: `<release>-dev-<ID of the checkout>-<part>`.
const MARK: &str = "-dev-";
/// The length of the ID of a checkout, in hex digits.
const ID_LENGTH: usize = 8;
/// The name part of the volume with the todos.
pub const DATA: &str = "data";
/// The label whose value is the ID of the serving process.
const PROCESS: &str = "todo-xtask.dev.process";
/// The port of the proxy in its container, as in the Ingress controller's pod.
const PROXY_PORT: u16 = 8000;
/// The folder of the database's socket. The database listens nowhere else, so it needs no password.
const SOCKET: &str = "/var/run/postgresql";

/// The containers, network and volumes of one checkout.
#[derive(Clone)]
pub struct Stack {
    engine: Engine,
    release: String,
    checkout: Utf8PathBuf,
    id: String,
}

impl Stack {
    /// Returns the stack of `checkout`.
    pub fn new(release: &str, checkout: &Utf8Path, engine: &Engine) -> Self {
        Self { engine: engine.clone(), release: release.to_owned(), checkout: checkout.to_owned(), id: id(checkout) }
    }

    /// Returns the name of a part in the engine.
    pub fn name(&self, part: &str) -> String {
        format!("{}{MARK}{}-{}", self.release, self.id, part.replace(' ', "-"))
    }

    fn label(&self) -> String {
        format!("{LABEL}={}", self.checkout)
    }

    /// Lists the objects of this kind that belong to the checkout and match `filters`.
    fn list(&self, noun: &str, filters: &[String]) -> Result<Vec<String>> {
        let all = if noun == "container" { ["--all"].as_slice() } else { &[] };
        let list = self.engine.docker().args([noun, "ls", "--quiet"]).args(all.iter().copied());
        let filters = filters.iter().flat_map(|filter| ["--filter".to_owned(), filter.clone()]);
        let list = list.args(["--filter", &format!("label={}", self.label())]).args(filters);
        let text = list.deadline(deadlines::ENGINE_QUESTION).read().map_err(|error| {
            Failure::new(Class::Machine, format!("cannot list the {noun}s of `dev`"))
                .because(error)
                .help("see whether the engine answers: cargo xtask doctor")
        })?;
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }

    /// Removes the objects of this kind and checks that they are gone. Returns how many it found.
    fn remove(&self, noun: &str, filters: &[String]) -> Result<usize> {
        let found = self.list(noun, filters)?;
        if found.is_empty() {
            return Ok(0);
        }
        let force = if noun == "network" { [].as_slice() } else { &["--force"] };
        let remove = self.engine.docker().args([noun, "rm"]).args(force.iter().copied()).args(found.clone());
        let result = remove.run();
        // Check again after an error: a container of a killed `dev` may end by itself meanwhile.
        let left = self.list(noun, filters)?;
        if !left.is_empty() {
            result?;
            let what = format!("the Docker Engine removed the {noun}s of `dev`, but still lists {}", left.join(", "));
            return Err(Failure::new(Class::Machine, what).help("remove them again: cargo xtask teardown").into());
        }
        Ok(found.len())
    }

    /// Removes the containers that a killed `dev` left, and creates the network. Returns the number of those containers.
    pub fn prepare(&self) -> Result<usize> {
        // Tests of `dev test` are in no network and keep running.
        let left = self.remove("container", &[format!("network={}", self.name("network"))])?;
        if self.list("network", &[])?.is_empty() {
            self.engine.docker().args(["network", "create", "--label", &self.label(), &self.name("network")]).run()?;
        }
        Ok(left)
    }

    /// Fails if a program holds the port, and names it. `instead` is the alternative to stopping that program.
    pub fn check_port(&self, port: u16, instead: &str) -> Result<()> {
        let ours = format!("{{{{.Label \"{LABEL}\"}}}} (process {{{{.Label \"{PROCESS}\"}}}})");
        let list = self.engine.docker().args(["container", "ls", "--format", &ours]);
        let list = list.args(["--filter", &format!("publish={port}"), "--filter", &format!("label={LABEL}")]);
        let published = list.deadline(deadlines::ENGINE_QUESTION).read()?;
        let holder = match published.trim() {
            "" => machine::port_holder(port).map(|holder| holder.to_string()),
            checkout => Some(format!("`cargo xtask dev` of {checkout}")),
        };
        let Some(holder) = holder else { return Ok(()) };
        Err(Failure::new(Class::Machine, format!("port {port} is held by {holder}"))
            .help(format!("stop it, or {instead}"))
            .into())
    }

    fn docker(&self, verb: &str, part: &str, image: &str, options: &[String]) -> Process {
        let network = [format!("--network={}", self.name("network"))];
        self.container(verb, part, image, &[&network, options].concat())
    }

    fn container(&self, verb: &str, part: &str, image: &str, options: &[String]) -> Process {
        self.engine
            .docker()
            .args([verb, "--rm", "--pull=never", "--security-opt=no-new-privileges"])
            .args(["--name".to_owned(), self.name(part), "--label".to_owned(), self.label()])
            .arg(format!("--label={PROCESS}={}", std::process::id()))
            .args(options.to_vec())
            .arg(image)
            .deadline(deadlines::DEV)
    }

    /// Returns the command that runs tests as `part` in `image`.
    pub fn tests(&self, part: &str, image: &str) -> Process {
        let options = ["--init", "--interactive", "--network=none"].map(str::to_owned);
        self.container("run", part, image, &options)
    }

    /// Returns the command that runs the browser's tests as `part` in `image`, in the network of the running `dev`.
    pub fn browser_tests(&self, part: &str, image: &str) -> Result<Process> {
        let parts = ["proxy", App::Backend.name(), App::Frontend.name()].map(|part| self.name(part));
        let seen = self.engine.inspect("container", &parts)?.found;
        if seen.iter().filter(|part| part["State"]["Running"] == true).count() < parts.len() {
            let what = "the browser's tests need a running `cargo xtask dev`, and none runs in this checkout";
            let help = "in another terminal: cargo xtask dev    (the next save then runs the tests)";
            return Err(Failure::new(Class::Machine, what).help(help).into());
        }
        let is_scripted = seen.iter().any(|part| part["Config"]["Env"].to_string().contains("FAKE_ASSISTANT=1"));
        let assistant = if is_scripted { "scripted" } else { "off" };
        let [proxy, ..] = parts;
        let options = [
            format!("--network=container:{proxy}"),
            "--init".to_owned(),
            "--shm-size=256m".to_owned(),
            format!("--env=BASE_URL=http://localhost:{PROXY_PORT}"),
            format!("--env=ASSISTANT={assistant}"),
        ];
        Ok(self.container("run", part, image, &options))
    }

    /// Removes the container of `part` if it exists.
    pub fn end(&self, part: &str) -> Result<()> {
        let name = self.name(part);
        let force = self.engine.docker().args(["container", "rm", "--force", &name]);
        let result = force.run();
        if self.engine.inspect_one("container", &name)?.is_some() { result } else { Ok(()) }
    }

    fn volume(&self, part: &str, path: &str) -> String {
        format!("--mount=type=volume,source={},target={path},volume-label={}", self.name(part), self.label())
    }

    /// Makes the proxy, which is the Ingress controller's program with its settings and the Ingress' routes. Returns the
    /// command that runs it.
    pub fn proxy(&self, settings: &Settings, toolchain: &Toolchain) -> Result<Process> {
        let manifest = settings.cluster.ingress.join("30-deployment.yaml");
        let text = files::read(&self.checkout.join(&manifest))?.ok_or_else(|| {
            let what = format!("{manifest} is not there: `dev` takes the settings of its proxy from it");
            Failure::new(Class::Config, what).help("bring it back, or correct cluster.ingress in infra/xtask.toml")
        })?;
        let args = text.lines().filter_map(|line| line.trim().strip_prefix("- --"));
        // Kubernetes' part of it, TLS, and what waits for kubelet.
        let is_clusters =
            |arg: &str| ["providers.", "entrypoints.websecure.", "ping"].iter().any(|part| arg.starts_with(part));
        let args = args.filter(|arg| !is_clusters(arg)).map(|arg| format!("--{arg}"));
        let image = toolchain.origin.image(&settings.cluster.ingress_image);
        let publish = format!("--publish=127.0.0.1:{}:{PROXY_PORT}", settings.dev.port);
        self.docker("create", "proxy", &image, &[publish])
            .args(args)
            // Open streams do not keep it from ending.
            .args(["--providers.file.filename=/routes.yaml", "--entrypoints.web.transport.lifecycle.graceTimeOut=0s"])
            .arg("--entrypoints.web.transport.lifecycle.requestAcceptGraceTimeout=0s")
            .deadline(deadlines::ENGINE_QUESTION)
            .run()?;
        let routes = serde_norway::to_string(&routes(settings))?;
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(routes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, "routes.yaml", routes.as_bytes())?;
        let copy = self.engine.docker().args(["container", "cp", "-", &format!("{}:/", self.name("proxy"))]);
        copy.stdin(tar.into_inner()?).run()?;
        Ok(self.engine.docker().args(["container", "start", "--attach", &self.name("proxy")]).deadline(deadlines::DEV))
    }

    /// Returns the command that runs the database.
    pub fn postgres(&self, settings: &Settings, toolchain: &Toolchain) -> Process {
        let data = "/var/lib/postgresql/data";
        let mut options = vec![self.volume(DATA, data), self.volume("socket", SOCKET)];
        // The image requires a password, which nobody can use: the socket asks for none.
        let name = settings.database.name.as_str();
        let pairs = [("USER", name), ("DB", name), ("PASSWORD", "not-a-secret")];
        options.extend(pairs.map(|(name, value)| format!("--env=POSTGRES_{name}={value}")));
        options.push(format!("--env=PGDATA={data}/pgdata"));
        let image = toolchain.origin.image(&settings.database.image);
        self.docker("run", "postgres", &image, &options).args(["postgres", "-c", "listen_addresses="])
    }

    /// Returns the command that runs `app` in `image`.
    pub fn application(&self, app: App, image: &str, settings: &Settings, contract: &Contract, args: &Dev) -> Process {
        let mut options: Vec<String> = ["--init", "--interactive", "--cap-drop=ALL"].map(str::to_owned).to_vec();
        options.push(format!("--network-alias={}", app.name()));
        options.extend(contract.variables.iter().map(|(name, value)| format!("--env={name}={value}")));
        if app == App::Backend {
            let secrets = &settings.application.secrets;
            options.push(format!("--tmpfs={secrets}:mode=0700,uid=10001"));
            options.push(format!("--env=SECRETS_DIR={secrets}"));
            if contract.embedded {
                options.push(self.volume("socket", SOCKET));
            }
            options.extend(args.fake_assistant.then(|| "--env=FAKE_ASSISTANT=1".to_owned()));
        }
        if args.debug.contains(&app) {
            options.push(format!("--env=DEBUG_PORT={}", app.debug_port()));
            options.push(format!("--publish=127.0.0.1:{0}:{0}", app.debug_port()));
        }
        self.docker("run", app.name(), image, &options)
    }

    /// Returns a process that creates an account with `count` todos by `command`, in the backend's container.
    pub fn seed(&self, command: &[String], count: u32) -> Process {
        let exec = self.engine.docker().args(["exec", &self.name(App::Backend.name())]);
        exec.args(command.to_vec()).arg(count.to_string())
    }
}

/// Returns Traefik's configuration with the routes of the Ingress: prefixes are path elements, so `/apix` is not below `/api`.
/// Traefik tries the longest rule first, and thus the longest prefix.
fn routes(settings: &Settings) -> Value {
    let mut http = json!({"routers": {}, "services": {}});
    for app in APPS {
        let ImageSettings { route, port, .. } = app.image(settings).1;
        let rule = format!("Path(`{route}`) || PathPrefix(`{}/`)", route.trim_end_matches('/'));
        http["routers"][app.name()] = json!({"rule": rule, "service": app.name()});
        let url = format!("http://{}:{port}", app.name());
        http["services"][app.name()] = json!({"loadBalancer": {"servers": [{"url": url}]}});
    }
    json!({ "http": http })
}

/// Returns the URL of the database `name` in [`Stack::postgres`].
pub fn database_url(name: &str) -> Secret {
    Secret::new(format!("postgresql://{name}@/{name}?host={SOCKET}"))
}

fn id(checkout: &Utf8Path) -> String {
    hex(&Sha256::digest(checkout.as_str()))[..ID_LENGTH].to_owned()
}

/// Returns the private engine's volumes with todos of any checkout, even if the engine does not run.
pub fn stored_todos(paths: &EnginePaths) -> Result<Vec<String>> {
    let folders = files::entries(&paths.data().join("volumes"))?;
    let names = folders.iter().filter_map(|folder| folder.file_name());
    let mut todos: Vec<String> = names.filter(|name| is_todos(name)).map(str::to_owned).collect();
    todos.sort();
    Ok(todos)
}

fn is_todos(volume: &str) -> bool {
    part_of(volume) == Some(DATA)
}

/// Returns the part that a container or volume is of the `dev` of any checkout, whatever its release is called.
pub fn part_of(name: &str) -> Option<&str> {
    name.match_indices(MARK).find_map(|(at, _)| {
        let (id, part) = name[at + MARK.len()..].split_at_checked(ID_LENGTH)?;
        part.strip_prefix('-').filter(|_| id.bytes().all(|byte| byte.is_ascii_hexdigit()))
    })
}

/// Returns the line that asks for consent to delete the volume with todos.
pub fn loss(volume: &str) -> String {
    format!("delete the todos of `cargo xtask dev`: volume {volume}")
}

/// Records for `teardown` that `checkout` may have objects in the engine.
pub fn mark(cache: &Utf8Path, checkout: &Utf8Path) -> Result<()> {
    private::create_dir(&cache.join("dev"))?;
    private::write(&mark_of(cache, checkout), checkout.as_str())
}

fn mark_of(cache: &Utf8Path, checkout: &Utf8Path) -> Utf8PathBuf {
    cache.join("dev").join(id(checkout))
}

/// Removes the containers and the network of `dev` of `checkout`, with `data` also its volumes, after a question unless `yes`.
/// Returns the volume with the todos if it stays.
pub fn tear_down(tools: &Toolbox, release: &str, checkout: &Utf8Path, data: bool, yes: bool) -> Result<Option<String>> {
    let Toolbox { cache, report, .. } = tools;
    let mark = mark_of(cache, checkout);
    if !files::exists(&mark)? {
        return Ok(None);
    }
    // Fails if `dev` runs: its user may be working.
    let _locks = (lock(cache, checkout, "")?, lock(cache, checkout, "-test")?);
    let stack = Stack::new(release, checkout, &tools.engine);
    let name = stack.name(DATA);
    let has_todos = !stack.list("volume", &[])?.is_empty();
    if data && has_todos {
        machine::consent_to(report, yes, &[loss(&name)], "without flags the todos stay: cargo xtask teardown")?;
    }
    let ended = stack.remove("container", &[])?;
    stack.remove("network", &[])?;
    if data {
        stack.remove("volume", &[])?;
        files::remove(&mark)?;
    }
    let todos = if data && has_todos { " and todos" } else { "" };
    report.ok(format!("containers ({ended}), network{todos} of `cargo xtask dev` removed"));
    Ok((has_todos && !data).then_some(name))
}

/// Takes the lock of `dev` in `checkout`. The error names the process that holds it.
pub fn lock(cache: &Utf8Path, checkout: &Utf8Path, suffix: &str) -> Result<Lock> {
    lock::take(&cache.join("locks"), &format!("dev-{}{suffix}", id(checkout)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_routes_path_elements_to_the_applications() {
        let routes = routes(&Settings::read(&crate::checkout::find(None)).unwrap())["http"].take();
        let rules = ["backend", "frontend"].map(|app| routes["routers"][app]["rule"].as_str().unwrap());
        assert_eq!(rules, ["Path(`/api`) || PathPrefix(`/api/`)", "Path(`/`) || PathPrefix(`/`)"]);
        assert!(rules[0].len() > rules[1].len(), "Traefik tries the longest rule first");
        assert_eq!(routes["services"]["backend"]["loadBalancer"]["servers"][0]["url"], "http://backend:8000");
    }
}
