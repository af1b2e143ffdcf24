#![expect(
    unsafe_code,
    reason = "descriptors come by number, and the environment is changed"
)]
//! Sockets that systemd listens at for a service and hands over when it starts it
//! (`sd_listen_fds(3)`): as descriptors from 3 on, with their number and names in the environment.
//!
//! Our own few lines, as a crate would leave both unsafe steps to us.
//!
//! The one thing to know: they are taken once, before there is a thread or a child, and the
//! variables go then, so nobody else takes them for its own. Inside the emulated host there are
//! names alone: `emulator::Keeper` has the sockets, outside.

use std::env;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use vmm::app::Port;
use vmm::net::Handed;

use crate::output::say;

/// Sockets of one service: far more than one listens at, and fewer than one message carries
/// (`SCM_MAX_FD`).
pub const MAX_SOCKETS: usize = 64;

/// Names the keeper's socket to those inside.
pub const KEEPER: &str = "MVM_SOCKETS";

/// The names, with ":" between them.
pub const NAMES: &str = "LISTEN_FDNAMES";

/// For which process they are, and how many.
const PROCESS: &str = "LISTEN_PID";
const COUNT: &str = "LISTEN_FDS";

/// The first descriptor (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// What one is called that has no name.
const UNKNOWN: &str = "unknown";

/// The sockets of this process.
#[derive(Debug, Default)]
pub struct Sockets {
    /// In their order.
    names: Vec<String>,
    /// They themselves, unless somebody keeps them.
    pub handed: Handed,
    /// Who keeps them, outside of the emulated host.
    pub keeper: Option<PathBuf>,
}

impl Sockets {
    /// Takes those that systemd has handed to this process.
    ///
    /// # Errors
    /// One is missing or not of the kind that can be used.
    pub fn receive() -> Result<Self> {
        let keeper = env::var_os(KEEPER).map(PathBuf::from);
        let names = env::var(NAMES).ok();
        let count = count(env::var(PROCESS).ok().as_deref(), env::var(COUNT).ok())?;
        for name in [KEEPER, NAMES, PROCESS, COUNT] {
            // SAFETY: no other thread runs yet that could read the environment.
            unsafe { env::remove_var(name) };
        }
        if keeper.is_some() {
            let names = names.unwrap_or_default();
            return Ok(Self {
                names: names.split(':').map(Into::into).collect(),
                handed: Handed::default(),
                keeper,
            });
        }
        let names = names_of(count, names.as_deref())?;
        let sockets = names.iter().zip(FIRST..);
        let sockets = sockets.map(|(name, number)| Ok((name.clone(), take(number)?)));
        let handed = Handed::new(sockets.collect::<Result<_>>()?)?;
        Ok(Self {
            names,
            handed,
            keeper: None,
        })
    }

    /// Those that `keeper` keeps of this process' own.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Says which of them lead nowhere.
    pub fn tell_unused(&self, ports: &[Port]) {
        for name in unused(&self.names, ports) {
            say(format_args!(
                "nobody answers at the socket {name:?} that systemd has handed over: no port of the \
                 file has the host's end \"systemd:{name}\""
            ));
        }
    }
}

/// How many are for this process.
fn count(process: Option<&str>, count: Option<String>) -> Result<usize> {
    // Those of a parent that left the variables are not ours.
    if process.and_then(|id| id.parse().ok()) != Some(std::process::id()) {
        return Ok(0);
    }
    let Some(count) = count else {
        return Ok(0);
    };
    let number = count.parse().ok().filter(|count| *count <= MAX_SOCKETS);
    number.with_context(|| format!("${COUNT}: must be at most {MAX_SOCKETS}, is {count:?}"))
}

/// A name for each.
fn names_of(count: usize, names: Option<&str>) -> Result<Vec<String>> {
    let Some(names) = names.filter(|_| count > 0) else {
        return Ok(vec![UNKNOWN.into(); count]);
    };
    let names: Vec<String> = names.split(':').map(Into::into).collect();
    ensure!(
        names.len() == count,
        "${NAMES}: must be {count} names, are {}",
        names.len()
    );
    Ok(names)
}

/// Takes a descriptor that was there from the start of this process.
fn take(number: RawFd) -> Result<OwnedFd> {
    let cannot = || format!("${COUNT}: cannot use descriptor {number}");
    let path = format!("/proc/self/fd/{number}");
    ensure!(Path::new(&path).is_symlink(), cannot());
    // SAFETY: it is open, and the variables that gave it to this process are gone, so that nobody
    // takes it again.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    let flags = fcntl_getfd(&socket).with_context(cannot)?;
    fcntl_setfd(&socket, flags | FdFlags::CLOEXEC).with_context(cannot)?;
    Ok(socket)
}

/// Names that no port has.
fn unused<'a>(names: &'a [String], ports: &[Port]) -> Vec<&'a str> {
    let is_used = |name: &str| ports.iter().any(|port| port.host.handed() == Some(name));
    let mut unused: Vec<_> = names.iter().map(String::as_str).collect();
    unused.retain(|name| !is_used(name));
    unused.dedup();
    unused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_those_of_this_process_alone() {
        let own = std::process::id().to_string();
        let two = || Some("2".to_owned());
        assert_eq!(count(Some(&own), two()).unwrap(), 2);
        assert_eq!(count(Some("1"), two()).unwrap(), 0);
        assert_eq!(count(None, two()).unwrap(), 0);
        assert_eq!(count(Some(&own), None).unwrap(), 0);
        for wrong in ["", "-1", "65", "two"] {
            let error = count(Some(&own), Some(wrong.into())).unwrap_err();
            let expected = format!("$LISTEN_FDS: must be at most 64, is {wrong:?}");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn each_has_a_name() {
        assert_eq!(names_of(2, Some("web:api")).unwrap(), ["web", "api"]);
        assert_eq!(names_of(2, None).unwrap(), ["unknown", "unknown"]);
        assert!(names_of(0, Some("")).unwrap().is_empty());
        assert!(names_of(2, Some("web")).is_err());
    }

    #[test]
    fn a_descriptor_that_is_not_open_is_told() {
        let error = take(RawFd::MAX).unwrap_err().to_string();
        assert_eq!(error, "$LISTEN_FDS: cannot use descriptor 2147483647");
    }

    #[test]
    fn those_that_no_port_names_are_found() {
        let names = ["web", "web", "api", "dns", "dns"].map(String::from);
        let ports = ["systemd:api:80".parse().unwrap(), ":81".parse().unwrap()];
        assert_eq!(unused(&names, &ports), ["web", "dns"]);
    }
}
