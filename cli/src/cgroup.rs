//! The control group of a machine (`cgroups(7)`, version 2), which keeps what `limits` says.
//!
//! ```text
//! own group of this process          delegated to this user, or the root of all
//! └── mvm-NAME-PID                   the machine's: its monitor, and what that starts on the host
//! ```
//!
//! The one thing to know: a group that gives controllers to those below it can hold no process
//! itself. So the monitor goes down first; where others are in its group too, systemd is asked for a
//! scope that is its alone. Without limits there is no group. Where they cannot be kept that is an
//! error, as a limit that does not hold is worse than none.

mod place;
mod scope;
mod settings;
mod usage;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::io::Errno;
use settings::Setting;
use vmm::app::Limits;

pub use usage::Usage;

/// A process that was killed is in its group a little longer than its locks and files are there.
const REMOVE_ATTEMPTS: u32 = 40;
const REMOVE_PAUSE: Duration = Duration::from_millis(5);

/// What each machine's group is called, with the machine's name and its process after it.
const PREFIX: &str = "mvm-";

const PROCESSES: &str = "cgroup.procs";
const CHILDREN_HAVE: &str = "cgroup.subtree_control";

/// The group that this process is in; dropping it leaves and removes the group.
pub struct Cgroup {
    parent: PathBuf,
    folder: PathBuf,
    link: PathBuf,
}

impl Cgroup {
    /// Puts this process, which has no other thread yet, into a group with these limits; none if
    /// there are none. `link` will point to the group as long as it is there.
    ///
    /// # Errors
    /// The host cannot keep them, or not for this user.
    pub fn enter(name: &str, limits: &Limits, link: &Path) -> Result<Option<Self>> {
        let settings = settings::of(limits)?;
        let slice = limits.slice.as_deref();
        if let Some(slice) = slice {
            scope::enter_slice(name, slice).context("limits.slice")?;
        }
        if settings.is_empty() {
            return Ok(None);
        }
        let entered = match make(&place::own()?, name, &settings, link) {
            Err(Refused::Elsewhere(reason)) => {
                scope::enter(name, slice).with_context(|| reason)?;
                make(&place::own()?, name, &settings, link)
            }
            other => other,
        };
        match entered {
            Ok(cgroup) => Ok(Some(cgroup)),
            Err(Refused::Elsewhere(reason)) => bail!(reason),
            Err(Refused::Anyway(error)) => Err(error),
        }
    }

    /// Leaves the group, so that it can be removed.
    fn leave(&self) -> io::Result<()> {
        let processes = self.parent.join(PROCESSES);
        match fs::write(&processes, "0") {
            Err(error) if is(&error, Errno::BUSY) => {}
            other => return other,
        }
        // The parent has controllers for those below it, of whom this machine must be the last.
        let others = fs::read_dir(&self.parent)?.flatten();
        let mut others = others.filter(|entry| {
            entry.path() != self.folder && entry.file_type().is_ok_and(|kind| kind.is_dir())
        });
        if others.next().is_some() {
            return Err(Errno::BUSY.into());
        }
        let control = self.parent.join(CHILDREN_HAVE);
        let given = fs::read_to_string(&control)?;
        let without = each_with('-', given.split_ascii_whitespace());
        fs::write(control, without)?;
        fs::write(processes, "0")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // One that cannot be left is empty when this process has ended, and then a ghost's.
        if self.leave().is_ok() {
            let _ = remove(&self.link);
        }
    }
}

/// Why there is no group.
enum Refused {
    /// Not below this one: why, and another may do.
    Elsewhere(String),
    /// Nor below any other.
    Anyway(anyhow::Error),
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self::Anyway(error)
    }
}

/// Makes a group below `parent`, enters it and sets its limits.
fn make(parent: &Path, name: &str, settings: &[Setting], link: &Path) -> Result<Cgroup, Refused> {
    let shown = parent.display();
    let mut wanted = BTreeSet::new();
    for setting in settings {
        for controller in setting.controllers {
            if !place::has(parent, controller)? {
                return Err(place::lacks(parent, setting.key, controller));
            }
            wanted.insert(*controller);
        }
    }
    let folder = parent.join(format!("{PREFIX}{name}-{}", std::process::id()));
    symlink(&folder, link).with_context(|| format!("cannot make {}", link.display()))?;
    let cgroup = Cgroup {
        parent: parent.to_owned(),
        folder,
        link: link.to_owned(),
    };
    match fs::create_dir(&cgroup.folder) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let reason = format!("the control group {shown} is not delegated to this user");
            return Err(Refused::Elsewhere(reason));
        }
        other => other.with_context(|| format!("cannot make a control group in {shown}"))?,
    }
    write(&cgroup.folder, PROCESSES, "0")?;
    let controllers = each_with('+', wanted.into_iter());
    match fs::write(parent.join(CHILDREN_HAVE), &controllers) {
        Err(error) if is(&error, Errno::BUSY) => {
            let reason = format!("the control group {shown} has other programs in it");
            return Err(Refused::Elsewhere(reason));
        }
        other => other.with_context(|| format!("cannot divide the control group {shown}"))?,
    }
    for setting in settings {
        let key = setting.key;
        write(&cgroup.folder, setting.file, &setting.value)
            .with_context(|| format!("limits.{key}"))?;
    }
    Ok(cgroup)
}

/// Controllers as the kernel is told to give them, or to take them away.
fn each_with<'a>(sign: char, controllers: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<_> = controllers.map(|name| format!("{sign}{name}")).collect();
    words.join(" ")
}

fn write(folder: &Path, file: &str, value: &str) -> Result<()> {
    let path = folder.join(file);
    fs::write(&path, value).with_context(|| format!("cannot write {value:?} to {}", path.display()))
}

/// Removes the group that `link` points to, and then the link. Nothing to do is no error.
///
/// # Errors
/// Something is in the group, or it is not a machine's.
pub fn remove(link: &Path) -> Result<()> {
    let folder = match fs::read_link(link) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.with_context(|| format!("cannot read {}", link.display()))?,
    };
    let is_machines = folder
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()));
    if !is_machines {
        return Err(anyhow!("{} is not a machine's", folder.display()));
    }
    let mut attempts = REMOVE_ATTEMPTS;
    loop {
        match fs::remove_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            Err(error) if is(&error, Errno::BUSY) && attempts > 0 => {
                attempts -= 1;
                thread::sleep(REMOVE_PAUSE);
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot remove {}", folder.display()));
            }
            Ok(()) => break,
        }
    }
    fs::remove_file(link).with_context(|| format!("cannot remove {}", link.display()))
}

/// How often the kernel has ended a process of the group that `link` points to for want of memory.
pub fn oom_kills(link: &Path) -> u64 {
    let events = fs::read_to_string(link.join("memory.events")).unwrap_or_default();
    usage::counter(&events, "oom_kill").unwrap_or(0)
}

fn is(error: &io::Error, errno: Errno) -> bool {
    Errno::from_io_error(error) == Some(errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_limits_has_no_group() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("cgroup");
        assert!(
            Cgroup::enter("web", &Limits::default(), &link)
                .unwrap()
                .is_none()
        );
        assert!(fs::symlink_metadata(&link).is_err());
    }

    #[test]
    fn what_the_kernel_has_ended_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(oom_kills(folder.path()), 0);
        let events = "low 0\nmax 7\noom 1\noom_kill 2\n";
        fs::write(folder.path().join("memory.events"), events).unwrap();
        assert_eq!(oom_kills(folder.path()), 2);
    }

    #[test]
    fn what_a_link_points_to_goes_only_if_it_is_a_machines() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("cgroup");
        remove(&link).unwrap();
        let group = folder.path().join("mvm-web-1");
        fs::create_dir(&group).unwrap();
        symlink(&group, &link).unwrap();
        remove(&link).unwrap();
        assert!(!group.exists() && fs::symlink_metadata(&link).is_err());

        let other = folder.path().join("session.scope");
        fs::create_dir(&other).unwrap();
        symlink(&other, &link).unwrap();
        assert!(remove(&link).is_err());
        assert!(other.exists());
    }
}
