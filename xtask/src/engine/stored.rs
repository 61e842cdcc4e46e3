//! Reads the private engine's containers from its files, so it works while the engine is stopped or does not answer.

use anyhow::{Context, Result};
use serde_json::Value;

use super::paths::EnginePaths;
use crate::files;

/// Returns the names of all containers of the private engine.
pub fn containers(paths: &EnginePaths) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in files::entries(&paths.data().join("containers"))? {
        let file = folder.join("config.v2.json");
        // A container that is just being removed has none any more.
        let Some(text) = files::read(&file)? else { continue };
        let config: Value = serde_json::from_str(&text).with_context(|| format!("reading {file}"))?;
        let name = config["Name"].as_str().with_context(|| format!("{file} names no container"))?;
        names.push(name.trim_start_matches('/').to_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use camino::Utf8Path;

    #[test]
    fn containers_are_known_without_the_engine_or_unknown() {
        let temp = tempfile::tempdir().unwrap();
        let paths = EnginePaths::new(Utf8Path::from_path(temp.path()).unwrap());
        assert_eq!(containers(&paths).unwrap(), [""; 0]);
        let folder = paths.data().join("containers/0123");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config.v2.json"), r#"{"ID":"0123","Name":"/todo"}"#).unwrap();
        assert_eq!(containers(&paths).unwrap(), ["todo"]);
        std::fs::write(folder.join("config.v2.json"), "").unwrap();
        assert!(containers(&paths).is_err());
    }
}
