use std::io::Read;

use guest::protocol::Exec;

use super::*;
use crate::attach::{
    Commands, Company, Connection, DetachKeys, Outcome, Program, Stdio, attach, commands,
};

/// A wait this long means that something hangs.
const TIMEOUT: Duration = Duration::from_mins(1);

const OUT: logs::Stream = logs::Stream::Stdout;

fn audience() -> (Audience, Commands) {
    let (commander, commands) = commands().unwrap();
    (Audience::new(commander), commands)
}

/// One that is attached, and speaks frames by hand.
fn member(audience: &Audience) -> Connection {
    let (here, there) = UnixStream::pair().unwrap();
    audience.ensure_room().unwrap();
    audience.join(there).unwrap();
    let mut member = Connection::open(here, TIMEOUT).unwrap();
    assert_eq!(next(&mut member), "Started { pid: 0 }");
    member
}

/// The next message; empty at the end.
fn next(member: &mut Connection) -> String {
    member.stream().set_read_timeout(Some(TIMEOUT)).unwrap();
    loop {
        if let Some((_, message)) = member.next_message().unwrap() {
            return match message {
                Message::Data { stream, bytes } => {
                    format!("{stream:?} {}", String::from_utf8_lossy(bytes))
                }
                message => format!("{message:?}"),
            };
        }
        if member.fill().unwrap() == 0 {
            return String::new();
        }
    }
}

fn send(member: &Connection, message: &Message<'_>) {
    let mut bytes = Vec::new();
    message.encode(FIRST_SESSION, &mut bytes).unwrap();
    member.stream().write_all(&bytes).unwrap();
}

#[test]
fn all_see_what_is_said_and_the_end() {
    let (audience, _commands) = audience();
    audience.show(OUT, b"before");
    let mut members = [0, 1].map(|_| member(&audience));
    audience.show(OUT, b"one");
    audience.show(logs::Stream::Stderr, b"two");
    audience.end(Some(Exit::Code(3)));
    for member in &mut members {
        let heard = [0; 4].map(|_| next(member));
        assert_eq!(heard, ["Stdout one", "Stderr two", "Exit(Code(3))", ""]);
    }
    let error = audience.ensure_room().unwrap_err().to_string();
    assert_eq!(error, "it has ended");
}

#[test]
fn one_that_stands_still_stops_nobody_and_is_told_what_it_missed() {
    let (audience, _commands) = audience();
    let (mut still, mut awake) = (member(&audience), member(&audience));
    let piece = vec![b'x'; 64 << 10];
    let pieces = WINDOW as usize / piece.len();
    let all = format!("Stdout {}", "x".repeat(piece.len()));
    let stream = Stream::Stdout;
    let bytes = piece.len() as u32;
    for _ in 0..pieces + 2 {
        audience.show(OUT, &piece);
        assert_eq!(next(&mut awake), all);
        send(&awake, &Message::Credit { stream, bytes });
        // Its credit is noted in a thread of its own.
        while room_of_last(&audience) < bytes {
            thread::yield_now();
        }
    }
    for _ in 0..pieces {
        assert_eq!(next(&mut still), all);
    }
    let bytes = 1000;
    send(&still, &Message::Credit { stream, bytes });
    while room_of_first(&audience) < bytes {
        thread::yield_now();
    }
    audience.show(OUT, b"more");
    let words = "Stdout \r\nmvm: 131072 bytes are left out here, `mvm logs` has them\r\n";
    assert_eq!([0; 2].map(|_| next(&mut still)), [words, "Stdout more"]);
    assert_eq!(next(&mut awake), "Stdout more");
}

fn room_of_first(audience: &Audience) -> u32 {
    let state = audience.0.lock();
    state.members.first_key_value().unwrap().1.room[0]
}

fn room_of_last(audience: &Audience) -> u32 {
    let state = audience.0.lock();
    state.members.last_key_value().unwrap().1.room[0]
}

#[test]
fn what_all_type_reaches_the_program_and_its_room_comes_back() {
    let (audience, _commands) = audience();
    let mut input = File::from(audience.take_input().unwrap());
    let (one, mut other) = (member(&audience), member(&audience));
    let stream = Stream::Stdin;
    send(
        &one,
        &Message::Data {
            stream,
            bytes: b"one",
        },
    );
    let mut bytes = [0; 3];
    input.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"one");
    // The end of one's input is no end of the program's.
    send(&one, &Message::Eof(stream));
    let piece = vec![7; 64 << 10];
    let pieces = 2 * WINDOW as usize / piece.len();
    let reader = thread::spawn(move || {
        let mut bytes = vec![0; 2 * WINDOW as usize];
        input.read_exact(&mut bytes).unwrap();
        bytes
    });
    let mut credit = WINDOW as usize;
    for _ in 0..pieces {
        if credit < piece.len() {
            assert_eq!(
                next(&mut other),
                format!(
                    "{:?}",
                    Message::Credit {
                        stream,
                        bytes: CREDIT_STEP
                    }
                )
            );
            credit += CREDIT_STEP as usize;
        }
        send(
            &other,
            &Message::Data {
                stream,
                bytes: &piece,
            },
        );
        credit -= piece.len();
    }
    assert_eq!(reader.join().unwrap(), vec![7; 2 * WINDOW as usize]);
}

#[test]
fn one_that_types_more_than_there_is_room_for_is_let_go() {
    let (audience, _commands) = audience();
    let mut member = member(&audience);
    let (stream, bytes) = (Stream::Stdin, &vec![0; 64 << 10][..]);
    for _ in 0..WINDOW as usize / bytes.len() {
        send(&member, &Message::Data { stream, bytes });
    }
    send(
        &member,
        &Message::Data {
            stream,
            bytes: b"x",
        },
    );
    assert_eq!(next(&mut member), "");
}

#[test]
fn signals_and_sizes_are_told() {
    let (audience, mut commands) = audience();
    let member = member(&audience);
    send(&member, &Message::Signal(10));
    send(
        &member,
        &Message::Resize {
            rows: 40,
            cols: 120,
        },
    );
    let mut heard = Vec::new();
    while heard.len() < 2 {
        heard.extend(commands.pending().unwrap());
        thread::yield_now();
    }
    let (rows, cols) = (40, 120);
    assert_eq!(heard, [Command::Signal(10), Command::Resize { rows, cols }]);
}

#[test]
fn who_leaves_is_let_go_and_makes_room() {
    let (audience, _commands) = audience();
    let mut members: Vec<_> = (0..MEMBERS_MAX).map(|_| member(&audience)).collect();
    let error = audience.ensure_room().unwrap_err().to_string();
    assert_eq!(error, "16 others are attached already");
    send(&members[0], &Message::Detach);
    assert_eq!([0; 2].map(|_| next(&mut members[0])), ["Detached", ""]);
    drop(members.pop());
    while audience.0.lock().members.len() > MEMBERS_MAX - 2 {
        thread::yield_now();
    }
    audience.ensure_room().unwrap();
}

#[test]
fn what_only_a_guest_can_do_is_refused() {
    let (audience, _commands) = audience();
    let mut member = member(&audience);
    send(&member, &Message::Exec(Box::<Exec>::default()));
    assert_eq!(next(&mut member), "");
}

#[test]
fn attaching_to_it_is_as_running_it() {
    let (audience, _commands) = audience();
    let (here, there) = UnixStream::pair().unwrap();
    audience.join(there).unwrap();
    let (read, stdout) = rustix::pipe::pipe().unwrap();
    let null = || OwnedFd::from(File::options().write(true).open("/dev/null").unwrap());
    let attached = thread::spawn(move || {
        let stdio = Stdio {
            stdin: null(),
            stdout,
            stderr: null(),
        };
        let running = Program::Running {
            has_terminal: false,
            takes_input: false,
            gets_signals: true,
        };
        let company = Company {
            keys: DetachKeys::default(),
            ..Company::default()
        };
        let mut connection = Connection::open(here, TIMEOUT)?;
        attach(&mut connection, running, stdio, company)
    });
    audience.show(OUT, b"words");
    audience.end(Some(Exit::Code(7)));
    let outcome = attached.join().unwrap().unwrap();
    assert_eq!(outcome, Outcome::Exited(Exit::Code(7)));
    let mut words = String::new();
    File::from(read).read_to_string(&mut words).unwrap();
    assert_eq!(words, "words");
}
