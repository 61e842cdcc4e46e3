//! Windows Subsystem for Linux: detects it, and Windows drives below /mnt, whose file system differs from that of
//! Linux.

use camino::Utf8Path;

/// Returns the kernel's description of itself; empty on systems without `/proc/version`.
pub fn kernel() -> String {
    std::fs::read_to_string("/proc/version").unwrap_or_default()
}

/// Returns whether the description is that of WSL's kernel.
pub fn is_wsl(kernel: &str) -> bool {
    kernel.to_lowercase().contains("microsoft")
}

/// Returns the Windows drive of `path` in WSL, e.g. `/mnt/c`. Files have mode 0777 there, and each access takes long.
pub fn drive<'a>(path: &'a Utf8Path, kernel: &str) -> Option<&'a str> {
    let is_drive = path.as_str().strip_prefix("/mnt/").is_some_and(|rest| rest.as_bytes().get(1) == Some(&b'/'));
    (is_drive && is_wsl(kernel)).then(|| &path.as_str()[..6])
}
