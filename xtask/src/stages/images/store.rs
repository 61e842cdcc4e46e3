//! Reads an image from the files of the private engine. `docker save` first copies all layers: 120 MB and most of a second,
//! even if a node lacks only 258 kB. Files of other engines belong to root, or are in a virtual machine.
//!
//! Docker's driver overlay2 keeps a layer as a folder of files and a list of the rest of the layer's tar (tar-split): headers
//! and padding. Together they give that tar, byte for byte. The node compares the digests. Anything unexpected is an error,
//! and the caller then falls back to `docker save`.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Cursor, Read, Write};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use camino::{Utf8Path, Utf8PathBuf};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::archive::{BLOBS, Counted, Transfer};
use crate::node::canonical;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Types of entries in a layer's list.
const FILE: u64 = 1;
const BYTES: u64 = 2;

/// An image in the files of the private engine.
pub struct StoredImage {
    /// Its configuration: JSON, whose digest is the image's ID.
    pub config: Vec<u8>,
    /// Its layers, the lowest first.
    pub layers: Vec<StoredLayer>,
}

/// A layer of an image.
pub struct StoredLayer {
    /// The digest of its tar, with `sha256:`.
    pub digest: String,
    /// The file with the list of the tar's pieces.
    list: Utf8PathBuf,
    /// The folder of its files.
    files: Utf8PathBuf,
}

/// A piece of a layer's tar.
enum Piece {
    /// These bytes, in base64.
    Bytes(String),
    /// The content of the file of this name and size.
    File(String, u64),
}

impl StoredImage {
    /// Opens the image `id` in `data`, the engine's /var/lib/docker.
    pub fn open(data: &Utf8Path, id: &str) -> Result<Self> {
        let store = data.join("image/overlay2");
        let config = read(&store.join("imagedb/content/sha256").join(hex_of(id)?))?;
        ensure!(digest(&config) == id, "the configuration of image {id} has a different digest");
        let json: Value = serde_json::from_slice(&config).context("the configuration of an image is not JSON")?;
        let digests = json.pointer("/rootfs/diff_ids").and_then(Value::as_array).context("the image has no layers")?;
        let mut chain = String::new();
        let mut layers = Vec::new();
        for layer in digests.iter().map(|layer| layer.as_str().unwrap_or_default()) {
            // The folder's name is a digest of the layer and all layers below it.
            chain = if chain.is_empty() { layer.to_owned() } else { digest(format!("{chain} {layer}").as_bytes()) };
            let folder = store.join("layerdb/sha256").join(hex_of(&chain)?);
            let folder_of_files = String::from_utf8(read(&folder.join("cache-id"))?)?;
            let files = data.join("overlay2").join(folder_of_files.trim()).join("diff").canonicalize_utf8()?;
            layers.push(StoredLayer { digest: layer.to_owned(), list: folder.join("tar-split.json.gz"), files });
        }
        Ok(Self { config, layers })
    }

    /// Writes the OCI archive of the image as `reference`, like `docker save`, without the blobs in `have`. Calls `progress`
    /// with the bytes sent so far.
    pub fn write(
        &self,
        reference: &str,
        output: impl Write,
        have: &HashSet<String>,
        mut progress: impl FnMut(u64),
    ) -> Result<Transfer> {
        let config = digest(&self.config);
        let mut transfer = Transfer { config: Some(config.clone()), ..Transfer::default() };
        let mut out = tar::Builder::new(output);
        let mut layers = Vec::new();
        for layer in &self.layers {
            let (size, tar) = layer.tar()?;
            layers.push(json!({"mediaType": LAYER, "digest": layer.digest, "size": size}));
            transfer.total += size;
            if have.contains(&layer.digest) {
                transfer.dropped += 1;
                continue;
            }
            let before = transfer.sent;
            let counted = Counted { inner: tar, count: 0, each: |count| progress(before + count) };
            append_entry(&mut out, &blob(&layer.digest)?, size, counted)?;
            transfer.sent += size;
        }
        let descriptor = json!({"mediaType": CONFIG, "digest": config, "size": self.config.len()});
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor, "layers": layers});
        let manifest = manifest.to_string().into_bytes();
        let name = canonical(reference);
        let tag = name.rsplit(':').next().unwrap_or_default();
        let annotations = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
        let descriptor = json!({"mediaType": MANIFEST, "digest": digest(&manifest), "size": manifest.len(),
            "annotations": annotations});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]}).to_string();
        let small = [
            (blob(&config)?, self.config.as_slice()),
            (blob(&digest(&manifest))?, &manifest),
            ("index.json".to_owned(), index.as_bytes()),
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#),
        ];
        for (path, bytes) in small {
            let size = bytes.len() as u64;
            append_entry(&mut out, &path, size, bytes)?;
            (transfer.total, transfer.sent) = (transfer.total + size, transfer.sent + size);
        }
        progress(transfer.sent);
        out.into_inner().and_then(|mut output| output.flush()).context("sending the image")?;
        Ok(transfer)
    }
}

impl StoredLayer {
    /// Returns the size of its tar in bytes, and a reader of the tar.
    pub fn tar(&self) -> Result<(u64, impl Read + '_)> {
        let pieces = self.pieces()?;
        let size = pieces.iter().map(Piece::size).sum();
        Ok((size, LayerTar { files: &self.files, pieces: pieces.into_iter(), current: Box::new(std::io::empty()) }))
    }

    /// Reads the pieces of its tar, in order.
    fn pieces(&self) -> Result<Vec<Piece>> {
        let mut text = String::new();
        let unpacked = GzDecoder::new(read(&self.list)?.as_slice()).read_to_string(&mut text);
        unpacked.with_context(|| format!("unpacking {}", self.list))?;
        let pieces = text.lines().map(Piece::parse).collect::<Option<Vec<_>>>();
        pieces.with_context(|| format!("{} is not a list of tar entries", self.list))
    }
}

impl Piece {
    fn parse(line: &str) -> Option<Self> {
        let mut entry: Value = line.parse().ok()?;
        let mut text = |name: &str| match entry[name].take() {
            Value::String(text) => Some(text),
            _ => None,
        };
        let (name, payload) = (text("name"), text("payload"));
        match (entry["type"].as_u64()?, entry["size"].as_u64()) {
            (BYTES, _) => Some(Self::Bytes(payload?)),
            (FILE, Some(size)) => Some(Self::File(name?, size)),
            // A folder, a link, an empty file.
            (FILE, None) => Some(Self::Bytes(String::new())),
            _ => None,
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Bytes(base64) => (base64.trim_end_matches('=').len() * 3 / 4) as u64,
            Self::File(_, size) => *size,
        }
    }

    /// Opens the piece. Refuses a path that links lead out of `files`.
    fn open(self, files: &Utf8Path) -> std::io::Result<Box<dyn Read>> {
        let invalid = |what: String| Err(std::io::Error::other(what));
        match self {
            Self::Bytes(base64) => match STANDARD.decode(base64) {
                Ok(bytes) => Ok(Box::new(Cursor::new(bytes))),
                Err(error) => invalid(format!("the list of a layer in {files} is not base64: {error}")),
            },
            Self::File(name, size) => {
                let path = files.join(name).canonicalize_utf8()?;
                let file = File::open(&path)?;
                if !path.starts_with(files) || file.metadata()?.len() != size {
                    return invalid(format!("{path} is not the file of {size} bytes that the layer has"));
                }
                Ok(Box::new(file))
            }
        }
    }
}

/// A reader of a layer's tar, piece by piece.
struct LayerTar<'a> {
    files: &'a Utf8Path,
    pieces: std::vec::IntoIter<Piece>,
    current: Box<dyn Read>,
}

impl Read for LayerTar<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let count = self.current.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(piece) = self.pieces.next() else { return Ok(0) };
            self.current = piece.open(self.files)?;
        }
    }
}

fn append_entry(out: &mut tar::Builder<impl Write>, path: &str, size: u64, content: impl Read) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    out.append_data(&mut header, path, content).context("sending the image")
}

fn read(path: &Utf8Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {path}"))
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

/// Returns the path of a blob in an archive.
fn blob(digest: &str) -> Result<String> {
    Ok(format!("{BLOBS}{}", hex_of(digest)?))
}

fn hex_of(digest: &str) -> Result<&str> {
    let hex =
        digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    hex.with_context(|| format!("`{digest}` is not a SHA-256 digest"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::collections::BTreeMap;

    /// An engine's data with an image of one layer, which has a folder, a link, an empty file and two other files.
    struct FakeData {
        temp: tempfile::TempDir,
        id: String,
        tar: Vec<u8>,
    }

    impl FakeData {
        fn data(&self) -> &Utf8Path {
            Utf8Path::from_path(self.temp.path()).unwrap()
        }

        fn files(&self) -> Utf8PathBuf {
            self.data().join("overlay2/cache/diff")
        }

        fn list(&self) -> Utf8PathBuf {
            self.data().join("image/overlay2/layerdb/sha256").join(&digest(&self.tar)[7..]).join("tar-split.json.gz")
        }

        fn write(&self, have: &[&str]) -> Result<(BTreeMap<String, Vec<u8>>, Transfer)> {
            let mut out = Vec::new();
            let have = have.iter().map(|digest| (*digest).to_owned()).collect();
            let transfer = StoredImage::open(self.data(), &self.id)?.write("app:1", &mut out, &have, |_| {})?;
            let mut archive = tar::Archive::new(out.as_slice());
            let blobs = archive.entries()?.map(|entry| {
                let mut entry = entry?;
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                Ok((entry.path()?.display().to_string(), bytes))
            });
            Ok((blobs.collect::<Result<_>>()?, transfer))
        }
    }

    fn fake() -> FakeData {
        let temp = tempfile::tempdir().unwrap();
        let data = Utf8Path::from_path(temp.path()).unwrap();
        let files = data.join("overlay2/cache/diff");
        std::fs::create_dir_all(files.join("app")).unwrap();
        let content: [(&str, &[u8]); 3] = [("app/a", &[7; 1500]), ("app/empty", b""), ("b", b"two")];
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_dir("app", &files).unwrap();
        for (name, bytes) in content {
            std::fs::write(files.join(name), bytes).unwrap();
            builder.append_path_with_name(files.join(name), name).unwrap();
        }
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        builder.append_link(&mut link, "link", "/etc/passwd").unwrap();
        let tar = builder.into_inner().unwrap();

        // tar-split lists all bytes but the content of files.
        let (mut lines, mut at) = (Vec::new(), 0);
        let bytes = |from: usize, to: usize| json!({"type": BYTES, "payload": STANDARD.encode(&tar[from..to])});
        for entry in tar::Archive::new(tar.as_slice()).entries().unwrap() {
            let entry = entry.unwrap();
            let (start, size) = (entry.raw_file_position() as usize, entry.size() as usize);
            let name = entry.path().unwrap().display().to_string();
            lines.push(bytes(at, start));
            lines.push(if size > 0 {
                json!({"type": FILE, "name": name, "size": size})
            } else {
                json!({"type": FILE, "name": name})
            });
            at = start + size;
        }
        lines.push(bytes(at, tar.len()));
        let put = |path: Utf8PathBuf, bytes: &[u8]| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        let config = json!({"rootfs": {"type": "layers", "diff_ids": [digest(&tar)]}}).to_string();
        let id = digest(config.as_bytes());
        let store = data.join("image/overlay2");
        put(store.join("imagedb/content/sha256").join(&id[7..]), config.as_bytes());
        put(store.join("layerdb/sha256").join(&digest(&tar)[7..]).join("cache-id"), b"cache");
        let fake = FakeData { id, tar, temp };
        put(fake.list(), &zipped(&lines));
        fake
    }

    fn zipped(lines: &[Value]) -> Vec<u8> {
        let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
        lines.iter().for_each(|line| writeln!(zip, "{line}").unwrap());
        zip.finish().unwrap()
    }

    #[test]
    fn restores_the_tar_of_a_layer_byte_for_byte() {
        let fake = fake();
        let layer = digest(&fake.tar);
        let (blobs, transfer) = fake.write(&[]).unwrap();
        assert_eq!(blobs[&blob(&layer).unwrap()], fake.tar);
        assert!(blobs.iter().all(|(path, bytes)| !path.starts_with(BLOBS) || *path == blob(&digest(bytes)).unwrap()));
        let index: Value = serde_json::from_slice(&blobs["index.json"]).unwrap();
        let manifest = &index["manifests"][0];
        assert_eq!(manifest["annotations"]["io.containerd.image.name"], "docker.io/library/app:1");
        let manifest: Value =
            serde_json::from_slice(&blobs[&blob(manifest["digest"].as_str().unwrap()).unwrap()]).unwrap();
        assert_eq!(
            (&manifest["config"]["digest"], &manifest["layers"][0]["size"]),
            (&json!(fake.id), &json!(fake.tar.len()))
        );
        assert_eq!((transfer.config.as_deref(), transfer.dropped), (Some(fake.id.as_str()), 0));
        assert_eq!(transfer.sent, transfer.total);
    }

    #[test]
    fn drops_a_layer_that_the_node_has() {
        let fake = fake();
        let layer = digest(&fake.tar);
        let (all, (blobs, transfer)) = (fake.write(&[]).unwrap().0, fake.write(&[&layer]).unwrap());
        let left_out: Vec<&String> = all.keys().filter(|path| !blobs.contains_key(*path)).collect();
        assert_eq!(left_out, [&blob(&layer).unwrap()]);
        assert_eq!((transfer.dropped, transfer.total - transfer.sent), (1, fake.tar.len() as u64));
    }

    #[test]
    fn fails_on_anything_unexpected() {
        type Damage = fn(&FakeData);
        let damages: [(Damage, &str); 5] = [
            (|fake| std::fs::write(fake.files().join("b"), "other").unwrap(), "is not the file of 3 bytes"),
            (|fake| std::fs::remove_file(fake.files().join("b")).unwrap(), "No such file"),
            (|fake| std::fs::write(fake.list(), zipped(&[json!({"type": 3})])).unwrap(), "is not a list"),
            (|fake| std::fs::remove_dir_all(fake.data().join("image")).unwrap(), "No such file"),
            (
                |fake| {
                    let outside = fake.data().join("outside");
                    std::fs::write(&outside, "two").unwrap();
                    std::fs::remove_file(fake.files().join("b")).unwrap();
                    std::os::unix::fs::symlink(&outside, fake.files().join("b")).unwrap();
                },
                "is not the file",
            ),
        ];
        for (damage, words) in damages {
            let fake = fake();
            damage(&fake);
            let error = format!("{:#}", fake.write(&[]).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
    }
}
