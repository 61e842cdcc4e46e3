//! A compressed archive that redacts every text before it stores it.

use std::fs::File;
use std::io::Write;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::secrets::Redactor;
use crate::{clock, failure, private};

/// Maximum length of a text in bytes. Longer ones keep their end, where errors are.
const MAX_LENGTH: usize = 512 * 1024;

/// An archive that is being written.
pub struct Archive {
    builder: tar::Builder<GzEncoder<File>>,
    path: Utf8PathBuf,
    folder: String,
    redactor: Redactor,
}

impl Archive {
    /// Creates `dir/<name>.tar.gz` with mode 600. All its files are below `name/`.
    pub fn create(dir: &Utf8Path, name: &str, redactor: Redactor) -> Result<Self> {
        private::create_dir(dir)?;
        let path = dir.join(format!("{name}.tar.gz"));
        let builder = tar::Builder::new(GzEncoder::new(private::create(&path)?, Compression::default()));
        Ok(Self { builder, path, folder: name.to_owned(), redactor })
    }

    /// Adds a redacted text.
    pub fn add(&mut self, name: &str, text: &str) -> Result<()> {
        let text = self.clean(text);
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(clock::now());
        self.builder.append_data(&mut header, format!("{}/{name}", self.folder), text.as_bytes())?;
        Ok(())
    }

    /// Adds the redacted text from `collect`, or its error: a bundle must succeed while other things fail.
    pub fn collect(&mut self, name: &str, collect: impl FnOnce() -> Result<String>) -> Result<()> {
        let text = collect().unwrap_or_else(|error| format!("could not be collected: {}\n", failure::message(&error)));
        self.add(name, &text)
    }

    /// Completes the file. Returns its path.
    pub fn finish(self) -> Result<Utf8PathBuf> {
        let mut file = self.builder.into_inner()?.finish()?;
        file.flush().with_context(|| format!("writing {}", self.path))?;
        Ok(self.path)
    }

    fn clean(&self, text: &str) -> String {
        // Redact first and cut then: the redactor would not recognize half a secret.
        let clean = self.redactor.redact(text);
        let mut from = clean.len().saturating_sub(MAX_LENGTH);
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
    fn stores_no_secret_and_is_readable_by_the_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let redactor = Redactor::new([&Secret::new("not-a-secret-canary")]);
        let mut archive = Archive::create(dir, "bundle", redactor).unwrap();
        // A real shape, joined at run time, so that no scanner takes this file for a leak.
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
            files["bundle/long.txt"].len() < MAX_LENGTH + 100 && files["bundle/long.txt"].starts_with("(the beginning")
        );
    }
}
