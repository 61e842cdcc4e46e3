//! Foreign objects in the release's namespace, and the deletion of the namespace itself.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::causes::{VALUES, nothing_to_do, sound, values};
use super::test_cluster::TestCluster;

/// Time limit for the autoscaler, whose controller runs every 15 s.
const SCALED: Duration = Duration::from_secs(60);

/// Another release has a higher revision, and Pod Security refuses the pods of a foreign Deployment: xtask ignores both.
pub fn foreign(test_cluster: &TestCluster) -> Result<()> {
    sound(test_cluster)?;
    let name = "sh.helm.release.v1.other.v999";
    let labels = json!({"owner": "helm", "name": "other", "version": "999", "status": "deployed"});
    let other = json!({"apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1",
                       "metadata": {"name": name, "labels": labels}});
    let kubectl = || Ok::<_, anyhow::Error>(test_cluster.tools()?.kubectl_here());
    kubectl()?.args(["apply", "-f", "-"]).stdin(other.to_string()).run()?;
    kubectl()?.args(["create", "deployment", "todo-adminer", "--image=adminer"]).run()?;
    let result = deploy_beside_foreign_objects(test_cluster);
    let kept = kubectl()?.args(["get", &format!("secret/{name}"), "deployment/todo-adminer", "-o", "name"]).read();
    kubectl()?.args(["delete", "deployment", "todo-adminer"]).run()?;
    kubectl()?.args(["delete", "secret", name]).run()?;
    result?;
    kept.context("a foreign object was removed")?;
    nothing_to_do(test_cluster)
}

fn deploy_beside_foreign_objects(test_cluster: &TestCluster) -> Result<()> {
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["nothing changed"])?;
    let others = "not part of the release: Deployment todo-adminer";
    test_cluster.xtask(&["status", "--verify"])?.expect(0, &[others, "would change nothing"])?;
    let edited = test_cluster.edit(VALUES, raise_surge)?;
    let ran = test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["> helm upgrade", "is up"])?;
    ensure!(!ran.text.contains("adminer"), "a foreign object is reported:\n{}", ran.text);
    drop(edited);
    let edited = test_cluster.edit(VALUES, values("backend:\n  command: [no-such-program]"))?;
    let ran = test_cluster.xtask(&["deploy", "dev"])?.expect(7, &["no-such-program", "rolled back to revision"])?;
    ensure!(!ran.text.contains("adminer") && !ran.text.contains("999"), "a foreign object is blamed:\n{}", ran.text);
    drop(edited);
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"]).map(drop)
}

/// Changes both Deployments without replacing a pod.
fn raise_surge(text: &str) -> String {
    text.replace("maxSurge: 2", "maxSurge: 3")
}

/// A deploy keeps the autoscaler's replicas and restores the chart's once the autoscaler is gone.
pub fn autoscaler(test_cluster: &TestCluster) -> Result<()> {
    sound(test_cluster)?;
    let kubectl = || Ok::<_, anyhow::Error>(test_cluster.tools()?.kubectl_here());
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "todo-frontend"});
    let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}});
    let autoscaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "frontend"},
        "spec": {"scaleTargetRef": target, "minReplicas": 3, "maxReplicas": 4, "metrics": [metric]}});
    kubectl()?.args(["apply", "-f", "-"]).stdin(autoscaler.to_string()).run()?;
    let result = deploy_while_scaled(test_cluster);
    kubectl()?.args(["delete", "hpa", "frontend"]).run()?;
    let back = test_cluster.xtask(&["deploy", "dev"])?;
    result?;
    back.expect(0, &["Deployment/todo-frontend was changed by hand", "todo-frontend    2/2"])?;
    nothing_to_do(test_cluster)
}

fn deploy_while_scaled(test_cluster: &TestCluster) -> Result<()> {
    test_cluster.until("three pods", SCALED, || Ok(test_cluster.pods("frontend")?.len() == 3))?;
    test_cluster.until_ready()?;
    let before = test_cluster.pods("frontend")?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["nothing changed", "todo-frontend    3/3"])?;
    test_cluster.xtask(&["status", "--verify"])?.expect(0, &["drift     none"])?;
    let edited = test_cluster.edit(VALUES, raise_surge)?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["> helm upgrade", "todo-frontend    3/3"])?;
    ensure!(test_cluster.pods("frontend")? == before, "the autoscaler's pods were replaced");
    drop(edited);
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["is up"])?;
    ensure!(test_cluster.pods("frontend")? == before, "the autoscaler's pods were replaced");
    nothing_to_do(test_cluster)
}

/// The namespace is being deleted: a deploy waits for its end and starts from nothing. The todos are lost with it.
pub fn ending_namespace(test_cluster: &TestCluster) -> Result<()> {
    let kubectl = || Ok::<_, anyhow::Error>(test_cluster.tools()?.kubectl());
    let uid = || kubectl()?.args(["get", "namespace", "todo", "-o", "jsonpath={.metadata.uid}"]).read();
    let before = uid()?;
    kubectl()?.args(["delete", "namespace", "todo", "--wait=false"]).run()?;
    let status = test_cluster.xtask(&["status"])?;
    status.expect(7, &["namespace todo is being deleted, and the application with it"])?;
    let expected = ["wait until namespace todo is deleted", "waiting up to", "create namespace todo", "is up"];
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &expected)?;
    ensure!(uid()? != before, "the deleted namespace is still there");
    nothing_to_do(test_cluster)
}

/// Returns Helm's newest revision and the verified revision of xtask's record.
pub fn revisions(test_cluster: &TestCluster) -> Result<(Option<u64>, Option<u64>)> {
    let document = test_cluster.xtask(&["status", "--json"])?.expect(0, &[])?;
    let document: Value = serde_json::from_str(&document.stdout)?;
    let number = |name: &str| document["release"][name].as_u64();
    Ok((number("revision"), number("verified_revision")))
}
