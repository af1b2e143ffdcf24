//! How a machine ended: the status and the words, from what is known of its program, its guest and
//! its processors.

use std::process::ExitCode;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use anyhow::{Context, anyhow};
use vmm::machine::Running;
use vmm::vcpu::Exit;

use crate::attach::{Closed, Outcome};
use crate::output::say;

/// For a machine to tell how it ended, once it has closed the stream to its guest.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Lines of the kernel's that an error shows.
const CONSOLE_LINES: usize = 12;

/// A program's end.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// The exit status for whoever started it.
    pub status: u8,
    /// Why, if the program was not started.
    pub reason: Option<String>,
    /// Whether the machine is to be started again: its system rebooted.
    pub reboots: bool,
}

impl Ended {
    fn with(status: u8) -> Self {
        Self {
            status,
            reason: None,
            reboots: false,
        }
    }

    /// Says why, if there is a reason, and returns what this process ends with.
    pub fn tell(self) -> ExitCode {
        if let Some(reason) = self.reason {
            say(format_args!("{reason}"));
        }
        self.status.into()
    }
}

/// The machine's end, given how the program did and, where it did not, how its machine did.
pub fn of(
    finished: anyhow::Result<Outcome>,
    ended: &Receiver<Exit>,
    running: &Running,
    is_system: bool,
) -> anyhow::Result<Ended> {
    let ended = match finished {
        Ok(Outcome::Refused { code, message }) => Ok(Ended {
            reason: Some(message),
            ..Ended::with(code)
        }),
        Ok(Outcome::Lost) => ended
            .recv()
            .context("a thread of the monitor panicked")
            .and_then(|exit| after_the_end(exit, running.console.panic(), is_system)),
        Ok(outcome) => Ok(Ended::with(outcome.status())),
        Err(error) => {
            // The parts of a machine that ends close the stream, maybe before its end is told.
            let end = if error.is::<Closed>() {
                ended.recv_timeout(END_TIMEOUT).ok()
            } else {
                ended.try_recv().ok()
            };
            Err(after_a_failure(error, end, running.console.panic()))
        }
    };
    ended.map_err(|error| with_console(error, running))
}

/// The status when the machine ended and the program did not say how it did.
fn after_the_end(exit: Exit, panic: Option<String>, is_system: bool) -> anyhow::Result<Ended> {
    let is_reset = matches!(exit, Exit::Reset);
    match fault(exit, panic) {
        Some(error) => Err(error),
        None if is_reset && is_system => Ok(Ended {
            reboots: true,
            ..Ended::with(0)
        }),
        None if is_reset => Err(anyhow!("the guest reset its machine, which ends it")),
        // As the program asked.
        None => Ok(Ended::with(0)),
    }
}

/// The error when the guest failed, whether the machine's end was seen by then or not. A guest that
/// fails ends its machine itself, so an end that it asked for says less than the error.
fn after_a_failure(
    error: anyhow::Error,
    end: Option<Exit>,
    panic: Option<String>,
) -> anyhow::Error {
    let Some(exit) = end else {
        return error;
    };
    let how = match exit {
        Exit::Reset if error.is::<Closed>() => Some("reset its machine"),
        Exit::Off if error.is::<Closed>() => Some("switched its machine off"),
        _ => None,
    };
    match (fault(exit, panic), how) {
        (Some(fault), _) => fault,
        (None, Some(how)) => anyhow!("the guest {how} before its program was started"),
        (None, None) => error,
    }
}

/// What was wrong with a machine that ended, unless its guest asked for the end.
fn fault(exit: Exit, panic: Option<String>) -> Option<anyhow::Error> {
    match exit {
        Exit::Failed(error) => Some(error.context("the machine stopped")),
        // Behind its back trace the line may be out of sight.
        Exit::Off | Exit::Reset => panic.map(|line| anyhow!("the guest's kernel panicked: {line}")),
    }
}

/// Adds what the kernel said last.
fn with_console(error: anyhow::Error, running: &Running) -> anyhow::Error {
    let lines = running.console.last_lines(CONSOLE_LINES);
    if lines.is_empty() {
        return error;
    }
    anyhow!(
        "{error:#}\nthe guest's kernel said last:\n  {}",
        lines.join("\n  ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(error: &anyhow::Error) -> String {
        format!("{error:#}")
    }

    const PANIC: &str = "Kernel panic - not syncing: no init";

    #[test]
    fn a_guest_that_failed_is_an_error_however_its_machine_ended() {
        for end in [None, Some(Exit::Off), Some(Exit::Reset)] {
            let error = after_a_failure(anyhow!("the guest failed: no such device"), end, None);
            assert_eq!(words(&error), "the guest failed: no such device");
        }
    }

    #[test]
    fn a_guest_that_ended_its_machine_without_a_word_is_told_so() {
        let closed = || anyhow!(Closed).context("cannot greet the guest");
        let before = "before its program was started";
        for (end, how) in [
            (Exit::Reset, format!("the guest reset its machine {before}")),
            (
                Exit::Off,
                format!("the guest switched its machine off {before}"),
            ),
        ] {
            assert_eq!(words(&after_a_failure(closed(), Some(end), None)), how);
        }
        let unknown = after_a_failure(closed(), None, None);
        assert_eq!(
            words(&unknown),
            "cannot greet the guest: it closed the connection"
        );
    }

    #[test]
    fn an_end_that_no_guest_asks_for_explains_its_silence() {
        let silent = || anyhow!("it closed the connection");
        let stopped = after_a_failure(silent(), Some(Exit::Failed(anyhow!("EIO"))), None);
        assert_eq!(words(&stopped), "the machine stopped: EIO");
        let panicked = after_a_failure(silent(), Some(Exit::Reset), Some(PANIC.into()));
        assert_eq!(
            words(&panicked),
            format!("the guest's kernel panicked: {PANIC}")
        );
    }

    #[test]
    fn power_off_alone_is_a_good_end() {
        for is_system in [false, true] {
            let off = after_the_end(Exit::Off, None, is_system).unwrap();
            assert_eq!(off, Ended::with(0));
        }
        let reset = after_the_end(Exit::Reset, None, false).unwrap_err();
        assert_eq!(words(&reset), "the guest reset its machine, which ends it");
        assert!(after_the_end(Exit::Off, Some(PANIC.into()), true).is_err());
        assert!(after_the_end(Exit::Failed(anyhow!("EIO")), None, true).is_err());
    }

    #[test]
    fn a_system_that_resets_its_machine_reboots_unless_its_kernel_panicked() {
        let reset = |panic| after_the_end(Exit::Reset, panic, true);
        assert!(reset(None).unwrap().reboots);
        let panicked = reset(Some(PANIC.into())).unwrap_err();
        assert_eq!(
            words(&panicked),
            format!("the guest's kernel panicked: {PANIC}")
        );
    }
}
