//! The images stage builds changed images and loads into each node the images that it lacks.

pub mod archive;
pub mod build;
mod buildkit;
pub mod context;
pub mod ids;
mod ignore;
pub mod load;
pub mod owned;
pub mod prune;
pub mod recipe;
pub mod store;
mod stream;

use anyhow::Result;

use crate::events::StepOutcome;
use crate::node::{Node, NodeImages};
use crate::plan::{Changes, Mode, apply_side_by_side};
use crate::toolbox::Toolbox;

use build::BuildVerdict;
pub use build::{ImageBuilder, ImageState};

/// The stage's name in reports.
const STAGE: &str = "images";

/// One of the project's images after the build.
#[derive(Clone, Debug)]
pub struct Built {
    /// The image's name, without tag.
    pub name: String,
    /// The content tag; `None` where a dry run cannot know it.
    pub tag: Option<String>,
    /// Its ID on nodes (config digest); `None` where a dry run would build it.
    pub id: Option<String>,
    /// The reason for the build; `None` if it is unchanged.
    pub why: Option<String>,
    /// Its inputs; `None` where a dry run cannot know them.
    pub recipe: Option<recipe::Recipe>,
}

impl Built {
    /// Returns `name:tag`, if the tag is known.
    pub fn reference(&self) -> Option<String> {
        Some(format!("{}:{}", self.name, self.tag.as_ref()?))
    }
}

impl ImageBuilder<'_> {
    /// Builds the images that changed, side by side. Meanwhile reads the nodes' content into `on_nodes`. The engine must have
    /// the base images already (see [`crate::origin::Origin::plan`]).
    pub fn build(&self, states: &[ImageState], on_nodes: &mut [(Node, NodeImages)], mode: Mode) -> Result<Vec<Built>> {
        let report = &self.tools.report;
        for unchanged in states.iter().filter(|state| build::decide(state) == BuildVerdict::Unchanged) {
            report.ok(format!("{} unchanged", unchanged.reference()));
            let what = format!("build {}", unchanged.name);
            let why = format!("the engine has {} with the same inputs", unchanged.reference());
            report.recorder().note(STAGE, &what, &why, "", StepOutcome::Skipped);
        }
        let packed: Vec<ImageState>;
        let states = match mode {
            Mode::Apply => {
                packed = states.iter().map(|state| self.pack(state)).collect::<Result<_>>()?;
                &packed
            }
            Mode::DryRun => states,
        };
        let is_due = states.iter().any(|state| build::decide(state) != BuildVerdict::Unchanged);
        let buildx = if is_due { self.buildx_builder()? } else { String::new() };
        let steps = self.steps(&buildx, states);
        std::thread::scope(|scope| {
            if mode == Mode::Apply && !steps.is_empty() {
                for (node, on_node) in on_nodes {
                    // On an error, `load` asks the node again before it sends an image.
                    scope.spawn(|| on_node.content = node.content().ok());
                }
            }
            apply_side_by_side(report, STAGE, mode, steps)
        })?;
        if mode == Mode::Apply {
            build::remember(&self.tools.target, states)?;
        }
        let built = states.iter().map(|state| {
            let (why, id) = match build::decide(state) {
                BuildVerdict::Unchanged => (None, state.id.clone()),
                BuildVerdict::Build { why } if mode == Mode::DryRun => (Some(why), None),
                BuildVerdict::Build { why } => (Some(why), Some(build::id(self.tools, &state.reference())?)),
            };
            Ok(Built { name: state.name.clone(), tag: state.tag(), id, why, recipe: state.recipe.clone() })
        });
        built.collect()
    }
}

/// Loads `wanted` into all nodes, side by side, and reads the IDs back. `on_nodes` are the nodes with their images.
pub fn load(tools: &Toolbox, wanted: &[load::Wanted], on_nodes: &[(Node, NodeImages)], mode: Mode) -> Result<Changes> {
    for (wanted, (node, on_node)) in
        wanted.iter().flat_map(|wanted| on_nodes.iter().map(move |on_node| (wanted, on_node)))
    {
        if load::decide(wanted, on_node) == load::Missing::Nothing {
            let what = format!("load {}", wanted.reference);
            tools.report.skipped(STAGE, &what, &format!("{} has the same image", node.name));
        }
    }
    apply_side_by_side(&tools.report, STAGE, mode, load::steps(tools, wanted, on_nodes))
}
