#![expect(unsafe_code, reason = "handlers of faults are in no safe crate")]
//! The caller's terminal: its size, and raw mode while a program in a guest has the use of it.
//!
//! The one thing to know: however `mvm` ends, the terminal is restored: by [`RawMode`]'s drop, by the
//! panic hook, or by a handler of the signals that a fault raises. Code that calls `process::exit`
//! calls [`restore`] first. Only SIGKILL leaves it to the shell.

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::process::{Signal, getpgrp, getpid, kill_process};
use rustix::termios::{
    OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr,
};

/// The terminal and its modes before the first change; never replaced, since a handler reads it.
static ORIGINAL: OnceLock<(OwnedFd, Termios)> = OnceLock::new();
/// Whether its modes are other than those.
static IS_RAW: AtomicBool = AtomicBool::new(false);

/// Signals that a fault raises.
const FAULTS: [c_int; 5] = [
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
];
/// What was done on each of them before.
static PREVIOUS: OnceLock<Vec<libc::sigaction>> = OnceLock::new();

/// Keeps the terminal in raw mode until it is dropped.
pub struct RawMode {
    raw: Termios,
}

impl RawMode {
    /// Sets the terminal `fd` to raw mode; `None` if it is no terminal. A process has one terminal:
    /// a second call takes the first one's.
    pub fn enter(fd: impl AsFd) -> Result<Option<Self>> {
        let fd = fd.as_fd();
        if !isatty(fd) {
            return Ok(None);
        }
        if ORIGINAL.get().is_none() {
            let modes = tcgetattr(fd)?;
            let copy = rustix::io::fcntl_dupfd_cloexec(fd, 3)?;
            if ORIGINAL.set((copy, modes)).is_ok() {
                restore_on_panic();
                restore_on_faults().context("cannot watch for faults")?;
            }
        }
        let (_, original) = ORIGINAL.get().context("the terminal has gone")?;
        let mut raw = original.clone();
        raw.make_raw();
        let raw = Self { raw };
        raw.set()?;
        Ok(Some(raw))
    }

    fn set(&self) -> Result<(), Errno> {
        let Some((fd, _)) = ORIGINAL.get() else {
            return Ok(());
        };
        // Before, not after: between the two a fault must find it.
        IS_RAW.store(true, Ordering::SeqCst);
        tcsetattr(fd, OptionalActions::Now, &self.raw)
    }

    /// Restores the terminal and stops the process, as SIGTSTP would; after it goes on, sets raw mode
    /// again.
    pub fn stop_process(&self) {
        restore();
        // SIGSTOP cannot be refused; the call returns once someone sends SIGCONT.
        let _ = kill_process(getpid(), Signal::STOP);
        self.enter_again();
    }

    /// Sets raw mode again after the process was stopped, if the terminal is its own.
    pub fn enter_again(&self) {
        let is_foreground = ORIGINAL
            .get()
            .is_some_and(|(fd, _)| tcgetpgrp(fd).is_ok_and(|group| group == getpgrp()));
        if is_foreground {
            // A terminal that has gone takes no modes.
            let _ = self.set();
        }
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back the modes that it had. Does nothing where none was changed; may be called
/// from a signal handler.
pub fn restore() {
    if IS_RAW.swap(false, Ordering::SeqCst)
        && let Some((fd, modes)) = ORIGINAL.get()
    {
        let _ = tcsetattr(fd, OptionalActions::Now, modes);
    }
}

fn restore_on_panic() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        restore();
        previous(panic);
    }));
}

fn restore_on_faults() -> io::Result<()> {
    let previous = FAULTS.map(|signal| {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: asks for the action and writes it there; it fails for no signal of the list.
        unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
        // SAFETY: all zeroes are an action, too: the default.
        unsafe { action.assume_init() }
    });
    // Set once: this function is called once.
    let _ = PREVIOUS.set(previous.to_vec());
    for (signal, mut action) in FAULTS.into_iter().zip(previous) {
        let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_fault;
        action.sa_sigaction = handler as libc::sighandler_t;
        // On its own stack, since the thread's may be what has run out.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: the handler makes system calls and reads statics that are set by now, both of
        // which are allowed in it (signal-safety(7)).
        if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Restores the terminal and has the signal come again, to what was done on it before.
extern "C" fn on_fault(signal: c_int, facts: *mut libc::siginfo_t, _context: *mut c_void) {
    restore();
    // SAFETY: with SA_SIGINFO the kernel passes a valid pointer.
    let facts = unsafe { &*facts };
    if facts.si_code <= 0 {
        // Sent by a process, so nothing will be run again that raises it.
        // SAFETY: sets no handler.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        // SAFETY: no pointers. It is pending until the handler returns.
        unsafe { libc::raise(signal) };
        return;
    }
    let index = FAULTS.iter().position(|fault| *fault == signal);
    let previous = PREVIOUS
        .get()
        .zip(index)
        .and_then(|(all, index)| all.get(index));
    if let Some(previous) = previous {
        // SAFETY: an action that the kernel gave.
        unsafe { libc::sigaction(signal, previous, std::ptr::null_mut()) };
    }
}

/// A terminal whose size nobody knows, as on the VT100.
pub const VT100: Winsize = Winsize {
    ws_row: 24,
    ws_col: 80,
    ws_xpixel: 0,
    ws_ypixel: 0,
};

/// The size of the terminal that standard input, output or error is; `None` if none of them is one.
pub fn window_size() -> Option<Winsize> {
    let size = |fd: &dyn AsFd| tcgetwinsize(fd.as_fd()).ok();
    size(&io::stdin())
        .or_else(|| size(&io::stdout()))
        .or_else(|| size(&io::stderr()))
}
