//! The cluster stage: makes the project's own minikube profile run, with its kubeconfig entry and an ingress controller.

mod api_server;
mod available;
mod identity;
mod ingress;
mod profile;
mod stop;
mod version;
mod volume;

use anyhow::Result;
use camino::Utf8Path;

pub use api_server::{ApiServer, observe as api_server, wait as wait_for_api_server};
pub use identity::{ContextEntry, context_step, guard, refuse_stale};
pub use ingress::{ControllerManifests, ObservedIngress, decide as decide_ingress, remove_controller};
pub use profile::{
    Profile, ProfileState, StartFacts, decide, delete_step, is_elsewhere, observe as profile, refusal, refuse_users,
};
pub use stop::steps as stop_steps;
pub use version::{Version, difference, pinned};
pub use volume::exists as has_volume;

use crate::failure::{Class, Failure};
use crate::minikube;
use crate::plan::Step;
use crate::toolbox::Toolbox;

/// Returns whether minikube has a record of the profile in the folder that it uses with a private engine. Reads files alone,
/// because it decides what the origin must bring before an engine exists. Only a private engine needs it.
pub fn exists(cache: &Utf8Path, profile: &str) -> Result<bool> {
    minikube::is_recorded(&minikube::own_home(cache), profile)
}

/// Returns whether minikube's record has a published port for the node's port 80. Reads files alone.
pub fn publishes_port(tools: &Toolbox) -> Result<bool> {
    let config = tools.record()?.unwrap_or_default();
    let ports = config["ExposedPorts"].as_array().cloned().unwrap_or_default();
    Ok(ports.iter().any(|port| port.as_str().is_some_and(|port| port.ends_with(":80"))))
}

/// Returns whether any minikube of this user has a record of the profile.
pub fn exists_anywhere(cache: &Utf8Path, profile: &str) -> Result<bool> {
    Ok(exists(cache, profile)? || minikube::is_recorded(&minikube::users_home(), profile)?)
}

/// The label of the Deployment in which kubeadm runs CoreDNS.
const DNS: &str = "k8s-app=kube-dns";

/// Reads profile and kubeconfig. Changes nothing, and refuses an entry of the profile's name for another cluster.
pub fn observe(tools: &Toolbox) -> Result<Profile> {
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
    Ok(profile)
}

/// Returns the step that waits for the DNS of a started cluster: pods that start earlier could not resolve existing Services.
pub fn dns_step(tools: &Toolbox) -> Step<'_> {
    let command = format!("GET /apis/apps/v1/deployments?labelSelector={DNS}");
    Step::new("wait for the cluster's DNS", "the cluster has just started", command, move |_| {
        require_dns(available::wait(&tools.api()?, "the cluster's DNS", DNS)?)?;
        Ok(String::new())
    })
}

/// Fails if the cluster lacks the Deployment of its DNS, which kubeadm makes before `minikube start` ends.
fn require_dns(is_deployed: bool) -> Result<()> {
    if is_deployed {
        return Ok(());
    }
    let what = format!("the cluster has no DNS: no Deployment has the label {DNS}, although kubeadm makes one");
    Err(Failure::new(Class::Cluster, what)
        .help("list the Deployments: cargo xtask tool kubectl -- get deployments -A")
        .help("or start over: cargo xtask teardown --cluster   # it holds no data yet")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_new_cluster_without_dns() {
        require_dns(true).unwrap();
        let error = require_dns(false).unwrap_err();
        let failure = error.downcast_ref::<Failure>().unwrap();
        assert_eq!(failure.class, Class::Cluster);
        assert!(failure.to_string().contains("k8s-app=kube-dns") && failure.hints()[1].contains("teardown --cluster"));
    }
}
