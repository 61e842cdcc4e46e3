//! Filters the archive of an image: drops the blobs that the node has. Reads the output of `docker save`: an OCI layout
//! (Docker Engine 25 and later), or the older Docker archive, of which nothing can be dropped.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};

use anyhow::{Context, Result};
use serde_json::Value;

/// The folder of blobs in an OCI layout.
pub const BLOBS: &str = "blobs/sha256/";
/// Docker's own manifests of the same image. They name layers by path, so they are wrong if a layer is dropped.
const DOCKER_MANIFESTS: [&str; 2] = ["manifest.json", "repositories"];
/// The largest blob in bytes that is read as a possible manifest.
const MAX_MANIFEST_SIZE: u64 = 1 << 20;

/// The sizes of a partial transfer of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Bytes of file content in the image.
    pub total: u64,
    /// Bytes of file content that were sent.
    pub sent: u64,
    /// Number of dropped blobs.
    pub dropped: usize,
    /// The image's config digest according to the archive, with `sha256:`.
    pub config: Option<String>,
}

/// Copies the archive `input` to `output` without the blobs in `have` (digests with `sha256:`). Calls `progress` with the
/// bytes sent so far.
pub fn filter(
    input: impl Read,
    output: impl Write,
    have: &HashSet<String>,
    mut progress: impl FnMut(u64),
) -> Result<Transfer> {
    let mut archive = tar::Archive::new(input);
    let mut out = tar::Builder::new(output);
    let mut transfer = Transfer::default();
    // Needed only after the last entry, whatever their order.
    let mut docker_files = Vec::new();
    let mut documents: HashMap<String, Vec<u8>> = HashMap::new();
    for entry in archive.entries().context("reading the image")? {
        let mut entry = entry.context("reading the image")?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let size = entry.size();
        let header = entry.header().clone();
        transfer.total += size;
        if DOCKER_MANIFESTS.contains(&path.as_str()) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).context("reading the image")?;
            docker_files.push((header, bytes));
            continue;
        }
        let digest = path.strip_prefix(BLOBS).filter(|hex| !hex.is_empty()).map(|hex| format!("sha256:{hex}"));
        let is_known = digest.as_ref().is_some_and(|digest| have.contains(digest));
        if (size <= MAX_MANIFEST_SIZE && digest.is_some()) || path == "index.json" {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).context("reading the image")?;
            if !is_known {
                out.append(&header, bytes.as_slice()).context("sending the image")?;
            }
            if bytes.first() == Some(&b'{') {
                documents.insert(digest.unwrap_or(path), bytes);
            }
        } else if !is_known {
            let before = transfer.sent;
            let counted = Counted { inner: entry, count: 0, each: |count| progress(before + count) };
            out.append(&header, counted).context("sending the image")?;
        }
        if is_known {
            transfer.dropped += 1;
        } else {
            transfer.sent += size;
            progress(transfer.sent);
        }
    }
    for (header, bytes) in &docker_files {
        if transfer.dropped == 0 {
            transfer.sent += bytes.len() as u64;
            out.append(header, bytes.as_slice()).context("sending the image")?;
        }
    }
    out.into_inner().and_then(|mut output| output.flush()).context("sending the image")?;
    // Reads the padding after the archive's end, or `docker save` would fail on a closed pipe.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).context("reading the image")?;
    // Docker's manifest names the image of its own platform. An index may list others first, even some not in the archive.
    transfer.config = find_docker_config(&docker_files).or_else(|| find_config(&documents));
    Ok(transfer)
}

/// Follows `index.json` to the config of the image.
fn find_config(documents: &HashMap<String, Vec<u8>>) -> Option<String> {
    let read = |name: &str| serde_json::from_slice::<Value>(documents.get(name)?).ok();
    let mut next = read("index.json")?;
    // An index may list indexes, one for each platform. No tool nests them deeper.
    for _ in 0..3 {
        if let Some(config) = next["config"]["digest"].as_str() {
            return Some(config.to_owned());
        }
        // Attestations have the platform `unknown`. Platforms that were not pulled are listed, too.
        let images = next["manifests"].as_array()?.iter().filter(|m| m["platform"]["os"] != "unknown");
        next = images.filter_map(|image| read(image["digest"].as_str()?)).next()?;
    }
    None
}

/// Returns the config digest of a Docker archive, from the name `<hex>.json`.
fn find_docker_config(docker_files: &[(tar::Header, Vec<u8>)]) -> Option<String> {
    let manifest: Value =
        docker_files.iter().find_map(|(_, bytes)| serde_json::from_slice(bytes).ok().filter(Value::is_array))?;
    let hex = manifest[0]["Config"].as_str()?.trim_start_matches(BLOBS).trim_end_matches(".json");
    Some(format!("sha256:{hex}"))
}

/// A reader that counts the bytes read.
pub struct Counted<R, F> {
    /// The source.
    pub inner: R,
    /// Number of bytes read so far.
    pub count: u64,
    /// Called with the count after each read.
    pub each: F,
}

impl<R: Read, F: FnMut(u64)> Read for Counted<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        (self.each)(self.count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn names(tar: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(tar);
        archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect()
    }

    const MANIFEST: &[u8] = br#"{"config":{"digest":"sha256:cc"},"layers":[{"digest":"sha256:11"}]}"#;
    const INDEX: &[u8] = br#"{"manifests":[{"digest":"sha256:aa"}]}"#;

    fn oci() -> Vec<u8> {
        let layer = vec![7; 3 << 20];
        pack(&[
            ("blobs/sha256/11", &layer),
            ("blobs/sha256/22", b"small layer"),
            ("blobs/sha256/aa", MANIFEST),
            ("blobs/sha256/cc", b"{}"),
            ("index.json", INDEX),
            ("manifest.json", b"[{}]"),
            ("oci-layout", b"{}"),
            ("repositories", b"{}"),
        ])
    }

    fn run(tar: &[u8], have: &[&str]) -> (Vec<u8>, Transfer) {
        let have = have.iter().map(|d| format!("sha256:{d}")).collect();
        let mut out = Vec::new();
        let transfer = filter(tar, &mut out, &have, |_| {}).unwrap();
        (out, transfer)
    }

    #[test]
    fn sends_everything_that_the_node_lacks() {
        let (out, transfer) = run(&oci(), &["99"]);
        assert_eq!(names(&out).len(), 8);
        assert_eq!((transfer.sent, transfer.dropped), (transfer.total, 0));
        assert_eq!(transfer.config.unwrap(), "sha256:cc");
    }

    #[test]
    fn drops_known_blobs_and_dockers_manifest_with_them() {
        let (out, transfer) = run(&oci(), &["11", "aa"]);
        assert_eq!(names(&out), ["blobs/sha256/22", "blobs/sha256/cc", "index.json", "oci-layout"]);
        assert_eq!(transfer.dropped, 2);
        assert_eq!(transfer.sent, 11 + 2 + INDEX.len() as u64 + 2);
        // Found although the manifest was dropped.
        assert_eq!(transfer.config.unwrap(), "sha256:cc");
    }

    #[test]
    fn accepts_entries_in_any_order() {
        let tar = pack(&[("manifest.json", b"[{}]"), ("index.json", INDEX), ("blobs/sha256/aa", MANIFEST)]);
        assert_eq!(names(&run(&tar, &["aa"]).0), ["index.json"]);
        assert_eq!(names(&run(&tar, &[]).0), ["index.json", "blobs/sha256/aa", "manifest.json"]);
    }

    #[test]
    fn drops_nothing_of_a_docker_archive() {
        let manifest = br#"[{"Config":"cc.json","Layers":["11/layer.tar"]}]"#;
        let tar = pack(&[("11/layer.tar", b"x"), ("cc.json", b"{}"), ("manifest.json", manifest)]);
        let (out, transfer) = run(&tar, &["11", "cc"]);
        assert_eq!(names(&out).len(), 3);
        assert_eq!((transfer.dropped, transfer.config.as_deref()), (0, Some("sha256:cc")));
    }

    #[test]
    fn skips_attestations_in_an_index_of_platforms() {
        let index = br#"{"manifests":[{"digest":"sha256:dd"}]}"#;
        let nested = br#"{"manifests":[{"digest":"sha256:ee","platform":{"os":"unknown"}},
            {"digest":"sha256:aa","platform":{"os":"linux"}}]}"#;
        let tar = pack(&[("blobs/sha256/aa", MANIFEST), ("blobs/sha256/dd", nested), ("index.json", index)]);
        assert_eq!(run(&tar, &[]).1.config.unwrap(), "sha256:cc");
    }

    /// The shape that Docker 26 with containerd's store writes for an image with two platforms on Docker Hub (recorded by
    /// `test ordinary`).
    #[test]
    fn takes_dockers_own_platform_from_an_index() {
        let index = br#"{"manifests":[{"digest":"sha256:dd"}]}"#;
        let nested = br#"{"manifests":[{"digest":"sha256:bb","platform":{"os":"linux","architecture":"arm64"}},
            {"digest":"sha256:aa","platform":{"os":"linux","architecture":"amd64"}},
            {"digest":"sha256:ee","platform":{"os":"unknown"}}]}"#;
        let other = br#"{"config":{"digest":"sha256:c0"},"layers":[]}"#;
        let docker_files = br#"[{"Config":"blobs/sha256/cc","RepoTags":["a:1"],"Layers":["blobs/sha256/11"]}]"#;
        let common: [(&str, &[u8]); 3] =
            [("blobs/sha256/aa", MANIFEST), ("blobs/sha256/dd", nested), ("index.json", index)];
        let both: [(&str, &[u8]); 2] = [("blobs/sha256/bb", other), ("manifest.json", docker_files)];
        for more in [&both[..], &both[1..], &[]] {
            let transfer = run(&pack(&[&common[..], more].concat()), &[]).1;
            assert_eq!(transfer.config.as_deref(), Some("sha256:cc"), "{} further files", more.len());
        }
    }

    #[test]
    fn fails_for_an_incomplete_archive() {
        let tar = oci();
        assert!(filter(&tar[..1 << 20], std::io::sink(), &HashSet::new(), |_| {}).is_err());
        let have = HashSet::from(["sha256:11".to_owned()]);
        assert!(filter(&tar[..1 << 20], std::io::sink(), &have, |_| {}).is_err());
    }
}
