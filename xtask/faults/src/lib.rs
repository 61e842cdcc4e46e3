//! Makes external calls of xtask fail, and checks xtask's messages and actions: the parts of `test faults` that the
//! end-to-end suite also uses, on a real cluster.

pub mod calls;
pub mod checker;
pub mod claims;
pub mod client;
pub mod control;
pub mod etcd;
pub mod gate;
pub mod http;
pub mod ingress;
pub mod machine;
pub mod mutants;
pub mod names;
pub mod pki;
pub mod player;
pub mod programs;
pub mod proxy;
pub mod ran;
pub mod sandbox;
pub mod scenario;
pub mod servers;
pub mod suite;
pub mod truth;
