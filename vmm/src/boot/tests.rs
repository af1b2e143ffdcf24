//! Kernels that are none, do not fit or are damaged, and where the parts of a good one end up.

mod bzimage;
mod elf;
mod modules;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use devices::Memory;
use linux_loader::loader::bootparam::boot_params;
use tempfile::TempDir;
use vm_memory::{Bytes, GuestAddress};

use super::initramfs::Archive;
use super::{Entry, Given, Initrd, load};
use crate::{layout, memory};

/// Memory of the test machine.
const MEMORY_BYTES: u64 = 32 << 20;

static ARCHIVE: LazyLock<Archive> = LazyLock::new(|| Archive::of_bytes(b"an archive"));

fn given() -> Given<'static> {
    Given {
        cmdline: "console=ttyS0",
        initramfs: &ARCHIVE,
        initrd: None,
    }
}

/// Bytes that repeat at no page.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|n| (n * n % 251) as u8).collect()
}

/// A kernel file of these bytes; it lives as long as its folder.
fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vmlinux");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn boot(bytes: &[u8]) -> (Memory, anyhow::Result<Entry>) {
    let memory = memory::allocate(MEMORY_BYTES).unwrap();
    let (_folder, path) = file(bytes);
    let loaded = load(&memory, &path, &given());
    (memory, loaded.map(|loaded| loaded.entry))
}

/// Why a file is refused, behind "cannot boot the kernel PATH: ".
fn refusal_of(path: &Path, given: &Given<'_>) -> String {
    let memory = memory::allocate(MEMORY_BYTES).unwrap();
    let error = format!("{:#}", load(&memory, path, given).unwrap_err());
    let start = format!("cannot boot the kernel {}: ", path.display());
    error.strip_prefix(&start).expect(&error).to_owned()
}

fn refusal(bytes: &[u8]) -> String {
    let (_folder, path) = file(bytes);
    refusal_of(&path, &given())
}

/// What is in guest memory there.
pub fn read(memory: &Memory, gpa: u64, bytes: usize) -> Vec<u8> {
    let mut data = vec![0xaa; bytes];
    memory.read_slice(&mut data, GuestAddress(gpa)).unwrap();
    data
}

#[test]
fn a_file_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let reason = refusal_of(&folder.path().join("vmlinux"), &given());
    assert_eq!(reason, "No such file or directory (os error 2)");
}

#[test]
fn a_directory() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        refusal_of(folder.path(), &given()),
        "it is not a regular file"
    );
}

#[test]
fn a_fifo_that_nobody_writes_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(refusal_of(&path, &given()), "it is not a regular file");
}

#[test]
fn a_device_without_end() {
    let reason = refusal_of(Path::new("/dev/zero"), &given());
    assert_eq!(reason, "it is not a regular file");
}

#[test]
fn a_file_of_a_few_bytes() {
    assert_eq!(refusal(b""), "it has only 0 bytes");
    assert_eq!(refusal(b"\x7fEL"), "it has only 3 bytes");
}

#[test]
fn a_file_of_a_gibibyte_and_more() {
    let (_folder, path) = file(b"");
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len((1 << 30) + 1)
        .unwrap();
    assert_eq!(
        refusal_of(&path, &given()),
        "it has 1024 MiB; no kernel is that large"
    );
}

#[test]
fn a_file_of_something_else() {
    let reason = "it is neither an ELF file nor a bzImage";
    assert_eq!(refusal(&pattern(1 << 20)), reason);
    assert_eq!(
        refusal(b"#!/bin/sh\n"),
        format!("{reason}: it ends too early")
    );
}

#[test]
fn a_command_line_that_is_too_long() {
    let (_folder, path) = file(&elf::kernel());
    let long = "x".repeat(layout::CMDLINE_BYTES_MAX);
    let given = Given {
        cmdline: &long,
        ..given()
    };
    assert_eq!(
        refusal_of(&path, &given),
        "the kernel command line has 2048 bytes, of at most 2047"
    );
}

#[test]
fn the_longest_command_line_there_can_be() {
    let memory = memory::allocate(MEMORY_BYTES).unwrap();
    let (_folder, path) = file(&elf::kernel());
    let long = "x".repeat(layout::CMDLINE_BYTES_MAX - 1);
    let given = Given {
        cmdline: &long,
        ..given()
    };
    load(&memory, &path, &given).unwrap();
    let line = read(&memory, layout::CMDLINE, layout::CMDLINE_BYTES_MAX);
    assert_eq!(line, [long.as_bytes(), b"\0"].concat());
}

#[test]
fn an_initramfs_that_does_not_fit_behind_the_kernel() {
    let (_folder, path) = file(&elf::kernel());
    let large = Archive::of_bytes(&vec![0; 16 << 20]);
    let given = Given {
        initramfs: &large,
        ..given()
    };
    assert_eq!(
        refusal_of(&path, &given),
        "memory: too small for the kernel (17 MiB) and its initramfs (16384 KiB)"
    );
}

#[test]
fn an_initrd_stands_behind_the_archive() {
    let memory = memory::allocate(MEMORY_BYTES).unwrap();
    let (_folder, path) = file(&elf::kernel());
    let archive = path.with_file_name("initrd");
    let bytes = [b"070701", &*pattern(5000)].concat();
    fs::write(&archive, &bytes).unwrap();
    let initrd = Initrd::open(&archive).unwrap();
    let given = Given {
        initrd: Some(&initrd),
        ..given()
    };
    let loaded = load(&memory, &path, &given).unwrap();
    let params: boot_params = memory.read_obj(GuestAddress(loaded.entry.rsi)).unwrap();
    let header = params.hdr;
    let (image, image_bytes) = (header.ramdisk_image, header.ramdisk_size);
    assert_eq!((image, image_bytes), ((32 << 20) - 8192, 5018));
    let all = read(&memory, image.into(), 5018);
    assert_eq!(all, [b"an archive\0\0", &*bytes].concat());
}

#[test]
fn an_initrd_that_does_not_fit_or_shrinks() {
    let (_folder, path) = file(&elf::kernel());
    let archive = path.with_file_name("initrd");
    fs::write(&archive, "070701").unwrap();
    let file = File::options().write(true).open(&archive).unwrap();
    let refusal_at = |bytes: u64, then: u64| {
        file.set_len(bytes).unwrap();
        let initrd = Initrd::open(&archive).unwrap();
        file.set_len(then).unwrap();
        let given = Given {
            initrd: Some(&initrd),
            ..given()
        };
        refusal_of(&path, &given)
    };
    assert_eq!(
        refusal_at(1 << 40, 1 << 40),
        "memory: too small for the kernel (17 MiB) and its initramfs (1073741825 KiB)"
    );
    let shrunk = refusal_at(1 << 20, 4096);
    let reason = format!(
        "cannot read the initrd {}: it ends too early",
        archive.display()
    );
    assert!(shrunk.starts_with(&reason), "{shrunk}");
}

#[test]
fn the_kernel_is_told_where_everything_is() {
    let (memory, entry) = boot(&elf::kernel());
    let entry = entry.unwrap();
    assert_eq!(entry.rsi, layout::BOOT_PARAMS);
    assert_eq!(entry.cr3, layout::PAGE_TABLES);
    let params: boot_params = memory.read_obj(GuestAddress(entry.rsi)).unwrap();
    let header = params.hdr;
    let (image, image_bytes) = (header.ramdisk_image, header.ramdisk_size);
    assert_eq!((image, image_bytes), ((32 << 20) - 4096, 12));
    assert_eq!(read(&memory, image.into(), 12), b"an archive\0\0");
    let line = header.cmd_line_ptr;
    assert_eq!(read(&memory, line.into(), 14), b"console=ttyS0\0");
    assert_eq!({ params.acpi_rsdp_addr }, layout::ACPI_TABLES);
    let map: Vec<_> = params.e820_table[..params.e820_entries.into()]
        .iter()
        .map(|entry| (entry.addr, entry.size, entry.r#type))
        .collect();
    assert_eq!(
        map,
        [
            (0, 0x9_fc00, 1),
            (0xe_0000, 0x2_0000, 2),
            (1 << 20, 31 << 20, 1)
        ]
    );
}

#[test]
fn the_first_gibibyte_is_mapped_onto_itself() {
    let (memory, entry) = boot(&elf::kernel());
    let word = |gpa| memory.read_obj::<u64>(GuestAddress(gpa)).unwrap();
    let table = |entry: u64| entry & !0xfff;
    let directory = table(word(table(word(entry.unwrap().cr3))));
    for page in 0..512 {
        assert_eq!(word(directory + page * 8), (page * (2 << 20)) | 0x83);
    }
}
