//! A driver resets devices over and over, in each state they can be in.
//!
//! Threads and descriptors are counted for the whole process, so this is a program of its own with
//! one test.

use std::fs;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use devices::virtio::fake::{Driver, disk, network_card};
use devices::virtio::{balloon, console, rng, vsock};

const ROUNDS: usize = 1000;

#[test]
fn resets_leave_neither_threads_nor_descriptors() {
    let (stream, _host) = UnixStream::pair().unwrap();
    let mut rng = Driver::attach(rng::open);
    let mut console = Driver::attach(|memory| console::open(memory, "port", stream).unwrap());
    let mut vsock = Driver::attach(|memory| vsock::open(memory, 3).unwrap().0);
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    let mut disk = Driver::attach(|memory| disk(file).open(memory).unwrap());
    let mut balloon = Driver::attach(balloon::open);
    let (stream, _network) = UnixStream::pair().unwrap();
    let mut card = Driver::attach(|memory| network_card(stream).open(memory).unwrap());
    let before = held();
    for _ in 0..ROUNDS {
        for driver in [
            &mut rng,
            &mut console,
            &mut vsock,
            &mut disk,
            &mut balloon,
            &mut card,
        ] {
            for reached in [0, 1, 3, 11] {
                driver.set_register(0x070, reached & 1);
                driver.set_register(0x070, reached & 3);
                driver.set_register(0x070, reached);
                driver.reset();
            }
            // Running, faulted while it runs, and faulted before it could run.
            driver.bring_up();
            driver.reset();
            driver.bring_up();
            driver.offer(0, u16::MAX);
            driver.reset();
            driver.negotiate(u64::MAX);
            driver.set_register(0x044, 1);
            driver.set_register(0x070, 15);
            driver.reset();
        }
    }
    // A thread that was joined is listed until the kernel has cleared it away.
    let settled = (0..1000).any(|_| {
        thread::sleep(Duration::from_millis(10));
        held() == before
    });
    assert!(settled, "{before:?} became {:?}", held());
}

/// Threads and descriptors of this process.
fn held() -> (usize, usize) {
    let count = |folder| fs::read_dir(folder).unwrap().count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}
