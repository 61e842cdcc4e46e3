//! A file a command: its arguments and its `run`.

pub mod completions;
pub mod config;
pub mod deploy;
pub mod doctor;
pub mod images;
pub mod scan;
pub mod status;
pub mod summary;
pub mod teardown;
pub mod test;
pub mod tool;
