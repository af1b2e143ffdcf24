//! The store of a machine that runs, to which paths of the host's store may be added.
//!
//! The one thing to know: a thread that is confined to some paths never gets others, so threads that
//! begin anew serve the device from then on.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use devices::virtio::fs::{Filter, Wall};

use crate::bus::Bus;
use crate::closure::{InUse, STORE_DIR, StorePath};

/// What a machine sees of the store, while it does.
pub struct Served {
    filter: Filter,
    wall: Arc<Wall>,
    bus: Arc<Bus>,
    /// The device's number on the bus.
    device: usize,
    in_use: Mutex<InUse>,
}

impl Served {
    /// That of the device with this number, which shows what `filter` does.
    pub(crate) fn new(filter: Filter, wall: Arc<Wall>, bus: Arc<Bus>, device: usize) -> Self {
        Self {
            filter,
            wall,
            bus,
            device,
            in_use: Mutex::new(InUse::of([])),
        }
    }

    /// Has the machine see `paths` as well, and Nix keep those that are `roots`.
    ///
    /// # Errors
    /// The host cannot serve them.
    pub fn add(&self, paths: &[StorePath], roots: &[StorePath]) -> anyhow::Result<()> {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.add(roots);
        let paths = paths.iter().map(StorePath::as_str);
        self.filter.extend(Path::new(STORE_DIR), paths)?;
        self.wall.renew();
        let renewed = self.bus.renew(self.device);
        renewed.context("cannot show it more of the store")
    }
}
