//! Loads images into nodes: sends only the blobs that a node lacks, and reads the ID back.

use std::collections::HashSet;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::archive::Transfer;
use super::ids;
use super::store::StoredImage;
use super::stream::{Sent, import_command, save_command, send, send_stored};
use crate::deadlines;
use crate::failure::{self, Class, Failure};
use crate::node::{Node, NodeImages, canonical};
use crate::plan::Step;
use crate::report::{Running, bytes};
use crate::toolbox::Toolbox;

/// An image that nodes must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name in the engine: `todo-backend:0123`, `postgres:17-trixie`.
    pub reference: String,
    /// Its config digest; `None` if the image does not exist yet (dry run).
    pub id: Option<String>,
}

impl Wanted {
    /// Returns the image that the engine has under `reference`.
    pub fn of(tools: &Toolbox, reference: &str) -> Result<Self> {
        Ok(Self { reference: reference.to_owned(), id: ids::of(tools, reference)? })
    }

    /// Returns its name on a node.
    fn name(&self) -> String {
        canonical(&self.reference)
    }
}

/// The part of an image that a node lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nothing: the node has the image with that name and ID.
    Nothing,
    /// The name: the node has the image under this other name.
    Name(String),
    /// The whole image.
    Image {
        /// The reason for the load.
        why: String,
    },
}

/// Reads which of the images `references` each node has, side by side.
pub fn observe(nodes: &[Node], references: &[String]) -> Result<Vec<(Node, NodeImages)>> {
    let names: Vec<String> = references.iter().map(|reference| canonical(reference)).collect();
    std::thread::scope(|scope| {
        let asked: Vec<_> = nodes.iter().map(|node| (node, scope.spawn(|| node.list_images(&names)))).collect();
        let answers = asked.into_iter().map(|(node, answer)| {
            let on_node = answer.join().unwrap_or_else(|_| bail!("listing a node's images panicked"));
            Ok((node.clone(), on_node?))
        });
        answers.collect()
    })
}

/// Decides what a node with the images `on_node` lacks of `wanted`.
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

/// Returns the steps that load `wanted` into the `nodes` that lack it; they are independent of each other.
pub fn steps<'a>(tools: &'a Toolbox, wanted: &'a [Wanted], nodes: &'a [(Node, NodeImages)]) -> Vec<Step<'a>> {
    let pairs = wanted.iter().flat_map(|wanted| nodes.iter().map(move |(node, on_node)| (wanted, node, on_node)));
    let steps = pairs.filter_map(|(wanted, node, on_node)| {
        let target = if nodes.len() > 1 { format!(" into {}", node.name) } else { String::new() };
        let what = format!("load {}{target}", wanted.reference);
        match decide(wanted, on_node) {
            Missing::Nothing => None,
            Missing::Name(other) => {
                let tag = node.ctr(["images", "tag", "--force", &other, &wanted.name()]);
                Some(Step::new(what, "the node has it under another name", tag.clone(), move |running| {
                    if tag.succeeds() && confirm_loaded(node, wanted).is_ok() {
                        return Ok("tagged; nothing sent".into());
                    }
                    load(tools, node, on_node, wanted, running).map(|transfer| describe_transfer(&transfer))
                }))
            }
            Missing::Image { why } => {
                let command = format!("{} | {}", save_command(&tools.engine, &wanted.reference), import_command(node));
                Some(Step::new(what, why, command, move |running| {
                    load(tools, node, on_node, wanted, running).map(|transfer| describe_transfer(&transfer))
                }))
            }
        }
    });
    steps.collect()
}

fn describe_transfer(transfer: &Transfer) -> String {
    format!("sent {} of {}", bytes(transfer.sent), bytes(transfer.total))
}

/// Loads `wanted` into `node` and reads its ID back. Sends the blobs missing in `on_node`, or all if the node refuses.
pub fn load(
    tools: &Toolbox,
    node: &Node,
    on_node: &NodeImages,
    wanted: &Wanted,
    running: &Running,
) -> Result<Transfer> {
    let load_error = |error: anyhow::Error| load_error(wanted, node, error);
    let have = on_node.content.clone().map_or_else(|| node.content(), Ok).map_err(load_error)?;
    let stored =
        wanted.id.as_ref().zip(tools.engine.data.as_ref()).and_then(|(id, data)| StoredImage::open(data, id).ok());
    let mut attempts: Vec<(Option<&StoredImage>, &HashSet<String>)> =
        stored.iter().map(|image| (Some(image), &have)).collect();
    let nothing = HashSet::new();
    attempts.push((None, &have));
    attempts.extend((!have.is_empty()).then_some((None, &nothing)));
    let mut refusal = None;
    for (stored, have) in attempts {
        if let Some(error) = refusal.take() {
            // A node that does not answer refuses everything.
            if !node.answers() {
                return Err(load_error(error));
            }
            let why = failure::message(&error);
            let why = why.lines().last().unwrap_or_default().trim_start_matches([' ', '|']);
            let instead = if have.is_empty() { "sending all of it" } else { "sending what `docker save` prints" };
            let what = format!("{} refused {} as it was sent: {instead}", node.name, wanted.reference);
            tools.report.note(format!("{what} ({why})"));
        }
        match send_and_confirm(tools, node, wanted, stored, have, running)? {
            Sent::Accepted(transfer) => return Ok(transfer),
            Sent::Refused(error) => refusal = Some(error),
        }
    }
    Err(load_error(refusal.context("an image is sent at least once")?))
}

fn send_and_confirm(
    tools: &Toolbox,
    node: &Node,
    wanted: &Wanted,
    stored: Option<&StoredImage>,
    have: &HashSet<String>,
    running: &Running,
) -> Result<Sent> {
    let sent = match stored {
        Some(image) => send_stored(node, image, &wanted.reference, have, running)?,
        None => send(&tools.engine, node, &wanted.reference, have, running)?,
    };
    let Sent::Accepted(transfer) = sent else { return Ok(sent) };
    // An engine with containerd's image store uses manifest digests as IDs; the archive has the config digest.
    let id = transfer.config.clone().or_else(|| wanted.id.clone());
    if id != wanted.id
        && let (Some(engines), Some(config)) = (tools.engine.image_id(&wanted.reference)?, &id)
    {
        ids::remember(tools, &engines, config)?;
    }
    Ok(match confirm_loaded(node, &Wanted { id, ..wanted.clone() }) {
        Ok(()) => Sent::Accepted(transfer),
        Err(error) => Sent::Refused(error),
    })
}

/// Fails unless the node lists the unpacked image with its name and ID. The list lags behind an import, so this polls.
fn confirm_loaded(node: &Node, wanted: &Wanted) -> Result<()> {
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

fn load_error(wanted: &Wanted, node: &Node, error: anyhow::Error) -> anyhow::Error {
    Failure::new(Class::Image, format!("cannot load {} into node {}", wanted.reference, node.name))
        .because(error)
        .help(format!("see whether the node has room: cargo xtask tool docker -- exec {} df -h /var", node.name))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decides_whether_a_node_lacks_the_image_or_its_name() {
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
