//! A word that all planted secrets contain, and the search for it in plain, base64 and compressed form.

use std::io::Read;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;

/// Part of every canary. Letters and digits only, so that URLs, JSON and shells need no escapes.
pub const MARKER: &str = "canary7f3a9c51e8";

/// The byte sequences to search for: the word, and its base64 form in each of three alignments.
#[derive(Clone)]
pub struct Needles(Vec<Vec<u8>>);

impl Needles {
    /// Returns the needles for the marker.
    pub fn new() -> Self {
        Self::of(MARKER)
    }

    /// Returns the needles for another word.
    pub fn of(word: &str) -> Self {
        let aligned = |shift: usize| {
            let padded = [&b"xx"[..shift], word.as_bytes()].concat();
            let encoded = STANDARD.encode(&padded[..padded.len() - padded.len() % 3]);
            // The first characters depend on the preceding bytes.
            encoded.as_bytes()[[0, 2, 3][shift]..].to_vec()
        };
        Self(std::iter::once(word.as_bytes().to_vec()).chain((0..3).map(aligned)).collect())
    }

    /// Returns whether `bytes` contain the word in any form.
    pub fn are_in(&self, bytes: &[u8]) -> bool {
        self.0.iter().any(|needle| memchr::memmem::find(bytes, needle).is_some())
    }

    /// Fails if `text` contains the word. `what` names the text in the error.
    pub fn absent(&self, what: &str, text: impl AsRef<[u8]>) -> Result<()> {
        let text = text.as_ref();
        ensure!(!self.are_in(text), "a canary is in {what}:\n{}", self.around(text));
        Ok(())
    }

    /// Returns the lines with the word, which is not a real secret.
    fn around(&self, text: &[u8]) -> String {
        let lines = text.split(|byte| *byte == b'\n').filter(|line| self.are_in(line)).take(5);
        lines.map(|line| String::from_utf8_lossy(&line[..line.len().min(400)]).into_owned() + "\n").collect()
    }

    /// Searches a tar archive and the gzip files in it, such as image layers. Returns the number of bytes.
    pub fn absent_in_image(&self, what: &str, stream: impl Read) -> Result<u64> {
        let mut sum = 0;
        let mut archive = tar::Archive::new(stream);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let name = format!("{what}: {}", entry.path()?.display());
            let mut head = [0; 2];
            let count = entry.read(&mut head)?;
            let rest = std::io::Cursor::new(head[..count].to_vec()).chain(entry);
            sum += match head {
                [0x1f, 0x8b] => self.absent_in_stream(&name, GzDecoder::new(rest))?,
                _ => self.absent_in_stream(&name, rest)?,
            };
        }
        Ok(sum)
    }

    fn absent_in_stream(&self, what: &str, mut stream: impl Read) -> Result<u64> {
        const OVERLAP: usize = 64;
        let mut buffer = vec![0; OVERLAP + (1 << 20)];
        let (mut kept, mut sum) = (0, 0);
        loop {
            let count = stream.read(&mut buffer[kept..])?;
            if count == 0 {
                return Ok(sum);
            }
            sum += count as u64;
            let filled = kept + count;
            ensure!(!self.are_in(&buffer[..filled]), "a canary is in {what}");
            kept = filled.min(OVERLAP);
            buffer.copy_within(filled - kept..filled, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn finds_the_word_in_every_form() {
        let needles = Needles::new();
        for before in ["", "a", "ab", "abc", "not-a-secret-"] {
            let value = format!("{before}{MARKER}-auth");
            assert!(needles.are_in(value.as_bytes()));
            assert!(needles.are_in(STANDARD.encode(&value).as_bytes()), "{value}");
            assert!(needles.absent("a text", format!("x {}", STANDARD.encode(&value))).is_err());
        }
        assert!(!needles.are_in(b"canary7f3a9c51e"));
    }

    #[test]
    fn finds_the_word_in_a_compressed_image_layer() {
        let image = |content: &[u8]| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(content).unwrap();
            let layer = gzip.finish().unwrap();
            let mut header = tar::Header::new_gnu();
            header.set_size(layer.len() as u64);
            header.set_cksum();
            let mut archive = tar::Builder::new(Vec::new());
            archive.append_data(&mut header, "blobs/sha256/aa", layer.as_slice()).unwrap();
            archive.into_inner().unwrap()
        };
        let needles = Needles::new();
        let long = [vec![b'x'; (1 << 20) + 60], MARKER.as_bytes().to_vec()].concat();
        assert!(needles.absent_in_image("image", image(&long).as_slice()).is_err());
        assert!(needles.absent_in_image("image", image(b"nothing").as_slice()).is_ok());
    }
}
