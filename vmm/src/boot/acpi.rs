//! ACPI tables: hardware-reduced, so that a kernel finds its CPUs, devices and power switch
//! without probing for anything a PC would have (ACPI 6.5 §4.1).
//!
//! RSDP → XSDT → FADT (→ DSDT) and MADT, one behind the other below 1 MiB. The AML is
//! `acpi_tables`'s. Each virtio device is an `LNRO0005` with its window and interrupt.

use acpi_tables::aml;
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, sdt::Sdt};
use anyhow::{Context, ensure};
use devices::virtio::mmio;
use devices::{Memory, power, serial};
use vm_memory::{Bytes, GuestAddress};

use crate::layout;

const OEM: [u8; 6] = *b"MVM   ";
const OEM_TABLE: [u8; 8] = *b"MVM     ";
const OEM_REVISION: u32 = 1;

/// Bytes of the root pointer, kept free at the start.
const RSDP_BYTES: u64 = 64;

/// Writes the tables for a machine of `vcpus` CPUs and `virtio_devices` devices. Their root pointer is
/// at [`layout::ACPI_TABLES`].
pub fn write(memory: &Memory, vcpus: u8, virtio_devices: usize) -> anyhow::Result<()> {
    let mut next = layout::ACPI_TABLES + RSDP_BYTES;
    let mut place = |table: Vec<u8>| -> anyhow::Result<u64> {
        let start = next;
        next = (start + table.len() as u64).next_multiple_of(16);
        ensure!(
            next <= layout::SMBIOS,
            "the ACPI tables do not fit into 64 KiB"
        );
        memory
            .write_slice(&table, GuestAddress(start))
            .context("cannot write the ACPI tables")?;
        Ok(start)
    };
    let dsdt = place(bytes(&dsdt(virtio_devices)))?;
    let fadt = place(bytes(&fadt(dsdt)))?;
    let madt = place(bytes(&madt(vcpus)))?;
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = place(bytes(&xsdt))?;
    memory
        .write_slice(
            &bytes(&Rsdp::new(OEM, xsdt)),
            GuestAddress(layout::ACPI_TABLES),
        )
        .context("cannot write the ACPI root pointer")
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn fadt(dsdt: u64) -> impl Aml {
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton);
    fadt.sleep_control_reg = port(power::SLEEP_CONTROL_PORT);
    fadt.sleep_status_reg = port(power::SLEEP_STATUS_PORT);
    fadt.reset_reg = port(power::RESET_PORT);
    fadt.reset_value = power::RESET_VALUE;
    // No 8042, no VGA to probe, no CMOS clock (IAPC_BOOT_ARCH, §5.2.9.3).
    fadt.iapc_boot_arch = (1 << 2 | 1 << 5).into();
    fadt.finalize()
}

fn port(port: u16) -> GAS {
    GAS::new(
        AddressSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        port.into(),
    )
}

fn madt(vcpus: u8) -> MADT {
    let apics = LocalInterruptController::Address(layout::LOCAL_APIC);
    let mut madt = MADT::new(OEM, OEM_TABLE, OEM_REVISION, apics);
    for vcpu in 0..vcpus {
        madt.add_structure(ProcessorLocalApic::new(vcpu, vcpu, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, layout::IO_APIC, 0));
    madt
}

fn dsdt(virtio_devices: usize) -> Sdt {
    let mut dsdt = Sdt::new(*b"DSDT", 36, 6, OEM, OEM_TABLE, OEM_REVISION);
    let off = power::SLEEP_TYPE_OFF;
    dsdt.append_slice(&bytes(&aml::Name::new(
        "_S5_".into(),
        &aml::Package::new(vec![&off, &off]),
    )));
    dsdt.append_slice(&com1());
    for index in 0..virtio_devices {
        dsdt.append_slice(&virtio(index));
    }
    dsdt
}

fn com1() -> Vec<u8> {
    bytes(&aml::Device::new(
        "_SB_.COM1".into(),
        vec![
            &aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0501")),
            &aml::Name::new("_UID".into(), &aml::ZERO),
            &aml::Name::new(
                "_CRS".into(),
                &aml::ResourceTemplate::new(vec![
                    &aml::IO::new(serial::PORT, serial::PORT, 1, serial::PORTS as u8),
                    &aml::Interrupt::new(true, true, false, false, serial::IRQ),
                ]),
            ),
        ],
    ))
}

fn virtio(index: usize) -> Vec<u8> {
    // Windows lie below 4 GiB by construction.
    let window = layout::virtio_window(index) as u32;
    let name = format!("_SB_.V{index:03}");
    bytes(&aml::Device::new(
        name.as_str().into(),
        vec![
            &aml::Name::new("_HID".into(), &"LNRO0005"),
            &aml::Name::new("_UID".into(), &index),
            // Transfers are coherent, without which Linux does not let the device use DMA.
            &aml::Name::new("_CCA".into(), &aml::ONE),
            &aml::Name::new(
                "_CRS".into(),
                &aml::ResourceTemplate::new(vec![
                    &aml::Memory32Fixed::new(true, window, mmio::WINDOW_BYTES as u32),
                    &aml::Interrupt::new(true, true, false, false, layout::virtio_gsi(index)),
                ]),
            ),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory;

    #[test]
    fn every_table_adds_up_to_zero() {
        let sum = |table: &[u8]| table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!(sum(&bytes(&dsdt(19))), 0);
        assert_eq!(sum(&bytes(&fadt(0x1234))), 0);
        assert_eq!(sum(&bytes(&madt(64))), 0);
        assert_eq!(sum(&bytes(&Rsdp::new(OEM, 1))), 0);
    }

    #[test]
    fn the_largest_machine_has_room_for_its_tables() {
        let memory = memory::allocate(2 << 20).unwrap();
        write(&memory, 64, layout::VIRTIO_DEVICES_MAX).unwrap();
        let root = layout::ACPI_TABLES;
        let mut signature = [0; 8];
        memory
            .read_slice(&mut signature, GuestAddress(root))
            .unwrap();
        assert_eq!(&signature, b"RSD PTR ");
    }
}
