//! The process that owns the emulated host: it starts QEMU, passes frames between commands and the
//! guest's agent, and ends both.
//!
//! The one thing to know: one thread and one `poll` serve all. It holds no stream's data back: the
//! credit of the protocol runs between the command and the agent, so its queues are bounded by what
//! they have granted each other.

mod client;
mod idle;
mod sessions;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use guest::protocol::{
    Decoder, FIRST_SESSION, FrameBuffer, Hello, MACHINE, MAX_SESSIONS, Message, Side, Stream,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM};

use super::folder::Folder;
use super::machine::{self, Plan};
use super::state::{self, State};
use client::{Client, Wish, encoded, is_transient, renumber, write};
use idle::Idle;
use sessions::{ClientId, Sessions};

/// From QEMU's start until the guest is set up. Far above what the slowest host needs.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);

/// For the guest to end its programs and write what it holds.
const POWER_OFF_TIMEOUT: Duration = Duration::from_secs(5);

/// For commands to take the reason of the end.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes for the agent that may wait before commands are no longer read.
const TO_AGENT_LIMIT: usize = 1024 * 1024;

/// A command that goes kills its program.
const SIGKILL: u8 = 9;

/// Why the emulated host ends.
#[derive(Debug)]
enum End {
    /// Somebody asked for it.
    Stopped,
    /// There was nothing to do for long. Nobody starts another one as long as the turn is kept.
    Idle(File),
}

/// Carries `mvm emulator serve` out: standard input is the socket that listens.
pub fn serve() -> Result<()> {
    // Away from the terminal and the folder of the command that needed it first.
    rustix::process::setsid().context("cannot leave the terminal")?;
    std::env::set_current_dir("/").context("cannot change to /")?;
    let listener = io::stdin().as_fd().try_clone_to_owned().context("there is no socket")?;
    let listener = UnixListener::from(listener);
    listener.set_nonblocking(true)?;
    let folder = Folder::open()?;
    let _alive = folder.claim()?;
    let mut broker = match Broker::start(&folder, listener.try_clone()?) {
        Ok(broker) => broker,
        Err(error) => {
            say_farewell(&folder, &listener, Vec::new(), &format!("{error:#}"))?;
            return Err(error);
        }
    };
    let outcome = broker.run();
    let clients: Vec<_> = std::mem::take(&mut broker.clients).into_values().collect();
    let farewell = match &outcome {
        // Who connects this very moment is not told why; it starts another one.
        Ok(End::Idle(_turn)) => remove_socket(&folder),
        Ok(End::Stopped) => say_farewell(&folder, &listener, clients, "it was stopped"),
        Err(error) => say_farewell(&folder, &listener, clients, &format!("{error:#}")),
    };
    broker.end_machine();
    for file in [folder.state(), folder.initramfs()] {
        // What is left there says nothing without the lock.
        let _ = fs::remove_file(file);
    }
    outcome.map(drop).and(farewell)
}

/// The end of the service: nobody new comes, and all who wait are told.
fn say_farewell(
    folder: &Folder,
    listener: &UnixListener,
    mut clients: Vec<Client>,
    reason: &str,
) -> Result<()> {
    let turn = folder.turn()?;
    remove_socket(folder)?;
    while let Ok((stream, _)) = listener.accept() {
        clients.extend(Client::new(stream));
    }
    drop(turn);
    let deadline = Instant::now() + FAREWELL_TIMEOUT;
    for client in &mut clients {
        client.say(MACHINE, &Message::Failed(reason.into()));
        let left = deadline.saturating_duration_since(Instant::now()).max(MOMENT);
        // One that does not listen learns it from the end of the connection.
        let _ = client
            .stream
            .set_nonblocking(false)
            .and_then(|()| client.stream.set_write_timeout(Some(left)))
            .map(|()| client.flush());
    }
    Ok(())
}

fn remove_socket(folder: &Folder) -> Result<()> {
    fs::remove_file(folder.socket()).context("cannot remove the socket")
}

/// The shortest time that can be waited for a socket; zero would be for ever.
const MOMENT: Duration = Duration::from_millis(1);

struct Broker {
    folder: Folder,
    listener: UnixListener,
    signals: UnixStream,
    machine: Child,
    agent: UnixStream,
    buffer: FrameBuffer,
    decoder: Decoder,
    /// Bytes for the agent.
    to_agent: Vec<u8>,
    /// The guest's hello, once it is set up; clients get it then.
    hello: Option<Hello>,
    greeted: Option<Hello>,
    clients: BTreeMap<ClientId, Client>,
    next_client: ClientId,
    sessions: Sessions,
    idle: Idle,
    started: Instant,
    state: State,
}

/// What the loop waits for.
#[derive(Clone, Copy)]
enum Source {
    Listener,
    Signals,
    Agent,
    Client(ClientId),
}

impl Broker {
    fn start(folder: &Folder, listener: UnixListener) -> Result<Self> {
        let started = Instant::now();
        let (signals, write) = UnixStream::pair().context("cannot make a socket pair")?;
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)
                .context("cannot watch signals")?;
        }
        let plan = Plan::new(folder)?;
        let (machine, agent) = plan.start()?;
        agent.set_nonblocking(true)?;
        let state = State {
            pid: std::process::id(),
            machine_pid: machine.id(),
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
            machine,
            agent,
            buffer: FrameBuffer::new(),
            decoder: Decoder::new(Side::Guest),
            to_agent: Vec::new(),
            hello: None,
            greeted: None,
            clients: BTreeMap::new(),
            next_client: 0,
            sessions: Sessions::default(),
            idle: Idle::new(started),
            started,
            state,
        })
    }

    fn run(&mut self) -> Result<End> {
        loop {
            for source in self.wait()? {
                match source {
                    Source::Signals => return Ok(End::Stopped),
                    Source::Listener => self.accept(),
                    Source::Agent => self.read_agent()?,
                    Source::Client(id) => {
                        if self.serve_client(id) {
                            return Ok(End::Stopped);
                        }
                    }
                }
            }
            self.flush()?;
            let now = Instant::now();
            self.idle.update(self.clients.len() + self.sessions.len(), now);
            if self.hello.is_none() {
                ensure!(
                    self.started.elapsed() < BOOT_TIMEOUT,
                    "its kernel did not start within {} s",
                    BOOT_TIMEOUT.as_secs()
                );
            } else if self.idle.left(now) == Some(Duration::ZERO)
                && let Some(turn) = self.take_last_turn()?
            {
                return Ok(End::Idle(turn));
            }
            self.tell_state()?;
        }
    }

    /// The turn to end, unless somebody has come meanwhile or is about to.
    fn take_last_turn(&mut self) -> Result<Option<File>> {
        let turn = self.folder.try_turn()?;
        self.accept();
        Ok(turn.filter(|_| self.clients.is_empty()))
    }

    fn wait(&self) -> Result<Vec<Source>> {
        let mut sources = vec![Source::Listener, Source::Signals, Source::Agent];
        let mut interest = PollFlags::IN;
        interest.set(PollFlags::OUT, !self.to_agent.is_empty());
        let mut fds = vec![
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.agent, interest),
        ];
        for (id, client) in &self.clients {
            let mut interest = PollFlags::empty();
            interest.set(PollFlags::IN, self.to_agent.len() < TO_AGENT_LIMIT);
            interest.set(PollFlags::OUT, client.has_waiting());
            sources.push(Source::Client(*id));
            fds.push(PollFd::new(&client.stream, interest));
        }
        let timeout = match self.hello {
            None => Some(BOOT_TIMEOUT.saturating_sub(self.started.elapsed())),
            // At least a moment: who has the turn may keep it from ending.
            Some(_) => self.idle.left(Instant::now()).map(|left| left.max(IDLE_CHECK)),
        };
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for events"),
        }
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
            if let Some(hello) = self.hello {
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
                eprintln!("mvm: emulated host: a command was let go: {error:#}");
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
                    ensure!(self.hello.is_some(), "it did not wait for the hello");
                    ensure!(self.sessions.len() < MAX_SESSIONS, "{MAX_SESSIONS} commands run");
                    let session = self.sessions.open(id);
                    client.session = Some(session);
                    renumber(&mut frames, session);
                    self.to_agent.extend(frames);
                }
                Wish::Forward(mut frame) => {
                    if let Some(session) = client.session {
                        renumber(&mut frame, session);
                        self.to_agent.extend(frame);
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
            let encoded = message.encode(session, &mut self.to_agent);
            debug_assert!(encoded.is_ok(), "{encoded:?}");
        }
    }

    fn read_agent(&mut self) -> Result<()> {
        match self.buffer.fill(&mut &self.agent) {
            Ok(0) => bail!("its machine ended{}", self.machine_status()),
            Ok(_) => {}
            Err(error) if is_transient(&error) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                bail!("its machine ended{}", self.machine_status())
            }
            Err(error) => return Err(error).context("cannot read from its agent"),
        }
        while let Some(frame) = self.buffer.next_frame()? {
            let session = frame.header.session;
            let mut bytes = encoded(&frame);
            let Some(message) = self.decoder.decode(frame)? else {
                bail!("its agent sent a message in pieces");
            };
            if session == MACHINE {
                take_machine_message(&message, &mut self.greeted, &mut self.hello)?;
                if let (Message::Hello(hello), None) = (&message, self.hello) {
                    greet(*hello, &mut self.to_agent)?;
                }
                if let (Message::SetupDone, Some(hello)) = (&message, self.hello) {
                    for client in self.clients.values_mut() {
                        client.say(MACHINE, &Message::Hello(hello));
                    }
                }
                continue;
            }
            let owner = self.sessions.owner(session);
            if let Some(client) = owner.and_then(|id| self.clients.get_mut(&id)) {
                renumber(&mut bytes, FIRST_SESSION);
                client.push(&bytes);
                if message.ends_session() {
                    client.session = None;
                }
            }
            if message.ends_session() {
                self.sessions.close(session);
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        match write(&self.agent, &self.to_agent) {
            Ok(sent) => {
                self.to_agent.drain(..sent);
            }
            // The read that follows finds the end, after the agent's last words.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.to_agent.clear(),
            Err(error) => return Err(error).context("cannot write to its agent"),
        }
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
        let is_ready = self.hello.is_some();
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

    /// How QEMU ended, as words to append; it has closed its end of the port.
    fn machine_status(&mut self) -> String {
        match wait_until(&mut self.machine, Instant::now() + FAREWELL_TIMEOUT) {
            Some(status) => format!(" ({status}); `mvm emulator log` shows its last words"),
            None => String::new(),
        }
    }

    /// Switches the machine off, and kills it if it does not end.
    fn end_machine(&mut self) {
        let mut bytes = Vec::new();
        let power_off = Message::PowerOff.encode(MACHINE, &mut bytes);
        let is_asked = self.hello.is_some()
            && power_off.is_ok()
            && write(&self.agent, &bytes).is_ok_and(|sent| sent == bytes.len());
        let deadline = Instant::now() + if is_asked { POWER_OFF_TIMEOUT } else { Duration::ZERO };
        if wait_until(&mut self.machine, deadline).is_none() {
            // It may have ended just now.
            let _ = self.machine.kill();
            let _ = self.machine.wait();
        }
    }
}

/// How often an idle host that may not end looks again.
const IDLE_CHECK: Duration = Duration::from_millis(200);

/// A message about the machine as a whole.
fn take_machine_message(
    message: &Message<'_>,
    greeted: &mut Option<Hello>,
    ready: &mut Option<Hello>,
) -> Result<()> {
    match message {
        Message::Hello(hello) if greeted.is_none() => *greeted = Some(*hello),
        Message::SetupDone if ready.is_none() => *ready = *greeted,
        Message::Failed(reason) => bail!("its agent failed: {reason}"),
        _ => bail!("its agent sent an unexpected {message:?}"),
    }
    Ok(())
}

/// Answers the guest's hello, and says what to prepare.
fn greet(hello: Hello, to_agent: &mut Vec<u8>) -> Result<()> {
    let answer = Hello { side: Side::Host, started_us: 0, sent_us: 0 };
    debug_assert_eq!(hello.side, Side::Guest);
    Message::Hello(answer).encode(MACHINE, to_agent)?;
    Message::Setup(Box::new(machine::setup())).encode(MACHINE, to_agent)
}

/// Waits for a child until `deadline`.
fn wait_until(child: &mut Child, deadline: Instant) -> Option<std::process::ExitStatus> {
    let pid = rustix::process::Pid::from_child(child);
    let flags = rustix::process::PidfdFlags::empty();
    let pidfd: OwnedFd = rustix::process::pidfd_open(pid, flags).ok()?;
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(left).ok();
    // If the wait fails, the child is asked all the same.
    let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timeout.as_ref());
    child.try_wait().ok().flatten()
}
