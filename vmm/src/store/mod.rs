//! The store as memory of the machine: an EROFS of its closure, of which all but the names and the
//! small files are the host's own files, mapped.
//!
//! The one thing to know: no file server stands behind it. What the guest can read was decided when it
//! was put together, and a page of a file is the host's page cache, the same for all machines.

mod cache;
pub mod erofs;
#[cfg(test)]
mod tests;
mod tree;

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use devices::virtio::region::{ALIGNMENT, Region};
use kvm_ioctls::Cap;

use crate::app::App;
use crate::boot::modules;
use crate::closure::Closure;
use crate::settings::Setting;
use crate::{cpuid, kvm, layout, state};
use cache::{Cache, Head};
use erofs::BLOCK_BYTES;
use tree::Root;

/// The guest has 64 bytes of its own memory for each page of such memory (`struct page`).
const PAGES_TO_FACTS: u64 = 64;

/// What these may take of the guest's memory: a quarter.
const FACTS_MAX_PART: u64 = 4;

/// The part of the maps that the host lets a process have: a half, of which the rest is for all else.
const MAPS_MAX_PART: u64 = 2;

/// Where the host says how many those are.
const MAPS_MAX: &str = "/proc/sys/vm/max_map_count";

/// Memory with a store in it.
#[derive(Debug)]
pub struct StoreImage(pub Arc<Region>);

impl StoreImage {
    /// That of `closure`, for a machine of `app` that boots `kernel`. Of a closure that had none yet it
    /// is made, which reads all of its small files.
    ///
    /// # Errors
    /// The host, the kernel or the machine's memory is not made for it, or a file cannot be read. The
    /// machine can have its store in another way.
    pub fn of(app: &App, closure: &Closure, kernel: &Path) -> Result<Self> {
        ensure_kernel_can(app, kernel)?;
        let kvm = kvm::open()?;
        ensure!(
            kvm.check_extension(Cap::ReadonlyMem),
            "this host's KVM has no memory that a guest cannot write"
        );
        let address_bits = cpuid::address_bits(&kvm)?;
        let cache = Cache::open(state::folder()?.join("stores"))?;
        let store = Root::store()?;
        let names = tree::names(closure.paths());
        let head = cache.get(&store, &names)?;
        let bytes = (head.blocks * BLOCK_BYTES).next_multiple_of(ALIGNMENT);
        ensure_affordable(bytes, app.memory_bytes())?;
        let gpa = layout::above_memory(app.memory_bytes());
        ensure!(
            gpa.checked_add(bytes)
                .is_some_and(|end| end <= 1 << address_bits),
            "an image of {} MiB is not within the addresses of this processor",
            bytes >> 20
        );
        ensure_few_maps(head.files.len() as u64)?;
        let is_seen = |path: &[u8]| {
            let first = path.split(|byte| *byte == b'/').next();
            first
                .and_then(|first| str::from_utf8(first).ok())
                .is_some_and(|first| names.contains(first))
        };
        compose(&head, bytes, &store, is_seen).map(|region| Self(Arc::new(region)))
    }
}

/// Memory of `bytes` with a head and the files that belong to it.
fn compose(
    head: &Head,
    bytes: u64,
    store: &Root,
    is_seen: impl Fn(&[u8]) -> bool,
) -> Result<Region> {
    let region = Region::reserve(bytes)?;
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

/// mvm's own kernel can; another one is looked at.
fn ensure_kernel_can(app: &App, kernel: &Path) -> Result<()> {
    if app.kernel.path.is_none() && Setting::Kernel.get()?.is_none() {
        return Ok(());
    }
    match modules::lacking_for_memory_disk(kernel)? {
        None => Ok(()),
        Some(driver) => anyhow::bail!("the kernel {} has no driver {driver}", kernel.display()),
    }
}

/// What the guest must know of so many bytes must leave it most of its memory.
fn ensure_affordable(bytes: u64, memory_bytes: u64) -> Result<()> {
    let facts = bytes / PAGES_TO_FACTS;
    let most = memory_bytes / FACTS_MAX_PART;
    ensure!(
        facts <= most,
        "an image of {} MiB takes {} of the machine's {} MiB of memory, more than a quarter",
        bytes >> 20,
        facts.div_ceil(1 << 20),
        memory_bytes >> 20
    );
    Ok(())
}

fn ensure_few_maps(files: u64) -> Result<()> {
    let limit = std::fs::read_to_string(MAPS_MAX);
    let limit = limit.with_context(|| format!("cannot read {MAPS_MAX}"))?;
    let limit: u64 = limit
        .trim()
        .parse()
        .with_context(|| format!("{MAPS_MAX}: {limit:?}"))?;
    ensure!(
        files <= limit / MAPS_MAX_PART,
        "it has {files} large files, and this host lets a process map {limit} (vm.max_map_count)"
    );
    Ok(())
}
