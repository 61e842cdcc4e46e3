//! Go programs. First fetches their modules (network), then compiles them (processors).

use std::collections::HashSet;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};

use super::manifest::{Go, Patch};
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::files;
use crate::lock::{self, Lock};
use crate::process::{GO, PROXY, Process};

/// Format of `go list`: a package's error, or its path and version, a bar, and the folder of its module, if it has one.
const LISTED: &str =
    "{{with .Error}}{{.}}{{else}}{{.ImportPath}}@{{with .Module}}{{.Version}}|{{.Dir}}{{else}}|{{end}}{{end}}";

/// Format of `go list -export`: path and version, and the compiled package's file in Go's cache.
const COMPILED: &str = "{{.ImportPath}}@{{with .Module}}{{.Version}}{{end}} {{.Export}}";
/// Flags of the compiler. Omits profiles and debugging information, which cost time and are not used here.
const FLAGS: [&str; 3] = ["-trimpath", "-pgo=off", "-gcflags=all=-dwarf=false"];

/// What a program is made from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Paths and versions of its packages: `example.org/a/b@v1.0.0`.
    pub packages: Vec<String>,
    /// Folders of the modules that contain them. The folder of a replaced module has another path.
    pub modules: HashSet<Utf8PathBuf>,
}

impl Sources {
    /// Adds a line of the format [`LISTED`]. Returns `false` if the line is a message of Go.
    pub fn add(&mut self, line: &str) -> bool {
        let Some((package, module)) = line.split_once('|').filter(|(package, _)| !package.contains(' ')) else {
            return false;
        };
        self.packages.push(package.to_owned());
        self.modules.insert(module.into());
        true
    }
}

/// Go's caches of modules and compiled packages. They are removed when all programs are built.
#[derive(Clone, Debug)]
pub struct Caches {
    /// The folder of both caches.
    pub dir: Utf8PathBuf,
}

impl Caches {
    fn aim(&self, process: Process) -> Process {
        process
            .inherit(GO)
            .inherit(PROXY)
            .env("GOMODCACHE", self.dir.join("mod").as_str())
            .env("GOCACHE", self.dir.join("build").as_str())
            .env("GOTMPDIR", self.temporary().as_str())
            // The recipe decides: no other toolchain, workspace or flags of the user.
            .env("GOTOOLCHAIN", "local")
            .env("GOWORK", "off")
            .env("GOFLAGS", "-mod=readonly")
            // Compilers run for seconds: less garbage collection saves time and costs memory only briefly.
            .env("GOGC", "400")
            .env("CGO_ENABLED", "0")
    }

    /// Returns the folder of Go's temporary files. A killed run leaves up to 1 GB in it.
    fn temporary(&self) -> Utf8PathBuf {
        self.dir.join("tmp")
    }

    /// Locks the caches, because the end of this run removes them. Then removes temporary files of killed runs of Go. Complete
    /// files are reused.
    pub fn begin(&self) -> Result<Lock> {
        let (folder, name) = (self.dir.parent(), self.dir.file_name());
        let lock = lock::take(folder.context("the caches lie in a folder")?, name.unwrap_or_default())?;
        let temporary = self.temporary();
        files::remove_folder(&temporary)?;
        std::fs::create_dir_all(&temporary).with_context(|| format!("making {temporary}"))?;
        Ok(lock)
    }

    /// Removes the parts of fetched modules that no build reads, half of their size: tests with their data, and the archives of
    /// unpacked modules, whose checksums Go has recorded. Keeps the archives of `patches`: `go mod download` needs them each time.
    pub fn shrink<'a>(&self, patches: impl Iterator<Item = &'a Patch>) -> Result<()> {
        let downloads = self.dir.join("mod/cache/download");
        let kept: HashSet<_> = patches.map(|patch| archive(&downloads, patch)).collect();
        for entry in walkdir::WalkDir::new(&downloads).into_iter().flatten() {
            let path = Utf8Path::from_path(entry.path()).context("a path is not UTF-8")?;
            if path.extension() == Some("zip") && path.with_extension("ziphash").exists() && !kept.contains(path) {
                files::remove(path)?;
            }
        }
        modules(&self.dir.join("mod")).iter().try_for_each(|dir| remove_tests(dir))
    }

    /// Removes both caches with `go clean`, because the module cache is read-only.
    pub fn drop_all(&self) -> Result<()> {
        if self.dir.exists() {
            self.aim(Process::new("go").args(["clean", "-cache", "-modcache"])).deadline(deadlines::GO_MODULE).run()?;
            std::fs::remove_dir_all(&self.dir).with_context(|| format!("removing {}", self.dir))?;
        }
        Ok(())
    }

    /// Returns the folder in which a recipe is compiled: a copy of it, with its patched modules.
    fn work(&self, name: &str) -> Utf8PathBuf {
        self.dir.join("work").join(name)
    }

    /// Copies the recipe, and applies its patches to copies of the modules.
    pub fn prepare(&self, name: &str, recipe: &Utf8Path, go: &Go) -> Result<()> {
        let work = self.work(name);
        if work.exists() {
            std::fs::remove_dir_all(&work).with_context(|| format!("removing {work}"))?;
        }
        copy_tree(recipe, &work, &|path| {
            !path.starts_with(recipe.join("patches")) && path.file_name() != Some("patched")
        })?;
        for patch in &go.patch {
            let to = work.join("patched").join(&patch.module);
            let module = self.module(patch)?;
            copy_tree(&module, &to, &|path| path.strip_prefix(&module).is_ok_and(is_no_test))?;
            // Keeps the archive: a resumed run unpacks it again.
            remove_module(&module)?;
            for package in &patch.packages {
                std::fs::remove_dir_all(to.join(package)).with_context(|| format!("clearing {package}"))?;
            }
            copy_tree(&recipe.join("patches").join(&patch.module), &to, &|_| true)?;
        }
        Ok(())
    }

    /// Returns a module's folder in the module cache. Fetches it if needed; fails unless it has the recipe's checksum.
    fn module(&self, patch: &Patch) -> Result<Utf8PathBuf> {
        let module = format!("{}@{}", patch.module, patch.version);
        // The recipe's checksum replaces the checksum database, as go.sum does for unpatched modules.
        let download = Process::new("go").args(["mod", "download", "-json", &module]).env("GONOSUMDB", &patch.module);
        let answer = self.aim(download).cwd(self.dir.as_path()).deadline(deadlines::GO_MODULE).read()?;
        let answer: serde_json::Value = serde_json::from_str(&answer).context("go mod download did not print JSON")?;
        let sum = answer["Sum"].as_str().unwrap_or_default();
        if sum != patch.sum {
            let what = format!("module {module} has the checksum {sum}, the recipe says {}", patch.sum);
            return Err(Failure::new(Class::Config, what)
                .help("edit infra/packages/packages.toml if the change is meant")
                .into());
        }
        Ok(answer["Dir"].as_str().with_context(|| format!("go has no folder for {module}"))?.into())
    }

    /// Returns the process that fetches only the modules the package needs, and prints the program's packages.
    pub fn fetch(&self, name: &str, go: &Go, log: &Utf8Path) -> Process {
        let list = Process::new("go").args(["list", "-deps", "-f", LISTED, &go.package]);
        self.aim(list).cwd(self.work(name)).log(log).deadline(deadlines::GO_MODULES)
    }

    /// Returns the processes that compile the package to `out`, in order. Each prints its packages as they start.
    pub fn builds(&self, name: &str, go: &Go, out: &Utf8Path, log: &Utf8Path) -> Vec<Process> {
        let ldflags = ["-s -w"].into_iter().chain(go.ldflags.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
        let program = ["-ldflags", &ldflags, "-o", out.as_str(), &go.package].map(str::to_owned).to_vec();
        let runs = go.parts.iter().map(|part| vec![part.clone()]).chain([program]);
        let build = Process::new("go").args(["build", "-v"]).args(FLAGS);
        let build = self.aim(build).cwd(self.work(name)).log(log).deadline(deadlines::GO_BUILD);
        runs.map(|arguments| build.clone().args(arguments)).collect()
    }

    /// Removes files that no other program needs after this one: its compiled packages that are not in `others`, all modules
    /// without a package in `others`, and the copy of the recipe.
    pub fn trim(&self, name: &str, go: &Go, others: &[Sources]) -> Result<()> {
        let list = Process::new("go").args(["list", "-deps", "-export", "-f", COMPILED]).args(FLAGS).arg(&go.package);
        let list = self.aim(list).cwd(self.work(name)).deadline(deadlines::GO_MODULES).read()?;
        let packages = others.iter().flat_map(|other| &other.packages).map(String::as_str).collect();
        unshared(&list, &packages, &self.dir.join("build")).try_for_each(files::remove)?;
        unused_modules(&self.dir.join("mod"), others).iter().try_for_each(|dir| remove_module(dir))?;
        files::remove_folder(&self.work(name))
    }
}

/// Returns the path of a module's archive. Go escapes `A` as `!a`.
fn archive(downloads: &Utf8Path, patch: &Patch) -> Utf8PathBuf {
    let escape = |letter: char| {
        if letter.is_ascii_uppercase() { format!("!{}", letter.to_ascii_lowercase()) } else { letter.into() }
    };
    let module: String = patch.module.chars().map(escape).collect();
    downloads.join(module).join("@v").join(format!("{}.zip", patch.version))
}

/// Reverses Go's escape of upper-case letters.
fn unescape(path: &str) -> String {
    let mut letters = path.chars();
    let next = || {
        let letter = letters.next()?;
        if letter == '!' { letters.next().map(|letter| letter.to_ascii_uppercase()) } else { Some(letter) }
    };
    std::iter::from_fn(next).collect()
}

/// Returns the files below `built` in a `list` of the format [`COMPILED`] whose packages are not in `others`.
fn unshared<'a>(list: &'a str, others: &'a HashSet<&str>, built: &'a Utf8Path) -> impl Iterator<Item = &'a Utf8Path> {
    let lines = list.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.next()?))
    });
    let files = lines.filter(|(package, _)| !others.contains(*package)).map(|(_, file)| Utf8Path::new(file));
    files.filter(move |file| file.starts_with(built))
}

/// Returns the folders of the modules in the module cache `fetched`, such as `example.org/!a@v1.0.0` for `example.org/A`.
fn modules(fetched: &Utf8Path) -> Vec<Utf8PathBuf> {
    let is_module = |entry: &walkdir::DirEntry| entry.file_name().to_string_lossy().contains('@');
    let mut found = Vec::new();
    let mut entries = walkdir::WalkDir::new(fetched).into_iter();
    while let Some(entry) = entries.next() {
        let Ok(entry) = entry else { continue };
        let is_module = is_module(&entry);
        if is_module || entry.path() == fetched.join("cache") {
            entries.skip_current_dir();
        }
        if is_module {
            found.extend(Utf8Path::from_path(entry.path()).map(Utf8Path::to_owned));
        }
    }
    found
}

/// Returns the modules in the module cache `fetched` that no program in `others` needs: they contain none of its packages, and
/// their path is no prefix of one. Go looks for a package in each module whose path is a prefix.
fn unused_modules(fetched: &Utf8Path, others: &[Sources]) -> Vec<Utf8PathBuf> {
    let packages = others.iter().flat_map(|other| &other.packages);
    let prefixes: HashSet<&Utf8Path> = packages
        .filter_map(|package| Some(Utf8Path::new(package.split_once('@')?.0)))
        .flat_map(Utf8Path::ancestors)
        .collect();
    let mut modules = modules(fetched);
    modules.retain(|dir| {
        let name = dir.strip_prefix(fetched).unwrap_or(dir).as_str();
        let path = unescape(name.split_once('@').map_or(name, |(path, _)| path));
        !prefixes.contains(Utf8Path::new(&path)) && !others.iter().any(|other| other.modules.contains(dir))
    });
    modules
}

/// Removes tests and their data from a module's read-only folder.
fn remove_tests(module: &Utf8Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut entries = walkdir::WalkDir::new(module).into_iter();
    while let Some(entry) = entries.next() {
        let entry = entry.with_context(|| format!("reading {module}"))?;
        let path = Utf8Path::from_path(entry.path()).context("a path is not UTF-8")?;
        let is_folder = entry.file_type().is_dir();
        let is_data = is_folder && path.file_name() == Some("testdata");
        if is_data {
            entries.skip_current_dir();
        }
        let folder = path.parent().context("a file lies in a folder")?;
        if is_data || !is_folder && path.as_str().ends_with("_test.go") {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
                .with_context(|| format!("writing in {folder}"))?;
            if is_data { remove_read_only(path)? } else { files::remove(path)? }
        }
    }
    Ok(())
}

/// Removes a module's read-only folder. Renames it first, because Go treats any folder of that name as complete: a killed run
/// must leave all of the module or nothing.
fn remove_module(dir: &Utf8Path) -> Result<()> {
    let removed = Utf8PathBuf::from(format!("{dir}.removed"));
    remove_read_only(&removed)?;
    std::fs::rename(dir, &removed).with_context(|| format!("renaming {dir}"))?;
    remove_read_only(&removed)
}

/// Removes a folder that contains read-only folders. A missing folder is no error.
fn remove_read_only(dir: &Utf8Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for entry in walkdir::WalkDir::new(dir).into_iter().flatten().filter(|entry| entry.file_type().is_dir()) {
        std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(0o755))
            .with_context(|| format!("removing {dir}"))?;
    }
    files::remove_folder(dir)
}

/// Returns whether a file can be part of a program: neither a test nor test data.
fn is_no_test(path: &Utf8Path) -> bool {
    !path.as_str().ends_with("_test.go") && !path.components().any(|part| matches!(part.as_str(), "test" | "testdata"))
}

/// Copies the files below `from` that `keep` selects. Overwrites existing files and makes all writable.
fn copy_tree(from: &Utf8Path, to: &Utf8Path, keep: &dyn Fn(&Utf8Path) -> bool) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.with_context(|| format!("reading {from}"))?;
        let path = Utf8Path::from_path(entry.path()).context("a path is not UTF-8")?;
        if !entry.file_type().is_file() || !keep(path) {
            continue;
        }
        let target = to.join(path.strip_prefix(from)?);
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::copy(path, &target).with_context(|| format!("copying {path}"))?;
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// Fails unless Go is installed in the version that `modules` need. Go may not download another version by itself.
pub fn present<'a>(modules: impl Iterator<Item = &'a Utf8Path>) -> Result<()> {
    let needed = modules.filter_map(|dir| directive(&std::fs::read_to_string(dir.join("go.mod")).ok()?)).max();
    let (major, minor, patch) = needed.unwrap_or_default();
    let install = format!("install Go {major}.{minor}.{patch} or newer: https://go.dev/doc/install");
    let what = match Process::new("go").args(["env", "GOVERSION"]).inherit(GO).env("GOTOOLCHAIN", "local").read() {
        Err(_) => "the packages origin compiles Go modules, and there is no `go` on PATH".to_owned(),
        Ok(version) => match parse_version(version.trim().trim_start_matches("go")) {
            Some(found) if found >= (major, minor, patch) => return Ok(()),
            _ => format!("the packages origin needs Go {major}.{minor}.{patch}, `go` on PATH is {}", version.trim()),
        },
    };
    let failure = Failure::new(Class::Machine, what).help(install);
    Err(failure.help("or, where the official downloads can be reached: --origin release").into())
}

/// Returns the version in the `go` line of a go.mod.
fn directive(go_mod: &str) -> Option<(u32, u32, u32)> {
    parse_version(go_mod.lines().find_map(|line| line.strip_prefix("go "))?.trim())
}

fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.split(['.', '-', ' ']).map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("1.26.8"), Some((1, 26, 8)));
        assert_eq!(directive("module x\n\ngo 1.25\n"), Some((1, 25, 0)));
    }

    fn go() -> Go {
        toml::from_str("package = 'example.org/main'\nparts = ['example.org/part']\nseconds = 1").unwrap()
    }

    #[test]
    fn parts_are_compiled_before_the_program_as_the_program_is() {
        let caches = Caches { dir: "/c".into() };
        let runs = caches.builds("main", &go(), Utf8Path::new("/out"), Utf8Path::new("/log"));
        let runs: Vec<String> = runs.iter().map(ToString::to_string).collect();
        let flags = format!("go build -v {}", FLAGS.join(" "));
        assert!(runs.iter().all(|run| run.contains(&flags)), "{runs:?}");
        assert!(runs[0].ends_with(" example.org/part") && runs[1].ends_with("-o /out example.org/main"), "{runs:?}");
        // `parts` must not affect the key.
        assert!(!serde_json::to_string(&go()).unwrap().contains("part"));
    }

    #[test]
    fn fetched_modules_keep_only_files_that_a_build_reads() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        let folder = root.join("mod/cache/download/example.org/a/@v");
        std::fs::create_dir_all(&folder).unwrap();
        let patched = root.join("mod/cache/download/example.org/!b/@v");
        std::fs::create_dir_all(&patched).unwrap();
        for file in ["v1.0.0.zip", "v1.0.0.ziphash", "v1.1.0.zip"] {
            std::fs::write(folder.join(file), "").unwrap();
            std::fs::write(patched.join(file), "").unwrap();
        }
        let module = root.join("mod/example.org/!c@v1.0.0");
        make_module(&module, &["main.go", "main_test.go", "a/testdata/b/c.go", "a/test/d.go"]);
        let patch = toml::from_str("module = 'example.org/B'\nversion = 'v1.0.0'\nsum = ''").unwrap();
        Caches { dir: root.to_owned() }.shrink([&patch].into_iter()).unwrap();
        let left: Vec<_> = files::entries(&folder).unwrap();
        assert!(left.len() == 2 && !left.contains(&folder.join("v1.0.0.zip")), "{left:?}");
        assert_eq!(files::entries(&patched).unwrap().len(), 3, "a patched module is asked for again");
        let left = walkdir::WalkDir::new(&module).sort_by_file_name().into_iter().flatten();
        let left: Vec<_> = left.map(|entry| entry.path().strip_prefix(&module).unwrap().to_owned()).collect();
        assert_eq!(left, ["", "a", "a/test", "a/test/d.go", "main.go"].map(std::path::PathBuf::from));
    }

    /// Writes the files of a module, whose folders are read-only as in Go's cache.
    fn make_module(module: &Utf8Path, files: &[&str]) {
        use std::os::unix::fs::PermissionsExt;
        for file in files {
            std::fs::create_dir_all(module.join(file).parent().unwrap()).unwrap();
            std::fs::write(module.join(file), "").unwrap();
        }
        for entry in walkdir::WalkDir::new(module).contents_first(true).into_iter().flatten() {
            if entry.file_type().is_dir() {
                std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
            }
        }
    }

    #[test]
    fn removes_leftovers_of_a_killed_go_run_and_keeps_the_caches() {
        let dir = tempfile::tempdir().unwrap();
        let root = &Utf8Path::from_path(dir.path()).unwrap().join("go-caches");
        let caches = Caches { dir: root.to_owned() };
        for file in ["tmp/go-build1/b001/_pkg_.a", "build/00/x-d"] {
            std::fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            std::fs::write(root.join(file), "").unwrap();
        }
        let lock = caches.begin().unwrap();
        let busy = caches.begin().err().unwrap().to_string();
        assert!(busy.contains("another xtask is at work on `go-caches`"), "{busy}");
        drop(lock);
        assert!(
            root.join("tmp").is_dir() && !root.join("tmp/go-build1").exists() && root.join("build/00/x-d").exists()
        );
        let run = format!("{:?}", caches.builds("main", &go(), Utf8Path::new("/out"), Utf8Path::new("/log"))[0]);
        assert!(run.contains("GOTMPDIR") && run.contains(root.join("tmp").as_str()), "{run}");
    }

    #[test]
    fn keeps_packages_that_a_later_program_shares_in_gos_cache() {
        let list = "unsafe@ \nfmt@ /c/build/1-d\na/b@v1 /c/build/2-d\na/c@v1 /c/build/3-d\nmain@ /elsewhere/4-d\n";
        let others = ["fmt@", "a/b@v2"].into();
        let removed: Vec<&Utf8Path> = unshared(list, &others, Utf8Path::new("/c/build")).collect();
        assert_eq!(removed, ["/c/build/2-d", "/c/build/3-d"]);
    }

    #[test]
    fn a_module_is_unused_when_no_later_package_can_be_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let fetched = Utf8Path::from_path(dir.path()).unwrap();
        for folder in ["a@v1", "a/b/c@v1", "a/b/cc@v2", "example.org/!d@v2", "cache/download/e/@v"] {
            std::fs::create_dir_all(fetched.join(folder).join("x")).unwrap();
        }
        let unused = |lines: &[&str]| {
            let mut sources = Sources::default();
            assert!(lines.iter().all(|line| sources.add(line)) && !sources.add("go: downloading a v1"));
            let mut unused = unused_modules(fetched, &[Sources::default(), sources]);
            unused.iter_mut().for_each(|dir| *dir = dir.strip_prefix(fetched).unwrap().to_owned());
            unused.sort();
            unused
        };
        let replaced = format!("replaced/x@v1|{}", fetched.join("a/b/cc@v2"));
        assert_eq!(unused(&["fmt@|", "a/x@v1|", "example.org/D@v2|"]), ["a/b/c@v1", "a/b/cc@v2"]);
        assert_eq!(unused(&["a/b/c/y@v1|", "example.org/DD@v2|"]), ["a/b/cc@v2", "example.org/!d@v2"]);
        assert_eq!(unused(&["a/b/c/y@v1|", &replaced]), ["example.org/!d@v2"]);
    }

    #[test]
    fn a_module_that_go_has_made_read_only_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let module = Utf8Path::from_path(dir.path()).unwrap().join("a@v1");
        make_module(&module, &["b/c.go"]);
        remove_module(&module).unwrap();
        assert!(!module.exists());
    }

    #[test]
    fn tests_are_no_part_of_a_patched_module() {
        let kept = ["cmd/main.go", "pkg/testing.go", "latest/x.go"];
        assert!(kept.iter().all(|path| is_no_test(Utf8Path::new(path))));
        let left_out = ["cmd/main_test.go", "test/integration/x.go", "pkg/testdata/large.json"];
        assert!(!left_out.iter().any(|path| is_no_test(Utf8Path::new(path))));
    }

    #[test]
    fn a_copied_tree_overwrites_and_can_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        for (file, text) in [("a/p/x.go", "theirs"), ("b/p/x.go", "ours"), ("a/skip", "")] {
            std::fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            std::fs::write(root.join(file), text).unwrap();
        }
        copy_tree(&root.join("a"), &root.join("to"), &|path| path.file_name() != Some("skip")).unwrap();
        copy_tree(&root.join("b"), &root.join("to"), &|_| true).unwrap();
        assert_eq!(std::fs::read_to_string(root.join("to/p/x.go")).unwrap(), "ours");
        assert!(!root.join("to/skip").exists());
    }
}
