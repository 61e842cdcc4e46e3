//! The content of the simulated internet: programs and images of the origin `packages`, in the form their publishers offer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use flate2::Compression;
use flate2::write::GzEncoder;
use regex::Regex;
use xtask::commands::test::{Suite, refuse_ordinary};
use xtask::origin::download::checksum;
use xtask::origin::{Tool, release};
use xtask::pins::{self, Pins};
use xtask::plan::Mode;
use xtask::process::Process;
use xtask::project::Project;
use xtask::toolchain::Toolchain;

use crate::internet::{DOWNLOADS, OFFER};
use crate::registry::{self, RegistryImage};
use crate::{hosts, machine::Machine};

/// The platform of the artifacts of `packages`.
const PLATFORM: &str = "linux-amd64";

/// The product's manifest of downloads with the checksums of the simulated ones, in the shared folder.
const MANIFEST: &str = "offer/release.toml";

/// Replaces kindnet, which minikube starts with the container runtime containerd. Writes the same configuration for a single
/// node, and leaves masquerading to the plugin.
const KINDNET: &str = r#"#!/bin/sh
set -eu
subnet=$(echo "$POD_SUBNET" | sed 's#^\([0-9]*[.][0-9]*\)[.].*#\1.0.0/24#')
cat >/etc/cni/net.d/.new <<END
{"cniVersion": "0.3.1", "name": "kindnet", "plugins": [
  {"type": "ptp", "ipMasq": true, "mtu": 1500, "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam-state",
   "routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": "$subnet"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
mv /etc/cni/net.d/.new /etc/cni/net.d/10-kindnet.conflist
exec sleep infinity
"#;

/// Programs and images that the simulated internet offers.
pub struct StandIns {
    toolchain: Toolchain,
    pins: Pins,
    /// minikube's base image, with digest.
    pub kicbase: String,
    kindnet: String,
}

impl StandIns {
    /// Brings the programs and images, unless they exist.
    pub fn bring(project: &Project) -> Result<Self> {
        let toolchain =
            project.bring_tools(Mode::Apply, &Suite::E2e.requirements(&project.settings, &project.root)?)?;
        if let Some(refusal) = refuse_ordinary(toolchain.origin.name()) {
            return Err(refusal.into());
        }
        let minikube = toolchain.origin.tool(Tool::Minikube);
        let help = Process::new(minikube.as_str()).args(["start", "--help"]).read()?;
        let kicbase = Regex::new(r"--base-image='([^']+@sha256:[0-9a-f]{64})'")?;
        let kicbase = kicbase.captures(&help).context("`minikube start --help` names no base image")?[1].to_owned();
        let program = std::fs::read(&minikube).with_context(|| format!("reading {minikube}"))?;
        let kindnet = find_image(&program, b"kindnetd:v").context("minikube names no image of kindnet")?;
        let kindnet = format!("docker.io/kindest/{kindnet}");
        Ok(Self { toolchain, pins: Pins::read(&project.root)?, kicbase, kindnet })
    }

    /// Fills the simulated internet of `machine`, unless an earlier machine did. Writes the checksums of its downloads to
    /// `checkout`.
    pub fn offer(&self, project: &Project, machine: &Machine, checkout: &Utf8Path) -> Result<()> {
        // `kept` is written last, so its existence means that the content is complete.
        let (kept, manifest) = (machine.shared.join(MANIFEST), checkout.join(release::FILE));
        if xtask::files::exists(&kept)? {
            std::fs::copy(&kept, &manifest).with_context(|| format!("copying {kept}"))?;
            return Ok(());
        }
        let images = self.images(project, &machine.shared)?;
        registry::fill(&machine.shared, &self.toolchain.tools.engine, &images)?;
        self.offer_downloads(checkout, &machine.shared)?;
        std::fs::copy(&manifest, &kept).with_context(|| format!("copying {manifest}"))?;
        Ok(())
    }

    /// Writes the downloads, and replaces the official checksums in `checkout` by theirs.
    fn offer_downloads(&self, checkout: &Utf8Path, shared: &Utf8Path) -> Result<()> {
        let downloads = shared.join(DOWNLOADS);
        let manifest: BTreeMap<String, toml::Value> = toml::from_str(&pins::read_rendered(checkout, release::FILE)?)?;
        let path = checkout.join(release::FILE);
        let mut text = std::fs::read_to_string(&path)?;
        for (name, tool) in [("kubectl", Tool::Kubectl), ("helm", Tool::Helm), ("minikube", Tool::Minikube)] {
            let entry = &manifest.get(name).with_context(|| format!("{} has no {name}", release::FILE))?[PLATFORM];
            let field = |field: &str| entry.get(field).and_then(toml::Value::as_str);
            let path = download_path(&downloads, field("url").context("a download has no URL")?)?;
            let program = self.toolchain.origin.tool(tool);
            match field("member") {
                Some(member) => pack(&program, member, &path)?,
                None => drop(std::fs::copy(&program, &path).with_context(|| format!("copying {program}"))?),
            }
            text = text.replace(field("sha256").context("a download has no checksum")?, &checksum(&path)?);
        }
        std::fs::write(&path, text)?;
        // minikube's own downloads. `packages` builds all of Kubernetes as one program.
        let version = self.pins.render(file!(), "v{kubernetes}")?;
        let program = self.toolchain.origin.tool(Tool::Kubectl);
        for name in ["kubeadm", "kubectl", "kubelet"] {
            let url = format!("https://dl.k8s.io/release/{version}/bin/linux/amd64/{name}");
            let path = download_path(&downloads, &url)?;
            std::fs::copy(&program, &path)?;
            std::fs::write(format!("{path}.sha256"), checksum(&path)?)?;
        }
        std::fs::write(download_path(&downloads, "https://dl.k8s.io/release/stable.txt")?, &version)?;
        let tag = format!("https://api.github.com/repos/kubernetes/kubernetes/releases/tags/{version}");
        std::fs::write(download_path(&downloads, &tag)?, format!("{{\"tag_name\": \"{version}\"}}"))?;
        Ok(())
    }

    /// Returns the images of the registry.
    fn images(&self, project: &Project, shared: &Utf8Path) -> Result<Vec<RegistryImage>> {
        let mut images: Vec<RegistryImage> =
            self.pins.iter().filter_map(|(_, pin)| pin.image.as_deref().map(RegistryImage::official)).collect();
        for part in ["apiserver", "controller-manager", "scheduler", "proxy"] {
            let name = self.pins.render(file!(), &format!("registry.k8s.io/kube-{part}:v{{kubernetes}}"))?;
            images.push(RegistryImage::official(&name));
        }
        // Like the official node image, this one must trust the official hosts, and pods must reach its resolver. The image
        // of `packages` needs a flag for the resolver that `release` does not pass.
        let recipe = project.root.join("infra/packages/images/minikube-node/entrypoint");
        let entrypoint = std::fs::read_to_string(&recipe).with_context(|| format!("reading {recipe}"))?;
        let last = "exec \"$@\"";
        ensure!(entrypoint.contains(last), "{recipe} does not end with {last}");
        let entrypoint =
            entrypoint.replace(last, &format!("cat /etc/kubernetes/resolv.conf >/etc/resolv.conf\n{last}"));
        let bundle = std::fs::read(shared.join(OFFER).join("bundle.pem"))?;
        let (name, _digest) = self.kicbase.split_once('@').context("a digest")?;
        images.push(RegistryImage {
            engine: self.pins.render(file!(), "todo-xtask/minikube-node:v{minikube}")?,
            files: vec![
                ("etc/ssl/certs/ca-certificates.crt".to_owned(), 0o644, bundle),
                ("usr/local/bin/entrypoint".to_owned(), 0o755, entrypoint.into_bytes()),
            ],
            ..RegistryImage::official(name)
        });
        images.push(RegistryImage {
            engine: self.pins.render(file!(), "{debian.image}")?,
            files: vec![("usr/bin/kindnetd".to_owned(), 0o755, KINDNET.as_bytes().to_owned())],
            command: Some(vec!["/usr/bin/kindnetd".to_owned()]),
            ..RegistryImage::official(&self.kindnet)
        });
        Ok(images)
    }
}

/// Returns the first image name and tag in `program` that begins with `start`.
fn find_image(program: &[u8], start: &[u8]) -> Option<String> {
    let at = program.windows(start.len()).position(|bytes| bytes == start)?;
    let rest = &program[at + start.len()..];
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    // The tag is a date, a dash, and a commit of eight digits.
    let tag = rest.get(..digits + 9)?;
    String::from_utf8([start, tag].concat()).ok()
}

/// Returns the path of the file for `url`, and creates its folder.
fn download_path(downloads: &Utf8Path, url: &str) -> Result<Utf8PathBuf> {
    let (host, path) =
        url.strip_prefix("https://").and_then(|rest| rest.split_once('/')).context("an https address")?;
    let host = if host == "github.com" { hosts::ASSETS } else { host };
    let path = downloads.join(host).join(path);
    std::fs::create_dir_all(path.parent().context("a folder")?)?;
    Ok(path)
}

/// Writes a `.tar.gz` that contains `program` as `member`.
fn pack(program: &Utf8Path, member: &str, path: &Utf8Path) -> Result<()> {
    let mut builder = tar::Builder::new(GzEncoder::new(File::create(path)?, Compression::fast()));
    builder.append_path_with_name(program, member).with_context(|| format!("packing {program}"))?;
    Ok(builder.into_inner()?.finish()?.flush()?)
}
