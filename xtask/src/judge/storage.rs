//! PersistentVolumeClaims without a volume.

use super::Symptom;
use crate::labels::{COMPONENT, label};
use crate::snapshot::{Snapshot, text};

/// Finds claims that stay pending.
pub fn pending(snapshot: &Snapshot) -> Vec<Symptom> {
    let pending = snapshot.kind("PersistentVolumeClaim").filter(|claim| text(claim, "/status/phase") == "Pending");
    pending
        .map(|claim| {
            let name = text(claim, "/metadata/name");
            let subject = format!("persistentvolumeclaim/{name}");
            let class = text(claim, "/spec/storageClassName");
            let class = if class.is_empty() { "of the default class".to_owned() } else { format!("of class {class}") };
            let failed = snapshot.last_event(claim, &["ProvisioningFailed", "FailedBinding"]);
            let Some(event) = failed else {
                return Symptom::waiting(subject, format!("waits for a volume {class}"));
            };
            let symptom = Symptom::fatal(subject, format!("no volume {class}: {}", event.message));
            let classes: Vec<&str> = snapshot.cluster("StorageClass").map(|c| text(c, "/metadata/name")).collect();
            let symptom = if classes.is_empty() {
                symptom
            } else {
                symptom.help(format!(
                    "set {}.storage.className in {}/values*.yaml to one that exists: {} (or leave it empty)",
                    label(claim, COMPONENT),
                    snapshot.chart(),
                    classes.join(", ")
                ))
            };
            symptom.help("cargo xtask tool minikube -- addons enable storage-provisioner   # if it is off")
        })
        .collect()
}
