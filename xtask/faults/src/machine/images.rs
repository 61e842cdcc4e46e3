//! Images as archives: small, but with real digests, so that xtask proves identity as with a real engine.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Machine, digest};

/// An image of the engine.
#[derive(Clone, Debug)]
pub struct BuiltImage {
    /// The reference, for example `todo-backend:<tag>`.
    pub reference: String,
    config: String,
    layer: String,
}

impl BuiltImage {
    /// Creates an image with this content.
    pub fn new(reference: &str, content: &str) -> Self {
        let layer = format!("layer of {content}");
        let config = json!({"architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer.as_bytes())]}});
        Self { reference: reference.to_owned(), config: config.to_string(), layer }
    }

    /// Returns the image ID, which is the digest of the config.
    pub fn id(&self) -> String {
        digest(self.config.as_bytes())
    }

    fn manifest(&self) -> String {
        let part = |kind: &str, text: &str| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(text.as_bytes()), "size": text.len()});
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": part("config.v1+json", &self.config), "layers": [part("layer.v1.tar", &self.layer)]})
        .to_string()
    }
}

/// Returns the archive that `docker save` writes for `image`.
pub fn save(image: &BuiltImage) -> Vec<u8> {
    let manifest = image.manifest();
    let tag = image.reference.rsplit(':').next().unwrap_or_default();
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(manifest.as_bytes()), "size": manifest.len(),
        "annotations": {"io.containerd.image.name": canonical(&image.reference), "org.opencontainers.image.ref.name": tag}}]});
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, text: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, text.as_bytes()).expect("memory takes everything");
    };
    for blob in [&image.layer, &image.config, &manifest] {
        add(&format!("blobs/sha256/{}", &digest(blob.as_bytes())[7..]), blob);
    }
    add("index.json", &index.to_string());
    add("oci-layout", r#"{"imageLayoutVersion": "1.0.0"}"#);
    builder.into_inner().expect("memory takes everything")
}

/// Imports `archive` into the node as `ctr images import` does. The archive may lack blobs that the node already has.
pub fn import(machine: &mut Machine, archive: &[u8]) -> Result<()> {
    let mut content = machine.node_content.clone();
    let mut index = None;
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry.context("unexpected EOF")?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).context("unexpected EOF")?;
        if path.starts_with("blobs/sha256/") {
            content.insert(digest(&bytes), bytes);
        } else if path == "index.json" {
            index = Some(bytes);
        }
    }
    let index: Value = serde_json::from_slice(&index.context("unrecognized image format")?)?;
    for manifest in index["manifests"].as_array().into_iter().flatten() {
        let name = manifest["annotations"]["io.containerd.image.name"].as_str().context("no name")?.to_owned();
        let config = complete(&content, manifest["digest"].as_str().unwrap_or_default())?;
        machine.node_images.insert(name, config);
    }
    machine.node_content = content;
    Ok(())
}

/// Returns the config digest of a manifest. Fails if a blob of the image is missing.
fn complete(content: &BTreeMap<String, Vec<u8>>, manifest: &str) -> Result<String> {
    let missing = |digest: &str| format!("content digest {digest}: not found");
    let text = content.get(manifest).with_context(|| missing(manifest))?;
    let manifest: Value = serde_json::from_slice(text)?;
    let config = manifest["config"]["digest"].as_str().unwrap_or_default().to_owned();
    let layers = manifest["layers"].as_array().into_iter().flatten().filter_map(|layer| layer["digest"].as_str());
    for part in layers.chain([config.as_str()]) {
        if !content.contains_key(part) {
            bail!(missing(part));
        }
    }
    Ok(config)
}

/// Returns the files of a build context as one text. `place` is a folder, or `-` for a tar archive in `input`.
pub fn read_context(place: &str, input: &[u8]) -> Result<String> {
    let mut files = BTreeMap::new();
    if place == "-" {
        let mut archive = tar::Archive::new(input);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().into_owned();
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            files.insert(path, text);
        }
    } else {
        for entry in walkdir::WalkDir::new(place) {
            let entry = entry?;
            if entry.file_type().is_file() {
                files.insert(entry.path().to_string_lossy().into_owned(), std::fs::read_to_string(entry.path())?);
            }
        }
    }
    let parts = files.into_iter().map(|(path, text)| format!("{}: {text}", path.trim_start_matches("./")));
    let text: String = parts.collect();
    Ok(text.replace(place, ""))
}

/// Returns `reference` as containerd spells it, with the registry.
pub fn canonical(reference: &str) -> String {
    let first = reference.split('/').next().unwrap_or_default();
    match reference.contains('/') && (first.contains('.') || first.contains(':') || first == "localhost") {
        true => reference.to_owned(),
        false if reference.contains('/') => format!("docker.io/{reference}"),
        false => format!("docker.io/library/{reference}"),
    }
}
