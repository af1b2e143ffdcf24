//! The loop that passes frames between commands and the agent.
//!
//! The one thing to know: it holds no stream's data back. The credit of the protocol runs between
//! the command and the agent, so the queues here are bounded by what they have granted each other.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use guest::protocol::{FIRST_SESSION, MACHINE, MAX_SESSIONS, Message, Stream};
use rustix::event::{PollFd, PollFlags};
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM};

use super::End;
use super::agent::{Agent, Said};
use super::client::{Client, Wish, renumber};
use super::idle::Idle;
use super::last_look::{LastLook, Seen};
use super::sessions::{ClientId, Sessions};
use crate::emulator::folder::Folder;
use crate::emulator::machine::{Plan, Started};
use crate::emulator::ports;
use crate::emulator::state::{self, State};
use crate::output::say;
use crate::poll;

/// From QEMU's start until the guest is set up. Far above what the slowest host needs.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);

/// How often somebody is looked for who was sent to look.
const IDLE_CHECK: Duration = Duration::from_millis(200);

/// Bytes for the agent that may wait before commands are no longer read.
const TO_AGENT_LIMIT: usize = 1024 * 1024;

/// A command that goes kills its program.
const SIGKILL: u8 = 9;

/// What passes frames on.
pub(super) struct Service {
    folder: Folder,
    listener: UnixListener,
    signals: UnixStream,
    pub(super) agent: Agent,
    pub(super) clients: BTreeMap<ClientId, Client>,
    next_client: ClientId,
    sessions: Sessions,
    idle: Idle,
    last_look: Option<LastLook>,
    started: Instant,
    state: State,
}

/// What the loop waits for.
#[derive(Clone, Copy)]
enum Source {
    Listener,
    Signals,
    Agent,
    Clock,
    Client(ClientId),
}

impl Service {
    /// Starts the machine.
    pub(super) fn start(folder: &Folder, listener: UnixListener) -> Result<Self> {
        let started = Instant::now();
        let (signals, write) = UnixStream::pair().context("cannot make a socket pair")?;
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)
                .context("cannot watch signals")?;
        }
        let plan = Plan::new(folder)?;
        let Started {
            process,
            agent,
            ports,
            carrier,
        } = plan.start()?;
        thread::Builder::new()
            .name("ports".into())
            .spawn(move || {
                if let Err(error) = ports::serve(ports, carrier) {
                    say(format_args!("emulated host: ports: {error:#}"));
                }
            })
            .context("cannot start a thread")?;
        let state = State {
            pid: std::process::id(),
            machine_pid: process.id(),
            started: state::now(),
            ready_ms: None,
            commands: 0,
            cpus: plan.cpus,
            memory_mib: plan.memory_mib,
            kernel: plan.kernel,
        };
        state.write(folder)?;
        Ok(Self {
            folder: folder.clone(),
            listener,
            signals,
            agent: Agent::new(process, agent)?,
            clients: BTreeMap::new(),
            next_client: 0,
            sessions: Sessions::default(),
            idle: Idle::new(started)?,
            last_look: None,
            started,
            state,
        })
    }

    /// Serves commands until there is a reason to end.
    pub(super) fn run(&mut self) -> Result<End> {
        loop {
            for source in self.wait()? {
                match source {
                    Source::Signals => return Ok(End::Stopped),
                    Source::Listener => self.accept(),
                    Source::Agent => self.read_agent()?,
                    Source::Clock => self.agent.look_at_clock(),
                    Source::Client(id) => {
                        if self.serve_client(id) {
                            return Ok(End::Stopped);
                        }
                    }
                }
            }
            self.flush()?;
            let now = Instant::now();
            self.idle
                .update(self.clients.len() + self.sessions.len(), now);
            if self.agent.hello().is_none() {
                ensure!(
                    self.started.elapsed() < BOOT_TIMEOUT,
                    "its kernel did not start within {} s",
                    BOOT_TIMEOUT.as_secs()
                );
            } else if self.may_end(now)?
                && let Some(turn) = self.take_last_turn()?
            {
                return Ok(End::Idle(turn));
            }
            self.tell_state()?;
        }
    }

    /// Whether there is nothing to do, for commands or inside. Sends somebody to look when it seems
    /// so, and waits for no one.
    fn may_end(&mut self, now: Instant) -> Result<bool> {
        if !self.clients.is_empty() {
            return Ok(false);
        }
        if let Some(look) = &mut self.last_look {
            let seen = look.seen(self.next_client)?;
            if seen.is_some() {
                self.last_look = None;
            }
            return Ok(seen == Some(Seen::Nothing));
        }
        if self.idle.left(now) == Some(Duration::ZERO) {
            self.last_look = Some(LastLook::start(self.next_client)?);
        }
        Ok(false)
    }

    /// The turn to end, unless somebody has come meanwhile or is about to.
    fn take_last_turn(&mut self) -> Result<Option<File>> {
        let turn = self.folder.try_turn()?;
        self.accept();
        Ok(turn.filter(|_| self.clients.is_empty()))
    }

    fn wait(&self) -> Result<Vec<Source>> {
        let mut sources = vec![
            Source::Listener,
            Source::Signals,
            Source::Agent,
            Source::Clock,
        ];
        let mut interest = PollFlags::IN;
        interest.set(PollFlags::OUT, self.agent.waiting() > 0);
        let mut fds = vec![
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.agent.stream, interest),
            PollFd::from_borrowed_fd(self.agent.clock(), PollFlags::IN),
        ];
        for (id, client) in &self.clients {
            let mut interest = PollFlags::empty();
            interest.set(PollFlags::IN, self.agent.waiting() < TO_AGENT_LIMIT);
            interest.set(PollFlags::OUT, client.has_waiting());
            sources.push(Source::Client(*id));
            fds.push(PollFd::new(&client.stream, interest));
        }
        let timeout = match self.agent.hello() {
            None => Some(BOOT_TIMEOUT.saturating_sub(self.started.elapsed())),
            Some(_) if self.last_look.is_some() => Some(IDLE_CHECK),
            Some(_) => self.idle.left(Instant::now()),
        };
        poll::wait(&mut fds, timeout)?;
        let ready = sources.into_iter().zip(&fds);
        Ok(ready
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|(source, _)| source)
            .collect())
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let Ok(mut client) = Client::new(stream) else {
                continue;
            };
            if let Some(hello) = self.agent.hello() {
                client.say(MACHINE, &Message::Hello(hello));
            }
            self.clients.insert(self.next_client, client);
            self.next_client += 1;
        }
    }

    /// Passes on what a client has sent. True if that is the wish for the end.
    fn serve_client(&mut self, id: ClientId) -> bool {
        let Some(mut client) = self.clients.remove(&id) else {
            return false;
        };
        match self.take_wishes(id, &mut client) {
            Ok(Some(Wish::Stop)) => return true,
            Ok(Some(_)) => {
                self.clients.insert(id, client);
            }
            Ok(None) => self.abandon(&client),
            Err(error) => {
                say(format_args!(
                    "emulated host: a command was let go: {error:#}"
                ));
                self.abandon(&client);
            }
        }
        false
    }

    /// `None` if the client has gone.
    fn take_wishes(&mut self, id: ClientId, client: &mut Client) -> Result<Option<Wish>> {
        if !client.read()? {
            return Ok(None);
        }
        while let Some(wish) = client.next_wish()? {
            match wish {
                Wish::Nothing => {}
                Wish::Stop => return Ok(Some(Wish::Stop)),
                Wish::Open(mut frames) => {
                    ensure!(
                        self.agent.hello().is_some(),
                        "it did not wait for the hello"
                    );
                    ensure!(
                        self.sessions.len() < MAX_SESSIONS,
                        "{MAX_SESSIONS} commands run"
                    );
                    let session = self.sessions.open(id);
                    client.session = Some(session);
                    renumber(&mut frames, session);
                    self.agent.push(frames);
                }
                Wish::Forward(mut frame) => {
                    if let Some(session) = client.session {
                        renumber(&mut frame, session);
                        self.agent.push(frame);
                    }
                }
            }
        }
        Ok(Some(Wish::Nothing))
    }

    /// Ends the program of a client that has gone, and what it still has to say.
    fn abandon(&mut self, client: &Client) {
        let Some(session) = client.session else {
            return;
        };
        self.sessions.abandon(session);
        for message in [
            Message::Close(Stream::Stdout),
            Message::Close(Stream::Stderr),
            Message::Signal(SIGKILL),
        ] {
            self.agent.say(session, &message);
        }
    }

    fn read_agent(&mut self) -> Result<()> {
        let was_ready = self.agent.hello().is_some();
        self.agent.read()?;
        while let Some(said) = self.agent.next()? {
            self.deliver(said);
        }
        if let (false, Some(hello)) = (was_ready, self.agent.hello()) {
            for client in self.clients.values_mut() {
                client.say(MACHINE, &Message::Hello(hello));
            }
        }
        Ok(())
    }

    /// Hands a frame of an execution to its client, if that is still there.
    fn deliver(&mut self, said: Said) {
        let Said {
            session,
            mut bytes,
            is_last,
        } = said;
        let owner = self.sessions.owner(session);
        if let Some(client) = owner.and_then(|id| self.clients.get_mut(&id)) {
            renumber(&mut bytes, FIRST_SESSION);
            client.push(&bytes);
            if is_last {
                client.session = None;
            }
        }
        if is_last {
            self.sessions.close(session);
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.agent.flush()?;
        let gone: Vec<ClientId> = self
            .clients
            .iter_mut()
            .filter(|(_, client)| client.has_waiting())
            .filter_map(|(id, client)| client.flush().is_err().then_some(*id))
            .collect();
        for id in gone {
            if let Some(client) = self.clients.remove(&id) {
                self.abandon(&client);
            }
        }
        Ok(())
    }

    /// Writes the state if it has changed.
    fn tell_state(&mut self) -> Result<()> {
        let commands = self.sessions.len();
        let is_ready = self.agent.hello().is_some();
        if self.state.commands == commands && self.state.ready_ms.is_some() == is_ready {
            return Ok(());
        }
        self.state.commands = commands;
        if is_ready && self.state.ready_ms.is_none() {
            let passed = self.started.elapsed().as_millis();
            self.state.ready_ms = Some(u64::try_from(passed).unwrap_or(u64::MAX));
        }
        self.state.write(&self.folder)
    }
}
