//! Whether an engine of the user's own is installed although none answers. A private one beside it would be a surprise: it
//! takes memory, changes the firewall, and has none of the clusters that the other one has.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::engine::{Engine, HIDDEN};
use crate::files;
use crate::units::hex;

/// Names the engine that served last, in the cache.
const SERVED: &str = "engine-used";
const OWN: &str = "own";
const PRIVATE: &str = "private";

/// Where `docker` goes if nothing names another place.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// Folders of programs that need not be on PATH.
const PROGRAMS: [&str; 6] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/snap/bin", "/opt/docker"];
/// What Docker, Docker Desktop and rootless engines leave where they are installed.
const TRACES: [&str; 3] = ["/var/run/docker.sock", "/opt/docker-desktop", "/usr/lib/systemd/system/docker.service"];
/// The same below HOME.
const HOME_TRACES: [&str; 3] = [".docker/desktop", ".docker/run/docker.sock", ".config/systemd/user/docker.service"];

/// Why an engine of the user's own is the one to use. The engine that served last goes on serving; where nothing is known,
/// a private one that was `made` before.
pub fn find(cache: &Utf8Path, made: bool) -> Result<Option<String>> {
    if variable("DOCKER_HOST").is_some_and(|host| host == HIDDEN) {
        return Ok(None);
    }
    match files::read(&cache.join(SERVED))?.as_deref().map(str::trim) {
        Some(OWN) => return Ok(Some("the last deploy used it".to_owned())),
        Some(_) => return Ok(None),
        None if made => return Ok(None),
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
    Ok(traces.filter_map(|trace| is_trace(&trace)).next())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The client's configuration.
fn client_config() -> Utf8PathBuf {
    let home = || format!("{}/.docker", variable("HOME").unwrap_or_default());
    Utf8PathBuf::from(variable("DOCKER_CONFIG").unwrap_or_else(home)).join("config.json")
}

/// The socket that the user's `docker` would go to; `None`: only the client itself can tell, or it goes elsewhere.
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

/// Whether the private engine is the one that served last.
pub fn private_served(cache: &Utf8Path) -> bool {
    files::read(&cache.join(SERVED)).is_ok_and(|served| served.is_some_and(|served| served.trim() == PRIVATE))
}

/// Whether there is a `docker` on PATH.
pub fn has_client() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("docker").is_file())
}

/// What tells of an engine at `path`: that something is there, or that nobody can look. A socket's file whose engine has
/// ended counts too.
fn is_trace(path: &Path) -> Option<String> {
    match path.symlink_metadata() {
        Ok(_) => Some(format!("there is {}", path.display())),
        // The PATH may name files, and folders that are gone.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
        Err(error) => Some(format!("cannot look for {}: {error}", path.display())),
    }
}

/// The context that the client's configuration names, if it is not the default one.
fn context(config: &Utf8Path) -> Result<Option<String>> {
    let Some(text) = files::read(config)? else { return Ok(None) };
    // What the client itself cannot read names no engine.
    let config: Value = serde_json::from_str(&text).unwrap_or_default();
    Ok(config["currentContext"].as_str().filter(|name| !["", "default"].contains(name)).map(str::to_owned))
}

/// Remembers that `engine` serves.
pub fn remember(cache: &Utf8Path, engine: &Engine) -> Result<()> {
    let (place, name) = (cache.join(SERVED), if engine.private { PRIVATE } else { OWN });
    if files::read(&place)?.is_some_and(|served| served == name) {
        return Ok(());
    }
    std::fs::write(&place, name).with_context(|| format!("writing {place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_that_served_goes_on_serving() {
        let temp = tempfile::tempdir().unwrap();
        let cache = Utf8Path::from_path(temp.path()).unwrap();
        assert_eq!(find(cache, true).unwrap(), None, "a private engine from before there was a memory");
        let own = Engine::system();
        remember(cache, &own).unwrap();
        for made in [true, false] {
            assert_eq!(find(cache, made).unwrap().as_deref(), Some("the last deploy used it"));
        }
        remember(cache, &Engine { private: true, ..own }).unwrap();
        assert_eq!(find(cache, false).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_looked_at_counts_as_an_engine() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        assert_eq!(is_trace(&file), None);
        std::fs::write(&file, "").unwrap();
        assert_eq!(is_trace(&file), Some(format!("there is {}", file.display())));
        assert_eq!(is_trace(&file.join("dockerd")), None, "a file on the PATH");
        // Unlike a folder without permission, a name that is too long cannot be looked at by root either.
        let unknown = is_trace(&temp.path().join("x".repeat(300))).unwrap();
        assert!(unknown.starts_with("cannot look for "), "{unknown}");
    }

    #[test]
    fn a_context_names_an_engine_unless_it_is_the_default_one() {
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
