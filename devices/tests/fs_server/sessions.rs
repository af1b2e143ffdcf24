//! INIT, DESTROY and what lies between.

use devices::virtio::fs::Serve;
use std::fs;

use devices::virtio::fs::wire::{Flags, InitIn, ROOT_ID, opcode};
use rustix::io::Errno;
use zerocopy::IntoBytes;

use crate::client::{Client, OFFERED, changing, closure, flags, immutable, object};

const COMMON: Flags = Flags::ASYNC_READ
    .union(Flags::ASYNC_DIO)
    .union(Flags::DO_READDIRPLUS)
    .union(Flags::PARALLEL_DIROPS)
    .union(Flags::MAX_PAGES)
    .union(Flags::INIT_EXT);

/// Directories of any size, whose listings change.
const LARGE: Flags = Flags::READDIRPLUS_AUTO.union(Flags::AUTO_INVAL_DATA);

const UNASKED: Flags = Flags::NO_OPEN_SUPPORT
    .union(Flags::NO_OPENDIR_SUPPORT)
    .union(Flags::CACHE_SYMLINKS);

#[test]
fn each_kind_of_share_has_its_flags() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (content, expected) in [
        (closure(root, &[]), COMMON | UNASKED),
        (immutable(), COMMON | UNASKED | LARGE),
        (changing(), COMMON | LARGE),
    ] {
        let client = Client::attach(root, content);
        let answer = client.init(7, 41, OFFERED).unwrap();
        assert_eq!(flags(&answer), expected);
        assert_eq!((answer.major, answer.minor), (7, 41));
        assert_eq!((answer.max_pages, answer.max_readahead), (256, 128 << 10));
        assert_eq!((answer.time_gran, answer.max_write), (1, 4096));
    }
}

#[test]
fn only_what_the_guest_offers_is_agreed() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::attach(folder.path(), immutable());
    let offered = Flags::ASYNC_READ | Flags::MAX_PAGES;
    let answer = client.init(7, 31, offered.bits()).unwrap();
    assert_eq!(flags(&answer), offered);
    assert_eq!(answer.minor, 31);
    assert_eq!(flags(&client.init(7, 41, 0).unwrap()), Flags::empty());
}

#[test]
fn an_old_guests_short_init_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::attach(folder.path(), immutable());
    let init = InitIn {
        major: 7,
        minor: 31,
        max_readahead: 4096,
        flags: Flags::ASYNC_READ.bits() as u32,
    };
    let answer = client.call(opcode::INIT, 0, init.as_bytes()).unwrap();
    assert_eq!(flags(&object(&answer)), Flags::ASYNC_READ);
    let cut = client.call(opcode::INIT, 0, &init.as_bytes()[..15]);
    assert_eq!(cut, Err(Errno::INVAL));
}

#[test]
fn other_versions_are_refused_or_told_ours() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::attach(folder.path(), immutable());
    for (major, minor) in [(0, 0), (6, 99), (7, 0), (7, 30)] {
        let refused = client.init(major, minor, OFFERED).map(drop);
        assert_eq!(refused, Err(Errno::PROTO));
    }
    for major in [8, 99, u32::MAX] {
        let answer = client.init(major, 0, OFFERED).unwrap();
        assert_eq!((answer.major, answer.minor), (7, 41));
        assert_eq!(client.getattr(ROOT_ID).err(), Some(Errno::IO));
    }
    let newer = client.init(7, 99, OFFERED).unwrap();
    assert_eq!((newer.major, newer.minor), (7, 41));
}

#[test]
fn nothing_but_init_is_answered_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::attach(folder.path(), immutable());
    for early in (0..60).filter(|opcode| *opcode != opcode::INIT) {
        let silent = [opcode::FORGET, opcode::BATCH_FORGET, opcode::INTERRUPT];
        if !silent.contains(&early) {
            assert_eq!(client.call(early, ROOT_ID, &[0; 64]), Err(Errno::IO));
        }
    }
    client.forget(ROOT_ID, 1);
    client.init(7, 41, OFFERED).unwrap();
    client.getattr(ROOT_ID).unwrap();
}

#[test]
fn a_new_session_knows_nothing_of_the_old() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "content").unwrap();
    for content in [immutable(), changing()] {
        let ends: [fn(&Client); 3] = [
            |client| drop(client.call(opcode::DESTROY, 0, &[]).unwrap()),
            |client| client.server.reset(),
            |_| {},
        ];
        let client = Client::mount(folder.path(), content);
        for end in ends {
            let node = client.node("file");
            let fh = client.open(node, libc::O_RDONLY).map_or(0, |open| open.fh);
            end(&client);
            client.init(7, 41, OFFERED).unwrap();
            assert_eq!(client.getattr(node).err(), Some(Errno::STALE));
            let read = client.read_open(node, fh, 0, 1).unwrap_err();
            assert!(matches!(read, Errno::STALE | Errno::BADF));
            assert_ne!(client.node("file"), node);
        }
    }
}

#[test]
fn after_destroy_only_init_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::mount(folder.path(), immutable());
    client.call(opcode::DESTROY, 0, &[]).unwrap();
    assert_eq!(client.getattr(ROOT_ID).err(), Some(Errno::IO));
    assert_eq!(client.call(opcode::DESTROY, 0, &[]), Err(Errno::IO));
}

#[test]
fn an_interrupt_is_never_answered() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::mount(folder.path(), immutable());
    let header = crate::client::header(opcode::INTERRUPT, 4, 0, 8);
    let request = [header.as_bytes(), &[0xff; 8]].concat();
    assert_eq!(client.send(&request, 4096), None);
    assert_eq!(client.send(&request[..44], 4096), None);
}
