//! What happens to machines, a line of JSON each, in one file for all of a user's.
//!
//! The one thing to know: there is no daemon, so whoever does something to a machine notes it here.
//! The file's lock keeps lines whole and in order; the oldest go when it is full. An event that
//! cannot be noted, on a full disk for instance, is lost, and what it is about goes on.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::logs::Rotating;
use crate::machines::record::End;
use crate::places;

/// Something that has happened to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// The machine.
    pub name: String,
    /// What.
    #[serde(flatten)]
    pub happened: Happened,
}

/// What can happen to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Happened {
    /// It is kept from now on.
    Created,
    /// Its program runs.
    Started,
    /// It is what its file means by ready.
    Ready,
    /// A check has succeeded, and the one before had not.
    Healthy,
    /// Checks have failed too often.
    Unhealthy {
        /// What the last one said.
        why: String,
    },
    /// A kernel has ended its program, or its monitor, for want of memory.
    Oom {
        /// Whose.
        kernel: Kernel,
    },
    /// Its program has not said in time that it lives.
    Watchdog,
    /// Its program has ended, or its monitor was killed.
    Died {
        /// Its exit status.
        status: u8,
        /// Why, if it was not the program's own end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// It is started again, by its policy or by a user.
    Restarted,
    /// Its processors were stopped.
    Paused,
    /// Its processors were started again.
    Unpaused,
    /// A user has stopped it.
    Stopped,
    /// Nothing is kept of it any more.
    Removed,
}

/// What each is called, in the order of [`Happened`].
pub const KINDS: [&str; 13] = [
    "created",
    "started",
    "ready",
    "healthy",
    "unhealthy",
    "oom",
    "watchdog",
    "died",
    "restarted",
    "paused",
    "unpaused",
    "stopped",
    "removed",
];

/// Who is short of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kernel {
    /// The machine: what `memory` gives it.
    Guest,
    /// The machine's control group: what `limits.memory` allows.
    Host,
}

impl Happened {
    /// A machine's end.
    pub fn died(end: &End) -> Self {
        Self::Died {
            status: end.status,
            reason: end.reason.clone(),
        }
    }
}

/// Notes that something has happened to the machine `name`.
pub fn note(name: &str, happened: Happened) {
    let event = Event {
        time: Timestamp::now(),
        name: name.into(),
        happened,
    };
    let _ = path().and_then(|path| append(&path, &event));
}

/// The file of all events.
///
/// # Errors
/// Nothing says where this user's files are.
pub fn path() -> anyhow::Result<PathBuf> {
    Ok(places::state()?.join("events.jsonl"))
}

fn append(path: &Path, event: &Event) -> anyhow::Result<()> {
    let folder = path.parent().context("there is no folder")?;
    places::private(folder)?;
    let mut options = OpenOptions::new();
    let lock = options.create(true).append(true).mode(0o600);
    let lock = lock.open(folder.join("events.lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    // Opened under the lock: another process may have set the last file aside.
    Rotating::open(path)?.write_all(&line)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    fn event(name: &str, happened: Happened) -> Event {
        Event {
            time: Timestamp::UNIX_EPOCH,
            name: name.into(),
            happened,
        }
    }

    #[test]
    fn an_event_is_a_flat_line() {
        let died = event(
            "web",
            Happened::Died {
                status: 3,
                reason: None,
            },
        );
        let line = serde_json::to_string(&died).unwrap();
        assert_eq!(
            line,
            r#"{"time":"1970-01-01T00:00:00Z","name":"web","event":"died","status":3}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), died);
    }

    #[test]
    fn all_kinds_are_known() {
        let unknown = serde_json::json!({ "event": "?" });
        let error = serde_json::from_value::<Happened>(unknown).unwrap_err();
        // "unknown variant `?`, expected one of `created`, ..."
        let words = error.to_string();
        let kinds: Vec<_> = words.split('`').skip(3).step_by(2).collect();
        assert_eq!(kinds, KINDS);
    }

    #[test]
    fn lines_of_many_at_once_stay_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/events.jsonl");
        let why = "x".repeat(5000);
        thread::scope(|scope| {
            for nth in 0..8 {
                let (path, why) = (&path, why.clone());
                scope.spawn(move || {
                    for _ in 0..20 {
                        let happened = Happened::Unhealthy { why: why.clone() };
                        append(path, &event(&nth.to_string(), happened)).unwrap();
                    }
                });
            }
        });
        let text = fs::read_to_string(&path).unwrap();
        let events: Vec<Event> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(events.len(), 160);
    }
}
