//! Runs of the whole binary in a sandbox: a temporary checkout, a cleared environment, fake tools, and a test API server.
//!
//! These tests cover states that are hard to create on a real cluster. `cargo xtask test` covers the rest on a real one.

mod api;
#[expect(dead_code, reason = "the client's own tests use the rest of it")]
mod api_server;
mod bases;
mod builds;
mod children;
mod common;

mod cluster;
mod configuration;
mod db;
mod dev;
mod dry_run;
mod interrupts;
mod json;
mod machine;
mod members;
mod output;
mod places;
mod power;
mod repairs;
mod repository;
mod secrets;
mod teardown;
mod undo;
mod upgrade;
