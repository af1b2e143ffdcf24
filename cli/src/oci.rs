//! Containers of an engine as machines: an OCI runtime (`config.json` of runtime-spec 1.0, and the
//! command line of runc).
//!
//! The one thing to know: runc makes each container as it always does, namespaces, mounts, control
//! group and hooks, and mvm is its process. The bundle's config.json is copied and rewritten for that
//! ([`config`]). The monitor then runs where the engine wants the program, as the same user, in the
//! same group and under the same rules, and the container's root is the machine's ([`inside`]).
//!
//! The engine's own bundle stays as it is. What is written lies in a folder of it and goes with it.

mod bundle;
pub mod config;
pub mod container;
pub mod inside;
pub mod log;
pub mod network;
pub mod process;
pub mod runc;

pub use bundle::{Bundle, read};
use runc::Runc;

/// Where a container has what its machine is made from. What is in `/dev` is of no layer.
pub const INSIDE: &str = "/dev/mvm";

/// The bundle of a container that is a machine.
pub fn bundle_of(runc: &Runc, id: &str) -> Option<Bundle> {
    Bundle::of_runc(&runc.state(id).ok()?.bundle)
}
