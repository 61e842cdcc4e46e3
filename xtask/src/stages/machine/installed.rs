//! Finds a user's own engine that is installed but does not answer. xtask makes no private engine beside it: that would take
//! memory, change the firewall, and have none of the user's clusters.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::engine::{Engine, HIDDEN};
use crate::files;
use crate::units::hex;

/// The file in the cache that names the engine that served last: [`USERS_OWN`] or [`PRIVATE`].
const LAST_ENGINE: &str = "engine-used";
const USERS_OWN: &str = "own";
const PRIVATE: &str = "private";

/// The host that `docker` uses by default.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// Folders that may have `dockerd` without being on PATH.
const PROGRAMS: [&str; 6] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/snap/bin", "/opt/docker"];
/// Files that an installed Docker or Docker Desktop has.
const TRACES: [&str; 3] = ["/var/run/docker.sock", "/opt/docker-desktop", "/usr/lib/systemd/system/docker.service"];
/// Files below HOME that an installed Docker Desktop or rootless engine has.
const HOME_TRACES: [&str; 3] = [".docker/desktop", ".docker/run/docker.sock", ".config/systemd/user/docker.service"];

/// Returns the reason to use the user's own engine, `None` for a private one. The engine that served last continues to serve.
/// If none has served yet, a private engine that `was_made` before counts.
pub fn find(cache: &Utf8Path, was_made: bool) -> Result<Option<String>> {
    if variable("DOCKER_HOST").is_some_and(|host| host == HIDDEN) {
        return Ok(None);
    }
    match files::read(&cache.join(LAST_ENGINE))?.as_deref().map(str::trim) {
        Some(USERS_OWN) => return Ok(Some("the last deploy used it".to_owned())),
        Some(_) => return Ok(None),
        None if was_made => return Ok(None),
        None => {}
    }
    for name in ["DOCKER_HOST", "DOCKER_CONTEXT"] {
        if let Some(value) = variable(name).filter(|value| value != "default") {
            return Ok(Some(format!("{name} is {value}")));
        }
    }
    let home = variable("HOME").unwrap_or_default();
    if let Some(context) = context(&client_config())? {
        return Ok(Some(format!("docker's context is {context}")));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let programs = std::env::split_paths(&path).chain(PROGRAMS.map(PathBuf::from)).map(|folder| folder.join("dockerd"));
    let below_home = HOME_TRACES.iter().map(|trace| PathBuf::from(format!("{home}/{trace}")));
    let traces = programs.chain(TRACES.map(PathBuf::from)).chain(below_home);
    Ok(traces.filter_map(|trace| find_trace(&trace)).next())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn client_config() -> Utf8PathBuf {
    let home = || format!("{}/.docker", variable("HOME").unwrap_or_default());
    Utf8PathBuf::from(variable("DOCKER_CONFIG").unwrap_or_else(home)).join("config.json")
}

/// Returns the socket that the user's `docker` uses. `None` if it uses no socket, or if only the client can tell.
pub fn socket() -> Option<Utf8PathBuf> {
    let config = client_config();
    let host = match (variable("DOCKER_HOST"), variable("DOCKER_CONTEXT")) {
        (Some(host), _) => host,
        (None, named) => {
            let read = |path: &Utf8Path| serde_json::from_str(&files::read(path).ok()??).ok();
            let settings: Value = if files::exists(&config).ok()? { read(&config)? } else { Value::Null };
            match named.or(settings["currentContext"].as_str().map(str::to_owned)).as_deref() {
                None | Some("" | "default") => DEFAULT_HOST.to_owned(),
                Some(context) => {
                    let folder = hex(&Sha256::digest(context));
                    let about: Value = read(&config.with_file_name("contexts/meta").join(folder).join("meta.json"))?;
                    about.pointer("/Endpoints/docker/Host")?.as_str()?.to_owned()
                }
            }
        }
    };
    host.strip_prefix("unix://").map(Utf8PathBuf::from)
}

/// Returns whether the private engine served last.
pub fn private_engine_was_last(cache: &Utf8Path) -> bool {
    files::read(&cache.join(LAST_ENGINE)).is_ok_and(|served| served.is_some_and(|served| served.trim() == PRIVATE))
}

/// Returns whether `docker` is on PATH.
pub fn has_client() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("docker").is_file())
}

/// Describes the sign of an engine at `path`: a file, or an error that hides whether there is one. The socket of an engine
/// that has ended counts as a sign.
fn find_trace(path: &Path) -> Option<String> {
    match path.symlink_metadata() {
        Ok(_) => Some(format!("there is {}", path.display())),
        // PATH may contain files and missing folders.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
        Err(error) => Some(format!("cannot look for {}: {error}", path.display())),
    }
}

/// Returns the context in the client's configuration, unless it is the default one.
fn context(config: &Utf8Path) -> Result<Option<String>> {
    let Some(text) = files::read(config)? else { return Ok(None) };
    // The client ignores a configuration that is not JSON.
    let config: Value = serde_json::from_str(&text).unwrap_or_default();
    Ok(config["currentContext"].as_str().filter(|name| !["", "default"].contains(name)).map(str::to_owned))
}

/// Records in the cache that `engine` serves.
pub fn remember(cache: &Utf8Path, engine: &Engine) -> Result<()> {
    let (file, name) = (cache.join(LAST_ENGINE), if engine.private { PRIVATE } else { USERS_OWN });
    if files::read(&file)?.is_some_and(|served| served == name) {
        return Ok(());
    }
    std::fs::write(&file, name).with_context(|| format!("writing {file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_the_engine_that_served_last() {
        let temp = tempfile::tempdir().unwrap();
        let cache = Utf8Path::from_path(temp.path()).unwrap();
        assert_eq!(find(cache, true).unwrap(), None, "a private engine that is older than this record");
        let own = Engine::system();
        remember(cache, &own).unwrap();
        for was_made in [true, false] {
            assert_eq!(find(cache, was_made).unwrap().as_deref(), Some("the last deploy used it"));
        }
        remember(cache, &Engine { private: true, ..own }).unwrap();
        assert_eq!(find(cache, false).unwrap(), None);
    }

    #[test]
    fn counts_an_unreadable_path_as_an_engine() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        assert_eq!(find_trace(&file), None);
        std::fs::write(&file, "").unwrap();
        assert_eq!(find_trace(&file), Some(format!("there is {}", file.display())));
        assert_eq!(find_trace(&file.join("dockerd")), None, "a file on the PATH");
        // Root can read a folder without permission, but cannot look up a name that is too long.
        let unknown = find_trace(&temp.path().join("x".repeat(300))).unwrap();
        assert!(unknown.starts_with("cannot look for "), "{unknown}");
    }

    #[test]
    fn finds_every_context_but_the_default_one() {
        let temp = tempfile::tempdir().unwrap();
        let config = Utf8Path::from_path(temp.path()).unwrap().join("config.json");
        assert_eq!(context(&config).unwrap(), None);
        for (text, found) in [
            (r#"{"auths": {}, "currentContext": "desktop-linux"}"#, Some("desktop-linux")),
            (r#"{"currentContext": "default"}"#, None),
            ("{", None),
        ] {
            std::fs::write(&config, text).unwrap();
            assert_eq!(context(&config).unwrap().as_deref(), found, "{text}");
        }
    }
}
