//! The cluster stage: a minikube profile of the project's own, proven to be that, running, with an ingress controller.

mod api_server;
mod available;
mod identity;
mod ingress;
mod profile;
mod stop;
mod version;
mod volume;

use anyhow::Result;
use serde_json::Value;

pub use api_server::{ApiServer, look as api_server, wait as wait_for_api_server};
pub use identity::{context_step, guard, refuse_stale};
pub use ingress::{ObservedIngress, remove_controller};
pub use profile::{Profile, ProfileState, delete_step, is_elsewhere, observe as profile, refusal, refuse_users};
pub use stop::steps as stop_steps;
pub use version::{Version, difference, pinned};
pub use volume::exists as has_volume;

use crate::failure::{Class, Failure};
use crate::origin::Origin;
use crate::plan::Step;
use crate::project::Project;
use crate::toolbox::{Toolbox, is_recorded, own_minikube_home, users_minikube_home};

/// Whether minikube has the profile on record in the folder that it uses beside a private engine. From files alone: it
/// decides what an origin must bring, before there is an engine. With the user's own engine nothing depends on it.
pub fn exists(project: &Project) -> Result<bool> {
    is_recorded(project, &own_minikube_home(project))
}

/// Whether minikube has a published port on record for the node's port 80. From files alone.
pub fn publishes_port(tools: &Toolbox) -> Result<bool> {
    let config = tools.record()?.unwrap_or_default();
    let ports = config["ExposedPorts"].as_array().cloned().unwrap_or_default();
    Ok(ports.iter().any(|port| port.as_str().is_some_and(|port| port.ends_with(":80"))))
}

/// Whether any minikube of this user has the profile on record.
pub fn exists_anywhere(project: &Project) -> Result<bool> {
    Ok(exists(project)? || is_recorded(project, &users_minikube_home())?)
}

/// Labels of the Deployment that kubeadm makes of CoreDNS.
const DNS: &str = "k8s-app=kube-dns";

/// What there is of the cluster.
pub struct ObservedCluster {
    /// minikube's profile.
    pub profile: Profile,
}

/// Reads profile and kubeconfig; refuses an entry under our name that leads elsewhere. Changes nothing.
pub fn observe(tools: &Toolbox) -> Result<ObservedCluster> {
    let profile = profile::observe(tools)?;
    identity::check(tools, &profile)?;
    if let Some(runtime) = profile.unsupported_runtime() {
        return Err(Failure::new(
            Class::Cluster,
            format!("profile `{}` runs {runtime}; only containerd is supported", tools.profile),
        )
        .help(format!("use another profile: --profile {}-containerd", tools.profile))
        .into());
    }
    profile.kubernetes(tools)?;
    Ok(ObservedCluster { profile })
}

/// The steps that make the cluster run; `silence` says why its API server does not answer, if it does not. A new node gets
/// `images` at once, where that is possible and the engine has them.
pub fn decide<'a>(
    project: &'a Project,
    tools: &'a Toolbox,
    origin: &'a dyn Origin,
    observed: &ObservedCluster,
    silence: Option<&str>,
    images: &[String],
) -> Result<Vec<Step<'a>>> {
    profile::decide(project, tools, origin, &observed.profile, silence, images)
}

/// The step that waits until names of Services resolve in a cluster that was just made: pods that start earlier would fail
/// over names that exist.
pub fn dns_step(tools: &Toolbox) -> Step<'_> {
    let command = format!("GET /apis/apps/v1/deployments?labelSelector={DNS}");
    Step::new("wait for the cluster's DNS", "the cluster is new", command, move |_| {
        found_dns(available::wait(&tools.api()?, "the cluster's DNS", DNS)?)?;
        Ok(String::new())
    })
}

/// Refuses a cluster without the Deployment that kubeadm makes before `minikube start` ends.
fn found_dns(is_there: bool) -> Result<()> {
    if is_there {
        return Ok(());
    }
    let what = format!("the cluster has no DNS: no Deployment has the label {DNS}, although kubeadm makes one");
    Err(Failure::new(Class::Cluster, what)
        .help("see what there is: cargo xtask tool kubectl -- get deployments -A")
        .help("or start afresh: cargo xtask teardown --cluster   # it holds no data yet")
        .into())
}

/// The steps that bring an ingress controller, where the cluster has no IngressClass that serves the class `wanted`.
/// `namespace` is the release's, where it is absent.
pub fn decide_ingress<'a>(
    project: &'a Project,
    tools: &'a Toolbox,
    origin: &'a dyn Origin,
    ingress: &ObservedIngress,
    wanted: &str,
    namespace: Option<Value>,
) -> Result<Option<Step<'a>>> {
    ingress::decide(project, tools, origin, ingress, wanted, namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_cluster_without_dns_is_refused() {
        found_dns(true).unwrap();
        let error = found_dns(false).unwrap_err();
        let failure = error.downcast_ref::<Failure>().unwrap();
        assert_eq!(failure.class, Class::Cluster);
        assert!(failure.to_string().contains("k8s-app=kube-dns") && failure.hints()[1].contains("teardown --cluster"));
    }
}
