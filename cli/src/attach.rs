//! The host's end of a running program: its streams, its terminal, its signals.
//!
//! The one thing to know: one loop does all but the writing to standard output and error, which has
//! a thread each. Those descriptors are shared with whoever started `mvm`, so they are never made
//! non-blocking; and a reader that stands still must stop neither the other stream nor Ctrl-C.
//! Leaves out the machine: what happens to it when the program ends is the caller's to decide.

mod collect;
mod commands;
mod connection;
mod follow;
mod input;
mod interrupts;
mod keys;
mod launch;
mod observe;
mod output;
mod session;
mod signals;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, ensure};
use guest::protocol::{Exec, Exit, FIRST_SESSION, MACHINE, Message, Stream};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use vmm::app::Signal;

use crate::poll;
use crate::terminal::{self, RawMode};
pub use collect::collect;
pub use commands::{Command, Commander, Commands, commands};
pub use connection::{Closed, Connection};
pub use follow::{Followed, Heard};
use input::Input;
pub use keys::DetachKeys;
use keys::Typed;
pub use launch::launch;
pub use observe::observe;
use output::Output;
use session::{Event, Session};
use signals::{ProcessSignals, Signals};

/// Bytes for the guest that may wait before input is no longer read.
const OUTBOX_LIMIT: usize = 256 * 1024;

/// Bytes for the guest that may wait before signals and sizes are dropped and credit is held back.
/// Input alone never makes them as many; only a guest that reads nothing does.
const OUTBOX_MAX: usize = 2 * OUTBOX_LIMIT;

/// How a program ended, or why nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran and ended.
    Exited(Exit),
    /// It was not started.
    Refused {
        /// 125 (the guest failed), 126 (cannot be executed) or 127 (not found).
        code: u8,
        /// Why, in one line.
        message: String,
    },
    /// It was told to end and did not before the user lost patience: the second SIGINT or SIGTERM,
    /// or Ctrl-C again and again on a terminal.
    GaveUp {
        /// The number of that signal.
        signal: u8,
    },
    /// It goes on, and its user has left it.
    Detached,
    /// Somebody had its machine switched off ([`Command::PowerOff`]), with which it went.
    SwitchedOff,
    /// The guest closed the connection before the program's end was told.
    Lost,
}

impl Outcome {
    /// The exit status of a command that ended so.
    pub fn status(&self) -> u8 {
        match self {
            Self::Exited(exit) => exit.status(),
            Self::Refused { code, .. } => *code,
            Self::GaveUp { signal } => Exit::Signal(*signal).status(),
            Self::Detached => 0,
            Self::SwitchedOff => Exit::Signal(Signal::KILL.number()).status(),
            Self::Lost => 125,
        }
    }
}

/// The caller's standard streams, in descriptors of their own.
pub struct Stdio {
    /// Read if the execution wants input.
    pub stdin: OwnedFd,
    /// Where the program's output goes; with a terminal, its errors too.
    pub stdout: OwnedFd,
    /// Where the program's errors go.
    pub stderr: OwnedFd,
}

impl Stdio {
    /// Those of this process.
    pub fn inherited() -> Result<Self> {
        let copy = |fd: BorrowedFd<'_>| {
            rustix::io::fcntl_dupfd_cloexec(fd, 3).context("cannot copy a standard stream")
        };
        Ok(Self {
            stdin: copy(io::stdin().as_fd())?,
            stdout: copy(io::stdout().as_fd())?,
            stderr: copy(io::stderr().as_fd())?,
        })
    }
}

/// What there is of a program that a command is attached to.
#[derive(Clone, Copy)]
pub enum Program<'a> {
    /// It is started for it.
    New(&'a Exec),
    /// It runs, and is not this command's alone: a reader that goes closes no stream of it.
    Running {
        /// Whether it has a terminal.
        has_terminal: bool,
        /// Whether it takes input.
        takes_input: bool,
        /// Whether it gets the signals that this command gets; else those that ask to end have this
        /// command leave.
        gets_signals: bool,
    },
}

impl Program<'_> {
    fn has_terminal(self) -> bool {
        match self {
            Self::New(exec) => exec.tty.is_some(),
            Self::Running { has_terminal, .. } => has_terminal,
        }
    }

    fn takes_input(self) -> bool {
        match self {
            Self::New(exec) => exec.stdin,
            Self::Running { takes_input, .. } => takes_input,
        }
    }
}

/// Who else has to do with the program, and how the one at its streams leaves it.
#[derive(Default)]
pub struct Company<'a> {
    /// Keys of a terminal that leave the program to itself.
    pub keys: DetachKeys,
    /// What others want of it.
    pub commands: Option<Commands>,
    /// Called once it runs.
    pub started: Option<Box<dyn FnOnce() + 'a>>,
    /// What SIGTERM is for the program, if not SIGTERM.
    pub stop_signal: Option<u8>,
    /// Whether a second request to end is the program's, too, which makes of it what it will. A third is
    /// this process' in any case.
    pub hears_twice: bool,
    /// Whether all is the program's that this process gets: each signal, however often, and each key. So
    /// it is for who stands in for a process of a container.
    pub hears_all: bool,
}

impl Company<'_> {
    /// A signal of this process as the program gets it.
    fn translate(&self, signal: u8) -> u8 {
        match self.stop_signal {
            Some(stop) if signal == signals::TERMINATE => stop,
            _ => signal,
        }
    }
}

/// Connects `stdio` with a program in the guest until it ends, or is left.
///
/// SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to the program, SIGTERM as what
/// `company` says; when the program has a terminal, takes input and standard input is a terminal, that
/// is in raw mode meanwhile, and three Ctrl-C within a second are the end. The signals stay with this
/// process's handlers afterwards.
///
/// Fails if the guest breaks the protocol, or if output cannot be written for another reason than
/// that its reader has gone.
pub fn attach(
    connection: &mut Connection,
    program: Program<'_>,
    stdio: Stdio,
    company: Company<'_>,
) -> Result<Outcome> {
    // Where nobody reads what is typed, Ctrl-C must stay a signal.
    let raw = if program.has_terminal() && program.takes_input() {
        RawMode::enter(&stdio.stdin).context("cannot set the terminal to raw mode")?
    } else {
        None
    };
    let signals =
        ProcessSignals::new(raw.is_some(), company.hears_all).context("cannot watch signals")?;
    let outcome = attach_with(connection, program, stdio, signals, raw.as_ref(), company);
    drop(raw);
    outcome
}

fn attach_with(
    connection: &mut Connection,
    program: Program<'_>,
    stdio: Stdio,
    signals: impl Signals,
    raw: Option<&RawMode>,
    mut company: Company<'_>,
) -> Result<Outcome> {
    let progress = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .context("cannot make an eventfd")?;
    let output = |stream, fd| {
        let progress = progress.try_clone().context("cannot copy an eventfd")?;
        Output::start(stream, fd, progress)
    };
    let mut outbox = Vec::new();
    if let Program::New(exec) = program {
        Message::Exec(Box::new(exec.clone())).encode(FIRST_SESSION, &mut outbox)?;
    }
    let has_terminal = program.has_terminal();
    let takes_keys = has_terminal && !company.hears_all;
    let keys = takes_keys.then(|| std::mem::take(&mut company.keys));
    connection.stream().set_nonblocking(true)?;
    let attached = Attached {
        session: Session::new(),
        input: Input::new(stdio.stdin, program.takes_input(), keys),
        stdout: output(Stream::Stdout, stdio.stdout)?,
        stderr: output(Stream::Stderr, stdio.stderr)?,
        progress,
        signals,
        company,
        raw,
        program,
        outbox,
        end: None,
        is_switched_off: false,
        impatience: 0,
    };
    let outcome = attached.run(connection);
    connection.stream().set_nonblocking(false)?;
    outcome
}

/// A program and what it is connected with.
struct Attached<'a, S> {
    session: Session,
    input: Input,
    stdout: Output,
    stderr: Output,
    /// Readable when an output's thread has got on.
    progress: OwnedFd,
    signals: S,
    company: Company<'a>,
    raw: Option<&'a RawMode>,
    program: Program<'a>,
    /// Bytes for the guest.
    outbox: Vec<u8>,
    /// The program's end, once it is told; its output may still have to be written.
    end: Option<Outcome>,
    /// Whether the guest was told to switch its machine off.
    is_switched_off: bool,
    /// SIGINT and SIGTERM so far.
    impatience: u32,
}

impl<S: Signals> Attached<'_, S> {
    fn run(mut self, connection: &mut Connection) -> Result<Outcome> {
        // What came along with the last answer to the machine's setup.
        self.take_messages(connection)?;
        loop {
            if let Some(end) = &self.end
                && self.stdout.is_done()
                && self.stderr.is_done()
            {
                let end = end.clone();
                self.stdout.result()?;
                self.stderr.result()?;
                return Ok(end);
            }
            for source in self.wait(connection.stream())? {
                match source {
                    Source::Signals => {
                        if let Some(outcome) = self.take_signals() {
                            return Ok(outcome);
                        }
                    }
                    Source::Commands => self.take_commands(),
                    Source::Progress => self.take_progress(),
                    Source::Input => {
                        if let Some(outcome) = self.take_input() {
                            return Ok(outcome);
                        }
                    }
                    Source::Guest => self.receive(connection)?,
                }
            }
            if self.end.is_none() {
                self.flush(connection.stream())?;
            }
        }
    }

    /// Waits until something can be done, and says what.
    fn wait(&self, stream: &UnixStream) -> Result<Vec<Source>> {
        let mut sources = vec![Source::Signals, Source::Progress];
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.signals.descriptor(), PollFlags::IN),
            PollFd::new(&self.progress, PollFlags::IN),
        ];
        if let Some(commands) = &self.company.commands {
            sources.push(Source::Commands);
            fds.push(PollFd::from_borrowed_fd(
                commands.descriptor(),
                PollFlags::IN,
            ));
        }
        let is_running = self.end.is_none();
        if is_running {
            let mut interest = PollFlags::IN;
            interest.set(PollFlags::OUT, !self.outbox.is_empty());
            sources.push(Source::Guest);
            fds.push(PollFd::new(stream, interest));
        }
        let wants_input = is_running && self.outbox.len() < OUTBOX_LIMIT && self.input.is_wanted();
        let in_background = wants_input && self.input.is_in_background();
        if wants_input && !in_background {
            sources.push(Source::Input);
            fds.push(PollFd::new(self.input.descriptor(), PollFlags::IN));
        }
        // A shell does not tell a running job that it comes to the foreground.
        poll::wait(&mut fds, in_background.then_some(input::FOREGROUND_CHECK))?;
        let ready = sources.into_iter().zip(&fds);
        Ok(ready
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|(source, _)| source)
            .collect())
    }

    /// Passes signals on. An outcome if the user has lost patience.
    fn take_signals(&mut self) -> Option<Outcome> {
        for signal in self.signals.pending() {
            match signal {
                signals::WINDOW_CHANGED if self.has_size() => self.send_size(),
                signals::STOP => {
                    if let Some(raw) = self.raw {
                        raw.stop_process();
                        self.send_size();
                    }
                }
                signals::CONTINUED => {
                    if let Some(raw) = self.raw {
                        raw.enter_again();
                        self.send_size();
                    }
                }
                _ if self.company.hears_all => self.send_if_read(&Message::Signal(signal)),
                _ => {
                    self.impatience += u32::from(signals::asks_to_end(signal));
                    if let Program::Running {
                        gets_signals: false,
                        ..
                    } = self.program
                    {
                        if self.impatience > 0 {
                            return Some(Outcome::GaveUp { signal });
                        }
                        continue;
                    }
                    let most = 1 + u32::from(self.company.hears_twice);
                    if self.impatience > most || (self.impatience > 0 && self.end.is_some()) {
                        return Some(Outcome::GaveUp { signal });
                    }
                    let signal = self.company.translate(signal);
                    self.send_if_read(&Message::Signal(signal));
                }
            }
        }
        None
    }

    /// Whether a change of the window is not just a signal for the program.
    fn has_size(&self) -> bool {
        self.program.has_terminal() || !self.company.hears_all
    }

    /// Does what others want.
    fn take_commands(&mut self) {
        let commands = &mut self.company.commands;
        let Some(pending) = commands.as_mut().and_then(Commands::pending) else {
            *commands = None;
            return;
        };
        for command in pending {
            match command {
                Command::Signal(signal) => self.send_if_read(&Message::Signal(signal)),
                Command::Resize { rows, cols } => {
                    self.send_if_read(&Message::Resize { rows, cols });
                }
                Command::PowerOff if !self.is_full() => {
                    self.send_in(MACHINE, &Message::PowerOff);
                    self.is_switched_off = true;
                }
                Command::PowerOff => {}
            }
        }
    }

    /// Passes input on. An outcome if the user has lost patience.
    fn take_input(&mut self) -> Option<Outcome> {
        match self.input.read(&mut self.outbox) {
            Typed::Keys => {}
            Typed::Leaves => self.leave(),
            Typed::GivesUp => {
                return Some(Outcome::GaveUp {
                    signal: signals::INTERRUPT,
                });
            }
        }
        None
    }

    /// Has the guest go on without this command, and say so.
    fn leave(&mut self) {
        if self.session.leave() {
            self.send(&Message::Detach);
        }
    }

    /// Has a program that draws on its terminal draw again: its size changes, and is this one's.
    fn redraw(&mut self) {
        if self.program.has_terminal()
            && let Some(size) = terminal::window_size()
        {
            self.send(&Message::Resize {
                rows: size.ws_row.saturating_add(1),
                cols: size.ws_col,
            });
            self.send_size();
        }
    }

    fn send_size(&mut self) {
        if self.program.has_terminal()
            && let Some(size) = terminal::window_size()
        {
            self.send_if_read(&Message::Resize {
                rows: size.ws_row,
                cols: size.ws_col,
            });
        }
    }

    /// Queues a message that someone outside can cause as often as he likes, unless the guest does
    /// not read.
    fn send_if_read(&mut self, message: &Message<'_>) {
        if !self.is_full() {
            self.send(message);
        }
    }

    /// Whether so much waits that the guest cannot be reading.
    fn is_full(&self) -> bool {
        self.outbox.len() >= OUTBOX_MAX
    }

    fn send(&mut self, message: &Message<'_>) {
        self.send_in(FIRST_SESSION, message);
    }

    fn send_in(&mut self, session: u32, message: &Message<'_>) {
        let encoded = message.encode(session, &mut self.outbox);
        debug_assert!(encoded.is_ok(), "{encoded:?}");
    }

    /// Hears that the output threads have got on.
    fn take_progress(&mut self) {
        // The counter's value does not matter.
        let _ = rustix::io::read(&self.progress, &mut [0; 8]);
        self.report_written();
    }

    /// Tells the guest what the output threads have written. While it does not read, that is kept
    /// for later: credit must not be lost, and a guest that sends without it is stopped.
    fn report_written(&mut self) {
        let has_room = !self.is_full();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let output = match stream {
                Stream::Stderr => &self.stderr,
                _ => &self.stdout,
            };
            if output.has_failed() && matches!(self.program, Program::Running { .. }) {
                self.leave();
            } else if output.has_failed() {
                if self.session.close(stream) {
                    self.send(&Message::Close(stream));
                }
            } else if has_room && let Some(bytes) = output.take_written() {
                self.session.written(stream, bytes);
                self.send(&Message::Credit { stream, bytes });
            }
        }
    }

    fn receive(&mut self, connection: &mut Connection) -> Result<()> {
        match connection.fill() {
            Ok(0) => self.end_without_a_word(),
            Ok(_) => {}
            Err(error) if is_transient(&error) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                self.end_without_a_word();
            }
            Err(error) => return Err(error).context("cannot read from the guest"),
        }
        self.take_messages(connection)
    }

    fn end_without_a_word(&mut self) {
        self.end_with(if self.is_switched_off {
            Outcome::SwitchedOff
        } else {
            Outcome::Lost
        });
    }

    /// Does what the messages at hand say.
    fn take_messages(&mut self, connection: &mut Connection) -> Result<()> {
        while self.end.is_none() {
            let Some((session, message)) = connection.next_message()? else {
                break;
            };
            ensure_session(session)?;
            match self.session.receive(&message).context(PROTOCOL)? {
                Event::Nothing => {}
                Event::Started => {
                    if let Program::Running { .. } = self.program {
                        self.redraw();
                    }
                    if let Some(started) = self.company.started.take() {
                        started();
                    }
                }
                Event::Output(Stream::Stderr, bytes) => self.stderr.push(bytes),
                Event::Output(_, bytes) => self.stdout.push(bytes),
                Event::InputCredit(bytes) => self.input.add_credit(bytes).context(PROTOCOL)?,
                Event::InputClosed => self.input.close(),
                Event::Ended(outcome) => self.end_with(outcome),
            }
        }
        Ok(())
    }

    /// No more comes from the guest; what has come is still written.
    fn end_with(&mut self, outcome: Outcome) {
        self.end = Some(outcome);
        self.stdout.finish();
        self.stderr.finish();
    }

    fn flush(&mut self, mut stream: &UnixStream) -> Result<()> {
        let mut sent = 0;
        while sent < self.outbox.len() {
            match io::Write::write(&mut stream, &self.outbox[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if is_transient(&error) => {}
                // What the guest said before it went is still to be read.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    sent = self.outbox.len();
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    sent = self.outbox.len();
                }
                Err(error) => return Err(error).context("cannot write to the guest"),
            }
        }
        let was_full = self.is_full();
        self.outbox.drain(..sent);
        if was_full && !self.is_full() {
            self.report_written();
        }
        Ok(())
    }
}

/// What [`Attached::wait`] waits for.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Commands,
    Progress,
    Guest,
    Input,
}

/// Context of what a guest does wrong.
const PROTOCOL: &str = "guest agent protocol";

fn ensure_session(session: u32) -> Result<()> {
    ensure!(
        session == FIRST_SESSION,
        "{PROTOCOL}: message for session {session}, which does not exist"
    );
    Ok(())
}

/// Whether a read or write may go better later.
pub fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
