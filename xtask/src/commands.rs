//! A file a command: its arguments and its `run`.

pub mod bench;
pub mod completions;
pub mod config;
pub mod deploy;
pub mod diff;
pub mod doctor;
pub mod images;
pub mod logs;
pub mod output;
pub mod overview;
pub mod pins;
pub mod rollback;
pub mod scan;
pub mod status;
pub mod summary;
pub mod teardown;
pub mod test;
pub mod tool;
