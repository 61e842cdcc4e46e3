//! What a deploy looks at before it decides (read-only probes, side by side), and after its steps.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use crate::credentials::Credentials;
use crate::origin::Origin;
use crate::project::Project;
use crate::stages::cluster::{self, ApiServer, Ingress, State};
use crate::stages::images::load::{self, Wanted};
use crate::stages::images::node::{Node, NodeImages};
use crate::stages::images::{ImageState, build, ids};
use crate::stages::proof::Evidence;
use crate::stages::release;
use crate::toolbox::Toolbox;
use crate::toolchain::Toolchain;

/// How old an answer of the nodes may be when the cluster's own answers are there.
const FRESH: Duration = Duration::from_secs(2);
/// Requests to each route at the end of a deploy that changed something.
const REQUESTS: usize = 20;

/// What there is before the first step.
pub struct Facts {
    /// The minikube profile.
    pub cluster: cluster::ObservedCluster,
    /// What the cluster itself says, or why there is nobody to ask: it does not run, or its API server is away. What an
    /// API server that is there does not answer is an error of the look itself.
    pub live: Result<Live, String>,
    /// Our images in the engine.
    pub images: Vec<ImageState>,
    /// The embedded database's image, where it serves.
    pub database: Option<Wanted>,
}

/// What only a running cluster can say.
pub struct Live {
    /// Its ingress controllers.
    pub ingress: Ingress,
    /// The release.
    pub release: release::ObservedRelease,
    /// The embedded database's Secret, where there is one.
    pub postgres: Option<Value>,
    /// The images of its nodes.
    pub on_nodes: Vec<(Node, NodeImages)>,
}

impl Facts {
    /// Looks at everything. The cluster is asked only after its kube entry has been proven ours.
    pub fn look(project: &Project, tools: &Toolbox, origin: &dyn Origin, credentials: &Credentials) -> Result<Self> {
        Self::gather(project, tools, origin, credentials, || build::observe(project, &tools.engine, origin))
    }

    /// Looks again at what the steps of the cluster stage have changed.
    pub fn look_again(&mut self, project: &Project, toolchain: &Toolchain, credentials: &Credentials) -> Result<()> {
        let images = std::mem::take(&mut self.images);
        *self = Self::gather(project, &toolchain.tools, toolchain.origin.as_ref(), credentials, || Ok(images))?;
        Ok(())
    }

    fn gather(
        project: &Project,
        tools: &Toolbox,
        origin: &dyn Origin,
        credentials: &Credentials,
        images: impl FnOnce() -> Result<Vec<ImageState>>,
    ) -> Result<Self> {
        let cluster = cluster::observe(tools)?;
        let on_nodes = |images: &[ImageState], database: Option<&Wanted>| match cluster.profile.state {
            State::Running => load::observe(&tools.nodes()?, &references(images, database)),
            _ => Ok(Vec::new()),
        };
        let start = Instant::now();
        let (live, images, first) = std::thread::scope(|scope| {
            let live = scope.spawn(|| inside(tools, &cluster, credentials));
            let images = images().and_then(|images| Ok((images, database(project, tools, origin, credentials)?)));
            let first = images.as_ref().ok().map(|(images, database)| on_nodes(images, database.as_ref()));
            (live.join().unwrap_or_else(|_| panicked()), images, first)
        });
        let (live, (images, database)) = (live?, images?);
        let live = match live {
            // A node that has just been started may take commands only after the wait for its API server, and what it said
            // before a long one is no proof.
            Ok(live) => match first {
                Some(Ok(on_nodes)) if start.elapsed() < FRESH => Ok(Live { on_nodes, ..live }),
                _ => Ok(Live { on_nodes: on_nodes(&images, database.as_ref())?, ..live }),
            },
            Err(silence) => Err(silence),
        };
        Ok(Self { cluster, live, images, database })
    }
}

impl Facts {
    /// References of all images that a new node will need besides Kubernetes' own, as far as they are known.
    pub fn images_for_a_new_node(&self, project: &Project) -> Vec<String> {
        let ours = self.images.iter().filter(|image| image.id.is_some()).map(ImageState::reference);
        let database = self.database.iter().map(|image| image.reference.clone());
        ours.chain(database).chain([project.settings.cluster.ingress_image.clone()]).collect()
    }
}

impl Live {
    /// A cluster that is yet to be made: it holds nothing.
    pub fn nothing(tools: &Toolbox) -> Self {
        let on_nodes = vec![(tools.first_node(), NodeImages::default())];
        Self { ingress: Ingress::default(), release: release::ObservedRelease::default(), postgres: None, on_nodes }
    }

    /// What the proof needs of it; `None` if there is no namespace.
    pub fn evidence(&self) -> Option<Evidence> {
        let nodes = self.on_nodes.iter().map(|(node, on_node)| (node.name.clone(), on_node.names.clone())).collect();
        Some(Evidence { snapshot: self.release.snapshot.clone()?, nodes, answers: None })
    }
}

/// What there is after the last step.
pub struct Applied {
    /// IDs of the images by reference.
    pub ids: BTreeMap<String, String>,
    /// What the proof is made from; `None`: there is no namespace.
    pub evidence: Option<Evidence>,
}

impl Applied {
    /// Where nothing was done, what the decision was made from is proof enough of all but the routes.
    pub fn unchanged(wanted: &[Wanted], live: &Live) -> Self {
        let ids = wanted.iter().filter_map(|image| Some((image.reference.clone(), image.id.clone()?))).collect();
        Self { ids, evidence: live.evidence() }
    }

    /// Looks at everything; `address` is where a user would go.
    pub fn look(project: &Project, tools: &Toolbox, wanted: &[Wanted], address: &str) -> Result<Self> {
        let evidence = Evidence::take(tools, address, REQUESTS)?;
        Ok(Self { ids: ids::of_loaded(project, wanted)?, evidence: Some(evidence) })
    }
}

const NOT_RUNNING: &str = "the cluster does not run";

fn database(
    project: &Project,
    tools: &Toolbox,
    origin: &dyn Origin,
    credentials: &Credentials,
) -> Result<Option<Wanted>> {
    let reference = || origin.image(&project.settings.database.image);
    credentials.embedded.then(|| Wanted::of(project, &tools.engine, &reference())).transpose()
}

fn references(images: &[ImageState], database: Option<&Wanted>) -> Vec<String> {
    images.iter().map(ImageState::reference).chain(database.map(|image| image.reference.clone())).collect()
}

/// What the cluster's API server says, without what only its nodes know.
fn inside(
    tools: &Toolbox,
    cluster: &cluster::ObservedCluster,
    credentials: &Credentials,
) -> Result<Result<Live, String>> {
    if cluster.profile.state != State::Running {
        return Ok(Err(NOT_RUNNING.to_owned()));
    }
    match cluster::wait_for_api_server(tools, &cluster.profile)? {
        ApiServer::Ready => {}
        ApiServer::Starting(words) => return Ok(Err(format!("its API server did not become ready: {words}"))),
        ApiServer::Away(words) => return Ok(Err(words)),
    }
    std::thread::scope(|scope| {
        let ingress = scope.spawn(|| Ingress::observe(tools));
        let postgres = scope.spawn(|| credentials.postgres(tools));
        let release = release::observe(tools);
        let (ingress, postgres) = (ingress.join(), postgres.join());
        Ok(Ok(Live {
            ingress: ingress.unwrap_or_else(|_| panicked())?,
            release: release?,
            postgres: postgres.unwrap_or_else(|_| panicked())?,
            on_nodes: Vec::new(),
        }))
    })
}

fn panicked<T>() -> Result<T> {
    bail!("a probe panicked")
}
