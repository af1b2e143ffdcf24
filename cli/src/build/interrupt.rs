//! Signals that end a command, for one that has files to remove first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Whether one has come.
#[derive(Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes them from now on.
    ///
    /// # Errors
    /// The host refuses.
    pub fn listen() -> Result<Self> {
        let has_come = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&has_come))
                .context("cannot take signals")?;
        }
        Ok(Self(has_come))
    }

    /// To be asked before each file.
    ///
    /// # Errors
    /// One has come.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.0.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }
}
