//! Images that the node lacks.

use super::Symptom;
use super::pods::containers;
use crate::snapshot::{Snapshot, text};

/// Finds containers with `imagePullPolicy: Never` whose image is not on the node.
pub fn missing(snapshot: &Snapshot) -> Vec<Symptom> {
    let missing = containers(snapshot).filter(|c| c.waiting_reason() == "ErrImageNeverPull");
    missing
        .map(|c| {
            let image = text(c.status, "/image");
            Symptom::fatal(c.subject(), format!("{}: image {image} is not on the node (ErrImageNeverPull)", c.title()))
                .help("cargo xtask deploy dev   # loads the image again; something removed it from the node")
                .help("kubelet removes images when the node's disk is full: cargo xtask doctor")
        })
        .collect()
}

/// Finds containers whose image the node tries to pull; our images are in no registry.
pub fn pull(snapshot: &Snapshot) -> Vec<Symptom> {
    let reasons = ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ImageInspectError"];
    let failing = containers(snapshot).filter(|c| reasons.contains(&c.waiting_reason()));
    let chart = snapshot.chart();
    failing
        .map(|c| {
            let image = text(c.status, "/image");
            let policy = text(c.spec, "/imagePullPolicy");
            let why = reason(text(c.status, "/state/waiting/message"));
            let cause = format!("{}: image {image} cannot be pulled ({}): {why}", c.title(), c.waiting_reason());
            let symptom = Symptom::fatal(c.subject(), cause);
            if policy == "Never" {
                return symptom.help(format!("the image's name is not valid: see `image` in {chart}/values*.yaml"));
            }
            symptom.help(format!(
                "set {}: Never in {chart}/values*.yaml (it is {policy}): xtask loads images into the node itself",
                c.value_path("image.pullPolicy")
            ))
        })
        .collect()
}

/// Returns the last part of containerd's message: the parts before it repeat the image reference.
fn reason(message: &str) -> &str {
    let start = message.rfind("failed to do request: ").map_or(0, |at| at + "failed to do request: ".len());
    message.get(start..).unwrap_or(message)
}
