//! What a deploy looks at before it decides: read-only probes, side by side.

use anyhow::{Result, bail};

use crate::credentials::Credentials;
use crate::project::Project;
use crate::stages::cluster::{self, Ingress, State};
use crate::stages::images::load::{self, Wanted};
use crate::stages::images::node::{Node, Stock};
use crate::stages::images::{Seen, build};
use crate::stages::proof::Evidence;
use crate::stages::release;
use crate::toolbox::Toolbox;
use crate::world::World;

/// What there is before the first step.
pub struct Facts {
    /// The minikube profile.
    pub cluster: cluster::Observed,
    /// What the cluster itself says, or why it says nothing.
    pub live: Result<Live>,
    /// Our images in the engine.
    pub images: Vec<Seen>,
    /// The embedded database's image, where it serves.
    pub database: Option<Wanted>,
}

/// What only a running cluster can say.
pub struct Live {
    /// Its ingress controllers.
    pub ingress: Ingress,
    /// The release.
    pub release: release::Observed,
    /// The images of its nodes.
    pub stocks: Vec<(Node, Stock)>,
}

impl Facts {
    /// Looks at everything. The cluster is asked only after its kube entry has been proven ours.
    pub fn look(project: &Project, world: &World, credentials: &Credentials) -> Result<Self> {
        let (tools, origin) = (&world.tools, world.origin.as_ref());
        let (cluster, images, database) = std::thread::scope(|scope| {
            let cluster = scope.spawn(|| {
                if world.engine_answers {
                    cluster::observe(tools)
                } else {
                    Ok(cluster::Observed::without_engine(tools))
                }
            });
            let database = scope.spawn(|| database(project, world, credentials));
            let images = build::observe(project, &tools.engine, origin);
            (cluster.join(), images, database.join())
        });
        let (cluster, images) = (cluster.unwrap_or_else(|_| panicked())?, images?);
        let database = database.or_else(|_| panicked())?;
        let live = live(project, tools, &cluster, &references(&images, database.as_ref()));
        Ok(Self { cluster, live, images, database })
    }

    /// Looks again at what the steps of the cluster stage have changed.
    pub fn look_again(&mut self, project: &Project, world: &World, credentials: &Credentials) -> Result<()> {
        self.cluster = cluster::observe(&world.tools)?;
        self.database = database(project, world, credentials);
        let references = references(&self.images, self.database.as_ref());
        self.live = live(project, &world.tools, &self.cluster, &references);
        Ok(())
    }
}

impl Live {
    /// A cluster that holds nothing.
    pub fn nothing(tools: &Toolbox) -> Self {
        let stocks = tools.nodes().into_iter().map(|node| (node, Stock::default())).collect();
        Self { ingress: Ingress::default(), release: release::Observed::default(), stocks }
    }

    /// What the proof needs of it; `None` if there is no namespace.
    pub fn into_evidence(self) -> Option<Evidence> {
        let nodes = self.stocks.into_iter().map(|(node, stock)| (node.name, stock.names)).collect();
        Some(Evidence { snapshot: self.release.snapshot?, nodes })
    }
}

fn database(project: &Project, world: &World, credentials: &Credentials) -> Option<Wanted> {
    let reference = || world.origin.image(&project.settings.database.image);
    credentials.embedded.then(|| Wanted::of(project, &world.tools.engine, &reference()))
}

fn references(images: &[Seen], database: Option<&Wanted>) -> Vec<String> {
    images.iter().map(Seen::reference).chain(database.map(|image| image.reference.clone())).collect()
}

fn live(project: &Project, tools: &Toolbox, cluster: &cluster::Observed, references: &[String]) -> Result<Live> {
    if cluster.profile.state != State::Running {
        bail!("the cluster does not run");
    }
    let nodes = tools.nodes();
    std::thread::scope(|scope| {
        let ingress = scope.spawn(|| Ingress::observe(tools));
        let stocks = scope.spawn(|| load::observe(&nodes, references));
        let release = release::observe(project, tools);
        let (ingress, stocks) = (ingress.join(), stocks.join());
        Ok(Live {
            ingress: ingress.unwrap_or_else(|_| panicked())?,
            release: release?,
            stocks: stocks.unwrap_or_else(|_| panicked())?,
        })
    })
}

fn panicked<T>() -> Result<T> {
    bail!("a probe panicked")
}
