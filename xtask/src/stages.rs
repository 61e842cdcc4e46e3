//! The stages of a deploy, in one direction: machine, tools, cluster, images, release, proof.

pub mod cluster;
pub mod database;
pub mod images;
pub mod machine;
pub mod proof;
pub mod release;
pub mod upgrade;

/// Returns a note on the state that an interruption in `stage` leaves, for messages.
pub fn left_by(stage: &str) -> &'static str {
    match stage {
        "images" => " (nothing in the cluster has changed but for images that it now has)",
        "release" => {
            " (old pods go on serving; the new revision is not verified: the next deploy repairs and goes on, cargo xtask \
             status shows where it is)"
        }
        "upgrade" => " (the dump stays, and so do the todos in it: cargo xtask cluster upgrade goes on)",
        "proof" => " (the release stands but is not verified)",
        _ => "",
    }
}
