//! The machine has the processors and the memory that its file names.

use anyhow::Result;

use crate::{shell, where_machines_run};

/// Prints the number of processors, those that ran a program, and the memory in KiB.
const FACTS: &str = "
    nproc
    for cpu in /sys/devices/system/cpu/cpu[0-9]*; do taskset -c ${cpu##*cpu} echo -n ${cpu##*/} && echo -n ' '; done
    echo
    awk '/^MemTotal:/ { print $2 }' /proc/meminfo";

/// What the kernel may keep for itself: code and data, and by the size of memory the books of pages,
/// hash tables and bounce buffers.
const fn kernel_kib(memory_mib: u64) -> u64 {
    18 * 1024 + memory_mib * 1024 / 32
}

fn facts(vcpus: u32, memory_mib: u64) -> Result<(String, String, u64)> {
    let machine = shell("facts", FACTS).vcpus(vcpus).memory_mib(memory_mib);
    let text = machine.run()?.success();
    let lines: Vec<&str> = text.lines().collect();
    Ok((lines[0].into(), lines[1].into(), lines[2].parse()?))
}

#[test]
fn one_and_as_little_memory_as_there_may_be() -> Result<()> {
    let (count, ran, memory_kib) = facts(1, 32)?;
    assert_eq!((&*count, &*ran), ("1", "cpu0 "));
    assert!(
        (32 * 1024 - kernel_kib(32)..32 * 1024).contains(&memory_kib),
        "{memory_kib} KiB"
    );
    Ok(())
}

#[test]
fn two_and_256_mib() -> Result<()> {
    let (count, ran, memory_kib) = facts(2, 256)?;
    assert_eq!((&*count, &*ran), ("2", "cpu0 cpu1 "));
    assert!(
        (256 * 1024 - kernel_kib(256)..256 * 1024).contains(&memory_kib),
        "{memory_kib} KiB"
    );
    Ok(())
}

/// Of a processor's description, the words for the states that XSAVE keeps.
fn states(description: &str) -> Vec<&str> {
    let flags = description
        .lines()
        .find(|line| line.starts_with("flags"))
        .expect("flags");
    let mut found: Vec<&str> = flags
        .split_whitespace()
        .filter(|flag| *flag == "xsave" || flag.starts_with("avx"))
        .collect();
    found.sort_unstable();
    found
}

#[test]
fn what_the_hosts_processor_keeps_beside_the_usual_the_guests_does_too() -> Result<()> {
    let host = where_machines_run(&["cat", "/proc/cpuinfo"])
        .output()?
        .stdout;
    let host = String::from_utf8(host)?;
    let guest = shell("states", "cat /proc/cpuinfo").run()?.success();
    assert_eq!(states(&guest), states(&host));
    Ok(())
}

/// Fills memory and prints how much of it lies above 4 GiB, read back whole. The kernel takes pages
/// from the highest zone first; `pagemap` says where they are
/// (Documentation/admin-guide/mm/pagemap.rst).
const FILL: &str = r#"
import mmap, os, struct
length = 64 << 20
memory = mmap.mmap(-1, length)
pages = range(0, length, mmap.PAGESIZE)
for offset in pages:
    memory[offset:offset + 8] = struct.pack("<Q", offset ^ 0x5a5a5a5a)
wrong = sum(struct.unpack_from("<Q", memory, offset)[0] != offset ^ 0x5a5a5a5a for offset in pages)
start = next(int(line.split("-")[0], 16) for line in open("/proc/self/maps") if "/dev/zero" in line)
with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
    pagemap.seek(start // mmap.PAGESIZE * 8)
    entries = struct.unpack("<%dQ" % len(pages), pagemap.read(len(pages) * 8))
frames = [entry & (1 << 55) - 1 for entry in entries if entry >> 63]
high = sum(frame * mmap.PAGESIZE >= 4 << 30 for frame in frames)
print(wrong, "wrong,", len(frames) == len(pages), high > len(pages) // 2)
"#;

#[test]
fn four_and_memory_on_both_sides_of_the_hole_below_4_gib() -> Result<()> {
    let memory_mib = 6 * 1024;
    let (count, ran, found_kib) = facts(4, memory_mib)?;
    assert_eq!((&*count, &*ran), ("4", "cpu0 cpu1 cpu2 cpu3 "));
    let least = memory_mib * 1024 - kernel_kib(memory_mib);
    assert!(
        (least..memory_mib * 1024).contains(&found_kib),
        "{found_kib} KiB"
    );

    let fill = crate::tool("fill", ["python3", "-c", FILL]).memory_mib(memory_mib);
    assert_eq!(fill.run()?.success(), "0 wrong, True True\n");
    Ok(())
}
