//! The commands of xtask, one file each: the arguments and `run`.

pub mod bench;
pub(crate) mod cluster;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod db;
pub(crate) mod deploy;
pub mod dev;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod images;
pub(crate) mod logs;
pub mod output;
pub(crate) mod overview;
pub(crate) mod pins;
pub(crate) mod record;
pub(crate) mod rollback;
pub(crate) mod scan;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod summary;
pub(crate) mod teardown;
pub mod test;
pub mod tidy;
pub(crate) mod tool;
