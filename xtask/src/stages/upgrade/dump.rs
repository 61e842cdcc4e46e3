//! A dump of the embedded database: a file in Postgres' custom format, with the table contents read while nothing wrote.

use std::fs;
use std::io::{Read, Write};

use anyhow::{Context, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::postgres::{Postgres, Tables};
use super::state;
use crate::clock;
use crate::disk::Disk;
use crate::failure::{Class, Failure};
use crate::private;
use crate::report::{Running, bytes};
use crate::units::hex;

/// The number of dumps of a profile that are kept.
pub const KEEP: usize = 3;
const SUFFIX: &str = "dump";
/// Bytes that must be free in addition to the size of the database.
const SPARE: u64 = 200_000_000;

/// A proven dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// The name of the file in the profile's folder.
    pub file: String,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its content, in hex.
    pub sha256: String,
    /// The contents of all tables.
    pub tables: Tables,
}

impl Dump {
    /// Dumps the database into `folder`, and proves that the file has all rows. Nothing may write to the database meanwhile.
    pub fn create(folder: &Utf8Path, postgres: &Postgres, from: &str, running: &Running) -> Result<Self> {
        private::create_dir(folder)?;
        ensure_free_space(folder, postgres.size()?)?;
        let tables = postgres.tables()?;
        let file = format!("{}-{from}.{SUFFIX}", clock::rfc3339(clock::now()).replace(':', ""));
        let (path, new) = (folder.join(&file), folder.join(format!("{file}.new")));
        let _ = fs::remove_file(&new);
        let mut output = state::create(&new)?;
        let (size, sha256) = postgres.dump(&mut output, |written| running.progress(bytes(written)))?;
        output.sync_all().with_context(|| format!("writing {new}"))?;
        fs::rename(&new, &path).with_context(|| format!("writing {path}"))?;
        fs::File::open(folder)?.sync_all()?;
        let dump = Self { file, size, sha256, tables };
        running.progress("reading it back");
        dump.prove(postgres, folder).with_context(|| format!("the dump {path} cannot be trusted"))?;
        Ok(dump)
    }

    /// Fails unless the file has all rows, and the database has not changed.
    fn prove(&self, postgres: &Postgres, folder: &Utf8Path) -> Result<()> {
        self.check_file(folder)?;
        let rows = postgres.contents_of(&folder.join(&self.file))?.rows;
        let expected = self.tables.iter().map(|(name, table)| (name.clone(), table.rows)).collect();
        ensure!(rows == expected, "it has the rows {rows:?}, the database has {expected:?}");
        self.check_database(postgres)
    }

    /// Fails unless the database has exactly the tables and rows of the dump.
    pub fn check_database(&self, postgres: &Postgres) -> Result<()> {
        let now = postgres.tables()?;
        let differing = now.iter().filter(|(name, table)| self.tables.get(*name) != Some(table)).map(|(name, _)| name);
        let missing = self.tables.keys().filter(|name| !now.contains_key(*name));
        let names: Vec<&str> = differing.chain(missing).map(String::as_str).collect();
        ensure!(names.is_empty(), "the database differs from the dump in {}", names.join(", "));
        Ok(())
    }

    /// Returns the path of the file. Fails unless its content is the proven one.
    pub fn check_file(&self, folder: &Utf8Path) -> Result<Utf8PathBuf> {
        let path = folder.join(&self.file);
        let lost = |why: String| {
            Failure::new(Class::Cluster, format!("the dump {path} {why}"))
                .help("put the file back as it was; without it the todos of the old cluster cannot be restored")
        };
        let mut file = fs::File::open(&path).map_err(|error| lost(format!("cannot be read: {error}")))?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
        loop {
            match file.read(&mut buffer).map_err(|error| lost(format!("cannot be read: {error}")))? {
                0 => break,
                count => hash.update(&buffer[..count]),
            }
        }
        if hex(&hash.finalize()) != self.sha256 {
            return Err(lost("has another content than the one that was proven".to_owned()).into());
        }
        Ok(path)
    }

    /// Returns the number of rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.values().map(|table| table.rows).sum()
    }
}

/// Copies `input` to `output`, and calls `progress` with the bytes written. Returns their number and their SHA-256 in hex.
pub(super) fn copy(
    mut input: impl Read,
    output: &mut impl Write,
    mut progress: impl FnMut(u64),
) -> Result<(u64, String)> {
    let (mut hash, mut buffer, mut written) = (Sha256::new(), vec![0; 1 << 16], 0);
    loop {
        let count = input.read(&mut buffer)?;
        if count == 0 {
            return Ok((written, hex(&hash.finalize())));
        }
        output.write_all(&buffer[..count]).context("writing the dump")?;
        hash.update(&buffer[..count]);
        written += count as u64;
        progress(written);
    }
}

/// Removes all but the newest dumps in `folder`, the profile's. Returns the names of those that stay, the newest first.
pub fn remove_old(folder: &Utf8Path) -> Result<Vec<String>> {
    let entries = match folder.read_dir_utf8() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("reading {folder}"))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_owned());
    }
    // Names begin with the time.
    let mut dumps: Vec<String> = names.into_iter().filter(|name| name.ends_with(&format!(".{SUFFIX}"))).collect();
    dumps.sort_by(|one, other| other.cmp(one));
    for old in dumps.split_off(dumps.len().min(KEEP)) {
        fs::remove_file(folder.join(&old)).with_context(|| format!("removing {folder}/{old}"))?;
    }
    Ok(dumps)
}

fn ensure_free_space(folder: &Utf8Path, database: u64) -> Result<()> {
    let Some(disk) = Disk::of(folder) else { bail!("cannot read the free space at {folder}") };
    let needed = database + SPARE;
    if disk.free >= needed {
        return Ok(());
    }
    let what = format!("{} are free at {folder}; a dump of the database may take {}", bytes(disk.free), bytes(needed));
    Err(Failure::new(Class::Machine, what)
        .help("free some space, or name another folder: export XDG_DATA_HOME=/path")
        .into())
}
