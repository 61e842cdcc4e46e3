//! mmdebstrap and Debian's keys, which the machine's apt unpacks into the cache. apt uses a separate state: the machine's
//! lists, caches and packages stay unchanged. Its sources, proxies and keys apply.

use std::fs::File;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest, Sha256};

use super::super::mounts;
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::process::{APT, PROXY, Process};
use crate::report::Running;
use crate::units::hex;

const STATUS: &str = "/var/lib/dpkg/status";
const WANTED: [&str; 2] = ["mmdebstrap", "debian-archive-keyring"];

/// The unpacked tools, ready to run.
pub struct Tools {
    dir: Utf8PathBuf,
    mirrors: Mirrors,
}

/// The mirrors from which this machine gets Debian packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrors {
    main: String,
    security: String,
}

impl Mirrors {
    /// Finds the mirrors among apt's index targets (`URI|origin|label` lines). Defaults to Debian's own, as on Ubuntu.
    fn parse(targets: &str) -> Self {
        let find = |label: &str| {
            let mut fields = targets.lines().map(|line| line.split('|').collect::<Vec<_>>());
            fields.find(|f| f.get(1) == Some(&"Debian") && f.get(2) == Some(&label)).map(|f| f[0].to_owned())
        };
        Self {
            main: find("Debian").unwrap_or_else(|| "http://deb.debian.org/debian".into()),
            security: find("Debian-Security").unwrap_or_else(|| "http://deb.debian.org/debian-security".into()),
        }
    }

    /// Returns lines for sources.list.
    pub fn sources(&self, suite: &str) -> [String; 3] {
        [
            format!("deb {} {suite} main", self.main),
            format!("deb {} {suite}-updates main", self.main),
            format!("deb {} {suite}-security main", self.security),
        ]
    }
}

impl Tools {
    /// Returns Debian's archive keys: the machine's own if the installed package cannot be fetched again.
    pub fn keyring(&self) -> Utf8PathBuf {
        let path = "usr/share/keyrings/debian-archive-keyring.gpg";
        let own = self.dir.join(path);
        if own.exists() { own } else { Utf8Path::new("/").join(path) }
    }

    /// Returns the file with the machine's apt settings for reaching mirrors.
    pub fn acquire(&self) -> Utf8PathBuf {
        self.dir.join("acquire.conf")
    }

    /// Returns the mirrors of the packages.
    pub fn mirrors(&self) -> &Mirrors {
        &self.mirrors
    }

    /// Returns the process of mmdebstrap. Missing dependencies (perl modules) are unpacked beside it.
    pub fn mmdebstrap(&self) -> Process {
        let bin = self.dir.join("usr/bin");
        let path = std::env::var("PATH").unwrap_or_default();
        let sbin = "/usr/local/sbin:/usr/sbin:/sbin";
        // An unpacked perl (newer than the machine's) matches the unpacked modules.
        let perl = if bin.join("perl").is_file() { bin.join("perl").into_string() } else { "perl".to_owned() };
        let script = bin.join("mmdebstrap").into_string();
        let mut process =
            Process::new(perl).arg(script).inherit(PROXY).inherit(APT).env("PATH", format!("{bin}:{path}:{sbin}"));
        let modules = perl_folders(&self.dir);
        if !modules.is_empty() {
            process = process.env("PERL5LIB", modules.join(":"));
        }
        let folders =
            ["lib", "usr/lib"].map(|lib| self.dir.join(lib).join(format!("{}-linux-gnu", std::env::consts::ARCH)));
        let libraries: Vec<&str> = folders.iter().filter(|folder| folder.is_dir()).map(|f| f.as_str()).collect();
        if !libraries.is_empty() {
            process = process.env("LD_LIBRARY_PATH", libraries.join(":"));
        }
        process
    }
}

/// Returns the folders of perl modules below `dir`.
fn perl_folders(dir: &Utf8Path) -> Vec<String> {
    let library = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let parents = ["usr/share/perl".to_owned(), format!("{library}/perl"), format!("{library}/perl5")];
    let versioned = parents.iter().flat_map(|parent| dir.join(parent).read_dir_utf8().into_iter().flatten().flatten());
    let folders = versioned.map(|entry| entry.path().to_owned()).chain([dir.join("usr/share/perl5")]);
    folders.filter(|folder| folder.is_dir()).map(Utf8PathBuf::into_string).collect()
}

/// Fetches and unpacks the tools, unless the cache has them for this system.
pub fn ready(cache: &Utf8Path, log: &Utf8Path, running: &Running) -> Result<Tools> {
    let base = cache.join("apt");
    std::fs::create_dir_all(&base).with_context(|| format!("making {base}"))?;
    // Concurrent builds need the same tools.
    let lock = File::create(base.join("lock")).context("opening the lock of apt's folder")?;
    lock.lock().context("locking apt's folder")?;
    let status = std::fs::read_to_string(STATUS).map_err(|_| no_apt())?;
    let dir = base.join(format!("tools-{}", key(&status)));
    if !dir.exists() {
        drop_stale(&base)?;
        let new = base.join("tools.new");
        fetch(log, running, &base, &new, &status)?;
        std::fs::rename(&new, &dir).with_context(|| format!("moving {new} to {dir}"))?;
    }
    let mirrors = Mirrors::parse(&std::fs::read_to_string(dir.join("targets")).unwrap_or_default());
    Ok(Tools { dir, mirrors })
}

/// Returns the key of the unpacked tools. It covers perl, since modules fit one version only, and mirrors and proxies.
fn key(status: &str) -> String {
    let mut sha = Sha256::new();
    sha.update(stanza(status, "perl-base").unwrap_or_default());
    let folders = ["/etc/apt", "/etc/apt/apt.conf.d", "/etc/apt/sources.list.d"];
    let files = folders.iter().flat_map(|dir| Utf8Path::new(dir).read_dir_utf8().into_iter().flatten().flatten());
    let mut files: Vec<Utf8PathBuf> =
        files.map(|entry| entry.path().to_owned()).filter(|path| path.is_file()).collect();
    files.sort();
    for file in files {
        sha.update(file.as_str());
        sha.update(std::fs::read(&file).unwrap_or_default());
    }
    hex(&sha.finalize())[..12].to_owned()
}

fn drop_stale(base: &Utf8Path) -> Result<()> {
    let entries = base.read_dir_utf8()?.flatten();
    let mut stale = entries.filter(|entry| entry.file_name().starts_with("tools"));
    stale.try_for_each(|entry| mounts::remove_tree(entry.path()))
}

fn fetch(log: &Utf8Path, running: &Running, base: &Utf8Path, new: &Utf8Path, status: &str) -> Result<()> {
    let work = base.join("work");
    mounts::remove_tree(&work)?;
    for dir in ["state/lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(work.join(dir)).with_context(|| format!("making {work}/{dir}"))?;
    }
    std::fs::create_dir_all(new).with_context(|| format!("making {new}"))?;
    // A copy, because apt locks the folder of its status, and another apt may be running.
    std::fs::write(work.join("state/status"), status).context("writing apt's private status")?;
    std::fs::write(work.join("apt.conf"), configuration(&work)).context("writing apt's private configuration")?;
    let apt = |program: &str| {
        Process::new(program)
            .args(["--config-file", work.join("apt.conf").as_str()])
            .inherit(PROXY)
            .inherit(APT)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C.UTF-8")
            .log(log)
            .deadline(deadlines::DEBIAN_TOOL)
    };
    running.progress("apt: reading the package lists");
    // Ignores errors: a third-party source may fail although all needed packages are available.
    let update = apt("apt-get").args(["--quiet", "update"]).run();
    running.progress("apt: fetching mmdebstrap");
    // Fetches installed packages again, but only missing dependencies.
    let install = ["--quiet", "--yes", "--download-only", "--no-install-recommends", "--reinstall", "install"];
    if let Err(error) = apt("apt-get").args(install).args(WANTED).run() {
        return Err(cannot_fetch(update.err().unwrap_or(error)).into());
    }
    let archives = work.join("cache/archives").read_dir_utf8()?.flatten();
    for archive in archives.filter(|entry| entry.file_name().ends_with(".deb")) {
        Process::new("dpkg-deb").args(["--extract", archive.path().as_str(), new.as_str()]).run()?;
    }
    let format = ["indextargets", "--format", "$(REPO_URI)|$(ORIGIN)|$(LABEL)", "Identifier: Packages"];
    std::fs::write(new.join("targets"), apt("apt-get").args(format).read()?).context("keeping the mirrors")?;
    let dump = Process::new("apt-config").arg("dump").inherit(APT).read()?;
    std::fs::write(new.join("acquire.conf"), acquire(&dump)).context("keeping apt's settings")?;
    mounts::remove_tree(&work)
}

/// Returns apt's configuration with its state in `work`. It overrides the machine's, and clears hooks that would change the
/// machine's caches (Docker images have one).
fn configuration(work: &Utf8Path) -> String {
    let hooks = ["APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success"];
    let clear: String = hooks.iter().map(|hook| format!("#clear {hook};\n")).collect();
    format!(
        "{clear}Dir::State \"{work}/state\";\nDir::State::status \"{work}/state/status\";\nDir::Cache \"{work}/cache\";\n\
         Dir::Log \"{work}\";\nAPT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\nAcquire::Retries \"3\";\n"
    )
}

/// Returns the lines of `apt-config dump` about reaching mirrors, for the apt that mmdebstrap runs in the new root.
fn acquire(dump: &str) -> String {
    let wanted = ["http", "https", "ftp", "Check-Valid-Until", "Check-Date", "Max-", "Min-", "ForceIPv", "Proxy"];
    let about = |line: &&str| {
        line.strip_prefix("Acquire::").is_some_and(|rest| {
            wanted.iter().any(|name| rest.to_ascii_lowercase().starts_with(&name.to_ascii_lowercase()))
        })
    };
    let lines: String = dump.lines().filter(about).map(|line| format!("{line}\n")).collect();
    // User names and passwords for mirrors stay in their files.
    let fixed = "Acquire::Retries \"3\";\nDir::Etc::netrc \"/etc/apt/auth.conf\";\nDir::Etc::netrcparts \"/etc/apt/auth.conf.d\";\n";
    lines + fixed
}

fn stanza<'a>(status: &'a str, package: &str) -> Option<&'a str> {
    status.split("\n\n").find(|stanza| is(stanza, package))
}

fn is(stanza: &str, package: &str) -> bool {
    stanza.trim_start().strip_prefix("Package: ").and_then(|rest| rest.lines().next()) == Some(package)
}

fn no_apt() -> Failure {
    Failure::new(Class::Machine, "this machine has no apt: without it xtask cannot make what Debian's packages give")
        .help("install Docker Engine with your distribution's packages, start it and run the same command again")
}

fn cannot_fetch(error: anyhow::Error) -> Failure {
    Failure::new(Class::Machine, "apt cannot fetch mmdebstrap")
        .because(error)
        .help("apt-get update   # shows whether the machine's package sources can be reached")
        .help("apt-cache policy mmdebstrap   # Ubuntu has it in `universe`")
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &str = "Package: adduser\nStatus: install ok installed\n\nPackage: mmdebstrap-extra\nVersion: 1\n\n\
        Package: mmdebstrap\nVersion: 1.3.5-7\n\n";

    #[test]
    fn a_new_perl_means_new_tools() {
        assert_eq!(stanza(REAL, "mmdebstrap").map(str::trim_end), Some("Package: mmdebstrap\nVersion: 1.3.5-7"));
        assert_eq!(stanza(REAL, "mmdeb"), None);
        assert_ne!(key("Package: perl-base\nVersion: 5.36\n"), key("Package: perl-base\nVersion: 5.40\n"));
    }

    #[test]
    fn uses_the_machines_mirror() {
        let targets = "http://mirror.example.org/debian/|Debian|Debian\nhttps://x/node|. nodistro|. nodistro\n\
            http://mirror.example.org/security/|Debian|Debian-Security\n";
        let sources = Mirrors::parse(targets).sources("trixie");
        assert_eq!(sources[0], "deb http://mirror.example.org/debian/ trixie main");
        assert_eq!(sources[2], "deb http://mirror.example.org/security/ trixie-security main");
        assert_eq!(Mirrors::parse("http://u/|Ubuntu|Ubuntu\n").main, "http://deb.debian.org/debian");
    }

    #[test]
    fn proxies_and_clocks_are_passed_on_and_index_targets_are_not() {
        let dump = "Acquire::IndexTargets::deb::DEP-11 \"\";\nAcquire::Check-Valid-Until \"false\";\n\
            Acquire::http::Proxy \"http://p:3128\";\nAPT::Architecture \"amd64\";\nAcquire::https::CAInfo \"/ca\";\n";
        let passed = acquire(dump);
        assert!(passed.contains("http::Proxy") && passed.contains("CAInfo") && passed.contains("Check-Valid-Until"));
        assert!(!passed.contains("DEP-11") && !passed.contains("Architecture"));
    }

    #[test]
    fn hooks_of_the_machine_do_not_run() {
        let text = configuration(Utf8Path::new("/c/apt/work"));
        assert!(text.contains("#clear APT::Update::Post-Invoke;"));
        assert!(text.contains("Dir::State::status \"/c/apt/work/state/status\";"));
    }
}
