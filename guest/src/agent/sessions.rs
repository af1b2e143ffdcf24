//! All executions, and all connections to ports, that the host has by one connection of its own.
//!
//! The one thing to know: what the host sends for a session that has just ended is no error, since
//! it was under way when the end was told. It is dropped.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::{Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait, waitpid};

use super::dial::Connection;
use super::program::words;
use super::session::Session;
use super::whereabouts;
use crate::descriptors;
use crate::outbox::Outbox;
use crate::protocol::{Connect, Exec, Exit, MAX_CONNECTIONS, MAX_SESSIONS, Message, Stream};

pub(super) struct Sessions {
    by_id: BTreeMap<u32, Session>,
    connections: BTreeMap<u32, Connection>,
    /// Who has the first turn: else those with low numbers would have all of the outbox.
    turn: usize,
    pub(super) outbox: Outbox,
    /// Readable when any child has ended, if this is PID 1.
    children: Option<OwnedFd>,
}

/// What a descriptor that is waited for belongs to.
#[derive(Clone, Copy)]
pub(super) enum Source {
    Children,
    Process(u32),
    Input(u32),
    Output(u32, usize),
    Connection(u32),
}

/// A source that something can be done with.
pub(super) struct Ready {
    pub(super) source: Source,
    pub(super) events: PollFlags,
}

impl Ready {
    /// Waits until something can be done, at most until `next`, and says with which of `sources`, whose
    /// descriptors are the last of `fds`.
    pub(super) fn among(
        fds: &mut [PollFd<'_>],
        sources: Vec<Source>,
        next: Option<Instant>,
    ) -> Result<Vec<Self>, Errno> {
        let now = Instant::now();
        let left = next.map(|next| next.saturating_duration_since(now));
        // One that is too long for the kernel is none.
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let own = fds.len() - sources.len();
        let ready = sources.into_iter().zip(&fds[own..]);
        Ok(ready
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|(source, fd)| Self {
                source,
                events: fd.revents(),
            })
            .collect())
    }
}

impl Sessions {
    pub(super) fn new(children: Option<OwnedFd>) -> Self {
        Self {
            by_id: BTreeMap::new(),
            connections: BTreeMap::new(),
            turn: 0,
            outbox: Outbox::default(),
            children,
        }
    }

    /// Adds the descriptors to wait for, and what each is.
    pub(super) fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>, sources: &mut Vec<Source>) {
        let mut add = |fd: &'a OwnedFd, interest, source| {
            fds.push(PollFd::new(fd, interest));
            sources.push(source);
        };
        if let Some(children) = &self.children {
            add(children, PollFlags::IN, Source::Children);
        }
        for (id, session) in &self.by_id {
            if let (Some(pidfd), true) = (&session.pidfd, session.is_running()) {
                add(pidfd, PollFlags::IN, Source::Process(*id));
            }
            if let (Some(fd), true) = (&session.input.fd, session.input.is_waiting()) {
                add(fd, PollFlags::OUT, Source::Input(*id));
            }
            for (index, output) in session.outputs.iter().enumerate() {
                if let (Some(fd), true) = (&output.fd, session.may_pull(index, &self.outbox)) {
                    add(fd, PollFlags::IN, Source::Output(*id, index));
                }
            }
        }
        for (id, connection) in &self.connections {
            if let Some(fd) = connection.watch(&self.outbox) {
                fds.push(fd);
                sources.push(Source::Connection(*id));
            }
        }
    }

    /// When a connection is to be tried again, if one is.
    pub(super) fn next(&self) -> Option<Instant> {
        self.connections.values().filter_map(Connection::next).min()
    }

    /// Does what can be done now.
    pub(super) fn handle(&mut self, ready: &[Ready]) {
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn.checked_rem(ready.len()).unwrap_or(0);
        let (later, sooner) = ready.split_at(first);
        for Ready { source, events } in sooner.iter().chain(later) {
            match *source {
                Source::Children => self.wait_for_all(),
                Source::Process(id) => self.wait_for(id),
                Source::Input(id) => {
                    if let Some(session) = self.by_id.get_mut(&id) {
                        session.push_input(&mut self.outbox);
                        let hung_up = events.intersects(PollFlags::ERR | PollFlags::HUP);
                        if hung_up && session.input.is_waiting() {
                            session.close_input(&mut self.outbox);
                        }
                    }
                }
                Source::Output(id, index) => {
                    if let Some(session) = self.by_id.get_mut(&id) {
                        session.pull_output(index, &mut self.outbox);
                    }
                }
                Source::Connection(id) => {
                    if let Some(connection) = self.connections.get_mut(&id) {
                        connection.ready(*events, &mut self.outbox);
                    }
                }
            }
        }
        if self.next().is_some() {
            let now = Instant::now();
            for connection in self.connections.values_mut() {
                connection.try_again(now);
            }
        }
        let outbox = &mut self.outbox;
        self.connections.retain(|id, connection| {
            let is_over = connection.is_over();
            if is_over {
                outbox.push(*id, &Message::Exit(Exit::Code(0)));
            }
            !is_over
        });
        self.by_id.retain(|_, session| !session.finish(outbox));
    }

    /// Takes a message about one execution or connection.
    pub(super) fn take(&mut self, id: u32, message: &Message<'_>) -> Result<()> {
        if let Message::Exec(exec) = message {
            return self.start(id, exec);
        }
        if let Message::Connect(wanted) = message {
            return self.connect(id, *wanted);
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            return connection.take(message, &mut self.outbox);
        }
        let attached = self.by_id.get_mut(&id);
        let Some(session) = attached.filter(|session| !session.is_detached()) else {
            return Ok(());
        };
        match message {
            Message::Data { bytes, .. } => session.take_input(bytes, &mut self.outbox),
            Message::Eof(Stream::Stdin) => session.end_input(&mut self.outbox),
            Message::Credit { stream, bytes } => session.add_credit(*stream, *bytes),
            Message::Close(stream) => session.close_output(*stream),
            Message::Resize { rows, cols } => session.resize(*rows, *cols),
            Message::Signal(number) => session.signal(*number),
            Message::Detach => {
                session.detach();
                self.outbox.push(id, &Message::Detached);
            }
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, id: u32, exec: &Exec) -> Result<()> {
        self.ensure_free(id)?;
        let answer = if self.by_id.len() >= MAX_SESSIONS {
            Message::ExecFailed {
                code: 125,
                message: format!("the guest already runs {MAX_SESSIONS} programs"),
            }
        } else if let Err(errno) = whereabouts::join() {
            Message::ExecFailed {
                code: 125,
                message: format!("cannot follow process 1: {}", words(errno)),
            }
        } else {
            match Session::start(id, exec, self.children.is_none()) {
                Ok(session) => {
                    let pid = session.pid().as_raw_pid().cast_unsigned();
                    self.by_id.insert(id, session);
                    Message::Started { pid }
                }
                Err(refusal) => Message::ExecFailed {
                    code: refusal.code,
                    message: refusal.message,
                },
            }
        };
        self.outbox.push(id, &answer);
        Ok(())
    }

    fn connect(&mut self, id: u32, wanted: Connect) -> Result<()> {
        self.ensure_free(id)?;
        if self.connections.is_empty() {
            // Who connects has no programs started, which would inherit it.
            descriptors::raise_limit();
        }
        let outcome = if self.connections.len() >= MAX_CONNECTIONS {
            Err(format!("there are {MAX_CONNECTIONS} connections already"))
        } else {
            Connection::dial(id, wanted)
                .map_err(|errno| format!("cannot connect: {}", words(errno)))
        };
        match outcome {
            Ok(connection) => {
                self.connections.insert(id, connection);
            }
            Err(message) => {
                let refusal = Message::ExecFailed { code: 125, message };
                self.outbox.push(id, &refusal);
            }
        }
        Ok(())
    }

    fn ensure_free(&self, id: u32) -> Result<()> {
        let is_used = self.by_id.contains_key(&id) || self.connections.contains_key(&id);
        ensure!(!is_used, "the host used session {id} a second time");
        Ok(())
    }

    /// Waits for every child that has ended, orphans included.
    fn wait_for_all(&mut self) {
        if let Some(children) = &self.children {
            // What it says is of no use: signals of several children count as one.
            let _ = rustix::io::read(children, &mut [0; 1024]);
        }
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            // A number is used again once its process has been waited for.
            let of_pid = |session: &&mut Session| session.pid() == pid && session.is_running();
            let session = self.by_id.values_mut().find(of_pid);
            if let (Some(session), Some(exit)) = (session, exit_of(status)) {
                session.end(exit);
            }
        }
    }

    fn wait_for(&mut self, id: u32) {
        if let Some(session) = self.by_id.get_mut(&id)
            && let Some(status) = wait_status(session.pid(), WaitOptions::NOHANG)
            && let Some(exit) = exit_of(status)
        {
            session.end(exit);
        }
    }

    /// Ends all executions that the host has not left to themselves, without a word to it.
    pub(super) fn kill(&mut self) {
        self.connections.clear();
        self.by_id.retain(|_, session| {
            if session.is_detached() {
                return true;
            }
            session.kill();
            // Else it would stay a zombie, as nobody waits for it later.
            if session.is_running() {
                wait_status(session.pid(), WaitOptions::empty());
            }
            false
        });
    }

    /// Serves those that are left to themselves until the last has ended. Those of PID 1 end with it.
    pub(super) fn serve_detached(&mut self) -> Result<(), Errno> {
        while self.children.is_none() && !self.by_id.is_empty() {
            let (mut fds, mut sources) = (Vec::new(), Vec::new());
            self.watch(&mut fds, &mut sources);
            let ready = Ready::among(&mut fds, sources, self.next())?;
            self.handle(&ready);
        }
        Ok(())
    }
}

fn wait_status(pid: Pid, options: WaitOptions) -> Option<WaitStatus> {
    let waited = waitpid(Some(pid), options).ok().flatten();
    waited.map(|(_, status)| status)
}

fn exit_of(status: WaitStatus) -> Option<Exit> {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(Exit::Code(code.cast_unsigned() as u8)),
        (None, Some(signal)) => Some(Exit::Signal(signal.cast_unsigned() as u8)),
        (None, None) => None,
    }
}
