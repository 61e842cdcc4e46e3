//! The commands of `docker` that xtask uses.

use serde_json::json;

use super::node::on_node;
use super::{BuiltImage, Machine, PROFILE, Surroundings, ToolResult, container, read_context, save};

impl Machine {
    pub(super) fn docker(&mut self, words: &[&str], input: &[u8], around: &Surroundings) -> Option<ToolResult> {
        Some(match words {
            ["version", ..] => ToolResult::well("29.1.0\n"),
            ["context", "inspect", ..] => ToolResult::well("default unix:///var/run/docker.sock\n"),
            ["context", "show"] => ToolResult::well("default\n"),
            ["container", "inspect", .., name] => self.inspect_container(name, around),
            ["image", "inspect", "--format", _, references @ ..] => self.inspect_images("image", references),
            ["inspect", "--format", _, names @ ..] => {
                let (images, containers): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.contains(':'));
                let mut done = self.inspect_images("object", &images);
                for name in containers {
                    let node = self.inspect_container(name, around);
                    done.output.extend_from_slice(&node.output);
                    done.error += &node.error.replace("such container", "such object");
                    done.code = done.code.max(node.code);
                }
                done
            }
            ["image", "ls", "--quiet", ..] | ["image", "ls", "--no-trunc", "--quiet", ..] => ToolResult::well(""),
            ["image", "ls", "--no-trunc", ..] => {
                let line = |image: &BuiltImage| format!("{}\t{}\t1MB\n", image.id(), image.reference);
                ToolResult::well(self.images.iter().map(line).collect::<String>())
            }
            ["system", "df", ..] => ToolResult::well("Images\t4\t4MB\nBuild Cache\t0\t0B\n"),
            ["image", "ls", ..] => {
                ToolResult::well(self.images.iter().map(|i| i.reference.clone() + "\n").collect::<String>())
            }
            ["image", "prune", ..] => ToolResult::well("Total reclaimed space: 0B\n"),
            ["info", ..] => ToolResult::well("25769803776 4\n"),
            ["image", "rm", .., reference] => self.remove_image(reference),
            ["buildx", "build", rest @ ..] => self.build(rest, input)?,
            ["buildx", "prune" | "du", ..] => ToolResult::well("Total:\t0B\n"),
            ["save", .., reference] => match self.image(reference) {
                Some(image) => ToolResult::well(save(image)),
                None => ToolResult::badly(format!("Error response from daemon: No such image: {reference}")),
            },
            ["pull", reference] => {
                self.pulled(reference);
                ToolResult::well(format!("{reference}\n"))
            }
            ["exec", "-i", PROFILE, rest @ ..] => match self.node.as_deref() {
                Some("running") => on_node(self, rest, input, around)?,
                Some(_) => ToolResult::badly(format!("Error response from daemon: container {PROFILE} is not running")),
                None => ToolResult::badly(format!("Error response from daemon: No such container: {PROFILE}")),
            },
            ["unpause", name] => {
                self.node = Some("running".to_owned());
                ToolResult::well(format!("{name}\n"))
            }
            ["rm", ..] => {
                self.done.push("docker rm".to_owned());
                self.node = None;
                ToolResult::well("todo\n")
            }
            // The volume with the data of the node, which outlives the container.
            ["volume", "inspect", .., name] => ToolResult::well(format!("{{\"Name\": \"{name}\"}}\n")),
            ["volume", "rm", ..] => ToolResult::well("todo\n"),
            _ => return None,
        })
    }

    fn image(&self, reference: &str) -> Option<&BuiltImage> {
        self.images.iter().find(|image| image.reference == reference || image.id() == reference)
    }

    fn inspect_container(&self, name: &str, around: &Surroundings) -> ToolResult {
        match self.node.as_deref().filter(|_| name == PROFILE) {
            Some(status) => ToolResult::well(format!("{}\n", container(status, around))),
            None => ToolResult::badly(format!("Error response from daemon: No such container: {name}")),
        }
    }

    fn inspect_images(&self, noun: &str, references: &[&str]) -> ToolResult {
        let mut done = ToolResult::well("");
        for reference in references {
            let Some(image) = self.image(reference) else {
                done.error += &format!("Error response from daemon: No such {noun}: {reference}\n");
                done.code = 1;
                continue;
            };
            let line = json!({"Id": image.id(), "RepoTags": [image.reference], "RepoDigests": [],
                "Metadata": {"LastTagTime": "2026-11-27T00:00:00Z"}});
            done.output.extend_from_slice(format!("{line}\n").as_bytes());
        }
        done
    }

    fn remove_image(&mut self, reference: &str) -> ToolResult {
        let before = self.images.len();
        self.images.retain(|image| image.reference != *reference);
        if self.images.len() == before {
            return ToolResult::badly(format!("Error response from daemon: No such image: {reference}"));
        }
        ToolResult::well(format!("Untagged: {reference}\n"))
    }

    /// Builds an image from a folder, or from a tar archive in `input`. Returns `None` if the tag is missing or the
    /// context cannot be read.
    fn build(&mut self, words: &[&str], input: &[u8]) -> Option<ToolResult> {
        let tag = words.windows(2).find(|pair| pair[0] == "--tag").map(|pair| pair[1])?;
        let content = read_context(words.last()?, input).ok()?;
        let image = BuiltImage::new(tag, &content);
        self.done.push(format!("build {tag}"));
        if content.contains("this image crashes") {
            self.crashing.insert(image.id());
        }
        let output = format!(
            "#1 [internal] load build definition from Dockerfile\n#1 DONE 0.0s\n#2 exporting to image\n#2 naming to docker.io/library/{tag} done\n"
        );
        self.images.retain(|other| other.reference != tag);
        self.images.insert(0, image);
        Some(ToolResult { output: Vec::new(), error: output, code: 0 })
    }
}
