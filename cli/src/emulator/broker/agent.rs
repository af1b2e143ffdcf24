//! The machine and its agent, at the other end of the port.
//!
//! The one thing to know: the agent is greeted and set up here; what it says about an execution is
//! handed on as the frame that it came in.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use guest::protocol::{Decoder, FrameBuffer, Hello, MACHINE, Message, Side};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::client::{encoded, write};
use crate::attach::{Clock, is_transient};
use crate::emulator::files;

/// For the guest to end its programs and write what it holds.
const POWER_OFF_TIMEOUT: Duration = Duration::from_secs(5);

/// For QEMU to be gone once it has closed its end of the port.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// QEMU, and what its guest says.
pub struct Agent {
    process: Child,
    pub stream: UnixStream,
    buffer: FrameBuffer,
    decoder: Decoder,
    /// Bytes for the agent.
    waiting: Vec<u8>,
    greeted: Option<Hello>,
    /// The guest's hello, once it is set up.
    ready: Option<Hello>,
    /// How its clock, which is that of all machines in it, is kept right.
    clock: Clock,
}

/// A frame of an execution.
pub struct Said {
    pub session: u32,
    /// The frame as it came.
    pub bytes: Vec<u8>,
    /// Whether it is the last one of its session.
    pub is_last: bool,
}

impl Agent {
    /// `process` has just been started with the other end of `stream`.
    pub fn new(process: Child, stream: UnixStream) -> Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            process,
            stream,
            buffer: FrameBuffer::new(),
            decoder: Decoder::new(Side::Guest),
            waiting: Vec::new(),
            greeted: None,
            ready: None,
            clock: Clock::start()?,
        })
    }

    /// The guest's hello, once it takes executions.
    pub fn hello(&self) -> Option<Hello> {
        self.ready
    }

    /// Readable when [`Self::look_at_clock`] is due.
    pub fn clock(&self) -> BorrowedFd<'_> {
        self.clock.descriptor()
    }

    /// Asks what time it is there, once it takes executions.
    pub fn look_at_clock(&mut self) {
        self.clock.take_tick();
        if self.ready.is_some() && self.clock.ask() {
            self.say(MACHINE, &Message::Clock { shift_ns: 0 });
        }
    }

    /// Bytes that wait for the agent.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Queues frames.
    pub fn push(&mut self, frames: Vec<u8>) {
        self.waiting.extend(frames);
    }

    /// Queues a message of a few bytes, which always has an encoding.
    pub fn say(&mut self, session: u32, message: &Message<'_>) {
        let encoded = message.encode(session, &mut self.waiting);
        debug_assert!(encoded.is_ok(), "{encoded:?}");
    }

    /// Writes what the port takes.
    pub fn flush(&mut self) -> Result<()> {
        match write(&self.stream, &self.waiting) {
            Ok(sent) => {
                self.waiting.drain(..sent);
            }
            // The read that follows finds the end, after the agent's last words.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.waiting.clear(),
            Err(error) => return Err(error).context("cannot write to its agent"),
        }
        Ok(())
    }

    /// Reads once, to be followed by [`Self::next`] until there is nothing.
    pub fn read(&mut self) -> Result<()> {
        match self.buffer.fill(&mut &self.stream) {
            Ok(0) => bail!("its machine ended{}", self.status()),
            Ok(_) => Ok(()),
            Err(error) if is_transient(&error) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                bail!("its machine ended{}", self.status())
            }
            Err(error) => Err(error).context("cannot read from its agent"),
        }
    }

    /// The next frame of an execution.
    pub fn next(&mut self) -> Result<Option<Said>> {
        while let Some(frame) = self.buffer.next_frame()? {
            let session = frame.header.session;
            let bytes = encoded(&frame);
            let Some(message) = self.decoder.decode(frame)? else {
                bail!("its agent sent a message in pieces");
            };
            match message {
                Message::Hello(hello) if self.greeted.is_none() => {
                    self.greeted = Some(hello);
                    greet(&mut self.waiting)?;
                }
                Message::SetupDone if self.ready.is_none() => self.ready = self.greeted,
                Message::Time { now_ns } => {
                    if let Some(shift_ns) = self.clock.hear(now_ns)? {
                        self.say(MACHINE, &Message::Clock { shift_ns });
                    }
                }
                Message::Failed(reason) => bail!("its agent failed: {reason}"),
                _ if session == MACHINE => bail!("its agent sent an unexpected {message:?}"),
                message => {
                    let is_last = message.ends_session();
                    return Ok(Some(Said {
                        session,
                        bytes,
                        is_last,
                    }));
                }
            }
        }
        Ok(None)
    }

    /// How QEMU ended, as words to append; it has closed its end of the port.
    fn status(&mut self) -> String {
        match wait_until(&mut self.process, Instant::now() + END_TIMEOUT) {
            Some(status) => format!(" ({status}); `mvm emulator log` shows its last words"),
            None => String::new(),
        }
    }

    /// Switches the machine off, and kills it if it does not end.
    pub fn end(&mut self) {
        let mut bytes = Vec::new();
        let power_off = Message::PowerOff.encode(MACHINE, &mut bytes);
        let is_asked = self.ready.is_some()
            && power_off.is_ok()
            && write(&self.stream, &bytes).is_ok_and(|sent| sent == bytes.len());
        let patience = if is_asked {
            POWER_OFF_TIMEOUT
        } else {
            Duration::ZERO
        };
        if wait_until(&mut self.process, Instant::now() + patience).is_none() {
            // It may have ended just now.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// Answers the guest's hello, and says what to prepare.
fn greet(waiting: &mut Vec<u8>) -> Result<()> {
    let answer = Hello {
        side: Side::Host,
        started_us: 0,
        sent_us: 0,
    };
    Message::Hello(answer).encode(MACHINE, waiting)?;
    Message::Setup(Box::new(files::setup())).encode(MACHINE, waiting)
}

/// Waits for a child until `deadline`.
fn wait_until(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    let pidfd: OwnedFd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).ok()?;
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(left).ok();
    // If the wait fails, the child is asked all the same.
    let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timeout.as_ref());
    child.try_wait().ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::Command;

    use guest::protocol::Exit;

    use super::*;

    /// An agent whose port the test holds, and whose machine is a program that just waits.
    fn agent() -> (Agent, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let process = Command::new("sleep").arg("100").spawn().unwrap();
        (Agent::new(process, ours).unwrap(), theirs)
    }

    fn send(port: &mut UnixStream, session: u32, message: &Message<'_>) {
        let mut bytes = Vec::new();
        message.encode(session, &mut bytes).unwrap();
        port.write_all(&bytes).unwrap();
    }

    fn hello() -> Hello {
        Hello {
            side: Side::Guest,
            started_us: 1,
            sent_us: 2,
        }
    }

    #[test]
    fn it_is_ready_when_it_has_been_set_up() {
        let (mut agent, mut port) = agent();
        send(&mut port, MACHINE, &Message::Hello(hello()));
        agent.read().unwrap();
        assert!(agent.next().unwrap().is_none());
        assert_eq!(agent.hello(), None);
        agent.flush().unwrap();
        assert!(port.read(&mut [0; 4096]).unwrap() > 0);
        send(&mut port, MACHINE, &Message::SetupDone);
        agent.read().unwrap();
        assert!(agent.next().unwrap().is_none());
        assert_eq!(agent.hello(), Some(hello()));
        agent.process.kill().unwrap();
        agent.end();
    }

    #[test]
    fn an_end_is_the_last_frame_of_its_session() {
        let (mut agent, mut port) = agent();
        send(&mut port, 7, &Message::Started { pid: 2 });
        send(&mut port, 7, &Message::Exit(Exit::Code(0)));
        agent.read().unwrap();
        let said = [
            agent.next().unwrap().unwrap(),
            agent.next().unwrap().unwrap(),
        ];
        assert_eq!(
            said.map(|said| (said.session, said.is_last)),
            [(7, false), (7, true)]
        );
        agent.end();
    }

    #[test]
    fn a_machine_that_ends_is_told_with_its_status() {
        let (mut agent, port) = agent();
        // A child that another test is just starting may hold the port for a moment longer.
        agent.stream.set_nonblocking(false).unwrap();
        agent.process.kill().unwrap();
        drop(port);
        let error = agent.read().unwrap_err().to_string();
        assert!(
            error.starts_with("its machine ended (signal: 9 (SIGKILL))"),
            "{error}"
        );
    }

    #[test]
    fn its_clock_is_moved_if_it_is_off() {
        let (mut agent, mut port) = agent();
        send(&mut port, MACHINE, &Message::Hello(hello()));
        send(&mut port, MACHINE, &Message::SetupDone);
        agent.read().unwrap();
        assert!(agent.next().unwrap().is_none());
        agent.look_at_clock();
        send(&mut port, MACHINE, &Message::Time { now_ns: 0 });
        agent.read().unwrap();
        assert!(agent.next().unwrap().is_none());
        agent.flush().unwrap();
        let (mut buffer, mut decoder) = (FrameBuffer::new(), Decoder::new(Side::Host));
        let mut shifts = Vec::new();
        while shifts.len() < 2 {
            assert_ne!(buffer.fill(&mut port).unwrap(), 0);
            while let Some(frame) = buffer.next_frame().unwrap() {
                if let Some(Message::Clock { shift_ns }) = decoder.decode(frame).unwrap() {
                    shifts.push(shift_ns);
                }
            }
        }
        assert!(shifts[0] == 0 && shifts[1] > 0, "{shifts:?}");
        agent.end();
    }

    #[test]
    fn its_own_failure_is_an_error() {
        let (mut agent, mut port) = agent();
        send(&mut port, MACHINE, &Message::Failed("no 9p".into()));
        agent.read().unwrap();
        let error = agent.next().err().unwrap().to_string();
        assert_eq!(error, "its agent failed: no 9p");
        agent.end();
    }
}
