//! A switch over sockets, and machines that are slow, gone, or malicious.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use etherparse::PacketBuilder;

use super::*;
use crate::Mac;
use crate::hello::{self, VERSION, Welcome};

/// A switch in a thread of its own, which ends with it.
struct Running {
    path: PathBuf,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("switch");
        let mut server = Server::new("shop", UnixListener::bind(&path).unwrap()).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let turn = || Ok(over.load(Ordering::SeqCst).then_some(()));
            server.run(Duration::from_millis(1), turn).unwrap();
        });
        Self {
            path,
            is_over,
            thread: Some(thread),
            _folder: folder,
        }
    }

    fn join(&self, number: u8, name: &str) -> Machine {
        Machine::join(&self.path, number, name)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking());
    }
}

struct Machine {
    stream: UnixStream,
    mac: Mac,
    welcome: Welcome,
}

impl Machine {
    fn join(path: &Path, number: u8, name: &str) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        let mac = [2, 0, 0, 0, 0, number];
        let join = Join {
            version: VERSION,
            name: name.into(),
            aliases: Vec::new(),
            mac,
            address: None,
        };
        let welcome = hello::join(&stream, join).unwrap();
        Self {
            stream,
            mac,
            welcome,
        }
    }

    fn frame(&self, to: &Self, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let (from, at) = (self.welcome.address.octets(), to.welcome.address.octets());
        let builder = PacketBuilder::ethernet2(self.mac, to.mac).ipv4(from, at, 64);
        builder.udp(1, 2).write(&mut frame, payload).unwrap();
        frame
    }

    fn send(&self, frame: &[u8]) {
        let length = (frame.len() as u32).to_be_bytes();
        (&self.stream)
            .write_all(&[&length, frame].concat())
            .unwrap();
    }

    fn receive(&self) -> Vec<u8> {
        let mut length = [0; 4];
        (&self.stream).read_exact(&mut length).unwrap();
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        (&self.stream).read_exact(&mut frame).unwrap();
        frame
    }

    fn has_ended(&self) -> bool {
        matches!((&self.stream).read(&mut [0]), Ok(0) | Err(_))
    }
}

#[test]
fn frames_go_both_ways() {
    let switch = Running::start();
    let (one, two) = (switch.join(1, "one"), switch.join(2, "two"));
    for size in [0, 1, 1400, 65_000] {
        let payload = vec![7; size];
        one.send(&one.frame(&two, &payload));
        assert_eq!(two.receive(), one.frame(&two, &payload));
        two.send(&two.frame(&one, &payload));
        assert_eq!(one.receive(), two.frame(&one, &payload));
    }
}

#[test]
fn a_machine_that_does_not_read_holds_up_nobody() {
    let switch = Running::start();
    let (one, two, slow) = (
        switch.join(1, "one"),
        switch.join(2, "two"),
        switch.join(3, "slow"),
    );
    let large = one.frame(&slow, &vec![7; 60_000]);
    for number in 0..200u8 {
        one.send(&large);
        let frame = one.frame(&two, &[number]);
        one.send(&frame);
        assert_eq!(two.receive(), frame);
    }
    let asked = UnixStream::connect(&switch.path).unwrap();
    let counters = hello::list(&asked).unwrap().counters;
    assert_eq!(counters.delivered + counters.overrun, 400);
    assert!(counters.overrun > 100, "{counters:?}");
    // What it gets when it reads again is whole, and there are new ones behind it.
    let last = two.frame(&slow, b"the last");
    let mut got = 0;
    two.send(&last);
    for _ in 0..200 - counters.overrun {
        assert_eq!(slow.receive(), large);
        got += 1;
    }
    assert_eq!(got, 200 - counters.overrun);
    two.send(&last);
    assert_eq!(slow.receive(), last);
}

#[test]
fn a_storm_of_frames_to_all_is_cut_short() {
    let switch = Running::start();
    let (one, two) = (switch.join(1, "one"), switch.join(2, "two"));
    let idle: Vec<_> = (3..203).map(|n| switch.join(n, &format!("m{n}"))).collect();
    let mut to_all = one.frame(&two, b"");
    to_all[..6].fill(0xff);
    let framed = [&(to_all.len() as u32).to_be_bytes()[..], &to_all].concat();
    (&one.stream).write_all(&framed.repeat(1000)).unwrap();
    let frame = one.frame(&two, b"words");
    one.send(&frame);
    let mut to_all_came = 0;
    while two.receive() != frame {
        to_all_came += 1;
    }
    let asked = UnixStream::connect(&switch.path).unwrap();
    let counters = hello::list(&asked).unwrap().counters;
    assert!(counters.storm > 0 && to_all_came > 0, "{counters:?}");
    assert_eq!(counters.storm + to_all_came, 1000);
    drop(idle);
}

#[test]
fn who_breaks_the_stream_is_out_and_nobody_else() {
    let switch = Running::start();
    let (one, two) = (switch.join(1, "one"), switch.join(2, "two"));
    let bad = switch.join(3, "bad");
    (&bad.stream).write_all(&[0xff; 4]).unwrap();
    assert!(bad.has_ended());
    for said in [&b"{\n"[..], b"{\"leave\":{}}\n", b"\n", b"\xff\xff\n"] {
        let mut stream = UnixStream::connect(&switch.path).unwrap();
        stream.write_all(said).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("{\"error\":\"it is carried by another version"),
            "{answer}"
        );
    }
    let endless = UnixStream::connect(&switch.path).unwrap();
    let written = (&endless).write_all(&vec![b' '; 1 << 20]);
    assert!(written.is_err());
    one.send(&one.frame(&two, b"words"));
    assert_eq!(two.receive(), one.frame(&two, b"words"));
}

#[test]
fn a_machine_that_comes_again_takes_its_own_place() {
    let switch = Running::start();
    let (one, before) = (switch.join(1, "one"), switch.join(2, "two"));
    let after = switch.join(2, "two");
    assert!(before.has_ended());
    assert_eq!(after.welcome, before.welcome);
    one.send(&one.frame(&after, b"words"));
    assert_eq!(after.receive(), one.frame(&after, b"words"));
    let stream = UnixStream::connect(&switch.path).unwrap();
    let wrong = Join {
        version: VERSION,
        name: "three".into(),
        aliases: Vec::new(),
        mac: [2, 0, 0, 0, 0, 3],
        address: Some(one.welcome.address),
    };
    let error = hello::join(&stream, wrong).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("{} is the address of one", one.welcome.address)
    );
}

#[test]
fn more_than_there_is_room_for_wait_until_some_have_gone() {
    let switch = Running::start();
    let mut idle: Vec<_> = (0..PORTS_MAX)
        .map(|_| UnixStream::connect(&switch.path).unwrap())
        .collect();
    let path = switch.path.clone();
    let late = thread::spawn(move || hello::list(&UnixStream::connect(path).unwrap()).unwrap());
    idle.truncate(10);
    assert_eq!(late.join().unwrap().name, "shop");
}
