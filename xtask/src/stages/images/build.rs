//! Builds the images whose content tag the engine does not have.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use camino::Utf8PathBuf;

use super::recipe::{self, Recipe};
use super::{buildkit, context, ids};
use crate::deadlines;
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::origin::Origin;
use crate::plan::Step;
use crate::process::{Process, proxies};
use crate::project::Project;
use crate::report::Running;
use crate::settings::ImageSettings;

/// The label of what xtask builds.
pub const LABEL: &str = "app=todo-xtask";

/// What there is of one image.
#[derive(Clone, Debug)]
pub struct ImageState {
    /// The image's name, without tag.
    pub name: String,
    /// What goes into it; `None` while a base image is missing.
    pub recipe: Option<Recipe>,
    /// Official names of base images that the engine does not have yet.
    missing: Vec<String>,
    /// Its ID if the engine has it under its content tag.
    pub id: Option<String>,
    /// What was built last in this checkout.
    last: Option<Recipe>,
    /// The tar of the context that `recipe` describes; see [`pack`].
    tar: Option<Arc<File>>,
}

/// Whether to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The engine has what these files would become.
    Unchanged,
    /// It must be built.
    Build {
        /// Which file changed, or what else is the reason.
        why: String,
    },
}

impl ImageState {
    /// The content tag, if it can be known yet.
    pub fn tag(&self) -> Option<String> {
        self.recipe.as_ref().map(Recipe::tag)
    }

    /// `name:tag`, or `name:<tag>` while that cannot be known.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.name, self.tag().as_deref().unwrap_or("<tag>"))
    }
}

/// Looks at every image of the settings: files and base images side by side, then the engine's images by their tags.
pub fn observe(project: &Project, engine: &Engine, origin: &dyn Origin) -> Result<Vec<ImageState>> {
    let images = &project.settings.images;
    let bases: Vec<String> = project.settings.bases().map(|base| origin.image(base)).collect();
    let (files, bases) = std::thread::scope(|scope| {
        let read = |image: &'_ ImageSettings| context::read(&project.root.join(&image.context));
        let threads: Vec<_> = images.values().map(|image| scope.spawn(move || read(image))).collect();
        let bases = engine.image_ids(&bases);
        let files: Result<Vec<_>> = threads
            .into_iter()
            .map(|t| t.join().unwrap_or_else(|_| Err(anyhow!("the look at an image's files panicked"))))
            .collect();
        (files, bases)
    });
    let bases = bases?;
    let mut seen: Vec<ImageState> = images
        .iter()
        .zip(files?)
        .map(|((name, image), files)| look(project, origin, name, image, files, &bases))
        .collect();
    let tagged: Vec<String> = seen.iter().filter(|seen| seen.recipe.is_some()).map(ImageState::reference).collect();
    let ids = ids::of_all(project, engine, &tagged)?;
    for seen in &mut seen {
        seen.id = ids.get(&seen.reference()).cloned();
    }
    Ok(seen)
}

/// The references that the images will have if nothing has changed since the last build in this checkout.
pub fn expected(project: &Project) -> impl Iterator<Item = String> + '_ {
    let last = |name: &String| Some(format!("{name}:{}", recipe::last(project, name)?.tag()));
    project.settings.images.keys().filter_map(last)
}

/// One image from its files and the IDs of the base images that the engine has.
fn look(
    project: &Project,
    origin: &dyn Origin,
    name: &str,
    image: &ImageSettings,
    files: context::Files,
    ids: &BTreeMap<String, String>,
) -> ImageState {
    let mut bases = BTreeMap::new();
    let mut missing = Vec::new();
    for official in image.bases.values() {
        match ids.get(&origin.image(official)) {
            Some(id) => drop(bases.insert(official.clone(), id.clone())),
            None => missing.push(official.clone()),
        }
    }
    // By their official names: where the engine has them under others, what counts is what they are.
    let recipe = missing.is_empty().then(|| Recipe::new(files, image.bases.clone(), bases));
    ImageState { name: name.to_owned(), recipe, missing, id: None, last: recipe::last(project, name), tar: None }
}

/// Whether the image must be built, and why.
pub fn decide(seen: &ImageState) -> Verdict {
    let why = match (&seen.recipe, &seen.last) {
        _ if seen.id.is_some() => return Verdict::Unchanged,
        (None, _) => format!("its base image {} is not here yet", seen.missing.join(" and ")),
        (Some(_), None) => "never built here".into(),
        (Some(now), Some(last)) => now.difference(last).unwrap_or_else(|| "the engine has lost it".into()),
    };
    Verdict::Build { why }
}

/// Returns `seen` with the tar of its context, if it must be built. From here on its recipe is that of the tar: a file
/// that is saved later is part of the next build.
pub fn pack(project: &Project, seen: &ImageState) -> Result<ImageState> {
    let (Some(recipe), Verdict::Build { .. }) = (&seen.recipe, decide(seen)) else { return Ok(seen.clone()) };
    let (files, tar) = context::pack(&folder(project, &seen.name)?, &project.target())?;
    let mut recipe = recipe.clone();
    recipe.files = files;
    Ok(ImageState { recipe: Some(recipe), tar: Some(Arc::new(tar)), ..seen.clone() })
}

fn folder(project: &Project, name: &str) -> Result<Utf8PathBuf> {
    let image = project.settings.images.get(name).with_context(|| format!("no image is called {name}"))?;
    Ok(project.root.join(&image.context))
}

/// The steps for what must be built; none if nothing changed. They are independent of each other.
pub fn steps<'a>(
    project: &'a Project,
    engine: &'a Engine,
    origin: &'a dyn Origin,
    seen: &'a [ImageState],
) -> Result<Vec<Step<'a>>> {
    let mut steps = Vec::new();
    for seen in seen {
        let (Verdict::Build { why }, Some(image)) = (decide(seen), project.settings.images.get(&seen.name)) else {
            continue;
        };
        let command = command(project, engine, origin, image, &seen.reference())?;
        let shown = format!("{command} < (tar of {})", image.context);
        let action = move |running: &Running| build(project, command, seen, image, running);
        steps.push(Step::new(format!("build {}", seen.name), why, shown, action));
    }
    Ok(steps)
}

/// The command that builds `image` as `reference` from the tar on its standard input.
pub fn command(
    project: &Project,
    engine: &Engine,
    origin: &dyn Origin,
    image: &ImageSettings,
    reference: &str,
) -> Result<Process> {
    // A builder of another kind that the user may have chosen sees neither the engine's images nor stand-ins.
    let builder = match engine.private {
        true => "default".to_owned(),
        false => engine.docker().args(["context", "show"]).read().map_err(|error| {
            let what = format!("docker does not say which context is in use, and so which builder: {error:#}");
            Failure::new(Class::Machine, what).help("docker context show    (mend what it says)")
        })?,
    };
    let mut process =
        engine.docker().args(["buildx", "build", "--builder", builder.trim(), "--progress=plain", "--load"]);
    // An attestation would hold the time, make an index of the image and be one more blob to load.
    process = process.args(["--provenance=false", "--label", LABEL, "--tag", reference]);
    for (argument, official) in &image.bases {
        process = process.args(["--build-arg".to_owned(), format!("{argument}={}", origin.image(official))]);
    }
    // For what a build would otherwise name at random; not part of the tag, which it is.
    let tag = reference.rsplit(':').next().unwrap_or_default();
    process = process.args(["--build-arg".to_owned(), format!("BUILD_ID={tag}")]);
    for name in proxies() {
        // By name alone: the value may hold a password, and docker takes it from the environment.
        process = process.args(["--build-arg", name]);
    }
    if let Some(bundle) = project.ca_bundle() {
        process = process.args(["--secret".to_owned(), format!("id=ca,src={bundle}")]);
    }
    Ok(process.args(["--file", context::DOCKERFILE, "-"]).deadline(deadlines::IMAGE_BUILD))
}

fn build(
    project: &Project,
    command: Process,
    seen: &ImageState,
    image: &ImageSettings,
    running: &Running,
) -> Result<String> {
    let (Some(recipe), Some(tar)) = (&seen.recipe, &seen.tar) else {
        return Err(Failure::new(
            Class::Image,
            format!("{} cannot be built: {} is not in the engine", seen.name, seen.missing.join(" and ")),
        )
        .help("cargo xtask images    (it brings the base images first)")
        .into());
    };
    run(project, command.stdin_file(tar.clone()), &seen.name, image, running)?;
    recipe::remember(project, &seen.name, recipe)?;
    Ok(seen.reference())
}

/// Runs the `command` of a build with its progress in `running`; an error says what did not build and why.
pub fn run(project: &Project, command: Process, name: &str, image: &ImageSettings, running: &Running) -> Result<()> {
    let log = project.log(&format!("build-{name}"));
    // Of this build alone: the log is named in the error and read as a whole.
    let _ = std::fs::remove_file(&log);
    let mut output = buildkit::Output::default();
    let built = command.log(&log).until(&project.stale).stream(|line| {
        if let Some(text) = output.line(line) {
            running.progress(text);
        }
    });
    if let Err(error) = built {
        let what = output.failure().unwrap_or_else(|| format!("{error:#}"));
        return Err(Failure::new(Class::Image, format!("{name} did not build: {what}"))
            .help(format!("correct {}/Dockerfile or what it copies; the whole output: {log}", image.context))
            .into());
    }
    Ok(())
}

/// Returns the ID of an image that was just built.
pub fn id(project: &Project, engine: &Engine, reference: &str) -> Result<String> {
    ids::of(project, engine, reference)?.ok_or_else(|| {
        let what = format!("the engine does not have {reference}, which it has just built");
        Failure::new(Class::Image, what).help("run the same command again; if it stays so: cargo xtask doctor").into()
    })
}

/// Remembers what the engine had already, so that the next difference is told against what was used last.
pub fn remember(project: &Project, seen: &[ImageState]) -> Result<()> {
    for (seen, recipe) in seen.iter().filter_map(|seen| Some((seen, seen.recipe.as_ref()?))) {
        if seen.id.is_some() && seen.last.as_ref() != Some(recipe) {
            recipe::remember(project, &seen.name, recipe)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(files: &[(&str, &str)], last: Option<&[(&str, &str)]>, id: Option<&str>) -> ImageState {
        let recipe = |files: &[(&str, &str)]| {
            let files = files.iter().map(|(path, digest)| (path.to_string(), digest.to_string())).collect();
            Recipe::new(files, BTreeMap::new(), BTreeMap::new())
        };
        ImageState {
            name: "todo-backend".into(),
            recipe: Some(recipe(files)),
            missing: Vec::new(),
            id: id.map(str::to_owned),
            last: last.map(recipe),
            tar: None,
        }
    }

    #[test]
    fn the_reason_to_build_is_told() {
        let why = |seen: &ImageState| match decide(seen) {
            Verdict::Build { why } => why,
            Verdict::Unchanged => "unchanged".into(),
        };
        let now: &[(&str, &str)] = &[("app/a.py", "2")];
        assert_eq!(why(&seen(now, None, None)), "never built here");
        assert_eq!(why(&seen(now, Some(&[("app/a.py", "1")]), None)), "app/a.py changed");
        assert_eq!(why(&seen(now, Some(now), None)), "the engine has lost it");
        assert_eq!(why(&seen(now, Some(now), Some("sha256:aa"))), "unchanged");
        // Gone back to what was built some time ago: no build either.
        assert_eq!(why(&seen(now, Some(&[("app/a.py", "1")]), Some("sha256:aa"))), "unchanged");
        let early = ImageState { recipe: None, missing: vec!["python:3.13".into()], ..seen(now, None, None) };
        assert_eq!(why(&early), "its base image python:3.13 is not here yet");
        assert_eq!(early.reference(), "todo-backend:<tag>");
    }
}
