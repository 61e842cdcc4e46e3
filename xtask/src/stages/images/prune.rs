//! Removes old builds of the project's images, by name: engine and nodes may also hold other people's images.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};

use super::build::LABEL;
use crate::engine::Engine;
use crate::files;
use crate::node::{Images, Node, canonical, nameless, tagged};
use crate::plan::Step;
use crate::private;
use crate::toolbox::Toolbox;

/// Number of builds of an image that an engine keeps, so that switching between branches needs no build.
pub const KEEP: usize = 5;

/// Returns the file with the builds that a profile needs, one reference per line.
fn needs_file(cache: &Utf8Path, profile: &str) -> Utf8PathBuf {
    cache.join("needed").join(profile)
}

/// Records that `profile` needs the builds `needed`. Returns the builds that all profiles of the cache need: they share an
/// engine, and a deploy to one must not remove the builds of another.
pub fn record_needed(cache: &Utf8Path, profile: &str, needed: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let file = needs_file(cache, profile);
    let folder = file.parent().unwrap_or(cache);
    private::create_dir(folder)?;
    private::write(&file, &needed.iter().map(|reference| format!("{reference}\n")).collect::<String>())?;
    let mut all = needed.clone();
    for file in files::entries(folder)? {
        all.extend(files::read(&file)?.unwrap_or_default().lines().map(str::to_owned));
    }
    Ok(all)
}

/// Returns whether a deploy has reached the release of `profile` since the profile was created.
pub fn was_deployed(cache: &Utf8Path, profile: &str) -> Result<bool> {
    files::exists(&needs_file(cache, profile))
}

/// Removes the record of the builds that the deleted `profile` needed.
pub fn forget_profile(cache: &Utf8Path, profile: &str) -> Result<()> {
    files::remove(&needs_file(cache, profile))
}

/// The images of the engine and all nodes.
pub struct Builds {
    /// The images of the engine.
    pub engine: EngineBuilds,
    /// The images of each node, and those that its containers use.
    nodes: Vec<(Node, Images, BTreeSet<String>)>,
}

/// The images of an engine.
pub struct EngineBuilds {
    /// References of its images, newest first, one per line.
    references: String,
    /// Whether the engine has untagged builds of xtask.
    nameless: bool,
}

impl Builds {
    /// Lists the images of engine and nodes, side by side.
    pub fn observe(tools: &Toolbox) -> Result<Self> {
        let nodes = tools.nodes()?;
        let panicked = |_| bail!("listing a node's images panicked");
        std::thread::scope(|scope| {
            let list = |node: Node| Ok((node.names()?, node.images_in_use()?)).map(|(all, used)| (node, all, used));
            let nodes: Vec<_> = nodes.into_iter().map(|node| scope.spawn(move || list(node))).collect();
            let engine = EngineBuilds::observe(&tools.engine)?;
            let nodes = nodes.into_iter().map(|node| node.join().unwrap_or_else(panicked)).collect::<Result<_>>()?;
            Ok(Self { engine, nodes })
        })
    }

    /// Returns the steps that remove unused builds of `names` from the nodes: those without a container that are not `needed`
    /// (references of kept revisions), and untagged ones. containerd then collects their content. Call [`Builds::observe`]
    /// after this run's loads: a load may only add a name to an existing image.
    pub fn node_steps(&self, names: &[&str], needed: &BTreeSet<String>) -> Result<Vec<Step<'_>>> {
        let steps = self.nodes.iter().map(|(node, images, used)| steps_for_node(node, images, used, names, needed));
        Ok(steps.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }
}

impl EngineBuilds {
    /// Lists the images of the engine.
    pub fn observe(engine: &Engine) -> Result<Self> {
        let list = engine.docker().args(["image", "ls"]);
        // Docker lists them newest first.
        let references = list.clone().args(["--format", "{{.Repository}}:{{.Tag}}"]).read()?;
        // A second call shows whether they are builds of xtask.
        let nameless = references.contains("<none>") && {
            let ids = list.args(["--quiet", "--filter", "dangling=true", "--filter", &label_filter()]).read()?;
            let is_id = |id: &str| id.bytes().all(|byte| byte.is_ascii_hexdigit());
            ensure!(
                ids.split_whitespace().all(is_id),
                "unexpected output of `docker image ls --quiet` instead of IDs: {}",
                ids.trim()
            );
            !ids.trim().is_empty()
        };
        Ok(Self { references, nameless })
    }

    /// Returns the steps that remove all but the newest `keep` builds of each image in `names` from `engine`. References in
    /// `needed` stay in any case.
    pub fn steps<'a>(
        &self,
        engine: &'a Engine,
        names: &[&str],
        keep: usize,
        needed: &BTreeSet<String>,
    ) -> Vec<Step<'a>> {
        let old = old_builds(self.references.lines(), names, keep, needed);
        let mut steps: Vec<Step<'a>> = old
            .into_iter()
            .map(|reference| {
                let command = engine.docker().args(["image", "rm", &reference]);
                Step::new(format!("remove {reference}"), "an old build", command.clone(), move |_| {
                    match command.run() {
                        Err(error) if engine.image_id(&reference)?.is_some() => Err(error),
                        // Removed, perhaps by the deploy of another profile.
                        _ => Ok(String::new()),
                    }
                })
            })
            .collect();
        if self.nameless {
            let command = engine.docker().args(["image", "prune", "--force", "--filter", &label_filter()]);
            steps.push(Step::new(
                "remove untagged builds",
                "newer builds have their tags",
                command.clone(),
                move |_| command.run().map(|()| String::new()),
            ));
        }
        steps
    }
}

fn label_filter() -> String {
    format!("label={LABEL}")
}

fn steps_for_node<'a>(
    node: &'a Node,
    all: &Images,
    used: &BTreeSet<String>,
    names: &[&str],
    needed: &BTreeSet<String>,
) -> Result<Vec<Step<'a>>> {
    let images = tagged(all);
    let unused = unused_builds(&images, used, names, needed);
    let id = |reference: &String| images.get(reference);
    let steps = unused.iter().enumerate().filter_map(|(index, reference)| {
        // `crictl rmi` removes every name of the image. `ctr images rm` removes one name, but keeps the name that CRI made
        // of the ID, and with it the content.
        let has_other_names = images.iter().any(|(other, has)| id(reference) == Some(has) && !unused.contains(other));
        let is_removed_already = unused[..index].iter().any(|earlier| id(earlier) == id(reference));
        let command = match has_other_names {
            true => node.ctr(["images", "rm", reference]),
            false if is_removed_already => return None,
            false => node.crictl(["rmi", reference]),
        };
        let what = format!("remove {reference} from {}", node.name);
        Some(Step::new(what, "no longer used", command.clone(), move |_| command.run().map(|()| String::new())))
    });
    let mut steps: Vec<Step<'a>> = steps.collect();
    for id in nameless(all).into_iter().filter(|id| !used.contains(id)) {
        if node.has_label(&id, LABEL)? {
            let command = node.crictl(["rmi", &id]);
            let what = format!("remove {id} from {}", node.name);
            steps.push(Step::new(what, "a newer build has its tag", command.clone(), move |_| {
                command.run().map(|()| String::new())
            }));
        }
    }
    Ok(steps)
}

/// Returns whether `reference` is `name` with a content tag.
fn is_build_of(reference: &str, name: &str) -> bool {
    let tag = reference.strip_prefix(name).and_then(|rest| rest.strip_prefix(':'));
    tag.is_some_and(|tag| tag.len() == 16 && tag.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

fn old_builds<'a>(
    newest_first: impl Iterator<Item = &'a str>,
    names: &[&str],
    keep: usize,
    needed: &BTreeSet<String>,
) -> Vec<String> {
    let mut kept = vec![0; names.len()];
    let is_old = |reference: &&str| {
        let Some(index) = names.iter().position(|name| is_build_of(reference, name)) else { return false };
        kept[index] += 1;
        kept[index] > keep && !needed.contains(*reference)
    };
    newest_first.filter(is_old).map(str::to_owned).collect()
}

fn unused_builds(images: &Images, used: &BTreeSet<String>, names: &[&str], needed: &BTreeSet<String>) -> Vec<String> {
    let needed: BTreeSet<String> = needed.iter().chain(used).map(|reference| canonical(reference)).collect();
    let ours = |reference: &str| names.iter().any(|name| is_build_of(reference, &format!("docker.io/library/{name}")));
    images
        .iter()
        .filter(|(reference, id)| ours(reference) && !needed.contains(*reference) && !used.contains(*id))
        .map(|(reference, _)| reference.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Mode;
    use crate::report::Report;

    const NAMES: [&str; 2] = ["todo-backend", "todo-frontend"];

    fn set(items: &[&str]) -> BTreeSet<String> {
        items.iter().map(|item| item.to_string()).collect()
    }

    #[test]
    fn keeps_builds_that_another_profile_needs_until_it_is_deleted() {
        let temp = tempfile::tempdir().unwrap();
        let cache = Utf8Path::from_path(temp.path()).unwrap();
        let (one, other) = (set(&["todo-backend:00000000000000aa"]), set(&["todo-backend:00000000000000bb"]));
        assert_eq!(record_needed(cache, "one", &one).unwrap(), one);
        assert_eq!(record_needed(cache, "other", &other).unwrap(), &one | &other);
        // The latest record of a profile counts.
        assert_eq!(record_needed(cache, "one", &set(&[])).unwrap(), other);
        forget_profile(cache, "other").unwrap();
        forget_profile(cache, "other").unwrap();
        assert_eq!(record_needed(cache, "one", &set(&[])).unwrap(), set(&[]));
    }

    #[test]
    fn removes_only_old_builds_of_the_given_names() {
        let build = |n: u8| format!("todo-backend:00000000000000{n:02x}");
        let mut listing: Vec<String> = (0..7).map(build).collect();
        listing.extend(
            ["todo-backend:mine", "other:0123456789abcdef", "x/todo-backend:0123456789abcdef"].map(String::from),
        );
        let old = |keep, needed: &[&str]| old_builds(listing.iter().map(String::as_str), &NAMES, keep, &set(needed));
        assert_eq!(old(5, &[]), [build(5), build(6)]);
        assert_eq!(old(5, &[&build(6)]), [build(5)]);
        assert_eq!(old(0, &[]).len(), 7);
    }

    #[test]
    fn keeps_used_and_needed_builds_on_a_node() {
        let image =
            |tag: u8, id: &str| (format!("docker.io/library/todo-backend:00000000000000{tag:02x}"), id.to_owned());
        let mut images: Images = [image(1, "sha256:aa"), image(2, "sha256:bb"), image(3, "sha256:cc")].into();
        images.insert("docker.io/library/postgres:17-trixie".into(), "sha256:dd".into());
        let used = set(&["sha256:bb", "todo-backend:00000000000000ff"]);
        let needed = set(&["todo-backend:0000000000000003"]);
        assert_eq!(unused_builds(&images, &used, &NAMES, &needed), [image(1, "").0]);
    }
    #[test]
    fn a_build_that_another_deploy_has_removed_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let builds = EngineBuilds { references: "todo-backend:0123456789abcdef".to_owned(), nameless: false };
        for (inspect, is_removed) in [
            ("echo 'Error: No such image: todo-backend:0123456789abcdef' >&2; exit 1", true),
            ("echo '{\"Id\": \"sha256:1\", \"RepoTags\": [\"todo-backend:0123456789abcdef\"]}'", false),
            ("echo 'connection reset' >&2; exit 1", false),
        ] {
            let engine = Engine::scripted(dir.path(), &format!("[ \"$2\" = rm ] && exit 1\n{inspect}"));
            let steps = builds.steps(&engine, &NAMES, 0, &set(&[]));
            assert_eq!(
                crate::plan::apply(&Report::new(false), "images", Mode::Apply, steps).is_ok(),
                is_removed,
                "{inspect}"
            );
        }
    }
}
