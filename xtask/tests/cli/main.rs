//! The whole binary in a sandbox of its own: a temporary checkout, cleared environment, tools played by a
//! script, and an API server of the test's own.
//!
//! Here is what is hard to bring about on a real cluster; the rest is tested on one (`cargo xtask test`).

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
