#![expect(
    unsafe_code,
    reason = "fork, execve, kill by number and signalfd are in no safe crate"
)]
//! Processes: starting one, signalling its group, hearing of those that ended.
//!
//! The one thing to know: between fork and execve the child calls only async-signal-safe functions
//! and allocates nothing, so it is right in a process with threads, too (signal-safety(7)).
//! `std::process::Command` is not used since it cannot say which step failed, and since it brings
//! 60 KiB along.

use std::ffi::{CString, c_char, c_int};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::program::{Program, Refusal, Step};
use super::whereabouts;
use crate::protocol::Init;

/// What a child reports about the step that failed: step, errno, candidate.
const REPORT_SIZE: usize = 12;

/// The descriptors that become 0, 1 and 2. They must be above 2.
pub(super) struct Streams<'a> {
    pub(super) stdin: BorrowedFd<'a>,
    pub(super) stdout: BorrowedFd<'a>,
    pub(super) stderr: BorrowedFd<'a>,
    /// Whether they are a terminal, which becomes the controlling one.
    pub(super) terminal: bool,
}

/// Starts `program` as the leader of a new session, with default signals. Returns when execve
/// succeeded, or says why not.
pub(super) fn spawn(program: &Program, streams: &Streams<'_>) -> Result<Pid, Refusal> {
    let argv = pointers(&program.argv);
    let env = pointers(&program.env);
    let (report, child_report) = pipe_with(PipeFlags::CLOEXEC).map_err(cannot_start)?;
    // SAFETY: the child runs `become_program` alone, which allocates nothing, takes no lock and
    // does not return.
    let pid = match unsafe { libc::fork() } {
        0 => become_program(program, &argv, &env, streams, child_report.as_raw_fd()),
        pid => pid,
    };
    let pid = Pid::from_raw(pid).filter(|_| pid > 0).ok_or_else(no_fork)?;
    drop(child_report);
    failure(program, &report)?.map_or(Ok(pid), |refusal| {
        // It has exited or is about to: this does not block for long.
        let _ = waitpid(Some(pid), WaitOptions::empty());
        Err(refusal)
    })
}

/// Has this process, process 1, become `program`. Returns in a child, which is the agent from here
/// on, when execve succeeded, or says why not.
///
/// The agent keeps what is mounted until it joins the system ([`super::whereabouts`]). It needs a
/// namespace of its own for that: process 1 must stay in the first one, where the kernel looks for the
/// programs that it starts itself.
pub(super) fn become_init(
    program: &Program,
    init: Init,
    streams: &Streams<'_>,
) -> Result<Pid, Refusal> {
    let argv = pointers(&program.argv);
    let env = pointers(&program.env);
    let (report, parent_report) = pipe_with(PipeFlags::CLOEXEC).map_err(cannot_start)?;
    let (parent_apart, apart) = pipe_with(PipeFlags::CLOEXEC).map_err(cannot_start)?;
    // SAFETY: there is one thread, so that the child goes on where the parent was; that runs
    // `leave_bare` and `become_program` alone, of which the latter does not return.
    match unsafe { libc::fork() } {
        -1 => return Err(no_fork()),
        0 => {}
        _ => {
            if init == Init::Stage1 {
                drop(apart);
                leave_bare(&parent_apart);
            }
            become_program(program, &argv, &env, streams, parent_report.as_raw_fd())
        }
    }
    drop(parent_report);
    if init == Init::Stage1 {
        whereabouts::part().map_err(cannot_start)?;
    }
    drop(apart);
    failure(program, &report)?.map_or(Ok(Pid::INIT), Err)
}

/// Waits until the agent has its own namespace, and takes off all that is mounted in this one.
fn leave_bare(apart: &OwnedFd) {
    let mut byte = [0];
    // SAFETY: reads at most one byte into an array of that size.
    unsafe { libc::read(apart.as_raw_fd(), byte.as_mut_ptr().cast(), 1) };
    for mount_point in [c"/dev", c"/sys", c"/proc"] {
        // With all that is mounted below. What stays is a nuisance to a stage 1, and no more.
        // SAFETY: a string that ends in NUL.
        unsafe { libc::umount2(mount_point.as_ptr(), libc::MNT_DETACH) };
    }
}

fn cannot_start(errno: Errno) -> Refusal {
    let words = super::program::words(errno);
    Refusal::new(125, format!("cannot start a process: {words}"))
}

fn no_fork() -> Refusal {
    let error = io::Error::last_os_error();
    cannot_start(Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))
}

/// Waits until the other process has executed the program, or returns why it did not.
fn failure(program: &Program, report: &OwnedFd) -> Result<Option<Refusal>, Refusal> {
    let mut bytes = [0; REPORT_SIZE];
    let count = loop {
        match rustix::io::read(report, &mut bytes) {
            Err(Errno::INTR) => {}
            other => break other.map_err(cannot_start)?,
        }
    };
    if count < REPORT_SIZE {
        return Ok(None);
    }
    let [step, errno, candidate] = decode(bytes);
    let errno = Errno::from_raw_os_error(errno.cast_signed());
    let step = [
        Step::Session,
        Step::Terminal,
        Step::Descriptors,
        Step::Limits,
        Step::Groups,
        Step::Group,
        Step::User,
        Step::Folder,
    ]
    .into_iter()
    .find(|known| *known as u32 == step)
    .unwrap_or(Step::Execute);
    let refusal = program.refusal(step, errno, candidate as usize);
    Ok(Some(refusal))
}

/// Pointers to strings as execve wants them, the last one null.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    let strings = strings.iter().map(|string| string.as_ptr());
    strings.chain([std::ptr::null()]).collect()
}

/// The part of the process that becomes the program.
fn become_program(
    program: &Program,
    argv: &[*const c_char],
    env: &[*const c_char],
    streams: &Streams<'_>,
    report: RawFd,
) -> ! {
    let candidates = &program.candidates;
    let (step, errno, candidate) = prepare(program, streams).map_or_else(
        |(step, errno)| (step, errno, candidates.len()),
        |()| {
            let (errno, candidate) = execute(candidates, argv, env);
            (Step::Execute, errno, candidate)
        },
    );
    let bytes = encode([step as u32, errno.cast_unsigned(), candidate as u32]);
    // SAFETY: writes from a local array of that size; up to PIPE_BUF bytes are one write.
    unsafe { libc::write(report, bytes.as_ptr().cast(), REPORT_SIZE) };
    // SAFETY: takes nothing. Without a process 1 the kernel panics before the failure is told.
    while unsafe { libc::getpid() } == 1 {
        // SAFETY: takes nothing.
        unsafe { libc::pause() };
    }
    // SAFETY: ends the child without running what belongs to its parent (atexit, destructors).
    unsafe { libc::_exit(127) }
}

/// Makes the child what the program shall find itself as.
fn prepare(program: &Program, streams: &Streams<'_>) -> Result<(), (Step, c_int)> {
    reset_signals();
    // SAFETY: no pointers.
    check(Step::Session, unsafe { libc::setsid() })?;
    if streams.terminal {
        let terminal = streams.stdin.as_raw_fd();
        // SAFETY: TIOCSCTTY takes a number, no pointer.
        check(Step::Terminal, unsafe {
            libc::ioctl(terminal, libc::TIOCSCTTY, 0)
        })?;
    }
    let streams = [streams.stdin, streams.stdout, streams.stderr];
    for (target, stream) in (0..).zip(streams) {
        // SAFETY: both are open or are reported as not; dup2 clears FD_CLOEXEC of the copy.
        check(Step::Descriptors, unsafe {
            libc::dup2(stream.as_raw_fd(), target)
        })?;
    }
    for limit in &program.limits {
        let values = libc::rlimit64 {
            rlim_cur: limit.soft,
            rlim_max: limit.hard,
        };
        // SAFETY: reads the structure.
        let result = unsafe { libc::setrlimit64(limit.resource, &raw const values) };
        check(Step::Limits, result)?;
    }
    if let Some(umask) = program.umask {
        // SAFETY: takes a number.
        unsafe { libc::umask(umask) };
    }
    if let Some(account) = &program.account {
        let groups = &account.groups;
        // SAFETY: reads that many numbers from the vector. The raw system call is used for these
        // three, as glibc's functions signal all threads, of which the child has but this one.
        let result = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
        check(Step::Groups, result as c_int)?;
        // SAFETY: no pointers.
        let result = unsafe { libc::syscall(libc::SYS_setgid, account.gid) };
        check(Step::Group, result as c_int)?;
        // SAFETY: no pointers.
        let result = unsafe { libc::syscall(libc::SYS_setuid, account.uid) };
        check(Step::User, result as c_int)?;
    }
    // SAFETY: a string that ends in NUL.
    check(Step::Folder, unsafe { libc::chdir(program.cwd.as_ptr()) })?;
    Ok(())
}

/// Ignored signals and the mask would survive execve.
fn reset_signals() {
    // The kernel's `struct sigaction`: handler, flags, restorer, mask. All zero is the default.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: reads the array, whose mask has the 8 bytes that the last argument says. The
        // system call is used since glibc's function leaves out the two signals of its own, which
        // a parent may have ignored. Those that cannot be set (SIGKILL, SIGSTOP) are refused.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8usize,
            )
        };
    }
    let mut none = std::mem::MaybeUninit::uninit();
    // SAFETY: fills the set.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: the set was filled; the old one is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) };
}

/// Tries each candidate; returns what stopped the search, as execvp does: the first error that is
/// not "missing", or else a refused permission, or else that nothing was there.
fn execute(
    candidates: &[CString],
    argv: &[*const c_char],
    env: &[*const c_char],
) -> (c_int, usize) {
    let mut outcome = (libc::ENOENT, candidates.len());
    for (index, path) in candidates.iter().enumerate() {
        // SAFETY: a string that ends in NUL, and two arrays of such that end in null.
        unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
        let errno = last_errno();
        match errno {
            libc::ENOENT => {}
            libc::ENOTDIR if candidates.len() > 1 => {}
            libc::EACCES if candidates.len() > 1 => outcome = (errno, index),
            _ => return (errno, index),
        }
    }
    outcome
}

fn check(step: Step, result: c_int) -> Result<(), (Step, c_int)> {
    if result == -1 {
        Err((step, last_errno()))
    } else {
        Ok(())
    }
}

fn last_errno() -> c_int {
    // SAFETY: takes nothing.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: it points to this thread's errno, which is always there.
    unsafe { *location }
}

fn encode(report: [u32; 3]) -> [u8; REPORT_SIZE] {
    let mut bytes = [0; REPORT_SIZE];
    for (target, number) in bytes.chunks_exact_mut(4).zip(report) {
        target.copy_from_slice(&number.to_ne_bytes());
    }
    bytes
}

fn decode(bytes: [u8; REPORT_SIZE]) -> [u32; 3] {
    let [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3] = bytes;
    [[a0, a1, a2, a3], [b0, b1, b2, b3], [c0, c1, c2, c3]].map(u32::from_ne_bytes)
}

/// Sends a signal, by number, to the process group that `leader` leads. That it has gone is no
/// error: the sender cannot know.
pub(super) fn signal_group(leader: Pid, signal: u8) {
    // SAFETY: no pointers; the group's number is that of a child that has not been waited for.
    unsafe { libc::kill(-leader.as_raw_pid(), c_int::from(signal)) };
}

/// Sends a signal, by number, to process 1.
pub(super) fn signal_init(signal: u8) {
    // SAFETY: no pointers.
    unsafe { libc::kill(1, c_int::from(signal)) };
}

/// Sends a signal, by number, to every process that this one may signal, but not to itself.
pub fn signal_all(signal: u8) {
    // SAFETY: no pointers.
    unsafe { libc::kill(-1, c_int::from(signal)) };
}

/// Has writes to who has gone fail rather than end this process. Programs get the default again.
pub fn ignore_broken_pipes() -> io::Result<()> {
    // SAFETY: no handler is installed.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    if before == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A descriptor that becomes readable when children end. Blocks `SIGCHLD` for this thread, which
/// must be the only one.
pub fn child_signals() -> io::Result<OwnedFd> {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: fills the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set was filled; the number is a signal's.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD) };
    // SAFETY: the set was filled; the old one is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) };
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the set was filled.
    let fd = unsafe { libc::signalfd(-1, set.as_ptr(), flags) };
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
