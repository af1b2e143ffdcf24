//! The window through which a guest reads the store's files.

use std::sync::Arc;

use anyhow::Result;
use devices::virtio::fs::{UNIT_BYTES, WINDOW_BYTES_MAX};
use devices::virtio::region::Region;

use super::limits::{ensure_host_can, ensure_window_fits};
use crate::app::App;

/// Of the guest's memory, what there is of the store's window. Linux takes a 64th of a window for what it knows of its
/// pages, and as much as here a 32nd of the memory; with less, few files have a unit of it.
const WINDOW_TO_MEMORY: u64 = 2;

/// Maps of a unit at most: the piece of a file, and zeros behind its end.
const MAPS_OF_A_UNIT: u64 = 2;

/// Bytes of the window of a machine of `app`.
pub fn bytes(app: &App) -> u64 {
    let bytes = app.memory_bytes().saturating_mul(WINDOW_TO_MEMORY);
    bytes.min(WINDOW_BYTES_MAX).next_multiple_of(UNIT_BYTES)
}

/// The window of a machine of `app`.
///
/// # Errors
/// The host cannot have it. The machine can have its store in another way.
pub fn open(app: &App) -> Result<Arc<Region>> {
    let bytes = bytes(app);
    ensure_window_fits(bytes / UNIT_BYTES * MAPS_OF_A_UNIT)?;
    ensure_host_can(app, bytes)?;
    Region::reserve(bytes).map(Arc::new)
}
