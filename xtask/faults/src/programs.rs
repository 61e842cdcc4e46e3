//! The programs of a sandbox: etcd and the API server, from the images of either origin, and the pinned helm.

use anyhow::{Context, Result};
use camino::Utf8Path;
use xtask::commands::test::faults;
use xtask::origin::Tool;
use xtask::plan::Mode;
use xtask::project::Project;

use crate::servers::Programs;

/// Copies etcd and the API server from their images into `folder`. Returns their paths and that of the pinned Helm.
pub fn bring(project: &Project, folder: &Utf8Path) -> Result<Programs> {
    let [etcd, apiserver] = faults::images(&project.root)?;
    let toolchain = project.bring_tools(Mode::Apply, &faults::requirements(&project.root)?)?;
    let take = |image: &str, program: &str| -> Result<camino::Utf8PathBuf> {
        let docker = || toolchain.tools.engine.docker();
        let container = docker().args(["create", &toolchain.origin.image(image), program]).read()?;
        let dest = folder.join(program);
        // The API server may be a link to a program with several names.
        let from = format!("{}:/usr/local/bin/{program}", container.trim());
        let copied = docker().args(["cp", "--follow-link", &from, dest.as_str()]).run();
        docker().args(["rm", container.trim()]).run()?;
        copied.with_context(|| format!("taking {program} out of {image}"))?;
        Ok(dest)
    };
    Ok(Programs {
        etcd: take(&etcd, "etcd")?,
        apiserver: take(&apiserver, "kube-apiserver")?,
        helm: toolchain.origin.tool(Tool::Helm),
    })
}
