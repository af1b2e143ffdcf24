//! Projects: machines that belong together, as `compose.json` has them.
//!
//! The one thing to know: nothing is kept of a project. Its machines are those that have its label,
//! and each is one as `mvm run --detach` makes them, so all other commands know them by their names.

mod board;
mod follow;
mod order;
mod progress;
mod replica;
mod scope;
mod starter;

pub use follow::{Ending, Follow, colour};
pub use order::{in_reverse, kill_all};
pub use progress::Progress;
pub use replica::{Member, Replica, members, replicas};
pub use scope::{Scope, load};
pub use starter::{Starter, Waits};
