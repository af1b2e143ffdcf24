//! Where this process is among the control groups, and what its group can give.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Refused;

/// Groups of this process, a line for each hierarchy (`cgroups(7)`, `/proc/[pid]/cgroup`).
const GROUPS: &str = "/proc/self/cgroup";

/// The folder of this process's own group.
///
/// # Errors
/// The host has no control groups of version 2.
pub fn own() -> Result<PathBuf> {
    let read = |path| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
    let (groups, mounts) = (read(GROUPS)?, read("/proc/self/mountinfo")?);
    match folder(&groups, &mounts) {
        Some(folder) => Ok(folder),
        None => bail!(
            "cannot keep `limits`: this host has no control groups of version 2 (cgroup2) mounted"
        ),
    }
}

fn folder(groups: &str, mounts: &str) -> Option<PathBuf> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        // `proc_pid_mountinfo(5)`: fields in order, then " - " and the file system.
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        if kind.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let below = Path::new(own).strip_prefix(root).ok()?;
        Some(Path::new(point).join(below))
    })
}

/// Whether the group has a controller for those below it.
pub fn has(group: &Path, controller: &str) -> Result<bool> {
    let path = group.join("cgroup.controllers");
    let all =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(all.split_ascii_whitespace().any(|one| one == controller))
}

/// That it has not, in the words of the limit that needs it.
pub fn lacks(group: &Path, key: &str, controller: &str) -> Refused {
    let groups = fs::read_to_string(GROUPS).unwrap_or_default();
    if is_in_version_1(&groups, controller) {
        return Refused::Anyway(anyhow::anyhow!(
            "cannot keep limits.{key}: this host has the control groups of `{controller}` in version 1, \
             and mvm limits machines in version 2 alone"
        ));
    }
    Refused::Elsewhere(format!(
        "cannot keep limits.{key}: the control group {} has no controller `{controller}`",
        group.display()
    ))
}

fn is_in_version_1(groups: &str, controller: &str) -> bool {
    // `HIERARCHY:CONTROLLER,CONTROLLER:PATH`; the controller of version 2 `io` was `blkio`.
    let name = if controller == "io" {
        "blkio"
    } else {
        controller
    };
    let mut lines = groups.lines().filter_map(|line| line.split(':').nth(1));
    lines.any(|controllers| controllers.split(',').any(|one| one == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        25 1 0:22 / /sys rw,nosuid - sysfs sysfs rw\n\
        30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_own_group_is_below_where_they_are_mounted() {
        let of = |groups, mounts| folder(groups, mounts);
        let user = "0::/user.slice/user@1000.service/app.slice/a.scope\n";
        assert_eq!(
            of(user, MOUNTS).unwrap(),
            Path::new("/sys/fs/cgroup/user.slice/user@1000.service/app.slice/a.scope")
        );
        assert_eq!(of("0::/\n", MOUNTS).unwrap(), Path::new("/sys/fs/cgroup/"));
        assert_eq!(of("8:pids:/\n", MOUNTS), None);
        assert_eq!(of("0::/\n", "25 1 0:22 / /sys rw - sysfs sysfs rw\n"), None);
        // One bind mount of a part, in which this process is not.
        let part = "30 25 0:26 /part /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(of("0::/other\n", part), None);
        assert_eq!(
            of("0::/part/a\n", part).unwrap(),
            Path::new("/sys/fs/cgroup/a")
        );
    }

    #[test]
    fn version_1_is_told_from_no_delegation() {
        let hybrid = "8:pids:/\n7:blkio:/\n2:cpu,cpuacct:/a:b\n0::/\n";
        for controller in ["pids", "io", "cpu"] {
            assert!(is_in_version_1(hybrid, controller), "{controller}");
        }
        assert!(!is_in_version_1(hybrid, "memory"));
        assert!(!is_in_version_1("0::/cpu\n", "cpu"));
    }
}
