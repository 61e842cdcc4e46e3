//! The stand-in registry: Debian's `docker-registry`, filled with images of an engine as publishers push them: an index
//! of two platforms with an attestation, compressed layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Where the registry listens, in the machine.
pub const ADDRESS: &str = "127.0.0.1:5000";

/// Its configuration.
pub const CONFIGURATION: &str = "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: /shared/offer/registry\nhttp:\n  \
                                 addr: 127.0.0.1:5000\n";

/// In the shared folder: what `docker save` wrote, unpacked.
const SAVED: &str = "saved";

/// In the shared folder: which images to push.
const LIST: &str = "images.json";

/// The other platform of each image. Nothing runs it: its only layer holds one file.
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
    /// Its repository in the stand-in registry: the folder of its host and its name there.
    pub repository: String,
    /// Its tag.
    pub tag: String,
    /// Files of a further layer: path, mode and content.
    pub files: Vec<(String, u32, Vec<u8>)>,
    /// What the image starts, in place of its own command.
    pub command: Option<Vec<String>>,
}

impl PushedImage {
    /// The image that the engine has under its official name `name`.
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

/// Unpacks `tar`, which `docker save` wrote of the images' engine names, for [`push`].
pub fn prepare(shared: &Utf8Path, tar: impl Read, images: &[PushedImage]) -> Result<()> {
    let saved = shared.join(SAVED);
    std::fs::create_dir_all(&saved)?;
    tar::Archive::new(tar).unpack(&saved).context("unpacking what docker saved")?;
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

/// Pushes what [`prepare`] laid down, and removes it. Runs in the machine.
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
        let manifest = manifests.iter().find(named).with_context(|| format!("docker saved no {}", image["engine"]))?;
        registry.push(&image, manifest).with_context(|| format!("pushing {}", image["repository"]))?;
    }
    Ok(std::fs::remove_dir_all(&registry.saved)?)
}

/// A blob by digest and size.
#[derive(Clone)]
struct Blob {
    digest: String,
    size: u64,
}

impl Blob {
    fn describe(&self, kind: &str) -> Value {
        json!({"mediaType": kind, "digest": self.digest, "size": self.size})
    }
}

struct Registry {
    agent: ureq::Agent,
    saved: Utf8PathBuf,
    /// Which repositories have a blob.
    blobs: BTreeMap<String, BTreeSet<String>>,
    /// Compressed layers by the file that they were made of: digest of the file itself, and the blob.
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
            let (whole, blob, path) = self.compressed(&text(file))?;
            self.blob_file(&repository, &blob, &path)?;
            layers.push(blob.describe(LAYER));
            last = whole;
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
        let other =
            self.small(&repository, &json!({"architecture": OTHER, "os": "linux"}), LAYER, b"another platform\n")?;
        let statement = json!({"_type": "https://in-toto.io/Statement/v0.1", "subject": []}).to_string();
        let nowhere = json!({"architecture": "unknown", "os": "unknown"});
        let attestation = self.small(&repository, &nowhere, STATEMENT, statement.as_bytes())?;
        let entry = |blob: &Blob, platform: Value| {
            let mut entry = blob.describe(MANIFEST);
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

    /// A manifest with one small layer, of the kind `kind`.
    fn small(&mut self, repository: &str, platform: &Value, kind: &str, content: &[u8]) -> Result<Blob> {
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
        self.manifest(repository, &config, CONFIG, vec![layer.describe(kind)])
    }

    fn manifest(&mut self, repository: &str, config: &[u8], kind: &str, layers: Vec<Value>) -> Result<Blob> {
        let config = self.blob(repository, config)?;
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config.describe(kind), "layers": layers});
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
        if let Some(url) = self.upload(repository, &blob)? {
            self.agent.put(&url).header("content-type", "application/octet-stream").send(bytes)?;
        }
        Ok(blob)
    }

    fn blob_file(&mut self, repository: &str, blob: &Blob, path: &Utf8Path) -> Result<()> {
        if let Some(url) = self.upload(repository, blob)? {
            let request = self.agent.put(&url).header("content-type", "application/octet-stream");
            request.header("content-length", blob.size.to_string()).send(File::open(path)?)?;
        }
        Ok(())
    }

    /// Where to put a blob that the repository lacks; one that another repository has is taken from there.
    fn upload(&mut self, repository: &str, blob: &Blob) -> Result<Option<String>> {
        let there = self.blobs.entry(blob.digest.clone()).or_default();
        let from = there.first().map_or(String::new(), |other| format!("?mount={}&from={other}", blob.digest));
        if !there.insert(repository.to_owned()) {
            return Ok(None);
        }
        let url = format!("http://{ADDRESS}/v2/{repository}/blobs/uploads/{from}");
        let answer = self.agent.post(&url).send_empty()?;
        if answer.status() == 201 {
            return Ok(None);
        }
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        let location = location.context("the registry names no place for a blob")?;
        ensure!(location.contains('?'), "the registry names a place of another form: {location}");
        Ok(Some(format!("{location}&digest={}", blob.digest)))
    }

    fn compressed(&mut self, file: &str) -> Result<(String, Blob, Utf8PathBuf)> {
        if let Some(known) = self.layers.get(file) {
            return Ok(known.clone());
        }
        let path = self.saved.join(format!("{}.gz", file.replace('/', "-")));
        let mut from = File::open(self.saved.join(file)).with_context(|| format!("opening {file}"))?;
        let mut whole = Sha256::new();
        let mut encoder = GzEncoder::new(Hashed::new(File::create(&path)?), Compression::fast());
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
        let blob = Blob { size: written.size, digest: name(written.hash.finalize().as_slice()) };
        let known = (name(whole.finalize().as_slice()), blob, path);
        self.layers.insert(file.to_owned(), known.clone());
        Ok(known)
    }
}

/// A file with the digest of what is written to it.
struct Hashed {
    file: File,
    hash: Sha256,
    size: u64,
}

impl Hashed {
    fn new(file: File) -> Self {
        Self { file, hash: Sha256::new(), size: 0 }
    }
}

impl Write for Hashed {
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
    name(&Sha256::digest(bytes))
}

fn name(hash: &[u8]) -> String {
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
