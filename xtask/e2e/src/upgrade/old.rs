//! The xtask of an earlier version, built from the repository's history, with its own cache.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;

use xtask::engine::paths::EnginePaths;
use xtask::engine::{debian, mounts};
use xtask::failure::{Class, Failure};
use xtask::members;
use xtask::process::{ALL, Process};
use xtask::project::Project;

use crate::test_cluster::TestCluster;

const RECIPES: &str = include_str!("../../upgrades.toml");
/// Time limit for cargo on two busy cores.
const BUILD: Duration = Duration::from_secs(1800);
/// Time limit for a first deploy, which may compile Kubernetes.
const DEPLOY: Duration = Duration::from_secs(2700);
/// The part of the engine's data that contains images and BuildKit's cache. BuildKit uses only the cache of its own engine-id.
const IMAGES: [&str; 4] = ["buildkit", "engine-id", "image", "overlay2"];

/// The content of upgrades.toml.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipes {
    state: Vec<Recipe>,
}

/// The recipe for the state of an earlier version.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The version's name in CHANGELOG.md.
    pub version: String,
    /// The version's commit.
    pub commit: String,
    /// The Kubernetes version that it installs in a new cluster.
    pub kubernetes: String,
    /// The environment to deploy.
    pub environment: String,
}

impl Recipe {
    /// Returns all recipes, the oldest first.
    pub fn all() -> Result<Vec<Self>> {
        let recipes: Recipes = toml::from_str(RECIPES).context("reading xtask/e2e/upgrades.toml")?;
        Ok(recipes.state)
    }

    /// Returns the folder of its files, beside the cache. It is kept from run to run.
    pub fn folder(&self, project: &Project) -> Utf8PathBuf {
        let short = self.commit.get(..12).unwrap_or(&self.commit);
        Utf8PathBuf::from(format!("{}-upgrade", project.cache)).join(short)
    }
}

/// The xtask of an earlier version.
pub struct EarlierXtask {
    recipe: Recipe,
    program: Utf8PathBuf,
    checkout: Utf8PathBuf,
}

impl EarlierXtask {
    /// Checks out the commit if needed, and builds its xtask.
    pub fn build(project: &Project, recipe: &Recipe) -> Result<Self> {
        let folder = recipe.folder(project);
        let checkout = folder.join("checkout");
        std::fs::create_dir_all(&folder).with_context(|| format!("creating {folder}"))?;
        check_out(&project.root, &recipe.commit, &checkout)?;
        let target = folder.join("target");
        let build = members::cargo().args(["build", "--locked", "--package", "xtask"]).cwd(&checkout);
        let build = build.env("CARGO_TARGET_DIR", target.as_str()).log(project.log("upgrade-build")).deadline(BUILD);
        build.run()?;
        Ok(Self { recipe: recipe.clone(), program: target.join("debug/xtask"), checkout })
    }

    /// Writes `.env` of its checkout, readable by its owner only.
    pub fn write_dotenv(&self, text: &str) -> Result<()> {
        crate::test_cluster::write_private(&self.checkout.join(".env"), text)
    }

    /// Runs the earlier xtask on the cluster of `test_cluster`.
    pub fn run(&self, test_cluster: &TestCluster, args: &[&str]) -> Result<String> {
        let port = test_cluster.port.to_string();
        let mut process = Process::new(self.program.as_str())
            .args(["--yes", "--root", self.checkout.as_str(), "--profile", &test_cluster.profile, "--port", &port])
            .args(args.iter().copied())
            .inherit(ALL)
            .log(&test_cluster.log)
            .deadline(DEPLOY);
        for (name, value) in test_cluster.environment() {
            process = process.env(name, value);
        }
        let output = process.output()?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let version = &self.recipe.version;
        ensure!(output.status.success(), "the xtask of {version} failed ({}):\n{text}", output.status);
        Ok(text)
    }
}

/// Sets the origin of the cache `to`: the requested one, or the main cache's.
pub fn lend_origin(project: &Project, to: &Utf8Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("creating {to}"))?;
    let name = match project.options.origin {
        Some(origin) => origin.name().to_owned(),
        None => match std::fs::read_to_string(project.cache.join("origin")) {
            Ok(name) => name,
            // Without a recorded origin, the first run probes.
            Err(_) => return Ok(()),
        },
    };
    std::fs::write(to.join("origin"), name).with_context(|| format!("writing {to}/origin"))
}

/// Makes `checkout` a clone of `repository` at `commit`, with objects of its own.
fn check_out(repository: &Utf8Path, commit: &str, checkout: &Utf8Path) -> Result<()> {
    let git = |folder: &Utf8Path| Process::new("git").cwd(folder);
    if !git(repository).args(["cat-file", "-e", &format!("{commit}^{{commit}}")]).succeeds() {
        let what = format!("the history of {repository} does not have commit {commit}, which the suite upgrades from");
        return Err(Failure::new(Class::Check, what)
            .help("git fetch --unshallow    (in a shallow clone, such as that of a CI job)")
            .help("or: git fetch origin")
            .into());
    }
    let wanted = git(repository).args(["rev-parse", &format!("{commit}^{{commit}}")]).read()?;
    let head = checkout.join(".git").exists().then(|| git(checkout).args(["rev-parse", "HEAD"]).read());
    let is_at_commit = head.is_some_and(|head| head.is_ok_and(|head| head == wanted));
    if is_at_commit && git(checkout).args(["reset", "--hard", "--quiet"]).succeeds() {
        return Ok(());
    }
    if checkout.exists() {
        std::fs::remove_dir_all(checkout).with_context(|| format!("removing {checkout}"))?;
    }
    // The next run may come from another checkout, when this one is gone.
    let clone = ["clone", "--no-local", "--no-checkout", "--quiet", repository.as_str(), checkout.as_str()];
    git(repository).args(clone).run()?;
    git(checkout).args(["checkout", "--quiet", "--detach", wanted.trim()]).run()
}

/// Links the compiled programs of the cache `from` into the cache `to`. A key determines its program, so both caches may
/// share it; that saves minutes of compiling. Returns the number of programs.
pub fn lend_programs(from: &Utf8Path, to: &Utf8Path) -> Result<usize> {
    let (from, to) = (from.join("packages/go"), to.join("packages/go"));
    let Ok(entries) = from.read_dir_utf8() else { return Ok(0) };
    std::fs::create_dir_all(&to).with_context(|| format!("creating {to}"))?;
    let mut lent = 0;
    for entry in entries {
        let entry = entry?;
        let key = entry.file_name();
        // Other entries are incomplete.
        let finished = key.len() == 16 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !finished || to.join(key).exists() {
            continue;
        }
        let new = to.join(format!("{key}.lent"));
        let _ = std::fs::remove_dir_all(&new);
        std::fs::create_dir_all(&new)?;
        for file in entry.path().read_dir_utf8()? {
            let file = file?;
            let target = new.join(file.file_name());
            let meta = file.path().symlink_metadata()?;
            if meta.is_symlink() {
                std::os::unix::fs::symlink(std::fs::read_link(file.path())?, &target)?;
            } else {
                std::fs::hard_link(file.path(), &target)
                    .or_else(|_| std::fs::copy(file.path(), &target).map(drop))
                    .with_context(|| format!("copying {}", file.path()))?;
            }
        }
        std::fs::rename(&new, to.join(key)).with_context(|| format!("moving {new}"))?;
        lent += 1;
    }
    Ok(lent)
}

/// Prepares the engine of the cache `to`, unless a killed run left one. Copies the root file systems of the engine in the
/// cache `from`, which have the keys of their recipes as names. Moves the images of [`keep_images`] back.
pub fn lend_engine(from: &Utf8Path, to: &Utf8Path, kept: &Utf8Path) -> Result<()> {
    let (from, to) = (EnginePaths::new(from), EnginePaths::new(to));
    std::fs::create_dir_all(to.dir()).with_context(|| format!("creating {}", to.dir()))?;
    // Other folders are incomplete.
    for tree in from.trees()?.iter().filter(|tree| debian::versions_file(tree).is_file()) {
        let target = to.dir().join(tree.file_name().context("a tree has a name")?);
        let new = Utf8PathBuf::from(format!("{target}.new"));
        mounts::remove_tree(&new)?;
        if !target.exists() {
            Process::new("cp").args(["--archive", tree.as_str(), new.as_str()]).run()?;
            std::fs::copy(debian::versions_file(tree), debian::versions_file(&target))?;
            std::fs::rename(&new, &target).with_context(|| format!("moving {new}"))?;
        }
    }
    if kept.exists() && !to.data().exists() {
        std::fs::rename(kept, to.data()).with_context(|| format!("moving {kept}"))?;
    }
    Ok(())
}

/// Moves images and BuildKit's cache out of the engine in `cache`, which is about to be removed.
pub fn keep_images(cache: &Utf8Path, kept: &Utf8Path) -> Result<()> {
    let (data, new) = (EnginePaths::new(cache).data(), Utf8PathBuf::from(format!("{kept}.new")));
    for folder in [&new, kept] {
        mounts::remove_tree(folder)?;
    }
    std::fs::create_dir(&new).with_context(|| format!("creating {new}"))?;
    for name in IMAGES {
        std::fs::rename(data.join(name), new.join(name)).with_context(|| format!("moving {data}/{name}"))?;
    }
    std::fs::rename(&new, kept).with_context(|| format!("moving {new}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_are_valid_and_their_versions_are_in_the_changelog() {
        let changelog = include_str!("../../../../CHANGELOG.md");
        for recipe in Recipe::all().unwrap() {
            assert!(changelog.contains(&format!("## [{}]", recipe.version)), "{recipe:?}");
            assert!(recipe.commit.len() == 40 && recipe.kubernetes.starts_with('v'), "{recipe:?}");
        }
    }
}
