//! The Docker Engine in use: the user's own, or the private one in the cache.

pub mod debian;
pub mod mounts;
pub mod network;
pub mod paths;
pub mod ping;
pub mod reap;
pub mod start;
pub mod stop;
pub mod stored;
pub mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use camino::Utf8PathBuf;
use serde_json::Value;

use crate::clock;
use crate::deadlines;
use crate::failure::{self, Class, Failure};
use crate::process::{DOCKER, PROXY, Process};
use paths::EnginePaths;

/// The DOCKER_HOST by which a user hides their own engine from xtask.
pub const HIDDEN: &str = "unix:///nonexistent";

/// The format of `docker info` for [`Engine::machine`].
const INFO: &str = "{{.MemTotal}} {{.NCPU}} {{.Name}} {{.OperatingSystem}} | {{json .SecurityOptions}} | \
                    {{range .ClientInfo.Plugins}}{{.Name}} {{end}}";

/// The machine that an engine runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineMachine {
    /// Memory in bytes.
    pub memory: u64,
    /// Processors.
    pub cpus: u64,
    /// Its name and operating system; they identify Docker Desktop, colima and OrbStack.
    pub kind: String,
    /// The engine's security options, if known.
    pub security: Option<String>,
    /// Names of the client's plugins, if known.
    pub plugins: Option<String>,
}

/// A Docker Engine, with the client and the environment to reach it.
#[derive(Clone, Debug)]
pub struct Engine {
    /// The client.
    pub client: Utf8PathBuf,
    /// DOCKER_HOST, DOCKER_CONFIG and PATH for the private engine; empty for the user's own, which their variables name.
    pub envs: Vec<(String, String)>,
    /// Whether it is the private engine: only there may our own images have official names.
    pub private: bool,
    /// Whether it does not exist yet. Then each query returns an empty result without a call.
    pub empty: bool,
    /// Its /var/lib/docker, where that can be read: the private engine's.
    pub data: Option<Utf8PathBuf>,
    /// Answers that it has given already; see [`Engine::asked_for`].
    pub(crate) answers: Option<Arc<Mutex<RecordedAnswers>>>,
}

impl Engine {
    /// Returns the user's own engine, as their `docker` reaches it.
    pub fn system() -> Self {
        Self { client: "docker".into(), envs: Vec::new(), private: false, empty: false, data: None, answers: None }
    }

    /// Returns the engine for a step that runs when it exists, also where the step is planned before.
    pub fn once_made(&self) -> Self {
        Self { empty: false, ..self.clone() }
    }

    /// Returns the private engine of the cache that `paths` describes.
    pub fn private(paths: &EnginePaths) -> Self {
        let path = std::env::var("PATH").unwrap_or_default();
        let set = [
            ("DOCKER_HOST", format!("unix://{}", paths.socket())),
            ("DOCKER_CONFIG", paths.config().to_string()),
            // minikube looks for `docker` there.
            ("PATH", format!("{}:{path}", paths.bin())),
        ];
        let envs = set.map(|(name, value)| (name.to_owned(), value)).into();
        let data = Some(paths.data());
        Self { client: paths.client(), envs, private: true, empty: false, data, answers: None }
    }

    /// Returns a `docker` command for this engine.
    pub fn docker(&self) -> Process {
        self.aim(Process::new(self.client.as_str()))
    }

    /// Sets the variables for this engine on a program that uses it, such as minikube.
    pub fn aim(&self, process: Process) -> Process {
        let process = process.inherit(PROXY).inherit(if self.private { &[] } else { DOCKER });
        self.envs.iter().fold(process, |process, (name, value)| process.env(name, value))
    }

    /// Returns the machine that the engine runs on. Containers see all of its memory, whatever their limits are.
    pub fn machine(&self) -> Result<EngineMachine> {
        let info =
            self.docker().args(["info", "--format", INFO]).question().deadline(deadlines::ENGINE_QUESTION).read();
        let unknown = |words: String| {
            Failure::new(Class::Machine, format!("the Docker Engine does not say how large its machine is: {words}"))
                .help("see whether the engine answers: cargo xtask doctor")
        };
        let text = info.map_err(|error| match error.to_string() {
            words if words.contains("can't evaluate field MemTotal") => Failure::new(
                Class::Machine,
                "the `docker` on PATH is Podman, which minikube's docker driver does not support",
            )
            .help("install Docker: https://docs.docker.com/engine/install/, and take podman-docker away"),
            words => unknown(words),
        })?;
        let mut parts = text.split(" | ");
        let size = parts.next().unwrap_or_default();
        let [security, plugins] = [parts.next(), parts.next()].map(|part| part.map(|part| part.trim().to_owned()));
        let mut words = size.split_whitespace();
        let mut number = || words.next()?.parse().ok().filter(|number| *number > 0);
        match (number(), number()) {
            (Some(memory), Some(cpus)) => {
                let kind = words.collect::<Vec<_>>().join(" ");
                Ok(EngineMachine { memory, cpus, kind, security, plugins })
            }
            _ => Err(unknown(format!("it printed `{}`", text.trim())).into()),
        }
    }

    /// Returns this engine with its answers about the containers and images `names`, asked for by one call.
    /// Observations then need no further calls. Steps must not use it: they need the state at the time when they run.
    pub fn asked_for(&self, names: &[String]) -> Result<Self> {
        let answers = RecordedAnswers { names: names.iter().cloned().collect(), inspected: self.ask(None, names)? };
        Ok(Self { answers: Some(Arc::new(Mutex::new(answers))), ..self.clone() })
    }

    /// Inspects the objects `names` of the kind `noun`: `container`, `image`, `network` or `volume`. A name is absent
    /// only if the engine reports "no such <noun>" for it; any other report is an error.
    pub fn inspect(&self, noun: &str, names: &[String]) -> Result<Inspected> {
        let known = self.answers.as_ref().and_then(|answers| lock(answers).give(noun, names));
        known.map_or_else(|| self.ask(Some(noun), names), Ok)
    }

    /// Inspects `names`. Without a `noun`, a name is that of a container or, if there is none, of an image.
    fn ask(&self, noun: Option<&str>, names: &[String]) -> Result<Inspected> {
        if self.empty || names.is_empty() {
            return Ok(Inspected { found: Vec::new(), absent: names.to_vec() });
        }
        let inspect = self.docker().args(noun).args(["inspect", "--format", "{{json .}}"]).args(names.iter().cloned());
        let noun = noun.unwrap_or("object");
        let output = inspect
            .question()
            .deadline(deadlines::ENGINE_QUESTION)
            .output()
            .map_err(|error| unknown(noun, names, &failure::message(&error)))?;
        let (text, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let is_absent = |name: &&String| {
            // Newer engines have another message for networks.
            let missing = [format!("no such {noun}"), format!("network {} not found", name.to_lowercase())];
            let is_missing = |line: &str| missing.iter().any(|missing| line.to_lowercase().contains(missing));
            said.lines()
                .any(|line| is_missing(line) && line.split([' ', '"']).any(|word| word.trim_end_matches(':') == **name))
        };
        let absent: Vec<String> = names.iter().filter(is_absent).cloned().collect();
        let others = said.lines().filter(|line| !line.trim().is_empty()).count() > absent.len();
        if !output.status.success() && (absent.is_empty() || others) {
            let words = if said.trim().is_empty() { output.status.to_string() } else { said.trim().to_owned() };
            return Err(unknown(noun, names, &words));
        }
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let found: Vec<Value> = lines
            .map(|line| serde_json::from_str(line).map_err(|_| unknown(noun, names, &format!("it printed `{line}`"))))
            .collect::<Result<_>>()?;
        if found.len() + absent.len() != names.len() {
            let words = format!("it printed {} objects and named {} absent", found.len(), absent.len());
            return Err(unknown(noun, names, &words));
        }
        Ok(Inspected { found, absent })
    }

    /// Inspects the object `name`; `None`: the engine reports that it does not exist.
    pub fn inspect_one(&self, noun: &str, name: &str) -> Result<Option<Value>> {
        Ok(self.inspect(noun, &[name.to_owned()])?.found.pop())
    }

    /// Returns the image ID (config digest) of `reference`; `None`: the engine does not have it.
    pub fn image_id(&self, reference: &str) -> Result<Option<String>> {
        Ok(self.image_ids(&[reference.to_owned()])?.remove(reference))
    }

    /// Returns `name@sha256:…` of the image `reference` in its registry, if it was pulled from one.
    pub fn registry_digest(&self, reference: &str) -> Result<Option<String>> {
        let image = self.inspect_one("image", reference)?.unwrap_or_default();
        let digests = image["RepoDigests"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Ok(digests.map(str::to_owned).find(|digest| digest.contains("@sha256:")))
    }

    /// Returns when an image in this engine last got the name `reference`, in seconds since 1970, if known.
    pub fn tagged_at(&self, reference: &str) -> Result<Option<u64>> {
        let image = self.inspect_one("image", reference)?.unwrap_or_default();
        Ok(image.pointer("/Metadata/LastTagTime").and_then(Value::as_str).and_then(clock::parse))
    }

    /// Returns in one call the image IDs of those `references` (names with tags) that the engine has.
    pub fn image_ids(&self, references: &[String]) -> Result<BTreeMap<String, String>> {
        let inspected = self.inspect("image", references)?;
        let id = |name: &String| inspected.found.iter().find(|image| has_tag(image, name))?["Id"].as_str();
        let ids: BTreeMap<String, String> =
            references.iter().filter_map(|name| Some((name.clone(), id(name)?.to_owned()))).collect();
        let answered = |name: &String| ids.contains_key(name) || inspected.absent.contains(name);
        if let Some(name) = references.iter().find(|name| !answered(name)) {
            return Err(unknown("image", std::slice::from_ref(name), "it sent an unexpected answer"));
        }
        Ok(ids)
    }
}

/// The answers of an engine about the containers and images `names`, at one moment.
#[derive(Debug)]
pub(crate) struct RecordedAnswers {
    /// Names that may still be asked for.
    names: BTreeSet<String>,
    inspected: Inspected,
}

impl RecordedAnswers {
    /// Returns the answers about `names`, if each is known to be present or absent. An object of another kind is no
    /// answer: a network has the profile's name. An answer about a container is used once: a second question waits for
    /// a change.
    fn give(&mut self, noun: &str, names: &[String]) -> Option<Inspected> {
        if !["container", "image"].contains(&noun) || !names.iter().all(|name| self.names.contains(name)) {
            return None;
        }
        let is_called = |object: &Value, name: &str| match noun {
            "image" => has_tag(object, name),
            _ => object["State"].is_object() && object["Name"] == format!("/{name}"),
        };
        let (absent, there): (Vec<String>, Vec<String>) =
            names.iter().cloned().partition(|name| self.inspected.absent.contains(name));
        let called = |name: &String| self.inspected.found.iter().find(|object| is_called(object, name)).cloned();
        let found = there.iter().map(called).collect::<Option<_>>()?;
        if noun == "container" {
            self.names.retain(|name| !names.contains(name));
        }
        Some(Inspected { found, absent })
    }
}

fn lock(answers: &Mutex<RecordedAnswers>) -> std::sync::MutexGuard<'_, RecordedAnswers> {
    answers.lock().unwrap_or_else(PoisonError::into_inner)
}

fn has_tag(image: &Value, name: &str) -> bool {
    image["RepoTags"].as_array().is_some_and(|tags| tags.iter().any(|tag| tag == name))
}

/// Returns the error for an engine that did not report whether `names` exist.
fn unknown(noun: &str, names: &[String], words: &str) -> anyhow::Error {
    let names = names.join(", ");
    let what = format!("the Docker Engine does not say whether it has {noun} {names}: {words}");
    Failure::new(Class::Machine, what).help("see whether the engine answers: cargo xtask doctor").into()
}

/// The result of `docker inspect`.
#[derive(Debug)]
pub struct Inspected {
    /// The objects that exist.
    pub found: Vec<Value>,
    /// The names that it reported as absent.
    pub absent: Vec<String>,
}

#[cfg(test)]
impl Engine {
    /// Writes the shell script `script` into `folder` and returns an engine with it as its client.
    pub(crate) fn scripted(folder: impl AsRef<std::path::Path>, script: &str) -> Self {
        let client = folder.as_ref().join("docker");
        std::fs::write(&client, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&client, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Self { client: client.to_str().unwrap().into(), ..Self::system() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(dir: &tempfile::TempDir, script: &str) -> Engine {
        Engine::scripted(dir.path(), script)
    }

    #[test]
    fn an_image_is_present_absent_or_unknown() {
        let names = ["a:1".to_owned(), "b:1".to_owned()];
        let ask = |script: &str| {
            let dir = tempfile::tempdir().unwrap();
            engine(&dir, script).image_ids(&names).map(|ids| ids.into_keys().collect::<Vec<_>>())
        };
        let missing = "echo 'Error response from daemon: No such image: b:1' >&2; exit 1";
        let image = |tags: &str| format!(r#"echo '{{"Id": "sha256:aa", "RepoTags": [{tags}]}}'"#);
        let (a, b) = (image(r#""a:1", "a:2""#), image(r#""b:1""#));
        assert_eq!(ask(&format!("{a}; {b}")).unwrap(), names);
        assert_eq!(ask(&format!("{a}; {missing}")).unwrap(), ["a:1"]);
        let unknown = [
            "exit 1",
            "echo 'Cannot connect to the Docker daemon' >&2; exit 1",
            // An answer about one of two names.
            &a,
            &format!("{a}; {a}"),
            &format!("{a}; echo 'context deadline exceeded' >&2; exit 1"),
            &format!("{a}; echo 'connection reset' >&2; {missing}"),
            "echo garbage; echo garbage",
        ];
        for script in unknown {
            let error = ask(script).unwrap_err();
            let failure = error.downcast_ref::<Failure>().unwrap();
            assert!(failure.to_string().contains("does not say whether it has image"), "{script}: {failure}");
        }
        let absent = Engine { empty: true, client: "/nonexistent".into(), ..Engine::system() };
        assert!(absent.image_ids(&names).unwrap().is_empty(), "an engine that is yet to be made holds nothing");
    }

    #[test]
    fn a_name_is_absent_in_each_of_the_engines_ways_to_say_so() {
        for (noun, words) in [
            ("volume", "Error response from daemon: get todo: no such volume"),
            ("network", "Error response from daemon: network todo not found"),
            ("container", "Error response from daemon: No such container: todo"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let engine = engine(&dir, &format!("echo '{words}' >&2; exit 1"));
            assert!(engine.inspect_one(noun, "todo").unwrap().is_none(), "{words}");
            assert!(engine.inspect_one(noun, "tod").is_err(), "{words}");
        }
    }

    #[test]
    fn reuses_recorded_answers_except_about_a_container() {
        let dir = tempfile::tempdir().unwrap();
        let calls = dir.path().join("calls");
        let (node, image) = (r#"{"Name": "/todo", "State": {}}"#, r#"{"Id": "sha256:aa", "RepoTags": ["todo-a:1"]}"#);
        // The name of the absent image begins with that of the container, which is there.
        let script = format!(
            "echo \"$*\" >>{}; echo '{node}'; case $1 in inspect) echo '{image}'; \
             echo 'Error: No such object: todo-b:1' >&2; exit 1 ;; esac",
            calls.display()
        );
        let names = ["todo", "todo-a:1", "todo-b:1"].map(str::to_owned);
        let engine = engine(&dir, &script).asked_for(&names).unwrap();
        for _ in 0..2 {
            assert_eq!(engine.image_ids(&names[1..]).unwrap().into_keys().collect::<Vec<_>>(), ["todo-a:1"]);
        }
        assert!(engine.inspect_one("container", "todo").unwrap().is_some());
        assert_eq!(std::fs::read_to_string(&calls).unwrap().lines().count(), 1);
        assert!(engine.inspect_one("container", "todo").unwrap().is_some());
        assert_eq!(std::fs::read_to_string(&calls).unwrap().lines().count(), 2);
    }

    #[test]
    fn something_else_of_that_name_does_not_say_that_there_is_no_container() {
        let dir = tempfile::tempdir().unwrap();
        let script = r#"case $1 in inspect) echo '{"Name": "todo", "Driver": "bridge"}' ;;
            *) echo '{"Name": "/todo", "State": {}}' ;; esac"#;
        let engine = engine(&dir, script).asked_for(&["todo".to_owned()]).unwrap();
        assert!(engine.inspect_one("container", "todo").unwrap().is_some());
    }
}
