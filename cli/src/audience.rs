//! Those who are attached to a program in the background: they see what it says and type to it.
//!
//! The one thing to know: a member speaks the guest's protocol as with a guest's agent, so attaching
//! to a program that runs is the same as running one. What a member cannot take is left out for it:
//! neither the program nor another member waits for one that stands still.
//!
//! Left out: what was said before; that is in the log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use guest::protocol::{
    Decoder, Exit, FIRST_SESSION, FrameBuffer, Hello, MACHINE, Message, Side, Stream, WINDOW,
};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::attach::{Command, Commander};
use crate::logs;

/// Those who may be attached at a time: more than look at one program, and a bound for threads and
/// memory (two threads and three windows each).
const MEMBERS_MAX: usize = 16;

/// For members to take the last words before the machine goes; one that stands still has them cut.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Input that is passed on goes back as credit in steps of this.
const CREDIT_STEP: u32 = WINDOW / 4;

/// All members, for those who have to do with the program.
#[derive(Clone)]
pub struct Audience(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something waits for a member, or one has gone.
    change: Condvar,
    /// What members want of the program.
    commander: Commander,
    /// What they type, if it is taken.
    input: OnceLock<Sender<Typed>>,
}

#[derive(Default)]
struct State {
    members: BTreeMap<u64, Member>,
    /// Number of the next.
    next: u64,
    has_ended: bool,
}

struct Member {
    /// Frames that wait to be sent; the credit bounds them.
    outbox: Vec<u8>,
    /// Bytes of standard output and error that it has room for.
    room: [u32; 2],
    /// Bytes that it was not sent.
    left_out: u64,
    /// Bytes that it may type.
    credit: u32,
    /// Bytes that it has typed and that were passed on.
    passed: u32,
    /// Whether nothing comes behind what waits.
    is_finished: bool,
}

/// What a member has typed.
struct Typed {
    member: u64,
    bytes: Vec<u8>,
}

impl Audience {
    /// Nobody yet. `commander`: where the program hears of signals and its terminal's size.
    pub fn new(commander: Commander) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            change: Condvar::new(),
            commander,
            input: OnceLock::new(),
        }))
    }

    /// Has what members type taken. Returns where it comes from; that has no end while they may come.
    ///
    /// # Errors
    /// The host is out of something.
    pub fn take_input(&self) -> Result<OwnedFd> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")?;
        let (sender, typed) = mpsc::channel();
        let shared = Arc::clone(&self.0);
        thread::Builder::new()
            .name("typed".into())
            .spawn(move || shared.pass_on(&typed, File::from(write)))
            .context("cannot start a thread")?;
        // It is asked for once.
        let _ = self.0.input.set(sender);
        Ok(read)
    }

    /// Whether one more may come.
    ///
    /// # Errors
    /// There are too many, or the program has ended.
    pub fn ensure_room(&self) -> Result<()> {
        let state = self.0.lock();
        ensure!(!state.has_ended, "it has ended");
        ensure!(
            state.members.len() < MEMBERS_MAX,
            "{MEMBERS_MAX} others are attached already"
        );
        Ok(())
    }

    /// Has the one at the other end of `stream` see what is said from now on.
    ///
    /// # Errors
    /// The host is out of something.
    pub fn join(&self, stream: UnixStream) -> Result<()> {
        let mut outbox = Vec::new();
        let hello = Hello {
            side: Side::Guest,
            started_us: 0,
            sent_us: 0,
        };
        Message::Hello(hello).encode(MACHINE, &mut outbox)?;
        // Which process it is says nothing out here.
        Message::Started { pid: 0 }.encode(FIRST_SESSION, &mut outbox)?;
        let member = self.0.add(Member {
            outbox,
            room: [WINDOW; 2],
            left_out: 0,
            credit: WINDOW,
            passed: 0,
            is_finished: false,
        });
        let started = self.start_threads(member, stream);
        if started.is_err() {
            self.0.remove(member);
        }
        started
    }

    fn start_threads(&self, member: u64, stream: UnixStream) -> Result<()> {
        let (heard, hearing) = (Arc::clone(&self.0), Arc::clone(&self.0));
        let other = stream.try_clone().context("cannot copy a socket")?;
        thread::Builder::new()
            .name("attached-out".into())
            .spawn(move || {
                heard.write(member, &other);
                heard.remove(member);
                // What it says until it goes has a reader still.
                let _ = other.shutdown(Shutdown::Write);
            })
            .context("cannot start a thread")?;
        thread::Builder::new()
            .name("attached-in".into())
            .spawn(move || {
                // One that goes, or breaks the protocol, is let go.
                let _ = hearing.read(member, &stream);
                if hearing.is_let_go(member) {
                    let _ = stream.shutdown(Shutdown::Both);
                }
            })
            .context("cannot start a thread")?;
        Ok(())
    }

    /// Shows all what the program says.
    pub fn show(&self, stream: logs::Stream, bytes: &[u8]) {
        let mut state = self.0.lock();
        for member in state.members.values_mut() {
            member.show(stream, bytes);
        }
        self.0.change.notify_all();
    }

    /// Tells all that the program has ended, and how if that is known. Returns when they have heard
    /// it.
    pub fn end(&self, exit: Option<Exit>) {
        let mut state = self.0.lock();
        state.has_ended = true;
        for member in state.members.values_mut() {
            if let Some(exit) = exit {
                member.send(&Message::Exit(exit));
            }
            member.is_finished = true;
        }
        self.0.change.notify_all();
        let is_there = |state: &mut State| !state.members.is_empty();
        let waited = self
            .0
            .change
            .wait_timeout_while(state, LAST_WORDS, is_there);
        // Who has not heard it by then finds the connection closed.
        drop(waited);
    }
}

impl Shared {
    /// The state is whole even if a holder of the lock has panicked.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, member: Member) -> u64 {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.members.insert(number, member);
        number
    }

    fn remove(&self, member: u64) {
        self.lock().members.remove(&member);
        self.change.notify_all();
    }

    /// Has a member go that says nothing more; false if it goes once it has heard the rest.
    fn is_let_go(&self, member: u64) -> bool {
        let mut state = self.lock();
        let waits = |member: &Member| member.is_finished;
        if state.members.get(&member).is_some_and(waits) {
            return false;
        }
        state.members.remove(&member);
        drop(state);
        self.change.notify_all();
        true
    }

    /// A member's thread that sends what waits for it.
    fn write(&self, member: u64, mut stream: &UnixStream) {
        while let Some(bytes) = self.next(member) {
            if stream.write_all(&bytes).is_err() {
                return;
            }
        }
    }

    /// All that waits for a member, at least a byte; none when no more comes.
    fn next(&self, member: u64) -> Option<Vec<u8>> {
        let is_idle = |state: &mut State| {
            let member = state.members.get(&member);
            member.is_some_and(|member| member.outbox.is_empty() && !member.is_finished)
        };
        let waited = self.change.wait_while(self.lock(), is_idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let waiting = &mut state.members.get_mut(&member)?.outbox;
        Some(std::mem::take(waiting)).filter(|bytes| !bytes.is_empty())
    }

    /// A member's thread that does what it wants.
    fn read(&self, member: u64, mut stream: &UnixStream) -> Result<()> {
        let mut buffer = FrameBuffer::new();
        let mut decoder = Decoder::new(Side::Host);
        while buffer.fill(&mut stream)? > 0 {
            while let Some(frame) = buffer.next_frame()? {
                if let Some(message) = decoder.decode(frame)? {
                    self.take(member, &message)?;
                }
            }
        }
        Ok(())
    }

    fn take(&self, number: u64, message: &Message<'_>) -> Result<()> {
        match message {
            // What asks for more than the program takes is dropped, as if it did not look.
            Message::Signal(signal) => drop(self.commander.tell(Command::Signal(*signal))),
            Message::Resize { rows, cols } => {
                let (rows, cols) = (*rows, *cols);
                drop(self.commander.tell(Command::Resize { rows, cols }));
            }
            // The end of its input is no end of the program's, which is no member's alone.
            Message::Hello(_) | Message::Eof(Stream::Stdin) => {}
            Message::Data { bytes, .. } => {
                let mut state = self.lock();
                let member = state.members.get_mut(&number).context("it has gone")?;
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let left = member.credit.checked_sub(length);
                member.credit = left.context("more input than there is room for")?;
                drop(state);
                if let Some(input) = self.input.get() {
                    let bytes = bytes.to_vec();
                    // The program may read no more.
                    let _ = input.send(Typed {
                        member: number,
                        bytes,
                    });
                }
            }
            Message::Credit { stream, bytes } => {
                if let Some(member) = self.lock().members.get_mut(&number) {
                    let room = member.room(*stream);
                    *room = room.saturating_add(*bytes).min(WINDOW);
                }
            }
            Message::Detach => {
                if let Some(member) = self.lock().members.get_mut(&number) {
                    member.send(&Message::Detached);
                    member.is_finished = true;
                }
                self.change.notify_all();
            }
            _ => bail!("it asks for what only a guest can do"),
        }
        Ok(())
    }

    /// The thread that writes what is typed to the program's input.
    fn pass_on(&self, typed: &Receiver<Typed>, mut input: File) {
        for Typed { member, bytes } in typed {
            if input.write_all(&bytes).is_err() {
                return;
            }
            if let Some(member) = self.lock().members.get_mut(&member) {
                member.has_passed(u32::try_from(bytes.len()).unwrap_or(WINDOW));
            }
            self.change.notify_all();
        }
    }
}

impl Member {
    fn send(&mut self, message: &Message<'_>) {
        if !self.is_finished {
            let encoded = message.encode(FIRST_SESSION, &mut self.outbox);
            debug_assert!(encoded.is_ok(), "{encoded:?}");
        }
    }

    fn room(&mut self, stream: Stream) -> &mut u32 {
        let [stdout, stderr] = &mut self.room;
        match stream {
            Stream::Stderr => stderr,
            _ => stdout,
        }
    }

    /// Sends what it has room for, and says how much it had none for.
    fn show(&mut self, stream: logs::Stream, bytes: &[u8]) {
        let stream = match stream {
            logs::Stream::Stdout => Stream::Stdout,
            logs::Stream::Stderr => Stream::Stderr,
        };
        let words = match self.left_out {
            0 => String::new(),
            count => format!("\r\nmvm: {count} bytes are left out here, `mvm logs` has them\r\n"),
        };
        let length = u32::try_from(words.len() + bytes.len()).unwrap_or(u32::MAX);
        let room = self.room(stream);
        let Some(left) = room.checked_sub(length) else {
            self.left_out = self.left_out.saturating_add(bytes.len() as u64);
            return;
        };
        *room = left;
        self.left_out = 0;
        for bytes in [words.as_bytes(), bytes] {
            if !bytes.is_empty() {
                self.send(&Message::Data { stream, bytes });
            }
        }
    }

    fn has_passed(&mut self, bytes: u32) {
        self.passed += bytes;
        if self.passed >= CREDIT_STEP {
            let bytes = std::mem::take(&mut self.passed);
            self.credit = self.credit.saturating_add(bytes).min(WINDOW);
            let stream = Stream::Stdin;
            self.send(&Message::Credit { stream, bytes });
        }
    }
}

#[cfg(test)]
mod tests;
