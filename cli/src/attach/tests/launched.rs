//! Programs that are left to themselves.

use std::fs;
use std::os::unix::net::UnixStream;

use guest::agent::End;
use guest::protocol::{Exec, Hello, MACHINE, Message, Side};

use super::*;
use crate::attach::launch;

#[test]
fn one_that_is_launched_goes_on_when_its_connection_ends() {
    let (mut connection, agent) = machine();
    let folder = tempfile::tempdir().unwrap();
    let (fifo, done) = (folder.path().join("fifo"), folder.path().join("done"));
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, 0o600.into()).unwrap();
    let script = format!("cat {}; echo done >{}", fifo.display(), done.display());
    let exec = Exec {
        stdin: false,
        ..sh(&script)
    };
    let outcome = launch(&mut connection, &exec, TIMEOUT).unwrap();
    assert_eq!((outcome.status(), &outcome), (0, &Outcome::Detached));
    drop(connection);
    fs::write(fifo, "go on").unwrap();
    assert_eq!(agent.join().unwrap().unwrap(), End::HostGone);
    assert_eq!(fs::read_to_string(done).unwrap(), "done\n");
}

#[test]
fn one_that_cannot_be_launched_is_told_why() {
    let (mut connection, _agent) = machine();
    let exec = Exec {
        argv: vec!["/no/such".into()],
        ..Exec::default()
    };
    let outcome = launch(&mut connection, &exec, TIMEOUT).unwrap();
    assert_eq!(outcome.status(), 127);
}

#[test]
fn a_guest_that_does_not_let_go_is_late() {
    let (host, mut guest) = UnixStream::pair().unwrap();
    let mut wire = Vec::new();
    let hello = Message::Hello(Hello {
        side: Side::Guest,
        started_us: 0,
        sent_us: 0,
    });
    hello.encode(MACHINE, &mut wire).unwrap();
    Message::Started { pid: 2 }.encode(1, &mut wire).unwrap();
    guest.write_all(&wire).unwrap();
    let mut connection = Connection::open(host, TIMEOUT).unwrap();
    let time = Duration::from_millis(50);
    let error = launch(&mut connection, &Exec::default(), time).unwrap_err();
    assert_eq!(error.to_string(), "it did not answer within 0.05 s");
}
