//! Replaces the cluster with a new one that keeps the embedded database: dump, delete, create, restore.
//!
//! Kubernetes supports upgrades over one minor version at a time, and minikube's upgrade in place cannot be undone. A new
//! cluster works for any number of versions, and a dump moves the data. The dump is proven before anything is deleted, and it
//! stays afterwards. [`UpgradeState`] records the progress, so any later run continues from there.

mod dump;
mod live;
mod postgres;
mod remote;
mod state;

pub use dump::{Dump, KEEP, remove_old};
pub use live::{Backend, Contents, backend, backend_name, cluster_uid, scale_backend, start_backend};
pub use postgres::{DumpContents, Postgres, Tables, VERSION_TABLE};
pub use remote::Remote;
pub use state::{Phase, UpgradeState, folder, refuse_unfinished};
