//! The stages of a deploy. Each observes, decides on steps, and applies them.

pub mod images;
