//! Finds xtask's images in an engine: those that it built, by label, and those that it pulled, by record. Other images of
//! the same names belong to somebody else.

use std::collections::BTreeSet;

use anyhow::Result;
use camino::Utf8Path;

use super::build::LABEL;
use crate::deadlines;
use crate::engine::Engine;
use crate::failure::{self, Class, Failure};
use crate::origin::bases;
use crate::plan::Step;

/// An image that xtask built or pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedImage {
    /// `name:tag`, or the ID of an untagged image.
    pub reference: String,
    /// Size in bytes, including layers shared with other images.
    pub size: u64,
    /// Whether xtask built the image; otherwise xtask pulled it.
    pub built: bool,
}

/// Returns xtask's images in `engine`, built ones first: their base images can be removed only after them.
pub fn observe(cache: &Utf8Path, engine: &Engine) -> Result<Vec<OwnedImage>> {
    let all = list(engine)?;
    let label = format!("label={LABEL}");
    let built = engine.docker().args(["image", "ls", "--no-trunc", "--quiet", "--filter", &label]).read()?;
    if let Some(line) = built.lines().find(|line| !line.starts_with("sha256:")) {
        return Err(unexpected_output("image ls --quiet", line));
    }
    let records = bases::all(cache)?;
    let pulled = |reference: &str, id: &str| records.iter().any(|record| record.image == reference && record.id == id);
    let mut owned = Vec::new();
    for line in all.lines() {
        let (id, name, size) = parse(line)?;
        let built = built.lines().any(|built| built.trim() == id);
        if built || pulled(name, id) {
            let reference = if name.contains("<none>") { id } else { name }.to_owned();
            owned.push(OwnedImage { reference, size, built });
        }
    }
    owned.sort_by_key(|image| !image.built);
    Ok(owned)
}

/// Returns the IDs of all images in `engine`.
pub fn ids(engine: &Engine) -> Result<BTreeSet<String>> {
    list(engine)?.lines().map(|line| Ok(parse(line)?.0.to_owned())).collect()
}

/// Lists all images in `engine`, one line each for [`parse`].
fn list(engine: &Engine) -> Result<String> {
    let format = "{{.ID}}\t{{.Repository}}:{{.Tag}}\t{{.Size}}";
    engine.docker().args(["image", "ls", "--no-trunc", "--format", format]).read()
}

/// Returns ID, `repository:tag` and size from a line of [`list`].
fn parse(line: &str) -> Result<(&str, &str, u64)> {
    let mut parts = line.split('\t');
    let mut part = || parts.next().ok_or_else(|| unexpected_output("image ls", line));
    let (id, name, size) = (part()?, part()?, part()?);
    Ok((id, name, parse_size(size).ok_or_else(|| unexpected_output("image ls", line))?))
}

/// Parses a size as docker prints it, e.g. `1.06GB`, to bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| c.is_ascii_alphabetic())?;
    let factor = match &text[end..] {
        "B" => 1e0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        _ => return None,
    };
    let number: f64 = text[..end].trim().parse().ok()?;
    Some((number * factor) as u64)
}

/// The disk usage of an engine, including other people's images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of images.
    pub images: u64,
    /// Their size in bytes; shared layers count once.
    pub images_size: u64,
    /// Size of BuildKit's cache in bytes.
    pub build_cache: u64,
}

/// Reads the disk usage of `engine`.
pub fn usage(engine: &Engine) -> Result<Usage> {
    let ask = engine.docker().args(["system", "df", "--format", "{{.Type}}\t{{.TotalCount}}\t{{.Size}}"]);
    let text = ask.deadline(deadlines::ENGINE_QUESTION).read()?;
    parse_usage(&text).ok_or_else(|| unexpected_output("system df", text.trim()))
}

/// Returns the error for unexpected output of `docker <command>`.
fn unexpected_output(command: &str, words: &str) -> anyhow::Error {
    Failure::new(Class::Machine, format!("cannot parse the output of `docker {command}`: `{words}`"))
        .help("see whether the engine answers: cargo xtask doctor")
        .into()
}

fn parse_usage(text: &str) -> Option<Usage> {
    let row = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'))?;
        let (count, size) = line.split_once('\t')?;
        Some((count.trim().parse::<u64>().ok()?, parse_size(size)?))
    };
    let ((images, images_size), (_, build_cache)) = (row("Images")?, row("Build Cache")?);
    Some(Usage { images, images_size, build_cache })
}

/// Returns the step that removes `owned` from `engine`. It keeps images that any container uses.
pub fn remove_step<'a>(cache: &'a Utf8Path, engine: &'a Engine, owned: Vec<OwnedImage>) -> Step<'a> {
    let references: Vec<&str> = owned.iter().map(|image| image.reference.as_str()).collect();
    let shown = format!("docker image rm {}", references.join(" "));
    let what = "remove xtask's images from the engine";
    Step::new(what, "asked for", shown, move |running| {
        let (mut used, mut failed) = (Vec::new(), Vec::new());
        for image in &owned {
            running.progress(&image.reference);
            let Err(error) = engine.docker().args(["image", "rm", &image.reference]).run() else { continue };
            let words = failure::message(&error);
            let list = if words.contains("conflict") { &mut used } else { &mut failed };
            list.push(format!(
                "{}: {}",
                image.reference,
                words.lines().last().unwrap_or_default().trim_start_matches(['|', ' ']).trim_end()
            ));
        }
        // Docker's exit code alone proves nothing.
        let left: BTreeSet<String> = observe(cache, engine)?.into_iter().map(|image| image.reference).collect();
        let is_explained = |name: &String| used.iter().any(|line| line.starts_with(&format!("{name}: ")));
        let unexplained: Vec<&String> = left.iter().filter(|name| !is_explained(name)).collect();
        if !unexplained.is_empty() {
            let names = unexplained.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            let what = format!("not removed from the engine: {names}\n  {}", failed.join("\n  "));
            return Err(Failure::new(Class::Image, what.trim_end())
                .help("list its images: docker image ls")
                .help("then run it again: cargo xtask teardown --images")
                .into());
        }
        let stay: String = used.iter().map(|line| format!("\n    stays, a container uses it: {line}")).collect();
        Ok(format!("{} removed{stay}", owned.len() - used.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_as_docker_prints_them() {
        let sizes = [("0B", 0), ("79.6MB", 79_600_000), ("1.06GB", 1_060_000_000), ("512kB", 512_000)];
        sizes.iter().for_each(|(text, size)| assert_eq!(parse_size(text), Some(*size), "{text}"));
        assert_eq!(parse_size("N/A"), None);
        assert_eq!(parse("sha256:aa\ta:1\t5MB").ok(), Some(("sha256:aa", "a:1", 5_000_000)));
        assert_eq!(parse("a:1").ok(), None);
    }

    /// Recorded from Docker 26.1.5 (Debian 13).
    #[test]
    fn reads_the_sizes_of_images_and_build_cache() {
        let text = "Images\t46\t3.92GB\nContainers\t2\t4.983MB\nLocal Volumes\t2\t5.043GB\nBuild Cache\t718\t1.302GB\n";
        let usage = Usage { images: 46, images_size: 3_920_000_000, build_cache: 1_302_000_000 };
        assert_eq!(parse_usage(text), Some(usage));
        assert_eq!(parse_usage("Images\t46\t3.92GB\n"), None);
    }
}
