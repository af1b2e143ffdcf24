//! What a thread gives up before it changes the host's files for a guest.
//!
//! Root's threads keep the few capabilities without which they could not serve files of several
//! owners. Above all `CAP_FSETID` goes: the host's kernel then takes set-uid and set-group bits
//! off a file that is written, as it does for any other user, so that a guest cannot put its own
//! code into a set-uid program that lies in the share.
//!
//! The guest has applied its own umask to what it asks for, so that the process's must not be
//! applied as well; it is other threads' still.
#![expect(
    unsafe_code,
    reason = "unshare(2) is unsafe for some of its flags, for what they do to other threads"
)]

use anyhow::Context;
use rustix::fs::Mode;
use rustix::process::umask;
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, capabilities, set_capabilities, unshare_unsafe,
};

/// To give files away, to pass through folders that their owners keep to themselves, and to
/// change what others own. A process that is not root has none of them.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER);

/// Makes the calling thread one that writes for a guest, for good.
///
/// # Errors
/// The host does not allow a thread a umask of its own, or to give up capabilities.
pub fn prepare() -> anyhow::Result<()> {
    // SAFETY: of the flags that are unsafe this is none: the thread gets a copy of the current
    // folder, the root and the umask, and other threads keep theirs.
    unsafe { unshare_unsafe(UnshareFlags::FS) }.context("cannot have a umask of its own")?;
    umask(Mode::empty());
    let has = capabilities(None).context("cannot tell its capabilities")?;
    let keeps = CapabilitySets {
        effective: has.effective & KEPT,
        permitted: has.permitted & KEPT,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, keeps).context("cannot give up capabilities")
}
