//! Downloads: verified by SHA-256 before they get their name, resumed after an interruption, with time limits, and only
//! once if two processes want the same file.

mod http;
mod trouble;
mod unpack;

#[cfg(test)]
pub(in crate::origin) mod loopback;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::time::Duration;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest, Sha256};

use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::units;
use http::{Client, Got};

pub use http::{SYSTEM, answers};
pub use unpack::{executable, unpack};

/// Time limits and attempts of a download.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Name resolution and, separately, connection with TLS.
    pub connect: Duration,
    /// A server that sends no byte for this long has stalled.
    pub stall: Duration,
    /// Pause before the first retry; doubled for each further one.
    pub pause: Duration,
    /// Retries after connection errors, stalls, cut-off answers and server errors.
    pub retries: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let (connect, stall) = (deadlines::DOWNLOAD_CONNECT.time(), deadlines::DOWNLOAD_STALL.time());
        Self { connect, stall, pause: deadlines::DOWNLOAD_PAUSE.time(), retries: 3 }
    }
}

/// Brings `url` to the file `dest`, which has the checksum `sha256` (64 hex digits) when this returns `Ok`.
///
/// `ca_bundle` (PEM) is trusted besides the system's certificates; proxies come from the environment. `progress` gets
/// the state in a few words. After a failure the partial file stays beside `dest` as `.part` and is resumed.
pub fn fetch(
    url: &str,
    sha256: &str,
    dest: &Utf8Path,
    ca_bundle: Option<&Utf8Path>,
    progress: &dyn Fn(&str),
) -> Result<()> {
    fetch_within(Limits::default(), url, sha256, dest, ca_bundle, progress)
}

/// Downloads like [`fetch`], with other limits.
pub fn fetch_within(
    limits: Limits,
    url: &str,
    sha256: &str,
    dest: &Utf8Path,
    ca_bundle: Option<&Utf8Path>,
    progress: &dyn Fn(&str),
) -> Result<()> {
    let client = Client::new(url, ca_bundle, limits)?;
    let _only_one = lock(dest, progress)?;
    // The process that held the lock may have brought it.
    if dest.is_file() && checksum(dest)? == sha256 {
        return Ok(());
    }
    let part = beside(dest, "part");
    let mut resumed = transfer(&client, limits, url, &part, progress)?;
    loop {
        progress("verifying");
        let got = checksum(&part)?;
        if got == sha256 {
            std::fs::rename(&part, dest).with_context(|| format!("cannot rename {part} to {dest}"))?;
            return Ok(());
        }
        std::fs::remove_file(&part).with_context(|| format!("cannot remove {part}"))?;
        if !resumed {
            return Err(mismatch(url, sha256, &got).into());
        }
        // What lay there before may have been spoilt by a crash: a whole download decides.
        resumed = transfer(&client, limits, url, &part, progress)?;
    }
}

/// Downloads the rest of `part`, trying again where that may help. Tells whether a part from before was built upon.
fn transfer(client: &Client, limits: Limits, url: &str, part: &Utf8Path, progress: &dyn Fn(&str)) -> Result<bool> {
    let found = size(part) > 0;
    let mut pause = limits.pause;
    for retry in 0.. {
        let trouble = match client.get(url, part, progress) {
            Ok(Got::Rest) => return Ok(found),
            Ok(Got::Whole) => return Ok(false),
            Err(trouble) => trouble,
        };
        if retry == limits.retries || !trouble.passes() {
            return Err(trouble.into_failure(url, size(part), retry).into());
        }
        progress(&format!("{trouble}; trying again ({} of {})", retry + 1, limits.retries));
        std::thread::sleep(pause);
        pause *= 2;
    }
    unreachable!("the last retry returns")
}

/// Waits until no other process brings `dest`; the lock ends with the value (or its process).
pub fn lock(dest: &Utf8Path, progress: &dyn Fn(&str)) -> Result<File> {
    let path = beside(dest, "lock");
    let dir = path.parent().unwrap_or(Utf8Path::new("."));
    let cannot = |error: std::io::Error| {
        Failure::new(Class::Machine, format!("cannot write to {dir}: {error}"))
            .help(format!("make {dir} writable, or move the cache: export {}=…", crate::cache::CACHE_VARIABLE))
    };
    std::fs::create_dir_all(dir).map_err(cannot)?;
    let file = File::options().create(true).append(true).open(&path).map_err(cannot)?;
    if file.try_lock().is_err() {
        progress("waiting: another xtask is downloading the same");
        file.lock().with_context(|| format!("cannot lock {path}"))?;
    }
    Ok(file)
}

fn mismatch(url: &str, expected: &str, got: &str) -> Failure {
    Failure::new(
        Class::Machine,
        format!("{url} is not what was published: expected SHA-256 {expected}, got {got}; the file was removed"),
    )
    .help("run the command again: a proxy or a portal may have answered in its place")
    .help("the same again: do not use the file; compare with its `cite` in infra/release.toml")
}

/// Returns the SHA-256 of a file in hexadecimal digits.
pub fn checksum(path: &Utf8Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot open {path}"))?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut hasher).with_context(|| format!("cannot read {path}"))?;
    Ok(units::hex(&hasher.finalize()))
}

fn size(path: &Utf8Path) -> u64 {
    path.metadata().map_or(0, |meta| meta.len())
}

fn beside(path: &Utf8Path, suffix: &str) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{path}.{suffix}"))
}
