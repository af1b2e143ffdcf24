//! The tables of Intel's specification of machines with several processors ("MP", version 1.4, §4), by
//! which kernels found these and the I/O APIC before there was ACPI.
//!
//! They say what ACPI's MADT says, and a kernel that has read that leaves them alone. The one thing to
//! know: Linux looks for them all the same, and first. Where there are none it maps the last 64 KiB below
//! 1 MiB once for each 16 bytes of them (`smp_scan_config`): 70,000 `invlpg` in each start.

use anyhow::Context;
use devices::Memory;
use vm_memory::{Bytes, GuestAddress};

use super::add_up;
use crate::layout;

/// 1.4, as both tables have it.
const REVISION: u8 = 4;

/// §4.3: what an entry is.
const PROCESSOR: u8 = 0;
const BUS: u8 = 1;
const IO_APIC: u8 = 2;
const IO_INTERRUPT: u8 = 3;

/// §4.3.1 and §4.3.3.
const ENABLED: u8 = 1;
const BOOT_PROCESSOR: u8 = 2;

/// The versions that KVM's APICs tell.
const LOCAL_APIC_VERSION: u8 = 0x14;
const IO_APIC_VERSION: u8 = 0x11;

/// The one bus.
const ISA: u8 = 0;

/// Writes the tables for a machine of `vcpus` CPUs.
///
/// # Errors
/// There is no memory where they are to be.
pub fn write(memory: &Memory, vcpus: u8) -> anyhow::Result<()> {
    memory
        .write_slice(&pointer(), GuestAddress(layout::MP_POINTER))
        .and_then(|()| memory.write_slice(&table(vcpus), GuestAddress(layout::MP_TABLE)))
        .context("cannot write the MP tables")
}

/// §4.1: 16 bytes, whose length is in units of 16, and five bytes of features: there is a table, and no
/// register that leads interrupts past the APICs.
fn pointer() -> Vec<u8> {
    let mut pointer = b"_MP_".to_vec();
    pointer.extend((layout::MP_TABLE as u32).to_le_bytes());
    pointer.extend([1, REVISION, 0, 0, 0, 0, 0, 0]);
    add_up(&mut pointer, 10);
    pointer
}

/// §4.2: a header, and an entry for each part.
fn table(vcpus: u8) -> Vec<u8> {
    let entries: Vec<_> = entries(vcpus).collect();
    let bytes = HEADER_BYTES + entries.iter().map(Vec::len).sum::<usize>();
    let mut table = b"PCMP".to_vec();
    table.extend((bytes as u16).to_le_bytes());
    table.extend([REVISION, 0]);
    table.extend(b"MVM     MVM         ");
    // No table of the maker's own.
    table.extend([0; 6]);
    table.extend((entries.len() as u16).to_le_bytes());
    table.extend(layout::LOCAL_APIC.to_le_bytes());
    // No extended entries.
    table.extend([0; 4]);
    table.extend(entries.concat());
    add_up(&mut table, 7);
    table
}

const HEADER_BYTES: usize = 44;

fn entries(vcpus: u8) -> impl Iterator<Item = Vec<u8>> {
    let processors = (0..vcpus).map(|id| {
        let first = if id == 0 { BOOT_PROCESSOR } else { 0 };
        let mut entry = vec![PROCESSOR, id, LOCAL_APIC_VERSION, ENABLED | first];
        // Whoever wants to know asks the processor what it is.
        entry.extend([0; 16]);
        entry
    });
    let bus = [&[BUS, ISA], b"ISA   ".as_slice()].concat();
    // All APICs share one space of names.
    let mut io_apic = vec![IO_APIC, vcpus, IO_APIC_VERSION, ENABLED];
    io_apic.extend(layout::IO_APIC.to_le_bytes());
    // Each conforms to the bus, as a rising edge.
    let interrupts = (0..layout::IO_APIC_INPUTS)
        .map(move |input| vec![IO_INTERRUPT, 0, 0, 0, ISA, input, vcpus, input]);
    processors.chain([bus, io_apic]).chain(interrupts)
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;
    use super::*;
    use crate::memory;

    #[test]
    fn a_kernel_finds_them_where_it_looks_first() {
        let memory = memory::allocate(2 << 20).unwrap();
        write(&memory, 2).unwrap();
        // The last kilobyte of 640 (§4).
        let pointer = read(&memory, 639 << 10, 16);
        assert_eq!(&pointer[..4], b"_MP_");
        let table = u32::from_le_bytes(pointer[4..8].try_into().unwrap());
        let header = read(&memory, table.into(), HEADER_BYTES);
        assert_eq!(&header[..4], b"PCMP");
        let bytes = u16::from_le_bytes(header[4..6].try_into().unwrap());
        let all = read(&memory, table.into(), bytes.into());
        let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!((sum(&pointer), sum(&all)), (0, 0));
    }

    #[test]
    fn each_entry_is_as_long_as_its_kind_says_and_counted() {
        for vcpus in [1, 64, u8::MAX] {
            let table = table(vcpus);
            let mut kinds = Vec::new();
            let mut rest = &table[HEADER_BYTES..];
            while let [kind, ..] = rest {
                kinds.push(*kind);
                rest = &rest[if *kind == PROCESSOR { 20 } else { 8 }..];
            }
            let count = u16::from_le_bytes(table[34..36].try_into().unwrap());
            assert_eq!(kinds.len(), usize::from(count));
            let runs = kinds.chunk_by(|kind, next| kind == next);
            let runs: Vec<_> = runs.map(|run| (run[0], run.len())).collect();
            let vcpus = (PROCESSOR, vcpus.into());
            assert_eq!(runs, [vcpus, (BUS, 1), (IO_APIC, 1), (IO_INTERRUPT, 24)]);
            assert!(layout::MP_TABLE + table.len() as u64 <= layout::TABLES_END);
        }
    }
}
