//! The changes of the next deploy: sources, `.env` and chart compared with the last verified deploy.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::credentials;
use crate::dotenv::DotenvSource;
use crate::plan::Mode;
use crate::settings::Settings;
use crate::stages::images::build::{self, BuildVerdict, ImageState};
use crate::stages::release::{Desired, ObservedRelease, Record};
use crate::toolchain::Toolchain;

/// Returns the changes of the next deploy in words; `None` if nothing was verified yet. A mistake in `.env`, which stops a
/// deploy, is listed instead of the changes.
pub fn list(
    settings: &Settings,
    dotenv: &DotenvSource,
    toolchain: &Toolchain,
    observed: &ObservedRelease,
) -> Option<Vec<String>> {
    let record = observed.record.as_ref()?;
    let first = |error: anyhow::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
    match has_readable_dotenv(dotenv) {
        Ok(true) => {}
        Ok(false) => return None,
        Err(error) => return Some(vec![first(error)]),
    }
    let mut pending =
        differences(settings, dotenv, toolchain, observed, record).unwrap_or_else(|error| vec![first(error)]);
    let drifted = observed.snapshot.as_ref().is_some_and(|snapshot| !record.drift(snapshot).is_empty());
    pending.extend(drifted.then(|| "what was changed by hand is reverted".to_owned()));
    Some(pending)
}

/// Returns whether `.env` can be compared. Does not read a pipe, because its writer may ask a person.
fn has_readable_dotenv(dotenv: &DotenvSource) -> Result<bool> {
    Ok(!dotenv.is_pipe() && dotenv.is_there()?)
}

fn differences(
    settings: &Settings,
    dotenv: &DotenvSource,
    toolchain: &Toolchain,
    observed: &ObservedRelease,
    record: &Record,
) -> Result<Vec<String>> {
    let seen = toolchain.image_builder(&settings.images).observe()?;
    let credentials = credentials::read(dotenv, settings, &toolchain.tools.report, &record.environment)?;
    let postgres = credentials.postgres(&toolchain.tools)?;
    let secrets = credentials.plan(&toolchain.tools, observed, postgres.as_ref(), Mode::DryRun)?;
    let tags: BTreeMap<String, String> =
        seen.iter().filter_map(|seen| Some((seen.name.clone(), seen.tag()?))).collect();
    let desired = Desired::new(settings, &dotenv.root, &record.environment, &tags, &secrets.names)?;
    let differences = record.differences(&desired.fingerprint);
    Ok(differences.into_iter().map(|difference| with_file(difference, &seen)).collect())
}

/// Adds the changed file to a difference such as `image todo-backend changed`, if that file is known.
fn with_file(difference: String, seen: &[ImageState]) -> String {
    let image = seen.iter().find(|seen| difference == format!("image {} changed", seen.name));
    match image.map(build::decide) {
        Some(BuildVerdict::Build { why }) => format!("{difference}: {why}"),
        _ => difference,
    }
}
