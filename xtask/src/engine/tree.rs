//! The engine's root file system: its recipe, and scripts that run its client on the machine.

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};

use super::debian::{self, Dest, Recipe};
use super::paths::EnginePaths;
use super::{mounts, reap};
use crate::failure::{Class, Failure};
use crate::files;
use crate::pins;
use crate::report::Running;

/// Path of the recipe in the repository.
pub const RECIPE: &str = "infra/packages/engine.toml";

/// Dynamic loader and library folder of a Debian architecture, below its root.
struct Abi {
    loader: &'static str,
    libraries: &'static str,
}

const AMD64: Abi = Abi { loader: "usr/lib64/ld-linux-x86-64.so.2", libraries: "usr/lib/x86_64-linux-gnu" };
const ARM64: Abi = Abi { loader: "usr/lib/ld-linux-aarch64.so.1", libraries: "usr/lib/aarch64-linux-gnu" };

/// Returns whether Debian has packages for this machine's processor.
pub fn supported(arch: &str) -> bool {
    abi(arch).is_some()
}

fn abi(arch: &str) -> Option<&'static Abi> {
    match arch {
        "x86_64" => Some(&AMD64),
        "aarch64" => Some(&ARM64),
        _ => None,
    }
}

/// Reads the recipe below `root`.
pub fn recipe(root: &Utf8Path) -> Result<Recipe> {
    Recipe::parse(RECIPE, &pins::read_rendered(root, RECIPE)?)
}

/// Returns whether the tree for `key` is complete: only a complete one gets its name.
pub fn ready(paths: &EnginePaths, key: &str) -> Result<bool> {
    files::exists(&paths.tree(key).join("usr/sbin/dockerd"))
}

/// Makes the tree for `recipe`, if it does not exist.
pub fn make(paths: &EnginePaths, recipe: &Recipe, log: &Utf8Path, running: &Running) -> Result<String> {
    let tree = paths.tree(&recipe.key());
    debian::debian_tree(&paths.cache, log, recipe, &Dest::Tree(tree.clone()), running)?;
    let versions = std::fs::read_to_string(debian::versions_file(&tree)).unwrap_or_default();
    Ok(version_of(&versions, "docker.io").map_or_else(|| tree.to_string(), |v| format!("Docker Engine {v}")))
}

fn version_of<'a>(versions: &'a str, package: &str) -> Option<&'a str> {
    versions.lines().find_map(|line| line.strip_prefix(package)?.strip_prefix('\t'))
}

/// Removes trees of other recipes, once nothing runs from them.
pub fn drop_others(paths: &EnginePaths, key: &str) -> Result<()> {
    let current = paths.tree(key);
    for tree in paths.trees()?.iter().filter(|tree| !tree.as_str().starts_with(current.as_str())) {
        if reap::alive_in(tree)?.is_empty() {
            mounts::remove_tree(tree)?;
            let _ = std::fs::remove_file(debian::versions_file(tree));
        }
    }
    Ok(())
}

/// Writes the client and its buildx plugin: scripts that run the tree's binaries through the tree's own loader, whatever
/// the machine's C library.
pub fn write_client(paths: &EnginePaths, key: &str) -> Result<()> {
    let tree = paths.tree(key);
    let abi =
        abi(std::env::consts::ARCH).ok_or_else(|| Failure::new(Class::Machine, "no engine for this processor"))?;
    let config = paths.config();
    let plugins = config.join("cli-plugins");
    script(&paths.client(), &tree, abi, "usr/bin/docker")?;
    script(&plugins.join("docker-buildx"), &tree, abi, "usr/libexec/docker/cli-plugins/docker-buildx")?;
    Ok(())
}

fn script(path: &Utf8PathBuf, tree: &Utf8Path, abi: &Abi, program: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let text = wrapper(tree, abi, program);
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    std::fs::create_dir_all(path.parent().unwrap_or(tree)).with_context(|| format!("making the folder of {path}"))?;
    let new = path.with_extension("new");
    std::fs::write(&new, text).with_context(|| format!("writing {new}"))?;
    std::fs::set_permissions(&new, PermissionsExt::from_mode(0o755))?;
    std::fs::rename(&new, path).with_context(|| format!("writing {path}"))
}

fn wrapper(tree: &Utf8Path, abi: &Abi, program: &str) -> String {
    let quoted = |path: &str| crate::units::quote(tree.join(path));
    let (loader, libraries, program) = (quoted(abi.loader), quoted(abi.libraries), quoted(program));
    format!("#!/bin/sh\nexec {loader} --library-path {libraries} {program} \"$@\"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wrapper_survives_spaces_in_the_path() {
        let text = wrapper(Utf8Path::new("/a b/tree"), &AMD64, "usr/bin/docker");
        assert_eq!(
            text,
            "#!/bin/sh\nexec '/a b/tree/usr/lib64/ld-linux-x86-64.so.2' --library-path \
             '/a b/tree/usr/lib/x86_64-linux-gnu' '/a b/tree/usr/bin/docker' \"$@\"\n"
        );
    }

    #[test]
    fn versions_are_found_by_whole_name() {
        let list = "docker-cli\t26.1.5+dfsg1-9\ndocker.io\t26.1.5+dfsg1-9+b9\n";
        assert_eq!(version_of(list, "docker.io"), Some("26.1.5+dfsg1-9+b9"));
        assert_eq!(version_of(list, "docker"), None);
    }

    #[test]
    fn the_real_recipe_is_valid() {
        let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let recipe = recipe(root).unwrap();
        assert!(recipe.packages.iter().any(|p| p == "docker.io"));
        assert_eq!(recipe.key(), recipe.clone().key());
    }
}
