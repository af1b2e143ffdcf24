//! The machine of mvm: what `app.json` says, as types, and what they become.
//!
//! `bytes --serde--> App --Machine::new--> Machine --run--> Exit`: there is no other
//! representation in between. Devices are in the crate `devices`, which knows nothing of this one.
// They panic or wait where nobody reads: what is said goes to whoever asked for it, as an error.
#![deny(clippy::print_stderr, clippy::print_stdout)]

pub mod accel;
pub mod app;
pub mod board;
pub mod boot;
pub mod bundle;
pub mod bus;
pub mod closure;
pub mod compose;
pub mod console;
pub mod counts;
pub mod cpuid;
pub mod inherited;
pub mod kernel;
pub mod kvm;
pub mod layout;
pub mod machine;
pub mod memory;
pub mod net;
pub mod pause;
pub mod served;
pub mod settings;
pub mod settle;
mod shares;
pub mod state;
pub mod store;
pub mod toplevel;
pub mod vcpu;
pub mod volume;
pub mod window;
