//! Streams an image from the engine to a node, and finds the side that failed if the stream breaks.

use std::collections::HashSet;
use std::io::{BufWriter, PipeWriter, Write};

use anyhow::Result;

use super::archive::{self, Transfer};
use super::store::StoredImage;
use crate::deadlines;
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::node::Node;
use crate::process::{Piped, Process};
use crate::report::{Running, bytes};

/// The result of sending an image that the engine could read.
#[derive(Debug)]
pub enum Sent {
    /// The node imported the image.
    Accepted(Transfer),
    /// The node failed to import it, or lists another ID.
    Refused(anyhow::Error),
}

/// Streams the image from the engine to the node, without the blobs in `have`.
pub fn send(engine: &Engine, node: &Node, reference: &str, have: &HashSet<String>, running: &Running) -> Result<Sent> {
    let save = save_command(engine, reference).pipe_from(None)?;
    running.progress("reading the image from the engine");
    let (transfer, write_failed, import) = stream_into(node, |output| {
        archive::filter(save.reader(), output, have, |sent| running.progress(format!("sent {}", bytes(sent))))
    })?;
    // The side that stopped first has the reason; the other one only saw a closed pipe.
    let read_error = |error: anyhow::Error| {
        let what = format!("cannot read {} from the engine: {error:#}", reference);
        Failure::new(Class::Image, what).help("cargo xtask images    (it builds or brings what the engine lacks)")
    };
    match transfer {
        Ok(transfer) => {
            save.finish().map_err(read_error)?;
            Ok(import.finish().map_or_else(Sent::Refused, |_| Sent::Accepted(transfer)))
        }
        Err(error) if write_failed => Ok(Sent::Refused(import.finish().err().unwrap_or(error))),
        Err(error) => Err(read_error(save.finish().err().unwrap_or(error)).into()),
    }
}

/// Streams `image`, which the engine calls `reference`, from the engine's files. Unreadable files count as a refusal, after
/// which the caller tries `docker save`.
pub fn send_stored(
    node: &Node,
    image: &StoredImage,
    reference: &str,
    have: &HashSet<String>,
    running: &Running,
) -> Result<Sent> {
    let (transfer, write_failed, import) = stream_into(node, |output| {
        image.write(reference, output, have, |sent| running.progress(format!("sent {}", bytes(sent))))
    })?;
    Ok(match transfer {
        Ok(transfer) => import.finish().map_or_else(Sent::Refused, |_| Sent::Accepted(transfer)),
        Err(error) if write_failed => Sent::Refused(import.finish().err().unwrap_or(error)),
        Err(error) => Sent::Refused(error),
    })
}

/// Starts the import on `node` and calls `write` with its input. Returns the result of `write`, whether writing to the node
/// failed, and the import.
fn stream_into(
    node: &Node,
    write: impl FnOnce(&mut NodeInput<PipeWriter>) -> Result<Transfer>,
) -> Result<(Result<Transfer>, bool, Piped)> {
    let (reader, writer) = std::io::pipe()?;
    let import = import_command(node).pipe_from(Some(reader))?;
    let mut output = NodeInput { inner: BufWriter::with_capacity(1 << 18, writer), write_failed: false };
    let transfer = write(&mut output);
    // Dropping `output` here closes the pipe; the node would wait for more input otherwise.
    Ok((transfer, output.write_failed, import))
}

/// Returns the command that writes the image `reference` to standard output.
pub fn save_command(engine: &Engine, reference: &str) -> Process {
    engine.docker().args(["save", reference]).deadline(deadlines::IMAGE_STREAM)
}

/// Returns the command that imports an image from standard input.
pub fn import_command(node: &Node) -> Process {
    node.ctr(["images", "import", "-"]).deadline(deadlines::IMAGE_STREAM)
}

/// The input of an import. Records whether writing failed, in contrast to reading from the engine.
struct NodeInput<W: Write> {
    inner: BufWriter<W>,
    write_failed: bool,
}

impl<W: Write> Write for NodeInput<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.inner.write(bytes).inspect_err(|_| self.write_failed = true)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush().inspect_err(|_| self.write_failed = true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// Returns an engine and a node that are shell scripts.
    fn fakes(save: &str, import: &str) -> (Engine, Node, tempfile::TempDir) {
        let temp = tempfile::tempdir().unwrap();
        let engine = Engine::scripted(temp.path(), &format!("case \"$1\" in save) {save};; *) {import};; esac"));
        let node = Node::container(&engine, "n");
        (engine, node, temp)
    }

    fn send_fake(save: &str, import: &str) -> Result<Sent> {
        let (engine, node, _temp) = fakes(save, import);
        let running = crate::report::Report::new(false).step("test", "send", "");
        let result = send(&engine, &node, "a:1", &HashSet::new(), &running);
        running.done("");
        result
    }

    /// A tar of one file of 8 MB: more than a pipe holds.
    const BIG: &str = "cd /; d=$(mktemp -d); head -c 8000000 /dev/zero >$d/f; tar -C $d -cf - f; rm -r $d";

    #[test]
    fn names_the_side_that_failed_and_never_hangs() {
        let start = Instant::now();
        let accepted = |sent| match sent {
            Sent::Accepted(transfer) => transfer,
            other => panic!("{other:?}"),
        };
        let refused = |sent| match sent {
            Sent::Refused(error) => error.to_string(),
            other => panic!("{other:?}"),
        };

        let all = accepted(send_fake(BIG, "cat >/dev/null").unwrap());
        assert_eq!((all.sent, all.total), (8_000_000, 8_000_000));
        let early = refused(send_fake(BIG, "head -c 100 >/dev/null; echo no such content >&2; exit 1").unwrap());
        assert!(early.contains("no such content"), "{early}");
        let late = refused(send_fake(BIG, "cat >/dev/null; echo bad image >&2; exit 1").unwrap());
        assert!(late.contains("bad image"), "{late}");
        let absent = send_fake("echo No such image >&2; exit 1", "cat >/dev/null").unwrap_err().to_string();
        assert!(absent.contains("No such image"), "{absent}");
        let cut = send_fake("head -c 700 /dev/zero | tr '\\0' x; echo daemon died >&2; exit 1", "cat >/dev/null");
        assert!(cut.unwrap_err().to_string().contains("daemon died"));
        assert!(start.elapsed() < crate::deadlines::HANG, "{:?}", start.elapsed());
    }
}
