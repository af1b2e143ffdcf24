//! `bzImage` files, made here.

use linux_loader::loader::bootparam::{boot_params, setup_header};
use vm_memory::{ByteValued, Bytes, GuestAddress};

use super::{boot, pattern, read, refusal};
use crate::layout;

/// Where the setup header begins in the file.
const HEADER: usize = 0x1f1;
/// Bytes of the protected-mode part.
const CODE_BYTES: usize = 0x3210;

fn header() -> setup_header {
    setup_header {
        setup_sects: 1,
        syssize: (CODE_BYTES / 16) as u32,
        header: u32::from_le_bytes(*b"HdrS"),
        version: 0x020f,
        xloadflags: 1,
        pref_address: 0x100_0000,
        init_size: 0x20_0000,
        ..setup_header::default()
    }
}

/// A file with this header; its code follows `setup_sectors` sectors.
fn file(header: setup_header, setup_sectors: usize) -> Vec<u8> {
    let mut bytes = vec![0; setup_sectors * 512];
    bytes[HEADER..][..size_of::<setup_header>()].copy_from_slice(header.as_slice());
    bytes.extend(pattern(CODE_BYTES));
    bytes
}

/// A file that says it is of the release in `version`.
pub fn of_version(version: &str) -> Vec<u8> {
    let bytes = file(header(), 2);
    let header = setup_header {
        kernel_version: (bytes.len() - 512) as u16,
        ..header()
    };
    [&file(header, 2), version.as_bytes(), &[0]].concat()
}

/// Why a file with this header is refused.
fn refusal_with(header: setup_header) -> String {
    refusal(&file(header, 2))
}

#[test]
fn a_good_kernel_is_where_it_prefers_to_be() {
    let (memory, entry) = boot(&file(header(), 2));
    let entry = entry.unwrap();
    assert_eq!(entry.rip, 0x100_0200);
    assert!(read(&memory, 0x100_0000, CODE_BYTES) == pattern(CODE_BYTES));
    let params: boot_params = memory.read_obj(GuestAddress(entry.rsi)).unwrap();
    let (version, init_size) = (params.hdr.version, params.hdr.init_size);
    assert_eq!((version, init_size), (0x020f, 0x20_0000));
    assert_eq!(params.hdr.type_of_loader, 0xff);
}

#[test]
fn setup_parts_of_all_sizes() {
    // Zero means four (boot.rst), and one more sector is the boot sector.
    for (setup_sects, sectors) in [(0, 5), (4, 5), (255, 256)] {
        let header = setup_header {
            setup_sects,
            ..header()
        };
        let (memory, entry) = boot(&file(header, sectors));
        entry.unwrap();
        assert!(read(&memory, 0x100_0000, CODE_BYTES) == pattern(CODE_BYTES));
    }
}

#[test]
fn a_kernel_without_a_preference_is_put_above_the_first_mebibyte() {
    let header = setup_header {
        pref_address: 0x1000,
        ..header()
    };
    let (_memory, entry) = boot(&file(header, 2));
    assert_eq!(entry.unwrap().rip, layout::HIMEM + 0x200);
}

#[test]
fn what_follows_the_code_is_left_where_it_is() {
    let signed = [file(header(), 2), vec![0xee; 4096]].concat();
    let (memory, entry) = boot(&signed);
    entry.unwrap();
    assert_eq!(
        read(&memory, 0x100_0000 + CODE_BYTES as u64, 4096),
        [0; 4096]
    );
}

#[test]
fn a_kernel_that_is_cut_short_anywhere() {
    let bytes = file(header(), 2);
    let header_end = HEADER + size_of::<setup_header>();
    for length in
        (1024..bytes.len())
            .step_by(512)
            .chain([header_end, bytes.len() - 1, bytes.len() - 16])
    {
        assert_eq!(
            refusal(&bytes[..length]),
            "it is cut short or damaged",
            "at {length}"
        );
    }
    for length in [4, 512, header_end - 1] {
        assert_eq!(
            refusal(&bytes[..length]),
            "it is neither an ELF file nor a bzImage: it ends too early",
            "at {length}"
        );
    }
}

#[test]
fn sizes_that_lie() {
    for syssize in [0, 1, 32, (CODE_BYTES / 16) as u32 + 1, u32::MAX] {
        let header = setup_header {
            syssize,
            ..header()
        };
        assert_eq!(
            refusal_with(header),
            "it is cut short or damaged",
            "{syssize}"
        );
    }
    let header = setup_header {
        setup_sects: 255,
        ..header()
    };
    assert_eq!(refusal_with(header), "it is cut short or damaged");
}

#[test]
fn kernels_of_another_age() {
    let reason = "it has no 64-bit entry: a 64-bit Linux since 3.8 is needed";
    for version in [0, 0x0200, 0x020b] {
        let header = setup_header {
            version,
            ..header()
        };
        assert_eq!(refusal_with(header), reason);
    }
    let header = setup_header {
        xloadflags: 0xfffe,
        ..header()
    };
    assert_eq!(refusal_with(header), reason);
}

#[test]
fn no_kernel_at_all() {
    let header = setup_header {
        header: 0,
        ..header()
    };
    assert_eq!(
        refusal_with(header),
        "it is neither an ELF file nor a bzImage"
    );
}

#[test]
fn a_kernel_that_unpacks_to_more_than_there_is() {
    let header = setup_header {
        init_size: u32::MAX,
        ..header()
    };
    assert_eq!(
        refusal_with(header),
        "memory: 32 MiB are too small for it; it needs 4112 MiB to unpack"
    );
}

#[test]
fn preferences_outside_memory() {
    let header = |pref_address| setup_header {
        pref_address,
        ..header()
    };
    assert_eq!(
        refusal_with(header(u64::MAX)),
        "it wants to be outside memory"
    );
    assert_eq!(
        refusal_with(header(32 << 20)),
        "memory: 32 MiB are too small for it; it needs 34 MiB to unpack"
    );
}
