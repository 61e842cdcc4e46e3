//! A compressed archive into which nothing gets that has not been through the redactor.

use std::fs::File;
use std::io::Write;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::secrets::Redactor;
use crate::{clock, private};

/// Of longer files only the end is kept, in bytes: what went wrong stands there.
const LONGEST: usize = 512 * 1024;

/// The archive while it is written.
pub struct Archive {
    builder: tar::Builder<GzEncoder<File>>,
    path: Utf8PathBuf,
    folder: String,
    redactor: Redactor,
}

impl Archive {
    /// A new one for its owner alone, `dir/<name>.tar.gz`, whose files lie below `name/`.
    pub fn create(dir: &Utf8Path, name: &str, redactor: Redactor) -> Result<Self> {
        private::create_dir(dir)?;
        let path = dir.join(format!("{name}.tar.gz"));
        let builder = tar::Builder::new(GzEncoder::new(private::create(&path)?, Compression::default()));
        Ok(Self { builder, path, folder: name.to_owned(), redactor })
    }

    /// Adds a text, without secrets.
    pub fn add(&mut self, name: &str, text: &str) -> Result<()> {
        let text = self.clean(text);
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(clock::now());
        self.builder.append_data(&mut header, format!("{}/{name}", self.folder), text.as_bytes())?;
        Ok(())
    }

    /// Adds what `collect` gives, or why it could not: a bundle is for when things do not work.
    pub fn collect(&mut self, name: &str, collect: impl FnOnce() -> Result<String>) -> Result<()> {
        let text = collect().unwrap_or_else(|error| format!("could not be collected: {error:#}\n"));
        self.add(name, &text)
    }

    /// Completes the file; gives its path.
    pub fn finish(self) -> Result<Utf8PathBuf> {
        let mut file = self.builder.into_inner()?.finish()?;
        file.flush().with_context(|| format!("writing {}", self.path))?;
        Ok(self.path)
    }

    fn clean(&self, text: &str) -> String {
        // Redacted as a whole and cut then: a secret at the cut would be half a secret, and pass.
        let clean = self.redactor.redact(text);
        let mut from = clean.len().saturating_sub(LONGEST);
        while !clean.is_char_boundary(from) {
            from += 1;
        }
        let mark = if from > 0 { "(the beginning is left out)\n" } else { "" };
        format!("{mark}{}", &clean[from..])
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::secrets::Secret;

    #[test]
    fn nothing_secret_gets_in_and_only_the_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let redactor = Redactor::new([&Secret::new("not-a-secret-canary")]);
        let mut archive = Archive::create(dir, "bundle", redactor).unwrap();
        // A real shape of each: the parts are put together here, so that no scanner takes this file for a leak.
        let token = ["eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiIxIn0", "c2lnbmF0dXJlMTIz"].join(".");
        archive.add("a/one.txt", &format!("x not-a-secret-canary y {token} z")).unwrap();
        archive.add("two.txt", "postgresql://todo:not-a-secret-word@db/todo").unwrap();
        archive.collect("three.txt", || anyhow::bail!("no not-a-secret-canary here")).unwrap();
        archive.add("long.txt", &"0123456789".repeat(100_000)).unwrap();
        let path = archive.finish().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let mut files = std::collections::BTreeMap::new();
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(File::open(&path).unwrap()));
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            files.insert(name, text);
        }
        assert_eq!(files["bundle/a/one.txt"], "x *** y *** z");
        assert_eq!(files["bundle/two.txt"], "postgresql://todo:***@db/todo");
        assert_eq!(files["bundle/three.txt"], "could not be collected: no *** here\n");
        assert!(
            files["bundle/long.txt"].len() < LONGEST + 100 && files["bundle/long.txt"].starts_with("(the beginning")
        );
    }
}
