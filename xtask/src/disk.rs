//! The free space of a file system.

use camino::Utf8Path;

/// Size and free space of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Space that this user may still write.
    pub free: u64,
    /// The size of the whole file system.
    pub total: u64,
}

impl Disk {
    /// Returns the file system that holds `path`, or will hold it; `None` if the system gives no numbers.
    pub fn of(path: &Utf8Path) -> Option<Self> {
        let existing = path.ancestors().find(|ancestor| ancestor.exists())?;
        let stat = rustix::fs::statvfs(existing.as_std_path()).ok()?;
        Some(Self { free: stat.f_bavail * stat.f_frsize, total: stat.f_blocks * stat.f_frsize })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_file_system_of_a_folder_that_does_not_exist_yet() {
        let disk = Disk::of(Utf8Path::new("/no/such/folder")).unwrap();
        assert!(disk.free > 0 && disk.free <= disk.total);
    }
}
