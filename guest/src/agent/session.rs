//! One execution: its process, its streams, and the credit of each.
//!
//! The one thing to know: an execution is over when its own process is, not when its pipes close. A
//! child that it left behind may hold them for ever, and fill them, so what they contain at that
//! moment is passed on, and then they are closed.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Gid, OFlags, Uid, fchown};
use rustix::io::{Errno, ioctl_fionread};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::process::{Streams, become_init, signal_group, signal_init, spawn};
use super::program::{Program, Refusal, words};
use super::terminal;
use crate::inlet::Inlet;
use crate::outbox::Outbox;
use crate::protocol::{Exec, Exit, HEADER_SIZE, Init, MAX_PAYLOAD, Message, Stream, Tty, WINDOW};

/// Credit for input goes back when this much has been passed on: often enough that the host never
/// stands still, seldom enough that the messages do not count.
const CREDIT_STEP: u32 = WINDOW / 4;

/// Room in each pipe, if the kernel grants it: four times the usual. A program that writes much is
/// then stopped, and the agent woken, a quarter as often.
const PIPE_SIZE: usize = 256 * 1024;

/// What is read at once: with its header it is two of the largest writes that a port takes
/// (32 KiB, `port_fops_write`). A third for twelve bytes costs as much as a whole one.
const READ_SIZE: usize = MAX_PAYLOAD - HEADER_SIZE;

/// What is thrown away at once, on the stack.
const DISCARD_SIZE: usize = 16 * 1024;

/// What a terminal keeps for its reader, and more: 8 KiB on the way (`pty_common_install`) and 4 KiB
/// in its line discipline. Only the latter would be counted by `FIONREAD`.
const TERMINAL_SIZE: usize = 64 * 1024;

const SIGHUP: u8 = 1;
const SIGINT: u8 = 2;
const SIGKILL: u8 = 9;
const SIGTERM: u8 = 15;

/// `SIGRTMIN+4`, by which systemd and what acts like it switch the machine off.
const SIGNAL_POWER_OFF: u8 = 34 + 4;

pub(super) struct Session {
    id: u32,
    pid: Pid,
    /// Readable when the process has ended; only where the agent is not told otherwise.
    pub(super) pidfd: Option<OwnedFd>,
    exit: Option<Exit>,
    pub(super) input: Input,
    pub(super) outputs: [Output; 2],
    /// The terminal's controlling end, if there is one.
    master: Option<OwnedFd>,
    /// The other end, where the program has it open now and then: it is no end of the terminal
    /// that it does not.
    _slave: Option<OwnedFd>,
    /// Whether the host wants to hear no more of it.
    is_detached: bool,
}

pub(super) struct Input {
    /// The agent's end of the pipe, or of the terminal.
    pub(super) fd: Option<OwnedFd>,
    /// What the program has not taken yet; at most [`WINDOW`] bytes, as the host has no credit for
    /// more.
    inlet: Inlet,
    /// Whether nothing comes after what waits.
    ended: bool,
    /// Whether the last byte was in the middle of a line.
    within_line: bool,
}

pub(super) struct Output {
    stream: Stream,
    pub(super) fd: Option<OwnedFd>,
    credit: u32,
    /// Bytes to pass on, once the program has ended.
    left: Option<usize>,
}

/// Ends of the streams on the agent's side.
struct Ends {
    input: Option<OwnedFd>,
    outputs: [Option<OwnedFd>; 2],
    master: Option<OwnedFd>,
    slave: Option<OwnedFd>,
}

impl Session {
    /// Starts the program. `with_pidfd`: watch its process by a descriptor.
    pub(super) fn start(id: u32, exec: &Exec, with_pidfd: bool) -> Result<Self, Refusal> {
        let program = Program::new(exec)?;
        let owner = program.account.as_ref().map(|account| account.uid);
        let (pid, ends) = match (&exec.tty, exec.init) {
            (Some(tty), Some(init)) => start_init(&program, init, tty)?,
            (Some(tty), None) => start_on_terminal(&program, tty, owner)?,
            (None, _) => start_on_pipes(&program, exec.stdin, owner)?,
        };
        let mut session = Self::new(id, pid, ends);
        if with_pidfd {
            let pidfd = pidfd_open(pid, PidfdFlags::empty());
            session.pidfd = Some(pidfd.map_err(|errno| {
                session.kill();
                cannot_open(errno)
            })?);
        }
        Ok(session)
    }

    fn new(id: u32, pid: Pid, ends: Ends) -> Self {
        let [stdout, stderr] = ends.outputs;
        let output = |stream, fd| Output {
            stream,
            fd,
            credit: WINDOW,
            left: None,
        };
        Self {
            id,
            pid,
            pidfd: None,
            exit: None,
            input: Input {
                fd: ends.input,
                inlet: Inlet::default(),
                ended: false,
                within_line: false,
            },
            outputs: [
                output(Stream::Stdout, stdout),
                output(Stream::Stderr, stderr),
            ],
            master: ends.master,
            _slave: ends.slave,
            is_detached: false,
        }
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether the process has not been waited for.
    pub(super) fn is_running(&self) -> bool {
        self.exit.is_none()
    }

    /// The process has ended: what its outputs contain now is the last of them.
    pub(super) fn end(&mut self, exit: Exit) {
        self.exit = Some(exit);
        for output in &mut self.outputs {
            output.left = Some(match &output.fd {
                Some(_) if self.master.is_some() => TERMINAL_SIZE,
                Some(pipe) => ioctl_fionread(pipe).map_or(0, |count| count as usize),
                None => 0,
            });
        }
    }

    /// Takes bytes for the program's input and passes on what it has room for.
    pub(super) fn take_input(&mut self, bytes: &[u8], outbox: &mut Outbox) {
        let input = &mut self.input;
        let Some(fd) = &input.fd else {
            return;
        };
        input.within_line = bytes.last() != Some(&b'\n');
        input.inlet.take(fd, bytes);
        self.push_input(outbox);
    }

    /// The host's input has ended.
    pub(super) fn end_input(&mut self, outbox: &mut Outbox) {
        self.input.ended = true;
        if let Some(master) = &self.master {
            let typed = terminal::end_of_input(master, self.input.within_line);
            self.input.inlet.push(&typed);
        }
        self.push_input(outbox);
    }

    /// Passes on what the program's input has room for.
    pub(super) fn push_input(&mut self, outbox: &mut Outbox) {
        let input = &mut self.input;
        let Some(fd) = &input.fd else {
            return;
        };
        if input.inlet.flush(fd).is_err() {
            return self.close_input(outbox);
        }
        if input.inlet.is_empty() && input.ended && self.master.is_none() {
            input.fd = None;
        } else if let Some(passed) = input.inlet.credit(CREDIT_STEP) {
            let credit = Message::Credit {
                stream: Stream::Stdin,
                bytes: passed.min(WINDOW),
            };
            outbox.push(self.id, &credit);
        }
    }

    /// The program reads no more: the host is told so.
    pub(super) fn close_input(&mut self, outbox: &mut Outbox) {
        if self.input.fd.take().is_some() {
            self.input.inlet.clear();
            outbox.push(self.id, &Message::Close(Stream::Stdin));
        }
    }

    /// The host leaves the program to itself. A terminal stays, and nobody types.
    pub(super) fn detach(&mut self) {
        self.is_detached = true;
        self.input.inlet.clear();
        if self.master.is_none() {
            self.input.fd = None;
        }
    }

    pub(super) fn is_detached(&self) -> bool {
        self.is_detached
    }

    /// Whether output `index` can be passed on, or shall be thrown away.
    pub(super) fn may_pull(&self, index: usize, outbox: &Outbox) -> bool {
        self.is_detached || self.outputs[index].may_send(outbox)
    }

    pub(super) fn add_credit(&mut self, stream: Stream, bytes: u32) {
        for output in &mut self.outputs {
            if output.stream == stream {
                output.credit = output.credit.saturating_add(bytes).min(WINDOW);
            }
        }
    }

    /// The host's reader has gone: so shall the program's. A terminal goes as a whole, which the
    /// program learns by `SIGHUP`.
    pub(super) fn close_output(&mut self, stream: Stream) {
        for output in &mut self.outputs {
            if output.stream == stream {
                output.fd = None;
            }
        }
        if stream == Stream::Stdout && self.master.take().is_some() {
            self.input.fd = None;
        }
    }

    /// Reads output `index` once, if the host has room for it.
    pub(super) fn pull_output(&mut self, index: usize, outbox: &mut Outbox) {
        if self.is_detached {
            return self.discard_output(index);
        }
        let output = &mut self.outputs[index];
        let (Some(fd), true) = (&output.fd, output.may_send(outbox)) else {
            return;
        };
        let left = output.left.unwrap_or(READ_SIZE);
        let limit = READ_SIZE.min(output.credit as usize).min(left);
        let read = match limit {
            0 => Ok(0),
            _ => outbox.read_from(fd, self.id, output.stream, limit),
        };
        match read {
            Ok(count) if count > 0 => {
                output.credit -= count as u32;
                output.left = output.left.map(|left| left - count);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if self.exit.is_none() => {}
            // The end: of the stream, of the terminal (EIO), or of what an ended program left.
            _ => {
                output.fd = None;
                outbox.push(self.id, &Message::Eof(output.stream));
            }
        }
    }

    /// Reads output `index` once, so that the program does not stand still, for nobody.
    fn discard_output(&mut self, index: usize) {
        let output = &mut self.outputs[index];
        let Some(fd) = &output.fd else {
            return;
        };
        match rustix::io::read(fd, &mut [0; DISCARD_SIZE]) {
            Ok(count) if count > 0 => {}
            Err(Errno::INTR | Errno::AGAIN) => {}
            _ => output.fd = None,
        }
    }

    /// After the program's end: passes on what is left. True when that is all and the end has been
    /// told; false when the host must make room first.
    pub(super) fn finish(&mut self, outbox: &mut Outbox) -> bool {
        let Some(exit) = self.exit else {
            return false;
        };
        if self.is_detached {
            return true;
        }
        for index in 0..self.outputs.len() {
            while self.outputs[index].fd.is_some() && self.outputs[index].may_send(outbox) {
                self.pull_output(index, outbox);
            }
        }
        let is_over = self.outputs.iter().all(|output| output.fd.is_none());
        if is_over {
            outbox.push(self.id, &Message::Exit(exit));
        }
        is_over
    }

    pub(super) fn resize(&self, rows: u16, cols: u16) {
        if let Some(master) = &self.master {
            // A size is never refused; a terminal that has gone needs none.
            let _ = terminal::resize(master, rows, cols);
        }
    }

    /// Sends a signal to the program's process group, as long as that is sure to be its own.
    pub(super) fn signal(&self, number: u8) {
        match self.pid {
            Pid::INIT => signal_init(signal_of_init(number)),
            pid if self.exit.is_none() => signal_group(pid, number),
            _ => {}
        }
    }

    /// The host has gone: the program shall not outlive it.
    pub(super) fn kill(&self) {
        self.signal(SIGKILL);
    }
}

impl Input {
    /// Whether something waits for the program to read.
    pub(super) fn is_waiting(&self) -> bool {
        !self.inlet.is_empty()
    }
}

impl Output {
    /// Whether both the host and the outbox have room.
    pub(super) fn may_send(&self, outbox: &Outbox) -> bool {
        self.credit > 0 && outbox.has_room()
    }
}

/// What ends a program ends a system; its process 1 would take the signal for something else.
fn signal_of_init(number: u8) -> u8 {
    match number {
        SIGHUP | SIGINT | SIGTERM => SIGNAL_POWER_OFF,
        number => number,
    }
}

fn cannot_open(errno: Errno) -> Refusal {
    let words = words(errno);
    Refusal::new(125, format!("cannot open the program's streams: {words}"))
}

fn start_on_terminal(
    program: &Program,
    tty: &Tty,
    owner: Option<u32>,
) -> Result<(Pid, Ends), Refusal> {
    let (master, slave) = terminal::open(tty, owner).map_err(cannot_open)?;
    let pid = spawn(program, &on_terminal(&slave))?;
    Ok((pid, ends_of(master, None)?))
}

/// The system finds its terminal as its console.
fn start_init(program: &Program, init: Init, tty: &Tty) -> Result<(Pid, Ends), Refusal> {
    let (master, slave) = terminal::open(tty, None).map_err(cannot_open)?;
    match init {
        Init::System => terminal::become_console(&master),
        Init::Stage1 => terminal::take_console(&slave),
    }
    .map_err(cannot_open)?;
    let pid = become_init(program, init, &on_terminal(&slave))?;
    Ok((pid, ends_of(master, Some(slave))?))
}

fn on_terminal(slave: &OwnedFd) -> Streams<'_> {
    Streams {
        stdin: slave.as_fd(),
        stdout: slave.as_fd(),
        stderr: slave.as_fd(),
        terminal: true,
    }
}

fn ends_of(master: OwnedFd, slave: Option<OwnedFd>) -> Result<Ends, Refusal> {
    let again = || rustix::io::fcntl_dupfd_cloexec(&master, 3).map_err(cannot_open);
    let (input, output) = (again()?, again()?);
    Ok(Ends {
        input: Some(input),
        outputs: [Some(output), None],
        master: Some(master),
        slave,
    })
}

fn start_on_pipes(
    program: &Program,
    with_input: bool,
    owner: Option<u32>,
) -> Result<(Pid, Ends), Refusal> {
    let (stdin, input) = input_pipe(with_input, owner).map_err(cannot_open)?;
    let (out, stdout) = output_pipe(owner).map_err(cannot_open)?;
    let (err, stderr) = output_pipe(owner).map_err(cannot_open)?;
    let streams = Streams {
        stdin: stdin.as_fd(),
        stdout: stdout.as_fd(),
        stderr: stderr.as_fd(),
        terminal: false,
    };
    let pid = spawn(program, &streams)?;
    let ends = Ends {
        input,
        outputs: [Some(out), Some(err)],
        master: None,
        slave: None,
    };
    Ok((pid, ends))
}

/// The program's input and the agent's end of it, if the host sends any.
fn input_pipe(wanted: bool, owner: Option<u32>) -> Result<(OwnedFd, Option<OwnedFd>), Errno> {
    if !wanted {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?;
        return Ok((null, None));
    }
    let (stdin, input) = large_pipe()?;
    rustix::io::ioctl_fionbio(&input, true)?;
    own(&stdin, owner)?;
    Ok((stdin, Some(input)))
}

/// The agent's end and the program's.
fn output_pipe(owner: Option<u32>) -> Result<(OwnedFd, OwnedFd), Errno> {
    let (output, end) = large_pipe()?;
    rustix::io::ioctl_fionbio(&output, true)?;
    own(&end, owner)?;
    Ok((output, end))
}

fn large_pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    // A user other than root may have used up its share of pages: then it stays as it is.
    let _ = fcntl_setpipe_size(&read, PIPE_SIZE);
    Ok((read, write))
}

/// Lets `owner` open the pipe again as `/dev/stdout`, which else fails with `EACCES`.
fn own(pipe: &OwnedFd, owner: Option<u32>) -> Result<(), Errno> {
    match owner {
        Some(uid) => fchown(pipe, Some(Uid::from_raw(uid)), None::<Gid>),
        None => Ok(()),
    }
}
