//! Drives `mvm` as its users do: an app.json, the real program, its streams and its exit status.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! let output = mvm_test::Machine::new("cores").program(["/bin/nproc"]).vcpus(4).run()?;
//! assert_eq!(output.stdout(), "4\n");
//! # Ok(())
//! # }
//! ```
//!
//! The one thing to know: nothing here is told how machines run. Where there is no hardware KVM,
//! `mvm` itself finds another way, and a test does not see the difference.

mod facts;
mod fixture;
mod hang;
mod machine;
mod machines;
mod output;
mod running;
mod terminal;
mod watchdog;

use std::path::{Path, PathBuf};

pub use fixture::{closure, fixture, fixtures_folder, registration};
pub use machine::Machine;
pub use machines::Machines;
pub use output::Output;
pub use running::Running;
pub use rustix::process::Signal;

/// The `mvm` under test: `$MVM`, else `target/release/mvm` of this repository.
pub fn mvm() -> PathBuf {
    let built = || repository().join("target/release/mvm");
    std::env::var_os("MVM").map_or_else(built, PathBuf::from)
}

/// The folder of this repository.
pub fn repository() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}
