//! Whether machines run inside that nobody waits for: asked before the emulated host ends for want of
//! commands.
//!
//! The one who asks is a command like any other, so that there is one way in.

use std::env;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};

use super::sessions::ClientId;

/// The status of `mvm emulator busy` where no machine runs.
const NONE: i32 = 1;

/// A look that somebody has gone to take.
pub struct LastLook {
    child: Child,
    /// The client that it is, or somebody who was faster.
    client: ClientId,
}

impl LastLook {
    /// Sends somebody; `next`: the client that comes next.
    ///
    /// # Errors
    /// The host has no process left.
    pub fn start(next: ClientId) -> Result<Self> {
        let program = env::current_exe().context("cannot tell where mvm is")?;
        let child = Command::new(&program)
            .args(["emulator", "exec", "--"])
            .arg(&program)
            .args(["emulator", "busy"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start a process")?;
        Ok(Self {
            child,
            client: next,
        })
    }

    /// What was seen; `None` as long as it is not known. `next`: as before.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub fn seen(&mut self, next: ClientId) -> Result<Option<Seen>> {
        let status = self.child.try_wait().context("cannot wait for a process")?;
        Ok(status.map(|status| Seen::of(status, next == self.client + 1)))
    }
}

/// What a look has shown.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// No machine runs, and nobody can have started one since.
    Nothing,
    /// There may be one.
    Something,
}

impl Seen {
    fn of(status: ExitStatus, was_alone: bool) -> Self {
        if status.code() == Some(NONE) && was_alone {
            Self::Nothing
        } else {
            Self::Something
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn only_a_clear_answer_that_is_not_old_says_nothing() {
        let exited = |code: i32| ExitStatus::from_raw(code << 8);
        assert_eq!(Seen::of(exited(1), true), Seen::Nothing);
        for (status, was_alone) in [
            (exited(1), false),
            (exited(0), true),
            (exited(125), true),
            (ExitStatus::from_raw(9), true),
        ] {
            assert_eq!(Seen::of(status, was_alone), Seen::Something);
        }
    }
}
