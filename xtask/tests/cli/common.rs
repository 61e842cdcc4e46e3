//! A temporary checkout with fake tools, and runs of xtask in it.

use std::fmt;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use regex::Regex;
use serde_json::{Value, json};
use xtask::units::quote;

use crate::api_server::{ApiServer, Reply};

/// A proxy on a closed port, so that network access fails at once.
pub const OFFLINE: [(&str, &str); 1] = [("HTTPS_PROXY", "http://127.0.0.1:9")];

/// The ID of every image in the fake engine.
pub const ID: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Returns the checkout under test.
pub fn checkout() -> &'static Utf8Path {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Returns a script for `docker image inspect` that has every requested image.
pub fn inspect() -> String {
    format!(r#"for name; do case $name in image | inspect | *{{* | --*) ;; *) {} ;; esac; done"#, image(ID, ""))
}

/// Returns a script that prints the image `$name` in the engine's form, with `more` fields.
pub fn image(id: &str, more: &str) -> String {
    format!(r#"echo "{{\"Id\": \"{id}\", \"RepoTags\": [\"$name\"]{more}}}""#)
}

/// Returns a script for `docker image inspect` that has no image.
pub fn no_image() -> String {
    let say = r#"echo "Error response from daemon: No such image: $name" >&2"#;
    format!("for name; do case $name in image | inspect | *{{{{* | --*) ;; *) {say} ;; esac; done; exit 1")
}

/// A valid `.env`. Its canary must appear nowhere else.
pub const DOTENV: &str = "AUTH_SECRET=not-a-secret-canary-0123456789abcdef\n";

/// The label of minikube's nodes.
const LABEL: &str = "created_by.minikube.sigs.k8s.io";

/// Longer than any wait in these tests, even on a busy machine.
pub const TIME_LIMIT: Duration = Duration::from_secs(120);

/// A temporary checkout, home, cache and PATH. Dropping it removes all files.
pub struct Sandbox {
    _temp: tempfile::TempDir,
    /// The folder that contains all the others.
    pub dir: Utf8PathBuf,
    /// The checkout.
    pub root: Utf8PathBuf,
    /// The cache, in the folder that TODO_XTASK_CACHE names. It does not exist at first.
    pub cache: Utf8PathBuf,
    /// The file that KUBECONFIG names. It does not exist at first.
    pub kubeconfig: Utf8PathBuf,
    fakes: Utf8PathBuf,
    rules: Mutex<Vec<String>>,
    api: OnceLock<ApiServer>,
}

impl Sandbox {
    /// Copies the project's `infra`, with one-line Dockerfiles. Without engine, tools and `.env`.
    pub fn new() -> Self {
        let temp = tempfile::Builder::new().prefix("xtask-cli-").tempdir().unwrap();
        let dir = Utf8Path::from_path(temp.path()).unwrap().canonicalize_utf8().unwrap();
        let [root, bin, fakes, home] = ["root", "bin", "fakes", "home"].map(|name| dir.join(name));
        for folder in [&root, &bin, &fakes, &home] {
            fs::create_dir(folder).unwrap();
        }
        let project = checkout();
        copy(&project.join("infra"), &root.join("infra"));
        fs::copy(project.join(".env.example"), root.join(".env.example")).unwrap();
        for app in ["backend", "frontend"] {
            let context = root.join("apps").join(app);
            fs::create_dir_all(&context).unwrap();
            fs::write(context.join("Dockerfile"), format!("FROM {app}\n")).unwrap();
        }
        for name in ["rules", "calls", "environment", "stdin"] {
            fs::write(fakes.join(name), "").unwrap();
        }
        let path = std::env::var_os("PATH").unwrap();
        for program in ["sh", "cat", "sleep", "git", "rm"] {
            let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file());
            symlink(found.unwrap(), bin.join(program)).unwrap();
        }
        let play = format!("#!/bin/sh\nFAKES='{fakes}'\n{}", include_str!("fake.sh"));
        fs::write(fakes.join("play"), play).unwrap();
        fs::set_permissions(fakes.join("play"), fs::Permissions::from_mode(0o755)).unwrap();
        let (cache, kubeconfig) = (dir.join("todo-xtask"), dir.join("kubeconfig"));
        let this =
            Self { _temp: temp, dir, root, cache, kubeconfig, fakes, rules: Mutex::default(), api: OnceLock::new() };
        // The tests must not depend on this machine's memory.
        this.edit("infra/xtask.toml", |text| text.replace("memory_mib = 6144", "memory_mib = 3"));
        this
    }

    /// Returns a sandbox with the user's own Docker Engine, which has every image, and the tools of the origin `release`.
    pub fn with_tools() -> Self {
        let this = Self::with_engine();
        let manifest: toml::Table = toml::from_str(&this.read("infra/release.toml")).unwrap();
        let os = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        for tool in ["kubectl", "helm", "minikube"] {
            let sha = manifest[tool][&format!("{os}-{arch}")]["sha256"].as_str().unwrap();
            let folder = this.cache.join("release").join(&sha[..16]);
            fs::create_dir_all(&folder).unwrap();
            symlink(this.script(), folder.join(tool)).unwrap();
        }
        this.on("docker image inspect *", &inspect());
        this
    }

    /// Returns a sandbox with the user's own Docker Engine, which is empty.
    pub fn with_engine() -> Self {
        let this = Self::new();
        this.fake_tool("docker");
        // The configuration is invalid JSON, so xtask must ask the client for its endpoint.
        fs::create_dir(this.dir.join("home/.docker")).unwrap();
        fs::write(this.dir.join("home/.docker/config.json"), "{").unwrap();
        this.on("docker version *", "echo 29.1.0");
        this.on("docker context show", "echo default");
        this.on("docker context inspect *", "echo default unix:///var/run/docker.sock");
        this.on("docker image inspect *", &no_image());
        this.on("docker info *", "echo 25769803776 8");
        this.on("docker exec -i todo systemctl is-active kubelet", "echo inactive; exit 3");
        this.on("docker image ls *", "");
        this.on(
            "docker system df *",
            "printf 'Images\\t0\\t0B\\nContainers\\t0\\t0B\\nLocal Volumes\\t0\\t0B\\nBuild Cache\\t0\\t0B\\n'",
        );
        this.on(
            "docker network inspect *",
            "for name; do :; done; echo \"Error response from daemon: network $name not found\" >&2; exit 1",
        );
        for noun in ["container", "volume"] {
            let none =
                format!("for name; do :; done; echo \"Error response from daemon: No such {noun}: $name\" >&2; exit 1");
            this.on(&format!("docker {noun} inspect *"), &none);
        }
        this
    }

    /// Returns the cluster's API server and writes minikube's certificates for it. The first call starts it.
    pub fn api(&self) -> &ApiServer {
        self.api.get_or_init(|| {
            let server = ApiServer::start();
            let folder = self.dir.join("home/.minikube");
            let profile = folder.join("profiles/todo");
            fs::create_dir_all(&profile).unwrap();
            fs::write(folder.join("ca.crt"), &server.authority).unwrap();
            fs::write(profile.join("client.crt"), &server.certificate).unwrap();
            fs::write(profile.join("client.key"), &server.key).unwrap();
            server
        })
    }

    /// Adds a fake `tool` to PATH.
    pub fn fake_tool(&self, tool: &str) {
        symlink(self.script(), self.dir.join("bin").join(tool)).unwrap();
    }

    /// Returns the script of all fakes. It contains its folder's path, because xtask passes no environment on to tools.
    fn script(&self) -> Utf8PathBuf {
        self.fakes.join("play")
    }

    /// Answers commands that match the shell pattern by `script`, which may use the folder `$FAKES`.
    pub fn on(&self, pattern: &str, script: &str) {
        let mut rules = self.rules.lock().unwrap();
        let name = format!("reply-{}", rules.len());
        fs::write(self.fakes.join(&name), script).unwrap();
        let pattern = quote(pattern);
        rules.insert(0, format!("p={pattern}; case $all in $p) . \"$FAKES/{name}\"; exit 0 ;; esac\n"));
        fs::write(self.fakes.join("rules"), rules.concat()).unwrap();
    }

    /// Lets the fake cargo build the workspace member `package` as a program that runs `script`.
    pub fn member(&self, package: &str, script: &str) {
        let program = self.dir.join(package);
        fs::write(&program, format!("#!/bin/sh\nFAKES='{}'\n{script}\n", self.fakes)).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        self.fake_tool("cargo");
        let message = json!({"reason": "compiler-artifact", "executable": program});
        self.on(&format!("cargo build * --package {package}"), &format!("echo Compiling >&2; echo '{message}'"));
    }

    /// Adds minikube's record of profile `todo` to the user's folder, as an xtask before 0.3 did.
    pub fn profile(&self, runtime: &str) {
        self.record(runtime, &["127.0.0.1:8080:80"]);
    }

    /// Adds a profile `todo` that the user created.
    pub fn users_profile(&self) {
        self.record("containerd", &[]);
    }

    fn record(&self, runtime: &str, ports: &[&str]) {
        let folder = self.dir.join("home/.minikube/profiles/todo");
        fs::create_dir_all(&folder).unwrap();
        let kubernetes = json!({"ContainerRuntime": runtime, "KubernetesVersion": self.pinned()});
        let config = json!({"Nodes": [{"IP": "192.168.49.2", "Port": 8443}], "KubernetesConfig": kubernetes,
            "ExposedPorts": ports});
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
    }

    /// Returns the Kubernetes version that the checkout pins.
    pub fn pinned(&self) -> String {
        let pins: toml::Table = toml::from_str(&self.read("infra/pins.toml")).unwrap();
        format!("v{}", pins["kubernetes"]["version"].as_str().unwrap())
    }

    /// Changes the Kubernetes version in minikube's record of the profile.
    pub fn profile_runs(&self, kubernetes: &str) {
        let path = self.dir.join("home/.minikube/profiles/todo/config.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(&self.pinned(), kubernetes)).unwrap();
    }

    /// Adds a running profile `todo` with an ingress controller and a kubeconfig entry, but without a release.
    pub fn cluster(&self) {
        let class = json!({"kind": "IngressClass", "apiVersion": "networking.k8s.io/v1", "metadata": {"name": "nginx",
            "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}});
        self.api().put("/apis/networking.k8s.io/v1/ingressclasses/nginx", class);
        self.profile("containerd");
        self.node("running", 8080);
        self.on("docker exec -i todo ctr -n k8s.io images check *", ":");
        let minikube = self.dir.join("home/.minikube");
        let kubeconfig = json!({"current-context": "prod",
            "contexts": [{"name": "todo", "context": {"cluster": "todo", "user": "todo"}}],
            "clusters": [{"name": "todo", "cluster": {"server": "https://192.168.49.2:8443",
                                                      "certificate-authority": minikube.join("ca.crt")}}],
            "users": [{"name": "todo", "user": {"client-certificate": minikube.join("profiles/todo/client.crt")}}]});
        fs::write(&self.kubeconfig, kubeconfig.to_string()).unwrap();
    }

    /// Adds a namespace with a deployed Helm release, but without its workloads.
    pub fn release(&self) {
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let namespace =
            json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "todo", "labels": labels}});
        self.api().put("/api/v1/namespaces/todo", namespace);
        let labels = json!({"owner": "helm", "name": "todo", "version": "1", "status": "deployed"});
        let name = "sh.helm.release.v1.todo.v1";
        let secret = json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": name, "labels": labels}});
        self.api().put(&format!("/api/v1/namespaces/todo/secrets/{name}"), secret);
    }

    /// Adds a completed preflight pod with the log `text`.
    pub fn preflight(&self, text: &'static str) {
        let labels = json!({"batch.kubernetes.io/job-name": "todo-preflight"});
        let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "todo-preflight-x", "labels": labels},
            "status": {"containerStatuses": [{"state": {"terminated": {"exitCode": 0}}}]}});
        let path = "/api/v1/namespaces/todo/pods/todo-preflight-x";
        self.api().put(path, pod);
        self.api().on(&format!("GET {path}/log"), &[Reply::Text(200, text)]);
    }

    /// Adds the node of profile `todo` with this status and published port to the engine.
    pub fn node(&self, status: &str, port: u16) {
        self.container(LABEL, status, port);
    }

    /// Adds a container of the node's name with this label to the engine.
    pub fn container(&self, label: &str, status: &str, port: u16) {
        let container = self.container_json(label, status, port);
        self.on("docker container inspect * todo", &format!("echo '{container}'"));
    }

    /// Returns the node in the form of `docker container inspect`.
    pub fn node_json(&self, status: &str, port: u16) -> Value {
        self.container_json(LABEL, status, port)
    }

    fn container_json(&self, label: &str, status: &str, port: u16) -> Value {
        json!({"Name": "/todo", "State": {"Status": status},
            "Config": {"Labels": {label: "true"}},
            "NetworkSettings": {"Ports": self.api.get().map(|server| {
                json!({"8443/tcp": [{"HostIp": "127.0.0.1", "HostPort": server.address.port().to_string()}]})
            })},
            "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": port.to_string()}]}}})
    }

    /// Writes a `.env` that only the user can read.
    pub fn dotenv(&self, text: impl AsRef<[u8]>) {
        let path = self.root.join(".env");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Changes a file of the checkout. Fails if the text stays the same.
    pub fn edit(&self, path: &str, change: impl FnOnce(&str) -> String) {
        let before = self.read(path);
        let after = change(&before);
        assert_ne!(before, after, "{path} is not changed");
        fs::write(self.root.join(path), after).unwrap();
    }

    /// Returns the text of a file of the checkout.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap()
    }

    /// Returns the text of a file written by the fakes.
    pub fn fake(&self, name: &str) -> String {
        fs::read_to_string(self.fakes.join(name)).unwrap()
    }

    /// Signals the fakes by creating the file `$FAKES/name`.
    pub fn signal(&self, name: &str) {
        fs::write(self.fakes.join(name), "").unwrap();
    }

    /// Waits for a line that a fake writes to a file. Returns the line.
    pub fn wait_for_line(&self, name: &str) -> String {
        let start = Instant::now();
        loop {
            match fs::read_to_string(self.fakes.join(name)) {
                Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
                _ => assert!(start.elapsed() < TIME_LIMIT, "no fake wrote {name}; called: {}", self.fake("calls")),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns the commands of the fakes' calls, each kind once, in alphabetical order.
    pub fn calls(&self) -> String {
        let text = self.fake("calls");
        let calls: std::collections::BTreeSet<&str> = text.lines().collect();
        self.normalise(&calls.into_iter().collect::<Vec<_>>().join("\n"))
    }

    /// Returns all files below `dir` as `path: digest of content`, for comparison.
    pub fn listing(&self, dir: &Utf8Path) -> Vec<String> {
        let mut found = Vec::new();
        let entries = walkdir::WalkDir::new(dir).sort_by_file_name();
        for entry in entries.into_iter().filter_map(Result::ok) {
            let content = if entry.file_type().is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
            found.push(format!("{}: {content:?}", entry.path().display()));
        }
        found
    }

    /// Runs `cargo xtask <args>` and waits for its end.
    pub fn run(&self, args: &[&str]) -> Run {
        self.run_with(args, &[])
    }

    /// Runs like [`Sandbox::run`], with additional environment variables.
    pub fn run_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Run {
        self.start_with(args, environment).end()
    }

    /// Starts `cargo xtask <args>`.
    pub fn start(&self, args: &[&str]) -> Running<'_> {
        self.start_with(args, &[])
    }

    fn start_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Running<'_> {
        let mut command = self.command(args);
        command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running { child: Some(command.spawn().unwrap()), sandbox: self }
    }

    /// Returns `cargo xtask <args>` with a cleared environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(["--root", self.root.as_str()])
            .args(args)
            .env_clear()
            .env("PATH", self.dir.join("bin"))
            .env("HOME", self.dir.join("home"))
            .env("KUBECONFIG", &self.kubeconfig)
            .env("TODO_XTASK_CACHE", &self.dir)
            .current_dir(&self.dir)
            .stdin(Stdio::null());
        command
    }

    /// Replaces parts of `text` that differ between runs and machines.
    pub fn normalise(&self, text: &str) -> String {
        let own = fs::read_to_string("/proc/self/comm").unwrap_or_default();
        let text = text.replace(self.cache.as_str(), "<tmp>/cache").replace(self.dir.as_str(), "<tmp>");
        let mine = format!("{} (process {})", own.trim(), std::process::id());
        let text = text.replace(&mine, "<this test>").replace(" --force --ports", " --ports");
        let rules = [
            (r"[0-9]+\.[0-9]+ s", "<time>"),
            (r"\(pid [0-9]+\)", "(pid <pid>)"),
            (r"release/[0-9a-f]{16}/", "release/<sha>/"),
            (r"checksum is from [^ \n]+", "checksum is from <cite>"),
            (r"[0-9a-f]{64}", "<sha256>"),
            (r"https://[^ ]+/(releases?|helm)[/-][^ \n]+", "<url>"),
            (r"(linux|darwin)-(amd64|arm64)/", "<platform>/"),
            (r"v[0-9]+\.[0-9]+\.[0-9]+", "<version>"),
            (r"(infra/[a-z./-]+):[0-9]+:", "$1:<line>:"),
            (r"(todo-(backend|frontend)):[0-9a-f]{16}", "$1:<tag>"),
            (r#""tag":"[0-9a-f]{16}""#, r#""tag":"<tag>""#),
            (r"BUILD_ID=[0-9a-f]{16}", "BUILD_ID=<tag>"),
            (r"todo-backend-[0-9a-f]{8}", "todo-backend-<digest>"),
            (r"(?m)[ ]+$", ""),
        ];
        rules.iter().fold(text, |text, (rule, to)| Regex::new(rule).unwrap().replace_all(&text, *to).into_owned())
    }
}

/// A running xtask. Dropping it kills the process.
pub struct Running<'a> {
    child: Option<Child>,
    sandbox: &'a Sandbox,
}

impl Running<'_> {
    /// Returns the process ID.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Waits for the process to end.
    pub fn end(mut self) -> Run {
        Run::new(self.sandbox, self.child.take().unwrap().wait_with_output().unwrap())
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The result of a run. Its `Display` form has exit code and outputs, without parts that differ between runs.
pub struct Run {
    /// The exit code.
    pub code: Option<i32>,
    /// Standard output, unchanged.
    pub stdout: String,
    /// Standard error, unchanged.
    pub stderr: String,
    shown: String,
}

impl Run {
    fn new(sandbox: &Sandbox, output: Output) -> Self {
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        let code = output.status.code();
        let mut shown = code.map_or_else(|| output.status.to_string(), |code| format!("exit code {code}"));
        for (name, text) in [("stdout", &stdout), ("stderr", &stderr)] {
            if !text.is_empty() {
                shown.push_str(&format!("\n-- {name}\n{}", sandbox.normalise(text).trim_end()));
            }
        }
        Self { code, stdout, stderr, shown }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Returns the decoded values of a Kubernetes Secret.
pub fn decoded(secret: &Value) -> Vec<String> {
    use base64::Engine as _;
    let data = secret["data"].as_object().unwrap();
    let decode = |value: &Value| base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap();
    data.values().map(|value| String::from_utf8(decode(value)).unwrap()).collect()
}

/// Returns a loopback port that was free a moment ago, as text.
pub fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

fn copy(from: &Utf8Path, to: &Utf8Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let dest = to.as_std_path().join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir(dest).unwrap();
        } else {
            fs::copy(entry.path(), dest).unwrap();
        }
    }
}
