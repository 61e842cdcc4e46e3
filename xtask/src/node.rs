//! A node of the cluster and its image store. Only this module knows how to run commands on a node.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::process::Output;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::deadlines;
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::process::Process;

/// Image reference as the node spells it (`docker.io/library/todo-backend:0123`) -> image ID (config digest).
pub type Images = BTreeMap<String, String>;

/// Returns whether the container runtime failed before it began the command. Seen with runc under
/// load (`waiting for init preliminary setup: read init-p: connection reset by peer`).
fn has_not_begun(output: &Output) -> bool {
    output.status.code() == Some(126) && String::from_utf8_lossy(&output.stderr).contains("read init-p")
}

/// `crictl`. By default it waits 2 s for containerd, which a busy machine may take.
pub const CRICTL: [&str; 2] = ["crictl", "--timeout=10s"];

/// After [`CRICTL`]: lists all images of a node, then the names of those images in the filters that are complete. The first
/// list alone also has images of an interrupted import. The last line shows that the output is complete.
const LIST: &str =
    r#"images -o json && if [ $# -gt 0 ]; then ctr -n k8s.io images check -q "$@"; fi; code=$?; echo end; exit $code"#;

/// The images of a node.
#[derive(Clone, Debug, Default)]
pub struct NodeImages {
    /// All images by reference.
    pub images: Images,
    /// All its images by every name that a pod's status may have; see [`Node::names`].
    pub names: Images,
    /// The requested images that are complete, so that a container can start from them.
    pub ready: BTreeSet<String>,
    /// The digests of all its content; `None` if the node was not asked or gave no answer.
    pub content: Option<HashSet<String>>,
}

/// A node of the cluster.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    shell: Process,
}

impl Node {
    /// Returns the node that is the container `name` in `engine` (minikube's docker driver).
    pub fn container(engine: &Engine, name: &str) -> Self {
        let shell = engine.docker().args(["exec", "-i", name]).again_if(has_not_begun);
        Self { name: name.to_owned(), shell }
    }

    /// Returns a command that runs on the node, with standard input.
    pub fn exec<S: Into<String>>(&self, args: impl IntoIterator<Item = S>) -> Process {
        self.shell.clone().class(Class::Cluster).args(args)
    }

    /// Returns a command of containerd's client, in the namespace of Kubernetes.
    pub fn ctr<S: Into<String>>(&self, args: impl IntoIterator<Item = S>) -> Process {
        self.exec(["ctr", "-n", "k8s.io"]).args(args)
    }

    /// Returns a command of `crictl`.
    pub fn crictl<S: Into<String>>(&self, args: impl IntoIterator<Item = S>) -> Process {
        self.exec(CRICTL).args(args)
    }

    /// Returns whether the node can run commands.
    pub fn answers(&self) -> bool {
        self.exec(["true"]).deadline(deadlines::NODE).succeeds()
    }

    /// Returns the images that kubelet can start, by reference.
    pub fn images(&self) -> Result<Images> {
        self.listing().map(|listing| tagged(&listing.names()))
    }

    /// Returns the IDs (config digests) of images by every name that a pod's status may have: reference,
    /// `name@sha256:<manifest>` and the plain ID.
    pub fn names(&self) -> Result<Images> {
        self.listing().map(|listing| listing.names())
    }

    /// Returns all images of the node, and which of the images `wanted` (see [`canonical`]) are complete.
    pub fn list_images(&self, wanted: &[String]) -> Result<NodeImages> {
        let what = "which images it has and which of them are complete";
        // One process on the node for both lists.
        let script = format!("{} {LIST}", CRICTL.join(" "));
        let list = self.exec(["sh", "-c", &script, "images"]).args(wanted.iter().map(|name| format!("name=={name}")));
        let list = list.question().deadline(deadlines::NODE);
        let read = || {
            let output = list.output()?;
            // An incomplete image makes it fail, after it has printed the complete ones.
            let words = String::from_utf8_lossy(&output.stderr);
            let has_no_answer = ["connection", "unavailable", "deadline"].iter().any(|sign| words.contains(sign));
            if !output.status.success() && (has_no_answer || !words.contains("unable to check")) {
                bail!("`{list}` failed ({}): {}", output.status, words.trim());
            }
            parse_node_images(&String::from_utf8_lossy(&output.stdout), wanted)
                .with_context(|| format!("reading what `{list}` printed"))
        };
        read().map_err(|error| self.query_error(what, error))
    }

    /// Returns the digests of all content on the node, with `sha256:`.
    pub fn content(&self) -> Result<HashSet<String>> {
        let content = self.ctr(["content", "ls", "-q"]).question().deadline(deadlines::NODE);
        let text = content.read().map_err(|error| self.query_error("which content it has", error))?;
        Ok(text.lines().map(|line| line.trim().to_owned()).collect())
    }

    /// Returns IDs and references of the images of its containers, running or not.
    pub fn images_in_use(&self) -> Result<BTreeSet<String>> {
        self.query("which images its containers use", &["ps", "-a", "-o", "json"], parse_images_in_use)
    }

    /// Returns whether the image `id` has the label `name=value`.
    pub fn has_label(&self, id: &str, label: &str) -> Result<bool> {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        let what = format!("which labels image {id} has");
        let image: Value =
            self.query(&what, &["inspecti", "-o", "json", id], |text| Ok(serde_json::from_str(text)?))?;
        Ok(image["info"]["imageSpec"]["config"]["Labels"][name] == value)
    }

    fn listing(&self) -> Result<Listing> {
        self.query("which images it has", &["images", "-o", "json"], |text| Ok(Listing::parse(text)?))
    }

    /// Runs crictl and parses its output. An error says that `what` is unknown.
    fn query<T>(&self, what: &str, args: &[&str], parse: impl Fn(&str) -> Result<T>) -> Result<T> {
        let crictl = self.crictl(args.iter().copied()).question().deadline(deadlines::NODE);
        let read = || parse(&crictl.read()?).with_context(|| format!("reading what `{crictl}` printed"));
        read().map_err(|error| self.query_error(what, error))
    }

    fn query_error(&self, what: &str, error: anyhow::Error) -> anyhow::Error {
        Failure::new(Class::Cluster, format!("node {} does not report {what}", self.name))
            .because(error)
            .help("cargo xtask doctor")
            .into()
    }
}

/// Returns `reference` as containerd and CRI spell it: with registry and library.
pub fn canonical(reference: &str) -> String {
    let (first, rest) = reference.split_once('/').unwrap_or(("", reference));
    let tagged = if rest.contains([':', '@']) { "" } else { ":latest" };
    if first.is_empty() {
        format!("docker.io/library/{reference}{tagged}")
    } else if first.contains(['.', ':']) || first == "localhost" {
        format!("{reference}{tagged}")
    } else {
        format!("docker.io/{reference}{tagged}")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listing {
    images: Vec<ListedImage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedImage {
    id: String,
    #[serde(default)]
    repo_tags: Vec<String>,
    #[serde(default)]
    repo_digests: Vec<String>,
}

impl Listing {
    fn parse(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    fn names(&self) -> Images {
        let names = |image: &ListedImage| {
            let names = [&image.repo_tags[..], &image.repo_digests, std::slice::from_ref(&image.id)].concat();
            names.into_iter().map(|name| (name, image.id.clone())).collect::<Vec<_>>()
        };
        self.images.iter().flat_map(names).collect()
    }
}

/// Returns the `names` (see [`Node::names`]) that kubelet can start.
pub fn tagged(names: &Images) -> Images {
    let is_tagged = |name: &str| !name.starts_with("sha256:") && !name.contains("@sha256:");
    names.iter().filter(|(name, _)| is_tagged(name)).map(|(name, id)| (name.clone(), id.clone())).collect()
}

/// Returns the IDs of untagged images in `names`.
pub fn nameless(names: &Images) -> Vec<String> {
    let named: BTreeSet<&String> = names.iter().filter(|(name, id)| name != id).map(|(_, id)| id).collect();
    names.keys().filter(|name| name.starts_with("sha256:") && !named.contains(name)).cloned().collect()
}

fn parse_node_images(text: &str, wanted: &[String]) -> Result<NodeImages> {
    let mut documents = serde_json::Deserializer::from_str(text).into_iter::<Listing>();
    let names = documents.next().context("it printed nothing")??.names();
    let lines = text[documents.byte_offset()..].trim_end().strip_suffix("end").context("its end is missing")?;
    let ready: BTreeSet<String> = lines.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if let Some(line) = ready.iter().find(|line| !wanted.contains(line)) {
        bail!("unexpected line: {line}");
    }
    Ok(NodeImages { images: tagged(&names), names, ready, content: None })
}

#[derive(Deserialize)]
struct ContainerListing {
    containers: Vec<ListedContainer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedContainer {
    image: ContainerImage,
    #[serde(default)]
    image_ref: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerImage {
    image: String,
    #[serde(default)]
    user_specified_image: String,
}

fn parse_images_in_use(text: &str) -> Result<BTreeSet<String>> {
    let listing: ContainerListing = serde_json::from_str(text)?;
    let names = |c: ListedContainer| [c.image.image, c.image.user_specified_image, c.image_ref];
    Ok(listing.containers.into_iter().flat_map(names).filter(|name| !name.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a node on which `script` answers each command.
    fn node(script: &str) -> (Node, tempfile::TempDir) {
        let temp = tempfile::tempdir().unwrap();
        (Node::container(&Engine::scripted(temp.path(), script), "todo"), temp)
    }

    #[test]
    fn fails_with_the_tools_own_words_without_an_answer() {
        let wanted = ["docker.io/library/a:1".to_owned()];
        let down = "Cannot connect to the Docker daemon";
        let cases = [
            (format!("echo '{down}' >&2; exit 1"), down),
            ("exit 137".to_owned(), "137"),
            (r#"printf '{"images": [{"id": "sha256:a'"#.to_owned(), "EOF"),
            ("echo garbage; echo 'no such container' >&2".to_owned(), "expected value"),
        ];
        for (script, words) in &cases {
            let (node, _temp) = node(script);
            let errors = [
                node.images().map(drop),
                node.names().map(drop),
                node.images_in_use().map(drop),
                node.has_label("sha256:a", "a=b").map(drop),
                node.list_images(&wanted).map(drop),
            ];
            for error in errors.map(Result::unwrap_err) {
                let failure = error.downcast_ref::<Failure>().unwrap();
                let text = format!("{error:#}");
                assert!(
                    text.starts_with("node todo does not report which") && text.contains(words),
                    "{script}: {text}"
                );
                assert_eq!(failure.hints(), ["cargo xtask doctor"]);
            }
        }
        for script in [&cases[0].0, &cases[1].0] {
            assert!(node(script).0.content().is_err(), "{script}");
        }
        // An incomplete image is an answer.
        let complete = r#"echo '{"images": []}'; echo docker.io/library/a:1"#;
        let broken = |why: &str| {
            let (node, _temp) = node(&format!("{complete}; echo end; echo 'ctr: unable to check {why}' >&2; exit 1"));
            node.list_images(&wanted).map(|on_node| on_node.ready.len())
        };
        assert_eq!(broken("unpack for b:1").unwrap(), 1);
        // A lost connection to containerd is no answer.
        assert!(broken("b:1: connection error: desc = ...").is_err());
        let error = |script: &str| {
            let (node, _temp) = node(script);
            format!("{:#}", node.list_images(&wanted).unwrap_err())
        };
        let other = error(&format!("{complete}; echo docker.io/library/b:1; echo end"));
        assert!(other.contains("unexpected line: docker.io/library/b:1"), "{other}");
        assert!(error(complete).contains("its end is missing"));
    }

    #[test]
    fn spells_references_like_the_node() {
        let table = [
            ("todo-backend:0123", "docker.io/library/todo-backend:0123"),
            ("postgres", "docker.io/library/postgres:latest"),
            ("org/app:1", "docker.io/org/app:1"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("localhost/app@sha256:aa", "localhost/app@sha256:aa"),
        ];
        table.iter().for_each(|(short, long)| assert_eq!(canonical(short), *long));
        assert_eq!(canonical(table[0].1), table[0].1);
    }

    #[test]
    fn reads_the_recorded_output_of_crictl() {
        let listing = Listing::parse(include_str!("../tests/recorded/cluster/images.json")).unwrap();
        let names = listing.names();
        let images = tagged(&names);
        let backend = images.keys().find(|name| name.starts_with("docker.io/library/todo-backend:")).unwrap();
        let id = &images[backend];
        assert!(id.starts_with("sha256:") && names[id] == *id && names[backend] == *id && names.len() > images.len());
        let used = parse_images_in_use(include_str!("../tests/recorded/cluster/containers.json")).unwrap();
        assert!(used.contains(id) && used.contains(backend.trim_start_matches("docker.io/library/")), "{used:?}");
    }

    #[test]
    fn reads_the_output_of_crictl() {
        let text = r#"{"images":[{"id":"sha256:aa","repoTags":["docker.io/library/a:1","docker.io/library/a:2"],
            "repoDigests":[],"size":"1","username":"","pinned":false},{"id":"sha256:bb","repoTags":[]}]}"#;
        let names = Listing::parse(text).unwrap().names();
        let images = tagged(&names);
        assert_eq!(images.len(), 2);
        assert_eq!(images["docker.io/library/a:2"], "sha256:aa");
        assert_eq!(nameless(&names), ["sha256:bb"]);

        let named = r#"{"images":[{"id":"sha256:aa","repoTags":["docker.io/library/a:1"],
            "repoDigests":["docker.io/library/a@sha256:bb"]}]}"#;
        let names = Listing::parse(named).unwrap().names();
        assert_eq!(
            names.keys().collect::<Vec<_>>(),
            ["docker.io/library/a:1", "docker.io/library/a@sha256:bb", "sha256:aa"]
        );
        assert!(names.values().all(|id| id == "sha256:aa"));

        let text = r#"{"containers":[{"id":"x","image":{"image":"sha256:aa","annotations":{},
            "userSpecifiedImage":"todo-backend:1"},"imageRef":"sha256:aa","state":"CONTAINER_RUNNING"}]}"#;
        assert_eq!(parse_images_in_use(text).unwrap(), BTreeSet::from(["sha256:aa".into(), "todo-backend:1".into()]));
    }
}
