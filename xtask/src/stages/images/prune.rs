//! Forgets old builds of our own images, by name: an engine or a node holds other people's too.

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

/// How many builds of an image an engine keeps: going back and forth between branches costs no build.
pub const KEEP: usize = 5;

/// The file that names the builds which a profile needs, one reference a line.
fn needs_file(cache: &Utf8Path, profile: &str) -> Utf8PathBuf {
    cache.join("needed").join(profile)
}

/// Writes down that `profile` needs the builds `needed`, and returns what all profiles need that share the cache: they
/// share an engine too, and a deploy to one of them must not remove the builds of another one.
pub fn needed_by_profiles(cache: &Utf8Path, profile: &str, needed: &BTreeSet<String>) -> Result<BTreeSet<String>> {
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

/// Whether a deploy has reached the release of `profile` since that was made.
pub fn was_deployed(cache: &Utf8Path, profile: &str) -> Result<bool> {
    files::exists(&needs_file(cache, profile))
}

/// Forgets what `profile` needed: it is deleted.
pub fn forget_profile(cache: &Utf8Path, profile: &str) -> Result<()> {
    files::remove(&needs_file(cache, profile))
}

/// What engine and nodes hold.
pub struct Builds {
    /// What the engine holds.
    pub engine: EngineBuilds,
    /// The images of each node, and what its containers use.
    nodes: Vec<(Node, Images, BTreeSet<String>)>,
}

/// What an engine holds.
pub struct EngineBuilds {
    /// References of its images, newest first, one a line.
    references: String,
    /// Whether it has builds of ours that lost their name.
    nameless: bool,
}

impl Builds {
    /// Asks engine and nodes side by side.
    pub fn observe(tools: &Toolbox) -> Result<Self> {
        let nodes = tools.nodes()?;
        let panicked = |_| bail!("the look for old builds panicked");
        std::thread::scope(|scope| {
            let ask = |node: Node| Ok((node.names()?, node.used()?)).map(|(images, used)| (node, images, used));
            let nodes: Vec<_> = nodes.into_iter().map(|node| scope.spawn(move || ask(node))).collect();
            let engine = EngineBuilds::observe(&tools.engine)?;
            let nodes = nodes.into_iter().map(|node| node.join().unwrap_or_else(panicked)).collect::<Result<_>>()?;
            Ok(Self { engine, nodes })
        })
    }

    /// The steps that remove from the nodes those builds of `names` that neither `needed` (references of kept revisions)
    /// nor any container uses, and those that lost their name to a later build. What they alone held is collected by
    /// containerd. What the nodes had before this run loaded anything will not do: an image may have got its new name only.
    pub fn node_steps(&self, names: &[&str], needed: &BTreeSet<String>) -> Result<Vec<Step<'_>>> {
        let steps = self.nodes.iter().map(|(node, images, used)| of_node(node, images, used, names, needed));
        Ok(steps.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }
}

impl EngineBuilds {
    /// Asks the engine.
    pub fn observe(engine: &Engine) -> Result<Self> {
        let list = engine.docker().args(["image", "ls"]);
        // Newest first, as docker lists them.
        let references = list.clone().args(["--format", "{{.Repository}}:{{.Tag}}"]).read()?;
        // Whose they are is another question.
        let nameless = references.contains("<none>") && {
            let ids = list.args(["--quiet", "--filter", "dangling=true", "--filter", &ours()]).read()?;
            let is_id = |id: &str| id.bytes().all(|byte| byte.is_ascii_hexdigit());
            ensure!(
                ids.split_whitespace().all(is_id),
                "`docker image ls --quiet` printed something else than IDs: {}",
                ids.trim()
            );
            !ids.trim().is_empty()
        };
        Ok(Self { references, nameless })
    }

    /// The steps that remove from `engine` all but the newest `keep` builds of each image in `names`. References in
    /// `needed` stay in any case.
    pub fn steps<'a>(
        &self,
        engine: &'a Engine,
        names: &[&str],
        keep: usize,
        needed: &BTreeSet<String>,
    ) -> Vec<Step<'a>> {
        let old = old(self.references.lines(), names, keep, needed);
        let mut steps: Vec<Step<'a>> = old
            .into_iter()
            .map(|reference| {
                let command = engine.docker().args(["image", "rm", &reference]);
                Step::new(format!("remove {reference}"), "an old build", command.clone(), move |_| {
                    command.run().map(|()| String::new())
                })
            })
            .collect();
        // What a later build took the tag from.
        if self.nameless {
            let command = engine.docker().args(["image", "prune", "--force", "--filter", &ours()]);
            steps.push(Step::new(
                "remove builds without a name",
                "another build has their tag",
                command.clone(),
                move |_| command.run().map(|()| String::new()),
            ));
        }
        steps
    }
}

/// The filter for builds of ours.
fn ours() -> String {
    format!("label={LABEL}")
}

fn of_node<'a>(
    node: &'a Node,
    all: &Images,
    used: &BTreeSet<String>,
    names: &[&str],
    needed: &BTreeSet<String>,
) -> Result<Vec<Step<'a>>> {
    let images = tagged(all);
    let garbage = garbage(&images, used, names, needed);
    let id = |reference: &String| images.get(reference);
    let steps = garbage.iter().enumerate().filter_map(|(index, reference)| {
        // `crictl rmi` removes every name of the image, and `ctr images rm` one name only, but leaves the one that CRI
        // has made of the ID, which holds the content.
        let shared = images.iter().any(|(other, has)| id(reference) == Some(has) && !garbage.contains(other));
        let gone = garbage[..index].iter().any(|earlier| id(earlier) == id(reference));
        let command = match shared {
            true => node.ctr(["images", "rm", reference]),
            false if gone => return None,
            false => node.exec(["crictl", "rmi", reference]),
        };
        let what = format!("remove {reference} from {}", node.name);
        Some(Step::new(what, "no longer used", command.clone(), move |_| command.run().map(|()| String::new())))
    });
    let mut steps: Vec<Step<'a>> = steps.collect();
    for id in nameless(all).into_iter().filter(|id| !used.contains(id)) {
        if node.has_label(&id, LABEL)? {
            let command = node.exec(["crictl", "rmi", &id]);
            let what = format!("remove {id} from {}", node.name);
            steps.push(Step::new(what, "another build has its tag", command.clone(), move |_| {
                command.run().map(|()| String::new())
            }));
        }
    }
    Ok(steps)
}

/// Whether `reference` is a build of `name`: its tag is a content tag.
fn is_build_of(reference: &str, name: &str) -> bool {
    let tag = reference.strip_prefix(name).and_then(|rest| rest.strip_prefix(':'));
    tag.is_some_and(|tag| tag.len() == 16 && tag.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

fn old<'a>(
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

fn garbage(images: &Images, used: &BTreeSet<String>, names: &[&str], needed: &BTreeSet<String>) -> Vec<String> {
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

    const NAMES: [&str; 2] = ["todo-backend", "todo-frontend"];

    fn set(items: &[&str]) -> BTreeSet<String> {
        items.iter().map(|item| item.to_string()).collect()
    }

    #[test]
    fn keeps_builds_that_another_profile_needs_until_it_is_deleted() {
        let temp = tempfile::tempdir().unwrap();
        let cache = Utf8Path::from_path(temp.path()).unwrap();
        let (one, other) = (set(&["todo-backend:00000000000000aa"]), set(&["todo-backend:00000000000000bb"]));
        assert_eq!(needed_by_profiles(cache, "one", &one).unwrap(), one);
        assert_eq!(needed_by_profiles(cache, "other", &other).unwrap(), &one | &other);
        // The newest answer of a profile counts.
        assert_eq!(needed_by_profiles(cache, "one", &set(&[])).unwrap(), other);
        forget_profile(cache, "other").unwrap();
        forget_profile(cache, "other").unwrap();
        assert_eq!(needed_by_profiles(cache, "one", &set(&[])).unwrap(), set(&[]));
    }

    #[test]
    fn only_old_builds_of_our_names_go() {
        let build = |n: u8| format!("todo-backend:00000000000000{n:02x}");
        let mut listing: Vec<String> = (0..7).map(build).collect();
        listing.extend(
            ["todo-backend:mine", "other:0123456789abcdef", "x/todo-backend:0123456789abcdef"].map(String::from),
        );
        let old = |keep, needed: &[&str]| old(listing.iter().map(String::as_str), &NAMES, keep, &set(needed));
        assert_eq!(old(5, &[]), [build(5), build(6)]);
        assert_eq!(old(5, &[&build(6)]), [build(5)]);
        assert_eq!(old(0, &[]).len(), 7);
    }

    #[test]
    fn what_is_used_or_kept_stays_on_the_node() {
        let image =
            |tag: u8, id: &str| (format!("docker.io/library/todo-backend:00000000000000{tag:02x}"), id.to_owned());
        let mut images: Images = [image(1, "sha256:aa"), image(2, "sha256:bb"), image(3, "sha256:cc")].into();
        images.insert("docker.io/library/postgres:17-trixie".into(), "sha256:dd".into());
        let used = set(&["sha256:bb", "todo-backend:00000000000000ff"]);
        let needed = set(&["todo-backend:0000000000000003"]);
        assert_eq!(garbage(&images, &used, &NAMES, &needed), [image(1, "").0]);
    }
}
