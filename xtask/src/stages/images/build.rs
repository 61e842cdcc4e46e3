//! Builds the images whose content tag the engine does not have.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, anyhow};
use camino::{Utf8Path, Utf8PathBuf};

use super::recipe::{self, Recipe};
use super::{buildkit, context, ids};
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::origin::Origin;
use crate::plan::Step;
use crate::process::{Process, proxies};
use crate::report::Running;
use crate::settings::ImageSettings;
use crate::toolbox::Toolbox;
use crate::units::quote;

/// The label of images that xtask builds.
pub const LABEL: &str = "app=todo-xtask";

/// The state of one image, as observed before the build.
#[derive(Clone, Debug)]
pub struct ImageState {
    /// The image's name, without tag.
    pub name: String,
    /// Its inputs; `None` while a base image is missing.
    pub recipe: Option<Recipe>,
    /// Official names of base images that the engine does not have yet.
    missing: Vec<String>,
    /// Its ID, if the engine has it under its content tag.
    pub id: Option<String>,
    /// The inputs of the last build in this checkout.
    last: Option<Recipe>,
    /// The tar of the context that `recipe` describes; see [`pack`].
    tar: Option<Arc<File>>,
}

/// The decision about a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildVerdict {
    /// The engine has an image with the same inputs.
    Unchanged,
    /// The image must be built.
    Build {
        /// The changed file, or another reason.
        why: String,
    },
}

impl ImageState {
    /// Returns the content tag; `None` while a base image is missing.
    pub fn tag(&self) -> Option<String> {
        self.recipe.as_ref().map(Recipe::tag)
    }

    /// Returns `name:tag`, or `name:<tag>` while a base image is missing.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.name, self.tag().as_deref().unwrap_or("<tag>"))
    }
}

/// Builds the images of a checkout.
pub struct ImageBuilder<'a> {
    /// The tools; their engine builds.
    pub tools: &'a Toolbox,
    /// Where base images come from.
    pub origin: &'a dyn Origin,
    /// The checkout.
    pub root: &'a Utf8Path,
    /// The images, by name.
    pub images: &'a BTreeMap<String, ImageSettings>,
    /// A CA bundle that builds trust besides the system's.
    pub ca_bundle: Option<Utf8PathBuf>,
    /// Ends a build when it is set.
    pub stale: &'a Arc<AtomicBool>,
}

impl ImageBuilder<'_> {
    /// Reads the state of every image in the settings: files and base images side by side, then the engine's images by tag.
    pub fn observe(&self) -> Result<Vec<ImageState>> {
        let official = self.images.values().flat_map(|image| image.bases.values());
        let bases: Vec<String> = official.map(|base| self.origin.image(base)).collect();
        let (files, bases) = std::thread::scope(|scope| {
            let read = |image: &'_ ImageSettings| context::read(&self.root.join(&image.context));
            let threads: Vec<_> = self.images.values().map(|image| scope.spawn(move || read(image))).collect();
            let bases = self.tools.engine.image_ids(&bases);
            let files: Result<Vec<_>> = threads
                .into_iter()
                .map(|t| t.join().unwrap_or_else(|_| Err(anyhow!("reading an image's files panicked"))))
                .collect();
            (files, bases)
        });
        let bases = bases?;
        let mut states: Vec<ImageState> = self
            .images
            .iter()
            .zip(files?)
            .map(|((name, image), files)| self.image_state(name, image, files, &bases))
            .collect();
        let tagged: Vec<String> =
            states.iter().filter(|state| state.recipe.is_some()).map(ImageState::reference).collect();
        let ids = ids::of_all(self.tools, &tagged)?;
        for state in &mut states {
            state.id = ids.get(&state.reference()).cloned();
        }
        Ok(states)
    }

    /// Returns the state of one image, from its files and the `ids` of base images in the engine.
    fn image_state(
        &self,
        name: &str,
        image: &ImageSettings,
        files: context::Files,
        ids: &BTreeMap<String, String>,
    ) -> ImageState {
        let mut bases = BTreeMap::new();
        let mut missing = Vec::new();
        for official in image.bases.values() {
            match ids.get(&self.origin.image(official)) {
                Some(id) => drop(bases.insert(official.clone(), id.clone())),
                None => missing.push(official.clone()),
            }
        }
        // By official names: the tag must not depend on the names under which the engine has the base images.
        let recipe = missing.is_empty().then(|| Recipe::new(files, image.bases.clone(), bases));
        let last = recipe::last(&self.tools.target, name);
        ImageState { name: name.to_owned(), recipe, missing, id: None, last, tar: None }
    }

    /// Returns `state` with tar and recipe of its context as it is now, if it must be built. Later saves count for the next build.
    pub fn pack(&self, state: &ImageState) -> Result<ImageState> {
        let (Some(recipe), BuildVerdict::Build { .. }) = (&state.recipe, decide(state)) else {
            return Ok(state.clone());
        };
        let (files, tar) = context::pack(&self.folder(&state.name)?, &self.tools.target)?;
        let mut recipe = recipe.clone();
        recipe.files = files;
        Ok(ImageState { recipe: Some(recipe), tar: Some(Arc::new(tar)), ..state.clone() })
    }

    fn folder(&self, name: &str) -> Result<Utf8PathBuf> {
        let image = self.images.get(name).with_context(|| format!("no image is called {name}"))?;
        Ok(self.root.join(&image.context))
    }

    /// Returns the steps with which the builder `buildx` builds changed images; they are independent of each other.
    pub fn steps<'a>(&'a self, buildx: &str, states: &'a [ImageState]) -> Vec<Step<'a>> {
        let mut steps = Vec::new();
        for state in states {
            let (BuildVerdict::Build { why }, Some(image)) = (decide(state), self.images.get(&state.name)) else {
                continue;
            };
            let command = self.command(buildx, image, &state.reference());
            let shown = format!("{command} < (tar of {})", image.context);
            let action = move |running: &Running| self.build_one(command, state, image, running);
            steps.push(Step::new(format!("build {}", state.name), why, shown, action));
        }
        steps
    }

    /// Returns the builder of the engine itself. The user may have chosen one of another kind, which sees neither the engine's
    /// images nor stand-ins.
    pub fn buildx_builder(&self) -> Result<String> {
        if self.tools.engine.private {
            return Ok("default".to_owned());
        }
        let name = self.tools.engine.docker().args(["context", "show"]).read().map_err(|error| {
            Failure::new(Class::Machine, "cannot tell which docker context, and so which builder, is in use")
                .because(error)
                .help("docker context show    (fix what it reports)")
        })?;
        Ok(name.trim().to_owned())
    }

    /// Returns the command with which the builder `buildx` builds `image` as `reference` from a tar on standard input.
    pub fn command(&self, buildx: &str, image: &ImageSettings, reference: &str) -> Process {
        let docker = self.tools.engine.docker();
        let mut process = docker.args(["buildx", "build", "--builder", buildx, "--progress=plain", "--load"]);
        // An attestation would contain the time, turn the image into an index, and be one more blob to load.
        process = process.args(["--provenance=false", "--label", LABEL, "--tag", reference]);
        for (argument, official) in &image.bases {
            process = process.args(["--build-arg".to_owned(), format!("{argument}={}", self.origin.image(official))]);
        }
        // For names that a build would otherwise choose at random. It is the tag, so the tag does not depend on it.
        let tag = reference.rsplit(':').next().unwrap_or_default();
        process = process.args(["--build-arg".to_owned(), format!("BUILD_ID={tag}")]);
        for name in proxies() {
            // Only the name: the value may contain a password, and docker reads it from the environment.
            process = process.args(["--build-arg", name]);
        }
        if let Some(bundle) = &self.ca_bundle {
            process = process.args(["--secret".to_owned(), format!("id=ca,src={bundle}")]);
        }
        process.args(["--file", context::DOCKERFILE, "-"]).deadline(deadlines::IMAGE_BUILD).class(Class::Image)
    }

    fn build_one(
        &self,
        command: Process,
        state: &ImageState,
        image: &ImageSettings,
        running: &Running,
    ) -> Result<String> {
        let (Some(recipe), Some(tar)) = (&state.recipe, &state.tar) else {
            return Err(Failure::new(
                Class::Image,
                format!("cannot build {}: base image {} is not in the engine", state.name, state.missing.join(" and ")),
            )
            .help("cargo xtask images    (it brings the base images first)")
            .into());
        };
        self.run(command.stdin_file(tar.clone()), &state.name, image, running)?;
        recipe::remember(&self.tools.target, &state.name, recipe)?;
        Ok(state.reference())
    }

    /// Runs the `command` of a build and shows its progress in `running`. The error has the failed step and its output.
    pub fn run(&self, command: Process, name: &str, image: &ImageSettings, running: &Running) -> Result<()> {
        let log = self.tools.log(&format!("build-{name}"));
        // The error names the log, so it must hold this build alone.
        let _ = std::fs::remove_file(&log);
        let mut output = buildkit::BuildOutput::default();
        let built = command.log(&log).until(self.stale).stream(|line| {
            if let Some(text) = output.read_line(line) {
                running.progress(text);
            }
        });
        if let Err(error) = built {
            let reason = output.failure().map_or(error, anyhow::Error::msg);
            return Err(Failure::new(Class::Image, format!("{name} did not build"))
                .because(reason)
                .help(format!(
                    "edit {}/Dockerfile or the files that it copies; the whole output: {}",
                    image.context,
                    quote(&log)
                ))
                .into());
        }
        Ok(())
    }
}

/// Returns the references that `images` have if nothing has changed since the last build in this checkout, whose output is
/// in `target`.
pub fn expected<'a>(
    images: &'a BTreeMap<String, ImageSettings>,
    target: &'a Utf8Path,
) -> impl Iterator<Item = String> + 'a {
    let last = |name: &String| Some(format!("{name}:{}", recipe::last(target, name)?.tag()));
    images.keys().filter_map(last)
}

/// Decides whether the image must be built.
pub fn decide(state: &ImageState) -> BuildVerdict {
    let why = match (&state.recipe, &state.last) {
        _ if state.id.is_some() => return BuildVerdict::Unchanged,
        (None, _) => format!("the engine does not have its base image {} yet", state.missing.join(" and ")),
        (Some(_), None) => "not built in this checkout yet".into(),
        (Some(now), Some(last)) => now.difference(last).unwrap_or_else(|| "the engine no longer has it".into()),
    };
    BuildVerdict::Build { why }
}

/// Returns the ID of an image that was just built.
pub fn id(tools: &Toolbox, reference: &str) -> Result<String> {
    ids::of(tools, reference)?.ok_or_else(|| {
        let what = format!("the engine does not have {reference}, which it has just built");
        Failure::new(Class::Image, what).help("run the same command again; if it recurs: cargo xtask doctor").into()
    })
}

/// Records the images that the engine had already, so that the next reason to build compares with the last one used.
pub fn remember(target: &Utf8Path, states: &[ImageState]) -> Result<()> {
    for (state, recipe) in states.iter().filter_map(|state| Some((state, state.recipe.as_ref()?))) {
        if state.id.is_some() && state.last.as_ref() != Some(recipe) {
            recipe::remember(target, &state.name, recipe)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(files: &[(&str, &str)], last: Option<&[(&str, &str)]>, id: Option<&str>) -> ImageState {
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
    fn names_the_reason_to_build() {
        let why = |state: &ImageState| match decide(state) {
            BuildVerdict::Build { why } => why,
            BuildVerdict::Unchanged => "unchanged".into(),
        };
        let now: &[(&str, &str)] = &[("app/a.py", "2")];
        assert_eq!(why(&state(now, None, None)), "not built in this checkout yet");
        assert_eq!(why(&state(now, Some(&[("app/a.py", "1")]), None)), "app/a.py changed");
        assert_eq!(why(&state(now, Some(now), None)), "the engine no longer has it");
        assert_eq!(why(&state(now, Some(now), Some("sha256:aa"))), "unchanged");
        // Back to the files of an earlier build.
        assert_eq!(why(&state(now, Some(&[("app/a.py", "1")]), Some("sha256:aa"))), "unchanged");
        let early = ImageState { recipe: None, missing: vec!["python:3.13".into()], ..state(now, None, None) };
        assert_eq!(why(&early), "the engine does not have its base image python:3.13 yet");
        assert_eq!(early.reference(), "todo-backend:<tag>");
    }
}
