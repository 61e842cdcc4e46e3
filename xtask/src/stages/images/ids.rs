//! Image IDs as nodes know them: config digests.
//!
//! An engine with Docker's own image store says the same. One that keeps its images in containerd (the default of fresh
//! installations since Docker 29) says the digest of the manifest or index instead; which config that stands for is
//! learnt when the image is loaded, and remembered.

use std::collections::BTreeMap;

use anyhow::Result;

use super::load::Wanted;
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::files;
use crate::project::Project;
use crate::units::quote;

/// The ID under which a node lists the image that `engine` calls `reference`; `None`: the engine does not have it.
pub fn of(project: &Project, engine: &Engine, reference: &str) -> Result<Option<String>> {
    Ok(of_all(project, engine, &[reference.to_owned()])?.remove(reference))
}

/// The same for several references, by one question; those that the engine does not have are left out.
pub fn of_all(project: &Project, engine: &Engine, references: &[String]) -> Result<BTreeMap<String, String>> {
    let known = known(project)?;
    let ids = engine.image_ids(references)?.into_iter();
    Ok(ids.map(|(reference, id)| (reference, known.get(&id).cloned().unwrap_or(id))).collect())
}

/// The IDs of images that nodes have been given. The engine may have called one by its manifest until the load has shown
/// its config. It is not asked again: another checkout's clean-up may have taken an image from it.
pub fn of_loaded(project: &Project, wanted: &[Wanted]) -> Result<BTreeMap<String, String>> {
    let known = known(project)?;
    let wanted = wanted.iter().filter_map(|image| Some((image.reference.clone(), image.id.clone()?)));
    Ok(wanted.map(|(reference, id)| (reference, known.get(&id).cloned().unwrap_or(id))).collect())
}

/// Remembers that what the engine calls `engines` is `config` on a node.
pub fn remember(project: &Project, engines: &str, config: &str) -> Result<()> {
    let mut known = known(project)?;
    if engines == config || known.get(engines).is_some_and(|old| old == config) {
        return Ok(());
    }
    known.insert(engines.to_owned(), config.to_owned());
    files::write(&place(project), &serde_json::to_vec_pretty(&known)?)
}

fn known(project: &Project) -> Result<BTreeMap<String, String>> {
    let place = place(project);
    let Some(text) = files::read(&place)? else { return Ok(BTreeMap::new()) };
    serde_json::from_str(&text).map_err(|error| {
        let what = format!("{place}, which says what the engine's image IDs are on a node, is not JSON: {error}");
        Failure::new(Class::Image, what).help(format!("rm {}   # the next load learns it again", quote(&place))).into()
    })
}

fn place(project: &Project) -> camino::Utf8PathBuf {
    project.target().join("images/ids.json")
}
