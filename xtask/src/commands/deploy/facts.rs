//! The observations of a deploy: before it decides (read-only, in parallel), and after its steps.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use crate::credentials::Credentials;
use crate::node::{Node, NodeImages};
use crate::origin::Origin;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::stages::cluster::{self, ApiServer, ObservedIngress, Profile, ProfileState};
use crate::stages::images::load::{self, Wanted};
use crate::stages::images::{ImageBuilder, ImageState, ids};
use crate::stages::proof::LiveState;
use crate::stages::release;
use crate::toolbox::Toolbox;
use crate::toolchain::Toolchain;

/// Maximum age of the nodes' image lists when the API server's answers arrive.
const FRESH: Duration = Duration::from_secs(2);
/// Requests to each route in the proof of a deploy that changed something.
const REQUESTS: usize = 20;

/// The state before the first step.
pub struct Facts {
    /// The minikube profile.
    pub profile: Profile,
    /// The state in the cluster, or why it is unknown: the cluster does not run, or its API server does not respond. A
    /// failed request to an API server that responds is an error of the observation itself.
    pub live: Result<LiveCluster, String>,
    /// The applications' images in the engine.
    pub images: Vec<ImageState>,
    /// The embedded database's image, if that database is in use.
    pub database: Option<Wanted>,
}

/// The state that only a running cluster knows.
pub struct LiveCluster {
    /// The cluster's ingress controllers.
    pub ingress: ObservedIngress,
    /// The release.
    pub release: release::ObservedRelease,
    /// The embedded database's Secret, if it exists.
    pub postgres: Option<Value>,
    /// The images on each node.
    pub on_nodes: Vec<(Node, NodeImages)>,
}

impl Facts {
    /// Observes everything. Queries the cluster only after checking that the kubeconfig leads to this project's cluster.
    pub fn observe(settings: &Settings, builder: &ImageBuilder<'_>, credentials: &Credentials) -> Result<Self> {
        Self::collect(settings, builder.tools, builder.origin, credentials, || builder.observe())
    }

    /// Observes again what the steps of the cluster stage may have changed.
    pub fn observe_again(
        &mut self,
        settings: &Settings,
        toolchain: &Toolchain,
        credentials: &Credentials,
    ) -> Result<()> {
        let images = std::mem::take(&mut self.images);
        *self = Self::collect(settings, &toolchain.tools, toolchain.origin.as_ref(), credentials, || Ok(images))?;
        Ok(())
    }

    fn collect(
        settings: &Settings,
        tools: &Toolbox,
        origin: &dyn Origin,
        credentials: &Credentials,
        images: impl FnOnce() -> Result<Vec<ImageState>>,
    ) -> Result<Self> {
        let profile = cluster::observe(tools)?;
        let on_nodes = |images: &[ImageState], database: Option<&Wanted>| match profile.state {
            ProfileState::Running => load::observe(&tools.nodes()?, &references(images, database)),
            _ => Ok(Vec::new()),
        };
        let start = Instant::now();
        let (live, images, first) = std::thread::scope(|scope| {
            let live = scope.spawn(|| observe_live(tools, &profile, credentials));
            let images = images().and_then(|images| Ok((images, database(settings, tools, origin, credentials)?)));
            let first = images.as_ref().ok().map(|(images, database)| on_nodes(images, database.as_ref()));
            (live.join().unwrap_or_else(|_| panicked()), images, first)
        });
        let (live, (images, database)) = (live?, images?);
        let live = match live {
            // A node that has just started may accept commands only after the wait for its API server, and a list from
            // before a long wait is outdated. Ask again in both cases.
            Ok(live) => match first {
                Some(Ok(on_nodes)) if start.elapsed() < FRESH => Ok(LiveCluster { on_nodes, ..live }),
                _ => Ok(LiveCluster { on_nodes: on_nodes(&images, database.as_ref())?, ..live }),
            },
            Err(silence) => Err(silence),
        };
        Ok(Self { profile, live, images, database })
    }

    /// Returns the references of all known images that a new node needs besides those of Kubernetes.
    pub fn images_for_a_new_node(&self, settings: &Settings) -> Vec<String> {
        let ours = self.images.iter().filter(|image| image.id.is_some()).map(ImageState::reference);
        let database = self.database.iter().map(|image| image.reference.clone());
        ours.chain(database).chain([settings.cluster.ingress_image.clone()]).collect()
    }
}

impl LiveCluster {
    /// Returns the state of a cluster that does not exist yet.
    pub fn empty(tools: &Toolbox) -> Self {
        let on_nodes = vec![(tools.first_node(), NodeImages::default())];
        Self { ingress: Default::default(), release: Default::default(), postgres: None, on_nodes }
    }

    /// Returns the parts that the proof needs; `None` if there is no namespace.
    pub fn evidence(&self) -> Option<LiveState> {
        let nodes = self.on_nodes.iter().map(|(node, on_node)| (node.name.clone(), on_node.names.clone())).collect();
        Some(LiveState { snapshot: self.release.snapshot.clone()?, nodes, answers: None })
    }
}

/// The state after the last step.
pub struct AppliedState {
    /// Image IDs by reference.
    pub ids: BTreeMap<String, String>,
    /// The evidence for the proof; `None` if there is no namespace.
    pub evidence: Option<LiveState>,
}

impl AppliedState {
    /// Returns `live` as the applied state of a deploy without steps: only the routes still need requests.
    pub fn unchanged(wanted: &[Wanted], live: &LiveCluster) -> Self {
        let ids = wanted.iter().filter_map(|image| Some((image.reference.clone(), image.id.clone()?))).collect();
        Self { ids, evidence: live.evidence() }
    }

    /// Observes everything, except for `ready`: the objects with which a rollout has just ended. Requests the routes at
    /// `address`, as a user would.
    pub fn observe(
        settings: &Settings,
        tools: &Toolbox,
        wanted: &[Wanted],
        ready: Option<Snapshot>,
        address: &str,
    ) -> Result<Self> {
        let evidence = LiveState::take(settings, tools, ready, address, REQUESTS)?;
        Ok(Self { ids: ids::of_loaded(tools, wanted)?, evidence: Some(evidence) })
    }
}

const NOT_RUNNING: &str = "the cluster does not run";

fn database(
    settings: &Settings,
    tools: &Toolbox,
    origin: &dyn Origin,
    credentials: &Credentials,
) -> Result<Option<Wanted>> {
    let reference = || origin.image(&settings.database.image);
    credentials.embedded.then(|| Wanted::of(tools, &reference())).transpose()
}

fn references(images: &[ImageState], database: Option<&Wanted>) -> Vec<String> {
    images.iter().map(ImageState::reference).chain(database.map(|image| image.reference.clone())).collect()
}

/// Observes through the API server, without the images on the nodes. The inner `Err` says why the cluster is unknown.
fn observe_live(tools: &Toolbox, profile: &Profile, credentials: &Credentials) -> Result<Result<LiveCluster, String>> {
    if profile.state != ProfileState::Running {
        return Ok(Err(NOT_RUNNING.to_owned()));
    }
    match cluster::wait_for_api_server(tools, profile)? {
        ApiServer::Ready => {}
        ApiServer::Starting(words) => return Ok(Err(format!("its API server did not become ready: {words}"))),
        ApiServer::Away(words) => return Ok(Err(words)),
    }
    std::thread::scope(|scope| {
        let ingress = scope.spawn(|| ObservedIngress::observe(tools));
        let postgres = scope.spawn(|| credentials.postgres(tools));
        let release = release::observe(tools);
        let (ingress, postgres) = (ingress.join(), postgres.join());
        Ok(Ok(LiveCluster {
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
