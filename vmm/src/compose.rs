//! `compose.json` as types: machines that belong together, a project.
//!
//! The one thing to know: a service is what an app.json says, and what of it is the project's. So the
//! sections of an app.json are read by its own types, and a service is a function that returns an
//! [`App`] ([`Project::machine`]): there is no other kind of machine.
//!
//! Left out: which machines there are and what becomes of them, which the commands find out.

mod check;
mod file;
mod keys;
mod list_or_map;
mod load;
mod machine;
mod merge;
mod order;
mod overlay;
mod resolved;
mod schema;
mod texts;
mod variables;

use std::collections::BTreeMap;

pub use file::{Asked, ComposeFile, FILE_NAMES, OVERRIDE_NAMES, is_compose};
pub use keys::{Condition, Membership, Network, Volume};
pub use load::ReadVariables;
pub use machine::{PROJECT_LABEL, SERVICE_LABEL, volume_prefix};
pub use order::Order;
pub use variables::{Variables, substitute};

use crate::app::App;

/// Services of one project; far more than one host has the memory for.
pub const MAX_SERVICES: usize = 256;

/// Machines of one service.
pub const MAX_SCALE: u32 = 100;

/// The network that a service is in unless its file says otherwise.
pub const DEFAULT_NETWORK: &str = "default";

/// Machines that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its name, which its machines, networks and volumes have before their own.
    pub name: String,
    /// Its services by their names.
    pub services: BTreeMap<String, Service>,
    /// What is said of its networks.
    pub networks: BTreeMap<String, Network>,
    /// What is said of its volumes.
    pub volumes: BTreeMap<String, Volume>,
}

/// Machines that are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What each of its machines is, with the project's defaults.
    pub app: App,
    /// Services that it needs, and how far they must be before it is started.
    pub depends_on: BTreeMap<String, Condition>,
    /// Networks of the project that it is in.
    pub networks: BTreeMap<String, Membership>,
    /// How many machines it is.
    pub scale: u32,
    /// It is started only if one of these is asked for; without any always.
    pub profiles: Vec<String>,
}
