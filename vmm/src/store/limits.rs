//! What a host, a kernel and a machine must have for files of the store to be memory.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use kvm_ioctls::Cap;

use super::plan::Size;
use crate::app::App;
use crate::boot::modules;
use crate::settings::Setting;
use crate::{cpuid, kvm, layout};

/// The guest has 64 bytes of its own memory for each page of such memory (`struct page`).
const PAGES_TO_FACTS: u64 = 64;

/// What these may take of the guest's memory: a quarter.
const FACTS_MAX_PART: u64 = 4;

/// The part of the maps that the host lets a process have: a half, of which the rest is for all else.
const MAPS_MAX_PART: u64 = 2;

/// Where the host says how many those are.
const MAPS_MAX: &str = "/proc/sys/vm/max_map_count";

/// Bytes of its own memory that a guest has for what it knows of so many bytes of files.
pub fn facts(bytes: u64) -> u64 {
    bytes / PAGES_TO_FACTS
}

/// Whether a machine of `app` can have an image of that size, as far as can be told without KVM.
pub fn ensure_image_fits(app: &App, size: &Size) -> Result<()> {
    ensure_affordable(size.bytes, app.memory_bytes())?;
    let maps = maps_max()?;
    ensure!(
        size.files <= maps / MAPS_MAX_PART,
        "it has {} large files, and this host lets a process map {maps} (vm.max_map_count)",
        size.files
    );
    Ok(())
}

/// Whether this process may have `maps` for a window, which is called so.
pub fn ensure_window_fits(maps: u64) -> Result<()> {
    let most = maps_max()?;
    ensure!(
        maps <= most / MAPS_MAX_PART,
        "a window is {maps} maps, and this host lets a process have {most} (vm.max_map_count)"
    );
    Ok(())
}

/// Whether KVM and the processor let a machine of `app` have `bytes` of files behind its memory.
pub fn ensure_host_can(app: &App, bytes: u64) -> Result<()> {
    let kvm = kvm::open()?;
    ensure!(
        kvm.check_extension(Cap::ReadonlyMem),
        "this host's KVM has no memory that a guest cannot write"
    );
    let gpa = layout::above_memory(app.memory_bytes());
    ensure_within(gpa, bytes, cpuid::address_bits(&kvm)?)
}

fn ensure_within(gpa: u64, bytes: u64, address_bits: u8) -> Result<()> {
    let end = gpa.checked_add(bytes);
    ensure!(
        end.is_some_and(|end| end <= 1 << address_bits),
        "{} MiB of files are not within the addresses of this processor",
        bytes >> 20
    );
    Ok(())
}

/// Whether the kernel can have an image. mvm's own can; another one is looked at.
pub fn ensure_kernel_can(app: &App, kernel: &Path) -> Result<()> {
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
    let facts = facts(bytes);
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

/// Maps that the host lets a process have.
fn maps_max() -> Result<u64> {
    let limit = std::fs::read_to_string(MAPS_MAX);
    let limit = limit.with_context(|| format!("cannot read {MAPS_MAX}"))?;
    let limit = limit.trim();
    limit
        .parse()
        .with_context(|| format!("{MAPS_MAX}: {limit:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_machine_cannot_have_a_large_image() {
        ensure_affordable(512 << 20, 32 << 20).unwrap();
        let error = ensure_affordable(514 << 20, 32 << 20)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "an image of 514 MiB takes 9 of the machine's 32 MiB of memory, more than a quarter"
        );
    }

    #[test]
    fn a_store_of_very_many_large_files_is_not_mapped() {
        let size = |files| Size {
            bytes: 2 << 20,
            head_bytes: 4096,
            files,
        };
        let app = App::new("a", vec!["/bin/sh".into()]);
        ensure_image_fits(&app, &size(1)).unwrap();
        let error = ensure_image_fits(&app, &size(1 << 40)).unwrap_err();
        assert!(error.to_string().ends_with("(vm.max_map_count)"), "{error}");
        ensure_window_fits(1).unwrap();
        let error = ensure_window_fits(1 << 40).unwrap_err();
        assert!(error.to_string().ends_with("(vm.max_map_count)"), "{error}");
    }

    #[test]
    fn files_are_not_behind_the_last_address() {
        ensure_within(5 << 30, 59 << 30, 36).unwrap();
        let error = ensure_within(5 << 30, (59 << 30) + 1, 36).unwrap_err();
        let told = "60416 MiB of files are not within the addresses of this processor";
        assert_eq!(error.to_string(), told);
        assert!(ensure_within(u64::MAX, 2 << 20, 52).is_err());
    }
}
