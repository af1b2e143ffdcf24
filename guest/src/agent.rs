//! The agent: runs programs for a host at the other end of a byte stream.
//!
//! The one thing to know: one thread and one `poll` serve all sessions. Nothing in the loop blocks
//! but the start of a program, until its execve is done. Leaves out the duties of PID 1; the program
//! `mvm-init` has those, and a test needs none of them.

mod accounts;
mod clock;
mod closure;
mod dial;
mod interpreter;
mod listener;
mod process;
mod program;
mod session;
mod sessions;
mod terminal;
#[cfg(test)]
mod tests;
mod whereabouts;

use std::io;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

pub use listener::{Listener, SERVE, serve_apart};
pub use process::{child_signals, ignore_broken_pipes, signal_all};
use sessions::{Ready, Sessions};

use crate::protocol::{Bounds, Decoder, FrameBuffer, Hello, MACHINE, Message, Setup, Side};

/// Reads of the port between two looks at the streams: a port hands out one page at a time
/// (`port_fops_read`), a whole frame is 17 of them.
const READS_AT_ONCE: usize = 32;

/// Why [`Agent::serve`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The host wants the machine switched off.
    PowerOff,
    /// The host closed the connection. What it had started has been killed; what it had left to itself
    /// has ended.
    HostGone,
}

/// Serves one connection.
pub struct Agent {
    channel: OwnedFd,
    sessions: Sessions,
    /// Where more connections of the host come from.
    listener: Option<Listener>,
    greeted: bool,
    set_up: bool,
}

impl Agent {
    /// Says hello on `channel`, a port or socket, and waits until the host can hear it.
    ///
    /// `children`: a descriptor from [`child_signals`], for a PID 1. The agent then waits for every
    /// child of the process, among them the orphans that it inherits, rather than for its own alone.
    /// `started_us` is told in the hello.
    pub fn greet(channel: OwnedFd, children: Option<OwnedFd>, started_us: u64) -> Result<Self> {
        let mut agent = Self {
            channel,
            sessions: Sessions::new(children),
            listener: None,
            greeted: false,
            set_up: false,
        };
        let hello = Hello {
            side: Side::Guest,
            started_us,
            sent_us: boot_time_us(),
        };
        agent.sessions.outbox.push(MACHINE, &Message::Hello(hello));
        // The one write that may block: a port takes nothing until the host has opened its end
        // (`wait_port_writable`).
        agent.flush_all().context("cannot greet the host")?;
        rustix::io::ioctl_fionbio(&agent.channel, true).context("cannot prepare the channel")?;
        Ok(agent)
    }

    /// Takes more connections of the host from `listener` while this one is served.
    #[must_use]
    pub fn listening(mut self, listener: Option<Listener>) -> Self {
        self.listener = listener;
        self
    }

    /// Serves the host as [`Self::serve`] does, in a guest that is set up.
    pub fn serve_prepared(mut self) -> Result<End> {
        self.set_up = true;
        self.serve(&mut |_| bail!("the guest is set up already"))
    }

    /// Serves the host until one of the two ends. `setup` carries the host's setup out.
    ///
    /// Descriptors 0 to 2 of the process must be open. On an error the host has been told why. Returns
    /// when the programs have ended that it has left to themselves, unless this is PID 1, whose end is
    /// theirs.
    pub fn serve(mut self, setup: &mut dyn FnMut(&Setup) -> Result<()>) -> Result<End> {
        let outcome = self.run(setup);
        if let Err(error) = &outcome {
            let failed = Message::Failed(format!("{error:#}"));
            self.sessions.outbox.push(MACHINE, &failed);
            // The first error is the one to report.
            let _ = self.flush_all();
        }
        let Self {
            mut sessions,
            channel,
            ..
        } = self;
        sessions.kill();
        // What is left to itself may take long, and the connection ends now.
        drop(channel);
        sessions
            .serve_detached()
            .context("cannot wait for events")?;
        outcome
    }

    fn run(&mut self, setup: &mut dyn FnMut(&Setup) -> Result<()>) -> Result<End> {
        let mut buffer = FrameBuffer::new();
        let mut decoder = Decoder::new(Side::Host);
        loop {
            match self.sessions.outbox.flush(&self.channel) {
                Ok(()) => {}
                Err(error) if is_hangup(&error) => return Ok(End::HostGone),
                Err(error) => return Err(error).context("cannot write to the host"),
            }
            let (channel, listener, ready) = self.wait().context("cannot wait for events")?;
            if let (Some(connections), true) = (&self.listener, listener) {
                connections.welcome();
            }
            if channel.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                for _ in 0..READS_AT_ONCE {
                    match buffer.fill(&mut Channel(&self.channel)) {
                        Ok(0) => return Ok(End::HostGone),
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) if is_hangup(&error) => return Ok(End::HostGone),
                        Err(error) => return Err(error).context("cannot read from the host"),
                    }
                    while let Some(frame) = buffer.next_frame()? {
                        let session = frame.header.session;
                        let Some(message) = decoder.decode(frame)? else {
                            continue;
                        };
                        if self.handle(session, message, setup)? {
                            return Ok(End::PowerOff);
                        }
                    }
                }
            }
            self.sessions.handle(&ready);
        }
    }

    /// Waits until something can be done: what the channel is ready for, whether somebody wants to
    /// connect, and the sessions' ends.
    fn wait(&self) -> Result<(PollFlags, bool, Vec<Ready>), Errno> {
        let mut interest = PollFlags::IN;
        if !self.sessions.outbox.is_empty() {
            interest |= PollFlags::OUT;
        }
        let mut fds = vec![PollFd::new(&self.channel, interest)];
        if let Some(listener) = &self.listener {
            fds.push(PollFd::new(listener.descriptor(), PollFlags::IN));
        }
        let own = fds.len();
        let mut sources = Vec::new();
        self.sessions.watch(&mut fds, &mut sources);
        let ready = Ready::among(&mut fds, sources, self.sessions.next())?;
        let listener = own > 1 && !fds[1].revents().is_empty();
        Ok((fds[0].revents(), listener, ready))
    }

    /// Does what a message asks for; true if that is to switch off.
    fn handle(
        &mut self,
        session: u32,
        message: Message<'_>,
        setup: &mut dyn FnMut(&Setup) -> Result<()>,
    ) -> Result<bool> {
        ensure!(
            self.greeted || matches!(message, Message::Hello(_)),
            "the host did not say hello"
        );
        match message {
            Message::Hello(_) => self.greeted = true,
            Message::PowerOff => return Ok(true),
            Message::Setup(wanted) => {
                ensure!(!self.set_up, "the host sent a second setup");
                setup(&wanted)?;
                self.set_up = true;
                self.sessions.outbox.push(MACHINE, &Message::SetupDone);
            }
            Message::Clock { shift_ns } => {
                let now_ns = clock::moved(shift_ns);
                self.sessions
                    .outbox
                    .push(MACHINE, &Message::Time { now_ns });
            }
            Message::Exec(_) | Message::Connect(_) if !self.set_up => {
                bail!("the host sent no setup")
            }
            message => self.sessions.take(session, &message)?,
        }
        Ok(false)
    }

    /// Writes all that waits, blocking.
    fn flush_all(&mut self) -> Result<()> {
        rustix::io::ioctl_fionbio(&self.channel, false)?;
        self.sessions.outbox.flush(&self.channel)?;
        Ok(())
    }
}

/// The numbers of a user and its group, by the guest's `/etc/passwd` and `/etc/group`.
pub fn ids(user: &str) -> Result<(u32, u32)> {
    let account = accounts::Account::find(user, &Bounds::default())?;
    Ok((account.uid, account.gid))
}

/// Time since the kernel started, in µs (`CLOCK_BOOTTIME`).
pub fn boot_time_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.cast_unsigned() * 1_000_000 + now.tv_nsec.cast_unsigned() / 1000
}

fn is_hangup(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    ) || Errno::from_io_error(error) == Some(Errno::NODEV)
}

/// Reads the channel without owning it.
struct Channel<'a>(&'a OwnedFd);

impl io::Read for Channel<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.0, buffer)?)
    }
}
