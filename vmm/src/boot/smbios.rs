//! SMBIOS tables (DSP0134 3.7): strings for the guest's systemd, which it takes for its credentials
//! (`systemd.system-credentials(7)`, type 11).
//!
//! The one thing to know: without EFI the kernel looks for the entry point in the last 64 KiB below
//! 1 MiB (`dmi_scan_machine`), and copies each string into a space of that size (`dmi_alloc`), beyond
//! which it stops. Left out: all that describes a machine; KVM says what this one is.

use anyhow::{Context, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use devices::Memory;
use vm_memory::{Bytes, GuestAddress};

use super::add_up;
use crate::layout;

/// Bytes of the tables: three quarters of the kernel's space, which is not for strings alone.
pub const TABLES_BYTES_MAX: usize = 48 << 10;

/// §5.2.2: the 64-bit entry point.
const ENTRY_BYTES: u8 = 24;
const VERSION: [u8; 3] = [3, 7, 0];
const ENTRY_REVISION: u8 = 1;

/// §7.12 and §7.45.
const OEM_STRINGS: u8 = 11;
const END_OF_TABLE: u8 = 127;

/// Strings of one structure: their count is a byte.
const STRINGS_MAX: usize = 255;

/// What a system's services can load by its name.
pub struct Credential<'a> {
    /// A file's name.
    pub name: &'a str,
    /// Any bytes.
    pub value: &'a [u8],
}

/// Writes the tables, if there is anything to say.
///
/// # Errors
/// The credentials do not fit.
pub fn write(memory: &Memory, credentials: &[Credential<'_>]) -> anyhow::Result<()> {
    if credentials.is_empty() {
        return Ok(());
    }
    let tables = tables(credentials);
    ensure!(
        tables.len() <= TABLES_BYTES_MAX,
        "secrets: as credentials of a system they take {} bytes, at most {TABLES_BYTES_MAX} can be passed on",
        tables.len()
    );
    let start = layout::SMBIOS + u64::from(ENTRY_BYTES).next_multiple_of(16);
    memory
        .write_slice(&entry(start, tables.len()), GuestAddress(layout::SMBIOS))
        .and_then(|()| memory.write_slice(&tables, GuestAddress(start)))
        .context("cannot write the SMBIOS tables")
}

fn entry(tables: u64, bytes: usize) -> Vec<u8> {
    let [major, minor, revision] = VERSION;
    let mut entry = b"_SM3_".to_vec();
    // The checksum's place, and what is reserved.
    entry.extend([0, ENTRY_BYTES, major, minor, revision, ENTRY_REVISION, 0]);
    entry.extend((bytes as u32).to_le_bytes());
    entry.extend(tables.to_le_bytes());
    add_up(&mut entry, 5);
    entry
}

fn tables(credentials: &[Credential<'_>]) -> Vec<u8> {
    let mut tables = Vec::new();
    for (handle, strings) in (0u16..).zip(credentials.chunks(STRINGS_MAX)) {
        tables.extend([OEM_STRINGS, 5]);
        tables.extend(handle.to_le_bytes());
        tables.push(strings.len() as u8);
        for Credential { name, value } in strings {
            let value = BASE64_STANDARD.encode(value);
            tables.extend(format!("io.systemd.credential.binary:{name}={value}\0").bytes());
        }
        tables.push(0);
    }
    tables.extend([END_OF_TABLE, 4, 0xff, 0xff, 0, 0]);
    tables
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;
    use super::*;
    use crate::memory;

    #[test]
    fn a_kernel_finds_the_strings() {
        let memory = memory::allocate(32 << 20).unwrap();
        let credential = |name, value| Credential { name, value };
        let all = [
            credential("token", b"hunter2"),
            credential("key", b"\0\xff"),
        ];
        write(&memory, &all).unwrap();
        let entry = read(&memory, layout::SMBIOS, 24);
        assert_eq!(&entry[..5], b"_SM3_");
        let sum = entry.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!((sum, &entry[6..12]), (0, &[24, 3, 7, 0, 1, 0][..]));
        let bytes = u32::from_le_bytes(entry[12..16].try_into().unwrap()) as usize;
        let start = u64::from_le_bytes(entry[16..24].try_into().unwrap());
        let expected = b"\x0b\x05\0\0\x02io.systemd.credential.binary:token=aHVudGVyMg==\0\
            io.systemd.credential.binary:key=AP8=\0\0\x7f\x04\xff\xff\0\0";
        assert_eq!(read(&memory, start, bytes), expected);
    }

    #[test]
    fn a_machine_without_credentials_has_no_tables() {
        let memory = memory::allocate(32 << 20).unwrap();
        write(&memory, &[]).unwrap();
        assert_eq!(read(&memory, layout::SMBIOS, 5), [0; 5]);
    }

    #[test]
    fn more_than_a_kernel_takes_is_refused() {
        let memory = memory::allocate(32 << 20).unwrap();
        let value = &vec![0; 40 << 10];
        let error = write(&memory, &[Credential { name: "a", value }]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "secrets: as credentials of a system they take 54660 bytes, at most 49152 can be passed on"
        );
    }
}
