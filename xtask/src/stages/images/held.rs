//! Which images in an engine are ours: what xtask built, by its label, and what it pulled, by its records. Other images of
//! the same names are somebody else's.

use std::collections::BTreeSet;

use anyhow::Result;
use camino::Utf8Path;

use super::build::LABEL;
use crate::deadlines;
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::origin::bases;
use crate::plan::Step;

/// An image of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// `name:tag`, or the ID where it has lost its name.
    pub reference: String,
    /// Its size in bytes, with layers that it shares with others.
    pub size: u64,
    /// Whether it was built here; otherwise it was pulled.
    pub built: bool,
}

/// Our images in `engine`, those that were built first: they hold on to those that they were built on.
pub fn observe(cache: &Utf8Path, engine: &Engine) -> Result<Vec<Held>> {
    let all = list(engine)?;
    let label = format!("label={LABEL}");
    let built = engine.docker().args(["image", "ls", "--no-trunc", "--quiet", "--filter", &label]).read()?;
    if let Some(line) = built.lines().find(|line| !line.starts_with("sha256:")) {
        return Err(unreadable("image ls --quiet", line));
    }
    let records = bases::all(cache)?;
    let pulled = |reference: &str, id: &str| records.iter().any(|record| record.image == reference && record.id == id);
    let mut held = Vec::new();
    for line in all.lines() {
        let (id, name, size) = parse(line)?;
        let built = built.lines().any(|built| built.trim() == id);
        if built || pulled(name, id) {
            let reference = if name.contains("<none>") { id } else { name }.to_owned();
            held.push(Held { reference, size, built });
        }
    }
    held.sort_by_key(|image| !image.built);
    Ok(held)
}

/// The IDs of all images in `engine`.
pub fn ids(engine: &Engine) -> Result<BTreeSet<String>> {
    list(engine)?.lines().map(|line| Ok(parse(line)?.0.to_owned())).collect()
}

/// All images in `engine`, a line each, which [`parse`] reads.
fn list(engine: &Engine) -> Result<String> {
    let format = "{{.ID}}\t{{.Repository}}:{{.Tag}}\t{{.Size}}";
    engine.docker().args(["image", "ls", "--no-trunc", "--format", format]).read()
}

/// The ID, `repository:tag` and size of a line of [`list`].
fn parse(line: &str) -> Result<(&str, &str, u64)> {
    let mut parts = line.split('\t');
    let mut part = || parts.next().ok_or_else(|| unreadable("image ls", line));
    let (id, name, size) = (part()?, part()?, part()?);
    Ok((id, name, parse_size(size).ok_or_else(|| unreadable("image ls", line))?))
}

/// Bytes of `1.06GB`, as docker writes sizes.
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

/// How much an engine holds, whoever put it there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of images.
    pub images: u64,
    /// Their size in bytes, layers that they share counted once.
    pub images_size: u64,
    /// Size of BuildKit's cache in bytes.
    pub build_cache: u64,
}

/// Asks how much `engine` holds.
pub fn usage(engine: &Engine) -> Result<Usage> {
    let ask = engine.docker().args(["system", "df", "--format", "{{.Type}}\t{{.TotalCount}}\t{{.Size}}"]);
    let text = ask.deadline(deadlines::ENGINE_QUESTION).read()?;
    usage_of(&text).ok_or_else(|| unreadable("system df", text.trim()))
}

/// The error where `docker <command>` printed something else than was asked for.
fn unreadable(command: &str, words: &str) -> anyhow::Error {
    Failure::new(Class::Machine, format!("`docker {command}` printed something else than was asked for: `{words}`"))
        .help("see whether the engine answers: cargo xtask doctor")
        .into()
}

fn usage_of(text: &str) -> Option<Usage> {
    let row = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'))?;
        let (count, size) = line.split_once('\t')?;
        Some((count.trim().parse::<u64>().ok()?, parse_size(size)?))
    };
    let ((images, images_size), (_, build_cache)) = (row("Images")?, row("Build Cache")?);
    Some(Usage { images, images_size, build_cache })
}

/// The step that removes `held` from `engine`. An image that a container uses, whoever started it, stays.
pub fn remove_step<'a>(cache: &'a Utf8Path, engine: &'a Engine, held: Vec<Held>) -> Step<'a> {
    let references: Vec<&str> = held.iter().map(|image| image.reference.as_str()).collect();
    let shown = format!("docker image rm {}", references.join(" "));
    let what = "remove images of ours from the engine";
    Step::new(what, "asked for", shown, move |running| {
        let (mut used, mut failed) = (Vec::new(), Vec::new());
        for image in &held {
            running.progress(&image.reference);
            let Err(error) = engine.docker().args(["image", "rm", &image.reference]).run() else { continue };
            let words = format!("{error:#}");
            let list = if words.contains("conflict") { &mut used } else { &mut failed };
            list.push(format!(
                "{}: {}",
                image.reference,
                words.lines().last().unwrap_or_default().trim_start_matches(['|', ' ']).trim_end()
            ));
        }
        // What docker says of its own success is not proof.
        let left: BTreeSet<String> = observe(cache, engine)?.into_iter().map(|image| image.reference).collect();
        let is_explained = |name: &String| used.iter().any(|line| line.starts_with(&format!("{name}: ")));
        let unexplained: Vec<&String> = left.iter().filter(|name| !is_explained(name)).collect();
        if !unexplained.is_empty() {
            let names = unexplained.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            let what = format!("not removed from the engine: {names}\n  {}", failed.join("\n  "));
            return Err(Failure::new(Class::Image, what.trim_end())
                .help("see what it holds: docker image ls")
                .help("then once more: cargo xtask teardown --images")
                .into());
        }
        let stay: String = used.iter().map(|line| format!("\n    stays, a container uses it: {line}")).collect();
        Ok(format!("{} removed{stay}", held.len() - used.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_writes_them() {
        let sizes = [("0B", 0), ("79.6MB", 79_600_000), ("1.06GB", 1_060_000_000), ("512kB", 512_000)];
        sizes.iter().for_each(|(text, size)| assert_eq!(parse_size(text), Some(*size), "{text}"));
        assert_eq!(parse_size("N/A"), None);
        assert_eq!(parse("sha256:aa\ta:1\t5MB").ok(), Some(("sha256:aa", "a:1", 5_000_000)));
        assert_eq!(parse("a:1").ok(), None);
    }

    /// The words of Docker 26.1.5 (Debian 13).
    #[test]
    fn the_sizes_of_images_and_build_cache_are_read() {
        let text = "Images\t46\t3.92GB\nContainers\t2\t4.983MB\nLocal Volumes\t2\t5.043GB\nBuild Cache\t718\t1.302GB\n";
        let usage = Usage { images: 46, images_size: 3_920_000_000, build_cache: 1_302_000_000 };
        assert_eq!(usage_of(text), Some(usage));
        assert_eq!(usage_of("Images\t46\t3.92GB\n"), None);
    }
}
