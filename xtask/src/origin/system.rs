//! `--system-tools`: kubectl, helm and minikube on PATH if their version is supported; the origin provides the others.

use std::collections::BTreeMap;

use anyhow::Result;
use camino::Utf8PathBuf;

use super::bases::BaseRecords;
use super::{NodeContent, Observed, Origin, Refresh, Requirement, Tool};
use crate::engine::Engine;
use crate::process::Process;
use crate::report::Report;

/// An origin that prefers supported tools on PATH.
pub struct SystemTools {
    inner: Box<dyn Origin>,
    found: BTreeMap<Tool, Utf8PathBuf>,
}

impl SystemTools {
    /// Asks each tool on PATH for its version. Reports the unused ones with the reason.
    pub fn over(inner: Box<dyn Origin>, kubernetes: &str, report: &Report) -> Self {
        let questions = [
            (Tool::Kubectl, "kubectl", vec!["version", "--client"]),
            (Tool::Helm, "helm", vec!["version", "--short"]),
            (Tool::Minikube, "minikube", vec!["version", "--short"]),
        ];
        let mut found = BTreeMap::new();
        for (tool, name, args) in questions {
            let version = Process::new(name).args(args).read().ok().and_then(|text| version(&text));
            match version {
                Some(version) if will_do(tool, version, kubernetes) => {
                    found.insert(tool, Utf8PathBuf::from(name));
                }
                Some((major, minor)) => {
                    report.note(format!("{name} {major}.{minor} on PATH is not supported: using the pinned one"));
                }
                None => report.note(format!("no {name} on PATH prints its version: using the pinned one")),
            }
        }
        Self { inner, found }
    }

    /// Returns the `requirements` that no tool on PATH meets.
    fn others(&self, requirements: &[Requirement]) -> Vec<Requirement> {
        let found = |requirement: &&Requirement| matches!(requirement, Requirement::Tool(tool) if self.found.contains_key(tool));
        requirements.iter().filter(|requirement| !found(requirement)).cloned().collect()
    }
}

/// Returns the first `major.minor` in the output of a version command.
fn version(text: &str) -> Option<(u32, u32)> {
    let word = text.split_whitespace().find(|word| word.trim_start_matches('v').contains('.'))?;
    let mut numbers = word.trim_start_matches('v').split('.').map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// Returns whether the version is supported. kubectl: at most one minor version from the cluster's (Kubernetes' version
/// skew policy). Helm: 4. minikube: 1.38 or newer, for the pinned Kubernetes and containerd.
fn will_do(tool: Tool, (major, minor): (u32, u32), kubernetes: &str) -> bool {
    match tool {
        Tool::Kubectl => version(kubernetes).is_some_and(|(m, n)| m == major && n.abs_diff(minor) <= 1),
        Tool::Helm => major == 4,
        Tool::Minikube => major == 1 && minor >= 38,
        Tool::Gitleaks | Tool::HelmUnittest | Tool::Actionlint => false,
    }
}

impl Origin for SystemTools {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn observe(&self, requirements: &[Requirement], engine: &Engine) -> Result<Observed<'_>> {
        self.inner.observe(&self.others(requirements), engine)
    }

    fn is_there(&self, requirements: &[Requirement], engine: &Engine) -> Result<bool> {
        self.inner.is_there(&self.others(requirements), engine)
    }

    fn tool(&self, tool: Tool) -> Utf8PathBuf {
        self.found.get(&tool).cloned().unwrap_or_else(|| self.inner.tool(tool))
    }

    fn image(&self, official: &str) -> String {
        self.inner.image(official)
    }

    fn roots(&self) -> Vec<String> {
        self.inner.roots()
    }

    fn base_records(&self) -> &BaseRecords {
        self.inner.base_records()
    }

    fn refresh(&self, images: &[String], engine: &Engine) -> Result<Refresh<'_>> {
        self.inner.refresh(images, engine)
    }

    fn node_content(&self) -> Option<NodeContent> {
        self.inner.node_content()
    }

    fn minikube_flags(&self) -> Vec<String> {
        self.inner.minikube_flags()
    }

    fn minikube_restart_flags(&self) -> Vec<String> {
        self.inner.minikube_restart_flags()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_tools_print() {
        assert_eq!(version("Client Version: v1.36.4\nKustomize Version: v5.8.1\n"), Some((1, 36)));
        assert_eq!(version("v4.2.4+g1234\n"), Some((4, 2)));
        assert_eq!(version("v1.38.1\n"), Some((1, 38)));
        assert_eq!(version("none\n"), None);
    }

    #[test]
    fn uses_only_supported_versions() {
        assert!(will_do(Tool::Kubectl, (1, 35), "v1.36.4") && !will_do(Tool::Kubectl, (1, 31), "v1.36.4"));
        assert!(will_do(Tool::Helm, (4, 2), "v1.36.4") && !will_do(Tool::Helm, (3, 19), "v1.36.4"));
        assert!(!will_do(Tool::Minikube, (1, 33), "v1.36.4"));
    }
}
