//! A guest that says what it should not.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use guest::protocol::{
    Decoder, Exit, FIRST_SESSION, FrameBuffer, Header, Hello, MACHINE, Message, Side, Stream,
    WINDOW,
};
use rustix::io::ioctl_fionread;

use super::{
    Company, Connection, FakeSignals, Outcome, Program, Stdio, TIMEOUT, attach_with, code,
    fake_signals, null, sh,
};

pub fn frame(session: u32, message: &Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(session, &mut bytes).unwrap();
    bytes
}

pub fn hello() -> Vec<u8> {
    let hello = Hello {
        side: Side::Guest,
        started_us: 5,
        sent_us: 9,
    };
    frame(MACHINE, &Message::Hello(hello))
}

pub fn execution(messages: &[Message<'_>]) -> Vec<u8> {
    let frames = messages.iter().map(|message| frame(FIRST_SESSION, message));
    frames.collect::<Vec<_>>().concat()
}

/// What attaching to a guest ends with that sends these bytes, whatever it is told, and then closes.
fn attach_to(bytes: Vec<u8>) -> Result<Outcome, String> {
    let (signals, _send) = fake_signals();
    attach_to_acting(silence(), signals, move |mut guest| {
        // The host may have hung up by then.
        let _ = guest.write_all(&bytes);
        let _ = guest.shutdown(std::net::Shutdown::Write);
        let _ = guest.read_to_end(&mut Vec::new());
    })
}

fn data(bytes: &[u8]) -> Message<'_> {
    Message::Data {
        stream: Stream::Stdout,
        bytes,
    }
}

#[test]
fn frames_out_of_order_are_errors() {
    let started = Message::Started { pid: 1 };
    let cases = [
        (execution(&[data(b"x")]), "data before the start"),
        (
            execution(&[started.clone(), started.clone()]),
            "the program was started twice",
        ),
        (
            frame(7, &started),
            "message for session 7, which does not exist",
        ),
        (
            frame(MACHINE, &Message::SetupDone),
            "message for session 0, which does not exist",
        ),
        (
            frame(MACHINE, &Message::Time { now_ns: 0 }),
            "a time that was not asked for",
        ),
        (
            execution(&[
                started.clone(),
                Message::Credit {
                    stream: Stream::Stdin,
                    bytes: 1,
                },
            ]),
            "credit for 1 bytes of Stdin that were not sent",
        ),
    ];
    for (bytes, reason) in cases {
        let error = attach_to(bytes).unwrap_err();
        assert_eq!(error, format!("guest agent protocol: {reason}"));
    }
}

#[test]
fn a_frame_of_four_gigabytes_is_an_error() {
    let header = Header {
        session: FIRST_SESSION,
        kind: 20,
        flags: 0,
        length: u32::MAX,
    };
    let error = attach_to(header.encode().to_vec()).unwrap_err();
    let reason = "frame of kind 20 has 4294967295 bytes, at most 65536 are allowed";
    assert_eq!(error, format!("guest agent protocol: {reason}"));
}

#[test]
fn a_second_exit_is_not_looked_at() {
    let exit = Message::Exit(Exit::Code(3));
    let outcome = attach_to(execution(&[
        Message::Started { pid: 1 },
        exit.clone(),
        exit,
    ]));
    assert_eq!(outcome.unwrap(), code(3));
}

#[test]
fn more_than_a_window_is_an_error() {
    // Nothing is given back for less than a quarter of a window, and that after it was written: so
    // much at once is too much whatever the writer's thread has done by then.
    let piece = vec![0; 65_536];
    let mut bytes = execution(&[Message::Started { pid: 1 }]);
    for _ in 0..64 * WINDOW / 65_536 {
        bytes.extend(execution(&[data(&piece)]));
    }
    let error = attach_to_blocked(bytes).unwrap_err();
    assert!(error.contains("bytes of Stdout with credit for"), "{error}");
}

/// Attaches to a guest that does `act` once it has said hello.
fn attach_to_acting(
    stdio: Stdio,
    signals: FakeSignals,
    act: impl FnOnce(UnixStream) + Send + 'static,
) -> Result<Outcome, String> {
    let (host, mut guest) = UnixStream::pair().unwrap();
    let thread = thread::spawn(move || {
        guest.write_all(&hello()).unwrap();
        act(guest);
    });
    let mut connection = Connection::open(host, TIMEOUT).unwrap();
    let outcome = attach_with(
        &mut connection,
        Program::New(&sh("true")),
        stdio,
        signals,
        None,
        Company::default(),
    );
    drop(connection);
    thread.join().unwrap();
    outcome.map_err(|error| format!("{error:#}"))
}

/// Streams that give and keep nothing.
fn silence() -> Stdio {
    Stdio {
        stdin: null(),
        stdout: null(),
        stderr: null(),
    }
}

/// As [`attach_to`], with a standard output that takes nothing.
fn attach_to_blocked(bytes: Vec<u8>) -> Result<Outcome, String> {
    let (signals, _send) = fake_signals();
    let (_unread, stdout) = super::pipe();
    let stdio = Stdio {
        stdout,
        ..silence()
    };
    attach_to_acting(stdio, signals, move |mut guest| {
        // The host may hang up meanwhile.
        let _ = guest.write_all(&bytes);
    })
}

#[test]
fn a_million_tiny_frames_are_only_work() {
    let mut bytes = execution(&[Message::Started { pid: 1 }]);
    bytes.extend(execution(&[data(b"x")]).repeat(WINDOW as usize));
    bytes.extend(execution(&[Message::Exit(Exit::Code(0))]));
    assert_eq!(attach_to(bytes).unwrap(), code(0));
}

#[test]
fn credit_is_given_even_if_the_guest_takes_no_input() {
    let (signals, _send) = fake_signals();
    let stdio = Stdio {
        stdin: File::open("/dev/zero").unwrap().into(),
        ..silence()
    };
    let outcome = attach_to_acting(stdio, signals, |mut guest| {
        guest.set_read_timeout(Some(TIMEOUT)).unwrap();
        guest
            .write_all(&execution(&[Message::Started { pid: 1 }]))
            .unwrap();
        let piece = vec![0; 65_536];
        // Time for the host to read as much input as it ever does.
        thread::sleep(Duration::from_millis(300));
        for _ in 0..WINDOW / 65_536 {
            guest.write_all(&execution(&[data(&piece)])).unwrap();
        }
        thread::sleep(Duration::from_millis(300));
        read_credit(&mut guest, WINDOW / 2);
        guest
            .write_all(&execution(&[Message::Exit(Exit::Code(0))]))
            .unwrap();
    });
    assert_eq!(outcome.unwrap(), code(0));
}

/// More signals than the host keeps for a guest that does not read.
const FLOOD: usize = 50_000;

/// Attaches to a guest that starts a program, reads nothing until the host keeps no more for it, and
/// then does `act`.
fn attach_to_full(
    act: impl FnOnce(UnixStream) -> std::io::Result<()> + Send + 'static,
) -> Result<Outcome, String> {
    let (signals, mut send) = fake_signals();
    let unread = signals.0.try_clone().unwrap();
    send.write_all(&vec![10; FLOOD]).unwrap();
    attach_to_acting(silence(), signals, move |mut guest| {
        guest
            .write_all(&execution(&[Message::Started { pid: 1 }]))
            .unwrap();
        while ioctl_fionread(&unread).unwrap() > 0 {
            thread::sleep(Duration::from_millis(1));
        }
        // The host may hang up meanwhile.
        let _ = act(guest);
    })
}

#[test]
fn a_guest_that_never_takes_its_credit_has_none() {
    let error = attach_to_full(|mut guest| {
        let piece = vec![0; 65_536];
        for _ in 0..4 * WINDOW / 65_536 {
            guest.write_all(&execution(&[data(&piece)]))?;
            // Time for the host to write it and to give credit.
            thread::sleep(Duration::from_millis(2));
        }
        guest.write_all(&execution(&[Message::Exit(Exit::Code(0))]))
    });
    assert_eq!(
        error.unwrap_err(),
        "guest agent protocol: 65536 bytes of Stdout with credit for 0"
    );
}

#[test]
fn credit_that_was_held_back_comes_once_the_guest_reads() {
    let outcome = attach_to_full(|mut guest| {
        guest.set_read_timeout(Some(TIMEOUT))?;
        let piece = vec![0; 65_536];
        for _ in 0..WINDOW / 65_536 {
            guest.write_all(&execution(&[data(&piece)]))?;
        }
        // Time for the host to write it.
        thread::sleep(Duration::from_millis(300));
        read_credit(&mut guest, WINDOW / 2);
        guest.write_all(&execution(&[Message::Exit(Exit::Code(0))]))
    });
    assert_eq!(outcome.unwrap(), code(0));
}

/// Reads what the host says until it has given more than `least` bytes of credit.
fn read_credit(guest: &mut UnixStream, least: u32) {
    let (mut buffer, mut decoder) = (FrameBuffer::new(), Decoder::new(Side::Host));
    let mut credit = 0;
    while credit <= least {
        assert_ne!(buffer.fill(guest).unwrap(), 0, "the host has hung up");
        while let Some(frame) = buffer.next_frame().unwrap() {
            if let Some(Message::Credit { bytes, .. }) = decoder.decode(frame).unwrap() {
                credit += bytes;
            }
        }
    }
}

#[test]
fn a_guest_that_goes_is_lost() {
    assert_eq!(attach_to(Vec::new()).unwrap(), Outcome::Lost);
    let started = execution(&[Message::Started { pid: 1 }]);
    assert_eq!(attach_to(started).unwrap(), Outcome::Lost);
}

#[test]
fn a_guest_that_fails_says_why() {
    let failed = Message::Failed("no such device\u{1b}[2J".into());
    let error = attach_to(frame(MACHINE, &failed)).unwrap_err();
    assert_eq!(error, "the guest failed: no such device [2J");
}

#[test]
fn a_guest_that_trickles_is_given_up() {
    let (host, mut guest) = UnixStream::pair().unwrap();
    let thread = thread::spawn(move || {
        for byte in hello() {
            if guest.write_all(&[byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    });
    let opened = Connection::open(host, Duration::from_millis(200));
    let error = format!("{:#}", opened.err().unwrap());
    assert_eq!(
        error,
        "cannot greet the guest: it did not answer within 0.2 s"
    );
    thread.join().unwrap();
}

#[test]
fn what_comes_before_its_time_is_named_and_not_shown() {
    let bytes = vec![7; 65_536];
    let cases = [
        (data(&bytes), "data"),
        (Message::Started { pid: 1 }, "the start of a program"),
    ];
    for (message, name) in cases {
        let (host, mut guest) = UnixStream::pair().unwrap();
        guest.write_all(&frame(FIRST_SESSION, &message)).unwrap();
        let error = format!("{:#}", Connection::open(host, TIMEOUT).err().unwrap());
        let reason = format!("guest agent protocol: {name} before the guest is set up");
        assert_eq!(error, format!("cannot greet the guest: {reason}"));
    }
}

#[test]
fn something_else_at_the_port_is_no_guest() {
    let (host, mut guest) = UnixStream::pair().unwrap();
    guest.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let error = format!("{:#}", Connection::open(host, TIMEOUT).err().unwrap());
    assert!(
        error.starts_with("cannot greet the guest: guest agent protocol: "),
        "{error}"
    );
}
