//! Builds, deploys and proves the Todo application on Minikube. See README.md and ARCHITECTURE.md.
//!
//! This is a library, because the programs of single commands (`members.rs`) share its modules. Cargo compiles such a
//! program only when its command runs.

pub mod api;
pub mod cache;
pub mod checkout;
pub mod cli;
pub mod clock;
pub mod commands;
mod credentials;
pub mod deadlines;
mod disk;
mod dotenv;
pub mod engine;
mod events;
pub mod failure;
pub mod files;
pub mod git;
mod inventory;
mod json;
pub mod judge;
mod labels;
pub mod lock;
pub mod members;
mod minikube;
pub mod node;
pub mod origin;
pub mod pins;
pub mod plan;
mod private;
pub mod process;
pub mod program;
pub mod project;
mod pure;
pub mod report;
pub mod secrets;
mod settings;
pub mod snapshot;
pub mod stages;
pub mod supply;
pub mod tally;
pub mod toolbox;
pub mod toolchain;
pub mod units;
mod wsl;
