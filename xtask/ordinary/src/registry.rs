//! The simulated registry: Debian's `docker-registry` with images of an engine, in the form in which publishers push
//! them: an index of two platforms with an attestation, and compressed layers.
//!
//! The suite writes the registry's files itself, because pushing copies and hashes a gigabyte several times.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use xtask::engine::Engine;
use xtask::stages::images::store::{StoredImage, StoredLayer};

/// The registry's address in the machine.
pub const ADDRESS: &str = "127.0.0.1:5000";

/// The registry's configuration.
pub const CONFIGURATION: &str = "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: /shared/offer/registry\nhttp:\n  \
                                 addr: 127.0.0.1:5000\n";

/// Folder of the registry's files, in the shared folder.
const FILES: &str = "offer/registry/docker/registry/v2";

/// The second platform of each image. It never runs: its only layer has one file.
const OTHER: &str = "arm64";

/// Like publishers' layers, ours are gzip files. Their data is stored, because compressing it costs more than all pulls.
const COMPRESSION: Compression = Compression::none();

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const STATEMENT: &str = "application/vnd.in-toto+json";

/// An image of the registry.
pub struct RegistryImage {
    /// Its name in the engine.
    pub engine: String,
    /// Its repository in the simulated registry: the folder of its host, and its name.
    pub repository: String,
    /// Its tag.
    pub tag: String,
    /// Files of an additional layer: path, mode and content.
    pub files: Vec<(String, u32, Vec<u8>)>,
    /// Replacement for the image's command.
    pub command: Option<Vec<String>>,
}

impl RegistryImage {
    /// Returns the engine's image with the official name `name`.
    pub fn official(name: &str) -> Self {
        let (path, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
        let repository = match path.split_once('/') {
            Some((host, _)) if host.contains('.') => path.to_owned(),
            Some(_) => format!("docker.io/{path}"),
            None => format!("docker.io/library/{path}"),
        };
        let tag = tag.to_owned();
        Self { engine: name.to_owned(), repository, tag, files: Vec::new(), command: None }
    }
}

/// Writes `images` from the files of `engine`, which must be the private engine.
pub fn fill(shared: &Utf8Path, engine: &Engine, images: &[RegistryImage]) -> Result<()> {
    let data = engine.data.as_ref().context("only the private engine's files are readable")?;
    let ids = engine.image_ids(&images.iter().map(|image| image.engine.clone()).collect::<Vec<_>>())?;
    let mut registry = Registry { folder: shared.join(FILES), layers: BTreeMap::new() };
    for image in images {
        let id = ids.get(&image.engine).with_context(|| format!("the engine has no {}", image.engine))?;
        let stored = StoredImage::open(data, id)?;
        let layers = stored.layers.iter().map(|layer| registry.stored_layer(layer)).collect::<Result<_>>()?;
        registry.add(image, stored.config, layers).with_context(|| format!("writing {}", image.repository))?;
    }
    Ok(())
}

/// Digest and size of a blob.
#[derive(Clone)]
struct Blob {
    digest: String,
    size: u64,
}

impl Blob {
    fn descriptor(&self, kind: &str) -> Value {
        json!({"mediaType": kind, "digest": self.digest, "size": self.size})
    }

    /// Returns the path of a link to the blob in the registry's folder `from`: `sha256/<digest>/link`.
    fn link(&self, from: &str) -> String {
        format!("{from}/{}/link", self.digest.replace(':', "/"))
    }
}

/// A layer: digest of its tar archive, and the compressed blob.
#[derive(Clone)]
struct Layer {
    archive: String,
    blob: Blob,
}

struct Registry {
    folder: Utf8PathBuf,
    /// The engine's layers, by digest of the archive.
    layers: BTreeMap<String, Layer>,
}

impl Registry {
    /// Compresses a layer of the engine, unless an earlier image has it.
    fn stored_layer(&mut self, stored: &StoredLayer) -> Result<Layer> {
        if let Some(layer) = self.layers.get(&stored.digest) {
            return Ok(layer.clone());
        }
        let layer = self.layer(stored.tar()?.1)?;
        ensure!(layer.archive == stored.digest, "the engine's files of layer {} have changed", stored.digest);
        self.layers.insert(stored.digest.clone(), layer.clone());
        Ok(layer)
    }

    fn add(&self, image: &RegistryImage, mut config: Vec<u8>, mut layers: Vec<Layer>) -> Result<()> {
        let repository = &image.repository;
        if !image.files.is_empty() {
            let mut archive = tar::Builder::new(Vec::new());
            for (path, mode, content) in &image.files {
                append(&mut archive, path, *mode, content)?;
            }
            layers.push(self.layer(archive.into_inner()?.as_slice())?);
            let mut value: Value = serde_json::from_slice(&config)?;
            value["rootfs"]["diff_ids"] = layers.iter().map(|layer| layer.archive.as_str()).collect();
            if let Some(command) = &image.command {
                value["config"]["Cmd"] = json!(command);
            }
            config = serde_json::to_vec(&value)?;
        }
        let layers = layers.into_iter().map(|layer| (layer.blob, LAYER)).collect();
        let own = self.manifest(repository, &config, layers)?;
        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, "platform", 0o644, b"another platform\n")?;
        let layer = self.layer(archive.into_inner()?.as_slice())?;
        let platform = |name: &str| json!({"architecture": name, "os": "linux"});
        let mut config = platform(OTHER);
        config["rootfs"] = json!({"type": "layers", "diff_ids": [layer.archive]});
        let other = self.manifest(repository, &serde_json::to_vec(&config)?, vec![(layer.blob, LAYER)])?;
        let nowhere = json!({"architecture": "unknown", "os": "unknown"});
        let statement = json!({"_type": "https://in-toto.io/Statement/v0.1", "subject": []}).to_string();
        let statement = self.blob(statement.as_bytes())?;
        let mut config = nowhere.clone();
        config["rootfs"] = json!({"type": "layers", "diff_ids": [statement.digest]});
        let attestation = self.manifest(repository, &serde_json::to_vec(&config)?, vec![(statement, STATEMENT)])?;
        let entry = |blob: &Blob, platform: Value| {
            let mut entry = blob.descriptor(MANIFEST);
            entry["platform"] = platform;
            entry
        };
        let mut about = entry(&attestation, nowhere);
        about["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": own.digest});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX,
            "manifests": [entry(&other, platform(OTHER)), entry(&own, platform("amd64")), about]});
        let index = self.revision(repository, &index)?;
        let tag = format!("repositories/{repository}/_manifests/tags/{}", image.tag);
        self.write(&format!("{tag}/current/link"), index.digest.as_bytes())?;
        self.write(&index.link(&format!("{tag}/index")), index.digest.as_bytes())
    }

    /// Writes a manifest with its configuration. `layers` have their media types.
    fn manifest(&self, repository: &str, config: &[u8], layers: Vec<(Blob, &str)>) -> Result<Blob> {
        let config = self.blob(config)?;
        let descriptors: Vec<Value> = layers.iter().map(|(layer, kind)| layer.descriptor(kind)).collect();
        for blob in layers.iter().map(|(layer, _)| layer).chain([&config]) {
            self.write(&blob.link(&format!("repositories/{repository}/_layers")), blob.digest.as_bytes())?;
        }
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config.descriptor(CONFIG),
            "layers": descriptors});
        self.revision(repository, &manifest)
    }

    /// Writes a manifest or an index.
    fn revision(&self, repository: &str, content: &Value) -> Result<Blob> {
        let blob = self.blob(&serde_json::to_vec(content)?)?;
        self.write(&blob.link(&format!("repositories/{repository}/_manifests/revisions")), blob.digest.as_bytes())?;
        Ok(blob)
    }

    fn blob(&self, bytes: &[u8]) -> Result<Blob> {
        let blob = Blob { digest: format_digest(&Sha256::digest(bytes)), size: bytes.len() as u64 };
        self.write(&data(&blob), bytes)?;
        Ok(blob)
    }

    /// Compresses an archive.
    fn layer(&self, mut archive: impl Read) -> Result<Layer> {
        let new = self.create("new")?;
        let mut hash = Sha256::new();
        let mut encoder = GzEncoder::new(HashingFile { file: new, hash: Sha256::new(), size: 0 }, COMPRESSION);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = archive.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            encoder.write_all(&buffer[..count])?;
        }
        let written = encoder.finish()?;
        let blob = Blob { size: written.size, digest: format_digest(&written.hash.finalize()) };
        drop(self.create(&data(&blob))?);
        std::fs::rename(self.folder.join("new"), self.folder.join(data(&blob)))?;
        Ok(Layer { archive: format_digest(&hash.finalize()), blob })
    }

    fn write(&self, path: &str, content: &[u8]) -> Result<()> {
        self.create(path)?.write_all(content).with_context(|| format!("writing {path}"))
    }

    fn create(&self, path: &str) -> Result<File> {
        let path = self.folder.join(path);
        std::fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        File::create(&path).with_context(|| format!("creating {path}"))
    }
}

/// Returns the path of a blob's content.
fn data(blob: &Blob) -> String {
    let hex = blob.digest.trim_start_matches("sha256:");
    format!("blobs/sha256/{}/{hex}/data", &hex[..2])
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    Ok(archive.append_data(&mut header, path, content)?)
}

/// A file that computes size and digest of the written bytes.
struct HashingFile {
    file: File,
    hash: Sha256,
    size: u64,
}

impl Write for HashingFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

fn format_digest(hash: &[u8]) -> String {
    let hex = xtask::units::hex(hash);
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_named_after_host_and_path() {
        let of = |name: &str| {
            let image = RegistryImage::official(name);
            (image.repository, image.tag)
        };
        assert_eq!(of("python:3"), ("docker.io/library/python".into(), "3".into()));
        assert_eq!(of("kindest/kindnetd:v1"), ("docker.io/kindest/kindnetd".into(), "v1".into()));
        assert_eq!(of("registry.k8s.io/coredns/coredns:v1"), ("registry.k8s.io/coredns/coredns".into(), "v1".into()));
    }

    #[test]
    fn an_image_becomes_an_index_of_two_platforms_with_an_attestation() {
        let temp = tempfile::tempdir().unwrap();
        let shared = Utf8Path::from_path(temp.path()).unwrap();
        let config = json!({"config": {}, "rootfs": {"type": "layers", "diff_ids": ["old"]}}).to_string();
        let registry = Registry { folder: shared.join(FILES), layers: BTreeMap::new() };
        let mut image = RegistryImage::official("a/b:1");
        image.files = vec![("f".to_owned(), 0o644, b"more".to_vec())];
        image.command = Some(vec!["run".to_owned()]);
        let layer = registry.layer("layer".as_bytes()).unwrap();
        registry.add(&image, config.into_bytes(), vec![layer]).unwrap();
        let folder = registry.folder;
        let blob = |digest: &Value| {
            let (digest, size) = (digest.as_str().unwrap().to_owned(), 0);
            let bytes = std::fs::read(folder.join(data(&Blob { digest: digest.clone(), size }))).unwrap();
            assert_eq!(format_digest(&Sha256::digest(&bytes)), digest);
            bytes
        };
        let json = |digest: &Value| serde_json::from_slice::<Value>(&blob(digest)).unwrap();
        let repository = folder.join("repositories/docker.io/a/b");
        let tag = std::fs::read_to_string(repository.join("_manifests/tags/1/current/link")).unwrap();
        let index = json(&json!(tag));
        let platforms: Vec<&Value> = (0..3).map(|at| &index["manifests"][at]["platform"]["architecture"]).collect();
        assert_eq!(platforms, ["arm64", "amd64", "unknown"]);
        let own = json(&index["manifests"][1]["digest"]);
        let config = json(&own["config"]["digest"]);
        assert_eq!(config["config"]["Cmd"], json!(["run"]));
        for (at, layer) in own["layers"].as_array().unwrap().iter().enumerate() {
            let mut archive = Vec::new();
            flate2::read::GzDecoder::new(blob(&layer["digest"]).as_slice()).read_to_end(&mut archive).unwrap();
            assert_eq!(config["rootfs"]["diff_ids"][at], format_digest(&Sha256::digest(&archive)));
            let hex = layer["digest"].as_str().unwrap().replace(':', "/");
            assert!(repository.join(format!("_layers/{hex}/link")).is_file());
        }
        assert_eq!(own["layers"].as_array().unwrap().len(), 2);
    }
}
