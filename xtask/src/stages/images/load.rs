//! Brings images into nodes: only what a node lacks crosses, and the ID is read back.

use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::archive::{self, Passed};
use super::ids;
use super::node::{Images, Node, canonical};
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::plan::Step;
use crate::project::Project;
use crate::report::{Running, bytes};

/// Saving and importing half a gigabyte takes seconds; this is for disks that are slow and busy.
const DEADLINE: Duration = Duration::from_secs(600);
/// containerd tells kubelet's view of new images after the fact.
const SETTLE: Duration = Duration::from_secs(5);

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
    pub fn of(project: &Project, engine: &Engine, reference: &str) -> Self {
        Self { reference: reference.to_owned(), id: ids::of(project, engine, reference) }
    }
}

/// What a node lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
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
pub fn observe(nodes: &[Node]) -> Result<Vec<(&Node, Images)>> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = nodes.iter().map(|node| (node, scope.spawn(|| node.images()))).collect();
        asked
            .into_iter()
            .map(|(node, answer)| {
                let images = answer.join().unwrap_or_else(|_| bail!("the look at node {} panicked", node.name))?;
                Ok((node, images))
            })
            .collect()
    })
}

/// What a node with `images` lacks of `wanted`.
pub fn decide(wanted: &Wanted, images: &Images) -> Lack {
    let has = images.get(&canonical(&wanted.reference));
    match (&wanted.id, has) {
        (Some(id), Some(has)) if id == has => Lack::Nothing,
        (Some(id), _) if images.values().any(|has| has == id) => {
            Lack::Name(images.iter().find(|(_, has)| *has == id).map(|(name, _)| name.clone()).unwrap_or_default())
        }
        (_, Some(_)) => Lack::Image { why: "the node has another image of that name".into() },
        (_, None) => Lack::Image { why: "the node does not have it".into() },
    }
}

/// The steps that bring `wanted` to the nodes; none if all have it. They are independent of each other.
pub fn steps<'a>(
    project: &'a Project,
    engine: &'a Engine,
    wanted: &'a [Wanted],
    nodes: &[(&'a Node, Images)],
) -> Vec<Step<'a>> {
    let pairs = wanted.iter().flat_map(|wanted| nodes.iter().map(move |(node, images)| (wanted, *node, images)));
    pairs
        .filter_map(|(wanted, node, images)| {
            let place = if nodes.len() > 1 { format!(" into {}", node.name) } else { String::new() };
            let what = format!("load {}{place}", wanted.reference);
            match decide(wanted, images) {
                Lack::Nothing => None,
                Lack::Name(other) => {
                    let tag = node.ctr(["images", "tag", "--force", &other, &canonical(&wanted.reference)]);
                    Some(Step::new(what, "the node has it under another name", tag.clone(), move |_| {
                        tag.run().and_then(|()| confirm(node, wanted)).map_err(|error| failed(wanted, node, &error))?;
                        Ok("named; nothing sent".into())
                    }))
                }
                Lack::Image { why } => {
                    let command = format!("{} | {}", save(engine, wanted), import(node));
                    Some(Step::new(what, why, command, move |running| {
                        let passed = load(project, engine, node, wanted, running)?;
                        Ok(format!("sent {} of {}", bytes(passed.sent), bytes(passed.total)))
                    }))
                }
            }
        })
        .collect()
}

/// Sends `wanted` to `node` less what that has, or everything if the node refuses; then compares IDs.
pub fn load(project: &Project, engine: &Engine, node: &Node, wanted: &Wanted, running: &Running) -> Result<Passed> {
    let attempt = |have: &HashSet<String>| -> Result<Passed> {
        let passed = send(engine, node, wanted, have, running)?;
        // An engine that keeps images in containerd calls them by manifest; the config is known only now.
        let id = passed.config.clone().or_else(|| wanted.id.clone());
        if let (Some(engines), Some(config)) = (&wanted.id, &id) {
            ids::remember(project, engines, config)?;
        }
        confirm(node, &Wanted { id, ..wanted.clone() })?;
        Ok(passed)
    };
    let have = node.content().map_err(|error| failed(wanted, node, &error))?;
    let first = attempt(&have);
    let Err(error) = first else { return first };
    if have.is_empty() || !node.shell_works() {
        return Err(failed(wanted, node, &error));
    }
    let why = error.to_string();
    let why = why.lines().last().unwrap_or_default().trim_start_matches([' ', '|']);
    project
        .report
        .note(format!("node {} refuses a part of {} ({why}): sending all of it", node.name, wanted.reference));
    attempt(&HashSet::new()).map_err(|error| failed(wanted, node, &error))
}

/// Streams the image without the blobs in `have` from the engine into the node.
pub fn send(
    engine: &Engine,
    node: &Node,
    wanted: &Wanted,
    have: &HashSet<String>,
    running: &Running,
) -> Result<Passed> {
    let (read, write) = std::io::pipe()?;
    let import = import(node).pipe_from(Some(read))?;
    let save = save(engine, wanted).pipe_from(None)?;
    running.progress("reading the image from the engine");
    let mut output = Output { inner: BufWriter::with_capacity(1 << 18, write), broken: false };
    let sent = archive::filter(save.reader(), &mut output, have, |sent| {
        running.progress(format!("sent {}", bytes(sent)));
    });
    let broken = output.broken;
    // Ends the import's input; without it the node would wait for more.
    drop(output.inner);
    // Whoever stopped first knows why; the other side only saw its end.
    match sent {
        Ok(passed) => {
            save.finish()?;
            import.finish()?;
            Ok(passed)
        }
        Err(error) if broken => Err(import.finish().err().unwrap_or(error)),
        Err(error) => Err(save.finish().err().unwrap_or(error)),
    }
}

/// Fails unless the node has the image under its name with the ID that is wanted.
fn confirm(node: &Node, wanted: &Wanted) -> Result<()> {
    let start = Instant::now();
    loop {
        let images = node.images()?;
        let has = images.get(&canonical(&wanted.reference));
        if has.is_some() && (has == wanted.id.as_ref() || wanted.id.is_none()) {
            return Ok(());
        }
        if start.elapsed() > SETTLE {
            let has = has.map_or("nothing", String::as_str);
            let id = wanted.id.as_deref().unwrap_or("any ID");
            bail!("after loading, node {} has {has} as {}, not {id}", node.name, wanted.reference);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn save(engine: &Engine, wanted: &Wanted) -> crate::process::Process {
    engine.docker().args(["save", &wanted.reference]).deadline(DEADLINE)
}

fn import(node: &Node) -> crate::process::Process {
    node.ctr(["images", "import", "-"]).deadline(DEADLINE)
}

fn failed(wanted: &Wanted, node: &Node, error: &anyhow::Error) -> anyhow::Error {
    Failure::new(Class::Image, format!("cannot load {} into node {}: {error:#}", wanted.reference, node.name))
        .help(format!("see whether the node has room and works: {}", node.exec(["df", "-h", "/var"])))
        .into()
}

/// Remembers that writing failed, as opposed to reading.
struct Output<W: Write> {
    inner: BufWriter<W>,
    broken: bool,
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.inner.write(bytes).inspect_err(|_| self.broken = true)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush().inspect_err(|_| self.broken = true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_lacks_the_image_its_name_or_nothing() {
        let name = |name: &str| format!("docker.io/library/{name}");
        let images: Images = [(name("a:1"), "sha256:aa".into()), (name("b:1"), "sha256:bb".into())].into();
        let decide = |reference: &str, id: Option<&str>| {
            decide(&Wanted { reference: reference.into(), id: id.map(str::to_owned) }, &images)
        };
        assert_eq!(decide("a:1", Some("sha256:aa")), Lack::Nothing);
        assert_eq!(decide("a:2", Some("sha256:aa")), Lack::Name(name("a:1")));
        assert_eq!(decide("a:1", Some("sha256:bb")), Lack::Name(name("b:1")));
        let why = |lack| if let Lack::Image { why } = lack { why } else { panic!("{lack:?}") };
        assert_eq!(why(decide("a:1", Some("sha256:cc"))), "the node has another image of that name");
        assert_eq!(why(decide("c:1", Some("sha256:cc"))), "the node does not have it");
        assert_eq!(why(decide("c:1", None)), "the node does not have it");
    }

    /// An engine and a node played by shell scripts: what matters is how the stream ends.
    fn played(save: &str, import: &str) -> (Engine, Node, tempfile::TempDir) {
        let temp = tempfile::tempdir().unwrap();
        let script = temp.path().join("docker");
        let text = format!("#!/bin/sh\ncase \"$1\" in save) {save};; *) {import};; esac\n");
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let client = camino::Utf8PathBuf::from_path_buf(script).unwrap();
        let engine = Engine { client, envs: Vec::new(), private: true };
        let node = Node::container(&engine, "n");
        (engine, node, temp)
    }

    fn send_played(save: &str, import: &str) -> Result<Passed> {
        let (engine, node, _temp) = played(save, import);
        let running = crate::report::Report::new(false).step("test", "send", "");
        let wanted = Wanted { reference: "a:1".into(), id: None };
        let result = send(&engine, &node, &wanted, &HashSet::new(), &running);
        running.done("");
        result
    }

    /// A tar of one file of 8 MB: more than a pipe holds.
    const BIG: &str = "cd /; d=$(mktemp -d); head -c 8000000 /dev/zero >$d/f; tar -C $d -cf - f; rm -r $d";

    #[test]
    fn the_side_that_failed_is_named_and_nothing_hangs() {
        let start = Instant::now();
        let passed = send_played(BIG, "cat >/dev/null").unwrap();
        assert_eq!((passed.sent, passed.total), (8_000_000, 8_000_000));
        let refused = send_played(BIG, "head -c 100 >/dev/null; echo no such content >&2; exit 1").unwrap_err();
        assert!(refused.to_string().contains("no such content"), "{refused}");
        let late = send_played(BIG, "cat >/dev/null; echo bad image >&2; exit 1").unwrap_err();
        assert!(late.to_string().contains("bad image"), "{late}");
        let absent = send_played("echo No such image >&2; exit 1", "cat >/dev/null").unwrap_err();
        assert!(absent.to_string().contains("No such image"), "{absent}");
        let cut = send_played("head -c 700 /dev/zero | tr '\\0' x; echo daemon died >&2; exit 1", "cat >/dev/null");
        assert!(cut.unwrap_err().to_string().contains("daemon died"));
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
}
