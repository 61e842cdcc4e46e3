//! Images that are not there.

use super::Symptom;
use super::pods::containers;
use crate::snapshot::{Snapshot, text};

/// `imagePullPolicy: Never` and the node does not have the image.
pub fn missing(snapshot: &Snapshot) -> Vec<Symptom> {
    let missing = containers(snapshot).filter(|c| c.waits() == "ErrImageNeverPull");
    missing
        .map(|c| {
            let image = text(c.status, "/image");
            Symptom::fatal(c.subject(), format!("{}: image {image} is not on the node (ErrImageNeverPull)", c.called()))
                .help("cargo xtask deploy dev   # loads what the node lacks; something removed it after it was loaded")
                .help("room on the node? images go when its disk is full: cargo xtask doctor")
        })
        .collect()
}

/// The node asks a registry, which our images are in none of.
pub fn pull(snapshot: &Snapshot) -> Vec<Symptom> {
    let reasons = ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ImageInspectError"];
    let failing = containers(snapshot).filter(|c| reasons.contains(&c.waits()));
    failing
        .map(|c| {
            let image = text(c.status, "/image");
            let policy = text(c.spec, "/imagePullPolicy");
            let why = short(text(c.status, "/state/waiting/message"));
            let cause = format!("{}: image {image} cannot be pulled ({}): {why}", c.called(), c.waits());
            let seen = Symptom::fatal(c.subject(), cause);
            if policy == "Never" {
                return seen.help("the image's name is not valid: see `image` in infra/helm/values*.yaml");
            }
            seen.help(format!(
                "set {}: Never in infra/helm/values*.yaml (it is {policy}): xtask loads images into the node itself",
                c.values("image.pullPolicy")
            ))
        })
        .collect()
}

/// containerd repeats the reference at each layer of its message: the last part is the reason.
fn short(message: &str) -> &str {
    let start = message.rfind("failed to do request: ").map_or(0, |at| at + "failed to do request: ".len());
    message.get(start..).unwrap_or(message)
}
