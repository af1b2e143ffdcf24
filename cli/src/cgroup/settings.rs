//! `limits` as the files of a control group (the kernel's `admin-guide/cgroup-v2.rst`).

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{major, minor};
use vmm::app::{Bytes, IoLimits, Limits};

/// The time that quotas are parts of, in µs: the kernel's own default.
const PERIOD_US: u64 = 100_000;

/// Those of disks. What is written goes to a disk later, by the kernel itself, which knows whose it
/// was where memory is counted as well ("Writeback").
const IO: &[&str] = &["io", "memory"];

/// A limit as the kernel takes it.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// Key in `limits`, for errors.
    pub key: &'static str,
    /// Who keep it.
    pub controllers: &'static [&'static str],
    /// Where it is written.
    pub file: &'static str,
    /// What is written.
    pub value: String,
}

/// The settings of all limits that are given.
///
/// # Errors
/// A device cannot be found.
pub fn of(limits: &Limits) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    let mut add = |key, controllers, file, value: Option<String>| {
        settings.extend(value.map(|value| Setting {
            key,
            controllers,
            file,
            value,
        }));
    };
    let bytes = |bytes: Option<Bytes>| bytes.map(|bytes| bytes.get().to_string());
    let number = |number: Option<u32>| number.map(|number| number.to_string());
    let quota = limits.cpu.map(|cpu| {
        let quota_us = u64::from(cpu.percent()) * PERIOD_US / 100;
        format!("{quota_us} {PERIOD_US}")
    });
    add("cpu", &["cpu"], "cpu.max", quota);
    add(
        "cpuWeight",
        &["cpu"],
        "cpu.weight",
        number(limits.cpu_weight),
    );
    add("cpus", &["cpuset"], "cpuset.cpus", limits.cpus.clone());
    // First the one that ends the machine: between the two it may not grow past it.
    add("memory", &["memory"], "memory.max", bytes(limits.memory));
    add(
        "memoryHigh",
        &["memory"],
        "memory.high",
        bytes(limits.memory_high),
    );
    add("swap", &["memory"], "memory.swap.max", bytes(limits.swap));
    add("pids", &["pids"], "pids.max", number(limits.pids));
    add("ioWeight", IO, "io.weight", number(limits.io_weight));
    for (path, limits) in &limits.io {
        let device = device(Path::new(path)).with_context(|| format!("limits.io.{path:?}"))?;
        add("io", IO, "io.max", Some(line(&device, limits)));
    }
    Ok(settings)
}

fn line(device: &str, limits: &IoLimits) -> String {
    let parts = [
        ("rbps", limits.read_bps.map(Bytes::get)),
        ("wbps", limits.write_bps.map(Bytes::get)),
        ("riops", limits.read_iops.map(u64::from)),
        ("wiops", limits.write_iops.map(u64::from)),
    ];
    let given = parts
        .into_iter()
        .filter_map(|(key, value)| Some(format!(" {key}={}", value?)));
    [device.to_owned()].into_iter().chain(given).collect()
}

/// The disk that is at `path`, or that its file system is on, as `MAJOR:MINOR`. The kernel limits
/// whole disks (`blkg_conf_open_bdev`).
fn device(path: &Path) -> Result<String> {
    let cannot = || format!("cannot look at {}", path.display());
    let facts = fs::metadata(path).with_context(cannot)?;
    let number = if facts.file_type().is_block_device() {
        facts.rdev()
    } else {
        facts.dev()
    };
    let number = format!("{}:{}", major(number), minor(number));
    let known = Path::new("/sys/dev/block").join(&number);
    if !known.join("partition").exists() {
        return Ok(number);
    }
    // A partition is a folder in its disk's.
    let disk = fs::canonicalize(&known).with_context(cannot)?;
    let disk = fs::read_to_string(disk.join("../dev")).with_context(cannot)?;
    Ok(disk.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_a_line_in_a_file() {
        let limits: Limits = serde_json::from_str(
            r#"{ "cpu": "150%", "cpuWeight": 50, "cpus": "0-1", "memory": "1G", "memoryHigh": "512M",
                 "swap": "0K", "pids": 64, "ioWeight": 10 }"#,
        )
        .unwrap();
        let settings = of(&limits).unwrap();
        let lines: Vec<_> = settings
            .iter()
            .map(|set| (set.file, set.value.as_str()))
            .collect();
        let expected = [
            ("cpu.max", "150000 100000"),
            ("cpu.weight", "50"),
            ("cpuset.cpus", "0-1"),
            ("memory.max", "1073741824"),
            ("memory.high", "536870912"),
            ("memory.swap.max", "0"),
            ("pids.max", "64"),
            ("io.weight", "10"),
        ];
        assert_eq!(lines, expected);
        let is_its_controllers = |set: &Setting| set.file.starts_with(set.controllers[0]);
        assert!(settings.iter().all(is_its_controllers));
    }

    #[test]
    fn a_disk_is_named_by_its_number() {
        let limits: IoLimits =
            serde_json::from_str(r#"{ "readBps": "1M", "writeIops": 5 }"#).unwrap();
        assert_eq!(line("8:0", &limits), "8:0 rbps=1048576 wiops=5");
        let number = device(Path::new("/")).unwrap();
        let (major, minor) = number.split_once(':').unwrap();
        assert!(major.parse::<u32>().is_ok() && minor.parse::<u32>().is_ok());
        let error = of(&serde_json::from_str(r#"{ "io": { "/no/disk": {} } }"#).unwrap());
        assert!(format!("{:#}", error.unwrap_err()).starts_with("limits.io.\"/no/disk\": cannot"));
    }
}
