//! Windows Subsystem for Linux: detects it, and Windows drives below /mnt, whose file system differs from that of
//! Linux.

use camino::Utf8Path;

/// What the kernel says of itself; empty where it says nothing.
pub fn kernel() -> String {
    std::fs::read_to_string("/proc/version").unwrap_or_default()
}

/// Whether that is WSL's kernel.
pub fn is_wsl(kernel: &str) -> bool {
    kernel.to_lowercase().contains("microsoft")
}

/// The Windows drive that `path` is on in WSL, e.g. `/mnt/c`. Files have mode 0777 there, and each access takes long.
pub fn drive<'a>(path: &'a Utf8Path, kernel: &str) -> Option<&'a str> {
    let is_drive = path.as_str().strip_prefix("/mnt/").is_some_and(|rest| rest.as_bytes().get(1) == Some(&b'/'));
    (is_drive && is_wsl(kernel)).then(|| &path.as_str()[..6])
}
