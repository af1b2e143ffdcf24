//! Whether this host's KVM is backed by hardware, judged without running a guest.
//!
//! The one thing to know: there are kernels whose `/dev/kvm` emulates the guest's ring 0 one
//! instruction after the other (`kvm_pvm`), and cannot do all of them. They offer their guests no
//! XSAVE, which needs the processor's own support for guests, though the host has it.

use std::fs;
use std::io;

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::Kvm;

use crate::kvm::API_VERSION;

/// `CPUID.01H:ECX`: XSAVE and its kin.
const XSAVE: u32 = 1 << 26;

/// What machines can run on here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// KVM with the processor's help.
    Hardware,
    /// Nothing but emulation.
    Emulated {
        /// Why, in one phrase that begins with a subject.
        reason: String,
    },
}

/// Asks this host.
pub fn detect() -> Support {
    let found = Kvm::new().map_err(io::Error::from).and_then(|kvm| {
        let supported = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
        Ok((kvm.get_api_version(), supported))
    });
    // Without it the host's flags are unknown, and KVM is trusted.
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let host_has_xsave = has_flag(&cpuinfo, "xsave");
    let reason = match &found {
        Ok((version, cpuid)) => judge(*version, cpuid.as_slice(), host_has_xsave),
        Err(error) => Some(why_closed(error)),
    };
    match reason {
        None => Support::Hardware,
        Some(reason) => Support::Emulated { reason },
    }
}

/// Why this KVM cannot be used; `None` if it can.
fn judge(api_version: i32, supported: &[kvm_cpuid_entry2], host_has_xsave: bool) -> Option<String> {
    if api_version != API_VERSION {
        return Some(format!("/dev/kvm has the unknown version {api_version}"));
    }
    let features = supported.iter().find(|leaf| leaf.function == 1);
    let guests_have_xsave = features.is_some_and(|leaf| leaf.ecx & XSAVE != 0);
    (host_has_xsave && !guests_have_xsave)
        .then(|| "/dev/kvm emulates guest kernels instruction by instruction".into())
}

fn why_closed(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no /dev/kvm".into(),
        io::ErrorKind::PermissionDenied => {
            "this user may not open /dev/kvm (`usermod -aG kvm NAME` lets it)".into()
        }
        _ => format!("/dev/kvm cannot be opened: {error}"),
    }
}

/// Whether the first processor in `/proc/cpuinfo` has a feature.
fn has_flag(cpuinfo: &str, name: &str) -> bool {
    let mut lines = cpuinfo.lines();
    lines
        .find(|line| line.starts_with("flags"))
        .is_some_and(|flags| flags.split_ascii_whitespace().any(|flag| flag == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32, ecx: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function,
            ecx,
            ..kvm_cpuid_entry2::default()
        }
    }

    #[test]
    fn guests_that_get_what_the_host_has_run_on_hardware() {
        let supported = [leaf(0, 0), leaf(1, XSAVE | 1)];
        assert_eq!(judge(12, &supported, true), None);
    }

    #[test]
    fn a_host_without_xsave_is_just_old() {
        assert_eq!(judge(12, &[leaf(1, 1)], false), None);
    }

    #[test]
    fn guests_that_are_denied_xsave_are_emulated() {
        // Another leaf with the same bit must not count.
        let supported = [leaf(0, XSAVE), leaf(1, 1), leaf(7, XSAVE)];
        let reason = judge(12, &supported, true).unwrap();
        assert_eq!(
            reason,
            "/dev/kvm emulates guest kernels instruction by instruction"
        );
    }

    #[test]
    fn an_unknown_interface_is_not_used() {
        let reason = judge(11, &[leaf(1, XSAVE)], true).unwrap();
        assert_eq!(reason, "/dev/kvm has the unknown version 11");
    }

    #[test]
    fn what_cannot_be_opened_is_told_with_its_cause() {
        let missing = why_closed(&io::ErrorKind::NotFound.into());
        let closed = why_closed(&io::ErrorKind::PermissionDenied.into());
        assert_eq!(missing, "there is no /dev/kvm");
        assert!(closed.contains("usermod -aG kvm"), "{closed}");
    }

    #[test]
    fn flags_are_whole_words() {
        let cpuinfo = "processor : 0\nflags\t\t: fpu xsaveopt avx\nflags : xsave\n";
        assert!(!has_flag(cpuinfo, "xsave"));
        assert!(has_flag(cpuinfo, "avx"));
    }
}
