//! The loop between a program in the guest and the streams, signals and wishes of the host.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use guest::protocol::{FIRST_SESSION, MACHINE, Message, Stream};
use rustix::event::{PollFd, PollFlags};

use super::input::{self, Input};
use super::keys::Typed;
use super::output::Output;
use super::session::{Event, Session};
use super::signals::{self, Signals};
use super::{
    Command, Commands, Company, Connection, Outcome, PROTOCOL, Program, ensure_session,
    is_transient,
};
use crate::poll;
use crate::terminal::{self, RawMode};

/// Bytes for the guest that may wait before input is no longer read.
const OUTBOX_LIMIT: usize = 256 * 1024;

/// Bytes for the guest that may wait before signals and sizes are dropped and credit is held back.
/// Input alone never makes them as many; only a guest that reads nothing does.
const OUTBOX_MAX: usize = 2 * OUTBOX_LIMIT;

/// A program and what it is connected with.
pub(super) struct Attached<'a, S> {
    pub(super) session: Session,
    pub(super) input: Input,
    pub(super) stdout: Output,
    pub(super) stderr: Output,
    /// Readable when an output's thread has got on.
    pub(super) progress: OwnedFd,
    pub(super) signals: S,
    pub(super) company: Company<'a>,
    pub(super) raw: Option<&'a RawMode>,
    pub(super) program: Program<'a>,
    /// Bytes for the guest.
    pub(super) outbox: Vec<u8>,
    /// The program's end, once it is told; its output may still have to be written.
    pub(super) end: Option<Outcome>,
    /// Whether the guest was told to switch its machine off.
    pub(super) is_switched_off: bool,
    /// SIGINT and SIGTERM so far.
    pub(super) impatience: u32,
}

impl<S: Signals> Attached<'_, S> {
    /// Until the program ends, or is left.
    pub(super) fn run(mut self, connection: &mut Connection) -> Result<Outcome> {
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
                    Source::Clock => {
                        if let Some(clock) = &self.company.clock {
                            clock.take_tick();
                        }
                        self.look_at_clock();
                    }
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
        if let Some(clock) = &self.company.clock {
            sources.push(Source::Clock);
            fds.push(PollFd::from_borrowed_fd(clock.descriptor(), PollFlags::IN));
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
                Command::Clock => self.look_at_clock(),
            }
        }
    }

    /// Asks the guest what time it is, unless it does not read.
    fn look_at_clock(&mut self) {
        if !self.is_full()
            && let Some(clock) = &mut self.company.clock
            && clock.ask()
        {
            self.send_in(MACHINE, &Message::Clock { shift_ns: 0 });
        }
    }

    /// The guest says what time it is.
    fn take_time(&mut self, now_ns: u64) -> Result<()> {
        let clock = self.company.clock.as_mut();
        let clock = clock.context("a time that was not asked for")?;
        if let Some(shift_ns) = clock.hear(now_ns)? {
            self.send_in(MACHINE, &Message::Clock { shift_ns });
        }
        Ok(())
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
            if let (MACHINE, Message::Time { now_ns }) = (session, &message) {
                self.take_time(*now_ns).context(PROTOCOL)?;
                continue;
            }
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
                Event::Output(stream, bytes) => {
                    if let Some(spoke) = self.company.spoke.take() {
                        spoke();
                    }
                    match stream {
                        Stream::Stderr => self.stderr.push(bytes),
                        _ => self.stdout.push(bytes),
                    }
                }
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
    Clock,
    Progress,
    Guest,
    Input,
}
