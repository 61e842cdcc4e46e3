//! Issue 10: what others have in the release's namespace, and the end of the namespace itself.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::bed::Bed;
use super::causes::{VALUES, nothing_to_do, sound, values};

/// How long the autoscaler's controller may take: it looks every 15 s.
const SCALED: Duration = Duration::from_secs(60);

/// Another release of a higher revision, and a Deployment whose pods Pod Security refuses: neither is ours.
pub fn foreign(bed: &Bed) -> Result<()> {
    sound(bed)?;
    let name = "sh.helm.release.v1.other.v999";
    let labels = json!({"owner": "helm", "name": "other", "version": "999", "status": "deployed"});
    let other = json!({"apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1",
                       "metadata": {"name": name, "labels": labels}});
    let kubectl = || Ok::<_, anyhow::Error>(bed.tools()?.kubectl_here());
    kubectl()?.args(["apply", "-f", "-"]).stdin(other.to_string()).run()?;
    kubectl()?.args(["create", "deployment", "todo-adminer", "--image=adminer"]).run()?;
    let told = beside(bed);
    let kept = kubectl()?.args(["get", &format!("secret/{name}"), "deployment/todo-adminer", "-o", "name"]).read();
    kubectl()?.args(["delete", "deployment", "todo-adminer"]).run()?;
    kubectl()?.args(["delete", "secret", name]).run()?;
    told?;
    kept.context("what is not ours was removed")?;
    nothing_to_do(bed)
}

fn beside(bed: &Bed) -> Result<()> {
    bed.xtask(&["deploy", "dev"])?.expect(0, &["nothing changed"])?;
    let others = "not part of the release: Deployment todo-adminer";
    bed.xtask(&["status", "--verify"])?.expect(0, &[others, "would change nothing"])?;
    let edited = bed.edit(VALUES, surge)?;
    let ran = bed.xtask(&["deploy", "dev"])?.expect(0, &["> helm upgrade", "is up"])?;
    ensure!(!ran.text.contains("adminer"), "what is not ours is told of:\n{}", ran.text);
    drop(edited);
    let edited = bed.edit(VALUES, values("backend:\n  command: [no-such-program]"))?;
    let ran = bed.xtask(&["deploy", "dev"])?.expect(7, &["no-such-program", "rolled back to revision"])?;
    ensure!(!ran.text.contains("adminer") && !ran.text.contains("999"), "what is not ours counts:\n{}", ran.text);
    drop(edited);
    bed.xtask(&["deploy", "dev"])?.expect(0, &["is up"]).map(drop)
}

/// A change of both Deployments that replaces no pod.
fn surge(text: &str) -> String {
    text.replace("maxSurge: 2", "maxSurge: 3")
}

/// The number of an autoscaler's pods is its own, and the chart's again once the autoscaler is gone.
pub fn autoscaler(bed: &Bed) -> Result<()> {
    sound(bed)?;
    let kubectl = || Ok::<_, anyhow::Error>(bed.tools()?.kubectl_here());
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "todo-frontend"});
    let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}});
    let autoscaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "frontend"},
        "spec": {"scaleTargetRef": target, "minReplicas": 3, "maxReplicas": 4, "metrics": [metric]}});
    kubectl()?.args(["apply", "-f", "-"]).stdin(autoscaler.to_string()).run()?;
    let told = scaled(bed);
    kubectl()?.args(["delete", "hpa", "frontend"]).run()?;
    let back = bed.xtask(&["deploy", "dev"])?;
    told?;
    back.expect(0, &["Deployment/todo-frontend was changed by hand", "todo-frontend    2/2"])?;
    nothing_to_do(bed)
}

fn scaled(bed: &Bed) -> Result<()> {
    bed.until("three pods", SCALED, || Ok(bed.pods("frontend")?.len() == 3))?;
    bed.until_ready()?;
    let before = bed.pods("frontend")?;
    bed.xtask(&["deploy", "dev"])?.expect(0, &["nothing changed", "todo-frontend    3/3"])?;
    bed.xtask(&["status", "--verify"])?.expect(0, &["drift     none"])?;
    let edited = bed.edit(VALUES, surge)?;
    bed.xtask(&["deploy", "dev"])?.expect(0, &["> helm upgrade", "todo-frontend    3/3"])?;
    ensure!(bed.pods("frontend")? == before, "the autoscaler's pods were replaced");
    drop(edited);
    bed.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
    ensure!(bed.pods("frontend")? == before, "the autoscaler's pods were replaced");
    nothing_to_do(bed)
}

/// Somebody deletes the namespace: a deploy waits for the end of that and begins from nothing. The todos go with it.
pub fn ending_namespace(bed: &Bed) -> Result<()> {
    let kubectl = || Ok::<_, anyhow::Error>(bed.tools()?.kubectl());
    let uid = || kubectl()?.args(["get", "namespace", "todo", "-o", "jsonpath={.metadata.uid}"]).read();
    let before = uid()?;
    kubectl()?.args(["delete", "namespace", "todo", "--wait=false"]).run()?;
    let status = bed.xtask(&["status"])?;
    status.expect(7, &["namespace todo is being deleted, and the application with it"])?;
    let told = ["wait until namespace todo is deleted", "waiting up to", "create namespace todo", "is up"];
    bed.xtask(&["deploy", "dev"])?.expect(0, &told)?;
    ensure!(uid()? != before, "it is the namespace that was deleted");
    nothing_to_do(bed)
}

/// Helm's newest revision, and the one that xtask has recorded as verified.
pub fn revisions(bed: &Bed) -> Result<(Option<u64>, Option<u64>)> {
    let document = bed.xtask(&["status", "--json"])?.expect(0, &[])?;
    let document: Value = serde_json::from_str(&document.stdout)?;
    let number = |name: &str| document["release"][name].as_u64();
    Ok((number("revision"), number("verified_revision")))
}
