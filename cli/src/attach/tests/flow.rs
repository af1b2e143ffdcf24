//! Streams that stand still, readers that go, signals, and terminals that change.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread::{self, JoinHandle};

use guest::protocol::{Exec, Exit};
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::{
    Company, Outcome, Program, Stdio, TIMEOUT, attach_with, code, fake_signals, machine, null,
    on_terminal, pipe, sh,
};
use crate::terminal::{RawMode, restore};

/// Attaches in a thread; returns it and where to write the numbers of signals.
fn start(exec: Exec, stdio: Stdio) -> (JoinHandle<anyhow::Result<Outcome>>, UnixStream) {
    let (signals, send) = fake_signals();
    let thread = thread::spawn(move || {
        let (mut connection, _agent) = machine();
        attach_with(
            &mut connection,
            Program::New(&exec),
            stdio,
            signals,
            None,
            Company::default(),
        )
    });
    (thread, send)
}

fn stdio(stdout: OwnedFd, stderr: OwnedFd) -> Stdio {
    Stdio {
        stdin: null(),
        stdout,
        stderr,
    }
}

fn read_line(file: &mut File) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        file.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

#[test]
fn an_output_that_stands_still_stops_no_other() {
    let (mut stdout, out) = pipe();
    let (mut stderr, err) = pipe();
    // More than window and pipes hold, so that the writer of it is stopped.
    let script = "head -c 4000000 /dev/zero & head -c 4000000 /dev/zero >&2; wait; echo >&2";
    let (thread, _send) = start(sh(script), stdio(out, err));
    let mut errors = vec![1; 4_000_000];
    stderr.read_exact(&mut errors).unwrap();
    let mut output = Vec::new();
    stdout.read_to_end(&mut output).unwrap();
    assert_eq!(output.len(), 4_000_000);
    assert_eq!(thread.join().unwrap().unwrap(), code(0));
}

#[test]
fn a_reader_that_goes_is_a_broken_pipe_in_the_guest() {
    let (mut stdout, out) = pipe();
    let (thread, _send) = start(sh("exec yes"), stdio(out, null()));
    assert_eq!(read_line(&mut stdout), "y\n");
    drop(stdout);
    assert_eq!(
        thread.join().unwrap().unwrap(),
        Outcome::Exited(Exit::Signal(13))
    );
}

#[test]
fn a_full_disk_is_told_apart_from_the_program() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (thread, _send) = start(sh("echo text"), stdio(full.into(), null()));
    let error = format!("{:#}", thread.join().unwrap().unwrap_err());
    assert!(
        error.starts_with("cannot write standard output: No space left"),
        "{error}"
    );
}

#[test]
fn signals_reach_the_program_and_its_children() {
    let (mut stdout, out) = pipe();
    let script = r#"
        trap 'asked=1' TERM
        sh -c 'trap "echo child; exit" TERM; echo ready; while :; do sleep 0.05; done' &
        while [ -z "$asked" ]; do sleep 0.05; done
        wait
        echo parent
        exit 9"#;
    let (thread, mut send) = start(sh(script), stdio(out, null()));
    assert_eq!(read_line(&mut stdout), "ready\n");
    send.write_all(&[15]).unwrap();
    assert_eq!(read_line(&mut stdout), "child\n");
    assert_eq!(read_line(&mut stdout), "parent\n");
    assert_eq!(thread.join().unwrap().unwrap(), code(9));
}

#[test]
fn the_second_request_to_end_is_the_last() {
    let (mut stdout, out) = pipe();
    let script = "trap '' INT; trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done";
    let (thread, mut send) = start(sh(script), stdio(out, null()));
    assert_eq!(read_line(&mut stdout), "ready\n");
    send.write_all(&[15]).unwrap();
    assert_eq!(read_line(&mut stdout), "asked\n");
    send.write_all(&[2]).unwrap();
    let outcome = thread.join().unwrap().unwrap();
    assert_eq!(outcome, Outcome::GaveUp { signal: 2 });
    assert_eq!(outcome.status(), 130);
}

#[test]
fn a_program_on_a_terminal_that_ignores_the_interrupt_character_can_be_ended() {
    let (mut stdout, out) = pipe();
    let (master, terminal) = terminal();
    let mut modes = tcgetattr(&terminal).unwrap();
    modes.make_raw();
    tcsetattr(&terminal, OptionalActions::Now, &modes).unwrap();
    let stdio = Stdio {
        stdin: terminal,
        stdout: out,
        stderr: null(),
    };
    let script = "trap 'echo asked' INT; echo ready; while :; do sleep 0.05; done";
    let (thread, _send) = start(on_terminal(script), stdio);
    assert_eq!(read_line(&mut stdout), "ready\r\n");
    let mut master = File::from(master);
    master.write_all(b"\x03").unwrap();
    assert!(read_line(&mut stdout).ends_with("asked\r\n"));
    master.write_all(b"\x03\x03\x03").unwrap();
    let outcome = thread.join().unwrap().unwrap();
    assert_eq!(outcome, Outcome::GaveUp { signal: 2 });
}

#[test]
fn other_signals_are_no_request_to_end() {
    let (mut stdout, out) = pipe();
    let script = "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done";
    let (thread, mut send) = start(sh(script), stdio(out, null()));
    assert_eq!(read_line(&mut stdout), "ready\n");
    for _ in 0..3 {
        send.write_all(&[10]).unwrap();
        assert_eq!(read_line(&mut stdout), "usr1\n");
    }
    send.write_all(&[12]).unwrap();
    assert_eq!(
        thread.join().unwrap().unwrap(),
        Outcome::Exited(Exit::Signal(12))
    );
}

#[test]
fn a_reader_of_the_terminal_that_goes_hangs_it_up() {
    let (mut stdout, out) = pipe();
    let script = "echo ready; while :; do echo y; done";
    let (thread, _send) = start(on_terminal(script), stdio(out, null()));
    assert_eq!(read_line(&mut stdout), "ready\r\n");
    drop(stdout);
    let outcome = thread.join().unwrap().unwrap();
    assert_eq!(outcome, Outcome::Exited(Exit::Signal(1)));
}

#[test]
fn another_user_has_its_number_and_its_streams() {
    let (mut stdout, out) = pipe();
    let exec = Exec {
        user: Some("65534:65534".into()),
        ..sh("id -u; id -g; id -G; echo open > /dev/stdout")
    };
    let (thread, _send) = start(exec, stdio(out, null()));
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, "65534\n65534\n65534\nopen\n");
    assert_eq!(thread.join().unwrap().unwrap(), code(0));
}

/// A terminal of its own: the controlling end, and the other.
fn terminal() -> (OwnedFd, OwnedFd) {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    unlockpt(&master).unwrap();
    let terminal = ioctl_tiocgptpeer(&master, flags).unwrap();
    (master, terminal)
}

fn is_raw(terminal: impl AsFd) -> bool {
    let modes = tcgetattr(terminal).unwrap();
    !modes.local_modes.contains(LocalModes::ICANON)
}

#[test]
fn raw_mode_is_left_however_it_ends() {
    let (_master, terminal) = terminal();
    let raw = RawMode::enter(&terminal).unwrap();
    assert!(raw.is_some() && is_raw(&terminal));
    drop(raw);
    assert!(!is_raw(&terminal));

    let raw = RawMode::enter(&terminal).unwrap();
    assert!(is_raw(&terminal));
    restore();
    assert!(!is_raw(&terminal));
    drop(raw);

    let panicking = thread::spawn({
        let terminal = terminal.try_clone().unwrap();
        move || {
            // Without drop, which would restore it as well.
            std::mem::forget(RawMode::enter(&terminal).unwrap());
            panic!("to be seen in the test's output");
        }
    });
    assert!(panicking.join().is_err());
    assert!(!is_raw(&terminal));
    assert!(RawMode::enter(null()).unwrap().is_none());
}

/// No test of its own: what a process does for the next one.
#[test]
#[ignore = "ends its process by a fault"]
fn fault_in_raw_mode() {
    let raw = RawMode::enter(std::io::stdin()).unwrap();
    println!("raw: {}", is_raw(std::io::stdin()));
    let signal = std::env::var("SIGNAL").unwrap().parse().unwrap();
    kill_process(getpid(), Signal::from_named_raw(signal).unwrap()).unwrap();
    // So that it is the signal that ends it, even if it is another thread that takes it.
    thread::sleep(TIMEOUT);
    drop(raw);
}

#[test]
fn raw_mode_is_left_by_a_fault() {
    for signal in [Signal::SEGV, Signal::ABORT, Signal::BUS] {
        let (_master, terminal) = terminal();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--nocapture", "fault_in_raw_mode"])
            .env("SIGNAL", signal.as_raw().to_string())
            .stdin(terminal.try_clone().unwrap())
            .output()
            .unwrap();
        let said = String::from_utf8(child.stdout).unwrap();
        assert_eq!(child.status.signal(), Some(signal.as_raw()), "{said}");
        assert!(said.contains("raw: true") && !is_raw(&terminal), "{said}");
    }
}
