//! The images stage: builds what changed, and loads into the nodes what they lack.

pub mod archive;
pub mod build;
mod buildkit;
pub mod context;
pub mod held;
pub mod ids;
mod ignore;
pub mod load;
pub mod prune;
pub mod recipe;
pub mod store;
mod stream;

use anyhow::Result;

use crate::engine::Engine;
use crate::events::StepOutcome;
use crate::node::{Node, NodeImages};
use crate::origin::Origin;
use crate::plan::{Mode, apply_side_by_side};
use crate::project::Project;

use build::Verdict;
pub use build::{ImageState, observe};

/// The stage's name in reports.
const STAGE: &str = "images";

/// One of our images after the stage.
#[derive(Clone, Debug)]
pub struct Built {
    /// The image's name, without tag.
    pub name: String,
    /// The content tag; `None` where a dry run cannot know it.
    pub tag: Option<String>,
    /// Its ID as nodes know it (config digest); `None` where a dry run has not built it.
    pub id: Option<String>,
    /// Why it was built; `None` if it was not.
    pub why: Option<String>,
    /// What goes into it; `None` where a dry run cannot know it.
    pub recipe: Option<recipe::Recipe>,
}

impl Built {
    /// `name:tag`, once the tag is known.
    pub fn reference(&self) -> Option<String> {
        Some(format!("{}:{}", self.name, self.tag.as_ref()?))
    }
}

/// Builds what of `seen` changed, side by side; meanwhile `on_nodes` are completed with the nodes' content. The base images
/// must have been brought before (see [`Origin::plan`]).
pub fn build(
    project: &Project,
    engine: &Engine,
    origin: &dyn Origin,
    seen: &[ImageState],
    on_nodes: &mut [(Node, NodeImages)],
    mode: Mode,
) -> Result<Vec<Built>> {
    for unchanged in seen.iter().filter(|seen| build::decide(seen) == Verdict::Unchanged) {
        project.report.ok(format!("{} unchanged", unchanged.reference()));
        let what = format!("build {}", unchanged.name);
        let why = format!("the engine has {} of these files", unchanged.reference());
        project.report.recorder().note(STAGE, &what, &why, "", StepOutcome::Skipped);
    }
    let packed: Vec<ImageState>;
    let seen = match mode {
        Mode::Apply => {
            packed = seen.iter().map(|seen| build::pack(project, seen)).collect::<Result<_>>()?;
            &packed
        }
        Mode::DryRun => seen,
    };
    let steps = build::steps(project, engine, origin, seen)?;
    std::thread::scope(|scope| {
        if mode == Mode::Apply && !steps.is_empty() {
            for (node, on_node) in on_nodes {
                // One that does not say is asked again before an image is sent.
                scope.spawn(|| on_node.content = node.content().ok());
            }
        }
        apply_side_by_side(project, STAGE, mode, steps)
    })?;
    if mode == Mode::Apply {
        build::remember(project, seen)?;
    }
    let built = seen.iter().map(|seen| {
        let (why, id) = match build::decide(seen) {
            Verdict::Unchanged => (None, seen.id.clone()),
            Verdict::Build { why } if mode == Mode::DryRun => (Some(why), None),
            Verdict::Build { why } => (Some(why), Some(build::id(project, engine, &seen.reference())?)),
        };
        Ok(Built { name: seen.name.clone(), tag: seen.tag(), id, why, recipe: seen.recipe.clone() })
    });
    built.collect()
}

/// Brings `wanted` to all nodes, side by side, and reads the IDs back; `on_nodes` is what the nodes have. Gives the number
/// of loads.
pub fn load(
    project: &Project,
    engine: &Engine,
    wanted: &[load::Wanted],
    on_nodes: &[(Node, NodeImages)],
    mode: Mode,
) -> Result<usize> {
    for (wanted, (node, on_node)) in
        wanted.iter().flat_map(|wanted| on_nodes.iter().map(move |on_node| (wanted, on_node)))
    {
        if load::decide(wanted, on_node) == load::Missing::Nothing {
            let what = format!("load {}", wanted.reference);
            project.report.skipped(STAGE, &what, &format!("{} has this very image", node.name));
        }
    }
    apply_side_by_side(project, STAGE, mode, load::steps(project, engine, wanted, on_nodes))
}
