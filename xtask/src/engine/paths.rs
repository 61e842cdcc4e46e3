//! The private engine's files and its names on the machine. All derive from the cache's path, so the engines of two
//! caches share nothing.

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest, Sha256};

use crate::files;
use crate::units::hex;

/// Longest socket path; the kernel's limit is 108 bytes with the final zero.
const SOCKET_LIMIT: usize = 100;

/// The private engine's folders and names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnginePaths {
    /// The cache.
    pub cache: Utf8PathBuf,
    id: String,
}

impl EnginePaths {
    /// Returns the paths in `cache`, an absolute path that need not exist yet.
    pub fn new(cache: &Utf8Path) -> Self {
        let cache = real(cache);
        let id = hex(&Sha256::digest(cache.as_str()))[..8].to_owned();
        Self { cache, id }
    }

    /// Returns 8 hex digits that differ between the caches of a machine.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the folder with everything of the engine.
    pub fn dir(&self) -> Utf8PathBuf {
        self.cache.join("engine")
    }

    /// Returns the root file system made from the recipe with this key.
    pub fn tree(&self, key: &str) -> Utf8PathBuf {
        self.dir().join(format!("tree-{key}"))
    }

    /// Returns all finished and unfinished trees.
    pub fn trees(&self) -> Result<Vec<Utf8PathBuf>> {
        let entries = files::entries(&self.dir())?;
        Ok(entries.into_iter().filter(|path| is_tree(path) && path.is_dir()).collect())
    }

    /// Returns the engine's /var/lib/docker. It lies outside of the tree, so that a new tree keeps images, containers
    /// and volumes.
    pub fn data(&self) -> Utf8PathBuf {
        self.dir().join("data")
    }

    /// Returns the folder of socket and process ID. It is in /run if the cache's path is too long for a socket.
    pub fn run(&self) -> Utf8PathBuf {
        let near = self.dir().join("run");
        if near.as_str().len() + "/docker.sock".len() <= SOCKET_LIMIT {
            return near;
        }
        Utf8PathBuf::from(format!("/run/todo-xtask-{}", self.id))
    }

    /// Returns the engine's socket.
    pub fn socket(&self) -> Utf8PathBuf {
        self.run().join("docker.sock")
    }

    /// Returns the file with the process ID of the engine that was started last.
    pub fn pid_file(&self) -> Utf8PathBuf {
        self.run().join("pid")
    }

    /// Returns the file with the key of the tree that the engine was started from.
    pub fn key_file(&self) -> Utf8PathBuf {
        self.run().join("key")
    }

    /// Returns the folder of the client, for PATH.
    pub fn bin(&self) -> Utf8PathBuf {
        self.dir().join("bin")
    }

    /// Returns the docker client.
    pub fn client(&self) -> Utf8PathBuf {
        self.bin().join("docker")
    }

    /// Returns the client's configuration folder, with the plugin buildx.
    pub fn config(&self) -> Utf8PathBuf {
        self.dir().join("docker-config")
    }

    /// Returns the engine's log.
    pub fn log(&self) -> Utf8PathBuf {
        self.dir().join("dockerd.log")
    }

    /// Returns the lock that is held while the engine is made, started or ended.
    pub fn lock(&self) -> Utf8PathBuf {
        self.dir().join("lock")
    }

    /// Returns the file with the machine's network settings before the first start.
    pub fn network_before(&self) -> Utf8PathBuf {
        self.dir().join("network-before.json")
    }

    /// Returns the name of the default network's bridge (the kernel's limit is 15 characters).
    pub fn bridge(&self) -> String {
        format!("todo-{}", self.id)
    }

    /// Returns the control group of all containers.
    pub fn cgroup(&self) -> String {
        format!("todo-xtask-{}", self.id)
    }

    /// Returns a number that differs between caches: the search for free addresses starts there.
    pub fn seed(&self) -> u8 {
        u8::from_str_radix(&self.id[..2], 16).unwrap_or_default()
    }
}

fn is_tree(path: &Utf8Path) -> bool {
    path.file_name().is_some_and(|name| name.starts_with("tree-"))
}

/// Resolves symbolic links in the part of `path` that exists, so that the names are the same before and after it is
/// made.
fn real(path: &Utf8Path) -> Utf8PathBuf {
    let found = path.ancestors().find_map(|a| Some((a, a.canonicalize_utf8().ok()?)));
    match found {
        Some((existing, canonical)) => match path.strip_prefix(existing) {
            Ok(rest) if !rest.as_str().is_empty() => canonical.join(rest),
            _ => canonical,
        },
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ_between_caches() {
        let (a, b) = (EnginePaths::new("/var/tmp/a".into()), EnginePaths::new("/var/tmp/b".into()));
        assert!(a.bridge().len() <= 15);
        assert_ne!(a.bridge(), b.bridge());
        assert_ne!(a.cgroup(), b.cgroup());
        assert_eq!(a.socket(), "/var/tmp/a/engine/run/docker.sock");
    }

    #[test]
    fn a_long_cache_path_gets_a_short_socket() {
        let paths = EnginePaths::new(Utf8Path::new(&format!("/var/tmp/{}", "x".repeat(90))));
        assert!(paths.socket().as_str().starts_with("/run/todo-xtask-"));
        assert!(paths.socket().as_str().len() <= SOCKET_LIMIT);
    }

    #[test]
    fn names_do_not_change_when_a_folder_behind_a_link_is_made() {
        let temp = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(temp.path()).unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        let before = EnginePaths::new(&root.join("link/cache"));
        std::fs::create_dir(root.join("real/cache")).unwrap();
        assert_eq!(before, EnginePaths::new(&root.join("link/cache")));
    }
}
