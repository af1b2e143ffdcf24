//! Drivers that write anything anywhere: the monitor stays up, the device answers, and after a
//! reset it serves a driver that behaves.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use devices::virtio::fake::{
    Card, Driver, HOLE, ISLAND, ISLAND_END, Port, SEAM, Sockets, disk, network_card, packet,
};
use devices::virtio::vsock::packet::op;
use devices::virtio::{balloon, console, pmem, rng};
use proptest::prelude::*;

/// What a driver may do.
#[derive(Clone, Debug)]
enum Act {
    Register(u64, u32),
    Bytes(u64, Vec<u8>),
    Descriptor(usize, u16, u64, u32, u16, u16),
    TableEntry(u16, u64, u32, u16, u16),
    Offer(usize, u16),
    Available(usize, u16),
    Memory(u64, Vec<u8>),
    Handshake,
}

/// Where indirect tables are.
const TABLE: u64 = 2 << 20;

/// Addresses at which something begins or ends, and others.
fn gpa() -> impl Strategy<Value = u64> {
    let edges = vec![0, TABLE, SEAM, HOLE, ISLAND, ISLAND_END, 1 << 32, 0];
    let edge = (prop::sample::select(edges), -64i64..64)
        .prop_map(|(edge, offset)| edge.wrapping_add_signed(offset));
    prop_oneof![4 => edge, 4 => 0..HOLE, 1 => any::<u64>()]
}

fn bytes() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0u32..64,
        2 => (0u32..300).prop_map(|entries| entries * 16),
        1 => 0u32..0x1_0000,
        1 => any::<u32>(),
    ]
}

/// Those that mean something, and a few that do not.
fn flags() -> impl Strategy<Value = u16> {
    prop_oneof![8 => 0u16..8, 1 => any::<u16>()]
}

fn index() -> impl Strategy<Value = u16> {
    prop_oneof![8 => 0u16..16, 1 => any::<u16>()]
}

/// Registers that matter, and all others. A reset in between is the status register's.
fn register() -> impl Strategy<Value = Act> {
    let offset = prop_oneof![
        4 => prop::sample::select(vec![0x14, 0x20, 0x24, 0x30, 0x38, 0x44, 0x50, 0x64, 0x80, 0x90, 0xa0]),
        2 => Just(0x70),
        1 => 0u64..0x1000,
    ];
    let value = prop_oneof![
        0u32..16,
        prop::sample::select(vec![1, 3, 11, 15]),
        any::<u32>()
    ];
    (offset, value).prop_map(|(offset, value)| Act::Register(offset, value))
}

fn act(queues: usize) -> impl Strategy<Value = Act> {
    let small = || prop::collection::vec(any::<u8>(), 0..64);
    prop_oneof![
        3 => register(),
        1 => (0u64..0x1100, small()).prop_map(|(offset, bytes)| Act::Bytes(offset, bytes)),
        8 => (0..queues, 0u16..8, gpa(), bytes(), flags(), index())
            .prop_map(|(queue, n, gpa, bytes, flags, next)| {
                Act::Descriptor(queue, n, gpa, bytes, flags, next)
            }),
        4 => (0u16..16, gpa(), bytes(), flags(), index())
            .prop_map(|(n, gpa, bytes, flags, next)| Act::TableEntry(n, gpa, bytes, flags, next)),
        8 => (0..queues, index()).prop_map(|(queue, head)| Act::Offer(queue, head)),
        1 => (0..queues, any::<u16>()).prop_map(|(queue, index)| Act::Available(queue, index)),
        1 => (0u64..0x4_0000, small()).prop_map(|(gpa, bytes)| Act::Memory(gpa, bytes)),
        2 => Just(Act::Handshake),
    ]
}

fn perform(driver: &mut Driver, act: Act) {
    match act {
        Act::Register(offset, value) => driver.set_register(offset, value),
        Act::Bytes(offset, bytes) => {
            driver.mmio.write(offset, &bytes);
            driver.mmio.read(offset, &mut vec![0; bytes.len()]);
        }
        Act::Descriptor(queue, n, gpa, bytes, flags, next) => {
            driver.set_descriptor(queue, n, gpa, bytes, flags, next);
        }
        Act::TableEntry(n, gpa, bytes, flags, next) => {
            driver.set_table_entry(TABLE, n, gpa, bytes, flags, next);
        }
        Act::Offer(queue, head) => driver.offer(queue, head),
        Act::Available(queue, index) => driver.set_avail_index(queue, index),
        Act::Memory(gpa, bytes) => driver.write(gpa, &bytes),
        Act::Handshake => {
            driver.reset();
            driver.bring_up();
        }
    }
    // Whatever happened, the device answers: no bit is set that the specification does not have.
    assert_eq!(driver.status() & !0xcf, 0);
}

/// What waits in the host's end, without waiting for more.
fn drain(host: &mut UnixStream) {
    host.set_nonblocking(true).unwrap();
    let ended = std::iter::repeat_with(|| host.read(&mut [0; 1 << 14]))
        .find(|read| !matches!(read, Ok(1..)))
        .unwrap();
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::WouldBlock);
    host.set_nonblocking(false).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_generator_survives_any_driver(acts in prop::collection::vec(act(1), 1..80)) {
        let mut driver = Driver::start(rng::open);
        for act in acts {
            perform(&mut driver, act);
        }
        driver.reset();
        driver.bring_up();
        driver.write(TABLE, &[0; 64]);
        driver.submit(0, &[], &[(TABLE, 64)]);
        prop_assert_eq!(driver.completed(0).written_bytes, 64);
        prop_assert_ne!(driver.read(TABLE, 64), vec![0; 64]);
    }

    #[test]
    fn a_disk_survives_any_driver(acts in prop::collection::vec(act(2), 1..80)) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let config = disk(file.try_clone().unwrap());
        let mut driver = Driver::start(|memory| config.open(memory).unwrap());
        for act in acts {
            perform(&mut driver, act);
        }
        driver.reset();
        driver.bring_up();
        prop_assert_eq!(file.metadata().unwrap().len(), 1 << 20);
        // Its last sector, written and read again: type 1, then 0.
        let status = TABLE + 1024;
        for (kind, text) in [(1, b"kept"), (0, b"lost")] {
            driver.write(TABLE, &[kind, 0, 0, 0, 0, 0, 0, 0, 0xff, 7, 0, 0, 0, 0, 0, 0]);
            driver.write(TABLE + 512, text);
            let (header, data) = ((TABLE, 16), (TABLE + 512, 512));
            match kind {
                1 => driver.submit(1, &[header, data], &[(status, 1)]),
                _ => driver.submit(1, &[header], &[data, (status, 1)]),
            };
            driver.completed(1);
            prop_assert_eq!(driver.read(status, 1), [0]);
        }
        prop_assert_eq!(driver.read(TABLE + 512, 4), b"kept");
    }

    #[test]
    fn memory_as_a_disk_survives_any_driver(acts in prop::collection::vec(act(1), 1..80)) {
        let mut driver = Driver::start(|memory| pmem::open(memory, 4 << 30, 2 << 20));
        for act in acts {
            perform(&mut driver, act);
        }
        driver.reset();
        driver.bring_up();
        let page = driver.page();
        driver.write(page, &[0; 4]);
        driver.submit(0, &[(page, 4)], &[(page + 64, 4)]);
        prop_assert_eq!(driver.completed(0).written_bytes, 4);
    }

    #[test]
    fn a_balloon_survives_any_driver(acts in prop::collection::vec(act(3), 1..80)) {
        let mut driver = Driver::start(balloon::open);
        for act in acts {
            perform(&mut driver, act);
        }
        driver.reset();
        driver.bring_up();
        driver.write(SEAM, &[7; 4096]);
        driver.submit(2, &[], &[(SEAM, 4096)]);
        prop_assert_eq!(driver.completed(2).written_bytes, 0);
        prop_assert_eq!(driver.read(SEAM, 4096), vec![0; 4096]);
    }

    #[test]
    fn a_console_survives_any_driver(acts in prop::collection::vec(act(4), 1..80)) {
        let (stream, mut host) = UnixStream::pair().unwrap();
        let driver = Driver::start(|memory| console::open(memory, "agent", stream).unwrap());
        let mut port = Port::new(driver);
        port.driver.polite = false;
        for act in acts {
            perform(&mut port.driver, act);
        }
        port.driver.polite = true;
        prop_assert_eq!(port.open(), "agent");
        drain(&mut host);
        port.send(b"from the guest");
        let mut heard = [0; 14];
        host.read_exact(&mut heard).unwrap();
        prop_assert_eq!(&heard, b"from the guest");
        host.write_all(b"from the host").unwrap();
        prop_assert_eq!(port.receive(), b"from the host");
    }
    #[test]
    fn sockets_survive_any_driver(acts in prop::collection::vec(act(3), 1..80)) {
        let mut sockets = Sockets::start();
        let incoming = sockets.host.listen(1024).unwrap();
        let _connected = sockets.connect(5000);
        sockets.driver.polite = false;
        for act in acts {
            perform(&mut sockets.driver, act);
        }
        sockets.driver.polite = true;
        sockets.bring_up();
        let request = packet(op::REQUEST, 5001, 1024);
        sockets.send(request, &[]);
        prop_assert_eq!(sockets.hear().0.op, op::RESPONSE);
        let mut end = incoming.recv().unwrap();
        let mut data = request;
        data.op = op::RW.into();
        sockets.send(data, b"from the guest");
        let mut heard = [0; 14];
        end.read_exact(&mut heard).unwrap();
        prop_assert_eq!(&heard, b"from the guest");
        end.write_all(b"from the host").unwrap();
        prop_assert_eq!(sockets.hear().1, b"from the host");
    }
    #[test]
    fn a_network_card_survives_any_driver(acts in prop::collection::vec(act(2), 1..80)) {
        let (stream, mut host) = UnixStream::pair().unwrap();
        let driver = Driver::start(|memory| network_card(stream).open(memory).unwrap());
        let mut card = Card::new(driver);
        card.driver.polite = false;
        // Something for the driver's buffers, whole and in part.
        for bytes in [60u32, 1514, 9000, 60] {
            host.write_all(&bytes.to_be_bytes()).unwrap();
            host.write_all(&vec![7; bytes as usize]).unwrap();
        }
        host.write_all(&[0, 0, 0]).unwrap();
        for act in acts {
            perform(&mut card.driver, act);
        }
        card.open(u64::MAX);
        host.write_all(&[60]).unwrap();
        host.write_all(&[8; 60]).unwrap();
        while card.receive().1 != vec![8; 60] {}
        card.send(b"fourteen bytes");
        let mut length = [0; 4];
        let mut frame = Vec::new();
        while frame != b"fourteen bytes" {
            host.read_exact(&mut length).unwrap();
            let bytes = u32::from_be_bytes(length);
            prop_assert!((14..=1518).contains(&bytes), "a frame of {} bytes", bytes);
            frame.resize(bytes as usize, 0);
            host.read_exact(&mut frame).unwrap();
        }
    }
}
