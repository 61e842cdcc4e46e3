//! Image IDs on nodes, which are config digests.
//!
//! An engine with Docker's own image store uses the same IDs. An engine with containerd's store (the default of fresh
//! installations since Docker 29) uses the digest of the manifest or index instead. A load finds and records the config.

use std::collections::BTreeMap;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};

use super::load::Wanted;
use crate::failure::{Class, Failure};
use crate::files;
use crate::toolbox::Toolbox;
use crate::units::quote;

/// Returns the ID on nodes of the image `reference` in the engine; `None` if the engine does not have it.
pub fn of(tools: &Toolbox, reference: &str) -> Result<Option<String>> {
    Ok(of_all(tools, &[reference.to_owned()])?.remove(reference))
}

/// Returns the IDs on nodes of those `references` that the engine has, with one call to docker.
pub fn of_all(tools: &Toolbox, references: &[String]) -> Result<BTreeMap<String, String>> {
    let known = read_known(&tools.target)?;
    let ids = tools.engine.image_ids(references)?.into_iter();
    Ok(ids.map(|(reference, id)| (reference, known.get(&id).cloned().unwrap_or(id))).collect())
}

/// Returns the IDs of images after their load, which has found the config digest for the engine's ID. Does not ask the
/// engine: another checkout's clean-up may have removed an image meanwhile.
pub fn of_loaded(tools: &Toolbox, wanted: &[Wanted]) -> Result<BTreeMap<String, String>> {
    let known = read_known(&tools.target)?;
    let wanted = wanted.iter().filter_map(|image| Some((image.reference.clone(), image.id.clone()?)));
    Ok(wanted.map(|(reference, id)| (reference, known.get(&id).cloned().unwrap_or(id))).collect())
}

/// Records that the image with the ID `engine_id` in the engine has the ID `config` on nodes.
pub fn remember(tools: &Toolbox, engine_id: &str, config: &str) -> Result<()> {
    let mut known = read_known(&tools.target)?;
    if engine_id == config || known.get(engine_id).is_some_and(|old| old == config) {
        return Ok(());
    }
    known.insert(engine_id.to_owned(), config.to_owned());
    files::write(&ids_file(&tools.target), &serde_json::to_vec_pretty(&known)?)
}

fn read_known(target: &Utf8Path) -> Result<BTreeMap<String, String>> {
    let file = ids_file(target);
    let Some(text) = files::read(&file)? else { return Ok(BTreeMap::new()) };
    serde_json::from_str(&text).map_err(|error| {
        let what = format!("{file}, which maps the engine's image IDs to those of a node, is not JSON: {error}");
        Failure::new(Class::Image, what).help(format!("rm {}   # the next load writes it again", quote(&file))).into()
    })
}

fn ids_file(target: &Utf8Path) -> Utf8PathBuf {
    target.join("images/ids.json")
}
