//! Devices cost no CPU while they wait, with all the guest's buffers in their hands.
//!
//! CPU time is counted for the whole process, so this is a program of its own with one test.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use devices::virtio::console;
use devices::virtio::fake::{Driver, Port, Sockets};
use devices::virtio::vsock::packet::op;

/// In which Linux counts CPU time for its users: 10 ms.
const TICKS_MAX: u64 = 10;

const WAIT: Duration = Duration::from_secs(1);

#[test]
fn waiting_costs_nothing() {
    let (stream, mut host) = UnixStream::pair().unwrap();
    let driver = Driver::start(|memory| console::open(memory, "agent", stream).unwrap());
    let mut port = Port::new(driver);
    port.open();
    assert_waits();
    // The host takes nothing, and more chains wait behind the one that is half sent.
    port.post(&vec![1; 1 << 20]);
    port.post(&vec![1; 1 << 20]);
    assert_waits();
    host.read_exact(&mut [0; 100]).unwrap();
    assert_waits();
    drop(host);
    assert_waits();
    drop(port);
    wait_with_sockets();
}

fn wait_with_sockets() {
    let mut sockets = Sockets::start();
    // One whose host takes nothing, one whose guest has no room, and one whose host has gone.
    let (mut full, mut full_end) = sockets.connect(1);
    let (mut deaf, mut deaf_end) = sockets.connect(2);
    drop(sockets.connect(3));
    full.op = op::RW.into();
    sockets.send(full, &vec![1; 256 << 10]);
    deaf.buf_alloc = 0.into();
    deaf.op = op::CREDIT_UPDATE.into();
    sockets.send(deaf, &[]);
    deaf_end.write_all(&[1; 100]).unwrap();
    assert_waits();
    full_end.read_exact(&mut [0; 100]).unwrap();
    assert_waits();
    drop((full_end, deaf_end));
    assert_waits();
}

fn assert_waits() {
    let before = cpu_ticks();
    thread::sleep(WAIT);
    let used = cpu_ticks() - before;
    assert!(used <= TICKS_MAX, "{used} ticks");
}

/// `utime` and `stime` of this process (`proc_pid_stat(5)`).
fn cpu_ticks() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let behind_name = stat.rsplit(')').next().unwrap();
    let fields = behind_name.split_whitespace();
    fields
        .skip(11)
        .take(2)
        .map(|n| n.parse::<u64>().unwrap())
        .sum()
}
