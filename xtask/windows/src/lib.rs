//! The one sentence that Windows gets. On Windows alone `xtask` depends on this crate, so cargo stops here, before the
//! compiler lists everything in `xtask` that Windows lacks.

#[cfg(windows)]
compile_error!(
    "xtask runs on Linux and macOS; on Windows, clone and run it in WSL 2, with Docker Desktop's WSL integration on"
);
