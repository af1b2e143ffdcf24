//! What the guest's CPUs say they are: what KVM supports on this host, and the machine's shape.
//!
//! The topology is one package of single-threaded cores. Numbers of leaves are those of the Intel
//! SDM (CPUID) and the AMD APM vol. 3 appendix E.

use anyhow::Context;
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm};

/// `CPUID.01H:ECX`: the APIC timer can wait for a value of the time stamp counter, so that the
/// guest needs not to measure it. KVM has it with its own APIC, though it does not list it.
const TSC_DEADLINE: u32 = 1 << 24;
/// `CPUID.01H:ECX`: x2APIC.
const X2APIC: u32 = 1 << 21;
/// `CPUID.01H:ECX`: there is a hypervisor, whose own leaves (KVM's clock among them) may be asked.
const HYPERVISOR: u32 = 1 << 31;
/// `CPUID.01H:ECX`: Intel's virtualization.
const VMX: u32 = 1 << 5;
/// `CPUID.8000_0001H:ECX`: AMD's.
const SVM: u32 = 1 << 2;
/// `CPUID.01H:EDX`: more than one logical CPU in a package.
const HTT: u32 = 1 << 28;

/// `CPUID.0DH.0:EAX`: AMX' configuration and its tiles, of which the second needs a permission that
/// mvm does not ask for. KVM before Linux 6.4 lists the first all the same, and refuses it alone.
const XTILE: u32 = 0b11 << 17;

/// Level types of the topology leaves.
const LEVEL_THREAD: u32 = 1;
const LEVEL_CORE: u32 = 2;

/// The leaves that all vCPUs share, to be completed by [`for_vcpu`].
///
/// # Errors
/// KVM does not say what it supports.
pub fn supported(kvm: &Kvm) -> anyhow::Result<CpuId> {
    let mut cpuid = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .context("cannot ask KVM for its CPUID")?;
    let deadline = if kvm.check_extension(Cap::TscDeadlineTimer) {
        TSC_DEADLINE
    } else {
        0
    };
    cut_down(cpuid.as_mut_slice(), deadline);
    Ok(cpuid)
}

/// How many bits an address of memory has.
///
/// # Errors
/// KVM does not say what it supports.
pub fn address_bits(kvm: &Kvm) -> anyhow::Result<u8> {
    /// Of a processor that does not say.
    const LEAST: u8 = 36;
    let supported = supported(kvm)?;
    let mut leaves = supported.as_slice().iter();
    let sizes = leaves.find(|entry| entry.function == 0x8000_0008);
    // No processor has more than 52, and a shift by as many is one.
    Ok(sizes
        .map_or(LEAST, |entry| entry.eax as u8)
        .clamp(LEAST, 52))
}

/// Makes what KVM supports what a guest gets; `deadline` is added to its leaf.
fn cut_down(entries: &mut [kvm_cpuid_entry2], deadline: u32) {
    for entry in entries {
        match entry.function {
            0x1 => entry.ecx = entry.ecx & !VMX | deadline | X2APIC | HYPERVISOR,
            // No machines in machines: the code for them is the part of KVM with the most holes,
            // which a hostile guest shall not reach.
            0x8000_0001 => entry.ecx &= !SVM,
            0xd if entry.index == 0 && entry.eax & XTILE != XTILE => entry.eax &= !XTILE,
            // What SVM can do; and performance counters, which are the host's.
            0x8000_000a | 0xa => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
            _ => {}
        }
    }
}

/// The processor states that XSAVE can keep, as bits of XCR0; none without XSAVE.
pub fn extended_states(cpuid: &CpuId) -> Option<u64> {
    let states = cpuid
        .as_slice()
        .iter()
        .find(|entry| entry.function == 0xd && entry.index == 0)
        .map(|entry| u64::from(entry.edx) << 32 | u64::from(entry.eax));
    states.filter(|states| *states != 0)
}

/// The leaves of one vCPU of `vcpus`; its number is its APIC's id.
pub fn for_vcpu(supported: &CpuId, vcpu: u8, vcpus: u8) -> anyhow::Result<CpuId> {
    let mut entries: Vec<kvm_cpuid_entry2> = supported
        .as_slice()
        .iter()
        .filter(|entry| !matches!(entry.function, 0xb | 0x1f))
        .copied()
        .collect();
    for entry in &mut entries {
        set_topology(entry, vcpu, vcpus);
    }
    let max_leaf = entries
        .iter()
        .find(|entry| entry.function == 0)
        .map_or(0, |entry| entry.eax);
    for function in [0xb, 0x1f] {
        if max_leaf >= function {
            entries.extend(topology_leaf(function, vcpu, vcpus));
        }
    }
    CpuId::from_entries(&entries).map_err(|error| anyhow::anyhow!("cannot make a CPUID: {error:?}"))
}

fn set_topology(entry: &mut kvm_cpuid_entry2, vcpu: u8, vcpus: u8) {
    let (id, count) = (u32::from(vcpu), u32::from(vcpus));
    match entry.function {
        0x1 => {
            entry.ebx = entry.ebx & 0xffff | count << 16 | id << 24;
            entry.edx = if vcpus > 1 {
                entry.edx | HTT
            } else {
                entry.edx & !HTT
            };
        }
        // Caches: each CPU has its own first two levels, all share the rest.
        0x4 if entry.eax & 0x1f != 0 => {
            let level = entry.eax >> 5 & 7;
            let sharing = if level >= 3 { count - 1 } else { 0 };
            entry.eax = entry.eax & 0x3fff | sharing << 14 | (cores_reserved(vcpus) - 1) << 26;
        }
        0x8000_001d if entry.eax & 0x1f != 0 => {
            let level = entry.eax >> 5 & 7;
            let sharing = if level >= 3 { count - 1 } else { 0 };
            entry.eax = entry.eax & 0x3fff | sharing << 14;
        }
        0x8000_0008 => entry.ecx = (count - 1) | core_bits(vcpus) << 12,
        0x8000_001e => (entry.eax, entry.ebx, entry.ecx) = (id, id, 0),
        _ => {}
    }
}

/// A topology leaf: one thread in a core, all cores in the package.
fn topology_leaf(function: u32, vcpu: u8, vcpus: u8) -> [kvm_cpuid_entry2; 3] {
    let level = |index, kind, shift, count| kvm_cpuid_entry2 {
        function,
        index,
        // KVM_CPUID_FLAG_SIGNIFCANT_INDEX
        flags: 1,
        eax: shift,
        ebx: count,
        ecx: index | kind << 8,
        edx: u32::from(vcpu),
        ..kvm_cpuid_entry2::default()
    };
    [
        level(0, LEVEL_THREAD, 0, 1),
        level(1, LEVEL_CORE, core_bits(vcpus), u32::from(vcpus)),
        level(2, 0, 0, 0),
    ]
}

/// Bits of an APIC id that number the cores.
fn core_bits(vcpus: u8) -> u32 {
    cores_reserved(vcpus).trailing_zeros()
}

fn cores_reserved(vcpus: u8) -> u32 {
    u32::from(vcpus).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_has_no_virtualization_of_its_own() {
        let leaf = |function| kvm_cpuid_entry2 {
            function,
            ebx: u32::MAX,
            ecx: u32::MAX,
            ..Default::default()
        };
        let mut leaves = [leaf(0x1), leaf(0x8000_0001), leaf(0x8000_000a)];
        cut_down(&mut leaves, TSC_DEADLINE);
        assert_eq!(leaves.map(|leaf| leaf.ecx), [!VMX, !SVM, 0]);
        assert_eq!(leaves[2].ebx, 0);
    }

    #[test]
    fn tiles_are_there_whole_or_not_at_all() {
        let states = |eax| {
            let mut leaves = [kvm_cpuid_entry2 {
                function: 0xd,
                eax,
                ..Default::default()
            }];
            cut_down(&mut leaves, 0);
            leaves[0].eax
        };
        assert_eq!(states(0x2_0007), 7);
        assert_eq!(states(0x4_0007), 7);
        assert_eq!(states(0x6_0007), 0x6_0007);
    }

    #[test]
    fn states_are_those_of_both_halves_of_xcr0() {
        let leaf = |function, index, eax, edx| kvm_cpuid_entry2 {
            function,
            index,
            eax,
            edx,
            ..Default::default()
        };
        let leaves = [leaf(0xd, 1, 0xf, 0), leaf(0xd, 0, 7, 1)];
        let cpuid = |leaves| CpuId::from_entries(leaves).unwrap();
        assert_eq!(extended_states(&cpuid(&leaves)), Some(0x1_0000_0007));
        assert_eq!(extended_states(&cpuid(&leaves[..1])), None);
        assert_eq!(extended_states(&cpuid(&[leaf(0xd, 0, 0, 0)])), None);
    }

    #[test]
    fn each_vcpu_has_its_number_as_its_apic_id() {
        let leaves = [
            kvm_cpuid_entry2 {
                function: 0,
                eax: 0x20,
                ..Default::default()
            },
            kvm_cpuid_entry2 {
                function: 1,
                ebx: 0xaa00_0800,
                ..Default::default()
            },
        ];
        let supported = CpuId::from_entries(&leaves).unwrap();
        let cpuid = for_vcpu(&supported, 3, 6).unwrap();
        let ebx = cpuid.as_slice()[1].ebx;
        let core = cpuid
            .as_slice()
            .iter()
            .find(|e| e.function == 0xb && e.index == 1)
            .unwrap();
        assert_eq!(ebx, 0x0306_0800);
        assert_eq!((core.eax, core.ebx, core.edx), (3, 6, 3));
    }
}
