//! The simulated registry: Debian's `docker-registry` with images of an engine, in the form in which publishers push
//! them: an index of two platforms with an attestation, and compressed layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The registry's address in the machine.
pub const ADDRESS: &str = "127.0.0.1:5000";

/// The registry's configuration.
pub const CONFIGURATION: &str = "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: /shared/offer/registry\nhttp:\n  \
                                 addr: 127.0.0.1:5000\n";

/// Folder of the unpacked `docker save` archive, in the shared folder.
const SAVED: &str = "saved";

/// List of the images to push, in the shared folder.
const LIST: &str = "images.json";

/// The second platform of each image. It never runs: its only layer has one file.
const OTHER: &str = "arm64";

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const STATEMENT: &str = "application/vnd.in-toto+json";

/// An image to push.
pub struct PushedImage {
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

impl PushedImage {
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

/// Prepares [`push`]: unpacks `tar`, the output of `docker save` for the images, and lists the images.
pub fn prepare(shared: &Utf8Path, tar: impl Read, images: &[PushedImage]) -> Result<()> {
    let saved = shared.join(SAVED);
    std::fs::create_dir_all(&saved)?;
    tar::Archive::new(tar).unpack(&saved).context("unpacking the output of docker save")?;
    let mut list = Vec::new();
    for (number, image) in images.iter().enumerate() {
        let layer = format!("layer-{number}.tar");
        if !image.files.is_empty() {
            let mut builder = tar::Builder::new(File::create(saved.join(&layer))?);
            for (path, mode, content) in &image.files {
                let mut header = tar::Header::new_ustar();
                header.set_size(content.len() as u64);
                header.set_mode(*mode);
                builder.append_data(&mut header, path, content.as_slice())?;
            }
            builder.finish()?;
        }
        list.push(json!({"engine": image.engine, "repository": image.repository, "tag": image.tag,
            "layer": if image.files.is_empty() { None } else { Some(layer) }, "command": image.command}));
    }
    Ok(std::fs::write(shared.join(LIST), serde_json::to_vec(&list)?)?)
}

/// Pushes the images of [`prepare`] and removes their files. Runs in the machine.
pub fn push(shared: &Utf8Path) -> Result<()> {
    let saved = shared.join(SAVED);
    let parse = |path: Utf8PathBuf| -> Result<Vec<Value>> {
        let text = std::fs::read(&path).with_context(|| format!("reading {path}"))?;
        Ok(serde_json::from_slice(&text)?)
    };
    let manifests = parse(saved.join("manifest.json"))?;
    let mut registry =
        Registry { agent: ureq::Agent::new_with_defaults(), saved, blobs: BTreeMap::new(), layers: BTreeMap::new() };
    for image in parse(shared.join(LIST))? {
        let named = |manifest: &&Value| {
            let tags = manifest["RepoTags"].as_array();
            tags.into_iter().flatten().any(|tag| *tag == image["engine"])
        };
        let manifest = manifests.iter().find(named).with_context(|| format!("no {} was saved", image["engine"]))?;
        registry.push(&image, manifest).with_context(|| format!("pushing {}", image["repository"]))?;
    }
    Ok(std::fs::remove_dir_all(&registry.saved)?)
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
}

struct Registry {
    agent: ureq::Agent,
    saved: Utf8PathBuf,
    /// Repositories of each blob, by digest.
    blobs: BTreeMap<String, BTreeSet<String>>,
    /// Compressed layers by source file: digest of the file, the blob, and its path.
    layers: BTreeMap<String, (String, Blob, Utf8PathBuf)>,
}

impl Registry {
    fn push(&mut self, image: &Value, saved: &Value) -> Result<()> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (repository, tag) = (text(&image["repository"]), text(&image["tag"]));
        let mut config = std::fs::read(self.saved.join(text(&saved["Config"])))?;
        let files =
            saved["Layers"].as_array().into_iter().flatten().chain(image["layer"].as_str().map(|_| &image["layer"]));
        let mut layers = Vec::new();
        let mut last = String::new();
        for file in files {
            let (file_digest, blob, path) = self.compress(&text(file))?;
            self.blob_file(&repository, &blob, &path)?;
            layers.push(blob.descriptor(LAYER));
            last = file_digest;
        }
        if image["layer"].is_string() {
            let mut value: Value = serde_json::from_slice(&config)?;
            let ids = value["rootfs"]["diff_ids"].as_array_mut().context("the image's layers")?;
            ids.push(last.into());
            if image["command"].is_array() {
                value["config"]["Cmd"] = image["command"].clone();
            }
            config = serde_json::to_vec(&value)?;
        }
        let own = self.manifest(&repository, &config, CONFIG, layers)?;
        let other = json!({"architecture": OTHER, "os": "linux"});
        let other = self.put_small_manifest(&repository, &other, LAYER, b"another platform\n")?;
        let statement = json!({"_type": "https://in-toto.io/Statement/v0.1", "subject": []}).to_string();
        let nowhere = json!({"architecture": "unknown", "os": "unknown"});
        let attestation = self.put_small_manifest(&repository, &nowhere, STATEMENT, statement.as_bytes())?;
        let entry = |blob: &Blob, platform: Value| {
            let mut entry = blob.descriptor(MANIFEST);
            entry["platform"] = platform;
            entry
        };
        let mut about = entry(&attestation, nowhere.clone());
        about["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": own.digest});
        let platform = |name: &str| json!({"architecture": name, "os": "linux"});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX,
            "manifests": [entry(&other, platform(OTHER)), entry(&own, platform("amd64")), about]});
        self.put_manifest(&repository, &tag, INDEX, &serde_json::to_vec(&index)?).map(drop)
    }

    /// Pushes a manifest with one small layer of the media type `kind`.
    fn put_small_manifest(&mut self, repository: &str, platform: &Value, kind: &str, content: &[u8]) -> Result<Blob> {
        let layer = if kind == LAYER {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, "platform", content)?;
            builder.into_inner()?
        } else {
            content.to_owned()
        };
        let mut config = platform.clone();
        config["rootfs"] = json!({"type": "layers", "diff_ids": [digest(&layer)]});
        let blob = if kind == LAYER { gzip(&layer)? } else { layer };
        let layer = self.blob(repository, &blob)?;
        let config = serde_json::to_vec(&config)?;
        self.manifest(repository, &config, CONFIG, vec![layer.descriptor(kind)])
    }

    fn manifest(&mut self, repository: &str, config: &[u8], kind: &str, layers: Vec<Value>) -> Result<Blob> {
        let config = self.blob(repository, config)?;
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config.descriptor(kind), "layers": layers});
        let bytes = serde_json::to_vec(&manifest)?;
        self.put_manifest(repository, &digest(&bytes), MANIFEST, &bytes)
    }

    fn put_manifest(&self, repository: &str, reference: &str, kind: &str, bytes: &[u8]) -> Result<Blob> {
        let url = format!("http://{ADDRESS}/v2/{repository}/manifests/{reference}");
        self.agent.put(&url).header("content-type", kind).send(bytes).context("putting a manifest")?;
        Ok(Blob { digest: digest(bytes), size: bytes.len() as u64 })
    }

    fn blob(&mut self, repository: &str, bytes: &[u8]) -> Result<Blob> {
        let blob = Blob { digest: digest(bytes), size: bytes.len() as u64 };
        if let Some(url) = self.start_upload(repository, &blob)? {
            self.agent.put(&url).header("content-type", "application/octet-stream").send(bytes)?;
        }
        Ok(blob)
    }

    fn blob_file(&mut self, repository: &str, blob: &Blob, path: &Utf8Path) -> Result<()> {
        if let Some(url) = self.start_upload(repository, blob)? {
            let request = self.agent.put(&url).header("content-type", "application/octet-stream");
            request.header("content-length", blob.size.to_string()).send(File::open(path)?)?;
        }
        Ok(())
    }

    /// Returns the upload URL for a blob, or `None` if the repository has it. Mounts blobs of other repositories.
    fn start_upload(&mut self, repository: &str, blob: &Blob) -> Result<Option<String>> {
        let repositories = self.blobs.entry(blob.digest.clone()).or_default();
        let from = repositories.first().map_or(String::new(), |other| format!("?mount={}&from={other}", blob.digest));
        if !repositories.insert(repository.to_owned()) {
            return Ok(None);
        }
        let url = format!("http://{ADDRESS}/v2/{repository}/blobs/uploads/{from}");
        let answer = self.agent.post(&url).send_empty()?;
        if answer.status() == 201 {
            return Ok(None);
        }
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        let location = location.context("the registry sent no location for a blob")?;
        ensure!(location.contains('?'), "the registry sent an unexpected location: {location}");
        Ok(Some(format!("{location}&digest={}", blob.digest)))
    }

    fn compress(&mut self, file: &str) -> Result<(String, Blob, Utf8PathBuf)> {
        if let Some(known) = self.layers.get(file) {
            return Ok(known.clone());
        }
        let path = self.saved.join(format!("{}.gz", file.replace('/', "-")));
        let mut from = File::open(self.saved.join(file)).with_context(|| format!("opening {file}"))?;
        let mut whole = Sha256::new();
        let mut encoder = GzEncoder::new(HashingFile::new(File::create(&path)?), Compression::fast());
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = from.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            whole.update(&buffer[..count]);
            encoder.write_all(&buffer[..count])?;
        }
        let written = encoder.finish()?;
        let blob = Blob { size: written.size, digest: format_digest(written.hash.finalize().as_slice()) };
        let known = (format_digest(whole.finalize().as_slice()), blob, path);
        self.layers.insert(file.to_owned(), known.clone());
        Ok(known)
    }
}

/// A file that computes size and digest of the written bytes.
struct HashingFile {
    file: File,
    hash: Sha256,
    size: u64,
}

impl HashingFile {
    fn new(file: File) -> Self {
        Self { file, hash: Sha256::new(), size: 0 }
    }
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

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn digest(bytes: &[u8]) -> String {
    format_digest(&Sha256::digest(bytes))
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
            let image = PushedImage::official(name);
            (image.repository, image.tag)
        };
        assert_eq!(of("python:3"), ("docker.io/library/python".into(), "3".into()));
        assert_eq!(of("kindest/kindnetd:v1"), ("docker.io/kindest/kindnetd".into(), "v1".into()));
        assert_eq!(of("registry.k8s.io/coredns/coredns:v1"), ("registry.k8s.io/coredns/coredns".into(), "v1".into()));
    }
}
