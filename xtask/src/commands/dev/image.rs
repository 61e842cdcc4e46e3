//! The images of `dev`: an application's dependencies and its supervisor, without the sources.

use std::fs::File;
use std::sync::Arc;

use anyhow::Result;

use super::{App, testing};
use crate::failure::{Class, Failure};
use crate::plan::Step;
use crate::project::Project;
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
pub fn files(project: &Project, app: App) -> Result<Files> {
    with_supervisor(project, app, context::read(&app.folder(project))?)
}

fn with_supervisor(project: &Project, app: App, mut files: Files) -> Result<Files> {
    let supervisor = context::tree(&app.folder(project).join(SUPERVISOR))?;
    files.extend(supervisor.into_iter().map(|(path, what)| (format!("{SUPERVISOR}/{path}"), what)));
    Ok(files)
}

/// Returns the files that are part of the image.
pub fn parts(files: &Files) -> Files {
    files.iter().filter(|(path, _)| is_part(path)).map(|(path, what)| (path.clone(), what.clone())).collect()
}

/// Returns the files that are part of the image of `app`, and a tar of the build context with exactly these bytes.
fn pack(project: &Project, app: App) -> Result<(Files, File)> {
    let (files, tar) = context::pack(&app.folder(project), &project.target())?;
    Ok((parts(&with_supervisor(project, app, files)?), tar))
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
pub fn observe(project: &Project, toolchain: &Toolchain, app: App, target: &str, files: &Files) -> Result<DevImage> {
    let (tools, origin) = (&toolchain.tools, toolchain.origin.as_ref());
    let (image, settings) = app.image(project);
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
    let (packed, tar) = pack(project, app)?;
    let (recipe, reference, is_built) = find_image(packed)?;
    if is_built {
        return Ok(DevImage { reference, build: None });
    }
    let why = match last {
        None => "not built in this checkout yet".to_owned(),
        Some(last) => recipe.difference(&last).unwrap_or_else(|| "the engine no longer has it".to_owned()),
    };
    let buildx = toolchain.image_builder(&project.settings.images).buildx_builder()?;
    Ok(DevImage { reference, build: Some(DueBuild { name, target: target.to_owned(), why, recipe, tar, buildx }) })
}

/// Returns the step that builds the `image` of `app`, if that is due.
pub fn decide<'a>(project: &'a Project, toolchain: &'a Toolchain, app: App, image: DevImage) -> Option<Step<'a>> {
    let DevImage { reference, build } = image;
    let DueBuild { name, target, why, recipe, tar, buildx } = build?;
    let builder = toolchain.image_builder(&project.settings.images);
    let (_, settings) = app.image(project);
    let context = |name: &str, folder: &str| format!("--build-context={name}={}", app.folder(project).join(folder));
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
    use crate::report::Report;
    use sha2::{Digest, Sha256};
    use std::io::Read;

    #[test]
    fn dockerfiles_set_the_mode_of_copied_files_despite_the_umask() {
        let project = Project::open(None, crate::project::Options::default(), Report::new(false)).unwrap();
        for app in super::super::APPS {
            let text = std::fs::read_to_string(app.folder(&project).join("Dockerfile")).unwrap();
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
        let project = Project::open(None, crate::project::Options::default(), Report::new(false)).unwrap();
        for app in super::super::APPS {
            let (packed, tar) = pack(&project, app).unwrap();
            assert_eq!(packed, parts(&files(&project, app).unwrap()), "the next look finds the image");
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
