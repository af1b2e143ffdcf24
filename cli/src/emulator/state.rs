//! What the emulated host tells about itself, in a file that other commands read.

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::folder::Folder;

/// A running emulated host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The process that passes commands on.
    pub pid: u32,
    /// QEMU.
    pub machine_pid: u32,
    /// When it was started, in seconds since 1970.
    pub started: u64,
    /// From there until it took commands; `None` before.
    pub ready_ms: Option<u64>,
    /// Commands that are being carried out.
    pub commands: usize,
    /// Its processors.
    pub cpus: usize,
    /// Its memory, taken from the host as it is used.
    pub memory_mib: u64,
    /// Its kernel.
    pub kernel: PathBuf,
}

impl State {
    /// Seconds since the start.
    pub fn age_s(&self) -> u64 {
        now().saturating_sub(self.started)
    }

    /// Writes it, as a whole or not at all.
    pub fn write(&self, folder: &Folder) -> Result<()> {
        let path = folder.state();
        let new = path.with_extension("new");
        let json = serde_json::to_vec(self)?;
        fs::write(&new, json)
            .and_then(|()| fs::rename(&new, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// That of the emulated host that runs; `None` if none does, or has told nothing yet.
    pub fn read(folder: &Folder) -> Result<Option<Self>> {
        if !folder.is_claimed()? {
            return Ok(None);
        }
        let json = fs::read(folder.state()).ok();
        Ok(json.and_then(|json| serde_json::from_slice(&json).ok()))
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
