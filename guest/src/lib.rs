//! What the two sides of a guest share, and the half that needs no machine.
//!
//! [`protocol`] is compiled by both sides. [`agent`] runs programs for a host over any byte stream;
//! the program `mvm-init` adds the duties of PID 1 to it.

pub mod agent;
pub mod protocol;
