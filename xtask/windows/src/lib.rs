//! Ends the compilation on Windows with one sentence. `xtask` depends on this crate only on Windows. So cargo stops
//! here, before the compiler reports every part of `xtask` that does not work there.

#[cfg(windows)]
compile_error!(
    "xtask runs on Linux and macOS; on Windows, clone and run it in WSL 2, with Docker Desktop's WSL integration on"
);
