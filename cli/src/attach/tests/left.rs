//! Programs that their user leaves, by keys, by signals or by closing what they write to.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::*;
use crate::attach::{Commands, commands};
use crate::audience::Audience;

/// A terminal in raw mode: what is typed on, and what is read.
fn terminal() -> (File, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let window = openpt(flags).unwrap();
    unlockpt(&window).unwrap();
    let terminal = ioctl_tiocgptpeer(&window, flags).unwrap();
    let mut modes = tcgetattr(&terminal).unwrap();
    modes.make_raw();
    tcsetattr(&terminal, OptionalActions::Now, &modes).unwrap();
    (window.into(), terminal)
}

fn with_keys(keys: &str) -> Company<'static> {
    Company {
        keys: keys.parse().unwrap(),
        ..Company::default()
    }
}

/// How it ends for a user who types these keys on a terminal.
fn typed(exec: &Exec, keys: &'static str, typed: &'static [u8]) -> Outcome {
    let (mut connection, agent) = machine();
    let (mut window, inner) = terminal();
    window.write_all(typed).unwrap();
    let stdio = Stdio {
        stdin: inner,
        stdout: null(),
        stderr: null(),
    };
    let (signals, _send) = fake_signals();
    let program = Program::New(exec);
    let company = with_keys(keys);
    let outcome = attach_with(&mut connection, program, stdio, signals, None, company).unwrap();
    drop((connection, agent));
    outcome
}

#[test]
fn the_keys_leave_a_program_that_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (fifo, done) = (folder.path().join("fifo"), folder.path().join("done"));
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, 0o600.into()).unwrap();
    // Held open both ways: neither side waits for the other to open it.
    let mut file = File::options().read(true).write(true).open(&fifo).unwrap();
    let script = format!("read -r l <{}; echo >{}", fifo.display(), done.display());
    assert_eq!(
        typed(&on_terminal(&script), "ctrl-p,ctrl-q", b"\x10\x11"),
        Outcome::Detached
    );
    file.write_all(b"end\n").unwrap();
    while !done.exists() {
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn without_keys_all_that_is_typed_is_the_programs() {
    let script = "read -r line; test \"$line\" = ab";
    assert_eq!(typed(&on_terminal(script), "", b"ab\r"), code(0));
    // What was held back comes with the next.
    assert_eq!(typed(&on_terminal(script), "a,c", b"ab\r"), code(0));
}

#[test]
fn a_program_without_a_terminal_has_all_bytes() {
    let outcome = typed(&sh("test \"$(head -c 2)\" = ab"), "a,b", b"ab");
    assert_eq!(outcome, code(0));
}

/// A program that runs, and one that is attached to it.
struct Running {
    audience: Audience,
    /// What members want of it.
    heard: Commands,
    /// Where the command's signals come from.
    send: UnixStream,
    attached: JoinHandle<Outcome>,
}

fn running(gets_signals: bool, stdout: OwnedFd) -> Running {
    let (commander, heard) = commands().unwrap();
    let audience = Audience::new(commander);
    let (here, there) = UnixStream::pair().unwrap();
    audience.join(there).unwrap();
    let (signals, send) = fake_signals();
    let attached = thread::spawn(move || {
        let mut connection = Connection::open(here, TIMEOUT).unwrap();
        let stdio = Stdio {
            stdin: null(),
            stdout,
            stderr: null(),
        };
        let running = Program::Running {
            has_terminal: false,
            takes_input: false,
            gets_signals,
        };
        let company = Company::default();
        attach_with(&mut connection, running, stdio, signals, None, company).unwrap()
    });
    Running {
        audience,
        heard,
        send,
        attached,
    }
}

#[test]
fn signals_that_the_program_does_not_get_end_the_command() {
    let mut running = running(false, null());
    running.send.write_all(&[10, 15]).unwrap();
    let outcome = running.attached.join().unwrap();
    assert_eq!(outcome, Outcome::GaveUp { signal: 15 });
    assert_eq!(running.heard.pending().unwrap(), []);
}

#[test]
fn the_second_signal_ends_the_command_alone() {
    let mut running = running(true, null());
    running.send.write_all(&[2]).unwrap();
    while running.heard.pending().unwrap().is_empty() {
        thread::yield_now();
    }
    running.send.write_all(&[2]).unwrap();
    let outcome = running.attached.join().unwrap();
    assert_eq!(outcome, Outcome::GaveUp { signal: 2 });
    running.audience.ensure_room().unwrap();
}

#[test]
fn a_reader_that_goes_leaves() {
    let (mut read, write) = pipe();
    let running = running(true, write);
    let show = || {
        running
            .audience
            .show(crate::logs::Stream::Stdout, b"line\n");
    };
    show();
    read.read_exact(&mut [0; 5]).unwrap();
    drop(read);
    while !running.attached.is_finished() {
        show();
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(running.attached.join().unwrap(), Outcome::Detached);
}
