//! Issue 5, line 4: what runs is not what was built, and the deploy says which link of the chain is broken.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::bed::Bed;
use super::lifecycle::references;
use xtask::stages::images::load::{self, Wanted};
use xtask::stages::images::node::canonical;

/// The other image's name in the engine.
const PLANTED: &str = "todo-backend:planted";

pub fn other_image(bed: &Bed) -> Result<()> {
    let tools = bed.tools()?;
    let node = tools.nodes()?.remove(0);
    let reference = references(bed)?.into_iter().find(|r| r.starts_with("todo-backend")).context("a backend image")?;
    bed.xtask(&["status", "--verify"])?.expect(0, &["verified"])?;

    // The same program in another image: it runs just as well, and only its ID tells.
    let build = tools.engine.docker().args(["buildx", "build", "--tag", PLANTED, "-"]);
    build.stdin(format!("FROM {reference}\nLABEL planted=here\n")).run()?;
    let running = bed.project.report.step("test", "plant another image under the same tag", "");
    load::load(&bed.project, &tools.engine, &node, &Wanted::of(&bed.project, &tools.engine, PLANTED)?, &running)?;
    node.ctr(["images", "tag", "--force", &canonical(PLANTED), &canonical(&reference)]).run()?;
    bed.until("the node notices", Duration::from_secs(20), || {
        let images = node.images()?;
        Ok(images.get(&canonical(&reference)).is_some_and(|id| images.get(&canonical(PLANTED)) == Some(id)))
    })?;
    running.done("");
    bed.xtask(&["status", "--verify"])?.expect(8, &[&format!("built -> node: {reference} on node {}", bed.profile)])?;

    // A pod that starts now runs the other image. The deploy puts the node right, and does not take the pod for good.
    let kubectl = tools.kubectl_here();
    let before = bed.pods("backend")?;
    let name = "jsonpath={.items[0].metadata.name}";
    let pod = kubectl.clone().args(["get", "pods", "-l", "app.kubernetes.io/component=backend", "-o", name]).read()?;
    kubectl.clone().args(["delete", "pod", &pod, "--wait=false"]).run()?;
    bed.until("a pod of the other image", Duration::from_secs(60), || {
        let now = bed.pods("backend")?;
        Ok(now.len() == 2 && now != before)
    })?;
    bed.until_ready()?;
    let ran = bed.xtask(&["deploy", "dev"])?.expect(
        8,
        &[
            "the node has another image of that name",
            "node -> pod: container todo-backend-",
            "but runs sha256:",
            "delete pod todo-backend-",
        ],
    )?;
    ensure!(!ran.text.contains("built -> node"), "the node was put right:\n{}", ran.text);

    // What it says to do helps.
    let help = ran.text.lines().find_map(|line| line.split_once("delete pod ")?.1.split_whitespace().next());
    kubectl.args(["delete", "pod", help.context("a pod to delete")?]).run()?;
    bed.until_ready()?;
    bed.xtask(&["deploy", "dev"])?.expect(0, &["nothing changed"])?;
    node.ctr(["images", "rm", &canonical(PLANTED)]).run()?;
    tools.engine.docker().args(["image", "rm", PLANTED]).run()
}
