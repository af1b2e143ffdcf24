//! Signals to `mvm` as events of the loop.
//!
//! The one thing to know: with a terminal in raw mode, Ctrl-C and Ctrl-Z are bytes for the program
//! and no signals to `mvm`. SIGTSTP is then only watched for, as someone may send it, so that the
//! terminal can be restored before `mvm` stops.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::signal::{
    SIGABRT, SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGIO, SIGQUIT, SIGTERM, SIGTSTP, SIGURG, SIGUSR1,
    SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

/// What Ctrl-C stands for.
pub(super) const INTERRUPT: u8 = SIGINT as u8;
/// What asks `mvm` to end.
pub(super) const TERMINATE: u8 = SIGTERM as u8;
/// The terminal has another size.
pub(super) const WINDOW_CHANGED: u8 = SIGWINCH as u8;
/// Someone wants `mvm` to stop.
pub(super) const STOP: u8 = SIGTSTP as u8;
/// `mvm` goes on after it was stopped.
pub(super) const CONTINUED: u8 = SIGCONT as u8;

/// Those that the program gets.
const PASSED_ON: [c_int; 6] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];

/// What else somebody may send to the program of a container: all that mean nothing to this process
/// itself. The first real-time signal is that of its vCPUs.
const PASSED_ON_ALL: [c_int; 4] = [SIGABRT, SIGALRM, SIGIO, SIGURG];
const REAL_TIME: std::ops::RangeInclusive<c_int> = 35..=64;

/// Whether a second signal of this kind means that the user will not wait.
pub(super) fn asks_to_end(signal: u8) -> bool {
    matches!(c_int::from(signal), SIGINT | SIGTERM)
}

/// Where the loop hears of signals.
pub(super) trait Signals {
    /// Readable when there are some.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Their numbers, once each however often they came.
    fn pending(&mut self) -> Vec<u8>;
}

/// Those of this process.
pub(super) struct ProcessSignals(SignalDelivery<UnixStream, SignalOnly>);

impl ProcessSignals {
    /// `with_stop`: also take SIGTSTP, which otherwise stops the process as usual. `all`: also those
    /// that a process rarely gets.
    pub(super) fn new(with_stop: bool, all: bool) -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let mut signals = PASSED_ON.to_vec();
        if all {
            signals.extend(PASSED_ON_ALL.into_iter().chain(REAL_TIME));
        }
        signals.extend([SIGWINCH, SIGCONT]);
        signals.extend(with_stop.then_some(SIGTSTP));
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, signals)?;
        Ok(Self(delivery))
    }
}

impl Signals for ProcessSignals {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }

    fn pending(&mut self) -> Vec<u8> {
        self.0
            .pending()
            .filter_map(|signal| u8::try_from(signal).ok())
            .collect()
    }
}
