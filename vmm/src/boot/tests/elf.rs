//! `vmlinux` files, made here.

use std::ops::Range;

use super::{MEMORY_BYTES, boot, given, pattern, read, refusal};
use crate::boot::load;
use crate::memory;

/// A loadable segment as its program header says.
#[derive(Clone, Copy)]
struct Segment {
    offset: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
}

/// Broken pages at both ends, four whole ones between, and bss behind.
const TEXT: Segment = Segment {
    offset: 0x1234,
    paddr: 0x100_0234,
    filesz: 0x4f00,
    memsz: 0x8000,
};

/// In the file at another place within its page than in memory, so that it cannot be mapped.
const DATA: Segment = Segment {
    offset: 0x7010,
    paddr: 0x101_0000,
    filesz: 0x1111,
    memsz: 0x1111,
};

const ENTRY: u64 = TEXT.paddr + 0x10;

/// Offsets in the file header, then those in a program header.
const CLASS: usize = 4;
const DATA_ENCODING: usize = 5;
const KIND: usize = 16;
const MACHINE: usize = 18;
const ENTRY_POINT: usize = 24;
const PHOFF: usize = 32;
const SHOFF: usize = 40;
const PHENTSIZE: usize = 54;
const PHNUM: usize = 56;
const SHNUM: usize = 60;
const SHSTRNDX: usize = 62;
const HEADERS: usize = 64;
const FLAGS: usize = HEADERS + 4;
const OFFSET: usize = HEADERS + 8;
const PADDR: usize = HEADERS + 24;
const FILESZ: usize = HEADERS + 32;
const MEMSZ: usize = HEADERS + 40;

/// A file that ends with its last segment, and whose other bytes are a pattern.
fn file(segments: &[Segment]) -> Vec<u8> {
    let end = segments.iter().map(|s| s.offset + s.filesz).max().unwrap();
    let mut bytes = pattern(usize::try_from(end.max(0x1000)).unwrap());
    bytes[..HEADERS].fill(0);
    put(&mut bytes, 0, b"\x7fELF\x02\x01\x01");
    put(&mut bytes, KIND, &2u16.to_le_bytes());
    put(&mut bytes, MACHINE, &62u16.to_le_bytes());
    put(&mut bytes, ENTRY_POINT, &ENTRY.to_le_bytes());
    put(&mut bytes, PHOFF, &(HEADERS as u64).to_le_bytes());
    put(&mut bytes, PHENTSIZE, &56u16.to_le_bytes());
    put(&mut bytes, PHNUM, &(segments.len() as u16).to_le_bytes());
    for (n, segment) in segments.iter().enumerate() {
        let words = [
            1 | 5 << 32,
            segment.offset,
            0xffff_ffff_8000_0000 + segment.paddr,
            segment.paddr,
            segment.filesz,
            segment.memsz,
            0x1000,
        ];
        let header = words.map(u64::to_le_bytes).concat();
        put(&mut bytes, HEADERS + n * 56, &header);
    }
    bytes
}

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

/// A good kernel.
pub fn kernel() -> Vec<u8> {
    file(&[TEXT, DATA])
}

/// Why the good kernel is refused with other bytes at `offset`.
fn refusal_with(offset: usize, value: &[u8]) -> String {
    let mut bytes = kernel();
    put(&mut bytes, offset, value);
    refusal(&bytes)
}

fn refusal_with_word(offset: usize, value: u64) -> String {
    refusal_with(offset, &value.to_le_bytes())
}

/// Every byte of a segment and of the pages around it is what it must be.
fn assert_loaded(memory: &devices::Memory, bytes: &[u8], segment: Segment) {
    let [offset, filesz, memsz] =
        [segment.offset, segment.filesz, segment.memsz].map(|n| usize::try_from(n).unwrap());
    let page = segment.paddr & !0xfff;
    let before = usize::try_from(segment.paddr - page).unwrap();
    let after = memsz - filesz + 0x1000;
    let expected = [
        vec![0; before],
        bytes[offset..offset + filesz].to_vec(),
        vec![0; after],
    ]
    .concat();
    assert!(read(memory, page, expected.len()) == expected);
}

#[test]
fn a_good_kernel_is_where_its_file_says() {
    let bytes = kernel();
    let (memory, entry) = boot(&bytes);
    assert_eq!(entry.unwrap().rip, ENTRY);
    assert_loaded(&memory, &bytes, TEXT);
    assert_loaded(&memory, &bytes, DATA);
}

#[test]
fn segments_of_any_shape_are_loaded_to_the_byte() {
    for within_page in [0, 1, 0x234, 0xfff] {
        for filesz in [0, 1, 0xfff, 0x1000, 0x1001, 0x2000, 0x3001, 0x5678] {
            for shift in [0, 0x10] {
                let segment = Segment {
                    offset: 0x2000 + within_page + shift,
                    paddr: 0x100_0000 + within_page,
                    filesz,
                    memsz: filesz + 0x1800,
                };
                let mut bytes = file(&[segment]);
                // More of the file, which must not be seen behind the segment.
                bytes.extend(pattern(0x3000));
                put(&mut bytes, ENTRY_POINT, &segment.paddr.to_le_bytes());
                let (memory, entry) = boot(&bytes);
                assert_eq!(entry.unwrap().rip, segment.paddr);
                assert_loaded(&memory, &bytes, segment);
            }
        }
    }
}

#[test]
fn headers_that_are_not_to_be_loaded_are_skipped() {
    let mut bytes = file(&[TEXT, DATA]);
    // PT_NOTE with numbers that mean nothing.
    put(&mut bytes, HEADERS + 56, &4u32.to_le_bytes());
    put(&mut bytes, OFFSET + 56, &[0xff; 40]);
    let (memory, entry) = boot(&bytes);
    entry.unwrap();
    assert_loaded(&memory, &bytes, TEXT);
}

#[test]
fn a_kernel_that_is_cut_short_anywhere() {
    let bytes = kernel();
    for length in (512..bytes.len()).step_by(512).chain([bytes.len() - 1]) {
        assert_eq!(
            refusal(&bytes[..length]),
            "it is cut short or damaged",
            "at {length}"
        );
    }
    assert_eq!(refusal(&bytes[..63]), "it ends too early");
    for length in [64, 64 + 55, 64 + 56 * 2 - 1] {
        assert_eq!(
            refusal(&bytes[..length]),
            "it ends before its program headers",
            "at {length}"
        );
    }
}

#[test]
fn another_class_order_or_machine() {
    let reason = "it is not built for x86-64";
    assert_eq!(refusal_with(CLASS, &[1]), reason);
    assert_eq!(refusal_with(DATA_ENCODING, &[2]), reason);
    for machine in [3u16, 40, 183, 243] {
        assert_eq!(refusal_with(MACHINE, &machine.to_le_bytes()), reason);
    }
}

#[test]
fn a_library_or_an_object_file() {
    for kind in [0u16, 1, 3, 4] {
        assert_eq!(
            refusal_with(KIND, &kind.to_le_bytes()),
            "it is an ELF file, but not an executable"
        );
    }
}

#[test]
fn counts_and_sizes_of_program_headers() {
    for count in [0u16, 65, 65_535] {
        assert_eq!(
            refusal_with(PHNUM, &count.to_le_bytes()),
            format!("it has {count} program headers; a kernel has 1 to 64")
        );
    }
    for bytes in [0u16, 32, 57, 65_535] {
        assert_eq!(
            refusal_with(PHENTSIZE, &bytes.to_le_bytes()),
            format!("its program headers have {bytes} bytes instead of 56")
        );
    }
}

#[test]
fn program_headers_behind_the_file() {
    let length = kernel().len() as u64;
    for place in [length - 111, length, 1 << 40, 1 << 63, u64::MAX - 8] {
        assert_eq!(
            refusal_with_word(PHOFF, place),
            "it ends before its program headers",
            "at {place:#x}"
        );
    }
}

#[test]
fn segments_that_their_file_does_not_have() {
    let reason = "it is cut short or damaged";
    assert_eq!(refusal_with_word(OFFSET, u64::MAX - 8), reason);
    assert_eq!(refusal_with_word(OFFSET, 1 << 40), reason);
    assert_eq!(refusal_with_word(FILESZ, u64::MAX), reason);
    // More in the file than in memory.
    assert_eq!(refusal_with_word(MEMSZ, TEXT.filesz - 1), reason);
}

#[test]
fn segments_outside_memory() {
    for place in [0u64, 0x7000, 0xf_ffff] {
        assert_eq!(
            refusal_with_word(PADDR, place),
            format!("a segment wants to be at {place:#x}, outside memory")
        );
    }
    assert_eq!(
        refusal_with_word(MEMSZ, u64::MAX),
        "a segment wants to be at 0x1000234, outside memory"
    );
}

#[test]
fn segments_behind_the_end_of_memory() {
    assert_eq!(
        refusal_with_word(PADDR, (32 << 20) - 0x1000),
        "memory: 32 MiB are too small for it; it needs 33 MiB"
    );
    assert_eq!(
        refusal_with_word(MEMSZ, 1 << 62),
        "memory: 32 MiB are too small for it; it needs 4398046511121 MiB"
    );
}

#[test]
fn segments_that_overlap() {
    let reason = |place: u64| format!("two of its segments want to be at {place:#x}");
    let bss = Segment {
        paddr: TEXT.paddr + TEXT.memsz - 1,
        ..DATA
    };
    assert_eq!(refusal(&file(&[TEXT, bss])), reason(bss.paddr));
    assert_eq!(refusal(&file(&[bss, TEXT])), reason(TEXT.paddr));
    assert_eq!(refusal(&file(&[TEXT, TEXT])), reason(TEXT.paddr));
}

#[test]
fn an_entry_in_no_segment() {
    let behind = TEXT.paddr + TEXT.memsz;
    for place in [0, TEXT.paddr - 1, behind, u64::MAX] {
        assert_eq!(
            refusal_with_word(ENTRY_POINT, place),
            format!("its entry point {place:#x} lies in no segment")
        );
    }
}

#[test]
fn a_kernel_above_what_the_cpu_can_reach() {
    let memory = memory::allocate(2 << 30).unwrap();
    let high = Segment {
        paddr: (1 << 30) + 0x234,
        ..TEXT
    };
    let mut bytes = file(&[high]);
    put(&mut bytes, ENTRY_POINT, &high.paddr.to_le_bytes());
    let (_folder, path) = super::file(&bytes);
    let error = load(&memory, &path, &given()).unwrap_err();
    assert!(
        format!("{error:#}")
            .ends_with("it wants to be at 0x40000234, and a kernel is entered in the first GiB")
    );
}

/// The file with sections: `returns` return sites, and text at these places of the file.
fn with_sections(mut bytes: Vec<u8>, returns: u64, text: &Range<u64>) -> Vec<u8> {
    let names = b"\0.text\0.return_sites\0";
    let names_at = bytes.len() as u64;
    bytes.extend(names);
    let headers_at = bytes.len() as u64;
    let sections = [
        (0, 0, 0),
        (1, text.start, text.end - text.start),
        (7, 0, returns * 4),
        (0, names_at, names.len() as u64),
    ];
    for (name, offset, size) in sections {
        let words = [name, 0, 0, offset, size, 0, 0, 0];
        bytes.extend(words.map(u64::to_le_bytes).concat());
    }
    put(&mut bytes, SHOFF, &headers_at.to_le_bytes());
    put(&mut bytes, SHNUM, &(sections.len() as u16).to_le_bytes());
    put(&mut bytes, SHSTRNDX, &3u16.to_le_bytes());
    bytes
}

/// Memory that is a kernel's file, once it is loaded as its file says.
fn mapped(bytes: &[u8]) -> Vec<Range<u64>> {
    let memory = memory::allocate(MEMORY_BYTES).unwrap();
    let (_folder, path) = super::file(bytes);
    let loaded = load(&memory, &path, &given()).unwrap();
    assert_loaded(&memory, bytes, TEXT);
    loaded.mapped
}

/// All pages of [`TEXT`] that can be mapped.
const WHOLE: Range<u64> = 0x100_1000..0x100_5000;

#[test]
fn text_that_is_rewritten_everywhere_is_copied() {
    // A page and a half, from the middle of the second page to that of the third.
    let text = 0x3234..0x4a34;
    let with = |returns, text| mapped(&with_sections(kernel(), returns, text));

    assert_eq!(with(1, &text), [WHOLE], "fewer than one in a page");
    let around = [0x100_1000..0x100_2000, 0x100_4000..0x100_5000];
    assert_eq!(with(2, &text), around);
    assert_eq!(with(0x1000, &(0..0x9000)), [], "all of it and more");
    assert_eq!(with(0x1000, &(0x9000..0xa000)), [WHOLE], "elsewhere");
}

/// Data with a table of 256 KiB and a bit, which begins in the midst of its second page.
const TABLE: Range<u64> = 0x1800..0x4_1900;
const WRITABLE: Segment = Segment {
    filesz: 0x4_3000,
    memsz: 0x4_3000,
    ..TEXT
};

#[test]
fn a_part_amid_data_that_is_only_read_is_mapped() {
    let data = |flags: u64, size: u64| {
        let mut content = file(&[WRITABLE]);
        put(&mut content, FLAGS, &6u32.to_le_bytes());
        let headers_at = content.len() as u64;
        let at = WRITABLE.offset + TABLE.start;
        // Type and flags, place in memory, in the file, and size.
        let words = [1 << 32, flags, 0, at, size, 0, 0, 0];
        content.extend(words.map(u64::to_le_bytes).concat());
        put(&mut content, SHOFF, &headers_at.to_le_bytes());
        put(&mut content, SHNUM, &1u16.to_le_bytes());
        let memory = memory::allocate(MEMORY_BYTES).unwrap();
        let (_folder, path) = super::file(&content);
        let loaded = load(&memory, &path, &given()).unwrap();
        assert_loaded(&memory, &content, WRITABLE);
        loaded.mapped
    };
    let table_bytes = TABLE.end - TABLE.start;
    let page = |offset: u64| (WRITABLE.paddr + offset) & !0xfff;
    let whole = page(TABLE.start + 0xfff)..page(TABLE.end);
    assert_eq!(data(2, table_bytes), std::slice::from_ref(&whole));
    assert_eq!(data(6, table_bytes), [whole], "it is text");
    assert_eq!(data(3, table_bytes), [], "it can be written to");
    assert_eq!(data(2, (256 << 10) - 1), [], "it is small");
    assert_eq!(data(2, 1 << 30), [], "it is longer than the segment");
    assert_eq!(data(2, u64::MAX), [], "it is longer than all files");
}

/// Where a table of places in [`TEXT`] will be.
const SITES: u64 = 0x20_0000;

/// Entries of `entry_bytes` that tell of these places.
fn sites(places: &[u64], entry_bytes: usize) -> Vec<u8> {
    let entry = |(at, place): (u64, &u64)| {
        let distance = (TEXT.paddr + place).wrapping_sub(at) as i32;
        let mut entry = vec![0xee; entry_bytes];
        entry[..4].copy_from_slice(&distance.to_le_bytes());
        entry
    };
    let addresses = (SITES..).step_by(entry_bytes);
    addresses.zip(places).flat_map(entry).collect()
}

/// The file with sections for its text, `table`, their names, which are of the `kind` of one of them,
/// and `symbols`.
fn with_table(mut bytes: Vec<u8>, name: &[u8], table: &[u8], symbols: &[(&str, u64)]) -> Vec<u8> {
    let mut names = [b"\0", name, b"\0"].concat();
    let mut entries = vec![0; 24];
    for (name, value) in symbols {
        entries.extend((names.len() as u32).to_le_bytes());
        entries.extend([0; 4]);
        entries.extend([*value, 0].map(u64::to_le_bytes).concat());
        names.extend([name.as_bytes(), b"\0"].concat());
    }
    let mut put_at_end = |part: &[u8]| {
        let at = bytes.len() as u64;
        bytes.extend(part);
        (at, part.len() as u64)
    };
    let (names_at, names_bytes) = put_at_end(&names);
    let (table_at, table_bytes) = put_at_end(table);
    let (entries_at, entries_bytes) = put_at_end(&entries);
    let headers_at = bytes.len() as u64;
    let sections = [
        (0, 0, 0, 0, 0, 0),
        (1 << 32, 6, TEXT.paddr, TEXT.offset, TEXT.filesz, 0),
        (1 << 32 | 1, 2, SITES, table_at, table_bytes, 0),
        (3 << 32, 0, 0, names_at, names_bytes, 0),
        (2 << 32, 0, 0, entries_at, entries_bytes, 3),
    ];
    for (name, flags, address, offset, size, link) in sections {
        let words = [name, flags, address, offset, size, link, 0, 0];
        bytes.extend(words.map(u64::to_le_bytes).concat());
    }
    put(&mut bytes, SHOFF, &headers_at.to_le_bytes());
    put(&mut bytes, SHNUM, &(sections.len() as u16).to_le_bytes());
    put(&mut bytes, SHSTRNDX, &3u16.to_le_bytes());
    bytes
}

/// The file with a table of alternatives to instructions at these places of [`TEXT`].
fn with_alternatives(bytes: Vec<u8>, places: &[u64]) -> Vec<u8> {
    with_table(bytes, b".altinstructions", &sites(places, 14), &[])
}

/// The file with a table of static calls at these places of [`TEXT`], which is from `start` to `stop`.
fn with_static_calls(places: &[u64], start: u64, stop: u64) -> Vec<u8> {
    let symbols = [
        ("__start_rodata", SITES),
        ("__start_static_call_sites", start),
        ("__stop_static_call_sites", stop),
    ];
    with_table(file(&[TEXT]), b".rodata", &sites(places, 8), &symbols)
}

/// Pages that are there once a kernel with [`TEXT`] is loaded.
fn touched(bytes: &[u8]) -> usize {
    let memory = memory::allocate(MEMORY_BYTES).unwrap();
    let (_folder, path) = super::file(bytes);
    let loaded = load(&memory, &path, &given()).unwrap();
    assert_loaded(&memory, bytes, TEXT);
    assert_eq!(loaded.mapped, [WHOLE], "they stay mappings");
    memory::Touched::of(&memory, &[]).unwrap().count()
}

#[test]
fn pages_with_instructions_that_have_alternatives_are_copied() {
    let copied = |places: &[u64]| touched(&with_alternatives(file(&[TEXT]), places));
    let none = copied(&[]);
    // In the second and the fourth page; once more there; in the first, which is broken.
    assert_eq!(copied(&[0x1000, 0x3100]) - none, 2);
    assert_eq!(copied(&[0x3200, 0x3100, 0x10]) - none, 1);
    assert_eq!(copied(&[0x10, 0x1000]) - none, 1, "beside the broken one");
    let elsewhere = [0x1000, 0x10_0000];
    assert_eq!(copied(&elsewhere) - none, 0, "another form of table");
}

#[test]
fn pages_with_static_calls_are_copied() {
    let places = [0x1000, 0x3100, 0x3200];
    let copied = |start, stop| touched(&with_static_calls(&places, start, stop));
    let none = copied(SITES, SITES);
    assert_eq!(copied(SITES, SITES + 8) - none, 1);
    assert_eq!(copied(SITES, SITES + 3 * 8) - none, 2);
    assert_eq!(
        copied(SITES + 8, SITES) - none,
        0,
        "it ends before it begins"
    );
    assert_eq!(copied(SITES, u64::MAX) - none, 0, "it has no end");
    assert_eq!(copied(8, 16) - none, 0, "it is in no section");
    assert_eq!(
        copied(SITES + 4, SITES + 12) - none,
        0,
        "another form of table"
    );
}

#[test]
fn alternatives_at_the_end_of_all_addresses_change_nothing() {
    let good = with_alternatives(file(&[TEXT]), &[0x1000, 0x2000]);
    let headers_at = u64::from_le_bytes(good[SHOFF..SHOFF + 8].try_into().unwrap());
    // The table's address; the offset of the text that it names.
    for field in [2 * 64 + 16, 64 + 24] {
        let mut bytes = good.clone();
        let at = usize::try_from(headers_at).unwrap() + field;
        put(&mut bytes, at, &(u64::MAX - 0x1fff).to_le_bytes());
        assert_eq!(mapped(&bytes), [WHOLE], "{field}");
    }
}

#[test]
fn sections_that_make_no_sense_change_nothing() {
    let good = with_sections(kernel(), 0x1000, &(0..0x9000));
    for (offset, value) in [
        (SHOFF, &u64::MAX.to_le_bytes()[..]),
        (SHOFF, &[0; 8]),
        (SHNUM, &[0; 2]),
        (SHSTRNDX, &[0xff; 2]),
        (SHSTRNDX, &[1, 0]),
    ] {
        let mut bytes = good.clone();
        put(&mut bytes, offset, value);
        assert_eq!(mapped(&bytes), [WHOLE], "{value:?} at {offset}");
    }
    let endless = with_sections(kernel(), u64::MAX / 4, &(0x2000..u64::MAX));
    assert_eq!(mapped(&endless), [], "it ends with its segment");
}
