//! What this process uses for its machine, as the kernel counts it.
//!
//! The one thing to know: which pages are the guest's is told by their addresses, so pages of the
//! kernel's file that are mapped into guest memory count as the guest's, too. proc(5).

use std::fs;
use std::ops::Range;

use anyhow::{Context, Result};
use guest::processes::{Stat, kib};
use vmm::machine::{self, Running};

use super::statistics::of_all;
use crate::control::statistics::{Disk, Interface, Memory, Statistics, Vcpu};

/// Looks at this process and its machine.
///
/// # Errors
/// `/proc` is not there.
pub fn measure(running: &Running) -> Result<Statistics> {
    let smaps = fs::read_to_string("/proc/self/smaps").context("cannot read /proc/self/smaps")?;
    let process = stat("/proc/self/stat").context("cannot read /proc/self/stat")?;
    let times = vcpu_times()?;
    let vcpus = running.counts.iter().enumerate().map(|(number, counts)| {
        let exits = counts.snapshot().into_iter();
        Vcpu {
            cpu_ms: time_of(&times, number),
            exits: exits.map(|(name, count)| (name.into(), count)).collect(),
        }
    });
    Ok(Statistics {
        cpu_ms: process.cpu_ms,
        vcpus: vcpus.collect(),
        memory: memory(&smaps, &running.memory_ranges()),
        threads: process.threads,
        shares: of_all(&running.shares),
        interfaces: running.cards.iter().map(interface).collect(),
        disks: running.disks.iter().map(disk).collect(),
    })
}

fn interface(card: &machine::Card) -> (String, Interface) {
    let counters = &card.counters;
    let told = Interface {
        received_bytes: counters.received_bytes(),
        received_packets: counters.received_packets(),
        sent_bytes: counters.sent_bytes(),
        sent_packets: counters.sent_packets(),
    };
    (card.name.clone(), told)
}

fn disk(disk: &machine::Disk) -> (String, Disk) {
    let counters = &disk.counters;
    let told = Disk {
        read_bytes: counters.read_bytes(),
        written_bytes: counters.written_bytes(),
        flushes: counters.flushes(),
    };
    (disk.name.clone(), told)
}

/// Names and processor times of all threads.
fn vcpu_times() -> Result<Vec<(String, u64)>> {
    let threads = fs::read_dir("/proc/self/task").context("cannot list /proc/self/task")?;
    let stats = threads.flatten().filter_map(|thread| {
        // One that ends meanwhile is no vCPU.
        stat(&thread.path().join("stat").to_string_lossy())
    });
    Ok(stats.map(|stat| (stat.name, stat.cpu_ms)).collect())
}

fn time_of(times: &[(String, u64)], vcpu: usize) -> u64 {
    let name = format!("vcpu{vcpu}");
    let time = times.iter().find(|(thread, _)| *thread == name);
    time.map_or(0, |(_, time)| *time)
}

fn stat(path: &str) -> Option<Stat> {
    Stat::parse(&fs::read_to_string(path).ok()?)
}

/// Adds up the mappings, those within `guest` apart.
fn memory(smaps: &str, guest: &[Range<u64>]) -> Memory {
    let mut memory = Memory::default();
    let mut is_guests = false;
    for line in smaps.lines() {
        if let Some(start) = start_of_mapping(line) {
            is_guests = guest.iter().any(|range| range.contains(&start));
        } else if let Some(kib) = kib(line, "Rss:") {
            memory.resident_kib += kib;
            memory.guest_kib += if is_guests { kib } else { 0 };
        } else if let Some(kib) = kib(line, "Pss:") {
            memory.proportional_kib += kib;
            memory.overhead_kib += if is_guests { 0 } else { kib };
        }
    }
    memory
}

/// The address of a line such as `7f00-8000 rw-p ...`.
fn start_of_mapping(line: &str) -> Option<u64> {
    let (start, rest) = line.split_once('-')?;
    let (end, _) = rest.split_once(' ')?;
    u64::from_str_radix(end, 16).ok()?;
    u64::from_str_radix(start, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_memory_is_told_by_its_addresses() {
        let smaps = "\
1000-2000 r-xp 00000000 00:00 1 /usr/bin/mvm-x y
Rss:                 100 kB
Pss:                  50 kB
Pss_Dirty:             7 kB
7f0000000000-7f0000002000 rw-p 00000000 00:00 0
Rss:                2000 kB
Pss:                1900 kB
7f0000002000-7f0000004000 r--p 00000000 00:00 0 /vmlinux
Rss:                  30 kB
Pss:                   3 kB
VmFlags: rd wr mr-x
";
        let guest = 0x7f00_0000_0000..0x7f00_0000_4000;
        let expected = Memory {
            resident_kib: 2130,
            proportional_kib: 1953,
            guest_kib: 2030,
            overhead_kib: 50,
        };
        assert_eq!(memory(smaps, &[guest]), expected);
    }

    #[test]
    fn the_time_of_a_thread_is_found_by_its_name() {
        let times = vec![("mvm".into(), 5), ("vcpu1".into(), 7), ("vcpu10".into(), 9)];
        let found = [0, 1, 10].map(|vcpu| time_of(&times, vcpu));
        assert_eq!(found, [0, 7, 9]);
        let own = vcpu_times().unwrap();
        assert!(own.len() > 1, "{own:?}");
    }
}
