//! The images of `dev`: an application's dependencies and its supervisor, without the sources.

use std::fs::File;
use std::sync::Arc;

use anyhow::Result;
use camino::Utf8Path;

use super::{App, testing};
use crate::failure::{Class, Failure};
use crate::plan::Step;
use crate::settings::Settings;
use crate::stages::images::context::{self, Files};
use crate::stages::images::prune::EngineBuilds;
use crate::stages::images::recipe::{self, Recipe};
use crate::toolchain::Toolchain;

/// The folder of an application with the program that runs it in its container.
const SUPERVISOR: &str = "dev";
/// Number of kept builds of each image, so that switching back to a branch needs no build.
const KEEP: usize = 3;

/// Returns whether the file at `path` of an application is part of its image. Other files are sent to the container.
pub fn is_part(path: &str) -> bool {
    ["Dockerfile", ".dockerignore", "requirements.txt", "requirements-dev.txt", "package.json", "package-lock.json"]
        .contains(&path)
        || path.split('/').next() == Some(SUPERVISOR)
}

/// Returns every file of an application, with its supervisor, by its path in the application's folder.
pub fn files(folder: &Utf8Path) -> Result<Files> {
    with_supervisor(folder, context::read(folder)?)
}

fn with_supervisor(folder: &Utf8Path, mut files: Files) -> Result<Files> {
    let supervisor = context::tree(&folder.join(SUPERVISOR))?;
    files.extend(supervisor.into_iter().map(|(path, what)| (format!("{SUPERVISOR}/{path}"), what)));
    Ok(files)
}

/// Returns the files that are part of the image.
pub fn parts(files: &Files) -> Files {
    files.iter().filter(|(path, _)| is_part(path)).map(|(path, what)| (path.clone(), what.clone())).collect()
}

/// Returns the files that are part of the image of `app`, and a tar of the build context with exactly these bytes.
fn pack(folder: &Utf8Path, target: &Utf8Path) -> Result<(Files, File)> {
    let (files, tar) = context::pack(folder, target)?;
    Ok((parts(&with_supervisor(folder, files)?), tar))
}

/// An image of `dev`.
pub struct DevImage {
    /// Its reference.
    pub reference: String,
    /// The build that is due, if the engine does not have it.
    build: Option<DueBuild>,
}

/// A build of an image of `dev`.
struct DueBuild {
    name: String,
    target: String,
    why: String,
    recipe: Recipe,
    tar: File,
    buildx: String,
}

/// Reads the state of the image of `app` for `files`. A build that is due, and its tag, include saves after `files` were
/// read.
pub fn observe(settings: &Settings, toolchain: &Toolchain, app: App, target: &str, files: &Files) -> Result<DevImage> {
    let builder = toolchain.image_builder(&settings.images);
    let folder = app.folder(settings, builder.root);
    let (tools, origin) = (&toolchain.tools, toolchain.origin.as_ref());
    let (image, settings) = app.image(settings);
    let bases: Vec<String> = settings.bases.values().map(|base| origin.image(base)).collect();
    let ids = tools.engine.image_ids(&bases)?;
    if let Some(missing) = bases.iter().find(|base| !ids.contains_key(*base)) {
        let what = format!("the engine does not have the base image {missing}");
        return Err(Failure::new(Class::Image, what).help("cargo xtask images").into());
    }
    let mut args = settings.bases.clone();
    args.insert("target".to_owned(), target.to_owned());
    let name = format!("{image}-{}", if target == testing::TARGET { "dev-test" } else { target });
    let last = recipe::last(&tools.target, &name);
    let find_image = |files: Files| -> Result<(Recipe, String, bool)> {
        let recipe = Recipe::new(files, args.clone(), ids.clone());
        let reference = format!("{name}:{}", recipe.tag());
        let is_built = tools.engine.image_id(&reference)?.is_some();
        // The next build explains its difference to the image used last.
        if is_built && last.as_ref() != Some(&recipe) {
            recipe::remember(&tools.target, &name, &recipe)?;
        }
        Ok((recipe, reference, is_built))
    };
    let (_, reference, is_built) = find_image(parts(files))?;
    if is_built {
        return Ok(DevImage { reference, build: None });
    }
    // The tag describes the packed bytes, even if the user saves again from here on.
    let (packed, tar) = pack(&folder, &tools.target)?;
    let (recipe, reference, is_built) = find_image(packed)?;
    if is_built {
        return Ok(DevImage { reference, build: None });
    }
    let why = match last {
        None => "not built in this checkout yet".to_owned(),
        Some(last) => recipe.difference(&last).unwrap_or_else(|| "the engine no longer has it".to_owned()),
    };
    let buildx = builder.buildx_builder()?;
    Ok(DevImage { reference, build: Some(DueBuild { name, target: target.to_owned(), why, recipe, tar, buildx }) })
}

/// Returns the step that builds the `image` of `app`, if that is due.
pub fn decide<'a>(settings: &'a Settings, toolchain: &'a Toolchain, app: App, image: DevImage) -> Option<Step<'a>> {
    let DevImage { reference, build } = image;
    let DueBuild { name, target, why, recipe, tar, buildx } = build?;
    let builder = toolchain.image_builder(&settings.images);
    let folder = app.folder(settings, builder.root);
    let (_, settings) = app.image(settings);
    let context = |name: &str, part: &str| format!("--build-context={name}={}", folder.join(part));
    let command = builder.command(&buildx, settings, &reference).args([
        "--target",
        &target,
        &context("supervisor", SUPERVISOR),
        &context("tests", "tests"),
    ]);
    let shown = format!("{command} < (tar of {})", settings.context);
    Some(Step::new(format!("build {name}"), why, shown, move |running| {
        builder.run(command.stdin_file(Arc::new(tar)), &name, settings, running)?;
        recipe::remember(&toolchain.tools.target, &name, &recipe)?;
        // A build from cached layers has their age, so it could count as an old one.
        let needed = [reference].into();
        // If the engine does not answer, old builds stay until the next build.
        let engine = &toolchain.tools.engine;
        let old = EngineBuilds::observe(engine).map(|builds| builds.steps(engine, &[&name], KEEP, &needed));
        for old in old.unwrap_or_default() {
            // An image that a container uses stays.
            let _ = (old.action)(running);
        }
        Ok(String::new())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkout;
    use camino::Utf8PathBuf;
    use sha2::{Digest, Sha256};
    use std::io::Read;

    fn folders() -> [Utf8PathBuf; 2] {
        let root = checkout::find(None);
        let settings = Settings::read(&root).unwrap();
        crate::commands::dev::APPS.map(|app| app.folder(&settings, &root))
    }

    #[test]
    fn dockerfiles_set_the_mode_of_copied_files_despite_the_umask() {
        for folder in folders() {
            let text = std::fs::read_to_string(folder.join("Dockerfile")).unwrap();
            for line in text.lines() {
                let copies_all = ["supervisor", "tests"].iter().any(|name| {
                    line.strip_prefix("COPY ").is_some_and(|rest| {
                        rest.contains(&format!("--from={name} ")) && rest.split(' ').any(|word| word == ".")
                    })
                });
                assert!(!copies_all || line.contains(" --chmod=755 "), "{line}");
            }
        }
    }

    #[test]
    fn the_tag_describes_the_bytes_that_are_sent() {
        let temp = tempfile::tempdir().unwrap();
        for folder in folders() {
            let (packed, tar) = pack(&folder, Utf8Path::from_path(temp.path()).unwrap()).unwrap();
            assert_eq!(packed, parts(&files(&folder).unwrap()), "the next look finds the image");
            for entry in tar::Archive::new(tar).entries().unwrap() {
                let mut entry = entry.unwrap();
                let path = entry.path().unwrap().to_string_lossy().into_owned();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                if is_part(&path) {
                    assert_eq!(
                        packed[&path].rsplit(' ').next(),
                        Some(&*crate::units::hex(&Sha256::digest(&content))),
                        "{path}"
                    );
                }
            }
        }
    }

    #[test]
    fn dependencies_and_the_supervisor_are_part_of_the_image_and_sources_are_not() {
        assert!(
            ["requirements.txt", "package-lock.json", "Dockerfile", "dev/supervisor.py"].iter().all(|p| is_part(p))
        );
        assert!(!["app/main.py", "devices.ts", "app/package.json", "next.config.ts"].iter().any(|p| is_part(p)));
    }
}
