//! Giving pages of guest memory back to the host.
#![expect(
    unsafe_code,
    reason = "madvise takes raw pointers into guest memory, and changes what is there"
)]

use anyhow::Context;
use rustix::mm::{Advice, madvise};
use vm_memory::{GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap};

/// A page of the host, and what a balloon counts in.
pub const PAGE_BYTES: u64 = 4096;

/// Gives the whole pages of a range back. What is not guest memory is left out.
///
/// # Errors
/// The host refuses, which it does for no private memory.
pub fn release(memory: &GuestMemoryMmap, gpa: GuestAddress, bytes: u64) -> anyhow::Result<()> {
    let end = gpa.0.saturating_add(bytes);
    let start = gpa.0.checked_next_multiple_of(PAGE_BYTES);
    let (Some(start), Some(end)) = (start, end.checked_sub(end % PAGE_BYTES)) else {
        return Ok(());
    };
    let bytes = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
    for slice in memory.get_slices(GuestAddress(start), bytes) {
        let Ok(slice) = slice else { break };
        let host = slice.ptr_guard_mut();
        // SAFETY: the slice lies in guest memory, which is mapped while `memory` is borrowed, and
        // of which no reference exists: it may change at any time, to zeros or a file's bytes too.
        // Regions begin at whole pages and so does the range: no page is touched in part.
        unsafe { madvise(host.as_ptr().cast(), slice.len(), Advice::LinuxDontNeed) }
            .context("cannot give the guest's free memory back")?;
    }
    Ok(())
}
