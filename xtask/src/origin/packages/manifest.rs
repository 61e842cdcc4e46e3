//! `infra/packages/packages.toml` and the keys of its artifacts.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::engine::debian::Recipe;
use crate::failure::{Class, Failure};
use crate::pins;
use crate::pure;
use crate::units;

/// Folder of the recipes in the repository.
pub const FOLDER: &str = "infra/packages";
/// The manifest of the artifacts.
pub const FILE: &str = "infra/packages/packages.toml";

/// All artifacts that the origin can build.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Go programs by name; the module is the folder `go/<name>`.
    pub go: BTreeMap<String, Go>,
    /// npm folders by name: `npm/<name>`.
    pub npm: BTreeMap<String, Npm>,
    /// The root of the images.
    pub debian: Debian,
    /// Images by name; the Dockerfile is in the folder `images/<name>`.
    pub image: BTreeMap<String, ImageRecipe>,
    #[serde(skip)]
    dir: Utf8PathBuf,
}

/// A program of a Go module.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Go {
    /// The package to build.
    pub package: String,
    /// Linker flags, besides the ones that strip symbols.
    #[serde(default)]
    pub ldflags: Vec<String>,
    /// Modules with replaced files.
    #[serde(default)]
    pub patch: Vec<Patch>,
    /// Packages that separate runs of Go compile before the program. They do not change it, so the key excludes them.
    #[serde(default, skip_serializing)]
    pub parts: Vec<String>,
    /// Estimated compile time on two cores, in seconds.
    #[serde(skip_serializing)]
    pub seconds: u64,
}

/// A module whose files are partly replaced by ours.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// Module path.
    pub module: String,
    /// Module version.
    pub version: String,
    /// Checksum as in go.sum.
    pub sum: String,
    /// Packages that consist only of our files.
    #[serde(default)]
    pub packages: Vec<Utf8PathBuf>,
}

/// A folder with package.json and package-lock.json.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Npm {}

/// The Debian root.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debian {
    /// Tag in the engine.
    pub name: String,
    suite: String,
    packages: Vec<String>,
    exclude: Vec<String>,
}

impl Debian {
    /// Returns the recipe for mmdebstrap.
    pub fn recipe(&self) -> Recipe {
        Recipe { suite: self.suite.clone(), packages: self.packages.clone(), exclude: self.exclude.clone() }
    }
}

/// An image built from a folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageRecipe {
    /// Tags in the engine.
    pub names: Vec<String>,
    /// Go programs in it.
    #[serde(default)]
    pub bin: Vec<String>,
    /// npm folder in it.
    #[serde(default)]
    pub npm: Option<String>,
    /// Whether its base image is the Debian root, which its Dockerfile gets as `DEBIAN_IMAGE`.
    #[serde(default)]
    pub debian: bool,
    /// Build arguments. The key omits an empty map, so that older keys stay valid.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// Whether minikube needs the image to start.
    #[serde(default)]
    pub cluster: bool,
}

/// One artifact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Artifact {
    /// A Go program.
    Go(String),
    /// An npm folder.
    Npm(String),
    /// The Debian root as an image.
    Debian,
    /// An image.
    Image(String),
}

impl std::fmt::Display for Artifact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Go(name) => f.write_str(name),
            Self::Npm(name) => write!(f, "npm {name}"),
            Self::Debian => f.write_str("image debian"),
            Self::Image(name) => write!(f, "image {name}"),
        }
    }
}

impl Manifest {
    /// Reads the manifest below `root` and inserts the pins. Fails if it names a missing artifact.
    pub fn read(root: &Utf8Path) -> Result<Self> {
        let dir = root.join(FOLDER);
        let wrong = |what: String| Failure::new(Class::Config, what).help(format!("git diff {FOLDER}"));
        let text = pins::read_rendered(root, FILE)?;
        let mut manifest: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| pins::line_of(&text, span.start));
            wrong(format!("{FILE}:{line}: {}", error.message()))
        })?;
        for (name, image) in &manifest.image {
            let unknown = image.bin.iter().find(|bin| !manifest.go.contains_key(*bin));
            let unknown = unknown.or(image.npm.as_ref().filter(|npm| !manifest.npm.contains_key(*npm)));
            if let Some(unknown) = unknown {
                return Err(wrong(format!("{FILE}: image.{name} names `{unknown}`, which nothing makes")).into());
            }
        }
        manifest.dir = dir;
        Ok(manifest)
    }

    /// Returns the folder with the artifact's recipe, if it has one.
    pub fn folder(&self, artifact: &Artifact) -> Option<Utf8PathBuf> {
        match artifact {
            Artifact::Go(name) => Some(self.dir.join("go").join(name)),
            Artifact::Npm(name) => Some(self.dir.join("npm").join(name)),
            Artifact::Image(name) => Some(self.dir.join("images").join(name)),
            Artifact::Debian => None,
        }
    }

    /// Returns the direct parts of the artifact.
    pub fn made_from(&self, artifact: &Artifact) -> Vec<Artifact> {
        let Artifact::Image(name) = artifact else { return Vec::new() };
        let image = &self.image[name];
        let debian = image.debian.then_some(Artifact::Debian);
        let npm = image.npm.iter().cloned().map(Artifact::Npm);
        debian.into_iter().chain(npm).chain(image.bin.iter().cloned().map(Artifact::Go)).collect()
    }

    /// Returns `wanted` with all parts, each once and after its own parts, in the order of `wanted`.
    pub fn closure(&self, wanted: &[Artifact]) -> Vec<Artifact> {
        let with_parts = |artifact: &Artifact| self.made_from(artifact).into_iter().chain([artifact.clone()]);
        let mut seen = BTreeSet::new();
        wanted.iter().flat_map(with_parts).filter(|artifact| seen.insert(artifact.clone())).collect()
    }

    /// Returns the image whose tags include `official`.
    pub fn image_named(&self, official: &str) -> Option<Artifact> {
        if self.debian.name == official {
            return Some(Artifact::Debian);
        }
        let found = self.image.iter().find(|(_, image)| image.names.iter().any(|name| name == official));
        found.map(|(name, _)| Artifact::Image(name.clone()))
    }

    /// Returns the tags of an image artifact.
    pub fn names(&self, artifact: &Artifact) -> Vec<String> {
        match artifact {
            Artifact::Image(name) => self.image[name].names.clone(),
            Artifact::Debian => vec![self.debian.name.clone()],
            _ => Vec::new(),
        }
    }

    /// Returns a digest of all inputs of the artifact: 16 hexadecimal digits.
    pub fn key(&self, artifact: &Artifact) -> Result<String> {
        pure::effect(format!("reads the recipe of {artifact}"));
        let mut hash = Sha256::new();
        hash.update(std::env::consts::ARCH);
        hash.update(match artifact {
            Artifact::Go(name) => serde_json::to_vec(&self.go[name])?,
            Artifact::Npm(name) => serde_json::to_vec(&self.npm[name])?,
            Artifact::Debian => serde_json::to_vec(&self.debian)?,
            Artifact::Image(name) => serde_json::to_vec(&self.image[name])?,
        });
        if let Some(folder) = self.folder(artifact) {
            for entry in walkdir::WalkDir::new(&folder).sort_by_file_name() {
                let entry = entry.with_context(|| format!("reading the recipe {folder}"))?;
                if entry.file_type().is_file() {
                    hash.update(entry.path().strip_prefix(&folder)?.to_string_lossy().as_bytes());
                    hash.update(Sha256::digest(std::fs::read(entry.path())?));
                }
            }
        }
        for part in self.made_from(artifact) {
            hash.update(self.key(&part)?);
        }
        Ok(units::hex(&hash.finalize()[..8]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Utf8PathBuf {
        Utf8Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
    }

    /// Returns a copy of the real recipes that a test may change.
    fn copy() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let to = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        std::fs::create_dir_all(to.join("infra")).unwrap();
        std::fs::copy(root().join(pins::FILE), to.join(pins::FILE)).unwrap();
        for entry in walkdir::WalkDir::new(root().join(FOLDER)) {
            let entry = entry.unwrap();
            let path = to.join(Utf8Path::from_path(entry.path()).unwrap().strip_prefix(root()).unwrap());
            if entry.file_type().is_dir() {
                std::fs::create_dir_all(path).unwrap();
            } else {
                std::fs::copy(entry.path(), path).unwrap();
            }
        }
        (dir, to)
    }

    fn keys(root: &Utf8Path) -> BTreeMap<String, String> {
        let manifest = Manifest::read(root).unwrap();
        let all = manifest.image.keys().cloned().map(Artifact::Image);
        let all = all.chain(manifest.go.keys().cloned().map(Artifact::Go)).chain([Artifact::Debian]);
        all.map(|artifact| (artifact.to_string(), manifest.key(&artifact).unwrap())).collect()
    }

    /// Returns the artifacts whose keys a change of the recipe file `file` changes.
    fn remade(file: &str, change: impl Fn(&str) -> String) -> Vec<String> {
        remade_by(&format!("{FOLDER}/{file}"), change)
    }

    /// Returns the artifacts whose keys a change of `file`, a path in the checkout, changes.
    fn remade_by(file: &str, change: impl Fn(&str) -> String) -> Vec<String> {
        let (_guard, root) = copy();
        let before = keys(&root);
        let path = root.join(file);
        std::fs::write(&path, change(&std::fs::read_to_string(&path).unwrap())).unwrap();
        let after = keys(&root);
        after.into_iter().filter(|(name, key)| before[name] != *key).map(|(name, _)| name).collect()
    }

    #[test]
    fn a_changed_pin_remakes_exactly_what_depends_on_it() {
        let append = |text: &str| format!("{text}\n// changed\n");
        assert_eq!(remade("go/coredns/go.mod", append), ["coredns", "image coredns"]);
        assert_eq!(remade("go/helm/go.sum", append), ["helm"]);
        assert_eq!(remade("images/postgres/Dockerfile", append), ["image postgres"]);
        assert_eq!(remade("npm/node/package-lock.json", append), ["image node"]);
        let debian = |text: &str| text.replace("suite = \"{debian}\"", "suite = \"forky\"");
        let on_debian =
            ["image debian", "image kube", "image minikube-node", "image node", "image postgres", "image python"];
        assert_eq!(remade("packages.toml", debian), on_debian);
        // An estimate does not affect the artifact.
        assert!(remade("packages.toml", |text| text.replace("seconds = 215", "seconds = 216")).is_empty());
    }

    /// An unused pin changes nothing. A used one changes its users, and the artifacts built from them.
    #[test]
    fn a_raised_pin_changes_the_keys_of_those_that_name_it_alone() {
        let raise = |name: &'static str, to: &'static str| {
            remade_by(pins::FILE, move |text| {
                let at = text.find(&format!("[{name}]\nversion = \"")).unwrap() + name.len() + 14;
                let end = at + text[at..].find('"').unwrap();
                format!("{}{to}{}", &text[..at], &text[end..])
            })
        };
        assert_eq!(raise("traefik", "9.9.9"), ["image traefik", "traefik"]);
        assert_eq!(raise("kubernetes", "1.99.9"), ["image kube", "kube"]);
        assert_eq!(raise("lego", "9.9.9"), ["image traefik", "traefik"]);
        assert_eq!(raise("etcd", "9.9.9"), ["image etcd"]);
        assert_eq!(raise("postgres", "99"), ["image postgres"]);
        assert!(raise("npm", "99.0.0").is_empty(), "its recipe is package.json, which a test compares");
        let purpose = |text: &str| text.replace("the ingress controller", "routes");
        assert!(remade_by(pins::FILE, purpose).is_empty());
    }

    #[test]
    fn artifacts_are_made_in_the_order_of_requirements_after_their_parts() {
        let manifest = Manifest::read(&root()).unwrap();
        let image = |name: &str| Artifact::Image(name.to_owned());
        let order =
            manifest.closure(&[Artifact::Go("kube".to_owned()), image("kube"), image("traefik"), image("node")]);
        let order: Vec<String> = order.iter().map(ToString::to_string).collect();
        assert_eq!(order, ["kube", "image debian", "image kube", "traefik", "image traefik", "npm node", "image node"]);
    }

    #[test]
    fn every_recipe_is_complete() {
        let manifest = Manifest::read(&root()).unwrap();
        for name in manifest.go.keys() {
            let folder = manifest.folder(&Artifact::Go(name.clone())).unwrap();
            assert!(folder.join("go.mod").is_file(), "{folder}");
        }
        for name in manifest.image.keys() {
            let folder = manifest.folder(&Artifact::Image(name.clone())).unwrap();
            assert!(folder.join("Dockerfile").is_file(), "{folder}");
        }
    }
}
