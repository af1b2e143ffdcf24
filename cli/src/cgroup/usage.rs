//! What a machine has used of its limits, as its control group counts it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// What `mvm inspect` tells. A number is missing where nothing limits it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    path: PathBuf,
    cpu_microseconds: Option<u64>,
    cpu_periods: Option<u64>,
    cpu_periods_throttled: Option<u64>,
    memory_bytes: Option<u64>,
    memory_max_bytes: Option<u64>,
    pids: Option<u64>,
    pids_max: Option<u64>,
    io_read_bytes: Option<u64>,
    io_write_bytes: Option<u64>,
}

impl Usage {
    /// Of the group that `link` points to, if there is one.
    pub fn of(link: &Path) -> Option<Self> {
        let path = fs::read_link(link).ok()?;
        let read = |file: &str| fs::read_to_string(path.join(file)).ok();
        let number = |file| read(file)?.trim().parse().ok();
        let statistics = read("cpu.stat").unwrap_or_default();
        let counter = |key| counter(&statistics, key);
        let disks = read("io.stat");
        Some(Self {
            cpu_microseconds: counter("usage_usec"),
            cpu_periods: counter("nr_periods"),
            cpu_periods_throttled: counter("nr_throttled"),
            memory_bytes: number("memory.current"),
            memory_max_bytes: number("memory.max"),
            pids: number("pids.current"),
            pids_max: number("pids.max"),
            io_read_bytes: disks.as_ref().map(|disks| sum(disks, "rbytes")),
            io_write_bytes: disks.as_ref().map(|disks| sum(disks, "wbytes")),
            path,
        })
    }
}

pub(super) fn counter(statistics: &str, key: &str) -> Option<u64> {
    let mut lines = statistics.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == key)?.1.parse().ok()
}

/// Of all disks: `MAJOR:MINOR rbytes=1 wbytes=2 ...`, a line for each.
fn sum(disks: &str, key: &str) -> u64 {
    let of_key = |word: &str| {
        word.strip_prefix(key)?
            .strip_prefix('=')?
            .parse::<u64>()
            .ok()
    };
    let numbers = disks.split_ascii_whitespace().filter_map(of_key);
    numbers.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_group_counts_is_told_and_the_rest_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (group, link) = (
            folder.path().join("mvm-web-1"),
            folder.path().join("cgroup"),
        );
        assert!(Usage::of(&link).is_none());
        fs::create_dir(&group).unwrap();
        std::os::unix::fs::symlink(&group, &link).unwrap();
        fs::write(
            group.join("cpu.stat"),
            "usage_usec 5\nnr_periods 7\nnr_throttled 3\n",
        )
        .unwrap();
        fs::write(group.join("memory.max"), "max\n").unwrap();
        fs::write(group.join("pids.current"), "12\n").unwrap();
        let disks = "8:0 rbytes=1 wbytes=20 rios=5\n7:0 \n8:16 rbytes=2 wbytes=x\n";
        fs::write(group.join("io.stat"), disks).unwrap();
        let usage = Usage::of(&link).unwrap();
        assert_eq!(usage.cpu_periods_throttled, Some(3));
        assert_eq!((usage.memory_max_bytes, usage.memory_bytes), (None, None));
        assert_eq!(usage.pids, Some(12));
        assert_eq!(
            (usage.io_read_bytes, usage.io_write_bytes),
            (Some(3), Some(20))
        );
    }
}
