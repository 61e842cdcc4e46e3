//! A new cluster in place of an old one that keeps the embedded database: dump, delete, create, restore.
//!
//! Kubernetes supports an upgrade over one minor version at a time, and minikube's own upgrade in place cannot be undone.
//! So the way over any number of versions is a new cluster, and a dump is what crosses over. The dump is made and proven
//! before anything is deleted, and it stays afterwards. [`State`] says how far an upgrade is: any run goes on from there.

mod dump;
mod live;
mod postgres;
mod remote;
mod state;

pub use dump::{Dump, KEEP, remove_old};
pub use live::{Backend, Contents, backend, cluster_uid, scale_backend, start_backend};
pub use postgres::{InDump, Postgres, Tables, VERSION};
pub use remote::Remote;
pub use state::{Phase, State, folder, refuse_unfinished};
