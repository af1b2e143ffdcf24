//! The store as memory of the machine: an EROFS of its closure, of which all but the names and the
//! small files are the host's own files, mapped.
//!
//! The one thing to know: no file server stands behind it. What the guest can read was decided when it
//! was put together, and a page of a file is the host's page cache, the same for all machines.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use devices::virtio::region::Region;

use super::cache::{Cache, Head};
use super::erofs::BLOCK_BYTES;
use super::key::Key;
use super::limits::{ensure_host_can, ensure_image_fits, ensure_kernel_can};
use super::plan::{Plan, Size, memory_bytes};
use super::tree::{self, Root};
use crate::app::App;
use crate::closure::Closure;
use crate::settings::Setting;
use crate::state;

/// Bytes of all images that are kept, unless a setting says otherwise: of some dozens of large closures.
const KEPT_BYTES_MAX: u64 = 4 << 30;

/// Memory with a store in it.
#[derive(Debug)]
pub struct Image {
    /// The memory.
    pub region: Arc<Region>,
    /// How long it took to write it, if it was not there.
    pub written: Option<Duration>,
}

impl Image {
    /// That of `closure`, for a machine of `app` that boots `kernel`. Of a closure that had none yet it
    /// is made, which reads all of its small files; `making` is called before.
    ///
    /// # Errors
    /// The host, the kernel or the machine's memory is not made for it, or a file cannot be read. The
    /// machine can have its store in another way.
    pub fn of(app: &App, closure: &Closure, kernel: &Path, making: &dyn Fn()) -> Result<Self> {
        ensure_kernel_can(app, kernel)?;
        let store = Root::store()?;
        let names = tree::names(closure.paths());
        let key = Key::of(&store, &names)?;
        let cache = Cache::open(folder()?)?;
        let ensure_fits = |size: &Size| {
            ensure_image_fits(app, size)?;
            ensure_host_can(app, size.bytes)
        };
        let mut written = None;
        let head = if let Some(head) = cache.find(&key) {
            ensure_fits(&head.size())?;
            head
        } else {
            making();
            let began = Instant::now();
            let plan = Plan::of(&store, &names)?;
            // What this machine cannot have is not written for it.
            ensure_fits(&plan.size())?;
            let head = cache.make(&key, &plan, &store, kept_bytes_max()?)?;
            written = Some(began.elapsed());
            head
        };
        let region = compose(&head, &store, |path| is_of(&names, path))?;
        Ok(Self {
            region: Arc::new(region),
            written,
        })
    }
}

/// Where images are kept.
pub(super) fn folder() -> Result<PathBuf> {
    Ok(state::folder()?.join("stores"))
}

fn kept_bytes_max() -> Result<u64> {
    Ok(match Setting::StoreImagesMib.get()? {
        None => KEPT_BYTES_MAX,
        Some(value) => value.number()?.saturating_mul(1 << 20),
    })
}

/// Whether a path below the store is one of these store paths, or in one.
fn is_of(names: &BTreeSet<&str>, path: &[u8]) -> bool {
    let first = path.split(|byte| *byte == b'/').next();
    first
        .and_then(|first| str::from_utf8(first).ok())
        .is_some_and(|first| names.contains(first))
}

/// Memory with a head and the files that belong to it.
pub(super) fn compose(
    head: &Head,
    store: &Root,
    is_seen: impl Fn(&[u8]) -> bool,
) -> Result<Region> {
    let region = Region::reserve(memory_bytes(head.blocks))?;
    let map = |block: u32, bytes: u64, file: &File| {
        let start = u64::from(block) * BLOCK_BYTES;
        region.map(
            start..start + bytes.next_multiple_of(BLOCK_BYTES),
            file.as_fd(),
            0,
        )
    };
    map(0, head.bytes, &head.file)?;
    for placed in &head.files {
        let checked = || {
            ensure!(is_seen(&placed.path), "it is not of this closure");
            let file = store.file(&placed.path)?;
            let found = file.metadata()?.len();
            ensure!(found == placed.bytes, "its size has changed");
            Ok(map(placed.block, placed.bytes, &file)?)
        };
        checked().with_context(|| format!("cannot map {}", placed.path.escape_ascii()))?;
    }
    Ok(region)
}
