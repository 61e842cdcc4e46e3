//! The stream from the engine to a node, and who is to blame when it breaks.

use std::collections::HashSet;
use std::io::{BufWriter, PipeWriter, Write};

use anyhow::Result;

use super::archive::{self, Passed};
use super::store::StoredImage;
use crate::deadlines;
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::node::Node;
use crate::process::{Piped, Process};
use crate::report::{Running, bytes};

/// How sending ended, if the engine did its part.
#[derive(Debug)]
pub enum Sent {
    /// The node took it.
    Passed(Passed),
    /// The node did not, or has something else now.
    Refused(anyhow::Error),
}

/// Streams the image without the blobs in `have` from the engine into the node.
pub fn send(engine: &Engine, node: &Node, reference: &str, have: &HashSet<String>, running: &Running) -> Result<Sent> {
    let save = save(engine, reference).pipe_from(None)?;
    running.progress("reading the image from the engine");
    let (passed, broken, import) = into(node, |output| {
        archive::filter(save.reader(), output, have, |sent| running.progress(format!("sent {}", bytes(sent))))
    })?;
    // Whoever stopped first knows why; the other side only saw its end.
    let unsaved = |error: anyhow::Error| {
        let what = format!("cannot read {} from the engine: {error:#}", reference);
        Failure::new(Class::Image, what).help("cargo xtask images    (it builds or brings what the engine lacks)")
    };
    match passed {
        Ok(passed) => {
            save.finish().map_err(unsaved)?;
            Ok(import.finish().map_or_else(Sent::Refused, |_| Sent::Passed(passed)))
        }
        Err(error) if broken => Ok(Sent::Refused(import.finish().err().unwrap_or(error))),
        Err(error) => Err(unsaved(save.finish().err().unwrap_or(error)).into()),
    }
}

/// Streams `image`, which the engine calls `reference`, from the engine's files. Files that cannot be read count as a
/// refusal: `docker save` may send the image all the same.
pub fn send_stored(
    node: &Node,
    image: &StoredImage,
    reference: &str,
    have: &HashSet<String>,
    running: &Running,
) -> Result<Sent> {
    let (passed, broken, import) = into(node, |output| {
        image.write(reference, output, have, |sent| running.progress(format!("sent {}", bytes(sent))))
    })?;
    Ok(match passed {
        Ok(passed) => import.finish().map_or_else(Sent::Refused, |_| Sent::Passed(passed)),
        Err(error) if broken => Sent::Refused(import.finish().err().unwrap_or(error)),
        Err(error) => Sent::Refused(error),
    })
}

/// Starts the import on `node` and has `write` write its input. Returns what that returned, whether the node ended the
/// stream, and the import.
fn into(
    node: &Node,
    write: impl FnOnce(&mut Output<PipeWriter>) -> Result<Passed>,
) -> Result<(Result<Passed>, bool, Piped)> {
    let (reader, writer) = std::io::pipe()?;
    let import = import(node).pipe_from(Some(reader))?;
    let mut output = Output { inner: BufWriter::with_capacity(1 << 18, writer), broken: false };
    let passed = write(&mut output);
    // Without the end of the input, which comes with the end of `output`, the node would wait for more.
    Ok((passed, output.broken, import))
}

/// The command that reads the image.
pub fn save(engine: &Engine, reference: &str) -> Process {
    engine.docker().args(["save", reference]).deadline(deadlines::IMAGE_STREAM)
}

/// The command that takes it in.
pub fn import(node: &Node) -> Process {
    node.ctr(["images", "import", "-"]).deadline(deadlines::IMAGE_STREAM)
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
    use std::time::Instant;

    /// An engine and a node played by shell scripts: what matters is how the stream ends.
    fn played(save: &str, import: &str) -> (Engine, Node, tempfile::TempDir) {
        let temp = tempfile::tempdir().unwrap();
        let script = temp.path().join("docker");
        let text = format!("#!/bin/sh\ncase \"$1\" in save) {save};; *) {import};; esac\n");
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let client = camino::Utf8PathBuf::from_path_buf(script).unwrap();
        let engine = Engine { client, ..Engine::system() };
        let node = Node::container(&engine, "n");
        (engine, node, temp)
    }

    fn send_played(save: &str, import: &str) -> Result<Sent> {
        let (engine, node, _temp) = played(save, import);
        let running = crate::report::Report::new(false).step("test", "send", "");
        let result = send(&engine, &node, "a:1", &HashSet::new(), &running);
        running.done("");
        result
    }

    /// A tar of one file of 8 MB: more than a pipe holds.
    const BIG: &str = "cd /; d=$(mktemp -d); head -c 8000000 /dev/zero >$d/f; tar -C $d -cf - f; rm -r $d";

    #[test]
    fn the_side_that_failed_is_named_and_nothing_hangs() {
        let start = Instant::now();
        let passed = |sent| match sent {
            Sent::Passed(passed) => passed,
            other => panic!("{other:?}"),
        };
        let refused = |sent| match sent {
            Sent::Refused(error) => error.to_string(),
            other => panic!("{other:?}"),
        };

        let all = passed(send_played(BIG, "cat >/dev/null").unwrap());
        assert_eq!((all.sent, all.total), (8_000_000, 8_000_000));
        let early = refused(send_played(BIG, "head -c 100 >/dev/null; echo no such content >&2; exit 1").unwrap());
        assert!(early.contains("no such content"), "{early}");
        let late = refused(send_played(BIG, "cat >/dev/null; echo bad image >&2; exit 1").unwrap());
        assert!(late.contains("bad image"), "{late}");
        let absent = send_played("echo No such image >&2; exit 1", "cat >/dev/null").unwrap_err().to_string();
        assert!(absent.contains("No such image"), "{absent}");
        let cut = send_played("head -c 700 /dev/zero | tr '\\0' x; echo daemon died >&2; exit 1", "cat >/dev/null");
        assert!(cut.unwrap_err().to_string().contains("daemon died"));
        assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
    }
}
