//! The folders of minikube: the user's own, and the one in the cache that xtask uses.

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};

use crate::files;

/// Returns the MINIKUBE_HOME in our `cache`: it has neither the user's settings nor their other profiles.
pub fn own_home(cache: &Utf8Path) -> Utf8PathBuf {
    cache.join("minikube")
}

/// Returns the MINIKUBE_HOME that the user's own minikube would use.
pub fn users_home() -> Utf8PathBuf {
    let named = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty()).map(Utf8PathBuf::from);
    named("MINIKUBE_HOME").or_else(|| named("HOME")).unwrap_or_else(|| Utf8Path::new("/").to_owned())
}

/// Returns the folder that minikube uses for the MINIKUBE_HOME `home`: `home/.minikube`, or `home` where it has that name.
pub fn folder(home: &Utf8Path) -> Utf8PathBuf {
    if home.file_name() == Some(".minikube") { home.to_owned() } else { home.join(".minikube") }
}

/// Returns the file with the record of `profile` in minikube's folder.
pub fn record(folder: &Utf8Path, profile: &str) -> Utf8PathBuf {
    folder.join("profiles").join(profile).join("config.json")
}

/// Returns whether the minikube of `home` has `profile` on record. A folder that cannot be read is an error.
pub fn is_recorded(home: &Utf8Path, profile: &str) -> Result<bool> {
    files::exists(&record(&folder(home), profile))
}
