//! Builds artifacts: Go programs, npm folders, the Debian root, images.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::golang::{Caches, Sources};
use super::manifest::{Artifact, Manifest};
use super::progress::{Progress, REMOVAL};
use super::schedule::{self, Job, Lane};
use super::{KEY_LABEL, PLACED, Packages};
use crate::checkout;
use crate::deadlines;
use crate::engine::Engine;
use crate::engine::debian::{Dest, debian_tree};
use crate::failure::{Class, Failure};
use crate::files;
use crate::minikube;
use crate::origin::bases::{BaseRecord, Brought};
use crate::plan::{self, Mode, Step};
use crate::process::{NPM, PROXY, Process};
use crate::report::{Report, Running, bytes};
use crate::units::quote;

/// The program that contains all of Kubernetes.
pub const KUBE: &str = "kube";
/// Path of that program in an image.
pub const KUBE_IN_IMAGE: &str = "/usr/local/bin/kube";
/// Names by which minikube and the node call that program.
pub const KUBE_ON_NODE: [&str; 3] = ["kubeadm", "kubelet", "kubectl"];
/// Compile time in seconds from which trimming a program's packages is worth the effort.
const LARGE: u64 = 20;
/// The stage's name in reports.
const STAGE: &str = "tools";
/// The job that creates the engine.
const ENGINE_JOB: &str = "engine";

/// Steps that run as jobs beside those of the artifacts.
#[derive(Default)]
pub struct JobSteps<'a> {
    /// The steps that create the engine. Only jobs that need the engine wait for them.
    pub machine: Vec<Step<'a>>,
    /// The step that places Kubernetes after it is compiled.
    pub place: Option<Step<'a>>,
}

/// Builder of one manifest's artifacts in one engine.
pub struct Maker<'a> {
    origin: &'a Packages,
    engine: Engine,
    caches: Caches,
    no_cache: BTreeSet<Artifact>,
    progress: Progress,
    /// Set when a job has failed, to stop the processes of the others.
    has_failed: Arc<AtomicBool>,
    /// The sources of each program that is not compiled and trimmed, or `None` before Go has listed them.
    sources: Mutex<BTreeMap<String, Option<Sources>>>,
}

impl<'a> Maker<'a> {
    /// Returns the builder of `origin`. It records images with Debian packages.
    pub fn new(origin: &'a Packages, engine: &Engine) -> Self {
        let (engine, caches) = (engine.once_made(), Caches { dir: origin.dir.join("go-caches") });
        let progress = Progress::new(caches.dir.join("compiled"));
        let (no_cache, sources, has_failed) = Default::default();
        Self { origin, engine, caches, no_cache, progress, has_failed, sources }
    }

    /// Builds the images in `no_cache` without BuildKit's cache, which has older packages.
    pub fn no_cache(self, no_cache: BTreeSet<Artifact>) -> Self {
        Self { no_cache, ..self }
    }

    fn manifest(&self) -> &'a Manifest {
        &self.origin.manifest
    }

    fn report(&self) -> &'a Report {
        &self.origin.settings.report
    }

    /// Stops `process` when a newer save outdates this run, or another job fails.
    fn cancellable(&self, process: Process) -> Process {
        process.until(&self.origin.settings.stale).until(&self.has_failed)
    }

    fn log(&self, artifact: &Artifact) -> Utf8PathBuf {
        self.origin.log(&format!("make-{}", artifact.to_string().replace(' ', "-")))
    }

    /// Returns the commands for a dry run and `--verbose`.
    pub fn commands(&self, artifacts: &[Artifact]) -> Result<Vec<String>> {
        artifacts
            .iter()
            .map(|artifact| {
                Ok(match artifact {
                    Artifact::Go(name) => {
                        let go = &self.manifest().go[name];
                        format!(
                            "go build -mod=readonly -trimpath -o {name} {}  # in {}/go/{name}",
                            go.package,
                            super::manifest::FOLDER
                        )
                    }
                    Artifact::Npm(name) => {
                        format!("npm ci --ignore-scripts  # in {}/npm/{name}", super::manifest::FOLDER)
                    }
                    Artifact::Debian => format!("mmdebstrap … | docker import - {}", self.manifest().debian.name),
                    Artifact::Image(_) => self.build(artifact, Utf8Path::new("<bin>"), "<key>")?.to_string(),
                })
            })
            .collect()
    }

    /// Builds all artifacts in order, with downloads beside compilers. Runs `steps` beside them as soon as possible. Drops
    /// Go's caches at the end; after an interruption, the next run resumes with them.
    pub fn make(&self, artifacts: &[Artifact], steps: JobSteps<'_>, running: &Running) -> Result<String> {
        let start = std::time::Instant::now();
        let JobSteps { machine, place } = steps;
        let (mut jobs, mut fetches) = (Vec::new(), Vec::new());
        let previous = match machine.is_empty() {
            true => PreviousImages::read(self, artifacts)?,
            // An engine that does not exist yet has no images.
            false => PreviousImages(Vec::new()),
        };
        // Each step is a job, so that none starts after a failure. Other jobs wait for the last step, by its name.
        let last = machine.len().saturating_sub(1);
        for (number, step) in machine.into_iter().enumerate() {
            let name = |number| if number == last { ENGINE_JOB.to_owned() } else { format!("{ENGINE_JOB} {number}") };
            let run = Box::new(move || plan::apply(self.report(), STAGE, Mode::Apply, vec![step]).map(drop));
            let after = number.checked_sub(1).map(name).into_iter().collect();
            jobs.push(Job { name: name(number), lane: Lane::Engine, after, run });
        }
        for artifact in artifacts {
            let parts = self.manifest().made_from(artifact);
            let after: Vec<String> = parts.iter().map(ToString::to_string).chain([ENGINE_JOB.to_owned()]).collect();
            let lane = match artifact {
                Artifact::Go(name) => {
                    let fetch = format!("modules of {name}");
                    let run = Box::new(move || self.fetch(artifact, name));
                    jobs.push(Job { name: fetch.clone(), lane: Lane::Download, after: Vec::new(), run });
                    fetches.push(fetch.clone());
                    let run = Box::new(move || self.compile(artifact, name, running));
                    let seconds = self.manifest().go[name].seconds;
                    self.progress.expect(name, seconds);
                    self.sources().insert(name.clone(), None);
                    jobs.push(Job { name: artifact.to_string(), lane: Lane::Compile, after: vec![fetch], run });
                    if seconds >= LARGE {
                        let run = Box::new(move || self.trim(name));
                        let after = vec![artifact.to_string()];
                        jobs.push(Job { name: format!("trim {name}"), lane: Lane::Download, after, run });
                    }
                    continue;
                }
                Artifact::Npm(_) | Artifact::Debian => Lane::Download,
                // Installing Debian packages waits for the network. Other builds only copy programs, which takes a second.
                Artifact::Image(name) if self.manifest().image[name].debian => Lane::Download,
                Artifact::Image(_) => Lane::Compile,
            };
            let run = Box::new(move || self.make_one(artifact));
            jobs.push(Job { name: artifact.to_string(), lane, after, run });
        }
        if let Some(step) = place {
            let run = Box::new(move || plan::apply(self.report(), STAGE, Mode::Apply, vec![step]).map(drop));
            jobs.insert(0, Job { name: "place".to_owned(), lane: Lane::Compile, after: vec![KUBE.to_owned()], run });
        }
        if !fetches.is_empty() {
            // Runs after all fetches, because another fetch may still have to unpack its archives.
            let run = Box::new(|| self.caches.shrink(self.manifest().go.values().flat_map(|go| &go.patch)));
            jobs.push(Job { name: "shrink modules".to_owned(), lane: Lane::Download, after: fetches, run });
        }
        running.progress(format!("logs in {}/logs", checkout::target(&self.origin.settings.root)));
        let compiles = artifacts.iter().any(|artifact| matches!(artifact, Artifact::Go(_)));
        let _lock = compiles.then(|| self.caches.begin()).transpose()?;
        if compiles {
            self.progress.expect(REMOVAL.0, REMOVAL.1);
        }
        if let Err(error) = schedule::run(jobs, &self.has_failed) {
            previous.restore(self)?;
            return Err(error);
        }
        let used = folder_size(&self.caches.dir);
        running.progress("removing Go's caches");
        if let Err(error) = self.caches.drop_all() {
            self.report().warn_because(format!("Go's caches in {} stay", self.caches.dir), &error);
        }
        let note = if used > 0 { format!(", {} of Go's caches dropped", bytes(used)) } else { String::new() };
        Ok(format!("{} artifacts in {}{note}", artifacts.len(), crate::report::seconds(start.elapsed())))
    }

    fn running(&self, artifact: &Artifact, what: &str) -> Running {
        let running = self.report().step(STAGE, format!("{what} {artifact}"), "");
        self.at_work(&running, artifact, "");
        running
    }

    /// Shows the progress of an artifact, and its log.
    fn at_work(&self, running: &Running, artifact: &Artifact, doing: &str) {
        let log = self.log(artifact);
        let log = log.strip_prefix(&self.origin.settings.root).unwrap_or(&log);
        let doing: String = doing.trim().chars().take(36).collect();
        running.progress(format!("{doing}{}log {log}", if doing.is_empty() { "" } else { " · " }));
    }

    fn fetch(&self, artifact: &Artifact, name: &str) -> Result<()> {
        let running = self.running(artifact, "fetch modules of");
        let (module, go) =
            (self.manifest().folder(artifact).context("a Go program has a folder")?, &self.manifest().go[name]);
        std::fs::create_dir_all(&self.caches.dir)?;
        self.caches.prepare(name, &module, go)?;
        let log = self.log(artifact);
        let mut sources = Sources::default();
        self.cancellable(self.caches.fetch(name, go, &log)).stream(|line| {
            if !sources.add(line) {
                self.at_work(&running, artifact, line);
            }
        })?;
        self.sources().insert(name.to_owned(), Some(sources));
        running.done("");
        Ok(())
    }

    fn compile(&self, artifact: &Artifact, name: &str, whole: &Running) -> Result<()> {
        let running = self.running(artifact, "compile");
        let go = &self.manifest().go[name];
        let dir = self.origin.dir.join("go").join(self.manifest().key(artifact)?);
        let new = self.origin.dir.join("go").join(format!("{name}.new"));
        std::fs::create_dir_all(&new)?;
        let log = self.log(artifact);
        let sources = self.sources().get(name).cloned().flatten().unwrap_or_default();
        self.progress.begins(name, &sources.packages)?;
        for build in self.caches.builds(name, go, &new.join(name), &log) {
            self.cancellable(build).stream(|line| {
                let package = self.progress.compiles(name, line);
                self.at_work(&running, artifact, package.as_deref().unwrap_or(line));
                whole.progress(self.progress.describe());
            })?;
        }
        self.progress.is_compiled(name);
        if go.seconds < LARGE {
            self.sources().remove(name);
        }
        if name == KUBE {
            // The program acts according to its name.
            let link = new.join("kubectl");
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(name, &link)?;
        }
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::rename(&new, &dir).with_context(|| format!("moving {new} to {dir}"))?;
        running.done(bytes(dir.join(name).metadata().map_or(0, |meta| meta.len())));
        Ok(())
    }

    fn sources(&self) -> MutexGuard<'_, BTreeMap<String, Option<Sources>>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes modules and compiled packages of `name` that no later program shares.
    fn trim(&self, name: &str) -> Result<()> {
        let others: Option<Vec<Sources>> =
            self.sources().iter().filter(|(other, _)| *other != name).map(|(_, sources)| sources.clone()).collect();
        match others {
            Some(others) if !others.is_empty() => {
                if let Err(error) = self.caches.trim(name, &self.manifest().go[name], &others) {
                    let what = format!("modules and compiled packages of {name} stay for now");
                    self.report().warn_because(what, &error);
                }
            }
            // The needs of a later program are unknown, or the run removes all caches soon.
            _ => {}
        }
        // Not earlier: listing the compiled packages needs the modules.
        self.sources().remove(name);
        Ok(())
    }

    fn make_one(&self, artifact: &Artifact) -> Result<()> {
        let running = self.running(artifact, "make");
        match artifact {
            Artifact::Npm(name) => self.npm(artifact, name)?,
            Artifact::Debian => self.debian(artifact, &running)?,
            _ => self.image(artifact, &running)?,
        }
        if *artifact == Artifact::Debian || self.manifest().made_from(artifact).contains(&Artifact::Debian) {
            self.manifest().names(artifact).iter().try_for_each(|name| {
                // Records the official name, which the image also has in the engine.
                self.origin.bases.record(&self.engine, name, Brought::Made)
            })?;
        }
        running.done("");
        Ok(())
    }

    fn npm(&self, artifact: &Artifact, name: &str) -> Result<()> {
        let from = self.manifest().folder(artifact).context("an npm folder")?;
        let (new, dir) = (self.origin.dir.join("npm").join(format!("{name}.new")), self.origin.npm_dir(name)?);
        std::fs::create_dir_all(&new)?;
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(from.join(file), new.join(file)).with_context(|| format!("copying {from}/{file}"))?;
        }
        // Without scripts, no fetched code runs on this machine.
        let ci = Process::new("npm").args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).cwd(&new);
        let ci = ci.inherit(NPM).inherit(PROXY).log(self.log(artifact)).deadline(deadlines::NPM);
        self.cancellable(ci).run()?;
        // Until 0.3.0, the folder had no key.
        files::remove_folder(&self.origin.dir.join("npm").join(name))?;
        files::remove_folder(&dir)?;
        std::fs::rename(&new, &dir).with_context(|| format!("moving {new} to {dir}"))
    }

    fn debian(&self, artifact: &Artifact, running: &Running) -> Result<()> {
        let key = self.manifest().key(artifact)?;
        let tar = self.origin.dir.join("debian").join(format!("{key}.tar"));
        std::fs::create_dir_all(self.origin.dir.join("debian"))?;
        debian_tree(
            &self.origin.settings.cache,
            &self.origin.log("debian"),
            &self.manifest().debian.recipe(),
            &Dest::Tar(tar.clone()),
            running,
        )?;
        let label = format!("LABEL {KEY_LABEL}={key}");
        let import =
            self.engine.docker().args(["import", "--change", &label, "--change", "CMD [\"bash\"]", tar.as_str()]);
        import.arg(&self.manifest().debian.name).log(self.log(artifact)).run()?;
        std::fs::remove_file(&tar).with_context(|| format!("removing {tar}"))
    }

    fn image(&self, artifact: &Artifact, running: &Running) -> Result<()> {
        let key = self.manifest().key(artifact)?;
        let Artifact::Image(name) = artifact else { return Ok(()) };
        // The build context contains exactly the programs of the image.
        let bin = self.origin.dir.join("context").join(name);
        if bin.exists() {
            std::fs::remove_dir_all(&bin)?;
        }
        std::fs::create_dir_all(&bin)?;
        for program in &self.manifest().image[name].bin {
            let from =
                self.origin.dir.join("go").join(self.manifest().key(&Artifact::Go(program.clone()))?).join(program);
            hard_link_or_copy(&from, &bin.join(program))?;
        }
        let build = self.build(artifact, &bin, &key)?.log(self.log(artifact)).deadline(deadlines::STAND_IN_BUILD);
        self.cancellable(build).stream(|line| self.at_work(running, artifact, line)).map_err(|error| {
            Failure::new(Class::Image, format!("{artifact} cannot be made"))
                .because(error)
                .help("the previous images stay in use; fix the cause and run the command again")
        })?;
        std::fs::remove_dir_all(&bin).with_context(|| format!("removing {bin}"))
    }

    fn build(&self, artifact: &Artifact, bin: &Utf8Path, key: &str) -> Result<Process> {
        let Artifact::Image(name) = artifact else { anyhow::bail!("{artifact} is no image") };
        let image = &self.manifest().image[name];
        let folder = self.manifest().folder(artifact).context("an image has a folder")?;
        let mut build = self.engine.docker().args(["buildx", "build", "--progress=plain"]);
        build = build.args(["--label", &format!("{KEY_LABEL}={key}")]);
        if self.no_cache.contains(artifact) {
            build = build.arg("--no-cache");
        }
        if !image.bin.is_empty() {
            build = build.args(["--build-context", &format!("bin={bin}")]);
        }
        if let Some(npm) = &image.npm {
            build = build.args(["--build-context", &format!("packages={}", self.origin.npm_dir(npm)?)]);
        }
        if let Some(ca) = &self.origin.settings.ca_bundle {
            build = build.args(["--secret", &format!("id=ca,src={ca}")]);
        }
        let root = image.debian.then(|| format!("DEBIAN_IMAGE={}", self.manifest().debian.name));
        let args = image.args.iter().map(|(name, value)| format!("{name}={value}"));
        for arg in root.into_iter().chain(args) {
            build = build.args(["--build-arg", &arg]);
        }
        for tag in &image.names {
            build = build.args(["--tag", tag]);
        }
        Ok(build.arg(folder.as_str()))
    }
}

/// The previous images and records of a run. All checkouts use these images, so a failing run restores them.
struct PreviousImages(Vec<(String, String, Option<BaseRecord>)>);

impl PreviousImages {
    fn read(maker: &Maker<'_>, artifacts: &[Artifact]) -> Result<Self> {
        let is_image = |artifact: &&Artifact| matches!(artifact, Artifact::Image(_) | Artifact::Debian);
        let names: Vec<String> =
            artifacts.iter().filter(is_image).flat_map(|artifact| maker.manifest().names(artifact)).collect();
        let ids = maker.engine.image_ids(&names)?.into_iter();
        let noted = ids.map(|(name, id)| {
            let record = maker.origin.bases.read(&name)?;
            Ok((name, id, record))
        });
        Ok(Self(noted.collect::<Result<_>>()?))
    }

    fn restore(&self, maker: &Maker<'_>) -> Result<()> {
        let names: Vec<String> = self.0.iter().map(|(name, ..)| name.clone()).collect();
        let now = maker.engine.image_ids(&names)?;
        for (name, id, record) in self.0.iter().filter(|(name, id, _)| now.get(name) != Some(id)) {
            maker.engine.docker().args(["tag", id, name]).run()?;
            if let Some(record) = record {
                maker.origin.bases.put_back(record)?;
            }
        }
        Ok(())
    }
}

/// Returns the keys of the images in `names` that the engine has, by name.
pub fn keys_of_images(engine: &Engine, names: &[String]) -> Result<BTreeMap<String, String>> {
    let mut keys = BTreeMap::new();
    for image in engine.inspect("image", names)?.found {
        let key = image["Config"]["Labels"][KEY_LABEL].as_str().unwrap_or_default();
        for tag in image["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            keys.insert(tag.to_owned(), key.to_owned());
        }
    }
    Ok(keys)
}

impl Packages {
    fn log(&self, name: &str) -> Utf8PathBuf {
        checkout::log(&checkout::target(&self.settings.root), name)
    }

    /// Returns minikube's folder for kubeadm, kubelet and kubectl.
    pub fn place_folder(&self) -> Utf8PathBuf {
        let home = minikube::folder(&minikube::own_home(&self.settings.cache));
        home.join("cache/linux").join(docker_arch()).join(&self.settings.kubernetes)
    }

    /// Returns the step that puts the programs of Kubernetes with this `key` there.
    pub fn place(&self, key: String) -> Step<'_> {
        let place = self.place_folder();
        let program = self.dir.join("go").join(&key).join(KUBE);
        let shown = KUBE_ON_NODE.map(|name| format!("cp {} {}", quote(&program), quote(place.join(name)))).join("\n");
        Step::new("place Kubernetes for minikube", "minikube looks there before it downloads", shown, move |_| {
            std::fs::create_dir_all(&place)?;
            for name in KUBE_ON_NODE {
                hard_link_or_copy(&program, &place.join(name))?;
            }
            // Older versions of xtask let minikube cache images here.
            let home = minikube::folder(&minikube::own_home(&self.settings.cache));
            let _ = std::fs::remove_dir_all(home.join("cache/images"));
            std::fs::write(place.join(PLACED), &key)?;
            Ok(String::new())
        })
    }
}

/// Links the file `from` to `to`, or copies it if the file system cannot link. Replaces `to` instead of writing to it, since
/// both may be the same file.
fn hard_link_or_copy(from: &Utf8Path, to: &Utf8Path) -> Result<()> {
    let new = Utf8PathBuf::from(format!("{to}.{}", std::process::id()));
    let put = || -> std::io::Result<()> {
        if new.try_exists()? {
            std::fs::remove_file(&new)?;
        }
        std::fs::hard_link(from, &new).or_else(|_| std::fs::copy(from, &new).map(drop))?;
        std::fs::rename(&new, to)?;
        // A rename keeps both names if they belong to the same file.
        if new.try_exists()? { std::fs::remove_file(&new) } else { Ok(()) }
    };
    put().with_context(|| format!("copying {from} to {to}"))
}

fn docker_arch() -> &'static str {
    if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" }
}

/// Returns the size of the files below `dir` in bytes.
pub fn folder_size(dir: &Utf8Path) -> u64 {
    let walk = walkdir::WalkDir::new(dir).into_iter().flatten();
    walk.filter_map(|entry| entry.metadata().ok()).filter(std::fs::Metadata::is_file).map(|meta| meta.len()).sum()
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::origin::OriginSettings;

    /// A fake engine that stores the ID of each image in a file, and fails to build images with `python` in their names.
    const ENGINE: &str = r#"
case "$*" in
*python*) [ "$1" = buildx ] && echo "exec format error" >&2 && exit 1 ;;
esac
case "$1" in
buildx) while [ $# -gt 1 ]; do [ "$1" = --tag ] && echo sha256:new >"$FOLDER/$2"; shift; done ;;
tag) echo "$2" >"$FOLDER/$3" ;;
image) shift 4; for name; do echo "{\"Id\": \"$(cat "$FOLDER/$name")\", \"RepoTags\": [\"$name\"]}"; done ;;
esac
"#;

    /// Returns an engine that runs [`ENGINE`], with its files in `folder`.
    fn make_engine(folder: &Utf8Path) -> Engine {
        Engine::scripted(folder, &ENGINE.replace("$FOLDER", folder.as_str()))
    }

    #[test]
    fn artifacts_that_need_the_engine_wait_until_it_is_made() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(temp.path()).unwrap();
        let engine = Engine { client: folder.join("docker"), empty: true, ..Engine::system() };
        let origin = Packages::new(&OriginSettings::of_cache(folder)).unwrap();
        let artifacts = [Artifact::Image("node".to_owned())];
        let name = &origin.manifest.names(&artifacts[0])[0];
        let running = origin.settings.report.step("tools", "make", "");
        let make = |step: Step<'_>| {
            Maker::new(&origin, &engine).make(&artifacts, JobSteps { machine: vec![step], place: None }, &running)
        };
        let error = make(Step::new("make an engine", "", "", |_| anyhow::bail!("no mirror"))).unwrap_err();
        assert!(error.to_string() == "no mirror" && !folder.join(name).exists(), "{error:#}");
        let step = Step::new("make an engine", "", "", |_| {
            std::thread::sleep(std::time::Duration::from_millis(200));
            make_engine(folder);
            Ok(String::new())
        });
        make(step).unwrap();
        assert_eq!(std::fs::read_to_string(folder.join(name)).unwrap(), "sha256:new\n");
    }

    #[test]
    fn a_run_that_fails_replaces_no_image() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(temp.path()).unwrap();
        let engine = make_engine(folder);
        let origin = Packages::new(&OriginSettings::of_cache(folder)).unwrap();
        let artifacts = ["node", "python"].map(|name| Artifact::Image(name.to_owned()));
        let names: Vec<String> = artifacts.iter().flat_map(|artifact| origin.manifest.names(artifact)).collect();
        names.iter().for_each(|name| std::fs::write(folder.join(name), "sha256:old\n").unwrap());
        names.iter().for_each(|name| origin.bases.record(&engine, name, Brought::Made).unwrap());
        let maker = Maker::new(&origin, &engine);
        let running = origin.settings.report.step("tools", "make", "");
        let error = maker.make(&artifacts, JobSteps::default(), &running).unwrap_err();
        assert!(format!("{error:#}").contains("exec format error"), "{error:#}");
        assert_eq!(error.downcast_ref::<Failure>().unwrap().class, Class::Image);
        for name in &names {
            assert_eq!(std::fs::read_to_string(folder.join(name)).unwrap(), "sha256:old\n", "{name}");
            assert_eq!(origin.bases.read(name).unwrap().unwrap().id, "sha256:old", "{name}");
        }
        // The same run without the fault replaces the images.
        Maker::new(&origin, &maker.engine).make(&artifacts[..1], JobSteps::default(), &running).unwrap();
        assert_eq!(std::fs::read_to_string(folder.join(&names[0])).unwrap(), "sha256:new\n");
    }
}
