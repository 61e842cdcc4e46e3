//! The stages of a deploy, in one direction: machine, tools, cluster, images, release, proof.

pub mod cluster;
pub mod database;
pub mod images;
pub mod machine;
pub mod proof;
pub mod release;
