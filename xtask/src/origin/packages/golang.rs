//! Go programs: modules are fetched first (the network works), compiled then (the processors work).

use std::time::Duration;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};

use super::manifest::Go;
use crate::failure::{Class, Failure};
use crate::process::Process;

/// Where Go keeps what it fetches and compiles for us; removed when everything is made.
#[derive(Clone, Debug)]
pub struct Caches {
    /// The folder of both.
    pub dir: Utf8PathBuf,
}

impl Caches {
    fn aim(&self, process: Process) -> Process {
        process
            .env("GOMODCACHE", self.dir.join("mod").as_str())
            .env("GOCACHE", self.dir.join("build").as_str())
            // What runs is what the recipe pins: no other toolchain, workspace or flags of the user's.
            .env("GOTOOLCHAIN", "local")
            .env("GOWORK", "off")
            .env("GOFLAGS", "-mod=readonly")
            .env("CGO_ENABLED", "0")
    }

    /// Removes both. `go clean` knows how: the module cache is read-only.
    pub fn drop_all(&self) -> Result<()> {
        if self.dir.exists() {
            self.aim(Process::new("go").args(["clean", "-cache", "-modcache"]))
                .deadline(Duration::from_secs(300))
                .run()?;
            std::fs::remove_dir_all(&self.dir).with_context(|| format!("removing {}", self.dir))?;
        }
        Ok(())
    }

    /// Fetches the modules that the package's files need, and no others.
    pub fn fetch(&self, module: &Utf8Path, go: &Go, overlay: Option<&Utf8Path>, log: &Utf8Path) -> Process {
        let list = Process::new("go").args(["list", "-deps", "-f", "{{with .Error}}{{.}}{{end}}"]);
        self.aim(with_overlay(list, overlay).arg(&go.package)).cwd(module).log(log).deadline(Duration::from_secs(1200))
    }

    /// Compiles the package to `out`; `overlay` is the JSON that puts our files in the place of the module's.
    pub fn build(
        &self,
        module: &Utf8Path,
        go: &Go,
        overlay: Option<&Utf8Path>,
        out: &Utf8Path,
        log: &Utf8Path,
    ) -> Process {
        let ldflags = ["-s -w"].into_iter().chain(go.ldflags.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
        let build = Process::new("go").args(["build", "-trimpath", "-ldflags", &ldflags]);
        self.aim(with_overlay(build, overlay).args(["-o", out.as_str(), &go.package]))
            .cwd(module)
            .log(log)
            .deadline(Duration::from_secs(1800))
    }

    /// Writes the overlay of the recipe's folder `patches/<module>/<file>`, whose files replace those of the modules.
    pub fn overlay(&self, module: &Utf8Path, to: &Utf8Path) -> Result<Option<Utf8PathBuf>> {
        let patches = module.join("patches");
        if !patches.is_dir() {
            return Ok(None);
        }
        let required =
            std::fs::read_to_string(module.join("go.mod")).with_context(|| format!("reading {module}/go.mod"))?;
        let mut replace = serde_json::Map::new();
        for entry in walkdir::WalkDir::new(&patches).sort_by_file_name() {
            let entry = entry?;
            if !entry.file_type().is_file() {
                continue;
            }
            let ours = Utf8Path::from_path(entry.path()).context("a patch's path is not UTF-8")?;
            let name = ours.strip_prefix(&patches)?;
            let owner =
                owner(&required, name).with_context(|| format!("{ours} patches no module of {module}/go.mod"))?;
            let theirs = self.module_dir(module, owner)?.join(name.strip_prefix(owner)?);
            replace.insert(theirs.into_string(), ours.as_str().into());
        }
        std::fs::write(to, serde_json::json!({"Replace": replace}).to_string())?;
        Ok(Some(to.to_owned()))
    }

    /// Where the module cache has a module, which is fetched if need be.
    fn module_dir(&self, module: &Utf8Path, path: &str) -> Result<Utf8PathBuf> {
        let download = Process::new("go").args(["mod", "download", "-json", path]).cwd(module);
        let answer = self.aim(download).deadline(Duration::from_secs(300)).read()?;
        let answer: serde_json::Value = serde_json::from_str(&answer).context("go mod download did not print JSON")?;
        Ok(answer["Dir"].as_str().with_context(|| format!("go has no folder for {path}"))?.into())
    }
}

fn with_overlay(process: Process, overlay: Option<&Utf8Path>) -> Process {
    match overlay {
        Some(overlay) => process.args(["-overlay", overlay.as_str()]),
        None => process,
    }
}

/// The module of a go.mod that the file `name` belongs to: the longest path that it begins with.
fn owner<'a>(required: &'a str, name: &Utf8Path) -> Option<&'a str> {
    let paths =
        required.lines().filter_map(|line| line.trim().trim_start_matches("require ").split_whitespace().next());
    paths.filter(|path| path.contains('.') && name.starts_with(path)).max_by_key(|path| path.len())
}

/// Go is needed to make tools from modules.
pub fn present() -> Result<()> {
    if Process::new("go").arg("version").succeeds() {
        return Ok(());
    }
    Err(Failure::new(Class::Machine, "the packages origin compiles Go modules, and there is no `go` on PATH")
        .help("install Go 1.26 or newer: apt-get install golang, or https://go.dev/doc/install")
        .help("or, where the official downloads can be reached: --origin release")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_belongs_to_the_longest_module_path() {
        let go_mod = "require example.org/a v1.0.0\n\nrequire (\n\texample.org/a/b v1.0.0 // indirect\n)\n";
        assert_eq!(owner(go_mod, Utf8Path::new("example.org/a/b/c.go")), Some("example.org/a/b"));
        assert_eq!(owner(go_mod, Utf8Path::new("example.org/a/c.go")), Some("example.org/a"));
        assert_eq!(owner(go_mod, Utf8Path::new("example.org/ab/c.go")), None);
    }
}
