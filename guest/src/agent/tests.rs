//! The agent against a host that speaks frames by hand: many sessions on one connection.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

use super::{Agent, End};
use crate::protocol::{
    Decoder, Exec, Exit, FrameBuffer, Hello, MACHINE, MAX_SESSIONS, Message, Side, Stream, Tty,
    WINDOW,
};

/// A wait this long means that something hangs.
const TIMEOUT: Duration = Duration::from_mins(1);

struct Host {
    stream: UnixStream,
    buffer: FrameBuffer,
    decoder: Decoder,
}

/// What the agent has said of one session.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    output: Vec<u8>,
    started: bool,
    refused: Option<String>,
    exit: Option<Exit>,
}

impl Host {
    /// A host that has heard the hello and answered it, and the agent's thread.
    fn new() -> (Self, JoinHandle<Result<End>>) {
        let (stream, guest) = UnixStream::pair().unwrap();
        let agent = Agent::greet(guest.into(), None, 1).unwrap();
        let thread = thread::spawn(move || agent.serve(&mut |_| Ok(())));
        let mut host = Self::greeting(stream);
        host.read_until(|_, message| matches!(message, Message::Hello(_)));
        (host, thread)
    }

    /// A host that has said hello.
    fn greeting(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut host = Self {
            stream,
            buffer: FrameBuffer::new(),
            decoder: Decoder::new(Side::Guest),
        };
        let hello = Hello {
            side: Side::Host,
            started_us: 0,
            sent_us: 0,
        };
        host.send(MACHINE, &Message::Hello(hello));
        host
    }

    fn set_up() -> (Self, JoinHandle<Result<End>>) {
        let (mut host, thread) = Self::new();
        host.send(MACHINE, &Message::Setup(Box::default()));
        host.read_until(|_, message| *message == Message::SetupDone);
        (host, thread)
    }

    fn send(&mut self, session: u32, message: &Message<'_>) {
        let mut bytes = Vec::new();
        message.encode(session, &mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    fn start(&mut self, session: u32, script: &str, stdin: bool) {
        let exec = Exec {
            argv: vec!["sh".into(), "-c".into(), script.into()],
            stdin,
            ..Exec::default()
        };
        self.send(session, &Message::Exec(Box::new(exec)));
    }

    fn send_input(&mut self, session: u32, bytes: &[u8]) {
        let stream = Stream::Stdin;
        self.send(session, &Message::Data { stream, bytes });
        self.send(session, &Message::Eof(stream));
    }

    /// Reads messages up to the one for which `is_last` holds.
    fn read_until(&mut self, mut is_last: impl FnMut(u32, &Message<'_>) -> bool) {
        loop {
            while let Some(frame) = self.buffer.next_frame().unwrap() {
                let session = frame.header.session;
                let message = self.decoder.decode(frame).unwrap().unwrap();
                if is_last(session, &message) {
                    return;
                }
            }
            let count = self.buffer.fill(&mut self.stream).unwrap();
            assert_ne!(count, 0, "the agent has closed the connection");
        }
    }

    /// How many bytes come next of the only session's output, or else its exit.
    fn read_data(&mut self) -> Result<u32, Exit> {
        let mut next = Ok(0);
        self.read_until(|_, message| {
            match message {
                Message::Data { bytes, .. } => next = Ok(bytes.len() as u32),
                Message::Exit(exit) => next = Err(*exit),
                _ => return false,
            }
            true
        });
        next
    }

    /// Reads until `count` sessions are over; what was said of each.
    fn read_ends(&mut self, mut count: usize) -> BTreeMap<u32, Said> {
        let mut sessions = BTreeMap::<u32, Said>::new();
        self.read_until(|session, message| {
            let said = sessions.entry(session).or_default();
            match message {
                Message::Started { .. } => said.started = true,
                Message::Data { bytes, .. } => said.output.extend(*bytes),
                Message::ExecFailed { message, .. } => said.refused = Some(message.clone()),
                Message::Exit(exit) => said.exit = Some(*exit),
                _ => {}
            }
            count -= usize::from(message.ends_session());
            count == 0
        });
        sessions
    }
}

/// The reason of the last message of an agent that gives up.
fn failure(host: &mut Host) -> String {
    let mut reason = String::new();
    host.read_until(|_, message| match message {
        Message::Failed(words) => {
            reason.clone_from(words);
            true
        }
        _ => false,
    });
    reason
}

#[test]
fn sessions_of_one_connection_do_not_mix() {
    let (mut host, _agent) = Host::set_up();
    let sessions = 1..=40u32;
    for session in sessions.clone() {
        host.start(session, &format!("cat; exit {session}"), true);
    }
    for session in sessions.clone() {
        host.send_input(session, &vec![session as u8; 50_000]);
    }
    let said = host.read_ends(40);
    for session in sessions {
        let expected = Said {
            output: vec![session as u8; 50_000],
            started: true,
            refused: None,
            exit: Some(Exit::Code(session as u8)),
        };
        assert_eq!(said[&session], expected);
    }
}

#[test]
fn a_session_without_credit_stops_no_other() {
    let (mut host, _agent) = Host::set_up();
    host.start(1, "exec head -c 10000000 /dev/zero", false);
    let mut received = 0;
    host.read_until(|_, message| {
        received += match message {
            Message::Data { bytes, .. } => bytes.len(),
            _ => 0,
        };
        received == WINDOW as usize
    });
    host.start(2, "echo through", false);
    let said = host.read_ends(1);
    assert_eq!(said.keys().collect::<Vec<_>>(), [&2]);
    assert_eq!(said[&2].output, b"through\n");
}

#[test]
fn a_child_left_behind_that_writes_for_ever_does_not_hold_the_end_up() {
    let (mut host, _agent) = Host::set_up();
    host.start(1, "yes & read line; exit 3", true);
    // Once the credit is used up, the pipe fills.
    let mut received = 0;
    while received < WINDOW {
        received += host.read_data().unwrap();
    }
    host.send_input(1, b"\n");
    // Time for the program to end.
    thread::sleep(Duration::from_millis(300));
    // Little at once, so that the pipe is always full.
    let (stream, bytes) = (Stream::Stdout, 16_384);
    let exit = loop {
        host.send(1, &Message::Credit { stream, bytes });
        match host.read_data() {
            Ok(count) => received += count,
            Err(exit) => break exit,
        }
        assert!(received < 2 * WINDOW, "it has no end");
    };
    assert_eq!(exit, Exit::Code(3));
}

#[test]
fn all_that_a_program_has_written_is_passed_on_after_its_end() {
    let (mut host, _agent) = Host::set_up();
    host.start(1, "head -c 200000 /dev/zero", false);
    assert_eq!(host.read_ends(1)[&1].output.len(), 200_000);
    let exec = Exec {
        argv: vec![
            "head".into(),
            "-c".into(),
            "10000".into(),
            "/dev/zero".into(),
        ],
        tty: Some(Tty {
            rows: 24,
            cols: 80,
            term: String::new(),
        }),
        ..Exec::default()
    };
    host.send(2, &Message::Exec(Box::new(exec)));
    assert_eq!(host.read_ends(1)[&2].output.len(), 10_000);
}

#[test]
fn one_session_too_many_is_refused() {
    let (mut host, agent) = Host::set_up();
    let last = MAX_SESSIONS as u32 + 1;
    for session in 1..=last {
        host.start(session, "exec sleep 1000", false);
    }
    let said = host.read_ends(1);
    let refused = said[&last].refused.as_deref();
    assert_eq!(refused, Some("the guest already runs 256 programs"));
    assert_eq!(
        said.values().filter(|said| said.started).count(),
        MAX_SESSIONS
    );
    drop(host);
    assert_eq!(agent.join().unwrap().unwrap(), End::HostGone);
}

#[test]
fn a_number_can_be_used_again_once_its_session_is_over() {
    let (mut host, _agent) = Host::set_up();
    host.start(1, "exit 3", false);
    assert_eq!(host.read_ends(1)[&1].exit, Some(Exit::Code(3)));
    // What was under way to the first is dropped.
    host.send(1, &Message::Signal(15));
    host.start(1, "exit 4", false);
    assert_eq!(host.read_ends(1)[&1].exit, Some(Exit::Code(4)));
}

#[test]
fn what_is_left_to_itself_goes_on_without_its_host_and_never_stands_still() {
    let (mut host, agent) = Host::set_up();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("status");
    // More than pipes and windows hold, to both streams, and only once its input has ended.
    let script = format!(
        "cat; head -c 4194304 /dev/zero; head -c 4194304 /dev/zero >&2; echo $? >{}",
        path.display()
    );
    host.start(1, &script, true);
    host.read_until(|_, message| matches!(message, Message::Started { .. }));
    host.send(1, &Message::Detach);
    host.read_until(|_, message| *message == Message::Detached);
    // Another of the same host is not.
    host.start(2, "echo up; exec sleep 1000", false);
    host.read_until(|_, message| matches!(message, Message::Data { .. }));
    drop(host);
    assert_eq!(agent.join().unwrap().unwrap(), End::HostGone);
    assert_eq!(std::fs::read_to_string(path).unwrap(), "0\n");
}

#[test]
fn a_number_that_is_left_to_itself_is_in_use() {
    let (mut host, agent) = Host::set_up();
    host.start(1, "exec sleep 3", false);
    host.send(1, &Message::Detach);
    // Neither is a word about it any more.
    host.send(1, &Message::Signal(9));
    host.start(1, "exit 0", false);
    let reason = failure(&mut host);
    assert_eq!(reason, "the host used session 1 a second time");
    assert!(agent.join().unwrap().is_err());
}

#[test]
fn a_terminal_that_is_left_to_itself_stays() {
    let (mut host, agent) = Host::set_up();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tty");
    let script = format!(
        "exec 3<> {}; read -r line <&3; stty size && tty >&3",
        path.display()
    );
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).unwrap();
    let exec = Exec {
        argv: vec!["sh".into(), "-c".into(), script.as_str().into()],
        tty: Some(Tty {
            rows: 31,
            cols: 97,
            term: String::new(),
        }),
        stdin: true,
        ..Exec::default()
    };
    let mut fifo = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    host.send(1, &Message::Exec(Box::new(exec)));
    host.read_until(|_, message| matches!(message, Message::Started { .. }));
    host.send(1, &Message::Detach);
    host.read_until(|_, message| *message == Message::Detached);
    drop(host);
    fifo.write_all(b"go on\n").unwrap();
    assert_eq!(agent.join().unwrap().unwrap(), End::HostGone);
    let mut word = [0; 9];
    std::io::Read::read_exact(&mut fifo, &mut word).unwrap();
    assert_eq!(&word, b"/dev/pts/");
}

#[test]
fn a_number_in_use_is_an_error() {
    let (mut host, agent) = Host::set_up();
    host.start(1, "exec sleep 1000", false);
    host.start(1, "exit 0", false);
    let reason = failure(&mut host);
    assert_eq!(reason, "the host used session 1 a second time");
    assert!(agent.join().unwrap().is_err());
}

#[test]
fn a_program_before_the_setup_is_an_error() {
    let (mut host, _agent) = Host::new();
    host.start(1, "exit 0", false);
    assert_eq!(failure(&mut host), "the host sent no setup");
}

#[test]
fn a_setup_that_fails_is_told() {
    let (stream, guest) = UnixStream::pair().unwrap();
    let agent = Agent::greet(guest.into(), None, 1).unwrap();
    let thread = thread::spawn(move || agent.serve(&mut |_| anyhow::bail!("no such device")));
    let mut host = Host::greeting(stream);
    host.send(MACHINE, &Message::Setup(Box::default()));
    assert_eq!(failure(&mut host), "no such device");
    assert_eq!(
        thread.join().unwrap().unwrap_err().to_string(),
        "no such device"
    );
}
