//! What a machine may use of the host.

use std::path::Path;

use super::super::limits::{
    MAX_LIMITED_DEVICES, MAX_NOFILE, MAX_PIDS, MAX_WEIGHT, MIN_NOFILE, is_slice,
};
use super::super::{Bytes, Limits};
use super::{Check, Place, quoted};

impl Check {
    pub(super) fn limits(&mut self, limits: &Limits) {
        let here = |key: &'static str| Place::root().key("limits").key(key);
        let mut number = |key, found: Option<u32>, most| {
            let found = found.unwrap_or(1);
            let allowed = format_args!("from 1 to {most}");
            self.expect((1..=most).contains(&found), here(key), allowed, found);
        };
        number("cpuWeight", limits.cpu_weight, MAX_WEIGHT);
        number("pids", limits.pids, MAX_PIDS);
        number("ioWeight", limits.io_weight, MAX_WEIGHT);
        let nofile = limits.nofile.unwrap_or(MIN_NOFILE);
        self.expect(
            (MIN_NOFILE..=MAX_NOFILE).contains(&nofile),
            here("nofile"),
            format_args!("from {MIN_NOFILE} to {MAX_NOFILE}"),
            nofile,
        );
        if let Some(slice) = &limits.slice {
            let allowed = "the name of a slice such as \"machine.slice\"";
            self.expect(is_slice(slice), here("slice"), allowed, quoted(slice));
        }
        if let Some(cpus) = &limits.cpus {
            let allowed = "numbers and ranges of processors such as \"0-3,8\"";
            self.expect(is_cpu_list(cpus), here("cpus"), allowed, quoted(cpus));
        }
        self.expect(
            limits.io.len() <= MAX_LIMITED_DEVICES,
            here("io"),
            format_args!("at most {MAX_LIMITED_DEVICES} devices"),
            limits.io.len(),
        );
        for (path, limits) in limits.io.iter().take(MAX_LIMITED_DEVICES) {
            let place = here("io").key(path.clone());
            self.host_path(Path::new(path), place.clone());
            if !path.starts_with('/') {
                let message = format!("must be named by an absolute path, is {}", quoted(path));
                self.complain(place.clone(), message);
            }
            let numbers = [
                ("readBps", limits.read_bps.map(Bytes::get)),
                ("writeBps", limits.write_bps.map(Bytes::get)),
                ("readIops", limits.read_iops.map(u64::from)),
                ("writeIops", limits.write_iops.map(u64::from)),
            ];
            for (key, number) in numbers {
                let is_good = number != Some(0);
                self.expect(is_good, place.clone().key(key), "more than nothing", 0);
            }
        }
    }
}

/// Whether `text` is as the kernel's lists of processors are.
fn is_cpu_list(text: &str) -> bool {
    let is_number = |text: &str| text.parse::<u32>().is_ok() && !text.starts_with('+');
    text.split(',').all(|item| match item.split_once('-') {
        Some((first, last)) => is_number(first) && is_number(last),
        None => is_number(item),
    })
}
