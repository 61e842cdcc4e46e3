//! Extracts one program from a `.tar.gz`.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use camino::Utf8Path;
use flate2::read::GzDecoder;

use crate::failure::{Class, Failure};

/// Writes the file `member` of `archive` to `dest`, executable and atomically. Nothing else is unpacked, so no path in
/// the archive can lead outside.
pub fn unpack(archive: &Utf8Path, member: &str, dest: &Utf8Path) -> Result<()> {
    let file = File::open(archive).with_context(|| format!("cannot open {archive}"))?;
    let mut tar = tar::Archive::new(GzDecoder::new(file));
    let cannot = || format!("cannot read {archive}");
    for entry in tar.entries().with_context(cannot)? {
        let mut entry = entry.with_context(cannot)?;
        let path = entry.path().with_context(cannot)?;
        let found = path.strip_prefix("./").unwrap_or(&path).as_os_str() == member;
        if found && entry.header().entry_type().is_file() {
            let part = super::beside(dest, "part");
            let mut out = File::create(&part).with_context(|| format!("cannot write {part}"))?;
            std::io::copy(&mut entry, &mut out).with_context(|| format!("cannot unpack {archive} to {part}"))?;
            drop(out);
            return executable(&part, dest);
        }
    }
    Err(Failure::new(Class::Config, format!("{archive} has no file `{member}`"))
        .help("correct `member` in infra/release.toml; `tar -tzf` shows what the archive holds")
        .into())
}

/// Makes the complete file `part` executable and gives it its name.
pub fn executable(part: &Utf8Path, dest: &Utf8Path) -> Result<()> {
    std::fs::set_permissions(part, Permissions::from_mode(0o755))
        .and_then(|()| std::fs::rename(part, dest))
        .with_context(|| format!("cannot rename {part} to {dest}"))
}
