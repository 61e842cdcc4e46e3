//! The checkout: where it is, and its folder for logs and other output.

use camino::{Utf8Path, Utf8PathBuf};

use crate::settings;

/// The folder for logs and other output in a checkout.
pub const TARGET: &str = "target/xtask";

/// Returns the checkout to work on: `named`, else the one around the current folder, else the one that this xtask was
/// compiled from.
pub fn find(named: Option<Utf8PathBuf>) -> Utf8PathBuf {
    let current = std::env::current_dir().ok().and_then(|path| Utf8PathBuf::from_path_buf(path).ok());
    let around = current.as_deref().into_iter().flat_map(Utf8Path::ancestors);
    let here = || around.clone().find(|path| path.join(settings::FILE).is_file()).map(Utf8Path::to_owned);
    named.or_else(here).unwrap_or_else(compiled_from)
}

/// Returns the checkout that this xtask was compiled from.
///
/// cargo sets XTASK_CHECKOUT from `.cargo/config.toml`, and compiles again when its value changes. It does not do so
/// for CARGO_MANIFEST_DIR: two checkouts with one CARGO_TARGET_DIR, or a copy with its `target`, would run each other's
/// program.
pub fn compiled_from() -> Utf8PathBuf {
    let manifest = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
    let checkout = option_env!("XTASK_CHECKOUT").map(Utf8Path::new);
    // Without the slash at the end.
    checkout.or(manifest.parent()).unwrap_or(manifest).components().collect()
}

/// Returns the folder for logs and other output of the checkout `root`.
pub fn target(root: &Utf8Path) -> Utf8PathBuf {
    root.join(TARGET)
}

/// Returns a log file in `target`, the folder for logs and other output.
pub fn log(target: &Utf8Path, name: &str) -> Utf8PathBuf {
    target.join("logs").join(format!("{name}.log"))
}
