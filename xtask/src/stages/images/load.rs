//! Brings images into nodes: only what a node lacks crosses, and the ID is read back.

use std::collections::HashSet;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::archive::Passed;
use super::ids;
use super::store::StoredImage;
use super::stream::{Sent, import, save, send, send_stored};
use crate::deadlines;
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::node::{Node, NodeImages, canonical};
use crate::plan::Step;
use crate::project::Project;
use crate::report::{Running, bytes};

/// An image that nodes must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// As the engine knows it: `todo-backend:0123`, `postgres:17-trixie`.
    pub reference: String,
    /// Its config digest; `None` while the image does not exist yet (dry run).
    pub id: Option<String>,
}

impl Wanted {
    /// The image that `engine` has under `reference`.
    pub fn of(project: &Project, engine: &Engine, reference: &str) -> Result<Self> {
        Ok(Self { reference: reference.to_owned(), id: ids::of(project, engine, reference)? })
    }

    /// Its name on a node.
    fn name(&self) -> String {
        canonical(&self.reference)
    }
}

/// What a node lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nothing: it has the very image.
    Nothing,
    /// The name only: it has the image as this other reference.
    Name(String),
    /// The image.
    Image {
        /// Why it must be loaded.
        why: String,
    },
}

/// What each node has, asked side by side.
pub fn observe(nodes: &[Node], references: &[String]) -> Result<Vec<(Node, NodeImages)>> {
    let names: Vec<String> = references.iter().map(|reference| canonical(reference)).collect();
    std::thread::scope(|scope| {
        let asked: Vec<_> = nodes.iter().map(|node| (node, scope.spawn(|| node.list_images(&names)))).collect();
        let answers = asked.into_iter().map(|(node, answer)| {
            let on_node = answer.join().unwrap_or_else(|_| bail!("the look at it panicked"));
            Ok((node.clone(), on_node?))
        });
        answers.collect()
    })
}

/// What a node with `on_node` lacks of `wanted`.
pub fn decide(wanted: &Wanted, on_node: &NodeImages) -> Missing {
    let name = wanted.name();
    let has = on_node.images.get(&name);
    let other =
        || on_node.images.iter().find(|(_, has)| wanted.id.as_ref() == Some(*has)).map(|(other, _)| other.clone());
    let why = match has {
        Some(_) if has == wanted.id.as_ref() && on_node.ready.contains(&name) => return Missing::Nothing,
        Some(_) if has == wanted.id.as_ref() => "the node's copy is incomplete",
        _ if other().is_some() => return Missing::Name(other().unwrap_or_default()),
        Some(_) => "the node has another image of that name",
        None => "the node does not have it",
    };
    Missing::Image { why: why.into() }
}

/// The steps that bring `wanted` to the nodes; none if all have it. They are independent of each other.
pub fn steps<'a>(
    project: &'a Project,
    engine: &'a Engine,
    wanted: &'a [Wanted],
    nodes: &'a [(Node, NodeImages)],
) -> Vec<Step<'a>> {
    let pairs = wanted.iter().flat_map(|wanted| nodes.iter().map(move |(node, on_node)| (wanted, node, on_node)));
    let steps = pairs.filter_map(|(wanted, node, on_node)| {
        let place = if nodes.len() > 1 { format!(" into {}", node.name) } else { String::new() };
        let what = format!("load {}{place}", wanted.reference);
        match decide(wanted, on_node) {
            Missing::Nothing => None,
            Missing::Name(other) => {
                let tag = node.ctr(["images", "tag", "--force", &other, &wanted.name()]);
                Some(Step::new(what, "the node has it under another name", tag.clone(), move |running| {
                    if tag.succeeds() && confirm(node, wanted).is_ok() {
                        return Ok("named; nothing sent".into());
                    }
                    load(project, engine, node, on_node, wanted, running).map(|passed| describe(&passed))
                }))
            }
            Missing::Image { why } => {
                let command = format!("{} | {}", save(engine, &wanted.reference), import(node));
                Some(Step::new(what, why, command, move |running| {
                    load(project, engine, node, on_node, wanted, running).map(|passed| describe(&passed))
                }))
            }
        }
    });
    steps.collect()
}

fn describe(passed: &Passed) -> String {
    format!("sent {} of {}", bytes(passed.sent), bytes(passed.total))
}

/// Sends `wanted` to `node`, which has `on_node`, less what that has, or everything if the node refuses; then compares IDs.
pub fn load(
    project: &Project,
    engine: &Engine,
    node: &Node,
    on_node: &NodeImages,
    wanted: &Wanted,
    running: &Running,
) -> Result<Passed> {
    let failed = |error: anyhow::Error| failed(wanted, node, &error);
    let have = on_node.content.clone().map_or_else(|| node.content(), Ok).map_err(failed)?;
    let stored = wanted.id.as_ref().zip(engine.data.as_ref()).and_then(|(id, data)| StoredImage::open(data, id).ok());
    let mut ways: Vec<(Option<&StoredImage>, &HashSet<String>)> =
        stored.iter().map(|image| (Some(image), &have)).collect();
    let nothing = HashSet::new();
    ways.push((None, &have));
    ways.extend((!have.is_empty()).then_some((None, &nothing)));
    let mut refused = None;
    for (stored, have) in ways {
        if let Some(error) = refused.take() {
            // One that takes nothing at all.
            if !node.answers() {
                return Err(failed(error));
            }
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches([' ', '|']);
            let instead = if have.is_empty() { "sending all of it" } else { "asking the engine for it" };
            let what = format!("{} did not take {} as it was sent: {instead}", node.name, wanted.reference);
            project.report.note(format!("{what} ({why})"));
        }
        match attempt(project, engine, node, wanted, stored, have, running)? {
            Sent::Passed(passed) => return Ok(passed),
            Sent::Refused(error) => refused = Some(error),
        }
    }
    Err(failed(refused.context("an image is sent at least once")?))
}

fn attempt(
    project: &Project,
    engine: &Engine,
    node: &Node,
    wanted: &Wanted,
    stored: Option<&StoredImage>,
    have: &HashSet<String>,
    running: &Running,
) -> Result<Sent> {
    let sent = match stored {
        Some(image) => send_stored(node, image, &wanted.reference, have, running)?,
        None => send(engine, node, &wanted.reference, have, running)?,
    };
    let Sent::Passed(passed) = sent else { return Ok(sent) };
    // An engine that keeps images in containerd calls them by manifest; the config is known only now.
    let id = passed.config.clone().or_else(|| wanted.id.clone());
    if id != wanted.id
        && let (Some(engines), Some(config)) = (engine.image_id(&wanted.reference)?, &id)
    {
        ids::remember(project, &engines, config)?;
    }
    Ok(match confirm(node, &Wanted { id, ..wanted.clone() }) {
        Ok(()) => Sent::Passed(passed),
        Err(error) => Sent::Refused(error),
    })
}

/// Fails unless the node has the image under its name, with the ID that is wanted, and can make containers of it.
fn confirm(node: &Node, wanted: &Wanted) -> Result<()> {
    let start = Instant::now();
    let name = wanted.name();
    loop {
        let on_node = node.list_images(std::slice::from_ref(&name))?;
        let has = on_node.images.get(&name);
        let right = has.is_some() && (has == wanted.id.as_ref() || wanted.id.is_none());
        if right && on_node.ready.contains(&name) {
            return Ok(());
        }
        if start.elapsed() > deadlines::IMAGE_LISTED.time() {
            let has = has.map_or("nothing", String::as_str);
            let id = wanted.id.as_deref().unwrap_or("any ID");
            let how = if right { "which is not unpacked".into() } else { format!("not {id}") };
            bail!("after loading, node {} has {has} as {}, {how}", node.name, wanted.reference);
        }
        std::thread::sleep(deadlines::POLL_LOCAL.time());
    }
}

fn failed(wanted: &Wanted, node: &Node, error: &anyhow::Error) -> anyhow::Error {
    Failure::new(Class::Image, format!("cannot load {} into node {}: {error:#}", wanted.reference, node.name))
        .help(format!("see whether the node has room: cargo xtask tool docker -- exec {} df -h /var", node.name))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_lacks_the_image_its_name_or_nothing() {
        let name = |name: &str| format!("docker.io/library/{name}");
        let images = [("a:1", "sha256:aa"), ("b:1", "sha256:bb"), ("cut:1", "sha256:dd")];
        let images = images.map(|(reference, id)| (name(reference), id.to_owned())).into();
        let on_node = NodeImages { images, ready: [name("a:1"), name("b:1")].into(), ..NodeImages::default() };
        let decide = |reference: &str, id: Option<&str>| {
            decide(&Wanted { reference: reference.into(), id: id.map(str::to_owned) }, &on_node)
        };
        assert_eq!(decide("a:1", Some("sha256:aa")), Missing::Nothing);
        assert_eq!(decide("a:2", Some("sha256:aa")), Missing::Name(name("a:1")));
        assert_eq!(decide("a:1", Some("sha256:bb")), Missing::Name(name("b:1")));
        let why = |missing| if let Missing::Image { why } = missing { why } else { panic!("{missing:?}") };
        assert_eq!(why(decide("a:1", Some("sha256:cc"))), "the node has another image of that name");
        assert_eq!(why(decide("c:1", Some("sha256:cc"))), "the node does not have it");
        assert_eq!(why(decide("c:1", None)), "the node does not have it");
        assert_eq!(why(decide("cut:1", Some("sha256:dd"))), "the node's copy is incomplete");
    }
}
