//! The stages of a deploy, in one direction: machine, tools, cluster, images, release, proof.

pub mod machine;
