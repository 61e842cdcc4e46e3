//! Changes of the copied checkout that go when they are dropped.

use anyhow::{Result, ensure};
use camino::Utf8PathBuf;

use super::test_cluster::TestCluster;

/// A file of the copy that is put back as it was when this is dropped.
pub struct Edited {
    path: Utf8PathBuf,
    text: String,
}

impl TestCluster {
    /// Changes a file of the copy; it must become another.
    pub fn edit(&self, path: &str, edit: impl FnOnce(&str) -> String) -> Result<Edited> {
        let path = self.root.join(path);
        let text = std::fs::read_to_string(&path)?;
        let edited = edit(&text);
        ensure!(edited != text, "{path} is not changed");
        std::fs::write(&path, edited)?;
        Ok(Edited { path, text })
    }
}

impl Drop for Edited {
    fn drop(&mut self) {
        let _ = std::fs::write(&self.path, &self.text);
    }
}
