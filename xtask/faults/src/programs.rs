//! The programs of a world: etcd and the API server out of the images that both origins bring, and the pinned helm.

use anyhow::{Context, Result};
use camino::Utf8Path;
use xtask::commands::test::faults;
use xtask::origin::Tool;
use xtask::plan::Mode;
use xtask::project::Project;
use xtask::world::World;

use crate::servers::Programs;

/// Brings the programs into `folder`.
pub fn bring(project: &Project, folder: &Utf8Path) -> Result<Programs> {
    let [etcd, apiserver] = faults::images(project)?;
    let world = World::bring(project, Mode::Apply, &faults::needs(project)?)?;
    let take = |image: &str, program: &str| -> Result<camino::Utf8PathBuf> {
        let docker = || world.tools.engine.docker();
        let container = docker().args(["create", &world.origin.image(image), program]).read()?;
        let dest = folder.join(program);
        // The API server may be a link to a program that has more names.
        let from = format!("{}:/usr/local/bin/{program}", container.trim());
        let copied = docker().args(["cp", "--follow-link", &from, dest.as_str()]).run();
        docker().args(["rm", container.trim()]).run()?;
        copied.with_context(|| format!("taking {program} out of {image}"))?;
        Ok(dest)
    };
    Ok(Programs {
        etcd: take(&etcd, "etcd")?,
        apiserver: take(&apiserver, "kube-apiserver")?,
        helm: world.origin.tool(Tool::Helm),
    })
}
