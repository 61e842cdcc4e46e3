//! Temporary edits of the copied checkout.

use anyhow::{Result, ensure};
use camino::Utf8PathBuf;

use super::test_cluster::TestCluster;

/// An edited file of the copy. Dropping it restores the original text.
pub struct EditedFile {
    path: Utf8PathBuf,
    text: String,
}

impl TestCluster {
    /// Changes a file of the copy. Fails if the text stays the same.
    pub fn edit(&self, path: &str, edit: impl FnOnce(&str) -> String) -> Result<EditedFile> {
        let path = self.root.join(path);
        let text = std::fs::read_to_string(&path)?;
        let edited = edit(&text);
        ensure!(edited != text, "{path} is not changed");
        std::fs::write(&path, edited)?;
        Ok(EditedFile { path, text })
    }
}

impl Drop for EditedFile {
    fn drop(&mut self) {
        let _ = std::fs::write(&self.path, &self.text);
    }
}
