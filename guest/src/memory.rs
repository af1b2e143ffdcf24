//! How often the guest's kernel has ended a program for want of memory.

use std::fs;

use anyhow::{Context, Result};

use crate::protocol::{ByteString, Exec};

/// Has `mvm-init` print the number.
pub const OOM_KILLS: &str = "oom-kills";

/// What the host has executed, as root. The agent is this program, wherever its file is.
pub fn execution() -> Exec {
    Exec {
        argv: ["/proc/self/exe", OOM_KILLS].map(ByteString::from).into(),
        ..Exec::default()
    }
}

/// The number, since the guest's start.
pub(crate) fn oom_kills() -> Result<u64> {
    let text = fs::read_to_string("/proc/vmstat").context("cannot read /proc/vmstat")?;
    find(&text).context("this kernel does not count")
}

fn find(vmstat: &str) -> Option<u64> {
    let mut lines = vmstat.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == "oom_kill")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_among_others() {
        assert_eq!(find("oom_kill_disable 7\noom_kill 2\npgfault 9\n"), Some(2));
        assert_eq!(find("pgfault 9\n"), None);
        oom_kills().unwrap();
    }
}
