//! The running image differs from the built one: `status --verify` names the broken link, and a deploy repairs it.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::lifecycle::references;
use super::test_cluster::TestCluster;
use xtask::engine::Engine;
use xtask::node::{NodeImages, canonical};
use xtask::stages::images::archive::BLOBS;
use xtask::stages::images::load::{self, Wanted};
use xtask::stages::images::prune;
use xtask::stages::images::store::StoredImage;
use xtask::toolbox::Toolbox;

/// An old build that the engine cannot remove, because a container uses it. Not one of the backend: `recovery`, which may run at the
/// same time, builds it, and the deploy here would remove such builds, too.
const HELD: &str = "todo-frontend:0000000000000001";

/// The other image's name in the engine.
const PLANTED: &str = "todo-backend:planted";

pub fn other_image(test_cluster: &TestCluster) -> Result<()> {
    let tools = test_cluster.tools()?;
    let node = tools.nodes()?.remove(0);
    let reference =
        references(test_cluster)?.into_iter().find(|r| r.starts_with("todo-backend")).context("a backend image")?;
    test_cluster.xtask(&["status", "--verify"])?.expect(0, &["verified"])?;

    // The same program in another image: only the image ID differs.
    let build = tools.engine.docker().args(["buildx", "build", "--tag", PLANTED, "-"]);
    build.stdin(format!("FROM {reference}\nLABEL planted=here\n")).run()?;
    let running = test_cluster.project.report.step("test", "plant another image under the same tag", "");
    let planted = Wanted::of(&tools, PLANTED)?;
    load::load(&tools, &node, &NodeImages::default(), &planted, &running)?;
    node.ctr(["images", "tag", "--force", &canonical(PLANTED), &canonical(&reference)]).run()?;
    test_cluster.until("the node notices", Duration::from_secs(20), || {
        let images = node.images()?;
        Ok(images.get(&canonical(&reference)).is_some_and(|id| images.get(&canonical(PLANTED)) == Some(id)))
    })?;
    running.done("");
    test_cluster
        .xtask(&["status", "--verify"])?
        .expect(8, &[&format!("built -> node: {reference} on node {}", test_cluster.profile)])?;

    // A new pod runs the other image. The deploy corrects node and pod.
    let before = test_cluster.pods("backend")?;
    let pod = test_cluster.pod_names("backend")?.into_iter().next().context("a pod")?;
    tools.kubectl_here().args(["delete", "pod", &pod, "--wait=false"]).run()?;
    test_cluster.until("a pod of the other image", Duration::from_secs(60), || {
        let now = test_cluster.pods("backend")?;
        Ok(now.len() == 2 && now != before)
    })?;
    test_cluster.until_ready()?;
    let frontend = test_cluster.pods("frontend")?;
    let wanted = ["the node has another image of that name", "restart todo-backend (todo-backend runs sha256:"];
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &wanted)?;
    ensure!(test_cluster.pods("frontend")? == frontend, "the frontend was restarted");
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["nothing changed"])?;
    node.ctr(["images", "rm", &canonical(PLANTED)]).run()?;
    tools.engine.docker().args(["image", "rm", PLANTED]).run()
}

/// The engine has another image under the same tag, as after a build with an empty cache. Then it loses that image.
pub fn built_again(test_cluster: &TestCluster) -> Result<()> {
    let tools = test_cluster.tools()?;
    let docker = |args: &[&str]| tools.engine.docker().args(args.iter().copied());
    let reference =
        references(test_cluster)?.into_iter().find(|r| r.starts_with("todo-backend")).context("a backend image")?;
    let frontend = test_cluster.pods("frontend")?;
    let id = || tools.engine.image_id(&reference)?.with_context(|| format!("the engine has no {reference}"));
    let first = id()?;
    let other = docker(&["buildx", "build", "--tag", &reference, "-"]);
    other.stdin(format!("FROM {reference}\nLABEL built=again\n")).run()?;
    let ids = [first, id()?];
    let loaded = format!("load {reference} (the node has another image of that name)");
    let warning = "old builds could not be removed";
    let held = hold_old_build(&tools, &reference)?;
    let ran = test_cluster.xtask(&["deploy", "dev"])?;
    drop(held);
    ran.expect(0, &[&loaded, "restart todo-backend", "built = node = pods", warning, HELD])?;
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &["nothing changed"])?;

    docker(&["image", "rm", &reference]).run()?;
    let built = "build todo-backend (the engine no longer has it)";
    test_cluster.xtask(&["deploy", "dev"])?.expect(0, &[built, "restart todo-backend", "built = node = pods"])?;
    test_cluster.xtask(&["status", "--verify"])?.expect(0, &["verified"])?;
    ensure!(test_cluster.pods("frontend")? == frontend, "the frontend was restarted");
    let untagged = docker(&["image", "ls", "--quiet", "--no-trunc", "--filter", "dangling=true"]).read()?;
    ensure!(!ids.iter().any(|id| untagged.contains(id)), "untagged builds are left: {untagged} of {ids:?}");
    Ok(())
}

/// Images read from the private engine's files have the manifest, configuration and layers that `docker save` writes.
pub fn stored(test_cluster: &TestCluster) -> Result<()> {
    let tools = test_cluster.tools()?;
    let Some(data) = &tools.engine.data else {
        test_cluster.project.report.note("the engine is the user's own: `docker save` reads its images");
        return Ok(());
    };
    for reference in references(test_cluster)? {
        let id = tools.engine.image_id(&reference)?.with_context(|| format!("the engine has no {reference}"))?;
        let mut read = Vec::new();
        StoredImage::open(data, &id)?.write(&reference, &mut read, &HashSet::new(), |_| {})?;
        let save = tools.engine.docker().args(["save", &reference]).pipe_from(None)?;
        let saved = blobs(save.reader())?;
        save.finish()?;
        let read = blobs(read.as_slice())?;
        // The blobs include the manifest. Docker adds descriptions of layers that only Docker reads.
        let missing: Vec<&String> =
            read.iter().filter(|blob| saved.get(blob.0) != Some(blob.1)).map(|(path, _)| path).collect();
        ensure!(missing.is_empty() && read.len() > 2, "`docker save {reference}` does not write {missing:?}");
    }
    Ok(())
}

/// Returns paths and sizes of the blobs in an archive. Fails unless each is named by its digest.
fn blobs(archive: impl Read) -> Result<BTreeMap<String, u64>> {
    let mut blobs = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        if let Some(digest) = path.strip_prefix(BLOBS).filter(|digest| !digest.is_empty()) {
            let mut hash = Sha256::new();
            std::io::copy(&mut entry, &mut hash)?;
            ensure!(format!("{:x}", hash.finalize()) == digest, "blob {digest} has another digest");
            blobs.insert(path, entry.size());
        }
    }
    Ok(blobs)
}

/// Creates so many builds that xtask wants to remove [`HELD`], the oldest. Dropping the result removes them.
fn hold_old_build(tools: &Toolbox, reference: &str) -> Result<impl Drop + use<>> {
    struct HeldBuild(Engine, Vec<String>);
    impl Drop for HeldBuild {
        fn drop(&mut self) {
            let _ = self.0.docker().args(["rm", "--force", "todo-held"]).run();
            let _ = self.0.docker().args(["image", "rm"]).args(self.1.iter().cloned()).run();
        }
    }
    let newer: Vec<String> = (0..prune::KEEP).map(|number| format!("todo-frontend:00000000000000a{number}")).collect();
    let held = HeldBuild(tools.engine.clone(), [vec![HELD.to_owned()], newer.clone()].concat());
    let docker = || tools.engine.docker();
    let build = docker().args(["buildx", "build", "--build-arg", "SOURCE_DATE_EPOCH=1", "--tag", HELD, "-"]);
    build.stdin(format!("FROM {reference}\nLABEL held=here\n")).run()?;
    docker().args(["create", "--name", "todo-held", HELD]).run()?;
    for newer in &newer {
        docker().args(["tag", reference, newer]).run()?;
    }
    Ok(held)
}
